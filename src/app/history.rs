//! The steps so far, and the running figures of them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::telemetry::{
    BatchMeans, BudgetCurve, Ending, Ladder, Look, Misses, Origins, Overlaps, PositionRates, RunningMoments, StageTimes,
    StepRecord, StepSettings, Told,
};

/// Steps that are kept to look back at. Older ones still count in the averages.
const KEPT: usize = 4096;
/// Steps that "now" averages over.
const NOW: usize = 20;

/// A step in the history.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Its number since the program began, from 0.
    pub number: usize,
    /// The number of the text it belongs to.
    pub text: usize,
    /// Whether the settings are others than those of the step before.
    pub changed: bool,
    /// Whether it is the first of its text.
    pub first: bool,
    /// What was measured.
    pub record: Arc<StepRecord>,
    /// What was found out about it later.
    pub look: Option<Look>,
}

/// One generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// Its number since the program began, from 0.
    pub number: usize,
    /// The id of its prompt.
    pub id: String,
    /// The prompt.
    pub prompt: String,
    /// Length of the prompt in tokens, chat template included.
    pub tokens: usize,
    /// Seconds that reading the prompt took.
    pub prefill_seconds: f64,
    /// How it ended, when it has.
    pub ending: Option<Ending>,
}

/// Figures over the steps since the settings last changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Averages {
    /// Steps.
    pub steps: usize,
    /// Tokens put out.
    pub tokens: usize,
    /// Sum of accepted.
    accepted: usize,
    /// Sum of E\[accepted | T\].
    expected: f64,
    /// Seconds by stage.
    pub time: StageTimes,
    /// How many steps accepted 0, 1, 2, ... drafted tokens.
    pub lengths: Vec<usize>,
    /// Acceptance by depth, given that the depth was reached.
    pub rates: PositionRates,
    /// Mean losses.
    pub ladder: Ladder,
    /// Refusals, counted.
    pub misses: Misses,
    /// What smaller budgets would have accepted.
    pub curve: BudgetCurve,
    /// Whether the drafter's probabilities were what they said.
    pub told: Told,
    /// Nodes by who proposed them.
    pub origins: Origins,
    /// p(argmax q) against the overlap of p and q, and the ceiling of the rule.
    pub overlaps: Overlaps,
}

impl Averages {
    fn push(&mut self, record: &StepRecord) {
        self.steps += 1;
        self.tokens += record.emitted.len();
        self.accepted += record.accepted;
        self.expected += record.expected_accepted;
        self.time.add(&record.time);
        // No more can be accepted than stands in the tree, whatever a record from a file says.
        let accepted = record.accepted.min(record.tree.tokens.len());
        if self.lengths.len() <= accepted {
            self.lengths.resize(accepted + 1, 0);
        }
        self.lengths[accepted] += 1;
        self.rates.add(&record.tree, &record.path);
        self.ladder.add(record, None);
        if let Some(miss) = &record.miss {
            self.misses.add(miss, None);
        }
        self.curve.add(record);
        self.told.add(record);
        self.origins.add(record);
        self.overlaps.add(record);
    }

    /// Mean of accepted drafted tokens a step.
    pub fn accepted_mean(&self) -> Option<f64> {
        (self.steps > 0).then(|| self.accepted as f64 / self.steps as f64)
    }

    /// Mean of E\[accepted | T\] a step.
    pub fn expected_mean(&self) -> Option<f64> {
        (self.steps > 0).then(|| self.expected / self.steps as f64)
    }

    /// Tokens a second over the time in steps.
    pub fn tokens_per_second(&self) -> Option<f64> {
        rate(self.tokens, self.time.total())
    }
}

fn rate(tokens: usize, seconds: f64) -> Option<f64> {
    (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
}

/// The steps so far.
#[derive(Clone, Debug, Default)]
pub struct History {
    steps: VecDeque<Step>,
    next: usize,
    texts: VecDeque<Text>,
    next_text: usize,
    /// Figures since the settings last changed.
    pub averages: Averages,
    /// Tokens and seconds of all steps.
    total: (usize, f64),
    /// Entropy of the law sampled from, over positions since the warp last changed.
    pub entropy: BatchMeans,
    /// Entropy at temperature 1 over the same positions.
    pub plain_entropy: BatchMeans,
    /// Entropy moments at temperature 1 over the same.
    pub plain_moments: RunningMoments,
}

impl History {
    /// A text begins.
    pub fn begin(&mut self, id: String, prompt: String, tokens: usize, prefill_seconds: f64) {
        self.texts.push_back(Text { number: self.next_text, id, prompt, tokens, prefill_seconds, ending: None });
        self.next_text += 1;
        let oldest = self.steps.front().map_or(self.next_text - 1, |s| s.text);
        while self.texts.front().is_some_and(|t| t.number < oldest) {
            self.texts.pop_front();
        }
    }

    /// The present text ended.
    pub fn end(&mut self, ending: Ending) {
        if let Some(text) = self.texts.back_mut() {
            text.ending = Some(ending);
        }
    }

    /// A step was made.
    pub fn push(&mut self, record: Arc<StepRecord>) {
        let before = self.newest().map(|s| (s.record.settings.clone(), s.text));
        let text = self.next_text.saturating_sub(1);
        let changed = before.as_ref().is_some_and(|(s, _)| !same_conditions(s, &record.settings));
        if changed {
            self.averages = Averages::default();
        }
        if before.as_ref().is_some_and(|(s, _)| !same_warp(s, &record.settings)) {
            self.entropy = BatchMeans::default();
            self.plain_entropy = BatchMeans::default();
            self.plain_moments = RunningMoments::default();
        }
        self.averages.push(&record);
        self.total.0 += record.emitted.len();
        self.total.1 += record.time.total();
        for position in &record.entropy {
            self.entropy.push(position.law.entropy);
            self.plain_entropy.push(position.plain.entropy);
            self.plain_moments.add(&position.plain);
        }
        let first = before.is_none_or(|(_, t)| t != text);
        self.steps.push_back(Step { number: self.next, text, changed, first, record, look: None });
        self.next += 1;
        if self.steps.len() > KEPT {
            self.steps.pop_front();
        }
    }

    /// Something was found out about a step: the newest of that number of that prompt.
    pub fn looked(&mut self, prompt: &str, step: usize, look: Look) {
        let found = self.steps.iter_mut().rev().find(|s| s.record.step == step && s.record.prompt_id == prompt);
        let Some(found) = found else { return };
        // Only the steps of the present averages count in them: the newest ones.
        if found.number + self.averages.steps >= self.next {
            self.averages.ladder.looked(found.record.expected_accepted, found.look.as_ref(), &look);
            if let Some(miss) = &found.record.miss {
                self.averages.misses.looked(miss, found.look.as_ref(), &look);
            }
        }
        found.look = Some(look);
    }

    /// The step of that number, if it is still kept.
    pub fn get(&self, number: usize) -> Option<&Step> {
        let first = self.steps.front()?.number;
        self.steps.get(number.checked_sub(first)?)
    }

    /// The newest step.
    pub fn newest(&self) -> Option<&Step> {
        self.steps.back()
    }

    /// The oldest step that is kept.
    pub fn oldest(&self) -> Option<&Step> {
        self.steps.front()
    }

    /// The steps up to and with number `last` (none: the newest), newest first.
    pub fn back_from(&self, last: Option<usize>) -> impl Iterator<Item = &Step> {
        let first = self.steps.front().map_or(0, |s| s.number);
        let count = last.map_or(self.steps.len(), |n| (n + 1).saturating_sub(first).min(self.steps.len()));
        self.steps.iter().take(count).rev()
    }

    /// The steps of one text, oldest first, as far as they are kept.
    pub fn of_text(&self, number: usize) -> impl Iterator<Item = &Step> {
        let from = self.steps.partition_point(|s| s.text < number);
        self.steps.iter().skip(from).take_while(move |s| s.text == number)
    }

    /// The present text.
    pub fn text(&self) -> Option<&Text> {
        self.texts.back()
    }

    /// The text of that number, if it is still kept.
    pub fn text_of(&self, number: usize) -> Option<&Text> {
        self.texts.iter().find(|t| t.number == number)
    }

    /// Tokens a second over the last steps at the present settings.
    pub fn tokens_per_second_now(&self) -> Option<f64> {
        let count = self.averages.steps.min(NOW);
        let (tokens, seconds) = (self.steps.iter().rev().take(count))
            .fold((0, 0.0), |(n, s), step| (n + step.record.emitted.len(), s + step.record.time.total()));
        rate(tokens, seconds)
    }

    /// Tokens a second over all steps since the program began.
    pub fn tokens_per_second_all(&self) -> Option<f64> {
        rate(self.total.0, self.total.1)
    }
}

/// Whether two steps may be averaged together: all but the seed is the same.
fn same_conditions(a: &StepSettings, b: &StepSettings) -> bool {
    same_warp(a, b)
        && a.drafter == b.drafter
        && a.shape == b.shape
        && a.budget == b.budget
        && a.automatic() == b.automatic()
        && a.verify == b.verify
}

fn same_warp(a: &StepSettings, b: &StepSettings) -> bool {
    a.temperature == b.temperature && a.top_p == b.top_p && a.top_k == b.top_k
}
