//! Options of `speclight train`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::options::{threads, whole};
use crate::model::HeadForm;
use crate::model::device::DeviceChoice;

/// Options of `speclight train`.
#[derive(Args, Clone, Debug)]
pub struct TrainOptions {
    /// Target model: name from `speclight models`, GGUF file, or safetensors folder
    ///
    /// `speclight models` marks the default model.
    #[arg(long, value_name = "NAME|PATH")]
    pub model: Option<String>,
    /// Device to train on; auto uses a GPU if this build and machine have one
    ///
    /// On a GPU, the target generates hundreds of answers at a time, and the folder holds the texts
    /// alone: a GPU recomputes their hidden states faster than a disk reads them.
    #[arg(long, value_name = "auto|cpu|cuda[:N]|metal", default_value_t)]
    pub device: DeviceChoice,
    /// Number of CPU threads [default: the number of physical cores]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// Prompt files; the head is trained on the model's own answers
    ///
    /// One JSON object per line, as for `speclight run`; - is standard input. With "then", a second prompt follows, in
    /// which {} stands for the answer. With "begun", the answer continues from that text. May be
    /// given several times.
    #[arg(long, value_name = "FILE.jsonl", required_unless_present = "text")]
    pub prompts: Vec<PathBuf>,
    /// Text files to train on directly, in pieces
    ///
    /// The head learns the model's token distributions over the text itself. May be given several
    /// times, and together with --prompts.
    #[arg(long, value_name = "FILE")]
    pub text: Vec<PathBuf>,
    /// Work folder for answers, hidden states and checkpoints
    ///
    /// Answers with their hidden states take about 4 KB per token for the default model. An
    /// interrupted training resumes from the folder.
    #[arg(long, value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Form of the head: eagle or adapter
    ///
    /// eagle: a head that drafts by itself (--drafter eagle). adapter: reads an early layer of the
    /// target for the early-exit drafter (--drafter early-exit).
    #[arg(long, value_name = "NAME", default_value = "eagle", value_parser = form)]
    pub form: HeadForm,
    /// Head to continue from [default: initialized from a layer of the model]
    ///
    /// The head must have the same form and belong to the same model.
    #[arg(long, value_name = "FILE.gguf")]
    pub from: Option<PathBuf>,
    /// Output file of the head
    #[arg(long, value_name = "FILE.gguf")]
    pub out: PathBuf,
    /// Number of tokens to generate and train on, prompts included
    #[arg(long, value_name = "N", default_value = "400000", value_parser = count, allow_negative_numbers = true)]
    pub tokens: usize,
    /// Maximum length of an answer, in tokens
    #[arg(long, value_name = "N", default_value = "256", value_parser = count, allow_negative_numbers = true)]
    pub max_tokens: usize,
    /// Number of optimizer steps
    #[arg(long, value_name = "N", default_value = "2000", value_parser = count, allow_negative_numbers = true)]
    pub steps: usize,
    /// Peak learning rate, reached after a warm-up and followed by cosine decay
    #[arg(long, value_name = "X", default_value = "0.0006", value_parser = rate, allow_negative_numbers = true)]
    pub learning_rate: f64,
    /// Number of texts per optimizer step
    #[arg(long, value_name = "N", default_value = "4", value_parser = count, allow_negative_numbers = true)]
    pub batch: usize,
    /// Depths over which an eagle head is unrolled in training, 1 to 16
    ///
    /// Unrolling trains the head as it is used for drafting.
    #[arg(long, value_name = "N", default_value = "3", value_parser = depths, allow_negative_numbers = true)]
    pub depths: usize,
    /// Output vocabulary of the head: the N most frequent tokens of the answers
    #[arg(long, value_name = "N", default_value = "6144", value_parser = count, allow_negative_numbers = true)]
    pub vocabulary: usize,
    /// Optimizer steps between two measurements on held-out texts
    ///
    /// A checkpoint is written at each measurement.
    #[arg(long, value_name = "N", default_value = "100", value_parser = count, allow_negative_numbers = true)]
    pub every: usize,
    /// Seed of sampling, order of texts and initial weights
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,
    /// JSON lines output, one line per step; - is standard output
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
    /// Print lines instead of the screen, on a terminal, too
    #[arg(long)]
    pub plain: bool,
}

fn count(value: &str) -> Result<usize, String> {
    whole(value, 1, usize::MAX, "the value is a count")
}

fn form(value: &str) -> Result<HeadForm, String> {
    match value {
        "eagle" => Ok(HeadForm::Eagle),
        "adapter" => Ok(HeadForm::Adapter),
        _ => Err("give eagle or adapter".into()),
    }
}

fn depths(value: &str) -> Result<usize, String> {
    whole(value, 1, 16, "the number of unrolled depths is out of range")
}

fn rate(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(x) if x.is_finite() && x > 0.0 => Ok(x),
        _ => Err("the learning rate is a positive number, such as 0.0006".into()),
    }
}
