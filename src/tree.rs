//! Token trees: drafted tokens with their parents, rooted at the pending token.
//!
//! Pure data, without a model: drafters grow a [`TokenTree`], the target scores it in one verify
//! pass, and [`verify`](crate::verify) selects the accepted path.

use std::ops::Range;

/// Index of a token in the vocabulary.
pub type TokenId = u32;

/// Token tree in topological order: parents precede children.
///
/// Node 0 is the root, the pending token: already emitted but not yet in the cache. Nodes `1..len`
/// are drafted. `len()` is therefore B, the number of tokens in one verify pass, and `drafted()` is
/// P = B - 1. The two are never interchangeable; bounds.md uses both.
///
/// # Examples
/// ```
/// use speclight::tree::TokenTree;
///
/// // Two candidates follow the root, and one follows the first of them.
/// let mut tree = TokenTree::new(7);
/// let first = tree.push(0, 1, 0.6);
/// tree.push(0, 2, 0.3);
/// tree.push(first, 3, 0.5);
/// assert_eq!((tree.len(), tree.drafted(), tree.max_depth()), (4, 3, 2));
///
/// // Target's probability of each node after its parent.
/// let p = [1.0, 0.5, 0.25, 0.5];
/// assert_eq!(tree.expected_accepted(|node| p[node]), 0.5 + 0.25 + 0.5 * 0.5);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TokenTree {
    tokens: Vec<TokenId>,
    parents: Vec<usize>,
    depths: Vec<usize>,
    q: Vec<f64>,
}

impl TokenTree {
    /// Creates a tree that holds only the root.
    pub fn new(root: TokenId) -> Self {
        Self { tokens: vec![root], parents: vec![0], depths: vec![0], q: vec![1.0] }
    }

    /// Adds a child of `parent` and returns its index.
    ///
    /// `q` is the drafter's probability of `token` given the path to `parent`.
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

    /// Reserves capacity for at least `nodes` more nodes.
    pub fn reserve(&mut self, nodes: usize) {
        self.tokens.reserve(nodes);
        self.parents.reserve(nodes);
        self.depths.reserve(nodes);
        self.q.reserve(nodes);
    }

    /// Drops all nodes from index `len` on, but never the root.
    pub fn truncate(&mut self, len: usize) {
        let len = len.max(1);
        self.tokens.truncate(len);
        self.parents.truncate(len);
        self.depths.truncate(len);
        self.q.truncate(len);
    }

    /// Returns B, the number of tokens in one verify pass, root included.
    #[allow(clippy::len_without_is_empty)] // a tree always has a root
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Returns P = B - 1, the number of drafted tokens.
    pub fn drafted(&self) -> usize {
        self.len() - 1
    }

    /// Returns the indices of the drafted nodes.
    pub fn nodes(&self) -> Range<usize> {
        1..self.len()
    }

    /// Returns the tokens of all nodes, root first.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Returns the token of node `i`.
    pub fn token(&self, i: usize) -> TokenId {
        self.tokens[i]
    }

    /// Returns the parent of node `i`, or `None` for the root.
    pub fn parent(&self, i: usize) -> Option<usize> {
        (i > 0).then(|| self.parents[i])
    }

    /// Returns the depth of node `i`: 0 for the root.
    ///
    /// A drafted node at depth d is the d-th drafted token of its path.
    pub fn depth(&self, i: usize) -> usize {
        self.depths[i]
    }

    /// Returns the depth of the deepest node: 0 without drafted nodes.
    pub fn max_depth(&self) -> usize {
        self.depths.iter().copied().max().unwrap_or(0)
    }

    /// Returns the drafter's probability of node `i` given its parent: 1 for the root.
    pub fn q(&self, i: usize) -> f64 {
        self.q[i]
    }

    /// Returns the children of node `i`, in the order in which they were added.
    pub fn children(&self, i: usize) -> impl Iterator<Item = usize> + '_ {
        (i + 1..self.len()).filter(move |&c| self.parents[c] == i)
    }

    /// Returns the child of node `i` that carries `token`.
    pub fn child(&self, i: usize, token: TokenId) -> Option<usize> {
        self.children(i).find(|&c| self.tokens[c] == token)
    }

    /// Returns the nodes from just below the root down to `i`, both ends included.
    ///
    /// Empty for the root.
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

    /// Returns for each node the product of `factor` along its path: 1 for the root.
    ///
    /// If `factor` is the target's probability of a node given its parent, this is pi(v) of
    /// bounds.md.
    pub fn path_products(&self, factor: impl Fn(usize) -> f64) -> Vec<f64> {
        let mut pi = Vec::with_capacity(self.len());
        pi.push(1.0);
        for i in self.nodes() {
            pi.push(pi[self.parents[i]] * factor(i));
        }
        pi
    }

    /// Returns E\[accepted | T\], the sum of pi over the drafted nodes.
    ///
    /// `p(i)` is the target's probability of node `i` given its parent (bounds.md, Setting).
    pub fn expected_accepted(&self, p: impl Fn(usize) -> f64) -> f64 {
        // Adding 0 turns -0, the sum of an empty iterator, into 0.
        self.path_products(p)[1..].iter().sum::<f64>() + 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undrafted_tree_expects_positive_zero() {
        let mut tree = TokenTree::new(1);
        assert!(tree.expected_accepted(|_| 0.5).is_sign_positive());
        tree.push(0, 2, 0.5);
        tree.push(1, 3, 0.5);
        assert_eq!(tree.expected_accepted(|_| 0.5), 0.75);
    }
}
