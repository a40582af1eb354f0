//! Chains: one token per depth.

use crate::draft::draft_tree::{Cut, Draft, WIDTH};
use crate::draft::{DraftError, DraftRequest, Drafter};
use crate::tree::TokenId;

/// Grows a chain of the drafter's best token at each depth. It ends at the budget, at the depth
/// limit, or when the drafter proposes nothing.
pub(super) fn grow(
    root: TokenId,
    drafter: &mut dyn Drafter,
    request: &mut DraftRequest,
) -> Result<Draft, DraftError> {
    let limits = request.limits;
    let mut draft = Draft::root_only(root);
    let mut at = 0;
    while draft.tree.len() < limits.budget && draft.tree.depth(at) < limits.depth {
        draft.expanded[at] = true;
        let proposed = drafter.propose(request, &draft.tree, &[at], WIDTH)?;
        let mut candidates = proposed.into_iter().flatten().filter(|c| c.q > 0.0);
        let Some(best) = candidates.next() else { break };
        draft.cut.extend(candidates.map(|candidate| Cut { parent: at, candidate }));
        at = draft.tree.push(at, best.token, best.q.min(1.0));
        draft.expanded.push(false);
    }
    Ok(draft)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::draft::testing::Fixed;
    use crate::draft::{Candidate, Limits};
    use crate::engine::testing::TableDecoder;

    #[test]
    fn chain_takes_the_best_candidate_within_limits() {
        let candidates_after = |path: &[TokenId]| match path.len() {
            0..5 => vec![
                Candidate { token: path.len() as u32, q: 0.5 },
                Candidate { token: 7, q: 0.25 },
            ],
            _ => Vec::new(),
        };
        let mut target = TableDecoder::new(8, 0);
        let mut request = DraftRequest::new(&[9], &mut target);
        for (budget, depth, drafted) in
            [(1, 9, 0), (2, 9, 1), (4, 9, 3), (64, 2, 2), (64, 0, 0), (64, 9, 5)]
        {
            let mut fixed = Fixed::new(candidates_after);
            request.limits = Limits { budget, depth };
            let draft = grow(9, &mut fixed, &mut request).unwrap();
            assert_eq!(draft.tree.drafted(), drafted);
            assert_eq!(draft.tree.max_depth(), drafted);
            assert_eq!(draft.tree.tokens()[1..], (0..drafted as u32).collect::<Vec<_>>());
            assert_eq!(draft.cut.len(), drafted);
            if drafted > 0 {
                assert_eq!(draft.cut_q(0, 7), Some(0.25));
                assert_eq!(draft.cut_q(0, 0), None);
                assert_eq!((draft.cut_rank(0, 7), draft.cut_rank(0, 0)), (Some(1), None));
                // The last node is only passed to the drafter if the chain ended for lack of
                // candidates.
                assert!(
                    draft.expanded[..drafted].iter().all(|&expanded| expanded)
                        && draft.expanded[drafted] == (drafted == 5)
                );
            }
        }
    }
}
