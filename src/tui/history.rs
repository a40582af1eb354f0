//! Recent steps and texts, with running averages over them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::telemetry::{
    BaseRates, BudgetCurve, CalibrationTally, DepthRates, DrafterRates, Ending, LightTally,
    LossLadder, MissCause, Misses, OracleResult, OracleSearchState, OracleTree, Origins,
    OverlapTally, PlainComparison, RunningMoments, SearchedStep, StageTimes, StepRecord,
    StepSettings, TextMeans,
};
use crate::theory::light::OracleCurve;

/// Maximum number of steps kept for browsing. Older ones still count in the averages.
const MAX_STEPS: usize = 4096;
/// Number of recent steps over which the current speed is averaged.
const RECENT_STEPS: usize = 20;

/// Step in the history.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Number since the program started, from 0.
    pub number: usize,
    /// Number of the text that it belongs to.
    pub text: usize,
    /// Set if its settings, apart from the seed, differ from those of the step before.
    pub changed: bool,
    /// Set for the first step of a text.
    pub first: bool,
    /// Record of the step as the engine measured it.
    pub record: Arc<StepRecord>,
    /// Result of the oracle search, once available.
    pub search_result: Option<OracleResult>,
    /// Set if the search was scheduled by the search interval, not requested by the user.
    pub(super) searched: bool,
    /// Search result as counted in the averages so far.
    counted: Option<OracleResult>,
    /// Mass of the oracle trees of its context by size, once its search has ended.
    pub curve: Option<Arc<OracleCurve>>,
    /// Oracle tree of its context, once its search has ended.
    pub oracle: Option<Arc<OracleTree>>,
}

impl Step {
    /// Returns `true` if its search was scheduled, so that it is representative.
    pub fn searched(&self) -> bool {
        self.searched
    }
}

impl Step {
    /// Returns the best known cause of the step's miss; `None` without a miss.
    pub fn cause(&self) -> Option<MissCause> {
        let miss = self.record.miss.as_ref()?;
        Some(
            self.search_result
                .as_ref()
                .map_or(miss.cause, |result| miss.cause_given_oracle(result)),
        )
    }

    /// Returns the accepted tokens that the step's tree lost, in expectation.
    ///
    /// With an oracle search it is the gain of the oracle tree. Else it is at least the path
    /// probability of the missed token, which the tree lacks. `None` without a miss or a search.
    pub fn loss(&self) -> Option<f64> {
        let expected = self.record.expected_accepted;
        let searched =
            self.search_result.as_ref().map(|result| result.best_known_mass(expected) - expected);
        let missed = self.record.miss.as_ref().map(|miss| miss.pi);
        [searched, missed]
            .into_iter()
            .flatten()
            .filter(|loss| loss.is_finite() && *loss > 0.0)
            .reduce(f64::max)
    }
}

/// Totals of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Number of texts that were begun.
    pub texts: usize,
    /// Number of steps that were made.
    pub steps: usize,
    /// Number of tokens emitted.
    pub tokens: usize,
}

/// Generated text of one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratedText {
    /// Number since the program started, from 0.
    pub number: usize,
    /// Index of its prompt in the list.
    pub index: usize,
    /// Id of its prompt, as in the records.
    pub id: String,
    /// Prompt as the user wrote it.
    pub prompt: String,
    /// Prompt length in tokens, chat template included.
    pub tokens: usize,
    /// Seconds taken by the prefill of the prompt.
    pub prefill_seconds: f64,
    /// Reason why it ended; `None` while it is being generated.
    pub ending: Option<Ending>,
}

/// Averages over the steps since the settings last changed.
///
/// Steps of repeated texts count only in the speed and in `comparison`.
#[derive(Clone, Debug, Default)]
pub struct Averages {
    /// Number of steps, without those of repeated texts.
    pub steps: usize,
    /// Tokens emitted by those steps.
    pub tokens: usize,
    /// Sum of accepted drafted tokens.
    accepted: usize,
    /// Sum of E\[accepted | T\].
    expected: f64,
    /// Seconds spent in each stage.
    pub time: StageTimes,
    /// Number of steps that accepted 0, 1, 2, ... drafted tokens.
    pub lengths: Vec<usize>,
    /// Acceptance rate by depth, given that the depth was reached.
    pub rates: DepthRates,
    /// Mean losses by cause.
    pub ladder: LossLadder,
    /// Rejections by cause, depth, class, and token.
    pub misses: Misses,
    /// Misses per token of each kind, and over time.
    pub base_rates: BaseRates,
    /// Accepted length that smaller budgets would have had.
    pub curve: BudgetCurve,
    /// Reliability of the drafter's probabilities, raw and calibrated.
    pub told: CalibrationTally,
    /// Nodes by the drafter that proposed them.
    pub origins: Origins,
    /// Number of drafted nodes.
    pub nodes: usize,
    /// Speed relative to plain decoding.
    pub comparison: PlainComparison,
    /// Tokens and seconds of steps of repeated texts; they count only in the speed.
    repeated: (usize, f64),
    /// Number of steps of repeated texts.
    repeated_steps: usize,
    /// Running sums for the speed of light.
    pub light: LightTally,
    /// p(argmax q) and the overlap of p and q, with the verification rule's ceiling.
    pub overlaps: OverlapTally,
}

impl Averages {
    /// Adds a step; `generated` is the number of tokens generated before it in its text.
    fn push(&mut self, record: &StepRecord, generated: Option<usize>) {
        self.comparison.add_step(record);
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
        // A record from a file may claim anything, but no more can be accepted than the tree holds.
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
        self.base_rates.add(record, generated);
        self.curve.add(record);
        self.told.add(record);
        self.origins.add(record);
        self.light.add(record);
        self.overlaps.add(&record.overlap, record.rule_ceiling);
    }

    /// Returns the number of steps, those of repeated texts included.
    pub(super) fn all_steps(&self) -> usize {
        self.steps + self.repeated_steps
    }

    /// Returns the mean of accepted drafted tokens per step; `None` before the first.
    pub fn accepted_mean(&self) -> Option<f64> {
        (self.steps > 0).then(|| self.accepted as f64 / self.steps as f64)
    }

    /// Returns the mean of E\[accepted | T\] per step; `None` before the first.
    pub fn expected_mean(&self) -> Option<f64> {
        (self.steps > 0).then(|| self.expected / self.steps as f64)
    }

    /// Returns tokens per second over the time spent in steps, repeated texts included.
    pub fn tokens_per_second(&self) -> Option<f64> {
        rate(self.tokens + self.repeated.0, self.time.total() + self.repeated.1)
    }
}

fn rate(tokens: usize, seconds: f64) -> Option<f64> {
    (tokens > 0 && seconds > 0.0).then(|| tokens as f64 / seconds)
}

/// Recent steps and texts, with averages.
#[derive(Clone, Debug, Default)]
pub struct History {
    steps: VecDeque<Step>,
    next: usize,
    texts: VecDeque<GeneratedText>,
    next_text: usize,
    /// Averages since the settings last changed.
    pub averages: Averages,
    /// Miss rates by drafter, over all settings.
    pub drafter_rates: DrafterRates,
    /// Tokens and seconds of all steps.
    total: (usize, f64),
    /// Entropy of the sampled distribution, over positions since the sampling parameters last
    /// changed.
    pub entropy: TextMeans,
    /// Entropy at temperature 1 over the same positions.
    pub plain_entropy: TextMeans,
    /// Entropy moments at temperature 1 over the same positions.
    pub plain_moments: RunningMoments,
}

impl History {
    /// Starts a text; ends the present one if it is still open.
    pub fn begin(
        &mut self,
        index: usize,
        id: String,
        prompt: String,
        tokens: usize,
        prefill_seconds: f64,
    ) {
        self.end_text();
        self.texts.push_back(GeneratedText {
            number: self.next_text,
            index,
            id,
            prompt,
            tokens,
            prefill_seconds,
            ending: None,
        });
        self.next_text += 1;
        let oldest = self.steps.front().map_or(self.next_text - 1, |s| s.text);
        while self.texts.front().is_some_and(|t| t.number < oldest) {
            self.texts.pop_front();
        }
    }

    /// Ends the present text and records the reason.
    pub fn end(&mut self, ending: Ending) {
        self.end_text();
        if let Some(text) = self.texts.back_mut() {
            text.ending = Some(ending);
        }
    }

    /// Closes the present text in the per-text averages. Does nothing if it is closed already.
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

    /// Adds a step to history and averages. Resets averages that its settings make invalid.
    pub fn push(&mut self, record: Arc<StepRecord>) {
        let before = self.newest().map(|s| (s.record.settings.clone(), s.text));
        let text = self.next_text.saturating_sub(1);
        let changed = before.as_ref().is_some_and(|(s, _)| !same_conditions(s, &record.settings));
        if changed {
            self.averages = Averages::default();
        }
        if before.as_ref().is_some_and(|(s, _)| !same_sampling(s, &record.settings)) {
            self.entropy = TextMeans::default();
            self.plain_entropy = TextMeans::default();
            self.plain_moments = RunningMoments::default();
        }
        let generated = self.texts.back().and_then(|text| record.position.checked_sub(text.tokens));
        self.averages.push(&record, generated);
        if !record.repeated {
            self.drafter_rates.add(&record);
        }
        self.total.0 += record.emitted.len();
        self.total.1 += record.time.total();
        for position in record.entropy.iter().filter(|_| !record.repeated) {
            self.entropy.push(position.sampled.entropy);
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
            search_result: None,
            searched: false,
            counted: None,
            curve: None,
            oracle: None,
        });
        self.next += 1;
        if self.steps.len() > MAX_STEPS {
            self.steps.pop_front();
        }
    }

    /// Stores a search result for the newest step with this number and prompt.
    ///
    /// `curve` holds the mass of its oracle trees, once the search has ended. The result counts in
    /// averages only if the search is `systematic`: steps picked by the user are not
    /// representative. `tree` is the oracle tree, once found.
    pub fn add_search(
        &mut self,
        prompt: &str,
        step: usize,
        result: OracleResult,
        curve: Option<Arc<OracleCurve>>,
        tree: Option<Arc<OracleTree>>,
        systematic: bool,
    ) {
        let found = self
            .steps
            .iter_mut()
            .rev()
            .find(|s| s.record.step == step && s.record.prompt_id == prompt);
        let Some(found) = found else { return };
        // Only steps of the present averages count in them, and those are the newest.
        found.searched |= systematic;
        let counted = found.searched && !found.record.repeated;
        if counted && found.number + self.averages.all_steps() >= self.next {
            self.averages.ladder.update_search(
                found.record.expected_accepted,
                found.counted.as_ref(),
                &result,
            );
            if let Some(miss) = &found.record.miss {
                self.averages.misses.update_cause(miss, found.counted.as_ref(), &result);
            }
            found.counted = Some(result);
        }
        // The tally takes the search of a step once, and only right after the step.
        let newest = found.number + 1 == self.next && self.averages.steps > 0;
        if let Some(oracle) =
            curve.as_deref().filter(|_| systematic && newest && found.curve.is_none())
        {
            let step =
                SearchedStep { record: &found.record, oracle, drafter_best: result.drafter_best };
            self.averages.light.add_search(&step);
        }
        found.search_result = Some(result);
        found.oracle = tree.or(found.oracle.take());
        if result.state != OracleSearchState::Refining {
            found.curve = curve.or(found.curve.take());
        }
    }

    /// Returns the step with this number, if it is still kept.
    pub fn get(&self, number: usize) -> Option<&Step> {
        let first = self.steps.front()?.number;
        self.steps.get(number.checked_sub(first)?)
    }

    /// Returns the newest step.
    pub fn newest(&self) -> Option<&Step> {
        self.steps.back()
    }

    /// Returns the oldest step that is still kept.
    pub fn oldest(&self) -> Option<&Step> {
        self.steps.front()
    }

    /// Iterates from step `last` (`None`: the newest) back to the oldest.
    pub fn steps_back_from(&self, last: Option<usize>) -> impl Iterator<Item = &Step> {
        let first = self.steps.front().map_or(0, |s| s.number);
        let count =
            last.map_or(self.steps.len(), |n| (n + 1).saturating_sub(first).min(self.steps.len()));
        self.steps.iter().take(count).rev()
    }

    /// Iterates from step `first` (or the oldest kept after it) to the newest.
    pub fn steps_from(&self, first: usize) -> impl Iterator<Item = &Step> {
        let oldest = self.steps.front().map_or(0, |step| step.number);
        self.steps.iter().skip(first.saturating_sub(oldest))
    }

    /// Returns `true` if `settings` differ from the newest step's, apart from the seed.
    pub fn changes(&self, settings: &StepSettings) -> bool {
        self.newest().is_some_and(|step| !same_conditions(&step.record.settings, settings))
    }

    /// Returns the totals of the session.
    pub fn totals(&self) -> Totals {
        Totals { texts: self.next_text, steps: self.next, tokens: self.total.0 }
    }

    /// Iterates over the kept steps of one text, oldest first.
    pub fn steps_of_text(&self, number: usize) -> impl Iterator<Item = &Step> {
        let from = self.steps.partition_point(|s| s.text < number);
        self.steps.iter().skip(from).take_while(move |s| s.text == number)
    }

    /// Returns the present text.
    pub fn text(&self) -> Option<&GeneratedText> {
        self.texts.back()
    }

    /// Returns the text with this number, if it is still kept.
    pub fn text_by_number(&self, number: usize) -> Option<&GeneratedText> {
        self.texts.iter().find(|t| t.number == number)
    }

    /// Returns tokens per second over the last steps at the present settings.
    pub fn tokens_per_second_now(&self) -> Option<f64> {
        let count = self.averages.all_steps().min(RECENT_STEPS);
        let (tokens, seconds) = (self.steps.iter().rev().take(count))
            .fold((0, 0.0), |(n, s), step| {
                (n + step.record.emitted.len(), s + step.record.time.total())
            });
        rate(tokens, seconds)
    }

    /// Returns tokens per second over all steps since the program started.
    pub fn tokens_per_second_all(&self) -> Option<f64> {
        rate(self.total.0, self.total.1)
    }
}

/// Returns whether two steps may be averaged together: all settings but the seed are equal.
fn same_conditions(a: &StepSettings, b: &StepSettings) -> bool {
    same_sampling(a, b)
        && a.drafter == b.drafter
        && a.shape == b.shape
        && a.budget == b.budget
        && a.automatic() == b.automatic()
        && a.verify == b.verify
}

fn same_sampling(a: &StepSettings, b: &StepSettings) -> bool {
    a.temperature == b.temperature && a.top_p == b.top_p && a.top_k == b.top_k
}
