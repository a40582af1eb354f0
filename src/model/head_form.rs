//! Forms of drafting heads, shared by the loading of weights and of heads.

use serde::{Deserialize, Serialize};

/// Kinds of drafting heads, by the drafter that uses them.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum HeadForm {
    /// Decoder layer over fused hidden states and a token, as in EAGLE-3.
    ///
    /// Below its own tokens it continues from its own states.
    #[default]
    Eagle,
    /// Feed-forward layer over one hidden state, for early-exit drafting.
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
