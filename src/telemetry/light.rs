//! Speed of light of a run, with its ladder (bounds.md, "The speed of light").

use serde::{Deserialize, Serialize};

use super::StepRecord;
use crate::theory::cost::CostCurve;
use crate::theory::intervals::{Estimate, Interval};
use crate::theory::light::{OracleCurve, best_fixed, fastest_reading_pass};
pub use crate::theory::light_units::LightIntervals;
use crate::theory::light_units::{LARGEST, LightResult, SpeedLadderUnits, StepSums};

/// Ceiling on decoding speed for any drafter, and the fraction of it that was reached.
///
/// Speeds are in tokens per second; `None` if not known. The times of passes are taken as exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpeedOfLight {
    /// Ceiling c for the contexts of this text.
    pub tokens_per_second: Option<f64>,
    /// Lower end of the ceiling's 95% interval. `None` while there are too few steps.
    pub low: Option<f64>,
    /// Upper end of the ceiling's 95% interval.
    pub high: Option<f64>,
    /// Ceiling if the text's distributions were i.i.d., by the fluid bound. Real text can exceed
    /// it.
    pub iid_tokens_per_second: Option<f64>,
    /// Fixed budget at which a free drafter with perfect knowledge is fastest.
    pub best_budget: Option<usize>,
    /// Fraction of the ceiling that was reached, v / c.
    pub share: Option<f64>,
    /// Lower end of the fraction's 95% interval. `None` while there are too few steps.
    pub share_low: Option<f64>,
    /// Upper end of the fraction's 95% interval.
    pub share_high: Option<f64>,
    /// Number of steps whose oracle tree was searched.
    pub searched_steps: usize,
    /// Losses between c and v by cause.
    pub ladder: LightLadder,
}

/// Losses between c and v by cause, in tokens per second. They are signed, and add up to c - v if c
/// is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LightLadder {
    /// Loss from verified sizes that are not the best ones for their contexts.
    pub budget: Option<f64>,
    /// Loss from the drafter not knowing the target. Includes `shape` if that is `None`.
    pub knowledge: Option<f64>,
    /// Loss from verified trees that are not the drafter's best ones of their size.
    pub shape: Option<f64>,
    /// Loss from the time spent drafting.
    pub drafting: Option<f64>,
    /// Loss from the time spent on sampling, the cache, and records.
    pub overhead: Option<f64>,
    /// Loss from accepting fewer tokens than expected.
    pub luck: Option<f64>,
}

impl SpeedOfLight {
    /// Computes the results over the steps in `units`.
    ///
    /// `cost` gives the seconds of passes up to its largest measured size, and `fluid` the fluid
    /// bound F(P) for P = 0, 1, 2, ... drafted nodes. For deterministic text, F(P) = P is used
    /// instead.
    pub fn new(units: &SpeedLadderUnits, cost: Option<&CostCurve>, fluid: &[f64]) -> SpeedOfLight {
        let seconds = cost.map_or_else(Vec::new, pass_seconds);
        let LightResult { marks, best_budget, intervals } = units.result(&seconds);
        let iid = if units.deterministic() {
            fastest_reading_pass(&seconds)
        } else {
            best_fixed(fluid, &seconds)
        };
        let (gaps, share) = (marks.gaps(), marks.fraction_of_light());
        let (ends, share_ends) =
            (intervals.tokens_per_second, intervals.fraction.filter(|_| share.is_some()));
        SpeedOfLight {
            tokens_per_second: marks.light,
            low: ends.map(|ends| ends.low),
            high: ends.map(|ends| ends.high),
            iid_tokens_per_second: iid.map(|best| best.rate()),
            best_budget: best_budget.filter(|_| marks.light.is_some()),
            share,
            share_low: share_ends.map(|ends| ends.low),
            share_high: share_ends.map(|ends| ends.high),
            searched_steps: units.searched_steps(),
            ladder: LightLadder {
                budget: gaps.budget,
                knowledge: gaps.knowledge,
                shape: gaps.shape,
                drafting: gaps.drafting,
                overhead: gaps.overhead,
                luck: gaps.luck,
            },
        }
    }

    /// Returns the ceiling c with its interval, in tokens per second.
    pub fn ceiling(&self) -> Option<Estimate> {
        estimate(self.tokens_per_second, self.low, self.high)
    }

    /// Returns the reached fraction v / c with its interval.
    pub fn reached(&self) -> Option<Estimate> {
        estimate(self.share, self.share_low, self.share_high)
    }
}

fn estimate(value: Option<f64>, low: Option<f64>, high: Option<f64>) -> Option<Estimate> {
    let interval = low.zip(high).map(|(low, high)| Interval { low, high });
    value.map(|value| Estimate { value, interval })
}

impl LightLadder {
    /// Returns the names and values of the losses, from the highest mark down.
    pub fn parts(&self) -> [(&'static str, Option<f64>); 6] {
        [
            ("budget", self.budget),
            ("knowledge", self.knowledge),
            ("shape", self.shape),
            ("drafting", self.drafting),
            ("overhead", self.overhead),
            ("luck", self.luck),
        ]
    }
}

impl StepRecord {
    /// Returns the tokens and seconds of the step, for the ladder of speed.
    pub fn sums(&self) -> StepSums {
        StepSums {
            budget: self.tree.tokens.len().max(1),
            tokens: self.emitted.len() as f64,
            expected: 1.0 + self.expected_accepted,
            draft: self.time.draft,
            verify: self.time.verify,
            other: self.time.other,
        }
    }
}

/// Step with a completed oracle search.
#[derive(Clone, Copy, Debug)]
pub struct SearchedStep<'a> {
    /// Record of the step.
    pub record: &'a StepRecord,
    /// Masses of the oracle trees of its context, by size.
    pub oracle: &'a OracleCurve,
    /// E\[X | T\] of the drafter's best tree of the verified size. `None` if not known.
    pub drafter_best: Option<f64>,
}

/// Accumulator for a [`SpeedOfLight`], in constant memory.
///
/// All steps are of one kind, deterministic or not. They are deterministic if a perfect drafter
/// would have every token accepted (greedy text or sampled trees). A step of the other kind resets
/// the tally.
#[derive(Clone, Debug, Default)]
pub struct LightTally {
    units: Option<SpeedLadderUnits>,
    last: Option<LastStep>,
}

/// Key of the step added last.
#[derive(Clone, Debug)]
struct LastStep {
    prompt_id: String,
    step: usize,
    searched: bool,
}

impl LightTally {
    /// Adds the record of a step.
    pub fn add(&mut self, record: &StepRecord) {
        let deterministic = record.settings.samples_trees() || record.settings.sampling().greedy();
        let units = match &mut self.units {
            Some(units) if units.deterministic() == deterministic => units,
            units => units.insert(SpeedLadderUnits::new(deterministic)),
        };
        if record.step == 0 {
            // No effect if the previous text ended normally.
            units.abandon_text();
        }
        units.add(&record.sums());
        self.last = Some(LastStep {
            prompt_id: record.prompt_id.clone(),
            step: record.step,
            searched: false,
        });
    }

    /// Adds the search result of the step added last. Ignored for any other step. Steps must be
    /// searched at regular intervals.
    pub fn add_search(&mut self, step: &SearchedStep) {
        self.add_search_at(
            &step.record.prompt_id,
            step.record.step,
            step.drafter_best,
            step.oracle,
        );
    }

    /// Adds a search result like [`Self::add_search`], with the step given by prompt and number.
    pub fn add_search_at(
        &mut self,
        prompt_id: &str,
        step: usize,
        drafter_best: Option<f64>,
        oracle: &OracleCurve,
    ) {
        let last =
            self.last.as_mut().filter(|last| last.prompt_id == prompt_id && last.step == step);
        if let (Some(last), Some(units)) = (last.filter(|last| !last.searched), &mut self.units) {
            last.searched = true;
            units.add_search(oracle, drafter_best);
        }
    }

    /// Marks the end of a text, so that its length is known. Ignored if the given step is not the
    /// one added last.
    pub fn end_text(&mut self, record_of_last_step: Option<&StepRecord>) {
        let Some(last) = &self.last else { return };
        if record_of_last_step
            .is_none_or(|record| record.prompt_id == last.prompt_id && record.step == last.step)
        {
            self.units.iter_mut().for_each(SpeedLadderUnits::end_text);
        }
    }

    /// Computes the results so far; `cost` and `fluid` are as for [`SpeedOfLight::new`].
    pub fn summary(&self, cost: Option<&CostCurve>, fluid: &[f64]) -> SpeedOfLight {
        self.units
            .as_ref()
            .map_or_else(SpeedOfLight::default, |units| SpeedOfLight::new(units, cost, fluid))
    }

    /// Computes the 95% intervals of c, of v / c, and of the ladder's parts.
    pub fn intervals(&self, cost: Option<&CostCurve>) -> LightIntervals {
        let seconds = cost.map_or_else(Vec::new, pass_seconds);
        self.units
            .as_ref()
            .map_or_else(LightIntervals::default, |units| units.result(&seconds).intervals)
    }
}

/// Seconds of passes over 1, 2, ... tokens, up to the largest measured size.
fn pass_seconds(cost: &CostCurve) -> Vec<f64> {
    let largest = cost.points().last().map_or(0, |point| point.0).min(LARGEST);
    (1..=largest).map(|b| cost.seconds(b)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::StageTimes;
    use crate::telemetry::testing::{chain, record};
    use crate::verify::Rule;

    fn cost() -> CostCurve {
        CostCurve::new(vec![(1, 1.0), (2, 1.1), (4, 1.3), (8, 2.0)]).unwrap()
    }

    /// Step `number` with a chain of these p, whose first `accepted` nodes are accepted.
    fn step(number: usize, p: &[f64], accepted: usize) -> StepRecord {
        let path: Vec<usize> = (1..=accepted.min(p.len())).collect();
        let mut record = record(chain(p), &path, 8);
        record.step = number;
        record.time = StageTimes { draft: 0.2, verify: cost().seconds(p.len() + 1), other: 0.1 };
        record
    }

    fn curve(p: f64) -> OracleCurve {
        OracleCurve::from_path_probabilities((1..20).map(|k| p.powi(k)), 0.0)
    }

    fn sum(ladder: &LightLadder) -> f64 {
        ladder.parts().into_iter().filter_map(|part| part.1).sum()
    }

    #[test]
    fn by_hand() {
        // Two tokens drafted with p 0.5 each, one accepted. The oracle tree has 0.9 and 0.81.
        let mut tally = LightTally::default();
        assert_eq!(tally.summary(Some(&cost()), &[0.0]), SpeedOfLight::default());
        let record = step(0, &[0.5, 0.5], 1);
        tally.add(&record);
        let oracle = OracleCurve::from_path_probabilities([0.9, 0.81], 0.0);
        tally.add_search(&SearchedStep {
            record: &record,
            oracle: &oracle,
            drafter_best: Some(1.0),
        });
        // A second search of the same step is ignored.
        tally.add_search(&SearchedStep {
            record: &record,
            oracle: &oracle,
            drafter_best: Some(1.0),
        });
        let found = tally.summary(Some(&cost()), &[0.0, 0.8]);
        // t = 1, 1.1, 1.2: rates 1, 1.9 / 1.1 and 2.71 / 1.2.
        let (c, v) = (2.71 / 1.2, 2.0 / 1.5);
        let near =
            |a: Option<f64>, b: f64| assert!((a.unwrap() - b).abs() < 1e-12, "{a:?} for {b}");
        near(found.tokens_per_second, c);
        near(found.share, v / c);
        near(found.iid_tokens_per_second, 1.8 / 1.1);
        assert_eq!(
            (found.best_budget, found.searched_steps, found.low, found.share_high),
            (Some(3), 1, None, None)
        );
        near(found.ladder.budget, 0.0);
        near(found.ladder.knowledge, 0.71 / 1.2);
        near(found.ladder.shape, 0.25 / 1.2);
        near(found.ladder.drafting, 1.75 / 1.2 - 1.75 / 1.4);
        near(found.ladder.overhead, 1.75 / 1.4 - 1.75 / 1.5);
        near(found.ladder.luck, (1.75 - 2.0) / 1.5);
        // Without the cost of passes, the marks that depend on it are not known.
        let bare = tally.summary(None, &[]);
        assert_eq!(
            (bare.tokens_per_second, bare.share, bare.best_budget, bare.ladder.budget),
            (None, None, None, None)
        );
        assert_eq!(
            (bare.ladder.knowledge, bare.ladder.luck),
            (found.ladder.knowledge, found.ladder.luck)
        );
    }

    #[test]
    fn ceiling_is_unknown_without_search_unless_deterministic() {
        let mut tally = LightTally::default();
        (0..5).for_each(|i| tally.add(&step(i, &[0.5, 0.5], 1)));
        let found = tally.summary(Some(&cost()), &[0.0, 0.5]);
        assert_eq!((found.tokens_per_second, found.share, found.searched_steps), (None, None, 0));
        let l = found.ladder;
        assert_eq!((l.budget, l.knowledge, l.shape), (None, None, None));
        assert!(l.drafting.is_some() && l.overhead.is_some() && l.luck.is_some());
        for (temperature, rule) in [(0.0, Rule::Match), (1.0, Rule::Rejection)] {
            let mut tally = LightTally::default();
            for i in 0..5 {
                let mut record = step(i, &[1.0, 1.0], 2);
                record.settings.temperature = temperature;
                record.settings.verify = rule;
                tally.add(&record);
            }
            // 15 tokens, in passes of 8 and 7.
            let open = tally.summary(Some(&cost()), &[]);
            assert_eq!((open.tokens_per_second, open.best_budget), (Some(4.0), Some(8)));
            assert_eq!(open.iid_tokens_per_second, Some(4.0));
            tally.end_text(Some(&step(3, &[], 0)));
            assert_eq!(tally.summary(Some(&cost()), &[]), open, "of another step it is ignored");
            tally.end_text(Some(&step(4, &[], 0)));
            let found = tally.summary(Some(&cost()), &[]);
            assert!(
                (found.tokens_per_second.unwrap() - 15.0 / (2.0 + cost().seconds(7))).abs() < 1e-12
            );
            assert!(
                found.ladder.budget.is_some()
                    && found.ladder.knowledge.is_some()
                    && found.ladder.shape.is_none()
            );
            assert!(
                (sum(&found.ladder) - (found.tokens_per_second.unwrap() - 15.0 / 7.5)).abs() < 1e-9
            );
        }
    }

    #[test]
    fn change_of_text_kind_resets_the_tally() {
        let mut tally = LightTally::default();
        (0..9).for_each(|i| tally.add(&step(i, &[0.5], 0)));
        let mut greedy = step(9, &[1.0], 1);
        greedy.settings.temperature = 0.0;
        tally.add(&greedy);
        assert_eq!(tally.units.as_ref().unwrap().steps(), 1);
    }

    #[test]
    fn after_enough_steps_there_are_intervals() {
        let mut tally = LightTally::default();
        for i in 0..600 {
            let p = [0.4, 0.6, 0.8][i / 7 % 3];
            let record = step(i, &[p, p, p], i * 7 % 4);
            tally.add(&record);
            if i.is_multiple_of(16) {
                tally.add_search(&SearchedStep {
                    record: &record,
                    oracle: &curve(p + 0.1),
                    drafter_best: None,
                });
            }
        }
        let found = tally.summary(Some(&cost()), &[]);
        let (low, high) = (found.low.unwrap(), found.high.unwrap());
        assert!(
            0.0 < low
                && low < found.tokens_per_second.unwrap()
                && found.tokens_per_second.unwrap() < high
        );
        assert!(
            found.share_low.unwrap() < found.share.unwrap()
                && found.share.unwrap() < found.share_high.unwrap()
        );
        let intervals = tally.intervals(Some(&cost()));
        assert!(intervals.ladder.knowledge.unwrap() > 0.0 && intervals.ladder.shape.is_none());
        assert_eq!(tally.intervals(None).fraction, None);
    }

    prop_compose! {
        fn any_step()(
            p in prop::collection::vec(0.0f64..1.0, 0..12), taken in 0usize..12, searched in any::<bool>(),
            pi in prop::collection::vec(0.0f64..1.0, 0..12), unknown in 0.0f64..0.2,
            best in prop::option::of(0.0f64..9.0), ends in any::<bool>(),
        ) -> (StepRecord, Option<(OracleCurve, Option<f64>)>, bool) {
            let mut pi = pi;
            pi.sort_by(|a, b| b.total_cmp(a));
            let oracle = OracleCurve::from_path_probabilities(pi, unknown);
            (step(0, &p, taken), searched.then_some((oracle, best)), ends)
        }
    }

    proptest! {
        #[test]
        fn the_ladder_adds_up_wherever_c_is_known(
            steps in prop::collection::vec(any_step(), 1..40), temperature in prop_oneof![Just(0.0f32), Just(1.0)],
        ) {
            let mut tally = LightTally::default();
            let (mut tokens, mut seconds) = (0.0, 0.0);
            for (i, (record, search, ends)) in steps.iter().enumerate() {
                let mut record = StepRecord { step: i, ..record.clone() };
                record.settings.temperature = temperature;
                tally.add(&record);
                if let Some((oracle, drafter_best)) = search {
                    tally.add_search(&SearchedStep { record: &record, oracle, drafter_best: *drafter_best });
                }
                if *ends {
                    tally.end_text(None);
                }
                tokens += record.emitted.len() as f64;
                seconds += record.time.total();
                let found = tally.summary(Some(&cost()), &[0.0, 0.5, 0.8]);
                let numbers = serde_json::to_value(found).unwrap();
                prop_assert_eq!(serde_json::from_value::<SpeedOfLight>(numbers).unwrap(), found);
                let known = steps[..=i].iter().any(|step| step.1.is_some()) || temperature == 0.0;
                prop_assert_eq!(found.tokens_per_second.is_some(), known);
                if let Some(c) = found.tokens_per_second {
                    let v = tokens / seconds;
                    prop_assert!((sum(&found.ladder) - (c - v)).abs() <= 1e-9 * c);
                    prop_assert!((found.share.unwrap() - v / c).abs() < 1e-9);
                    prop_assert!(found.ladder.knowledge.is_some() && found.best_budget.is_some());
                }
            }
        }
    }
}
