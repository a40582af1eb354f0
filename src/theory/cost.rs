//! Cost model of a verify pass, and the best tree size (bounds.md, "The wall clock").

use serde::{Deserialize, Serialize};

/// Measured seconds t(B) of one verify pass over B tokens, interpolated linearly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(usize, f64)>", into = "Vec<(usize, f64)>")]
pub struct CostCurve {
    points: Vec<(usize, f64)>,
}

/// Largest B of a point, in tokens: beyond any context, and exact as a float.
const MAX_TOKENS: usize = 1 << 24;

/// Error for points that do not form a cost curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the times of a pass are positive and finite, for rising numbers of tokens from 1")]
pub struct InvalidCostCurve;

impl CostCurve {
    /// Builds the curve through `points`, pairs (B, seconds) with B rising from 1.
    ///
    /// A larger pass never counts as faster than a smaller one: where noise measured it so, it
    /// takes the smaller one's time.
    ///
    /// # Errors
    /// If there is no point at B = 1, B does not rise or is beyond any context, or a time is not
    /// positive and finite.
    pub fn new(points: Vec<(usize, f64)>) -> Result<Self, InvalidCostCurve> {
        let rises =
            points.windows(2).all(|w| w[0].0 < w[1].0) && points.first().is_some_and(|p| p.0 == 1);
        let most = points.last().map_or(0, |p| p.0);
        if !rises || most > MAX_TOKENS || points.iter().any(|&(_, t)| !(t > 0.0 && t.is_finite())) {
            return Err(InvalidCostCurve);
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

    /// Returns the points (B, seconds) of the curve.
    pub fn points(&self) -> &[(usize, f64)] {
        &self.points
    }

    /// Returns t(`batch`) in seconds, extrapolated with the last slope beyond the last point.
    pub fn seconds(&self, batch: usize) -> f64 {
        let i = self.points.partition_point(|p| p.0 < batch).clamp(1, self.points.len().max(2) - 1);
        match (self.points.get(i - 1), self.points.get(i)) {
            (Some(&(b0, t0)), Some(&(b1, t1))) => {
                t0 + (t1 - t0) * (batch as f64 - b0 as f64) / (b1 as f64 - b0 as f64)
            }
            (Some(&(_, t0)), None) => t0,
            (None, _) => 0.0,
        }
    }

    /// Returns the largest B that was measured; 0 for an empty curve.
    pub fn largest(&self) -> usize {
        self.points.last().map_or(0, |point| point.0)
    }

    /// Returns true if a real machine could take these times.
    ///
    /// No pass may cost more than 1.1 times as many passes over one token, or take less than a
    /// microsecond or more than an hour. Curves that were measured while other work was running
    /// often fail this.
    pub fn is_plausible(&self) -> bool {
        let one = self.seconds(1);
        let sound = |&(batch, seconds): &(usize, f64)| {
            (1e-6..3600.0).contains(&seconds) && seconds <= 1.1 * batch as f64 * one
        };
        self.points.iter().all(sound)
    }

    /// Returns the prefix of a tree that gives the most tokens per second.
    ///
    /// `products[i]` is the probability that node i + 1 is accepted, parents before children;
    /// `draft` is the time spent on drafting and `node` the cost of each token of a pass besides
    /// the pass, both in seconds. Returns the number of drafted nodes to keep, from 0, and the rate
    /// (1 + E\[accepted\]) / (t(B) + B node + draft) in tokens per second.
    pub fn best_prefix(&self, products: &[f64], draft: f64, node: f64) -> (usize, f64) {
        let rate = |kept: usize, mass: f64| {
            (1.0 + mass) / (self.seconds(kept + 1) + (kept + 1) as f64 * node + draft)
        };
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

impl TryFrom<Vec<(usize, f64)>> for CostCurve {
    type Error = InvalidCostCurve;

    fn try_from(points: Vec<(usize, f64)>) -> Result<Self, InvalidCostCurve> {
        Self::new(points)
    }
}

impl From<CostCurve> for Vec<(usize, f64)> {
    fn from(cost: CostCurve) -> Self {
        cost.points
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn seconds_are_interpolated_and_extrapolated_linearly() {
        let cost = CostCurve::new(vec![(1, 1.0), (2, 1.5), (4, 2.5), (8, 2.0)]).unwrap();
        let seconds: Vec<f64> = [1, 2, 3, 4, 6, 8, 16].map(|b| cost.seconds(b)).to_vec();
        // The last point was measured faster than the one before it.
        assert_eq!(seconds, [1.0, 1.5, 2.0, 2.5, 2.5, 2.5, 2.5]);
        assert_eq!(CostCurve::new(vec![(1, 1.0), (3, 2.0)]).unwrap().seconds(5), 3.0);
        assert_eq!(CostCurve::new(vec![(1, 1.0)]).unwrap().seconds(9), 1.0);
        // Beyond 2^53, different numbers of tokens are the same float.
        let equal = vec![(1, 1.0), (usize::MAX - 1, 2.0), (usize::MAX, 3.0)];
        for bad in [
            vec![],
            vec![(2, 1.0)],
            vec![(1, 1.0), (1, 2.0)],
            vec![(1, 0.0)],
            vec![(1, f64::NAN)],
            equal,
        ] {
            assert_eq!(CostCurve::new(bad), Err(InvalidCostCurve));
        }
    }

    #[test]
    fn implausible_curves_are_detected() {
        let plausible = |points: Vec<(usize, f64)>| CostCurve::new(points).unwrap().is_plausible();
        assert!(plausible(vec![(1, 2e-3), (2, 2.1e-3), (4, 8e-3), (128, 0.25)]));
        // A curve that was measured while other work was running: t(4) = 53 t(1).
        assert!(!plausible(vec![(1, 2e-3), (2, 2.1e-3), (4, 0.106)]));
        assert!(
            !plausible(vec![(1, 2e-3), (64, 2175.0)])
                && !plausible(vec![(1, 4000.0)])
                && !plausible(vec![(1, 1e-9)])
        );
    }

    proptest! {
        #[test]
        fn no_other_prefix_has_a_higher_rate(
            steps in prop::collection::vec(0.0f64..1.0, 1..6), products in prop::collection::vec(0.0f64..1.0, 0..40),
            draft in 0.0f64..3.0, node in 0.0f64..0.2
        ) {
            let mut t = 1.0;
            let points = steps.iter().enumerate().map(|(i, s)| { t += s; (1 << i, t) }).collect();
            let cost = CostCurve::new(points).unwrap();
            let (kept, rate) = cost.best_prefix(&products, draft, node);
            for n in 0..=products.len() {
                let mass: f64 = products[..n].iter().sum();
                let other = (1.0 + mass) / (cost.seconds(n + 1) + (n + 1) as f64 * node + draft);
                prop_assert!(other <= rate * (1.0 + 1e-12), "{n} gives {other}, {kept} gives {rate}");
            }
        }
    }
}
