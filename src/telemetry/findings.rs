//! Per-step findings of the engine beyond the timed pass. These are oracle searches
//! ([`OracleResult`]), misses with their causes, and the fluid bound. `losses` and `misses` add
//! them up over steps.

use serde::{Deserialize, Serialize};

pub use crate::theory::intervals::Interval;

use crate::tree::TokenId;

/// State of an oracle search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OracleSearchState {
    /// Search is in progress.
    Refining,
    /// Bounds agree to [`OracleResult::TOLERANCE`].
    Converged,
    /// Search ended without convergence. The cache has no room for more nodes, or the limit on
    /// passes was reached.
    Ended,
    /// Search was interrupted before convergence. It can be repeated to refine the bounds.
    BrokenOff,
}

/// Result of a step's oracle search: oracle tree and the drafter's best tree. The search
/// runs after the step, outside of the timed path.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OracleResult {
    /// Mass of the best P nodes found, in accepted drafted tokens. A lower bound on the oracle
    /// tree's.
    pub oracle_lower: f64,
    /// Upper bound on the mass of any tree of P nodes.
    ///
    /// Mass of the nodes found, plus the largest unexpanded path probability for each missing node.
    pub oracle_upper: f64,
    /// Smallest path probability among the best P nodes found. A token with a smaller path
    /// probability is missed by the oracle tree, too.
    pub oracle_floor: f64,
    /// Number of target passes used.
    pub passes: usize,
    /// E\[accepted | T\] of the drafter's best tree of P nodes. `None` until it is drafted. This is
    /// the best tree under q, valued under p, or the verified tree if that has a higher value.
    pub drafter_best: Option<f64>,
    /// Progress of the search.
    pub state: OracleSearchState,
}

impl OracleResult {
    /// Relative difference of the bounds at which the search converges. It is relative to the upper
    /// bound.
    pub const TOLERANCE: f64 = 0.01;

    /// Returns `true` if the bounds agree to the tolerance.
    pub fn converged(&self) -> bool {
        self.state == OracleSearchState::Converged
    }

    /// Returns the mass of the best known tree of P nodes. The candidates are the oracle tree
    /// found, the drafter's best tree, and the verified tree, whose E\[X | T\] is `expected`.
    pub fn best_known_mass(&self, expected: f64) -> f64 {
        self.oracle_lower.max(expected).max(self.drafter_best.unwrap_or(0.0))
    }
}

/// Best nodes that a search found in a step's context, parents before children.
///
/// All lists have one entry per node, the root first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OracleTree {
    /// Token ids of the nodes.
    pub tokens: Vec<TokenId>,
    /// Text of each token on its own.
    pub text: Vec<String>,
    /// Index of each node's parent; 0 for the root itself.
    pub parents: Vec<usize>,
    /// Target's probability of the node after its parent (1 for the root).
    pub p: Vec<f64>,
}

/// Token with its probability after some context.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RankedToken {
    /// Id of the token.
    pub token: TokenId,
    /// Text of the token on its own.
    pub text: String,
    /// Probability under the model whose list it is in.
    pub probability: f64,
}

/// Class of a token by its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenClass {
    /// Start of a word: a space, then a letter.
    WordStart,
    /// Continuation of a word.
    WordPart,
    /// Token that starts with a numeric character.
    Digit,
    /// Token that starts with a punctuation mark.
    Punctuation,
    /// Token of white space only.
    Space,
    /// Characters that are rare outside of code.
    Code,
    /// Token of another kind, such as control tokens, incomplete characters, and symbols.
    Other,
}

/// Reason why the tree lacks the token that the target sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissCause {
    /// Missed by an oracle tree of the same budget, too.
    Unlucky,
    /// Left out by the budget or the shape, or below the depth of the tree. If it was proposed, the
    /// drafter ranked it at least as high as the target does.
    Budget,
    /// Proposed by the drafter, at a worse rank than the target's.
    Ranking,
    /// Not proposed by the drafter.
    Knowledge,
    /// Outside the draft vocabulary, so that the drafter can never propose it.
    Vocabulary,
}

/// End of a step at a sampled token that the tree does not have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Miss {
    /// Depth that the token would have had, from 1.
    pub depth: usize,
    /// Id of the missed token.
    pub token: TokenId,
    /// Text of the token, as in [`super::TreeRecord::text`].
    pub text: String,
    /// Class of the token's text.
    pub class: TokenClass,
    /// Target's probability of the token, under the sampling parameters.
    pub p: f64,
    /// Target's probability at temperature 1 without top-p and top-k. `None` in records of versions
    /// that did not write it.
    #[serde(default)]
    pub p_plain: Option<f64>,
    /// Path probability under the target: product along the accepted path, times the token's own p.
    pub pi: f64,
    /// Rank under the target, 0 for the arg-max.
    pub rank: usize,
    /// Drafter's probability of the token. Null if it was not proposed.
    pub q: Option<f64>,
    /// Rank among the drafter's candidates at this node, 0 for the best. Null if it was not
    /// proposed.
    pub draft_rank: Option<usize>,
    /// True if candidates of the drafter were requested at this node.
    pub asked: bool,
    /// True if the token is outside the drafter's vocabulary. `None` in records of versions that
    /// did not write it.
    #[serde(default)]
    pub outside_vocabulary: Option<bool>,
    /// Target's five most probable tokens at this node.
    ///
    /// At the sampling parameters; when greedy, at temperature 1. Shorter where the support is, and
    /// when greedy on a device that keeps the logits.
    #[serde(default)]
    pub target_best: Vec<RankedToken>,
    /// Drafter's five most probable candidates at this node. Empty if it was not asked.
    #[serde(default)]
    pub draft_best: Vec<RankedToken>,
    /// Best known cause without the context's oracle tree. Unlucky if the path probability is below
    /// the floor of the fluid bound, or if at least P tokens are more likely at this node.
    pub cause: MissCause,
}

/// Fluid bound as a curve, over all positions since the sampling parameters last changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FluidBound {
    /// Number of positions in the pool.
    pub positions: usize,
    /// Bound by the number of drafted nodes P, from P = 0. Not limited to the present budget.
    pub curve: Vec<f64>,
    /// Bounds by entropy class, if all contexts were of that class. Real text mixes classes, and
    /// neighboring contexts tend to be of the same class. The bound of the whole pool treats every
    /// context as an independent sample.
    pub kinds: Vec<EntropyClassBound>,
}

/// Positions whose entropy lies in one range, and their fluid bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EntropyClassBound {
    /// Lower end of the range, in nats. It ends where the next one begins.
    pub entropy_from: f64,
    /// Fraction of all positions, from 0 to 1.
    pub share: f64,
    /// Mean entropy in nats; 0 without positions.
    pub mu: f64,
    /// Fluid bound from these positions alone, at the present budget. `None` without positions.
    pub fluid: Option<f64>,
}

/// Means over the steps at the present settings, with 95% intervals. The intervals are from a
/// bootstrap over steps ([`crate::theory::wild_bootstrap`]). They are `None` while there are too
/// few steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReachedIntervals {
    /// Number of steps at these settings.
    pub steps: usize,
    /// Interval of the mean of E\[accepted | T\].
    pub expected: Option<Interval>,
    /// Interval of the fluid bound at this budget.
    pub fluid: Option<Interval>,
    /// Interval of the mean of E\[accepted | T\] divided by the fluid bound. Both come from the
    /// same bootstrap weights.
    pub share: Option<Interval>,
    /// Mean that `expected` is the interval of. `None` if that is.
    #[serde(default)]
    pub expected_mean: Option<f64>,
    /// Ratio that `share` is the interval of. A display must take both from here, since the running
    /// mean includes later steps.
    #[serde(default)]
    pub share_mean: Option<f64>,
}
