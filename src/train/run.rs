//! Training run: steps, learning rate, gradients.

mod checkpoint;
mod examples;
mod gradients;
mod held_out;
mod initial;
mod learning;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use self::gradients::BatchGradients;
#[cfg(test)]
pub(super) use self::learning::{Backpropagation, backpropagate};
use super::adam::Adam;
use super::corpus::Corpus;
use super::net::Net;
use super::sizes::HeadDims;
use super::teacher::Teacher;
use super::{TrainError, export};
use crate::model::HeadForm;
use crate::model::format::weights::Weights;
use crate::tree::TokenId;

/// Settings of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainSettings {
    /// Form of the head that is trained.
    #[serde(default)]
    pub form: HeadForm,
    /// Number of optimizer steps.
    pub steps: usize,
    /// Largest learning rate, reached after warm-up.
    pub rate: f64,
    /// Number of steps until the largest learning rate.
    pub warm_up: usize,
    /// Number of draft depths that are unrolled.
    pub depths: usize,
    /// Number of output rows: tokens that the head can draft.
    pub vocab: usize,
    /// Longest piece of a text, in tokens.
    pub window: usize,
    /// Number of texts per step.
    pub batch: usize,
    /// Weight of a prompt entry, relative to 1 for one of the answer.
    pub prompt_weight: f32,
    /// Weight of the regression of the head's state on the target's fused one.
    pub regression: f64,
    /// Largest global norm of the gradients.
    pub clip: f64,
    /// Held-out texts: one in this many.
    pub held_out: usize,
    /// Number of steps between two held-out measurements, and between two checkpoints.
    pub every: usize,
    /// Seed of the text order and of initial weights.
    pub seed: u64,
    /// Number of threads, each with one text at a time.
    pub threads: usize,
}

impl TrainSettings {
    /// Returns the entries of `after` that the head reads; an adapter reads the first.
    ///
    /// `after` has the numbers of layers after which the corpus keeps hidden states.
    fn read<'a>(&self, after: &'a [usize]) -> &'a [usize] {
        match self.form {
            HeadForm::Eagle => after,
            HeadForm::Adapter => &after[..1],
        }
    }
}

/// Metrics on the held-out texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldOutMetrics {
    /// Cross-entropy to the target's distribution, in nats per token, by depth from 1.
    pub loss: Vec<f64>,
    /// Rate at which head and target agree on the most probable token, by depth.
    ///
    /// Entry 0 is depth 1; each rate is given agreement at all depths before.
    pub acceptance: Vec<f64>,
    /// Mean accepted length of a greedy chain with this many nodes.
    ///
    /// It is the mean length of the run of such agreements from depth 1 on.
    pub accepted: f64,
}

/// Metrics of one step.
#[derive(Clone, Debug, Serialize)]
pub struct TrainReport {
    /// Number of steps made so far.
    pub step: usize,
    /// Number of steps to make in total.
    pub steps: usize,
    /// Mean loss of the step in nats per token, over all depths.
    pub loss: f64,
    /// Learning rate of the step.
    pub rate: f64,
    /// Norm of the gradients before clipping.
    pub norm: f64,
    /// Number of tokens read so far.
    pub tokens: usize,
    /// Seconds of training so far, including earlier runs that this one continues.
    pub seconds: f64,
    /// Held-out metrics, if they were measured after this step.
    pub held_out: Option<HeldOutMetrics>,
}

/// Target that a head is trained for, and the starting point.
#[derive(Clone, Copy)]
pub struct TrainStart<'a> {
    /// Weights of the target model.
    pub target: &'a Weights,
    /// Head to continue from; `None` initializes one from the target.
    ///
    /// A new head starts as the target's last layer, a new adapter as the layer after its exit.
    pub head: Option<&'a Weights>,
    /// Numbers of layers after which the corpus has hidden states; an adapter reads the first.
    pub after: &'a [usize],
    /// Target on a GPU, which then also trains the head.
    ///
    /// With `None` the head is trained on this machine's cores, with the hidden states and
    /// distributions of the corpus.
    pub teacher: Option<&'a Teacher>,
}

/// State of a training run.
struct Run<'a> {
    options: TrainSettings,
    corpus: &'a mut Corpus,
    after: Vec<usize>,
    teacher: Option<&'a Teacher>,
    net: Net,
    adam: Adam,
    /// Output row of each token of the target; `None` for tokens without one.
    rows: Vec<Option<u32>>,
    tokens: Vec<TokenId>,
    embedding: Vec<f32>,
    step: usize,
    tokens_read: usize,
    seconds: f64,
    checkpoint: PathBuf,
}

/// Trains a head on `corpus` and writes it to `out` at each checkpoint.
///
/// Resumes from the checkpoint in `folder` if there is one. `tell` receives the report of every
/// step; it returns false to stop.
///
/// # Errors
/// See [`TrainError`]; the last good checkpoint is kept.
pub fn train(
    corpus: &mut Corpus,
    start: TrainStart<'_>,
    options: TrainSettings,
    folder: &Path,
    out: &Path,
    tell: &mut dyn FnMut(&TrainReport) -> bool,
) -> Result<(), TrainError> {
    // One for each form, so that both can be trained on the same texts.
    let checkpoint = match options.form {
        HeadForm::Eagle => "checkpoint.safetensors",
        HeadForm::Adapter => "adapter-checkpoint.safetensors",
    };
    let mut run = Run::begin(corpus, start, options, &folder.join(checkpoint))?;
    if run.step >= run.options.steps {
        // A run that was killed after its last checkpoint has not written the head, or to another
        // file.
        run.write(out)?;
    }
    while run.step < run.options.steps {
        let report = run.advance()?;
        if report.held_out.is_some() {
            run.write(out)?;
        }
        if !tell(&report) {
            if report.held_out.is_none() {
                run.write(out)?;
            }
            break;
        }
    }
    Ok(())
}

impl<'a> Run<'a> {
    fn begin(
        corpus: &'a mut Corpus,
        start: TrainStart<'a>,
        options: TrainSettings,
        checkpoint: &Path,
    ) -> Result<Run<'a>, TrainError> {
        let TrainStart { target, head, after, teacher } = start;
        let config = target.config();
        let held = (0..corpus.len()).filter(|i| i % options.held_out == 0).count();
        if held == 0 || corpus.len() - held < options.batch {
            return Err(TrainError::Few { texts: corpus.len() });
        }
        let read = options.read(after).len();
        // A teacher embeds tokens itself.
        let embedding = match teacher {
            Some(_) => Vec::new(),
            None => target.read_values("token_embd.weight", 0..config.vocab)?,
        };
        let mut run = Run {
            tokens: Vec::new(),
            rows: vec![None; config.vocab],
            net: Net {
                sizes: HeadDims::for_target(
                    options.form,
                    config,
                    options.vocab.min(config.vocab),
                    read,
                ),
                vars: BTreeMap::new(),
            },
            adam: Adam::default(),
            teacher,
            after: after.to_vec(),
            options,
            corpus,
            embedding,
            step: 0,
            tokens_read: 0,
            seconds: 0.0,
            checkpoint: checkpoint.to_owned(),
        };
        if !run.load_checkpoint()? {
            match head {
                Some(head) => run.initialize_from_head(head, target)?,
                None => {
                    run.choose_tokens()?;
                    run.initialize(target)?;
                }
            }
        }
        for (row, &token) in run.tokens.iter().enumerate() {
            run.rows[token as usize] = Some(row as u32);
        }
        Ok(run)
    }

    fn rate(&self) -> f64 {
        let (step, o) = (self.step as f64, &self.options);
        if self.step < o.warm_up {
            return o.rate * (step + 1.0) / o.warm_up as f64;
        }
        let done = (step - o.warm_up as f64) / (o.steps.saturating_sub(o.warm_up)).max(1) as f64;
        o.rate * (0.02 + 0.98 * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()))
    }

    fn advance(&mut self) -> Result<TrainReport, TrainError> {
        let began = Instant::now();
        let rate = self.rate();
        let examples = self.examples(&self.batch(), false)?;
        self.tokens_read += examples.iter().flat_map(|example| &example.lens).sum::<usize>();
        let BatchGradients { loss, counted, grads } = self.learn(&examples)?;
        if !loss.is_finite() {
            return Err(TrainError::Diverged { step: self.step });
        }
        let norm = self.adam.step(&self.net.vars, grads, rate, self.options.clip)?;
        if !norm.is_finite() {
            return Err(TrainError::Diverged { step: self.step });
        }
        self.step += 1;
        self.seconds += began.elapsed().as_secs_f64();
        let measured =
            self.step.is_multiple_of(self.options.every) || self.step == self.options.steps;
        let held_out = if measured { Some(self.measure_held_out()?) } else { None };
        Ok(TrainReport {
            step: self.step,
            steps: self.options.steps,
            loss: loss / f64::max(counted, 1e-9),
            rate,
            norm,
            tokens: self.tokens_read,
            seconds: self.seconds,
            held_out,
        })
    }

    /// Returns the device that holds the head.
    fn device(&self) -> Device {
        self.teacher.map_or(Device::Cpu, |teacher| teacher.device().clone())
    }

    fn card(&self) -> String {
        format!(
            "{}, trained by speclight {}: {} steps of {} texts, {} tokens read of a corpus of {} texts and {} tokens, {:.0} s, seed {}, depths {}, learning rate {}",
            match self.options.form {
                HeadForm::Eagle => "EAGLE head",
                HeadForm::Adapter => "Early-exit adapter",
            },
            env!("CARGO_PKG_VERSION"),
            self.step,
            self.options.batch,
            self.tokens_read,
            self.corpus.len(),
            self.corpus.tokens(),
            self.seconds,
            self.options.seed,
            self.options.depths,
            self.options.rate,
        )
    }

    /// Writes the checkpoint, and the head in its current state.
    fn write(&self, out: &Path) -> Result<(), TrainError> {
        self.save_checkpoint()?;
        export::write(out, &self.net, &self.tokens, self.options.read(&self.after), &self.card())
    }
}
