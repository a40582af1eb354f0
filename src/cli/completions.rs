//! `speclight completions`: completion scripts for shells.

use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use super::errors::print_bytes;

/// Options of `speclight completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsOptions {
    /// Shell to write completions for
    pub shell: Shell,
}

/// Writes the completions of `program` to standard output.
///
/// # Errors
/// If standard output can't be written.
pub fn run(options: CompletionsOptions, mut program: Command) -> anyhow::Result<ExitCode> {
    // Generated in memory first: clap's generator panics if its output can't be written.
    let mut text = Vec::new();
    clap_complete::generate(options.shell, &mut program, "speclight", &mut text);
    print_bytes(&text)?;
    Ok(ExitCode::SUCCESS)
}
