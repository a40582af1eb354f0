//! Acceptance ceilings for sampled drafts: optimal transport between drafts and the target.
//!
//! At a node the drafter samples a set S of k tokens, and a lossless verification rule emits a
//! token Y with the target's distribution p. The largest P(Y in S) over all joint distributions of
//! S and Y with these marginals is, by max-flow min-cut between draft sets and tokens,
//!
//! ```text
//! alpha = 1 + min over token sets H of (P(H) - Q(H)),   Q(H) = P(S lies in H)
//! ```
//!
//! (Hu et al., "Towards Optimal Multi-draft Speculative Decoding", ICLR 2025, arXiv 2502.18779). It
//! holds for any way to sample S, and for one draft it is sum min(p, q). The minimum is over 2^n
//! sets; for drafts without replacement n + 1 are enough:
//!
//! **Prefixes suffice.** Let k tokens be sampled one after the other from q without replacement.
//! Then some prefix of the tokens in ascending order of p/q attains the minimum. It is enough that
//! for every G and x, y outside of it
//!
//! ```text
//! (Q(G + y + x) - Q(G + y)) / q(x) >= (Q(G + y) - Q(G)) / q(y):                               (*)
//! ```
//!
//! for then, if H is a minimum with y in it and x not, p(x) >= Q(H + x) - Q(H) and
//! p(y) <= Q(H) - Q(H - y) give p(x)/q(x) >= p(y)/q(y). To prove (*), give each token an
//! exponential clock that rings at rate q; the first k to ring are S. Let g_j be the j-th ring
//! within G, T the first one outside of G, x and y, both fixed from here on. The left difference is
//! P(S in G + x + y, x in S): either y is in S, too (call it B), or it is not (A_x). The right
//! difference is A_y. With a = g_(k-1) and b = min(T, g_k), if a < T,
//!
//! ```text
//! A_x / q(x) = integral over t from 0 to b of exp(-q(x) t - q(y) max(t, a)),
//! ```
//!
//! and A_y / q(y) likewise with x and y exchanged: both have the same integrand from a on. Below a
//! they differ by
//! D = exp(-q(y) a) (1 - exp(-q(x) a)) / q(x) - exp(-q(x) a) (1 - exp(-q(y) a)) / q(y).
//! If x and y ring before a, both are in S:
//! B / q(x) >= (1 - exp(-q(x) a)) (1 - exp(-q(y) a)) / q(x). Together they are at least
//! (1 - exp(-q(x) a)) / q(x) - exp(-q(x) a) (1 - exp(-q(y) a)) / q(y) >=
//! a exp(-q(x) a) - a exp(-q(x) a) = 0, since (1 - exp(-q a)) / q lies between a exp(-q a) and a.
//! If a >= T, A_x = A_y = 0 and B >= 0. For k = 1 both sides of (*) are 1.
//!
//! Tests compare all of this with a maximum flow between draft sets and tokens.

/// Returns the acceptance ceiling of one draft token: sum min(p, q) over pairs (p, q).
pub fn single_draft_ceiling(tokens: &[(f64, f64)]) -> f64 {
    tokens.iter().map(|&(p, q)| p.min(q)).sum::<f64>() + 0.0
}

/// Returns the acceptance ceiling of `drafts` tokens sampled from q without replacement.
///
/// It is the largest probability that one of them is accepted. `tokens` are pairs (p, q) of all
/// tokens that can be sampled; q need not be normalized. Returns `None` if the result is not known
/// to six places.
pub fn without_replacement_ceiling(tokens: &[(f64, f64)], drafts: usize) -> Option<f64> {
    let tokens = normalized(tokens);
    let all = tokens.iter().map(|(p, _)| p).sum::<f64>().min(1.0);
    match drafts {
        0 => Some(0.0),
        1 => Some(single_draft_ceiling(&tokens).min(all)),
        _ if drafts >= tokens.len() => Some(all),
        _ => {
            let mut order = tokens;
            order.sort_by(|a, b| (a.0 * b.1).total_cmp(&(b.0 * a.1)));
            let q: Vec<f64> = order.iter().map(|(_, q)| *q).collect();
            let (mut mass, mut least) = (0.0, 0.0f64);
            for (&(p, _), contained) in order.iter().zip(containment(&q, drafts)?) {
                mass += p;
                least = least.min(mass - contained);
            }
            Some((1.0 + least).clamp(0.0, all))
        }
    }
}

/// Returns the acceptance ceiling if only the last draft token is sampled.
///
/// The first `drafts - 1` of `tokens` are drafted with certainty, and the last one is sampled from
/// the others. Every rule can accept the certain ones with their p, and sum min(p, q) of the
/// others, with q normalized over them.
pub fn greedy_first_ceiling(tokens: &[(f64, f64)], drafts: usize) -> f64 {
    if drafts == 0 {
        return 0.0;
    }
    let (certain, others) = tokens.split_at((drafts - 1).min(tokens.len()));
    (certain.iter().map(|(p, _)| p).sum::<f64>() + single_draft_ceiling(&normalized(others)))
        .min(1.0)
}

/// Returns the tokens that can be sampled, with q normalized.
fn normalized(tokens: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let drawable = || tokens.iter().filter(|(_, q)| *q > 0.0);
    let sum: f64 = drawable().map(|(_, q)| q).sum();
    drawable().map(|&(p, q)| (p, q / sum)).collect()
}

/// Spacing in ln t of the points at which [`containment`] is integrated.
const STEP: f64 = 0.125;
/// Lower end of the integral, in ln t.
///
/// Below it, the integrand (at least two exponential clocks have rung) is negligible.
const FIRST: f64 = -11.0;
/// Upper end of the integral, in mean waiting times of the last token's exponential clock.
///
/// Beyond it, the integrand is negligible.
const LAST: f64 = 40.0;
/// Maximum difference of two integrals, each over every other point.
///
/// Their mean is far more accurate: halving the spacing squares the error.
const AGREE: f64 = 1e-5;

/// Returns the probability that all samples are among the first m, for each m.
///
/// m runs from 1 to n; `drafts` tokens (at least 2) are sampled from q without replacement. They
/// are the first tokens to ring if each has an exponential clock of rate q. With the mass r of the
/// tokens after m, the probability is the integral over t of r exp(-r t) P(at least `drafts` of the
/// first m clocks rang before t). It is computed by the trapezoidal rule in ln t, where the
/// integrand is analytic and vanishes at both ends. Returns `None` if that is not accurate enough.
fn containment(q: &[f64], drafts: usize) -> Option<Vec<f64>> {
    let mut outside = vec![0.0; q.len()];
    let mut sum = 0.0;
    for (m, q) in q.iter().enumerate().rev() {
        outside[m] = sum;
        sum += q;
    }
    let last = q.last().map_or(0.0, |q| (LAST / q).ln());
    let points = ((last - FIRST) / STEP).ceil().max(0.0) as usize;
    let mut sums = [vec![0.0; q.len()], vec![0.0; q.len()]];
    // Probability that exactly j of the first m tokens rang, for j < drafts.
    let mut rang = vec![0.0; drafts];
    for point in 0..=points {
        let t = (FIRST + STEP * point as f64).exp();
        let mut enough = 0.0;
        rang.fill(0.0);
        rang[0] = 1.0;
        for (m, q) in q.iter().enumerate() {
            let ring = -(-q * t).exp_m1();
            enough += rang[drafts - 1] * ring;
            for j in (1..drafts).rev() {
                rang[j] += ring * (rang[j - 1] - rang[j]);
            }
            rang[0] *= 1.0 - ring;
            let rate = outside[m] * t;
            sums[point % 2][m] += 2.0 * STEP * rate * (-rate).exp() * enough;
        }
    }
    let [even, odd] = sums;
    let mut all: Vec<f64> = even.iter().zip(&odd).map(|(a, b)| (a + b) / 2.0).collect();
    *all.last_mut()? = 1.0;
    let near = even.iter().zip(&odd).take(q.len() - 1).all(|(a, b)| (a - b).abs() < AGREE);
    near.then_some(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// Every set of `drafts` tokens as bits, with its probability when sampled without replacement.
    fn sets(q: &[f64], drafts: usize) -> Vec<(u32, f64)> {
        let mut all = vec![0.0; 1 << q.len()];
        let mut open = vec![(0u32, 1.0)];
        while let Some((set, share)) = open.pop() {
            let tokens = (0..q.len()).filter(|&i| set >> i & 1 == 0 && q[i] > 0.0);
            if set.count_ones() as usize == drafts || tokens.clone().next().is_none() {
                all[set as usize] += share;
                continue;
            }
            let unsampled: f64 = tokens.clone().map(|i| q[i]).sum();
            open.extend(tokens.map(|i| (set | 1 << i, share * q[i] / unsampled)));
        }
        (0u32..).zip(all).filter(|(_, share)| *share > 0.0).collect()
    }

    /// Largest P(Y in S), by a maximum flow.
    ///
    /// It runs from each draft set, whose capacity is its probability, to its tokens, whose
    /// capacity is p. Edmonds-Karp, whose number of paths does not depend on the capacities.
    fn flow(p: &[f64], sets: &[(u32, f64)]) -> f64 {
        let (source, sink) = (sets.len() + p.len(), sets.len() + p.len() + 1);
        let mut room = vec![vec![0.0f64; sink + 1]; sink + 1];
        for (s, &(set, share)) in sets.iter().enumerate() {
            room[source][s] = share;
            (0..p.len())
                .filter(|i| set >> i & 1 == 1)
                .for_each(|i| room[s][sets.len() + i] = f64::INFINITY);
        }
        p.iter().enumerate().for_each(|(i, &p)| room[sets.len() + i][sink] = p);
        let mut total = 0.0;
        loop {
            let mut from = vec![usize::MAX; sink + 1];
            from[source] = source;
            let mut queue = std::collections::VecDeque::from([source]);
            while let Some(at) = queue.pop_front() {
                for to in 0..=sink {
                    if from[to] == usize::MAX && room[at][to] > 1e-15 {
                        from[to] = at;
                        queue.push_back(to);
                    }
                }
            }
            if from[sink] == usize::MAX {
                return total;
            }
            let way = std::iter::successors(Some(sink), |&at| (at != source).then(|| from[at]))
                .collect::<Vec<_>>();
            let most = way.windows(2).map(|w| room[w[1]][w[0]]).fold(f64::INFINITY, f64::min);
            way.windows(2).for_each(|w| {
                room[w[1]][w[0]] -= most;
                room[w[0]][w[1]] += most;
            });
            total += most;
        }
    }

    /// Value of the dual: 1 + the minimum of P(H) - Q(H) over all sets.
    fn dual(p: &[f64], sets: &[(u32, f64)]) -> f64 {
        let of = |h: u32| {
            let mass: f64 = (0..p.len()).filter(|i| h >> i & 1 == 1).map(|i| p[i]).sum();
            mass - sets.iter().filter(|(set, _)| set & !h == 0).map(|(_, share)| share).sum::<f64>()
        };
        1.0 + (0..1u32 << p.len()).map(of).fold(f64::INFINITY, f64::min)
    }

    /// Target probabilities of some tokens (which may sum to less than 1), and drafter weights.
    fn pair() -> impl Strategy<Value = Vec<(f64, f64)>> {
        let p = prop_oneof![1 => Just(0.0), 4 => 0.01f64..1.0];
        let q = prop_oneof![1 => Just(0.0), 1 => 1e-9f64..1e-5, 4 => 0.01f64..1.0];
        (prop::collection::vec((p, q), 2..7), 0.0f64..1.0).prop_filter_map(
            "nothing to draw",
            |(mut all, others)| {
                let sum: f64 = all.iter().map(|(p, _)| p).sum::<f64>() + others;
                all.iter_mut().for_each(|(p, _)| *p /= sum);
                (sum > 0.0 && all.iter().any(|(_, q)| *q > 0.0)).then_some(all)
            },
        )
    }

    proptest! {
        /// Checks that the ceiling equals the maximum flow, and the flow its dual.
        #[test]
        fn the_ceiling_is_the_maximum_flow(tokens in pair(), drafts in 1usize..5) {
            let (p, q): (Vec<f64>, Vec<f64>) = tokens.iter().copied().unzip();
            let sets = sets(&q, drafts);
            let most = flow(&p, &sets);
            prop_assert!((dual(&p, &sets) - most).abs() < 1e-9, "{} {}", dual(&p, &sets), most);
            let ceiling = without_replacement_ceiling(&tokens, drafts).unwrap();
            prop_assert!((ceiling - most).abs() < 1e-9, "{} for {}", ceiling, most);
        }

        /// As above, with certain first tokens and one that is sampled.
        #[test]
        fn the_ceiling_of_greedy_first_is_the_maximum_flow(tokens in pair(), drafts in 1usize..5) {
            let mut tokens: Vec<(f64, f64)> = tokens.into_iter().filter(|(_, q)| *q > 0.0).collect();
            tokens.sort_by(|a, b| b.1.total_cmp(&a.1));
            let drafts = drafts.min(tokens.len());
            let (p, q): (Vec<f64>, Vec<f64>) = tokens.iter().copied().unzip();
            let certain = (1u32 << (drafts - 1)) - 1;
            let others: f64 = q[drafts - 1..].iter().sum();
            let sets: Vec<(u32, f64)> = (drafts - 1..q.len()).map(|i| (certain | 1 << i, q[i] / others)).collect();
            let (ceiling, most) = (greedy_first_ceiling(&tokens, drafts), flow(&p, &sets));
            prop_assert!((ceiling - most).abs() < 1e-9, "{} for {}", ceiling, most);
        }

        /// Compares Q of every prefix with the sum over all sampling orders.
        #[test]
        fn containment_is_that_of_the_draws(q in prop::collection::vec(prop_oneof![1e-9f64..1e-5, 0.01f64..1.0], 3..8), drafts in 2usize..4) {
            let sum: f64 = q.iter().sum();
            let q: Vec<f64> = q.iter().map(|q| q / sum).collect();
            let drafts = drafts.min(q.len() - 1);
            let sets = sets(&q, drafts);
            for (m, contained) in containment(&q, drafts).unwrap().into_iter().enumerate() {
                let within = (1u32 << (m + 1)) - 1;
                let want: f64 = sets.iter().filter(|(set, _)| set & !within == 0).map(|(_, share)| share).sum();
                prop_assert!((contained - want).abs() < 1e-10, "{} of {:?}: {} for {}", m, q, contained, want);
            }
        }

        /// Checks 64 tokens, the number that children are sampled from.
        ///
        /// Two drafts are compared with the closed form m - (1 - m) sum q / (1 - q), and equal
        /// tokens with the hypergeometric distribution.
        #[test]
        fn large_supports_are_exact(weights in prop::collection::vec(-18.0f64..0.0, 64), drafts in 2usize..17, flat in any::<bool>()) {
            let q: Vec<f64> = weights.iter().map(|w| if flat { 1.0 } else { w.exp() }).collect();
            let sum: f64 = q.iter().sum();
            let q: Vec<f64> = q.iter().map(|q| q / sum).collect();
            let contained = containment(&q, drafts).unwrap();
            prop_assert!(contained.windows(2).all(|w| w[0] <= w[1] + 1e-12));
            let pairs = containment(&q, 2).unwrap();
            let (mut mass, mut odds) = (0.0, 0.0);
            for (q, pair) in q.iter().zip(&pairs).take(63) {
                (mass, odds) = (mass + q, odds + q / (1.0 - q));
                prop_assert!((pair - (mass - (1.0 - mass) * odds)).abs() < 1e-10);
            }
            for m in drafts..64 {
                let want: f64 = (0..drafts).map(|j| (m - j) as f64 / (64 - j) as f64).product();
                prop_assert!(!flat || (contained[m - 1] - want).abs() < 1e-10, "{} of {}: {} for {}", drafts, m, contained[m - 1], want);
            }
            // More drafts are never contained more often.
            prop_assert!(contained.iter().zip(&pairs).all(|(more, two)| *more <= two + 1e-12));
        }

        #[test]
        fn more_drafts_have_a_higher_ceiling(tokens in pair()) {
            let known: f64 = tokens.iter().filter(|(_, q)| *q > 0.0).map(|(p, _)| p).sum();
            let mut before = 0.0;
            for drafts in 0..8 {
                let ceiling = without_replacement_ceiling(&tokens, drafts).unwrap();
                prop_assert!(ceiling >= before - 1e-12 && ceiling <= known + 1e-12);
                before = ceiling;
            }
            prop_assert!((before - known).abs() < 1e-12);
        }
    }

    #[test]
    fn hand_computed_ceilings_match() {
        // p = (1/3, 2/3), q = (2/3, 1/3): one draft is accepted with 2/3, two are both tokens.
        let tokens = [(1.0 / 3.0, 2.0 / 3.0), (2.0 / 3.0, 1.0 / 3.0)];
        assert!((single_draft_ceiling(&tokens) - 2.0 / 3.0).abs() < 1e-12);
        assert!((without_replacement_ceiling(&tokens, 1).unwrap() - 2.0 / 3.0).abs() < 1e-12);
        assert!((without_replacement_ceiling(&tokens, 2).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(without_replacement_ceiling(&tokens, 0), Some(0.0));
        assert_eq!(greedy_first_ceiling(&tokens, 0), 0.0);
        assert!((greedy_first_ceiling(&tokens, 2) - 1.0).abs() < 1e-12);
        // No token can be sampled.
        assert_eq!(
            (without_replacement_ceiling(&[], 3), without_replacement_ceiling(&[(1.0, 0.0)], 2)),
            (Some(0.0), Some(0.0))
        );
        assert_eq!((greedy_first_ceiling(&[], 2), single_draft_ceiling(&[])), (0.0, 0.0));
        // Weights that are not normalized.
        let weights = [(0.2, 4.0), (0.3, 2.0), (0.5, 2.0)];
        let shares = [(0.2, 0.5), (0.3, 0.25), (0.5, 0.25)];
        assert!(
            (without_replacement_ceiling(&weights, 2).unwrap()
                - without_replacement_ceiling(&shares, 2).unwrap())
            .abs()
                < 1e-12
        );
    }
}
