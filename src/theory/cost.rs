//! What a verify pass costs, and the tree that is worth its pass (bounds.md, "The wall clock").

use serde::{Deserialize, Serialize};

/// Measured seconds t(B) of one verify pass over B tokens, between measured points a straight line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(usize, f64)>", into = "Vec<(usize, f64)>")]
pub struct Cost {
    points: Vec<(usize, f64)>,
}

/// Points that are no curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the times of a pass are positive and finite, for rising numbers of tokens from 1")]
pub struct NoCurve;

impl Cost {
    /// The curve through `points`: (B, seconds), B rising from 1. A larger pass never counts as quicker than a smaller one:
    /// where noise measured it so, it takes the smaller one's time.
    ///
    /// # Errors
    /// If there is no point at B = 1, B does not rise, or a time is not positive and finite.
    pub fn new(points: Vec<(usize, f64)>) -> Result<Self, NoCurve> {
        let rises = points.windows(2).all(|w| w[0].0 < w[1].0) && points.first().is_some_and(|p| p.0 == 1);
        if !rises || points.iter().any(|&(_, t)| !(t > 0.0 && t.is_finite())) {
            return Err(NoCurve);
        }
        let mut least = 0f64;
        let points = points
            .into_iter()
            .map(|(b, t)| {
                least = least.max(t);
                (b, least)
            })
            .collect();
        Ok(Self { points })
    }

    /// What was measured.
    pub fn points(&self) -> &[(usize, f64)] {
        &self.points
    }

    /// t(`batch`) in seconds; beyond the last point the last slope goes on.
    pub fn seconds(&self, batch: usize) -> f64 {
        let i = self.points.partition_point(|p| p.0 < batch).clamp(1, self.points.len().max(2) - 1);
        match (self.points.get(i - 1), self.points.get(i)) {
            (Some(&(b0, t0)), Some(&(b1, t1))) => t0 + (t1 - t0) * (batch as f64 - b0 as f64) / (b1 as f64 - b0 as f64),
            (Some(&(_, t0)), None) => t0,
            (None, _) => 0.0,
        }
    }

    /// Follows what passes take now: a pass over `batch` tokens took `seconds`. The points beside it move towards it, so that the curve
    /// takes the shape that passes between other work have, and the whole curve a little, since the speed of a machine drifts. A
    /// pass over one token moves the whole curve alike: where nothing is drafted no others are seen, and they must not seem the
    /// dearer for it. A single pass that was held up counts for no more than twice or half of what was expected.
    pub fn follow(&mut self, batch: usize, seconds: f64) {
        let (all, near_by) = if batch <= 1 { (0.1, 0.0) } else { (0.02, 0.1) };
        let factor = (seconds / self.seconds(batch)).clamp(0.5, 2.0);
        let after = self.points.partition_point(|p| p.0 < batch);
        // How near the point before lies, 0 where it is no nearer than the next one's place.
        let before = match (after.checked_sub(1).map(|i| self.points[i].0), self.points.get(after).map(|p| p.0)) {
            (Some(b0), Some(b1)) => (b1 - batch) as f64 / (b1 - b0) as f64,
            (Some(_), None) => 1.0,
            (None, _) => 0.0,
        };
        for (i, (_, t)) in self.points.iter_mut().enumerate() {
            let near = match i {
                _ if i == after => 1.0 - before,
                _ if i + 1 == after => before,
                _ => 0.0,
            };
            *t *= factor.powf(all + near_by * near);
        }
        // A larger pass still never counts as quicker: who moved takes the others along.
        if factor > 1.0 {
            let mut least = 0f64;
            for (_, t) in &mut self.points {
                least = least.max(*t);
                *t = least;
            }
        } else {
            let mut most = f64::INFINITY;
            for (_, t) in self.points.iter_mut().rev() {
                most = most.min(*t);
                *t = most;
            }
        }
    }

    /// The begin of a tree that gives the most tokens a second: `products[i]` is the probability that node i + 1 is
    /// accepted, parents before children, `draft` the seconds that drafting took, and `node` what each token of a pass costs
    /// besides the pass. Gives the number of drafted nodes to keep, from 0, and the rate
    /// (1 + E\[accepted\]) / (t(B) + B node + draft).
    pub fn best(&self, products: &[f64], draft: f64, node: f64) -> (usize, f64) {
        let rate = |kept: usize, mass: f64| (1.0 + mass) / (self.seconds(kept + 1) + (kept + 1) as f64 * node + draft);
        let (mut best, mut mass) = ((0, rate(0, 0.0)), 0.0);
        for (i, p) in products.iter().enumerate() {
            mass += p;
            let rate = rate(i + 1, mass);
            if rate > best.1 {
                best = (i + 1, rate);
            }
        }
        best
    }
}

impl TryFrom<Vec<(usize, f64)>> for Cost {
    type Error = NoCurve;

    fn try_from(points: Vec<(usize, f64)>) -> Result<Self, NoCurve> {
        Self::new(points)
    }
}

impl From<Cost> for Vec<(usize, f64)> {
    fn from(cost: Cost) -> Self {
        cost.points
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn between_points_a_line_and_beyond_the_last_slope() {
        let cost = Cost::new(vec![(1, 1.0), (2, 1.5), (4, 2.5), (8, 2.0)]).unwrap();
        let seconds: Vec<f64> = [1, 2, 3, 4, 6, 8, 16].map(|b| cost.seconds(b)).to_vec();
        // The last point was measured quicker than the one before it.
        assert_eq!(seconds, [1.0, 1.5, 2.0, 2.5, 2.5, 2.5, 2.5]);
        assert_eq!(Cost::new(vec![(1, 1.0), (3, 2.0)]).unwrap().seconds(5), 3.0);
        assert_eq!(Cost::new(vec![(1, 1.0)]).unwrap().seconds(9), 1.0);
        for bad in [vec![], vec![(2, 1.0)], vec![(1, 1.0), (1, 2.0)], vec![(1, 0.0)], vec![(1, f64::NAN)]] {
            assert_eq!(Cost::new(bad), Err(NoCurve));
        }
    }

    #[test]
    fn it_follows_the_machine() {
        let mut cost = Cost::new(vec![(1, 1.0), (2, 1.5), (4, 2.5), (8, 4.5)]).unwrap();
        // One pass that was held up hardly counts, many do.
        cost.follow(1, 100.0);
        assert!(cost.seconds(1) < 1.1);
        for _ in 0..200 {
            cost.follow(1, 2.0);
            cost.follow(4, 5.0);
        }
        // What passes took, the points between and beyond, and that none is quicker than a smaller one.
        assert!((cost.seconds(1) - 2.0).abs() < 0.1 && (cost.seconds(4) - 5.0).abs() < 0.25, "{cost:?}");
        assert!(cost.seconds(8) > 5.0 && cost.points().windows(2).all(|w| w[0].1 <= w[1].1), "{cost:?}");
        // The shape as well: in between work a pass over two takes as long as one over one.
        for _ in 0..200 {
            cost.follow(1, 2.0);
            cost.follow(2, 2.0);
            cost.follow(6, 4.0);
        }
        assert!((cost.seconds(2) - 2.0).abs() < 0.1 && (cost.seconds(6) - 4.0).abs() < 0.2, "{cost:?}");
        assert!(cost.points().windows(2).all(|w| w[0].1 <= w[1].1), "{cost:?}");
        // A machine that is twice as slow, while nothing is drafted: what was not seen is twice as dear, and no dearer.
        let (before, one) = (cost.clone(), cost.seconds(1));
        for _ in 0..200 {
            cost.follow(1, 4.0);
        }
        for (now, before) in cost.points().iter().zip(before.points()) {
            assert!((now.1 / before.1 * one / 4.0 - 1.0).abs() < 0.01, "{cost:?} after {before:?}");
        }
    }

    proptest! {
        #[test]
        fn no_other_begin_is_better(
            steps in prop::collection::vec(0.0f64..1.0, 1..6), products in prop::collection::vec(0.0f64..1.0, 0..40),
            draft in 0.0f64..3.0, node in 0.0f64..0.2
        ) {
            let mut t = 1.0;
            let points = steps.iter().enumerate().map(|(i, s)| { t += s; (1 << i, t) }).collect();
            let cost = Cost::new(points).unwrap();
            let (kept, rate) = cost.best(&products, draft, node);
            for n in 0..=products.len() {
                let mass: f64 = products[..n].iter().sum();
                let other = (1.0 + mass) / (cost.seconds(n + 1) + (n + 1) as f64 * node + draft);
                prop_assert!(other <= rate * (1.0 + 1e-12), "{n} gives {other}, {kept} gives {rate}");
            }
        }
    }
}
