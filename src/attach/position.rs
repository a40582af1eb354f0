//! Partial distribution of one position, as a server lists it.

use crate::distribution::Moments;
use crate::theory::pool::SurprisalPool;

/// Maximum distance from 1 of the sum of a whole distribution.
///
/// Allows for the rounding of its probabilities.
const ROUNDING: f64 = 1e-3;
/// Assumed surprisal of the tail, in nats beyond the last listed token.
///
/// Applies if the size of the vocabulary is not known.
const TAIL_NATS: f64 = 3.0;
/// Mass of unlisted tokens below which a distribution counts as whole.
const WHOLE: f64 = 1e-6;

/// Token that was drawn from a position's distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// Surprisal of the token in nats.
    pub surprisal: f64,
    /// Set if the token is among the listed ones.
    pub in_top: bool,
}

/// Partial distribution of one position.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Position {
    top: Vec<f64>,
    /// Tokens that were listed, those of probability 0 included.
    listed: usize,
    /// True if no other token has a probability.
    whole: bool,
    drawn: Option<Drawn>,
}

impl Position {
    /// Creates a position from the probabilities of its most probable tokens.
    ///
    /// They may come in any order. `drawn` was sampled from the same distribution.
    ///
    /// Values that are no probabilities are dropped; a sum above 1, from rounding, is scaled to 1.
    pub fn new(top: impl IntoIterator<Item = f64>, drawn: Option<Drawn>) -> Position {
        let mut top: Vec<f64> = top.into_iter().filter(|p| *p >= 0.0 && p.is_finite()).collect();
        let listed = top.len();
        top.retain(|p| *p > 0.0);
        top.sort_by(|a, b| b.total_cmp(a));
        let drawn = drawn.filter(|drawn| drawn.surprisal.is_finite());
        let whole = top.len() < listed;
        let position = Position { top, listed, whole: false, drawn };
        if whole { position.completed() } else { position.scaled(1.0) }
    }

    /// Marks every token with a probability as listed: the rest of the mass is rounding.
    ///
    /// A sum far from 1 leaves the position as it is.
    pub fn completed(mut self) -> Position {
        let sum: f64 = self.top.iter().sum();
        if (sum - 1.0).abs() <= ROUNDING {
            self.whole = true;
            return self.scaled(0.0);
        }
        self.scaled(1.0)
    }

    /// Scales the sum to 1 if it is above `most`.
    fn scaled(mut self, most: f64) -> Position {
        let sum: f64 = self.top.iter().sum();
        if sum > most {
            self.top.iter_mut().for_each(|p| *p /= sum);
        }
        self
    }

    /// Number of listed tokens, those of probability 0 included.
    pub(super) fn listed(&self) -> usize {
        self.listed
    }

    /// Probabilities of the listed tokens, falling.
    pub fn top(&self) -> &[f64] {
        &self.top
    }

    /// Token drawn from the distribution.
    pub fn drawn(&self) -> Option<Drawn> {
        self.drawn
    }

    /// Returns whether no other token than the listed ones has a probability.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Mass of the tokens that are not listed.
    pub(super) fn tail(&self) -> f64 {
        if self.whole {
            return 0.0;
        }
        (1.0 - self.top.iter().sum::<f64>()).max(0.0)
    }

    /// Largest probability that an unlisted token can have.
    fn cap(&self) -> f64 {
        self.top.last().copied().unwrap_or(1.0).min(self.tail())
    }

    fn listed_moments(&self) -> Moments {
        self.top.iter().fold(Moments::default(), |sum, p| {
            let x = -p.ln();
            Moments { entropy: sum.entropy + p * x, second: sum.second + p * x * x }
        })
    }

    /// Surprisal around which the tail's tokens lie: any value keeps the estimates unbiased.
    pub(super) fn center(&self, vocabulary: Option<usize>) -> f64 {
        let tail = self.tail();
        if tail <= 0.0 {
            return 0.0;
        }
        let low = -self.cap().ln();
        let unlisted = vocabulary.map(|v| v.saturating_sub(self.listed).max(1) as f64);
        let high = unlisted.map_or(low + TAIL_NATS, |m| (m / tail).ln().max(low));
        0.5 * (low + high)
    }

    /// Estimates entropy and second moment.
    ///
    /// `None` if the tail is not negligible and no token was sampled.
    pub(super) fn moments(&self, vocabulary: Option<usize>) -> Option<Moments> {
        let (listed, tail, c) = (self.listed_moments(), self.tail(), self.center(vocabulary));
        let missed = match self.drawn {
            Some(drawn) if !drawn.in_top && !self.whole => Some(drawn.surprisal),
            Some(_) => None,
            None if tail < WHOLE => None,
            None => return None,
        };
        let entropy = listed.entropy + tail * c + missed.map_or(0.0, |x| x - c);
        let second = listed.second + tail * c * c + missed.map_or(0.0, |x| x * x - c * c);
        Some(Moments { entropy, second })
    }

    /// Two largest probabilities, or upper bounds on them.
    pub(super) fn largest(&self) -> [f64; 2] {
        match self.top[..] {
            [] => [1.0, 0.0],
            [first] => [first, first.min(self.tail())],
            [first, second, ..] => [first, second],
        }
    }

    pub(super) fn add_listed(&self, pool: &mut SurprisalPool) {
        self.top.iter().for_each(|&p| pool.add_atom(-p.ln(), p, 1.0));
    }
}
