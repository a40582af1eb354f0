//! Speed-up over plain decoding, both timed in the same state of the machine.

use serde::{Deserialize, Serialize};

use super::StepRecord;
use crate::theory::intervals::{Estimate, Interval};
use crate::theory::wild_bootstrap::half_widths;

/// Maximum number of units of the interval. Beyond that they are joined in pairs.
const UNITS: usize = 64;
/// Minimum number of units for an interval.
const FEWEST: usize = 8;
/// Number of waves of the interval.
const WAVES: usize = 4;

/// Load on the machine from other work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineLoad {
    /// Processor cores used by other programs. `None` if the system does not report it.
    pub other_cores: Option<f64>,
    /// Fraction of time that a hypervisor gave to other guests. `None` if it is not reported.
    pub stolen: Option<f64>,
    /// Relative spread of recent pass times around t(B). `None` while there are too few.
    pub spread: Option<f64>,
    /// True if times are unreliable because other work competes with decoding.
    pub busy: bool,
}

/// Steps between two timings of plain decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Unit {
    tokens: f64,
    seconds: f64,
    /// Seconds that plain decoding would have taken for these tokens.
    plain_seconds: f64,
}

impl Unit {
    fn join(&mut self, other: &Unit, times: f64) {
        self.tokens += times * other.tokens;
        self.seconds += times * other.seconds;
        self.plain_seconds += times * other.plain_seconds;
    }

    fn ratio(&self) -> f64 {
        self.plain_seconds / self.seconds
    }
}

/// Speed-up over plain decoding from interleaved timings.
///
/// Steps between two timings of plain decoding are compared with the geometric mean of these. A
/// machine that becomes slower or faster therefore changes both sides alike.
///
/// Steps that draft nothing *are* plain decoding, so their speed-up is exactly 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlainComparison {
    units: Vec<Unit>,
    /// Number of timings of plain decoding in a unit.
    size: usize,
    /// Unit that is not full yet, with its number of timings so far.
    part: (Unit, usize),
    /// Steps since the last timing of plain decoding.
    open: Unit,
    /// Seconds per token of the last timing.
    last: Option<f64>,
    /// True if any step so far drafted something.
    drafted: bool,
}

impl PlainComparison {
    /// Adds the record of a step. Ignored if its time is not positive and finite.
    pub fn add_step(&mut self, record: &StepRecord) {
        let seconds = record.time.total();
        if !(seconds > 0.0 && seconds.is_finite()) {
            return;
        }
        self.open.tokens += record.emitted.len() as f64;
        self.open.seconds += seconds;
        self.drafted |= !record.settings.is_plain_decoding();
    }

    /// Adds a timing of plain decoding after the steps so far, in seconds per token. Ignored if it
    /// is not positive and finite.
    pub fn add_plain_timing(&mut self, seconds: f64) {
        if !(seconds > 0.0 && seconds.is_finite()) {
            return;
        }
        let mean = self.last.map_or(seconds, |last| (last * seconds).sqrt());
        self.last = Some(seconds);
        let mut open = std::mem::take(&mut self.open);
        open.plain_seconds = open.tokens * mean;
        self.part.0.join(&open, 1.0);
        self.part.1 += 1;
        if self.part.1 < self.size.max(1) || self.part.0.seconds <= 0.0 {
            return;
        }
        self.units.push(std::mem::take(&mut self.part).0);
        if self.units.len() == UNITS {
            let pair = |pair: &[Unit]| {
                let mut joined = pair[0];
                pair[1..].iter().for_each(|other| joined.join(other, 1.0));
                joined
            };
            self.units = self.units.chunks(2).map(pair).collect();
            self.size = 2 * self.size.max(1);
        }
    }

    /// Returns the sum over all steps. `None` before the first timing of plain decoding.
    fn total(&self) -> Option<Unit> {
        let last = self.last?;
        let mut total = self.part.0;
        self.units.iter().for_each(|unit| total.join(unit, 1.0));
        total.join(&Unit { plain_seconds: self.open.tokens * last, ..self.open }, 1.0);
        (total.seconds > 0.0 && total.tokens > 0.0).then_some(total)
    }

    /// Returns the speed-up over plain decoding with its 95% interval. `None` if plain decoding was
    /// not timed. The interval is `None` with fewer than eight timings.
    pub fn speed_up(&self) -> Option<Estimate> {
        if !self.drafted {
            let one = Interval { low: 1.0, high: 1.0 };
            return (self.open.seconds > 0.0)
                .then_some(Estimate { value: 1.0, interval: Some(one) });
        }
        let total = self.total()?;
        let weighed = |times: &[usize]| {
            let mut sum = Unit::default();
            self.units.iter().zip(times).for_each(|(unit, &times)| sum.join(unit, times as f64));
            Some(vec![sum.ratio()])
        };
        let enough = self.units.len() >= FEWEST;
        let half = enough
            .then(|| half_widths(self.units.len(), WAVES, weighed))
            .flatten()
            .map(|widths| widths[0]);
        Some(Estimate::from_half_width_clamped(total.ratio(), half, f64::MAX))
    }

    /// Returns the tokens per second of plain decoding, in the machine states of the steps. `None`
    /// if it was not timed.
    pub fn plain_tokens_per_second(&self) -> Option<f64> {
        if !self.drafted {
            return (self.open.seconds > 0.0).then(|| self.open.tokens / self.open.seconds);
        }
        self.total().map(|total| total.tokens / total.plain_seconds)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::telemetry::StageTimes;
    use crate::telemetry::testing::{chain, record};
    use crate::theory::bootstrap::SplitMix;

    /// Builds a step of two tokens that took `seconds`.
    fn step(drafter: &str, seconds: f64) -> StepRecord {
        let mut record = record(chain(&[0.5]), &[1], 2);
        record.settings.drafter = drafter.into();
        record.emitted = vec![1, 2];
        record.time = StageTimes { draft: 0.0, verify: seconds, other: 0.0 };
        record
    }

    fn normal(draws: &mut SplitMix) -> f64 {
        (0..12).map(|_| draws.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0
    }

    #[test]
    fn steps_without_draft_have_speed_up_one() {
        let mut comparison = PlainComparison::default();
        assert_eq!((comparison.speed_up(), comparison.plain_tokens_per_second()), (None, None));
        for seconds in [0.1, 0.3, 0.2] {
            comparison.add_step(&step("none", seconds));
            comparison.add_plain_timing(0.7);
        }
        comparison.add_step(&step("none", 0.2));
        let found = comparison.speed_up().unwrap();
        assert_eq!((found.value, found.interval), (1.0, Some(Interval { low: 1.0, high: 1.0 })));
    }

    #[test]
    fn machine_slowdown_does_not_change_the_speed_up() {
        let mut comparison = PlainComparison::default();
        comparison.add_step(&step("ngram", 1.0));
        assert_eq!(comparison.speed_up(), None);
        comparison.add_plain_timing(1.0);
        // Two tokens in the time of one plain token, at any machine speed: the speed-up is always
        // 2.
        for slow in [1.0, 1.0, 5.0, 5.0, 5.0, 1.0, 1.0, 1.0, 3.0, 3.0] {
            (0..10).for_each(|_| comparison.add_step(&step("ngram", slow)));
            comparison.add_plain_timing(slow);
        }
        let found = comparison.speed_up().unwrap();
        assert!((1.7..2.3).contains(&found.value), "{found:?}");
        let interval = found.interval.unwrap();
        assert!(interval.low < 2.0 && 2.0 < interval.high, "{found:?}");
        // Invalid timings are ignored.
        let before = comparison.clone();
        [0.0, -1.0, f64::NAN, f64::INFINITY]
            .into_iter()
            .for_each(|bad| comparison.add_plain_timing(bad));
        comparison.add_step(&step("ngram", f64::NAN));
        assert_eq!(comparison, before);
    }

    #[test]
    fn intervals_cover_the_true_speed_up() {
        let runs = 2000;
        for (times, joined) in [(16, false), (40, false), (200, true)] {
            let mut covered = 0;
            for run in 0..runs {
                let mut draws = SplitMix(run * 977 + times);
                let (mut comparison, mut slow) = (PlainComparison::default(), 0.0f64);
                for _ in 0..times {
                    slow = 0.8 * slow + 0.1 * normal(&mut draws);
                    for _ in 0..5 {
                        let noise = 0.3 * normal(&mut draws);
                        comparison.add_step(&step("ngram", (slow + noise - 0.3 * 0.3 / 2.0).exp()));
                    }
                    let noise = 0.1 * normal(&mut draws);
                    comparison.add_plain_timing(0.75 * (slow + noise - 0.005).exp());
                }
                assert_eq!(comparison.size > 1, joined);
                let interval = comparison.speed_up().unwrap().interval.unwrap();
                covered += usize::from(interval.low <= 1.5 && 1.5 <= interval.high);
            }
            let share = covered as f64 / runs as f64;
            assert!((0.92..=0.975).contains(&share), "{times} times: {share}");
        }
    }
}
