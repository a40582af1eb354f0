//! The screen of a comparison.

use std::process::ExitCode;

use super::{CompareOptions, Setting};

/// Shows it.
pub fn run(_: &CompareOptions, _: &[Setting]) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not yet")
}
