//! Running sums for the speed ceiling and the speed ladder, with intervals, in constant memory.
//!
//! Steps are grouped in at most [`UNITS`] units of equal length, as in [`intervals`]. Each unit
//! keeps sums of tokens and seconds, so that every mark is a ratio of sums and the intervals of all
//! marks come from the same weights ([`half_widths`]). The ceiling c is such a ratio too: at its
//! best policy it is expected tokens over seconds of the contexts, and by the envelope theorem a
//! small change of the weights changes c as if the policy stayed the same.
//!
//! Contexts whose oracle tree was searched are kept as curves, at most `MOST_CONTEXTS` of them:
//! beyond that every second one is dropped, and from then on only every second one is added.
//!
//! [`intervals`]: super::intervals

use std::collections::{BTreeMap, VecDeque};

use super::intervals::Interval;
use super::light::{
    OracleCurve, SizedPass, best_fixed, best_fixed_for_lengths, fastest_reading_pass,
    least_seconds, mean_upper, speed_of_light,
};
use super::wild_bootstrap::{UNITS, half_widths, wave_count};

/// Largest pass that is considered, in tokens.
pub const LARGEST: usize = 256;
/// Maximum number of contexts that are kept.
const MOST_CONTEXTS: usize = 1024;
/// Longest text, in tokens, whose best division into passes is computed.
///
/// Longer ones are bounded by reading speed.
const LONGEST: usize = 4096;
/// Minimum number of contexts for an interval that depends on them.
const FEWEST_CONTEXTS: usize = 16;

/// Token counts and times of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StepSums {
    /// Tokens of the verify pass, the root included.
    pub budget: usize,
    /// Tokens emitted by the step.
    pub tokens: f64,
    /// Expected tokens emitted given the tree, 1 + E\[X | T\].
    pub expected: f64,
    /// Seconds spent on drafting.
    pub draft: f64,
    /// Seconds spent on the verify pass.
    pub verify: f64,
    /// Seconds spent on everything else.
    pub other: f64,
}

/// Expected tokens of better trees, and of the verified trees at the same steps.
///
/// The better trees are the oracle's or the drafter's best.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Paired {
    better: f64,
    verified: f64,
}

impl Paired {
    fn join(&mut self, other: &Paired, times: f64) {
        self.better += times * other.better;
        self.verified += times * other.verified;
    }

    /// Returns the factor by which the better trees raise the tokens; `None` without steps.
    fn ratio(&self) -> Option<f64> {
        (self.verified > 0.0).then(|| self.better / self.verified)
    }
}

#[derive(Clone, Debug, Default)]
struct Unit {
    tokens: f64,
    expected: f64,
    draft: f64,
    verify: f64,
    other: f64,
    oracle: Paired,
    best: Paired,
    /// Number of texts that ended, by length in tokens.
    lengths: BTreeMap<usize, usize>,
}

impl Unit {
    fn join(&mut self, other: &Unit, times: f64) {
        self.tokens += times * other.tokens;
        self.expected += times * other.expected;
        self.draft += times * other.draft;
        self.verify += times * other.verify;
        self.other += times * other.other;
        self.oracle.join(&other.oracle, times);
        self.best.join(&other.best, times);
    }

    /// Computes the marks, given the tokens and seconds of the best policy.
    fn marks(&self, light: Option<RateSums>) -> SpeedMarks {
        let rate =
            |tokens: f64, seconds: f64| Some(tokens / seconds).filter(|rate| rate.is_finite());
        let drafted = rate(self.expected, self.verify);
        let above = |paired: &Paired| {
            drafted.zip(paired.ratio()).map(|(rate, ratio)| rate * ratio).filter(|x| x.is_finite())
        };
        let total = self.draft + self.verify + self.other;
        SpeedMarks {
            light: light.and_then(|light| rate(light.tokens, light.seconds)),
            oracle: above(&self.oracle),
            drafter_best: above(&self.best),
            drafted,
            with_drafting: rate(self.expected, self.draft + self.verify),
            expected: rate(self.expected, total),
            reached: rate(self.tokens, total),
        }
    }
}

/// Tokens and seconds, whose ratio is a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct RateSums {
    tokens: f64,
    seconds: f64,
}

/// Marks of the speed ladder from the highest, in tokens per second; `None` if unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SpeedMarks {
    /// Ceiling c over all drafters.
    pub light: Option<f64>,
    /// Expected speed of the oracle trees of the verified sizes, as if drafting were free.
    pub oracle: Option<f64>,
    /// Expected speed of the drafter's best trees of these sizes, as if drafting were free.
    pub drafter_best: Option<f64>,
    /// Expected speed of the verified trees, as if drafting were free.
    pub drafted: Option<f64>,
    /// Expected speed, with the seconds of drafting included.
    pub with_drafting: Option<f64>,
    /// Expected speed, with all seconds included.
    pub expected: Option<f64>,
    /// Measured speed v, in tokens per second.
    pub reached: Option<f64>,
}

/// Gaps between neighboring marks or their half-widths, in tokens per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SpeedGaps {
    /// Gap from c to the oracle trees of the verified sizes.
    pub budget: Option<f64>,
    /// Gap from there to the drafter's best trees; if unknown, to the verified trees.
    pub knowledge: Option<f64>,
    /// Gap from the drafter's best trees to the verified trees.
    pub shape: Option<f64>,
    /// Loss due to the seconds of drafting.
    pub drafting: Option<f64>,
    /// Loss due to the seconds outside drafting and verify passes.
    pub overhead: Option<f64>,
    /// Gap from expected to measured speed.
    pub luck: Option<f64>,
}

impl SpeedMarks {
    /// Returns the gaps; they add up to c - v where c is known.
    pub fn gaps(&self) -> SpeedGaps {
        let gap = |above: Option<f64>, below: Option<f64>| Some(above? - below?);
        SpeedGaps {
            budget: gap(self.light, self.oracle),
            knowledge: gap(self.oracle, self.drafter_best.or(self.drafted)),
            shape: gap(self.drafter_best, self.drafted),
            drafting: gap(self.drafted, self.with_drafting),
            overhead: gap(self.with_drafting, self.expected),
            luck: gap(self.expected, self.reached),
        }
    }

    /// Returns v / c, the measured speed as a fraction of the ceiling.
    pub fn fraction_of_light(&self) -> Option<f64> {
        Some(self.reached? / self.light?).filter(|share| share.is_finite())
    }
}

/// Intervals (95%) from the same weights; `None` where there are too few steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LightIntervals {
    /// Interval of c, in tokens per second.
    pub tokens_per_second: Option<Interval>,
    /// Interval of v / c.
    pub fraction: Option<Interval>,
    /// Half-widths of the gaps of the ladder.
    pub ladder: SpeedGaps,
}

/// Results over all steps, for given pass times.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LightResult {
    /// Marks of the speed ladder.
    pub marks: SpeedMarks,
    /// Fixed budget at which a free, perfect drafter is fastest.
    pub best_budget: Option<usize>,
    /// Intervals of the ceiling and of the ladder's gaps.
    pub intervals: LightIntervals,
}

/// Verified size of a step, and the tokens of its text before it.
#[derive(Clone, Copy, Debug)]
struct RecentStep {
    budget: usize,
    before: usize,
}

/// Accumulated steps for the speed ceiling and the speed ladder.
///
/// One value of `deterministic` holds for all steps.
#[derive(Clone, Debug)]
pub struct SpeedLadderUnits {
    deterministic: bool,
    steps: usize,
    /// Number of steps in a full unit.
    size: usize,
    units: Vec<Unit>,
    part: Unit,
    /// Curves of the contexts that are kept, and the indices of their steps.
    curves: Vec<OracleCurve>,
    curve_steps: Vec<usize>,
    /// Number of searches so far, and of searches per context that is kept.
    searched: usize,
    stride: usize,
    /// Tokens of the current text, and its last steps.
    text_tokens: usize,
    recent: VecDeque<RecentStep>,
    last: StepSums,
}

impl SpeedLadderUnits {
    /// Creates an accumulator without steps.
    ///
    /// With `deterministic` every token of a perfect drafter is accepted up to the end of the text:
    /// greedy decoding, and sampled trees with q = p. No search is needed then.
    pub fn new(deterministic: bool) -> Self {
        Self {
            deterministic,
            steps: 0,
            size: 1,
            units: Vec::new(),
            part: Unit::default(),
            curves: Vec::new(),
            curve_steps: Vec::new(),
            searched: 0,
            stride: 1,
            text_tokens: 0,
            recent: VecDeque::new(),
            last: StepSums::default(),
        }
    }

    /// Returns true if every token of a perfect drafter is accepted.
    pub fn deterministic(&self) -> bool {
        self.deterministic
    }

    /// Returns the number of steps so far.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Returns the number of steps whose oracle tree was searched.
    pub fn searched_steps(&self) -> usize {
        self.searched
    }

    /// Adds the tokens and seconds of a step.
    pub fn add(&mut self, step: &StepSums) {
        self.last = *step;
        if self.steps > 0 && self.steps.is_multiple_of(self.size) {
            self.close();
        }
        self.steps += 1;
        self.part.tokens += step.tokens;
        self.part.expected += step.expected;
        self.part.draft += step.draft;
        self.part.verify += step.verify;
        self.part.other += step.other;
        if self.deterministic {
            // As if the text went on for long; `end_text` corrects this.
            self.part
                .oracle
                .join(&Paired { better: step.budget as f64, verified: step.expected }, 1.0);
            self.recent.push_back(RecentStep { budget: step.budget, before: self.text_tokens });
            self.text_tokens += step.tokens as usize;
            while self.recent.front().is_some_and(|first| self.text_tokens - first.before > LARGEST)
            {
                self.recent.pop_front();
            }
        }
    }

    /// Closes the full unit, and merges neighbors when there are too many.
    fn close(&mut self) {
        self.units.push(std::mem::take(&mut self.part));
        if self.units.len() == UNITS {
            let joined = self.units.chunks(2).map(|pair| {
                let mut unit = pair[0].clone();
                for other in &pair[1..] {
                    unit.join(other, 1.0);
                    other
                        .lengths
                        .iter()
                        .for_each(|(length, n)| *unit.lengths.entry(*length).or_default() += n);
                }
                unit
            });
            self.units = joined.collect();
            self.size *= 2;
        }
    }

    /// Adds the result of an oracle search for the last step that was added.
    ///
    /// `oracle` is the oracle's curve and `drafter_best` E\[X | T\] of the drafter's best tree,
    /// which counts up to the oracle's mass at the verified size.
    pub fn add_search(&mut self, oracle: &OracleCurve, drafter_best: Option<f64>) {
        let Some(number) = self.steps.checked_sub(1) else { return };
        let verified = self.last.expected;
        let oracle_mass = 1.0 + oracle.upper(self.last.budget.saturating_sub(1));
        let known = drafter_best.filter(|best| best.is_finite());
        let best = known.map(|best| (1.0 + best).min(oracle_mass).max(verified));
        if let Some(better) = best {
            self.part.best.join(&Paired { better, verified }, 1.0);
        }
        if !self.deterministic {
            self.part.oracle.join(&Paired { better: oracle_mass.max(verified), verified }, 1.0);
            if self.searched.is_multiple_of(self.stride) {
                self.curves.push(oracle.shortened(LARGEST - 1));
                self.curve_steps.push(number);
            }
            if self.curves.len() > MOST_CONTEXTS {
                self.curves = every_second(std::mem::take(&mut self.curves));
                self.curve_steps = every_second(std::mem::take(&mut self.curve_steps));
                self.stride *= 2;
            }
        }
        self.searched += 1;
    }

    /// Ends the current text, whose length is then known.
    pub fn end_text(&mut self) {
        let (length, recent) = (self.text_tokens, std::mem::take(&mut self.recent));
        self.text_tokens = 0;
        if !self.deterministic || length == 0 {
            return;
        }
        if length <= LONGEST {
            *self.part.lengths.entry(length).or_default() += 1;
        }
        // No node beyond the end of the text could have been accepted.
        let beyond = |step: &RecentStep| step.budget.saturating_sub(length - step.before) as f64;
        self.part.oracle.better -= recent.iter().map(beyond).sum::<f64>();
    }

    /// Ends the current text early; its full length stays unknown.
    pub fn abandon_text(&mut self) {
        self.recent.clear();
        self.text_tokens = 0;
    }

    /// Computes the results for passes that take `seconds[b - 1]` for b tokens.
    ///
    /// Without seconds c is unknown.
    pub fn result(&self, seconds: &[f64]) -> LightResult {
        let seconds = &seconds[..seconds.len().min(LARGEST)];
        let light = if self.deterministic {
            self.solve_deterministic(seconds)
        } else {
            self.solve_searched(seconds)
        };
        let all = self.units.iter().chain([&self.part]);
        let mut sum = Unit::default();
        all.clone().for_each(|unit| sum.join(unit, 1.0));
        let marks = sum.marks(light.as_ref().map(|light| weighted(&light.units, |_| 1.0)));
        let intervals = self.intervals(&marks, light.as_ref().map(|light| &light.units[..]));
        LightResult { marks, best_budget: light.map(|light| light.best_budget), intervals }
    }

    /// Computes c from the contexts that were searched.
    fn solve_searched(&self, seconds: &[f64]) -> Option<PolicySums> {
        let found = speed_of_light(&self.curves, seconds)?;
        let mut units = vec![RateSums::default(); self.units.len() + 1];
        for (step, pass) in self.curve_steps.iter().zip(&found.passes) {
            let unit = &mut units[(step / self.size).min(self.units.len())];
            unit.tokens += pass.tokens;
            unit.seconds += pass.seconds;
        }
        let best = best_fixed(&mean_upper(&self.curves, seconds.len() - 1), seconds)?;
        Some(PolicySums { units, best_budget: best.budget })
    }

    /// Computes c where every drafted token is accepted.
    ///
    /// Uses the least seconds for texts of the known lengths, and reading speed for those that did
    /// not end.
    fn solve_deterministic(&self, seconds: &[f64]) -> Option<PolicySums> {
        let reading: SizedPass = fastest_reading_pass(seconds).filter(|_| self.steps > 0)?;
        let all = || self.units.iter().chain([&self.part]);
        let longest =
            all().filter_map(|unit| unit.lengths.keys().next_back()).max().copied().unwrap_or(0);
        let least = least_seconds(longest, seconds);
        let sums = |unit: &Unit| {
            let end = |(length, n): (&usize, &usize)| {
                *n as f64 * (least[*length] - *length as f64 / reading.rate())
            };
            let ends: f64 = unit.lengths.iter().map(end).sum();
            RateSums { tokens: unit.tokens, seconds: unit.tokens / reading.rate() + ends }
        };
        let lengths: Vec<(usize, usize)> =
            all().flat_map(|unit| unit.lengths.iter().map(|(length, n)| (*length, *n))).collect();
        let best = best_fixed_for_lengths(&lengths, seconds).unwrap_or(reading);
        Some(PolicySums { units: all().map(sums).collect(), best_budget: best.budget })
    }

    /// Computes the intervals from the full units.
    ///
    /// c and v / c are positive, and skewed where few contexts were searched: their intervals are
    /// symmetric in the logarithm.
    fn intervals(&self, marks: &SpeedMarks, light: Option<&[RateSums]>) -> LightIntervals {
        let none = LightIntervals::default();
        let Some(waves) = wave_count(self.size) else { return none };
        let enough = self.deterministic || self.curves.len() >= FEWEST_CONTEXTS;
        let light = light.filter(|_| enough);
        let widths = half_widths(self.units.len(), waves, |times| {
            let mut sum = Unit::default();
            self.units.iter().zip(times).for_each(|(unit, times)| sum.join(unit, *times as f64));
            if !enough {
                (sum.oracle, sum.best) = Default::default();
            }
            let marks = sum.marks(
                light.map(|units| weighted(&units[..self.units.len()], |i| times[i] as f64)),
            );
            let (ln_light, ln_share) =
                (marks.light.map(f64::ln), marks.fraction_of_light().map(f64::ln));
            let g = marks.gaps();
            let all = [
                ln_light,
                ln_share,
                g.budget,
                g.knowledge,
                g.shape,
                g.drafting,
                g.overhead,
                g.luck,
            ];
            Some(all.map(|value| value.unwrap_or(f64::NAN)).to_vec())
        });
        let Some(widths) = widths else { return none };
        // With n contexts the spread is too narrow by this factor.
        let n = self.curves.len() as f64;
        let wider = if self.deterministic || n < 2.0 { 1.0 } else { (n / (n - 1.0)).sqrt() };
        let half = |i: usize| widths.get(i).copied().filter(|half| half.is_finite());
        let searched = |i: usize| half(i).map(|half| wider * half);
        let around = |value: Option<f64>, ln_half: Option<f64>| {
            let (value, factor) = (value?, ln_half?.exp());
            Some(Interval { low: value / factor, high: value * factor })
                .filter(|ends| ends.high.is_finite())
        };
        LightIntervals {
            tokens_per_second: around(marks.light, searched(0)),
            fraction: around(marks.fraction_of_light(), searched(1)),
            ladder: SpeedGaps {
                budget: searched(2),
                knowledge: searched(3),
                shape: searched(4),
                drafting: half(5),
                overhead: half(6),
                luck: half(7),
            },
        }
    }
}

/// Expected tokens and seconds of the best policy in each unit, the unfinished one last.
struct PolicySums {
    units: Vec<RateSums>,
    best_budget: usize,
}

/// Keeps the first, third, ... element.
fn every_second<T>(all: Vec<T>) -> Vec<T> {
    all.into_iter().step_by(2).collect()
}

fn weighted(units: &[RateSums], weight: impl Fn(usize) -> f64) -> RateSums {
    units.iter().enumerate().fold(RateSums::default(), |sum, (i, unit)| RateSums {
        tokens: sum.tokens + weight(i) * unit.tokens,
        seconds: sum.seconds + weight(i) * unit.seconds,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::theory::bootstrap::SplitMix;

    const SECONDS: [f64; 8] = [1.0, 1.1, 1.2, 1.35, 1.5, 1.6, 1.8, 2.0];

    fn p(mood: f64) -> f64 {
        0.72 + 0.11 * mood.clamp(-2.0, 2.0)
    }

    /// Oracle curve of a context in this hidden state (`mood`): a chain.
    fn oracle(mood: f64) -> OracleCurve {
        OracleCurve::from_path_probabilities((1..8).map(|k| p(mood).powi(k)), 0.0)
    }

    /// Verified size: an automatic budget, larger where text is predictable.
    fn budget(mood: f64) -> usize {
        if mood > 0.3 { 5 } else { 3 }
    }

    fn best(mood: f64) -> f64 {
        0.7 * p(mood) * (1.0 - p(mood).powi(budget(mood) as i32 - 1)) / (1.0 - p(mood))
    }

    fn expected(mood: f64) -> f64 {
        0.9 * best(mood)
    }

    /// Seconds of drafting, of verifying and of everything else.
    fn mean_seconds(mood: f64) -> [f64; 3] {
        [0.1 * budget(mood) as f64, 1.1 * SECONDS[budget(mood) - 1], 0.2]
    }

    /// Simulates steps over an autocorrelated hidden state.
    ///
    /// `correlation` is that of consecutive steps; one step in `every` is searched.
    fn simulate(steps: usize, seed: u64, correlation: f64, every: usize) -> SpeedLadderUnits {
        let (mut noise, mut units) = (SplitMix(seed), SpeedLadderUnits::new(false));
        let mut mood = noise.normal();
        for step in 0..steps {
            // Spread around the mean of the hidden state, independent between neighbors.
            let mut spread = || 0.8 + 0.4 * noise.uniform();
            let e = expected(mood) * spread();
            let [draft, verify, other] = mean_seconds(mood).map(|mean| mean * spread());
            let tokens = 1.0 + e * 2.0 * noise.uniform();
            units.add(&StepSums {
                budget: budget(mood),
                tokens,
                expected: 1.0 + e,
                draft,
                verify,
                other,
            });
            if step.is_multiple_of(every) {
                units.add_search(&oracle(mood), Some(best(mood) * (e / expected(mood))));
            }
            mood = correlation * mood + (1.0 - correlation * correlation).sqrt() * noise.normal();
        }
        units
    }

    /// Long-run marks, over equally likely hidden states.
    fn truth() -> SpeedMarks {
        let density = |i: i32| (-0.5 * (f64::from(i) / 1000.0).powi(2)).exp();
        let total: f64 = (-6000..=6000).map(density).sum();
        let (mut moods, mut below) = (Vec::new(), 0.0);
        for i in -6000..=6000 {
            below += density(i) / total;
            while (moods.len() as f64 + 0.5) / 4000.0 <= below && moods.len() < 4000 {
                moods.push(f64::from(i) / 1000.0);
            }
        }
        let mut sum = Unit::default();
        for &mood in &moods {
            let [draft, verify, other] = mean_seconds(mood);
            let e = 1.0 + expected(mood);
            sum.join(
                &Unit {
                    tokens: e,
                    expected: e,
                    draft,
                    verify,
                    other,
                    oracle: Paired {
                        better: 1.0 + oracle(mood).upper(budget(mood) - 1),
                        verified: e,
                    },
                    best: Paired { better: 1.0 + best(mood), verified: e },
                    lengths: BTreeMap::new(),
                },
                1.0,
            );
        }
        let curves: Vec<OracleCurve> = moods.iter().map(|mood| oracle(*mood)).collect();
        SpeedMarks {
            light: Some(speed_of_light(&curves, &SECONDS).unwrap().rate),
            ..sum.marks(None)
        }
    }

    fn parts(marks: &SpeedMarks) -> [f64; 8] {
        let g = marks.gaps();
        [
            marks.light,
            marks.fraction_of_light(),
            g.budget,
            g.knowledge,
            g.shape,
            g.drafting,
            g.overhead,
            g.luck,
        ]
        .map(Option::unwrap)
    }

    /// Ends of the intervals of c, of v / c, and of the ladder's gaps.
    fn ends(result: &LightResult) -> [Interval; 8] {
        let (i, values) = (&result.intervals, parts(&result.marks));
        let l = &i.ladder;
        let halves = [None, None, l.budget, l.knowledge, l.shape, l.drafting, l.overhead, l.luck];
        std::array::from_fn(|at| match at {
            0 => i.tokens_per_second.unwrap(),
            1 => i.fraction.unwrap(),
            _ => Interval {
                low: values[at] - halves[at].unwrap(),
                high: values[at] + halves[at].unwrap(),
            },
        })
    }

    /// Asserts that all intervals cover the truth in 93 to 97% of runs.
    ///
    /// The standard error over 2,000 runs is 0.5%.
    fn covers(correlation: f64, steps: &[usize], every: usize) {
        const RUNS: u64 = 2000;
        let truth = parts(&truth());
        for &steps in steps {
            let mut covered = [0; 8];
            for run in 0..RUNS {
                let result = simulate(steps, run * 0x1_0000 + steps as u64, correlation, every)
                    .result(&SECONDS);
                for (covered, (ends, truth)) in
                    covered.iter_mut().zip(ends(&result).iter().zip(truth))
                {
                    *covered += u64::from(ends.low <= truth && truth <= ends.high);
                }
            }
            let shares = covered.map(|covered| covered as f64 / RUNS as f64);
            assert!(
                shares.iter().all(|s| (0.93..=0.97).contains(s)),
                "{correlation}, {steps} steps: {shares:?}"
            );
        }
    }

    #[test]
    fn intervals_cover_the_truth_without_correlation() {
        covers(0.0, &[300, 2000], 16);
    }

    #[test]
    fn intervals_cover_the_truth_of_autocorrelated_contexts() {
        covers(0.6, &[300, 900], 16);
        covers(0.9, &[400, 2000], 16);
    }

    #[test]
    fn gaps_add_up_to_what_is_missing() {
        for every in [1, 16] {
            let marks = simulate(500, 3, 0.5, every).result(&SECONDS).marks;
            let g = marks.gaps();
            let sum: f64 = [g.budget, g.knowledge, g.shape, g.drafting, g.overhead, g.luck]
                .into_iter()
                .flatten()
                .sum();
            let (light, reached) = (marks.light.unwrap(), marks.reached.unwrap());
            assert!((sum - (light - reached)).abs() < 1e-9 * light);
            assert!(
                light > marks.oracle.unwrap()
                    && marks.oracle > marks.drafter_best
                    && marks.drafter_best > marks.drafted
            );
        }
    }

    #[test]
    fn without_searches_only_measured_gaps_are_known() {
        let result = simulate(500, 3, 0.5, 1000).result(&SECONDS);
        assert!(
            result.intervals.tokens_per_second.is_none()
                && result.intervals.ladder.budget.is_none()
        );
        assert!(
            result.intervals.ladder.luck.is_some(),
            "too few contexts for c, enough steps for the rest"
        );
        let mut units = SpeedLadderUnits::new(false);
        assert_eq!(units.result(&SECONDS), LightResult::default());
        units.add_search(&oracle(0.0), None);
        assert_eq!(units.searched_steps(), 0);
        units.add(&StepSums {
            budget: 3,
            tokens: 2.0,
            expected: 1.5,
            draft: 1.0,
            verify: 2.0,
            other: 1.0,
        });
        let gaps = units.result(&SECONDS).marks.gaps();
        assert_eq!((gaps.budget, gaps.knowledge, gaps.shape), (None, None, None));
        assert_eq!(
            (gaps.drafting, gaps.overhead, gaps.luck),
            (Some(0.25), Some(0.125), Some(-0.125))
        );
        // The drafter's best is unknown: `knowledge` holds both gaps.
        let mut of_a_larger_tree = units.clone();
        of_a_larger_tree.add_search(&oracle(0.0), Some(6.0));
        assert_eq!(of_a_larger_tree.result(&SECONDS).marks.gaps().knowledge, Some(0.0));
        units.add_search(&oracle(0.0), None);
        let gaps = units.result(&SECONDS).marks.gaps();
        assert!(
            gaps.shape.is_none()
                && gaps.knowledge.is_some_and(|gap| gap >= 0.0)
                && gaps.budget.is_some()
        );
        assert_eq!(units.result(&[]).marks.light, None);
    }

    #[test]
    fn many_searches_take_no_more_memory() {
        let units = simulate(40_000, 1, 0.5, 8);
        assert!(units.curves.len() <= MOST_CONTEXTS && units.curves.len() >= MOST_CONTEXTS / 2);
        assert_eq!((units.searched_steps(), units.stride), (5000, 8));
        assert!(units.curve_steps.iter().all(|step| step.is_multiple_of(8 * units.stride)));
        let few = simulate(8000, 1, 0.5, 8);
        assert_eq!((few.curves.len(), few.curve_steps.len()), (1000, 1000));
        let (many, few) = (
            units.result(&SECONDS).marks.light.unwrap(),
            few.result(&SECONDS).marks.light.unwrap(),
        );
        assert!((many / few - 1.0).abs() < 0.03, "{many} and {few}");
    }

    /// Adds a deterministic text of `length` tokens, in steps that emit `each`.
    fn text(units: &mut SpeedLadderUnits, length: usize, each: usize, budget: usize) {
        let mut left = length;
        while left > 0 {
            let tokens = each.min(left) as f64;
            units.add(&StepSums {
                budget,
                tokens,
                expected: tokens,
                draft: 0.0,
                verify: SECONDS[budget - 1],
                other: 0.0,
            });
            left -= each.min(left);
        }
    }

    #[test]
    fn deterministic_text_is_bounded_by_its_length() {
        let mut units = SpeedLadderUnits::new(true);
        text(&mut units, 20, 1, 4);
        // Not ended: reading speed applies, and every node of the tree could have been accepted.
        let open = units.result(&SECONDS);
        let reading = fastest_reading_pass(&SECONDS).unwrap();
        assert_eq!((open.best_budget, open.marks.light.unwrap()), (Some(8), reading.rate()));
        assert!((open.marks.oracle.unwrap() - 4.0 / SECONDS[3]).abs() < 1e-12);
        units.end_text();
        let ended = units.result(&SECONDS);
        // 6 + 6 + 8 tokens; the last three steps had 3, 2 and 1 tokens left.
        let least = 2.0 * SECONDS[5] + SECONDS[7];
        assert!((ended.marks.light.unwrap() - 20.0 / least).abs() < 1e-12);
        assert!((ended.marks.oracle.unwrap() - (80.0 - 6.0) / (20.0 * SECONDS[3])).abs() < 1e-12);
        // Three passes of 7, or four of 5, take longer.
        assert_eq!(ended.best_budget, Some(7));
        assert_eq!(ended.marks.gaps().luck, Some(0.0));
        // Ended early after 5 tokens: reading speed applies to these.
        text(&mut units, 5, 1, 4);
        units.abandon_text();
        units.end_text();
        let both = units.result(&SECONDS).marks.light.unwrap();
        assert!((both - 25.0 / (least + 5.0 / reading.rate())).abs() < 1e-12);
    }

    #[test]
    fn a_free_oracle_reaches_the_ceiling_of_deterministic_text() {
        let mut units = SpeedLadderUnits::new(true);
        for _ in 0..100 {
            text(&mut units, 24, 8, 8);
            units.end_text();
        }
        let result = units.result(&SECONDS);
        assert!((result.marks.fraction_of_light().unwrap() - 1.0).abs() < 1e-12);
        let ends = result.intervals.fraction.unwrap();
        assert!(ends.high - ends.low < 1e-9);
        // Many long texts take no more memory, and stay below their ceiling.
        let mut units = SpeedLadderUnits::new(true);
        (0..20).for_each(|i| {
            text(&mut units, 5000 + i, 8, 8);
            units.end_text();
        });
        assert!(
            units.recent.len() <= LARGEST && units.units.iter().all(|unit| unit.lengths.is_empty())
        );
        let share = units.result(&SECONDS).marks.fraction_of_light().unwrap();
        assert!((0.99..=1.0 + 1e-12).contains(&share), "{share}");
    }

    #[test]
    fn a_free_oracle_reaches_the_ceiling_of_sampled_text() {
        // The oracle verifies the best size at each context, so its speed lies in the interval of
        // c.
        let truth = truth().light.unwrap();
        let mut noise = SplitMix(5);
        let mut units = SpeedLadderUnits::new(false);
        for step in 0..1600usize {
            let curve = oracle(noise.normal());
            let price = |b: usize| 1.0 + curve.upper(b - 1) - truth * SECONDS[b - 1];
            let budget = (1..=8).max_by(|a, b| price(*a).total_cmp(&price(*b))).unwrap();
            let e = 1.0 + curve.upper(budget - 1);
            let tokens = 1.0 + (e - 1.0) * 2.0 * noise.uniform();
            units.add(&StepSums {
                budget,
                tokens,
                expected: e,
                draft: 0.0,
                verify: SECONDS[budget - 1],
                other: 0.0,
            });
            if step.is_multiple_of(4) {
                units.add_search(&curve, Some(e - 1.0));
            }
        }
        let result = units.result(&SECONDS);
        let (ends, share) =
            (result.intervals.tokens_per_second.unwrap(), result.intervals.fraction.unwrap());
        assert!(
            ends.low < truth && truth < ends.high && ends.high / ends.low < 1.2,
            "{ends:?} around {truth}"
        );
        assert!(share.low < 1.0 && 1.0 < share.high, "{share:?}");
        assert!(result.marks.gaps().budget.unwrap().abs() < ends.high - ends.low);
    }

    #[test]
    fn impossible_numbers_give_no_mark() {
        let mut units = SpeedLadderUnits::new(false);
        for _ in 0..300 {
            units.add(&StepSums {
                budget: 3,
                tokens: 1.0,
                expected: f64::NAN,
                draft: 0.0,
                verify: 0.0,
                other: 0.0,
            });
            units.add_search(&oracle(0.0), Some(f64::INFINITY));
        }
        let result = units.result(&SECONDS);
        assert!(result.marks.light.is_some_and(f64::is_finite));
        assert_eq!(SpeedMarks { light: None, ..result.marks }, SpeedMarks::default());
        assert_eq!(result.intervals.fraction, None);
    }
}
