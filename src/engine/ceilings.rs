//! What the session knows of the ceilings: the laws of generated positions since the warp last changed.

use crate::dist::{Law, Moments, Warp};
use crate::telemetry::Ceilings;
use crate::theory::pool::Pool;

/// The bound is evaluated anew when the pool has grown by one in so many: its error falls as 1/sqrt(n), so that a tenth more
/// positions change it by far less than it is uncertain, and evaluating costs ever less of the time.
const GROWTH: usize = 10;

/// The pool of observed laws, and the ceilings that it gives.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pool: Pool,
    greedy: bool,
    /// The last evaluation.
    last: Option<Evaluated>,
}

#[derive(Clone, Copy, Debug)]
struct Evaluated {
    positions: usize,
    budget: usize,
    fluid: f64,
    floor: Option<f64>,
}

impl Observed {
    /// Nothing yet, of laws under `warp`.
    pub fn new(warp: &Warp) -> Self {
        Self { pool: Pool::new(), greedy: warp.greedy(), last: None }
    }

    /// The law of one generated position, with its moments.
    pub fn add(&mut self, law: &Law, moments: Moments) {
        self.pool.add(law, moments);
    }

    /// Mean entropy in nats and the mean of sum p ln^2 p; 0 before the first position.
    pub fn moments(&self) -> (f64, f64) {
        (self.pool.mu().unwrap_or(0.0), self.pool.mu2().unwrap_or(0.0))
    }

    /// The ceilings for `budget` = B. Greedy the fluid bound is B - 1: an oracle accepts all.
    pub fn ceilings(&mut self, budget: usize) -> Ceilings {
        let (mu, mu2) = self.moments();
        if self.greedy {
            return Ceilings::at(mu, mu2, budget, Some(budget.saturating_sub(1) as f64));
        }
        let positions = self.pool.positions();
        let fresh = |last: &Evaluated| last.budget == budget && positions <= last.positions + last.positions / GROWTH;
        if !self.last.as_ref().is_some_and(fresh) {
            self.last = self.pool.fluid_and_floor(budget.saturating_sub(1)).map(|(fluid, floor)| Evaluated {
                positions,
                budget,
                fluid,
                floor,
            });
        }
        let (fluid, fluid_floor) = self.last.map_or((None, None), |last| (Some(last.fluid), last.floor));
        Ceilings { fluid_floor, ..Ceilings::at(mu, mu2, budget, fluid) }
    }
}
