//! Trees whose children are sampled from the drafter's distribution. The topology does not depend
//! on the sampled tokens, as lossless verification requires.

use crate::draft::draft_tree::{Cut, Draft, WIDTH};
use crate::draft::request::Limits;
use crate::draft::{DraftError, DraftRequest, Drafter};
use crate::tree::TokenId;
use crate::verify::{Proposal, Rule};

/// Number of candidates requested per node, which form the distribution of its children. The
/// probability mass beyond them, a few percent, is never drafted.
const CANDIDATES_PER_NODE: usize = 64;

/// Source of randomness for children that are sampled from the drafter's distribution.
pub struct ChildSampler<'a> {
    /// Rule by which the children are chosen, and later verified.
    pub rule: Rule,
    /// Returns the next uniform number in \[0, 1).
    pub draw: &'a mut dyn FnMut() -> f64,
}

/// Grows a sampled tree of a topology that is known in advance.
///
/// The r-th child sampled below a node at topology position `at` has position `child(at, r)`, or
/// does not exist if that is `None`, as in [`super::levels::grow`].
/// The number of children of a node is fixed before the first of them is sampled, and none is
/// dropped afterwards. Keeping or dropping a child because of its token would bias the tree in a
/// way that rejection sampling can't correct.
pub(super) fn grow(
    root: TokenId,
    drafter: &mut dyn Drafter,
    request: &mut DraftRequest,
    child: impl Fn(usize, usize) -> Option<usize>,
    ChildSampler { rule, draw }: ChildSampler,
) -> Result<Draft, DraftError> {
    let limits = request.limits;
    let mut draft = Draft { rule, ..Draft::root_only(root) };
    draft.proposals.push(Proposal::default());
    // Nodes to expand next, with their topology positions.
    let mut level = vec![(0, 0)];
    for _ in 0..limits.depth {
        let room = limits.budget.saturating_sub(draft.tree.len());
        let counts = settle(level.iter().map(|&(_, at)| at), room, &child);
        let open: Vec<(usize, usize, usize)> = level
            .iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .map(|(&(node, at), count)| (node, at, count))
            .collect();
        if open.is_empty() {
            break;
        }
        let nodes: Vec<usize> = open.iter().map(|&(node, ..)| node).collect();
        let proposed = drafter.propose(request, &draft.tree, &nodes, CANDIDATES_PER_NODE)?;
        level.clear();
        for ((node, at, count), mut candidates) in open.into_iter().zip(proposed) {
            draft.expanded[node] = true;
            candidates.retain(|c| c.q > 0.0);
            let of = |token: TokenId| candidates.iter().copied().find(|c| c.token == token);
            let proposal = Proposal::select(
                candidates.iter().map(|c| (c.token, c.q)),
                count,
                rule,
                &mut *draw,
            );
            for (token, place) in proposal.children().zip((0..).map_while(|rank| child(at, rank))) {
                level.push((
                    draft.tree.push(node, token, of(token).map_or(0.0, |c| c.q.min(1.0))),
                    place,
                ));
                draft.expanded.push(false);
                draft.proposals.push(Proposal::default());
            }
            let left_out = proposal.left_out().filter_map(of).take(WIDTH);
            draft.cut.extend(left_out.map(|candidate| Cut { parent: node, candidate }));
            draft.proposals[node] = proposal;
        }
    }
    Ok(draft)
}

/// Number of children of each node at one depth, given the nodes' topology positions. If the
/// budget's remaining `room` is too small for all children, first children take precedence over
/// second ones, and so on.
fn settle(
    places: impl Iterator<Item = usize> + Clone,
    mut room: usize,
    child: &impl Fn(usize, usize) -> Option<usize>,
) -> Vec<usize> {
    let mut counts = vec![0; places.clone().count()];
    for rank in 0.. {
        let before = room;
        for (count, at) in counts.iter_mut().zip(places.clone()) {
            if room > 0 && *count == rank && child(at, rank).is_some() {
                (*count, room) = (rank + 1, room - 1);
            }
        }
        if room == before {
            break;
        }
    }
    counts
}

/// Returns the expected number of accepted nodes of a topology, and its depth. The r-th child of a
/// reached node is accepted with probability `acceptance[r]`. The estimate assumes that the drafter
/// always has enough candidates.
pub(super) fn expected_yield(
    limits: Limits,
    child: impl Fn(usize, usize) -> Option<usize>,
    acceptance: &[f64],
) -> (f64, usize) {
    let (mut nodes, mut expected) = (1, 0.0);
    let mut level = vec![(0, 1.0)];
    for depth in 0..limits.depth {
        let counts =
            settle(level.iter().map(|&(at, _)| at), limits.budget.saturating_sub(nodes), &child);
        let next = level.iter().zip(counts).flat_map(|(&(at, reach), count)| {
            let (child, chance) =
                (&child, |rank: usize| acceptance.get(rank).copied().unwrap_or(0.0));
            (0..count).filter_map(move |rank| Some((child(at, rank)?, reach * chance(rank))))
        });
        let next: Vec<(usize, f64)> = next.collect();
        if next.is_empty() {
            return (expected, depth);
        }
        nodes += next.len();
        expected += next.iter().map(|(_, reach)| reach).sum::<f64>();
        level = next;
    }
    (expected, limits.depth)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::draft::Candidate;
    use crate::draft::testing::Fixed;
    use crate::engine::testing::TableDecoder;
    use crate::verify::Rule;

    fn grown(
        weights: &[f64],
        budget: usize,
        depth: usize,
        widths: &[usize],
        rule: Rule,
        draws: &[f64],
    ) -> (Draft, usize) {
        let candidates_after =
            |_: &[TokenId]| (0..).zip(weights).map(|(token, &q)| Candidate { token, q }).collect();
        let mut fixed = Fixed::new(candidates_after);
        let mut target = TableDecoder::new(8, 0);
        let mut request = DraftRequest::new(&[7], &mut target);
        let mut draws = draws.iter().copied().cycle();
        let child = |depth: usize, rank: usize| {
            (rank < widths.get(depth).copied().unwrap_or(0)).then_some(depth + 1)
        };
        request.limits = Limits { budget, depth };
        let mut draw = || draws.next().unwrap();
        let draft =
            grow(7, &mut fixed, &mut request, child, ChildSampler { rule, draw: &mut draw })
                .unwrap();
        (draft, fixed.rounds)
    }

    proptest! {
        #[test]
        fn topology_does_not_depend_on_samples(
            weights in prop::collection::vec(0.01f64..0.2, 4..6), budget in 1usize..20, depth in 0usize..5,
            widths in prop::collection::vec(1usize..4, 1..4), draws in prop::collection::vec(0.0f64..1.0, 16),
            others in prop::collection::vec(0.0f64..1.0, 16), greedy_first_ceiling in any::<bool>(),
        ) {
            let rule = if greedy_first_ceiling { Rule::GreedyFirst } else { Rule::Rejection };
            let (draft, rounds) = grown(&weights, budget, depth, &widths, rule, &draws);
            let (other, _) = grown(&weights, budget, depth, &widths, rule, &others);
            let parents = |draft: &Draft| draft.tree.nodes().map(|i| draft.tree.parent(i)).collect::<Vec<_>>();
            prop_assert_eq!(parents(&draft), parents(&other));
            let tree = &draft.tree;
            prop_assert!(tree.len() <= budget && tree.max_depth() <= depth.min(widths.len()) && rounds <= depth);
            prop_assert_eq!((draft.proposals.len(), draft.expanded.len()), (tree.len(), tree.len()));
            for node in 0..tree.len() {
                let children: Vec<TokenId> = tree.children(node).map(|c| tree.token(c)).collect();
                prop_assert_eq!(&children, &draft.proposals[node].children().collect::<Vec<_>>());
                prop_assert_eq!(draft.expanded[node], !children.is_empty());
                prop_assert!(tree.children(node).all(|c| tree.q(c) == weights[tree.token(c) as usize]));
                prop_assert!(draft.cut.iter().filter(|cut| cut.parent == node).all(|cut| !children.contains(&cut.candidate.token)));
                if rule == Rule::GreedyFirst && children.len() > 1 {
                    let best = weights.iter().copied().fold(0.0, f64::max);
                    prop_assert_eq!(weights[children[0] as usize], best);
                }
            }
        }
    }

    #[test]
    fn first_children_come_before_second_ones() {
        let (draft, _) = grown(&[0.3, 0.3, 0.3], 6, 9, &[2, 2], Rule::Rejection, &[0.1, 0.5]);
        let children = |node: usize| draft.tree.children(node).count();
        assert_eq!((children(0), children(1), children(2)), (2, 2, 1));
    }

    #[test]
    fn expected_yield_matches_hand_computed_values() {
        let chain = |at: usize, rank: usize| (rank == 0).then_some(at + 1);
        let limits = |budget, depth| Limits { budget, depth };
        assert_eq!(expected_yield(limits(4, 9), chain, &[0.5, 0.25]), (0.5 + 0.25 + 0.125, 3));
        assert_eq!(expected_yield(limits(4, 2), chain, &[0.5, 0.25]), (0.75, 2));
        assert_eq!(expected_yield(limits(1, 9), chain, &[0.5]), (0.0, 0));
        // Two children per node: the budget leaves room for five of the six nodes.
        let two = |at: usize, rank: usize| (rank < 2 && at < 2).then_some(at + 1);
        assert_eq!(
            expected_yield(limits(6, 9), two, &[0.5, 0.25]),
            (0.75 + 0.5 * 0.75 + 0.25 * 0.5, 2)
        );
    }

    #[test]
    fn few_candidates_leave_budget_unused() {
        let (draft, rounds) = grown(&[0.3], 9, 9, &[3, 3], Rule::Rejection, &[0.1]);
        assert_eq!((draft.tree.len(), rounds), (3, 2));
        assert_eq!(grown(&[], 9, 9, &[3, 3], Rule::Rejection, &[0.1]).0.tree.len(), 1);
    }
}
