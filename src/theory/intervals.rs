//! Intervals of what was reached and of the ceiling, resampled together: a circular moving-block bootstrap over steps
//! (Politis & Romano, "A circular block-resampling procedure for stationary data", 1992), in constant memory.
//!
//! # How
//! Steps that follow each other are gathered in units, whose number stays below [`UNITS`]: when there are so many, neighbours are
//! joined and a unit holds twice as many steps. A unit keeps its steps' number, the sum of E\[X | T\], and the pool of its
//! positions' laws on a coarse grid. A replicate is drawn as blocks of [`LENGTH`] units that follow each other, the last followed by
//! the first: what neighbouring steps have in common stays together (bounds.md, "Statistics"). Of each replicate come the mean of
//! E\[X | T\], the fluid bound of its pool, and the ratio of the two: both from the same blocks.
//!
//! The coarse grid loosens the bound by a part that is the same in every replicate but for little; therefore only the
//! ratio of a replicate's bound to that of all units is used, and the caller's own bound is scaled by it.
//!
//! The interval is the standard deviation of the replicates on both sides, times Student's t with the degrees of freedom of so many
//! blocks k (half more for their overlap) and the square root of k/(k - 1): a bootstrap from few blocks is too narrow by as much.

use crate::theory::bootstrap::half_widths;
use crate::theory::pool::Pool;

/// Units, at most.
const UNITS: usize = 32;
/// Steps that a unit must hold before there is an interval: fewer would be too like their neighbours.
const LEAST_STEPS: usize = 4;
/// Units of a block.
const LENGTH: usize = 3;
/// Cells of the units' grids to one nat.
const COARSE: usize = 16;

/// The ends of a 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// An estimate with its 95% interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// The value over all that was seen.
    pub value: f64,
    /// By a block bootstrap. None where there is too little for one.
    pub interval: Option<Interval>,
}

impl Estimate {
    /// Of what lies between 0 and `most`, with half the width of its interval.
    pub fn within(value: f64, half: Option<f64>, most: f64) -> Estimate {
        let around = |half: f64| Interval { low: (value - half).max(0.0), high: (value + half).min(most.max(value)) };
        Estimate { value, interval: half.filter(|half| half.is_finite()).map(around) }
    }

    /// Of what can have either sign.
    pub fn signed(value: f64, half: Option<f64>) -> Estimate {
        let around = |half: f64| Interval { low: value - half, high: value + half };
        Estimate { value, interval: half.filter(|half| half.is_finite()).map(around) }
    }

    /// The same, one more.
    pub fn plus_one(self) -> Estimate {
        let interval = self.interval.map(|i| Interval { low: i.low + 1.0, high: i.high + 1.0 });
        Estimate { value: self.value + 1.0, interval }
    }
}

/// Intervals from the same replicates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resampled {
    /// Of the mean of E\[X | T\].
    pub expected: Interval,
    /// Of the fluid bound.
    pub fluid: Interval,
    /// Of the first over the second.
    pub share: Interval,
}

#[derive(Clone, Debug)]
struct Unit {
    steps: usize,
    expected: f64,
    pool: Pool,
}

impl Unit {
    fn empty() -> Unit {
        Unit { steps: 0, expected: 0.0, pool: Pool::with_grid(COARSE) }
    }

    fn join(&mut self, other: &Unit, times: usize) {
        self.steps += times * other.steps;
        self.expected += times as f64 * other.expected;
        self.pool.absorb(&other.pool, times);
    }
}

/// Steps as they come, kept in units.
#[derive(Clone, Debug)]
pub struct Blocks {
    /// Steps of a full unit.
    size: usize,
    units: Vec<Unit>,
    part: Unit,
    total: (usize, f64),
}

impl Default for Blocks {
    fn default() -> Self {
        Self { size: 1, units: Vec::new(), part: Unit::empty(), total: (0, 0.0) }
    }
}

impl Blocks {
    /// The laws of the positions that the present step generates go into this pool, whose grid has 16 cells to a nat.
    pub fn pool(&mut self) -> &mut Pool {
        &mut self.part.pool
    }

    /// The present step ends, with this E\[X | T\].
    pub fn end_step(&mut self, expected: f64) {
        self.total = (self.total.0 + 1, self.total.1 + expected);
        self.part.steps += 1;
        self.part.expected += expected;
        if self.part.steps < self.size {
            return;
        }
        self.units.push(std::mem::replace(&mut self.part, Unit::empty()));
        if self.units.len() == UNITS {
            let joined = self.units.chunks(2).map(|pair| {
                let mut unit = pair[0].clone();
                pair[1..].iter().for_each(|other| unit.join(other, 1));
                unit
            });
            self.units = joined.collect();
            self.size *= 2;
        }
    }

    /// Steps.
    pub fn steps(&self) -> usize {
        self.total.0
    }

    /// The intervals around the mean of all steps and around `fluid`, the bound for trees of `drafted` = P nodes from all that is
    /// known. The draws are fixed: the same steps give the same intervals. None while it is too early: below sixteen units of
    /// four steps, or where the bound is 0.
    pub fn resample(&self, drafted: usize, fluid: f64) -> Option<Resampled> {
        // Numbers that are none have no interval.
        let sound = fluid > 0.0 && fluid.is_finite() && self.total.1.is_finite();
        if !sound || self.size < LEAST_STEPS || self.units.len() < UNITS / 2 {
            return None;
        }
        let all = self.replicate(&mut |_| 1, drafted)?;
        let mean = self.total.1 / self.total.0 as f64;
        let widths = half_widths(self.units.len(), LENGTH, |times| {
            let one = self.replicate(&mut |i| times[i], drafted)?;
            Some(vec![one.0, one.1 / all.1, one.0 * all.1 / one.1])
        })?;
        let range = |i: usize, centre: f64, scale: f64, most: f64| {
            let half = scale * widths[i];
            Interval { low: (centre - half).max(0.0), high: (centre + half).min(most.max(centre)) }
        };
        Some(Resampled {
            expected: range(0, mean, 1.0, drafted as f64),
            fluid: range(1, fluid, fluid, drafted as f64),
            // E over the relative bound is in the units of E: the caller's bound makes it a share.
            share: range(2, mean / fluid, 1.0 / fluid, f64::MAX),
        })
    }

    /// Mean of E\[X | T\] and the bound on the coarse grid, unit i counting `times(i)` times. None where there is no bound above 0.
    fn replicate(&self, times: &mut dyn FnMut(usize) -> usize, drafted: usize) -> Option<(f64, f64)> {
        let mut sum = Unit::empty();
        self.units.iter().enumerate().for_each(|(i, unit)| sum.join(unit, times(i)));
        let bound = sum.pool.fluid(drafted).filter(|bound| *bound > 0.0)?;
        Some((sum.expected / sum.steps as f64, bound))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::theory::bootstrap::SplitMix;

    struct Noise(SplitMix);

    impl Noise {
        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.0.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0
        }
    }

    /// Steps whose mood is correlated: it sets both how sure their one law is and E\[X | T\], which is a part of what a law allows.
    fn blocks(steps: usize, seed: u64, correlation: f64) -> (Blocks, Pool) {
        let (mut noise, mut blocks, mut pool) = (Noise(SplitMix(seed)), Blocks::default(), Pool::with_grid(64));
        let mut mood = noise.normal();
        for _ in 0..steps {
            let law = law(mood);
            blocks.pool().add_probabilities(&law);
            pool.add_probabilities(&law);
            blocks.end_step(expected(mood));
            mood = correlation * mood + (1.0 - correlation * correlation).sqrt() * noise.normal();
        }
        (blocks, pool)
    }

    fn law(mood: f64) -> [f64; 3] {
        let p = 0.7 + 0.1 * mood.clamp(-2.0, 2.0);
        [p, 0.6 * (1.0 - p), 0.4 * (1.0 - p)]
    }

    fn expected(mood: f64) -> f64 {
        1.0 + 0.3 * mood.clamp(-2.0, 2.0)
    }

    #[test]
    fn early_there_is_none_and_then_the_same_each_time() {
        for steps in [0, 1, 31, 63] {
            assert_eq!(blocks(steps, 1, 0.3).0.resample(15, 3.0), None, "{steps} steps");
        }
        let (blocks, pool) = blocks(500, 1, 0.3);
        assert_eq!(blocks.steps(), 500);
        let fluid = pool.fluid(15).unwrap();
        let found = blocks.resample(15, fluid).unwrap();
        assert_eq!(blocks.resample(15, fluid), Some(found));
        assert!(found.fluid.low < fluid && fluid < found.fluid.high, "{found:?}");
        let mean = blocks.total.1 / 500.0;
        assert!(found.expected.low < mean && mean < found.expected.high, "{found:?}");
        assert!(found.share.low < mean / fluid && mean / fluid < found.share.high, "{found:?}");
        // What is high where the bound is high has a ratio that varies less than both alone.
        let relative = |r: Interval| (r.high - r.low) / (r.high + r.low);
        assert!(relative(found.share) < relative(found.expected), "{found:?}");
    }

    #[test]
    fn certain_laws_have_a_bound_without_an_interval() {
        let mut blocks = Blocks::default();
        for _ in 0..200 {
            blocks.pool().add_probabilities(&[1.0]);
            blocks.end_step(3.0);
        }
        let found = blocks.resample(7, 7.0).unwrap();
        assert_eq!((found.fluid.low, found.fluid.high, found.expected.low, found.share.high), (7.0, 7.0, 3.0, 3.0 / 7.0));
        // Nothing drafted: there is nothing to be a share of.
        assert_eq!(blocks.resample(0, 0.0), None);
    }

    #[test]
    fn intervals_cover_the_truth_where_steps_are_correlated() {
        // The truth: by a long run.
        let (long, pool) = blocks(200_000, 99, 0.3);
        let truth = (long.total.1 / long.total.0 as f64, pool.fluid(15).unwrap());
        for (steps, correlation) in [(100, 0.3), (400, 0.3), (1000, 0.5)] {
            let (mut covered, runs) = ([0; 3], 300);
            for run in 0..runs {
                let (blocks, pool) = blocks(steps, 1000 + run, correlation);
                let found = blocks.resample(15, pool.fluid(15).unwrap()).unwrap();
                let all = [(found.expected, truth.0), (found.fluid, truth.1), (found.share, truth.0 / truth.1)];
                for (covered, (range, truth)) in covered.iter_mut().zip(all) {
                    *covered += usize::from(range.low <= truth && truth <= range.high);
                }
            }
            for covered in covered {
                let share = covered as f64 / runs as f64;
                // 300 runs: two standard errors are 2.5%.
                assert!((0.91..=0.98).contains(&share), "{steps} steps: {share} of the runs cover the truth");
            }
        }
    }
}
