//! Session: one target, its drafters and the text they generate.
//!
//! A step drafts a tree, verifies it in one pass of the target, commits the accepted path and
//! returns a [`StepRecord`].

use std::sync::Arc;
use std::time::Instant;

use super::budget::{BudgetPolicy, BudgetRequest};
use super::ceilings::{CeilingTracker, FluidReport};
use super::error::SessionError;
use super::outcome::{VerifyOutcome, cut_nodes, describe_miss, evaluate_pass};
use super::past_step::{PastContext, PastStep};
use super::settings::BadSetting;
use super::vocabulary::{TextStream, Vocabulary};
use crate::draft::shape::{grow, grow_sampled};
use crate::draft::{
    Calibration, ChildSampler, CostModel, Draft, DraftError, DraftRequest, Drafter, DrafterInfo,
    DrafterKind, Limits, Plan, Planner, Shape, VerifyFeedback,
};
use crate::model::{Decoder, Logits, Node, Pass};
use crate::telemetry::{
    BudgetChoice, Ending, FluidBound, Miss, StageTimes, StepRecord, StepSettings, TreeRecord,
};
use crate::theory::cost::CostCurve;
use crate::theory::pass_times::PassTimes;
use crate::theory::pool::SurprisalPool;
use crate::tree::TokenId;
use crate::verify::{TextRandom, Verdict};

/// Tokens per pass while a prompt is read.
const PREFILL: usize = 256;
/// First index, among the random numbers of a step's start, used for sampling drafts.
///
/// Smaller indices decide what is accepted.
const DRAFTING: usize = 1 << 20;
/// Index of the random number, at position 0, that places the oracle searches.
const SEARCHING: usize = 1 << 21;

/// Text that is being generated.
struct TextState {
    id: String,
    random: TextRandom,
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

impl TextState {
    /// Returns the maximum depth of a drafted token.
    ///
    /// The last drafted token still needs a bonus token after it, and both must lie before the end.
    fn max_depth(&self) -> usize {
        self.end - self.tokens.len() - 1
    }

    /// Appends emitted tokens, and ends the text if the last of them does.
    ///
    /// Returns the text of each token.
    fn extend(&mut self, emitted: &[TokenId], vocabulary: &Vocabulary) -> Vec<String> {
        let stop = vocabulary.stop();
        self.tokens.extend_from_slice(emitted);
        self.ending = if emitted.last().is_some_and(|last| stop.contains(last)) {
            Some(Ending::Stop)
        } else if self.tokens.len() >= self.end {
            Some(if self.end_is_context { Ending::Context } else { Ending::Length })
        } else {
            None
        };
        let mut texts = Vec::with_capacity(emitted.len());
        for token in emitted {
            // A stop token ends the text and adds nothing to it.
            texts.push(if stop.contains(token) {
                String::new()
            } else {
                self.stream.push(vocabulary.bytes(*token))
            });
        }
        if self.ending.is_some()
            && let Some(last) = texts.last_mut()
        {
            last.push_str(&self.stream.finish());
        }
        texts
    }
}

/// Draft of one step, with the decisions that led to it.
struct StepDraft {
    draft: Draft,
    /// Length of the text in tokens before the step, root included.
    position: usize,
    /// Largest tree that the settings and the context allow, in tokens.
    max_tokens: usize,
    /// Limits that the drafter got.
    limits: Limits,
    /// Request by the budget policy.
    budget: BudgetRequest,
    /// Size chosen by an automatic budget.
    choice: Option<BudgetChoice>,
}

/// Request of a draft that allows no node yet and has no cost model.
fn draft_request<'a>(
    tokens: &'a [TokenId],
    target: &'a mut dyn Decoder,
    vocabulary: &'a Vocabulary,
    settings: &StepSettings,
) -> DraftRequest<'a> {
    DraftRequest {
        sampling: settings.sampling(),
        stop: vocabulary.stop(),
        sampled: settings.samples_trees(),
        ..DraftRequest::new(tokens, target)
    }
}

/// Grows the tree of a step, with sampled children if the settings require it.
fn grow_step(
    drafter: &mut dyn Drafter,
    request: &mut DraftRequest,
    settings: &StepSettings,
    plan: &Plan,
    random: &TextRandom,
) -> Result<Draft, DraftError> {
    if !request.sampled {
        return grow(settings.shape, drafter, request, plan);
    }
    let (position, mut numbers) = (request.tokens.len(), DRAFTING..);
    let mut draw = || numbers.next().map_or(0.0, |n| random.nth_uniform(position, n));
    let sampler = ChildSampler { rule: settings.verify, draw: &mut draw };
    grow_sampled(settings.shape, drafter, request, plan, sampler)
}

/// Drafter of a session, with its description.
struct AvailableDrafter {
    info: DrafterInfo,
    drafter: Box<dyn Drafter>,
}

/// Target model, the drafters available for it, and the text they generate.
///
/// # Examples
/// ```
/// use std::sync::Arc;
///
/// use speclight::draft::{Ngram, Shape};
/// use speclight::engine::{Session, Vocabulary};
/// use speclight::model::Config;
/// use speclight::model::cpu::{CpuDecoder, Llama};
/// use speclight::model::format::quant::TensorFormat;
/// use speclight::model::format::weights::Weights;
/// use speclight::telemetry::StepSettings;
///
/// // A tiny model of random weights. `Model::open` loads a real one.
/// let config = Config {
///     dim: 96,
///     ffn: 160,
///     layers: 3,
///     heads: 6,
///     kv_heads: 2,
///     head_dim: 16,
///     vocab: 64,
///     context: 256,
///     eps: 1e-5,
///     rope_base: 1e4,
///     rope_scaling: None,
/// };
/// let weights = Weights::random(config, TensorFormat::Q4_1, true, 5)?;
/// let target = CpuDecoder::new(Arc::new(Llama::load(&weights, 1)?), 256);
///
/// let bytes = (b' '..b' ' + 64).map(|byte| Box::from([byte])).collect();
/// let vocabulary = Arc::new(Vocabulary::new(bytes, Vec::new()));
/// let settings = StepSettings::new("ngram", Shape::BestFirst, 8, 0.0);
/// let mut session =
///     Session::new(Box::new(target), vec![Box::new(Ngram::default())], vocabulary, settings)?;
///
/// session.start("0", &[1, 2, 3, 1, 2], 20)?;
/// while let Some(record) = session.step()? {
///     // The accepted tokens, and the bonus token that the target samples after them.
///     assert_eq!(record.emitted.len(), record.accepted + 1);
/// }
/// assert_eq!(session.tokens().len(), 5 + 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Session {
    pub(super) target: Box<dyn Decoder>,
    drafters: Vec<AvailableDrafter>,
    /// Index of the drafter in use.
    drafter: usize,
    /// Cost model of the last step.
    cost_model: Option<CostModel>,
    settings: StepSettings,
    vocabulary: Arc<Vocabulary>,
    observed: CeilingTracker,
    /// Sink for distributions that must not enter `observed`.
    ///
    /// These come from passes that are only timed, and from repeated texts.
    pub(super) timing: CeilingTracker,
    /// Calibration of the drafter's q under the present sampling parameters.
    calibration: Calibration,
    /// Planner of the `static` tree shape.
    planner: Planner,
    budget: BudgetPolicy,
    text: Option<TextState>,
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
        let drafters = drafters
            .into_iter()
            .map(|drafter| AvailableDrafter { info: drafter.info(), drafter })
            .collect();
        let mut session = Session {
            target,
            drafters,
            drafter: 0,
            cost_model: None,
            settings: settings.clone(),
            vocabulary,
            observed: CeilingTracker::new(&settings.sampling()),
            timing: CeilingTracker::new(&settings.sampling()),
            calibration: Calibration::default(),
            planner: Planner::default(),
            budget: BudgetPolicy::default(),
            text: None,
            last_size: 1,
        };
        session.set(settings)?;
        Ok(session)
    }

    /// Returns the descriptions of all drafters.
    pub fn drafters(&self) -> impl Iterator<Item = &DrafterInfo> + '_ {
        self.drafters.iter().map(|available| &available.info)
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
        settings.check()?;
        let drafter = self.find_drafter(&settings.drafter)?;
        if drafter != self.drafter {
            // The drafter may have seen another text, or only an earlier part of this one. `begin`
            // passes it the whole text.
            self.drafters[drafter].drafter.reset();
        }
        let resampled = settings.sampling() != self.settings.sampling();
        let changed =
            resampled || drafter != self.drafter || settings.verify != self.settings.verify;
        if changed {
            (self.calibration, self.planner) = Default::default();
            self.budget.begin(self.drafters[drafter].info.model_use);
        }
        if resampled {
            (self.observed, self.timing) = (
                CeilingTracker::new(&settings.sampling()),
                CeilingTracker::new(&settings.sampling()),
            );
        } else if (StepSettings { seed: self.settings.seed, ..settings.clone() }) != self.settings {
            self.observed.begin();
        }
        if let Some(text) = self.text.as_mut().filter(|_| settings != self.settings) {
            text.repeated = false;
        }
        if let Some(text) = self.text.as_mut().filter(|_| settings.seed != self.settings.seed) {
            text.random = TextRandom::new(settings.seed, &text.id);
        }
        (self.drafter, self.settings) = (drafter, settings);
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
        let offset =
            |text: &TextState| (text.random.nth_uniform(0, SEARCHING) * every as f64) as usize;
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
        let end = prompt.len().saturating_add(max_tokens);
        let mut text = TextState {
            id: id.to_owned(),
            random: TextRandom::new(self.settings.seed, id),
            tokens: prompt.to_vec(),
            end: end.min(context),
            end_is_context: context < end,
            step: 0,
            repeated: false,
            past: Vec::new(),
            stream: TextStream::default(),
            ending: (max_tokens == 0).then_some(Ending::Length),
        };
        text.tokens.reserve(text.end - prompt.len());
        let AvailableDrafter { info, drafter } = &mut self.drafters[self.drafter];
        drafter.reset();
        // Lets the drafter read the prompt here, so that its time isn't counted as drafting in the
        // first step. There is no cost model, since a drafter in back-off would defer reading to a
        // later step.
        self.cost_model = None;
        let mut request =
            draft_request(&text.tokens, &mut *self.target, &self.vocabulary, &self.settings);
        let begun = drafter.begin(&mut request);
        drafter.end(&mut request);
        begun.map_err(|source| SessionError::Draft { kind: info.kind.clone(), source })?;
        self.text = Some(text);
        Ok(())
    }

    /// Makes one step: drafts, verifies, commits, records and learns.
    ///
    /// Returns `None` if there is no text or it has ended.
    ///
    /// # Errors
    /// If a forward or the drafter fails. The text is then as before the step.
    pub fn step(&mut self) -> Result<Option<StepRecord>, SessionError> {
        let Some(mut text) = self.text.take() else { return Ok(None) };
        let made = match text.ending {
            None => self.step_text(&mut text).map(Some),
            Some(_) => Ok(None),
        };
        self.text = Some(text);
        made
    }

    /// Makes one step of a text that goes on.
    fn step_text(&mut self, text: &mut TextState) -> Result<StepRecord, SessionError> {
        let began = Instant::now();
        let drafted = self.draft(text, began)?;
        let draft_end = Instant::now();
        self.target.append(&Node::of_tree(&drafted.draft.tree), Pass::FULL)?;
        let pass_end = Instant::now();
        let mut outcome = self.verify(text, &drafted)?;
        let emitted_text = self.commit(text, &outcome.verdict)?;
        let tree = &drafted.draft.tree;
        let feedback = VerifyFeedback::new(tree, &outcome.tree.p, &outcome.left_out);
        let acceptances = std::mem::take(&mut outcome.child_acceptance);
        let mut record = self.record(text, &drafted, outcome, emitted_text);
        self.learn(&drafted.draft, &record, &feedback, acceptances);
        record.time = StageTimes {
            draft: (draft_end - began).as_secs_f64(),
            verify: (pass_end - draft_end).as_secs_f64(),
            other: pass_end.elapsed().as_secs_f64(),
        };
        self.budget.learn(&drafted.budget, &record, &drafted.draft);
        Ok(record)
    }

    /// Grows the tree to verify, and cuts it if the budget is automatic.
    ///
    /// `began` is when the step began.
    fn draft(&mut self, text: &TextState, began: Instant) -> Result<StepDraft, SessionError> {
        let max_tokens = self.settings.budget.min(self.target.capacity() - self.target.len());
        let AvailableDrafter { info, drafter } = &mut self.drafters[self.drafter];
        let shape = self.settings.shape;
        let yields = || self.planner.yield_estimates(shape, max_tokens).to_vec();
        let budget = self.budget.request(&self.settings, max_tokens, info.model_use, yields);
        let limits = Limits { budget: budget.tokens.unwrap_or(1), depth: text.max_depth() };
        self.cost_model = budget.cost_model;
        let mut request = DraftRequest {
            limits,
            cost_model: budget.cost_model,
            ..draft_request(&text.tokens, &mut *self.target, &self.vocabulary, &self.settings)
        };
        let mut draft = match (budget.tokens, text.tokens.last()) {
            (None, Some(&root)) => Draft::root_only(root),
            _ => {
                let plan = self.planner.plan(shape, limits.budget.saturating_sub(1));
                grow_step(&mut **drafter, &mut request, &self.settings, plan, &text.random)
                    .map_err(|source| SessionError::Draft { kind: info.kind.clone(), source })?
            }
        };
        if budget.cost_model.is_some() && info.runs_model() {
            draft.clear_unexpanded();
        }
        let seconds = began.elapsed().as_secs_f64();
        let choice = self.budget.choose(&budget, &self.calibration, &mut draft, seconds);
        Ok(StepDraft { draft, position: text.tokens.len(), max_tokens, limits, budget, choice })
    }

    /// Accepts or rejects the drafted tokens by the target's distributions of the last pass.
    fn verify(
        &mut self,
        text: &TextState,
        drafted: &StepDraft,
    ) -> Result<VerifyOutcome, SessionError> {
        let StepDraft { draft, position, .. } = drafted;
        let observed = if text.repeated { &mut self.timing } else { &mut self.observed };
        let sampling = self.settings.sampling();
        let outcome =
            evaluate_pass(&*self.target, sampling, draft, &text.random, *position, observed);
        outcome.inspect_err(|_| self.target.discard())
    }

    /// Keeps the accepted path in the target's cache, and extends the text.
    ///
    /// Returns the text of each emitted token.
    fn commit(
        &mut self,
        text: &mut TextState,
        verdict: &Verdict,
    ) -> Result<Vec<String>, SessionError> {
        let slots: Vec<usize> = std::iter::once(0).chain(verdict.path.iter().copied()).collect();
        self.target.commit(&slots)?;
        Ok(text.extend(&verdict.emitted, &self.vocabulary))
    }

    /// Describes the step in a record, which has no times yet.
    ///
    /// Also keeps what a later oracle search of the step needs.
    fn record(
        &mut self,
        text: &mut TextState,
        drafted: &StepDraft,
        outcome: VerifyOutcome,
        emitted_text: Vec<String>,
    ) -> StepRecord {
        let draft = &drafted.draft;
        let tree = self.tree_record(draft, outcome.tree);
        let (expected_accepted, verdict) = (outcome.expected_accepted, outcome.verdict);
        let bonus = verdict.bonus();
        let (mu, mu2) = self.observed.moments();
        let size = self.settings.ceiling_size(draft.tree.len());
        let (ceilings, reached) =
            self.observed.end_step(expected_accepted, size, &self.settings, !text.repeated);
        let mut record = StepRecord {
            prompt_id: text.id.clone(),
            step: text.step,
            repeated: text.repeated,
            position: drafted.position,
            settings: self.settings.clone(),
            choice: drafted.choice,
            tree,
            accepted: verdict.path.len(),
            bonus,
            bonus_text: self.vocabulary.text(bonus),
            bonus_rank: outcome.bonus_rank,
            bonus_q: draft.cut_q(verdict.last_accepted(), bonus),
            overlap: outcome.overlap,
            rule_ceiling: outcome.rule_ceiling,
            path: verdict.path,
            emitted: verdict.emitted,
            emitted_text,
            expected_accepted,
            capacity: None,
            notice: self.drafters[self.drafter].drafter.notice(),
            miss: None,
            entropy: outcome.entropy,
            time: StageTimes::default(),
            mu,
            mu2,
            ceilings,
            reached,
        };
        record.capacity = record.used_capacity();
        record.miss = self.miss(text, drafted, &record, &outcome.target_best);
        text.past.push(self.past_step_of(drafted, &record));
        text.step += 1;
        self.last_size = draft.tree.len();
        record
    }

    /// Completes the record of the verified tree with texts and the drafters' part.
    fn tree_record(&self, draft: &Draft, tree: TreeRecord) -> TreeRecord {
        let AvailableDrafter { info, drafter } = &self.drafters[self.drafter];
        let origins = drafter.origins(&draft.tree).into_iter().enumerate();
        TreeRecord {
            text: draft.tree.tokens().iter().map(|&t| self.vocabulary.text(t)).collect(),
            calibrated: self.calibration.calibrate_tree(&draft.tree),
            origin: origins.map(|(i, member)| (i > 0).then_some(member)).collect(),
            members: info.members.iter().cloned().map(String::from).collect(),
            cut: cut_nodes(draft, &self.vocabulary),
            ..tree
        }
    }

    /// Describes the miss that ended the step.
    ///
    /// Returns `None` if nothing was to be drafted, or the text ended.
    fn miss(
        &self,
        text: &TextState,
        drafted: &StepDraft,
        record: &StepRecord,
        target_best: &[(TokenId, f64)],
    ) -> Option<Miss> {
        let AvailableDrafter { info, drafter } = &self.drafters[self.drafter];
        let drafts = drafted.max_tokens > 1
            && drafted.budget.tokens.is_some()
            && info.kind != DrafterKind::None;
        (drafts && text.ending.is_none()).then(|| {
            let outside = !drafter.can_propose(record.bonus);
            describe_miss(record, &drafted.draft, target_best, outside, &self.vocabulary)
        })
    }

    /// Returns the state that a later oracle search of this step needs.
    fn past_step_of(&self, drafted: &StepDraft, record: &StepRecord) -> PastStep {
        let StepDraft { draft, position, max_tokens, limits, budget, choice } = drafted;
        let size = if self.settings.automatic() { draft.tree.len() } else { *max_tokens };
        PastStep {
            position: *position,
            settings: record.settings.clone(),
            limits: Limits { budget: size, ..*limits },
            expected: record.expected_accepted,
            best: self.settings.shape == Shape::BestFirst
                && budget.tokens == Some(*max_tokens)
                && choice.is_none(),
        }
    }

    /// Passes the outcome of the step to the drafter, the planner and the calibration.
    ///
    /// `acceptances` is [`VerifyOutcome::child_acceptance`].
    fn learn(
        &mut self,
        draft: &Draft,
        record: &StepRecord,
        feedback: &VerifyFeedback,
        acceptances: Vec<(f64, Vec<f64>)>,
    ) {
        self.drafters[self.drafter].drafter.learn(feedback);
        if self.settings.samples_trees() {
            self.planner.learn_sampled(acceptances.into_iter());
        } else {
            self.planner.learn(draft, &record.tree.p, &record.path, record.bonus);
        }
        self.calibration.learn(feedback.observations());
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
        let limits = Limits { budget: self.last_size.min(room), depth: text.max_depth() };
        if limits.budget == 0 {
            return Ok(());
        }
        let AvailableDrafter { info, drafter } = &mut self.drafters[self.drafter];
        let shape = self.settings.shape;
        let mut request = DraftRequest {
            limits,
            cost_model: self.cost_model,
            ..draft_request(&text.tokens, &mut *self.target, &self.vocabulary, &self.settings)
        };
        // Another process would draft in vain.
        let draft = if limits.budget == 1 || info.kind == DrafterKind::External {
            Draft::root_only(root)
        } else {
            // The planner keeps its plan for the step's own size.
            let mut planner = self.planner.clone();
            let plan = planner.plan(shape, limits.budget - 1);
            grow(shape, &mut **drafter, &mut request, plan)
                .map_err(|source| SessionError::Draft { kind: info.kind.clone(), source })?
        };
        let ran = self.target.append(&Node::of_tree(&draft.tree), Pass::FULL);
        self.target.discard();
        Ok(ran?)
    }

    /// Returns the fluid bound for every budget, if a new report is due.
    ///
    /// Takes a few milliseconds. Returns `None` for sampled trees, for which the bound doesn't
    /// hold.
    pub fn fluid(&mut self, report: FluidReport) -> Option<FluidBound> {
        if self.settings.samples_trees() {
            None
        } else {
            self.observed.full_report(self.settings.budget, report)
        }
    }

    /// Takes the pool of distributions observed since the last call.
    ///
    /// The pool also starts over when the sampling parameters change. The ceilings start over with
    /// it.
    pub fn take_pool(&mut self) -> SurprisalPool {
        std::mem::replace(&mut self.observed, CeilingTracker::new(&self.settings.sampling()))
            .into_pool()
    }

    /// Returns the prompt's id, the tokens before step `step`, and its saved state.
    ///
    /// The root of the step is the last of the tokens. Returns `None` if the current text has no
    /// such step.
    pub(super) fn past_step(&self, step: usize) -> Option<PastContext<'_>> {
        let text = self.text.as_ref()?;
        let past = text.past.get(step)?;
        let tokens = text.tokens.get(..past.position)?;
        Some(PastContext { prompt_id: &text.id, tokens, past })
    }

    /// Returns the drafter of this kind.
    pub(super) fn drafter_of(&self, kind: &DrafterKind) -> Option<&dyn Drafter> {
        self.drafters
            .iter()
            .find(|available| available.info.kind == *kind)
            .map(|available| &*available.drafter)
    }

    /// Returns the index of the drafter of this kind.
    ///
    /// # Errors
    /// If this run has no such drafter: names the remedy, or those that it has.
    fn find_drafter(&self, kind: &DrafterKind) -> Result<usize, BadSetting> {
        let found = self.drafters().position(|info| info.kind == *kind);
        found.ok_or_else(|| match kind {
            DrafterKind::Model => BadSetting::NoDraftModel,
            DrafterKind::Eagle => BadSetting::NoHead,
            _ => {
                let names: Vec<&str> = self.drafters().map(|info| info.kind.name()).collect();
                let (name, names) = (kind.name(), names.join(", "));
                BadSetting::Value(format!(
                    "there is no drafter {name:?} in this run: give one of {names}"
                ))
            }
        })
    }

    /// Returns the random numbers of the current text, and its length in tokens.
    ///
    /// Returns `None` before the first text.
    pub(super) fn random(&self) -> Option<(TextRandom, usize)> {
        self.text.as_ref().map(|text| (text.random.clone(), text.tokens.len()))
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
