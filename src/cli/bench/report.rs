//! Result of `speclight bench`: its JSON form and its text.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::cli::table;
use crate::model::cpu::Stage;
use crate::sanitize::sanitize_name;
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
    /// Reads a result that `--json` wrote.
    ///
    /// # Errors
    /// If the file can't be read or is not a result of `speclight bench`.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let cure = || {
            format!("can't read {}; give a file written by speclight bench --json", path.display())
        };
        let report: BenchReport =
            serde_json::from_slice(&std::fs::read(path).with_context(cure)?).with_context(cure)?;
        if report.kind != "bench" {
            bail!(
                "{} is of type {:?}; give a file written by speclight bench --json",
                path.display(),
                report.kind
            );
        }
        Ok(report)
    }

    /// Fraction of the memory bandwidth that plain decoding uses for weights.
    fn memory_share(&self) -> f64 {
        self.weight_bytes_per_token as f64 * self.decode_tokens_per_second
            / self.bandwidth_bytes_per_second
    }

    /// Formats the result as tables.
    pub fn text(&self) -> String {
        let cpu = self.cpu.as_deref().unwrap_or("unknown CPU");
        let mut text = format!(
            "{} {} on {}\n{cpu}: {}\n",
            sanitize_name(&self.model),
            self.quantisation,
            self.device,
            self.cpu_features.join(" ")
        );
        if !self.rounded.is_empty() {
            text.push_str(&format!("{} weights are rounded to Q8_0\n", self.rounded.join(", ")));
        }
        text.push('\n');
        let one = self.t_seconds.get(&1).copied().unwrap_or(f64::NAN);
        let mut rows =
            vec![["B", "t(B) ms", "t(B)/t(1)", "ms/token", "in steps ms", ""].map(str::to_owned)];
        let most = self.t_seconds.values().fold(0f64, |m, &t| m.max(t));
        for (batch, t) in &self.t_seconds {
            let bar = "#".repeat(((t / most * 40.0).round() as usize).max(1));
            rows.push([
                batch.to_string(),
                format!("{:.2}", t * 1e3),
                format!("{:.2}", t / one),
                format!("{:.2}", t * 1e3 / *batch as f64),
                self.between_seconds
                    .get(batch)
                    .map_or_else(String::new, |t| format!("{:.2}", t * 1e3)),
                bar,
            ]);
        }
        text.push_str(&table::lines(&rows));
        text.push('\n');
        let mut rows = vec![[
            "plain decoding".to_owned(),
            format!("{:.1} tokens/s", self.decode_tokens_per_second),
        ]];
        for (tokens, t) in &self.prefill_seconds {
            rows.push([
                format!("prompt of {tokens} tokens"),
                format!("{:.1} ms, {:.0} tokens/s", t * 1e3, *tokens as f64 / t),
            ]);
        }
        for (tokens, t) in &self.context_seconds {
            rows.push([format!("one token, context {tokens}"), format!("{:.2} ms", t * 1e3)]);
        }
        if let Some(t) = self.early_exit_seconds {
            rows.push(["early-exit, per depth".to_owned(), format!("{:.2} ms", t * 1e3)]);
        }
        if let (Some(t), Some(one)) = (self.eagle_seconds, self.t_seconds.get(&1)) {
            rows.push([
                "eagle, per depth".to_owned(),
                format!("{:.2} ms, {:.1}% of t(1)", t * 1e3, 100.0 * t / one),
            ]);
        }
        rows.push([
            "memory bandwidth".to_owned(),
            format!("{:.1} GB/s", self.bandwidth_bytes_per_second / 1e9),
        ]);
        let share = self.memory_share();
        // Faster than the memory: the weights are read from the caches, and this limit is none.
        let reached = if share > 1.0 {
            "exceeded, the weights stay in the CPU's caches".to_owned()
        } else {
            format!("{:.0}% reached", share * 100.0)
        };
        rows.push([
            "memory-bound limit".to_owned(),
            format!(
                "{:.1} tokens/s for {:.1} MB per token; {reached}",
                self.bandwidth_bytes_per_second / self.weight_bytes_per_token as f64,
                self.weight_bytes_per_token as f64 / 1e6,
            ),
        ]);
        text.push_str(&table::lines(&rows));
        text.push_str(&self.stages());
        text
    }

    /// Formats the time of passes by stage, with a column for each size.
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
            row.extend(
                sizes
                    .clone()
                    .map(|n| of(n, stage).map_or_else(String::new, |t| format!("{:.3}", t * 1e3))),
            );
            rows.push(row);
        }
        format!("\n{}", table::lines(&rows))
    }
}

/// Returns the median of `samples`, NaN if there are none.
pub fn median(samples: &[f64]) -> f64 {
    pass_times::median(&mut samples.to_vec()).unwrap_or(f64::NAN)
}
