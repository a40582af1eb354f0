//! Budget of each step: fixed, or automatic from the measured cost of verify passes.
//!
//! An automatic budget cuts deterministic trees after drafting ([`CutPolicy`]) and picks the size of
//! sampled trees before drafting ([`SizePolicy`]).

mod cut;
mod line_fit;
mod size;

use crate::draft::{Calibration, CostModel, Draft, YieldEstimate};
use crate::telemetry::{BudgetChoice, StepRecord, StepSettings};
use crate::theory::cost::CostCurve;
use crate::theory::pass_times::PassTimes;
use cut::CutPolicy;
use size::{SizePolicy, StepOutcome};

/// Budget policy of a session, with the measured times it is based on.
#[derive(Default)]
pub(super) struct BudgetPolicy {
    /// Pass times, once measured. Until then an automatic budget acts as a fixed one.
    times: Option<PassTimes>,
    /// Seconds per step of plain decoding, once timed.
    plain: Option<f64>,
    /// Freezes the pass times, so that steps don't update them.
    #[cfg(test)]
    pub held: bool,
    /// Automatic budget of deterministic trees, which are cut to the size that pays.
    auto: CutPolicy,
    /// Automatic budget of sampled trees, whose size is picked before drafting.
    arms: SizePolicy,
}

/// Drafting request for one step.
pub(super) struct Asked {
    /// Tokens to draft for, root included; `None` skips drafting.
    pub tokens: Option<usize>,
    /// Cost model passed to the drafter; `None` disables cost gating.
    pub cost_model: Option<CostModel>,
    /// Policy that made the request; `None` if the budget is fixed or the cost unknown.
    by: Option<Sizing>,
}

/// Policy by which an automatic budget determines the size of a tree.
enum Sizing {
    /// Cut the tree after drafting, to at most `most` tokens.
    Cutting { most: usize },
    /// Pick the size before drafting, from predicted accepted lengths by budget.
    Promises(Vec<YieldEstimate>),
}

impl BudgetPolicy {
    /// Returns the cost of verify passes, if known.
    pub fn cost(&self) -> Option<&CostCurve> {
        self.times.as_ref().map(PassTimes::cost)
    }

    /// Returns the measured pass times, if any.
    pub fn times(&mut self) -> Option<&mut PassTimes> {
        self.times.as_mut()
    }

    /// Replaces the measured pass times.
    pub fn set_times(&mut self, times: PassTimes) {
        self.times = Some(times);
    }

    /// Sets the seconds per step of plain decoding, timed on consecutive steps.
    pub fn set_plain(&mut self, seconds: f64) {
        self.plain = Some(seconds);
        self.auto.set_plain(seconds);
    }

    /// Discards what was learned about the previous drafter or distribution.
    ///
    /// Pass times and the time of plain decoding stay, since they don't depend on the drafter.
    pub fn begin(&mut self, frugal: bool) {
        (self.auto, self.arms) = (CutPolicy::new(frugal), SizePolicy::default());
        if let Some(seconds) = self.plain {
            self.auto.set_plain(seconds);
        }
    }

    /// Returns the drafting request for a step of at most `most` tokens.
    ///
    /// `frugal` marks a drafter that can draft without running a model. `promises` computes the
    /// predicted accepted lengths by budget; it is called only for sampled trees.
    pub fn request(
        &self,
        settings: &StepSettings,
        most: usize,
        frugal: bool,
        promises: impl FnOnce() -> Vec<YieldEstimate>,
    ) -> Asked {
        let Some(cost) = self.cost().filter(|_| settings.automatic()) else {
            let tokens = if settings.automatic() { self.auto.requested_budget(most) } else { most };
            return Asked { tokens: Some(tokens), cost_model: None, by: None };
        };
        if settings.samples_trees() {
            let promises = promises();
            let tokens = self.arms.ask(&promises, cost);
            return Asked {
                tokens,
                cost_model: Some(CostModel::ALWAYS_PAYS),
                by: Some(Sizing::Promises(promises)),
            };
        }
        // A frugal drafter may draft during back-off, since that costs nothing. Not so for sampled
        // trees: it proposes many candidates or hardly any, so that no fixed form of a tree fits.
        let tokens =
            self.auto.request(most).or_else(|| frugal.then(|| self.auto.requested_budget(most)));
        let worth = self.auto.worth(tokens.unwrap_or(1), cost);
        Asked { tokens, cost_model: Some(worth), by: Some(Sizing::Cutting { most }) }
    }

    /// Applies an automatic budget to a draft that took `seconds`.
    ///
    /// `known` maps the drafter's q to probabilities. Returns `None` for a fixed budget.
    pub fn choose(
        &mut self,
        asked: &Asked,
        known: &Calibration,
        draft: &mut Draft,
        seconds: f64,
    ) -> Option<BudgetChoice> {
        let cost = self.times.as_ref().map(PassTimes::cost)?;
        Some(match asked.by.as_ref()? {
            Sizing::Promises(promises) => self.arms.choice(draft, asked.tokens, promises, cost),
            Sizing::Cutting { most } => {
                self.auto.choose(known, draft, asked.tokens, seconds, *most, cost)
            }
        })
    }

    /// Updates the budget policy and the pass times from a finished step.
    pub fn learn(&mut self, asked: &Asked, record: &StepRecord, draft: &Draft) {
        let tokens = draft.tree.len();
        let Some(times) = &mut self.times else { return };
        if let (Some(choice), Some(by)) = (&record.choice, &asked.by) {
            let cost = times.cost();
            match by {
                Sizing::Promises(promises) => {
                    let (depth, accepted) = (draft.tree.max_depth(), record.expected_accepted);
                    self.arms.learn(
                        asked.tokens,
                        &StepOutcome { tokens, depth, accepted, time: &record.time },
                        promises,
                        cost,
                    );
                }
                Sizing::Cutting { .. } => {
                    self.auto.learn(tokens, choice, record.expected_accepted, &record.time, cost)
                }
            }
        }
        #[cfg(test)]
        if self.held {
            return;
        }
        times.add(tokens, record.time.verify);
    }
}
