//! Random numbers of a text, keyed by position.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// Uniform random numbers keyed by seed, prompt id and position in the text.
///
/// The token at a position is sampled with the same number, whichever drafter proposed it and
/// whichever step emits it (common random numbers). The text therefore depends on neither.
#[derive(Clone, Debug)]
pub struct TextRandom {
    key: [u8; 32],
}

impl TextRandom {
    /// Creates the numbers of the text that continues prompt `id` under `seed`.
    pub fn new(seed: u64, id: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(id.as_bytes());
        Self { key: hash.finalize().into() }
    }

    /// Returns the number for the token at `position` of the text, from 0.
    ///
    /// It is uniform on the multiples of 2^-53 in \[0, 1): the 53 high bits of the first 64 of
    /// ChaCha8's stream `position` under the key.
    pub fn uniform(&self, position: usize) -> f64 {
        self.nth_uniform(position, 0)
    }

    /// Returns the n-th number of a position, from 0.
    ///
    /// As [`TextRandom::uniform`], but from the n-th 64 bits of the stream.
    pub fn nth_uniform(&self, position: usize, n: usize) -> f64 {
        let mut stream = ChaCha8Rng::from_seed(self.key);
        stream.set_stream(position as u64);
        stream.set_word_pos(2 * n as u128);
        (stream.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_and_keyed() {
        let draws = TextRandom::new(7, "a");
        let all: Vec<f64> = (0..20_000).map(|i| draws.uniform(i)).collect();
        assert!(all.iter().all(|u| (0.0..1.0).contains(u)));
        // Chi-squared over 20 cells, with 19 degrees of freedom, exceeds 43.8 for one seed in a
        // thousand. The seed is fixed.
        let mut cells = [0f64; 20];
        all.iter().for_each(|u| cells[(u * 20.0) as usize] += 1.0);
        let chi2: f64 = cells.iter().map(|n| (n - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi2 < 43.8, "{chi2}");
        // Numbers of neighboring positions are uncorrelated: the mean product of deviations has a
        // standard error of 1/12/sqrt(n).
        let corr: f64 = all.windows(2).map(|w| (w[0] - 0.5) * (w[1] - 0.5)).sum::<f64>() / 19_999.0;
        assert!(corr.abs() < 4.0 / 12.0 / 20_000f64.sqrt(), "{corr}");
        // Other keys give other numbers, and the same key the same ones.
        for other in [TextRandom::new(8, "a"), TextRandom::new(7, "b"), TextRandom::new(7, "")] {
            assert!((0..100).all(|i| other.uniform(i) != draws.uniform(i)));
        }
        assert_eq!(TextRandom::new(7, "a").uniform(3), draws.uniform(3));
        // The numbers of one position differ from each other.
        let mut at_one: Vec<u64> = (0..1000).map(|n| draws.nth_uniform(3, n).to_bits()).collect();
        at_one.sort_unstable();
        at_one.dedup();
        assert_eq!((at_one.len(), draws.nth_uniform(3, 0)), (1000, draws.uniform(3)));
    }

    #[test]
    fn the_numbers_stay_what_they_are() {
        // A change here changes every sampled text that users have recorded. The number is that of
        // a ChaCha8 written from its definition, with the key SHA-256 of eight zero bytes and "0",
        // stream 0 and counter 0.
        assert_eq!(TextRandom::new(0, "0").uniform(0), 0.949_690_470_771_401_9);
    }
}
