//! Result of a benchmark of this machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::theory::pass_times;

/// Medians of all measurements, and every sample for later comparisons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// Type of the JSON object, always "bench".
    #[serde(rename = "type")]
    pub kind: String,
    /// Version of this program.
    pub version: String,
    /// Name of the measured model.
    pub model: String,
    /// Format of the model's weights, such as "Q4_1".
    pub quantisation: String,
    /// Device and kernel, such as "cpu (avx2, 2 threads)".
    pub device: String,
    /// Name of the CPU kernel, or "candle".
    pub kernel: String,
    /// Formats of the file whose matrices were rounded to Q8_0.
    ///
    /// The kernels have no products with these formats.
    #[serde(default)]
    pub rounded: Vec<String>,
    /// Threads of a forward pass; null on devices other than the CPU.
    pub threads: Option<usize>,
    /// Model name of the CPU, if known.
    pub cpu: Option<String>,
    /// Instruction sets of the CPU that kernels are selected by.
    pub cpu_features: Vec<String>,
    /// Tokens per second of plain decoding.
    pub decode_tokens_per_second: f64,
    /// Seconds to process a prompt, by prompt length in tokens.
    pub prefill_seconds: BTreeMap<usize, f64>,
    /// Seconds of a verify pass by tokens, with all logits, after 128 committed tokens.
    pub t_seconds: BTreeMap<usize, f64>,
    /// Seconds of the same passes in the sequence of decoding steps, by tokens.
    ///
    /// Each pass follows one of another size and a depth of drafting. This is the t(B) that runs
    /// use.
    #[serde(default)]
    pub between_seconds: BTreeMap<usize, f64>,
    /// Seconds of a pass over one token, by the number of tokens before it.
    pub context_seconds: BTreeMap<usize, f64>,
    /// Seconds by stage, as mean over the threads, by tokens of the pass.
    ///
    /// Empty on devices other than the CPU.
    #[serde(default)]
    pub stage_seconds: BTreeMap<usize, BTreeMap<String, f64>>,
    /// Seconds per depth of the early-exit drafter.
    ///
    /// This covers one token through the layers that the drafter runs, and its adapter, or the
    /// model's head if no adapter is bundled.
    pub early_exit_seconds: Option<f64>,
    /// Seconds per depth of the eagle drafter: one token through the bundled head.
    ///
    /// `None` if no head is bundled for this model.
    #[serde(default)]
    pub eagle_seconds: Option<f64>,
    /// Memory bandwidth in bytes per second, read by the same threads beyond the caches.
    pub bandwidth_bytes_per_second: f64,
    /// Bytes of weights read by a pass.
    pub weight_bytes_per_token: u64,
    /// Samples of each measurement by name, in the order of rounds.
    pub samples: BTreeMap<String, Vec<f64>>,
}

impl BenchReport {
    /// Fraction of the memory bandwidth that plain decoding uses for weights.
    pub fn memory_share(&self) -> f64 {
        self.weight_bytes_per_token as f64 * self.decode_tokens_per_second
            / self.bandwidth_bytes_per_second
    }
}

/// Returns the median of `samples`, NaN if there are none.
pub fn median(samples: &[f64]) -> f64 {
    pass_times::median(&mut samples.to_vec()).unwrap_or(f64::NAN)
}
