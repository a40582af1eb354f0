//! What the session knows of the ceilings: the laws of generated positions since the warp last changed.

use crate::dist::{Law, Moments, Warp};
use crate::telemetry::{Ceilings, Fluid, FluidKind, Reached, StepSettings};
use crate::theory::intervals::{Blocks, FIRST, Interval};
use crate::theory::pool::Pool;

use super::MAX_BUDGET;

/// The bound is evaluated anew when the pool has grown by one in so many: its error falls as 1/sqrt(n), so that a twentieth more
/// positions change it by far less than it is uncertain, and evaluating costs ever less of the time.
const GROWTH: usize = 20;
/// The bound at length is told again within a text when there are half as many positions more than this, or than the last time.
const FIRST_LENGTH: usize = 64;
/// Entropies, in nats, at which the kinds of positions begin: nearly certain, in between, wide open.
const KINDS: [f64; 3] = [0.0, 0.25, 1.5];

/// The pool of observed laws, and the ceilings that it gives.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pool: Pool,
    /// The law of one position, on its way into the others: one pass over a vocabulary serves all.
    one: Pool,
    kinds: [Pool; KINDS.len()],
    greedy: bool,
    /// The last evaluation.
    last: Option<Evaluated>,
    /// The steps since the settings last changed.
    blocks: Blocks,
    reached: Option<Reached>,
    /// Positions when the bound was told at length.
    told: usize,
    /// Drafted nodes of all steps since the settings last changed, and those steps.
    drafted: usize,
    steps: usize,
    /// The last bound at the mean number of drafted nodes: positions, that number, bound.
    at_mean: Option<(usize, f64, f64)>,
}

#[derive(Clone, Copy, Debug)]
struct Evaluated {
    positions: usize,
    budget: usize,
    fluid: f64,
    floor: Option<f64>,
}

/// Whether the mean of E\[X | T\], or its share of the fluid bound, lies outside of the interval that was made last.
fn left(reached: &Reached, mean: f64, fluid: f64) -> bool {
    let outside = |interval: Option<Interval>, value: f64| interval.is_some_and(|i| value < i.low || i.high < value);
    outside(reached.expected, mean) || (fluid > 0.0 && outside(reached.share, mean / fluid))
}

impl Observed {
    /// Nothing yet, of laws under `warp`.
    pub fn new(warp: &Warp) -> Self {
        Self {
            pool: Pool::new(),
            one: Pool::new(),
            kinds: Default::default(),
            greedy: warp.greedy(),
            last: None,
            blocks: Blocks::default(),
            reached: None,
            told: 0,
            drafted: 0,
            steps: 0,
            at_mean: None,
        }
    }

    /// Other settings under the same warp: what is reached is counted anew.
    pub fn begin(&mut self) {
        (self.blocks, self.reached, self.drafted, self.steps) = (Blocks::default(), None, 0, 0);
    }

    /// The law of one generated position, with its moments.
    pub fn add(&mut self, law: &Law, moments: Moments) {
        let kind = KINDS.partition_point(|&from| from <= moments.entropy).clamp(1, KINDS.len()) - 1;
        let pools = [&mut self.pool, &mut self.kinds[kind], self.blocks.pool()];
        if self.greedy {
            // One token has all the mass.
            pools.into_iter().for_each(|pool| pool.add(law, moments));
            return;
        }
        self.one.clear();
        self.one.add(law, moments);
        for pool in pools {
            pool.absorb(&self.one, 1);
        }
    }

    /// Ends a step with this E\[X | T\] whose tree has `size` tokens (with a fixed budget: the budget): the ceilings at that size, and
    /// what was reached of them as of the last time that it was computed. Greedy the fluid bound is B - 1: an oracle accepts all. Where
    /// children are sampled B - 1 is all that holds. A step that does not `count`, since the same was made before, leaves means and
    /// intervals as they are.
    pub fn end_step(&mut self, expected: f64, size: usize, settings: &StepSettings, counts: bool) -> (Ceilings, Option<Reached>) {
        let mut ceilings = if settings.drawn() { Ceilings::batch(size) } else { self.ceilings(size) };
        if counts {
            self.blocks.end_step(expected);
            self.drafted += size.saturating_sub(1);
            self.steps += 1;
        }
        let drafted = self.drafted as f64 / self.steps.max(1) as f64;
        if settings.automatic() && !settings.drawn() {
            ceilings.fluid_at_mean = self.fluid_at(drafted);
        }
        let steps = self.blocks.steps();
        let fluid = ceilings.fluid_at_mean.or(ceilings.fluid).unwrap_or(0.0);
        let mean = self.blocks.mean().unwrap_or(0.0);
        // As soon as there are intervals, then when there are half as many steps more, and when the newest mean has left its interval.
        let due = steps >= self.reached.map_or(FIRST, |reached| reached.steps + reached.steps / 2);
        if counts && (due || self.reached.is_some_and(|reached| left(&reached, mean, fluid))) {
            let found = self.blocks.resample(drafted, fluid);
            self.reached = Some(Reached {
                steps,
                expected: found.map(|found| found.expected),
                fluid: found.map(|found| found.fluid).filter(|_| !settings.drawn()),
                share: found.map(|found| found.share).filter(|_| !settings.drawn()),
                expected_mean: found.map(|_| mean),
                share_mean: found.map(|_| mean / fluid).filter(|_| !settings.drawn()),
            });
        }
        (ceilings, self.reached)
    }

    /// The laws alone.
    pub fn into_pool(self) -> Pool {
        self.pool
    }

    /// Mean entropy in nats and the mean of sum p ln^2 p; 0 before the first position.
    pub fn moments(&self) -> (f64, f64) {
        (self.pool.mu().unwrap_or(0.0), self.pool.mu2().unwrap_or(0.0))
    }

    /// The fluid bound at a mean number of drafted nodes; solved again when pool or mean have changed by a twentieth.
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
                let fluid = self.pool.fluid_at(drafted)?;
                self.at_mean = Some((positions, drafted, fluid));
                Some(fluid)
            }
        }
    }

    fn ceilings(&mut self, budget: usize) -> Ceilings {
        let (mu, mu2) = self.moments();
        if self.greedy {
            return Ceilings::at(mu, mu2, budget, Some(budget.saturating_sub(1) as f64));
        }
        let positions = self.pool.positions();
        let fresh = |last: &Evaluated| last.budget == budget && positions <= last.positions + last.positions / GROWTH;
        if !self.last.as_ref().is_some_and(fresh) {
            let found = self.pool.fluid_and_floor(budget.saturating_sub(1));
            self.last = found.map(|(fluid, floor)| Evaluated { positions, budget, fluid, floor });
        }
        let (fluid, fluid_floor) = self.last.map_or((None, None), |last| (Some(last.fluid), last.floor));
        Ceilings { fluid_floor, ..Ceilings::at(mu, mu2, budget, fluid) }
    }

    /// The bound at length, with the kinds' at budget B, where it is time to tell it again; with `now` if there is anything new. It
    /// takes a few milliseconds: for between steps.
    pub fn at_length(&mut self, budget: usize, now: bool) -> Option<Fluid> {
        let (positions, before) = (self.pool.positions(), self.told.max(FIRST_LENGTH));
        let due = if now { positions > self.told } else { positions >= before + before / 2 };
        if !due {
            return None;
        }
        self.told = positions;
        let kind = |(pool, entropy_from): (&Pool, f64)| FluidKind {
            entropy_from,
            share: pool.positions() as f64 / positions as f64,
            mu: pool.mu().unwrap_or(0.0),
            fluid: pool.fluid(budget.saturating_sub(1)),
        };
        let curve = self.pool.fluid_curve(MAX_BUDGET - 1);
        Some(Fluid { positions, curve, kinds: self.kinds.iter().zip(KINDS).map(kind).collect() })
    }
}
