//! What a step taught about what was proposed in it.

use super::{Cut, Observation};
use crate::tree::TokenTree;

/// What the target says of the nodes of a verified tree and, as leaves after them, of what was proposed below nodes that the walk came
/// through and then left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// The nodes, those of the verified tree first.
    pub tree: TokenTree,
    /// The target's probability of each node after its parent, 1 for the root.
    pub p: Vec<f64>,
    /// What each counts for: the probability that its parent is reached, and 1 for what was left out, whose parent was. Contexts that
    /// the text does not come to teach nothing about those that it does.
    pub weight: Vec<f64>,
}

impl Verified {
    /// Of a verified tree with the target's `p` of each node, and of what was left out with its p.
    pub fn new(tree: &TokenTree, p: &[f64], left: &[(Cut, f64)]) -> Verified {
        let reached = tree.path_products(|i| p[i]);
        let own = (0..tree.len()).map(|i| tree.parent(i).map_or(1.0, |parent| reached[parent]));
        let weight = own.chain(left.iter().map(|_| 1.0)).collect();
        let p = p.iter().copied().chain(left.iter().map(|(_, p)| *p)).collect();
        let mut all = tree.clone();
        all.reserve(left.len());
        for (Cut { parent, candidate }, _) in left {
            all.push(*parent, candidate.token, candidate.q);
        }
        Verified { tree: all, p, weight }
    }

    /// What is known of node `i`.
    pub fn observation(&self, i: usize) -> Observation {
        Observation { q: self.tree.q(i), depth: self.tree.depth(i), weight: self.weight[i], p: self.p[i] }
    }

    /// The same of each.
    pub fn observations(&self) -> impl Iterator<Item = Observation> + '_ {
        self.tree.nodes().map(|i| self.observation(i))
    }
}
