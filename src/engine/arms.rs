//! The automatic budget where children are drawn: none can be left out once it is known, so that the size of a tree is settled before,
//! by what trees of that size brought and took.

use super::line::Line;
use crate::draft::{Draft, Promise, follow};
use crate::telemetry::{Choice, Reason, StageTimes};
use crate::theory::cost::Cost;

/// Steps of a drafter before its drafting can be given up for the first time, and after each rest.
const TRIALS: [usize; 2] = [16, 10];
/// The first of them teach nothing of times: the drafter reads what it missed, and what drafting works on has to come near again.
const COLD: usize = 3;
/// Drafting is given up where it is slower than this share of plain decoding: where both are as fast, nothing is lost by going on.
const GIVE_UP: f64 = 0.95;
/// Steps that the measured costs count for, before a budget was tried.
const PRIOR: usize = 16;
/// Steps without drafting, after it did not pay for the first time; each further time in turn it is twice as many.
const REST: usize = 8;
/// The most of them.
const LONGEST_REST: usize = 32;
/// Drafted steps after which a rest of [`REST`] tells what plain decoding takes now.
const TURN: usize = 256;
/// The budgets beside the best one are tried once each in so many drafted steps.
const LOOK: usize = 24;
/// Weight of the newest step in what a budget takes beside the others: the machine's speed changes faster than that does.
const SLOW: f64 = 0.04;

/// What steps of each budget take, learnt from those that were made, and which is the best.
#[derive(Clone, Debug, Default)]
pub(super) struct Arms {
    /// Measured over expected seconds of the last steps: how slow the machine is just now, whatever the budget.
    now: Option<f64>,
    /// What such a step takes beside that. Those of 1 are steps of rest.
    factors: Factors,
    /// Tokens that trees of a budget brought, over what they promised: what is known of children by their rank alone holds less well
    /// the deeper they are, and the budget that is chosen is among those of which too much is expected.
    kept: Factors,
    /// Seconds that drafting takes by the depth of the tree.
    drafting: Line,
    /// Seconds a token that a step takes besides drafting and the pass. (A part of them does not depend on the tokens; but passes of
    /// larger trees take longer than the measured costs say, until their factors are known.)
    node: Option<f64>,
    /// Drafted steps since the last rest, steps of rest still to come, and the length of the next rest.
    trials: usize,
    rest: usize,
    next_rest: usize,
}

impl Arms {
    /// Seconds of a step with a tree of this budget and depth.
    fn seconds(&self, budget: usize, depth: usize, cost: &Cost) -> f64 {
        self.expected(budget, depth, cost) * self.factors.of(budget) * self.now.unwrap_or(1.0)
    }

    /// The same by the parts that it consists of.
    fn expected(&self, budget: usize, depth: usize, cost: &Cost) -> f64 {
        let drafting = if depth > 0 { self.drafting.at(depth as f64).max(0.0) } else { 0.0 };
        cost.seconds(budget) + budget as f64 * self.node.unwrap_or(0.0) + drafting
    }

    /// Tokens of a step with a tree that promises so much.
    fn tokens(&self, promise: &Promise) -> f64 {
        ((1.0 + promise.expected) * self.kept.of(promise.budget)).max(1.0)
    }

    /// Tokens a second of a tree that promises so much.
    fn rate(&self, promise: &Promise, cost: &Cost) -> f64 {
        self.tokens(promise) / self.seconds(promise.budget, promise.depth, cost)
    }

    /// Of what trees promise the place of the one with the most tokens a second, and that rate.
    fn best(&self, promises: &[Promise], cost: &Cost) -> Option<(usize, f64)> {
        promises.iter().map(|p| self.rate(p, cost)).enumerate().max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// How many tokens to draft for, of what trees promise; none says to draft nothing, since of late it did not pay.
    pub fn ask(&self, promises: &[Promise], cost: &Cost) -> Option<usize> {
        let (best, _) = self.best(promises, cost).filter(|_| self.rest == 0)?;
        // The budgets beside it: soon, while it is not known what they take, and then now and again.
        let beside = [promises.get(best + 1), best.checked_sub(1).and_then(|below| promises.get(below))];
        let unknown = |p: &&Promise| !self.factors.has(p.budget);
        let other = match self.trials % LOOK {
            turn if turn % 4 == 3 => beside.into_iter().flatten().find(unknown),
            12 => beside[0],
            20 => beside[1],
            _ => None,
        };
        other.or(promises.get(best)).map(|promise| promise.budget)
    }

    /// What was decided. All of the tree is verified.
    pub fn choice(&self, draft: &Draft, asked: Option<usize>, promises: &[Promise], cost: &Cost) -> Choice {
        let (drafted, plain) = (draft.tree.drafted(), 1.0 / self.seconds(1, 0, cost));
        let promised = promises.iter().find(|p| Some(p.budget) == asked).filter(|_| drafted > 0);
        let reason = match asked {
            None => Reason::Resting,
            Some(_) if drafted == 0 => Reason::NothingDrafted,
            Some(_) => Reason::Whole,
        };
        Choice {
            drafted,
            kept: drafted,
            expected: promised.map_or(0.0, |p| self.tokens(p) - 1.0),
            tokens_per_second: promised.map_or(plain, |p| self.rate(p, cost)),
            plain_tokens_per_second: plain,
            reason,
        }
    }

    /// Learns from a step for which so many tokens were `asked`, and that brought what `made` says.
    pub fn learn(&mut self, asked: Option<usize>, made: &Made, promises: &[Promise], cost: &Cost) {
        let Made { tokens, depth, accepted, time } = *made;
        if let Some(promise) = promises.iter().find(|p| Some(p.budget) == asked) {
            self.kept.follow(promise.budget, (1.0 + accepted) / (1.0 + promise.expected));
        }
        follow(&mut self.node, time.other / tokens as f64);
        let resting = self.rest > 0;
        self.rest = self.rest.saturating_sub(1);
        self.trials += usize::from(!resting);
        // Nor does the first step of rest, which finds what drafting left behind, nor one for which the drafter had nothing.
        let teaches = if resting { self.rest + 1 != REST } else { self.trials > COLD && depth > 0 };
        if !teaches {
            return;
        }
        if depth > 0 {
            self.drafting.add(depth as f64, time.draft);
        }
        let took = (time.total() / self.expected(tokens, depth, cost)).clamp(0.5, 2.0);
        follow(&mut self.now, took / self.factors.of(tokens));
        self.factors.follow(tokens, took / self.now.unwrap_or(1.0));
        // Whether a rest is still to tell what plain decoding takes.
        let unknown = !self.factors.has(1);
        if resting || self.trials < TRIALS[usize::from(!unknown)] {
            return;
        }
        let pays = self.best(promises, cost).is_some_and(|(_, rate)| rate * self.seconds(1, 0, cost) > GIVE_UP);
        if !pays {
            self.rest = self.next_rest.max(REST);
            self.next_rest = (self.rest * 2).min(LONGEST_REST);
        } else if unknown || self.trials >= TURN {
            (self.rest, self.next_rest) = (REST, REST);
        }
        if self.rest > 0 {
            self.trials = 0;
        }
    }
}

/// A step that was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made<'a> {
    /// Tokens of its tree, the root included, and its depth.
    pub tokens: usize,
    pub depth: usize,
    /// The expected count of accepted ones.
    pub accepted: f64,
    /// What it took.
    pub time: &'a StageTimes,
}

/// By budget: steps, and the mean of a factor, about 1 before anything was seen.
#[derive(Clone, Debug, Default)]
struct Factors(Vec<(usize, usize, f64)>);

impl Factors {
    fn has(&self, budget: usize) -> bool {
        self.0.iter().any(|tried| tried.0 == budget)
    }

    fn of(&self, budget: usize) -> f64 {
        self.0.iter().find(|tried| tried.0 == budget).map_or(1.0, |tried| tried.2)
    }

    fn follow(&mut self, budget: usize, new: f64) {
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

    /// Budgets asked for in `steps` steps (none: rest) of a drafter whose each child is accepted with probability `acceptance`, where a
    /// pass over B tokens really takes `pass(B)` seconds, and was measured to take 1 + (B - 1) / 6; drafting takes a tenth a depth.
    fn asked(acceptance: f64, pass: impl Fn(usize) -> f64, steps: usize) -> Vec<Option<usize>> {
        let cost = Cost::new(vec![(1, 1.0), (4, 1.5)]).unwrap();
        let promise =
            |depth: usize| Promise { budget: depth + 1, expected: (1..=depth).map(|d| acceptance.powi(d as i32)).sum(), depth };
        let promises: Vec<Promise> = (1..=3).map(promise).collect();
        let mut arms = Arms::default();
        let step = |_| {
            let asked = arms.ask(&promises, &cost);
            let (mut draft, depth) = (Draft::nothing(0), asked.map_or(0, |budget| budget - 1));
            (0..depth).for_each(|node| {
                draft.tree.push(node, 1, 0.5);
            });
            let choice = arms.choice(&draft, asked, &promises, &cost);
            assert_eq!((choice.reason == Reason::Resting, choice.kept), (asked.is_none(), depth));
            let time = StageTimes { draft: 0.1 * depth as f64, verify: pass(depth + 1), other: 0.0 };
            let accepted = choice.expected;
            arms.learn(asked, &Made { tokens: depth + 1, depth, accepted, time: &time }, &promises, &cost);
            asked
        };
        (0..steps).map(step).collect()
    }

    #[test]
    fn the_budget_that_pays_best_is_found() {
        let most = |asked: &[Option<usize>], budget: usize| asked.iter().filter(|b| **b == Some(budget)).count();
        // 1.9 / 1.35, 2.71 / 1.7, 3.44 / 2.05.
        let asked_often = asked(0.9, |b| 1.0 + 0.25 * (b - 1) as f64, 400);
        assert!(most(&asked_often, 4) > 300, "{asked_often:?}");
        // 1.6 / 1.2, 1.96 / 1.9; the curve that was measured has 1.6 / 1.27, 1.96 / 1.53.
        let small = asked(0.6, |b| if b == 2 { 1.1 } else { 0.8 + 0.3 * b as f64 }, 400);
        assert!(most(&small, 2) > 250 && most(&small, 3) < 80, "{small:?}");
        // Rests tell what plain decoding takes, and are short.
        let rests = asked_often.iter().filter(|budget| budget.is_none()).count();
        assert!((8..=40).contains(&rests), "{rests}");
    }

    #[test]
    fn drafting_that_does_not_pay_rests_ever_longer_and_looks_again() {
        let all = asked(0.1, |b| 1.0 + 0.25 * (b - 1) as f64, 700);
        let rests: Vec<usize> = all.split(Option::is_some).map(<[_]>::len).filter(|&rest| rest > 0).collect();
        assert_eq!(rests[..6], [8, 16, 32, 32, 32, 32], "{all:?}");
    }
}
