//! Refusals counted: why, how deep, on what kind of token, and on which tokens most.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Cause, Look, Miss, TokenClass};
use crate::tree::TokenId;

/// Tokens that are counted one by one. Where more were missed, the rarest make room.
const TOKENS: usize = 512;
/// Depths that are counted one by one; the last holds all deeper ones.
const DEPTHS: usize = 256;

impl Cause {
    /// All causes.
    pub const ALL: [Cause; 4] = [Cause::Unlucky, Cause::Budget, Cause::Ranking, Cause::Knowledge];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Unlucky => "unlucky",
            Cause::Budget => "budget",
            Cause::Ranking => "ranking",
            Cause::Knowledge => "knowledge",
        }
    }

    /// Why a token was not in the drafter's tree, luck apart: `rank` is its rank under the target, `draft_rank` that among the
    /// drafter's proposals where it was proposed, `asked` whether the drafter was asked what comes there.
    pub fn without_luck(rank: usize, draft_rank: Option<usize>, asked: bool) -> Cause {
        match draft_rank {
            Some(own) if own <= rank => Cause::Budget,
            Some(_) => Cause::Ranking,
            None if asked => Cause::Knowledge,
            None => Cause::Budget,
        }
    }
}

impl Miss {
    /// Why, given the oracle tree of this context: unlucky if and only if its path probability lies below the least of the
    /// tree's, so that an oracle misses it too. While the tree is refined its floor only rises, and so what is unlucky stays so.
    pub fn cause_given(&self, look: &Look) -> Cause {
        if self.pi < look.oracle_floor { Cause::Unlucky } else { Cause::without_luck(self.rank, self.draft_rank, self.asked) }
    }

    /// Why, as far as is known.
    fn cause_by(&self, look: Option<&Look>) -> Cause {
        look.map_or(self.cause, |look| self.cause_given(look))
    }
}

/// Counts by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Causes {
    unlucky: usize,
    budget: usize,
    ranking: usize,
    knowledge: usize,
}

impl Causes {
    /// Misses with this cause.
    pub fn of(&self, cause: Cause) -> usize {
        match cause {
            Cause::Unlucky => self.unlucky,
            Cause::Budget => self.budget,
            Cause::Ranking => self.ranking,
            Cause::Knowledge => self.knowledge,
        }
    }

    /// All of them.
    pub fn total(&self) -> usize {
        Cause::ALL.iter().map(|&cause| self.of(cause)).sum()
    }

    fn count(&mut self, cause: Cause) -> &mut usize {
        match cause {
            Cause::Unlucky => &mut self.unlucky,
            Cause::Budget => &mut self.budget,
            Cause::Ranking => &mut self.ranking,
            Cause::Knowledge => &mut self.knowledge,
        }
    }

    fn add(&mut self, cause: Cause) {
        *self.count(cause) += 1;
    }

    fn take(&mut self, cause: Cause) {
        *self.count(cause) = self.of(cause).saturating_sub(1);
    }
}

/// A token that was missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedToken {
    /// The token.
    pub token: TokenId,
    /// Its text.
    pub text: String,
    /// What it looks like.
    pub class: TokenClass,
    /// How often, by cause. Never too many; too few where it made room for others in between.
    #[serde(flatten)]
    pub causes: Causes,
}

/// Misses over steps, in memory that does not grow with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Misses {
    causes: Causes,
    depths: Vec<Causes>,
    classes: [Causes; TokenClass::ALL.len()],
    tokens: HashMap<TokenId, MissedToken>,
}

impl Misses {
    /// One more, with the look at its step where there is one already.
    pub fn add(&mut self, miss: &Miss, look: Option<&Look>) {
        let cause = miss.cause_by(look);
        let depth = Self::place(miss);
        if self.depths.len() <= depth {
            self.depths.resize(depth + 1, Causes::default());
        }
        self.causes.add(cause);
        self.depths[depth].add(cause);
        self.classes[miss.class as usize].add(cause);
        if self.tokens.len() >= TOKENS && !self.tokens.contains_key(&miss.token) {
            let rarest = self.tokens.values().min_by_key(|t| (t.causes.total(), t.token)).map(|t| t.token);
            rarest.map(|token| self.tokens.remove(&token));
        }
        let token = self.tokens.entry(miss.token).or_insert_with(|| MissedToken {
            token: miss.token,
            text: miss.text.clone(),
            class: miss.class,
            causes: Causes::default(),
        });
        token.causes.add(cause);
    }

    /// Something was found out about the step of a miss that was added; `before` is what was known until now.
    pub fn looked(&mut self, miss: &Miss, before: Option<&Look>, look: &Look) {
        let (old, new) = (miss.cause_by(before), miss.cause_given(look));
        if old == new {
            return;
        }
        let all = std::iter::once(&mut self.causes)
            .chain(self.depths.get_mut(Self::place(miss)))
            .chain(std::iter::once(&mut self.classes[miss.class as usize]));
        for causes in all {
            causes.take(old);
            causes.add(new);
        }
        // A token that made room meanwhile may not have been counted with its old cause.
        if let Some(token) = self.tokens.get_mut(&miss.token).filter(|t| t.causes.of(old) > 0) {
            token.causes.take(old);
            token.causes.add(new);
        }
    }

    fn place(miss: &Miss) -> usize {
        miss.depth.clamp(1, DEPTHS) - 1
    }

    /// All together, by cause.
    pub fn causes(&self) -> Causes {
        self.causes
    }

    /// By cause at each depth, from 1. The last of 256 holds all deeper ones.
    pub fn depths(&self) -> &[Causes] {
        &self.depths
    }

    /// By cause, for a class of tokens.
    pub fn class(&self, class: TokenClass) -> Causes {
        self.classes[class as usize]
    }

    /// The tokens that were missed most, `n` at most, those that bad luck alone took last: by falling count of the other
    /// causes, then of all, then by rising id.
    pub fn worst(&self, n: usize) -> Vec<&MissedToken> {
        let mut all: Vec<&MissedToken> = self.tokens.values().collect();
        let key = |t: &MissedToken| {
            let total = t.causes.total();
            (std::cmp::Reverse(total - t.causes.of(Cause::Unlucky)), std::cmp::Reverse(total), t.token)
        };
        all.sort_unstable_by_key(|t| key(t));
        all.truncate(n);
        all
    }
}

impl TokenClass {
    /// All classes.
    pub const ALL: [TokenClass; 7] = [
        TokenClass::WordStart,
        TokenClass::WordPart,
        TokenClass::Digit,
        TokenClass::Punctuation,
        TokenClass::Space,
        TokenClass::Code,
        TokenClass::Other,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            TokenClass::WordStart => "word start",
            TokenClass::WordPart => "word part",
            TokenClass::Digit => "digit",
            TokenClass::Punctuation => "punctuation",
            TokenClass::Space => "space",
            TokenClass::Code => "code",
            TokenClass::Other => "other",
        }
    }

    /// The class of a token by its text of its own: by what comes first behind white space, except that signs of code anywhere
    /// make it code. A control token as `<|im_end|>` and a part of a character are other.
    pub fn of(text: &str) -> TokenClass {
        let body = text.trim_start();
        let Some(first) = body.chars().next() else {
            return if text.is_empty() { TokenClass::Other } else { TokenClass::Space };
        };
        let control = (body.starts_with("<|") && body.ends_with("|>")) || ["<s>", "</s>", "<unk>", "<pad>"].contains(&body);
        if control || body.contains('\u{fffd}') {
            return TokenClass::Other;
        }
        if body.contains(['{', '}', '[', ']', '<', '>', '=', '_', '\\', '|', '^', '~', '`'])
            || ["()", "::", "//", "/*", "*/", "&&", "++", ");", "):", "!("].iter().any(|pair| body.contains(pair))
        {
            return TokenClass::Code;
        }
        let apostrophe = ['\'', '\u{2019}'].contains(&first) && body.chars().nth(1).is_some_and(char::is_alphabetic);
        match first {
            _ if apostrophe => TokenClass::WordPart,
            c if c.is_alphabetic() && body.len() < text.len() => TokenClass::WordStart,
            c if c.is_alphabetic() => TokenClass::WordPart,
            c if c.is_numeric() => TokenClass::Digit,
            c if c.is_ascii_punctuation() || "–—…‘’“”«»¿¡·•、。，！？：；「」（）".contains(c) => {
                TokenClass::Punctuation
            }
            _ => TokenClass::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::LookState;
    use crate::telemetry::testing::miss;

    fn look(floor: f64) -> Look {
        Look {
            oracle_lower: 1.0,
            oracle_upper: 1.0,
            oracle_floor: floor,
            passes: 1,
            drafter_best: None,
            state: LookState::Converged,
        }
    }

    #[test]
    fn causes_by_their_definitions() {
        use Cause::*;
        for (rank, draft_rank, asked, want) in [
            (3, Some(3), true, Budget),
            (3, Some(2), true, Budget),
            (3, Some(4), true, Ranking),
            (0, None, true, Knowledge),
            (0, None, false, Budget),
        ] {
            assert_eq!(Cause::without_luck(rank, draft_rank, asked), want);
        }
        let miss = Miss { asked: true, ..miss(7, 1, Unlucky) };
        assert_eq!(
            (miss.cause_given(&look(0.2)), miss.cause_given(&look(0.1)), miss.cause_given(&look(0.0))),
            (Unlucky, Knowledge, Knowledge)
        );
    }

    #[test]
    fn a_look_moves_what_it_explains() {
        let mut misses = Misses::default();
        let known = miss(7, 3, Cause::Knowledge);
        misses.add(&known, None);
        misses.add(&miss(8, 1, Cause::Budget), None);
        misses.looked(&known, None, &look(0.0));
        assert_eq!(misses.causes().of(Cause::Knowledge), 1);
        misses.looked(&known, Some(&look(0.0)), &look(0.5));
        assert_eq!((misses.causes().of(Cause::Unlucky), misses.causes().of(Cause::Knowledge)), (1, 0));
        assert_eq!((misses.depths()[2].of(Cause::Unlucky), misses.depths()[2].total()), (1, 1));
        assert_eq!(misses.class(TokenClass::WordStart).total(), 2);
        // What luck alone took comes last.
        assert_eq!(misses.worst(9).iter().map(|t| t.token).collect::<Vec<_>>(), [8, 7]);
    }

    #[test]
    fn classes_of_tokens() {
        use TokenClass::*;
        for (text, want) in [
            (" the", WordStart),
            ("\nThe", WordStart),
            (" été", WordStart),
            (" 日本", WordStart),
            ("ing", WordPart),
            ("'s", WordPart),
            ("7", Digit),
            (" 12", Digit),
            (".", Punctuation),
            (" (", Punctuation),
            ("—", Punctuation),
            (" ", Space),
            ("\n\n", Space),
            ("_name", Code),
            ("();", Code),
            (" ==", Code),
            ("my_var", Code),
            ("<|im_end|>", Other),
            ("</s>", Other),
            ("\u{fffd}", Other),
            ("", Other),
            ("😀", Other),
        ] {
            assert_eq!(TokenClass::of(text), want, "{text:?}");
        }
        for (i, class) in TokenClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, i);
        }
    }

    proptest! {
        #[test]
        fn counts_agree_and_memory_is_bounded(
            list in prop::collection::vec((0u32..2000, 1usize..600, 0usize..4, prop::option::of(0.0f64..0.3)), 0..3000)
        ) {
            let mut misses = Misses::default();
            for &(token, depth, cause, floor) in &list {
                let miss = miss(token, depth, Cause::ALL[cause]);
                misses.add(&miss, None);
                if let Some(floor) = floor {
                    misses.looked(&miss, None, &look(floor));
                }
            }
            prop_assert_eq!(misses.causes().total(), list.len());
            let depths: usize = misses.depths().iter().map(Causes::total).sum();
            let classes: usize = TokenClass::ALL.iter().map(|&c| misses.class(c).total()).sum();
            prop_assert_eq!((depths, classes), (list.len(), list.len()));
            let worst = misses.worst(usize::MAX);
            prop_assert!(worst.len() <= TOKENS);
            for token in worst {
                let often = list.iter().filter(|(t, ..)| *t == token.token).count();
                prop_assert!(token.causes.total() <= often);
            }
            TokenClass::of("x");
        }

        #[test]
        fn every_text_has_a_class(text in ".{0,12}") {
            TokenClass::of(&text);
        }
    }
}
