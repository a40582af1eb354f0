//! Drafters, each in a file of its own, and their common trait [`Drafter`]. The shapes in [`shape`]
//! grow a token tree from their candidates. After the verify pass, drafters get the outcome as
//! [`VerifyFeedback`] and may learn from it.

mod calibration;
mod cost_gate;
pub(crate) mod drafters;
mod feedback;
pub mod shape;
#[cfg(test)]
pub(crate) mod testing;

pub use calibration::{Calibration, Observation};
pub use cost_gate::CostModel;
pub(crate) use cost_gate::update_moving_average;
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
pub use shape::{BudgetCut, Cut, Draft, Limits, Plan, Planner, Shape, Widths, YieldEstimate};

use crate::distribution::Sampling;
use crate::model::{Decoder, ForwardError};
use crate::tree::{TokenId, TokenTree};

/// Names of all drafters, in the order in which the monitor cycles through them. A run offers those
/// whose requirements are met, such as a draft model or a trained head.
pub const DRAFTERS: [&str; 10] = [
    "none",
    "ngram",
    "suffix",
    "early-exit",
    "eagle",
    "model",
    "external",
    "mix",
    "auto",
    "oracle",
];

/// State of the text and the target that a drafter may use.
pub struct Context<'a> {
    /// All tokens so far, prompt and output. The last one is the pending token (the root).
    pub tokens: &'a [TokenId],
    /// Target model, with all tokens but the pending one committed and no uncommitted nodes. A
    /// drafter that uses it must discard what it appended before [`Drafter::end`] returns.
    pub target: &'a mut dyn Decoder,
    /// Sampling parameters of the target.
    pub warp: &'a Sampling,
    /// Tokens that end a text. They are never drafted, since nothing can follow them.
    pub stop: &'a [TokenId],
}

/// Token that a drafter proposes as a child of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Id in the target's vocabulary.
    pub token: TokenId,
    /// Drafter's probability of the token after the node. The candidates of one node sum to at most
    /// 1.
    pub q: f64,
}

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
pub trait Drafter: Send {
    /// Returns the name, as used in settings and on the command line.
    fn name(&self) -> &'static str;

    /// Describes the cost of a draft, in weights read and passes run.
    fn cost(&self) -> String;

    /// Returns the names of the drafters whose candidates it merges; by default its own name.
    fn members(&self) -> Vec<&'static str> {
        vec![self.name()]
    }

    /// Starts a new text and forgets the old one.
    fn reset(&mut self);

    /// Announces the tree size of the next step, for drafters that need it in advance.
    fn limits(&mut self, _limits: Limits) {}

    /// Sets the cost model for the next step; `None` disables cost gating. With a cost model, a
    /// drafter that runs a model skips passes that save less time than they take.
    fn worth(&mut self, _worth: Option<CostModel>) {}

    /// Sets whether children will be sampled from the candidates from now on. By default, the best
    /// candidates become children.
    fn drawn(&mut self, _drawn: bool) {}

    /// Returns `true` if proposing runs a model and therefore takes time.
    fn costly(&self) -> bool {
        false
    }

    /// Returns `true` if it can also draft without running a model. It does so when asked to back
    /// off ([`CostModel::back_off`]).
    fn frugal(&self) -> bool {
        false
    }

    /// Begins a step whose root is the last of `cx.tokens`.
    ///
    /// # Errors
    /// See [`DraftError`].
    fn begin(&mut self, cx: &mut Context) -> Result<(), DraftError>;

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
        cx: &mut Context,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError>;

    /// Returns `false` for a token that it can never propose: one outside its vocabulary.
    fn can_propose(&self, _token: TokenId) -> bool {
        true
    }

    /// Ends drafting for this step. The target must be left as it was at [`Drafter::begin`].
    fn end(&mut self, _cx: &mut Context) {}

    /// Returns the member that proposed each node of a tree grown in this step. Values are indices
    /// into [`Drafter::members`]. If several members proposed a node, it is the one that gave it
    /// the highest probability.
    fn origins(&self, tree: &TokenTree) -> Vec<usize> {
        vec![0; tree.len()]
    }

    /// Receives the outcome of the verify pass over this step's tree. The accepted tokens
    /// themselves arrive with the next [`Drafter::begin`].
    fn learn(&mut self, _verified: &VerifyFeedback) {}

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
    fn at(&self, tokens: usize) -> Result<Box<dyn Drafter>, DraftError>;
}
