//! Errors of a session.

use super::settings::BadSetting;
use crate::distribution::NotFinite;
use crate::draft::{DraftError, DrafterKind};
use crate::model::ForwardError;

/// Error that keeps a text from starting or continuing.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The prompt has no token.
    #[error("the prompt is empty: give at least one token of text")]
    EmptyPrompt,
    /// The prompt leaves no room for a generated token.
    #[error(
        "the prompt has {tokens} tokens, and the context holds {context}: one must be left for the answer"
    )]
    LongPrompt {
        /// Length of the prompt in tokens.
        tokens: usize,
        /// Length of the context in tokens.
        context: usize,
    },
    /// A setting is out of range or unavailable.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// The forward pass of the target failed.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// The logits of the target hold NaN or give no distribution.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// The drafter returned an error.
    #[error("the drafter {kind} failed: {source}")]
    Draft {
        /// Kind of the drafter that failed.
        kind: DrafterKind,
        /// Underlying error of the drafter.
        source: DraftError,
    },
}
