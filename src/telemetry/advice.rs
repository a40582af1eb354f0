//! Predicted gains of other settings, from steps that were made.
//!
//! Step i drafted for d_i seconds, verified b_i tokens in t_i and spent o_i on the rest; its tree
//! has E_i = E\[X | T_i\]. The expected rate of the steps is
//!
//! ```text
//! r = sum (1 + E_i) / sum (d_i + t_i + o_i)
//! ```
//!
//! A change makes x_i tokens in s_i seconds of step i, so that its gain is
//! (sum x_i / sum s_i) / r - 1. Luck cancels, since both rates count expected tokens.
//!
//! | change | x_i | s_i |
//! |---|---|---|
//! | budget b | 1 + mass of the first b - 1 nodes | d_i + t_i t(b) / t(b_i) + o_i where b < b_i |
//! | automatic budget | the same at the size k_i that the calibrated q promises to be fastest | the same |
//! | best-first trees | (1 + E_i) times the mean factor of the searched steps | unchanged |
//! | drafting for free | 1 + E_i | t_i + o_i |
//!
//! t(b) is the measured cost of a pass; only its ratio counts, so that the times of these steps
//! stay the reference. The first b - 1 nodes of a tree are the tree of budget b (`curve`). A
//! smaller tree is also drafted faster, by an amount that these steps don't show: d_i is kept, so
//! that the gain of a smaller budget is a lower bound. Budgets above the verified ones, and other
//! drafters, are not predicted, since their trees were never seen.
//!
//! Two gains come from marks that are measured elsewhere: not drafting at all reaches the speed of
//! plain decoding, and a perfect drafter the speed of light c, both relative to the measured v.

use super::{BudgetCurve, OracleResult, StepRecord};
use crate::draft::Shape;
use crate::theory::cost::CostCurve;
use crate::theory::intervals::Estimate;
use crate::theory::wild_bootstrap::{LEAST_STEPS, half_widths, wave_count};

/// Maximum number of recent steps that predictions use.
pub const MAX_ADVICE_STEPS: usize = 512;
/// Minimum number of steps for a prediction.
pub const MIN_ADVICE_STEPS: usize = 32;
/// Minimum number of searched steps for the gain of another shape.
const MIN_SEARCHED: usize = 8;
/// Budgets that are compared, in tokens.
const BUDGETS: [usize; 15] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192];

/// Change of the settings, or of the drafter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Smaller fixed budget, in tokens of a verify pass.
    Budget(usize),
    /// Automatic budget up to the present one.
    Automatic,
    /// Plain decoding, without a drafter.
    NoDrafting,
    /// Best-first trees in place of the present shape.
    BestFirst,
    /// Drafter that proposes the same tokens in no time.
    FreeDrafting,
    /// Drafter that is free and knows the target's probabilities.
    PerfectDrafter,
}

impl Change {
    /// Returns `true` for a change that the user can make now, by a setting.
    pub fn is_setting(self) -> bool {
        !matches!(self, Change::FreeDrafting | Change::PerfectDrafter)
    }
}

/// Predicted gain of a change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// Change that is predicted.
    pub change: Change,
    /// Relative change of tokens per second: 0.03 is 3% faster.
    pub gain: Estimate,
}

/// Step with its oracle search, if it was searched.
#[derive(Clone, Copy, Debug)]
pub struct AdviceStep<'a> {
    /// Record of the step.
    pub record: &'a StepRecord,
    /// Result of its oracle search.
    pub search_result: Option<&'a OracleResult>,
}

/// Measured speeds that predictions refer to, in tokens per second; `None` if not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MeasuredSpeeds {
    /// Speed reached in these steps, v.
    pub reached: Option<f64>,
    /// Speed of plain decoding.
    pub plain: Option<f64>,
    /// Speed of light, c.
    pub light: Option<f64>,
}

/// Tokens and seconds of the steps of one unit under a change.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    tokens: f64,
    seconds: f64,
}

impl Sums {
    fn add(&mut self, tokens: f64, seconds: f64, times: f64) {
        self.tokens += times * tokens;
        self.seconds += times * seconds;
    }
}

/// Predicts the gain of each change that the steps show, newest step first.
///
/// The steps must have the settings of the first one; the iteration ends at the first that has
/// not. `cost` is the measured cost of passes. The result is empty below 32 steps, and while
/// nothing is drafted.
pub fn predicted_gains<'a>(
    steps: impl Iterator<Item = AdviceStep<'a>>,
    cost: Option<&CostCurve>,
    speeds: MeasuredSpeeds,
) -> Vec<Gain> {
    let mut steps = steps.peekable();
    let Some(settings) = steps.peek().map(|step| step.record.settings.clone()) else {
        return Vec::new();
    };
    let same = |step: &AdviceStep| {
        let own = &step.record.settings;
        own.drafter == settings.drafter
            && own.shape == settings.shape
            && own.budget == settings.budget
            && own.automatic() == settings.automatic()
            && own.verify == settings.verify
            && own.sampling() == settings.sampling()
    };
    let steps: Vec<AdviceStep> =
        steps.take_while(same).filter(|s| !s.record.repeated).take(MAX_ADVICE_STEPS).collect();
    if steps.len() < MIN_ADVICE_STEPS || settings.is_plain_decoding() {
        return Vec::new();
    }
    let prefixes_known = steps.iter().all(|step| BudgetCurve::applies_to(step.record));
    let cost = cost.filter(|_| prefixes_known && !settings.automatic());
    let largest = settings.budget.max(1);
    let pass: Vec<f64> =
        cost.map_or_else(Vec::new, |cost| (1..=largest).map(|b| cost.seconds(b)).collect());
    let budgets: Vec<usize> = BUDGETS
        .into_iter()
        .filter(|b| cost.is_some() && (2..settings.budget).contains(b))
        .collect();
    // The rows of `units`: the steps as they are, free drafting, the automatic budget, each budget.
    let rows = 3 + budgets.len();
    let unit_steps = LEAST_STEPS;
    let mut units: Vec<Vec<Sums>> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        if i % unit_steps == 0 {
            units.push(vec![Sums::default(); rows]);
        }
        let Some(unit) = units.last_mut() else { break };
        let record = step.record;
        let (time, tokens) = (&record.time, 1.0 + record.expected_accepted);
        unit[0].add(tokens, time.total(), 1.0);
        unit[1].add(tokens, time.verify + time.other, 1.0);
        if pass.is_empty() {
            continue;
        }
        let pi = record.tree.path_products();
        let size = pi.len().clamp(1, pass.len());
        let seconds = |b: usize| {
            time.draft + time.other + time.verify * pass[b.clamp(1, size) - 1] / pass[size - 1]
        };
        let chosen = promised_size(record, size, seconds);
        let (mut mass, mut next) = (0.0, 0);
        // Masses of the prefixes in one walk over the nodes; `budgets` rises.
        for b in 1..=size {
            mass += if b > 1 { pi[b - 1] } else { 0.0 };
            if b == chosen {
                unit[2].add(1.0 + mass, seconds(b), 1.0);
            }
            if budgets.get(next) == Some(&b) {
                unit[3 + next].add(1.0 + mass, seconds(b), 1.0);
                next += 1;
            }
        }
        // A tree that is smaller than the budget stays as it is.
        for sums in &mut unit[3 + next..] {
            sums.add(1.0 + mass, seconds(size), 1.0);
        }
    }
    let gains = |times: &dyn Fn(usize) -> f64| {
        let mut sums = vec![Sums::default(); rows];
        for (i, unit) in units.iter().enumerate() {
            sums.iter_mut()
                .zip(unit)
                .for_each(|(sum, unit)| sum.add(unit.tokens, unit.seconds, times(i)));
        }
        let rate = |sums: &Sums| sums.tokens / sums.seconds;
        let now = rate(&sums[0]);
        sums[1..].iter().map(|sums| rate(sums) / now - 1.0).collect::<Vec<f64>>()
    };
    let values = gains(&|_| 1.0);
    // Full units only have equally many steps.
    let full = steps.len() / unit_steps;
    let widths = wave_count(unit_steps).and_then(|waves| {
        half_widths(full, waves, |times| {
            Some(gains(&|i| times.get(i).map_or(0.0, |&times| times as f64)))
        })
    });
    let estimate = |row: usize| {
        let half_width = widths.as_ref().and_then(|widths| widths.get(row)).copied();
        Some(Estimate::from_half_width(*values.get(row)?, half_width))
            .filter(|gain| gain.value.is_finite())
    };
    let mut found = Vec::new();
    let mut add = |change: Change, gain: Option<Estimate>| {
        found.extend(gain.map(|gain| Gain { change, gain }))
    };
    budgets.iter().enumerate().for_each(|(i, &b)| add(Change::Budget(b), estimate(2 + i)));
    if !pass.is_empty()
        && steps.iter().all(|step| step.record.tree.calibrated.len() == step.record.tree.p.len())
    {
        add(Change::Automatic, estimate(1));
    }
    add(
        Change::BestFirst,
        Some(&steps)
            .filter(|_| settings.shape != Shape::BestFirst && !settings.samples_trees())
            .and_then(|s| shape_gain(s)),
    );
    let marked = |mark: Option<f64>| {
        let gain = mark? / speeds.reached.filter(|reached| *reached > 0.0)? - 1.0;
        Some(Estimate { value: gain, interval: None }).filter(|gain| gain.value.is_finite())
    };
    add(Change::NoDrafting, marked(speeds.plain));
    add(Change::FreeDrafting, estimate(0));
    add(Change::PerfectDrafter, marked(speeds.light));
    found
}

/// Returns the size in tokens that calibrated q predicts to be fastest for this tree.
///
/// `largest` is the size of the tree, and `seconds` gives the time of the step at a smaller size.
fn promised_size(record: &StepRecord, largest: usize, seconds: impl Fn(usize) -> f64) -> usize {
    let tree = &record.tree;
    let mut promised: Vec<f64> = vec![1.0];
    let (mut mass, mut best) = (0.0, (1, 1.0 / seconds(1)));
    for b in 2..=largest {
        let parent = tree
            .parents
            .get(b - 1)
            .copied()
            .flatten()
            .filter(|&parent| parent < b - 1)
            .unwrap_or(0);
        let own = promised[parent] * tree.calibrated.get(b - 1).copied().unwrap_or(0.0);
        promised.push(own);
        mass += own;
        let rate = (1.0 + mass) / seconds(b);
        if rate > best.1 {
            best = (b, rate);
        }
    }
    best.0
}

/// Returns the gain of the drafter's best trees over those that were verified.
fn shape_gain(steps: &[AdviceStep]) -> Option<Estimate> {
    let searched = steps.iter().filter_map(|step| {
        Some((step.record.expected_accepted, step.search_result?.drafter_best?))
    });
    let (mut verified, mut best, mut count) = (0.0, 0.0, 0);
    for (expected, drafter_best) in searched {
        verified += 1.0 + expected;
        best += 1.0 + drafter_best.max(expected);
        count += 1;
    }
    let gain = best / verified - 1.0;
    (count >= MIN_SEARCHED && gain.is_finite()).then_some(Estimate { value: gain, interval: None })
}

/// Line of advice: the setting to change, on a display that rarely moves.
///
/// A setting replaces the one shown only when its gain has been larger by a margin in several
/// evaluations in a row, and a number moves only by more than its noise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advice {
    /// All gains of the last evaluation.
    pub gains: Vec<Gain>,
    /// Setting that is advised; `None` if no setting is predicted to be faster.
    shown: Option<Change>,
    /// Setting that would replace it, and the number of consecutive evaluations preferring it.
    rival: Option<Option<Change>>,
    ahead: u32,
    /// Gains as shown, by change.
    settled: Vec<(Change, f64)>,
}

/// Gain below which a change of settings is not advised.
const LEAST_GAIN: f64 = 0.01;
/// Gain by which a rival must exceed the advice shown.
const MARGIN: f64 = 0.02;
/// Evaluations in a row after which a rival is shown.
const PATIENCE: u32 = 3;
/// Change of a gain, absolute and relative, below which the number shown stays.
const STILL: (f64, f64) = (0.01, 0.05);

impl Advice {
    /// Takes the gains of an evaluation.
    pub fn update(&mut self, gains: Vec<Gain>) {
        let gain_of =
            |change: Change| gains.iter().find(|g| g.change == change).map(|g| g.gain.value);
        let settings = gains.iter().filter(|g| g.change.is_setting() && g.gain.value >= LEAST_GAIN);
        let best = settings.max_by(|a, b| a.gain.value.total_cmp(&b.gain.value)).map(|g| g.change);
        let shown = self.shown.and_then(gain_of);
        let better = match (best.and_then(gain_of), shown) {
            (Some(best), Some(shown)) => best > shown + MARGIN,
            (Some(_), None) => true,
            (None, shown) => shown.is_none_or(|shown| shown < 0.0),
        };
        if gains.is_empty() {
            // Other settings: nothing that was shown holds any more.
            *self = Advice::default();
        } else if best == self.shown || !better {
            (self.rival, self.ahead) = (None, 0);
        } else {
            self.ahead = if self.rival == Some(best) { self.ahead + 1 } else { 1 };
            self.rival = Some(best);
            if self.ahead >= PATIENCE || self.gains.is_empty() {
                (self.shown, self.rival, self.ahead) = (best, None, 0);
            }
        }
        let before = std::mem::take(&mut self.settled);
        self.settled = gains
            .iter()
            .map(|g| {
                let old =
                    before.iter().find(|(change, _)| *change == g.change).map(|(_, value)| *value);
                let still =
                    |old: &f64| (g.gain.value - old).abs() < STILL.0.max(STILL.1 * old.abs());
                // Marks of the bar, which stands beside them.
                let marked = matches!(
                    g.change,
                    Change::NoDrafting | Change::FreeDrafting | Change::PerfectDrafter
                );
                (g.change, old.filter(|old| !marked && still(old)).unwrap_or(g.gain.value))
            })
            .collect();
        self.gains = gains;
    }

    /// Returns the setting to change, if one is predicted to be faster.
    pub fn setting(&self) -> Option<Change> {
        self.shown
    }

    /// Returns the gain of a change that the screen shows.
    ///
    /// Held while the predicted gain changes little.
    pub fn gain(&self, change: Change) -> Option<f64> {
        self.settled.iter().find(|(known, _)| *known == change).map(|(_, gain)| *gain)
    }

    /// Returns the changes to show: the advised setting, then free drafting, then a perfect
    /// drafter.
    pub fn shown(&self) -> Vec<(Change, f64)> {
        let changes = self.shown.into_iter().chain([Change::FreeDrafting, Change::PerfectDrafter]);
        changes.filter_map(|change| Some((change, self.gain(change)?))).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::testing::{chain, record};
    use crate::telemetry::{OracleSearchState, StageTimes};

    fn cost() -> CostCurve {
        CostCurve::new(vec![(1, 1.0), (2, 1.25), (4, 2.0), (8, 4.0)]).unwrap()
    }

    /// Step of budget 4 whose three drafted tokens have these p.
    fn step(p: [f64; 3]) -> StepRecord {
        let mut record = record(chain(&p), &[], 4);
        record.time = StageTimes { draft: 0.5, verify: 4.0, other: 0.5 };
        record
    }

    fn gains(records: &[StepRecord], speeds: MeasuredSpeeds) -> Vec<Gain> {
        let steps = records.iter().map(|record| AdviceStep { record, search_result: None });
        predicted_gains(steps, Some(&cost()), speeds)
    }

    fn of(gains: &[Gain], change: Change) -> Option<f64> {
        gains.iter().find(|g| g.change == change).map(|g| g.gain.value)
    }

    #[test]
    fn by_hand() {
        // 1 + 0.8 + 0.4 + 0.2 = 2.4 tokens in 5 s. The passes took twice t(4).
        let records = vec![step([0.8, 0.5, 0.5]); 40];
        let speeds = MeasuredSpeeds { reached: Some(0.5), plain: Some(0.4), light: Some(1.5) };
        let found = gains(&records, speeds);
        let now = 2.4 / 5.0;
        let near = |change, want: f64| {
            assert!((of(&found, change).unwrap() - want).abs() < 1e-12, "{change:?} of {found:?}")
        };
        near(Change::Budget(2), 1.8 / (1.0 + 2.5) / now - 1.0);
        // t(3) = 1.625 by interpolation.
        near(Change::Budget(3), 2.2 / (1.0 + 3.25) / now - 1.0);
        near(Change::FreeDrafting, 5.0 / 4.5 - 1.0);
        near(Change::NoDrafting, 0.4 / 0.5 - 1.0);
        near(Change::PerfectDrafter, 2.0);
        // The calibrated q equals p here: 1 / 3, 1.8 / 3.5, 2.2 / 4.25, 2.4 / 5; three tokens are
        // best.
        near(Change::Automatic, 2.2 / (1.0 + 3.25) / now - 1.0);
        assert_eq!(of(&found, Change::Budget(4)), None, "the budget in force is no change");
        assert_eq!(of(&found, Change::BestFirst), None, "no step was searched");
        assert_eq!(
            found.iter().filter(|g| g.gain.interval.is_some()).count(),
            0,
            "too few steps for intervals"
        );
    }

    #[test]
    fn other_settings_and_few_steps_predict_nothing() {
        let speeds = MeasuredSpeeds::default();
        assert!(gains(&vec![step([0.5; 3]); 31], speeds).is_empty());
        let mut records = vec![step([0.5; 3]); 31];
        records.extend(vec![
            StepRecord {
                settings: crate::telemetry::StepSettings::new("ngram", Shape::Chain, 8, 1.0),
                ..step([0.5; 3])
            };
            9
        ]);
        assert!(gains(&records, speeds).is_empty(), "the older steps had another budget");
        let mut undrafted = vec![step([0.5; 3]); 40];
        undrafted.iter_mut().for_each(|r| r.settings.budget = 1);
        assert!(gains(&undrafted, speeds).is_empty());
        // Without the cost of passes, only free drafting is known.
        let records = vec![step([0.5; 3]); 40];
        let steps = records.iter().map(|record| AdviceStep { record, search_result: None });
        let found = predicted_gains(steps, None, speeds);
        assert_eq!(found.iter().map(|g| g.change).collect::<Vec<_>>(), [Change::FreeDrafting]);
    }

    #[test]
    fn best_trees_of_searched_steps_give_the_gain_of_the_shape() {
        let records = vec![step([0.5; 3]); 40];
        let result = OracleResult {
            oracle_lower: 2.0,
            oracle_upper: 2.0,
            oracle_floor: 0.0,
            passes: 1,
            drafter_best: Some(1.625),
            state: OracleSearchState::Converged,
        };
        // E = 0.875: 2.625 over 1.875 tokens.
        let steps = records.iter().enumerate().map(|(i, record)| AdviceStep {
            record,
            search_result: (i % 4 == 0).then_some(&result),
        });
        let found = predicted_gains(steps, Some(&cost()), MeasuredSpeeds::default());
        assert!((of(&found, Change::BestFirst).unwrap() - (2.625 / 1.875 - 1.0)).abs() < 1e-12);
    }

    #[test]
    fn enough_steps_give_intervals() {
        let records: Vec<StepRecord> =
            (0..512).map(|i| step([[0.3; 3], [0.9; 3], [0.6; 3]][i * i % 3])).collect();
        let found = gains(&records, MeasuredSpeeds::default());
        let gain = found.iter().find(|g| g.change == Change::Budget(2)).unwrap().gain;
        let interval = gain.interval.unwrap();
        assert!(
            interval.low < gain.value
                && gain.value < interval.high
                && interval.high - interval.low < 0.2,
            "{gain:?}"
        );
    }

    #[test]
    fn advice_changes_late_and_numbers_rarely() {
        let gain = |change, value| Gain { change, gain: Estimate { value, interval: None } };
        let (two, four) = (Change::Budget(2), Change::Budget(4));
        let mut advice = Advice::default();
        advice.update(vec![gain(two, 0.05), gain(four, 0.04), gain(Change::FreeDrafting, 0.3)]);
        assert_eq!(advice.setting(), Some(two), "the first advice is shown at once");
        // Within the margin, or not for long enough: nothing moves.
        for _ in 0..9 {
            advice.update(vec![gain(two, 0.045), gain(four, 0.06)]);
            assert_eq!((advice.setting(), advice.gain(two)), (Some(two), Some(0.05)));
        }
        for _ in 0..2 {
            advice.update(vec![gain(two, 0.045), gain(four, 0.09)]);
            assert_eq!(advice.setting(), Some(two));
        }
        advice.update(vec![gain(two, 0.045), gain(four, 0.06)]);
        for left in [2, 1, 0] {
            advice.update(vec![gain(two, 0.01), gain(four, 0.09)]);
            assert_eq!(advice.setting(), Some(if left > 0 { two } else { four }));
        }
        // A loss is not advised for long.
        for left in [2, 1, 0] {
            advice.update(vec![
                gain(two, -0.1),
                gain(four, -0.05),
                gain(Change::PerfectDrafter, 1.0),
            ]);
            assert_eq!(advice.setting(), (left > 0).then_some(four));
        }
        assert_eq!(advice.shown(), [(Change::PerfectDrafter, 1.0)]);
        advice.update(Vec::new());
        assert_eq!(advice, Advice::default());
    }

    proptest! {
        #[test]
        fn predictions_agree_with_the_curve_of_budgets(p in prop::collection::vec(prop::array::uniform3(0.0f64..1.0), 32..80)) {
            let records: Vec<StepRecord> = p.into_iter().map(step).collect();
            let found = gains(&records, MeasuredSpeeds::default());
            let mut curve = BudgetCurve::default();
            records.iter().for_each(|r| curve.add(r));
            for b in [2, 3] {
                let rate = (1.0 + curve.expected(b).unwrap()) / (1.0 + 2.0 * cost().seconds(b));
                let now = (1.0 + curve.expected(4).unwrap()) / 5.0;
                prop_assert!((of(&found, Change::Budget(b)).unwrap() - (rate / now - 1.0)).abs() < 1e-9);
            }
        }
    }
}
