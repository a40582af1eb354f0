//! Entry point of the `speclight` program: panic hook, argument parsing, dispatch, exit status.
//!
//! All else is in the library.

use std::process::ExitCode;

use speclight::cli::{self, Cli};

/// Guard that ends the processes of external drafters on every exit path, panics included.
///
/// The engine's thread may still be using one.
struct Processes;

impl Drop for Processes {
    fn drop(&mut self) {
        speclight::draft::end_processes();
    }
}

fn main() -> ExitCode {
    cli::report_panics();
    cli::prepare_signals();
    let parsed = match Cli::parse_args(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) if !error.use_stderr() => {
            // --help and --version: a reader that ends early is not an error.
            return match error.print() {
                Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => {
                    cli::warn(&format!("can't write standard output: {why}"));
                    ExitCode::FAILURE
                }
                _ => ExitCode::SUCCESS,
            };
        }
        Err(error) => {
            cli::warn(&cli::format_usage_error(&error));
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
