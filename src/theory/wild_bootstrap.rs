//! Dependent wild bootstrap for autocorrelated steps, with cosine weights (bounds.md,
//! "Statistics").
//!
//! Consecutive units are weighted by slow waves, so that what neighbors have in common moves
//! together, and no block length has to be guessed.
//!
//! In the dependent wild bootstrap (Shao, "The dependent wild bootstrap", JASA 2010) a replicate
//! weights unit i by 1 + the sum over j of z_j sqrt(2/K) cos(pi j (i + 1/2) / units), j = 1 ... K,
//! with normal z_j. Here it is taken to its limit of many replicates and small weights, where the
//! variance of a statistic is the sum of its squared derivatives along the K waves. For a mean this
//! is the equal-weighted cosine estimate of the long-run variance, whose t statistic has Student's
//! distribution with K degrees of freedom (Lazarus, Lewis, Stock & Watson, "HAR inference:
//! recommendations for practice", JBES 2018). The only requirement is that the correlation between
//! units is short compared with the period of the fastest wave, 2 units / K. A block bootstrap of
//! the same units underestimates the variance by a part that falls with the block length alone.

use std::f64::consts::PI;

use super::bootstrap::student_975;

/// Maximum number of units that steps are grouped in.
pub const UNITS: usize = 32;
/// Minimum number of steps in a unit.
///
/// With fewer, the correlation between steps is not short compared with a wave.
pub const LEAST_STEPS: usize = 16;
/// Number of waves over units of that many steps; one more per doubling.
const LEAST_WAVES: usize = 4;
/// Maximum number of waves: half of the smallest number of units.
const MOST_WAVES: usize = 8;

/// Returns the number of waves for units of `steps` steps; `None` if too short.
pub fn wave_count(steps: usize) -> Option<usize> {
    let doubled = (steps / LEAST_STEPS).checked_ilog2()? as usize;
    Some((LEAST_WAVES + doubled).min(MOST_WAVES))
}

/// Weight of a unit without a wave: large, so that integers follow a wave well.
const UNIT_WEIGHT: f64 = 4096.0;
/// Amplitude of a wave, relative to [`UNIT_WEIGHT`].
///
/// Large compared with the rounding of weights, and small enough for nearly linear statistics.
const SWING: f64 = 0.25;

/// Returns half the widths of 95% intervals of several statistics over `units` units.
///
/// Uses the first `waves` = K waves over the units. `statistics` receives how often each unit
/// counts and returns the values at these weights, so that all intervals come from the same waves.
/// No random numbers are used. A half-width is NaN where a value is NaN. Returns `None` for fewer
/// than four waves, for more than half as many waves as units (which would follow single units), or
/// if `statistics` does.
pub fn half_widths(
    units: usize,
    waves: usize,
    mut statistics: impl FnMut(&[usize]) -> Option<Vec<f64>>,
) -> Option<Vec<f64>> {
    if waves < 4 || units < 2 * waves {
        return None;
    }
    let (mut times, mut variances) = (vec![0usize; units], Vec::new());
    for wave in 1..=waves {
        let mut at = |swing: f64| {
            for (i, times) in times.iter_mut().enumerate() {
                let height = (PI * wave as f64 * (i as f64 + 0.5) / units as f64).cos();
                *times = (UNIT_WEIGHT * (1.0 + swing * height)).round() as usize;
            }
            statistics(&times)
        };
        let (up, down) = (at(SWING)?, at(-SWING)?);
        variances.resize(up.len(), 0.0);
        for (variance, (up, down)) in variances.iter_mut().zip(up.iter().zip(&down)) {
            let slope = (up - down) / (2.0 * SWING);
            *variance += 2.0 / waves as f64 * slope * slope;
        }
    }
    let t = student_975(waves as f64);
    Some(variances.into_iter().map(|variance| t * variance.sqrt()).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Weighted mean of the units.
    fn mean(units: &[f64]) -> impl FnMut(&[usize]) -> Option<Vec<f64>> {
        |times| {
            let n: usize = times.iter().sum();
            Some(vec![
                units.iter().zip(times).map(|(unit, &n)| unit * n as f64).sum::<f64>() / n as f64,
            ])
        }
    }

    #[test]
    fn interval_of_a_mean_is_the_cosine_estimate() {
        let units: Vec<f64> = (0..20).map(|i| f64::from(i * i % 7)).collect();
        let cosine = |j: usize| {
            let term =
                |(i, unit): (usize, &f64)| unit * (PI * j as f64 * (i as f64 + 0.5) / 20.0).cos();
            (2.0f64 / 20.0).sqrt() * units.iter().enumerate().map(term).sum::<f64>()
        };
        let variance = (1..=5).map(|j| cosine(j).powi(2)).sum::<f64>() / 5.0;
        let want = 2.5706 * (variance / 20.0).sqrt();
        let got = half_widths(20, 5, mean(&units)).unwrap()[0];
        assert!((got / want - 1.0).abs() < 2e-3, "{got} for {want}");
    }

    #[test]
    fn too_few_units_or_waves_have_no_width() {
        assert_eq!(half_widths(7, 4, mean(&[1.0; 7])), None);
        assert_eq!(half_widths(20, 3, mean(&[1.0; 20])), None);
        assert_eq!(half_widths(20, 4, |_| None), None);
        let same = half_widths(20, 4, mean(&[3.0; 20])).unwrap()[0];
        assert!(same < 1e-12, "what never differs has no width: {same}");
    }
}
