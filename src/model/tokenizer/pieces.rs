//! SentencePiece BPE as llama.cpp computes it: merges by score, ties from left to right.
//!
//! A list of ranked merges can't express it. Pairs of equal score must be merged from left to
//! right, whatever their tokens, and a pair may begin with a character that is no token itself.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use crate::tree::TokenId;

/// Pieces of a vocabulary with their scores.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: HashMap<Box<str>, (TokenId, f32)>,
    /// Token of each byte, for characters that are no piece.
    bytes: Box<[Option<TokenId>; 256]>,
    unknown: Option<TokenId>,
}

/// Token or character of a text, in a list linked both ways.
#[derive(Clone, Copy)]
struct Symbol {
    begin: usize,
    /// Length in bytes; 0 once it is merged into the symbol before it.
    len: usize,
    before: Option<usize>,
    after: Option<usize>,
}

/// Pair of adjacent symbols that makes a piece.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Length of both in bytes: a pair of which one has changed since is skipped.
    len: usize,
}

impl Ord for Pair {
    /// Orders by score, then by place; the greatest is merged first.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

impl Pieces {
    /// Creates the vocabulary; of pieces with the same text, the last one counts.
    ///
    /// `unknown` stands for bytes without a token.
    pub fn new(
        pieces: impl Iterator<Item = (Box<str>, TokenId, f32)>,
        bytes: impl Iterator<Item = (u8, TokenId)>,
        unknown: Option<TokenId>,
    ) -> Self {
        let mut table = Box::new([None; 256]);
        bytes.for_each(|(byte, id)| table[usize::from(byte)] = Some(id));
        // 0.0 and -0.0 are equal scores, which `total_cmp` would tell apart.
        let pieces = pieces.map(|(text, id, score)| (text, (id, score + 0.0))).collect();
        Self { pieces, bytes: table, unknown }
    }

    /// Appends the tokens of a text in the spelling of the vocabulary.
    pub fn encode(&self, text: &str, ids: &mut Vec<TokenId>) {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        for (i, (begin, c)) in text.char_indices().enumerate() {
            symbols.push(Symbol {
                begin,
                len: c.len_utf8(),
                before: i.checked_sub(1),
                after: Some(i + 1),
            });
        }
        if let Some(last) = symbols.last_mut() {
            last.after = None;
        }
        let mut pairs = BinaryHeap::new();
        for right in 1..symbols.len() {
            pairs.extend(self.pair(text, &symbols, right - 1, right));
        }
        while let Some(Pair { left, right, len, .. }) = pairs.pop() {
            let (a, b) = (symbols[left], symbols[right]);
            if a.len == 0 || b.len == 0 || a.len + b.len != len {
                continue;
            }
            symbols[left] = Symbol { len, after: b.after, ..a };
            symbols[right].len = 0;
            if let Some(after) = b.after {
                symbols[after].before = Some(left);
                pairs.extend(self.pair(text, &symbols, left, after));
            }
            if let Some(before) = a.before {
                pairs.extend(self.pair(text, &symbols, before, left));
            }
        }
        let mut next = (!symbols.is_empty()).then_some(0);
        // Consecutive bytes without a token become one unknown token.
        let mut unknown = false;
        while let Some(symbol) = next.map(|i| symbols[i]) {
            next = symbol.after;
            let part = &text[symbol.begin..symbol.begin + symbol.len];
            match self.pieces.get(part) {
                Some((id, _)) => {
                    ids.push(*id);
                    unknown = false;
                }
                None => {
                    for byte in part.bytes() {
                        let id = self.bytes[usize::from(byte)];
                        ids.extend(id.or(self.unknown.filter(|_| !unknown)));
                        unknown = id.is_none();
                    }
                }
            }
        }
    }

    fn pair(&self, text: &str, symbols: &[Symbol], left: usize, right: usize) -> Option<Pair> {
        let (a, b) = (symbols[left], symbols[right]);
        let len = a.len + b.len;
        let (_, score) = self.pieces.get(&text[a.begin..a.begin + len])?;
        Some(Pair { score: *score, left, right, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces with ids in order, and a token for each byte but `z`.
    fn pieces(all: &[(&str, f32)]) -> Pieces {
        let own =
            all.iter().enumerate().map(|(i, (text, score))| ((*text).into(), i as TokenId, *score));
        let bytes = (0..=255).filter(|b| *b != b'z').map(|b| (b, 1000 + TokenId::from(b)));
        Pieces::new(own, bytes, Some(999))
    }

    fn encode(pieces: &Pieces, text: &str) -> Vec<TokenId> {
        let mut ids = Vec::new();
        pieces.encode(text, &mut ids);
        ids
    }

    #[test]
    fn pairs_of_equal_score_are_merged_from_left_to_right() {
        let equal = [("a", 0.0), ("b", 0.0), ("c", 0.0), ("ab", -1.0), ("bc", -1.0)];
        assert_eq!(encode(&pieces(&equal), "abc"), [3, 2]);
        assert_eq!(encode(&pieces(&equal), "abcbc"), [3, 2, 4]);
        // The order in the vocabulary doesn't count, the score does.
        let turned = [("a", 0.0), ("b", 0.0), ("c", 0.0), ("bc", -1.0), ("ab", -1.0)];
        assert_eq!(encode(&pieces(&turned), "abc"), [4, 2]);
        let higher = [("a", 0.0), ("b", 0.0), ("c", 0.0), ("ab", -1.0), ("bc", -0.5)];
        assert_eq!(encode(&pieces(&higher), "abc"), [0, 4]);
        // Scores of 0 and of -0 are equal.
        let zero = [("a", 0.0), ("b", 0.0), ("c", 0.0), ("ab", -0.0), ("bc", 0.0)];
        assert_eq!(encode(&pieces(&zero), "abc"), [3, 2]);
    }

    #[test]
    fn a_pair_may_begin_with_a_character_that_is_no_piece() {
        let own = pieces(&[("a", 0.0), ("éa", -1.0)]);
        assert_eq!(encode(&own, "éaé"), [1, 1000 + 0xc3, 1000 + 0xa9]);
        assert_eq!(encode(&own, "azzza"), [0, 999, 0]);
        assert_eq!(encode(&own, ""), [0; 0]);
    }

    #[test]
    fn encoding_equals_a_search_for_the_best_pair_at_each_step() {
        // Definition, in quadratic time: merge the leftmost pair of the highest score.
        let all: Vec<(&str, f32)> = vec![
            ("a", 0.0),
            ("b", 0.0),
            ("aa", -1.0),
            ("ab", -1.0),
            ("ba", -1.0),
            ("bb", -2.0),
            ("aab", -1.0),
            ("abab", -2.0),
            ("bba", -1.0),
            ("aabb", 0.0),
        ];
        let own = pieces(&all);
        let score =
            |text: &str| all.iter().find(|(piece, _)| *piece == text).map(|(_, score)| *score);
        for bits in 0u32..1 << 11 {
            let text: String =
                (0..11).map(|i| if bits >> i & 1 == 0 { 'a' } else { 'b' }).collect();
            let mut parts: Vec<String> = text.chars().map(String::from).collect();
            loop {
                let joined = |i: usize| parts[i].clone() + &parts[i + 1];
                let best = (0..parts.len().saturating_sub(1))
                    .filter_map(|i| score(&joined(i)).map(|s| (i, s)));
                let Some((i, _)) = best.reduce(|a, b| if b.1 > a.1 { b } else { a }) else { break };
                let one = joined(i);
                parts.splice(i..i + 2, [one]);
            }
            let want: Vec<TokenId> = parts
                .iter()
                .map(|part| all.iter().position(|(piece, _)| piece == part).unwrap_or(0) as TokenId)
                .collect();
            assert_eq!(encode(&own, &text), want, "{text}");
        }
    }
}
