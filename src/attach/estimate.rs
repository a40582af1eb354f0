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
//! Where the text was sampled at another temperature or top-p than the distributions are reported
//! at, the drawn token is none of the reported distribution, and only [`Brackets`] hold.

pub use super::position::{Drawn, Position};

use serde::{Deserialize, Serialize};

use super::bracket::{Atom, Bracket, Candidates, OmittedSampling};
use crate::distribution::Moments;
use crate::theory::bootstrap::half_widths;
use crate::theory::bounds;
use crate::theory::intervals::{Estimate, Interval};
use crate::theory::pool::SurprisalPool;

/// Grid cells per nat of the pools that are resampled.
///
/// Few, since only ratios of their bounds are used.
const COARSE: usize = 8;
/// Integer weight of a text that counts once.
///
/// Large, so that tails can be scaled in small steps.
const ONE: usize = 4096;
/// Index of the first figure that comes from chain marks alone.
const MARKS: usize = 8;
/// Stand-in for a probability of which only an upper bound is known.
const LEAST: f64 = 1e-12;

/// Comparison of one step with the chain of the target's most probable tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainMark {
    /// Tokens that a chain of B - 1 most probable tokens would have had accepted.
    pub reached: usize,
    /// Accepted tokens of such a chain that is as long as the step's draft.
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
    head: SurprisalPool,
    /// Drawn tokens that were not listed, each with its whole mass.
    tail: SurprisalPool,
    /// Tails at their centers, for texts in which no drawn token fell into one.
    spare: SurprisalPool,
    /// Mass of unlisted tokens.
    mass: f64,
    /// Number of sampled tokens that were not listed.
    misses: f64,
    /// Sum of the largest probabilities.
    first: f64,
    chains: [f64; 4],
}

impl TextSums {
    fn new(per_nat: usize) -> TextSums {
        let pool = || SurprisalPool::with_grid(per_nat);
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
        if let Some(drawn) = position.drawn().filter(|drawn| !drawn.in_top) {
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

    /// Pool of the estimated distributions.
    ///
    /// Holds the listed tokens. The mass of the tail is spread over the sampled tokens that fell
    /// into it.
    fn pool(&self) -> SurprisalPool {
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

    /// Returns all figures, NaN where unknown.
    ///
    /// In order: mu, mu2, published, renewal, tuned, fluid, fluid at the mean, chain, oracle
    /// chains, accepted.
    fn figures(&self, sizes: &Sizes) -> [f64; 11] {
        let n = self.positions as f64;
        let (mu, mu2) = (self.entropy / n, self.second / n);
        let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
        let pool = self.pool();
        let drafted = sizes.budget.map(|budget| budget - 1);
        let chain = |drafted: usize| chain_ceiling(self.first / n, drafted);
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimates {
    /// Positions that were scored.
    pub positions: usize,
    /// Texts they belong to.
    #[serde(skip)]
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
    /// Ceiling of chains of B - 1 tokens: the sum of (E max p)^j.
    ///
    /// Assumes independent positions.
    pub chain: Option<Estimate>,
    /// Accepted length of the target's own most probable chain of B - 1 tokens.
    #[serde(skip)]
    pub oracle_chain: Option<Estimate>,
    /// Accepted length of such chains that are as long as the drafts.
    #[serde(skip)]
    pub oracle_chain_at_drafted: Option<Estimate>,
    /// Accepted tokens per step, over the steps with a chain mark.
    #[serde(skip)]
    pub accepted_at_marks: Option<Estimate>,
    /// Steps with a chain mark.
    #[serde(skip)]
    pub marks: usize,
}

impl Estimates {
    /// Returns mu, mu2 and the ceilings, which come from distributions rather than chain marks.
    pub(crate) fn of_distributions(&self) -> [Option<Estimate>; 8] {
        [
            self.mu,
            self.mu2,
            self.published,
            self.renewal,
            self.renewal_tuned,
            self.fluid,
            self.fluid_at_mean,
            self.chain,
        ]
    }
}

/// Brackets that hold for every distribution that fits the listed tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Brackets {
    /// Mean entropy in nats.
    pub mu: Bracket,
    /// Mean of sum q ln^2 q, in nats squared.
    pub mu2: Bracket,
    /// Published form without its constant, at B.
    pub published: Option<Bracket>,
    /// Renewal form at B - 1.
    pub renewal: Option<Bracket>,
    /// Renewal form, tuned, at B - 1.
    pub renewal_tuned: Option<Bracket>,
    /// Fluid bound at B - 1.
    pub fluid: Option<Bracket>,
    /// Fluid bound at the mean number of drafted tokens.
    pub fluid_at_mean: Option<Bracket>,
    /// Ceiling of chains of B - 1 tokens for independent positions.
    pub chain: Option<Bracket>,
}

/// Sums of brackets over positions.
#[derive(Clone, Debug)]
struct BracketSums {
    positions: usize,
    mu: (f64, f64),
    mu2: (f64, f64),
    /// Sums of the largest probabilities.
    first: (f64, f64),
    /// Pools of the distributions that bound the fluid bound.
    flat: SurprisalPool,
    peaked: SurprisalPool,
}

impl BracketSums {
    fn new() -> BracketSums {
        let (mu, mu2, first) = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
        BracketSums {
            positions: 0,
            mu,
            mu2,
            first,
            flat: SurprisalPool::new(),
            peaked: SurprisalPool::new(),
        }
    }

    fn add(&mut self, candidates: &Candidates) {
        self.positions += 1;
        for (sum, bracket) in
            [(&mut self.mu, candidates.entropy()), (&mut self.mu2, candidates.second())]
        {
            sum.0 += bracket.low;
            sum.1 += bracket.high.unwrap_or(f64::INFINITY);
        }
        self.first.0 += add_atoms(&mut self.flat, &candidates.flat());
        self.first.1 += add_atoms(&mut self.peaked, &candidates.peaked());
    }

    fn brackets(&self, budget: Option<usize>, mean_drafted: Option<f64>) -> Option<Brackets> {
        if self.positions == 0 {
            return None;
        }
        let n = self.positions as f64;
        let mean = |(low, high): (f64, f64)| Bracket {
            low: low / n,
            high: Some(high / n).filter(|high| high.is_finite()),
        };
        let (mu, mu2) = (mean(self.mu), mean(self.mu2));
        // Each form falls with mu and rises with mu2.
        let form = |form: &dyn Fn(f64, f64) -> Option<f64>| {
            let high = mu2.high.and_then(|mu2| form(mu.low, mu2));
            let low = mu.high.map_or(Some(0.0), |mu| form(mu, mu2.low));
            low.map(|low| Bracket { low: low.max(0.0), high })
        };
        let between = |low: Option<f64>, high: Option<f64>| {
            let (low, high) = (low?, high?);
            Some(Bracket { low: low.min(high), high: Some(high) })
        };
        let budget = budget.filter(|budget| *budget >= 1);
        let drafted = budget.map(|budget| budget - 1);
        let fluid = |pool: &SurprisalPool| pool.fluid(drafted?);
        let at_mean = |pool: &SurprisalPool| pool.fluid_bound_for_mean_size(mean_drafted?);
        let chain = |first: f64| drafted.map(|drafted| chain_ceiling(first / n, drafted));
        Some(Brackets {
            mu,
            mu2,
            published: budget.and_then(|b| form(&|mu, mu2| bounds::published(mu, mu2, b))),
            renewal: drafted.and_then(|p| form(&|mu, mu2| bounds::renewal(mu, mu2, p))),
            // Below 1 / (B - 1) of mu this form has no value.
            renewal_tuned: drafted
                .filter(|p| mu.low * *p as f64 >= 1.0)
                .and_then(|p| form(&|mu, mu2| bounds::renewal_tuned(mu, mu2, p))),
            fluid: between(fluid(&self.flat), fluid(&self.peaked)),
            fluid_at_mean: between(at_mean(&self.flat), at_mean(&self.peaked)),
            chain: between(chain(self.first.0), chain(self.first.1)),
        })
    }
}

/// Adds a distribution to a pool; returns its largest probability.
fn add_atoms(pool: &mut SurprisalPool, atoms: &[Atom]) -> f64 {
    for atom in atoms.iter().filter(|atom| atom.probability > 0.0) {
        let mass = atom.probability * atom.count;
        pool.add_atom(-atom.probability.ln(), mass, atom.count);
    }
    let mut largest = atoms.iter().flat_map(|atom| {
        let times = if atom.count >= 2.0 { 2 } else { 1 };
        std::iter::repeat_n(atom.probability, times)
    });
    let first = largest.next().unwrap_or(0.0);
    let second = largest.next().unwrap_or(0.0);
    pool.add_position(Moments::default(), [first.max(LEAST), second]);
    first
}

/// Ceiling of chains of independent positions, from the mean of the largest probability.
fn chain_ceiling(first: f64, drafted: usize) -> f64 {
    (1..=drafted).map(|j| first.powi(j as i32)).sum()
}

/// Distributions of positions, text by text.
#[derive(Clone, Debug)]
pub struct Distributions {
    vocabulary: Option<usize>,
    omitted: OmittedSampling,
    texts: Vec<TextSums>,
    /// Sums over the texts, on a fine grid.
    all: TextSums,
    listed: bool,
    /// True if some position's own distribution is not known, and can't be estimated.
    bracketed_only: bool,
    brackets: BracketSums,
}

impl Distributions {
    /// Nothing yet, over a vocabulary of this size, where known.
    ///
    /// `omitted` has the parameters that the texts are sampled with and the distributions are
    /// reported without.
    pub fn new(vocabulary: Option<usize>, omitted: OmittedSampling) -> Distributions {
        let all = TextSums {
            head: SurprisalPool::new(),
            tail: SurprisalPool::new(),
            spare: SurprisalPool::new(),
            ..TextSums::new(1)
        };
        Distributions {
            vocabulary,
            omitted,
            texts: Vec::new(),
            all,
            listed: true,
            bracketed_only: false,
            brackets: BracketSums::new(),
        }
    }

    /// Adds the positions and chain marks of one text.
    pub fn add(&mut self, scored: &Scored) {
        let mut text = TextSums::new(COARSE);
        for reported in &scored.positions {
            let mut position = reported.clone();
            if self.vocabulary.is_some_and(|size| position.listed() >= size) {
                position = position.completed();
            }
            let candidates = Candidates::new(&position, self.omitted, self.vocabulary);
            self.brackets.add(&candidates);
            if !self.omitted.is_none() {
                // The drawn token is none of the reported distribution.
                let Some(own) = candidates.only() else {
                    self.bracketed_only = true;
                    continue;
                };
                position = Position::new(own, None).completed();
            }
            if let Some(moments) = position.moments(self.vocabulary) {
                self.listed &= !position.top().is_empty();
                text.add(&position, moments, self.vocabulary);
                self.all.add(&position, moments, self.vocabulary);
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

    /// Positions with an estimate: none if those of some can only be bracketed.
    pub fn positions(&self) -> usize {
        if self.bracketed_only { 0 } else { self.all.positions }
    }

    /// Steps with a chain mark.
    pub fn marks(&self) -> usize {
        self.all.chains[0] as usize
    }

    /// Fluid bound for 0 to `most` drafted tokens; empty without positions.
    pub fn fluid_curve(&self, most: usize) -> Vec<f64> {
        if self.positions() == 0 { Vec::new() } else { self.all.pool().fluid_curve(most) }
    }

    /// Estimates for a budget of B tokens and this mean number of drafted ones.
    pub fn estimates(&self, budget: Option<usize>, mean_drafted: Option<f64>) -> Estimates {
        let budget = budget.filter(|budget| *budget >= 1);
        let sizes = Sizes { budget, mean_drafted, listed: self.listed };
        if self.positions() == 0 && self.marks() == 0 {
            return Estimates::default();
        }
        let figures = |sums: &TextSums| {
            let mut figures = sums.figures(&sizes);
            if self.bracketed_only {
                figures[..MARKS].fill(f64::NAN);
            }
            figures
        };
        let values = figures(&self.all);
        let coarse = |times: &mut dyn FnMut(usize) -> usize| {
            let mut sum = TextSums::new(COARSE);
            self.texts.iter().enumerate().for_each(|(i, text)| sum.join(text, times(i)));
            figures(&sum)
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
            positions: self.positions(),
            texts: self.texts.len(),
            mu: estimate(0, f64::INFINITY),
            mu2: estimate(1, f64::INFINITY),
            published: estimate(2, f64::INFINITY),
            renewal: estimate(3, f64::INFINITY),
            renewal_tuned: estimate(4, f64::INFINITY),
            fluid: estimate(5, drafted),
            fluid_at_mean: estimate(6, drafted),
            chain: estimate(7, drafted),
            oracle_chain: estimate(MARKS, drafted),
            oracle_chain_at_drafted: estimate(MARKS + 1, drafted),
            accepted_at_marks: estimate(MARKS + 2, drafted),
            marks: self.marks(),
        }
    }

    /// Brackets for a budget of B tokens and this mean number of drafted ones. `None` without
    /// positions.
    pub fn brackets(&self, budget: Option<usize>, mean_drafted: Option<f64>) -> Option<Brackets> {
        self.brackets.brackets(budget, mean_drafted)
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
        fn whole_distributions_need_no_draw(
            dists in prop::collection::vec(distributions(), 4..8), drafted in 1usize..32,
        ) {
            let mut sums = Distributions::new(None, OmittedSampling::NONE);
            let mut pool = SurprisalPool::new();
            for dist in &dists {
                let positions = vec![position(dist, dist.len(), None).completed()];
                sums.add(&Scored { positions, chains: Vec::new() });
                pool.add_probabilities(dist);
            }
            let found = sums.estimates(Some(drafted + 1), Some(drafted as f64));
            let near = |a: Option<Estimate>, b: f64| (a.unwrap().value - b).abs() < 1e-9 * (1.0 + b);
            prop_assert!(near(found.mu, pool.mu().unwrap()) && near(found.mu2, pool.mu2().unwrap()));
            prop_assert!(near(found.fluid, pool.fluid(drafted).unwrap()), "{:?} {:?}", found.fluid, pool.fluid(drafted));
            prop_assert!(near(found.fluid_at_mean, pool.fluid_bound_for_mean_size(drafted as f64).unwrap()));
        }

        #[test]
        fn no_numbers_panic(
            top in prop::collection::vec(any::<f64>(), 0..8), x in any::<f64>(), in_top in any::<bool>(), v in 0usize..9,
            temperature in any::<f64>(), top_p in any::<f64>(),
        ) {
            let mut sums = Distributions::new(Some(v), OmittedSampling { temperature, top_p });
            let positions = vec![Position::new(top, Some(Drawn { surprisal: x, in_top }))];
            sums.add(&Scored { positions, chains: vec![ChainMark { reached: 3, at_drafted: 1, accepted: 2 }] });
            let _ = (sums.estimates(Some(v), Some(x)), sums.brackets(Some(v), Some(x)), sums.fluid_curve(4));
        }
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
            let (mut pool, mut draws) = (SurprisalPool::with_grid(64), SplitMix(99));
            for _ in 0..60_000 {
                let level = draws.normal();
                pool.add_probabilities(&zipf(level, &mut draws));
            }
            [pool.mu().unwrap(), pool.mu2().unwrap(), pool.fluid(DRAFTED).unwrap()]
        };
        let mut covered = [0; 3];
        for run in 0..runs {
            let mut draws = SplitMix(run * 0x10_0001 + k as u64);
            let mut sums = Distributions::new(Some(VOCABULARY), OmittedSampling::NONE);
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
