//! How far a context is trusted over the shorter ones, learnt from what came.

use super::automaton::Followers;
use crate::tree::TokenId;

/// Classes of length of a context in tokens: each begins here.
const LENGTHS: [u32; 9] = [1, 2, 3, 4, 5, 7, 11, 17, 33];
/// Classes of how often it was followed.
const TOTALS: [u32; 5] = [1, 2, 3, 6, 16];
/// Classes of how many followers differ: one, at most half of all, more.
const KINDS: usize = 3;
/// Observations that the estimate of a single context counts for.
const PRIOR: f64 = 4.0;
/// What is left of an observation after another of its class: texts change.
const KEEP: f64 = 0.995;
/// Probability of a token that no context knows, for learning alone: about one in a vocabulary.
const UNKNOWN: f64 = 1e-4;

/// The probability that the next token is drawn by the counts of a context, and not by those of shorter ones.
///
/// Of a single context that is c / (c + t) for c followers of which t differ (Witten and Bell 1991, method C). Its class has the
/// last word: the weights of an interpolated model, by buckets (Jelinek and Mercer 1980), learnt online by one step of expectation
/// maximisation for each token that came.
#[derive(Clone, Debug)]
pub struct Trust {
    /// By class: times that the token was drawn by the counts of such a context, and times that the draw came to one.
    classes: [(f64, f64); LENGTHS.len() * TOTALS.len() * KINDS],
}

impl Default for Trust {
    fn default() -> Self {
        Self { classes: [(0.0, 0.0); LENGTHS.len() * TOTALS.len() * KINDS] }
    }
}

impl Trust {
    fn class(context: &Followers) -> usize {
        let of = |classes: &[u32], value: u32| classes.partition_point(|&from| from <= value).max(1) - 1;
        let kind = match context.edges.len() as u32 {
            1 => 0,
            distinct if 2 * distinct <= context.total => 1,
            _ => 2,
        };
        (of(&LENGTHS, context.len) * TOTALS.len() + of(&TOTALS, context.total)) * KINDS + kind
    }

    /// How far this context is trusted, between 0 and 1.
    pub fn of(&self, context: &Followers) -> f64 {
        let (total, distinct) = (f64::from(context.total), context.edges.len() as f64);
        let (drawn, came) = self.classes[Self::class(context)];
        (drawn + PRIOR * total / (total + distinct)) / (came + PRIOR)
    }

    /// Learns from the token that came after a place whose contexts are these, the longest first.
    pub fn learn<'a>(&mut self, contexts: impl Iterator<Item = Followers<'a>>, token: TokenId) {
        // For each context its class and the probability that it was reached and drew the token.
        let (mut reach, mut all) = (1.0, 0.0);
        let mut drew: Vec<(usize, f64)> = Vec::new();
        for context in contexts {
            let trust = self.of(&context);
            let own = reach * trust * f64::from(context.count(token)) / f64::from(context.total);
            drew.push((Self::class(&context), own));
            all += own;
            reach *= 1.0 - trust;
        }
        all += reach * UNKNOWN;
        let mut left = 1.0;
        for (class, own) in drew {
            let (drawn, came) = &mut self.classes[class];
            // Given the token, the draw came to this context if no longer one had drawn it.
            (*drawn, *came) = (*drawn * KEEP + own / all, *came * KEEP + left);
            left = f64::max(left - own / all, 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::suffix::automaton::Automaton;

    /// Contexts after a text.
    fn after(automaton: &Automaton) -> Vec<Followers<'_>> {
        automaton.contexts(automaton.end()).collect()
    }

    #[test]
    fn what_was_not_seen_is_witten_and_bells() {
        let mut automaton = Automaton::default();
        [1, 2, 1, 3, 1, 2, 1].into_iter().for_each(|token| automaton.push(token));
        let contexts = after(&automaton);
        // After "1": 2, 3, 2. After "2 1": 3.
        let last = contexts[contexts.len() - 1];
        assert_eq!((last.len, last.total, last.edges.len()), (1, 3, 2));
        assert_eq!(Trust::default().of(&last), 3.0 / 5.0);
        assert_eq!(Trust::default().of(&contexts[0]), 1.0 / 2.0);
    }

    #[test]
    fn contexts_that_were_right_are_trusted_and_others_not() {
        let mut automaton = Automaton::default();
        [1, 2, 9, 1, 2].into_iter().for_each(|token| automaton.push(token));
        let contexts = after(&automaton);
        let (mut right, mut wrong) = (Trust::default(), Trust::default());
        for _ in 0..300 {
            right.learn(contexts.iter().copied(), 9);
            wrong.learn(contexts.iter().copied(), 5);
        }
        assert!(right.of(&contexts[0]) > 0.95, "{}", right.of(&contexts[0]));
        assert!(wrong.of(&contexts[0]) < 0.05, "{}", wrong.of(&contexts[0]));
    }
}
