//! Steps that were already made, as a later oracle search needs them.

use crate::draft::Limits;
use crate::telemetry::StepSettings;
use crate::tree::TokenId;

/// State of a step that a later search needs.
#[derive(Clone, Debug)]
pub(super) struct PastStep {
    /// Length of the text in tokens before the step, root included.
    pub position: usize,
    /// Settings of the step.
    pub settings: StepSettings,
    /// Limits of the best tree.
    ///
    /// The budget is that of the settings as far as the context had room, and the depth reaches to
    /// the end of the text.
    pub limits: Limits,
    /// E\[X | T\], the step's expected number of accepted tokens.
    pub expected: f64,
    /// Set if the step's tree is the drafter's best.
    ///
    /// That is a best-first tree at the full budget that wasn't cut afterwards.
    pub best: bool,
}

/// Step of the current text, with the text before it.
pub(super) struct PastContext<'a> {
    pub prompt_id: &'a str,
    /// Tokens before the step, its root last.
    pub tokens: &'a [TokenId],
    pub past: &'a PastStep,
}
