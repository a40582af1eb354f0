//! `speclight train`: distils a drafting head for a model, on this machine.

mod distil;
mod drafted;
#[cfg(feature = "tui")]
mod screen;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;

use self::distil::{Job, distil};
use super::errors::{print_line, warn, warn_of_threads};
use super::interrupt::Interrupt;
use super::lines::Lines;
use super::progress::{self, Bar};
use super::prompts::{read_asks, read_text};
use crate::model::HeadForm;
use crate::model::device::DeviceChoice;
use crate::registry::Registry;
use crate::train::{Drafted, Figures, News, Report};

/// Options of `speclight train`.
#[derive(Args, Clone, Debug)]
pub struct TrainOptions {
    /// Model to train a head for: a name that `speclight models` lists, a GGUF file, or a folder with safetensors
    #[arg(long, value_name = "NAME|PATH")]
    pub model: Option<String>,
    /// Where to train: auto takes a GPU if this build can use it and the machine has it. There the target writes hundreds of answers at
    /// a time, and the folder holds the texts alone: a GPU tells their hidden states quicker than a disk
    #[arg(long, value_name = "auto|cpu|cuda[:N]|metal", default_value_t)]
    pub device: DeviceChoice,
    /// Threads of the CPU path [default: the physical cores]
    #[arg(long, value_name = "N", value_parser = super::options::threads)]
    pub threads: Option<usize>,
    /// File of prompts whose answers, by the model itself, are trained on: one JSON object a line, as for `run`; with "then" a second
    /// prompt follows, in which {} stands for the answer, and with "begun" the answer goes on from there. May be given several times
    #[arg(long, value_name = "FILE.jsonl", required_unless_present = "text")]
    pub prompts: Vec<PathBuf>,
    /// File of text that is trained on as it stands, in pieces: the laws of the model over it. May be given several times, and beside
    /// prompts
    #[arg(long, value_name = "FILE")]
    pub text: Vec<PathBuf>,
    /// Folder for the answers with their hidden states (about 4 KB a token for the default model) and for checkpoints; a run that
    /// was broken off goes on from there
    #[arg(long, value_name = "FOLDER")]
    pub folder: PathBuf,
    /// What to train: eagle, a head that drafts by itself (--drafter eagle), or adapter, what the early exit reads its layer by
    /// (--drafter early-exit)
    #[arg(long, value_name = "NAME", default_value = "eagle", value_parser = form)]
    pub form: HeadForm,
    /// Head to go on from, of the same form and for the same model [default: begin with a layer of the model's]
    #[arg(long, value_name = "FILE.gguf")]
    pub from: Option<PathBuf>,
    /// Where the head goes
    #[arg(long, value_name = "FILE.gguf")]
    pub out: PathBuf,
    /// Tokens to write and to train on, prompts included
    #[arg(long, value_name = "N", default_value = "400000", value_parser = count, allow_negative_numbers = true)]
    pub tokens: usize,
    /// Longest answer, in tokens
    #[arg(long, value_name = "N", default_value = "256", value_parser = count, allow_negative_numbers = true)]
    pub max_tokens: usize,
    /// Steps of the optimiser
    #[arg(long, value_name = "N", default_value = "2000", value_parser = count, allow_negative_numbers = true)]
    pub steps: usize,
    /// Largest learning rate, reached after a warm-up; it falls along a cosine from there
    #[arg(long, value_name = "X", default_value = "0.0006", value_parser = rate, allow_negative_numbers = true)]
    pub learning_rate: f64,
    /// Texts in a step
    #[arg(long, value_name = "N", default_value = "4", value_parser = count, allow_negative_numbers = true)]
    pub batch: usize,
    /// Depths that an eagle head is unrolled over while it is trained, as it will be when it drafts
    #[arg(long, value_name = "N", default_value = "3", value_parser = depths, allow_negative_numbers = true)]
    pub depths: usize,
    /// Tokens that the head can put out: those that the model's answers hold most
    #[arg(long, value_name = "N", default_value = "6144", value_parser = count, allow_negative_numbers = true)]
    pub vocabulary: usize,
    /// Steps between two measurements on texts that were held out, each with a checkpoint
    #[arg(long, value_name = "N", default_value = "100", value_parser = count, allow_negative_numbers = true)]
    pub every: usize,
    /// Seed of draws, order and initial weights
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,
    /// Write one line of JSON for each step; - is standard output
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
    /// Lines in place of the screen, on a terminal too
    #[arg(long)]
    pub plain: bool,
}

fn count(value: &str) -> Result<usize, String> {
    super::options::whole(value, 1, usize::MAX, "this is a count")
}

fn form(value: &str) -> Result<HeadForm, String> {
    match value {
        "eagle" => Ok(HeadForm::Eagle),
        "adapter" => Ok(HeadForm::Adapter),
        _ => Err("give eagle or adapter".into()),
    }
}

fn depths(value: &str) -> Result<usize, String> {
    super::options::whole(value, 1, 16, "the depths unrolled")
}

fn rate(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(x) if x.is_finite() && x > 0.0 => Ok(x),
        _ => Err("the learning rate is a positive number, as 0.0006".into()),
    }
}

/// Where candle looks for its count of threads.
const CANDLE_THREADS: &str = "RAYON_NUM_THREADS";

/// The same command once more, with one thread for each of candle's operations: training has a text on each thread, which is several
/// times as fast. Candle takes the count from its environment alone.
fn again_with_one_thread() -> anyhow::Result<ExitCode> {
    let mut command = std::process::Command::new(std::env::current_exe().context("this program can't be found")?);
    command.args(std::env::args_os().skip(1)).env(CANDLE_THREADS, "1");
    #[cfg(unix)]
    {
        let failed = std::os::unix::process::CommandExt::exec(&mut command);
        Err(failed).context("training can't be started")
    }
    #[cfg(not(unix))]
    {
        let status = command.status().context("training can't be started")?;
        Ok(ExitCode::from(status.code().map_or(1, |code| code.clamp(0, 255) as u8)))
    }
}

/// Writes the texts that are missing, then trains on them: on a terminal with a screen, else with a line for each measurement.
///
/// # Errors
/// If the model can't be had, a file can't be read or written, or training fails: one line.
pub fn run(options: TrainOptions) -> anyhow::Result<ExitCode> {
    if std::env::var_os(CANDLE_THREADS).is_none() {
        return again_with_one_thread();
    }
    warn_of_threads(options.threads);
    let mut asks = Vec::new();
    for file in &options.prompts {
        asks.extend(read_asks(file, &mut |line| warn(&line))?);
    }
    for file in &options.text {
        asks.extend(read_text(file)?);
    }
    let found = Registry::load()?.find(options.model.as_deref())?;
    let mut bar = Bar::new();
    let path = found.ensure(&mut |progress| bar.show(progress))?;
    drop(bar);
    let quiet = options.json.as_deref().is_some_and(Lines::to_stdout);
    let job = Job { options, asks, found, path };
    #[cfg(feature = "tui")]
    if !job.options.plain
        && !quiet
        && std::io::IsTerminal::is_terminal(&std::io::stdout())
        && crate::app::check_terminal().is_ok()
    {
        return screen::run(job);
    }
    let interrupt = Interrupt::watch().context("signals can't be watched")?;
    let line = progress::status();
    let mut first = None;
    let told = distil(&job, &mut |news| {
        match news {
            News::Writing { tokens, of, rate } => {
                let left = time(of.saturating_sub(tokens) as f64 / rate);
                let said = format!("writing texts: {tokens} of {of} tokens, {rate:.0} a second, {left} left");
                progress::message(&line, &said);
            }
            News::Step(report, drafted) => {
                let (began, from) = *first.get_or_insert((Instant::now(), report.step));
                let each = began.elapsed().as_secs_f64() / (report.step - from) as f64;
                let said = format!(
                    "step {} of {}: loss {:.3}, rate {:.1e}, norm {:.2}, {} left",
                    report.step,
                    report.steps,
                    report.loss,
                    report.rate,
                    report.norm,
                    time(each * (report.steps - report.step) as f64)
                );
                progress::message(&line, &said);
                if let (Some(figures), Some(drafted), false) = (&report.held_out, &drafted, quiet) {
                    // A reader that went away does not end the training.
                    let _ = line.suspend(|| print_line(&held_out(&report, figures, drafted)));
                }
            }
            News::Training { .. } | News::Finished | News::Failed(_) => {}
        }
        interrupt.status().is_none()
    });
    line.finish_and_clear();
    told?;
    Ok(interrupt.status().map_or(ExitCode::SUCCESS, ExitCode::from))
}

fn held_out(report: &Report, figures: &Figures, drafted: &Drafted) -> String {
    let list = |all: &[f64], digits: usize| all.iter().map(|x| format!("{x:.digits$}")).collect::<Vec<_>>().join(" ");
    format!(
        "step {}, {} tokens, {:.0} s: held out: loss by depth {}, acceptance by depth {}, a chain of {} accepts {:.3}; B = 16: greedy {:.2} tokens a step, at temperature 1 {:.2} of the fluid ceiling {}",
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
    )
}

/// A time as a person says it; none where it is not known yet.
fn time(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or("?".into(), progress::time)
}
