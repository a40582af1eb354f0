//! Events that a training run reports.

use serde::Serialize;

use super::TrainReport;
use crate::telemetry::SpeedOfLight;

/// Drafting performance of a head on held-out prompts.
///
/// Measured with best-first drafting at a budget of 16 tokens per pass.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DraftPerformance {
    /// Tokens per step with greedy decoding.
    pub greedy_tokens_per_step: f64,
    /// Mean of E\[accepted | T\] at temperature 1.
    pub expected_accepted: f64,
    /// Fluid bound from the same texts' distributions, in accepted tokens.
    pub fluid: Option<f64>,
    /// Speed of light on this machine at temperature 1, and its reached fraction.
    pub speed_of_light: SpeedOfLight,
}

/// Event of a training run.
#[derive(Clone, Debug)]
pub enum TrainEvent {
    /// Progress in generating texts.
    Writing {
        /// Number of tokens generated so far.
        tokens: usize,
        /// Number of tokens to generate.
        of: usize,
        /// Recent speed in tokens per second.
        rate: f64,
    },
    /// Start or continuation of training.
    Training {
        /// Number of texts in the corpus.
        texts: usize,
        /// Number of tokens in these texts.
        tokens: usize,
    },
    /// Completed step, with the head's drafting performance if measured after it.
    Step(Box<TrainReport>, Option<Box<DraftPerformance>>),
    /// Successful end of the run.
    Finished,
    /// Failure that ended the run, as its message.
    Failed(String),
}
