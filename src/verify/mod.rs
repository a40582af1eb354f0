//! Lossless verification of token trees, by one of the rules of [`Rule`].
//!
//! Sample-and-match ([`verify()`]; bounds.md, "Setting") samples the next token from the target's
//! distribution at each node, from the root down. If a child carries the token, the walk continues
//! there; if none does, the token is emitted as the bonus and the step ends. The tree thus
//! determines how many tokens a step emits, never which. Greedy decoding is the same walk with a
//! distribution of one token. If children are sampled from the drafter, [`verify_rejection`] and
//! [`verify_block`] keep the text's distribution, but a given seed's text then depends on the
//! draft.

mod block;
mod random;
mod rejection;

pub use block::{BlockAcceptance, verify_block};
pub use random::TextRandom;
pub use rejection::{Proposal, Rejection, verify_rejection};

use serde::{Deserialize, Serialize};

use crate::distribution::{NotFinite, TokenDist};
use crate::tree::{TokenId, TokenTree};

/// Verification rule: selects a node's children among the candidates and accepts some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Sample-and-match: takes the best candidates, accepts the one that the target samples.
    #[default]
    Match,
    /// Recursive rejection of children sampled from the drafter without replacement.
    Rejection,
    /// Recursive rejection of the drafter's best candidates and a sampled last child.
    ///
    /// The last one is sampled from the remaining candidates.
    GreedyFirst,
    /// Block verification of a chain, with one child per node sampled from the drafter.
    Block,
}

impl Rule {
    /// All rules, in the order in which the monitor cycles through them.
    pub const ALL: [Rule; 4] = [Rule::Match, Rule::Rejection, Rule::GreedyFirst, Rule::Block];

    /// Returns the rule's name, as accepted by [`Rule::from_name`].
    pub fn name(self) -> &'static str {
        match self {
            Rule::Match => "match",
            Rule::Rejection => "rejection",
            Rule::GreedyFirst => "greedy-first",
            Rule::Block => "block",
        }
    }

    /// Returns the rule called `name`.
    pub fn from_name(name: &str) -> Option<Rule> {
        Rule::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// Result of a walk down the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Accepted nodes, from just below the root down.
    pub path: Vec<usize>,
    /// Accepted tokens, then the bonus token.
    pub emitted: Vec<TokenId>,
}

impl Verdict {
    /// Returns the bonus token, which the target added itself.
    pub fn bonus(&self) -> TokenId {
        self.emitted[self.path.len()]
    }

    /// Returns the last accepted node, or the root if none was accepted.
    pub fn last_accepted(&self) -> usize {
        self.path.last().copied().unwrap_or(0)
    }
}

/// Verifies `tree` by sample-and-match.
///
/// `dist(node)` is the target's distribution after that node, and `draw(d)` the uniform random
/// number in \[0, 1) of the step's d-th token, from 0. Each token is the quantile of its
/// distribution at its number.
///
/// # Errors
/// If a distribution does not exist.
pub fn verify<'a>(
    tree: &TokenTree,
    mut dist: impl FnMut(usize) -> Result<TokenDist<'a>, NotFinite>,
    mut draw: impl FnMut(usize) -> f64,
) -> Result<Verdict, NotFinite> {
    let mut verdict = Verdict { path: Vec::new(), emitted: Vec::new() };
    loop {
        let at = verdict.last_accepted();
        let token = dist(at)?.sample(draw(verdict.path.len()));
        verdict.emitted.push(token);
        match tree.child(at, token) {
            Some(child) => verdict.path.push(child),
            None => return Ok(verdict),
        }
    }
}
