//! The `speclight` program: hooks, parsing, dispatch and the exit status. All else is in the library.

use std::process::ExitCode;

use clap::Parser;
use speclight::cli::{self, Cli};

fn main() -> ExitCode {
    cli::report_panics();
    let parsed = match Cli::try_parse() {
        Ok(parsed) => parsed,
        Err(error) if !error.use_stderr() => {
            // --help and --version: a reader that went away is no error of ours.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("speclight: {}", cli::usage_line(&error));
            return ExitCode::from(2);
        }
    };
    let ended = cli::dispatch(parsed);
    // The engine's thread may still be at work with a drafter's process; nothing of ours outlives the program.
    speclight::draft::end_processes();
    match ended {
        Ok(status) => status,
        Err(error) if cli::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("speclight: {}", cli::one_line(&error));
            ExitCode::FAILURE
        }
    }
}
