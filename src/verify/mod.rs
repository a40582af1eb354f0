//! Lossless verification of a deterministic draft tree by sample-and-match (bounds.md, "Setting").
//!
//! At each node, from the root down, the next token is drawn from the target's own law there. If a child carries it,
//! the walk goes on from that child; if none does, the token is put out as the bonus and the step ends. Every token
//! put out is therefore a draw from the target's law after the tokens before it: the tree decides how many come in a
//! step, never which. Greedy is the same walk with a law of one token.
//!
//! Where children are drawn from the drafter's law rather than taken by it, `rejection` is as lossless, and the text has the same law; but
//! what it says then depends on the draft, too. `block` verifies a chain that was drawn, as a whole.

mod block;
mod draws;
mod rejection;

pub use block::{Block, verify_block};
pub use draws::Draws;
pub use rejection::{Proposal, Rejection, verify_drawn};

use serde::{Deserialize, Serialize};

use crate::dist::{Law, NotFinite};
use crate::tree::{TokenId, TokenTree};

/// How a tree's children are taken from what the drafter proposes, and what is accepted of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The best ones; accepted is the one that the target draws (sample-and-match).
    #[default]
    Match,
    /// They are drawn from the drafter's law without replacement; accepted by recursive rejection.
    Rejection,
    /// The best ones but for the last, which is drawn from what is left; accepted by recursive rejection.
    GreedyFirst,
    /// One child a node, drawn from the drafter's law; the chain is accepted by block verification. For chains only.
    Block,
}

impl Rule {
    /// All rules, in the order of the key.
    pub const ALL: [Rule; 4] = [Rule::Match, Rule::Rejection, Rule::GreedyFirst, Rule::Block];

    /// Its name, as the person types it.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Match => "match",
            Rule::Rejection => "rejection",
            Rule::GreedyFirst => "greedy-first",
            Rule::Block => "block",
        }
    }

    /// The rule of this name.
    pub fn named(name: &str) -> Option<Rule> {
        Rule::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// What a walk down the tree put out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The accepted nodes, from just below the root down.
    pub path: Vec<usize>,
    /// The accepted tokens, then the bonus.
    pub emitted: Vec<TokenId>,
}

impl Verdict {
    /// The token that the target added itself.
    pub fn bonus(&self) -> TokenId {
        self.emitted[self.path.len()]
    }

    /// The last accepted node, the root if none was.
    pub fn last(&self) -> usize {
        self.path.last().copied().unwrap_or(0)
    }
}

/// Walks down `tree`. `law(node)` is the target's law after that node; `draw(d)` is the uniform random number in
/// \[0, 1) that belongs to the d-th token of this step, from 0. Each token is the one at that quantile of that law.
///
/// # Errors
/// If a law does not exist.
pub fn verify<'a>(
    tree: &TokenTree,
    mut law: impl FnMut(usize) -> Result<Law<'a>, NotFinite>,
    mut draw: impl FnMut(usize) -> f64,
) -> Result<Verdict, NotFinite> {
    let mut verdict = Verdict { path: Vec::new(), emitted: Vec::new() };
    loop {
        let at = verdict.last();
        let token = law(at)?.sample(draw(verdict.path.len()));
        verdict.emitted.push(token);
        match tree.child(at, token) {
            Some(child) => verdict.path.push(child),
            None => return Ok(verdict),
        }
    }
}
