//! The draft tree: tokens with parents, the pending token as its root (pure).

use std::ops::Range;

/// A token's number in the vocabulary.
pub type TokenId = u32;

/// A token tree in topological order: node 0 is the root (the pending token, already emitted but not yet
/// in the cache), nodes `1..len` are drafted. `len()` is therefore the number B of tokens in one verify
/// pass, and `drafted()` is P = B - 1 (bounds.md writes both; neither stands for the other).
#[derive(Clone, Debug, PartialEq)]
pub struct TokenTree {
    tokens: Vec<TokenId>,
    parents: Vec<usize>,
    depths: Vec<usize>,
    q: Vec<f64>,
}

impl TokenTree {
    /// A tree of the root alone.
    pub fn new(root: TokenId) -> Self {
        Self { tokens: vec![root], parents: vec![0], depths: vec![0], q: vec![1.0] }
    }

    /// Adds a child that the drafter gives probability `q` after its parent; returns the new node's index.
    ///
    /// # Panics
    /// If `parent` is not a node yet. (Callers pass indices that this tree returned.)
    pub fn push(&mut self, parent: usize, token: TokenId, q: f64) -> usize {
        assert!(parent < self.len(), "parent {parent} of a tree of {} nodes", self.len());
        self.tokens.push(token);
        self.parents.push(parent);
        self.depths.push(self.depths[parent] + 1);
        self.q.push(q);
        self.len() - 1
    }

    /// Makes room for so many nodes more.
    pub fn reserve(&mut self, nodes: usize) {
        self.tokens.reserve(nodes);
        self.parents.reserve(nodes);
        self.depths.reserve(nodes);
        self.q.reserve(nodes);
    }

    /// Drops all nodes from `len` on; the root stays.
    pub fn truncate(&mut self, len: usize) {
        let len = len.max(1);
        self.tokens.truncate(len);
        self.parents.truncate(len);
        self.depths.truncate(len);
        self.q.truncate(len);
    }

    /// Tokens in one verify pass over this tree, the root included: B.
    #[allow(clippy::len_without_is_empty)] // a tree has a root, always
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Drafted tokens: P = B - 1.
    pub fn drafted(&self) -> usize {
        self.len() - 1
    }

    /// Indices of the drafted nodes.
    pub fn nodes(&self) -> Range<usize> {
        1..self.len()
    }

    /// The token of each node, the root first.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// The token of node `i`.
    pub fn token(&self, i: usize) -> TokenId {
        self.tokens[i]
    }

    /// The parent of node `i`; none for the root.
    pub fn parent(&self, i: usize) -> Option<usize> {
        (i > 0).then(|| self.parents[i])
    }

    /// Depth of node `i`; the root has depth 0, so a drafted node at depth d is the d-th drafted token of its path.
    pub fn depth(&self, i: usize) -> usize {
        self.depths[i]
    }

    /// Depth of the deepest node.
    pub fn max_depth(&self) -> usize {
        self.depths.iter().copied().max().unwrap_or(0)
    }

    /// The drafter's probability of node `i` after its parent (1 for the root).
    pub fn q(&self, i: usize) -> f64 {
        self.q[i]
    }

    /// The children of node `i`, in the order they were added.
    pub fn children(&self, i: usize) -> impl Iterator<Item = usize> + '_ {
        (i + 1..self.len()).filter(move |&c| self.parents[c] == i)
    }

    /// The child of node `i` that carries `token`.
    pub fn child(&self, i: usize, token: TokenId) -> Option<usize> {
        self.children(i).find(|&c| self.tokens[c] == token)
    }

    /// The nodes from just below the root to `i`, `i` included; empty for the root.
    pub fn path(&self, i: usize) -> Vec<usize> {
        let mut path = Vec::with_capacity(self.depths[i]);
        let mut at = i;
        while at > 0 {
            path.push(at);
            at = self.parents[at];
        }
        path.reverse();
        path
    }

    /// For each node the product of `factor` along its path, the root's being 1. With `factor` the target's
    /// probability of a node after its parent this is pi(v) of bounds.md.
    pub fn path_products(&self, factor: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut pi = Vec::with_capacity(self.len());
        pi.push(1.0);
        for i in self.nodes() {
            pi.push(pi[self.parents[i]] * factor(i));
        }
        pi
    }

    /// E[accepted | T]: the sum of pi over the drafted nodes (bounds.md, Setting), `p(i)` being the target's
    /// probability of node `i` after its parent.
    pub fn expected_accepted(&self, p: impl Fn(usize) -> f64) -> f64 {
        // The sum of no numbers is -0.
        self.path_products(p)[1..].iter().sum::<f64>() + 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_without_drafts_is_worth_zero_and_not_minus_zero() {
        let mut tree = TokenTree::new(1);
        assert!(tree.expected_accepted(|_| 0.5).is_sign_positive());
        tree.push(0, 2, 0.5);
        tree.push(1, 3, 0.5);
        assert_eq!(tree.expected_accepted(|_| 0.5), 0.75);
    }
}
