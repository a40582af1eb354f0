//! Prompt lookup: what followed the same few tokens earlier in the prompt or the output.

use std::collections::HashMap;

use super::{Candidate, Context, DraftError, Drafter};
use crate::tree::{TokenId, TokenTree};

/// The longest suffix that is looked up, in tokens.
const ORDER: usize = 4;
/// Different followers kept for one suffix. Beyond that the rarest makes room; its probability is then nobody's.
const FOLLOWERS: usize = 128;
/// Fills the key of a suffix shorter than [`ORDER`].
const NOTHING: TokenId = TokenId::MAX;

/// The last n <= ORDER tokens before a position, right-aligned.
type Suffix = [TokenId; ORDER];

/// What came after one suffix.
#[derive(Clone, Debug, Default)]
struct Followers {
    /// Times that the suffix was followed by anything.
    total: u32,
    /// Different tokens that followed it.
    distinct: u32,
    /// The followers with their counts.
    list: Vec<(TokenId, u32)>,
}

/// Proposes the followers of the longest suffix of the text that was seen before, backed off to shorter ones.
///
/// The estimate is Witten and Bell's interpolation (their method C): with c(s, w) the count of w after the suffix s
/// of n tokens, c(s) its sum and t(s) the number of different followers,
/// q_n(w) = (c(s, w) + t(s) q_{n-1}(w)) / (c(s) + t(s)), from q_0 = 0. What q_0 would have spread over the vocabulary is
/// given to no token, so that the q of a node add up to less than 1: the rest is what this drafter does not know.
///
/// The counts are kept up to date token by token: a step costs what its new tokens cost, however long the text.
#[derive(Clone, Debug, Default)]
pub struct Ngram {
    counts: HashMap<Suffix, Followers>,
    /// Tokens of the text that are counted.
    seen: usize,
}

impl Ngram {
    fn count(&mut self, suffix: Suffix, token: TokenId) {
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

    /// Probabilities of the next token after `recent` (the last tokens, the newest last), falling, ties to the lower id.
    fn estimate(&self, recent: &[TokenId]) -> Vec<Candidate> {
        let mut best: Vec<Candidate> = Vec::new();
        for n in 1..=recent.len().min(ORDER) {
            // A suffix that was never followed has no longer one that was.
            let Some(followers) = self.counts.get(&suffix(&recent[recent.len() - n..])) else { break };
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

fn suffix(tokens: &[TokenId]) -> Suffix {
    let mut suffix = [NOTHING; ORDER];
    suffix[ORDER - tokens.len()..].copy_from_slice(tokens);
    suffix
}

impl Drafter for Ngram {
    fn name(&self) -> &'static str {
        "ngram"
    }

    fn cost(&self) -> String {
        "a look-up in the text so far: no weights, no passes".into()
    }

    fn reset(&mut self) {
        self.counts.clear();
        self.seen = 0;
    }

    fn begin(&mut self, cx: &mut Context) -> Result<(), DraftError> {
        for at in self.seen..cx.tokens.len() {
            for n in 1..=at.min(ORDER) {
                self.count(suffix(&cx.tokens[at - n..at]), cx.tokens[at]);
            }
        }
        self.seen = cx.tokens.len();
        Ok(())
    }

    fn propose(
        &mut self,
        cx: &mut Context,
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
            // The root is the last of the text, and is in `recent` already if the walk came so far.
            let text = &cx.tokens[..cx.tokens.len().saturating_sub(1)];
            recent.extend(text.iter().rev().take(ORDER - recent.len()));
            recent.reverse();
            let mut best = self.estimate(&recent);
            best.retain(|c| !cx.stop.contains(&c.token));
            best.truncate(width);
            all.push(best);
        }
        Ok(all)
    }

    fn at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        // It counts the whole text when it begins: what it knows is a function of the text alone.
        Ok(Box::new(Ngram::default()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::dist::Warp;
    use crate::draft::testing::ask;
    use crate::engine::testing::TableDecoder;

    #[test]
    fn the_estimate_by_hand() {
        // After "1": 2, 3, 2. After "0 1": 2, 2. After "5 0 1" nothing.
        let best = ask(&mut Ngram::default(), &[0, 1, 2, 1, 3, 0, 1, 2, 5, 0, 1], &[]);
        // n = 1: c(2) = 2, c(3) = 1, total 3, different 2: 2/5 and 1/5. n = 2: (2 + 1 * 2/5) / 3 and (0 + 1/5) / 3.
        let want = [(2, 2.4 / 3.0), (3, 0.2 / 3.0)];
        assert_eq!(best.len(), 2);
        for (got, (token, q)) in best.iter().zip(want) {
            assert_eq!(got.token, token);
            assert!((got.q - q).abs() < 1e-12, "{got:?} for {q}");
        }
    }

    #[test]
    fn nothing_is_known_of_a_new_token() {
        assert!(ask(&mut Ngram::default(), &[1, 2, 3, 4], &[]).is_empty());
    }

    #[test]
    fn below_a_node_the_path_is_the_context() {
        let text = [1, 2, 3, 4, 1];
        let mut target = TableDecoder::new(8, 0);
        let mut cx = Context { tokens: &text, target: &mut target, warp: &Warp::PLAIN, stop: &[] };
        let mut ngram = Ngram::default();
        ngram.begin(&mut cx).unwrap();
        let mut tree = TokenTree::new(1);
        let a = tree.push(0, 2, 0.5);
        let b = tree.push(a, 3, 0.5);
        let next = ngram.propose(&mut cx, &tree, &[a, b], 8).unwrap();
        assert_eq!((next[0][0].token, next[1][0].token), (3, 4));
    }

    proptest! {
        #[test]
        fn probabilities_and_increments(text in prop::collection::vec(0u32..6, 2..120), cut in 1usize..119) {
            let mut whole = Ngram::default();
            let best = ask(&mut whole, &text, &[]);
            prop_assert!(best.iter().map(|c| c.q).sum::<f64>() <= 1.0 + 1e-12);
            prop_assert!(best.iter().all(|c| c.q > 0.0));
            prop_assert!(best.is_sorted_by(|a, b| a.q > b.q || (a.q == b.q && a.token < b.token)));
            // Told in two parts, it knows the same.
            let mut parts = Ngram::default();
            ask(&mut parts, &text[..cut.min(text.len() - 1)], &[]);
            prop_assert_eq!(ask(&mut parts, &text, &[]), best.clone());
            // Stop tokens are never drafted.
            prop_assert!(ask(&mut whole, &text, &[1, 3]).iter().all(|c| c.token != 1 && c.token != 3));
        }
    }
}
