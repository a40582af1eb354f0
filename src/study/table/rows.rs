//! Rows of the table, computed from the results of the texts. Without I/O.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::state::Settings;
use super::text_result::TextResult;
use crate::engine::MAX_BUDGET;
use crate::telemetry::{Ceilings, SpeedOfLight, StageTimes};
use crate::theory::bootstrap::half_widths;
use crate::theory::cost::CostCurve;
use crate::theory::intervals::{Estimate, Interval};
use crate::theory::light_units::SpeedLadderUnits;
use crate::theory::pool::SurprisalPool;
use crate::theory::speed::{self, BestSpeedUp, Hardware, ModelWork};

/// Complete table, which is also the JSON output (schema/table.schema.json).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Type of the JSON object, always "table".
    #[serde(rename = "type")]
    pub kind: String,
    /// Settings of the measurements.
    pub settings: Settings,
    /// Measured seconds t(B) of a pass on this machine.
    pub cost: Option<CostCurve>,
    /// Bytes and operations of the model, for rooflines.
    pub work: ModelWork,
    /// Machines described by hardware.toml.
    pub hardware: Vec<Hardware>,
    /// Results by prompt set and temperature.
    pub sets: Vec<SetRows>,
    /// Published bound, and the results that can't be compared.
    pub published: super::published::Published,
}

/// Results of one prompt set at one temperature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetRows {
    /// Name of the set.
    pub name: String,
    /// Sampling temperature; 0 is greedy.
    pub temperature: f32,
    /// Number of texts in the set.
    pub texts: usize,
    /// Number of prompts that were skipped.
    pub refused: usize,
    /// Number of generated positions, that is, tokens of all texts.
    pub positions: usize,
    /// Mean entropy of the sampled distribution, in nats.
    pub mu: Estimate,
    /// Mean of sum p ln^2 p, in nats^2.
    pub mu2: Estimate,
    /// Tokens per second of plain decoding of these texts.
    pub plain_tokens_per_second: Option<f64>,
    /// Ceilings, one row per budget.
    pub ceilings: Vec<CeilingRow>,
    /// Results by drafter and budget.
    pub drafters: Vec<DrafterRow>,
    /// Ceilings of the speed-up, by machine.
    ///
    /// The first is this machine, if passes were measured; described ones follow.
    pub machines: Vec<MachineRow>,
}

/// Ceilings at one budget, in accepted drafted tokens per step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CeilingRow {
    /// Budget B: tokens per pass, root included.
    pub budget: usize,
    /// Batch ceiling, B - 1.
    pub batch: f64,
    /// Published form, without its unknown O(1) term; `None` if greedy.
    pub published: Option<f64>,
    /// Renewal form; `None` if greedy.
    pub renewal: Option<f64>,
    /// Renewal form at its best t; `None` if greedy or not applicable.
    pub renewal_tuned: Option<f64>,
    /// Fluid bound with its interval.
    pub fluid: Estimate,
}

/// Origin of the acceptances of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceptanceSource {
    /// Steps of this budget, on every text.
    Run,
    /// Steps of the largest budget, cut to their first nodes.
    Largest,
}

/// Results of one drafter at one budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrafterRow {
    /// Name of the drafter.
    pub drafter: String,
    /// Budget B: tokens per pass, root included.
    pub budget: usize,
    /// Origin of the acceptances.
    pub from: AcceptanceSource,
    /// Number of steps in the means.
    pub steps: usize,
    /// Mean of E\[X | T\] per step.
    pub expected: Estimate,
    /// Mean of accepted drafted tokens per step.
    pub accepted: Estimate,
    /// Tokens per step: accepted and bonus.
    pub tokens_per_step: Estimate,
    /// E\[X | T\] divided by the fluid bound; `None` if nothing is drafted.
    pub share: Option<Estimate>,
    /// Measured speed of the texts that were run at this budget, if any.
    pub timed: Option<MeasuredSpeed>,
    /// Number of texts that differ from plain decoding; 0 on the CPU.
    pub differing_texts: usize,
}

/// Measured speed at one budget.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredSpeed {
    /// Number of texts that were run.
    pub texts: usize,
    /// Tokens per second over the time spent in steps.
    #[serde(with = "crate::theory::finite")]
    pub tokens_per_second: f64,
    /// Tokens per second of plain decoding of the same texts.
    #[serde(with = "crate::theory::finite")]
    pub plain_tokens_per_second: f64,
    /// Ratio of the two speeds.
    #[serde(with = "crate::theory::finite")]
    pub speed_up: f64,
    /// Ends of the 95% interval of the ratio; `None` for fewer than four texts.
    #[serde(default)]
    pub speed_up_low: Option<f64>,
    /// Upper end of that interval.
    #[serde(default)]
    pub speed_up_high: Option<f64>,
    /// Mean seconds of a step, by stage.
    pub step: StageTimes,
    /// Ceiling on decoding speed on this machine, and the reached fraction of it.
    pub speed_of_light: SpeedOfLight,
}

impl MeasuredSpeed {
    /// Returns the speed-up with its interval.
    pub fn speed_up(&self) -> Estimate {
        let interval = self.speed_up_low.zip(self.speed_up_high);
        Estimate {
            value: self.speed_up,
            interval: interval.map(|(low, high)| Interval { low, high }),
        }
    }
}

/// Ceilings of the speed-up on one machine, for a perfect drafter at no cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineRow {
    /// Name of the machine.
    pub name: String,
    /// Passes were measured; otherwise a roofline is used.
    pub measured: bool,
    /// The weights fit in memory; `None` if unknown.
    pub holds: Option<bool>,
    /// (1 + fluid) t(1) / t(B), by the budgets of the ceilings.
    #[serde(with = "crate::theory::finite::list")]
    pub speed_up: Vec<f64>,
    /// Largest ceiling over all budgets up to 256.
    pub best: Option<BestSpeedUp>,
}

/// Inputs that are common to all sets.
pub struct TableInputs<'a> {
    /// Budgets in ascending order.
    pub budgets: &'a [usize],
    /// Names of the drafters.
    pub drafters: &'a [String],
    /// Cost of passes on this machine.
    pub cost: Option<&'a CostCurve>,
    /// Machines described by hardware.toml.
    pub hardware: &'a [Hardware],
    /// Bytes and operations of the model.
    pub work: &'a ModelWork,
}

/// Sums over a text, which is the unit of the bootstrap.
///
/// Texts differ from each other, so intervals from blocks that are not aligned with texts have too
/// little coverage.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    steps: f64,
    expected: f64,
    accepted: f64,
}

/// Sums of a drafter at a budget, by text.
struct DrafterColumn {
    drafter: usize,
    budget: usize,
    from: AcceptanceSource,
    units: Vec<Sums>,
}

impl DrafterColumn {
    /// Returns (E\[X | T\], accepted) per step, with unit i counted `times(i)` times.
    fn means(&self, times: impl Fn(usize) -> usize) -> (f64, f64) {
        let mut sum = Sums::default();
        for (i, unit) in self.units.iter().enumerate() {
            let n = times(i) as f64;
            sum.steps += n * unit.steps;
            sum.expected += n * unit.expected;
            sum.accepted += n * unit.accepted;
        }
        (sum.expected / sum.steps, sum.accepted / sum.steps)
    }
}

/// Computes the rows of one set at one temperature.
///
/// `None` if no text of it was decoded plainly.
pub fn compute_set_rows(
    name: &str,
    temperature: f32,
    pieces: &[&TextResult],
    given: &TableInputs,
) -> Option<SetRows> {
    let mut plain: Vec<&TextResult> =
        pieces.iter().copied().filter(|p| p.key.drafter.is_none()).collect();
    plain.sort_by_key(|p| p.key.prompt);
    let refused = plain.iter().filter(|p| p.refused.is_some()).count();
    plain.retain(|p| p.refused.is_none() && p.tokens > 0);
    let mut pool = SurprisalPool::new();
    for distributions in plain.iter().filter_map(|p| p.distributions.as_ref()) {
        pool.absorb(distributions, 1);
    }
    let (mu, mu2) = (pool.mu()?, pool.mu2()?);
    let curve = pool.fluid_curve(MAX_BUDGET - 1);
    let fluid = |budget: usize| curve.get(budget - 1).copied().unwrap_or_default();
    let columns = columns(&plain, pieces, given);
    let distributions: Vec<Option<SurprisalPool>> =
        plain.iter().map(|piece| text_pool(piece)).collect();
    let widths = widths(&distributions, &columns, given.budgets);
    let half = |i: usize| widths.as_ref().and_then(|widths| widths.get(i)).copied();

    let ceilings = given.budgets.iter().enumerate().map(|(i, &budget)| {
        let c = Ceilings::for_budget(mu, mu2, budget, Some(fluid(budget)));
        let relative = half(2 + i).map(|half| half * fluid(budget));
        let Ceilings { batch, published, renewal, renewal_tuned, .. } = c;
        CeilingRow {
            budget,
            batch,
            published,
            renewal,
            renewal_tuned,
            fluid: Estimate::from_half_width_clamped(fluid(budget), relative, batch),
        }
    });
    let light = |own: &[&TextResult]| speed_of_light(own, temperature == 0.0, given.cost, &curve);
    let drafters = columns.iter().enumerate().map(|(i, column)| {
        let at = 2 + given.budgets.len() + 3 * i;
        let (expected, accepted) = column.means(|_| 1);
        let (bound, most) = (fluid(column.budget), column.budget as f64 - 1.0);
        let accepted = Estimate::from_half_width_clamped(accepted, half(at + 1), most);
        let ran = |p: &&&TextResult| p.key.drafter == Some(column.drafter) && p.refused.is_none();
        let differs = |p: &&TextResult| {
            plain.iter().any(|q| q.key.prompt == p.key.prompt && q.sha256 != p.sha256)
        };
        DrafterRow {
            drafter: given.drafters.get(column.drafter).cloned().unwrap_or_default(),
            budget: column.budget,
            from: column.from,
            steps: column.units.iter().map(|unit| unit.steps as usize).sum(),
            expected: Estimate::from_half_width_clamped(expected, half(at), most),
            accepted,
            tokens_per_step: accepted.plus_one(),
            share: (bound > 0.0).then(|| {
                Estimate::from_half_width_clamped(
                    expected / bound,
                    half(at + 2).map(|half| half / bound),
                    f64::MAX,
                )
            }),
            timed: measured_speed(&plain, pieces, (column.drafter, column.budget), &light),
            differing_texts: pieces
                .iter()
                .filter(ran)
                .filter(|p| p.key.budget == column.budget)
                .copied()
                .filter(differs)
                .count(),
        }
    });
    let (tokens, seconds) = rate(&plain);
    Some(SetRows {
        name: name.to_owned(),
        temperature,
        texts: plain.len(),
        refused,
        positions: pool.positions(),
        mu: Estimate::from_half_width_clamped(mu, half(0), f64::MAX),
        mu2: Estimate::from_half_width_clamped(mu2, half(1), f64::MAX),
        plain_tokens_per_second: (seconds > 0.0).then(|| tokens / seconds),
        ceilings: ceilings.collect(),
        drafters: drafters.collect(),
        machines: machines(&curve, given),
    })
}

/// Returns the drafters' sums by text, for each budget above 1 that has data.
fn columns(
    plain: &[&TextResult],
    pieces: &[&TextResult],
    given: &TableInputs,
) -> Vec<DrafterColumn> {
    let mut all = Vec::new();
    for drafter in 0..given.drafters.len() {
        let mut runs: BTreeMap<usize, BTreeMap<usize, &TextResult>> = BTreeMap::new();
        for &piece in
            pieces.iter().filter(|p| p.key.drafter == Some(drafter) && p.refused.is_none())
        {
            runs.entry(piece.key.budget).or_default().insert(piece.key.prompt, piece);
        }
        let whole = |texts: &&BTreeMap<usize, &TextResult>| {
            plain.iter().all(|p| texts.contains_key(&p.key.prompt))
        };
        for (i, &budget) in given.budgets.iter().enumerate().filter(|(_, budget)| **budget > 1) {
            let own = runs.get(&budget).filter(whole).map(|texts| (AcceptanceSource::Run, texts));
            // The nodes of a budget are the first ones of the largest budget's tree
            // (telemetry/curve.rs).
            let larger =
                || runs.range(budget + 1..).next_back().map(|(_, texts)| texts).filter(whole);
            let Some((from, texts)) =
                own.or_else(|| larger().map(|texts| (AcceptanceSource::Largest, texts)))
            else {
                continue;
            };
            let units = plain.iter().map(|p| text_sums(texts[&p.key.prompt], i)).collect();
            all.push(DrafterColumn { drafter, budget, from, units });
        }
    }
    all
}

/// Sums over a drafted text at budget number `i`.
fn text_sums(drafted: &TextResult, i: usize) -> Sums {
    let mut sums = Sums::default();
    for stretch in &drafted.stretches {
        sums.steps += stretch.steps as f64;
        sums.expected += stretch.expected.get(i).copied().unwrap_or_default();
        sums.accepted += stretch.accepted.get(i).copied().unwrap_or_default() as f64;
    }
    sums
}

/// Pool of a plain text's distributions, on the coarse grid of its stretches.
///
/// `None` if the text has none.
fn text_pool(plain: &TextResult) -> Option<SurprisalPool> {
    let mut distributions =
        plain.stretches.iter().filter_map(|stretch| stretch.distributions.as_ref());
    let mut sum = distributions.next()?.clone();
    distributions.for_each(|more| {
        sum.absorb(more, 1);
    });
    Some(sum)
}

/// Half-widths of all 95% intervals, from the same bootstrap replicates.
///
/// In order: mu; mu2; the fluid bound by budget, relative to its value; then, for each column, E\[X
/// | T\], accepted, and E\[X | T\] over the relative bound.
fn widths(
    distributions: &[Option<SurprisalPool>],
    columns: &[DrafterColumn],
    budgets: &[usize],
) -> Option<Vec<f64>> {
    let most = budgets.last().map_or(0, |budget| budget - 1);
    let curve = |times: &dyn Fn(usize) -> usize| {
        let mut sum: Option<SurprisalPool> = None;
        for (i, distributions) in distributions
            .iter()
            .enumerate()
            .filter_map(|(i, distributions)| Some((i, distributions.as_ref()?)))
        {
            match &mut sum {
                Some(sum) => {
                    sum.absorb(distributions, times(i));
                }
                None => {
                    let mut first = distributions.clone();
                    first.clear();
                    first.absorb(distributions, times(i));
                    sum = Some(first);
                }
            }
        }
        let sum = sum?;
        Some((sum.mu()?, sum.mu2()?, sum.fluid_curve(most)))
    };
    let (_, _, all) = curve(&|_| 1)?;
    half_widths(distributions.len(), 1, |times| {
        let (mu, mu2, fluid) = curve(&|i| times[i])?;
        let relative = |budget: usize| Some(fluid.get(budget - 1)? / all.get(budget - 1)?);
        let mut values = vec![mu, mu2];
        values.extend(budgets.iter().map(|&budget| relative(budget).unwrap_or(f64::NAN)));
        for column in columns {
            let (expected, accepted) = column.means(|i| times[i]);
            values.extend([
                expected,
                accepted,
                expected / relative(column.budget).unwrap_or(f64::NAN),
            ]);
        }
        Some(values)
    })
}

/// Sums tokens and seconds.
fn rate(pieces: &[&TextResult]) -> (f64, f64) {
    (pieces.iter().map(|p| p.tokens as f64).sum(), pieces.iter().map(|p| p.time.total()).sum())
}

/// Measured speed of a drafter's texts at one budget, beside plain decoding of the same.
fn measured_speed(
    plain: &[&TextResult],
    pieces: &[&TextResult],
    (drafter, budget): (usize, usize),
    light: &dyn Fn(&[&TextResult]) -> SpeedOfLight,
) -> Option<MeasuredSpeed> {
    let own: Vec<&TextResult> = (pieces.iter().copied())
        .filter(|p| p.key.drafter == Some(drafter) && p.key.budget == budget && p.refused.is_none())
        .collect();
    let same: Vec<&TextResult> = plain
        .iter()
        .copied()
        .filter(|p| own.iter().any(|q| q.key.prompt == p.key.prompt))
        .collect();
    let ((tokens, seconds), (plain_tokens, plain_seconds)) = (rate(&own), rate(&same));
    let steps = own.iter().map(|p| p.steps()).sum::<usize>() as f64;
    if !(seconds > 0.0 && plain_seconds > 0.0 && plain_tokens > 0.0 && steps > 0.0) {
        return None;
    }
    let mut step = StageTimes::default();
    own.iter().for_each(|p| step.add(&p.time));
    let (tokens_per_second, plain_tokens_per_second) =
        (tokens / seconds, plain_tokens / plain_seconds);
    let speed_up = tokens_per_second / plain_tokens_per_second;
    let interval =
        Estimate::from_half_width_clamped(speed_up, speed_up_half_width(&own, &same), f64::MAX)
            .interval;
    Some(MeasuredSpeed {
        texts: own.len(),
        tokens_per_second,
        plain_tokens_per_second,
        speed_up,
        speed_up_low: interval.map(|i| i.low),
        speed_up_high: interval.map(|i| i.high),
        step: StageTimes {
            draft: step.draft / steps,
            verify: step.verify / steps,
            other: step.other / steps,
        },
        speed_of_light: light(&own),
    })
}

/// Returns half the width of the 95% interval of a speed-up.
///
/// That is the ratio of the speeds of two lists of texts.
///
/// The unit is a prompt: its drafted and its plain text ran one after the other, so that both share
/// the state of the machine. `None` for fewer than four prompts with both.
fn speed_up_half_width(drafted: &[&TextResult], plain: &[&TextResult]) -> Option<f64> {
    let pairs: Vec<[&TextResult; 2]> = plain
        .iter()
        .filter_map(|&p| Some([*drafted.iter().find(|q| q.key.prompt == p.key.prompt)?, p]))
        .collect();
    let widths = half_widths(pairs.len(), 1, |times| {
        let speed = |side: usize| {
            let (mut tokens, mut seconds) = (0.0, 0.0);
            for (pair, &n) in pairs.iter().zip(times) {
                tokens += n as f64 * pair[side].tokens as f64;
                seconds += n as f64 * pair[side].time.total();
            }
            tokens / seconds
        };
        Some(vec![speed(0) / speed(1)])
    })?;
    widths.first().copied().filter(|half| half.is_finite())
}

/// Speed of light over whole texts.
///
/// Empty if the steps are not known, as in states of earlier versions.
fn speed_of_light(
    texts: &[&TextResult],
    greedy: bool,
    cost: Option<&CostCurve>,
    fluid: &[f64],
) -> SpeedOfLight {
    let mut units = SpeedLadderUnits::new(greedy);
    if texts.iter().any(|text| text.light.len() != text.steps()) {
        return SpeedOfLight::default();
    }
    for text in texts {
        for step in &text.light {
            units.add(&step.sums);
            if let Some(searched) = &step.searched {
                units.add_search(&searched.oracle, searched.drafter_best);
            }
        }
        units.end_text();
    }
    SpeedOfLight::new(&units, cost, fluid)
}

/// Ceilings of the speed-up on each machine, from the fluid bound's curve over P.
fn machines(curve: &[f64], given: &TableInputs) -> Vec<MachineRow> {
    let row = |name: &str, measured: bool, holds: Option<bool>, pass: &dyn Fn(usize) -> f64| {
        let at = |&budget: &usize| {
            (1.0 + curve.get(budget - 1).copied().unwrap_or_default()) * pass(1) / pass(budget)
        };
        MachineRow {
            name: name.to_owned(),
            measured,
            holds,
            speed_up: given.budgets.iter().map(at).collect(),
            best: speed::best(curve, pass, |_| 0.0),
        }
    };
    let here = given.cost.map(|cost| row("this machine", true, Some(true), &|b| cost.seconds(b)));
    let described = given
        .hardware
        .iter()
        .map(|h| row(&h.name, false, h.fits_in_memory(given.work), &|b| h.seconds(given.work, b)));
    here.into_iter().chain(described).collect()
}
