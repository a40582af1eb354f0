//! Candidates of a drafter, and the token tree that is drafted from them.

use crate::tree::{TokenId, TokenTree};
use crate::verify::{Proposal, Rule};

/// Token that a drafter proposes as a child of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Id in the target's vocabulary.
    pub token: TokenId,
    /// Drafter's probability of the token after the node. The candidates of one node sum to at most
    /// 1.
    pub q: f64,
}

/// Minimum number of candidates requested per node. A tree may need fewer; the others show what the
/// drafter knew when the target's token is missing.
pub(super) const WIDTH: usize = 8;

/// Candidate that was proposed but left out by the shape or the budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cut {
    /// Tree node below which it was proposed.
    pub parent: usize,
    /// Proposed token with its probability.
    pub candidate: Candidate,
}

/// Node that was drafted and then left out by the budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetCut {
    /// Parent, as an index into the tree followed by the nodes that were left out.
    pub parent: usize,
    /// Token with its probability.
    pub candidate: Candidate,
}

/// Maximum number of left-out nodes that are recorded.
const BUDGET_CUTS: usize = 64;

/// Token tree that is ready for verification, with the nodes left out of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Token tree to verify, root included.
    pub tree: TokenTree,
    /// Candidates proposed below nodes of the tree that are not in it.
    pub cut: Vec<Cut>,
    /// True for each tree node below which candidates were requested.
    pub expanded: Vec<bool>,
    /// Distributions from which the children of each node were sampled. Empty if the children are
    /// the drafter's best candidates.
    pub proposals: Vec<Proposal>,
    /// Rule by which the children were chosen and will be verified.
    pub rule: Rule,
    /// First nodes that [`Draft::truncate`] left out, in tree order. The parent of each is in the
    /// tree or comes before it in this list.
    pub budget_cut: Vec<BudgetCut>,
}

impl Draft {
    /// Creates a draft of the root alone, with no candidates requested.
    pub fn root_only(root: TokenId) -> Draft {
        Draft {
            tree: TokenTree::new(root),
            cut: Vec::new(),
            expanded: vec![false],
            proposals: Vec::new(),
            rule: Rule::Match,
            budget_cut: Vec::new(),
        }
    }

    /// Keeps the first `drafted` drafted nodes and cuts the others.
    pub fn truncate(&mut self, drafted: usize) {
        let node = |i| {
            let candidate = Candidate { token: self.tree.token(i), q: self.tree.q(i) };
            BudgetCut { parent: self.tree.parent(i).unwrap_or(0), candidate }
        };
        let nodes = (drafted + 1..self.tree.len()).map(node).chain(self.budget_cut.iter().copied());
        self.budget_cut = nodes.take(BUDGET_CUTS).collect();
        for i in drafted + 1..self.tree.len() {
            if let Some(parent) = self.tree.parent(i).filter(|&parent| parent <= drafted) {
                self.cut.push(Cut {
                    parent,
                    candidate: Candidate { token: self.tree.token(i), q: self.tree.q(i) },
                });
            }
        }
        self.cut.retain(|cut| cut.parent <= drafted);
        self.tree.truncate(drafted + 1);
        self.expanded.truncate(drafted + 1);
    }

    /// Clears `expanded` for nodes below which nothing was proposed. A drafter that runs a model
    /// always has candidates, unless its cost gate skipped the pass.
    pub fn clear_unexpanded(&mut self) {
        for node in 0..self.tree.len() {
            if self.tree.children(node).next().is_none()
                && self.cut.iter().all(|cut| cut.parent != node)
            {
                self.expanded[node] = false;
            }
        }
    }

    /// Returns the drafter's probability of `token` below `parent`, if it was proposed and cut.
    pub fn cut_q(&self, parent: usize, token: TokenId) -> Option<f64> {
        self.cut
            .iter()
            .find(|cut| cut.parent == parent && cut.candidate.token == token)
            .map(|cut| cut.candidate.q)
    }

    /// Returns the rank of `token` among all candidates below `parent`. Rank 0 is the best
    /// candidate. `None` unless the token was proposed there and cut.
    pub fn cut_rank(&self, parent: usize, token: TokenId) -> Option<usize> {
        let own = self.cut_q(parent, token)?;
        let before = |q: f64, other: TokenId| q > own || (q == own && other < token);
        let drafted = self
            .tree
            .children(parent)
            .filter(|&c| before(self.tree.q(c), self.tree.token(c)))
            .count();
        let cut = self
            .cut
            .iter()
            .filter(|cut| cut.parent == parent && before(cut.candidate.q, cut.candidate.token))
            .count();
        Some(drafted + cut)
    }
}
