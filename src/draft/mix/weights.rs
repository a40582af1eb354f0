//! What each member's word is worth, learnt.

use std::collections::HashMap;

use super::MEMBERS;
use crate::draft::calibration::{Calibration, logistic};

/// What a learning step moves the weights by, before it is divided by the root of the squares seen.
const RATE: f64 = 0.15;
/// Log odds that a token loses where a member that knows its place does not propose it, before anything was seen.
const ABSENT: f64 = -1.5;
/// What the members say of one token after one node: the log odds of each by its calibrated q.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Word {
    /// It knows nothing of the place.
    Silent,
    /// It proposes other tokens.
    Other,
    /// It proposes the token with this q, which is worth `odds`.
    Proposed { q: f64, odds: f64 },
}

/// What all members say of a token.
pub type Said = [Word; MEMBERS];

/// A mixture in the domain of log odds, one set of weights for each pattern of words, learnt by gradient descent on the cross
/// entropy with the target's p, its steps divided by the root of the squares seen: logistic mixing (Mattern 2012) with AdaGrad
/// (Duchi et al. 2011).
#[derive(Clone, Debug)]
pub struct Weights {
    /// What each member's q is worth.
    pub known: Vec<Calibration>,
    /// By pattern: the weight of each member's log odds and, last, of a constant; each with the squares of its gradients.
    pub sets: HashMap<usize, [(f64, f64); MEMBERS + 1]>,
}

impl Weights {
    fn pattern(said: &Said) -> usize {
        said.iter().fold(0, |pattern, word| {
            3 * pattern
                + match word {
                    Word::Silent => 0,
                    Word::Other => 1,
                    Word::Proposed { .. } => 2,
                }
        })
    }

    /// The inputs of the mixture.
    fn inputs(said: &Said) -> [f64; MEMBERS + 1] {
        let mut inputs = [1.0; MEMBERS + 1];
        for (input, word) in inputs.iter_mut().zip(said) {
            *input = if let Word::Proposed { odds, .. } = word { *odds } else { 0.0 };
        }
        inputs
    }

    /// The weights of a pattern that was not met yet: the members that propose the token share its odds, the others take some.
    fn first(said: &Said) -> [(f64, f64); MEMBERS + 1] {
        let proposed = said.iter().filter(|word| matches!(word, Word::Proposed { .. })).count();
        let absent = said.iter().filter(|word| matches!(word, Word::Other)).count();
        let mut set = [(1.0 / (proposed.max(1) as f64).sqrt(), 0.0); MEMBERS + 1];
        set[MEMBERS].0 = ABSENT * absent as f64;
        set
    }

    fn set(&self, said: &Said) -> [(f64, f64); MEMBERS + 1] {
        self.sets.get(&Self::pattern(said)).copied().unwrap_or_else(|| Self::first(said))
    }

    /// The probability of a token of which this was said.
    pub fn p(&self, said: &Said) -> f64 {
        logistic(self.set(said).iter().zip(Self::inputs(said)).map(|((weight, _), input)| weight * input).sum())
    }

    /// Learns from a node: what was said of it, what it counts for, and the target's p.
    pub fn learn(&mut self, said: &Said, counts: f64, p: f64) {
        let error = counts * (self.p(said) - p);
        let mut set = self.set(said);
        for ((weight, squares), input) in set.iter_mut().zip(Self::inputs(said)) {
            let gradient = error * input;
            *squares += gradient * gradient;
            if *squares > 0.0 {
                *weight -= RATE * gradient / (1.0 + *squares).sqrt();
            }
        }
        self.sets.insert(Self::pattern(said), set);
    }
}
