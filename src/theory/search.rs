//! The tree of the largest path probabilities, by best-first expansion, and how near it is while it is not finished
//! (bounds.md, "Best tree of P nodes" and "Oracle tree").
//!
//! The law below a node is told by the caller: a drafter's, and this is the drafter's best tree; the target's, and it is the
//! oracle tree, whose mass no tree of P nodes exceeds in this context.
//!
//! Of all candidates known so far the best P are kept; those of them whose children are unknown can be expanded, in batches. What
//! falls out of the best P can't come back, and a child never comes before its parent, so that what stays when there is nothing
//! left to expand is the best tree. The last of P needs no expansion: its children come after it.

use std::cmp::Ordering;

use crate::tree::{TokenId, TokenTree};

/// A candidate on its way into the tree.
#[derive(Clone, Copy, Debug)]
struct Item {
    /// Product of p along its path, its own included.
    pi: f64,
    depth: usize,
    token: TokenId,
    /// Its probability after its parent.
    p: f64,
    /// Its parent among the explored nodes.
    parent: usize,
    /// Its own index among the explored nodes, once it is one.
    node: Option<usize>,
    /// Whether its children are known.
    expanded: bool,
}

impl Item {
    /// Falling path probability; ties to the lower depth, then the lower id. A parent never comes after its child,
    /// since p <= 1.
    fn order(a: &Item, b: &Item) -> Ordering {
        (b.pi.total_cmp(&a.pi)).then(a.depth.cmp(&b.depth)).then(a.token.cmp(&b.token)).then(a.parent.cmp(&b.parent))
    }
}

/// A candidate that was told of and is not in the tree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    /// The node of the tree that it would have hung under.
    pub parent: usize,
    /// Its token.
    pub token: TokenId,
    /// Its probability after its parent.
    pub p: f64,
}

/// A tree as far as it is found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The best P nodes known, in falling order of their path probability.
    pub tree: TokenTree,
    /// What was told of below nodes of the tree and is not in it.
    pub left: Vec<Left>,
    /// For each node of the tree whether its children were told.
    pub expanded: Vec<bool>,
}

/// A search for the best P nodes below a root, up to a depth.
#[derive(Clone, Debug)]
pub struct Search {
    drafted: usize,
    depth: usize,
    explored: TokenTree,
    /// Path probability of each explored node.
    pi: Vec<f64>,
    /// The best P candidates known, in order; those that are worse.
    best: Vec<Item>,
    rest: Vec<Item>,
    root_expanded: bool,
}

impl Search {
    /// A search for the best `drafted` = P nodes below `root`, none deeper than `depth`.
    pub fn new(root: TokenId, drafted: usize, depth: usize) -> Self {
        let (best, rest) = (Vec::new(), Vec::new());
        Self { drafted, depth, explored: TokenTree::new(root), pi: vec![1.0], best, rest, root_expanded: false }
    }

    /// The nodes that [`Search::open`] gave out, by their numbers; the root is 0.
    pub fn explored(&self) -> &TokenTree {
        &self.explored
    }

    /// The nodes to be expanded next, at most `most`, the best first, parents expanded before. Empty when the tree is found.
    pub fn open(&mut self, most: usize) -> Vec<usize> {
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

    /// Tells the children of nodes that [`Search::open`] gave out: token and probability after its parent, none twice. Those of
    /// probability 0 are left out. Of a node no more than the P best are needed.
    pub fn expand(&mut self, nodes: &[usize], children: impl IntoIterator<Item = impl IntoIterator<Item = (TokenId, f64)>>) {
        for (&parent, children) in nodes.iter().zip(children) {
            if parent == 0 {
                self.root_expanded = true;
            } else if let Some(item) = self.best.iter_mut().find(|item| item.node == Some(parent)) {
                item.expanded = true;
            }
            let (above, depth) = (self.pi[parent], self.explored.depth(parent) + 1);
            self.best.extend(children.into_iter().filter(|(_, p)| *p > 0.0).map(|(token, p)| {
                let p = p.min(1.0);
                Item { pi: above * p, depth, token, p, parent, node: None, expanded: false }
            }));
        }
        self.best.sort_by(Item::order);
        let most = self.drafted.min(self.best.len());
        self.rest.extend(self.best.drain(most..));
    }

    /// The mass of the best P nodes known: a tree that has it exists.
    pub fn lower(&self) -> f64 {
        // The sum of no numbers is -0.
        self.best.iter().map(|item| item.pi).sum::<f64>() + 0.0
    }

    /// The mass that no tree of P nodes exceeds: that of the nodes known, and of as many as are missing or worse, each as good as
    /// the best whose children are not known, since none that is unknown can be better.
    pub fn upper(&self) -> f64 {
        let unknown = if self.drafted == 0 || self.depth == 0 {
            0.0
        } else if !self.root_expanded {
            1.0
        } else {
            self.best.iter().find(|item| !item.expanded && item.depth < self.depth).map_or(0.0, |item| item.pi)
        };
        (0..self.drafted).map(|i| self.best.get(i).map_or(0.0, |item| item.pi).max(unknown)).sum::<f64>() + 0.0
    }

    /// The least path probability of the best P nodes known; 0 while there are fewer. It only rises.
    pub fn floor(&self) -> f64 {
        self.drafted.checked_sub(1).and_then(|last| self.best.get(last)).map_or(0.0, |item| item.pi)
    }

    /// Searches on for a larger tree of `drafted` nodes; a smaller number changes nothing.
    pub fn widen(&mut self, drafted: usize) {
        if drafted > self.drafted {
            self.drafted = drafted;
            self.best.append(&mut self.rest);
            self.best.sort_by(Item::order);
            let most = self.drafted.min(self.best.len());
            self.rest.extend(self.best.drain(most..));
        }
    }

    /// Path probabilities of the best P nodes known, falling.
    pub fn path_probabilities(&self) -> impl Iterator<Item = f64> + '_ {
        self.best.iter().map(|item| item.pi)
    }

    /// Upper bound on the path probability of any node that is not among the best P known: of a node below one that is not
    /// expanded, and of candidates beyond P.
    pub fn unknown(&self) -> f64 {
        if self.depth == 0 {
            return 0.0;
        }
        if !self.root_expanded {
            return 1.0;
        }
        let open = self.best.iter().find(|item| !item.expanded && item.depth < self.depth).map_or(0.0, |item| item.pi);
        let beyond = self.rest.iter().map(|item| item.pi).fold(0.0, f64::max);
        open.max(beyond)
    }

    /// The tree as far as it is found.
    pub fn found(&self) -> Found {
        // From explored nodes to those of the tree.
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
        let left = |item: &Item| place[item.parent].map(|parent| Left { parent, token: item.token, p: item.p });
        Found { left: self.rest.iter().filter_map(left).collect(), tree, expanded }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const VOCAB: u32 = 3;

    /// The law below a path, from a table: few values, so that ties abound.
    fn law(table: &[u8], path: &[TokenId]) -> Vec<(TokenId, f64)> {
        let at = path.iter().fold(1usize, |at, &t| at * VOCAB as usize + t as usize) * VOCAB as usize;
        (0..VOCAB).map(|t| (t, f64::from(table[(at + t as usize) % table.len()]) / 12.0)).collect()
    }

    /// Path probabilities of all paths of at most `depth` tokens, falling.
    fn all(table: &[u8], depth: usize) -> Vec<f64> {
        let (mut open, mut all) = (vec![(Vec::new(), 1.0)], Vec::new());
        while let Some((path, pi)) = open.pop() {
            for (token, p) in law(table, &path).into_iter().filter(|c| c.1 > 0.0) {
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
    fn nothing_is_searched_for_nothing() {
        for (drafted, depth) in [(0, 5), (5, 0), (0, 0)] {
            let mut search = Search::new(7, drafted, depth);
            assert!(search.open(9).is_empty());
            assert_eq!((search.lower(), search.upper(), search.floor(), search.found().tree.len()), (0.0, 0.0, 0.0, 1));
        }
        // Before anything is known anything is possible.
        let mut search = Search::new(7, 5, 5);
        assert_eq!((search.open(9), search.lower(), search.upper()), (vec![0], 0.0, 5.0));
    }

    proptest! {
        #[test]
        fn bounds_enclose_the_optimum_and_meet_there(
            table in prop::collection::vec(0u8..5, 30..400), drafted in 1usize..30, depth in 1usize..6, most in 1usize..9
        ) {
            let mut best = all(&table, depth);
            best.truncate(drafted);
            let optimum: f64 = best.iter().sum();
            let mut search = Search::new(0, drafted, depth);
            let (mut upper, mut lower, mut floor) = (search.upper(), search.lower(), search.floor());
            let mut passes = 0;
            loop {
                let nodes = search.open(most);
                prop_assert!(nodes.len() <= most);
                if nodes.is_empty() {
                    break;
                }
                // Asked again without an answer, it asks the same.
                prop_assert_eq!(search.open(most), nodes.clone());
                let path = |&n: &usize| search.explored().path(n).into_iter().map(|n| search.explored().token(n)).collect();
                let children: Vec<_> = nodes.iter().map(path).map(|path: Vec<u32>| law(&table, &path)).collect();
                search.expand(&nodes, children);
                passes += 1;
                // The bounds close from both sides, and the optimum stays between them.
                prop_assert!(search.upper() <= upper + 1e-12 && search.lower() >= lower - 1e-12 && search.floor() >= floor);
                (upper, lower, floor) = (search.upper(), search.lower(), search.floor());
                prop_assert!(lower <= optimum + 1e-9 && optimum <= upper + 1e-9, "{} {} {}", lower, optimum, upper);
            }
            prop_assert!((lower - optimum).abs() < 1e-9 && (upper - lower).abs() < 1e-9, "{} {} {}", lower, optimum, upper);
            prop_assert_eq!(search.floor(), best.get(drafted - 1).copied().unwrap_or(0.0));
            let found = search.found();
            prop_assert_eq!(found.tree.drafted(), best.len());
            prop_assert!((found.tree.expected_accepted(|i| found.tree.q(i)) - optimum).abs() < 1e-9);
            if most >= drafted {
                prop_assert!(passes <= depth);
            }
        }
    }
}
