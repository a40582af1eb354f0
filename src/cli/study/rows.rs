//! The rows of the table, from what the texts gave (pure).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::piece::Piece;
use super::state::Settings;
use crate::engine::MAX_BUDGET;
use crate::telemetry::{Ceilings, SpeedOfLight, StageTimes};
use crate::theory::bootstrap::half_widths;
use crate::theory::cost::Cost;
use crate::theory::intervals::Estimate;
use crate::theory::light_units::LightUnits;
use crate::theory::pool::Pool;
use crate::theory::speed::{self, Best, Hardware, Work};

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Always "table".
    #[serde(rename = "type")]
    pub kind: String,
    /// What it was made with.
    pub settings: Settings,
    /// Measured seconds t(B) of a pass on this machine.
    pub cost: Option<Cost>,
    /// The model as a roofline sees it.
    pub work: Work,
    /// Machines that somebody described.
    pub hardware: Vec<Hardware>,
    /// One for each set of prompts and temperature.
    pub sets: Vec<SetRows>,
    /// What is known from the literature, and what is not.
    pub published: super::published::Published,
}

/// One set of prompts at one temperature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetRows {
    /// Name of the set.
    pub name: String,
    /// The temperature; 0 is greedy.
    pub temperature: f32,
    /// Texts.
    pub texts: usize,
    /// Prompts that could not be run.
    pub refused: usize,
    /// Generated positions: tokens of all texts.
    pub positions: usize,
    /// Mean entropy in nats of the law that is sampled from.
    pub mu: Estimate,
    /// Mean of sum p ln^2 p, in nats^2.
    pub mu2: Estimate,
    /// Tokens a second of plain decoding of these texts.
    pub plain_tokens_per_second: Option<f64>,
    /// One for each budget.
    pub ceilings: Vec<CeilingRow>,
    /// One for each drafter and budget.
    pub drafters: Vec<DrafterRow>,
    /// One for this machine, where passes were measured, and for each described one.
    pub machines: Vec<MachineRow>,
}

/// The ceilings at one budget, in accepted drafted tokens a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CeilingRow {
    /// B: tokens of a pass, the root included.
    pub budget: usize,
    /// B - 1.
    pub batch: f64,
    /// The published form, its O(1) unknown and left out. None when greedy.
    pub published: Option<f64>,
    /// Renewal form. None when greedy.
    pub renewal: Option<f64>,
    /// Renewal form at its best t. None when greedy or where it does not apply.
    pub renewal_tuned: Option<f64>,
    /// The fluid bound.
    pub fluid: Estimate,
}

/// Where the acceptances of a row come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Steps of that budget, on every text.
    Run,
    /// The steps of the largest budget: what their first nodes would have accepted.
    Largest,
}

/// One drafter at one budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrafterRow {
    /// The drafter.
    pub drafter: String,
    /// B: tokens of a pass, the root included.
    pub budget: usize,
    /// Where the acceptances come from.
    pub from: Source,
    /// Steps that they are means over.
    pub steps: usize,
    /// Mean of E\[X | T\].
    pub expected: Estimate,
    /// Mean of accepted drafted tokens.
    pub accepted: Estimate,
    /// Accepted and bonus.
    pub tokens_per_step: Estimate,
    /// E\[X | T\] over the fluid bound. None where nothing is drafted.
    pub share: Option<Estimate>,
    /// The wall clock of the texts that were run at this budget. None where none was.
    pub timed: Option<Timed>,
    /// Texts that differ from those of plain decoding; 0 on CPU.
    pub differing_texts: usize,
}

/// A measured wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// Texts.
    pub texts: usize,
    /// Tokens a second over the time spent in steps.
    pub tokens_per_second: f64,
    /// The same of plain decoding of the same texts.
    pub plain_tokens_per_second: f64,
    /// The one over the other.
    pub speed_up: f64,
    /// Seconds by stage, mean of a step.
    pub step: StageTimes,
    /// Ceiling on decoding speed on this machine, and the reached share of it.
    pub speed_of_light: SpeedOfLight,
}

/// Ceilings of the speed-up on one machine: a drafter that is perfect and free.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineRow {
    /// Its name.
    pub name: String,
    /// Whether its passes were measured; else it is a roofline.
    pub measured: bool,
    /// Whether the weights have room, where known.
    pub holds: Option<bool>,
    /// (1 + fluid) t(1) / t(B), by the budgets of the ceilings.
    pub speed_up: Vec<f64>,
    /// The largest over all budgets up to 256.
    pub best: Option<Best>,
}

/// What is the same for all sets.
pub struct Given<'a> {
    /// Budgets, rising.
    pub budgets: &'a [usize],
    /// Names of the drafters.
    pub drafters: &'a [String],
    /// What passes cost here.
    pub cost: Option<&'a Cost>,
    /// Described machines.
    pub hardware: &'a [Hardware],
    /// The model.
    pub work: &'a Work,
}

/// Sums over a text, the unit of the bootstrap: texts differ from each other, so that blocks not aligned with them cover too little.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    steps: f64,
    expected: f64,
    accepted: f64,
}

/// A drafter at a budget, by texts.
struct Column {
    drafter: usize,
    budget: usize,
    from: Source,
    units: Vec<Sums>,
}

impl Column {
    /// (E\[X | T\], accepted) a step, unit i counting `times(i)` times.
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

/// The rows of one set at one temperature. None where no text of it was decoded plainly.
pub fn set_rows(name: &str, temperature: f32, pieces: &[&Piece], given: &Given) -> Option<SetRows> {
    let mut plain: Vec<&Piece> = pieces.iter().copied().filter(|p| p.key.drafter.is_none()).collect();
    plain.sort_by_key(|p| p.key.prompt);
    let refused = plain.iter().filter(|p| p.refused.is_some()).count();
    plain.retain(|p| p.refused.is_none() && p.tokens > 0);
    let mut pool = Pool::new();
    for laws in plain.iter().filter_map(|p| p.laws.as_ref()) {
        pool.absorb(laws, 1);
    }
    let (mu, mu2) = (pool.mu()?, pool.mu2()?);
    let curve = pool.fluid_curve(MAX_BUDGET - 1);
    let fluid = |budget: usize| curve.get(budget - 1).copied().unwrap_or_default();
    let columns = columns(&plain, pieces, given);
    let laws: Vec<Option<Pool>> = plain.iter().map(|piece| text_laws(piece)).collect();
    let widths = widths(&laws, &columns, given.budgets);
    let half = |i: usize| widths.as_ref().and_then(|widths| widths.get(i)).copied();

    let ceilings = given.budgets.iter().enumerate().map(|(i, &budget)| {
        let c = Ceilings::at(mu, mu2, budget, Some(fluid(budget)));
        let relative = half(2 + i).map(|half| half * fluid(budget));
        let Ceilings { batch, published, renewal, renewal_tuned, .. } = c;
        CeilingRow { budget, batch, published, renewal, renewal_tuned, fluid: Estimate::within(fluid(budget), relative, batch) }
    });
    let light = |own: &[&Piece]| speed_of_light(own, temperature == 0.0, given.cost, &curve);
    let drafters = columns.iter().enumerate().map(|(i, column)| {
        let at = 2 + given.budgets.len() + 3 * i;
        let (expected, accepted) = column.means(|_| 1);
        let (bound, most) = (fluid(column.budget), column.budget as f64 - 1.0);
        let accepted = Estimate::within(accepted, half(at + 1), most);
        let ran = |p: &&&Piece| p.key.drafter == Some(column.drafter) && p.refused.is_none();
        let differs = |p: &&Piece| plain.iter().any(|q| q.key.prompt == p.key.prompt && q.sha256 != p.sha256);
        DrafterRow {
            drafter: given.drafters.get(column.drafter).cloned().unwrap_or_default(),
            budget: column.budget,
            from: column.from,
            steps: column.units.iter().map(|unit| unit.steps as usize).sum(),
            expected: Estimate::within(expected, half(at), most),
            accepted,
            tokens_per_step: accepted.plus_one(),
            share: (bound > 0.0).then(|| Estimate::within(expected / bound, half(at + 2).map(|half| half / bound), f64::MAX)),
            timed: timed(&plain, pieces, (column.drafter, column.budget), &light),
            differing_texts: pieces.iter().filter(ran).filter(|p| p.key.budget == column.budget).copied().filter(differs).count(),
        }
    });
    let (tokens, seconds) = rate(&plain);
    Some(SetRows {
        name: name.to_owned(),
        temperature,
        texts: plain.len(),
        refused,
        positions: pool.positions(),
        mu: Estimate::within(mu, half(0), f64::MAX),
        mu2: Estimate::within(mu2, half(1), f64::MAX),
        plain_tokens_per_second: (seconds > 0.0).then(|| tokens / seconds),
        ceilings: ceilings.collect(),
        drafters: drafters.collect(),
        machines: machines(&curve, given),
    })
}

/// The drafters' sums by units, for each budget above 1 that is known.
fn columns(plain: &[&Piece], pieces: &[&Piece], given: &Given) -> Vec<Column> {
    let mut all = Vec::new();
    for drafter in 0..given.drafters.len() {
        let mut runs: BTreeMap<usize, BTreeMap<usize, &Piece>> = BTreeMap::new();
        for &piece in pieces.iter().filter(|p| p.key.drafter == Some(drafter) && p.refused.is_none()) {
            runs.entry(piece.key.budget).or_default().insert(piece.key.prompt, piece);
        }
        let whole = |texts: &&BTreeMap<usize, &Piece>| plain.iter().all(|p| texts.contains_key(&p.key.prompt));
        for (i, &budget) in given.budgets.iter().enumerate().filter(|(_, budget)| **budget > 1) {
            let own = runs.get(&budget).filter(whole).map(|texts| (Source::Run, texts));
            // A budget's nodes are the first ones of the largest budget's tree (telemetry/curve.rs).
            let larger = || runs.range(budget + 1..).next_back().map(|(_, texts)| texts).filter(whole);
            let Some((from, texts)) = own.or_else(|| larger().map(|texts| (Source::Largest, texts))) else { continue };
            let units = plain.iter().map(|p| text_sums(texts[&p.key.prompt], i)).collect();
            all.push(Column { drafter, budget, from, units });
        }
    }
    all
}

/// Sums of a drafted text at budget number `i`.
fn text_sums(drafted: &Piece, i: usize) -> Sums {
    let mut sums = Sums::default();
    for stretch in &drafted.stretches {
        sums.steps += stretch.steps as f64;
        sums.expected += stretch.expected.get(i).copied().unwrap_or_default();
        sums.accepted += stretch.accepted.get(i).copied().unwrap_or_default() as f64;
    }
    sums
}

/// Pool of a plain text's distributions, on the coarse grid of its stretches. `None` where it has none.
fn text_laws(plain: &Piece) -> Option<Pool> {
    let mut laws = plain.stretches.iter().filter_map(|stretch| stretch.laws.as_ref());
    let mut sum = laws.next()?.clone();
    laws.for_each(|more| {
        sum.absorb(more, 1);
    });
    Some(sum)
}

/// Half-widths of mu, mu2, the fluid bound by budget (relative to its value), and by column of E\[X | T\], accepted, and E\[X | T\]
/// over the relative bound.
fn widths(laws: &[Option<Pool>], columns: &[Column], budgets: &[usize]) -> Option<Vec<f64>> {
    let most = budgets.last().map_or(0, |budget| budget - 1);
    let curve = |times: &dyn Fn(usize) -> usize| {
        let mut sum: Option<Pool> = None;
        for (i, laws) in laws.iter().enumerate().filter_map(|(i, laws)| Some((i, laws.as_ref()?))) {
            match &mut sum {
                Some(sum) => {
                    sum.absorb(laws, times(i));
                }
                None => {
                    let mut first = laws.clone();
                    first.clear();
                    first.absorb(laws, times(i));
                    sum = Some(first);
                }
            }
        }
        let sum = sum?;
        Some((sum.mu()?, sum.mu2()?, sum.fluid_curve(most)))
    };
    let (_, _, all) = curve(&|_| 1)?;
    half_widths(laws.len(), 1, |times| {
        let (mu, mu2, fluid) = curve(&|i| times[i])?;
        let relative = |budget: usize| Some(fluid.get(budget - 1)? / all.get(budget - 1)?);
        let mut values = vec![mu, mu2];
        values.extend(budgets.iter().map(|&budget| relative(budget).unwrap_or(f64::NAN)));
        for column in columns {
            let (expected, accepted) = column.means(|i| times[i]);
            values.extend([expected, accepted, expected / relative(column.budget).unwrap_or(f64::NAN)]);
        }
        Some(values)
    })
}

/// Tokens and seconds.
fn rate(pieces: &[&Piece]) -> (f64, f64) {
    (pieces.iter().map(|p| p.tokens as f64).sum(), pieces.iter().map(|p| p.time.total()).sum())
}

/// The wall clock of a drafter's texts at one budget, beside plain decoding of the same.
fn timed(
    plain: &[&Piece],
    pieces: &[&Piece],
    (drafter, budget): (usize, usize),
    light: &dyn Fn(&[&Piece]) -> SpeedOfLight,
) -> Option<Timed> {
    let own: Vec<&Piece> = (pieces.iter().copied())
        .filter(|p| p.key.drafter == Some(drafter) && p.key.budget == budget && p.refused.is_none())
        .collect();
    let same: Vec<&Piece> = plain.iter().copied().filter(|p| own.iter().any(|q| q.key.prompt == p.key.prompt)).collect();
    let ((tokens, seconds), (plain_tokens, plain_seconds)) = (rate(&own), rate(&same));
    let steps = own.iter().map(|p| p.steps()).sum::<usize>() as f64;
    if !(seconds > 0.0 && plain_seconds > 0.0 && plain_tokens > 0.0 && steps > 0.0) {
        return None;
    }
    let mut step = StageTimes::default();
    own.iter().for_each(|p| step.add(&p.time));
    let (tokens_per_second, plain_tokens_per_second) = (tokens / seconds, plain_tokens / plain_seconds);
    Some(Timed {
        texts: own.len(),
        tokens_per_second,
        plain_tokens_per_second,
        speed_up: tokens_per_second / plain_tokens_per_second,
        step: StageTimes { draft: step.draft / steps, verify: step.verify / steps, other: step.other / steps },
        speed_of_light: light(&own),
    })
}

/// Speed of light over whole texts. Nothing is known where their steps are not, in states of earlier
/// versions.
fn speed_of_light(texts: &[&Piece], greedy: bool, cost: Option<&Cost>, fluid: &[f64]) -> SpeedOfLight {
    let mut units = LightUnits::new(greedy);
    if texts.iter().any(|text| text.light.len() != text.steps()) {
        return SpeedOfLight::default();
    }
    for text in texts {
        for step in &text.light {
            units.add(&step.sums);
            if let Some(searched) = &step.searched {
                units.searched(&searched.oracle, searched.drafter_best);
            }
        }
        units.end_text();
    }
    SpeedOfLight::new(&units, cost, fluid)
}

/// The ceilings of the speed-up, by the fluid bound's curve over P.
fn machines(curve: &[f64], given: &Given) -> Vec<MachineRow> {
    let row = |name: &str, measured: bool, holds: Option<bool>, pass: &dyn Fn(usize) -> f64| {
        let at = |&budget: &usize| (1.0 + curve.get(budget - 1).copied().unwrap_or_default()) * pass(1) / pass(budget);
        MachineRow {
            name: name.to_owned(),
            measured,
            holds,
            speed_up: given.budgets.iter().map(at).collect(),
            best: speed::best(curve, pass, |_| 0.0),
        }
    };
    let here = given.cost.map(|cost| row("this machine", true, Some(true), &|b| cost.seconds(b)));
    let described = given.hardware.iter().map(|h| row(&h.name, false, h.holds(given.work), &|b| h.seconds(given.work, b)));
    here.into_iter().chain(described).collect()
}
