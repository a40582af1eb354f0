//! The command line: its definition, and one file a subcommand.

mod errors;
mod interrupt;
mod monitor;
mod options;
mod prompts;
mod run;

pub use errors::{is_broken_pipe, one_line, report_panics, usage_line};
pub use options::{MonitorOptions, Options, RunOptions};
pub use prompts::{PromptError, built_in};

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  speclight                                    the monitor, on built-in prompts
  speclight --prompt 'Why is the sky blue?' --temperature 0.7
  speclight --drafter early-exit --budget 32   another drafter, a larger tree
  speclight run --prompt 'Count to ten.'       the same without the screen
  speclight run --prompts my.jsonl --json out.jsonl
  speclight models                             what can be run, and what is here

In the monitor, ? shows the keys.";

/// Watch speculative decoding approach the speed of light.
///
/// Runs a small Llama with speculative decoding on this machine and shows, step by step, the draft tree, the
/// entropy of the text, the accepted lengths, and how far they are from the ceilings that theory sets. Without a
/// command the monitor starts; the default model is fetched on the first start.
#[derive(Debug, Parser)]
#[command(name = "speclight", version, after_long_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; the monitor where nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of the monitor.
    #[command(flatten)]
    pub monitor: MonitorOptions,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Decode without the monitor: text to a terminal or a pipe, records as JSON lines
    ///
    /// Decodes each prompt and writes the text to standard output. On a terminal accepted tokens are marked by
    /// colour and a summary follows; a pipe gets the text alone. With --json every step is written as one line of
    /// JSON, after a line that describes the run and before one that sums it up; schema/run.schema.json in the
    /// repository describes them. FILE is written as FILE.part, which can be watched, and takes its name when it is whole.
    ///
    /// A prompt that is longer than the context is told and left out; the exit status is then 1, though the rest is done.
    /// Ctrl-C ends after the present step, with all that is complete, and status 130; a second one ends at once.
    Run(RunOptions),
}

/// Does what the person asked for. The exit status is not 0 where part of it could not be done, or a signal ended it
/// (128 and the number of the signal).
///
/// # Errors
/// Whatever went wrong, for [`one_line`].
pub fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        None => monitor::run(cli.monitor),
        Some(Command::Run(options)) => run::run(options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
