//! The steps so far, and the running figures of them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::telemetry::{
    BudgetCurve, Ending, Ladder, LightTally, Look, LookState, Misses, Origins, Overlaps, PlainComparison, PositionRates,
    RunningMoments, SearchedStep, StageTimes, StepRecord, StepSettings, TextMeans, Told,
};
use crate::theory::light::OracleCurve;

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
    /// Whether it was picked systematically for a search of its oracle tree.
    searched: bool,
    /// What counts of it in means.
    counted: Option<Look>,
    /// Mass of the oracle trees of its context, by size, once a search of it has ended.
    pub curve: Option<Arc<OracleCurve>>,
}

/// One generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// Its number since the program began, from 0.
    pub number: usize,
    /// Index of its prompt in the list.
    pub index: usize,
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
#[derive(Clone, Debug, Default)]
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
    /// Drafted nodes.
    pub nodes: usize,
    /// Speed beside plain decoding.
    pub comparison: PlainComparison,
    /// Tokens and seconds of steps of texts that were written before: they count in the speed alone.
    repeated: (usize, f64),
    /// The number of those steps.
    repeated_steps: usize,
    /// Sums for the speed of light.
    pub light: LightTally,
    /// p(argmax q) against the overlap of p and q, and the ceiling of the rule.
    pub overlaps: Overlaps,
}

impl Averages {
    fn push(&mut self, record: &StepRecord) {
        self.comparison.step(record);
        if record.repeated {
            self.repeated_steps += 1;
            self.repeated.0 += record.emitted.len();
            self.repeated.1 += record.time.total();
            return;
        }
        self.steps += 1;
        self.tokens += record.emitted.len();
        self.accepted += record.accepted;
        self.nodes += record.tree.tokens.len().saturating_sub(1);
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
        self.light.add(record);
        self.overlaps.add(record);
    }

    /// Steps, with those of texts that were written before.
    fn all_steps(&self) -> usize {
        self.steps + self.repeated_steps
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
        rate(self.tokens + self.repeated.0, self.time.total() + self.repeated.1)
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
    pub entropy: TextMeans,
    /// Entropy at temperature 1 over the same positions.
    pub plain_entropy: TextMeans,
    /// Entropy moments at temperature 1 over the same.
    pub plain_moments: RunningMoments,
}

impl History {
    /// A text begins.
    pub fn begin(&mut self, index: usize, id: String, prompt: String, tokens: usize, prefill_seconds: f64) {
        self.end_text();
        self.texts.push_back(Text { number: self.next_text, index, id, prompt, tokens, prefill_seconds, ending: None });
        self.next_text += 1;
        let oldest = self.steps.front().map_or(self.next_text - 1, |s| s.text);
        while self.texts.front().is_some_and(|t| t.number < oldest) {
            self.texts.pop_front();
        }
    }

    /// The present text ended.
    pub fn end(&mut self, ending: Ending) {
        self.end_text();
        if let Some(text) = self.texts.back_mut() {
            text.ending = Some(ending);
        }
    }

    /// Ends the present text in the figures that go by texts; once, whoever says so.
    fn end_text(&mut self) {
        if self.texts.back().is_none_or(|text| text.ending.is_some()) {
            return;
        }
        self.entropy.end_text();
        self.plain_entropy.end_text();
        let text = self.next_text.saturating_sub(1);
        let last = self.steps.back().filter(|step| step.text == text && self.averages.steps > 0);
        self.averages.light.end_text(last.map(|step| &*step.record));
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
            self.entropy = TextMeans::default();
            self.plain_entropy = TextMeans::default();
            self.plain_moments = RunningMoments::default();
        }
        self.averages.push(&record);
        self.total.0 += record.emitted.len();
        self.total.1 += record.time.total();
        for position in record.entropy.iter().filter(|_| !record.repeated) {
            self.entropy.push(position.law.entropy);
            self.plain_entropy.push(position.plain.entropy);
            self.plain_moments.add(&position.plain);
        }
        let first = before.is_none_or(|(_, t)| t != text);
        self.steps.push_back(Step {
            number: self.next,
            text,
            changed,
            first,
            record,
            look: None,
            searched: false,
            counted: None,
            curve: None,
        });
        self.next += 1;
        if self.steps.len() > KEPT {
            self.steps.pop_front();
        }
    }

    /// Something was found out about a step: the newest of that number of that prompt. With the `curve` of its oracle trees, where the
    /// search has ended. In means it counts only where the step was picked systematically: steps that a person picks are not like the
    /// others.
    pub fn looked(&mut self, prompt: &str, step: usize, look: Look, curve: Option<Arc<OracleCurve>>, systematic: bool) {
        let found = self.steps.iter_mut().rev().find(|s| s.record.step == step && s.record.prompt_id == prompt);
        let Some(found) = found else { return };
        // Only the steps of the present averages count in them: the newest ones.
        found.searched |= systematic;
        let counted = found.searched && !found.record.repeated;
        if counted && found.number + self.averages.all_steps() >= self.next {
            self.averages.ladder.looked(found.record.expected_accepted, found.counted.as_ref(), &look);
            if let Some(miss) = &found.record.miss {
                self.averages.misses.looked(miss, found.counted.as_ref(), &look);
            }
            found.counted = Some(look);
        }
        // The tally takes the search of a step right after the step, and once.
        let newest = found.number + 1 == self.next && self.averages.steps > 0;
        if let Some(oracle) = curve.as_deref().filter(|_| systematic && newest && found.curve.is_none()) {
            let step = SearchedStep { record: &found.record, oracle, drafter_best: look.drafter_best };
            self.averages.light.searched(&step);
        }
        found.look = Some(look);
        if look.state != LookState::Refining {
            found.curve = curve.or(found.curve.take());
        }
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
        let count = self.averages.all_steps().min(NOW);
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
