//! The `speclight` program: hooks, parsing, dispatch and the exit status. All else is in the library.

use std::process::ExitCode;

use speclight::cli::{self, Cli};

/// Ends the processes of drafters on every way out, also after a panic: the engine's thread may still be at work with one.
struct Processes;

impl Drop for Processes {
    fn drop(&mut self) {
        speclight::draft::end_processes();
    }
}

fn main() -> ExitCode {
    cli::report_panics();
    let parsed = match Cli::parse_args(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) if !error.use_stderr() => {
            // --help and --version: a reader that went away is no error of ours.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            cli::warn(&cli::usage_line(&error));
            return ExitCode::from(2);
        }
    };
    let _processes = Processes;
    match cli::dispatch(parsed) {
        Ok(status) => status,
        Err(error) if cli::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            cli::warn(&cli::one_line(&error));
            ExitCode::FAILURE
        }
    }
}
