//! Automatic budget for sampled trees: picks the size of a tree before drafting.
//!
//! Dropping a sampled child once its token is known would bias the text, so a sampled tree can't be
//! cut. Instead the size is picked among candidate budgets, from the tokens and seconds of earlier
//! trees of each size. Drafting that doesn't pay backs off as in [`cut`](super::cut).

use super::back_off::BackOff;
use super::stage_time_fit::StageTimeFit;
use crate::draft::{Draft, YieldEstimate, update_moving_average};
use crate::telemetry::{BudgetChoice, BudgetReason, StageTimes};
use crate::theory::cost::CostCurve;

/// Drafted steps before the first back-off, and after each back-off, at least.
const TRIALS: [usize; 2] = [16, 10];
/// Drafted steps at the start, and after each back-off, whose times are ignored.
///
/// The drafter first catches up on the text that it missed, and its data has to return to the
/// caches.
const WARMUP_STEPS: usize = 3;
/// Ratio of rates, drafted over plain, below which drafting backs off.
///
/// At equal rates nothing is lost by drafting on.
const GIVE_UP: f64 = 0.95;
/// Number of steps that the measured cost counts for, before a budget was tried.
const PRIOR: usize = 16;
/// Upper bound on back-off, in steps.
const MAX_BACKOFF: usize = 32;
/// Drafted steps after which a short back-off re-measures plain decoding.
const REMEASURE_INTERVAL: usize = 256;
/// Period, in drafted steps, at which each neighbor of the best budget is tried once.
const EXPLORE_PERIOD: usize = 24;
/// Weight of the newest step in the factors of each budget.
///
/// Low, since the machine's speed, which `speed_factor` tracks, changes faster than they do.
const SLOW: f64 = 0.04;

/// Time and yield of trees by candidate budget, and the back-off state.
#[derive(Clone, Debug)]
pub(super) struct SizePolicy {
    /// Moving average of measured over expected seconds, for steps of all budgets.
    ///
    /// Follows changes of the machine's speed. `None` before the first step.
    speed_factor: Option<f64>,
    /// Ratio of measured to expected seconds by budget, with `speed_factor` divided out.
    ///
    /// Budget 1 stands for the steps without drafting.
    time_factors: Factors,
    /// Ratio of emitted to predicted tokens by budget.
    ///
    /// Predictions by the rank of a child hold less well the deeper it is, and picking the best
    /// budget favors those that are overestimated.
    yield_factors: Factors,
    /// Seconds spent drafting, as a function of the tree's depth.
    drafting: StageTimeFit,
    /// Seconds per token of a step besides drafting and the verify pass.
    ///
    /// A part of them doesn't depend on the tokens. Even so they are charged per token, because
    /// passes of larger trees take longer than the measured cost until their factors are known.
    node: Option<f64>,
    back_off: BackOff,
}

impl Default for SizePolicy {
    fn default() -> Self {
        SizePolicy {
            speed_factor: None,
            time_factors: Factors::default(),
            yield_factors: Factors::default(),
            drafting: StageTimeFit::default(),
            node: None,
            back_off: BackOff::new(MAX_BACKOFF),
        }
    }
}

impl SizePolicy {
    /// Returns the predicted seconds of a step with a tree of this budget and depth.
    fn seconds(&self, budget: usize, depth: usize, cost: &CostCurve) -> f64 {
        self.expected(budget, depth, cost)
            * self.time_factors.factor(budget)
            * self.speed_factor.unwrap_or(1.0)
    }

    /// Returns the predicted seconds as a sum of parts, before the measured corrections.
    fn expected(&self, budget: usize, depth: usize, cost: &CostCurve) -> f64 {
        let drafting = if depth > 0 { self.drafting.value_at(depth as f64).max(0.0) } else { 0.0 };
        cost.seconds(budget) + budget as f64 * self.node.unwrap_or(0.0) + drafting
    }

    /// Returns the predicted number of tokens emitted by a step with this tree.
    fn tokens(&self, tree: &YieldEstimate) -> f64 {
        ((1.0 + tree.expected) * self.yield_factors.factor(tree.budget)).max(1.0)
    }

    /// Returns the predicted tokens per second of a step with this tree.
    fn rate(&self, tree: &YieldEstimate, cost: &CostCurve) -> f64 {
        self.tokens(tree) / self.seconds(tree.budget, tree.depth, cost)
    }

    /// Returns the index of the tree with the highest predicted rate, and that rate.
    fn best(&self, yields: &[YieldEstimate], cost: &CostCurve) -> Option<(usize, f64)> {
        yields.iter().map(|p| self.rate(p, cost)).enumerate().max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Returns the budget to draft for, or `None` during back-off.
    pub fn request(&self, yields: &[YieldEstimate], cost: &CostCurve) -> Option<usize> {
        let (best, _) = self.best(yields, cost).filter(|_| !self.back_off.is_active())?;
        // Neighbors of the best budget: often while their times are unknown, then periodically.
        let beside =
            [yields.get(best + 1), best.checked_sub(1).and_then(|below| yields.get(below))];
        let unknown = |p: &&YieldEstimate| !self.time_factors.has(p.budget);
        let other = match self.back_off.trials() % EXPLORE_PERIOD {
            turn if turn % 4 == 3 => beside.into_iter().flatten().find(unknown),
            12 => beside[0],
            20 => beside[1],
            _ => None,
        };
        other.or(yields.get(best)).map(|tree| tree.budget)
    }

    /// Reports the decision for the step's record. Sampled trees are always verified whole.
    pub fn describe_choice(
        &self,
        draft: &Draft,
        requested: Option<usize>,
        yields: &[YieldEstimate],
        cost: &CostCurve,
    ) -> BudgetChoice {
        let (drafted, plain) = (draft.tree.drafted(), 1.0 / self.seconds(1, 0, cost));
        let chosen = yields.iter().find(|p| Some(p.budget) == requested).filter(|_| drafted > 0);
        let reason = match requested {
            None => BudgetReason::Resting,
            Some(_) if drafted == 0 => BudgetReason::NothingDrafted,
            Some(_) => BudgetReason::Whole,
        };
        BudgetChoice {
            drafted,
            kept: drafted,
            expected: chosen.map_or(0.0, |p| self.tokens(p) - 1.0),
            tokens_per_second: chosen.map_or(plain, |p| self.rate(p, cost)),
            plain_tokens_per_second: plain,
            reason,
        }
    }

    /// Updates times, yields and back-off after a step for which `requested` tokens were requested.
    pub fn learn(
        &mut self,
        requested: Option<usize>,
        made: &StepOutcome,
        yields: &[YieldEstimate],
        cost: &CostCurve,
    ) {
        let StepOutcome { tokens, depth, accepted, time } = *made;
        if let Some(tree) = yields.iter().find(|p| Some(p.budget) == requested) {
            self.yield_factors.update(tree.budget, (1.0 + accepted) / (1.0 + tree.expected));
        }
        update_moving_average(&mut self.node, time.other / tokens as f64);
        let paused = self.back_off.count_step();
        let trials = self.back_off.trials();
        // The first back-off step is skipped, since it meets the caches as drafting left them. So
        // is a step in which the drafter proposed nothing.
        let teaches = match paused {
            Some(index) => index > 0,
            None => trials > WARMUP_STEPS && depth > 0,
        };
        if !teaches {
            return;
        }
        if depth > 0 {
            self.drafting.add(depth as f64, time.draft);
        }
        let took = (time.total() / self.expected(tokens, depth, cost)).clamp(0.5, 2.0);
        update_moving_average(&mut self.speed_factor, took / self.time_factors.factor(tokens));
        self.time_factors.update(tokens, took / self.speed_factor.unwrap_or(1.0));
        // Set until a back-off has measured plain decoding.
        let unknown = !self.time_factors.has(1);
        if paused.is_some() || trials < TRIALS[usize::from(!unknown)] {
            return;
        }
        let pays = self
            .best(yields, cost)
            .is_some_and(|(_, rate)| rate * self.seconds(1, 0, cost) > GIVE_UP);
        if !pays {
            self.back_off.start();
        } else if unknown || trials >= REMEASURE_INTERVAL {
            self.back_off.start_measurement();
            self.back_off.reset_length();
            self.back_off.reset_trials();
        }
    }
}

/// Measured outcome of one step.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepOutcome<'a> {
    /// Tokens of the tree, root included, and its depth.
    pub tokens: usize,
    pub depth: usize,
    /// Expected number of accepted tokens.
    pub accepted: f64,
    /// Durations of the stages of the step.
    pub time: &'a StageTimes,
}

/// Running mean of a ratio by budget: budget, number of steps, mean. Starts at 1.
#[derive(Clone, Debug, Default)]
struct Factors(Vec<(usize, usize, f64)>);

impl Factors {
    fn has(&self, budget: usize) -> bool {
        self.0.iter().any(|tried| tried.0 == budget)
    }

    fn factor(&self, budget: usize) -> f64 {
        self.0.iter().find(|tried| tried.0 == budget).map_or(1.0, |tried| tried.2)
    }

    fn update(&mut self, budget: usize, new: f64) {
        match self.0.iter_mut().find(|tried| tried.0 == budget) {
            Some((_, steps, factor)) => {
                *steps += 1;
                *factor += SLOW.max(1.0 / *steps as f64) * (new - *factor);
            }
            None => self.0.push((budget, PRIOR, 1.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Returns the budget requested in each of `steps` steps; `None` is a back-off step.
    ///
    /// Each child is accepted with probability `acceptance`. A pass over B tokens takes `pass(B)`
    /// seconds, though the measured cost is 1 + (B - 1) / 6. Drafting takes 0.1 s per depth.
    fn requested_budgets(
        acceptance: f64,
        pass: impl Fn(usize) -> f64,
        steps: usize,
    ) -> Vec<Option<usize>> {
        let cost = CostCurve::new(vec![(1, 1.0), (4, 1.5)]).unwrap();
        let tree = |depth: usize| YieldEstimate {
            budget: depth + 1,
            expected: (1..=depth).map(|d| acceptance.powi(d as i32)).sum(),
            depth,
        };
        let yields: Vec<YieldEstimate> = (1..=3).map(tree).collect();
        let mut policy = SizePolicy::default();
        let step = |_| {
            let requested = policy.request(&yields, &cost);
            let (mut draft, depth) =
                (Draft::root_only(0), requested.map_or(0, |budget| budget - 1));
            (0..depth).for_each(|node| {
                draft.tree.push(node, 1, 0.5);
            });
            let choice = policy.describe_choice(&draft, requested, &yields, &cost);
            assert_eq!(
                (choice.reason == BudgetReason::Resting, choice.kept),
                (requested.is_none(), depth)
            );
            let time =
                StageTimes { draft: 0.1 * depth as f64, verify: pass(depth + 1), other: 0.0 };
            let accepted = choice.expected;
            policy.learn(
                requested,
                &StepOutcome { tokens: depth + 1, depth, accepted, time: &time },
                &yields,
                &cost,
            );
            requested
        };
        (0..steps).map(step).collect()
    }

    #[test]
    fn the_budget_that_pays_best_is_found() {
        let most = |requested: &[Option<usize>], budget: usize| {
            requested.iter().filter(|b| **b == Some(budget)).count()
        };
        // Rates of the budgets 2, 3 and 4: 1.9 / 1.35, 2.71 / 1.7 and 3.44 / 2.05.
        let often = requested_budgets(0.9, |b| 1.0 + 0.25 * (b - 1) as f64, 400);
        assert!(most(&often, 4) > 300, "{often:?}");
        // Rates of the budgets 2 and 3: 1.6 / 1.2 and 1.96 / 1.9; by the measured cost, 1.6 / 1.27
        // and 1.96 / 1.53.
        let small =
            requested_budgets(0.6, |b| if b == 2 { 1.1 } else { 0.8 + 0.3 * b as f64 }, 400);
        assert!(most(&small, 2) > 250 && most(&small, 3) < 80, "{small:?}");
        // Back-offs that re-measure plain decoding are short.
        let rests = often.iter().filter(|budget| budget.is_none()).count();
        assert!((8..=40).contains(&rests), "{rests}");
    }

    #[test]
    fn unprofitable_drafting_backs_off_ever_longer_and_retries() {
        let all = requested_budgets(0.1, |b| 1.0 + 0.25 * (b - 1) as f64, 700);
        let rests: Vec<usize> =
            all.split(Option::is_some).map(<[_]>::len).filter(|&rest| rest > 0).collect();
        assert_eq!(rests[..6], [8, 16, 32, 32, 32, 32], "{all:?}");
    }
}
