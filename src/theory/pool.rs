//! Pool of observed distributions, and the fluid bound it gives (bounds.md, "The fluid bound").
//!
//! # Definition
//! Let X be the surprisal -ln p(Y) of a token Y sampled from a distribution that is itself drawn
//! from the pool, S_n the sum of n independent copies, and for t >= 0
//!
//! ```text
//! M(t) = sum over n >= 1 of P(S_n <= t)            expected mass of the nodes with pi >= e^-t
//! N(t) = sum over n >= 1 of E[e^{S_n}; S_n <= t]   expected number of those nodes
//! fluid(P) = min over t of M(t) + (P - N(t)) e^-t
//! ```
//!
//! No tree of P nodes has a larger expected number of accepted tokens, whichever drafter built it,
//! as long as the distributions along the tree are independent draws from the pool.
//!
//! # Why the grid preserves the bound
//! With c = e^-t the quantity that is minimized is P c plus
//!
//! ```text
//! sum over n of E[h(e^{S_n})],   h(y) = max(0, 1 - c y),
//! ```
//!
//! and h is convex. A token of surprisal x in the cell \[k d, (k+1) d) has its mass split between
//! the two ends of the cell so that the mean of e^X is kept. Steps are independent, so a path's
//! product e^{S} also keeps its mean given the path, and by Jensen's inequality each term can only
//! grow: for every t the value on the grid is at least the exact one. (Rounding every surprisal
//! down has the same property but an error of first order in d. The error of this split is of
//! second order where the distribution is smooth, and a grid twice as fine is never looser, being
//! less of a spread of the same mean.) A cell needs only two sums, the mass of its tokens and their
//! number, since the sum of p e^x counts them. Memory is therefore constant, and adding a
//! distribution is one pass over its probabilities.
//!
//! On the grid u = f + f * u (the renewal equation) gives the masses u\[k\] of all n together. As a
//! function of c the bound is convex and piecewise linear with slope P - N, so that its minimum
//! lies at the first grid point where N reaches P.
//!
//! # Few nodes, and a mean number of nodes
//! The fluid bound is loose for few nodes (27, 13 and 8% at P = 1, 2, 3 on one pool). For trees of
//! at most P nodes `small` has the exact optimum at P = 1 and 2 and a bound that follows for more:
//! [`SurprisalPool::fluid`] and [`SurprisalPool::fluid_curve`] give the smaller of both. For trees
//! whose size depends on the context only the fluid bound holds, with the mean size in place of P,
//! since its proof is linear in the number of nodes: [`SurprisalPool::fluid_bound_for_mean_size`].

use serde::{Deserialize, Serialize};

use super::small::{SmallCeilings, SmallTrees};
use crate::distribution::{Moments, TokenDist};

/// Grid cells per nat of surprisal.
const CELLS_PER_NAT: usize = 256;
/// Surprisal in nats beyond which tokens are kept as mass alone.
///
/// At this t the term P e^-t is below 2e-4 for P up to 1,024.
const CUT: usize = 16;

/// Sums over the tokens of one cell, for all distributions added.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cell {
    mass: f64,
    count: f64,
}

/// Pool of the distributions observed at generated positions.
///
/// Keeps their mean surprisal moments exactly, and the distribution of the surprisal on a grid. Add
/// generated positions only, not those of rejected nodes, whose contexts the target would not have
/// visited (bounds.md, "Statistics").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct SurprisalPool {
    cells: Vec<Cell>,
    per_nat: usize,
    positions: usize,
    entropy: f64,
    second: f64,
    small: SmallTrees,
}

impl Default for SurprisalPool {
    fn default() -> Self {
        Self::new()
    }
}

impl SurprisalPool {
    /// Creates an empty pool on the default grid.
    ///
    /// It has 256 cells per nat, up to a surprisal of 16 nats.
    pub fn new() -> Self {
        Self::with_grid(CELLS_PER_NAT)
    }

    /// Adds `count` tokens of one surprisal with `mass` together, a part of some position's
    /// distribution.
    ///
    /// They are no position of their own.
    pub(crate) fn add_atom(&mut self, surprisal: f64, mass: f64, count: f64) {
        let x = surprisal.max(0.0);
        if let Some(cell) = self.cells.get_mut((x * self.per_nat as f64) as usize) {
            cell.mass += mass;
            cell.count += count;
        }
    }

    /// Counts a position whose distribution was added by atoms.
    ///
    /// `moments` are its moments, `largest` its two largest probabilities or bounds on them.
    pub(crate) fn add_position(&mut self, moments: Moments, largest: [f64; 2]) {
        self.small.add(largest[0], largest[1]);
        self.add_moments(moments);
    }

    /// Creates an empty pool with `per_nat` cells per nat (at least one).
    pub fn with_grid(per_nat: usize) -> Self {
        let per_nat = per_nat.max(1);
        let cells = vec![Cell::default(); per_nat * CUT];
        Self {
            cells,
            per_nat,
            positions: 0,
            entropy: 0.0,
            second: 0.0,
            small: SmallTrees::default(),
        }
    }

    /// Adds the distribution of one generated position, as it is sampled from.
    ///
    /// `moments` are those of `dist`, which the caller already has.
    pub fn add(&mut self, dist: &TokenDist, moments: Moments) {
        let (cells, scale) = (&mut self.cells, self.per_nat as f32);
        let (mut best, mut next) = (0.0, 0.0);
        dist.surprisals(
            CUT as f32,
            #[inline(always)]
            |x, p| {
                if let Some(cell) = cells.get_mut((x * scale) as usize) {
                    cell.mass += p;
                    cell.count += 1.0;
                }
                if p > next {
                    (best, next) = if p > best { (p, best) } else { (best, p) };
                }
            },
        );
        // Tokens beyond the grid are at most as probable as its end; the bound counts them as that.
        let unseen = (-(CUT as f64)).exp();
        best = f64::max(best, unseen);
        self.small.add(best, f64::max(next, unseen.min((1.0 - best).max(0.0))));
        self.add_moments(moments);
    }

    /// Adds all distributions of another pool, `times` times each.
    ///
    /// Much faster than adding each distribution. The other grid must be as fine as this one, or
    /// finer by a whole factor: otherwise nothing is added and the result is false.
    pub fn absorb(&mut self, other: &SurprisalPool, times: usize) -> bool {
        let (weight, fits) = (times as f64, other.per_nat.is_multiple_of(self.per_nat));
        if fits && times > 0 {
            for (cell, more) in
                self.cells.iter_mut().zip(other.cells.chunks(other.per_nat / self.per_nat))
            {
                for more in more {
                    cell.mass += weight * more.mass;
                    cell.count += weight * more.count;
                }
            }
            self.positions += times * other.positions;
            self.entropy += weight * other.entropy;
            self.second += weight * other.second;
            self.small.absorb(&other.small, times);
        }
        fits
    }

    /// Removes all distributions from the pool.
    pub fn clear(&mut self) {
        self.cells.fill(Cell::default());
        (self.positions, self.entropy, self.second) = (0, 0.0, 0.0);
        self.small = SmallTrees::default();
    }

    /// Adds a distribution given by its probabilities.
    ///
    /// Zeros are skipped; the others are assumed to sum to 1.
    pub fn add_probabilities(&mut self, probabilities: &[f64]) {
        let mut moments = Moments::default();
        let (mut best, mut next) = (0.0, 0.0);
        for &p in probabilities.iter().filter(|&&p| p > 0.0) {
            let x = (-p.ln()).max(0.0);
            moments.entropy += p * x;
            moments.second += p * x * x;
            if let Some(cell) = self.cells.get_mut((x * self.per_nat as f64) as usize) {
                cell.mass += p;
                cell.count += 1.0;
            }
            if p > next {
                (best, next) = if p > best { (p, best) } else { (best, p) };
            }
        }
        self.small.add(best, next);
        self.add_moments(moments);
    }

    fn add_moments(&mut self, moments: Moments) {
        self.positions += 1;
        self.entropy += moments.entropy;
        self.second += moments.second;
    }

    /// Returns the number of distributions added.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Returns the mean entropy in nats; `None` while the pool is empty.
    pub fn mu(&self) -> Option<f64> {
        (self.positions > 0).then(|| self.entropy / self.positions as f64)
    }

    /// Returns the mean of sum p ln^2 p; `None` while the pool is empty.
    ///
    /// Its unit is nats^2.
    pub fn mu2(&self) -> Option<f64> {
        (self.positions > 0).then(|| self.second / self.positions as f64)
    }

    /// Returns the mean mass of tokens beyond the grid; `None` while the pool is empty.
    pub fn tail_mass(&self) -> Option<f64> {
        let body: f64 = self.cells.iter().map(|c| c.mass).sum();
        (self.positions > 0).then(|| (1.0 - body / self.positions as f64).max(0.0))
    }

    /// Returns an upper bound on mean accepted tokens for trees of at most `drafted` nodes.
    ///
    /// `drafted` is P = B - 1. The bound is the fluid bound, or the tighter one for few nodes.
    /// Never above P (greedy: P itself). Returns `None` while the pool is empty.
    ///
    /// # Examples
    /// ```
    /// use speclight::theory::pool::SurprisalPool;
    ///
    /// let mut pool = SurprisalPool::new();
    /// assert_eq!(pool.fluid(4), None);
    /// pool.add_probabilities(&[0.5, 0.25, 0.25]);
    /// let bound = |drafted| pool.fluid(drafted).unwrap_or(f64::NAN);
    /// // One drafted token is accepted with the largest probability at best.
    /// assert!((bound(1) - 0.5).abs() < 1e-9);
    /// // The best tree of two nodes has the path probabilities 0.5 and 0.25.
    /// assert!(bound(2) >= 0.75 - 1e-9 && bound(2) < 2.0);
    /// assert!(bound(2) < bound(8));
    /// ```
    pub fn fluid(&self, drafted: usize) -> Option<f64> {
        self.sweep(drafted.max(1), drafted..=drafted).pop()
    }

    /// Returns the fluid bound for trees whose size depends on the context.
    ///
    /// `drafted` is their mean number of nodes. At any t the sum of path probabilities of a tree T
    /// is at most sum of (pi - e^-t)^+ plus |T| e^-t; take means. The bound is concave in `drafted`
    /// and never above it. Returns `None` while the pool is empty, or if `drafted` is negative or
    /// not finite.
    ///
    /// For a fixed size [`SurprisalPool::fluid`] is tighter where nodes are few; that bound does
    /// not hold for a mean size.
    pub fn fluid_bound_for_mean_size(&self, drafted: f64) -> Option<f64> {
        if self.positions == 0 || !drafted.is_finite() || drafted < 0.0 {
            return None;
        }
        let points = self.renewal(drafted);
        let at = points.iter().position(|g| g.number >= drafted).or(points.len().checked_sub(1));
        Some(bound(&points, at, drafted))
    }

    fn small(&self) -> Option<SmallCeilings> {
        self.small.ceilings(self.positions)
    }

    /// Returns the bound of [`SurprisalPool::fluid`] together with its floor.
    ///
    /// The floor is the path probability e^-t at which the tree that the bound describes has P
    /// nodes: a tree of the P best nodes holds those above it and none below. It is taken at the
    /// grid point where N reaches P, which differs from the exact one by less than a cell's width
    /// per step. The floor is `None` if nothing is drafted or every token is certain.
    pub fn fluid_and_floor(&self, drafted: usize) -> Option<(f64, Option<f64>)> {
        if self.positions == 0 {
            return None;
        }
        let points = self.renewal(drafted.max(1) as f64);
        let at =
            points.iter().position(|g| g.number >= drafted as f64).or(points.len().checked_sub(1));
        let floor = at.and_then(|at| points.get(at)).map(|g| g.floor).filter(|_| drafted > 0);
        let fluid = bound(&points, at, drafted as f64);
        Some((self.small().map_or(fluid, |small| fluid.min(small.ceiling_for(drafted))), floor))
    }

    /// Returns the bound for every P from 0 to `most`, as entry P.
    ///
    /// Empty while the pool is.
    pub fn fluid_curve(&self, most: usize) -> Vec<f64> {
        self.sweep(most.max(1), 0..=most)
    }

    /// Returns the bound for each P of `sizes` (ascending).
    ///
    /// Solves the renewal equation as far as N <= `most` needs.
    fn sweep(&self, most: usize, sizes: std::ops::RangeInclusive<usize>) -> Vec<f64> {
        if self.positions == 0 {
            return Vec::new();
        }
        let (points, small) = (self.renewal(most as f64), self.small());
        let mut at = 0;
        sizes
            .map(|nodes| {
                let p = nodes as f64;
                while at + 1 < points.len() && points[at].number < p {
                    at += 1;
                }
                let fluid = bound(&points, Some(at), p);
                small.map_or(fluid, |small| fluid.min(small.ceiling_for(nodes)))
            })
            .collect()
    }

    /// Returns M, N and e^-t at each grid point until N >= `most`.
    ///
    /// Ends with the grid at the latest. Empty if every token of the pool is certain, so that N is
    /// infinite at once.
    fn renewal(&self, most: f64) -> Vec<Point> {
        let f = self.split();
        let stay = 1.0 - f[0];
        if stay <= 0.0 {
            return Vec::new();
        }
        // Reversed, so that a term of the convolution is a product of two slices that both run
        // forward.
        let reversed: Vec<f64> = f.iter().rev().copied().collect();
        let last = f.len() - 1;
        let (mut u, mut points) = (Vec::with_capacity(f.len()), Vec::with_capacity(f.len()));
        let (mut mass, mut number) = (0.0, 0.0);
        for k in 0..=last {
            let here = (f[k] + dot(&u, &reversed[last - k..last])) / stay;
            u.push(here);
            let floor = (-(k as f64) / self.per_nat as f64).exp();
            mass += here;
            number += here / floor;
            points.push(Point { mass, number, floor });
            if number >= most {
                break;
            }
        }
        points
    }

    /// Returns the distribution of the surprisal on the grid points.
    ///
    /// Splits each cell's mass between its two ends, keeping the mass and the sum of e^x.
    fn split(&self) -> Vec<f64> {
        let n = self.positions as f64;
        let grow = (1.0 / self.per_nat as f64).exp_m1();
        let mut f = vec![0.0; self.cells.len() + 1];
        for (k, cell) in self.cells.iter().enumerate().filter(|(_, c)| c.count > 0.0) {
            let low = (-(k as f64) / self.per_nat as f64).exp();
            let (mass, at_end) = (cell.mass / n, cell.count / n * low);
            // Clamped, since p is rounded.
            let upper = ((at_end - mass) / grow).clamp(0.0, mass);
            f[k] += mass - upper;
            f[k + 1] += upper;
        }
        f
    }
}

/// Serialized form of a [`SurprisalPool`].
#[derive(Serialize, Deserialize)]
struct Written {
    per_nat: usize,
    positions: usize,
    entropy: f64,
    second: f64,
    mass: Vec<f64>,
    count: Vec<f64>,
    /// Absent in files of older versions, for which only the fluid bound is given.
    #[serde(default)]
    small: SmallTrees,
}

impl From<SurprisalPool> for Written {
    fn from(pool: SurprisalPool) -> Self {
        let SurprisalPool { cells, per_nat, positions, entropy, second, small } = pool;
        let (mass, count) = cells.iter().map(|cell| (cell.mass, cell.count)).unzip();
        Written { per_nat, positions, entropy, second, mass, count, small }
    }
}

impl TryFrom<Written> for SurprisalPool {
    type Error = &'static str;

    fn try_from(w: Written) -> Result<Self, Self::Error> {
        let cells = (1..=CELLS_PER_NAT).contains(&w.per_nat).then_some(w.per_nat * CUT);
        if cells != Some(w.mass.len()) || cells != Some(w.count.len()) {
            return Err("a pool has 16 cells for each of its cells a nat");
        }
        let sound = w
            .mass
            .iter()
            .chain(&w.count)
            .chain([&w.entropy, &w.second])
            .all(|x| x.is_finite() && *x >= 0.0);
        if w.positions > u32::MAX as usize || !sound {
            return Err("the sums of a pool are finite and not negative");
        }
        let cells =
            w.mass.into_iter().zip(w.count).map(|(mass, count)| Cell { mass, count }).collect();
        Ok(SurprisalPool {
            cells,
            per_nat: w.per_nat,
            positions: w.positions,
            entropy: w.entropy,
            second: w.second,
            small: w.small,
        })
    }
}

/// Renewal sums at one grid point t.
struct Point {
    /// Renewal sum M(t) at the point.
    mass: f64,
    /// Renewal sum N(t) at the point.
    number: f64,
    /// Threshold e^-t of probability.
    floor: f64,
}

/// Returns the bound for a tree of `p` nodes at the grid point `at`.
///
/// Without a point it is `p` itself.
fn bound(points: &[Point], at: Option<usize>, p: f64) -> f64 {
    at.and_then(|at| points.get(at))
        .map_or(p, |g| (g.mass + (p - g.number) * g.floor).clamp(0.0, p))
}

/// Returns the inner product, summed in a fixed order in lanes that vectorize.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0; LANES];
    let (x, y) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = x.remainder().iter().zip(y.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in x.zip(y) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::distribution::Sampling;

    fn pool(dists: &[&[f64]]) -> SurprisalPool {
        let mut pool = SurprisalPool::new();
        dists.iter().for_each(|l| pool.add_probabilities(l));
        pool
    }

    #[test]
    fn empty_pool_has_no_statistics() {
        let pool = SurprisalPool::new();
        assert_eq!(
            (pool.mu(), pool.mu2(), pool.fluid(15), pool.tail_mass()),
            (None, None, None, None)
        );
        assert!(pool.fluid_curve(64).is_empty());
    }

    #[test]
    fn certain_distributions_accept_every_node() {
        let pool = pool(&[&[1.0], &[0.0, 1.0]]);
        assert_eq!(pool.mu(), Some(0.0));
        let curve = pool.fluid_curve(1024);
        assert!(curve.iter().enumerate().all(|(p, &f)| f == p as f64));
        assert_eq!(pool.fluid(0), Some(0.0));
        assert_eq!(pool.fluid_and_floor(9), Some((9.0, None)));
    }

    #[test]
    fn a_pool_that_absorbs_others_is_the_pool_of_all() {
        let (a, b): (&[f64], &[f64]) = (&[0.9, 0.1], &[0.5, 0.3, 0.2]);
        let mut sum = pool(&[a]);
        assert!(sum.absorb(&pool(&[b]), 2) && sum.absorb(&pool(&[a]), 0));
        let all = pool(&[a, b, b]);
        assert_eq!((sum.positions(), sum.fluid(7)), (3, all.fluid(7)));
        assert!(!sum.absorb(&SurprisalPool::with_grid(16), 1));
        // Into a coarser grid: the same as adding the distributions there.
        let (mut coarse, mut want) = (SurprisalPool::with_grid(16), SurprisalPool::with_grid(16));
        assert!(coarse.absorb(&all, 1));
        [a, b, b].into_iter().for_each(|dist| want.add_probabilities(dist));
        assert_eq!(coarse.fluid_curve(40), want.fluid_curve(40));
        sum.clear();
        assert_eq!(sum, SurprisalPool::new());
    }

    #[test]
    fn serialized_pool_round_trips_or_is_rejected() {
        let pool = pool(&[&[0.9, 0.1], &[0.5, 0.3, 0.2]]);
        let text = serde_json::to_string(&pool).unwrap();
        assert_eq!(serde_json::from_str::<SurprisalPool>(&text).unwrap(), pool);
        for (old, new) in [
            ("\"per_nat\":256", "\"per_nat\":0"),
            ("\"mass\":[", "\"mass\":[0,"),
            ("\"positions\":2", "\"positions\":1e99"),
        ] {
            assert!(
                serde_json::from_str::<SurprisalPool>(&text.replacen(old, new, 1)).is_err(),
                "{new}"
            );
        }
        // File of an older version: the same except for the tighter bound on few nodes.
        let mut older: serde_json::Value = serde_json::from_str(&text).unwrap();
        older.as_object_mut().unwrap().remove("small").unwrap();
        let older: SurprisalPool = serde_json::from_value(older).unwrap();
        assert!(
            older.fluid(1) > pool.fluid(1)
                && older.fluid(1) == older.fluid_bound_for_mean_size(1.0)
        );
        assert_eq!((older.fluid(40), older.positions()), (pool.fluid(40), 2));
        assert!(
            serde_json::from_str::<SurprisalPool>(&text.replacen(
                "\"entropy\":",
                "\"entropy\":-",
                1
            ))
            .is_err()
        );
    }

    #[test]
    fn the_floor_is_that_of_the_last_node() {
        // Four equal tokens: the first four nodes have 1/4 each, the next sixteen 1/16.
        let pool = pool(&[&[0.25; 4]]);
        for (p, want) in [(1, 0.25), (4, 0.25), (5, 0.0625), (20, 0.0625), (21, 1.0 / 64.0)] {
            let floor = pool.fluid_and_floor(p).unwrap().1.unwrap();
            assert!((floor / want - 1.0).abs() < 0.01, "P {p}: {floor} for {want}");
        }
        assert_eq!(pool.fluid_and_floor(0), Some((0.0, None)));
        assert_eq!(SurprisalPool::new().fluid_and_floor(3), None);
    }

    #[test]
    fn a_uniform_law_fills_level_by_level() {
        // Four equal tokens: P nodes hold P/4 up to the first level, then P/16 of each more.
        let pool = pool(&[&[0.25; 4]]);
        for (p, want) in [(1, 0.25), (4, 1.0), (12, 1.5), (20, 2.0), (84, 3.0)] {
            let got = pool.fluid(p).unwrap();
            assert!(got >= want - 1e-9 && got < want * 1.002, "{got} for {want}");
        }
    }

    #[test]
    fn one_node_is_bounded_by_the_mean_of_the_most_probable_token() {
        let pool = pool(&[&[0.9, 0.1], &[0.5, 0.3, 0.2], &[0.98, 0.02]]);
        let mean = (0.9 + 0.5 + 0.98) / 3.0;
        assert!((pool.fluid(1).unwrap() - mean).abs() < 1e-12);
        assert!(
            pool.fluid_bound_for_mean_size(1.0).unwrap() > 1.05 * mean,
            "{:?} is loose",
            pool.fluid_bound_for_mean_size(1.0)
        );
        // Two nodes: .9 and .81, .45 or .882; .5 and the larger of .3 and .45, .25, .49; .98 and
        // .882, .49 or .9604.
        let two = mean + (0.81 + 0.45 + 0.882 + 0.45 + 0.3 + 0.49 + 0.882 + 0.49 + 0.9604) / 9.0;
        let got = pool.fluid(2).unwrap();
        assert!(got >= two - 1e-12 && got < two + 2e-3, "{got} for {two}");
    }

    #[test]
    fn a_mean_size_has_a_bound_of_its_own() {
        // Two nodes after a certain token and none elsewhere: one node on average, with more mass
        // than any tree of one node.
        let pool = pool(&[&[1.0], &[0.01; 100]]);
        let adaptive = 0.5 * (1.0 + 0.5 * (1.0 + 0.01));
        assert!(
            adaptive > pool.fluid(1).unwrap()
                && adaptive <= pool.fluid_bound_for_mean_size(1.0).unwrap()
        );
        let all: Vec<f64> = (0..200)
            .map(|i| pool.fluid_bound_for_mean_size(0.05 * f64::from(i)).unwrap())
            .collect();
        assert!(all.windows(3).all(|w| w[1] - w[0] >= w[2] - w[1] - 1e-9), "concave");
        assert!(all.windows(2).all(|w| w[0] <= w[1] + 1e-12) && all[0] == 0.0);
        for p in [1, 5, 9] {
            assert!(pool.fluid(p) <= pool.fluid_bound_for_mean_size(p as f64));
        }
        assert_eq!(
            (
                pool.fluid_bound_for_mean_size(f64::NAN),
                pool.fluid_bound_for_mean_size(-1.0),
                SurprisalPool::new().fluid_bound_for_mean_size(2.0)
            ),
            (None, None, None)
        );
    }

    #[test]
    fn one_bound_is_an_entry_of_the_curve() {
        let pool = pool(&[&[0.9, 0.1], &[0.5, 0.3, 0.2], &[0.999, 0.001]]);
        let curve = pool.fluid_curve(300);
        for p in [0, 1, 2, 15, 63, 300] {
            assert_eq!(pool.fluid(p), Some(curve[p]));
            assert_eq!(pool.fluid_and_floor(p).map(|f| f.0), Some(curve[p]));
        }
    }

    #[test]
    fn logits_and_probabilities_give_the_same_pool() {
        let logits: Vec<f32> = (0..5000).map(|i| ((i * 7919 % 5003) as f32) / 400.0).collect();
        let sampling = Sampling { temperature: 0.7, top_p: 1.0, top_k: None };
        let dist = TokenDist::new(&logits, &sampling).unwrap();
        let (mut a, mut b) = (SurprisalPool::new(), SurprisalPool::new());
        a.add(&dist, dist.moments());
        b.add_probabilities(&(0..5000).map(|t| dist.p(t)).collect::<Vec<_>>());
        assert!((a.mu().unwrap() - b.mu().unwrap()).abs() < 1e-5);
        assert!((a.mu2().unwrap() - b.mu2().unwrap()).abs() < 1e-4);
        assert!((a.tail_mass().unwrap() - b.tail_mass().unwrap()).abs() < 1e-6);
        for p in [1, 7, 63, 1023] {
            let (x, y) = (a.fluid(p).unwrap(), b.fluid(p).unwrap());
            assert!((x / y - 1.0).abs() < 1e-4, "{x} and {y} at {p}");
        }
    }
}
