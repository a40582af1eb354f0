//! A result of `speclight bench`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::clean::name;
use crate::cli::table;
use crate::model::kernels::Stage;
use crate::theory::pass_times;

/// What was measured: medians, and all samples for whoever wants to compare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always "bench".
    #[serde(rename = "type")]
    pub kind: String,
    /// Version of this program.
    pub version: String,
    /// Name of the model.
    pub model: String,
    /// Its format, as "Q4_1".
    pub quantisation: String,
    /// Device and kernel, as "cpu (avx2, 2 threads)".
    pub device: String,
    /// The kernel of the CPU path, or "candle".
    pub kernel: String,
    /// Formats of the file whose matrices were rounded to Q8_0, since the kernels have no products with them.
    #[serde(default)]
    pub rounded: Vec<String>,
    /// Threads of a forward; null on other devices than the CPU.
    pub threads: Option<usize>,
    /// The CPU as its maker calls it, where known.
    pub cpu: Option<String>,
    /// Its instruction sets that kernels may choose by.
    pub cpu_features: Vec<String>,
    /// Plain decoding, tokens a second.
    pub decode_tokens_per_second: f64,
    /// Seconds to read a prompt, by its tokens.
    pub prefill_seconds: BTreeMap<usize, f64>,
    /// Seconds of a verify pass with all logits after 128 tokens, by its tokens.
    pub t_seconds: BTreeMap<usize, f64>,
    /// Seconds of the same passes, each after one of another size and a depth of drafting, as they come in steps: the t(B) that runs go by.
    #[serde(default)]
    pub between_seconds: BTreeMap<usize, f64>,
    /// Seconds of a pass over one token after so many tokens.
    pub context_seconds: BTreeMap<usize, f64>,
    /// Seconds of such passes by stage, in the mean of the threads, by their tokens. Empty on other devices than the CPU.
    #[serde(default)]
    pub stage_seconds: BTreeMap<usize, BTreeMap<String, f64>>,
    /// Seconds of one token's way through the layers that the early-exit drafter runs and its adapter (the model's head where none
    /// comes with the program): what a depth of it costs.
    pub early_exit_seconds: Option<f64>,
    /// Seconds of a pass over one token through the head that comes with the program, if one does for this model: what a depth of the
    /// eagle drafter costs.
    #[serde(default)]
    pub eagle_seconds: Option<f64>,
    /// Bytes a second that the same threads read of memory beyond the caches.
    pub bandwidth_bytes_per_second: f64,
    /// Bytes of weights that a pass reads.
    pub weight_bytes_per_token: u64,
    /// Every sample by name, in the order of rounds.
    pub samples: BTreeMap<String, Vec<f64>>,
}

impl Report {
    /// Reads what `--json` wrote.
    ///
    /// # Errors
    /// If the file can't be read or is something else.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let cure = || format!("can't read {}: give a file that speclight bench --json wrote", path.display());
        let report: Report = serde_json::from_slice(&std::fs::read(path).with_context(cure)?).with_context(cure)?;
        if report.kind != "bench" {
            bail!("{} is of type {:?}: give a file that speclight bench --json wrote", path.display(), report.kind);
        }
        Ok(report)
    }

    /// The share of the memory's speed that plain decoding reaches: bytes of weights a second over the bandwidth.
    fn memory_share(&self) -> f64 {
        self.weight_bytes_per_token as f64 * self.decode_tokens_per_second / self.bandwidth_bytes_per_second
    }

    /// For a person.
    pub fn text(&self) -> String {
        let cpu = self.cpu.as_deref().unwrap_or("unknown CPU");
        let mut text =
            format!("{} {} on {}\n{cpu}: {}\n", name(&self.model), self.quantisation, self.device, self.cpu_features.join(" "));
        if !self.rounded.is_empty() {
            text.push_str(&format!("its {} weights are rounded to Q8_0\n", self.rounded.join(", ")));
        }
        text.push('\n');
        let one = self.t_seconds.get(&1).copied().unwrap_or(f64::NAN);
        let mut rows = vec![["B", "t(B) ms", "over t(1)", "ms a token", "between work ms", ""].map(str::to_owned)];
        let most = self.t_seconds.values().fold(0f64, |m, &t| m.max(t));
        for (batch, t) in &self.t_seconds {
            let bar = "#".repeat(((t / most * 40.0).round() as usize).max(1));
            rows.push([
                batch.to_string(),
                format!("{:.2}", t * 1e3),
                format!("{:.2}", t / one),
                format!("{:.2}", t * 1e3 / *batch as f64),
                self.between_seconds.get(batch).map_or_else(String::new, |t| format!("{:.2}", t * 1e3)),
                bar,
            ]);
        }
        text.push_str(&table::lines(&rows));
        text.push('\n');
        let mut rows = vec![["plain decoding".to_owned(), format!("{:.1} tokens/s", self.decode_tokens_per_second)]];
        for (tokens, t) in &self.prefill_seconds {
            rows.push([format!("reading {tokens} tokens"), format!("{:.1} ms, {:.0} tokens/s", t * 1e3, *tokens as f64 / t)]);
        }
        for (tokens, t) in &self.context_seconds {
            rows.push([format!("one token after {tokens}"), format!("{:.2} ms", t * 1e3)]);
        }
        if let Some(t) = self.early_exit_seconds {
            rows.push(["early exit, a depth".to_owned(), format!("{:.2} ms", t * 1e3)]);
        }
        if let (Some(t), Some(one)) = (self.eagle_seconds, self.t_seconds.get(&1)) {
            rows.push(["eagle, a depth".to_owned(), format!("{:.2} ms, {:.1}% of t(1)", t * 1e3, 100.0 * t / one)]);
        }
        rows.push(["memory, beyond caches".to_owned(), format!("{:.1} GB/s", self.bandwidth_bytes_per_second / 1e9)]);
        rows.push([
            "limit by memory".to_owned(),
            format!(
                "{:.1} tokens/s for {:.1} MB a token; {:.0}% reached",
                self.bandwidth_bytes_per_second / self.weight_bytes_per_token as f64,
                self.weight_bytes_per_token as f64 / 1e6,
                self.memory_share() * 100.0
            ),
        ]);
        text.push_str(&table::lines(&rows));
        text.push_str(&self.stages());
        text
    }

    /// Where the time of a pass goes: a column for each number of tokens.
    fn stages(&self) -> String {
        let of = |n: &usize, stage: Stage| self.stage_seconds.get(n)?.get(stage.name()).copied();
        let sizes = self.stage_seconds.keys();
        if sizes.len() == 0 {
            return String::new();
        }
        let mut rows = vec![vec!["by stage".to_owned()]];
        rows[0].extend(sizes.clone().map(|n| format!("ms of t({n})")));
        for stage in Stage::ALL {
            let mut row = vec![stage.name().to_owned()];
            row.extend(sizes.clone().map(|n| of(n, stage).map_or_else(String::new, |t| format!("{:.3}", t * 1e3))));
            rows.push(row);
        }
        format!("\n{}", table::lines(&rows))
    }
}

/// The median; NaN of nothing.
pub fn median(samples: &[f64]) -> f64 {
    pass_times::median(&mut samples.to_vec()).unwrap_or(f64::NAN)
}
