//! Means over many steps: [`Summary`], and [`Tally`], which accumulates it.

use sha2::{Digest, Sha256};

use serde::{Deserialize, Serialize};

use super::{
    BudgetCurve, CalibrationSummary, CalibrationTally, CapacityTally, CauseCounts, Ceilings,
    EntropyClassBound, FluidBound, LightTally, LossLadder, Losses, MachineLoad, Miss, MissedToken,
    Misses, OracleResult, Origins, OverlapMean, OverlapTally, PlainComparison, ReachedIntervals,
    RuleCeilingMean, SpeedOfLight, StageTimes, StepRecord, TokenClass,
};
use crate::distribution::Moments;
use crate::hex::hex;
use crate::theory::cost::CostCurve;
use crate::theory::intervals::Estimate;
use crate::theory::light::OracleCurve;
use crate::theory::{bounds, speed};

/// Number of tokens in the list of the most frequently missed ones.
const WORST: usize = 10;

/// Means over a run or over one prompt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of tokens emitted.
    pub tokens: usize,
    /// Number of steps added.
    pub steps: usize,
    /// Mean number of accepted drafted tokens per step.
    pub accepted_mean: f64,
    /// Mean tokens per step, accepted and bonus (tau).
    pub tokens_per_step: f64,
    /// Mean of E\[accepted | T\].
    pub expected_accepted_mean: f64,
    /// Mean entropy over generated positions, in nats.
    pub mu: f64,
    /// Mean of sum p ln^2 p over generated positions, in nats^2.
    pub mu2: f64,
    /// True if trees were sampled. The theorem does not cover them, and only the ceiling B - 1
    /// holds.
    pub drawn: bool,
    /// Ceilings at the run's budget.
    pub ceilings: Ceilings,
    /// Tokens per second over the time spent in steps.
    pub tokens_per_second: Option<f64>,
    /// Tokens per second of plain decoding on the same machine, measured in this run.
    pub autoregressive_tokens_per_second: Option<f64>,
    /// Seconds over all steps, by stage.
    pub time: StageTimes,
    /// SHA-256 of the emitted text in hexadecimal, over all prompts in order.
    pub text_sha256: Option<String>,
    /// Mean used fraction of the verify passes' capacity, H(V) / ln B. Only passes of more than one
    /// token count. `None` for sampled trees.
    #[serde(default)]
    pub capacity_mean: Option<f64>,
    /// Fraction of the text's nats that came through the trees. The bonus tokens carry the others.
    /// `None` for sampled trees and greedy.
    #[serde(default)]
    pub tree_nats_share: Option<f64>,
    /// Upper bound on tokens per step by the capacity of the passes. It is (ln B + nats left to the
    /// bonus) / mu. `None` for sampled trees and greedy.
    #[serde(default)]
    pub capacity_ceiling: Option<f64>,
    /// Ceiling on decoding speed on this machine, the fraction reached, and the losses by cause.
    #[serde(default)]
    pub speed_of_light: SpeedOfLight,
    /// Mean losses between B - 1 and the accepted tokens.
    pub losses: Losses,
    /// Mean oracle trees of the searched steps. `None` if no step was searched.
    pub oracle: Option<OracleMean>,
    /// Counts of misses by cause, depth, class, and token.
    pub misses: MissSummary,
    /// Intervals of the means, as of their last update. `None` while there are too few steps.
    pub reached: Option<ReachedIntervals>,
    /// Acceptance at every budget from 1 to B, with its fluid bound.
    pub curve: Vec<CurvePoint>,
    /// Fluid bounds for contexts of one entropy class alone. Compared with the bound of all
    /// contexts and with the mean oracle tree, they show the effect of real text not being i.i.d.
    pub kinds: Vec<EntropyClassBound>,
    /// Speed-ups over plain decoding.
    pub speed_up: SpeedUp,
    /// Cost of passes t(B) at the end of the run, if it was measured.
    pub pass_seconds: Option<Vec<PassSeconds>>,
    /// Node counts by drafter.
    pub origins: Origins,
    /// Calibration of the drafter's probabilities.
    pub calibration: CalibrationSummary,
    /// Means of p(argmax q) and of the overlap of p and q. `None` if the drafter proposed nothing,
    /// and when greedy.
    pub overlap: Option<OverlapMean>,
    /// Mean ceiling of the verification rule for the tokens sampled below the root. `None` if
    /// children are not sampled.
    pub rule_ceiling: Option<RuleCeilingMean>,
    /// True if other work was detected on the machine, which makes times unreliable.
    pub busy: bool,
}

/// Point of the cost curve t(B).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PassSeconds {
    /// Tokens B of the pass, root included.
    pub tokens: usize,
    /// Seconds of the pass.
    pub seconds: f64,
}

/// Means over the steps with a converged oracle search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OracleMean {
    /// Number of such steps.
    pub looks: usize,
    /// Mean mass of the best trees of P nodes found.
    pub lower: f64,
    /// Mean upper bound on the mass of any tree of P nodes.
    pub upper: f64,
}

/// Counts of misses over a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MissSummary {
    /// All misses, by cause.
    pub causes: CauseCounts,
    /// Misses at each depth, from 1, by cause.
    pub depths: Vec<CauseCounts>,
    /// Misses by token class, for classes with at least one.
    pub classes: Vec<ClassMisses>,
    /// Most frequently missed tokens.
    pub worst: Vec<MissedToken>,
}

impl MissSummary {
    /// Summarizes `misses`, with the `worst` most frequently missed tokens.
    pub fn from_misses(misses: &Misses, worst: usize) -> MissSummary {
        let class = |&class: &TokenClass| ClassMisses { class, causes: misses.class(class) };
        MissSummary {
            causes: misses.causes(),
            depths: misses.depths().to_vec(),
            classes: TokenClass::ALL.iter().map(class).filter(|c| c.causes.total() > 0).collect(),
            worst: misses.most_missed(worst).into_iter().cloned().collect(),
        }
    }
}

/// Counts of misses of one token class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMisses {
    /// Class of the missed tokens.
    pub class: TokenClass,
    /// Number of misses, by cause.
    #[serde(flatten)]
    pub causes: CauseCounts,
}

/// Acceptance at one budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Budget B: tokens of a pass, root included.
    pub budget: usize,
    /// Mean number of accepted drafted tokens per step.
    pub accepted: f64,
    /// Mean of E\[X | T\].
    pub expected: f64,
    /// Fluid bound at this budget. `None` if it is not known.
    pub fluid: Option<f64>,
}

/// Speed-ups over plain decoding (bounds.md, "The wall clock"). `None` if the times they need are
/// not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpeedUp {
    /// Ratio of tokens per second to those of plain decoding, timed between the steps.
    pub reached: Option<f64>,
    /// Lower end of the 95% interval of `reached`. Null if plain decoding was timed too rarely.
    pub low: Option<f64>,
    /// Upper end of the 95% interval of `reached`.
    pub high: Option<f64>,
    /// Ceiling for a free drafter with perfect knowledge on this machine, at one fixed budget. The
    /// budget is the best one up to the largest whose pass was timed.
    pub ceiling: Option<speed::BestSpeedUp>,
    /// Best speed-up that this drafter can expect with one fixed budget up to B. The estimate uses
    /// E\[X | T\] and the drafting seconds, taken in proportion to the nodes. At least `reached`.
    pub drafter: Option<speed::BestSpeedUp>,
}

impl SpeedUp {
    /// Computes the speed-ups over plain decoding.
    ///
    /// `reached` is the measured one, `cost` the cost of passes, `fluid` the fluid bound by P, and
    /// `curve` the drafter's acceptance by budget. The last parameter has the drafting seconds and
    /// the number of drafted nodes of a mean step.
    pub fn compute(
        reached: Option<Estimate>,
        cost: Option<&CostCurve>,
        fluid: &[f64],
        curve: &BudgetCurve,
        (draft_seconds, draft_nodes): (f64, f64),
    ) -> SpeedUp {
        let own: Vec<f64> = (1..=curve.budget()).filter_map(|b| curve.expected(b)).collect();
        let node = if draft_nodes > 0.0 { draft_seconds / draft_nodes } else { 0.0 };
        let drafting = |b: usize| node * ((b - 1) as f64).min(draft_nodes);
        let reached = reached.filter(|reached| reached.value.is_finite());
        let interval = reached.and_then(|reached| reached.interval);
        let timed = |all: &[f64], cost: &CostCurve| all[..all.len().min(cost.largest())].to_vec();
        let drafter =
            cost.and_then(|cost| speed::best(&timed(&own, cost), |b| cost.seconds(b), drafting));
        let at_least = reached.map_or(0.0, |reached| reached.value);
        SpeedUp {
            reached: reached.map(|reached| reached.value),
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
            ceiling: cost
                .and_then(|cost| speed::best(&timed(fluid, cost), |b| cost.seconds(b), |_| 0.0)),
            drafter: drafter
                .map(|best| speed::BestSpeedUp { speed_up: best.speed_up.max(at_least), ..best }),
        }
    }
}

impl Ceilings {
    /// Creates ceilings with only B - 1, which holds for any tree. `batch` is the budget B.
    pub fn batch_only(batch: usize) -> Ceilings {
        Ceilings { batch: batch.saturating_sub(1) as f64, ..Ceilings::default() }
    }

    /// Computes the ceilings for budget `batch` (B, root included).
    ///
    /// `mu` is the mean entropy in nats, and `mu2` the mean of sum p ln^2 p in nats^2. `fluid` is
    /// the fluid bound, if it is known.
    pub fn for_budget(mu: f64, mu2: f64, batch: usize, fluid: Option<f64>) -> Ceilings {
        let drafted = batch.saturating_sub(1);
        Ceilings {
            published: bounds::published(mu, mu2, batch),
            renewal: bounds::renewal(mu, mu2, drafted),
            renewal_tuned: bounds::renewal_tuned(mu, mu2, drafted),
            fluid,
            ..Ceilings::batch_only(batch)
        }
    }
}

/// Running means of the entropy moments over positions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunningMoments {
    positions: usize,
    entropy: f64,
    second: f64,
}

impl RunningMoments {
    /// Adds the moments of one position.
    pub fn add(&mut self, moments: &Moments) {
        self.positions += 1;
        self.entropy += moments.entropy;
        self.second += moments.second;
    }

    /// Returns the number of positions.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Returns the mean entropy in nats; 0 before the first position.
    pub fn mu(&self) -> f64 {
        self.entropy / self.positions.max(1) as f64
    }

    /// Returns the mean of sum p ln^2 p in nats^2; 0 before the first position.
    pub fn mu2(&self) -> f64 {
        self.second / self.positions.max(1) as f64
    }
}

/// Accumulator for a [`Summary`], step by step.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    sums: Summary,
    moments: RunningMoments,
    budget: usize,
    fluid: Option<f64>,
    text: Sha256,
    ladder: LossLadder,
    misses: Misses,
    curve: BudgetCurve,
    told: CalibrationTally,
    overlaps: OverlapTally,
    /// Last step, for an oracle search that follows it. It is given by prompt, number, E\[X | T\],
    /// and miss.
    last: Option<(String, usize, f64, Option<Miss>)>,
    at_length: Option<FluidBound>,
    cost: Option<CostCurve>,
    comparison: PlainComparison,
    /// Number of drafted nodes of all steps.
    nodes: usize,
    /// True if the budget was automatic, so that trees varied in size.
    automatic: bool,
    /// True if other work was detected on the machine.
    busy: bool,
    capacity: CapacityTally,
    light: LightTally,
}

impl Tally {
    /// Adds the record of a step.
    pub fn add(&mut self, record: &StepRecord) {
        self.sums.steps += 1;
        self.sums.tokens += record.emitted.len();
        self.sums.accepted_mean += record.accepted as f64;
        self.sums.expected_accepted_mean += record.expected_accepted;
        self.sums.time.add(&record.time);
        record.entropy.iter().for_each(|e| self.moments.add(&e.sampled));
        (self.budget, self.sums.drawn) = (record.settings.budget, record.settings.samples_trees());
        self.fluid = record.ceilings.fluid_at_mean.or(record.ceilings.fluid);
        self.automatic = record.settings.automatic();
        self.nodes += record.tree.tokens.len().saturating_sub(1);
        self.comparison.add_step(record);
        record.emitted_text.iter().for_each(|text| self.text.update(text.as_bytes()));
        self.ladder.add(record, None);
        if let Some(miss) = &record.miss {
            self.misses.add(miss, None);
        }
        self.curve.add(record);
        self.told.add(record);
        self.capacity.add(record);
        self.light.add(record);
        self.overlaps.add(&record.overlap, record.rule_ceiling);
        self.sums.origins.add(record);
        self.sums.reached =
            record.reached.filter(|reached| reached.expected.is_some()).or(self.sums.reached);
        self.last = Some((
            record.prompt_id.clone(),
            record.step,
            record.expected_accepted,
            record.miss.clone(),
        ));
    }

    /// Adds the result of an oracle search for the last step. Ignored for any other step, and while
    /// the search is in progress.
    pub fn add_oracle_result(&mut self, prompt_id: &str, step: usize, result: &OracleResult) {
        let Some((id, number, expected, miss)) = &self.last else { return };
        if id == prompt_id && *number == step && result.state != super::OracleSearchState::Refining
        {
            self.ladder.update_search(*expected, None, result);
            if let Some(miss) = miss {
                self.misses.update_cause(miss, None, result);
            }
            // A second search of the same step would count twice.
            self.last = None;
        }
    }

    /// Adds the oracle masses of the last step's context, by tree size. `drafter_best` is
    /// E\[X | T\] of the drafter's best tree of the verified size. Ignored for any other step.
    pub fn add_oracle_curve(
        &mut self,
        prompt_id: &str,
        step: usize,
        drafter_best: Option<f64>,
        oracle: &OracleCurve,
    ) {
        self.light.add_search_at(prompt_id, step, drafter_best, oracle);
    }

    /// Marks the end of the last step's text. Must not be called if the text was interrupted.
    pub fn end_text(&mut self) {
        self.light.end_text(None);
    }

    /// Sets the fluid bound over all positions so far.
    pub fn fluid(&mut self, fluid: &FluidBound) {
        self.at_length = Some(fluid.clone());
    }

    /// Sets the cost of passes.
    pub fn cost(&mut self, cost: &CostCurve) {
        self.cost = Some(cost.clone());
    }

    /// Adds a timing of plain decoding after the steps so far, in seconds per token.
    pub fn add_plain_timing(&mut self, seconds: f64) {
        self.comparison.add_plain_timing(seconds);
    }

    /// Adds a reading of the machine's load.
    pub fn load(&mut self, load: &MachineLoad) {
        self.busy |= load.busy;
    }

    /// Computes the means so far.
    ///
    /// The ceilings are those of the last step's budget or, with an automatic budget, of the mean
    /// tree size rounded up. `plain` is the speed of plain decoding in tokens per second, if it was
    /// measured independently of [`Self::add_plain_timing`].
    pub fn summary(&self, plain: Option<f64>) -> Summary {
        let steps = self.sums.steps.max(1) as f64;
        let seconds = self.sums.time.total();
        let (mu, mu2) = (self.moments.mu(), self.moments.mu2());
        let hash = hex(&self.text.clone().finalize());
        let at_length: &[f64] = self.at_length.as_ref().map_or(&[], |fluid| &fluid.curve);
        let batch = self.nodes as f64 / steps;
        let budget = if self.automatic { batch.ceil() as usize + 1 } else { self.budget };
        let fluid = at_length
            .get(budget.wrapping_sub(1))
            .copied()
            .filter(|_| !self.automatic)
            .or(self.fluid);
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
        let given = tokens_per_second
            .zip(plain)
            .map(|(now, plain)| Estimate { value: now / plain, interval: None });
        Summary {
            accepted_mean: self.sums.accepted_mean / steps,
            expected_accepted_mean: self.sums.expected_accepted_mean / steps,
            tokens_per_step: self.sums.tokens as f64 / steps,
            mu,
            mu2,
            ceilings: Ceilings {
                batch: if self.automatic { batch } else { budget.saturating_sub(1) as f64 },
                ..if self.sums.drawn {
                    Ceilings::batch_only(budget)
                } else {
                    Ceilings::for_budget(mu, mu2, budget, fluid)
                }
            },
            tokens_per_second,
            autoregressive_tokens_per_second: plain
                .or_else(|| self.comparison.plain_tokens_per_second()),
            text_sha256: Some(hash),
            capacity_mean: capacity.mean,
            tree_nats_share: capacity.tree_nats_share,
            capacity_ceiling: capacity.ceiling,
            speed_of_light: self.light.summary(self.cost.as_ref(), at_length),
            losses: ladder.losses().unwrap_or_default(),
            oracle: ladder.oracle_mean().map(|(lower, upper)| OracleMean {
                looks: ladder.searched_steps(),
                lower,
                upper,
            }),
            misses: MissSummary::from_misses(&self.misses, WORST),
            curve: (1..=self.curve.budget()).map(point).collect(),
            calibration: self.told.summary(),
            busy: self.busy,
            pass_seconds: self.cost.as_ref().map(|cost| {
                let point = |&(tokens, seconds): &(usize, f64)| PassSeconds { tokens, seconds };
                cost.points().iter().map(point).collect()
            }),
            overlap: self.overlaps.mean(),
            rule_ceiling: self.overlaps.rule_ceiling(),
            kinds: self.at_length.as_ref().map_or_else(Vec::new, |fluid| fluid.kinds.clone()),
            speed_up: SpeedUp::compute(
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
