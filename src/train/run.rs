//! The run: steps, learning rate, gradients.

mod checkpoint;
mod examples;
mod held_out;
mod initial;
mod learning;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use self::learning::Learnt;
#[cfg(test)]
pub(super) use self::learning::descend;
use super::adam::Adam;
use super::corpus::Corpus;
use super::net::Net;
use super::sizes::Sizes;
use super::teacher::Teacher;
use super::{TrainError, export};
use crate::model::HeadForm;
use crate::model::weights::Weights;
use crate::tree::TokenId;

/// How a head is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// What is trained.
    #[serde(default)]
    pub form: HeadForm,
    /// Steps of the optimiser.
    pub steps: usize,
    /// The largest learning rate.
    pub rate: f64,
    /// Steps until it is reached.
    pub warm_up: usize,
    /// Depths that are unrolled.
    pub depths: usize,
    /// Rows of the output.
    pub vocab: usize,
    /// Longest piece of a text, in tokens.
    pub window: usize,
    /// Texts in a step.
    pub batch: usize,
    /// What an entry of the prompt counts, one of the answer counting 1.
    pub prompt_weight: f32,
    /// What the regression of the head's state on the target's fused one counts.
    pub regression: f64,
    /// Largest norm of the gradients.
    pub clip: f64,
    /// Texts held out: one in so many.
    pub held_out: usize,
    /// Steps between two measurements on texts that were held out, and between two checkpoints.
    pub every: usize,
    /// Seed of order and initial weights.
    pub seed: u64,
    /// Threads, each with a text of its own.
    pub threads: usize,
}

impl Options {
    /// Of the layers behind which the corpus has hidden states those that the head reads: an adapter the first.
    fn read<'a>(&self, after: &'a [usize]) -> &'a [usize] {
        match self.form {
            HeadForm::Eagle => after,
            HeadForm::Adapter => &after[..1],
        }
    }
}

/// Figures of the texts held out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Cross-entropy to the target's law, in nats a token, by depth from 1.
    pub loss: Vec<f64>,
    /// How often the head's most probable token is the target's, by depth from 1, given that it was at all depths before.
    pub acceptance: Vec<f64>,
    /// Mean length of the run of such tokens from depth 1 on: what a chain of this many nodes would have had accepted, greedy.
    pub accepted: f64,
}

/// What is told of a step.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Steps made.
    pub step: usize,
    /// Steps to make.
    pub steps: usize,
    /// Mean loss of the step, in nats a token, over all depths.
    pub loss: f64,
    /// Learning rate.
    pub rate: f64,
    /// Norm of the gradients before they were clipped.
    pub norm: f64,
    /// Tokens read so far.
    pub tokens: usize,
    /// Seconds of training so far, those of earlier runs that it goes on from included.
    pub seconds: f64,
    /// Figures of the texts held out, where they were measured after this step.
    pub held_out: Option<Figures>,
}

/// What a head is trained for, and from.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    /// The target.
    pub target: &'a Weights,
    /// The head to go on from; without one it begins as the target's last layer, an adapter as the layer after its exit.
    pub head: Option<&'a Weights>,
    /// Behind so many layers each the corpus has hidden states; an adapter reads the first of them.
    pub after: &'a [usize],
    /// The target on a GPU, which trains the head there; without one it is trained on this machine's cores, by what the corpus has of
    /// hidden states and laws.
    pub teacher: Option<&'a Teacher>,
}

/// A run.
struct Run<'a> {
    options: Options,
    corpus: &'a mut Corpus,
    after: Vec<usize>,
    teacher: Option<&'a Teacher>,
    net: Net,
    adam: Adam,
    /// Row of the output of each token of the target; none for those without.
    rows: Vec<Option<u32>>,
    tokens: Vec<TokenId>,
    embedding: Vec<f32>,
    step: usize,
    tokens_read: usize,
    seconds: f64,
    checkpoint: PathBuf,
}

/// Trains a head on `corpus`, from the checkpoint at `folder` on if there is one, and writes it to `out` at each checkpoint. `tell` hears of every step and says whether to go on.
///
/// # Errors
/// See [`TrainError`]; the last good checkpoint is kept.
pub fn train(
    corpus: &mut Corpus,
    start: Start<'_>,
    options: Options,
    folder: &Path,
    out: &Path,
    tell: &mut dyn FnMut(&Report) -> bool,
) -> Result<(), TrainError> {
    // Of each form one, so that both can be trained on the same texts.
    let checkpoint = match options.form {
        HeadForm::Eagle => "checkpoint.safetensors",
        HeadForm::Adapter => "adapter-checkpoint.safetensors",
    };
    let mut run = Run::begin(corpus, start, options, &folder.join(checkpoint))?;
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
    fn begin(corpus: &'a mut Corpus, start: Start<'a>, options: Options, checkpoint: &Path) -> Result<Run<'a>, TrainError> {
        let Start { target, head, after, teacher } = start;
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
            net: Net { sizes: Sizes::of(options.form, config, options.vocab.min(config.vocab), read), vars: BTreeMap::new() },
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
        if !run.resume()? {
            match head {
                Some(head) => run.begin_as(head, target)?,
                None => {
                    run.choose_tokens()?;
                    run.initialise(target)?;
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

    fn advance(&mut self) -> Result<Report, TrainError> {
        let began = Instant::now();
        let rate = self.rate();
        let examples = self.examples(&self.batch(), false)?;
        self.tokens_read += examples.iter().flat_map(|example| &example.lens).sum::<usize>();
        let Learnt { loss, counted, grads } = self.learn(&examples)?;
        if !loss.is_finite() {
            return Err(TrainError::Diverged { step: self.step });
        }
        let norm = self.adam.step(&self.net.vars, grads, rate, self.options.clip)?;
        if !norm.is_finite() {
            return Err(TrainError::Diverged { step: self.step });
        }
        self.step += 1;
        self.seconds += began.elapsed().as_secs_f64();
        let measured = self.step.is_multiple_of(self.options.every) || self.step == self.options.steps;
        let held_out = if measured { Some(self.held_out()?) } else { None };
        Ok(Report {
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

    /// Where the head is.
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

    /// Writes the checkpoint, and the head as it is now.
    fn write(&self, out: &Path) -> Result<(), TrainError> {
        self.keep()?;
        export::write(out, &self.net, &self.tokens, self.options.read(&self.after), &self.card())
    }
}
