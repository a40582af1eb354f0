//! Recordings of runs: every event with its time, as JSON lines compressed with zstd.
//!
//! A recording is a zstd stream of JSON lines, each tagged by `type`. The first line is the
//! [`Header`], and the last is [`Entry::End`]; a recording without it was cut. Lines of type `run`,
//! `step`, and `look` are those of `speclight run --json`. An [`Entry::At`] gives the time of the
//! lines that follow it. `schema/recording.schema.json` describes all lines; change both together.
//!
//! Readers skip lines of unknown type. The version of the format rises when a reader of the older
//! version would show something wrong.

mod check;
mod reader;
mod writer;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Ending, FluidBound, MachineLoad, OracleResult, OracleTree, RunInfo, StepRecord, StepSettings,
};
use crate::theory::cost::CostCurve;
use crate::theory::light::OracleCurve;

pub use reader::{Reader, RecordingEnd, RecordingError, Scan, TimedEntry, scan};
pub use writer::Writer;

/// Version of the format that this program writes, and the newest one that it reads.
pub const VERSION: u32 = 1;
/// Compression level of recordings made while a run is in progress.
pub const LIVE_LEVEL: i32 = 3;
/// Compression level of recordings made from other recordings, without a time limit.
pub const SMALLEST_LEVEL: i32 = 19;

/// First line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format.
    pub version: u32,
    /// Version of speclight that wrote the recording.
    pub program: String,
}

/// Line of a recording. The fields are those of the engine's events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Entry {
    /// First line of a recording.
    Recording(Header),
    /// Time of the lines that follow, up to the next such line.
    At {
        /// Seconds since the program started.
        seconds: f64,
    },
    /// Text shown beside the screen until the next caption; empty for none.
    Caption {
        /// Text of one line.
        text: String,
    },
    /// Progress of a slow operation before the first step.
    Loading {
        /// Description of the operation.
        what: String,
        /// Fraction done, from 0 to 1, if known.
        done: Option<f64>,
    },
    /// Models are loaded, and the run begins.
    Ready {
        /// Description of the run.
        info: Arc<RunInfo>,
        /// Settings of the first step.
        settings: StepSettings,
    },
    /// Plain decoding was timed.
    #[serde(rename = "calibrated")]
    PlainTimed {
        /// Tokens per second without drafting.
        plain_tokens_per_second: f64,
        /// Seconds per token in this measurement.
        seconds: f64,
    },
    /// Cost of verify passes.
    Cost {
        /// Pairs of tokens per pass and seconds.
        points: CostCurve,
    },
    /// Load of the machine from other processes.
    Load(MachineLoad),
    /// Start of a prompt, after its prefill.
    PromptStarted {
        /// Index in the list of prompts.
        index: usize,
        /// Id of the prompt.
        id: String,
        /// Text of the prompt.
        prompt: String,
        /// Length in tokens, chat template included.
        tokens: usize,
        /// Seconds that prefill took.
        prefill_seconds: f64,
    },
    /// A step was made.
    Step(Arc<StepRecord>),
    /// Details of the oracle search whose result is the next line.
    Search {
        /// Marks a search that counts in means.
        systematic: bool,
        /// Mass of the oracle trees of all sizes, once their search is done.
        curve: Option<Arc<OracleCurve>>,
        /// Oracle tree of the step's size, once its search is done.
        #[serde(default)]
        tree: Option<Arc<OracleTree>>,
    },
    /// Result of an oracle search.
    #[serde(rename = "look")]
    OracleSearched(OracleEntry),
    /// User chose another interval of oracle searches.
    SearchEvery {
        /// Interval in steps; 0 for none.
        steps: usize,
    },
    /// Pace of the run, at its start and after each change.
    Pace {
        /// Steps per second; `None` for full speed.
        steps_per_second: Option<u32>,
        /// Number of texts begun while the first ones run slowly; `None` once that is over.
        slow_start: Option<usize>,
    },
    /// Fluid bound at every budget.
    Fluid(Arc<FluidBound>),
    /// End of a prompt's text.
    PromptEnded {
        /// Reason why the text ended.
        ending: Ending,
    },
    /// Settings in force from the next step on.
    Settings {
        /// All settings, not only those that changed.
        settings: StepSettings,
    },
    /// Pause of the engine between two steps.
    Paused,
    /// End of a pause of the engine.
    Resumed,
    /// A command was rejected.
    Refused {
        /// Reason in one line.
        reason: String,
    },
    /// Failure that ended the run.
    Failed {
        /// Reason in one line.
        reason: String,
    },
    /// All prompts are done.
    Finished,
    /// Last line of a complete recording.
    End,
    /// Line of a type that this version does not know, or does not need.
    #[serde(other, skip_serializing)]
    Other,
}

/// Result of an oracle search, as the line of type `look`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OracleEntry {
    /// Id of the step's prompt.
    pub prompt_id: String,
    /// Number of the step within the prompt, from 0.
    pub step: usize,
    /// Result of the search.
    #[serde(flatten)]
    pub result: OracleResult,
}

#[cfg(test)]
mod tests;
