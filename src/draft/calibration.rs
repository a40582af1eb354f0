//! What a drafter's probabilities are worth, by what was seen.

use crate::tree::TokenTree;

/// Classes of q.
const LEVELS: usize = 12;
/// Classes of depth: 1, 2, 3 and more.
const DEPTHS: usize = 3;
/// Nodes that the drafter's own word counts for, before anything was seen.
const PRIOR: f64 = 2.0;
/// What is left of an observation's weight after a step: texts change.
const KEEP: f64 = 0.99;

/// Maps the drafter's q of a node to the probability that the target gives it, learnt from verified trees.
///
/// A node counts with the probability that its parent is reached: contexts that the text does not come to teach nothing
/// about those that it does.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// For each class the sums of weights and of weighted p.
    cells: [[(f64, f64); LEVELS]; DEPTHS],
}

impl Default for Calibration {
    fn default() -> Self {
        Self { cells: [[(0.0, 0.0); LEVELS]; DEPTHS] }
    }
}

impl Calibration {
    /// The class of a node. Small q are told apart by their order of magnitude, large ones by their distance from 1.
    fn class(q: f64, depth: usize) -> (usize, usize) {
        let logit = (q / (1.0 - q).max(1e-9)).max(1e-9).ln();
        let level = (logit + 5.0).clamp(0.0, LEVELS as f64 - 1.0) as usize;
        (depth.clamp(1, DEPTHS) - 1, level)
    }

    /// Learns from a verified tree; `p(i)` is the target's probability of node i after its parent.
    pub fn learn(&mut self, tree: &TokenTree, p: impl Fn(usize) -> f64) {
        for (weight, mass) in self.cells.iter_mut().flatten() {
            *weight *= KEEP;
            *mass *= KEEP;
        }
        let reached = tree.path_products(&p);
        for i in tree.nodes() {
            let (depth, level) = Self::class(tree.q(i), tree.depth(i));
            let parent = reached[tree.parent(i).unwrap_or(0)];
            let (weight, mass) = &mut self.cells[depth][level];
            *weight += parent;
            *mass += parent * p(i);
        }
    }

    /// The target's probability of a node at `depth` to which the drafter gives `q`, as far as is known.
    pub fn p(&self, q: f64, depth: usize) -> f64 {
        let (depth, level) = Self::class(q, depth);
        let (weight, mass) = self.cells[depth][level];
        (mass + PRIOR * q) / (weight + PRIOR)
    }

    /// The probability of each drafted node to be accepted, by what is known.
    pub fn products(&self, tree: &TokenTree) -> Vec<f64> {
        tree.path_products(|i| self.p(tree.q(i), tree.depth(i))).split_off(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_first_the_drafter_is_believed_and_then_what_was_seen() {
        let mut known = Calibration::default();
        assert_eq!(known.p(0.7, 1), 0.7);
        let mut tree = TokenTree::new(0);
        let a = tree.push(0, 1, 0.7);
        tree.push(a, 2, 0.9);
        for _ in 0..200 {
            known.learn(&tree, |i| if i == a { 0.25 } else { 0.5 });
        }
        assert!((known.p(0.7, 1) - 0.25).abs() < 0.02, "{}", known.p(0.7, 1));
        // The child was reached in a quarter of the cases, and counts as much.
        assert!((known.p(0.9, 2) - 0.5).abs() < 0.05, "{}", known.p(0.9, 2));
        let products = known.products(&tree);
        assert!((products[1] / products[0] - known.p(0.9, 2)).abs() < 1e-12);
        // Another depth and another q were not seen.
        assert_eq!((known.p(0.9, 3), known.p(0.001, 1)), (0.9, 0.001));
    }

    #[test]
    fn every_q_has_a_class() {
        for q in [0.0, 1e-300, 0.5, 1.0 - 1e-16, 1.0] {
            let p = Calibration::default().p(q, 7);
            assert!((0.0..=1.0).contains(&p), "{q}: {p}");
        }
    }
}
