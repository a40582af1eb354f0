//! Base rates of misses: per generated token of each kind, and over time.
//!
//! A token counts if it could have been drafted: each accepted token of a step, and the token that
//! was missed after them. The rate of a kind is its misses over its tokens, so that a kind is not
//! blamed for being frequent. Steps that drafted nothing on purpose add nothing.

use super::{StepRecord, TokenClass};
use crate::draft::DrafterKind;
use crate::theory::intervals::Estimate;
use crate::theory::wild_bootstrap::{UNITS, half_widths, wave_count};

/// Number of depths counted individually; the last one includes all deeper ones.
pub const RATE_DEPTHS: usize = 8;
/// First generated token of each range of positions in the text.
pub const POSITION_RANGES: [usize; 5] = [0, 16, 64, 256, 1024];
/// First context length of each range, in tokens.
pub const CONTEXT_RANGES: [usize; 5] = [0, 128, 512, 2048, 8192];
/// Maximum number of drafters counted by name.
const MAX_DRAFTERS: usize = 16;
/// Normal quantile of a 95% interval.
const Z: f64 = 1.96;

/// Number of tokens of one kind, and how many of them were missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MissRate {
    /// Tokens that were accepted or missed.
    pub tokens: usize,
    /// Tokens that were missed.
    pub misses: usize,
}

impl MissRate {
    fn count(&mut self, missed: bool) {
        self.tokens += 1;
        self.misses += usize::from(missed);
    }

    fn join(&mut self, other: MissRate) {
        self.tokens += other.tokens;
        self.misses += other.misses;
    }

    /// Returns the misses per token; `None` without tokens.
    pub fn rate(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.misses as f64 / self.tokens as f64)
    }

    /// Returns the rate relative to that of `all` tokens; `None` if either is not known.
    pub fn ratio(&self, all: &MissRate) -> Option<f64> {
        Some(self.rate()? / all.rate().filter(|rate| *rate > 0.0)?)
    }

    /// Returns `true` if the 95% interval of the rate excludes the rate of `all` tokens.
    ///
    /// This is Wilson's score interval for independent tokens (JASA 22, 1927). Its test is that
    /// the difference exceeds 1.96 standard deviations of a rate equal to that of `all`.
    pub fn differs(&self, all: &MissRate) -> bool {
        let (Some(own), Some(all)) = (self.rate(), all.rate()) else { return false };
        (own - all).powi(2) * self.tokens as f64 > Z * Z * all * (1.0 - all)
    }
}

/// Change of the miss rate from the first half of the steps to the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// Miss rate over the first half.
    pub first: f64,
    /// Miss rate over the second half.
    pub second: f64,
    /// Difference of the two, with its 95% interval once there are enough steps.
    pub change: Estimate,
}

/// Miss rates by kind of token and over time, in constant memory.
///
/// Steps over time are grouped in at most 32 units of equal length, as for other intervals over
/// steps ([`crate::theory::wild_bootstrap`]).
#[derive(Clone, Debug, PartialEq)]
pub struct BaseRates {
    total: MissRate,
    classes: [MissRate; TokenClass::ALL.len()],
    depths: [MissRate; RATE_DEPTHS],
    positions: [MissRate; POSITION_RANGES.len()],
    contexts: [MissRate; CONTEXT_RANGES.len()],
    units: Vec<MissRate>,
    part: MissRate,
    /// Steps in `part`, and steps of a full unit.
    part_steps: usize,
    unit_steps: usize,
}

impl Default for BaseRates {
    fn default() -> Self {
        BaseRates {
            total: MissRate::default(),
            classes: Default::default(),
            depths: Default::default(),
            positions: Default::default(),
            contexts: Default::default(),
            units: Vec::new(),
            part: MissRate::default(),
            part_steps: 0,
            unit_steps: 1,
        }
    }
}

/// Returns the index of the range that holds `value`.
fn range(ranges: &[usize], value: usize) -> usize {
    ranges.partition_point(|from| *from <= value).clamp(1, ranges.len()) - 1
}

/// Returns the class of each token of a step that could have been drafted.
///
/// The second item is true if the token was missed.
fn draftable(record: &StepRecord) -> impl Iterator<Item = (TokenClass, bool)> + '_ {
    let accepted = record.path.iter().map(|&node| {
        let text = record.tree.text.get(node).map_or("", String::as_str);
        (TokenClass::from_text(text), false)
    });
    accepted.chain(record.miss.iter().map(|miss| (miss.class, true)))
}

impl BaseRates {
    /// Adds a step. `generated` is the number of tokens generated before it in its text; `None` if
    /// that is not known.
    pub fn add(&mut self, record: &StepRecord, generated: Option<usize>) {
        if record.path.is_empty() && record.miss.is_none() {
            return;
        }
        if self.part_steps == self.unit_steps {
            self.close();
        }
        self.part_steps += 1;
        for (i, (class, missed)) in draftable(record).enumerate() {
            self.total.count(missed);
            self.part.count(missed);
            self.classes[class as usize].count(missed);
            self.depths[i.min(RATE_DEPTHS - 1)].count(missed);
            self.contexts[range(&CONTEXT_RANGES, record.position.saturating_add(i))].count(missed);
            if let Some(before) = generated {
                self.positions[range(&POSITION_RANGES, before.saturating_add(i))].count(missed);
            }
        }
    }

    /// Closes the full unit, and merges neighbors when there are too many.
    fn close(&mut self) {
        self.units.push(std::mem::take(&mut self.part));
        self.part_steps = 0;
        if self.units.len() == UNITS {
            let joined = self.units.chunks(2).map(|pair| {
                let mut unit = pair[0];
                pair[1..].iter().for_each(|other| unit.join(*other));
                unit
            });
            self.units = joined.collect();
            self.unit_steps *= 2;
        }
    }

    /// Returns the rate over all tokens.
    pub fn total(&self) -> MissRate {
        self.total
    }

    /// Returns the rate of a class of tokens.
    pub fn class(&self, class: TokenClass) -> MissRate {
        self.classes[class as usize]
    }

    /// Returns the rates at depths 1 to 8.
    ///
    /// The last one includes all deeper ones.
    pub fn depths(&self) -> &[MissRate] {
        &self.depths
    }

    /// Returns the rates by position in the generated text, for [`POSITION_RANGES`].
    pub fn positions(&self) -> &[MissRate] {
        &self.positions
    }

    /// Returns the rates by context length, for [`CONTEXT_RANGES`].
    pub fn contexts(&self) -> &[MissRate] {
        &self.contexts
    }

    /// Returns the rates over time, oldest first: units of equally many steps.
    pub fn over_time(&self) -> &[MissRate] {
        &self.units
    }

    /// Returns the change between the two halves of the steps; `None` before both have tokens.
    pub fn drift(&self) -> Option<Drift> {
        let half = self.units.len() / 2;
        // With an odd number of units, the one in the middle is left out.
        let second_from = self.units.len() - half;
        let rates = |times: &dyn Fn(usize) -> f64| {
            let rate = |range: std::ops::Range<usize>| {
                let (tokens, misses) = range.fold((0.0, 0.0), |(tokens, misses), i| {
                    let unit = self.units[i];
                    (tokens + times(i) * unit.tokens as f64, misses + times(i) * unit.misses as f64)
                });
                Some(misses / tokens).filter(|rate: &f64| rate.is_finite())
            };
            Some((rate(0..half)?, rate(second_from..self.units.len())?))
        };
        let (first, second) = rates(&|_| 1.0)?;
        let widths = wave_count(self.unit_steps).and_then(|waves| {
            half_widths(self.units.len(), waves, |times| {
                let (first, second) = rates(&|i| times[i] as f64)?;
                Some(vec![second - first])
            })
        });
        let half_width = widths.and_then(|widths| widths.first().copied());
        Some(Drift { first, second, change: Estimate::from_half_width(second - first, half_width) })
    }
}

/// Miss rates by drafter, kept when settings change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrafterRates {
    names: Vec<(DrafterKind, MissRate)>,
}

impl DrafterRates {
    /// Adds a step to the rate of the drafter in its settings.
    pub fn add(&mut self, record: &StepRecord) {
        let kind = &record.settings.drafter;
        let at = self.names.iter().position(|(known, _)| known == kind).unwrap_or(self.names.len());
        if at == self.names.len() {
            if at == MAX_DRAFTERS || draftable(record).next().is_none() {
                return;
            }
            self.names.push((kind.clone(), MissRate::default()));
        }
        draftable(record).for_each(|(_, missed)| self.names[at].1.count(missed));
    }

    /// Returns the rates by name, in order of first use.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, MissRate)> {
        self.names.iter().map(|(kind, rate)| (kind.name(), *rate))
    }

    /// Returns the rate over all tokens of all drafters.
    pub fn total(&self) -> MissRate {
        self.names.iter().fold(MissRate::default(), |mut all, (_, rate)| {
            all.join(*rate);
            all
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::MissCause;
    use crate::telemetry::testing::{chain, miss, record};

    /// Step with `accepted` of three drafted tokens, and a miss after them.
    fn step(accepted: usize, position: usize) -> StepRecord {
        let mut record = record(chain(&[0.5; 3]), &(1..=accepted).collect::<Vec<_>>(), 4);
        record.position = position;
        record.miss = Some(miss(9, accepted + 1, MissCause::Knowledge));
        record
    }

    #[test]
    fn by_hand() {
        let mut rates = BaseRates::default();
        rates.add(&step(2, 126), Some(15));
        rates.add(&step(0, 600), Some(20));
        // Drafting was not allowed, so that no token could be missed.
        let mut undrafted = step(0, 9);
        undrafted.miss = None;
        rates.add(&undrafted, Some(0));
        // The text ended: the accepted token counts, and there is no miss.
        let mut last = step(1, 601);
        last.miss = None;
        rates.add(&last, None);
        let counts =
            |rates: &[MissRate]| rates.iter().map(|r| (r.tokens, r.misses)).collect::<Vec<_>>();
        assert_eq!(rates.total(), MissRate { tokens: 5, misses: 2 });
        assert_eq!(counts(rates.depths())[..4], [(3, 1), (1, 0), (1, 1), (0, 0)]);
        assert_eq!(counts(rates.contexts()), [(2, 0), (1, 1), (2, 1), (0, 0), (0, 0)]);
        assert_eq!(counts(rates.positions()), [(1, 0), (3, 2), (0, 0), (0, 0), (0, 0)]);
        // Accepted tokens are " 0" and " 1", missed ones " t9".
        assert_eq!(
            counts(&[rates.class(TokenClass::Digit), rates.class(TokenClass::WordStart)]),
            [(3, 0), (2, 2)]
        );
        let ratio = rates.class(TokenClass::WordStart).ratio(&rates.total()).unwrap();
        assert!((ratio - 2.5).abs() < 1e-12);
        assert_eq!(MissRate::default().ratio(&rates.total()), None);
    }

    #[test]
    fn few_tokens_differ_from_nothing() {
        let all = MissRate { tokens: 1000, misses: 300 };
        assert!(!MissRate { tokens: 4, misses: 2 }.differs(&all));
        assert!(MissRate { tokens: 400, misses: 200 }.differs(&all));
        assert!(!MissRate { tokens: 400, misses: 121 }.differs(&all));
        assert!(!MissRate::default().differs(&all) && !all.differs(&MissRate::default()));
    }

    #[test]
    fn a_lasting_change_is_drift_and_a_steady_rate_is_none() {
        let (mut worse, mut steady) = (BaseRates::default(), BaseRates::default());
        for i in 0..600usize {
            // A scrambled order, so that the rate has no pattern of its own.
            let good = i * 7 % 10 < if i < 300 { 8 } else { 2 };
            worse.add(&step(if good { 3 } else { 0 }, i), Some(i));
            steady.add(&step(if i * 7 % 10 < 5 { 3 } else { 0 }, i), Some(i));
        }
        let drift = worse.drift().unwrap();
        assert!(
            (drift.change.value - (drift.second - drift.first)).abs() < 1e-12
                && drift.change.value > 0.2
        );
        assert!(drift.change.interval.unwrap().low > 0.0, "{drift:?}");
        let interval = steady.drift().unwrap().change.interval.unwrap();
        assert!(interval.low <= 0.0 && interval.high >= 0.0, "{interval:?}");
        assert_eq!(BaseRates::default().drift(), None);
    }

    #[test]
    fn rates_of_drafters_are_kept_apart() {
        let mut rates = DrafterRates::default();
        let mut other = step(1, 5);
        other.settings.drafter = "eagle".into();
        for record in [&step(0, 5), &other, &step(2, 5)] {
            rates.add(record);
        }
        let found: Vec<(&str, usize, usize)> =
            rates.iter().map(|(name, r)| (name, r.tokens, r.misses)).collect();
        assert_eq!(found, [("ngram", 4, 2), ("eagle", 2, 1)]);
        assert_eq!(rates.total(), MissRate { tokens: 6, misses: 3 });
        for i in 0..40 {
            other.settings.drafter = format!("d{i}").into();
            rates.add(&other);
        }
        assert_eq!(rates.iter().len(), MAX_DRAFTERS);
    }

    proptest! {
        #[test]
        fn every_dimension_counts_every_token(
            steps in prop::collection::vec((0usize..4, 0usize..20_000, any::<bool>()), 0..200)
        ) {
            let mut rates = BaseRates::default();
            for &(accepted, position, missed) in &steps {
                let mut record = step(accepted.min(3), position);
                record.miss = record.miss.filter(|_| missed);
                rates.add(&record, Some(position / 2));
            }
            let sum = |rates: &[MissRate]| rates.iter().fold(MissRate::default(), |mut all, r| { all.join(*r); all });
            let classes: Vec<MissRate> = TokenClass::ALL.iter().map(|&c| rates.class(c)).collect();
            for dimension in [&classes[..], rates.depths(), rates.positions(), rates.contexts()] {
                prop_assert_eq!(sum(dimension), rates.total());
            }
            let mut over_time = sum(rates.over_time());
            over_time.join(rates.part);
            prop_assert_eq!(over_time, rates.total());
            prop_assert!(rates.over_time().len() < UNITS);
        }
    }
}
