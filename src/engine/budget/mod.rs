//! Budget of each step: fixed, or automatic from the measured cost of verify passes.
//!
//! An automatic budget cuts deterministic trees after drafting ([`CutPolicy`]) and picks the size
//! of sampled trees before drafting ([`SizePolicy`]).

mod back_off;
mod cut;
mod size;
mod stage_time_fit;

use crate::draft::{Calibration, CostModel, Draft, ModelUse, YieldEstimate};
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
    cutting: CutPolicy,
    /// Automatic budget of sampled trees, whose size is picked before drafting.
    sizing: SizePolicy,
}

/// Drafting request for one step.
pub(super) struct BudgetRequest {
    /// Tokens to draft for, root included; `None` skips drafting.
    pub tokens: Option<usize>,
    /// Cost model passed to the drafter; `None` disables cost gating.
    pub cost_model: Option<CostModel>,
    /// Policy that made the request; `None` if the budget is fixed or the cost unknown.
    sizing: Option<Sizing>,
}

/// Policy by which an automatic budget determines the size of a tree.
enum Sizing {
    /// Cut the tree after drafting, to at most `most` tokens.
    AfterDrafting { most: usize },
    /// Pick the size before drafting, from predicted accepted lengths by budget.
    BeforeDrafting(Vec<YieldEstimate>),
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
        self.cutting.set_plain(seconds);
    }

    /// Discards the state learned for the previous drafter or distribution.
    ///
    /// Pass times and the time of plain decoding stay, since they don't depend on the drafter.
    pub fn begin(&mut self, model_use: ModelUse) {
        (self.cutting, self.sizing) = (CutPolicy::new(model_use), SizePolicy::default());
        if let Some(seconds) = self.plain {
            self.cutting.set_plain(seconds);
        }
    }

    /// Returns the drafting request for a step of at most `most` tokens.
    ///
    /// `model_use` is that of the drafter. `yields` computes the predicted accepted lengths by
    /// budget; it is called only for sampled trees.
    pub fn request(
        &self,
        settings: &StepSettings,
        most: usize,
        model_use: ModelUse,
        yields: impl FnOnce() -> Vec<YieldEstimate>,
    ) -> BudgetRequest {
        let Some(cost) = self.cost().filter(|_| settings.automatic()) else {
            let tokens =
                if settings.automatic() { self.cutting.requested_budget(most) } else { most };
            return BudgetRequest { tokens: Some(tokens), cost_model: None, sizing: None };
        };
        if settings.samples_trees() {
            let yields = yields();
            let tokens = self.sizing.request(&yields, cost);
            return BudgetRequest {
                tokens,
                cost_model: Some(CostModel::ALWAYS_PAYS),
                sizing: Some(Sizing::BeforeDrafting(yields)),
            };
        }
        // Without its model, a drafter may draft during back-off, since that costs nothing. Not so
        // for sampled trees: it proposes many candidates or hardly any, so that no fixed form of a
        // tree fits.
        let without_model = model_use == ModelUse::Optional;
        let tokens = (without_model || !self.cutting.backs_off())
            .then(|| self.cutting.requested_budget(most));
        let cost_model = self.cutting.cost_model(tokens.unwrap_or(1), cost);
        BudgetRequest {
            tokens,
            cost_model: Some(cost_model),
            sizing: Some(Sizing::AfterDrafting { most }),
        }
    }

    /// Applies an automatic budget to a draft that took `seconds`.
    ///
    /// `calibration` maps the drafter's q to probabilities. Returns `None` for a fixed budget.
    pub fn choose(
        &mut self,
        request: &BudgetRequest,
        calibration: &Calibration,
        draft: &mut Draft,
        seconds: f64,
    ) -> Option<BudgetChoice> {
        let cost = self.times.as_ref().map(PassTimes::cost)?;
        Some(match request.sizing.as_ref()? {
            Sizing::BeforeDrafting(yields) => {
                self.sizing.describe_choice(draft, request.tokens, yields, cost)
            }
            Sizing::AfterDrafting { most } => {
                self.cutting.choose(calibration, draft, request.tokens, seconds, *most, cost)
            }
        })
    }

    /// Updates the budget policy and the pass times from a finished step.
    pub fn learn(&mut self, request: &BudgetRequest, record: &StepRecord, draft: &Draft) {
        let tokens = draft.tree.len();
        let Some(times) = &mut self.times else { return };
        if let (Some(choice), Some(sizing)) = (&record.choice, &request.sizing) {
            let cost = times.cost();
            match sizing {
                Sizing::BeforeDrafting(yields) => {
                    let (depth, accepted) = (draft.tree.max_depth(), record.expected_accepted);
                    self.sizing.learn(
                        request.tokens,
                        &StepOutcome { tokens, depth, accepted, time: &record.time },
                        yields,
                        cost,
                    );
                }
                Sizing::AfterDrafting { .. } => {
                    self.cutting.learn(tokens, choice, record.expected_accepted, &record.time, cost)
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
