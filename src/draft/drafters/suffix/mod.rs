//! Suffix drafting: prompt lookup with suffixes of unlimited length. The followers of each suffix
//! come from a suffix automaton (`automaton`), and the weights with which suffixes of different
//! lengths are interpolated are learned online (`interpolation`).

mod automaton;
mod interpolation;

use automaton::{Automaton, Match};
use interpolation::InterpolationWeights;

use crate::draft::{Candidate, DraftError, DraftRequest, Drafter, DrafterInfo, DrafterKind};
use crate::tree::{TokenId, TokenTree};

/// Maximum number of remembered tokens of earlier texts. Beyond that, all of them are forgotten.
const REMEMBERED: usize = 1 << 18;
/// Remaining weight below which shorter contexts are not looked up.
const MIN_REMAINING_WEIGHT: f64 = 1e-4;

/// Proposes the followers of the longest suffix of the text that occurred before.
///
/// They are interpolated with the followers of shorter suffixes, down to one token. Let c(s, w) be
/// the count of w after the context s, and s' the next shorter context with different followers.
/// Then
///
/// ```text
/// q_s(w) = T(s) c(s, w) / c(s) + (1 - T(s)) q_s'(w),
/// ```
///
/// where the weight T(s) is learned by context length and counts (`InterpolationWeights`). The mass
/// that remains below one token is assigned to no token, so the q of a node sum to less than 1.
///
/// The automaton grows token by token, and each tree node is located from its parent. A step's cost
/// depends on its new tokens and its tree, not on the length of the text.
#[derive(Clone, Debug, Default)]
pub struct Suffix {
    /// True if earlier texts count, too.
    remember: bool,
    automaton: Automaton,
    trust: InterpolationWeights,
    /// Interpolation weights at the beginning of the present text.
    trust_before: InterpolationWeights,
    /// Tokens of the present text that are in the automaton.
    text: Vec<TokenId>,
    /// Number of prompt tokens, or `None` before the prompt is known. Weights are learned from the
    /// output only.
    prompt: Option<usize>,
    /// Texts before the present one, if they count.
    earlier: Vec<Vec<TokenId>>,
    /// Automaton position of each tree node of this step, as far as it was needed.
    places: Vec<Option<Match>>,
}

impl Suffix {
    /// Creates a drafter; with `remember`, earlier texts of the run count, too.
    pub fn new(remember: bool) -> Self {
        Self { remember, ..Self::default() }
    }

    /// Returns the estimate of the next token in order of falling q. Ties go to the lower id.
    fn estimate(&self, end: Match) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = Vec::new();
        let mut remaining = 1.0;
        for context in self.automaton.contexts(end) {
            let trust = self.trust.weight(&context);
            let each = remaining * trust / f64::from(context.total);
            all.extend(
                context
                    .edges
                    .iter()
                    .map(|e| Candidate { token: e.token, q: each * f64::from(e.count) }),
            );
            remaining *= 1.0 - trust;
            if remaining < MIN_REMAINING_WEIGHT {
                break;
            }
        }
        all.sort_by_key(|c| c.token);
        all.dedup_by(|more, first| {
            let same = more.token == first.token;
            first.q += if same { more.q } else { 0.0 };
            same
        });
        all.sort_by(|a, b| b.q.total_cmp(&a.q).then(a.token.cmp(&b.token)));
        all
    }

    /// Returns the automaton position of a tree node.
    fn place(&mut self, tree: &TokenTree, node: usize) -> Match {
        if let Some(place) = self.places.get(node).copied().flatten() {
            return place;
        }
        let place = match tree.parent(node) {
            None => self.automaton.end(),
            Some(parent) => {
                let above = self.place(tree, parent);
                self.automaton.follow(above, tree.token(node))
            }
        };
        if self.places.len() <= node {
            self.places.resize(node + 1, None);
        }
        self.places[node] = Some(place);
        place
    }

    /// Builds the automaton of the texts before the present one.
    fn before(earlier: &[Vec<TokenId>]) -> Automaton {
        let mut automaton = Automaton::default();
        for text in earlier {
            automaton.begin();
            text.iter().for_each(|&token| automaton.push(token));
        }
        automaton.begin();
        automaton
    }
}

impl Drafter for Suffix {
    fn info(&self) -> DrafterInfo {
        let text = if self.remember { "the texts of this run" } else { "the text so far" };
        let cost = format!("a look-up in {text}, of any length: no weights, no passes");
        DrafterInfo::new(DrafterKind::Suffix, cost)
    }

    fn reset(&mut self) {
        let text = std::mem::take(&mut self.text);
        if self.remember && !text.is_empty() {
            let known: usize = self.earlier.iter().map(Vec::len).sum();
            if known + text.len() > REMEMBERED {
                self.earlier.clear();
                self.automaton = Automaton::default();
            } else {
                self.earlier.push(text);
            }
            self.automaton.begin();
        } else if !self.remember {
            self.automaton = Automaton::default();
        }
        self.trust_before = self.trust.clone();
        self.prompt = None;
    }

    fn begin(&mut self, request: &mut DraftRequest) -> Result<(), DraftError> {
        self.places.clear();
        if self.prompt.is_none()
            && self.earlier.last().is_some_and(|last| request.tokens.starts_with(last))
        {
            // Another drafter continued the text that was left, so it is not an earlier text. Only
            // the tokens seen at the first `begin` decide: a drafter made by `Drafter::fork_at`
            // sees more of the text at once.
            self.earlier.pop();
            self.automaton = Self::before(&self.earlier);
        }
        let prompt = *self.prompt.get_or_insert(request.tokens.len());
        for &token in request.tokens.get(self.text.len()..).unwrap_or_default() {
            if self.text.len() >= prompt {
                self.trust.learn(self.automaton.contexts(self.automaton.end()), token);
            }
            self.automaton.push(token);
            self.text.push(token);
        }
        Ok(())
    }

    fn propose(
        &mut self,
        request: &mut DraftRequest,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        let below = |&node: &usize| {
            let place = self.place(tree, node);
            let mut best = self.estimate(place);
            best.retain(|c| !request.stop.contains(&c.token));
            best.truncate(width);
            best
        };
        Ok(nodes.iter().map(below).collect())
    }

    fn fork_at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        // The state is a function of the texts and of the weights before the present one. `begin`
        // reads the present text again.
        Ok(Box::new(Suffix {
            remember: self.remember,
            automaton: Self::before(&self.earlier),
            trust: self.trust_before.clone(),
            trust_before: self.trust_before.clone(),
            prompt: self.prompt,
            earlier: self.earlier.clone(),
            ..Suffix::default()
        }))
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
        // After "1": 2, 3, 2, with weight 3/5. After "0 1": 2, 2, with weight 2/3. After "5 0 1":
        // nothing.
        let best =
            candidates_after(&mut Suffix::default(), &[0, 1, 2, 1, 3, 0, 1, 2, 5, 0, 1], &[]);
        let want = [(2, 2.0 / 3.0 + 1.0 / 3.0 * 0.6 * 2.0 / 3.0), (3, 1.0 / 3.0 * 0.6 / 3.0)];
        assert_eq!(best.len(), 2);
        for (got, (token, q)) in best.iter().zip(want) {
            assert_eq!(got.token, token);
            assert!((got.q - q).abs() < 1e-12, "{got:?} for {q}");
        }
        assert!(candidates_after(&mut Suffix::default(), &[1, 2, 3, 4], &[]).is_empty());
    }

    #[test]
    fn candidates_below_a_node_follow_its_path() {
        let text = [1, 2, 3, 4, 1, 2, 6, 1];
        let mut target = TableDecoder::new(8, 0);
        let mut request = DraftRequest::new(&text, &mut target);
        let mut suffix = Suffix::default();
        suffix.begin(&mut request).unwrap();
        let mut tree = TokenTree::new(1);
        let a = tree.push(0, 2, 0.5);
        let b = tree.push(a, 3, 0.5);
        // The child comes before its parent: another drafter may have proposed the parent.
        let next = suffix.propose(&mut request, &tree, &[b, a], 8).unwrap();
        assert_eq!((next[0][0].token, next[1][0].token, next[1][1].token), (4, 3, 6));
    }

    #[test]
    fn earlier_texts_count_only_if_remembered() {
        let (first, second) = ([1, 2, 3, 4, 5], [6, 2, 3]);
        for remember in [false, true] {
            let mut suffix = Suffix::new(remember);
            candidates_after(&mut suffix, &first, &[]);
            suffix.reset();
            let best = candidates_after(&mut suffix, &second, &[]);
            assert_eq!(best.first().map(|c| c.token), remember.then_some(4));
            // A text that was left and then continued does not count as an earlier one.
            suffix.reset();
            assert_eq!(candidates_after(&mut suffix, &second, &[]), best);
            assert_eq!(candidates_after(&mut suffix, &[6, 2, 3, 7], &[]), []);
        }
    }

    #[test]
    fn fork_at_keeps_earlier_texts() {
        // The text begins like the earlier one, but only the longer text shows it.
        let (earlier, text) = ([2, 3], [2, 3, 0, 2]);
        let mut suffix = Suffix::new(true);
        candidates_after(&mut suffix, &earlier, &[]);
        suffix.reset();
        candidates_after(&mut suffix, &text[..1], &[]);
        let best = candidates_after(&mut suffix, &text, &[]);
        let mut back = suffix.fork_at(text.len()).unwrap();
        let mut target = TableDecoder::new(8, 0);
        let mut request = DraftRequest::new(&text, &mut target);
        back.begin(&mut request).unwrap();
        assert_eq!(back.propose(&mut request, &TokenTree::new(2), &[0], 8).unwrap()[0], best);
        assert_eq!(suffix.earlier, [earlier]);
    }

    proptest! {
        #[test]
        fn estimate_is_a_distribution_and_independent_of_chunks(
            earlier in prop::collection::vec(0u32..6, 1..60), text in prop::collection::vec(0u32..6, 2..120), cut in 1usize..119,
            remember in any::<bool>(),
        ) {
            let cut = cut.min(text.len() - 1);
            let estimate_after = |cuts: &[usize]| {
                let mut suffix = Suffix::new(remember);
                candidates_after(&mut suffix, &earlier, &[]);
                suffix.reset();
                cuts.iter().for_each(|&cut| drop(candidates_after(&mut suffix, &text[..cut], &[])));
                (candidates_after(&mut suffix, &text, &[]), suffix)
            };
            let (best, suffix) = estimate_after(&[1, cut]);
            prop_assert!(best.iter().map(|c| c.q).sum::<f64>() <= 1.0 + 1e-12);
            prop_assert!(best.iter().all(|c| c.q > 0.0));
            prop_assert!(best.is_sorted_by(|a, b| a.q > b.q || (a.q == b.q && a.token < b.token)));
            // The result is the same if the text arrives in more parts, and for a drafter made by
            // `at`.
            let all: Vec<usize> = (1..text.len()).collect();
            prop_assert_eq!(&estimate_after(&all).0, &best);
            let mut target = TableDecoder::new(8, 0);
            let mut request = DraftRequest::new(&text, &mut target);
            let mut back = suffix.fork_at(text.len()).unwrap();
            back.begin(&mut request).unwrap();
            let tree = TokenTree::new(text[text.len() - 1]);
            prop_assert_eq!(&back.propose(&mut request, &tree, &[0], 8).unwrap()[0], &best);
            // Stop tokens are never drafted.
            let mut suffix = suffix;
            prop_assert!(candidates_after(&mut suffix, &text, &[1, 3]).iter().all(|c| c.token != 1 && c.token != 3));
        }
    }
}
