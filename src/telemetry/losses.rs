//! Losses between neighboring marks of bounds.md, "The ceilings on one ruler". [`Losses`] has those
//! of one step. [`Ladder`] has the means over steps.

use serde::{Deserialize, Serialize};

use super::{OracleResult, StepRecord, StepSettings};

/// Losses between B - 1 and the accepted tokens by cause, in drafted tokens. They are per step and
/// signed. Luck can be good, and a bound that was estimated on other text can be below what this
/// context allows.
///
/// The sum `budget + context + knowledge + shape + unsplit + luck` is (B - 1) - accepted, where
/// `None` counts as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Loss from B - 1 to the fluid bound. `None` if the bound is not known. When greedy, from
    /// B - 1 to the oracle tree, which lacks what lies beyond the end of the text.
    pub budget: Option<f64>,
    /// Loss from the fluid bound to the oracle tree of this context. The oracle tree counts by its
    /// known mass ([`OracleResult::best_known_mass`]), so after convergence this loss is too large
    /// by less than the tolerance of the search. `None` without an oracle search. 0 when greedy,
    /// where nothing is uncertain.
    pub context: Option<f64>,
    /// Loss from the oracle tree to the drafter's best tree of P nodes. `None` without an oracle
    /// search.
    pub knowledge: Option<f64>,
    /// Loss from the drafter's best tree to E\[X | T\]. `None` without an oracle search.
    pub shape: Option<f64>,
    /// Loss from the lowest known mark above E\[X | T\] down to it. 0 with an oracle search, which
    /// splits it by cause.
    pub unsplit: f64,
    /// Loss from E\[X | T\] to the number of accepted tokens.
    pub luck: f64,
}

impl Losses {
    /// Computes the losses of one step, with its oracle search if there was one.
    pub fn of_step(record: &StepRecord, result: Option<&OracleResult>) -> Losses {
        let batch = record.ceilings.batch;
        let (expected, accepted) = (record.expected_accepted, record.accepted as f64);
        let fluid = if greedy(&record.settings) { Some(batch) } else { record.ceilings.fluid };
        let marks = Marks { batch, fluid, expected, accepted, greedy: greedy(&record.settings) };
        marks.losses(result.and_then(|result| split(record.expected_accepted, result)))
    }

    /// Returns the sum of all losses, (B - 1) - accepted.
    pub fn total(&self) -> f64 {
        let known = [self.budget, self.context, self.knowledge, self.shape].into_iter().flatten();
        known.sum::<f64>() + self.unsplit + self.luck
    }

    /// Scales all losses by `factor`. With steps per second as the factor, they become tokens per
    /// second.
    pub fn scaled(&self, factor: f64) -> Losses {
        let some = |x: Option<f64>| x.map(|x| x * factor);
        Losses {
            budget: some(self.budget),
            context: some(self.context),
            knowledge: some(self.knowledge),
            shape: some(self.shape),
            unsplit: self.unsplit * factor,
            luck: self.luck * factor,
        }
    }
}

/// Fluid bound for the mean step, as of a record. `None` when greedy, where the bound is B - 1
/// (mu = 0: an oracle accepts all), so that its mean over steps is used instead.
fn mean_fluid_bound(record: &StepRecord) -> Option<f64> {
    if greedy(&record.settings) {
        None
    } else {
        record.ceilings.fluid_at_mean.or(record.ceilings.fluid)
    }
}

fn greedy(settings: &StepSettings) -> bool {
    settings.sampling().greedy()
}

/// Losses (knowledge, shape) of one searched step.
fn split(expected: f64, result: &OracleResult) -> Option<(f64, f64)> {
    let best = result.drafter_best?;
    Some((result.best_known_mass(expected) - best, best - expected))
}

/// Marks that are known without an oracle search.
struct Marks {
    batch: f64,
    fluid: Option<f64>,
    expected: f64,
    accepted: f64,
    greedy: bool,
}

impl Marks {
    /// Computes the losses; `split` is (knowledge, shape) if they are known.
    fn losses(&self, split: Option<(f64, f64)>) -> Losses {
        let mut losses = Losses { luck: self.expected - self.accepted, ..Losses::default() };
        let Some(fluid) = self.fluid else {
            // Without the fluid bound, `context` is unknown, and the losses below it can't be
            // separated.
            losses.unsplit = self.batch - self.expected;
            return losses;
        };
        losses.budget = Some(self.batch - fluid);
        match split {
            None => {
                losses.unsplit = fluid - self.expected;
                losses.context = self.greedy.then_some(0.0);
            }
            // Greedy text is deterministic: if the oracle tree is smaller than the budget, the text
            // ends there.
            Some((knowledge, shape)) if self.greedy => {
                losses.budget = Some(fluid - (self.expected + knowledge + shape));
                losses.context = Some(0.0);
                (losses.knowledge, losses.shape) = (Some(knowledge), Some(shape));
            }
            Some((knowledge, shape)) => {
                losses.context = Some(fluid - (self.expected + knowledge + shape));
                (losses.knowledge, losses.shape) = (Some(knowledge), Some(shape));
            }
        }
        losses
    }
}

/// Mean loss ladder over steps at the same settings, some of which have oracle searches.
///
/// E\[X | T\], accepted, and B - 1 are means over all steps. The fluid bound is the newest one,
/// which is computed from all positions so far; it is not an average of earlier estimates.
/// Knowledge and shape are means over the searched steps. The oracle's mark is the mean of
/// E\[X | T\] over all steps plus these two, so the oracle's gain over the drafter is extrapolated
/// from the searched steps to the others. Context is the remainder up to the fluid bound. The parts
/// therefore add up exactly, and if all steps are searched, each part is its plain mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossLadder {
    steps: usize,
    batch: f64,
    expected: f64,
    accepted: f64,
    fluid: Option<f64>,
    greedy: bool,
    searched: usize,
    knowledge: f64,
    shape: f64,
    /// Sums of the lower and upper bound of the oracle tree over the searched steps.
    oracle: (f64, f64),
}

impl LossLadder {
    /// Adds a step, with its oracle search if there is one already.
    pub fn add(&mut self, record: &StepRecord, result: Option<&OracleResult>) {
        self.steps += 1;
        self.batch += record.ceilings.batch;
        self.expected += record.expected_accepted;
        self.accepted += record.accepted as f64;
        self.greedy = greedy(&record.settings);
        self.fluid = mean_fluid_bound(record).or(self.fluid).filter(|_| !self.greedy);
        if let Some(result) = result {
            self.update_search(record.expected_accepted, None, result);
        }
    }

    /// Replaces the fluid bound by one from more positions than the last record had.
    pub fn refine_fluid(&mut self, fluid: f64) {
        self.fluid = Some(fluid);
    }

    /// Updates the ladder after an oracle search of an added step. `expected` is the step's
    /// E\[X | T\], and `before` the previous result for it, if there was one. Only converged
    /// searches count ([`OracleResult::converged`]).
    pub fn update_search(
        &mut self,
        expected: f64,
        before: Option<&OracleResult>,
        result: &OracleResult,
    ) {
        self.count(expected, before, -1.0);
        self.count(expected, Some(result), 1.0);
    }

    fn count(&mut self, expected: f64, result: Option<&OracleResult>, sign: f64) {
        let Some(result) = result.filter(|result| result.converged()) else { return };
        let Some((knowledge, shape)) = split(expected, result) else { return };
        self.searched =
            if sign > 0.0 { self.searched + 1 } else { self.searched.saturating_sub(1) };
        self.knowledge += sign * knowledge;
        self.shape += sign * shape;
        self.oracle.0 += sign * result.best_known_mass(expected);
        self.oracle.1 += sign * result.oracle_upper;
    }

    /// Returns the number of steps.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Returns the number of steps with an oracle search that counts.
    pub fn searched_steps(&self) -> usize {
        self.searched
    }

    /// Returns the mean lower and upper bound of the oracle tree over the searched steps. `None` if
    /// there are none.
    pub fn oracle_mean(&self) -> Option<(f64, f64)> {
        let n = self.searched as f64;
        (self.searched > 0).then(|| (self.oracle.0 / n, self.oracle.1 / n))
    }

    /// Returns the mean losses per step. `None` before the first step.
    pub fn losses(&self) -> Option<Losses> {
        let n = self.steps as f64;
        let mean = |sum: f64| sum / n;
        let batch = mean(self.batch);
        let fluid = if self.greedy { Some(batch) } else { self.fluid };
        let (expected, accepted) = (mean(self.expected), mean(self.accepted));
        let marks = Marks { batch, fluid, expected, accepted, greedy: self.greedy };
        let k = self.searched as f64;
        (self.steps > 0).then(|| {
            marks.losses((self.searched > 0).then(|| (self.knowledge / k, self.shape / k)))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::OracleSearchState;
    use crate::telemetry::testing::{chain, record};

    fn result(lower: f64, best: Option<f64>, refining: bool) -> OracleResult {
        let (upper, state) = if refining {
            (2.0 * lower, OracleSearchState::Refining)
        } else {
            (lower, OracleSearchState::Converged)
        };
        OracleResult {
            oracle_lower: lower,
            oracle_upper: upper,
            oracle_floor: 0.1,
            passes: 3,
            drafter_best: best,
            state,
        }
    }

    #[test]
    fn by_hand() {
        // B = 5, two nodes drafted with p 0.5 each: E = 0.75. One is accepted.
        let mut record = record(chain(&[0.5, 0.5]), &[1], 5);
        record.ceilings.fluid = Some(2.5);
        let alone = Losses::of_step(&record, None);
        assert_eq!(
            (alone.budget, alone.unsplit, alone.luck, alone.total()),
            (Some(1.5), 1.75, -0.25, 3.0)
        );
        assert_eq!((alone.context, alone.knowledge, alone.shape), (None, None, None));
        let seen = Losses::of_step(&record, Some(&result(2.0, Some(1.0), true)));
        let want = Losses {
            budget: Some(1.5),
            context: Some(0.5),
            knowledge: Some(1.0),
            shape: Some(0.25),
            unsplit: 0.0,
            luck: -0.25,
        };
        assert_eq!((seen, seen.total()), (want, 3.0));
        assert_eq!(seen.scaled(2.0).total(), 6.0);
        record.ceilings.fluid = None;
        assert_eq!(
            (Losses::of_step(&record, None).budget, Losses::of_step(&record, None).unsplit),
            (None, 3.25)
        );
        // When greedy, the bound is B - 1, and the context loss is 0.
        record.settings.temperature = 0.0;
        let greedy = Losses::of_step(&record, None);
        assert_eq!((greedy.budget, greedy.context, greedy.unsplit), (Some(0.0), Some(0.0), 3.25));
        let seen = Losses::of_step(&record, Some(&result(2.0, Some(1.0), false)));
        assert_eq!(
            (seen.budget, seen.context, seen.knowledge, seen.shape),
            (Some(2.0), Some(0.0), Some(1.0), Some(0.25))
        );
        assert_eq!(seen.total(), 3.0);
    }

    #[test]
    fn refined_searches_count_once_when_converged() {
        let mut record = record(chain(&[0.5, 0.5]), &[1], 5);
        record.ceilings.fluid = Some(3.0);
        let mut ladder = LossLadder::default();
        assert_eq!(ladder.losses(), None);
        ladder.add(&record, None);
        let (first, last) = (result(1.5, Some(1.0), true), result(2.0, Some(1.0), false));
        ladder.update_search(record.expected_accepted, None, &first);
        assert_eq!((ladder.searched_steps(), ladder.losses().unwrap().knowledge), (0, None));
        ladder.update_search(record.expected_accepted, Some(&first), &last);
        ladder.update_search(record.expected_accepted, Some(&last), &last);
        assert_eq!((ladder.searched_steps(), ladder.losses().unwrap().knowledge), (1, Some(1.0)));
        let (lower, upper) = ladder.oracle_mean().unwrap();
        assert_eq!((lower, upper), (2.0, 2.0));
    }

    prop_compose! {
        fn step()(
            p in prop::collection::vec(0.0f64..1.0, 0..9), taken in 0usize..9, fluid in prop::option::of(0.0f64..9.0),
            results in prop::option::of((0.0f64..9.0, prop::option::of(0.0f64..9.0), any::<bool>())), greedy in any::<bool>(),
        ) -> (StepRecord, Option<OracleResult>) {
            let path: Vec<usize> = (1..=taken.min(p.len())).collect();
            let mut record = record(chain(&p), &path, 10);
            record.ceilings.fluid = fluid;
            record.settings.temperature = if greedy { 0.0 } else { 1.0 };
            (record, results.map(|(lower, best, refining)| result(lower, best, refining)))
        }
    }

    proptest! {
        #[test]
        fn the_losses_add_up(steps in prop::collection::vec(step(), 1..20)) {
            let mut ladder = LossLadder::default();
            let (mut accepted, mut n) = (0.0, 0.0);
            for (record, result) in &steps {
                let losses = Losses::of_step(record, result.as_ref());
                prop_assert!((losses.total() - (9.0 - record.accepted as f64)).abs() < 1e-12);
                ladder.add(record, result.as_ref());
                accepted += record.accepted as f64;
                n += 1.0;
                prop_assert!((ladder.losses().unwrap().total() - (9.0 - accepted / n)).abs() < 1e-12);
            }
        }

        #[test]
        fn parts_are_plain_means_if_all_steps_are_searched(steps in prop::collection::vec(step(), 1..20)) {
            let (mut ladder, mut means, n) = (LossLadder::default(), [0.0; 3], steps.len() as f64);
            for (record, result) in &steps {
                let mut record = record.clone();
                record.ceilings.fluid = Some(4.0);
                record.settings.temperature = 1.0;
                let result = result.unwrap_or(self::result(3.0, None, false));
                let best = result.drafter_best.or(Some(1.0));
                let result = OracleResult { state: OracleSearchState::Converged, drafter_best: best, oracle_upper: result.oracle_lower, ..result };
                ladder.add(&record, Some(&result));
                let one = Losses::of_step(&record, Some(&result));
                for (mean, part) in means.iter_mut().zip([one.context, one.knowledge, one.shape]) {
                    *mean += part.unwrap() / n;
                }
            }
            let all = ladder.losses().unwrap();
            for (mean, part) in means.iter().zip([all.context, all.knowledge, all.shape]) {
                prop_assert!((part.unwrap() - mean).abs() < 1e-9);
            }
        }
    }
}
