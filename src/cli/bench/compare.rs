//! Comparison of two results of `speclight bench`.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::report::{BenchReport, median};
use crate::cli::table;
use crate::sanitize::sanitize_name;

/// Number of bootstrap replicates.
const DRAWS: usize = 2000;

/// Formats the ratio of new to old median for everything that both results measured.
///
/// Each ratio has its 95% interval.
pub fn text(old: &BenchReport, new: &BenchReport) -> String {
    let mut text = format!(
        "\ncompared with {} {} on {} (speclight {})\n",
        sanitize_name(&old.model),
        sanitize_name(&old.quantisation),
        sanitize_name(&old.device),
        sanitize_name(&old.version)
    );
    if old.cpu != new.cpu || old.threads != new.threads {
        text.push_str("the CPU or the thread count differs, which also affects the ratios\n");
    }
    let mut rows = vec![["", "before", "now", "ratio", "95% interval"].map(str::to_owned)];
    for (what, now) in &new.samples {
        let Some(before) =
            old.samples.get(what).filter(|before| !before.is_empty() && !now.is_empty())
        else {
            continue;
        };
        let (low, high) = interval(before, now);
        let mark = if low > 1.0 || high < 1.0 { "" } else { " (not significant)" };
        rows.push([
            what.clone(),
            format!("{:.4e}", median(before)),
            format!("{:.4e}", median(now)),
            format!("{:.3}", median(now) / median(before)),
            format!("{low:.3} to {high:.3}{mark}"),
        ]);
    }
    text.push_str(&table::lines(&rows));
    text
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
