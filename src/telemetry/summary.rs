//! Means over many steps.

use sha2::{Digest, Sha256};

use serde::{Deserialize, Serialize};

use super::{
    BudgetCurve, CalibrationSummary, Causes, Ceilings, Fluid, FluidKind, Ladder, Look, Losses, Miss, MissedToken, Misses,
    Origins, OverlapMean, Overlaps, Reached, RuleCeilingMean, StageTimes, StepRecord, TokenClass, Told,
};
use crate::dist::Moments;
use crate::hex::hex;
use crate::theory::cost::Cost;
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
    /// Nodes by who proposed them.
    pub origins: Origins,
    /// How well the drafter's probabilities were what they said.
    pub calibration: CalibrationSummary,
    /// p(argmax q) against the overlap of p and q. None where the drafter proposed nothing, and when greedy.
    pub overlap: Option<OverlapMean>,
    /// The ceiling of the rule for the first sampled tokens. None where children are not sampled.
    pub rule_ceiling: Option<RuleCeilingMean>,
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
    /// Tokens a second over those of plain decoding.
    pub reached: Option<f64>,
    /// The most that a free drafter with perfect knowledge could reach on this machine, with the best budget up to 256.
    pub ceiling: Option<speed::Best>,
    /// The most that this drafter promises, with the best budget up to B: by its E\[X | T\] and the time that it took to draft at B.
    pub drafter: Option<speed::Best>,
}

impl SpeedUp {
    /// From tokens a second and those of plain decoding; what passes cost; the fluid bound's curve by P; the drafter's curve and its
    /// seconds a step.
    pub fn of(rates: (Option<f64>, Option<f64>), cost: Option<&Cost>, fluid: &[f64], curve: &BudgetCurve, draft: f64) -> SpeedUp {
        let own: Vec<f64> = (1..=curve.budget()).filter_map(|b| curve.expected(b)).collect();
        let drafting = |b: usize| if b > 1 { draft } else { 0.0 };
        SpeedUp {
            reached: rates.0.zip(rates.1).map(|(now, plain)| now / plain).filter(|ratio| ratio.is_finite()),
            ceiling: cost.and_then(|cost| speed::best(fluid, |b| cost.seconds(b), |_| 0.0)),
            drafter: cost.and_then(|cost| speed::best(&own, |b| cost.seconds(b), drafting)),
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
        self.fluid = record.ceilings.fluid;
        record.emitted_text.iter().for_each(|text| self.text.update(text.as_bytes()));
        self.ladder.add(record, None);
        if let Some(miss) = &record.miss {
            self.misses.add(miss, None);
        }
        self.curve.add(record);
        self.told.add(record);
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

    /// The fluid bound at length, from all positions so far.
    pub fn fluid(&mut self, fluid: &Fluid) {
        self.at_length = Some(fluid.clone());
    }

    /// What passes cost.
    pub fn cost(&mut self, cost: &Cost) {
        self.cost = Some(cost.clone());
    }

    /// The means so far. The ceilings are those of the last step's budget. `plain` is the measured speed of plain
    /// decoding, in tokens a second.
    pub fn summary(&self, plain: Option<f64>) -> Summary {
        let steps = self.sums.steps.max(1) as f64;
        let seconds = self.sums.time.total();
        let (mu, mu2) = (self.moments.mu(), self.moments.mu2());
        let hash = hex(&self.text.clone().finalize());
        let at_length: &[f64] = self.at_length.as_ref().map_or(&[], |fluid| &fluid.curve);
        let fluid = at_length.get(self.budget.wrapping_sub(1)).copied().or(self.fluid);
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
        let tokens_per_second = (seconds > 0.0).then(|| self.sums.tokens as f64 / seconds);
        Summary {
            accepted_mean: self.sums.accepted_mean / steps,
            expected_accepted_mean: self.sums.expected_accepted_mean / steps,
            tokens_per_step: self.sums.tokens as f64 / steps,
            mu,
            mu2,
            ceilings: if self.sums.drawn { Ceilings::batch(self.budget) } else { Ceilings::at(mu, mu2, self.budget, fluid) },
            tokens_per_second,
            autoregressive_tokens_per_second: plain,
            text_sha256: Some(hash),
            losses: ladder.losses().unwrap_or_default(),
            oracle: ladder.oracle_mean().map(|(lower, upper)| OracleMean { looks: ladder.looks(), lower, upper }),
            misses: MissSummary::of(&self.misses, WORST),
            curve: (1..=self.curve.budget()).map(point).collect(),
            calibration: self.told.summary(),
            overlap: self.overlaps.mean(),
            rule_ceiling: self.overlaps.rule(),
            kinds: self.at_length.as_ref().map_or_else(Vec::new, |fluid| fluid.kinds.clone()),
            speed_up: SpeedUp::of(
                (tokens_per_second, plain),
                self.cost.as_ref(),
                at_length,
                &self.curve,
                self.sums.time.draft / steps,
            ),
            ..self.sums.clone()
        }
    }
}
