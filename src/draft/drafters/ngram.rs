//! Prompt lookup: tokens that followed the same few tokens earlier in the text. The text is the
//! prompt and the output so far.

use std::collections::HashMap;

use crate::draft::{Candidate, DraftError, DraftRequest, Drafter, DrafterInfo, DrafterKind};
use crate::tree::{TokenId, TokenTree};

/// Longest suffix that is looked up, in tokens.
const ORDER: usize = 4;
/// Maximum number of followers kept per suffix. Beyond that the rarest one is replaced, and its
/// probability is not redistributed.
const FOLLOWERS: usize = 128;
/// Padding in the key of a suffix shorter than [`ORDER`].
const NOTHING: TokenId = TokenId::MAX;

/// Last n <= ORDER tokens before a position, right-aligned.
type SuffixKey = [TokenId; ORDER];

/// Tokens that followed one suffix.
#[derive(Clone, Debug, Default)]
struct Followers {
    /// Number of times that any token followed.
    total: u32,
    /// Number of distinct followers.
    distinct: u32,
    /// Followers with their counts.
    list: Vec<(TokenId, u32)>,
}

/// Proposes the followers of the longest suffix seen before, with back-off to shorter ones.
///
/// The estimate is Witten and Bell's interpolation (their method C). Let c(s, w) be the count of w
/// after the suffix s of n tokens, c(s) its sum over w, and t(s) the number of distinct followers.
/// Then
///
/// ```text
/// q_n(w) = (c(s, w) + t(s) q_{n-1}(w)) / (c(s) + t(s)),    q_0 = 0.
/// ```
///
/// The mass that q_0 would spread over the vocabulary is assigned to no token. The q of a node
/// therefore sum to less than 1; the remainder is what this drafter does not know.
///
/// Counts are updated token by token, so a step's cost depends on its new tokens, not on the length
/// of the text.
#[derive(Clone, Debug, Default)]
pub struct Ngram {
    counts: HashMap<SuffixKey, Followers>,
    /// Number of tokens of the text that are counted.
    counted: usize,
}

impl Ngram {
    fn count(&mut self, suffix: SuffixKey, token: TokenId) {
        let followers = self.counts.entry(suffix).or_default();
        followers.total += 1;
        if let Some((_, count)) = followers.list.iter_mut().find(|(t, _)| *t == token) {
            *count += 1;
            return;
        }
        followers.distinct += 1;
        if followers.list.len() < FOLLOWERS {
            followers.list.push((token, 1));
        } else if let Some(rarest) = followers.list.iter_mut().min_by_key(|(_, count)| *count) {
            *rarest = (token, 1);
        }
    }

    /// Returns the estimate of the next token after `recent`, in order of falling q. `recent` are
    /// the last tokens, the newest last. Ties go to the lower id.
    fn estimate(&self, recent: &[TokenId]) -> Vec<Candidate> {
        let mut best: Vec<Candidate> = Vec::new();
        for n in 1..=recent.len().min(ORDER) {
            // If a suffix has no followers, longer ones have none either.
            let Some(followers) = self.counts.get(&suffix(&recent[recent.len() - n..])) else {
                break;
            };
            let (total, distinct) = (f64::from(followers.total), f64::from(followers.distinct));
            let weight = 1.0 / (total + distinct);
            for candidate in &mut best {
                candidate.q *= distinct * weight;
            }
            for &(token, count) in &followers.list {
                let more = f64::from(count) * weight;
                match best.iter_mut().find(|c| c.token == token) {
                    Some(candidate) => candidate.q += more,
                    None => best.push(Candidate { token, q: more }),
                }
            }
        }
        best.sort_by(|a, b| b.q.total_cmp(&a.q).then(a.token.cmp(&b.token)));
        best
    }
}

fn suffix(tokens: &[TokenId]) -> SuffixKey {
    let mut suffix = [NOTHING; ORDER];
    suffix[ORDER - tokens.len()..].copy_from_slice(tokens);
    suffix
}

impl Drafter for Ngram {
    fn info(&self) -> DrafterInfo {
        DrafterInfo::new(DrafterKind::Ngram, "a look-up in the text so far: no weights, no passes")
    }

    fn reset(&mut self) {
        self.counts.clear();
        self.counted = 0;
    }

    fn begin(&mut self, request: &mut DraftRequest) -> Result<(), DraftError> {
        for at in self.counted..request.tokens.len() {
            for n in 1..=at.min(ORDER) {
                self.count(suffix(&request.tokens[at - n..at]), request.tokens[at]);
            }
        }
        self.counted = request.tokens.len();
        Ok(())
    }

    fn propose(
        &mut self,
        request: &mut DraftRequest,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        let mut all = Vec::with_capacity(nodes.len());
        for &node in nodes {
            let mut recent = Vec::with_capacity(ORDER);
            let mut at = Some(node);
            while let Some(n) = at.filter(|_| recent.len() < ORDER) {
                recent.push(tree.token(n));
                at = tree.parent(n);
            }
            // The root is the last token of the text. It is in `recent` already if the walk reached
            // it.
            let text = &request.tokens[..request.tokens.len().saturating_sub(1)];
            recent.extend(text.iter().rev().take(ORDER - recent.len()));
            recent.reverse();
            let mut best = self.estimate(&recent);
            best.retain(|c| !request.stop.contains(&c.token));
            best.truncate(width);
            all.push(best);
        }
        Ok(all)
    }

    fn fork_at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        // `begin` counts the whole text, and the state depends on the text alone.
        Ok(Box::new(Ngram::default()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::draft::testing::candidates_after;
    use crate::engine::testing::TableDecoder;

    #[test]
    fn the_estimate_by_hand() {
        // After "1": 2, 3, 2. After "0 1": 2, 2. After "5 0 1": nothing.
        let best = candidates_after(&mut Ngram::default(), &[0, 1, 2, 1, 3, 0, 1, 2, 5, 0, 1], &[]);
        // n = 1: c(2) = 2, c(3) = 1, total 3, 2 distinct: 2/5 and 1/5. n = 2: (2 + 1 * 2/5) / 3 and
        // (0 + 1/5) / 3.
        let want = [(2, 2.4 / 3.0), (3, 0.2 / 3.0)];
        assert_eq!(best.len(), 2);
        for (got, (token, q)) in best.iter().zip(want) {
            assert_eq!(got.token, token);
            assert!((got.q - q).abs() < 1e-12, "{got:?} for {q}");
        }
    }

    #[test]
    fn new_token_has_no_candidates() {
        assert!(candidates_after(&mut Ngram::default(), &[1, 2, 3, 4], &[]).is_empty());
    }

    #[test]
    fn candidates_below_a_node_follow_its_path() {
        let text = [1, 2, 3, 4, 1];
        let mut target = TableDecoder::new(8, 0);
        let mut request = DraftRequest::new(&text, &mut target);
        let mut ngram = Ngram::default();
        ngram.begin(&mut request).unwrap();
        let mut tree = TokenTree::new(1);
        let a = tree.push(0, 2, 0.5);
        let b = tree.push(a, 3, 0.5);
        let next = ngram.propose(&mut request, &tree, &[a, b], 8).unwrap();
        assert_eq!((next[0][0].token, next[1][0].token), (3, 4));
    }

    proptest! {
        #[test]
        fn estimate_is_a_distribution_and_independent_of_chunks(text in prop::collection::vec(0u32..6, 2..120), cut in 1usize..119) {
            let mut whole = Ngram::default();
            let best = candidates_after(&mut whole, &text, &[]);
            prop_assert!(best.iter().map(|c| c.q).sum::<f64>() <= 1.0 + 1e-12);
            prop_assert!(best.iter().all(|c| c.q > 0.0));
            prop_assert!(best.is_sorted_by(|a, b| a.q > b.q || (a.q == b.q && a.token < b.token)));
            // The result is the same if the text arrives in two parts.
            let mut parts = Ngram::default();
            candidates_after(&mut parts, &text[..cut.min(text.len() - 1)], &[]);
            prop_assert_eq!(candidates_after(&mut parts, &text, &[]), best.clone());
            // Stop tokens are never drafted.
            prop_assert!(candidates_after(&mut whole, &text, &[1, 3]).iter().all(|c| c.token != 1 && c.token != 3));
        }
    }
}
