//! Interpolation weights between longer and shorter contexts, learned online.

use super::automaton::Followers;
use crate::tree::TokenId;

/// Lower bounds of the classes of context length, in tokens.
const LENGTHS: [u32; 9] = [1, 2, 3, 4, 5, 7, 11, 17, 33];
/// Lower bounds of the classes of how often the context was followed.
const TOTALS: [u32; 5] = [1, 2, 3, 6, 16];
/// Number of classes of distinct followers: one, at most half of the total, more.
const KINDS: usize = 3;
/// Weight of the estimate from a single context, in observations.
const PRIOR: f64 = 4.0;
/// Decay factor per observation of a class, since texts change.
const KEEP: f64 = 0.995;
/// Probability of a token that no context knows, about one in a vocabulary. Used in learning only.
const UNKNOWN: f64 = 1e-4;

/// Weight of a context's own counts against those of shorter contexts.
///
/// The prior for a single context is c / (c + t), for c followers of which t are distinct (Witten
/// and Bell 1991, method C). It is updated by what the context's class has learned: the bucketed
/// weights of an interpolated model (Jelinek and Mercer 1980), learned online by one step of
/// expectation maximization per token.
#[derive(Clone, Debug)]
pub struct InterpolationWeights {
    /// Expected counts per class: tokens that came from such a context's counts, and visits. A
    /// context is visited unless the token came from a longer one.
    classes: [(f64, f64); LENGTHS.len() * TOTALS.len() * KINDS],
}

impl Default for InterpolationWeights {
    fn default() -> Self {
        Self { classes: [(0.0, 0.0); LENGTHS.len() * TOTALS.len() * KINDS] }
    }
}

impl InterpolationWeights {
    fn class(context: &Followers) -> usize {
        let find =
            |classes: &[u32], value: u32| classes.partition_point(|&from| from <= value).max(1) - 1;
        let kind = match context.edges.len() as u32 {
            1 => 0,
            distinct if 2 * distinct <= context.total => 1,
            _ => 2,
        };
        (find(&LENGTHS, context.len) * TOTALS.len() + find(&TOTALS, context.total)) * KINDS + kind
    }

    /// Returns the weight of this context, between 0 and 1.
    pub fn weight(&self, context: &Followers) -> f64 {
        let (total, distinct) = (f64::from(context.total), context.edges.len() as f64);
        let (chosen, reached) = self.classes[Self::class(context)];
        (chosen + PRIOR * total / (total + distinct)) / (reached + PRIOR)
    }

    /// Updates the weights with the token that followed `contexts`, which are in falling length.
    pub fn learn<'a>(&mut self, contexts: impl Iterator<Item = Followers<'a>>, token: TokenId) {
        // Class of each context, and the probability that it was reached and its counts gave the
        // token.
        let (mut reach, mut all) = (1.0, 0.0);
        let mut shares: Vec<(usize, f64)> = Vec::new();
        for context in contexts {
            let trust = self.weight(&context);
            let own = reach * trust * f64::from(context.count(token)) / f64::from(context.total);
            shares.push((Self::class(&context), own));
            all += own;
            reach *= 1.0 - trust;
        }
        all += reach * UNKNOWN;
        let mut remaining = 1.0;
        for (class, own) in shares {
            let (chosen, reached) = &mut self.classes[class];
            // Given the token, this context was reached unless a longer one gave it.
            (*chosen, *reached) = (*chosen * KEEP + own / all, *reached * KEEP + remaining);
            remaining = f64::max(remaining - own / all, 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::drafters::suffix::automaton::Automaton;

    /// Contexts at the end of a text.
    fn after(automaton: &Automaton) -> Vec<Followers<'_>> {
        automaton.contexts(automaton.end()).collect()
    }

    #[test]
    fn unseen_class_has_witten_bell_weight() {
        let mut automaton = Automaton::default();
        [1, 2, 1, 3, 1, 2, 1].into_iter().for_each(|token| automaton.push(token));
        let contexts = after(&automaton);
        // After "1": 2, 3, 2. After "2 1": 3.
        let last = contexts[contexts.len() - 1];
        assert_eq!((last.len, last.total, last.edges.len()), (1, 3, 2));
        assert_eq!(InterpolationWeights::default().weight(&last), 3.0 / 5.0);
        assert_eq!(InterpolationWeights::default().weight(&contexts[0]), 1.0 / 2.0);
    }

    #[test]
    fn weights_rise_for_correct_contexts_and_fall_for_wrong_ones() {
        let mut automaton = Automaton::default();
        [1, 2, 9, 1, 2].into_iter().for_each(|token| automaton.push(token));
        let contexts = after(&automaton);
        let (mut right, mut wrong) =
            (InterpolationWeights::default(), InterpolationWeights::default());
        for _ in 0..300 {
            right.learn(contexts.iter().copied(), 9);
            wrong.learn(contexts.iter().copied(), 5);
        }
        assert!(right.weight(&contexts[0]) > 0.95, "{}", right.weight(&contexts[0]));
        assert!(wrong.weight(&contexts[0]) < 0.05, "{}", wrong.weight(&contexts[0]));
    }
}
