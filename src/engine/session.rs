//! Session: one target, its drafters and the text they generate.
//!
//! A step drafts a tree, verifies it in one pass of the target, commits the accepted path and
//! returns a [`StepRecord`].

use std::sync::Arc;
use std::time::Instant;

use super::budget::BudgetPolicy;
use super::ceilings::CeilingTracker;
use super::outcome::{VerifyOutcome, cut_nodes, describe_miss, evaluate_pass};
use super::settings::BadSetting;
use super::step_search::PastStep;
use super::vocabulary::{TextStream, Vocabulary};
use crate::distribution::{NotFinite, Sampling};
use crate::draft::shape::{Limits, grow, grow_sampled};
use crate::draft::{
    Calibration, Context, Draft, DraftError, Drafter, Planner, Shape, VerifyFeedback,
};
use crate::model::{Decoder, ForwardError, Logits, Node, Pass};
use crate::telemetry::{Ending, FluidBound, StageTimes, StepRecord, StepSettings, TreeRecord};
use crate::theory::cost::CostCurve;
use crate::theory::pass_times::PassTimes;
use crate::theory::pool::Pool;
use crate::tree::TokenId;
use crate::verify::TextRandom;

/// Tokens per pass while a prompt is read.
const PREFILL: usize = 256;
/// First index, among the random numbers of a step's start, used for sampling drafts.
///
/// Smaller indices decide what is accepted.
const DRAFTING: usize = 1 << 20;
/// Index of the random number, at position 0, that places the oracle searches.
const SEARCHING: usize = 1 << 21;

/// Error that keeps a text from starting or continuing.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The prompt has no token.
    #[error("the prompt is empty: give at least one token of text")]
    EmptyPrompt,
    /// The prompt leaves no room for a generated token.
    #[error(
        "the prompt has {tokens} tokens, and the context holds {context}: one must be left for the answer"
    )]
    LongPrompt {
        /// Length of the prompt in tokens.
        tokens: usize,
        /// Length of the context in tokens.
        context: usize,
    },
    /// A setting is out of range or unavailable.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// The forward pass of the target failed.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// The logits of the target hold NaN or give no distribution.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// The drafter returned an error.
    #[error("the drafter {name} failed: {source}")]
    Draft {
        /// Name of the drafter that failed.
        name: &'static str,
        /// Underlying error of the drafter.
        source: DraftError,
    },
}

/// Text that is being generated.
struct Text {
    id: String,
    draws: TextRandom,
    /// Prompt and output, the pending token last.
    ///
    /// All but the pending token are in the target's cache.
    tokens: Vec<TokenId>,
    /// Length in tokens, prompt included, at which the text ends.
    end: usize,
    /// Set if the context limits `end`, rather than the requested number of tokens.
    end_is_context: bool,
    step: usize,
    /// Set if the same text was generated before, so that it adds no new statistics.
    repeated: bool,
    /// Steps made so far, kept for oracle searches.
    past: Vec<PastStep>,
    stream: TextStream,
    ending: Option<Ending>,
}

/// Target model, the drafters available for it, and the text they generate.
pub struct Session {
    pub(super) target: Box<dyn Decoder>,
    drafters: Vec<Box<dyn Drafter>>,
    drafter: usize,
    shape: Shape,
    pub(super) warp: Sampling,
    settings: StepSettings,
    vocabulary: Arc<Vocabulary>,
    observed: CeilingTracker,
    /// Sink for distributions that must not enter `observed`.
    ///
    /// These come from passes that are only timed, and from repeated texts.
    pub(super) timing: CeilingTracker,
    /// Calibration of the drafter's q under the present sampling parameters.
    known: Calibration,
    /// Planner of the `static` tree shape.
    planner: Planner,
    budget: BudgetPolicy,
    text: Option<Text>,
    /// Size of the last step's verified tree, root included.
    last_size: usize,
}

impl Session {
    /// Creates a session without a text.
    ///
    /// # Errors
    /// If a setting is out of range or names a drafter that is not among `drafters`.
    pub fn new(
        target: Box<dyn Decoder>,
        drafters: Vec<Box<dyn Drafter>>,
        vocabulary: Arc<Vocabulary>,
        settings: StepSettings,
    ) -> Result<Self, BadSetting> {
        let mut session = Session {
            target,
            drafters,
            drafter: 0,
            shape: Shape::Chain,
            warp: settings.warp(),
            settings: settings.clone(),
            vocabulary,
            observed: CeilingTracker::new(&settings.warp()),
            timing: CeilingTracker::new(&settings.warp()),
            known: Calibration::default(),
            planner: Planner::default(),
            budget: BudgetPolicy::default(),
            text: None,
            last_size: 1,
        };
        session.set(settings)?;
        Ok(session)
    }

    /// Returns the name of each drafter, and the cost of a draft in words.
    pub fn drafters(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        self.drafters.iter().map(|d| (d.name(), d.cost()))
    }

    /// Returns the settings of the next step.
    pub fn settings(&self) -> &StepSettings {
        &self.settings
    }

    /// Applies settings from the next step on, even within a text.
    ///
    /// Running means start over if the sampling parameters changed.
    ///
    /// # Errors
    /// If a setting is out of range or the drafter unknown; the previous settings then stay in
    /// force.
    pub fn set(&mut self, settings: StepSettings) -> Result<(), BadSetting> {
        let shape = settings.check()?;
        let drafter =
            self.drafters.iter().position(|d| d.name() == settings.drafter).ok_or_else(|| {
                if settings.drafter == "model" {
                    return BadSetting::NoDraftModel;
                }
                if settings.drafter == "eagle" {
                    return BadSetting::NoHead;
                }
                let names: Vec<_> = self.drafters.iter().map(|d| d.name()).collect();
                BadSetting::Value(format!(
                    "there is no drafter {:?} in this run: give one of {}",
                    settings.drafter,
                    names.join(", ")
                ))
            })?;
        if drafter != self.drafter {
            // The drafter may have seen another text, or only an earlier part of this one. `begin`
            // passes it the whole text.
            self.drafters[drafter].reset();
        }
        let changed = settings.warp() != self.warp
            || drafter != self.drafter
            || settings.verify != self.settings.verify;
        if changed {
            (self.known, self.planner) = Default::default();
            self.budget.begin(self.drafters[drafter].frugal());
        }
        if settings.warp() != self.warp {
            (self.observed, self.timing) =
                (CeilingTracker::new(&settings.warp()), CeilingTracker::new(&settings.warp()));
        } else if (StepSettings { seed: self.settings.seed, ..settings.clone() }) != self.settings {
            self.observed.begin();
        }
        if let Some(text) = self.text.as_mut().filter(|_| settings != self.settings) {
            text.repeated = false;
        }
        if let Some(text) = self.text.as_mut().filter(|_| settings.seed != self.settings.seed) {
            text.draws = TextRandom::new(settings.seed, &text.id);
        }
        self.drafters[drafter].drawn(settings.samples_trees());
        (self.drafter, self.shape, self.warp) = (drafter, shape, settings.warp());
        self.settings = settings;
        Ok(())
    }

    /// Returns the maximum length of a text in tokens, prompt included.
    pub fn context(&self) -> usize {
        self.target.config().context.min(self.target.capacity())
    }

    /// Returns the reason why the text ended, or `None` while it goes on.
    ///
    /// Also `None` before the first text.
    pub fn ending(&self) -> Option<Ending> {
        self.text.as_ref().and_then(|text| text.ending)
    }

    /// Marks the current text as a repetition under the same settings.
    ///
    /// Its steps then count in no mean but that of the speed.
    pub(super) fn mark_repeated(&mut self) {
        if let Some(text) = &mut self.text {
            text.repeated = true;
        }
    }

    /// Returns true if the oracle tree of this step is to be searched.
    ///
    /// This selects one step in `every`, at an offset within each text that the seed determines:
    /// the first steps of a text are easier than the average.
    pub(crate) fn is_searched(&self, step: usize, every: usize) -> bool {
        let offset = |text: &Text| (text.draws.nth_uniform(0, SEARCHING) * every as f64) as usize;
        every > 0
            && self.text.as_ref().is_some_and(|text| step % every == offset(text).min(every - 1))
    }

    /// Returns all tokens of the text, the prompt first; empty before the first text.
    pub fn tokens(&self) -> &[TokenId] {
        self.text.as_ref().map_or(&[], |text| &text.tokens)
    }

    /// Checks that a prompt of `tokens` tokens fits the context.
    ///
    /// # Errors
    /// If it is empty, or leaves no room for a generated token: names both lengths.
    pub fn check_prompt_length(&self, tokens: usize) -> Result<(), SessionError> {
        let context = self.context();
        match tokens {
            0 => Err(SessionError::EmptyPrompt),
            _ if tokens >= context => Err(SessionError::LongPrompt { tokens, context }),
            _ => Ok(()),
        }
    }

    /// Starts a new text after `prompt`, of at most `max_tokens` generated tokens.
    ///
    /// Reads the prompt into the target's cache and shows it to the drafter. `id` and the seed fix
    /// the random numbers.
    ///
    /// # Errors
    /// If the prompt is empty or too long, or a forward fails. The session then has no text.
    pub fn start(
        &mut self,
        id: &str,
        prompt: &[TokenId],
        max_tokens: usize,
    ) -> Result<(), SessionError> {
        self.text = None;
        self.check_prompt_length(prompt.len())?;
        let (context, read) = (self.context(), &prompt[..prompt.len() - 1]);
        self.target.truncate(0);
        self.target.prefill(read, PREFILL, Logits::None)?;
        let asked = prompt.len().saturating_add(max_tokens);
        let mut text = Text {
            id: id.to_owned(),
            draws: TextRandom::new(self.settings.seed, id),
            tokens: prompt.to_vec(),
            end: asked.min(context),
            end_is_context: context < asked,
            step: 0,
            repeated: false,
            past: Vec::new(),
            stream: TextStream::default(),
            ending: (max_tokens == 0).then_some(Ending::Length),
        };
        text.tokens.reserve(text.end - prompt.len());
        let drafter = &mut self.drafters[self.drafter];
        drafter.reset();
        // Lets the drafter read the prompt here, so that its time isn't counted as drafting in the
        // first step. The cost model is unset, since a drafter in back-off would defer reading to a
        // later step.
        drafter.worth(None);
        let mut cx = Context {
            tokens: &text.tokens,
            target: &mut *self.target,
            warp: &self.warp,
            stop: self.vocabulary.stop(),
        };
        let begun = drafter.begin(&mut cx);
        drafter.end(&mut cx);
        begun.map_err(|source| SessionError::Draft { name: drafter.name(), source })?;
        self.text = Some(text);
        Ok(())
    }

    /// Makes one step: drafts, verifies, accepts and commits.
    ///
    /// Returns `None` if there is no text or it has ended.
    ///
    /// # Errors
    /// If a forward or the drafter fails. The text is then as before the step.
    pub fn step(&mut self) -> Result<Option<StepRecord>, SessionError> {
        let Some(text) = self.text.as_mut().filter(|text| text.ending.is_none()) else {
            return Ok(None);
        };
        let stop = self.vocabulary.stop();
        let began = Instant::now();

        // The last drafted token still needs a bonus token after it, and both must lie before the
        // end.
        let room = self.target.capacity() - self.target.len();
        let most = self.settings.budget.min(room);
        let drafter = &mut *self.drafters[self.drafter];
        let promises = || self.planner.promises(self.shape, most).to_vec();
        let asked = self.budget.request(&self.settings, most, drafter.frugal(), promises);
        let limits =
            Limits { budget: asked.tokens.unwrap_or(1), depth: text.end - text.tokens.len() - 1 };
        drafter.worth(asked.cost_model);
        let mut cx =
            Context { tokens: &text.tokens, target: &mut *self.target, warp: &self.warp, stop };
        let mut draft = match (asked.tokens, cx.tokens.last()) {
            (None, Some(&root)) => Draft::root_only(root),
            _ => {
                let plan = self.planner.plan(self.shape, limits.budget.saturating_sub(1));
                let grown = if self.settings.samples_trees() {
                    let (draws, position) = (&text.draws, cx.tokens.len());
                    let mut numbers = DRAFTING..;
                    let mut draw =
                        || numbers.next().map_or(0.0, |n| draws.nth_uniform(position, n));
                    grow_sampled(
                        self.shape,
                        drafter,
                        &mut cx,
                        limits,
                        plan,
                        (self.settings.verify, &mut draw),
                    )
                } else {
                    grow(self.shape, drafter, &mut cx, limits, plan)
                };
                grown.map_err(|source| SessionError::Draft { name: drafter.name(), source })?
            }
        };
        if asked.cost_model.is_some() && drafter.costly() {
            draft.clear_unanswered();
        }
        let drafting = began.elapsed().as_secs_f64();
        let choice = self.budget.choose(&asked, &self.known, &mut draft, drafting);
        let drafted = Instant::now();
        let calibrated = self.known.calibrate_tree(&draft.tree);
        let origins = drafter.origins(&draft.tree);

        let tree = &draft.tree;
        self.target.append(&Node::of_tree(tree), Pass::FULL)?;
        let verified = Instant::now();

        let position = text.tokens.len();
        let observed = if text.repeated { &mut self.timing } else { &mut self.observed };
        let seen = evaluate_pass(&*self.target, self.warp, &draft, &text.draws, position, observed);
        let VerifyOutcome {
            verdict,
            tree: tree_record,
            entropy,
            expected_accepted,
            bonus_rank,
            left_out: left,
            chances,
            overlap,
            rule_ceiling,
            target_best,
        } = match seen {
            Ok(seen) => seen,
            Err(error) => {
                self.target.discard();
                return Err(error);
            }
        };
        let slots: Vec<usize> = std::iter::once(0).chain(verdict.path.iter().copied()).collect();
        self.target.commit(&slots)?;

        let bonus = verdict.bonus();
        text.tokens.extend_from_slice(&verdict.emitted);
        text.ending = if stop.contains(&bonus) {
            Some(Ending::Stop)
        } else if text.tokens.len() >= text.end {
            Some(if text.end_is_context { Ending::Context } else { Ending::Length })
        } else {
            None
        };
        let vocabulary = &self.vocabulary;
        let mut emitted_text = Vec::with_capacity(verdict.emitted.len());
        for token in &verdict.emitted {
            // A stop token ends the text and adds nothing to it.
            emitted_text.push(if stop.contains(token) {
                String::new()
            } else {
                text.stream.push(vocabulary.bytes(*token))
            });
        }
        if text.ending.is_some()
            && let Some(last) = emitted_text.last_mut()
        {
            last.push_str(&text.stream.finish());
        }
        let (mu, mu2) = self.observed.moments();
        let size = self.settings.ceiling_size(tree.len());
        let (ceilings, reached) =
            self.observed.end_step(expected_accepted, size, &self.settings, !text.repeated);
        let mut record = StepRecord {
            prompt_id: text.id.clone(),
            step: text.step,
            repeated: text.repeated,
            position,
            settings: self.settings.clone(),
            choice,
            tree: TreeRecord {
                text: tree.tokens().iter().map(|&t| vocabulary.text(t)).collect(),
                calibrated,
                origin: origins
                    .into_iter()
                    .enumerate()
                    .map(|(i, member)| (i > 0).then_some(member))
                    .collect(),
                members: drafter.members().into_iter().map(str::to_owned).collect(),
                cut: cut_nodes(&draft, vocabulary),
                ..tree_record
            },
            accepted: verdict.path.len(),
            bonus,
            bonus_text: vocabulary.text(bonus),
            bonus_rank,
            bonus_q: draft.cut_q(verdict.last_accepted(), bonus),
            overlap,
            rule_ceiling,
            path: verdict.path,
            emitted: verdict.emitted,
            emitted_text,
            expected_accepted,
            capacity: None,
            notice: drafter.notice(),
            miss: None,
            entropy,
            time: StageTimes::default(),
            mu,
            mu2,
            ceilings,
            reached,
        };
        record.capacity = record.used_capacity();
        let nothing_on_purpose =
            most <= 1 || asked.tokens.is_none() || self.settings.drafter == "none";
        if !nothing_on_purpose && text.ending.is_none() {
            let outside = !drafter.can_propose(bonus);
            record.miss = Some(describe_miss(&record, &draft, &target_best, outside, vocabulary));
        }
        text.past.push(PastStep {
            position,
            settings: record.settings.clone(),
            limits: Limits {
                budget: if self.settings.automatic() { tree.len() } else { most },
                ..limits
            },
            expected: expected_accepted,
            best: self.shape == Shape::BestFirst
                && asked.tokens == Some(most)
                && record.choice.is_none(),
        });
        text.step += 1;
        self.last_size = tree.len();
        let shown = VerifyFeedback::new(tree, &record.tree.p, &left);
        drafter.learn(&shown);
        if self.settings.samples_trees() {
            self.planner.learn_sampled(chances.into_iter());
        } else {
            self.planner.learn(&draft, &record.tree.p, &record.path, bonus);
        }
        self.known.learn(shown.observations());
        record.time = StageTimes {
            draft: (drafted - began).as_secs_f64(),
            verify: (verified - drafted).as_secs_f64(),
            other: verified.elapsed().as_secs_f64(),
        };
        self.budget.learn(&asked, &record, &draft);
        Ok(Some(record))
    }

    /// Drafts and verifies as the next step will, and forgets the result.
    ///
    /// The tree has the size of the last step's. Leaves no trace in cache, text, or statistics.
    ///
    /// # Errors
    /// If a forward or the drafter fails.
    pub(super) fn rehearse(&mut self) -> Result<(), SessionError> {
        let Some(text) = self.text.as_mut().filter(|text| text.ending.is_none()) else {
            return Ok(());
        };
        let Some(&root) = text.tokens.last() else { return Ok(()) };
        let room = self.target.capacity() - self.target.len();
        let depth = text.end - text.tokens.len() - 1;
        let limits = Limits { budget: self.last_size.min(room), depth };
        if limits.budget == 0 {
            return Ok(());
        }
        let drafter = &mut *self.drafters[self.drafter];
        let stop = self.vocabulary.stop();
        let mut cx =
            Context { tokens: &text.tokens, target: &mut *self.target, warp: &self.warp, stop };
        // Another process would draft in vain.
        let draft = if limits.budget == 1 || self.settings.drafter == "external" {
            Draft::root_only(root)
        } else {
            // The planner keeps its plan for the step's own size.
            let mut planner = self.planner.clone();
            let plan = planner.plan(self.shape, limits.budget - 1);
            grow(self.shape, drafter, &mut cx, limits, plan)
                .map_err(|source| SessionError::Draft { name: drafter.name(), source })?
        };
        let ran = self.target.append(&Node::of_tree(&draft.tree), Pass::FULL);
        self.target.discard();
        Ok(ran?)
    }

    /// Returns the fluid bound for every budget, if a new report is due.
    ///
    /// `now` makes any new position sufficient. ExclusiveAccepts a few milliseconds. Returns `None` for
    /// sampled trees, for which the bound doesn't hold.
    pub fn fluid(&mut self, now: bool) -> Option<FluidBound> {
        if self.settings.samples_trees() {
            None
        } else {
            self.observed.full_report(self.settings.budget, now)
        }
    }

    /// Takes the pool of distributions observed since the last call.
    ///
    /// The pool also starts over when the sampling parameters change. The ceilings start over with
    /// it.
    pub fn take_pool(&mut self) -> Pool {
        std::mem::replace(&mut self.observed, CeilingTracker::new(&self.warp)).into_pool()
    }

    /// Returns the prompt's id, the tokens before step `step`, and its saved state.
    ///
    /// The root of the step is the last of the tokens. Returns `None` if the current text has no
    /// such step.
    pub(super) fn past_step(&self, step: usize) -> Option<(&str, &[TokenId], &PastStep)> {
        let text = self.text.as_ref()?;
        let past = text.past.get(step)?;
        Some((&text.id, text.tokens.get(..past.position)?, past))
    }

    /// Returns the drafter called `name`.
    pub(super) fn drafter_named(&self, name: &str) -> Option<&dyn Drafter> {
        self.drafters.iter().find(|d| d.name() == name).map(|d| &**d)
    }

    /// Returns the random numbers of the current text, and its length in tokens.
    ///
    /// Returns `None` before the first text.
    pub(super) fn draws(&self) -> Option<(TextRandom, usize)> {
        self.text.as_ref().map(|text| (text.draws.clone(), text.tokens.len()))
    }

    pub(super) fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    /// Sets the cost of verify passes from an earlier measurement.
    ///
    /// The automatic budget uses it at once, and later passes refine it.
    pub fn set_cost(&mut self, cost: CostCurve) {
        self.budget.set_times(PassTimes::from_cost(cost));
    }

    /// Sets a cost of verify passes that later passes don't change.
    #[cfg(test)]
    pub fn hold_cost(&mut self, cost: CostCurve) {
        self.set_cost(cost);
        self.budget.held = true;
    }

    /// Replaces the measured pass times.
    pub(super) fn set_times(&mut self, times: PassTimes) {
        self.budget.set_times(times);
    }

    /// Sets the seconds per step of plain decoding, the baseline of the automatic budget.
    pub(super) fn set_plain(&mut self, seconds: f64) {
        self.budget.set_plain(seconds);
    }

    /// Returns the measured pass times, if any.
    pub(super) fn times(&mut self) -> Option<&mut PassTimes> {
        self.budget.times()
    }

    /// Returns the cost of verify passes, if known.
    pub fn cost(&self) -> Option<&CostCurve> {
        self.budget.cost()
    }
}
