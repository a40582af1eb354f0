//! Online calibration of a drafter's probabilities against the target's. A drafter's `q` for a node
//! is its own estimate. [`Calibration`] learns from verified trees to map it to the target's
//! probability `p`. The automatic budget and [`super::Mix`] rely on the mapped values.

use crate::tree::TokenTree;

/// Number of `q` classes, each one unit of logit wide. The first and last are open-ended.
const LEVELS: usize = 12;
/// Logit of the second class's lower edge, minus one.
const LOWEST: f64 = -5.0;
/// Number of depth classes: 1, 2, 3, and 4 or more.
const DEPTHS: usize = 4;
/// Weight of the prior (p = q) in each class, in nodes.
const PRIOR: f64 = 2.0;
/// Decay factor per step for the weight of older observations, since texts change.
const KEEP: f64 = 0.99;
/// Probabilities are clamped to `EDGE..=1 - EDGE` before the logit is taken.
const EDGE: f64 = 1e-6;

/// Returns ln(p / (1 - p)), with `p` clamped away from 0 and 1.
pub fn logit(p: f64) -> f64 {
    let p = p.clamp(EDGE, 1.0 - EDGE);
    (p / (1.0 - p)).ln()
}

/// Returns the probability whose log odds are `z`.
pub fn logistic(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// Node whose target probability is known after verification.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Drafter's probability of the node after its parent.
    pub q: f64,
    /// Depth in the tree, from 1.
    pub depth: usize,
    /// Weight in the regression (see [`super::VerifyFeedback::weight`]).
    pub weight: f64,
    /// Target's probability of the node after its parent.
    pub p: f64,
}

/// Maps a drafter's `q` to the target's expected probability, learned from verified trees.
///
/// For each depth class this is an isotonic regression of p on q (Zadrozny and Elkan 2002, section
/// 3.2). The prior is p = q, and older steps count less.
#[derive(Clone, Debug, Default)]
pub struct Calibration {
    cells: [[Cell; LEVELS]; DEPTHS],
    /// Knots of the piecewise linear map per depth class, as (logit of q, shift). The shift is
    /// added to the logit. Empty before the first observation.
    bends: [Vec<(f64, f64)>; DEPTHS],
    buffers: RegressionBuffers,
}

/// Buffers of the regression, reused from step to step.
#[derive(Clone, Debug, Default)]
struct RegressionBuffers {
    /// Weight and value of each observed class.
    points: Vec<(f64, f64)>,
    pools: Vec<PooledPoints>,
}

/// Neighboring points of an isotonic regression that share one value.
#[derive(Clone, Copy, Debug)]
struct PooledPoints {
    weight: f64,
    value: f64,
    /// Number of points in the block.
    count: usize,
}

/// Weighted sums over the nodes of one class.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    weight: f64,
    p: f64,
    q: f64,
    logit: f64,
}

impl Calibration {
    /// Updates the map with one step's verified nodes, after decaying older observations.
    pub fn learn(&mut self, observed: impl Iterator<Item = Observation>) {
        for cell in self.cells.iter_mut().flatten() {
            *cell = Cell {
                weight: cell.weight * KEEP,
                p: cell.p * KEEP,
                q: cell.q * KEEP,
                logit: cell.logit * KEEP,
            };
        }
        for Observation { q, depth, weight, p } in observed {
            let x = logit(q);
            let cell = &mut self.cells[Self::depth(depth)]
                [(x - LOWEST).clamp(0.0, LEVELS as f64 - 1.0) as usize];
            *cell = Cell {
                weight: cell.weight + weight,
                p: cell.p + weight * p,
                q: cell.q + weight * q,
                logit: cell.logit + weight * x,
            };
        }
        let RegressionBuffers { points, pools } = &mut self.buffers;
        for (cells, bends) in self.cells.iter().zip(&mut self.bends) {
            bends.clear();
            points.clear();
            // Too little weight to estimate anything.
            for c in cells.iter().filter(|cell| cell.weight > 1e-3) {
                bends.push((c.logit / c.weight, 0.0));
                points
                    .push((c.weight + PRIOR, (c.p + PRIOR * c.q / c.weight) / (c.weight + PRIOR)));
            }
            for ((x, shift), p) in bends.iter_mut().zip(isotonic(points, pools)) {
                *shift = logit(p) - *x;
            }
        }
    }

    fn depth(depth: usize) -> usize {
        depth.clamp(1, DEPTHS) - 1
    }

    /// Returns the expected target probability of a node at `depth` with drafter probability `q`.
    ///
    /// Nondecreasing in `q` at each depth. Returns `q` unchanged while the depth class has no
    /// observations.
    pub fn calibrate(&self, q: f64, depth: usize) -> f64 {
        let bends = &self.bends[Self::depth(depth)];
        let x = logit(q);
        let after = bends.partition_point(|&(at, _)| at <= x);
        let shift = match (after.checked_sub(1).and_then(|i| bends.get(i)), bends.get(after)) {
            (Some(&(x0, y0)), Some(&(x1, y1))) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
            (Some(&(_, shift)), None) | (None, Some(&(_, shift))) => shift,
            (None, None) => return q,
        };
        logistic(x + shift)
    }

    /// Returns the expected target probability of each node after its parent; 1 for the root.
    pub fn calibrate_tree(&self, tree: &TokenTree) -> Vec<f64> {
        (0..tree.len())
            .map(|i| if i == 0 { 1.0 } else { self.calibrate(tree.q(i), tree.depth(i)) })
            .collect()
    }
}

/// Nondecreasing least-squares fit to (weight, value) pairs. Pool adjacent violators (Ayer et al.
/// 1955).
fn isotonic<'a>(
    points: &[(f64, f64)],
    pools: &'a mut Vec<PooledPoints>,
) -> impl Iterator<Item = f64> + 'a {
    pools.clear();
    for &(weight, value) in points {
        pools.push(PooledPoints { weight, value, count: 1 });
        while let [.., before, last] = pools[..]
            && before.value > last.value
        {
            let weight = before.weight + last.weight;
            let value = (before.weight * before.value + last.weight * last.value) / weight;
            pools.truncate(pools.len() - 2);
            pools.push(PooledPoints { weight, value, count: before.count + last.count });
        }
    }
    pools.iter().flat_map(|pool| std::iter::repeat_n(pool.value, pool.count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::draft::VerifyFeedback;

    #[test]
    fn calibration_starts_at_q_and_converges_to_p() {
        let mut calibration = Calibration::default();
        assert_eq!(calibration.calibrate(0.7, 1), 0.7);
        let mut tree = TokenTree::new(0);
        let a = tree.push(0, 1, 0.7);
        tree.push(a, 2, 0.9);
        for _ in 0..200 {
            calibration.learn(VerifyFeedback::new(&tree, &[1.0, 0.25, 0.5], &[]).observations());
        }
        assert!(
            (calibration.calibrate(0.7, 1) - 0.25).abs() < 0.02,
            "{}",
            calibration.calibrate(0.7, 1)
        );
        // The child's parent is reached with probability 0.25, so the child has that weight.
        assert!(
            (calibration.calibrate(0.9, 2) - 0.5).abs() < 0.05,
            "{}",
            calibration.calibrate(0.9, 2)
        );
        assert_eq!(
            calibration.calibrate_tree(&tree),
            [1.0, calibration.calibrate(0.7, 1), calibration.calibrate(0.9, 2)]
        );
        // Depth 3 has no observations.
        assert_eq!(calibration.calibrate(0.9, 3), 0.9);
    }

    #[test]
    fn pooled_by_hand() {
        let isotonic =
            |points: &[(f64, f64)]| isotonic(points, &mut Vec::new()).collect::<Vec<_>>();
        let rising = isotonic(&[(1.0, 0.1), (1.0, 0.5), (3.0, 0.3), (1.0, 0.2), (1.0, 0.9)]);
        let pooled = (0.5 + 0.9 + 0.2) / 5.0;
        for (got, want) in rising.into_iter().zip([0.1, pooled, pooled, pooled, 0.9]) {
            assert!((got - want).abs() < 1e-12, "{got} for {want}");
        }
        assert_eq!(isotonic(&[]), Vec::<f64>::new());
    }

    proptest! {
        #[test]
        fn calibration_is_monotone_and_a_probability(
            seen in prop::collection::vec((0.0f64..=1.0, 1usize..7, 0.0f64..=1.0, 0.0f64..=1.0), 0..60),
            mut asked in prop::collection::vec(prop_oneof![0.0f64..=1.0, Just(1e-300), Just(1.0 - 1e-16)], 2..20), depth in 0usize..9,
        ) {
            let mut calibration = Calibration::default();
            for step in seen.chunks(5) {
                calibration.learn(step.iter().map(|&(q, depth, weight, p)| Observation { q, depth, weight, p }));
            }
            asked.sort_by(f64::total_cmp);
            let mapped: Vec<f64> = asked.iter().map(|&q| calibration.calibrate(q, depth)).collect();
            prop_assert!(mapped.iter().all(|p| (0.0..=1.0).contains(p)), "{:?}", mapped);
            prop_assert!(mapped.windows(2).all(|w| w[0] <= w[1] + 1e-9), "{:?}", mapped);
        }

        #[test]
        fn isotonic_satisfies_optimality_conditions(points in prop::collection::vec((0.1f64..3.0, 0.0f64..1.0), 1..12)) {
            let mut room = Vec::new();
            let fitted: Vec<f64> = isotonic(&points, &mut room).collect();
            prop_assert!(fitted.is_sorted());
            // Karush-Kuhn-Tucker conditions: the running sums of weighted residuals are never
            // negative, and are zero at the end and wherever the fit increases.
            let mut sum = 0.0;
            for (i, (&(weight, value), fit)) in points.iter().zip(&fitted).enumerate() {
                sum += weight * (value - fit);
                prop_assert!(sum >= -1e-9);
                if fitted.get(i + 1).is_none_or(|next| *next > fit + 1e-9) {
                    prop_assert!(sum.abs() < 1e-9, "{} at {}", sum, i);
                }
            }
        }
    }
}
