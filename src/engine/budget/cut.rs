//! Automatic budget for deterministic trees: verifies the part of a draft that pays.
//!
//! At each step it cuts the drafted tree to the size with the highest predicted tokens per second
//! on this machine. If drafting turns out slower than plain decoding, it backs off: it skips
//! drafting for a number of steps that doubles each time.

use super::back_off::BackOff;
use super::stage_time_fit::StageTimeFit;
use crate::draft::{Calibration, CostModel, Draft, ModelUse};
use crate::telemetry::{BudgetChoice, BudgetReason, StageTimes};
use crate::theory::cost::CostCurve;

/// Requested budget before anything was measured, in tokens.
const FIRST: usize = 8;
/// Minimum budget requested from a drafter, in tokens.
const LEAST: usize = 4;
/// Drafted steps before the first back-off, and after each back-off, at least.
///
/// The first of them isn't measured: a drafter that follows the text catches up on what it missed
/// during the back-off, which says nothing about its cost from then on.
const TRIALS: [usize; 2] = [24, 10];
/// Standard errors by which drafting must be slower than not drafting before it backs off.
///
/// A back-off lasts much longer than the evidence that it is based on, and the test is repeated
/// after every step: without a margin, drafting that pays is given up sooner or later.
const MARGIN: f64 = 1.3;
/// Steps that the averages count for after a back-off: the text may have changed.
const CARRIED: usize = 12;
/// Upper bound on back-off, in steps.
const MAX_BACKOFF: usize = 128;
/// Cost of drafting, as a fraction of a plain step, below which back-off is disabled.
///
/// Drafting that cheap loses nothing.
const CHEAP: f64 = 0.02;
/// Model-drafted steps after which a drafter that can draft without its model backs off anyway.
///
/// This measures its rate without model passes. The interval doubles each time.
const BACKOFF_INTERVAL: usize = 192;
/// Weight of the newest step in the moving averages that decide on back-off.
///
/// Small, since tokens per step vary by about 50%, and the differences to detect are about 5%.
const SLOW: f64 = 0.005;

/// State of the automatic budget: requested size, back-off and measured rates.
///
/// Reset whenever the drafter or the sampling parameters change.
#[derive(Clone, Debug)]
pub(super) struct CutPolicy {
    /// Use of a model by the drafter.
    model_use: ModelUse,
    /// Tokens to request from the drafter; adapts to the size that paid off.
    requested: Option<usize>,
    back_off: BackOff,
    /// Set once drafting turned out slower than plain decoding.
    given_up: bool,
    /// Averages over drafted steps.
    drafted: Means,
    /// Averages over back-off steps, in which nothing is drafted with a model.
    without_model: Means,
    /// Seconds per step besides drafting and the verify pass, as a function of tokens.
    other: StageTimeFit,
    /// Seconds per step of plain decoding, timed on consecutive steps.
    ///
    /// Between drafted steps a pass over one token takes longer: drafting and larger passes leave
    /// caches and clocks in a state that plain decoding never meets.
    plain: Option<f64>,
}

/// Exponential moving averages over steps.
#[derive(Clone, Copy, Debug, Default)]
struct Means {
    steps: usize,
    /// Expected tokens emitted per step.
    tokens: f64,
    seconds: f64,
    /// Seconds spent drafting per step.
    drafting: f64,
    /// Mean square of the relative deviation of a step's rate.
    square: f64,
}

impl Means {
    fn add(&mut self, tokens: f64, seconds: f64, drafting: f64) {
        self.steps += 1;
        let weight = SLOW.max(1.0 / self.steps as f64);
        // A step that was held up counts for at most twice as long.
        let seconds = if self.steps > 2 { seconds.min(2.0 * self.seconds) } else { seconds };
        self.tokens += weight * (tokens - self.tokens);
        self.seconds += weight * (seconds - self.seconds);
        self.drafting += weight * (drafting - self.drafting);
        let deviation = tokens / self.tokens - seconds / self.seconds;
        self.square += weight * (deviation * deviation - self.square);
    }

    /// Returns tokens per second, or 0 before the first step.
    fn rate(&self) -> f64 {
        if self.steps == 0 { 0.0 } else { self.tokens / self.seconds }
    }

    /// Returns the rate, moved by `errors` of its standard errors.
    fn bound(&self, errors: f64) -> f64 {
        // An average with weight w is about as certain as one over 2 / w steps.
        let steps = (self.steps as f64).min(2.0 / SLOW);
        self.rate() * (1.0 + errors * (self.square / steps.max(1.0)).sqrt())
    }
}

impl Default for CutPolicy {
    fn default() -> Self {
        CutPolicy::new(ModelUse::Never)
    }
}

impl CutPolicy {
    /// Creates the state for a new drafter.
    ///
    /// One that can draft without its model starts in back-off, to measure its rate without model
    /// passes.
    pub fn new(model_use: ModelUse) -> CutPolicy {
        let mut back_off = BackOff::new(MAX_BACKOFF);
        if model_use == ModelUse::Optional {
            back_off.start_measurement();
        }
        CutPolicy {
            model_use,
            requested: None,
            back_off,
            given_up: false,
            drafted: Means::default(),
            without_model: Means::default(),
            other: StageTimeFit::default(),
            plain: None,
        }
    }

    /// Sets the seconds per step of plain decoding, timed on consecutive steps.
    pub fn set_plain(&mut self, seconds: f64) {
        self.plain = Some(seconds).filter(|seconds| *seconds > 0.0);
    }

    /// Returns `true` during back-off. Only drafting that runs no model is allowed then.
    pub fn backs_off(&self) -> bool {
        self.back_off.is_active()
    }

    /// Returns the tokens to request if something is drafted, at most `most`.
    pub fn requested_budget(&self, most: usize) -> usize {
        self.requested.unwrap_or(FIRST).clamp(LEAST.min(most), most)
    }

    /// Returns the cost model by which a drafter of `requested` tokens gates its passes.
    pub fn cost_model(&self, requested: usize, cost: &CostCurve) -> CostModel {
        let node = self.other.intercept_and_slope().1;
        let token = if self.drafted.steps > 0 {
            1.0 / self.drafted.rate()
        } else {
            cost.seconds(1) + self.other.value_at(1.0)
        };
        let most = requested.max(2);
        CostModel {
            seconds_per_token: token,
            seconds_per_node: (cost.seconds(most) - cost.seconds(1)) / (most - 1) as f64 + node,
            back_off: self.backs_off(),
        }
    }

    /// Cuts `draft` to the size with the highest predicted tokens per second.
    ///
    /// Returns the decision with its reason. `calibration` maps the drafter's q to probabilities,
    /// `requested` is the budget requested from the drafter, and `seconds` is the time that
    /// drafting took.
    pub fn choose(
        &mut self,
        calibration: &Calibration,
        draft: &mut Draft,
        requested: Option<usize>,
        seconds: f64,
        most: usize,
        cost: &CostCurve,
    ) -> BudgetChoice {
        let drafted = draft.tree.drafted();
        let each = calibration.calibrate_tree(&draft.tree);
        let products = draft.tree.path_products(|i| each[i]).split_off(1);
        let (step, node) = self.other.intercept_and_slope();
        let (kept, rate) = cost.best_prefix(&products, seconds + step, node);
        let plain = 1.0 / self.plain.unwrap_or(cost.seconds(1) + step + node);
        let reason = match requested {
            None => BudgetReason::Resting,
            Some(_) if self.backs_off() && kept == 0 => BudgetReason::Resting,
            // The cost gate skipped the drafter's pass, so that it never saw the root.
            Some(_) if drafted == 0 && !draft.expanded[0] => BudgetReason::NotWorth,
            Some(_) if drafted == 0 => BudgetReason::NothingDrafted,
            Some(_) if kept == 0 => BudgetReason::NotWorth,
            Some(_) if kept < drafted => BudgetReason::Cut,
            Some(_) => BudgetReason::Whole,
        };
        draft.truncate(kept);
        if let Some(requested) = requested {
            self.requested = Some(if kept + 1 >= requested {
                (requested * 2).min(most)
            } else if 3 * (kept + 1) < requested {
                (requested / 2).max(LEAST)
            } else {
                requested
            });
        }
        let expected = products[..kept].iter().sum::<f64>() + 0.0; // turns -0 into 0
        BudgetChoice {
            drafted,
            kept,
            expected,
            tokens_per_second: rate,
            plain_tokens_per_second: plain,
            reason,
        }
    }

    /// Updates the measured rates and decides on back-off after a step.
    ///
    /// `tokens` is the size of the verified tree, root included, and `expected` is its expected
    /// number of accepted tokens.
    pub fn learn(
        &mut self,
        tokens: usize,
        choice: &BudgetChoice,
        expected: f64,
        time: &StageTimes,
        cost: &CostCurve,
    ) {
        self.other.add(tokens as f64, time.other);
        let (tokens, seconds) = (1.0 + expected, time.draft + cost.seconds(tokens) + time.other);
        if self.back_off.count_step().is_some() {
            self.without_model.add(tokens, seconds, time.draft);
            return;
        }
        let trials = self.back_off.trials();
        if trials == 1 {
            return;
        }
        self.drafted.add(tokens, seconds, time.draft);
        if trials < TRIALS[usize::from(self.given_up)]
            || self.drafted.drafting * choice.plain_tokens_per_second < CHEAP
        {
            return;
        }
        let undrafted = choice.plain_tokens_per_second.max(self.without_model.bound(-MARGIN));
        if self.drafted.bound(MARGIN) < undrafted {
            self.back_off.start();
            self.given_up = true;
            self.drafted.steps = self.drafted.steps.min(CARRIED);
        } else {
            self.back_off.reset_length();
            let intervals = trials / BACKOFF_INTERVAL;
            if self.model_use == ModelUse::Optional
                && trials.is_multiple_of(BACKOFF_INTERVAL)
                && intervals.is_power_of_two()
            {
                self.back_off.start_measurement();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Runs `steps` steps and returns for each if drafting was requested.
    ///
    /// Drafting takes `drafting` seconds for one node, which is accepted with probability `p`. A
    /// pass takes 1 s for any number of tokens.
    fn drafting_requests(drafting: f64, p: f64, steps: usize) -> Vec<bool> {
        let cost = CostCurve::new(vec![(1, 1.0), (64, 1.0)]).unwrap();
        let mut policy = CutPolicy::new(ModelUse::Never);
        let step = |_| {
            let requested = (!policy.backs_off()).then(|| policy.requested_budget(64));
            let mut draft = Draft::root_only(0);
            if requested.is_some() {
                draft.tree.push(0, 1, 0.5);
                draft.expanded = vec![true, false];
            }
            let draft_time = if requested.is_some() { drafting } else { 0.0 };
            let choice = policy.choose(
                &Calibration::default(),
                &mut draft,
                requested,
                draft_time,
                64,
                &cost,
            );
            let expected = p * choice.kept as f64;
            let time = StageTimes { draft: draft_time, verify: 1.0, other: 0.0 };
            policy.learn(draft.tree.len(), &choice, expected, &time, &cost);
            assert_eq!(choice.reason == BudgetReason::Resting, requested.is_none());
            requested.is_some()
        };
        (0..steps).map(step).collect()
    }

    #[test]
    fn unprofitable_drafting_backs_off_ever_longer_and_retries() {
        let rests: Vec<usize> = drafting_requests(0.5, 0.1, 600)
            .split(|requested| *requested)
            .map(<[bool]>::len)
            .filter(|&rest| rest > 0)
            .collect();
        assert_eq!(rests[..6], [8, 16, 32, 64, 128, 128]);
        // Drafting that pays, or that is nearly free, never backs off.
        assert!(drafting_requests(0.5, 0.9, 100).into_iter().all(|requested| requested));
        assert!(drafting_requests(0.001, 0.0, 100).into_iter().all(|requested| requested));
    }
}
