//! Request for one draft: everything that is decided before a drafter starts.

use super::cost_gate::CostModel;
use crate::distribution::Sampling;
use crate::model::Decoder;
use crate::tree::TokenId;

/// Limits on the size of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Budget B: tokens of the verify pass, root included.
    pub budget: usize,
    /// Maximum depth of a node.
    pub depth: usize,
}

/// Inputs of one draft: text, target, limits, and cost model.
pub struct DraftRequest<'a> {
    /// All tokens so far, prompt and output. The last one is the pending token (the root).
    pub tokens: &'a [TokenId],
    /// Target model, with all tokens but the pending one committed and no uncommitted nodes. A
    /// drafter that uses it must discard what it appended before [`Drafter::end`] returns.
    ///
    /// [`Drafter::end`]: super::Drafter::end
    pub target: &'a mut dyn Decoder,
    /// Sampling parameters of the target.
    pub sampling: Sampling,
    /// Tokens that end a text. They are never drafted, since nothing can follow them.
    pub stop: &'a [TokenId],
    /// Limits on the size of the tree, for drafters that need them in advance.
    pub limits: Limits,
    /// Cost model of the step; `None` disables cost gating. With a cost model, a drafter that runs
    /// a model skips passes that save less time than they take.
    pub cost_model: Option<CostModel>,
    /// True if children are sampled from the candidates. Otherwise the best candidates become
    /// children.
    pub sampled: bool,
}

impl<'a> DraftRequest<'a> {
    /// Creates a request that allows no node but the root.
    ///
    /// Has plain sampling and no stop tokens.
    pub fn new(tokens: &'a [TokenId], target: &'a mut dyn Decoder) -> Self {
        DraftRequest {
            tokens,
            target,
            sampling: Sampling::PLAIN,
            stop: &[],
            limits: Limits { budget: 1, depth: 0 },
            cost_model: None,
            sampled: false,
        }
    }

    /// Returns the request for a member of a mix. The mix itself applies the cost model and
    /// decides how children are chosen.
    pub(super) fn for_member(&mut self) -> DraftRequest<'_> {
        DraftRequest {
            tokens: self.tokens,
            target: &mut *self.target,
            sampling: self.sampling,
            stop: self.stop,
            limits: self.limits,
            cost_model: None,
            sampled: false,
        }
    }
}
