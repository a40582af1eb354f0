//! How far a step stayed from what was possible, and why: what the engine finds out. What is made of it stands in `losses` and
//! `misses`.

use serde::{Deserialize, Serialize};

pub use crate::theory::intervals::Interval;

use crate::tree::TokenId;

/// How far a look is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LookState {
    /// It goes on.
    Refining,
    /// Its bounds agree to [`Look::TOLERANCE`].
    Converged,
    /// They don't, and it is over: the cache has no room for more nodes, or it took as many passes as a look may.
    Ended,
    /// They don't, and it was stopped for something else: asked again, it would find out more.
    BrokenOff,
}

/// What was found out about one step off the timed path, after it: the oracle tree of its context, and the best tree of the
/// drafter there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Mass of the best P nodes found: no more is needed to reach it. In accepted drafted tokens.
    pub oracle_lower: f64,
    /// Found mass and P minus found times the best of what is not expanded: no tree of P nodes exceeds it.
    pub oracle_upper: f64,
    /// The least path probability in the best P nodes found: a token below it is one that an oracle misses too.
    pub oracle_floor: f64,
    /// Passes of the target that it took.
    pub passes: usize,
    /// E[accepted | T] of the drafter's best tree of P nodes: the best one under q, valued under p, or the one that was verified, where
    /// that is worth more. None until it was drafted.
    pub drafter_best: Option<f64>,
    /// How far it is.
    pub state: LookState,
}

impl Look {
    /// A look is done when its bounds agree to this part of the upper one.
    pub const TOLERANCE: f64 = 0.01;

    /// Whether the bounds agree to the tolerance.
    pub fn converged(&self) -> bool {
        self.state == LookState::Converged
    }

    /// The oracle's mark on the ladder of a step with this E\[X | T\]: the mass of the best tree of P nodes that is known, be it
    /// the one found, the drafter's, or the one that was verified.
    pub fn oracle(&self, expected: f64) -> f64 {
        self.oracle_lower.max(expected).max(self.drafter_best.unwrap_or(0.0))
    }
}

/// What a token looks like, by its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenClass {
    /// Begins a word: a space, then a letter.
    WordStart,
    /// Goes on with a word.
    WordPart,
    /// A digit.
    Digit,
    /// Punctuation.
    Punctuation,
    /// White space alone.
    Space,
    /// What seldom stands outside of code.
    Code,
    /// All else: control tokens, parts of characters, symbols.
    Other,
}

/// Why the drafter's tree did not hold the token that the target drew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An oracle with the same budget would have missed it too: it was drawn from the tail.
    Unlucky,
    /// The drafter ranked it no worse than the target does, and the budget or the shape left it out; or the tree was not grown
    /// so far down.
    Budget,
    /// The drafter had proposed it, at a worse rank than the target's.
    Ranking,
    /// The drafter had not proposed it.
    Knowledge,
}

/// The refusal that ended a step: the token that the target drew where the tree did not hold it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Miss {
    /// Depth at which the token would have stood, from 1.
    pub depth: usize,
    /// The token.
    pub token: TokenId,
    /// Its text, as in the tree.
    pub text: String,
    /// What it looks like.
    pub class: TokenClass,
    /// Its probability in the law that is sampled from.
    pub p: f64,
    /// Its probability at temperature 1 without top-p and top-k. None in records of versions that did not write it.
    #[serde(default)]
    pub p_plain: Option<f64>,
    /// Its path probability under the target: the product along the accepted path, its own p included.
    pub pi: f64,
    /// Its rank under the target, 0 for the arg-max.
    pub rank: usize,
    /// Its probability under the drafter. Null where the drafter had not proposed it.
    pub q: Option<f64>,
    /// Its rank among the drafter's proposals there, 0 for the best. Null where the drafter had not proposed it.
    pub draft_rank: Option<usize>,
    /// Whether the drafter was asked what comes there.
    pub asked: bool,
    /// Why, as far as is known without the oracle tree of this context: unlucky where the path probability lies below the floor
    /// of the fluid bound, and where at least P tokens are more likely at its own place.
    pub cause: Cause,
}

/// The fluid bound at length, from all positions since the warp last changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fluid {
    /// Positions that it comes from.
    pub positions: usize,
    /// The bound of a tree of P nodes, for P = 0, 1, 2, ...; not capped by the present budget.
    pub curve: Vec<f64>,
    /// What the bound would be if all contexts were of one kind, by their entropy. Real text mixes kinds, and contexts of a kind
    /// follow each other; the bound of the whole pool takes each as drawn anew.
    pub kinds: Vec<FluidKind>,
}

/// Positions whose law's entropy lies in one range, and their bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FluidKind {
    /// The range begins here, in nats, and ends where the next one begins.
    pub entropy_from: f64,
    /// Their share of all positions.
    pub share: f64,
    /// Mean entropy in nats; 0 of no position.
    pub mu: f64,
    /// The fluid bound from them alone, at the present budget. None of no position.
    pub fluid: Option<f64>,
}

/// Means over the steps at the present settings, with intervals by a bootstrap over steps ([`crate::theory::waves`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// Steps.
    pub steps: usize,
    /// Mean of E[accepted | T].
    pub expected: Option<Interval>,
    /// The fluid bound at this budget.
    pub fluid: Option<Interval>,
    /// Mean of E[accepted | T] over the fluid bound, both from the same weights. All None while it is too early.
    pub share: Option<Interval>,
    /// The mean of E[accepted | T] that `expected` is the interval of. None where that is.
    #[serde(default)]
    pub expected_mean: Option<f64>,
    /// The share that `share` is the interval of: a display takes both from here, since the newest mean is of a later moment.
    #[serde(default)]
    pub share_mean: Option<f64>,
}
