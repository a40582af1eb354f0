//! `speclight completions`: completion scripts for shells.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::errors::print_bytes;

/// Options of `speclight completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsOptions {
    /// Shell to write completions for
    pub shell: Shell,
}

/// Writes the completions to standard output.
///
/// # Errors
/// If standard output can't be written.
pub fn run(options: CompletionsOptions) -> anyhow::Result<ExitCode> {
    // Generated in memory first: clap's generator panics if its output can't be written.
    let mut text = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "speclight", &mut text);
    print_bytes(&text)?;
    Ok(ExitCode::SUCCESS)
}
