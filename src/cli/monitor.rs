//! `speclight` without a subcommand: the monitor.

use super::MonitorOptions;

/// Runs the monitor until the person leaves it.
///
/// # Errors
/// Whatever keeps it from starting, or the engine from going on.
pub fn run(options: MonitorOptions) -> anyhow::Result<()> {
    let _ = options;
    anyhow::bail!("the monitor is not in this build; use `speclight run`")
}
