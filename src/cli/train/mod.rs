//! `speclight train`: distills a drafting head for a model, on this machine.
//!
//! `distil` holds the work, `drafted` measures how well the head drafts, `screen` shows the
//! progress on a terminal; without the screen, progress is written as lines.

mod distill;
mod draft_trial;
#[cfg(feature = "tui")]
mod screen;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use self::distill::{TrainingJob, distil};
use super::errors::{print_line, warn, warn_if_too_many_threads};
use super::interrupt::Interrupt;
use super::lines::AtomicOutput;
use super::overlap::{NamedFile, check_outputs};
use super::progress::{self, DownloadBar};
use super::prompts::{read_asks, read_text};
use crate::model::HeadForm;
use crate::model::device::DeviceChoice;
use crate::registry::Registry;
use crate::train::{DraftPerformance, HeldOutMetrics, TrainEvent, TrainReport};

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
    #[arg(long, value_name = "N", value_parser = super::options::threads)]
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
    super::options::whole(value, 1, usize::MAX, "the value is a count")
}

fn form(value: &str) -> Result<HeadForm, String> {
    match value {
        "eagle" => Ok(HeadForm::Eagle),
        "adapter" => Ok(HeadForm::Adapter),
        _ => Err("give eagle or adapter".into()),
    }
}

fn depths(value: &str) -> Result<usize, String> {
    super::options::whole(value, 1, 16, "the number of unrolled depths is out of range")
}

fn rate(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(x) if x.is_finite() && x > 0.0 => Ok(x),
        _ => Err("the learning rate is a positive number, such as 0.0006".into()),
    }
}

/// Environment variable from which candle takes its number of threads.
const CANDLE_THREADS: &str = "RAYON_NUM_THREADS";

/// Runs the same command again, with one thread for each operation of candle.
///
/// Training processes one text per thread, which is several times as fast. Candle reads the thread
/// count only from its environment.
fn restart_with_one_thread() -> anyhow::Result<ExitCode> {
    let mut command = std::process::Command::new(
        std::env::current_exe().context("can't find the program's own executable")?,
    );
    command.args(std::env::args_os().skip(1)).env(CANDLE_THREADS, "1");
    #[cfg(unix)]
    {
        let failed = std::os::unix::process::CommandExt::exec(&mut command);
        Err(failed).context("can't start training")
    }
    #[cfg(not(unix))]
    {
        let status = command.status().context("can't start training")?;
        Ok(ExitCode::from(status.code().map_or(1, |code| code.clamp(0, 255) as u8)))
    }
}

/// Generates the missing texts, then trains on them.
///
/// On a terminal, progress is shown on a screen, otherwise as one line for each measurement.
///
/// # Errors
/// If the model can't be obtained, a file can't be read or written, or training fails.
pub fn run(options: TrainOptions) -> anyhow::Result<ExitCode> {
    if std::env::var_os(CANDLE_THREADS).is_none() {
        return restart_with_one_thread();
    }
    warn_if_too_many_threads(options.threads);
    let mut inputs: Vec<NamedFile> = NamedFile::all("--prompts", &options.prompts)
        .chain(NamedFile::all("--text", &options.text))
        .chain(options.from.iter().map(|path| NamedFile::new("--from", path)))
        .chain(NamedFile::lists())
        .collect();
    inputs.extend(NamedFile::model("--model", options.model.as_deref()));
    inputs.push(NamedFile::new("--folder", &options.folder));
    let mut outputs = vec![NamedFile::new("--out", &options.out)];
    outputs.extend(options.json.iter().map(|path| NamedFile::new("--json", path)));
    check_outputs(&inputs, &outputs)?;
    let mut asks = Vec::new();
    for file in &options.prompts {
        asks.extend(read_asks(file, &mut |line| warn(&line))?);
    }
    for file in &options.text {
        asks.extend(read_text(file)?);
    }
    let found = Registry::load()?.find(options.model.as_deref())?;
    let mut bar = DownloadBar::new();
    let path = found.ensure(&mut |progress| bar.show(progress))?;
    drop(bar);
    let quiet = options.json.as_deref().is_some_and(AtomicOutput::is_stdout);
    let job = TrainingJob { options, asks, found, path };
    #[cfg(feature = "tui")]
    if !job.options.plain
        && !quiet
        && std::io::IsTerminal::is_terminal(&std::io::stdout())
        && crate::tui::check_terminal().is_ok()
    {
        return screen::run(job);
    }
    let interrupt = Interrupt::watch().context("can't install signal handlers")?;
    let line = progress::status();
    let mut first = None;
    let told = distil(&job, &mut |news| {
        match news {
            TrainEvent::Writing { tokens, of, rate } => {
                let left = time(of.saturating_sub(tokens) as f64 / rate);
                let said = format!(
                    "writing texts: {tokens} of {of} tokens, {rate:.0} tokens/s, {left} left"
                );
                progress::message(&line, &said);
            }
            TrainEvent::Step(report, drafted) => {
                let (began, from) = *first.get_or_insert((Instant::now(), report.step));
                let each = began.elapsed().as_secs_f64() / (report.step - from) as f64;
                let said = format!(
                    "step {} of {}: loss {:.3}, learning rate {:.1e}, gradient norm {:.2}, {} left",
                    report.step,
                    report.steps,
                    report.loss,
                    report.rate,
                    report.norm,
                    time(each * (report.steps - report.step) as f64)
                );
                progress::message(&line, &said);
                if let (Some(figures), Some(drafted), false) = (&report.held_out, &drafted, quiet) {
                    // A closed standard output does not end the training.
                    let _ = line.suspend(|| print_line(&held_out(&report, figures, drafted)));
                }
            }
            TrainEvent::Training { .. } | TrainEvent::Finished | TrainEvent::Failed(_) => {}
        }
        interrupt.status().is_none()
    });
    line.finish_and_clear();
    told?;
    Ok(interrupt.status().map_or(ExitCode::SUCCESS, ExitCode::from))
}

fn held_out(report: &TrainReport, figures: &HeldOutMetrics, drafted: &DraftPerformance) -> String {
    let list = |all: &[f64], digits: usize| {
        all.iter().map(|x| format!("{x:.digits$}")).collect::<Vec<_>>().join(" ")
    };
    format!(
        "step {}, {} tokens, {:.0} s, held out: loss by depth {}, acceptance by depth {}, chain of {} accepts {:.3}; B = 16: greedy {:.2} tokens per step, at temperature 1 {:.2} accepted of fluid bound {}, {} of the speed of light",
        report.step,
        report.tokens,
        report.seconds,
        list(&figures.loss, 3),
        list(&figures.acceptance, 3),
        figures.acceptance.len(),
        figures.accepted,
        drafted.greedy_tokens_per_step,
        drafted.expected_accepted,
        drafted.fluid.map_or("-".to_owned(), |fluid| format!("{fluid:.2}")),
        drafted.speed_of_light.reached().map_or("-".to_owned(), |share| match share.interval {
            Some(i) => format!("{:.2} ({:.2} to {:.2})", share.value, i.low, i.high),
            None => format!("{:.2}", share.value),
        }),
    )
}

/// Formats a time in seconds; `?` if it is not finite.
fn time(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or("?".into(), progress::time)
}
