//! A bootstrap for what wanders: units that follow each other are weighed by slow waves, so that what neighbours have in common
//! moves together, and no length of a block has to be guessed (bounds.md, "Statistics").
//!
//! It is the dependent wild bootstrap (Shao, "The dependent wild bootstrap", JASA 2010): a replicate weighs unit i by
//! 1 + the sum over j of z_j sqrt(2/K) cos(pi j (i + 1/2) / units), j = 1 ... K, with normal z_j; taken to its limit of many
//! replicates and small weights, where the variance of a statistic is the sum of its squared derivatives along the K waves. Of a mean
//! that is the equal-weighted cosine estimate of the long-run variance, whose t statistic has Student's law with K degrees of freedom
//! (Lazarus, Lewis, Stock & Watson, "HAR inference: recommendations for practice", JBES 2018). It asks only that what correlates the
//! units be short beside the period of the fastest wave, 2 units / K; a block bootstrap of the same units underrates the variance
//! by a part that falls with the block's length alone.

use std::f64::consts::PI;

use super::bootstrap::student_975;

/// Most units that steps are gathered in.
pub const UNITS: usize = 32;
/// Least number of steps in a unit: with fewer, what correlates the steps is not short beside a wave.
pub const LEAST_STEPS: usize = 16;
/// Waves over units of so many steps; one more each time that they hold twice as many.
const LEAST_WAVES: usize = 4;
/// Waves, at most: half of the fewest units.
const MOST_WAVES: usize = 8;

/// Number of waves for intervals over units of `steps` steps. `None` while these are too short.
pub fn waves_of_units(steps: usize) -> Option<usize> {
    let doubled = (steps / LEAST_STEPS).checked_ilog2()? as usize;
    Some((LEAST_WAVES + doubled).min(MOST_WAVES))
}

/// What a unit counts where no wave runs: large, so that whole numbers follow a wave well.
const ONE: f64 = 4096.0;
/// The height of a wave beside that: large beside its rounding, and small where statistics curve.
const SWING: f64 = 0.25;

/// Half the widths of the 95% intervals of some statistics over `units` units, by the first `waves` = K waves over them.
/// `statistics` gets how often each unit counts and gives the values at these weights: all from the same waves. No number is drawn.
/// A half-width is no number where a value is none. None where there are fewer than four waves, more than half as many as units
/// (which would follow single units), or `statistics` has nothing to say.
pub fn half_widths(units: usize, waves: usize, mut statistics: impl FnMut(&[usize]) -> Option<Vec<f64>>) -> Option<Vec<f64>> {
    if waves < 4 || units < 2 * waves {
        return None;
    }
    let (mut times, mut variances) = (vec![0usize; units], Vec::new());
    for wave in 1..=waves {
        let mut at = |swing: f64| {
            for (i, times) in times.iter_mut().enumerate() {
                let height = (PI * wave as f64 * (i as f64 + 0.5) / units as f64).cos();
                *times = (ONE * (1.0 + swing * height)).round() as usize;
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

    /// The mean of the units.
    fn mean(units: &[f64]) -> impl FnMut(&[usize]) -> Option<Vec<f64>> {
        |times| {
            let n: usize = times.iter().sum();
            Some(vec![units.iter().zip(times).map(|(unit, &n)| unit * n as f64).sum::<f64>() / n as f64])
        }
    }

    #[test]
    fn of_a_mean_it_is_the_cosine_estimate() {
        let units: Vec<f64> = (0..20).map(|i| f64::from(i * i % 7)).collect();
        let cosine = |j: usize| {
            let term = |(i, unit): (usize, &f64)| unit * (PI * j as f64 * (i as f64 + 0.5) / 20.0).cos();
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
