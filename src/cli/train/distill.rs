//! Work of `speclight train`: generates texts, trains on them, and reports progress.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::draft_trial::DraftTrial;
use super::options::TrainOptions;
use crate::cli::lines::AtomicOutput;
use crate::hex::hex;
use crate::model::device::DeviceChoice;
use crate::model::format::weights::Weights;
use crate::model::load::Model;
use crate::registry::RegistryModel;
use crate::train::{
    self, Corpus, CorpusSettings, DraftPerformance, GenerationOptions, PromptTask, Teacher,
    TrainEvent, TrainReport,
};

/// Line of the `--json` output.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Train {
        version: &'static str,
        model: &'a str,
        texts: usize,
        tokens: usize,
        options: &'a train::TrainSettings,
    },
    Step {
        #[serde(flatten)]
        report: &'a TrainReport,
        drafted: Option<&'a DraftPerformance>,
    },
}

/// Inputs of a training run, already read and resolved.
pub struct TrainingJob {
    /// Options of the command line.
    pub options: TrainOptions,
    /// Prompts to answer and texts to train on.
    pub asks: Vec<PromptTask>,
    /// Registry entry of the target model.
    pub found: RegistryModel,
    /// File or folder of the target model.
    pub path: PathBuf,
}

/// Returns the layers after which hidden states are read.
///
/// These are a low, a middle and a high layer, as in EAGLE-3.
fn after(layers: usize) -> Vec<usize> {
    let mut after =
        vec![(layers / 10).max(1), (layers / 2).max(1), layers.saturating_sub(3).max(1)];
    after.dedup();
    after
}

/// Generates the missing texts, then trains on them.
///
/// Ends early, with a checkpoint, once `tell` returns false.
///
/// # Errors
/// If the model can't be read, a file can't be read or written, or training fails.
pub fn distil(job: &TrainingJob, tell: &mut dyn FnMut(TrainEvent) -> bool) -> anyhow::Result<()> {
    let TrainingJob { options, asks, found, path } = job;
    let mut json = options.json.as_deref().map(AtomicOutput::open).transpose()?;
    let weights = Weights::open(path)?;
    let from =
        options.from.as_deref().map(|head| Weights::open_head(head, options.form)).transpose()?;
    let open = |threads| -> anyhow::Result<Model> {
        let mut model = Model::open(path, DeviceChoice::Cpu, threads)?;
        if let Some(template) = found.chat_template() {
            model.set_chat_template(template);
        }
        Ok(model)
    };
    let model = open(options.threads)?;
    std::fs::create_dir_all(&options.folder).with_context(|| {
        format!("{}: can't create the folder; give a writable one", options.folder.display())
    })?;
    if options.out.parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
    {
        bail!(
            "{}: the folder does not exist; create it, or give another file",
            options.out.display()
        );
    }
    let after = after(weights.config().layers);
    let device = options.device.open()?;
    let teacher =
        if device.is_cpu() { None } else { Some(Teacher::new(&weights, &device, &after)?) };
    let mut digest = Sha256::new();
    for ask in asks {
        digest.update(ask.text.as_bytes());
        digest.update([0]);
        digest.update(ask.follow_up.as_deref().unwrap_or_default().as_bytes());
        digest.update([0]);
        if let Some(begun) = &ask.answer_start {
            digest.update(begun.as_bytes());
            digest.update([1]);
        }
        if ask.is_given_text {
            digest.update([2]);
        }
    }
    let about = CorpusSettings {
        form: train::CORPUS_FORM,
        model: found.sha256().map_or_else(|| path.display().to_string(), str::to_owned),
        dim: weights.config().dim,
        after: if teacher.is_some() { Vec::new() } else { after.clone() },
        prompts: hex(&digest.finalize()),
        seed: options.seed,
        max_tokens: options.max_tokens,
    };
    let mut corpus = Corpus::open(&options.folder.join("corpus"), &about)?;
    let writing = GenerationOptions {
        seed: options.seed,
        max_tokens: options.max_tokens,
        tokens: options.tokens,
    };
    let (began, before, mut on) = (Instant::now(), corpus.tokens(), true);
    let mut written = |corpus: &Corpus| {
        let rate = (corpus.tokens() - before) as f64 / began.elapsed().as_secs_f64();
        on = tell(TrainEvent::Writing { tokens: corpus.tokens(), of: options.tokens, rate });
        on
    };
    if let Some(teacher) = &teacher {
        train::gather_on_gpu(teacher.llama(), &model, asks, &mut corpus, writing, &mut written)?;
    } else if corpus.tokens() < options.tokens {
        // One model per thread, so that no writer waits for another.
        let writers = (0..model.threads().unwrap_or(1))
            .map(|_| open(Some(1)))
            .collect::<anyhow::Result<Vec<_>>>()?;
        train::gather(&writers, asks, &mut corpus, &after, writing, &mut written)?;
    }
    if !on {
        return Ok(());
    }
    let run = train::TrainSettings {
        form: options.form,
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
    let (texts, tokens) = (corpus.len(), corpus.tokens());
    if let Some(json) = &mut json {
        json.write(&Line::Train {
            version: env!("CARGO_PKG_VERSION"),
            model: found.name(),
            texts,
            tokens,
            options: &run,
        })?;
    }
    if !tell(TrainEvent::Training { texts, tokens }) {
        return Ok(());
    }
    let trial = DraftTrial::new(model, options.form, &mut corpus, run.held_out)?;
    let mut failed = None;
    let start = train::TrainStart {
        target: &weights,
        head: from.as_ref(),
        after: &after,
        teacher: teacher.as_ref(),
    };
    train::train(
        &mut corpus,
        start,
        run,
        &options.folder,
        &options.out,
        &mut |report: &TrainReport| {
            let drafted = match report.held_out.as_ref().map(|_| trial.of(&options.out)).transpose()
            {
                Ok(drafted) => drafted.map(Box::new),
                Err(error) => {
                    failed = Some(error);
                    return false;
                }
            };
            if let Some(Err(error)) = json
                .as_mut()
                .map(|json| json.write(&Line::Step { report, drafted: drafted.as_deref() }))
            {
                failed = Some(error);
                return false;
            }
            tell(TrainEvent::Step(Box::new(report.clone()), drafted))
        },
    )?;
    match (failed, json) {
        (Some(error), _) => Err(error),
        (None, Some(json)) => json.finish(),
        (None, None) => Ok(()),
    }
}
