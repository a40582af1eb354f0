//! Trees whose form is known beforehand, grown depth by depth: one call of the drafter for each.

use super::{Cut, Draft, Limits, WIDTH};
use crate::draft::{Context, DraftError, Drafter};
use crate::tree::{TokenId, TokenTree};

/// Grows the tree in which the child of rank r (0 for the drafter's best) of a node at place `at` of the form stands at
/// `child(at, r)` of it, if anywhere; the root stands at 0. Children have the ranks from 0 up to the first that has no place. Where a
/// depth has more nodes than the budget leaves, its best by path probability stay. Nodes stand in the order of their worth.
pub(super) fn grow(
    root: TokenId,
    drafter: &mut dyn Drafter,
    cx: &mut Context,
    limits: Limits,
    child: impl Fn(usize, usize) -> Option<usize>,
) -> Result<Draft, DraftError> {
    let mut draft = Draft::nothing(root);
    // Nodes of the tree whose children come next, with their places in the form and their path probabilities.
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
        let proposed = drafter.propose(cx, &draft.tree, &nodes, width)?;
        let mut next = Vec::new();
        for (&(node, at, path), candidates) in level.iter().zip(proposed) {
            draft.asked[node] = true;
            for (rank, candidate) in candidates.into_iter().filter(|c| c.q > 0.0).enumerate() {
                let q = candidate.q.min(1.0);
                match child(at, rank) {
                    Some(place) => next.push((node, candidate, place, path * q)),
                    None => draft.cut.push(Cut { parent: node, candidate }),
                }
            }
        }
        // Stable, so that the ranks of siblings stay in order.
        next.sort_by(|a, b| b.3.total_cmp(&a.3));
        draft.cut.extend(next.iter().skip(room).map(|&(parent, candidate, ..)| Cut { parent, candidate }));
        next.truncate(room);
        level = (next.into_iter())
            .map(|(parent, candidate, place, path)| {
                draft.asked.push(false);
                (draft.tree.push(parent, candidate.token, candidate.q.min(1.0)), place, path)
            })
            .collect();
    }
    Ok(by_worth(draft))
}

/// The same tree with its nodes in falling order of their path probability: any first few of them are a tree that is worth most.
fn by_worth(draft: Draft) -> Draft {
    let Draft { tree, mut cut, asked, .. } = draft;
    let pi = tree.path_products(|i| tree.q(i));
    let mut order: Vec<usize> = (0..tree.len()).collect();
    // Stable: a parent comes before a child that is worth as much.
    order.sort_by(|&a, &b| pi[b].total_cmp(&pi[a]));
    let mut place = vec![0; tree.len()];
    let mut sorted = TokenTree::new(tree.token(0));
    for &i in order.iter().filter(|&&i| i > 0) {
        place[i] = sorted.push(place[tree.parent(i).unwrap_or(0)], tree.token(i), tree.q(i));
    }
    cut.iter_mut().for_each(|cut| cut.parent = place[cut.parent]);
    let mut told = vec![false; asked.len()];
    asked.into_iter().zip(place).for_each(|(asked, place)| told[place] = asked);
    Draft { tree: sorted, cut, asked: told, ..Draft::nothing(tree.token(0)) }
}
