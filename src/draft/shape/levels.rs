//! Trees of a topology known in advance, grown depth by depth. The drafter is called once per
//! depth.

use crate::draft::draft_tree::{Cut, Draft, WIDTH};
use crate::draft::{DraftError, DraftRequest, Drafter};
use crate::tree::{TokenId, TokenTree};

/// Grows the tree in which the child of rank r has topology position `child(at, r)`.
///
/// `at` is the position of the child's parent, and the root has position 0. Rank 0 is the drafter's
/// best candidate. A node has children of ranks 0, 1, ... up to the first for which `child` is
/// `None`. If a depth has more nodes than the budget leaves, those with the highest path
/// probability stay. The nodes of the result are in order of falling path probability.
pub(super) fn grow(
    root: TokenId,
    drafter: &mut dyn Drafter,
    request: &mut DraftRequest,
    child: impl Fn(usize, usize) -> Option<usize>,
) -> Result<Draft, DraftError> {
    let limits = request.limits;
    let mut draft = Draft::root_only(root);
    // Nodes to expand next, with their topology positions and path probabilities.
    let mut level: Vec<(usize, usize, f64)> = vec![(0, 0, 1.0)];
    for _ in 0..limits.depth {
        let room = limits.budget.saturating_sub(draft.tree.len());
        level.retain(|&(_, at, _)| child(at, 0).is_some());
        if level.is_empty() || room == 0 {
            break;
        }
        let nodes: Vec<usize> = level.iter().map(|&(node, ..)| node).collect();
        let most = |at: usize| (0..).take_while(|&rank| child(at, rank).is_some()).count();
        let width = level.iter().map(|&(_, at, _)| most(at)).max().unwrap_or(0).max(WIDTH);
        let proposed = drafter.propose(request, &draft.tree, &nodes, width)?;
        let mut next = Vec::new();
        for (&(node, at, path), candidates) in level.iter().zip(proposed) {
            draft.expanded[node] = true;
            for (rank, candidate) in candidates.into_iter().filter(|c| c.q > 0.0).enumerate() {
                let q = candidate.q.min(1.0);
                match child(at, rank) {
                    Some(place) => next.push((node, candidate, place, path * q)),
                    None => draft.cut.push(Cut { parent: node, candidate }),
                }
            }
        }
        // The sort is stable, so siblings stay in order of rank.
        next.sort_by(|a, b| b.3.total_cmp(&a.3));
        draft.cut.extend(
            next.iter().skip(room).map(|&(parent, candidate, ..)| Cut { parent, candidate }),
        );
        next.truncate(room);
        level = (next.into_iter())
            .map(|(parent, candidate, place, path)| {
                draft.expanded.push(false);
                (draft.tree.push(parent, candidate.token, candidate.q.min(1.0)), place, path)
            })
            .collect();
    }
    Ok(sort_by_path_probability(draft))
}

/// Sorts the nodes by falling path probability. Each prefix of the nodes is then a best subtree of
/// its size.
fn sort_by_path_probability(draft: Draft) -> Draft {
    let Draft { tree, mut cut, expanded, .. } = draft;
    let pi = tree.path_products(|i| tree.q(i));
    let mut order: Vec<usize> = (0..tree.len()).collect();
    // The sort is stable, so a parent comes before a child of equal probability.
    order.sort_by(|&a, &b| pi[b].total_cmp(&pi[a]));
    let mut place = vec![0; tree.len()];
    let mut sorted = TokenTree::new(tree.token(0));
    for &i in order.iter().filter(|&&i| i > 0) {
        place[i] = sorted.push(place[tree.parent(i).unwrap_or(0)], tree.token(i), tree.q(i));
    }
    cut.iter_mut().for_each(|cut| cut.parent = place[cut.parent]);
    let mut sorted_expanded = vec![false; expanded.len()];
    expanded.into_iter().zip(place).for_each(|(expanded, place)| sorted_expanded[place] = expanded);
    Draft { tree: sorted, cut, expanded: sorted_expanded, ..Draft::root_only(tree.token(0)) }
}
