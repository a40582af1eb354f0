//! `speclight run`: decoding without the monitor.

use super::RunOptions;

/// Decodes every prompt and writes what was asked for.
///
/// # Errors
/// Whatever keeps it from starting or going on.
pub fn run(options: RunOptions) -> anyhow::Result<()> {
    let _ = options;
    anyhow::bail!("decoding is not in this build")
}
