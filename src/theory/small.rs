//! Exact ceilings of trees of one and two nodes, and the bound for larger ones.
//!
//! # Setting
//! As for the fluid bound ([`pool`](super::pool)): the distributions along the tree are independent
//! draws from the pool. OPT(P) is the mean, over such environments, of the sum of the P largest
//! path probabilities, which no tree of P nodes exceeds.
//!
//! # One and two nodes
//! Let p1 >= p2 be the two largest probabilities after the root, and q1 the largest after the most
//! probable child, an independent draw. The most probable node is that child. The next one is its
//! sibling or its own most probable child: any other node lies below one of the three. So
//!
//! ```text
//! OPT(1) = E[p1],    OPT(2) = E[p1] + E[max(p2, p1 q1)].
//! ```
//!
//! # Larger trees
//! In each environment the P largest path probabilities are added in descending order. So OPT(P) -
//! OPT(P-1) falls with P, and for P >= 2
//!
//! ```text
//! OPT(P) <= OPT(1) + (P - 1) (OPT(2) - OPT(1)).                                           (small)
//! ```
//!
//! The fluid bound is lower than this where P is large; the caller takes the smaller of both. Both
//! forms are for trees of *at most* P nodes. A tree whose size depends on the context can hold more
//! than OPT(1) with one node on average (two where the next token is certain, none elsewhere): only
//! the fluid bound holds for a mean size
//! ([`SurprisalPool::fluid_at`](super::pool::SurprisalPool::fluid_at)).
//!
//! # Why the grid preserves the bound
//! E[p1] is summed exactly. With r = p2 / p1 the other term is E[p1 max(r, q1)], where q1 is
//! independent of (p1, r), and max(r, q) is convex in r and in q. Both are kept on a grid: the
//! content of a cell is split between the two ends of the cell so that its mean is kept (r weighted
//! by p1). By Jensen's inequality this can only enlarge the term.

use serde::{Deserialize, Serialize};

/// Cells of the grids of r and q1 on \[0, 1\].
const CELLS: usize = 64;

/// Sums over one cell of a grid: total weight, and weighted sum of the values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cell {
    weight: f64,
    sum: f64,
}

/// Sums over distributions that give OPT(1) exactly and bound OPT(2), in constant memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub(super) struct SmallTrees {
    positions: usize,
    /// Sum of p1 over all distributions.
    first: f64,
    /// Indexed by r, weighted by p1.
    ratio: [Cell; CELLS],
    /// Indexed by p1, which serves as the q1 of another distribution; each has weight 1.
    best: [Cell; CELLS],
}

impl Default for SmallTrees {
    fn default() -> Self {
        Self {
            positions: 0,
            first: 0.0,
            ratio: [Cell::default(); CELLS],
            best: [Cell::default(); CELLS],
        }
    }
}

/// Ceilings of trees of one and two nodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SmallCeilings {
    /// OPT(1), the ceiling of trees of one node.
    pub first: f64,
    /// Upper bound on OPT(2) - OPT(1).
    pub second: f64,
}

impl SmallCeilings {
    /// Returns an upper bound on OPT(P), where P is `drafted`.
    pub fn ceiling_for(&self, drafted: usize) -> f64 {
        match drafted {
            0 => 0.0,
            more => self.first + (more - 1) as f64 * self.second,
        }
    }
}

impl SmallTrees {
    /// Adds a distribution, given by its two largest probabilities.
    pub fn add(&mut self, first: f64, second: f64) {
        let cell = |x: f64| ((x * CELLS as f64) as usize).min(CELLS - 1);
        if first <= 0.0 {
            return;
        }
        self.positions += 1;
        self.first += first;
        let ratio = &mut self.ratio[cell(second / first)];
        ratio.weight += first;
        ratio.sum += second;
        let best = &mut self.best[cell(first)];
        best.weight += 1.0;
        best.sum += first;
    }

    /// Adds the sums of another instance, `times` times.
    pub fn absorb(&mut self, other: &SmallTrees, times: usize) {
        let weight = times as f64;
        self.positions += times * other.positions;
        self.first += weight * other.first;
        for (cells, more) in [(&mut self.ratio, &other.ratio), (&mut self.best, &other.best)] {
            for (cell, more) in cells.iter_mut().zip(more) {
                cell.weight += weight * more.weight;
                cell.sum += weight * more.sum;
            }
        }
    }

    /// Returns the ceilings; `None` unless these sums cover all `positions` of the caller.
    ///
    /// A pool from an older file has no such sums.
    pub fn ceilings(&self, positions: usize) -> Option<SmallCeilings> {
        if positions == 0 || self.positions != positions {
            return None;
        }
        let n = positions as f64;
        let (ratio, best) = (split_to_ends(&self.ratio), split_to_ends(&self.best));
        // E[max(r, q)] for each r: r times P(q <= r), plus the sum of larger q. The grid points are
        // the same.
        let (mut at_most, mut below) = (0.0, 0.0);
        let total: f64 = best.iter().enumerate().map(|(k, w)| w * point(k)).sum();
        let mut second = 0.0;
        for k in 0..=CELLS {
            at_most += best[k];
            below += best[k] * point(k);
            second += ratio[k] * (point(k) * at_most + (total - below).max(0.0));
        }
        let first = self.first / n;
        // The second most probable node is no more probable than the first.
        Some(SmallCeilings { first, second: (second / n / n).min(first) })
    }
}

/// Returns the value of grid point `k`, in 0..=1.
fn point(k: usize) -> f64 {
    k as f64 / CELLS as f64
}

/// Splits each cell's weight between its two ends, keeping weight and sum.
fn split_to_ends(cells: &[Cell; CELLS]) -> [f64; CELLS + 1] {
    let mut out = [0.0; CELLS + 1];
    for (k, cell) in cells.iter().enumerate() {
        let upper = (cell.sum * CELLS as f64 - cell.weight * k as f64).clamp(0.0, cell.weight);
        out[k] += cell.weight - upper;
        out[k + 1] += upper;
    }
    out
}

/// Serialized form of [`SmallTrees`].
#[derive(Serialize, Deserialize)]
struct Written {
    positions: usize,
    first: f64,
    ratio: Vec<Cell>,
    best: Vec<Cell>,
}

impl From<SmallTrees> for Written {
    fn from(trees: SmallTrees) -> Self {
        let SmallTrees { positions, first, ratio, best } = trees;
        Written { positions, first, ratio: ratio.to_vec(), best: best.to_vec() }
    }
}

impl TryFrom<Written> for SmallTrees {
    type Error = &'static str;

    fn try_from(w: Written) -> Result<Self, Self::Error> {
        let (Ok(ratio), Ok(best)) = (w.ratio.try_into(), w.best.try_into()) else {
            return Err("the sums of small trees have 64 cells");
        };
        let trees = SmallTrees { positions: w.positions, first: w.first, ratio, best };
        let cells = trees.ratio.iter().chain(&trees.best).flat_map(|cell| [cell.weight, cell.sum]);
        let sound = cells.chain([trees.first]).all(|x| x.is_finite() && x >= 0.0);
        if trees.positions > u32::MAX as usize || !sound {
            return Err("the sums of small trees are finite and not negative");
        }
        Ok(trees)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::theory::bootstrap::SplitMix;

    /// Random distribution in descending order.
    fn distribution(draws: &mut SplitMix) -> Vec<f64> {
        let power = 1.0 + draws.below(8) as f64;
        let mut all: Vec<f64> = (0..2 + draws.below(4))
            .map(|_| ((draws.below(1000) + 1) as f64 / 1000.0).powf(power))
            .collect();
        let total: f64 = all.iter().sum();
        all.iter_mut().for_each(|p| *p /= total);
        all.sort_by(|a, b| b.total_cmp(a));
        all
    }

    fn sums(pool: &[Vec<f64>]) -> SmallTrees {
        let mut trees = SmallTrees::default();
        pool.iter().for_each(|dist| trees.add(dist[0], dist.get(1).copied().unwrap_or(0.0)));
        trees
    }

    /// OPT(1), OPT(2), OPT(3) by enumeration of the environments that matter for three nodes.
    fn optimum(pool: &[Vec<f64>]) -> [f64; 3] {
        let get = |dist: &Vec<f64>, i: usize| dist.get(i).copied().unwrap_or(0.0);
        let mut sum = [0.0; 3];
        for root in pool {
            for after_first in pool {
                for after_second in pool {
                    for deeper in pool {
                        let (first, second) = (root[0], get(root, 1));
                        let below = first * after_first[0];
                        let mut all =
                            [first, second, get(root, 2), below, first * get(after_first, 1)]
                                .to_vec();
                        all.extend([second * after_second[0], below * deeper[0]]);
                        all.sort_by(|a, b| b.total_cmp(a));
                        for p in 0..3 {
                            sum[p] += all[..=p].iter().sum::<f64>();
                        }
                    }
                }
            }
        }
        sum.map(|sum| sum / (pool.len() as f64).powi(4))
    }

    #[test]
    fn one_node_is_exact_two_are_within_the_grid_and_three_are_bounded() {
        let draws = &mut SplitMix(5);
        for _ in 0..60 {
            let pool: Vec<Vec<f64>> =
                (0..1 + draws.below(5)).map(|_| distribution(draws)).collect();
            let (want, got) = (optimum(&pool), sums(&pool).ceilings(pool.len()).unwrap());
            assert!(
                (got.ceiling_for(1) - want[0]).abs() < 1e-12,
                "{} for {want:?}",
                got.ceiling_for(1)
            );
            assert!(
                got.ceiling_for(2) >= want[1] - 1e-12
                    && got.ceiling_for(2) <= want[1] + 0.5 / CELLS as f64,
                "{} for {want:?}",
                got.ceiling_for(2)
            );
            assert!(got.ceiling_for(3) >= want[2] - 1e-12, "{} for {want:?}", got.ceiling_for(3));
            assert_eq!(got.ceiling_for(0), 0.0);
        }
    }

    #[test]
    fn sums_that_miss_positions_give_nothing() {
        let trees = sums(&[vec![0.7, 0.3], vec![1.0]]);
        assert!(trees.ceilings(2).is_some());
        assert_eq!(
            (trees.ceilings(3), trees.ceilings(0), SmallTrees::default().ceilings(2)),
            (None, None, None)
        );
        let mut twice = SmallTrees::default();
        twice.absorb(&trees, 2);
        assert_eq!(twice.ceilings(4).map(|c| c.first), trees.ceilings(2).map(|c| c.first));
    }

    #[test]
    fn a_file_gives_the_same_or_is_refused() {
        let trees = sums(&[vec![0.7, 0.3], vec![0.5, 0.25]]);
        let text = serde_json::to_string(&trees).unwrap();
        assert_eq!(serde_json::from_str::<SmallTrees>(&text).unwrap(), trees);
        for (old, new) in
            [("\"first\":", "\"first\":-"), ("\"ratio\":[", "\"ratio\":[{\"weight\":0,\"sum\":0},")]
        {
            assert!(
                serde_json::from_str::<SmallTrees>(&text.replacen(old, new, 1)).is_err(),
                "{new}"
            );
        }
    }
}
