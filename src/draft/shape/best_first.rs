//! Best-first trees: the nodes with the largest path probabilities.

use crate::draft::draft_tree::{Cut, Draft, WIDTH};
use crate::draft::{Candidate, DraftError, DraftRequest, Drafter};
use crate::theory::search::{FoundTree, TreeSearch};
use crate::tree::TokenId;

/// Grows the tree of the B - 1 nodes with the highest path probabilities.
///
/// The probabilities are those of the drafter, and the result is exact (bounds.md, "Best tree of P
/// nodes"). A [`TreeSearch`] expands all nodes that are open in one batch, until none is.
pub(super) fn grow(
    root: TokenId,
    drafter: &mut dyn Drafter,
    request: &mut DraftRequest,
) -> Result<Draft, DraftError> {
    let limits = request.limits;
    let drafted = limits.budget.saturating_sub(1);
    let mut search = TreeSearch::new(root, drafted, limits.depth);
    loop {
        let nodes = search.next_to_expand(usize::MAX);
        if nodes.is_empty() {
            break;
        }
        let proposed = drafter.propose(request, search.explored(), &nodes, drafted.max(WIDTH))?;
        search.expand(
            &nodes,
            proposed.into_iter().map(|list| list.into_iter().map(|c| (c.token, c.q))),
        );
    }
    let FoundTree { tree, unused, expanded } = search.found();
    let cut = unused.into_iter().map(|left_out| Cut {
        parent: left_out.parent,
        candidate: Candidate { token: left_out.token, q: left_out.p },
    });
    Ok(Draft { tree, cut: cut.collect(), expanded, ..Draft::root_only(root) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::draft::Limits;
    use crate::draft::testing::Fixed;
    use crate::engine::testing::TableDecoder;

    const VOCAB: u32 = 3;

    /// Weight of each next token after `path`, from a table. The table has few distinct values, so
    /// that ties are common.
    fn candidates_after(table: &[u8], path: &[TokenId]) -> Vec<Candidate> {
        let at =
            path.iter().fold(1usize, |at, &t| at * VOCAB as usize + t as usize) * VOCAB as usize;
        let weight = |t: u32| f64::from(table[(at + t as usize) % table.len()]);
        (0..VOCAB).map(|token| Candidate { token, q: weight(token) / 8.0 }).collect()
    }

    fn enumerate(
        table: &[u8],
        path: &mut Vec<TokenId>,
        q: f64,
        depth: usize,
        all: &mut Vec<(f64, Vec<TokenId>)>,
    ) {
        if path.len() == depth {
            return;
        }
        for c in candidates_after(table, path).into_iter().filter(|c| c.q > 0.0) {
            path.push(c.token);
            all.push((q * c.q, path.clone()));
            enumerate(table, path, q * c.q, depth, all);
            path.pop();
        }
    }

    fn grown(table: &[u8], budget: usize, depth: usize) -> (Draft, usize) {
        let mut fixed = Fixed::new(|path: &[TokenId]| candidates_after(table, path));
        let mut target = TableDecoder::new(VOCAB as usize, 0);
        let mut request = DraftRequest {
            limits: Limits { budget, depth },
            ..DraftRequest::new(&[0], &mut target)
        };
        let draft = grow(0, &mut fixed, &mut request).unwrap();
        (draft, fixed.rounds)
    }

    proptest! {
        #[test]
        fn tree_has_the_largest_path_probabilities(
            table in prop::collection::vec(0u8..5, 30..400), budget in 1usize..40, depth in 0usize..6
        ) {
            let (draft, rounds) = grown(&table, budget, depth);
            let tree = &draft.tree;
            let mut all = Vec::new();
            enumerate(&table, &mut Vec::new(), 1.0, depth, &mut all);
            // Values only: if paths tie at the cutoff, which of them is taken depends on the order
            // of exploration. The multiset of values is unique.
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
                prop_assert_eq!(tree.q(i), candidates_after(&table, &path)[tree.token(i) as usize].q);
            }
            // Growing is deterministic, and cut candidates are not in the tree.
            prop_assert_eq!(&grown(&table, budget, depth).0, &draft);
            prop_assert_eq!(draft.expanded.len(), tree.len());
            prop_assert!(tree.nodes().all(|i| draft.expanded[tree.parent(i).unwrap()]), "a child of a node that is not expanded");
            for cut in &draft.cut {
                prop_assert!(tree.child(cut.parent, cut.candidate.token).is_none());
                prop_assert_eq!(draft.cut_q(cut.parent, cut.candidate.token), Some(cut.candidate.q));
                let path: Vec<u32> = tree.path(cut.parent).into_iter().map(|n| tree.token(n)).collect();
                let mut all = candidates_after(&table, &path);
                all.retain(|c| c.q > 0.0);
                all.sort_by(|a, b| b.q.total_cmp(&a.q).then(a.token.cmp(&b.token)));
                let rank = all.iter().position(|c| c.token == cut.candidate.token);
                prop_assert_eq!(draft.cut_rank(cut.parent, cut.candidate.token), rank);
            }
        }
    }
}
