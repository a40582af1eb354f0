//! Means over many steps.

use sha2::{Digest, Sha256};

use serde::{Deserialize, Serialize};

use super::{
    BudgetCurve, CalibrationSummary, CapacityTally, Causes, Ceilings, Fluid, FluidKind, Ladder, LightTally, Look, Losses,
    MachineLoad, Miss, MissedToken, Misses, Origins, OverlapMean, Overlaps, PlainComparison, Reached, RuleCeilingMean,
    SpeedOfLight, StageTimes, StepRecord, TokenClass, Told,
};
use crate::dist::Moments;
use crate::hex::hex;
use crate::theory::cost::Cost;
use crate::theory::intervals::Estimate;
use crate::theory::light::OracleCurve;
use crate::theory::{bounds, speed};

/// Tokens of the list of those missed most.
const WORST: usize = 10;

/// Means over a run, or over one prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Tokens put out.
    pub tokens: usize,
    /// Steps made.
    pub steps: usize,
    /// Accepted drafted tokens a step.
    pub accepted_mean: f64,
    /// Tokens a step: accepted and bonus (tau).
    pub tokens_per_step: f64,
    /// Mean of E[accepted | T].
    pub expected_accepted_mean: f64,
    /// Mean entropy in nats over generated positions.
    pub mu: f64,
    /// Mean of sum p ln^2 p over generated positions.
    pub mu2: f64,
    /// Whether trees were drawn, which is outside of the theorem: of the ceilings B - 1 alone holds.
    pub drawn: bool,
    /// The ceilings at the run's budget.
    pub ceilings: Ceilings,
    /// Tokens a second over the time spent in steps.
    pub tokens_per_second: Option<f64>,
    /// Tokens a second of plain decoding on the same machine, measured in this run.
    pub autoregressive_tokens_per_second: Option<f64>,
    /// Seconds by stage over all steps.
    pub time: StageTimes,
    /// SHA-256 of the text put out, prompts in turn, in hexadecimal.
    pub text_sha256: Option<String>,
    /// Mean share of the verify passes' capacity that was used, H(V) / ln B, over passes of more than one token. None for sampled trees.
    #[serde(default)]
    pub capacity_mean: Option<f64>,
    /// Share of the text's nats that came through the trees; the bonus tokens carry the rest. None for sampled trees and greedy.
    #[serde(default)]
    pub tree_nats_share: Option<f64>,
    /// Upper bound on tokens per step by the passes' capacity, (ln B + nats left to the bonus) / mu. None for sampled trees and greedy.
    #[serde(default)]
    pub capacity_ceiling: Option<f64>,
    /// Ceiling on decoding speed on this machine, what was reached of it, and where the rest was lost.
    #[serde(default)]
    pub speed_of_light: SpeedOfLight,
    /// Mean losses from B - 1 to what was accepted.
    pub losses: Losses,
    /// The oracle trees of the steps that were looked at. None without a look.
    pub oracle: Option<OracleMean>,
    /// Refusals.
    pub misses: MissSummary,
    /// Intervals of what was reached, as of the last time that they were made anew. None while it is too early.
    pub reached: Option<Reached>,
    /// What every budget from 1 to B would have accepted, and its fluid bound.
    pub curve: Vec<CurvePoint>,
    /// The fluid bound of contexts of one kind alone, by entropy. Beside the bound of all and the mean of the oracle trees it shows
    /// what it means that real text is not drawn anew at each position.
    pub kinds: Vec<FluidKind>,
    /// Speed-ups over plain decoding.
    pub speed_up: SpeedUp,
    /// t(B) as of the end, where it was measured.
    pub pass_seconds: Option<Vec<PassSeconds>>,
    /// Nodes by who proposed them.
    pub origins: Origins,
    /// How well the drafter's probabilities were what they said.
    pub calibration: CalibrationSummary,
    /// p(argmax q) against the overlap of p and q. None where the drafter proposed nothing, and when greedy.
    pub overlap: Option<OverlapMean>,
    /// The ceiling of the rule for the first sampled tokens. None where children are not sampled.
    pub rule_ceiling: Option<RuleCeilingMean>,
    /// Whether other work was seen on the machine, so that times say little.
    pub busy: bool,
}

/// One point of t(B).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassSeconds {
    /// B: tokens of the pass, the root included.
    pub tokens: usize,
    /// Seconds of the pass.
    pub seconds: f64,
}

/// Means over the steps that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OracleMean {
    /// Steps that were looked at.
    pub looks: usize,
    /// Mean mass of the best trees of P nodes found.
    pub lower: f64,
    /// Mean mass that no tree of P nodes exceeds.
    pub upper: f64,
}

/// Refusals counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MissSummary {
    /// All, by cause.
    pub causes: Causes,
    /// By depth, from 1.
    pub depths: Vec<Causes>,
    /// By class, of those classes that were missed.
    pub classes: Vec<ClassMisses>,
    /// The tokens missed most.
    pub worst: Vec<MissedToken>,
}

impl MissSummary {
    /// The counts, with the `worst` tokens missed most.
    pub fn of(misses: &Misses, worst: usize) -> MissSummary {
        let class = |&class: &TokenClass| ClassMisses { class, causes: misses.class(class) };
        MissSummary {
            causes: misses.causes(),
            depths: misses.depths().to_vec(),
            classes: TokenClass::ALL.iter().map(class).filter(|c| c.causes.total() > 0).collect(),
            worst: misses.worst(worst).into_iter().cloned().collect(),
        }
    }
}

/// Refusals of tokens of one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMisses {
    /// The class.
    pub class: TokenClass,
    /// How often, by cause.
    #[serde(flatten)]
    pub causes: Causes,
}

/// One budget of the curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// B: tokens of a pass, the root included.
    pub budget: usize,
    /// Mean accepted drafted tokens a step.
    pub accepted: f64,
    /// Mean of E\[X | T\].
    pub expected: f64,
    /// The fluid bound. None where it is not known.
    pub fluid: Option<f64>,
}

/// Speed-ups over plain decoding (bounds.md, "The wall clock"). None where the times that they need are not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpeedUp {
    /// Tokens a second over those of plain decoding, timed in between.
    pub reached: Option<f64>,
    /// The 95% interval of `reached`. Null while plain decoding was timed too seldom.
    pub low: Option<f64>,
    /// Its upper end.
    pub high: Option<f64>,
    /// The most that a free drafter with perfect knowledge could reach on this machine with one fixed budget, the best one up to the
    /// largest whose pass was timed.
    pub ceiling: Option<speed::Best>,
    /// The most that this drafter promises with one fixed budget up to B: by its E\[X | T\] and the seconds that it drafted, in
    /// proportion to the nodes. At least what was reached.
    pub drafter: Option<speed::Best>,
}

impl SpeedUp {
    /// From the speed-up that was reached, the cost of passes, the fluid bound's curve by P, the drafter's curve, and its seconds and nodes
    /// of a mean step.
    pub fn of(
        reached: Option<Estimate>,
        cost: Option<&Cost>,
        fluid: &[f64],
        curve: &BudgetCurve,
        (draft_seconds, draft_nodes): (f64, f64),
    ) -> SpeedUp {
        let own: Vec<f64> = (1..=curve.budget()).filter_map(|b| curve.expected(b)).collect();
        let node = if draft_nodes > 0.0 { draft_seconds / draft_nodes } else { 0.0 };
        let drafting = |b: usize| node * ((b - 1) as f64).min(draft_nodes);
        let reached = reached.filter(|reached| reached.value.is_finite());
        let interval = reached.and_then(|reached| reached.interval);
        let timed = |all: &[f64], cost: &Cost| all[..all.len().min(cost.largest())].to_vec();
        let drafter = cost.and_then(|cost| speed::best(&timed(&own, cost), |b| cost.seconds(b), drafting));
        let at_least = reached.map_or(0.0, |reached| reached.value);
        SpeedUp {
            reached: reached.map(|reached| reached.value),
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
            ceiling: cost.and_then(|cost| speed::best(&timed(fluid, cost), |b| cost.seconds(b), |_| 0.0)),
            drafter: drafter.map(|best| speed::Best { speed_up: best.speed_up.max(at_least), ..best }),
        }
    }
}

impl Ceilings {
    /// B - 1 alone, for budget `batch`: what holds for any tree.
    pub fn batch(batch: usize) -> Ceilings {
        Ceilings { batch: batch.saturating_sub(1) as f64, ..Ceilings::default() }
    }

    /// The ceilings for budget `batch` (B, the root included) from the mean entropy `mu` and the mean `mu2` of
    /// sum p ln^2 p, in nats, and the fluid bound where it is known.
    pub fn at(mu: f64, mu2: f64, batch: usize, fluid: Option<f64>) -> Ceilings {
        let drafted = batch.saturating_sub(1);
        Ceilings {
            published: bounds::published(mu, mu2, batch),
            renewal: bounds::renewal(mu, mu2, drafted),
            renewal_tuned: bounds::renewal_tuned(mu, mu2, drafted),
            fluid,
            ..Ceilings::batch(batch)
        }
    }
}

/// Mean entropy moments over positions, as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunningMoments {
    positions: usize,
    entropy: f64,
    second: f64,
}

impl RunningMoments {
    /// One more position.
    pub fn add(&mut self, moments: &Moments) {
        self.positions += 1;
        self.entropy += moments.entropy;
        self.second += moments.second;
    }

    /// Positions so far.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Mean entropy in nats; 0 before the first position.
    pub fn mu(&self) -> f64 {
        self.entropy / self.positions.max(1) as f64
    }

    /// Mean of sum p ln^2 p in nats^2; 0 before the first position.
    pub fn mu2(&self) -> f64 {
        self.second / self.positions.max(1) as f64
    }
}

/// A [`Summary`] that grows step by step.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    sums: Summary,
    moments: RunningMoments,
    budget: usize,
    fluid: Option<f64>,
    text: Sha256,
    ladder: Ladder,
    misses: Misses,
    curve: BudgetCurve,
    told: Told,
    overlaps: Overlaps,
    /// The last step, for a look at it that follows: its prompt, number, E\[X | T\], and miss.
    last: Option<(String, usize, f64, Option<Miss>)>,
    at_length: Option<Fluid>,
    cost: Option<Cost>,
    comparison: PlainComparison,
    /// Drafted nodes of all steps.
    nodes: usize,
    /// Whether the budget was automatic, so that trees varied in size.
    automatic: bool,
    /// Whether other work was seen on the machine.
    busy: bool,
    capacity: CapacityTally,
    light: LightTally,
}

impl Tally {
    /// One more step.
    pub fn add(&mut self, record: &StepRecord) {
        self.sums.steps += 1;
        self.sums.tokens += record.emitted.len();
        self.sums.accepted_mean += record.accepted as f64;
        self.sums.expected_accepted_mean += record.expected_accepted;
        self.sums.time.add(&record.time);
        record.entropy.iter().for_each(|e| self.moments.add(&e.law));
        (self.budget, self.sums.drawn) = (record.settings.budget, record.settings.drawn());
        self.fluid = record.ceilings.fluid_at_mean.or(record.ceilings.fluid);
        self.automatic = record.settings.automatic();
        self.nodes += record.tree.tokens.len().saturating_sub(1);
        self.comparison.step(record);
        record.emitted_text.iter().for_each(|text| self.text.update(text.as_bytes()));
        self.ladder.add(record, None);
        if let Some(miss) = &record.miss {
            self.misses.add(miss, None);
        }
        self.curve.add(record);
        self.told.add(record);
        self.capacity.add(record);
        self.light.add(record);
        self.overlaps.add(record);
        self.sums.origins.add(record);
        self.sums.reached = record.reached.filter(|reached| reached.expected.is_some()).or(self.sums.reached);
        self.last = Some((record.prompt_id.clone(), record.step, record.expected_accepted, record.miss.clone()));
    }

    /// What was found out about the last step, when its look is done.
    pub fn looked(&mut self, prompt_id: &str, step: usize, look: &Look) {
        let Some((id, number, expected, miss)) = &self.last else { return };
        if id == prompt_id && *number == step && look.state != super::LookState::Refining {
            self.ladder.looked(*expected, None, look);
            if let Some(miss) = miss {
                self.misses.looked(miss, None, look);
            }
            // A second look at the same step would count twice.
            self.last = None;
        }
    }

    /// Adds the oracle's masses in the context of the last step, and E\[X | T\] of the drafter's best tree of the verified size.
    /// Ignored for any other step.
    pub fn searched(&mut self, prompt_id: &str, step: usize, drafter_best: Option<f64>, oracle: &OracleCurve) {
        self.light.searched_at(prompt_id, step, drafter_best, oracle);
    }

    /// Notes that the text of the last step ended; not to be called where it was broken off.
    pub fn end_text(&mut self) {
        self.light.end_text(None);
    }

    /// The fluid bound at length, from all positions so far.
    pub fn fluid(&mut self, fluid: &Fluid) {
        self.at_length = Some(fluid.clone());
    }

    /// What passes cost.
    pub fn cost(&mut self, cost: &Cost) {
        self.cost = Some(cost.clone());
    }

    /// Plain decoding was timed after the steps so far, in seconds a token.
    pub fn plain(&mut self, seconds: f64) {
        self.comparison.plain(seconds);
    }

    /// The machine's load was read.
    pub fn load(&mut self, load: &MachineLoad) {
        self.busy |= load.busy;
    }

    /// The means so far. The ceilings are those of the last step's budget; of an automatic one those of the mean size of a tree, rounded
    /// up. `plain` is the speed of plain decoding in tokens a second, where it was measured otherwise than by [`Self::plain`].
    pub fn summary(&self, plain: Option<f64>) -> Summary {
        let steps = self.sums.steps.max(1) as f64;
        let seconds = self.sums.time.total();
        let (mu, mu2) = (self.moments.mu(), self.moments.mu2());
        let hash = hex(&self.text.clone().finalize());
        let at_length: &[f64] = self.at_length.as_ref().map_or(&[], |fluid| &fluid.curve);
        let batch = self.nodes as f64 / steps;
        let budget = if self.automatic { batch.ceil() as usize + 1 } else { self.budget };
        let fluid = at_length.get(budget.wrapping_sub(1)).copied().filter(|_| !self.automatic).or(self.fluid);
        let mut ladder = self.ladder;
        if let Some(fluid) = fluid {
            ladder.refine_fluid(fluid);
        }
        let point = |budget: usize| CurvePoint {
            budget,
            accepted: self.curve.accepted(budget).unwrap_or(0.0),
            expected: self.curve.expected(budget).unwrap_or(0.0),
            fluid: at_length.get(budget - 1).copied(),
        };
        let capacity = self.capacity.summary();
        let tokens_per_second = (seconds > 0.0).then(|| self.sums.tokens as f64 / seconds);
        let given = tokens_per_second.zip(plain).map(|(now, plain)| Estimate { value: now / plain, interval: None });
        Summary {
            accepted_mean: self.sums.accepted_mean / steps,
            expected_accepted_mean: self.sums.expected_accepted_mean / steps,
            tokens_per_step: self.sums.tokens as f64 / steps,
            mu,
            mu2,
            ceilings: Ceilings {
                batch: if self.automatic { batch } else { budget.saturating_sub(1) as f64 },
                ..if self.sums.drawn { Ceilings::batch(budget) } else { Ceilings::at(mu, mu2, budget, fluid) }
            },
            tokens_per_second,
            autoregressive_tokens_per_second: plain.or_else(|| self.comparison.plain_tokens_per_second()),
            text_sha256: Some(hash),
            capacity_mean: capacity.mean,
            tree_nats_share: capacity.tree_nats_share,
            capacity_ceiling: capacity.ceiling,
            speed_of_light: self.light.summary(self.cost.as_ref(), at_length),
            losses: ladder.losses().unwrap_or_default(),
            oracle: ladder.oracle_mean().map(|(lower, upper)| OracleMean { looks: ladder.looks(), lower, upper }),
            misses: MissSummary::of(&self.misses, WORST),
            curve: (1..=self.curve.budget()).map(point).collect(),
            calibration: self.told.summary(),
            busy: self.busy,
            pass_seconds: self.cost.as_ref().map(|cost| {
                let point = |&(tokens, seconds): &(usize, f64)| PassSeconds { tokens, seconds };
                cost.points().iter().map(point).collect()
            }),
            overlap: self.overlaps.mean(),
            rule_ceiling: self.overlaps.rule(),
            kinds: self.at_length.as_ref().map_or_else(Vec::new, |fluid| fluid.kinds.clone()),
            speed_up: SpeedUp::of(
                given.or_else(|| self.comparison.speed_up()),
                self.cost.as_ref(),
                at_length,
                &self.curve,
                (self.sums.time.draft / steps, batch),
            ),
            ..self.sums.clone()
        }
    }
}
