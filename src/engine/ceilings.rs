//! Ceilings of a session, from the target distributions of the generated positions.
//!
//! The pool starts over when the sampling parameters change. Evaluations are spaced geometrically,
//! so that their cost per step falls as the pool grows.

use std::collections::BTreeMap;

use crate::distribution::{Moments, Sampling, TokenDist};
use crate::telemetry::{Ceilings, EntropyClassBound, FluidBound, ReachedIntervals, StepSettings};
use crate::theory::intervals::{Interval, MIN_INTERVAL_STEPS, StepUnits};
use crate::theory::pool::SurprisalPool;

use super::MAX_BUDGET;

/// Inverse of the relative growth of the pool after which the bound is evaluated again.
///
/// The error of the bound falls as 1/sqrt(n). A twentieth more positions therefore changes it by
/// far less than its uncertainty, and evaluation takes an ever smaller fraction of the time.
const GROWTH: usize = 20;
/// Smallest pool size, in positions, from which reports of the full curve are spaced.
///
/// Within a text it is reported when the pool has half as many positions more than at the last
/// report, or than this if that is larger.
const FIRST_LENGTH: usize = 64;
/// Lower bounds in nats of the entropy classes: nearly certain, in between, wide open.
const ENTROPY_CLASSES: [f64; 3] = [0.0, 0.25, 1.5];

/// Condition under which the fluid bound for every budget is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FluidReport {
    /// Once the pool holds half as many positions more than at the last report.
    Spaced,
    /// Once the pool holds any position more than at the last report.
    ///
    /// Used at the end of a text.
    AnyNewPosition,
}

impl FluidReport {
    /// Returns the condition after a step, which may have ended the text.
    pub(crate) fn after_step(ended: bool) -> Self {
        if ended { FluidReport::AnyNewPosition } else { FluidReport::Spaced }
    }
}

/// Pool of observed distributions, and the ceilings computed from it.
#[derive(Clone, Debug)]
pub(super) struct CeilingTracker {
    pool: SurprisalPool,
    /// Distribution of one position, from which the others are filled.
    ///
    /// This way the vocabulary is scanned once for all pools.
    one: SurprisalPool,
    kinds: [SurprisalPool; ENTROPY_CLASSES.len()],
    greedy: bool,
    /// Latest evaluation for each budget: the automatic budget's trees change size at every step.
    latest: BTreeMap<usize, Evaluated>,
    /// Steps since the settings last changed.
    blocks: StepUnits,
    reached: Option<ReachedIntervals>,
    /// Number of positions when the full curve was last reported.
    reported: usize,
    /// Drafted nodes and steps since the settings last changed.
    drafted: usize,
    steps: usize,
    /// Last bound at the mean number of drafted nodes: positions, that number, bound.
    at_mean: Option<(usize, f64, f64)>,
}

#[derive(Clone, Copy, Debug)]
struct Evaluated {
    positions: usize,
    fluid: f64,
    floor: Option<f64>,
}

/// Returns true if a mean has left the interval that was computed last.
///
/// Compares the mean of E\[X | T\], and its ratio to the fluid bound.
fn is_outside(reached: &ReachedIntervals, mean: f64, fluid: f64) -> bool {
    let outside = |interval: Option<Interval>, value: f64| {
        interval.is_some_and(|i| value < i.low || i.high < value)
    };
    outside(reached.expected, mean) || (fluid > 0.0 && outside(reached.share, mean / fluid))
}

impl CeilingTracker {
    /// Creates an empty pool for distributions under `sampling`.
    pub fn new(sampling: &Sampling) -> Self {
        Self {
            pool: SurprisalPool::new(),
            one: SurprisalPool::new(),
            kinds: Default::default(),
            greedy: sampling.greedy(),
            latest: BTreeMap::new(),
            blocks: StepUnits::default(),
            reached: None,
            reported: 0,
            drafted: 0,
            steps: 0,
            at_mean: None,
        }
    }

    /// Restarts the means and intervals after a change of other settings.
    ///
    /// The pool stays, since the sampling parameters are the same.
    pub fn begin(&mut self) {
        (self.blocks, self.reached, self.drafted, self.steps) = (StepUnits::default(), None, 0, 0);
    }

    /// Adds the distribution of one generated position, with its moments.
    pub fn add(&mut self, dist: &TokenDist, moments: Moments) {
        let kind = ENTROPY_CLASSES
            .partition_point(|&from| from <= moments.entropy)
            .clamp(1, ENTROPY_CLASSES.len())
            - 1;
        let pools = [&mut self.pool, &mut self.kinds[kind], self.blocks.pool()];
        if self.greedy {
            // A single token holds all the mass, so that scanning is cheap.
            pools.into_iter().for_each(|pool| pool.add(dist, moments));
            return;
        }
        self.one.clear();
        self.one.add(dist, moments);
        for pool in pools {
            pool.absorb(&self.one, 1);
        }
    }

    /// Ends a step and returns the ceilings at its tree size, with the latest intervals.
    ///
    /// `expected` is the step's E\[X | T\] and `size` its tokens, or the budget if that is fixed.
    /// If decoding is greedy the fluid bound is B - 1, since an oracle accepts all. For sampled
    /// trees only B - 1 holds. A step that repeats an earlier one has `counts` unset and leaves
    /// means and intervals unchanged.
    pub fn end_step(
        &mut self,
        expected: f64,
        size: usize,
        settings: &StepSettings,
        counts: bool,
    ) -> (Ceilings, Option<ReachedIntervals>) {
        let mut ceilings =
            if settings.samples_trees() { Ceilings::batch_only(size) } else { self.ceilings(size) };
        if counts {
            self.blocks.end_step(expected);
            self.drafted += size.saturating_sub(1);
            self.steps += 1;
        }
        let drafted = self.drafted as f64 / self.steps.max(1) as f64;
        if settings.automatic() && !settings.samples_trees() {
            ceilings.fluid_at_mean = self.fluid_at(drafted);
        }
        let steps = self.blocks.steps();
        let fluid = ceilings.fluid_at_mean.or(ceilings.fluid).unwrap_or(0.0);
        let mean = self.blocks.mean().unwrap_or(0.0);
        // Due once there are enough steps for intervals, after half as many steps more, and when
        // the newest mean has left its interval.
        let due = steps
            >= self.reached.map_or(MIN_INTERVAL_STEPS, |reached| reached.steps + reached.steps / 2);
        if counts && (due || self.reached.is_some_and(|reached| is_outside(&reached, mean, fluid)))
        {
            let found = self.blocks.resample(drafted, fluid);
            self.reached = Some(ReachedIntervals {
                steps,
                expected: found.map(|found| found.expected),
                fluid: found.map(|found| found.fluid).filter(|_| !settings.samples_trees()),
                share: found.map(|found| found.fraction).filter(|_| !settings.samples_trees()),
                expected_mean: found.map(|_| mean),
                share_mean: found.map(|_| mean / fluid).filter(|_| !settings.samples_trees()),
            });
        }
        (ceilings, self.reached)
    }

    /// Returns the pool of distributions and drops everything else.
    pub fn into_pool(self) -> SurprisalPool {
        self.pool
    }

    /// Returns the mean entropy in nats and the mean of sum p ln^2 p.
    ///
    /// Both are 0 before the first position.
    pub fn moments(&self) -> (f64, f64) {
        (self.pool.mu().unwrap_or(0.0), self.pool.mu2().unwrap_or(0.0))
    }

    /// Returns the fluid bound at a mean number of drafted nodes.
    ///
    /// Solved again when the pool or the mean has changed by a twentieth.
    fn fluid_at(&mut self, drafted: f64) -> Option<f64> {
        if self.greedy {
            return Some(drafted);
        }
        let positions = self.pool.positions();
        let fresh = |&(at, mean, _): &(usize, f64, f64)| {
            positions <= at + at / GROWTH && (mean - drafted).abs() * GROWTH as f64 <= drafted
        };
        match self.at_mean.filter(fresh) {
            Some((_, mean, fluid)) if mean > 0.0 => Some((fluid * drafted / mean).min(drafted)),
            _ => {
                let fluid = self.pool.fluid_bound_for_mean_size(drafted)?;
                self.at_mean = Some((positions, drafted, fluid));
                Some(fluid)
            }
        }
    }

    fn ceilings(&mut self, budget: usize) -> Ceilings {
        let (mu, mu2) = self.moments();
        if self.greedy {
            return Ceilings::for_budget(mu, mu2, budget, Some(budget.saturating_sub(1) as f64));
        }
        let positions = self.pool.positions();
        let fresh = |last: &Evaluated| positions <= last.positions + last.positions / GROWTH;
        let known = self.latest.get(&budget).copied().filter(fresh);
        let evaluated = known.or_else(|| {
            let (fluid, floor) = self.pool.fluid_and_floor(budget.saturating_sub(1))?;
            let found = Evaluated { positions, fluid, floor };
            self.latest.insert(budget, found);
            Some(found)
        });
        let (fluid, fluid_floor) =
            evaluated.map_or((None, None), |last| (Some(last.fluid), last.floor));
        Ceilings { fluid_floor, ..Ceilings::for_budget(mu, mu2, budget, fluid) }
    }

    /// Returns the fluid bound for every budget, if a new report is due.
    ///
    /// The bounds of the entropy classes are for budget B = `budget`. Takes a few milliseconds, so
    /// call it between steps.
    pub fn full_report(&mut self, budget: usize, report: FluidReport) -> Option<FluidBound> {
        let (positions, before) = (self.pool.positions(), self.reported.max(FIRST_LENGTH));
        let due = match report {
            FluidReport::Spaced => positions >= before + before / 2,
            FluidReport::AnyNewPosition => positions > self.reported,
        };
        if !due {
            return None;
        }
        self.reported = positions;
        let kind = |(pool, entropy_from): (&SurprisalPool, f64)| EntropyClassBound {
            entropy_from,
            share: pool.positions() as f64 / positions as f64,
            mu: pool.mu().unwrap_or(0.0),
            fluid: pool.fluid(budget.saturating_sub(1)),
        };
        let curve = self.pool.fluid_curve(MAX_BUDGET - 1);
        Some(FluidBound {
            positions,
            curve,
            kinds: self.kinds.iter().zip(ENTROPY_CLASSES).map(kind).collect(),
        })
    }
}
