//! Command line of the program: argument definitions and one module per subcommand.
//!
//! [`Cli`] holds the parsed arguments, [`dispatch`] runs the selected subcommand.

mod arguments;
mod attach;
pub(crate) mod bench;
mod compare;
mod completions;
#[cfg(feature = "tui")]
mod config;
mod doctor;
mod errors;
mod export;
mod finding;
mod import;
mod interrupt;
mod lines;
mod machine;
mod man;
mod models;
mod monitor;
mod options;
mod overlap;
pub(crate) mod plot;
mod progress;
pub(crate) mod prompts;
mod replay;
mod run;
pub(crate) mod study;
mod table;
mod train;

pub use arguments::{Cli, Command};
pub use attach::AttachOptions;
pub use bench::BenchOptions;
pub use compare::CompareOptions;
pub use completions::CompletionsOptions;
pub use errors::{format_usage_error, is_broken_pipe, one_line, report_panics, warn};
pub use export::ExportOptions;
pub use import::ImportOptions;
pub use interrupt::prepare_signals;
pub use models::{Action, ModelsOptions};
pub use options::{DecodeOptions, MonitorOptions, RunOptions};
pub use plot::PlotOptions;
pub use prompts::{PromptError, built_in, read_files};
pub use replay::options::{DemoOptions, ReplayOptions};
pub use study::table::TableOptions;
pub use study::{OutputOptions, StudyOptions};
pub use table::lines as columns;
pub use train::TrainOptions;

use std::process::ExitCode;

use clap::CommandFactory;

/// Runs the selected subcommand and returns the exit status.
///
/// The status is nonzero if a part of the work could not be done, and 128 plus the number of the
/// signal if a signal ended it.
///
/// # Errors
/// Returns any failure of the subcommand; [`one_line`] formats it.
pub fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        None => monitor::run(cli.monitor),
        Some(Command::Run(options)) => run::run(options),
        Some(Command::Bench(options)) => bench::run(options),
        Some(Command::Train(options)) => train::run(options),
        Some(Command::Table(options)) => study::table::run(options),
        Some(Command::Compare(options)) => compare::run(options),
        Some(Command::Plot(options)) => plot::run(options),
        Some(Command::Replay(options)) => replay::run(options),
        Some(Command::Demo(options)) => replay::demo(options),
        Some(Command::Export(options)) => export::run(options),
        Some(Command::Models(options)) => models::run(options),
        Some(Command::Attach(options)) => attach::run(options),
        Some(Command::Import(options)) => import::run(&options),
        Some(Command::Doctor) => doctor::run(),
        Some(Command::Completions(options)) => completions::run(options, Cli::command()),
        Some(Command::Man) => man::run(Cli::command()),
    }
}
