//! Ratios of two results, with intervals.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::report::{BenchReport, median};

/// Number of bootstrap replicates.
const DRAWS: usize = 2000;

/// Change of one measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasurementRatio {
    /// Name of the measurement in [`BenchReport::samples`].
    pub name: String,
    /// Median of the earlier result.
    pub before: f64,
    /// Median of the new result.
    pub now: f64,
    /// Lower end of the ratio's 95% interval.
    pub low: f64,
    /// Upper end of the ratio's 95% interval.
    pub high: f64,
}

impl MeasurementRatio {
    /// Returns true if the interval excludes a ratio of 1.
    pub fn is_significant(&self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }
}

/// Returns the change of everything that both results measured.
pub fn ratios(old: &BenchReport, new: &BenchReport) -> Vec<MeasurementRatio> {
    let both = new.samples.iter().filter_map(|(name, now)| {
        let before =
            old.samples.get(name).filter(|before| !before.is_empty() && !now.is_empty())?;
        let (low, high) = interval(before, now);
        let (before, now) = (median(before), median(now));
        Some(MeasurementRatio { name: name.clone(), before, now, low, high })
    });
    both.collect()
}

/// Returns the 95% interval of median(now) / median(before).
///
/// Percentile bootstrap (Efron 1979) with a fixed seed.
fn interval(before: &[f64], now: &[f64]) -> (f64, f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut again = |samples: &[f64]| -> f64 {
        let drawn: Vec<f64> =
            samples.iter().map(|_| samples[rng.next_u32() as usize % samples.len()]).collect();
        median(&drawn)
    };
    let mut ratios: Vec<f64> = (0..DRAWS).map(|_| again(now) / again(before)).collect();
    ratios.sort_by(f64::total_cmp);
    (ratios[DRAWS / 40], ratios[DRAWS - 1 - DRAWS / 40])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_the_ratio_and_shows_a_difference_where_there_is_one() {
        let noise = |i: u32| f64::from(i * 37 % 11) / 100.0;
        let before: Vec<f64> = (0..21).map(|i| 1.0 + noise(i)).collect();
        let same: Vec<f64> = (0..21).map(|i| 1.0 + noise(i + 5)).collect();
        let slower: Vec<f64> = before.iter().map(|x| x * 1.2).collect();
        let (low, high) = interval(&before, &same);
        assert!(low <= 1.0 && 1.0 <= high, "{low} to {high}");
        let (low, high) = interval(&before, &slower);
        assert!((1.1..=1.2).contains(&low) && (1.2..1.3).contains(&high), "{low} to {high}");
    }
}
