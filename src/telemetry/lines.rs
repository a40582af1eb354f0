//! The lines of `speclight run --json`. `schema/run.schema.json` describes them for others; change both together.

use serde::Serialize;

use super::{StageTimes, StepRecord, StepSettings, Summary};

/// One line of JSON.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line<'a> {
    /// The first: what is run.
    Run(RunLine<'a>),
    /// One for each step, in their order.
    Step(&'a StepRecord),
    /// The last.
    Summary(SummaryLine),
}

/// What a run is made with.
#[derive(Clone, Debug, Serialize)]
pub struct RunLine<'a> {
    /// Version of this program.
    pub version: &'a str,
    /// Name of the model.
    pub model: &'a str,
    /// Kind of its weights, as "Q4_1".
    pub quantisation: &'a str,
    /// SHA-256 of its file in hexadecimal, where known.
    pub sha256: Option<&'a str>,
    /// Device and kernel.
    pub device: &'a str,
    /// The second model, where one was given.
    pub draft_model: Option<&'a str>,
    /// Tokens that prompt and output can have together.
    pub context: usize,
    /// Longest output of a prompt, in tokens.
    pub max_tokens: usize,
    /// Whether prompts were run without the chat template.
    pub raw: bool,
    /// How many prompts there are.
    pub prompts: usize,
    /// Settings of all steps.
    #[serde(flatten)]
    pub settings: &'a StepSettings,
}

/// The means of a run: of a [`Summary`] the fields that stay what they are from version to version.
#[derive(Clone, Debug, Serialize)]
pub struct SummaryLine {
    tokens: usize,
    steps: usize,
    accepted_mean: f64,
    tokens_per_step: f64,
    expected_accepted_mean: f64,
    mu: f64,
    mu2: f64,
    ceilings: CeilingsLine,
    tokens_per_second: Option<f64>,
    autoregressive_tokens_per_second: Option<f64>,
    time: StageTimes,
    text_sha256: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct CeilingsLine {
    batch: f64,
    published: Option<f64>,
    renewal: Option<f64>,
    fluid: Option<f64>,
}

impl From<Summary> for SummaryLine {
    fn from(s: Summary) -> Self {
        let c = s.ceilings;
        SummaryLine {
            tokens: s.tokens,
            steps: s.steps,
            accepted_mean: s.accepted_mean,
            tokens_per_step: s.tokens_per_step,
            expected_accepted_mean: s.expected_accepted_mean,
            mu: s.mu,
            mu2: s.mu2,
            ceilings: CeilingsLine { batch: c.batch, published: c.published, renewal: c.renewal, fluid: c.fluid },
            tokens_per_second: s.tokens_per_second,
            autoregressive_tokens_per_second: s.autoregressive_tokens_per_second,
            time: s.time,
            text_sha256: s.text_sha256,
        }
    }
}
