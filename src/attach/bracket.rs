//! Brackets on entropy, second moment and ceilings that hold for every distribution that fits the
//! listed tokens, under the text's own temperature and top-p.
//!
//! # Setting
//! The server lists the k most probable tokens of a distribution p, of mass 1 - eps together. The
//! other m = V - k tokens share eps, none more than p_k. The text is sampled from q: p raised to
//! a = 1 / T and normalized, then cut to the smallest set of most probable tokens that holds top-p
//! of the mass. A server that reports q itself leaves both out (T = 1, top-p = 1).
//!
//! # Temperature
//! Listed tokens have the known weights p_i^a, of sum z. The tail's weights sum to some s. For a >
//! 1, x^a is convex: s is largest where the tail is packed into tokens of p_k and one rest, and
//! least where it is even. For a < 1 it is the other way round.
//!
//! # Top-p
//! The kept set ends at a listed token if z reaches top-p of z + s for every s; then q is one of a
//! few known distributions. Otherwise it holds all listed tokens and a part of the tail, whose
//! weight is bracketed by the same s, and whose number of tokens is largest where the tail is even.
//!
//! # Majorization
//! With s in \[low, high\], let D hold the listed tokens at s = low and the tail packed, and E the
//! listed tokens at s = high and the tail even. Sums of the j largest probabilities of q lie
//! between those of E and D for every j: D majorizes q, and q majorizes E. Entropy is
//! Schur-concave, so it lies between those of D and E. The fluid bound and the ceiling of chains
//! are means of convex functions of the probabilities, so D bounds them from above and E from
//! below.
//!
//! # Second moment
//! sum q ln^2 q is neither. Every tail token has a surprisal of at least A = -ln(p_k^a / (z + s)),
//! which is at least that of each listed one, so that the sum grows with s when the tail's tokens
//! are taken at A: s = low bounds it from below. From above, the interval of s is cut into cells.
//! In each, listed tokens take their largest value, and the tail the concave envelope of q ln^2 q
//! over m tokens, or for a > 1 that of (p^a / z) ln^2 q over the mass eps, whichever is smaller.
//!
//! For a > 1 the same holds for the entropy: ln sum p^s is convex in s, so that the tail's mean
//! surprisal is at most ln(eps / s) / (a - 1), which needs no size of the vocabulary.

use super::position::Position;

/// Probability t at which the tangent of x ln^2 x passes through (1, 0).
///
/// Solves L = -2 (1 - e^L) with L = ln t.
const TANGENT: f64 = 0.203_188;
/// Largest q ln^2 q of small probabilities lies at e^-2.
const PEAK: f64 = 0.135_335_283_236_612_7;
/// Number of cells of the tail's weight, for the upper end of the second moment.
const CELLS: usize = 64;
/// Relative rounding error of a server's 32-bit sums up to top-p.
const TOP_P_MARGIN: f64 = 1e-5;
/// Error of a tail's mass: servers report numbers of 32 bits.
const ROUNDING: f64 = 1.0 / (1 << 23) as f64;
/// Exponents this close to 1 leave a distribution as it is.
const SAME: f64 = 1e-9;

/// Sampling parameters of the text that the reported distributions leave out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OmittedSampling {
    /// Temperature of the text relative to that of the reported distributions.
    pub temperature: f64,
    /// Top-p of the text; 1 keeps all tokens.
    pub top_p: f64,
}

impl OmittedSampling {
    /// Distributions are reported as the text is sampled.
    pub const NONE: OmittedSampling = OmittedSampling { temperature: 1.0, top_p: 1.0 };

    /// Returns whether nothing is left out.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    fn exponent(self) -> f64 {
        let exponent = 1.0 / self.temperature;
        if (exponent - 1.0).abs() < SAME || !exponent.is_finite() || exponent <= 0.0 {
            1.0
        } else {
            exponent
        }
    }
}

/// Interval that holds a value for certain.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bracket {
    /// Lower end of the bracket.
    pub low: f64,
    /// Upper end; `None` where there is none without the size of the vocabulary.
    pub high: Option<f64>,
}

/// Tokens of one probability; a packed tail may hold a fraction of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Atom {
    pub(super) probability: f64,
    pub(super) count: f64,
}

/// Unlisted tokens of a candidate, in weights.
#[derive(Clone, Copy, Debug)]
struct Tail {
    low: f64,
    high: f64,
    /// Largest weight that one of them can have.
    cap: f64,
    /// Number of tokens at most, where known.
    count: Option<f64>,
    /// Mass before a temperature below that of the report, on the scale of the weights.
    cooled: Option<Cooled>,
}

#[derive(Clone, Copy, Debug)]
struct Cooled {
    mass: f64,
    cap: f64,
    exponent: f64,
}

/// Distributions that the text may have been sampled from at one position.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    /// Weights of the listed tokens, falling, the first 1.
    weights: Vec<f64>,
    /// Listed tokens that are kept at least, and at most.
    fewest: usize,
    most: usize,
    /// `None` where no unlisted token is kept.
    tail: Option<Tail>,
}

impl Candidates {
    /// Distributions that fit a position over a vocabulary of this size, where known.
    pub(super) fn new(
        position: &Position,
        omitted: OmittedSampling,
        vocabulary: Option<usize>,
    ) -> Candidates {
        let exponent = omitted.exponent();
        let listed = position.top();
        let unlisted = vocabulary.map(|size| size.saturating_sub(position.listed()).max(1) as f64);
        let Some(&first) = listed.first() else {
            let tail = Tail { low: 1.0, high: 1.0, cap: 1.0, count: unlisted, cooled: None };
            let all = Candidates { weights: Vec::new(), fewest: 0, most: 0, tail: Some(tail) };
            return all.cut(omitted.top_p);
        };
        let weights: Vec<f64> = listed.iter().map(|p| (p / first).powf(exponent)).collect();
        let mass = position.tail() / first;
        let k = weights.len();
        let rounded = exponent < 1.0 && !position.is_whole();
        let tail = (mass > 0.0 || rounded).then(|| {
            // Temperatures above the reported one amplify the rounding error of a small tail.
            let error = if exponent < 1.0 { ROUNDING / first } else { 0.0 };
            let (less, more) = ((mass - error).max(0.0), mass + error);
            let cap = listed.last().map_or(more, |last| (last / first).min(more));
            let dense = |mass: f64| {
                let (count, rest) = packed(mass, cap);
                count * cap.powf(exponent) + rest.powf(exponent)
            };
            let even = |mass: f64| unlisted.map(|m| m * (mass / m).min(cap).powf(exponent));
            let (low, high) = if exponent == 1.0 {
                (mass, mass)
            } else if exponent > 1.0 {
                let dense = dense(mass);
                (even(mass).unwrap_or(0.0).min(dense), dense)
            } else {
                let low = dense(less);
                (low, even(more).map_or(f64::INFINITY, |even| even.max(low)))
            };
            let cooled = (exponent > 1.0).then_some(Cooled { mass, cap, exponent });
            Tail { low, high, cap: cap.powf(exponent), count: unlisted, cooled }
        });
        Candidates { weights, fewest: k, most: k, tail }.cut(omitted.top_p)
    }

    /// Keeps the most probable tokens that hold `top_p` of the mass.
    fn cut(mut self, top_p: f64) -> Candidates {
        if top_p >= 1.0 || !top_p.is_finite() {
            return self;
        }
        let top_p = top_p.max(0.0);
        let share = ((1.0 - TOP_P_MARGIN) * top_p, ((1.0 + TOP_P_MARGIN) * top_p).min(1.0));
        let listed: f64 = self.weights.iter().sum();
        let (low, high) = self.tail.map_or((0.0, 0.0), |tail| (tail.low, tail.high));
        let wanted = (share.0 * (listed + low), share.1 * (listed + high));
        let (mut sum, mut fewest, mut most) = (0.0, None, None);
        for (i, weight) in self.weights.iter().enumerate() {
            sum += weight;
            if fewest.is_none() && sum >= wanted.0 {
                fewest = Some(i + 1);
            }
            if sum >= wanted.1 {
                most = Some(i + 1);
                break;
            }
        }
        let k = self.weights.len();
        (self.fewest, self.most) = (fewest.unwrap_or(k), most.unwrap_or(k));
        self.tail = self.tail.filter(|_| most.is_none()).map(|tail| {
            let beyond = |share: f64, tail: f64| share * tail - (1.0 - share) * listed;
            let enough = beyond(share.1, tail.high).max(0.0);
            let count = tail
                .count
                .filter(|_| tail.high.is_finite())
                .map(|m| ((m * enough / tail.high).floor() + 1.0).min(m));
            let low = beyond(share.0, tail.low).max(0.0);
            // The last kept token may exceed what is missing; none exceeds the cap.
            let most = count.map_or(f64::INFINITY, |count| count * tail.cap);
            let high = (enough + tail.cap).min(tail.high).min(most).max(low);
            Tail { low, high, count, ..tail }
        });
        self
    }

    fn listed(&self, tokens: usize) -> f64 {
        self.weights[..tokens].iter().sum()
    }

    /// The distribution, if only one fits.
    pub(super) fn only(&self) -> Option<Vec<f64>> {
        let one = self.tail.is_none() && self.fewest == self.most;
        let sum = self.listed(self.fewest);
        one.then(|| self.weights[..self.fewest].iter().map(|weight| weight / sum).collect())
    }

    fn atoms(&self, tokens: usize, total: f64) -> Vec<Atom> {
        let atom = |weight: &f64| Atom { probability: weight / total, count: 1.0 };
        self.weights[..tokens].iter().map(atom).collect()
    }

    /// Distribution that majorizes every candidate.
    pub(super) fn peaked(&self) -> Vec<Atom> {
        let tail = self.tail.filter(|_| self.fewest == self.weights.len());
        let (mass, cap) = tail.map_or((0.0, 0.0), |tail| (tail.low, tail.cap));
        let total = self.listed(self.fewest) + mass;
        let mut atoms = self.atoms(self.fewest, total);
        let (count, rest) = packed(mass, cap);
        if count > 0.0 {
            atoms.push(Atom { probability: cap / total, count });
        }
        if rest > 0.0 {
            atoms.push(Atom { probability: rest / total, count: 1.0 });
        }
        atoms
    }

    /// Distribution that every candidate majorizes.
    ///
    /// It lacks the tail if the number of unlisted tokens is not known.
    pub(super) fn flat(&self) -> Vec<Atom> {
        let Some(tail) = self.tail else {
            return self.atoms(self.most, self.listed(self.most));
        };
        let total = self.listed(self.most) + tail.high;
        if !total.is_finite() {
            return Vec::new();
        }
        let mut atoms = self.atoms(self.most, total);
        if let Some(count) = tail.count.filter(|_| tail.high > 0.0) {
            atoms.push(Atom { probability: tail.high / count / total, count });
        }
        atoms
    }

    /// Bracket of the entropy in nats.
    pub(super) fn entropy(&self) -> Bracket {
        let sum = |atoms: &[Atom]| -> f64 {
            atoms.iter().map(|atom| atom.count * x_ln_x(atom.probability)).sum()
        };
        let low = sum(&self.peaked());
        let Some(tail) = self.tail else {
            return Bracket { low, high: Some(sum(&self.flat()).max(low)) };
        };
        let even = tail.count.filter(|_| tail.high.is_finite()).map(|_| sum(&self.flat()));
        let cooled = tail.cooled.map(|cooled| self.cooled_entropy(tail, cooled));
        let high = match (even, cooled) {
            (Some(even), Some(cooled)) => Some(even.min(cooled)),
            (even, cooled) => even.or(cooled),
        };
        Bracket { low, high: high.map(|high| high.max(low)) }
    }

    /// Upper bound on the entropy below the report's temperature: concave in the tail's share.
    fn cooled_entropy(&self, tail: Tail, cooled: Cooled) -> f64 {
        let (listed, own) = (self.listed(self.most), self.log_sums(1)[1]);
        let factor = cooled.exponent / (cooled.exponent - 1.0);
        let value = |weight: f64| {
            let total = listed + weight;
            let tail =
                if weight > 0.0 { weight * factor * (cooled.mass / weight).ln() } else { 0.0 };
            total.ln() + (own + tail) / total
        };
        let (mut low, mut high) = (tail.low, tail.high);
        for _ in 0..100 {
            let (a, b) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
            if value(a) < value(b) { low = a } else { high = b }
        }
        [low, high, tail.low, tail.high].map(value).into_iter().fold(0.0, f64::max)
    }

    /// Sums of w (-ln w)^k over the listed tokens, for k = 0, 1, 2.
    ///
    /// The last one is 0 if `most` is below 2.
    fn log_sums(&self, most: usize) -> [f64; 3] {
        let mut sums = [0.0; 3];
        for &weight in self.weights[..self.most].iter().filter(|weight| **weight > 0.0) {
            let x = -weight.ln();
            sums[0] += weight;
            sums[1] += weight * x;
            sums[2] += if most > 1 { weight * x * x } else { 0.0 };
        }
        sums
    }

    /// Bracket of sum q ln^2 q, in nats squared.
    pub(super) fn second(&self) -> Bracket {
        let sum = |atoms: &[Atom]| -> f64 {
            atoms.iter().map(|atom| atom.count * x_ln2_x(atom.probability)).sum()
        };
        let Some(tail) = self.tail else {
            let low = sum(&self.peaked());
            return Bracket { low, high: Some(sum(&self.flat()).max(low)) };
        };
        let low = if self.fewest < self.weights.len() {
            sum(&self.peaked())
        } else {
            self.least_second(tail)
        };
        Bracket { low, high: self.largest_second(tail).map(|high| high.max(low)) }
    }

    fn least_second(&self, tail: Tail) -> f64 {
        let total = self.listed(self.fewest) + tail.low;
        let cap = tail.cap / total;
        let mut atoms = self.peaked();
        if tail.low == tail.high && cap <= (-1.0f64).exp() {
            return atoms.iter().map(|atom| atom.count * x_ln2_x(atom.probability)).sum();
        }
        atoms.truncate(self.fewest);
        let listed: f64 = atoms.iter().map(|atom| x_ln2_x(atom.probability)).sum();
        listed + tail.low / total * (-cap.ln()).max(0.0).powi(2)
    }

    fn largest_second(&self, tail: Tail) -> Option<f64> {
        if !tail.high.is_finite() || tail.count.is_none() && tail.cooled.is_none() {
            return None;
        }
        let [listed, first, second] = self.log_sums(2);
        let (from, to) = (listed + tail.low, listed + tail.high);
        let cells = if tail.low == tail.high { 1 } else { CELLS };
        let edge = |i: usize| match i {
            0 => from,
            _ if i == cells => to,
            _ => from * (to / from).powf(i as f64 / cells as f64),
        };
        let cell = |i: usize| {
            let (a, b) = (edge(i), edge(i + 1));
            let weights = ((a - listed).max(0.0), (b - listed).max(0.0));
            // The first weight is 1, so that the sum over several tokens is at least 1.
            let log = b.ln().max(0.0);
            let head = (second + 2.0 * log * first + log * log * listed) / a;
            let counted = tail.count.map(|m| {
                let (p, q) = (weights.0 / a / m, weights.1 / b / m);
                let top = if p <= PEAK && PEAK <= q { PEAK } else { p };
                m * envelope(top).max(envelope(q))
            });
            let cooled = tail.cooled.map(|cooled| {
                CooledEnvelope::new(cooled, b.ln())
                    .largest(weights.0 / cooled.mass, weights.1 / cooled.mass)
                    * cooled.mass
                    / a
            });
            match (counted, cooled) {
                (Some(counted), Some(cooled)) => head + counted.min(cooled),
                (counted, cooled) => head + counted.or(cooled).unwrap_or(f64::INFINITY),
            }
        };
        Some((0..cells).map(cell).fold(0.0, f64::max)).filter(|high| high.is_finite())
    }
}

/// Concave envelope of z (l - b ln z)^2 over (0, z_max].
///
/// Here z = p^(a - 1) and b = a / (a - 1).
///
/// l - b ln z is the surprisal of a token of probability p after the temperature. The function is
/// concave where that is at least b; beyond, the envelope is the tangent through its end.
struct CooledEnvelope {
    log_total: f64,
    factor: f64,
    end: f64,
    /// Logarithm of the point from which on the envelope is a straight line.
    tangent: f64,
}

impl CooledEnvelope {
    fn new(cooled: Cooled, log_total: f64) -> CooledEnvelope {
        let factor = cooled.exponent / (cooled.exponent - 1.0);
        let end = (cooled.exponent - 1.0) * cooled.cap.ln();
        let mut found = CooledEnvelope { log_total, factor, end, tangent: end };
        let inflection = (log_total - factor) / factor;
        if end > inflection {
            // The tangent at `low` stays above the end, that at `high` may not.
            let (mut low, mut high) = (inflection - 700.0, inflection);
            for _ in 0..60 {
                let middle = 0.5 * (low + high);
                if found.line(middle, end.exp()) >= found.value(end) {
                    low = middle;
                } else {
                    high = middle;
                }
            }
            found.tangent = low;
        }
        found
    }

    fn value(&self, log: f64) -> f64 {
        log.exp() * (self.log_total - self.factor * log).powi(2)
    }

    /// Tangent at e^`log`, evaluated at `z`.
    fn line(&self, log: f64, z: f64) -> f64 {
        let y = self.log_total - self.factor * log;
        self.value(log) + (y * y - 2.0 * self.factor * y) * (z - log.exp())
    }

    fn at(&self, z: f64) -> f64 {
        if z <= 0.0 {
            0.0
        } else if z.ln() <= self.tangent {
            self.value(z.ln())
        } else {
            self.line(self.tangent, z.min(self.end.exp()))
        }
    }

    /// Largest value between two points.
    fn largest(&self, low: f64, high: f64) -> f64 {
        let peak = (self.log_total - 2.0 * self.factor) / self.factor;
        let inside = peak <= self.tangent && (low..=high).contains(&peak.exp());
        self.at(low).max(self.at(high)).max(if inside { self.value(peak) } else { 0.0 })
    }
}

/// Number of tokens of the largest possible weight in a packed tail, and the rest.
fn packed(mass: f64, cap: f64) -> (f64, f64) {
    if mass <= 0.0 || cap <= 0.0 {
        return (0.0, 0.0);
    }
    let whole = (mass / cap).floor();
    (whole, (mass - whole * cap).clamp(0.0, cap))
}

fn x_ln_x(x: f64) -> f64 {
    if x > 0.0 { -x * x.ln() } else { 0.0 }
}

fn x_ln2_x(x: f64) -> f64 {
    if x > 0.0 { x * x.ln().powi(2) } else { 0.0 }
}

/// Concave envelope of x ln^2 x over 0..=1.
///
/// Equals the function, and from [`TANGENT`] on its tangent through (1, 0).
fn envelope(x: f64) -> f64 {
    if x <= TANGENT { x_ln2_x(x) } else { x_ln2_x(TANGENT) * (1.0 - x) / (1.0 - TANGENT) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::attach::estimate::{Distributions, Scored};
    use crate::distribution::{Sampling, TokenDist};
    use crate::theory::bounds;
    use crate::theory::pool::SurprisalPool;

    /// Probabilities in falling order, of shapes from flat to nearly certain.
    fn distributions() -> impl Strategy<Value = Vec<f64>> {
        (prop::collection::vec(1e-4f64..1.0, 1..60), 0.2f64..6.0).prop_map(|(raw, sharp)| {
            let mut raw: Vec<f64> = raw.iter().map(|x| x.powf(sharp).max(1e-12)).collect();
            raw.sort_by(|a, b| b.total_cmp(a));
            let sum: f64 = raw.iter().sum();
            raw.iter().map(|x| x / sum).collect()
        })
    }

    fn samplings() -> impl Strategy<Value = OmittedSampling> {
        let temperature = prop_oneof![Just(1.0), 0.1f64..1.0, 0.97f64..1.03, 1.0f64..5.0];
        let top_p = prop_oneof![Just(1.0), 0.01f64..1.0];
        (temperature, top_p).prop_map(|(temperature, top_p)| OmittedSampling { temperature, top_p })
    }

    /// Distribution that a text is sampled from.
    fn sampled(dist: &[f64], omitted: OmittedSampling) -> Vec<f64> {
        let mut all: Vec<f64> = dist.iter().map(|p| p.powf(1.0 / omitted.temperature)).collect();
        let sum: f64 = all.iter().sum();
        all.iter_mut().for_each(|q| *q /= sum);
        let mut mass = 0.0;
        let kept = all.iter().position(|q| {
            mass += q;
            mass >= omitted.top_p
        });
        all.truncate(kept.map_or(all.len(), |last| last + 1));
        let sum: f64 = all.iter().sum();
        all.iter().map(|q| q / sum).collect()
    }

    fn moments(dist: &[f64]) -> (f64, f64) {
        let sum = |f: fn(f64) -> f64| dist.iter().map(|&q| f(q)).sum();
        (sum(x_ln_x), sum(x_ln2_x))
    }

    fn holds(bracket: Bracket, truth: f64, slack: f64) -> bool {
        let slack = slack * (1.0 + truth);
        bracket.low <= truth + slack && bracket.high.is_none_or(|high| truth <= high + slack)
    }

    /// Returns brackets of entropy and sum q ln^2 q.
    ///
    /// q is the distribution that the text was sampled from.
    fn both(
        position: &Position,
        omitted: OmittedSampling,
        vocabulary: Option<usize>,
    ) -> (Bracket, Bracket) {
        let candidates = Candidates::new(position, omitted, vocabulary);
        (candidates.entropy(), candidates.second())
    }

    fn position(dist: &[f64], k: usize) -> Position {
        Position::new(dist[..k.min(dist.len())].iter().copied(), None)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn brackets_hold_at_any_temperature_and_top_p(
            dists in prop::collection::vec(distributions(), 1..5),
            k in 0usize..61,
            omitted in samplings(),
            drafted in 1usize..64,
            known in any::<bool>(),
        ) {
            let size = dists.iter().map(Vec::len).max().unwrap();
            let mut sums = Distributions::new(known.then_some(size), omitted);
            let (mut pool, mut first) = (SurprisalPool::new(), 0.0);
            for dist in &dists {
                let positions = vec![position(dist, k)];
                sums.add(&Scored { positions, chains: Vec::new() });
                let own = sampled(dist, omitted);
                pool.add_probabilities(&own);
                first += own[0] / dists.len() as f64;
            }
            let mean_drafted = 0.7 * drafted as f64;
            let found = sums.brackets(Some(drafted + 1), Some(mean_drafted)).unwrap();
            let (mu, mu2) = (pool.mu().unwrap(), pool.mu2().unwrap());
            prop_assert!(holds(found.mu, mu, 1e-9), "mu {mu} in {:?}", found.mu);
            prop_assert!(holds(found.mu2, mu2, 1e-9), "mu2 {mu2} in {:?}", found.mu2);
            prop_assert!(!known || (found.mu.high.is_some() && found.mu2.high.is_some()));
            let chain: f64 = (1..=drafted).map(|j| f64::powi(first, j as i32)).sum();
            let fluid = pool.fluid(drafted).unwrap();
            let at_mean = pool.fluid_bound_for_mean_size(mean_drafted).unwrap();
            // The pool drops tokens below e^-16, which a packed tail may lie above.
            for (name, bracket, truth, slack) in [
                ("chain", found.chain, chain, 1e-9),
                ("fluid", found.fluid, fluid, 1e-5),
                ("fluid at mean", found.fluid_at_mean, at_mean, 1e-5),
            ] {
                prop_assert!(holds(bracket.unwrap(), truth, slack), "{name} {truth} in {bracket:?}");
            }
            for (name, bracket, truth) in [
                ("published", found.published, bounds::published(mu, mu2, drafted + 1)),
                ("renewal", found.renewal, bounds::renewal(mu, mu2, drafted)),
                ("tuned", found.renewal_tuned, bounds::renewal_tuned(mu, mu2, drafted)),
            ] {
                if let (Some(bracket), Some(truth)) = (bracket, truth.filter(|t| t.is_finite())) {
                    prop_assert!(holds(bracket, truth, 1e-6), "{name} {truth} in {bracket:?}");
                }
            }
        }

        #[test]
        fn whole_distributions_leave_nothing_open(
            dist in distributions(), omitted in samplings(), drafted in 1usize..32,
        ) {
            // Where top-p falls on a sum of probabilities two distributions fit.
            let own = sampled(&dist, omitted);
            let near = |top_p: f64| sampled(&dist, OmittedSampling { top_p, ..omitted }).len();
            let open = omitted.top_p < 1.0
                && near(omitted.top_p * (1.0 - 2e-5)) != near(omitted.top_p * (1.0 + 2e-5));
            let mut sums = Distributions::new(Some(dist.len()), omitted);
            sums.add(&Scored { positions: vec![position(&dist, dist.len())], chains: Vec::new() });
            let found = sums.brackets(Some(drafted + 1), None).unwrap();
            let (h, q) = moments(&own);
            let mut pool = SurprisalPool::new();
            pool.add_probabilities(&own);
            for (bracket, truth) in
                [(found.mu, h), (found.mu2, q), (found.fluid.unwrap(), pool.fluid(drafted).unwrap())]
            {
                let exact = (bracket.low - truth).abs().max((bracket.high.unwrap() - truth).abs());
                prop_assert!(open || exact <= 1e-9 * (1.0 + truth), "{bracket:?} {truth}");
            }
            prop_assert!(open || sums.positions() == 1);
        }
    }

    #[test]
    fn the_tangent_of_the_envelope_is_right() {
        let log = TANGENT.ln();
        assert!((log + 2.0 * (1.0 - TANGENT)).abs() < 1e-5, "{log}");
        assert!((PEAK - (-2.0f64).exp()).abs() < 1e-15);
    }

    fn zipf(exponent: f64) -> Vec<f64> {
        let raw: Vec<f64> = (1..=128_000).map(|i| f64::from(i).powf(-exponent)).collect();
        let sum: f64 = raw.iter().sum();
        raw.iter().map(|x| x / sum).collect()
    }

    #[test]
    fn zipf_distributions_are_bracketed_as_computed_before() {
        // Computed by hand for exponents 1.6 and 2.2 over 128,000 tokens.
        for (exponent, k, h, q, slack) in [
            (1.6, 20, [2.40, 3.38], [8.8, 28.0], 0.6),
            (1.6, 1000, [2.69, 2.74], [13.2, 14.6], 0.06),
            (2.2, 20, [1.31, 1.44], [4.1, 7.2], 0.06),
        ] {
            let found = position(&zipf(exponent), k);
            let (entropy, second) = both(&found, OmittedSampling::NONE, Some(128_000));
            for (bracket, ends, slack) in [(entropy, h, 0.006), (second, q, slack)] {
                let high = bracket.high.unwrap();
                assert!(
                    (bracket.low - ends[0]).abs() < slack && (high - ends[1]).abs() < slack,
                    "{exponent} {k}: {bracket:?} {ends:?}"
                );
            }
        }
    }

    #[test]
    fn lower_temperatures_and_top_p_narrow_the_brackets() {
        let dist = zipf(1.6);
        let width = |temperature, top_p, vocabulary| {
            let omitted = OmittedSampling { temperature, top_p };
            let (entropy, _) = both(&position(&dist, 20), omitted, vocabulary);
            entropy.high.map(|high| high - entropy.low)
        };
        let plain = width(1.0, 1.0, Some(128_000)).unwrap();
        let cool = width(0.7, 1.0, Some(128_000)).unwrap();
        assert!(cool < 0.4 * plain, "{cool} {plain}");
        // Below the report's temperature the vocabulary's size is not needed.
        assert!(width(0.7, 1.0, None).unwrap() < 1.05 * cool);
        assert_eq!((width(1.0, 1.0, None), width(1.5, 1.0, None)), (None, None));
        // The 20 listed tokens hold more than 0.8 of the mass: one distribution fits.
        assert!(width(1.0, 0.8, None).unwrap() < 1e-12);
    }

    #[test]
    fn brackets_hold_for_the_sampling_of_this_program() {
        let logits: Vec<f32> = (0..500).map(|i| -2.1 * (1.0 + i as f32).ln()).collect();
        let whole: Vec<f64> = logits.iter().map(|l| f64::from(*l).exp()).collect();
        let sum: f64 = whole.iter().sum();
        let dist: Vec<f64> = whole.iter().map(|p| p / sum).collect();
        for (temperature, top_p) in [(1.0, 1.0), (0.6, 1.0), (0.6, 0.9), (1.4, 0.95), (1.0, 0.5)] {
            let sampling = Sampling { temperature, top_p, top_k: None };
            let truth = TokenDist::new(&logits, &sampling).unwrap().moments();
            for k in [1, 5, 20, 500] {
                let (temperature, top_p) = (f64::from(temperature), f64::from(top_p));
                let omitted = OmittedSampling { temperature, top_p };
                let (entropy, second) = both(&position(&dist, k), omitted, Some(500));
                assert!(
                    holds(entropy, truth.entropy, 1e-5) && holds(second, truth.second, 1e-5),
                    "{omitted:?} {k}: {truth:?} {entropy:?} {second:?}"
                );
            }
        }
    }
}
