//! Recordings on disk: opens and starts them.

use std::fs::File;
use std::path::Path;

use anyhow::anyhow;

use crate::cli::options::DecodeOptions;
use crate::engine::{EventReader, Recorder, RunContext};
use crate::telemetry::recording::RecordingEnd;

/// Opens a recording.
///
/// # Errors
/// If it can't be read, with a line that names it and the fix.
pub fn opened(path: &Path) -> anyhow::Result<EventReader<File>> {
    EventReader::open(path).map_err(|error| {
        anyhow!(
            "can't read the recording {}: {error}; give a file made with --record or the R key",
            path.display()
        )
    })
}

/// Returns the settings of a run that its events do not hold.
pub fn run_context(options: &DecodeOptions) -> RunContext {
    RunContext {
        draft_model: options.draft_model.clone(),
        max_tokens: options.max_tokens,
        raw: options.raw,
    }
}

/// Starts a recording.
///
/// # Errors
/// If the file can't be written, with a line that names it and the fix.
pub fn recorder(path: &Path, options: &DecodeOptions) -> anyhow::Result<Recorder> {
    Recorder::start(path, run_context(options)).map_err(|error| {
        anyhow!("can't record to {}: {error}; give a file in a writable folder", path.display())
    })
}

/// Describes the damage at the end of a recording; `None` if it is complete.
pub fn end_words(end: &RecordingEnd) -> Option<String> {
    match end {
        RecordingEnd::Whole => None,
        RecordingEnd::Cut => Some("the recording is cut, as by a kill".to_owned()),
        RecordingEnd::Damaged(line, problem) => {
            Some(format!("the recording is damaged at line {line}: {problem}"))
        }
    }
}
