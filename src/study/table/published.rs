//! Published results, entered as data with their source.

use serde::{Deserialize, Serialize};

/// Published bound, and the content of its source that was not compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Bibliographic reference of the source.
    pub source: String,
    /// Formula that the column "published" evaluates.
    pub form: String,
    /// Content of the source that could not be compared, with the reason.
    pub not_compared: Vec<String>,
}

/// Returns the bound of Pankratov & Alistarh, EACL 2026.
///
/// Only the form given in the abstract is known here.
pub fn published() -> Published {
    Published {
        source:
            "Pankratov & Alistarh, \"Speculative Decoding Speed-of-Light: Optimal Lower Bounds via Branching Random Walks\", \
                 EACL 2026 (long 301, pp. 6404-6418; arXiv 2512.11718), abstract"
                .into(),
        form: "E[X] <= (mu + mu2) ln(B) / mu^2 + O(1), in nats, B the tokens of one verify pass".into(),
        not_compared: [
            "the O(1) term: not given in the abstract, and omitted from the column",
            "the paper's own mu, mu2 and accepted lengths (Llama 3.1 8B Instruct, Llama 3.3 70B Instruct, \
             DeepSeek-R1-Distill-Llama-8B, Qwen3-8B on HumanEval, MT-bench, GSM8K, CNN/DailyMail, Natural Questions, with \
             EAGLE-3): values not available here, and for other models, drafters and machines",
        ]
        .map(str::to_owned)
        .to_vec(),
    }
}
