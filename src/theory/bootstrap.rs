//! Circular moving-block bootstrap over consecutive units (bounds.md, "Statistics").
//!
//! Blocks keep what neighbors have in common together. See Politis & Romano, "A circular
//! block-resampling procedure for stationary data", 1992.

/// Number of bootstrap replicates.
const REPLICATES: usize = 200;

/// Returns half the widths of 95% intervals of several statistics over `units` units.
///
/// Resamples blocks of `length` consecutive units, the last unit followed by the first.
/// `statistics` receives how often each unit counts and returns the values of one replicate, so
/// that all intervals come from the same blocks. The random sequence is fixed: the same units give
/// the same widths.
///
/// A half-width is the standard deviation of the replicates, times Student's t with k - 1 degrees
/// of freedom for k blocks (1.5 k - 1 where blocks overlap) and the square root of k/(k - 1): a
/// bootstrap from few blocks is too narrow by as much. It is NaN where a replicate's value is NaN.
/// Returns `None` for fewer than four blocks, or if `statistics` does.
///
/// Where units belong to several texts, pass each text as one unit with a `length` of 1: blocks
/// that begin and end within texts miss a part of the variance between texts, and cover about 0.9
/// (see the tests).
pub fn half_widths(
    units: usize,
    length: usize,
    mut statistics: impl FnMut(&[usize]) -> Option<Vec<f64>>,
) -> Option<Vec<f64>> {
    let blocks = units as f64 / length.max(1) as f64;
    if blocks < 4.0 {
        return None;
    }
    let (mut draws, mut times, mut replicates) =
        (SplitMix(0), vec![0usize; units], Vec::with_capacity(REPLICATES));
    for _ in 0..REPLICATES {
        times.fill(0);
        let mut remaining = units;
        while remaining > 0 {
            let from = draws.below(units);
            for i in 0..length.min(remaining) {
                times[(from + i) % units] += 1;
            }
            remaining -= length.min(remaining);
        }
        replicates.push(statistics(&times)?);
    }
    // Blocks of one unit do not overlap.
    let overlap = if length > 1 { 1.5 } else { 1.0 };
    let wider = student_975(overlap * blocks - 1.0) * (blocks / (blocks - 1.0)).sqrt();
    let many = replicates.iter().map(Vec::len).min().unwrap_or(0);
    let of = |i: usize| {
        wider * deviation(&replicates.iter().map(|values| values[i]).collect::<Vec<_>>())
    };
    Some((0..many).map(of).collect())
}

/// Returns the sample standard deviation, with divisor n - 1.
fn deviation(all: &[f64]) -> f64 {
    let n = all.len() as f64;
    let mean = all.iter().sum::<f64>() / n;
    (all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}

/// SplitMix64 generator (Steele, Lea & Flood 2014), sufficient for choosing blocks.
pub(crate) struct SplitMix(pub u64);

impl SplitMix {
    /// Returns a random number from 0 to `n` - 1.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // n is far below 2^32: the bias of a multiplication is below 2^-27.
        (((z ^ (z >> 31)) >> 32) as usize * n) >> 32
    }
}

#[cfg(test)]
impl SplitMix {
    /// Returns a uniform random number between 0 and 1, both excluded.
    pub fn uniform(&mut self) -> f64 {
        (self.below(1 << 30) as f64 + 0.5) / f64::from(1 << 30)
    }

    /// Returns a standard normal random number (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// Returns the 97.5% point of Student's t with `freedom` degrees of freedom.
///
/// Uses the Cornish-Fisher expansion (Abramowitz & Stegun 26.7.5); better than 0.05% from 4 degrees
/// of freedom on.
pub fn student_975(freedom: f64) -> f64 {
    let (z, n) = (1.959_963_984_540_054_f64, freedom);
    let (z3, z5, z7, z9) = (z.powi(3), z.powi(5), z.powi(7), z.powi(9));
    z + (z3 + z) / (4.0 * n)
        + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * n.powi(2))
        + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * n.powi(3))
        + (79.0 * z9 + 776.0 * z7 + 1482.0 * z5 - 1920.0 * z3 - 945.0 * z) / (92160.0 * n.powi(4))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Pieces (sum, count) of 32 positions each, one to four for each of `texts` texts.
    ///
    /// Texts differ: their own means have half the standard deviation of a position.
    fn texts(texts: usize, draws: &mut SplitMix) -> Vec<Vec<(f64, f64)>> {
        let mut one = || {
            let level = 3.0 + 0.5 * draws.normal();
            let many = 1 + draws.below(4);
            (0..many).map(|_| (32.0 * level + 32f64.sqrt() * draws.normal(), 32.0)).collect()
        };
        (0..texts).map(|_| one()).collect()
    }

    /// Returns true if the interval covers the true mean; `None` without an interval.
    fn covers(units: &[(f64, f64)], length: usize) -> Option<bool> {
        let ratio = |times: &dyn Fn(usize) -> f64| {
            let (sum, n) = units
                .iter()
                .enumerate()
                .fold((0.0, 0.0), |at, (i, u)| (at.0 + times(i) * u.0, at.1 + times(i) * u.1));
            sum / n
        };
        let half =
            half_widths(units.len(), length, |times| Some(vec![ratio(&|i| times[i] as f64)]))?[0];
        Some((ratio(&|_| 1.0) - 3.0).abs() <= half)
    }

    #[test]
    fn whole_texts_cover_the_mean_where_blocks_across_texts_do_not() {
        const RUNS: u64 = 1500;
        let share = |found: &[bool]| {
            found.iter().filter(|covered| **covered).count() as f64 / found.len() as f64
        };
        for many in [6, 8, 12, 24] {
            let (mut by_text, mut by_block) = (Vec::new(), Vec::new());
            for run in 0..RUNS {
                let texts = texts(many, &mut SplitMix(run * 0x10_0000 + many as u64));
                let sum = |text: &Vec<(f64, f64)>| {
                    text.iter().fold((0.0, 0.0), |at, s| (at.0 + s.0, at.1 + s.1))
                };
                by_text.push(covers(&texts.iter().map(sum).collect::<Vec<_>>(), 1).unwrap());
                let stretches = texts.concat();
                by_block.extend(covers(&stretches, stretches.len().div_ceil(many).max(3)));
            }
            // The standard error over 1,500 runs is 0.6%.
            assert!(
                (0.93..=0.97).contains(&share(&by_text)),
                "{many} whole texts: {}",
                share(&by_text)
            );
            assert!(share(&by_block) < 0.94, "{many} texts in blocks: {}", share(&by_block));
        }
    }

    #[test]
    fn students_t_is_the_table() {
        for (freedom, t) in [
            (4.0, 2.7764),
            (5.0, 2.5706),
            (7.0, 2.3646),
            (10.0, 2.2281),
            (15.0, 2.1314),
            (31.0, 2.0395),
            (60.0, 2.0003),
        ] {
            assert!((student_975(freedom) - t).abs() < 1e-3, "{freedom}: {}", student_975(freedom));
        }
    }
}
