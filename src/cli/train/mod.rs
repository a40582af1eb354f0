//! `speclight train`: distils a drafting head for a model, on this machine.

mod drafted;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use sha2::{Digest, Sha256};

use drafted::{Drafted, Trial};

use super::errors::warn;
use super::interrupt::Interrupt;
use super::lines::Lines;
use super::progress::{self, Bar};
use super::prompts::read_asks;
use crate::hex::hex;
use crate::model::HEAD_ARCHITECTURE;
use crate::model::device::DeviceChoice;
use crate::model::load::Model;
use crate::model::weights::Weights;
use crate::registry::Registry;
use crate::train::{self, About, Corpus, Figures, Report, Writing};

/// Options of `speclight train`.
#[derive(Args, Clone, Debug)]
pub struct TrainOptions {
    /// Model to train a head for: a name that `speclight models` lists, a GGUF file, or a folder with safetensors
    #[arg(long, value_name = "NAME|PATH")]
    pub model: Option<String>,
    /// Threads of the CPU path [default: the physical cores]
    #[arg(long, value_name = "N", value_parser = super::options::threads)]
    pub threads: Option<usize>,
    /// File of prompts whose answers, by the model itself, are trained on: one JSON object a line, as for `run`; with "then" a second
    /// prompt follows, in which {} stands for the answer, and with "begun" the answer goes on from there. May be given several times
    #[arg(long, value_name = "FILE.jsonl", required = true)]
    pub prompts: Vec<PathBuf>,
    /// Folder for the answers with their hidden states (about 4 KB a token for the default model) and for checkpoints; a run that
    /// was broken off goes on from there
    #[arg(long, value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Head to go on from, one for the same model [default: begin with the model's last layer]
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
    /// Depths that the head is unrolled over while it is trained, as it will be when it drafts
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
}

fn count(value: &str) -> Result<usize, String> {
    super::options::whole(value, 1, usize::MAX, "this is a count")
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

/// A line of `--json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Train {
        version: &'static str,
        model: &'a str,
        texts: usize,
        tokens: usize,
        options: &'a train::Options,
    },
    Step {
        #[serde(flatten)]
        report: &'a Report,
        drafted: Option<Drafted>,
    },
}

/// The layers behind which hidden states are read: low, middle and high, as EAGLE-3 takes them.
fn after(layers: usize) -> Vec<usize> {
    let mut after = vec![(layers / 10).max(1), (layers / 2).max(1), layers.saturating_sub(3).max(1)];
    after.dedup();
    after
}

/// Writes the texts that are missing, then trains on them.
///
/// # Errors
/// If the model can't be had, a file can't be read or written, or training fails: one line.
pub fn run(options: TrainOptions) -> anyhow::Result<ExitCode> {
    if std::env::var_os(CANDLE_THREADS).is_none() {
        return again_with_one_thread();
    }
    let mut asks = Vec::new();
    for file in &options.prompts {
        asks.extend(read_asks(file, &mut |line| warn(&line))?);
    }
    let mut json = options.json.as_deref().map(Lines::open).transpose()?;
    let registry = Registry::load()?;
    let found = registry.find(options.model.as_deref())?;
    let mut bar = Bar::new();
    let path = found.ensure(&mut |progress| bar.show(progress))?;
    drop(bar);
    let interrupt = Interrupt::watch().context("signals can't be watched")?;
    let weights = Weights::open(&path)?;
    let from = options.from.as_deref().map(|head| Weights::open_head(head, HEAD_ARCHITECTURE)).transpose()?;
    let open = |threads| -> anyhow::Result<Model> {
        let mut model = Model::open(&path, DeviceChoice::Cpu, threads)?;
        if let Some(template) = found.chat_template() {
            model.set_chat_template(template);
        }
        Ok(model)
    };
    let model = open(options.threads)?;
    std::fs::create_dir_all(&options.folder)
        .with_context(|| format!("{}: give a folder that can be written", options.folder.display()))?;
    if options.out.parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
        bail!("{}: there is no such folder to write to", options.out.display());
    }
    let after = after(weights.config().layers);
    let mut digest = Sha256::new();
    for ask in &asks {
        digest.update(ask.text.as_bytes());
        digest.update([0]);
        digest.update(ask.then.as_deref().unwrap_or_default().as_bytes());
        digest.update([0]);
    }
    let about = About {
        form: 1,
        model: found.sha256().map_or_else(|| path.display().to_string(), str::to_owned),
        dim: weights.config().dim,
        after: after.clone(),
        prompts: hex(&digest.finalize()),
        seed: options.seed,
        max_tokens: options.max_tokens,
    };
    let mut corpus = Corpus::open(&options.folder.join("corpus"), &about)?;
    let writing = Writing { seed: options.seed, max_tokens: options.max_tokens, tokens: options.tokens };
    let line = progress::status();
    let (began, before) = (Instant::now(), corpus.tokens());
    // A model a thread: none waits for another.
    let writers = if corpus.tokens() < options.tokens { model.threads().unwrap_or(1) } else { 0 };
    let writers = (0..writers).map(|_| open(Some(1))).collect::<anyhow::Result<Vec<_>>>()?;
    train::gather(&writers, &asks, &mut corpus, &after, writing, &mut |corpus| {
        let rate = (corpus.tokens() - before) as f64 / began.elapsed().as_secs_f64();
        let left = options.tokens.saturating_sub(corpus.tokens()) as f64 / rate;
        line.set_message(format!(
            "writing texts: {} of {} tokens, {:.0} a second, {} left",
            corpus.tokens(),
            options.tokens,
            rate,
            time(left)
        ));
        interrupt.status().is_none()
    })?;
    line.finish_and_clear();
    drop(writers);
    if let Some(status) = interrupt.status() {
        return Ok(ExitCode::from(status));
    }
    let run = train::Options {
        steps: options.steps,
        rate: options.learning_rate,
        warm_up: (options.steps / 20).clamp(1, 200),
        depths: options.depths,
        vocab: options.vocabulary,
        window: 640,
        batch: options.batch,
        prompt_weight: 0.25,
        regression: 0.1,
        clip: 1.0,
        held_out: 20,
        every: options.every,
        seed: options.seed,
        threads: model.threads().unwrap_or(1),
    };
    if let Some(json) = &mut json {
        let (model, texts, tokens) = (found.name(), corpus.len(), corpus.tokens());
        json.write(&Line::Train { version: env!("CARGO_PKG_VERSION"), model, texts, tokens, options: &run })?;
    }
    let trial = Trial::new(model, &mut corpus, run.held_out)?;
    let (began, mut first, mut failed) = (Instant::now(), None, None);
    let quiet = options.json.as_deref().is_some_and(Lines::to_stdout);
    let start = train::Start { target: &weights, head: from.as_ref(), after: &after };
    train::train(&mut corpus, start, run, &options.folder, &options.out, &mut |report: &Report| {
        let first = *first.get_or_insert(report.step - 1);
        let each = began.elapsed().as_secs_f64() / (report.step - first) as f64;
        line.set_message(format!(
            "step {} of {}: loss {:.3}, rate {:.1e}, norm {:.2}, {} left",
            report.step,
            report.steps,
            report.loss,
            report.rate,
            report.norm,
            time(each * (report.steps - report.step) as f64)
        ));
        let mut drafted = None;
        if let Some(figures) = &report.held_out {
            match trial.of(&options.out) {
                Ok(found) if quiet => drafted = Some(found),
                Ok(found) => {
                    line.suspend(|| println!("{}", held_out(report, figures, &found)));
                    drafted = Some(found);
                }
                Err(error) => failed = Some(error),
            }
        }
        if let Some(Err(error)) = json.as_mut().map(|json| json.write(&Line::Step { report, drafted })) {
            failed = Some(error);
        }
        interrupt.status().is_none() && failed.is_none()
    })?;
    line.finish_and_clear();
    if let Some(error) = failed {
        return Err(error);
    }
    if let Some(json) = json {
        json.finish()?;
    }
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
