//! Ceilings on the speed-up over plain decoding (bounds.md, "The wall clock").
//!
//! They come from measured pass times, or from the best that a described machine could do.

use serde::{Deserialize, Serialize};

/// Largest speed-up, and the budget that attains it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestSpeedUp {
    /// Budget B in tokens per pass, the root included.
    pub budget: usize,
    /// Factor over the tokens per second of plain decoding.
    #[serde(with = "crate::theory::finite")]
    pub speed_up: f64,
}

/// Returns the largest speed-up over the budgets B, and its B.
///
/// Maximizes (1 + accepted(B)) t(1) / (t(B) + draft(B)). `accepted[B - 1]` is the expected number
/// of accepted drafted tokens at budget B: the curve of the fluid bound (whose entry P = B - 1 is
/// for trees of P nodes), or a drafter's own. `pass` is t(B) in seconds, `draft` the seconds that
/// drafting for B takes: 0 for a free drafter. Ties go to the smallest B. Returns `None` if there
/// is nothing to compare, or the times are not positive.
pub fn best(
    accepted: &[f64],
    pass: impl Fn(usize) -> f64,
    draft: impl Fn(usize) -> f64,
) -> Option<BestSpeedUp> {
    let plain = pass(1);
    let mut best: Option<BestSpeedUp> = None;
    for (i, accepted) in accepted.iter().enumerate() {
        let budget = i + 1;
        let seconds = pass(budget) + draft(budget);
        let speed_up = (1.0 + accepted) * plain / seconds;
        if plain > 0.0
            && seconds > 0.0
            && speed_up.is_finite()
            && best.is_none_or(|best| speed_up > best.speed_up)
        {
            best = Some(BestSpeedUp { budget, speed_up });
        }
    }
    best
}

/// Roofline of a machine: the best that it could do.
///
/// `hardware.toml` describes some machines, with the sources of their figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hardware {
    /// Name of the machine, for display.
    pub name: String,
    /// Bytes per second between memory and compute units; positive.
    pub bandwidth: f64,
    /// Floating-point operations per second, in the number format of the products; positive.
    pub flops: f64,
    /// Bytes of memory for weights, if known.
    pub memory: Option<f64>,
}

/// Work of a model, as a roofline counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelWork {
    /// Bytes that one pass reads, whatever its size: the weights.
    ///
    /// The KV cache is left out: it is small while contexts are short.
    pub bytes: f64,
    /// Floating-point operations per token: twice the number of weights multiplied with it.
    pub flops_per_token: f64,
}

impl Hardware {
    /// Returns true if the weights fit in memory; `None` if its size is unknown.
    pub fn fits_in_memory(&self, work: &ModelWork) -> Option<bool> {
        self.memory.map(|memory| work.bytes <= memory)
    }

    /// Returns the least seconds of a pass over `batch` = B tokens.
    ///
    /// t(B) = max(bytes / bandwidth, B flops per token / flops): reading and computing overlap
    /// fully. No pass is faster.
    pub fn seconds(&self, work: &ModelWork, batch: usize) -> f64 {
        (work.bytes / self.bandwidth).max(batch as f64 * work.flops_per_token / self.flops)
    }

    /// Returns the largest B whose pass takes no longer than that of one token.
    ///
    /// Up to this B passes are memory-bound, which the paper (bounds.md, "Source") assumes.
    pub fn free_budget(&self, work: &ModelWork) -> usize {
        let ratio = (work.bytes / self.bandwidth) / (work.flops_per_token / self.flops);
        if ratio.is_finite() { (ratio as usize).max(1) } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hand_computed_speed_ups_match() {
        // B = 1, 2, 3: 0, 0.5 and 0.75 accepted; passes of 1, 1.2 and 1.5 s.
        let pass = |b: usize| [1.0, 1.2, 1.5][b - 1];
        assert_eq!(
            best(&[0.0, 0.5, 0.75], pass, |_| 0.0),
            Some(BestSpeedUp { budget: 2, speed_up: 1.25 })
        );
        // Drafting takes as long as a pass: only drafting nothing pays.
        let draft = |b: usize| if b > 1 { 1.0 } else { 0.0 };
        assert_eq!(
            best(&[0.0, 0.5, 0.75], pass, draft),
            Some(BestSpeedUp { budget: 1, speed_up: 1.0 })
        );
        assert_eq!(best(&[], pass, |_| 0.0), None);
        assert_eq!(best(&[0.0, 1.0], |_| 0.0, |_| 0.0), None);
        assert_eq!(best(&[0.0, 1.0], |_| f64::NAN, |_| 0.0), None);
    }

    #[test]
    fn large_machines_verify_many_tokens_for_the_price_of_one() {
        // 8 billion weights in half precision, on machines as large as an A100 and an H100.
        let work = ModelWork { bytes: 1.6e10, flops_per_token: 1.6e10 };
        let machine = |bandwidth, flops| Hardware {
            name: String::new(),
            bandwidth,
            flops,
            memory: Some(8e10),
        };
        for (machine, free) in
            [(machine(2.039e12, 3.12e14), 153), (machine(3.35e12, 9.894e14), 295)]
        {
            assert_eq!(machine.free_budget(&work), free);
            assert_eq!(machine.seconds(&work, free), machine.seconds(&work, 1));
            assert!(machine.seconds(&work, free + 1) > machine.seconds(&work, 1));
            assert_eq!(machine.fits_in_memory(&work), Some(true));
            assert_eq!(machine.fits_in_memory(&ModelWork { bytes: 1.4e11, ..work }), Some(false));
        }
        assert_eq!(Hardware { memory: None, ..machine(1.0, 1.0) }.fits_in_memory(&work), None);
    }

    proptest! {
        #[test]
        fn no_budget_beats_the_best(accepted in prop::collection::vec(0.0f64..9.0, 1..40), slope in 0.0f64..2.0, draft in 0.0f64..2.0) {
            let seconds = |b: usize| 1.0 + slope * (b - 1) as f64;
            let found = best(&accepted, seconds, |_| draft).unwrap();
            for (i, a) in accepted.iter().enumerate() {
                prop_assert!((1.0 + a) / (seconds(i + 1) + draft) <= found.speed_up * (1.0 + 1e-12));
            }
        }
    }
}
