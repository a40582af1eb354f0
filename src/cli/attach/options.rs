//! Options of `speclight attach`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::text::ShownBrackets;
use crate::attach::{ProbeSettings, ServerKind};
use crate::cli::options::whole;
use crate::engine::Prompt;

/// Options of `speclight attach`.
#[derive(Args, Clone, Debug)]
pub struct AttachOptions {
    /// Address of the server, as http://127.0.0.1:8080
    #[arg(value_name = "URL")]
    pub url: String,
    /// Engine of the server: llama-server, vllm, sglang, tensorrt-llm, mistral.rs, tgi [default:
    /// detected from its responses]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(ServerKind::ALL.map(ServerKind::name)), hide_possible_values = true,
          help_heading = "Server")]
    pub engine: Option<String>,
    /// File that holds the server's key [default: OPENAI_API_KEY, or the engine's own variable]
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub key_file: Option<PathBuf>,
    /// Send a key over plain http to another machine, where others can read it on the way
    #[arg(long, help_heading = "Server")]
    pub insecure: bool,
    /// Seconds that a reading may take
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, allow_negative_numbers = true,
          help_heading = "Server")]
    pub timeout: f64,
    /// Seconds between two readings of the counters
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds, allow_negative_numbers = true,
          help_heading = "Server")]
    pub every: f64,
    /// Seconds after which watching ends [default: at Ctrl-C]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true, conflicts_with = "probe",
          help_heading = "Server")]
    pub seconds: Option<f64>,
    /// Send prompts, and read each step of the answers
    #[arg(long, help_heading = "Probe")]
    pub probe: bool,
    /// File of prompts, one JSON object a line, as for `speclight run`; may be given several times
    /// [default: the built-in prompts]
    #[arg(long, value_name = "FILE.jsonl", num_args = 1.., requires = "probe", help_heading = "Probe")]
    pub prompts: Vec<PathBuf>,
    /// Maximum number of tokens that the probe lets the server write
    #[arg(long, value_name = "N", default_value = "4000", value_parser = tokens, allow_negative_numbers = true, help_heading = "Probe")]
    pub tokens: usize,
    /// Temperature of the probe's texts; 0 is greedy
    #[arg(long, value_name = "T", default_value = "1", value_parser = temperature, allow_negative_numbers = true,
          help_heading = "Probe")]
    pub temperature: f64,
    /// Top-p of the probe's texts, applied after the temperature; 1 samples from all tokens
    #[arg(long, value_name = "P", default_value = "1", value_parser = top_p, allow_negative_numbers = true,
          help_heading = "Probe")]
    pub top_p: f64,
    /// Seed of the server's sampler
    #[arg(long, value_name = "N", default_value = "0", help_heading = "Probe")]
    pub seed: u64,
    /// Most probable tokens to ask for with each position; servers cap them (vLLM at 20)
    #[arg(long, value_name = "K", default_value = "20", value_parser = top, allow_negative_numbers = true, help_heading = "Probe")]
    pub top: usize,
    /// Maximum number of positions scored by a request each, where an engine reports no
    /// distributions while it drafts (llama-server)
    #[arg(long, value_name = "N", default_value = "1000", value_parser = score, allow_negative_numbers = true, help_heading = "Probe")]
    pub score: usize,
    /// Send prompts as they are, without the model's chat template
    #[arg(long, requires = "probe", help_heading = "Probe")]
    pub raw: bool,
    /// Write lines of JSON for the server, each step or window and the summary; - is standard
    /// output
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Show the brackets that hold without an estimate beside the estimates
    #[arg(long, requires = "probe", help_heading = "Output")]
    pub brackets: bool,
    /// Write lines of text instead of showing a screen
    #[arg(long, help_heading = "Output")]
    pub plain: bool,
}

impl AttachOptions {
    pub(super) fn shown_brackets(&self) -> ShownBrackets {
        if self.brackets { ShownBrackets::All } else { ShownBrackets::Missing }
    }

    /// Returns the settings of a probe of these prompts.
    pub(super) fn probe_settings(&self, prompts: Vec<Prompt>) -> ProbeSettings {
        ProbeSettings {
            prompts,
            tokens: self.tokens,
            temperature: self.temperature,
            top_p: self.top_p,
            seed: self.seed,
            top: self.top,
            score: self.score,
            raw: self.raw,
        }
    }
}

fn seconds(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(seconds) if (0.05..=86_400.0 * 365.0).contains(&seconds) => Ok(seconds),
        _ => Err("give seconds, at least 0.05".into()),
    }
}

fn temperature(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(t) if (0.0..=10.0).contains(&t) => Ok(t),
        _ => Err("give a temperature from 0 (greedy) to 10".into()),
    }
}

fn top_p(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(p) if p > 0.0 && p <= 1.0 => Ok(p),
        _ => Err("give a mass above 0 and up to 1 (all tokens)".into()),
    }
}

fn tokens(value: &str) -> Result<usize, String> {
    whole(value, 1, 1_000_000, "tokens")
}

fn top(value: &str) -> Result<usize, String> {
    whole(value, 1, 1_000_000, "tokens")
}

fn score(value: &str) -> Result<usize, String> {
    whole(value, 0, 1_000_000, "positions")
}
