//! Output of single lines to standard output and standard error, and formatting of errors.
//!
//! Text from outside the program reaches a terminal only through these functions, which escape
//! control characters.

use std::io::{self, Write};

use anyhow::{Context, anyhow};

use crate::attach::AttachError;
use crate::distribution::NotFinite;
use crate::engine::{BadSetting, SessionError};
use crate::guarded::is_catching_panic;
use crate::model::LoadError;
use crate::model::device::{DeviceChoice, DeviceError, default_threads, granted_threads};
use crate::sanitize::{format_error_chain, sanitize_line, sanitize_lines};
use crate::study::table::StateError;
use crate::train::TrainError;

/// Formats an error and its causes as one line, with control characters escaped.
pub fn one_line(error: &anyhow::Error) -> String {
    sanitize_line(&add_fix(error))
}

/// Formats an error and its causes as one line, followed by the fix.
pub(super) fn add_fix(error: &anyhow::Error) -> String {
    let line = format_error_chain(error);
    match error.chain().find_map(fix) {
        Some(fix) => format!("{line}; {fix}"),
        None => line,
    }
}

/// Returns the option or command that fixes an error of a lower module.
fn fix(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let fix = if let Some(error) = error.downcast_ref::<LoadError>() {
        match error {
            LoadError::Template { .. } => "give --raw to go without it, or take another model",
            // Transparent errors are not in the chain themselves.
            LoadError::NoDevice(error) => return fix(error),
            _ => return None,
        }
    } else if let Some(error) = error.downcast_ref::<DeviceError>() {
        match error {
            DeviceError::NotBuilt { feature, .. } => {
                return Some(format!(
                    "build with cargo build --release --features {feature}, or give --device cpu"
                ));
            }
            DeviceError::Unopened { requested: DeviceChoice::Cuda(_), .. } => {
                "check nvidia-smi, or give --device cpu"
            }
            DeviceError::Unopened { .. } => "give --device cpu",
        }
    } else if let Some(NotFinite { token: None }) = error.downcast_ref() {
        "give --device cpu"
    } else if let Some(error) = error.downcast_ref::<BadSetting>() {
        match error {
            BadSetting::Value(_) => return None,
            BadSetting::NoDraftModel => "start with --draft-model NAME or PATH",
            BadSetting::NoMember { member } => match member.as_str() {
                "model" => "give --draft-model NAME or PATH",
                "external" => "give --external COMMAND",
                "eagle" => "give --head FILE",
                _ => "take it out of --mix",
            },
            BadSetting::NoHead => "train one with speclight train, and give it with --head FILE",
        }
    } else if let Some(error) = error.downcast_ref::<SessionError>() {
        match error {
            SessionError::Setting(error) => return fix(error),
            SessionError::NotFinite(error) => return fix(error),
            _ => return None,
        }
    } else if let Some(error) = error.downcast_ref::<TrainError>() {
        match error {
            TrainError::Device => "give --device cpu",
            TrainError::Diverged { .. } => "try a lower --learning-rate",
            TrainError::Load(error) => return fix(error),
            TrainError::NotFinite(error) => return fix(error),
            _ => return None,
        }
    } else if let Some(error) = error.downcast_ref::<StateError>() {
        match error {
            StateError::InUse { .. } => "wait for it, or give another --state",
            StateError::OtherSettings { .. } => "delete it to start over, or give another --state",
        }
    } else {
        return None;
    };
    Some(fix.to_owned())
}

/// Writes one line to standard error, prefixed with the program's name.
///
/// Write errors are ignored, as when the terminal is closed: there is nowhere to report them.
pub fn warn(line: &str) {
    let _ = writeln!(io::stderr(), "speclight: {}", sanitize_line(line));
}

/// Writes one line to standard output, with control characters escaped.
///
/// # Errors
/// If standard output can't be written.
pub fn print_line(line: &str) -> anyhow::Result<()> {
    print_bytes(format!("{}\n", sanitize_line(line)).as_bytes())
}

/// Writes lines to standard output, with control characters except newlines escaped.
///
/// # Errors
/// If standard output can't be written.
pub fn print_lines(text: &str) -> anyhow::Result<()> {
    print_bytes(sanitize_lines(text).as_bytes())
}

/// Writes bytes of this program's own to standard output, and flushes it.
///
/// # Errors
/// If standard output can't be written.
pub fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout();
    out.write_all(bytes).and_then(|()| out.flush()).context("can't write standard output")
}

/// Warns if more threads are requested than there are cores.
pub fn warn_if_too_many_threads(threads: Option<usize>) {
    if let Some(line) = threads.and_then(|threads| {
        too_many_threads(threads, default_threads(), granted_threads(Some(threads)))
    }) {
        warn(&line);
    }
}

fn too_many_threads(threads: usize, cores: usize, granted: usize) -> Option<String> {
    (threads > cores).then(|| {
        let cores_of_it = if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") };
        let used = if granted < threads { format!("; {granted} are used") } else { String::new() };
        format!(
            "--threads {threads}: only {cores_of_it} available, and threads that share a core wait \
             for each other{used}; give --threads {cores}"
        )
    })
}

/// Formats a command line error on one line: clap's message and hints, without the usage.
pub fn format_usage_error(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    let line = said.join(" ").replace(" tip: ", "; tip: ");
    format!("{} (see speclight --help)", sanitize_line(line.trim_start_matches("error: ")))
}

/// Returns true if the error's cause is a broken pipe.
///
/// A reader of standard output that exits early, such as `head`, is not an error of this program.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json =
            cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}

/// Installs a panic hook that reports a panic as a bug, in one line.
///
/// With `RUST_BACKTRACE` set, the default hook stays in place.
pub fn report_panics() {
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
        return;
    }
    std::panic::set_hook(Box::new(|info| {
        if is_catching_panic() {
            return;
        }
        let payload = info.payload();
        let message = (payload.downcast_ref::<&str>().copied())
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("unknown");
        let place = info
            .location()
            .map(|at| format!(" at {}:{}", at.file(), at.line()))
            .unwrap_or_default();
        warn(&format!(
            "internal error, please report it: {message}{place} (speclight {}, set RUST_BACKTRACE=1 for more)",
            env!("CARGO_PKG_VERSION")
        ));
    }));
}

/// Adds the fix to an error about a server.
pub(super) fn add_attach_fix(error: AttachError) -> anyhow::Error {
    let fix = match &error {
        AttachError::Address { .. } => "give the address of the server",
        AttachError::KeyInClear { .. } => {
            "use https or a tunnel, unset the variable, or give --insecure"
        }
        AttachError::BadKey { .. } => "give a file or variable that holds the key alone",
        AttachError::Unreachable { .. } => {
            "check the address and that the server runs; --timeout gives it longer"
        }
        AttachError::Unauthorized { with_key: true, .. } => "give the server's key with --key-file",
        AttachError::Unauthorized { .. } => "give its key with --key-file or in OPENAI_API_KEY",
        AttachError::Status { .. } => "check the address and the server's log",
        AttachError::Redirected { .. } => "give the address that it leads to, if you trust it",
        AttachError::TooLarge { .. } | AttachError::Malformed { .. } => {
            "check the address; --engine names the engine"
        }
        AttachError::Cut { .. } => "check the server's log and try again",
        AttachError::Refused { .. } => "check the server's log",
        AttachError::UnknownEngine { .. } => {
            "check the address and port, or name the engine with --engine"
        }
        AttachError::NoCounters { .. } => {
            "or send prompts with --probe, where the engine allows it"
        }
        AttachError::Unsupported { .. } => "docs/attach.md lists what each engine can give",
        AttachError::File { .. } => "docs/attach.md lists the files that can be imported",
    };
    anyhow!("{error}; {fix}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    #[test]
    fn more_threads_than_cores_are_warned_of_in_one_line() {
        assert_eq!((too_many_threads(2, 2, 2), too_many_threads(1, 8, 1)), (None, None));
        let said = too_many_threads(9, 2, 4).unwrap();
        assert!(
            said.starts_with("--threads 9: only 2 cores available")
                && said.ends_with("give --threads 2"),
            "{said}"
        );
        assert!(!said.contains('\n'));
        assert!(too_many_threads(2, 1, 2).unwrap().contains("only 1 core available"));
    }

    #[test]
    fn a_chain_becomes_one_line_without_control_characters() {
        let error = Err::<(), _>(anyhow::anyhow!("inner\nsecond \u{1b}[31mred"))
            .context("outer")
            .unwrap_err();
        assert_eq!(one_line(&error), "outer: inner second \\u{1b}[31mred");
    }

    #[test]
    fn errors_of_lower_modules_get_their_option() {
        let lines = |error: anyhow::Error| one_line(&error.context("x"));
        let template = LoadError::Template { path: "m.gguf".into(), why: "no".into() };
        assert_eq!(
            lines(template.into()),
            "x: m.gguf: the chat template fails: no; give --raw to go without it, or take another \
             model"
        );
        let device = DeviceError::NotBuilt { requested: DeviceChoice::Cuda(1), feature: "cuda" };
        // Behind another error that is transparent.
        let said = lines(LoadError::from(device).into());
        assert!(said.starts_with("x: device cuda:1: built without the cuda feature; "), "{said}");
        assert!(said.ends_with("--features cuda, or give --device cpu"), "{said}");
        assert!(lines(BadSetting::NoHead.into()).ends_with("give it with --head FILE"));
        assert!(lines(BadSetting::NoDraftModel.into()).contains("; start with --draft-model"));
        assert_eq!(lines(BadSetting::Value("y".into()).into()), "x: y");
        assert!(lines(TrainError::Device.into()).ends_with("; give --device cpu"));
        let state = StateError::InUse { path: "s".into() };
        assert!(lines(state.into()).ends_with("s; wait for it, or give another --state"));
    }

    #[test]
    fn usage_errors_keep_the_hint_and_drop_the_usage() {
        let line = |args: &[&str]| format_usage_error(&Cli::try_parse_from(args).unwrap_err());
        let said = line(&["speclight", "--bugdet", "3"]);
        assert!(said.starts_with("unexpected argument '--bugdet' found; tip: "), "{said}");
        assert!(
            said.contains("'--budget'") && !said.contains("Usage") && !said.contains('\n'),
            "{said}"
        );
        let said = line(&["speclight", "--drafter", "magic"]);
        assert!(said.contains("ngram") && said.contains("early-exit"), "{said}");
        let said = line(&["speclight", "--drafter", "model"]);
        assert!(said.contains("--draft-model"), "{said}");
    }

    #[test]
    fn broken_pipes_are_found_in_the_chain() {
        let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::new(pipe()).context("writing")));
        assert!(is_broken_pipe(&anyhow::Error::new(serde_json::Error::io(pipe()))));
        assert!(!is_broken_pipe(&anyhow::Error::new(io::Error::from(io::ErrorKind::NotFound))));
        assert!(!is_broken_pipe(&anyhow::anyhow!("else")));
    }
}
