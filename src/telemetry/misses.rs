//! Counts of misses by cause, depth, token class, and token.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Miss, MissCause, OracleResult, TokenClass};
use crate::tree::TokenId;

/// Maximum number of tokens counted individually. Beyond that the rarest one is replaced.
const TOKENS: usize = 512;
/// Number of depths counted individually; the last one includes all deeper ones.
const DEPTHS: usize = 256;

impl MissCause {
    /// All causes, in order of declaration.
    pub const ALL: [MissCause; 5] = [
        MissCause::Unlucky,
        MissCause::Budget,
        MissCause::Ranking,
        MissCause::Knowledge,
        MissCause::Vocabulary,
    ];

    /// Returns the name of the cause, in one word.
    pub fn name(self) -> &'static str {
        match self {
            MissCause::Unlucky => "unlucky",
            MissCause::Budget => "budget",
            MissCause::Ranking => "ranking",
            MissCause::Knowledge => "knowledge",
            MissCause::Vocabulary => "vocabulary",
        }
    }

    /// Returns the cause of a miss, luck aside. `rank` is the token's rank under the target, and
    /// `draft_rank` its rank among the drafter's candidates if it was proposed. `asked` is `true`
    /// if candidates of the drafter were requested there.
    pub fn ignoring_luck(rank: usize, draft_rank: Option<usize>, asked: bool) -> MissCause {
        match draft_rank {
            Some(own) if own <= rank => MissCause::Budget,
            Some(_) => MissCause::Ranking,
            None if asked => MissCause::Knowledge,
            None => MissCause::Budget,
        }
    }
}

impl Miss {
    /// Returns the cause, given the oracle tree of the context. The miss is unlucky if and only if
    /// its path probability is below the smallest one in the oracle tree, which then misses the
    /// token, too. The smallest probability only rises while the search is refined, so an unlucky
    /// miss stays unlucky.
    pub fn cause_given_oracle(&self, result: &OracleResult) -> MissCause {
        if self.pi < result.oracle_floor { MissCause::Unlucky } else { self.cause_ignoring_luck() }
    }

    /// Returns the cause if luck is ignored.
    ///
    /// As [`MissCause::ignoring_luck`], but tells tokens that the drafter can't propose from those
    /// that it did not propose.
    pub fn cause_ignoring_luck(&self) -> MissCause {
        match MissCause::ignoring_luck(self.rank, self.draft_rank, self.asked) {
            MissCause::Knowledge if self.outside_vocabulary == Some(true) => MissCause::Vocabulary,
            cause => cause,
        }
    }

    /// Returns the best known cause, given the search result if any.
    fn best_known_cause(&self, result: Option<&OracleResult>) -> MissCause {
        result.map_or(self.cause, |result| self.cause_given_oracle(result))
    }
}

/// Number of misses by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseCounts {
    unlucky: usize,
    budget: usize,
    ranking: usize,
    knowledge: usize,
    #[serde(default)]
    vocabulary: usize,
}

impl CauseCounts {
    /// Returns the number of misses with this cause.
    pub fn count_of(&self, cause: MissCause) -> usize {
        match cause {
            MissCause::Unlucky => self.unlucky,
            MissCause::Budget => self.budget,
            MissCause::Ranking => self.ranking,
            MissCause::Knowledge => self.knowledge,
            MissCause::Vocabulary => self.vocabulary,
        }
    }

    /// Returns the number of misses of all causes.
    pub fn total(&self) -> usize {
        MissCause::ALL.iter().map(|&cause| self.count_of(cause)).sum()
    }

    fn count(&mut self, cause: MissCause) -> &mut usize {
        match cause {
            MissCause::Unlucky => &mut self.unlucky,
            MissCause::Budget => &mut self.budget,
            MissCause::Ranking => &mut self.ranking,
            MissCause::Knowledge => &mut self.knowledge,
            MissCause::Vocabulary => &mut self.vocabulary,
        }
    }

    fn add(&mut self, cause: MissCause) {
        *self.count(cause) += 1;
    }

    fn take(&mut self, cause: MissCause) {
        *self.count(cause) = self.count_of(cause).saturating_sub(1);
    }
}

/// Token that was missed, with the number of misses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedToken {
    /// Id of the token.
    pub token: TokenId,
    /// Text of the token on its own.
    pub text: String,
    /// Class of the text.
    pub class: TokenClass,
    /// Number of misses, by cause. It can be too low if the token was replaced in between, but
    /// never too high.
    #[serde(flatten)]
    pub causes: CauseCounts,
}

/// Counts of misses over steps, in constant memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Misses {
    causes: CauseCounts,
    depths: Vec<CauseCounts>,
    classes: [CauseCounts; TokenClass::ALL.len()],
    tokens: HashMap<TokenId, MissedToken>,
}

impl Misses {
    /// Adds a miss, with the oracle search of its step if there is one already.
    pub fn add(&mut self, miss: &Miss, result: Option<&OracleResult>) {
        let cause = miss.best_known_cause(result);
        let depth = Self::place(miss);
        if self.depths.len() <= depth {
            self.depths.resize(depth + 1, CauseCounts::default());
        }
        self.causes.add(cause);
        self.depths[depth].add(cause);
        self.classes[miss.class as usize].add(cause);
        if self.tokens.len() >= TOKENS && !self.tokens.contains_key(&miss.token) {
            let rarest =
                self.tokens.values().min_by_key(|t| (t.causes.total(), t.token)).map(|t| t.token);
            rarest.map(|token| self.tokens.remove(&token));
        }
        let token = self.tokens.entry(miss.token).or_insert_with(|| MissedToken {
            token: miss.token,
            text: miss.text.clone(),
            class: miss.class,
            causes: CauseCounts::default(),
        });
        token.causes.add(cause);
    }

    /// Updates the cause of a miss after an oracle search of its step. `before` is the previous
    /// result for the same step, if there was one.
    pub fn update_cause(
        &mut self,
        miss: &Miss,
        before: Option<&OracleResult>,
        result: &OracleResult,
    ) {
        let (old, new) = (miss.best_known_cause(before), miss.cause_given_oracle(result));
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
        // A token that was replaced in between may not have been counted with its old cause.
        if let Some(token) = self.tokens.get_mut(&miss.token).filter(|t| t.causes.count_of(old) > 0)
        {
            token.causes.take(old);
            token.causes.add(new);
        }
    }

    fn place(miss: &Miss) -> usize {
        miss.depth.clamp(1, DEPTHS) - 1
    }

    /// Returns the counts over all misses.
    pub fn causes(&self) -> CauseCounts {
        self.causes
    }

    /// Returns the counts at each depth, from 1. The last of 256 includes all deeper ones.
    pub fn depths(&self) -> &[CauseCounts] {
        &self.depths
    }

    /// Returns the counts for a class of tokens.
    pub fn class(&self, class: TokenClass) -> CauseCounts {
        self.classes[class as usize]
    }

    /// Returns the `n` most frequently missed tokens. The order is by falling count of causes other
    /// than bad luck, then by falling total, then by rising id.
    pub fn most_missed(&self, n: usize) -> Vec<&MissedToken> {
        let mut all: Vec<&MissedToken> = self.tokens.values().collect();
        let key = |t: &MissedToken| {
            let total = t.causes.total();
            (
                std::cmp::Reverse(total - t.causes.count_of(MissCause::Unlucky)),
                std::cmp::Reverse(total),
                t.token,
            )
        };
        all.sort_unstable_by_key(|t| key(t));
        all.truncate(n);
        all
    }
}

impl TokenClass {
    /// All classes, in order of declaration.
    pub const ALL: [TokenClass; 7] = [
        TokenClass::WordStart,
        TokenClass::WordPart,
        TokenClass::Digit,
        TokenClass::Punctuation,
        TokenClass::Space,
        TokenClass::Code,
        TokenClass::Other,
    ];

    /// Returns the name of the class, in words.
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

    /// Returns the class of a token, given its text. It is the class of the first character after
    /// white space. Characters or pairs that are typical of code, anywhere in the text, make it
    /// code. Control tokens such as `<|im_end|>` and incomplete characters are `Other`.
    pub fn from_text(text: &str) -> TokenClass {
        let body = text.trim_start();
        let Some(first) = body.chars().next() else {
            return if text.is_empty() { TokenClass::Other } else { TokenClass::Space };
        };
        let control = (body.starts_with("<|") && body.ends_with("|>"))
            || ["<s>", "</s>", "<unk>", "<pad>"].contains(&body);
        if control || body.contains('\u{fffd}') {
            return TokenClass::Other;
        }
        if body.contains(['{', '}', '[', ']', '<', '>', '=', '_', '\\', '|', '^', '~', '`'])
            || ["()", "::", "//", "/*", "*/", "&&", "++", ");", "):", "!("]
                .iter()
                .any(|pair| body.contains(pair))
        {
            return TokenClass::Code;
        }
        let apostrophe = ['\'', '\u{2019}'].contains(&first)
            && body.chars().nth(1).is_some_and(char::is_alphabetic);
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
    use crate::telemetry::OracleSearchState;
    use crate::telemetry::testing::miss;

    fn result(floor: f64) -> OracleResult {
        OracleResult {
            oracle_lower: 1.0,
            oracle_upper: 1.0,
            oracle_floor: floor,
            passes: 1,
            drafter_best: None,
            state: OracleSearchState::Converged,
        }
    }

    #[test]
    fn causes_by_their_definitions() {
        use MissCause::*;
        for (rank, draft_rank, asked, want) in [
            (3, Some(3), true, Budget),
            (3, Some(2), true, Budget),
            (3, Some(4), true, Ranking),
            (0, None, true, Knowledge),
            (0, None, false, Budget),
        ] {
            assert_eq!(MissCause::ignoring_luck(rank, draft_rank, asked), want);
        }
        let miss = Miss { asked: true, ..miss(7, 1, Unlucky) };
        assert_eq!(
            (
                miss.cause_given_oracle(&result(0.2)),
                miss.cause_given_oracle(&result(0.1)),
                miss.cause_given_oracle(&result(0.0))
            ),
            (Unlucky, Knowledge, Knowledge)
        );
        // A drafter that was not asked could not propose any token.
        let outside = Miss { outside_vocabulary: Some(true), ..miss };
        assert_eq!(
            (outside.cause_given_oracle(&result(0.2)), outside.cause_given_oracle(&result(0.0))),
            (Unlucky, Vocabulary)
        );
        assert_eq!(Miss { asked: false, ..outside.clone() }.cause_ignoring_luck(), Budget);
        assert_eq!(Miss { draft_rank: Some(9), ..outside }.cause_ignoring_luck(), Ranking);
    }

    #[test]
    fn oracle_result_updates_the_cause() {
        let mut misses = Misses::default();
        let known = miss(7, 3, MissCause::Knowledge);
        misses.add(&known, None);
        misses.add(&miss(8, 1, MissCause::Budget), None);
        misses.update_cause(&known, None, &result(0.0));
        assert_eq!(misses.causes().count_of(MissCause::Knowledge), 1);
        misses.update_cause(&known, Some(&result(0.0)), &result(0.5));
        assert_eq!(
            (
                misses.causes().count_of(MissCause::Unlucky),
                misses.causes().count_of(MissCause::Knowledge)
            ),
            (1, 0)
        );
        assert_eq!(
            (misses.depths()[2].count_of(MissCause::Unlucky), misses.depths()[2].total()),
            (1, 1)
        );
        assert_eq!(misses.class(TokenClass::WordStart).total(), 2);
        // Tokens missed by bad luck alone come last.
        assert_eq!(misses.most_missed(9).iter().map(|t| t.token).collect::<Vec<_>>(), [8, 7]);
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
            assert_eq!(TokenClass::from_text(text), want, "{text:?}");
        }
        for (i, class) in TokenClass::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, i);
        }
    }

    proptest! {
        #[test]
        fn counts_agree_and_memory_is_bounded(
            list in prop::collection::vec((0u32..2000, 1usize..600, 0usize..5, prop::option::of(0.0f64..0.3)), 0..3000)
        ) {
            let mut misses = Misses::default();
            for &(token, depth, cause, floor) in &list {
                let miss = miss(token, depth, MissCause::ALL[cause]);
                misses.add(&miss, None);
                if let Some(floor) = floor {
                    misses.update_cause(&miss, None, &result(floor));
                }
            }
            prop_assert_eq!(misses.causes().total(), list.len());
            let depths: usize = misses.depths().iter().map(CauseCounts::total).sum();
            let classes: usize = TokenClass::ALL.iter().map(|&c| misses.class(c).total()).sum();
            prop_assert_eq!((depths, classes), (list.len(), list.len()));
            let worst = misses.most_missed(usize::MAX);
            prop_assert!(worst.len() <= TOKENS);
            for token in worst {
                let often = list.iter().filter(|(t, ..)| *t == token.token).count();
                prop_assert!(token.causes.total() <= often);
            }
            TokenClass::from_text("x");
        }

        #[test]
        fn every_text_has_a_class(text in ".{0,12}") {
            TokenClass::from_text(&text);
        }
    }
}
