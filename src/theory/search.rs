//! Best-first search for the tree of the largest path probabilities, with bounds on its mass.
//!
//! See bounds.md, "Best tree of P nodes" and "Oracle tree".
//!
//! The caller supplies the distribution below each node: with the drafter's, the result is the
//! drafter's best tree; with the target's, the oracle tree, whose mass no tree of P nodes exceeds
//! in this context.
//!
//! The best P of all candidates known so far are kept; those whose children are unknown can be
//! expanded, in batches. A candidate that falls out of the best P can't come back, and a child
//! never comes before its parent, so that the remaining tree is optimal once there is nothing left
//! to expand. The last of P needs no expansion: its children come after it.

use std::cmp::Ordering;

use crate::tree::{TokenId, TokenTree};

/// Candidate for a node of the tree.
#[derive(Clone, Copy, Debug)]
struct SearchNode {
    /// Product of p along its path, its own included.
    pi: f64,
    depth: usize,
    token: TokenId,
    /// Probability given its parent.
    p: f64,
    /// Index of its parent among the explored nodes.
    parent: usize,
    /// Index among the explored nodes, once it is one of them.
    node: Option<usize>,
    /// True once its children are known.
    expanded: bool,
}

impl SearchNode {
    /// Orders by descending path probability; ties to the lower depth, then the lower id.
    ///
    /// A parent never comes after its child, since p <= 1.
    fn order(a: &SearchNode, b: &SearchNode) -> Ordering {
        (b.pi.total_cmp(&a.pi))
            .then(a.depth.cmp(&b.depth))
            .then(a.token.cmp(&b.token))
            .then(a.parent.cmp(&b.parent))
    }
}

/// Known candidate that is not in the tree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnusedCandidate {
    /// Node of the tree that would be its parent.
    pub parent: usize,
    /// Token of the candidate.
    pub token: TokenId,
    /// Probability of the token given its parent.
    pub p: f64,
}

/// Best tree known at some point of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct FoundTree {
    /// Best P nodes known, in descending order of path probability.
    pub tree: TokenTree,
    /// Candidates below nodes of the tree that are not in it.
    pub unused: Vec<UnusedCandidate>,
    /// True for each node of the tree whose children are known.
    pub expanded: Vec<bool>,
}

/// Search for the best P nodes below a root, up to a maximum depth.
#[derive(Clone, Debug)]
pub struct TreeSearch {
    drafted: usize,
    depth: usize,
    explored: TokenTree,
    /// Path probability of each explored node.
    pi: Vec<f64>,
    /// Best P candidates known, in order; then all others.
    best: Vec<SearchNode>,
    rest: Vec<SearchNode>,
    root_expanded: bool,
}

impl TreeSearch {
    /// Starts a search for the best `drafted` = P nodes below `root`, up to `depth`.
    pub fn new(root: TokenId, drafted: usize, depth: usize) -> Self {
        let (best, rest) = (Vec::new(), Vec::new());
        Self {
            drafted,
            depth,
            explored: TokenTree::new(root),
            pi: vec![1.0],
            best,
            rest,
            root_expanded: false,
        }
    }

    /// Returns the nodes that [`TreeSearch::next_to_expand`] has returned, by index; the root is 0.
    pub fn explored(&self) -> &TokenTree {
        &self.explored
    }

    /// Returns the nodes to expand next, at most `most`, best first.
    ///
    /// A node is returned only once its parent is expanded. Empty when the best tree is found.
    pub fn next_to_expand(&mut self, most: usize) -> Vec<usize> {
        if self.drafted == 0 || self.depth == 0 {
            return Vec::new();
        }
        if !self.root_expanded {
            return vec![0];
        }
        let mut nodes = Vec::new();
        for item in self.best.iter_mut().take(self.drafted - 1) {
            if nodes.len() == most {
                break;
            }
            if !item.expanded && item.depth < self.depth {
                let node = *item.node.get_or_insert_with(|| {
                    self.pi.push(item.pi);
                    self.explored.push(item.parent, item.token, item.p)
                });
                nodes.push(node);
            }
        }
        nodes
    }

    /// Supplies the children of nodes that [`TreeSearch::next_to_expand`] returned.
    ///
    /// Each child is a token, at most once, and its probability given its parent. Children of
    /// probability 0 are dropped. No more than the P best of a node are needed.
    pub fn expand(
        &mut self,
        nodes: &[usize],
        children: impl IntoIterator<Item = impl IntoIterator<Item = (TokenId, f64)>>,
    ) {
        for (&parent, children) in nodes.iter().zip(children) {
            if parent == 0 {
                self.root_expanded = true;
            } else if let Some(item) = self.best.iter_mut().find(|item| item.node == Some(parent)) {
                item.expanded = true;
            }
            let (above, depth) = (self.pi[parent], self.explored.depth(parent) + 1);
            self.best.extend(children.into_iter().filter(|(_, p)| *p > 0.0).map(|(token, p)| {
                let p = p.min(1.0);
                SearchNode { pi: above * p, depth, token, p, parent, node: None, expanded: false }
            }));
        }
        self.best.sort_by(SearchNode::order);
        let most = self.drafted.min(self.best.len());
        self.rest.extend(self.best.drain(most..));
    }

    /// Returns the mass of the best P nodes known, which an existing tree has.
    pub fn lower(&self) -> f64 {
        // An empty sum is -0.0.
        self.best.iter().map(|item| item.pi).sum::<f64>() + 0.0
    }

    /// Returns an upper bound on the mass of any tree of P nodes.
    ///
    /// Sums the known nodes, and counts each missing or worse one as the best node whose children
    /// are unknown, since no unknown node can be better.
    pub fn upper(&self) -> f64 {
        let unknown = if self.drafted == 0 || self.depth == 0 {
            0.0
        } else if !self.root_expanded {
            1.0
        } else {
            self.best
                .iter()
                .find(|item| !item.expanded && item.depth < self.depth)
                .map_or(0.0, |item| item.pi)
        };
        (0..self.drafted)
            .map(|i| self.best.get(i).map_or(0.0, |item| item.pi).max(unknown))
            .sum::<f64>()
            + 0.0
    }

    /// Returns the least path probability of the best P nodes known.
    ///
    /// It is 0 while there are fewer than P, and only rises.
    pub fn least_path_probability(&self) -> f64 {
        self.drafted.checked_sub(1).and_then(|last| self.best.get(last)).map_or(0.0, |item| item.pi)
    }

    /// Continues the search for a larger tree of `drafted` nodes; ignores a smaller number.
    pub fn widen(&mut self, drafted: usize) {
        if drafted > self.drafted {
            self.drafted = drafted;
            self.best.append(&mut self.rest);
            self.best.sort_by(SearchNode::order);
            let most = self.drafted.min(self.best.len());
            self.rest.extend(self.best.drain(most..));
        }
    }

    /// Iterates over the path probabilities of the best P nodes known, descending.
    pub fn path_probabilities(&self) -> impl Iterator<Item = f64> + '_ {
        self.best.iter().map(|item| item.pi)
    }

    /// Returns an upper bound on the path probability of any node outside the best P.
    ///
    /// These are nodes below one that is not expanded, and candidates beyond P.
    pub fn unknown(&self) -> f64 {
        if self.depth == 0 {
            return 0.0;
        }
        if !self.root_expanded {
            return 1.0;
        }
        let open = self
            .best
            .iter()
            .find(|item| !item.expanded && item.depth < self.depth)
            .map_or(0.0, |item| item.pi);
        let beyond = self.rest.iter().map(|item| item.pi).fold(0.0, f64::max);
        open.max(beyond)
    }

    /// Returns the best tree known so far, and the candidates left out.
    pub fn found(&self) -> FoundTree {
        // Maps explored nodes to nodes of the tree.
        let mut place = vec![None; self.explored.len()];
        place[0] = Some(0);
        let mut tree = TokenTree::new(self.explored.token(0));
        let mut expanded = vec![self.root_expanded];
        for item in &self.best {
            if let Some(parent) = place[item.parent] {
                let node = tree.push(parent, item.token, item.p);
                expanded.push(item.expanded);
                if let Some(explored) = item.node {
                    place[explored] = Some(node);
                }
            }
        }
        let unused = |item: &SearchNode| {
            place[item.parent].map(|parent| UnusedCandidate {
                parent,
                token: item.token,
                p: item.p,
            })
        };
        FoundTree { unused: self.rest.iter().filter_map(unused).collect(), tree, expanded }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const VOCAB: u32 = 3;

    /// Distribution below a path, from a table of few values, so that ties are common.
    fn probabilities_after(table: &[u8], path: &[TokenId]) -> Vec<(TokenId, f64)> {
        let at =
            path.iter().fold(1usize, |at, &t| at * VOCAB as usize + t as usize) * VOCAB as usize;
        (0..VOCAB).map(|t| (t, f64::from(table[(at + t as usize) % table.len()]) / 12.0)).collect()
    }

    /// Path probabilities of all paths of at most `depth` tokens, descending.
    fn all(table: &[u8], depth: usize) -> Vec<f64> {
        let (mut open, mut all) = (vec![(Vec::new(), 1.0)], Vec::new());
        while let Some((path, pi)) = open.pop() {
            for (token, p) in probabilities_after(table, &path).into_iter().filter(|c| c.1 > 0.0) {
                all.push(pi * p);
                if path.len() + 1 < depth {
                    open.push(([&path[..], &[token]].concat(), pi * p));
                }
            }
        }
        all.sort_by(|a, b| b.total_cmp(a));
        all
    }

    #[test]
    fn empty_search_expands_no_node() {
        for (drafted, depth) in [(0, 5), (5, 0), (0, 0)] {
            let mut search = TreeSearch::new(7, drafted, depth);
            assert!(search.next_to_expand(9).is_empty());
            assert_eq!(
                (
                    search.lower(),
                    search.upper(),
                    search.least_path_probability(),
                    search.found().tree.len()
                ),
                (0.0, 0.0, 0.0, 1)
            );
        }
        // Before any expansion every mass is possible.
        let mut search = TreeSearch::new(7, 5, 5);
        assert_eq!((search.next_to_expand(9), search.lower(), search.upper()), (vec![0], 0.0, 5.0));
    }

    proptest! {
        #[test]
        fn bounds_enclose_the_optimum_and_meet_there(
            table in prop::collection::vec(0u8..5, 30..400), drafted in 1usize..30, depth in 1usize..6, most in 1usize..9
        ) {
            let mut best = all(&table, depth);
            best.truncate(drafted);
            let optimum: f64 = best.iter().sum();
            let mut search = TreeSearch::new(0, drafted, depth);
            let (mut upper, mut lower, mut floor) = (search.upper(), search.lower(), search.least_path_probability());
            let mut passes = 0;
            loop {
                let nodes = search.next_to_expand(most);
                prop_assert!(nodes.len() <= most);
                if nodes.is_empty() {
                    break;
                }
                // Called again without new children, it returns the same nodes.
                prop_assert_eq!(search.next_to_expand(most), nodes.clone());
                let path = |&n: &usize| search.explored().path(n).into_iter().map(|n| search.explored().token(n)).collect();
                let children: Vec<_> = nodes.iter().map(path).map(|path: Vec<u32>| probabilities_after(&table, &path)).collect();
                search.expand(&nodes, children);
                passes += 1;
                // The bounds close from both sides, and the optimum stays between them.
                prop_assert!(search.upper() <= upper + 1e-12 && search.lower() >= lower - 1e-12 && search.least_path_probability() >= floor);
                (upper, lower, floor) = (search.upper(), search.lower(), search.least_path_probability());
                prop_assert!(lower <= optimum + 1e-9 && optimum <= upper + 1e-9, "{} {} {}", lower, optimum, upper);
            }
            prop_assert!((lower - optimum).abs() < 1e-9 && (upper - lower).abs() < 1e-9, "{} {} {}", lower, optimum, upper);
            prop_assert_eq!(search.least_path_probability(), best.get(drafted - 1).copied().unwrap_or(0.0));
            let found = search.found();
            prop_assert_eq!(found.tree.drafted(), best.len());
            prop_assert!((found.tree.expected_accepted(|i| found.tree.q(i)) - optimum).abs() < 1e-9);
            if most >= drafted {
                prop_assert!(passes <= depth);
            }
        }
    }
}
