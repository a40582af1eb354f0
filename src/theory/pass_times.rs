//! Fit of t(B), the seconds of a verify pass over B tokens, to recent passes.
//!
//! # Model
//! `t(B) = a + s1 (min(B, k) - 1) + s2 max(0, B - k)`: a constant (weights are read once per pass),
//! a slope, and one knee `k` beyond which arithmetic bounds the pass. The constant is positive,
//! both slopes lie in `0 ..= a`: t rises, and one pass over B tokens never costs more than B passes
//! over one.
//!
//! # Data
//! - *Steps*: the last `RECENT` passes of real steps, whatever their size.
//! - *Probes*: passes made only for timing, at 1, 2, 4, ... tokens, the last `PROBES` of each size,
//!   in units of t(1) at their time, so that a machine whose speed changes does not distort the
//!   shape.
//!
//! # Robustness
//! Only medians and interquartile means enter. For sizes that no step visits, the shape comes from
//! probes and the level from the interquartile mean of the ratios of steps to that shape. Sizes
//! that many steps visited are corrected by their own times. Everything is a function of the data
//! that is kept: older passes leave no trace, so the fit can't drift.

use std::collections::VecDeque;

use super::cost::CostCurve;

/// Number of recent step passes that the fit uses.
const RECENT: usize = 512;
/// Maximum number of probes kept for each size.
const PROBES: usize = 128;
/// Number of probes that a stored or given curve counts as.
const PRIOR: usize = 4;
/// Maximum number of probed sizes: 1, 2, 4, ... 128 tokens.
pub const SIZES: usize = 8;
/// Step passes that the initial level counts as, and the number that replaces it.
const FIRST_LEVEL: (usize, usize) = (9, 64);
/// Minimum passes of a size group for its own point in the fit.
const MIN_GROUP_PASSES: usize = 5;
/// Minimum passes of a size group for its own correction, and the largest correction factor.
const MIN_CORRECTION_PASSES: usize = 64;
const MOST_CORRECTION: f64 = 1.15;
/// Number of steps between two fits.
const REFIT: usize = 16;
/// Maximum weight of one size group in the fit; half of it for probes.
///
/// The limit keeps noise at the visited sizes from bending the curve beyond them.
const MOST_WEIGHT: f64 = 16.0;
const PASSES_PER_WEIGHT: f64 = 4.0;
/// Candidate knees of the model, in tokens.
const KNEES: [usize; 11] = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];

/// Times of recent passes, and the curve fitted to them.
#[derive(Clone, Debug)]
pub struct PassTimes {
    /// Probe times over 1, 2, 4, ... tokens, in units of t(1).
    probes: Vec<VecDeque<f64>>,
    /// Tokens and seconds of the last step passes, oldest first.
    recent: VecDeque<(usize, f64)>,
    /// Seconds of one unit of the probes at the start.
    first_level: f64,
    /// Step passes since the last fit.
    unfitted: usize,
    /// Largest relative error of a size's probes; changes with probes only.
    uncertainty: f64,
    cost: CostCurve,
}

/// Target point of the fit: `seconds` at `batch` tokens, with a weight.
#[derive(Clone, Copy, Debug)]
struct FitPoint {
    batch: f64,
    seconds: f64,
    weight: f64,
}

impl PassTimes {
    /// Starts from a curve that was measured earlier; probes replace it within minutes.
    pub fn from_cost(cost: CostCurve) -> Self {
        let unit = cost.seconds(1).max(f64::MIN_POSITIVE);
        let largest = cost.largest();
        let sizes = (0..SIZES).map(|i| 1usize << i).take_while(|&size| size <= largest);
        let probes: Vec<VecDeque<f64>> =
            sizes.map(|size| VecDeque::from(vec![cost.seconds(size) / unit; PRIOR])).collect();
        let uncertainty = uncertainty(&probes);
        Self { probes, recent: VecDeque::new(), first_level: unit, unfitted: 0, uncertainty, cost }
    }

    /// Starts from passes that were made for timing, given as (tokens, seconds).
    ///
    /// Sizes are powers of two from 1 on, each at least once. Returns `None` if there is no size
    /// beyond 1, or a time is not positive and finite.
    pub fn from_probes(passes: &[(usize, f64)]) -> Option<Self> {
        if passes.iter().any(|&(_, t)| !(t > 0.0 && t.is_finite())) {
            return None;
        }
        let of =
            |size: usize| passes.iter().filter(|p| p.0 == size).map(|p| p.1).collect::<Vec<f64>>();
        let unit = median(&mut of(1))?;
        let mut probes = Vec::new();
        for size in (0..SIZES).map(|i| 1usize << i) {
            let seconds = of(size);
            if seconds.is_empty() {
                break;
            }
            probes.push(seconds.into_iter().map(|t| t / unit).collect::<VecDeque<f64>>());
        }
        let start = CostCurve::new(vec![(1, unit)]).ok()?;
        let uncertainty = uncertainty(&probes);
        let mut times = Self {
            probes,
            recent: VecDeque::new(),
            first_level: unit,
            unfitted: 0,
            uncertainty,
            cost: start,
        };
        (times.probes.len() > 1).then(|| {
            times.refit();
            times
        })
    }

    /// Returns the fitted curve; its last point is the largest size that was measured.
    pub fn cost(&self) -> &CostCurve {
        &self.cost
    }

    /// Returns the largest size that is probed, in tokens.
    pub fn largest(&self) -> usize {
        1 << (self.probes.len().max(1) - 1)
    }

    /// Adds the pass of a step over `batch` tokens.
    pub fn add(&mut self, batch: usize, seconds: f64) {
        if batch == 0 || !(seconds > 0.0 && seconds.is_finite()) {
            return;
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((batch, seconds));
        self.unfitted += 1;
        if self.unfitted >= REFIT {
            self.refit();
        }
    }

    /// Adds a pass over `batch` tokens that was made only for timing.
    ///
    /// `batch` is 1, 2, 4, ... up to twice [`Self::largest`]; others are ignored.
    pub fn add_probe(&mut self, batch: usize, seconds: f64) {
        let size = batch.trailing_zeros() as usize;
        let known = batch.is_power_of_two() && size < SIZES && size <= self.probes.len();
        if !(known && seconds > 0.0 && seconds.is_finite()) {
            return;
        }
        if size == self.probes.len() {
            self.probes.push(VecDeque::new());
        }
        let ring = &mut self.probes[size];
        if ring.len() == PROBES {
            ring.pop_front();
        }
        ring.push_back(seconds / self.cost.seconds(1));
        self.uncertainty = uncertainty(&self.probes);
        self.refit();
    }

    /// Returns the size of the next probe: the least probed one, ties to the smallest.
    ///
    /// Sizes grow beyond the largest only where `room` tokens allow it.
    pub fn next_probe(&self, room: usize) -> usize {
        let count = |size: usize| self.probes.get(size).map_or(0, VecDeque::len);
        let sizes =
            (0..SIZES).take_while(|&size| 1usize << size <= room && size <= self.probes.len());
        1 << sizes.min_by_key(|&size| count(size)).unwrap_or(0)
    }

    /// Returns true if the median of each size's probes is certain to within `relative`.
    pub fn settled(&self, relative: f64) -> bool {
        self.uncertainty <= relative
    }

    /// Returns the relative spread of recent steps around the fit; `None` below 32 steps.
    ///
    /// Median absolute deviation, scaled to a standard deviation.
    pub fn spread(&self) -> Option<f64> {
        let ratio =
            |&(batch, seconds): &(usize, f64)| (seconds / self.cost.seconds(batch)).ln().abs();
        let mut off: Vec<f64> = self.recent.iter().map(ratio).filter(|x| x.is_finite()).collect();
        if off.len() < 32 { None } else { median(&mut off).map(|mad| 1.4826 * mad) }
    }

    /// Returns the dimensionless shape from probes: (size, t(size) / t(1)).
    fn shape(&self) -> Option<CostCurve> {
        let points = self.probes.iter().enumerate().filter_map(|(i, ring)| {
            let mut all: Vec<f64> = ring.iter().copied().collect();
            Some((1usize << i, middle(&mut all)?))
        });
        CostCurve::new(points.collect()).ok()
    }

    fn refit(&mut self) {
        self.unfitted = 0;
        let Some(shape) = self.shape() else { return };
        let mut ratios: Vec<f64> =
            self.recent.iter().map(|&(batch, seconds)| seconds / shape.seconds(batch)).collect();
        if ratios.len() < FIRST_LEVEL.1 {
            ratios.extend([self.first_level; FIRST_LEVEL.0]);
        }
        let Some(level) = middle(&mut ratios) else { return };
        let mut aims: Vec<FitPoint> = Vec::with_capacity(self.probes.len() + 16);
        for (i, ring) in self.probes.iter().enumerate().filter(|(_, ring)| !ring.is_empty()) {
            let batch = (1usize << i) as f64;
            let weight = (ring.len() as f64 / PASSES_PER_WEIGHT).min(MOST_WEIGHT / 2.0);
            aims.push(FitPoint { batch, seconds: level * shape.seconds(1 << i), weight });
        }
        // Groups of sizes, wider for larger ones, each with its interquartile mean ratio to the
        // shape.
        let mut groups: Vec<(usize, Vec<(usize, f64)>)> = Vec::new();
        for &(batch, seconds) in &self.recent {
            let at = group(batch);
            match groups.iter_mut().find(|g| g.0 == at) {
                Some(found) => found.1.push((batch, seconds)),
                None => groups.push((at, vec![(batch, seconds)])),
            }
        }
        for (_, passes) in groups.iter().filter(|(_, passes)| passes.len() >= MIN_GROUP_PASSES) {
            let mut ratios: Vec<f64> =
                passes.iter().map(|&(batch, seconds)| seconds / shape.seconds(batch)).collect();
            let mut sizes: Vec<f64> = passes.iter().map(|p| p.0 as f64).collect();
            let (Some(ratio), Some(batch)) = (middle(&mut ratios), median(&mut sizes)) else {
                continue;
            };
            let seconds = ratio * shape.seconds(batch as usize);
            aims.push(FitPoint {
                batch,
                seconds,
                weight: (passes.len() as f64 / PASSES_PER_WEIGHT).min(MOST_WEIGHT),
            });
        }
        let Some(cost) = fit(&aims, self.largest()) else { return };
        // Sizes that many steps visited are corrected by their own times, within limits.
        let mut points = cost.points().to_vec();
        for (_, passes) in groups.iter().filter(|(_, passes)| passes.len() >= MIN_CORRECTION_PASSES)
        {
            let mut ratios: Vec<f64> =
                passes.iter().map(|&(batch, seconds)| seconds / cost.seconds(batch)).collect();
            let Some(ratio) = middle(&mut ratios) else { continue };
            let ratio = ratio.clamp(1.0 / MOST_CORRECTION, MOST_CORRECTION);
            let (mut low, mut high) = (usize::MAX, 0);
            passes.iter().for_each(|p| (low, high) = (low.min(p.0), high.max(p.0)));
            for batch in [low, high] {
                match points.binary_search_by_key(&batch, |p| p.0) {
                    Ok(at) => points[at].1 = ratio * cost.seconds(batch),
                    Err(at) => points.insert(at, (batch, ratio * cost.seconds(batch))),
                }
            }
        }
        self.cost = CostCurve::new(points).unwrap_or(cost);
    }
}

/// Returns the largest relative error of the medians of these probes.
///
/// Estimated from median absolute deviations; infinite where a size has no probes.
fn uncertainty(probes: &[VecDeque<f64>]) -> f64 {
    let of = |ring: &VecDeque<f64>| {
        let mut all: Vec<f64> = ring.iter().copied().collect();
        let Some(middle) = median(&mut all) else { return f64::INFINITY };
        let mut off: Vec<f64> = all.iter().map(|x| (x - middle).abs()).collect();
        // 1.4826 MAD estimates the standard deviation, and 1.2533 / sqrt(n) of that is the error of
        // a median.
        median(&mut off)
            .map_or(f64::INFINITY, |mad| 1.4826 * mad * 1.2533 / (all.len() as f64).sqrt() / middle)
    };
    probes.iter().map(of).fold(0.0, f64::max)
}

/// Returns the index of the group that a size belongs to.
///
/// The groups are 1, 2, 3, 4, 5 to 6, 7 to 8, 9 to 12, ...
fn group(batch: usize) -> usize {
    if batch <= 4 {
        return batch;
    }
    let power = (batch - 1).ilog2();
    let half = (batch - 1) >> (power - 1) & 1;
    2 * power as usize + half + 1
}

/// Returns the median, the mean of the two middle values for an even count.
///
/// Sorts the slice. Returns `None` if it is empty.
pub(crate) fn median(all: &mut [f64]) -> Option<f64> {
    all.sort_by(f64::total_cmp);
    let upper = *all.get(all.len() / 2)?;
    Some(if all.len().is_multiple_of(2) { (all[all.len() / 2 - 1] + upper) / 2.0 } else { upper })
}

/// Returns the interquartile mean of the logarithms, as a time.
///
/// It is as robust as a median against delayed passes, and a third less uncertain. Sorts the slice;
/// all values must be positive. Returns `None` if it is empty.
fn middle(all: &mut [f64]) -> Option<f64> {
    all.sort_by(f64::total_cmp);
    let cut = all.len() / 4;
    let inner = &all[cut..all.len() - cut];
    (!inner.is_empty())
        .then(|| (inner.iter().map(|x| x.ln()).sum::<f64>() / inner.len() as f64).exp())
}

/// Constant, slope up to the knee, slope beyond it.
type Parameters = [f64; 3];

/// Fits the model of least weighted squared relative error, over all knees.
///
/// Returns `None` without aims.
fn fit(aims: &[FitPoint], largest: usize) -> Option<CostCurve> {
    let mut best: Option<(f64, usize, Parameters)> = None;
    for knee in KNEES.into_iter().filter(|&knee| knee < largest).chain([largest.max(2)]) {
        let row = |batch: f64| [1.0, batch.min(knee as f64) - 1.0, (batch - knee as f64).max(0.0)];
        let Some((error, found)) = least_squares(aims, row) else { continue };
        if best.is_none_or(|best| error < best.0 * (1.0 - 1e-9)) {
            best = Some((error, knee, found));
        }
    }
    let (_, knee, [constant, first, second]) = best?;
    let seconds = |batch: usize| {
        constant + first * (batch.min(knee) - 1) as f64 + second * batch.saturating_sub(knee) as f64
    };
    let mut sizes: Vec<usize> =
        (0..SIZES).map(|i| 1 << i).chain([knee]).filter(|&size| size <= largest).collect();
    sizes.sort_unstable();
    sizes.dedup();
    CostCurve::new(sizes.into_iter().map(|size| (size, seconds(size))).collect()).ok()
}

/// Solves weighted least squares of relative errors, with slopes in `0 ..= constant`.
///
/// The constant is positive. Returns the best of the solutions in which each slope is free, 0, or
/// at its maximum, with its error.
fn least_squares(aims: &[FitPoint], row: impl Fn(f64) -> Parameters) -> Option<(f64, Parameters)> {
    /// Constraint on one slope.
    #[derive(Clone, Copy)]
    enum Slope {
        Free,
        Zero,
        Constant,
    }
    use Slope::{Constant, Free, Zero};
    let mut best: Option<(f64, Parameters)> = None;
    for first in [Free, Zero, Constant] {
        for second in [Free, Zero, Constant] {
            // Columns of the free unknowns; a slope fixed at the constant is added to the
            // constant's column.
            let columns = |batch: f64| -> Vec<f64> {
                let [one, x1, x2] = row(batch);
                let held = |slope: Slope, x: f64| if matches!(slope, Constant) { x } else { 0.0 };
                let mut columns = vec![one + held(first, x1) + held(second, x2)];
                for (slope, x) in [(first, x1), (second, x2)] {
                    if matches!(slope, Free) {
                        columns.push(x);
                    }
                }
                columns
            };
            let Some(solved) = solve(aims, columns) else { continue };
            let constant = solved[0];
            let mut free = solved[1..].iter();
            let mut value = |slope: Slope| match slope {
                Free => free.next().copied().unwrap_or(0.0),
                Zero => 0.0,
                Constant => constant,
            };
            let found = [constant, value(first), value(second)];
            let sound = constant > 0.0 && found[1..].iter().all(|s| (0.0..=constant).contains(s));
            if !sound || found.iter().any(|x| !x.is_finite()) {
                continue;
            }
            let error: f64 = aims
                .iter()
                .map(|aim| {
                    let model: f64 = row(aim.batch).iter().zip(found).map(|(x, p)| x * p).sum();
                    aim.weight * (model / aim.seconds - 1.0).powi(2)
                })
                .sum();
            if best.is_none_or(|best| error < best.0) {
                best = Some((error, found));
            }
        }
    }
    best
}

/// Solves the normal equations of up to three unknowns by elimination.
///
/// Returns `None` if they have no unique solution.
fn solve(aims: &[FitPoint], columns: impl Fn(f64) -> Vec<f64>) -> Option<Vec<f64>> {
    let n = columns(1.0).len();
    let mut matrix = vec![vec![0.0; n + 1]; n];
    for aim in aims {
        let x: Vec<f64> = columns(aim.batch).iter().map(|c| c / aim.seconds).collect();
        for i in 0..n {
            for j in 0..n {
                matrix[i][j] += aim.weight * x[i] * x[j];
            }
            matrix[i][n] += aim.weight * x[i];
        }
    }
    for i in 0..n {
        let pivot = (i..n).max_by(|&a, &b| matrix[a][i].abs().total_cmp(&matrix[b][i].abs()))?;
        matrix.swap(i, pivot);
        let scale = matrix[i][i];
        if scale.abs() < 1e-300 || !scale.is_finite() {
            return None;
        }
        let row = matrix[i].clone();
        for (_, other) in matrix.iter_mut().enumerate().filter(|(k, _)| *k != i) {
            let factor = other[i] / scale;
            other.iter_mut().zip(&row).for_each(|(x, y)| *x -= factor * y);
        }
    }
    Some((0..n).map(|i| matrix[i][n] / matrix[i][i]).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::theory::bootstrap::SplitMix;

    struct Noise(SplitMix);

    impl Noise {
        /// Log-normal time around `truth`, with delays.
        ///
        /// One pass in 20 takes half as long again, one in 200 ten times as long.
        fn pass(&mut self, truth: f64, spread: f64) -> f64 {
            let held_up = match self.0.below(200) {
                0 => 10.0,
                1..=10 => 1.5,
                _ => 1.0,
            };
            truth * (spread * self.0.normal()).exp() * held_up
        }
    }

    /// Curves of real machines: t(B) / t(1) for B = 1, 2, 4, ... 128.
    const MACHINES: [[f64; 8]; 5] = [
        [1.0, 1.04, 1.10, 1.31, 2.3, 4.4, 8.5, 17.0],
        [1.0, 1.1, 1.2, 2.0, 3.7, 7.5, 15.0, 30.0],
        [1.0, 1.15, 1.43, 2.2, 3.8, 7.4, 14.2, 28.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.02, 1.05],
        [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0],
    ];

    fn truth(machine: [f64; 8]) -> CostCurve {
        CostCurve::new(machine.into_iter().enumerate().map(|(i, t)| (1 << i, 2e-3 * t)).collect())
            .unwrap()
    }

    /// Largest |log(t(B) / truth)| for B = 1 to 128.
    fn error(cost: &CostCurve, truth: &CostCurve, level: f64) -> f64 {
        let off = |b: usize| (cost.seconds(b) / (level * truth.seconds(b))).ln().abs();
        (1..=128).map(off).fold(0.0, f64::max)
    }

    /// Probes as the engine makes them at first; callers then add one every 300 steps.
    fn begin(truth: &CostCurve, noise: &mut Noise, spread: f64) -> PassTimes {
        let mut passes = Vec::new();
        loop {
            for size in (0..SIZES).map(|i| 1usize << i) {
                passes.push((size, noise.pass(truth.seconds(size), spread)));
            }
            let times = PassTimes::from_probes(&passes).unwrap();
            if (passes.len() >= 5 * SIZES && times.settled(0.05)) || passes.len() >= 48 * SIZES {
                return times;
            }
        }
    }

    #[test]
    fn groups_widen_with_their_sizes() {
        let groups: Vec<usize> =
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 24, 25, 32, 64, 128, 256]
                .map(group)
                .to_vec();
        assert!(groups.windows(2).all(|w| w[0] <= w[1]), "{groups:?}");
        assert_eq!(
            (group(5), group(7), group(9), group(13)),
            (group(6), group(8), group(12), group(16))
        );
        assert_eq!(
            groups.iter().collect::<std::collections::BTreeSet<_>>().len(),
            13,
            "{groups:?}"
        );
    }

    #[test]
    fn curves_of_real_machines_are_fitted() {
        for machine in MACHINES {
            let truth = truth(machine);
            let passes: Vec<(usize, f64)> = truth.points().to_vec();
            let times = PassTimes::from_probes(&passes).unwrap();
            let off = error(times.cost(), &truth, 1.0);
            assert!(off < 0.12, "{machine:?}: {off}, {:?}", times.cost());
        }
    }

    #[test]
    fn invalid_times_are_ignored() {
        assert!(
            PassTimes::from_probes(&[]).is_none() && PassTimes::from_probes(&[(1, 1.0)]).is_none()
        );
        assert!(PassTimes::from_probes(&[(1, 1.0), (2, f64::NAN)]).is_none());
        let mut times = PassTimes::from_probes(&[(1, 1.0), (2, 1.5)]).unwrap();
        let before = times.cost().clone();
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            (0..64).for_each(|_| times.add(2, bad));
            times.add_probe(1, bad);
        }
        times.add(0, 1.0);
        times.add_probe(3, 1.0);
        times.add_probe(64, 1.0);
        assert_eq!(times.cost(), &before);
    }

    #[test]
    fn one_long_pause_leaves_the_curve_as_it_was() {
        let truth = truth(MACHINES[0]);
        let mut times = PassTimes::from_cost(truth.clone());
        (0..400).for_each(|i| times.add(1 + i % 4, truth.seconds(1 + i % 4)));
        (0..40).for_each(|_| times.add(2, 3600.0));
        assert!(error(times.cost(), &truth, 1.0) < 0.1, "{:?}", times.cost());
    }

    #[test]
    fn the_curve_follows_the_level_of_the_machine_and_a_change_of_shape() {
        let (mut noise, old, new) = (Noise(SplitMix(5)), truth(MACHINES[0]), truth(MACHINES[1]));
        let mut times = PassTimes::from_cost(old.clone());
        // Twice as slow while each pass verifies one token: all sizes cost twice as much.
        (0..RECENT).for_each(|_| times.add(1, 2.0 * old.seconds(1)));
        assert!(error(times.cost(), &old, 2.0) < 0.1, "{:?}", times.cost());
        // Another shape: probes reveal it at sizes that no step visits.
        for i in 0..3 * PROBES * SIZES {
            times.add_probe(1 << (i % SIZES), noise.pass(new.seconds(1 << (i % SIZES)), 0.03));
            (0..8).for_each(|_| times.add(1, noise.pass(new.seconds(1), 0.03)));
        }
        assert!(error(times.cost(), &new, 1.0) < 0.12, "{:?}", times.cost());
    }

    #[test]
    fn a_wrong_kept_curve_is_forgotten_after_sixteen_probes_of_each_size() {
        let right = truth(MACHINES[0]);
        // Plausible and wrong: each token costs as much as the first.
        let mut times = PassTimes::from_cost(truth(MACHINES[4]));
        for i in 0..4 * PRIOR {
            for size in (0..SIZES).map(|i| 1usize << i) {
                times.add_probe(size, right.seconds(size));
            }
            (0..16).for_each(|_| times.add(1, right.seconds(1)));
            assert!(
                i + 1 < 4 * PRIOR || error(times.cost(), &right, 1.0) < 0.15,
                "round {i}: {:?}",
                times.cost()
            );
        }
    }

    /// Checks that no B up to 128 is ever off by more than 25%.
    ///
    /// It must hold over a million passes, whichever sizes they visit.
    #[test]
    fn a_million_noisy_passes_leave_every_size_within_a_quarter_of_the_truth() {
        let steps = if cfg!(debug_assertions) { 40_000 } else { 1_000_000 };
        type Visit = fn(&mut Noise) -> usize;
        let visits: [Visit; 6] = [
            |_| 1,
            |n| 1 + n.0.below(4),
            |n| 2 + n.0.below(7),
            |_| 40,
            |n| 1 << n.0.below(8),
            |n| 1 + n.0.below(128),
        ];
        let spreads = [0.0, 0.03, 0.1, 0.2, 0.3, 0.4];
        let mut worst = 0f64;
        let runs =
            visits.into_iter().cycle().zip(spreads.into_iter().flat_map(|s| [s; 6])).take(36);
        for (run, (visit, spread)) in runs.enumerate() {
            let truth = truth(MACHINES[run % MACHINES.len()]);
            let mut noise = Noise(SplitMix(17 * run as u64 + 1));
            let mut times = begin(&truth, &mut noise, spread);
            let mut size = 0;
            for step in 0..steps / 36 {
                let batch = visit(&mut noise);
                times.add(batch, noise.pass(truth.seconds(batch), spread));
                if step % 300 == 0 {
                    size = (size + 1) % SIZES;
                    times.add_probe(1 << size, noise.pass(truth.seconds(1 << size), spread));
                }
                if step % REFIT == 0 {
                    worst = worst.max(error(times.cost(), &truth, 1.0));
                    let off = error(times.cost(), &truth, 1.0);
                    assert!(
                        off < 1.25f64.ln(),
                        "run {run}, spread {spread}, step {step}: {off}, {:?}",
                        times.cost()
                    );
                }
            }
        }
        assert!(worst > 0.0);
    }
}
