//! Estimates of mu, mu2 and the ceilings from partial distributions, and brackets that always hold.
//!
//! # Estimates
//! A position comes with its k most probable tokens, of mass 1 - eps together, and a token y that
//! was drawn from the same distribution. With x = -ln p(y) and any c that depends on the listed
//! tokens alone,
//!
//! ```text
//! H_k + eps c + 1[y not listed] (x - c)        has mean H, the entropy,
//! Q_k + eps c^2 + 1[y not listed] (x^2 - c^2)  has mean sum p ln^2 p,
//! ```
//!
//! where H_k and Q_k are the listed tokens' parts. c lies between the surprisals that the tail can
//! have. The distribution of the surprisal is estimated in the same way: listed tokens by their
//! probabilities, the tail by the drawn tokens that fell into it, which get its whole mass. mu and
//! mu2 are unbiased; fluid and renewal are functions of them and consistent. Intervals come from a
//! bootstrap over texts, all figures from the same replicates.
//!
//! # Brackets
//! A tail token is at most as probable as the last one listed, p_k. Both -x ln x and, up to 1/e,
//! x ln^2 x are concave: their sum over the tail is least when the tail is packed into tokens of
//! p_k and one rest, and largest when it is even. The fluid bound is a mean of convex functions of
//! the probabilities, so that the packed tail bounds it from above and an even or dropped tail from
//! below.

use crate::distribution::Moments;
use crate::theory::bootstrap::half_widths;
use crate::theory::bounds;
use crate::theory::intervals::{Estimate, Interval};
use crate::theory::pool::Pool;

/// Cells to one nat of the pools that are resampled; only ratios of their bounds are used.
const COARSE: usize = 8;
/// Weight of a text that counts once, so that tails can be scaled in small steps.
const ONE: usize = 4096;
/// Mass of unlisted tokens below which a distribution counts as whole.
const WHOLE: f64 = 1e-6;
/// Nats beyond the last listed token at which the tail is assumed, where the vocabulary's size is
/// not known.
const TAIL_NATS: f64 = 3.0;
/// Probability that x ln^2 x has its tangent through (1, 0) at: L = -2 (1 - e^L) with L = ln t.
const TANGENT: f64 = 0.203_188;

/// Token that was drawn from a position's distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// Its surprisal in nats.
    pub surprisal: f64,
    /// True if it is one of the listed tokens.
    pub in_top: bool,
}

/// Partial distribution of one position.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Position {
    top: Vec<f64>,
    drawn: Option<Drawn>,
}

impl Position {
    /// Position with the probabilities of its most probable tokens, in any order, and a token drawn
    /// from the same distribution.
    ///
    /// Values that are no probabilities are dropped; a sum above 1, from rounding, is scaled to 1.
    pub fn new(top: impl IntoIterator<Item = f64>, drawn: Option<Drawn>) -> Position {
        let mut top: Vec<f64> = top.into_iter().filter(|p| *p > 0.0 && p.is_finite()).collect();
        top.sort_by(|a, b| b.total_cmp(a));
        let sum: f64 = top.iter().sum();
        if sum > 1.0 {
            top.iter_mut().for_each(|p| *p /= sum);
        }
        Position { top, drawn: drawn.filter(|drawn| drawn.surprisal.is_finite()) }
    }

    /// Probabilities of the listed tokens, falling.
    pub fn top(&self) -> &[f64] {
        &self.top
    }

    /// Token drawn from the distribution.
    pub fn drawn(&self) -> Option<Drawn> {
        self.drawn
    }

    /// Mass of the tokens that are not listed.
    fn tail(&self) -> f64 {
        (1.0 - self.top.iter().sum::<f64>()).max(0.0)
    }

    /// Largest probability that an unlisted token can have.
    fn cap(&self) -> f64 {
        self.top.last().copied().unwrap_or(1.0).min(self.tail())
    }

    fn listed(&self) -> Moments {
        self.top.iter().fold(Moments::default(), |sum, p| {
            let x = -p.ln();
            Moments { entropy: sum.entropy + p * x, second: sum.second + p * x * x }
        })
    }

    /// Surprisal around which the tail's tokens lie: any value keeps the estimates unbiased.
    fn center(&self, vocabulary: Option<usize>) -> f64 {
        let tail = self.tail();
        if tail <= 0.0 {
            return 0.0;
        }
        let low = -self.cap().ln();
        let unlisted = vocabulary.map(|v| v.saturating_sub(self.top.len()).max(1) as f64);
        let high = unlisted.map_or(low + TAIL_NATS, |m| (m / tail).ln().max(low));
        0.5 * (low + high)
    }

    /// Estimates of entropy and second moment; `None` where the tail is not negligible and no token
    /// was drawn.
    fn moments(&self, vocabulary: Option<usize>) -> Option<Moments> {
        let (listed, tail, c) = (self.listed(), self.tail(), self.center(vocabulary));
        let missed = match self.drawn {
            Some(drawn) if !drawn.in_top => Some(drawn.surprisal),
            Some(_) => None,
            None if tail < WHOLE => None,
            None => return None,
        };
        let entropy = listed.entropy + tail * c + missed.map_or(0.0, |x| x - c);
        let second = listed.second + tail * c * c + missed.map_or(0.0, |x| x * x - c * c);
        Some(Moments { entropy, second })
    }

    /// Two largest probabilities, or upper bounds on them.
    fn largest(&self) -> [f64; 2] {
        match self.top[..] {
            [] => [1.0, 0.0],
            [first] => [first, first.min(self.tail())],
            [first, second, ..] => [first, second],
        }
    }

    /// Bracket of the entropy; no upper end without the size of the vocabulary.
    pub fn entropy_bracket(&self, vocabulary: Option<usize>) -> (f64, Option<f64>) {
        let (listed, tail) = (self.listed().entropy, self.tail());
        let x_ln_x = |x: f64| if x > 0.0 { -x * x.ln() } else { 0.0 };
        let (packed, rest) = self.packed();
        let low = listed + packed * x_ln_x(self.cap()) + x_ln_x(rest);
        let high = self
            .unlisted(vocabulary)
            .map(|m| if tail > 0.0 { tail * (m / tail).ln() } else { 0.0 });
        (low, high.map(|high| listed + high.max(0.0)))
    }

    /// Bracket of sum p ln^2 p; no upper end without the size of the vocabulary.
    pub fn second_bracket(&self, vocabulary: Option<usize>) -> (f64, Option<f64>) {
        let (listed, tail, cap) = (self.listed().second, self.tail(), self.cap());
        let f = |x: f64| if x > 0.0 { x * x.ln().powi(2) } else { 0.0 };
        let (packed, rest) = self.packed();
        // Beyond 1/e the function is not concave, but x ln^2 x over x falls all the way to 1.
        let low = if cap <= (-1.0f64).exp() {
            packed * f(cap) + f(rest)
        } else {
            tail * cap.ln().powi(2)
        };
        let high = self.unlisted(vocabulary).map(|m| {
            let even = tail / m;
            // The concave envelope: the function itself, then its tangent through (1, 0).
            let f_even =
                if even <= TANGENT { f(even) } else { f(TANGENT) * (1.0 - even) / (1.0 - TANGENT) };
            m * f_even
        });
        (listed + low, high.map(|high| listed + high))
    }

    /// Number of tokens of the largest possible probability in a packed tail, and the rest.
    fn packed(&self) -> (f64, f64) {
        let (tail, cap) = (self.tail(), self.cap());
        if tail <= 0.0 || cap <= 0.0 {
            return (0.0, 0.0);
        }
        let whole = (tail / cap).floor();
        (whole, (tail - whole * cap).clamp(0.0, cap))
    }

    fn unlisted(&self, vocabulary: Option<usize>) -> Option<f64> {
        let m = vocabulary?.saturating_sub(self.top.len());
        // Rounding leaves a tail where every token is listed.
        Some(m.max(1) as f64)
    }

    fn add_listed(&self, pool: &mut Pool) {
        self.top.iter().for_each(|&p| pool.add_atom(-p.ln(), p, 1.0));
    }

    /// Adds the distribution with its tail packed (`high`) or even (dropped, where the vocabulary
    /// is not known).
    fn add_bracket(&self, vocabulary: Option<usize>, high: &mut Pool, low: &mut Pool) {
        self.add_listed(high);
        self.add_listed(low);
        let (packed, rest) = self.packed();
        let (cap, tail) = (self.cap(), self.tail());
        if packed > 0.0 {
            high.add_atom(-cap.ln(), packed * cap, packed);
        }
        if rest > 0.0 {
            high.add_atom(-rest.ln(), rest, 1.0);
        }
        high.add_position(Moments::default(), self.largest());
        let even = self.unlisted(vocabulary).filter(|_| tail > 0.0).map(|m| (m, tail / m));
        if let Some((m, even)) = even {
            low.add_atom(-even.ln(), tail, m);
        }
        let even = even.map_or(1e-12, |(_, even)| even);
        let second = self.top.get(1).copied().unwrap_or(even);
        low.add_position(Moments::default(), [self.top.first().copied().unwrap_or(even), second]);
    }
}

/// Comparison of one step with the chain of the target's most probable tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainMark {
    /// Tokens that a chain of B - 1 most probable tokens would have had accepted.
    pub reached: usize,
    /// The same for a chain as long as the step's draft.
    pub at_drafted: usize,
    /// Tokens that were accepted.
    pub accepted: usize,
}

/// Distributions and chain marks of one text.
#[derive(Clone, Debug, Default)]
pub struct Scored {
    /// Distributions of its positions, or of a random sample of whole steps.
    pub positions: Vec<Position>,
    /// Chain marks of its steps, or of a random sample.
    pub chains: Vec<ChainMark>,
}

/// Sums over the positions of one text.
#[derive(Clone, Debug)]
struct TextSums {
    positions: usize,
    entropy: f64,
    second: f64,
    /// Pool of the listed tokens of all positions.
    head: Pool,
    /// Drawn tokens that were not listed, each with its whole mass.
    tail: Pool,
    /// Tails at their centers, for texts in which no drawn token fell into one.
    spare: Pool,
    /// Mass of unlisted tokens.
    mass: f64,
    /// Drawn tokens that were not listed.
    misses: f64,
    /// Sum of the largest probabilities.
    first: f64,
    chains: [f64; 4],
}

impl TextSums {
    fn new(per_nat: usize) -> TextSums {
        let pool = || Pool::with_grid(per_nat);
        let (head, tail, spare) = (pool(), pool(), pool());
        TextSums {
            positions: 0,
            entropy: 0.0,
            second: 0.0,
            head,
            tail,
            spare,
            mass: 0.0,
            misses: 0.0,
            first: 0.0,
            chains: [0.0; 4],
        }
    }

    fn add(&mut self, position: &Position, moments: Moments, vocabulary: Option<usize>) {
        self.positions += 1;
        self.entropy += moments.entropy;
        self.second += moments.second;
        position.add_listed(&mut self.head);
        self.head.add_position(Moments::default(), position.largest());
        let (tail, c) = (position.tail(), position.center(vocabulary));
        self.mass += tail;
        self.spare.add_atom(c, tail, tail * c.exp());
        if let Some(drawn) = position.drawn.filter(|drawn| !drawn.in_top) {
            self.misses += 1.0;
            self.tail.add_atom(drawn.surprisal, 1.0, drawn.surprisal.exp());
        }
        self.first += position.largest()[0];
    }

    fn join(&mut self, other: &TextSums, times: usize) {
        let weight = times as f64;
        self.positions += times * other.positions;
        self.entropy += weight * other.entropy;
        self.second += weight * other.second;
        self.head.absorb(&other.head, times);
        self.tail.absorb(&other.tail, times);
        self.spare.absorb(&other.spare, times);
        self.mass += weight * other.mass;
        self.misses += weight * other.misses;
        self.first += weight * other.first;
        self.chains.iter_mut().zip(other.chains).for_each(|(sum, more)| *sum += weight * more);
    }

    /// Pool of the estimated distribution: listed tokens, and the tail's mass spread over the drawn
    /// tokens that fell into it.
    fn pool(&self) -> Pool {
        let mut pool = self.head.clone();
        pool.clear();
        pool.absorb(&self.head, ONE);
        let (tail, scale) = if self.misses > 0.0 {
            (&self.tail, self.mass / self.misses)
        } else {
            (&self.spare, 1.0)
        };
        pool.absorb(tail, (scale * ONE as f64).round() as usize);
        pool
    }

    /// Every figure, `None` as no number: mu, mu2, published, renewal, tuned, fluid, fluid at the
    /// mean, chain, oracle chains, accepted.
    fn figures(&self, sizes: &Sizes) -> [f64; 11] {
        let n = self.positions as f64;
        let (mu, mu2) = (self.entropy / n, self.second / n);
        let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
        let pool = self.pool();
        let drafted = sizes.budget.map(|budget| budget - 1);
        let chain = |drafted: usize| {
            let p = self.first / n;
            (1..=drafted).map(|j| p.powi(j as i32)).sum::<f64>()
        };
        let [marks, reached, at_drafted, accepted] = self.chains;
        let mean = |sum: f64| if marks > 0.0 { sum / marks } else { f64::NAN };
        [
            mu,
            mu2,
            number(sizes.budget.and_then(|budget| bounds::published(mu, mu2, budget))),
            number(drafted.and_then(|drafted| bounds::renewal(mu, mu2, drafted))),
            number(drafted.and_then(|drafted| bounds::renewal_tuned(mu, mu2, drafted))),
            number(drafted.and_then(|drafted| pool.fluid(drafted))),
            number(sizes.mean_drafted.and_then(|drafted| pool.fluid_bound_for_mean_size(drafted))),
            number(drafted.filter(|_| sizes.listed).map(chain)),
            mean(reached),
            mean(at_drafted),
            mean(accepted),
        ]
    }
}

/// Sizes of drafts that ceilings are given for.
#[derive(Clone, Copy, Debug, Default)]
struct Sizes {
    budget: Option<usize>,
    mean_drafted: Option<f64>,
    /// True if every position listed its most probable token.
    listed: bool,
}

/// Estimates with their 95% intervals; `None` where not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimates {
    /// Positions that were scored.
    pub positions: usize,
    /// Texts they belong to.
    pub texts: usize,
    /// Mean entropy in nats.
    pub mu: Option<Estimate>,
    /// Mean of sum p ln^2 p, in nats squared.
    pub mu2: Option<Estimate>,
    /// Published form without its constant, at B.
    pub published: Option<Estimate>,
    /// Renewal form at B - 1.
    pub renewal: Option<Estimate>,
    /// Renewal form, tuned, at B - 1.
    pub renewal_tuned: Option<Estimate>,
    /// Fluid bound at B - 1.
    pub fluid: Option<Estimate>,
    /// Fluid bound at the mean number of drafted tokens.
    pub fluid_at_mean: Option<Estimate>,
    /// Ceiling of chains of B - 1 tokens for independent positions: the sum of (E max p)^j.
    pub chain: Option<Estimate>,
    /// Accepted tokens per step of the target's own most probable chain of B - 1 tokens.
    pub oracle_chain: Option<Estimate>,
    /// The same for chains as long as the drafts.
    pub oracle_chain_at_drafted: Option<Estimate>,
    /// Accepted tokens per step, over the steps with a chain mark.
    pub accepted_at_marks: Option<Estimate>,
    /// Steps with a chain mark.
    pub marks: usize,
}

/// Brackets that hold for every distribution that fits the listed tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Brackets {
    /// Mean entropy; no upper end without the size of the vocabulary.
    pub mu: (f64, Option<f64>),
    /// Mean of sum p ln^2 p.
    pub mu2: (f64, Option<f64>),
    /// Fluid bound at B - 1.
    pub fluid: Option<(f64, f64)>,
}

/// Distributions of positions, text by text.
#[derive(Clone, Debug)]
pub struct TextDistributions {
    vocabulary: Option<usize>,
    texts: Vec<TextSums>,
    /// Sums over the texts, on a fine grid.
    all: TextSums,
    listed: bool,
    bracketed: usize,
    mu: (f64, f64),
    mu2: (f64, f64),
    high: Pool,
    low: Pool,
}

impl TextDistributions {
    /// Nothing yet, over a vocabulary of this size, where known.
    pub fn new(vocabulary: Option<usize>) -> TextDistributions {
        let all = TextSums {
            head: Pool::new(),
            tail: Pool::new(),
            spare: Pool::new(),
            ..TextSums::new(1)
        };
        let (high, low) = (Pool::new(), Pool::new());
        TextDistributions {
            vocabulary,
            texts: Vec::new(),
            all,
            listed: true,
            bracketed: 0,
            mu: (0.0, 0.0),
            mu2: (0.0, 0.0),
            high,
            low,
        }
    }

    /// Adds the positions and chain marks of one text.
    pub fn add(&mut self, scored: &Scored) {
        let mut text = TextSums::new(COARSE);
        for position in &scored.positions {
            self.bracket(position);
            if let Some(moments) = position.moments(self.vocabulary) {
                self.listed &= !position.top.is_empty();
                text.add(position, moments, self.vocabulary);
                self.all.add(position, moments, self.vocabulary);
            }
        }
        for mark in &scored.chains {
            let values = [1.0, mark.reached as f64, mark.at_drafted as f64, mark.accepted as f64];
            for sums in [&mut text, &mut self.all] {
                sums.chains.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        if text.positions > 0 || text.chains[0] > 0.0 {
            self.texts.push(text);
        }
    }

    fn bracket(&mut self, position: &Position) {
        let (low, high) = position.entropy_bracket(self.vocabulary);
        self.mu = (self.mu.0 + low, self.mu.1 + high.unwrap_or(f64::INFINITY));
        let (low, high) = position.second_bracket(self.vocabulary);
        self.mu2 = (self.mu2.0 + low, self.mu2.1 + high.unwrap_or(f64::INFINITY));
        position.add_bracket(self.vocabulary, &mut self.high, &mut self.low);
        self.bracketed += 1;
    }

    /// Positions with an estimate.
    pub fn positions(&self) -> usize {
        self.all.positions
    }

    /// Fluid bound for 0 to `most` drafted tokens; empty without positions.
    pub fn fluid_curve(&self, most: usize) -> Vec<f64> {
        if self.all.positions == 0 { Vec::new() } else { self.all.pool().fluid_curve(most) }
    }

    /// Estimates for a budget of B tokens and this mean number of drafted ones.
    pub fn estimates(&self, budget: Option<usize>, mean_drafted: Option<f64>) -> Estimates {
        let budget = budget.filter(|budget| *budget >= 1);
        let sizes = Sizes { budget, mean_drafted, listed: self.listed };
        if self.all.positions == 0 {
            return Estimates::default();
        }
        let values = self.all.figures(&sizes);
        let coarse = |times: &mut dyn FnMut(usize) -> usize| {
            let mut sum = TextSums::new(COARSE);
            self.texts.iter().enumerate().for_each(|(i, text)| sum.join(text, times(i)));
            sum.figures(&sizes)
        };
        // The coarse grid loosens fluid bounds by nearly the same factor at all weights.
        let whole = coarse(&mut |_| 1);
        let widths = half_widths(self.texts.len(), 1, |times| {
            let figures = coarse(&mut |i| times[i]);
            let relative = |i: usize| {
                if i == 5 || i == 6 { values[i] * figures[i] / whole[i] } else { figures[i] }
            };
            // A replicate of texts without marks has no mean of them.
            Some((0..figures.len()).map(relative).collect())
        });
        let estimate = |i: usize, most: f64| {
            let half = widths.as_ref().and_then(|widths| widths.get(i)).copied();
            values[i].is_finite().then(|| Estimate::from_half_width_clamped(values[i], half, most))
        };
        let drafted = budget.map_or(f64::INFINITY, |budget| budget as f64 - 1.0);
        Estimates {
            positions: self.all.positions,
            texts: self.texts.len(),
            mu: estimate(0, f64::INFINITY),
            mu2: estimate(1, f64::INFINITY),
            published: estimate(2, f64::INFINITY),
            renewal: estimate(3, f64::INFINITY),
            renewal_tuned: estimate(4, f64::INFINITY),
            fluid: estimate(5, drafted),
            fluid_at_mean: estimate(6, drafted),
            chain: estimate(7, drafted),
            oracle_chain: estimate(8, drafted),
            oracle_chain_at_drafted: estimate(9, drafted),
            accepted_at_marks: estimate(10, drafted),
            marks: self.all.chains[0] as usize,
        }
    }

    /// Brackets for a budget of B tokens. `None` without positions.
    pub fn brackets(&self, budget: Option<usize>) -> Option<Brackets> {
        let n = self.bracketed as f64;
        if self.bracketed == 0 {
            return None;
        }
        let bracket =
            |(low, high): (f64, f64)| (low / n, Some(high / n).filter(|high| high.is_finite()));
        let drafted = budget.map(|budget| budget.saturating_sub(1));
        let fluid =
            drafted.and_then(|drafted| Some((self.low.fluid(drafted)?, self.high.fluid(drafted)?)));
        Some(Brackets {
            mu: bracket(self.mu),
            mu2: bracket(self.mu2),
            fluid: fluid.map(|(low, high)| (low.min(high), high)),
        })
    }
}

/// Interval's ends as a pair.
pub(crate) fn ends(interval: Option<Interval>) -> (Option<f64>, Option<f64>) {
    (interval.map(|interval| interval.low), interval.map(|interval| interval.high))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::theory::bootstrap::SplitMix;

    fn moments(dist: &[f64]) -> (f64, f64) {
        dist.iter()
            .filter(|p| **p > 0.0)
            .fold((0.0, 0.0), |(h, q), p| (h - p * p.ln(), q + p * p.ln().powi(2)))
    }

    fn sorted(dist: &[f64]) -> Vec<f64> {
        let mut dist = dist.to_vec();
        dist.sort_by(|a, b| b.total_cmp(a));
        dist
    }

    fn position(dist: &[f64], k: usize, drawn: Option<usize>) -> Position {
        let dist = sorted(dist);
        let drawn = drawn.map(|y| Drawn { surprisal: -dist[y].ln(), in_top: y < k });
        Position::new(dist[..k.min(dist.len())].iter().copied(), drawn)
    }

    fn distributions() -> impl Strategy<Value = Vec<f64>> {
        (prop::collection::vec(1e-4f64..1.0, 1..60), 0.2f64..6.0).prop_map(|(raw, sharp)| {
            let raw: Vec<f64> = raw.iter().map(|x| x.powf(sharp).max(1e-12)).collect();
            let sum: f64 = raw.iter().sum();
            raw.iter().map(|x| x / sum).collect()
        })
    }

    proptest! {
        #[test]
        fn estimates_have_the_mean_of_the_whole_distribution(
            dist in distributions(), k in 0usize..61, known in any::<bool>(),
        ) {
            let (dist, (h, q)) = (sorted(&dist), moments(&dist));
            let vocabulary = known.then_some(dist.len());
            let (mut entropy, mut second) = (0.0, 0.0);
            for (y, p) in dist.iter().enumerate() {
                let found = position(&dist, k, Some(y)).moments(vocabulary).unwrap();
                entropy += p * found.entropy;
                second += p * found.second;
            }
            prop_assert!((entropy - h).abs() < 1e-9 * (1.0 + h) && (second - q).abs() < 1e-8 * (1.0 + q), "{entropy} {h}, {second} {q}");
        }

        #[test]
        fn brackets_hold(
            dists in prop::collection::vec(distributions(), 1..6),
            k in 0usize..61,
            drafted in 1usize..64,
        ) {
            let size = dists.iter().map(Vec::len).max().unwrap();
            let (mut sums, mut pool, mut h, mut q) = (TextDistributions::new(Some(size)), Pool::new(), 0.0, 0.0);
            let mut unknown = TextDistributions::new(None);
            for dist in &dists {
                let positions = vec![position(dist, k, None)];
                let scored = Scored { positions, chains: Vec::new() };
                sums.add(&scored);
                unknown.add(&scored);
                pool.add_probabilities(dist);
                let (entropy, second) = moments(dist);
                (h, q) = (h + entropy / dists.len() as f64, q + second / dists.len() as f64);
            }
            let found = sums.brackets(Some(drafted + 1)).unwrap();
            prop_assert!(found.mu.0 <= h + 1e-9 && h <= found.mu.1.unwrap() + 1e-9, "{found:?} {h}");
            prop_assert!(found.mu2.0 <= q + 1e-9 && q <= found.mu2.1.unwrap() + 1e-9, "{found:?} {q}");
            // The grid loosens every bound a little, and not all by the same.
            let (fluid, (low, high)) = (pool.fluid(drafted).unwrap(), found.fluid.unwrap());
            prop_assert!(low <= fluid * 1.003 + 1e-6 && fluid <= high * 1.003 + 1e-6, "{low} {fluid} {high}");
            let open = unknown.brackets(Some(drafted + 1)).unwrap();
            prop_assert!(open.mu.0 <= h + 1e-9 && (open.mu.1.is_none() || open.mu.1.unwrap() >= h - 1e-9));
            prop_assert!(open.fluid.unwrap().0 <= fluid * 1.003 + 1e-6);
        }

        #[test]
        fn whole_distributions_need_no_draw(
            dists in prop::collection::vec(distributions(), 4..8), drafted in 1usize..32,
        ) {
            let mut sums = TextDistributions::new(None);
            let mut pool = Pool::new();
            for dist in &dists {
                let positions = vec![position(dist, dist.len(), None)];
                sums.add(&Scored { positions, chains: Vec::new() });
                pool.add_probabilities(dist);
            }
            let found = sums.estimates(Some(drafted + 1), Some(drafted as f64));
            let near = |a: Option<Estimate>, b: f64| (a.unwrap().value / b.max(1e-12) - 1.0).abs() < 1e-3 || b < 1e-6;
            prop_assert!(near(found.mu, pool.mu().unwrap()) && near(found.mu2, pool.mu2().unwrap()));
            prop_assert!(near(found.fluid, pool.fluid(drafted).unwrap()), "{:?} {:?}", found.fluid, pool.fluid(drafted));
            prop_assert!(near(found.fluid_at_mean, pool.fluid_bound_for_mean_size(drafted as f64).unwrap()));
        }

        #[test]
        fn no_numbers_panic(top in prop::collection::vec(any::<f64>(), 0..8), x in any::<f64>(), in_top in any::<bool>(), v in 0usize..9) {
            let mut sums = TextDistributions::new(Some(v));
            let positions = vec![Position::new(top, Some(Drawn { surprisal: x, in_top }))];
            sums.add(&Scored { positions, chains: vec![ChainMark { reached: 3, at_drafted: 1, accepted: 2 }] });
            let _ = (sums.estimates(Some(v), Some(x)), sums.brackets(Some(v)), sums.fluid_curve(4));
        }
    }

    #[test]
    fn the_tangent_of_the_envelope_is_right() {
        let log = TANGENT.ln();
        assert!((log + 2.0 * (1.0 - TANGENT)).abs() < 1e-5, "{log}");
    }

    #[test]
    fn a_zipf_distribution_is_bracketed_as_computed_before() {
        // Zipf distribution of exponent 1.6 over 128,000 tokens: shared notes on servers, 2.2.
        let raw: Vec<f64> = (1..=128_000).map(|i| f64::from(i).powf(-1.6)).collect();
        let sum: f64 = raw.iter().sum();
        let dist: Vec<f64> = raw.iter().map(|x| x / sum).collect();
        let found = position(&dist, 20, None);
        let (low, high) = found.entropy_bracket(Some(128_000));
        assert!(
            (low - 2.40).abs() < 0.006 && (high.unwrap() - 3.38).abs() < 0.006,
            "{low} {high:?}"
        );
        let (low, high) = found.second_bracket(Some(128_000));
        assert!((low - 8.8).abs() < 0.06 && (high.unwrap() - 28.0).abs() < 0.6, "{low} {high:?}");
    }

    const VOCABULARY: usize = 48;

    /// Distribution of a position: Zipf, whose exponent depends on the text's level and the
    /// position.
    fn zipf(level: f64, draws: &mut SplitMix) -> Vec<f64> {
        let exponent = (1.3 + 0.25 * level + 0.5 * draws.normal()).clamp(0.3, 4.0);
        let raw: Vec<f64> = (1..=VOCABULARY).map(|i| (i as f64).powf(-exponent)).collect();
        let sum: f64 = raw.iter().sum();
        raw.iter().map(|x| x / sum).collect()
    }

    fn sample(dist: &[f64], u: f64) -> usize {
        let mut below = 0.0;
        dist.iter()
            .position(|p| {
                below += p;
                u < below
            })
            .unwrap_or(dist.len() - 1)
    }

    /// Shares of `RUNS` simulated probes in which mu, mu2 and fluid lie in their intervals.
    fn coverage(k: usize, texts: usize, positions: usize, runs: u64) -> [f64; 3] {
        const DRAFTED: usize = 7;
        let truth = {
            let (mut pool, mut draws) = (Pool::with_grid(64), SplitMix(99));
            for _ in 0..60_000 {
                let level = draws.normal();
                pool.add_probabilities(&zipf(level, &mut draws));
            }
            [pool.mu().unwrap(), pool.mu2().unwrap(), pool.fluid(DRAFTED).unwrap()]
        };
        let mut covered = [0; 3];
        for run in 0..runs {
            let mut draws = SplitMix(run * 0x10_0001 + k as u64);
            let mut sums = TextDistributions::new(Some(VOCABULARY));
            for _ in 0..texts {
                let level = draws.normal();
                let positions = (0..positions).map(|_| {
                    let dist = zipf(level, &mut draws);
                    let y = sample(&dist, draws.uniform());
                    position(&dist, k, Some(y))
                });
                sums.add(&Scored { positions: positions.collect(), chains: Vec::new() });
            }
            let found = sums.estimates(Some(DRAFTED + 1), None);
            for (count, (estimate, truth)) in
                covered.iter_mut().zip([found.mu, found.mu2, found.fluid].into_iter().zip(truth))
            {
                let interval = estimate.unwrap().interval.unwrap();
                *count += u32::from(interval.low <= truth && truth <= interval.high);
            }
        }
        covered.map(|covered| f64::from(covered) / runs as f64)
    }

    #[test]
    fn intervals_cover_the_truth_from_no_listed_token_to_all() {
        for k in [0, 1, 5, 20, VOCABULARY] {
            let shares = coverage(k, 16, 40, 800);
            // The standard error of 800 runs is 0.8%.
            assert!(
                shares.iter().all(|share| (0.93..=0.97).contains(share)),
                "top {k}: {shares:?}"
            );
        }
    }
}
