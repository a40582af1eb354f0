//! Frequencies of the rotary position embedding (RoPE).

use std::f64::consts::TAU;

use super::Config;

/// Rotary frequencies of the `head_dim / 2` pairs of a head, in radians per position.
///
/// The unscaled frequencies are `rope_base^(-2i / head_dim)` (Su et al. 2021, section 3.2.2). Each
/// is divided by its entry in `factors`, if the weights provide that list, and is otherwise scaled
/// by [`Config::rope_scaling`].
///
/// Llama 3's scaling: a pair has a wavelength of `w = 2 pi / f` positions. Wavelengths below
/// `original_context / high_freq_factor` are kept, those above `original_context / low_freq_factor`
/// become `factor` times as long, and between the two the frequency is interpolated linearly in
/// `original_context / w`.
pub fn frequencies(config: &Config, factors: Option<&[f32]>) -> Vec<f32> {
    let base = f64::from(config.rope_base);
    (0..config.head_dim / 2)
        .map(|i| {
            let f = base.powf(-2.0 * i as f64 / config.head_dim as f64);
            let scaled = match (factors.and_then(|divisors| divisors.get(i)), config.rope_scaling) {
                (Some(&divisor), _) => f / f64::from(divisor),
                (None, Some(s)) => {
                    let (low, high) = (f64::from(s.low_freq_factor), f64::from(s.high_freq_factor));
                    let turns = s.original_context as f64 * f / TAU;
                    let keep = if turns > high {
                        1.0
                    } else if turns < low {
                        0.0
                    } else {
                        (turns - low) / (high - low)
                    };
                    keep * f + (1.0 - keep) * f / f64::from(s.factor)
                }
                (None, None) => f,
            };
            scaled as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RopeScaling;

    fn config(rope_scaling: Option<RopeScaling>) -> Config {
        Config {
            dim: 64,
            ffn: 64,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            head_dim: 64,
            vocab: 8,
            context: 131_072,
            eps: 1e-5,
            rope_base: 500_000.0,
            rope_scaling,
        }
    }

    #[test]
    fn plain_frequencies_are_powers_of_the_base() {
        let f = frequencies(&config(None), None);
        assert_eq!((f.len(), f[0]), (32, 1.0));
        assert_eq!(f[16], (1.0 / 500_000f64.sqrt()) as f32);
    }

    #[test]
    fn factors_in_weights_override_configured_scaling() {
        let scaling = RopeScaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192,
        };
        let (plain, by_two) = (
            frequencies(&config(None), None),
            frequencies(&config(Some(scaling)), Some(&[2.0; 32])),
        );
        assert!(plain.iter().zip(&by_two).all(|(p, s)| p / 2.0 == *s));
    }

    #[test]
    fn llama_3_scaling_is_continuous_between_short_and_long_wavelengths() {
        let scaling = RopeScaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192,
        };
        let (plain, scaled) =
            (frequencies(&config(None), None), frequencies(&config(Some(scaling)), None));
        let mut last = 1.0;
        for (p, s) in plain.iter().zip(&scaled) {
            let (turns, kept) = (8192.0 * p / std::f32::consts::TAU, s / p);
            if turns > 4.0 {
                assert_eq!(kept, 1.0);
            } else if turns < 1.0 {
                assert!((kept - 0.125).abs() < 1e-6, "{kept}");
            } else {
                assert!(
                    (kept - (0.125 + 0.875 * (turns - 1.0) / 3.0)).abs() < 1e-4,
                    "{kept} at {turns}"
                );
            }
            assert!(kept <= last + 1e-6);
            last = kept;
        }
        assert!((last - 0.125).abs() < 1e-6);
    }
}
