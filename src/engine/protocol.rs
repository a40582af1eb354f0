//! What the engine is told and what it tells.

use std::sync::Arc;

use crate::telemetry::{Ending, Fluid, Look, StepRecord, StepSettings};
use crate::theory::cost::Cost;
use crate::theory::light::OracleCurve;

/// A wish of the person, applied before the next step.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Stop after the present step and wait.
    Pause,
    /// Go on.
    Resume,
    /// While paused: one step.
    Step,
    /// New settings from the next step on.
    Settings(StepSettings),
    /// Begin this prompt (index into [`RunInfo::prompts`]).
    Prompt(usize),
    /// Begin a prompt that the person wrote; it is added to the list.
    Text(String),
    /// Begin the present prompt again.
    Again,
    /// Which steps are looked at off the timed path: each one whose number is a multiple of this; 0 for none.
    LookEvery(usize),
    /// While paused: look at this step of the present text, by its number within the prompt, until its bounds agree, no more can be
    /// found, or a wish comes that is no look. Asked for again, one that ended for want of passes has as many more.
    Look(usize),
    /// End the thread.
    Quit,
}

/// What the header shows: fixed for a run.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RunInfo {
    /// Version of this program.
    pub version: String,
    /// Name of the model.
    pub model: String,
    /// Its quantisation, as "Q4_1".
    pub quantisation: String,
    /// SHA-256 of the model file in hexadecimal, where known.
    pub sha256: Option<String>,
    /// Device and kernel, as "cpu (avx2, 2 threads)".
    pub device: String,
    /// The model's context in tokens.
    pub context: usize,
    /// Size of the vocabulary.
    pub vocabulary: usize,
    /// Names of the drafters that this run can switch to, in the order of the key.
    pub drafters: Vec<String>,
    /// What a draft of each costs, in words; same order.
    pub drafter_costs: Vec<String>,
    /// Names of the shapes.
    pub shapes: Vec<String>,
    /// The prompts, as the person wrote them.
    pub prompts: Vec<String>,
}

/// What happened in the engine.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Something that takes a while before the first step: what, and how far from 0 to 1 where that is known.
    Loading {
        /// What is being done, as "loading SmolLM2-135M-Instruct".
        what: String,
        /// Share done.
        done: Option<f64>,
    },
    /// The model is there. Comes once, before all that follow.
    Ready {
        /// The run.
        info: Arc<RunInfo>,
        /// Settings at the start.
        settings: StepSettings,
    },
    /// Plain decoding was timed.
    Calibrated {
        /// Tokens a second with nothing drafted.
        plain_tokens_per_second: f64,
    },
    /// What verify passes cost, measured now or kept from an earlier run.
    Cost(Cost),
    /// A prompt begins.
    PromptStarted {
        /// Index in the list of prompts.
        index: usize,
        /// Its id.
        id: String,
        /// The prompt as written.
        prompt: String,
        /// Its length in tokens, chat template included.
        tokens: usize,
        /// Seconds that reading it took.
        prefill_seconds: f64,
    },
    /// A step was made.
    Step(Arc<StepRecord>),
    /// Something was found out about a step that was made, off the timed path. Comes again while it is refined.
    Looked {
        /// The prompt's id, as in the step's record.
        prompt_id: String,
        /// The step's number within the prompt.
        step: usize,
        /// What was found.
        look: Look,
        /// Mass of the oracle trees of the step's context, by size. None while the search goes on, or where it is not known.
        #[serde(default)]
        curve: Option<Arc<OracleCurve>>,
        /// Whether the step was searched because of its number alone, and not because somebody wanted to know: only such steps count
        /// in means.
        #[serde(default)]
        systematic: bool,
    },
    /// The fluid bound at length, anew after each text and, within one, ever more rarely.
    Fluid(Arc<Fluid>),
    /// A text ended.
    PromptEnded {
        /// How.
        ending: Ending,
    },
    /// Settings that the engine took over, from the next step on.
    Settings(StepSettings),
    /// The engine waits.
    Paused,
    /// The engine goes on.
    Resumed,
    /// A wish that could not be granted, in one line; the run goes on.
    Refused(String),
    /// The run can't go on, in one line. The last event.
    Failed(String),
    /// All prompts are done and `--once` was asked for. The last event.
    Finished,
}
