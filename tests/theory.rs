//! Ceilings against independently computed values, and their order over random distributions.
#![allow(clippy::unwrap_used)]

use std::collections::BinaryHeap;

use proptest::prelude::*;
use speclight::theory::{bounds, pool::SurprisalPool};

fn zipf(n: usize, a: f64) -> Vec<f64> {
    normalized((1..=n).map(|i| (i as f64).powf(-a)).collect())
}

fn normalized(mut distribution: Vec<f64>) -> Vec<f64> {
    let total: f64 = distribution.iter().sum();
    distribution.iter_mut().for_each(|p| *p /= total);
    distribution
}

/// Builds the distributions of an entry, which its field "law" in the reference file describes.
fn distributions(name: &str) -> Vec<Vec<f64>> {
    match name {
        "two_0.9" => vec![vec![0.9, 0.1]],
        "two_0.97" => vec![vec![0.97, 0.03]],
        "three" => vec![vec![0.7, 0.2, 0.1]],
        "uniform4" => vec![vec![0.25; 4]],
        "zipf50_1.0" => vec![zipf(50, 1.0)],
        "zipf50_2.0" => vec![zipf(50, 2.0)],
        "mixture_llm" => {
            vec![
                vec![0.995, 0.005],
                vec![0.98, 0.015, 0.005],
                vec![0.9, 0.06, 0.03, 0.01],
                zipf(200, 1.6),
                zipf(200, 1.1),
            ]
        }
        other => panic!("the reference has a distribution that the test does not know: {other}"),
    }
}

fn pool(distributions: &[Vec<f64>], per_nat: usize) -> SurprisalPool {
    let mut pool = SurprisalPool::with_grid(per_nat);
    distributions.iter().for_each(|distribution| pool.add_probabilities(distribution));
    pool
}

#[test]
fn the_reference_values() {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("data/theory-reference.json")).unwrap();
    let mut rows = 0;
    for (name, entry) in file.as_object().unwrap() {
        let pool = pool(&distributions(name), 256);
        let (mu, mu2) = (entry["mu"].as_f64().unwrap(), entry["mu2"].as_f64().unwrap());
        let (own_mu, own_mu2) = (pool.mu().unwrap(), pool.mu2().unwrap());
        assert!(
            (own_mu - mu).abs() < 1e-5 && (own_mu2 - mu2).abs() < 1e-5,
            "{name}: {own_mu}, {own_mu2} for {mu}, {mu2}"
        );
        let curve = pool.fluid_curve(256);
        for (p, row) in entry["P"].as_object().unwrap() {
            let p: usize = p.parse().unwrap();
            let closed = [
                ("paper", bounds::published(own_mu, own_mu2, p)),
                ("renewal", bounds::renewal(own_mu, own_mu2, p)),
                ("renewal_tuned", bounds::renewal_tuned(own_mu, own_mu2, p)),
            ];
            for (form, got) in closed {
                match (row[form].as_f64(), got) {
                    (Some(want), Some(got)) => assert!(
                        (got - want).abs() < 1e-4,
                        "{name}, P {p}, {form}: {got} for {want}"
                    ),
                    (want, got) => assert_eq!(want, got, "{name}, P {p}, {form}"),
                }
            }
            let (want, fluid) = (row["fluid"].as_f64().unwrap(), curve[p]);
            let (optimum, se) = (row["optimum"].as_f64().unwrap(), row["se"].as_f64().unwrap());
            let varying = pool.fluid_bound_for_mean_size(p as f64).unwrap();
            assert!(
                (varying / want - 1.0).abs() < 0.005,
                "{name}, P {p}: fluid {varying} for {want}"
            );
            assert!(
                fluid <= varying,
                "{name}, P {p}: {fluid} for a fixed size, {varying} for a mean size"
            );
            // With few nodes, the bound is the exact optimum up to the grid of the second node.
            if p <= 2 {
                assert!(
                    fluid <= optimum + 3.0 * se + 0.004,
                    "{name}, P {p}: {fluid} for the optimum {optimum} ({se})"
                );
            }
            // 5e-6: the optimum is written with five decimals.
            assert!(
                fluid >= optimum - 3.0 * se - 5e-6,
                "{name}, P {p}: fluid {fluid} below the optimum {optimum} ({se})"
            );
            rows += 1;
        }
    }
    assert_eq!(rows, 63);
}

/// Sums the P largest path probabilities for each P from 0 to `most`.
///
/// Every node has this distribution.
fn optimum(distribution: &[f64], most: usize) -> Vec<f64> {
    let mut sorted = distribution.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    // A candidate is a child, by rank, of a node already taken. Its next sibling and its first
    // child become candidates after it. Positive floats are ordered like their bits.
    let mut heap = BinaryHeap::from([(sorted[0].to_bits(), 1f64.to_bits(), 0usize)]);
    let (mut sum, mut sums) = (0.0, vec![0.0]);
    while sums.len() <= most {
        let Some((pi, parent, rank)) = heap.pop() else { break };
        let (pi, parent) = (f64::from_bits(pi), f64::from_bits(parent));
        sum += pi;
        sums.push(sum);
        if let Some(&p) = sorted.get(rank + 1) {
            heap.push(((parent * p).to_bits(), parent.to_bits(), rank + 1));
        }
        heap.push(((pi * sorted[0]).to_bits(), pi.to_bits(), 0));
    }
    sums
}

fn distribution() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        4 => prop::collection::vec(1e-4f64..1.0, 1..40).prop_map(normalized),
        3 => (2usize..3000, 0.6f64..3.0).prop_map(|(n, a)| zipf(n, a)),
        3 => (-7f64..-0.5, 1usize..200).prop_map(|(e, n)| {
            let rest = 10f64.powf(e);
            std::iter::once(1.0 - rest).chain(std::iter::repeat_n(rest / n as f64, n)).collect()
        }),
        1 => Just(vec![1.0 / 50_000.0; 50_000]),
        1 => Just(vec![1.0]),
    ]
}

const SIZES: [usize; 9] = [1, 2, 3, 7, 15, 31, 100, 255, 1023];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_tree_beats_the_fluid_bound(distribution in distribution()) {
        let optimum = optimum(&distribution, 1023);
        let curve = pool(&[distribution], 256).fluid_curve(1023);
        for p in SIZES {
            prop_assert!(optimum[p] <= curve[p] * (1.0 + 1e-9), "P {p}: optimum {} above {}", optimum[p], curve[p]);
            // With a single distribution, the bound is the optimum up to the grid.
            prop_assert!(curve[p] <= optimum[p] * 1.006 + 1e-9, "P {p}: {} far above the optimum {}", curve[p], optimum[p]);
        }
    }

    #[test]
    fn the_ceilings_keep_their_order(distributions in prop::collection::vec(distribution(), 1..6)) {
        let pool = pool(&distributions, 256);
        let curve = pool.fluid_curve(1023);
        prop_assert_eq!(curve.len(), 1024);
        let (mu, mu2) = (pool.mu().unwrap(), pool.mu2().unwrap());
        for p in 1..curve.len() {
            prop_assert!(curve[p] >= curve[p - 1] - 1e-9, "falls at {p}: {} after {}", curve[p], curve[p - 1]);
            prop_assert!(curve[p] <= p as f64, "{} above P {p}", curve[p]);
            let renewal = bounds::renewal(mu, mu2, p).unwrap_or(f64::INFINITY);
            let tuned = bounds::renewal_tuned(mu, mu2, p).unwrap_or(renewal);
            prop_assert!(curve[p] <= tuned * (1.0 + 1e-9), "P {p}: fluid {} above tuned {tuned}", curve[p]);
            prop_assert!(tuned <= renewal + 1e-9, "P {p}: tuned {tuned} above {renewal}");
        }
    }

    #[test]
    fn a_finer_grid_is_never_looser(distributions in prop::collection::vec(distribution(), 1..4)) {
        let (coarse, fine) = (pool(&distributions, 64).fluid_curve(300), pool(&distributions, 128).fluid_curve(300));
        for p in 1..=300 {
            prop_assert!(fine[p] <= coarse[p] * (1.0 + 1e-9) + 1e-9, "P {p}: {} on the finer grid, {}", fine[p], coarse[p]);
        }
    }

    #[test]
    fn streaming_moments_are_the_moments(distributions in prop::collection::vec(distribution(), 1..6)) {
        let pool = pool(&distributions, 256);
        let n = distributions.len() as f64;
        let by_hand = |k: i32| distributions.iter().flatten().filter(|&&p| p > 0.0).map(|p| p * (-p.ln()).powi(k)).sum::<f64>() / n;
        prop_assert!((pool.mu().unwrap() - by_hand(1)).abs() < 1e-9);
        prop_assert!((pool.mu2().unwrap() - by_hand(2)).abs() < 1e-8);
    }
}
