//! What the literature says, entered as data beside our numbers, with its source.

use serde::{Deserialize, Serialize};

/// A source and what could be taken from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The source.
    pub source: String,
    /// The form that the column "published" evaluates.
    pub form: String,
    /// What of the source could not be compared, and why.
    pub not_compared: Vec<String>,
}

/// Pankratov & Alistarh, EACL 2026: the form of the abstract is all that is known here.
pub fn published() -> Published {
    Published {
        source:
            "Pankratov & Alistarh, \"Speculative Decoding Speed-of-Light: Optimal Lower Bounds via Branching Random Walks\", \
                 EACL 2026 (long 301, pp. 6404-6418; arXiv 2512.11718), abstract"
                .into(),
        form: "E[X] <= (mu + mu2) ln(B) / mu^2 + O(1), in nats, B the tokens of one verify pass".into(),
        not_compared: [
            "the O(1): the abstract does not give it, and the column leaves it out",
            "the paper's own mu, mu2 and accepted lengths (Llama 3.1 8B Instruct, Llama 3.3 70B Instruct, \
             DeepSeek-R1-Distill-Llama-8B, Qwen3-8B on HumanEval, MT-bench, GSM8K, CNN/DailyMail, Natural Questions, with \
             EAGLE-3): no values are at hand here, and these are other models, drafters and machines",
        ]
        .map(str::to_owned)
        .to_vec(),
    }
}
