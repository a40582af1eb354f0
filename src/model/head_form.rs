//! Forms of drafting heads, which weights and heads have in common.

use serde::{Deserialize, Serialize};

/// Kinds of drafting heads, by the drafter that uses them.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum HeadForm {
    /// A decoder layer over several hidden states and a token, which drafts on its own.
    #[default]
    Eagle,
    /// A feed-forward layer over one hidden state, for early-exit drafting.
    Adapter,
}

impl HeadForm {
    /// Returns the GGUF architecture name of such heads.
    pub fn architecture(self) -> &'static str {
        match self {
            HeadForm::Eagle => "speclight-eagle",
            HeadForm::Adapter => "speclight-adapter",
        }
    }
}
