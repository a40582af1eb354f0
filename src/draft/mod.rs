//! Drafters, each in a file of its own, and their common trait [`Drafter`]. The shapes in [`shape`]
//! grow a token tree from their candidates. After the verify pass, drafters get the outcome as
//! [`VerifyFeedback`] and may learn from it.

mod calibration;
mod cost_gate;
mod draft_tree;
pub(crate) mod drafters;
mod feedback;
mod info;
mod request;
pub mod shape;
#[cfg(test)]
pub(crate) mod testing;

pub use calibration::{Calibration, Observation};
pub use cost_gate::CostModel;
pub(crate) use cost_gate::update_moving_average;
pub use draft_tree::{BudgetCut, Candidate, Cut, Draft};
pub use drafters::eagle::Eagle;
pub use drafters::early_exit::EarlyExit;
pub use drafters::external::{External, end_processes};
pub use drafters::mix::{MEMBERS, Mix};
pub use drafters::model::ModelDrafter;
pub use drafters::ngram::Ngram;
pub use drafters::none::NoDraft;
pub use drafters::oracle::{Oracle, OracleSearch};
pub use drafters::suffix::Suffix;
pub use feedback::VerifyFeedback;
pub use info::{DrafterInfo, DrafterKind, ModelUse};
pub use request::{DraftRequest, Limits};
pub use shape::{
    ChildSampler, Plan, Planner, Shape, ShapeKind, UnknownShape, Widths, YieldEstimate,
};

use crate::model::ForwardError;
use crate::tree::{TokenId, TokenTree};

/// Error of a drafter.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// A forward pass of the drafter failed.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// Logits were not finite, so that there is no distribution.
    #[error(transparent)]
    NotFinite(#[from] crate::distribution::NotFinite),
    /// Drafter does not fit the target or the text.
    #[error("{0}")]
    Unfit(String),
}

/// Source of draft candidates. One object serves a whole text and gets every step's outcome.
///
/// # Examples
/// A drafter that proposes the token of the node once more:
///
/// ```
/// # use std::sync::Arc;
/// # use speclight::model::Config;
/// # use speclight::model::cpu::{CpuDecoder, Llama};
/// # use speclight::model::format::quant::TensorFormat;
/// # use speclight::model::format::weights::Weights;
/// use speclight::draft::shape::grow;
/// use speclight::draft::{
///     Candidate, DraftError, DraftRequest, Drafter, DrafterInfo, Limits, Plan, Shape,
/// };
/// use speclight::tree::TokenTree;
///
/// struct Repeat;
///
/// impl Drafter for Repeat {
///     fn info(&self) -> DrafterInfo {
///         DrafterInfo::new("repeat", "nothing")
///     }
///     fn reset(&mut self) {}
///     fn begin(&mut self, _: &mut DraftRequest) -> Result<(), DraftError> {
///         Ok(())
///     }
///     fn propose(
///         &mut self,
///         _: &mut DraftRequest,
///         tree: &TokenTree,
///         nodes: &[usize],
///         _: usize,
///     ) -> Result<Vec<Vec<Candidate>>, DraftError> {
///         let again = |&node: &usize| vec![Candidate { token: tree.token(node), q: 0.5 }];
///         Ok(nodes.iter().map(again).collect())
///     }
///     fn fork_at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
///         Ok(Box::new(Repeat))
///     }
/// }
///
/// # let config = Config {
/// #     dim: 96,
/// #     ffn: 160,
/// #     layers: 3,
/// #     heads: 6,
/// #     kv_heads: 2,
/// #     head_dim: 16,
/// #     vocab: 64,
/// #     context: 256,
/// #     eps: 1e-5,
/// #     rope_base: 1e4,
/// #     rope_scaling: None,
/// # };
/// # let weights = Weights::random(config, TensorFormat::Q4_1, true, 5)?;
/// # let mut target = CpuDecoder::new(Arc::new(Llama::load(&weights, 1)?), 256);
/// let mut request = DraftRequest {
///     limits: Limits { budget: 4, depth: 8 },
///     ..DraftRequest::new(&[1, 2, 3], &mut target)
/// };
/// let draft = grow(Shape::Chain, &mut Repeat, &mut request, &Plan::default())?;
/// assert_eq!(draft.tree.tokens(), [3, 3, 3, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Drafter: Send {
    /// Describes the drafter. The result must always be the same.
    fn info(&self) -> DrafterInfo;

    /// Starts a new text and forgets the old one.
    fn reset(&mut self);

    /// Begins a step whose root is the last of the request's tokens.
    ///
    /// The requests of later calls in the same step are equal.
    ///
    /// # Errors
    /// See [`DraftError`].
    fn begin(&mut self, request: &mut DraftRequest) -> Result<(), DraftError>;

    /// Returns the candidates below each of `nodes`, at most `width` per node.
    ///
    /// `nodes` are indices into `tree`, whose nodes were proposed in this step by this drafter or,
    /// in a [`Mix`], by another member. Candidates are in order of falling q, ties to the lower id.
    /// Each node is passed at most once per step, after its parent. The nodes of one call are run
    /// together where that is cheaper. The list is empty if the drafter knows nothing about a node
    /// or has no room left for it.
    ///
    /// # Errors
    /// See [`DraftError`].
    fn propose(
        &mut self,
        request: &mut DraftRequest,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError>;

    /// Returns `false` for a token that it can never propose: one outside its vocabulary.
    fn can_propose(&self, _token: TokenId) -> bool {
        true
    }

    /// Ends drafting for this step. The target must be left as it was at [`Drafter::begin`].
    fn end(&mut self, _request: &mut DraftRequest) {}

    /// Returns the member that proposed each node of a tree grown in this step. Values are indices
    /// into [`DrafterInfo::members`]. If several members proposed a node, it is the one that gave
    /// it the highest probability.
    fn origins(&self, tree: &TokenTree) -> Vec<usize> {
        vec![0; tree.len()]
    }

    /// Receives the outcome of the verify pass over this step's tree. The accepted tokens
    /// themselves arrive with the next [`Drafter::begin`].
    fn learn(&mut self, _feedback: &VerifyFeedback) {}

    /// Takes the description of an error in this step that did not end the run. It is one line.
    fn notice(&mut self) -> Option<String> {
        None
    }

    /// Creates a drafter for an earlier step of the same text.
    ///
    /// The text had `tokens` tokens then, and the last of them is the root. After
    /// [`Drafter::begin`], the new drafter proposes what this one would have proposed at that step.
    ///
    /// # Errors
    /// If a device fails.
    fn fork_at(&self, tokens: usize) -> Result<Box<dyn Drafter>, DraftError>;
}
