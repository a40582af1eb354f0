//! The tree of the largest path probabilities.

use std::cmp::Ordering;

use super::{Cut, Draft, Limits};
use crate::draft::{Candidate, Context, DraftError, Drafter};
use crate::tree::{TokenId, TokenTree};

/// A candidate on its way into the tree.
#[derive(Clone, Copy, Debug)]
struct Item {
    /// Product of q along its path, its own included.
    path_q: f64,
    depth: usize,
    candidate: Candidate,
    /// Its parent among the explored nodes.
    parent: usize,
    /// Its own index among the explored nodes, once it is one.
    node: Option<usize>,
}

impl Item {
    /// Falling path probability; ties to the lower depth, then the lower id. A parent never comes after its child,
    /// since q <= 1.
    fn order(a: &Item, b: &Item) -> Ordering {
        (b.path_q.total_cmp(&a.path_q))
            .then(a.depth.cmp(&b.depth))
            .then(a.candidate.token.cmp(&b.candidate.token))
            .then(a.parent.cmp(&b.parent))
    }
}

/// The B - 1 nodes of highest path probability under the drafter, exactly (bounds.md, "Best tree of P nodes").
///
/// Of all candidates known so far the best P are kept; those of them whose children are unknown are expanded in one
/// batch, until there are none. What falls out of the best P can't come back, and a child never comes before its
/// parent, so what stays is the best tree. The last of P needs no expansion: its children come after it.
pub(super) fn grow(root: TokenId, drafter: &mut dyn Drafter, cx: &mut Context, limits: Limits) -> Result<Draft, DraftError> {
    let drafted = limits.budget.saturating_sub(1);
    let mut explored = TokenTree::new(root);
    let mut path_q = vec![1.0];
    let (mut best, mut rest): (Vec<Item>, Vec<Item>) = (Vec::new(), Vec::new());
    let mut frontier = if drafted > 0 && limits.depth > 0 { vec![0] } else { Vec::new() };
    while !frontier.is_empty() {
        let proposed = drafter.propose(cx, &explored, &frontier, drafted)?;
        for (&parent, candidates) in frontier.iter().zip(proposed) {
            best.extend(candidates.into_iter().filter(|c| c.q > 0.0).map(|c| {
                let candidate = Candidate { q: c.q.min(1.0), ..c };
                Item { path_q: path_q[parent] * candidate.q, depth: explored.depth(parent) + 1, candidate, parent, node: None }
            }));
        }
        best.sort_by(Item::order);
        rest.extend(best.drain(drafted.min(best.len())..));
        frontier.clear();
        for item in best.iter_mut().take(drafted - 1) {
            if item.node.is_none() && item.depth < limits.depth {
                let node = explored.push(item.parent, item.candidate.token, item.candidate.q);
                path_q.push(item.path_q);
                item.node = Some(node);
                frontier.push(node);
            }
        }
    }
    // From explored nodes to those of the tree.
    let mut place = vec![None; explored.len()];
    place[0] = Some(0);
    let mut tree = TokenTree::new(root);
    for item in &best {
        if let Some(parent) = place[item.parent] {
            let node = tree.push(parent, item.candidate.token, item.candidate.q);
            if let Some(explored) = item.node {
                place[explored] = Some(node);
            }
        }
    }
    let cut = rest.iter().filter_map(|item| place[item.parent].map(|parent| Cut { parent, candidate: item.candidate })).collect();
    Ok(Draft { tree, cut })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::dist::Warp;
    use crate::draft::shape::testing::Fixed;
    use crate::engine::testing::TableDecoder;

    const VOCAB: u32 = 3;

    /// Weights of each path of up to 5 tokens, from a table: few values, so that ties abound.
    fn law(table: &[u8], path: &[TokenId]) -> Vec<Candidate> {
        let at = path.iter().fold(1usize, |at, &t| at * VOCAB as usize + t as usize) * VOCAB as usize;
        let weight = |t: u32| f64::from(table[(at + t as usize) % table.len()]);
        (0..VOCAB).map(|token| Candidate { token, q: weight(token) / 8.0 }).collect()
    }

    fn enumerate(table: &[u8], path: &mut Vec<TokenId>, q: f64, depth: usize, all: &mut Vec<(f64, Vec<TokenId>)>) {
        if path.len() == depth {
            return;
        }
        for c in law(table, path).into_iter().filter(|c| c.q > 0.0) {
            path.push(c.token);
            all.push((q * c.q, path.clone()));
            enumerate(table, path, q * c.q, depth, all);
            path.pop();
        }
    }

    fn grown(table: &[u8], budget: usize, depth: usize) -> (Draft, usize) {
        let mut fixed = Fixed { law: |path: &[TokenId]| law(table, path), rounds: 0 };
        let mut target = TableDecoder::new(VOCAB as usize, 0);
        let mut cx = Context { tokens: &[0], target: &mut target, warp: &Warp::PLAIN, stop: &[] };
        let draft = grow(0, &mut fixed, &mut cx, Limits { budget, depth }).unwrap();
        (draft, fixed.rounds)
    }

    proptest! {
        #[test]
        fn the_largest_path_probabilities(
            table in prop::collection::vec(0u8..5, 30..400), budget in 1usize..40, depth in 0usize..6
        ) {
            let (draft, rounds) = grown(&table, budget, depth);
            let tree = &draft.tree;
            let mut all = Vec::new();
            enumerate(&table, &mut Vec::new(), 1.0, depth, &mut all);
            // By value alone: which of several equal paths is taken depends on the order of exploration only at the
            // very edge. The multiset of values is what is optimal.
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            all.truncate(budget - 1);
            let mut got = tree.path_products(|i| tree.q(i))[1..].to_vec();
            got.sort_by(|a, b| b.total_cmp(a));
            prop_assert_eq!(got, all.iter().map(|(q, _)| *q).collect::<Vec<_>>());
            prop_assert!(tree.max_depth() <= depth && rounds <= depth);
            for i in tree.nodes() {
                let parent = tree.parent(i).unwrap();
                prop_assert!(tree.child(parent, tree.token(i)) == Some(i), "a child twice");
                let path: Vec<u32> = tree.path(parent).into_iter().map(|n| tree.token(n)).collect();
                prop_assert_eq!(tree.q(i), law(&table, &path)[tree.token(i) as usize].q);
            }
            // The same again is the same again, and what was cut is not in the tree.
            prop_assert_eq!(&grown(&table, budget, depth).0, &draft);
            for cut in &draft.cut {
                prop_assert!(tree.child(cut.parent, cut.candidate.token).is_none());
                prop_assert_eq!(draft.cut_q(cut.parent, cut.candidate.token), Some(cut.candidate.q));
            }
        }
    }
}
