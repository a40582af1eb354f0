//! Outcome of a verify pass, as feedback for drafters.

use super::calibration::Observation;
use super::draft_tree::Cut;
use crate::tree::TokenTree;

/// Target probabilities of all candidates that a verify pass evaluated.
///
/// These are the nodes of the verified tree, followed by the candidates that were cut from below
/// the nodes on the accepted path. The latter are added as leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyFeedback {
    /// Nodes of the verified tree, then the cut candidates.
    pub tree: TokenTree,
    /// Target's probability of each node after its parent; 1 for the root.
    pub p: Vec<f64>,
    /// Weight of each node as an observation. It is the probability that the node's parent is
    /// reached. Contexts that the text never reaches teach nothing about those that it does. The
    /// parent of a cut candidate was reached, so its weight is 1.
    pub weight: Vec<f64>,
}

impl VerifyFeedback {
    /// Combines a verified tree and its `p` with cut candidates and theirs. `p` has the target's
    /// probability of each node, and `left_out` that of each cut candidate.
    pub fn new(tree: &TokenTree, p: &[f64], left_out: &[(Cut, f64)]) -> VerifyFeedback {
        let reached = tree.path_products(|i| p[i]);
        let own = (0..tree.len()).map(|i| tree.parent(i).map_or(1.0, |parent| reached[parent]));
        let weight = own.chain(left_out.iter().map(|_| 1.0)).collect();
        let p = p.iter().copied().chain(left_out.iter().map(|(_, p)| *p)).collect();
        let mut all = tree.clone();
        all.reserve(left_out.len());
        for (Cut { parent, candidate }, _) in left_out {
            all.push(*parent, candidate.token, candidate.q);
        }
        VerifyFeedback { tree: all, p, weight }
    }

    /// Returns node `i` as an observation for [`super::Calibration`].
    pub fn observation(&self, i: usize) -> Observation {
        Observation {
            q: self.tree.q(i),
            depth: self.tree.depth(i),
            weight: self.weight[i],
            p: self.p[i],
        }
    }

    /// Returns the observations of all nodes but the root.
    pub fn observations(&self) -> impl Iterator<Item = Observation> + '_ {
        self.tree.nodes().map(|i| self.observation(i))
    }
}
