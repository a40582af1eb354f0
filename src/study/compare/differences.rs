//! Paired differences between two settings.
//!
//! Intervals come from a bootstrap that resamples the same whole texts for both settings.

use serde::Serialize;

use super::TextTrace;
use crate::theory::bootstrap::half_widths;
use crate::theory::intervals::Estimate;

/// Texts of one prompt under two settings.
pub type TextPair<'a> = (&'a TextTrace, &'a TextTrace);

/// Unit that is paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// Positions, since the texts are the same.
    Positions,
    /// Whole prompts, since the texts differ.
    Prompts,
}

/// Mean under each of two settings, and their difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PairedMean {
    /// Mean under the first setting.
    pub a: f64,
    /// Mean under the second setting.
    pub b: f64,
    /// Second minus first, with a 95% interval of a paired bootstrap over whole texts.
    ///
    /// No interval while there are too few texts.
    pub difference: Estimate,
}

/// Differences of means between two settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Differences {
    /// Tokens per step, bonus included.
    pub tokens_per_step: PairedMean,
    /// E\[X | T\] per step.
    pub expected_accepted: PairedMean,
    /// Accepted drafted tokens per step.
    pub accepted: PairedMean,
    /// Tokens per second over the time spent in steps.
    pub tokens_per_second: PairedMean,
    /// Ratio of tokens per second, second setting over first.
    pub speed: Estimate,
}

/// Pairs the texts of two settings by prompt, in ascending order.
///
/// If positions are paired, texts that differ within their common length are excluded; their
/// prompts are the second result.
pub fn couples<'a>(
    a: &'a [TextTrace],
    b: &'a [TextTrace],
    pairing: Pairing,
) -> (Vec<TextPair<'a>>, Vec<usize>) {
    let (mut all, mut differing) = (Vec::new(), Vec::new());
    for a in a {
        let Some(b) = b.iter().find(|b| b.prompt == a.prompt) else { continue };
        let common = a.tokens.len().min(b.tokens.len());
        let cut = a.complete && b.complete && a.tokens.len() != b.tokens.len();
        if pairing == Pairing::Positions && (cut || a.tokens[..common] != b.tokens[..common]) {
            differing.push(a.prompt);
        } else if common > 0 {
            all.push((a, b));
        }
    }
    all.sort_by_key(|(a, _)| a.prompt);
    differing.sort_unstable();
    (all, differing)
}

/// Sums over a text under one setting.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    steps: f64,
    tokens: f64,
    accepted: f64,
    expected: f64,
    seconds: f64,
}

impl Sums {
    fn add(&mut self, other: &Sums, times: f64) {
        self.steps += times * other.steps;
        self.tokens += times * other.tokens;
        self.accepted += times * other.accepted;
        self.expected += times * other.expected;
        self.seconds += times * other.seconds;
    }

    /// Returns the means, in the order of the first four fields of [`Differences`].
    fn means(&self) -> [f64; 4] {
        [
            self.tokens / self.steps,
            self.expected / self.steps,
            self.accepted / self.steps,
            self.tokens / self.seconds,
        ]
    }
}

/// Sums of a couple under both settings: the unit of the bootstrap.
///
/// Covers the common length of both texts if positions are paired, otherwise all of each. A unit is
/// a whole text because texts differ from each other: intervals from blocks that are not aligned
/// with texts have too little coverage.
fn unit((a, b): &TextPair, pairing: Pairing) -> [Sums; 2] {
    let end = match pairing {
        Pairing::Positions => a.tokens.len().min(b.tokens.len()),
        Pairing::Prompts => usize::MAX,
    };
    let mut unit = [Sums::default(); 2];
    for (side, course) in [a, b].into_iter().enumerate() {
        for step in course.steps.iter().take_while(|step| step.position < end) {
            unit[side].add(
                &Sums {
                    steps: 1.0,
                    tokens: step.tokens as f64,
                    accepted: step.accepted as f64,
                    expected: step.expected_accepted,
                    seconds: step.seconds,
                },
                1.0,
            );
        }
    }
    unit
}

/// Sums over all units for both settings, with unit i counted `times(i)` times.
fn sums(units: &[[Sums; 2]], times: impl Fn(usize) -> usize) -> [Sums; 2] {
    let mut sum = [Sums::default(); 2];
    for (i, unit) in units.iter().enumerate() {
        for side in 0..2 {
            sum[side].add(&unit[side], times(i) as f64);
        }
    }
    sum
}

/// Computes the differences over these couples; `None` before the first step of both.
pub fn differences(couples: &[TextPair], pairing: Pairing) -> Option<Differences> {
    let units: Vec<[Sums; 2]> = couples.iter().map(|couple| unit(couple, pairing)).collect();
    let values = |times: &dyn Fn(usize) -> usize| {
        let [a, b] = sums(&units, times).map(|side| side.means());
        let mut values: Vec<f64> = b.iter().zip(a).map(|(b, a)| b - a).collect();
        values.push(b[3] / a[3]);
        (a, b, values)
    };
    let (a, b, all) = values(&|_| 1);
    if !all[..3].iter().all(|x| x.is_finite()) {
        return None;
    }
    let widths = half_widths(units.len(), 1, |times| Some(values(&|i| times[i]).2));
    let estimate = |i: usize| {
        Estimate::from_half_width(all[i], widths.as_ref().and_then(|widths| widths.get(i)).copied())
    };
    let quantity = |i: usize| PairedMean { a: a[i], b: b[i], difference: estimate(i) };
    Some(Differences {
        tokens_per_step: quantity(0),
        expected_accepted: quantity(1),
        accepted: quantity(2),
        tokens_per_second: quantity(3),
        speed: estimate(4),
    })
}

/// Mean difference over contexts, with its interval if there are enough texts.
///
/// `texts` has one value for each context, grouped by text.
pub(super) fn mean_difference(texts: &[Vec<f64>]) -> Estimate {
    let sum = |text: &Vec<f64>| (text.len() as f64, text.iter().sum::<f64>());
    let units: Vec<(f64, f64)> = texts.iter().map(sum).filter(|unit| unit.0 > 0.0).collect();
    let mean = |times: &dyn Fn(usize) -> usize| {
        let (mut n, mut sum) = (0.0, 0.0);
        for (i, unit) in units.iter().enumerate() {
            n += times(i) as f64 * unit.0;
            sum += times(i) as f64 * unit.1;
        }
        sum / n
    };
    let widths = half_widths(units.len(), 1, |times| Some(vec![mean(&|i| times[i])]));
    Estimate::from_half_width(mean(&|_| 1), widths.and_then(|widths| widths.first().copied()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::super::StepTrace;
    use super::*;

    /// Text whose steps accept these numbers of tokens.
    ///
    /// E\[X | T\] is 0.25 more, and a step takes 0.1 seconds.
    fn course(prompt: usize, accepted: &[usize]) -> TextTrace {
        let mut course = TextTrace { complete: true, ..TextTrace::new(prompt) };
        for &n in accepted {
            let at = course.tokens.len();
            course.tokens.extend((at..=at + n).map(|t| t as u32));
            course.steps.push(StepTrace {
                position: at,
                tokens: n + 1,
                accepted: n,
                expected_accepted: n as f64 + 0.25,
                seconds: 0.1,
                search: None,
            });
        }
        course
    }

    #[test]
    fn one_pair_gives_differences_without_intervals() {
        let (a, b) = ([course(0, &[1, 1, 1])], [course(0, &[2, 2])]);
        let (couples, differing) = couples(&a, &b, Pairing::Positions);
        assert!(differing.is_empty());
        let d = differences(&couples, Pairing::Positions).unwrap();
        let q = d.tokens_per_step;
        assert_eq!((q.a, q.b, q.difference.value, q.difference.interval), (2.0, 3.0, 1.0, None));
        assert_eq!((d.expected_accepted.difference.value, d.accepted.b), (1.0, 2.0));
        assert!((d.tokens_per_second.a - 20.0).abs() < 1e-9 && (d.speed.value - 1.5).abs() < 1e-9);
        assert_eq!(differences(&[], Pairing::Positions), None);
    }

    #[test]
    fn texts_that_differ_are_named_and_left_out() {
        let (a, mut b) =
            ([course(0, &[1, 1]), course(1, &[1, 1])], [course(1, &[3]), course(0, &[3])]);
        b[1].tokens[2] = 99;
        let (paired, differing) = couples(&a, &b, Pairing::Positions);
        assert_eq!((paired.len(), differing), (1, vec![0]));
        assert_eq!(couples(&a, &b, Pairing::Prompts).0.len(), 2);
        // A text that continues after the end of the other differs; one that is not finished does
        // not.
        let (short, long) = ([course(0, &[1])], [course(0, &[1, 1])]);
        assert_eq!(couples(&short, &long, Pairing::Positions).1, [0]);
        let behind = [TextTrace { complete: false, ..course(0, &[1]) }];
        let (paired, _) = couples(&behind, &long, Pairing::Positions);
        let d = differences(&paired, Pairing::Positions).unwrap();
        assert_eq!((d.tokens_per_step.a, d.tokens_per_step.b), (2.0, 2.0), "as far as both go");
    }

    #[test]
    fn common_variation_does_not_widen_the_interval() {
        // Texts are easy or hard; the second setting accepts one token more everywhere.
        let many = |more: usize| -> Vec<TextTrace> {
            (0..40)
                .map(|prompt| course(prompt, &[if prompt % 2 == 0 { 1 } else { 7 } + more; 96 / 8]))
                .collect()
        };
        let (a, b) = (many(0), many(1));
        let d = differences(&couples(&a, &b, Pairing::Prompts).0, Pairing::Prompts).unwrap();
        let interval = d.accepted.difference.interval.unwrap();
        assert_eq!(d.accepted.difference.value, 1.0);
        assert!(interval.high - interval.low < 1e-9, "{interval:?}");
    }

    #[test]
    fn intervals_cover_the_truth() {
        // The true difference is 0.5 tokens per step. Texts are easy or hard in both settings, and
        // the second setting gains on only some of them.
        let (mut covered, runs, mut state) = ([0u32; 2], 600, 1u64);
        let mut draw = |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % n) as usize
        };
        for _ in 0..runs {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            for prompt in 0..24 {
                let (level, gain) = (draw(3), draw(2));
                a.push(course(prompt, &(0..30).map(|_| level + draw(3)).collect::<Vec<_>>()));
                b.push(course(
                    prompt,
                    &(0..30).map(|_| level + gain + draw(3)).collect::<Vec<_>>(),
                ));
            }
            let (paired, _) = couples(&a, &b, Pairing::Prompts);
            // Stand-in for contexts: steps of one text are paired by position only if the texts are
            // the same.
            let contexts: Vec<Vec<f64>> = (paired.iter())
                .map(|(a, b)| {
                    a.steps
                        .iter()
                        .zip(&b.steps)
                        .map(|(a, b)| b.expected_accepted - a.expected_accepted)
                        .collect()
                })
                .collect();
            let found = [
                differences(&paired, Pairing::Prompts).unwrap().accepted.difference,
                mean_difference(&contexts),
            ];
            for (covered, found) in covered.iter_mut().zip(found) {
                let interval = found.interval.unwrap();
                *covered += u32::from(interval.low <= 0.5 && 0.5 <= interval.high);
            }
        }
        // The standard error of 600 runs is 0.9%.
        let shares = covered.map(|covered| f64::from(covered) / f64::from(runs));
        assert!(shares.iter().all(|share| (0.925..=0.975).contains(share)), "covered {shares:?}");
    }

    proptest! {
        #[test]
        fn equal_settings_differ_by_zero_and_swapping_flips_the_sign(
            texts in prop::collection::vec((prop::collection::vec(0usize..6, 1..40), prop::collection::vec(0usize..6, 1..40)), 1..12)
        ) {
            let side = |second: bool| -> Vec<TextTrace> {
                texts.iter().enumerate().map(|(i, (a, b))| course(i, if second { b } else { a })).collect()
            };
            let (mut a, mut b) = (side(false), side(true));
            a.iter_mut().chain(&mut b).for_each(|course| course.complete = false);
            for pairing in [Pairing::Positions, Pairing::Prompts] {
                let itself = differences(&couples(&a, &a, pairing).0, pairing).unwrap();
                prop_assert_eq!(itself.accepted.difference.value, 0.0);
                if let Some(interval) = itself.accepted.difference.interval {
                    prop_assert_eq!((interval.low, interval.high), (0.0, 0.0));
                }
                let there = differences(&couples(&a, &b, pairing).0, pairing).unwrap();
                let back = differences(&couples(&b, &a, pairing).0, pairing).unwrap();
                let (x, y) = (there.tokens_per_step.difference, back.tokens_per_step.difference);
                prop_assert!((x.value + y.value).abs() < 1e-9);
                prop_assert_eq!(x.interval.is_some(), y.interval.is_some());
                // Tokens per step is accepted plus 1, so both differences are equal.
                prop_assert!((there.accepted.difference.value - x.value).abs() < 1e-9);
            }
        }
    }
}
