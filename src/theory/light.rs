//! Ceiling on decoding speed for any drafter on this machine (bounds.md, "The speed of light").
//!
//! A free drafter with perfect knowledge of the target chooses the size of each step's tree. In a
//! context with oracle masses O(.) and a price of `c` tokens per second, its best pass maximizes
//! 1 + O(b - 1) - c t(b). The largest long-run rate is the c at which these maxima have mean 0 over
//! the contexts where steps start (renewal-reward; Dinkelbach, "On nonlinear fractional
//! programming", Management Science 1967).
//!
//! Pass times are given as a slice of seconds: entry b - 1 is t(b), the root included in b. No pass
//! larger than the slice is considered.

/// Maximum iterations of Dinkelbach's method; it converges superlinearly, in about ten.
const MOST_ITERATIONS: usize = 64;

/// Path probability below which a curve is cut; the rest is only bounded.
const NO_MASS: f64 = 1e-6;

/// Probability mass of the oracle trees of one context, by size.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct OracleCurve {
    /// Summed path probability of the p most probable nodes found, as entry p.
    ///
    /// Entry 0 is 0. Never empty.
    pub mass: Vec<f64>,
    /// Upper bound on the path probability of any other node; 0 once nothing is left.
    pub unknown: f64,
}

impl Default for OracleCurve {
    /// Curve of an unknown context: any node may be certain.
    fn default() -> Self {
        Self { mass: vec![0.0], unknown: 1.0 }
    }
}

impl OracleCurve {
    /// Builds the curve of nodes with these path probabilities, in descending order.
    pub fn from_path_probabilities(falling: impl IntoIterator<Item = f64>, unknown: f64) -> Self {
        let mut mass = vec![0.0];
        let mut sum = 0.0;
        mass.extend(falling.into_iter().map(|pi| {
            sum += pi;
            sum
        }));
        Self { mass, unknown }
    }

    /// Builds the curve of a deterministic text of which `tokens` tokens can still be drafted.
    pub fn deterministic(tokens: usize) -> Self {
        Self::from_path_probabilities(std::iter::repeat_n(1.0, tokens), 0.0)
    }

    /// Returns the mass of a tree of `p` drafted nodes that is known to exist.
    pub fn lower(&self, p: usize) -> f64 {
        self.mass.get(p).or(self.mass.last()).copied().unwrap_or(0.0)
    }

    /// Returns an upper bound on the mass of any tree of `p` drafted nodes.
    ///
    /// The i-th largest path probability of all nodes is either that of the i-th node found or at
    /// most `unknown`.
    pub fn upper(&self, p: usize) -> f64 {
        self.upper_increments().take(p).sum::<f64>() + 0.0
    }

    /// Returns the curve of at most `drafted` nodes, cut where almost no mass is left.
    ///
    /// Nodes that are cut stay bounded by `unknown`.
    pub fn shortened(&self, drafted: usize) -> OracleCurve {
        let mut short = OracleCurve { mass: vec![0.0], unknown: self.unknown };
        for pair in self.mass.windows(2) {
            if short.mass.len() > drafted || pair[1] - pair[0] <= NO_MASS {
                short.unknown = short.unknown.max(pair[1] - pair[0]);
                break;
            }
            short.mass.push(pair[1]);
        }
        short
    }

    /// Iterates over upper bounds on the largest, second largest, ... path probability.
    ///
    /// The iterator never ends.
    pub fn upper_increments(&self) -> impl Iterator<Item = f64> + '_ {
        let unknown = self.unknown.clamp(0.0, 1.0);
        let found = self.mass.windows(2).map(move |pair| (pair[1] - pair[0]).max(unknown).min(1.0));
        found.chain(std::iter::repeat(unknown))
    }
}

/// Verify pass of one size, with the number of tokens it is expected to yield.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SizedPass {
    /// Tokens of the pass, the root included.
    pub budget: usize,
    /// Expected tokens emitted, the bonus token included.
    pub tokens: f64,
    /// Seconds that the pass takes.
    pub seconds: f64,
}

impl SizedPass {
    /// Returns the rate in tokens per second.
    pub fn rate(&self) -> f64 {
        self.tokens / self.seconds
    }

    /// Returns the best pass in one context at a price of `rate` tokens per second.
    ///
    /// Ties go to the smallest size.
    fn at_price(oracle: &OracleCurve, seconds: &[f64], rate: f64) -> SizedPass {
        let mut tokens = 1.0;
        let mut best = SizedPass { budget: 1, tokens, seconds: seconds[0] };
        let mut value = tokens - rate * seconds[0];
        for (i, (&seconds, gain)) in seconds[1..].iter().zip(oracle.upper_increments()).enumerate()
        {
            tokens += gain;
            if tokens - rate * seconds > value {
                value = tokens - rate * seconds;
                best = SizedPass { budget: i + 2, tokens, seconds };
            }
        }
        best
    }
}

/// Speed ceiling c, and the policy that attains it.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeedCeiling {
    /// Ceiling c, in tokens per second.
    pub rate: f64,
    /// Best pass in each context, in the order given.
    pub passes: Vec<SizedPass>,
}

/// Returns the largest long-run rate over contexts that are equally frequent.
///
/// Masses are upper bounds ([`OracleCurve::upper`]), so the result stays a ceiling where a search
/// was not finished. Returns `None` without contexts or seconds, or if a time is not positive and
/// finite.
pub fn speed_of_light(contexts: &[OracleCurve], seconds: &[f64]) -> Option<SpeedCeiling> {
    if contexts.is_empty() || !valid(seconds) {
        return None;
    }
    let mut found = SpeedCeiling { rate: 0.0, passes: Vec::new() };
    for _ in 0..MOST_ITERATIONS {
        let best = |context| SizedPass::at_price(context, seconds, found.rate);
        let passes: Vec<SizedPass> = contexts.iter().map(best).collect();
        let tokens: f64 = passes.iter().map(|pass| pass.tokens).sum();
        let rate = tokens / passes.iter().map(|pass| pass.seconds).sum::<f64>();
        // Each policy is at least as fast as the one before it, up to rounding.
        let done = rate <= found.rate * (1.0 + 1e-14);
        found = SpeedCeiling { rate, passes };
        if done {
            break;
        }
    }
    found.rate.is_finite().then_some(found)
}

/// Returns the best fixed pass size where `accepted[p]` of p drafted tokens are accepted.
///
/// With the mean oracle curve of some contexts it is the best fixed budget for them; with the fluid
/// bound it is the ceiling of i.i.d. distributions, max over b of (1 + F(b - 1)) / t(b). Ties go to
/// the smallest size. Returns `None` without sizes to compare, or if a time is not positive and
/// finite.
pub fn best_fixed(accepted: &[f64], seconds: &[f64]) -> Option<SizedPass> {
    if !valid(seconds) {
        return None;
    }
    let sizes = accepted.iter().zip(seconds).enumerate();
    let passes =
        sizes.map(|(i, (a, &seconds))| SizedPass { budget: i + 1, tokens: 1.0 + a, seconds });
    fastest(passes)
}

/// Returns the mean of the contexts' upper masses, for 0 to `drafted` drafted nodes.
pub fn mean_upper(contexts: &[OracleCurve], drafted: usize) -> Vec<f64> {
    let mut mean = vec![0.0; drafted + 1];
    for context in contexts {
        let mut mass = 0.0;
        for (mean, gain) in mean[1..].iter_mut().zip(context.upper_increments()) {
            mass += gain;
            *mean += mass / contexts.len() as f64;
        }
    }
    mean
}

/// Returns the pass size that reads a long text fastest.
///
/// It maximizes b / t(b) over b.
///
/// This is the ceiling for greedy decoding, where every token of a perfect drafter is accepted, and
/// for sampled trees, where the same holds for a drafter with q = p. Returns `None` without
/// seconds, or if a time is not positive and finite.
pub fn fastest_reading_pass(seconds: &[f64]) -> Option<SizedPass> {
    let accepted: Vec<f64> = (0..seconds.len()).map(|p| p as f64).collect();
    best_fixed(&accepted, seconds)
}

/// Returns the least seconds of verify passes that emit 0, 1, ..., `longest` tokens.
///
/// All drafted tokens are accepted. No drafter emits a text of that length in less, whatever sizes
/// it chooses. Infinite without seconds.
pub fn least_seconds(longest: usize, seconds: &[f64]) -> Vec<f64> {
    let mut least = vec![0.0f64];
    for length in 1..=longest {
        // The last pass of a text may be larger than the number of tokens left.
        let with = |(i, t): (usize, &f64)| t + least[length.saturating_sub(i + 1)];
        least.push(seconds.iter().enumerate().map(with).fold(f64::INFINITY, f64::min));
    }
    least
}

/// Returns the best fixed pass size for texts given as (length, count).
///
/// Maximizes tokens per second when every drafted token is accepted to the end of its text. Ties go
/// to the smallest size.
pub fn best_fixed_for_lengths(lengths: &[(usize, usize)], seconds: &[f64]) -> Option<SizedPass> {
    if lengths.iter().all(|(length, count)| length * count == 0) || !valid(seconds) {
        return None;
    }
    let sizes = seconds.iter().enumerate().map(|(i, &seconds)| {
        let passes: usize =
            lengths.iter().map(|(length, count)| length.div_ceil(i + 1) * count).sum();
        let tokens: usize = lengths.iter().map(|(length, count)| length * count).sum();
        SizedPass { budget: i + 1, tokens: tokens as f64 / passes as f64, seconds }
    });
    fastest(sizes)
}

fn fastest(passes: impl Iterator<Item = SizedPass>) -> Option<SizedPass> {
    passes.filter(|pass| pass.rate().is_finite()).fold(None, |best: Option<SizedPass>, pass| {
        if best.is_none_or(|best| pass.rate() > best.rate()) { Some(pass) } else { best }
    })
}

fn valid(seconds: &[f64]) -> bool {
    !seconds.is_empty() && seconds.iter().all(|t| *t > 0.0 && t.is_finite())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::theory::bootstrap::SplitMix;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs().max(1.0)
    }

    /// Chain whose nodes are accepted with these probabilities, each given its parent.
    fn chain(p: &[f64]) -> OracleCurve {
        let path = p.iter().scan(1.0, |pi, p| {
            *pi *= p;
            Some(*pi)
        });
        OracleCurve::from_path_probabilities(path, 0.0)
    }

    fn rate(contexts: &[OracleCurve], seconds: &[f64], budgets: &[usize]) -> f64 {
        let tokens: f64 = contexts.iter().zip(budgets).map(|(c, b)| 1.0 + c.upper(b - 1)).sum();
        tokens / budgets.iter().map(|b| seconds[b - 1]).sum::<f64>()
    }

    #[test]
    fn curve_bounds_enclose_what_was_not_found() {
        let curve = OracleCurve::from_path_probabilities([0.6, 0.3, 0.05], 0.1);
        assert!((0..=2).all(|p| near(curve.lower(p), curve.upper(p))));
        // The third node found, and any other, may be as good as the best unknown one.
        assert!(near(curve.lower(3), 0.95) && near(curve.upper(3), 1.0));
        assert!(near(curve.lower(9), 0.95) && near(curve.upper(5), 1.2));
        assert_eq!((OracleCurve::default().lower(4), OracleCurve::default().upper(4)), (0.0, 4.0));
        let text = OracleCurve::deterministic(2);
        assert_eq!([0, 1, 2, 3].map(|p| text.upper(p)), [0.0, 1.0, 2.0, 2.0]);
        let odd = OracleCurve { mass: vec![0.0, f64::NAN], unknown: f64::NAN };
        assert!(odd.upper(0) == 0.0 && speed_of_light(&[odd], &[1.0]).unwrap().rate == 1.0);
    }

    #[test]
    fn shortened_curves_stay_upper_bounds() {
        let long = OracleCurve::from_path_probabilities((0..400).map(|i| 0.99f64.powi(i)), 0.0);
        let tail = OracleCurve::from_path_probabilities([0.5, 1e-7, 1e-8], 0.0);
        for curve in [long, tail, OracleCurve::default(), OracleCurve::deterministic(3)] {
            let short = curve.shortened(255);
            assert!(short.mass.len() <= 256);
            for p in [0, 1, 2, 3, 5, 100, 255] {
                assert!(
                    short.upper(p) >= curve.upper(p) - 1e-12
                        && short.upper(p) <= curve.upper(p) + 1e-3,
                    "{p}"
                );
            }
        }
    }

    #[test]
    fn no_ceiling_without_contexts_or_times() {
        let contexts = [chain(&[0.5])];
        assert_eq!(speed_of_light(&[], &[1.0]), None);
        for bad in [vec![], vec![0.0], vec![1.0, f64::NAN], vec![1.0, -1.0], vec![f64::INFINITY]] {
            assert_eq!(speed_of_light(&contexts, &bad), None);
            assert_eq!((fastest_reading_pass(&bad), best_fixed(&[0.0], &bad)), (None, None));
            assert_eq!(best_fixed_for_lengths(&[(3, 1)], &bad), None);
        }
        assert_eq!(best_fixed_for_lengths(&[(3, 0), (0, 2)], &[1.0]), None);
    }

    #[test]
    fn one_context_gives_its_best_fixed_budget() {
        let (contexts, seconds) = ([chain(&[0.9, 0.5, 0.5])], [1.0, 1.2, 1.5, 2.5]);
        let best = best_fixed(&mean_upper(&contexts, 3), &seconds).unwrap();
        let found = speed_of_light(&contexts, &seconds).unwrap();
        assert_eq!((best.budget, found.passes[0].budget), (2, 2));
        assert!(near(found.rate, best.rate()) && near(found.rate, 1.9 / 1.2));
    }

    #[test]
    fn deterministic_text_reaches_reading_speed() {
        let seconds: Vec<f64> = (1..=8).map(|b| 1.0 + 0.1 * f64::from(b * b)).collect();
        let best = fastest_reading_pass(&seconds).unwrap();
        assert_eq!(best.budget, 3);
        let unlimited = speed_of_light(&[OracleCurve::default()], &seconds).unwrap();
        assert!(near(unlimited.rate, best.rate()) && near(best.rate(), 3.0 / 1.9));
    }

    #[test]
    fn the_best_cover_of_a_text_is_the_ceiling_at_its_own_steps() {
        let seconds: Vec<f64> = (1..=16).map(|b| 1.0 + 0.02 * f64::from(b)).collect();
        let least = least_seconds(40, &seconds);
        // 16 + 16 + 8, in any order of the sizes.
        assert!(near(least[40], 2.0 * seconds[15] + seconds[7]) && least[0] == 0.0);
        // At the steps of that cover, with 40, 24 and 8 tokens left, both forms of the ceiling
        // agree.
        let own = [39, 23, 7].map(OracleCurve::deterministic);
        assert!(near(speed_of_light(&own, &seconds).unwrap().rate, 40.0 / least[40]));
        // At the steps of plain decoding the ends of texts would weigh too much: not a ceiling.
        let plain: Vec<OracleCurve> = (0..32).map(OracleCurve::deterministic).collect();
        let (flat, best) = ([1.0; 16], 16.0);
        assert!(near(32.0 / least_seconds(32, &flat)[32], best));
        assert!(speed_of_light(&plain, &flat).unwrap().rate < 0.8 * best);
        // The best single size takes no less: three passes of 14.
        let fixed = best_fixed_for_lengths(&[(40, 2)], &seconds).unwrap();
        assert!(fixed.budget == 14 && fixed.rate() < 40.0 / least[40]);
    }

    /// Long-run rate of a policy, by sampling contexts and walking down their chains.
    fn simulate(p: &[Vec<f64>], seconds: &[f64], budgets: &[usize], draws: &mut SplitMix) -> f64 {
        let (mut tokens, mut time) = (0.0, 0.0);
        for _ in 0..40_000 {
            let context = draws.below(p.len());
            let drafted = p[context].iter().take(budgets[context] - 1);
            let accepted =
                drafted.take_while(|p| (draws.below(1 << 20) as f64) < **p * f64::from(1 << 20));
            tokens += 1.0 + accepted.count() as f64;
            time += seconds[budgets[context] - 1];
        }
        tokens / time
    }

    #[test]
    fn no_simulated_policy_exceeds_the_ceiling_and_the_oracle_reaches_it() {
        let p = [vec![0.95, 0.9, 0.9, 0.9, 0.8], vec![0.3, 0.9, 0.2], vec![0.7, 0.6, 0.9, 0.9]];
        let contexts = p.each_ref().map(|p| chain(p));
        let seconds = [1.0, 1.15, 1.3, 1.5, 1.9, 2.0];
        let found = speed_of_light(&contexts, &seconds).unwrap();
        let mut draws = SplitMix(7);
        // The standard error of a simulated rate is below 0.5%.
        let own: Vec<usize> = found.passes.iter().map(|pass| pass.budget).collect();
        assert!((simulate(&p, &seconds, &own, &mut draws) / found.rate - 1.0).abs() < 0.02);
        for a in [1, 3, 6] {
            for b in [1, 2, 4] {
                for c in [1, 3, 5] {
                    let reached = simulate(&p, &seconds, &[a, b, c], &mut draws);
                    assert!(reached < 1.02 * found.rate, "{:?} reaches {reached}", [a, b, c]);
                }
            }
        }
        // The best size differs between contexts: no fixed budget is as fast.
        let fixed = best_fixed(&mean_upper(&contexts, 5), &seconds).unwrap().rate();
        assert!(fixed < found.rate, "{fixed} of {}", found.rate);
    }

    prop_compose! {
        fn context()(
            mut pi in prop::collection::vec(0.0f64..1.0, 0..6), unknown in prop_oneof![Just(0.0), 0.0f64..0.3],
        ) -> OracleCurve {
            pi.sort_by(|a, b| b.total_cmp(a));
            OracleCurve::from_path_probabilities(pi, unknown)
        }
    }

    proptest! {
        #[test]
        fn ceiling_is_the_best_of_all_policies(
            contexts in prop::collection::vec(context(), 1..4), seconds in prop::collection::vec(0.1f64..3.0, 1..5),
        ) {
            let mut most = 0f64;
            for number in 0..seconds.len().pow(contexts.len() as u32) {
                let digit = |i: usize| number / seconds.len().pow(i as u32) % seconds.len() + 1;
                let budgets: Vec<usize> = (0..contexts.len()).map(digit).collect();
                most = most.max(rate(&contexts, &seconds, &budgets));
            }
            let found = speed_of_light(&contexts, &seconds).unwrap();
            prop_assert!(near(found.rate, most), "{} and {most}", found.rate);
            let budgets: Vec<usize> = found.passes.iter().map(|pass| pass.budget).collect();
            prop_assert!(near(found.rate, rate(&contexts, &seconds, &budgets)));
            // The equation that defines c.
            let mean: f64 = found.passes.iter().map(|pass| pass.tokens - found.rate * pass.seconds).sum();
            prop_assert!(mean.abs() < 1e-9);
            let fixed = best_fixed(&mean_upper(&contexts, seconds.len() - 1), &seconds).unwrap().rate();
            prop_assert!(fixed <= found.rate * (1.0 + 1e-9), "fixed {fixed}, any {}", found.rate);
        }

        #[test]
        fn ceiling_falls_with_time_and_rises_with_mass(
            contexts in prop::collection::vec(context(), 1..6), seconds in prop::collection::vec(0.1f64..3.0, 1..9),
            which in 0usize..9, slower in 1.0f64..2.0, more in 0.0f64..0.5,
        ) {
            let before = speed_of_light(&contexts, &seconds).unwrap().rate;
            let mut slow = seconds.clone();
            slow[which % seconds.len()] *= slower;
            prop_assert!(speed_of_light(&contexts, &slow).unwrap().rate <= before * (1.0 + 1e-12));
            let mut rich = contexts.clone();
            let at = which % rich.len();
            rich[at].unknown = (rich[at].unknown + more).min(1.0);
            prop_assert!(speed_of_light(&rich, &seconds).unwrap().rate >= before * (1.0 - 1e-12));
        }

        #[test]
        fn no_sequence_of_passes_covers_a_text_faster(
            seconds in prop::collection::vec(0.1f64..3.0, 1..9), sizes in prop::collection::vec(1usize..9, 1..8),
        ) {
            let sizes: Vec<usize> = sizes.iter().map(|b| (b - 1) % seconds.len() + 1).collect();
            let (length, time) = (sizes.iter().sum::<usize>(), sizes.iter().map(|b| seconds[b - 1]).sum::<f64>());
            let least = least_seconds(length, &seconds);
            prop_assert!(least[length] <= time + 1e-9);
            // Reading speed is the limit of long texts, and no text is faster.
            prop_assert!(least[length] >= length as f64 / fastest_reading_pass(&seconds).unwrap().rate() - 1e-9);
        }
    }
}
