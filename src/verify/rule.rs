//! Verification rules by name, and the result of a verification.

use serde::{Deserialize, Serialize};

use crate::tree::TokenId;

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
