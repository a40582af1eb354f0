//! Messages between a front end and the engine.
//!
//! [`Command`]s go to the engine, which applies them between steps. [`Event`]s come back in the
//! order in which things happen. Neither depends on the terminal.

use std::sync::Arc;

use super::Pace;
pub use crate::telemetry::RunInfo;
use crate::telemetry::{
    Ending, FluidBound, MachineLoad, OracleResult, OracleTree, StepRecord, StepSettings,
};
use crate::theory::cost::CostCurve;
use crate::theory::light::OracleCurve;

/// Request to the engine, applied before the next step.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Stops after the current step and waits.
    Pause,
    /// Continues after a pause.
    Resume,
    /// Makes one step; ignored unless paused.
    Step,
    /// Sets the pace from the next step on.
    ///
    /// The engine waits between steps, outside of all measured times.
    Pace(Pace),
    /// Replaces the settings from the next step on.
    Settings(StepSettings),
    /// Starts the prompt at this index of [`RunInfo::prompts`].
    Prompt(usize),
    /// Adds a prompt with this text to the list and starts it.
    Text(String),
    /// Starts the current prompt again.
    RestartPrompt,
    /// Searches the oracle tree of every n-th step, off the timed path; 0 disables.
    ///
    /// The seed determines the first searched step of each text, so that no position is favored.
    SearchEvery(usize),
    /// Searches the oracle tree of this step of the current text, while paused.
    ///
    /// Steps are numbered from 0 within the prompt. The search runs until its bounds agree, no more
    /// can be found, or another kind of command arrives. Repeating the command for a search that
    /// ran out of passes grants it the same number of passes again.
    SearchOracle(usize),
    /// Ends the engine thread.
    Quit,
}

/// Report from the engine.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Progress of a slow operation before the first step.
    Loading {
        /// Description of the operation, such as "loading SmolLM2-135M-Instruct".
        what: String,
        /// Fraction done, from 0 to 1, if known.
        done: Option<f64>,
    },
    /// Models are loaded. Sent once, before all events that follow.
    Ready {
        /// Description of the run.
        info: Arc<RunInfo>,
        /// Settings of the first step.
        settings: StepSettings,
    },
    /// Plain decoding was timed between two steps.
    #[serde(rename = "calibrated")]
    PlainTimed {
        /// Tokens per second without drafting: median of the most recent measurements.
        plain_tokens_per_second: f64,
        /// Seconds per token in this measurement.
        #[serde(default)]
        seconds: f64,
    },
    /// Cost of verify passes, measured now or cached by an earlier run.
    ///
    /// Sent again whenever it changes.
    Cost(CostCurve),
    /// Load of this machine from other processes.
    Load(MachineLoad),
    /// A text starts after its prompt.
    PromptStarted {
        /// Index in the list of prompts.
        index: usize,
        /// Id of the prompt, as in [`Prompt::id`](super::Prompt::id).
        id: String,
        /// Text of the prompt, before the chat template is applied.
        prompt: String,
        /// Length in tokens, chat template included.
        tokens: usize,
        /// Seconds that prefill took.
        prefill_seconds: f64,
    },
    /// A step was made.
    Step(Arc<StepRecord>),
    /// Result of an oracle search on an earlier step, off the timed path.
    ///
    /// Sent again each time the search is refined.
    #[serde(rename = "looked")]
    OracleSearched {
        /// Id of the prompt, as in the step's record.
        prompt_id: String,
        /// Index of the step within the prompt, from 0.
        step: usize,
        /// Bounds found so far.
        #[serde(rename = "look")]
        result: OracleResult,
        /// Marks a step picked by [`Command::SearchEvery`], which counts in means.
        ///
        /// Steps that the user picks don't count: they are no unbiased sample.
        #[serde(default)]
        systematic: bool,
        /// Mass of the oracle trees of all sizes, once their search is done.
        #[serde(default)]
        curve: Option<Arc<OracleCurve>>,
        /// Oracle tree of the step's size, once its search is done.
        #[serde(default)]
        tree: Option<Arc<OracleTree>>,
    },
    /// Fluid bound for every budget.
    ///
    /// Sent after each text and, within a text, at growing intervals.
    Fluid(Arc<FluidBound>),
    /// The text of a prompt ended.
    PromptEnded {
        /// Reason why the text ended.
        ending: Ending,
    },
    /// Settings accepted by the engine, in force from the next step on.
    Settings(StepSettings),
    /// The engine paused and waits for a command.
    Paused,
    /// The engine continues after a pause.
    Resumed,
    /// A command was rejected, for this reason in one line. The run goes on.
    Refused(String),
    /// The run failed, for this reason in one line. Always the last event.
    Failed(String),
    /// All prompts of a run with `once` are done. Always the last event.
    Finished,
}
