//! Tests that steps with sampled children keep the distribution of the text.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use proptest::prelude::*;

use super::testing::{LAYERS, TableDecoder, run, session, settings};
use crate::distribution::{Sampling, TokenDist};
use crate::telemetry::{StepRecord, StepSettings};
use crate::tree::TokenId;
use crate::verify::Rule;

const DRAFTERS: [&str; 7] = ["ngram", "suffix", "early-exit", "model", "mix", "auto", "oracle"];
const SHAPES: [&str; 3] = ["chain", "fixed 2,2,1", "static"];
const RULES: [Rule; 3] = [Rule::Rejection, Rule::GreedyFirst, Rule::Block];

/// Returns the shapes that a rule can verify.
fn shapes(rule: Rule) -> &'static [&'static str] {
    if rule == Rule::Block { &SHAPES[..1] } else { &SHAPES }
}

/// Standard normal quantile that is exceeded once in ten thousand times.
///
/// The random numbers are fixed.
const RARE: f64 = 3.9;

fn drawn(
    drafter: &str,
    shape: &str,
    budget: usize,
    temperature: f32,
    verify: Rule,
) -> StepSettings {
    StepSettings { verify, ..settings(drafter, shape, budget, temperature) }
}

/// Distance of counts of three-token texts from their distribution in the table.
///
/// Pearson's chi-squared, transformed to a standard normal number (Wilson and Hilferty).
fn distance(
    counts: &HashMap<Vec<TokenId>, usize>,
    table: &TableDecoder,
    sampling: &Sampling,
    prompt: &[TokenId],
) -> f64 {
    let total: usize = counts.values().sum();
    let (mut chi2, mut cells) = (0.0, 0.0);
    let mut open = vec![(Vec::new(), 1.0)];
    while let Some((text, p)) = open.pop() {
        if text.len() == 3 {
            let (seen, expected) =
                (counts.get(&text).copied().unwrap_or(0) as f64, p * total as f64);
            assert!(expected > 0.5, "{text:?} is too rare for a test");
            chi2 += (seen - expected).powi(2) / expected;
            cells += 1.0;
            continue;
        }
        let row = table.row(&[prompt, &text].concat(), LAYERS);
        TokenDist::new(&row, sampling)
            .unwrap()
            .for_each(|token, own| open.push(([&text[..], &[token]].concat(), p * own)));
    }
    let (freedom, spread) = (cells - 1.0, 2.0 / (9.0 * (cells - 1.0)));
    ((chi2 / freedom).cbrt() - (1.0 - spread)) / f64::sqrt(spread)
}

#[test]
fn sampled_trees_keep_the_distribution_of_three_tokens() {
    let (table, prompt, sampling) = (
        TableDecoder::new(3, 6),
        [1, 2, 1, 2, 1],
        Sampling { temperature: 1.5, ..Sampling::PLAIN },
    );
    for verify in RULES {
        for (i, drafter) in DRAFTERS.into_iter().enumerate() {
            // Each drafter runs in one of the shapes.
            let shapes = shapes(verify);
            let shape = shapes[(i + usize::from(verify == Rule::GreedyFirst)) % shapes.len()];
            let mut session = session(&table, &[], drawn(drafter, shape, 6, 1.5, verify));
            let (mut counts, mut accepted, mut refused): (HashMap<Vec<TokenId>, usize>, _, _) =
                (HashMap::new(), 0, 0);
            for id in 0..3000 {
                session.start(&id.to_string(), &prompt, 3).unwrap();
                while let Some(record) = session.step().unwrap() {
                    accepted += record.accepted;
                    refused += record.tree.tokens.len() - 1 - record.accepted;
                }
                *counts.entry(session.tokens()[prompt.len()..].to_vec()).or_default() += 1;
            }
            assert!(
                accepted > 500 && (refused > 100 || drafter == "oracle"),
                "{drafter} {shape}: {accepted} accepted, {refused} refused"
            );
            let near = distance(&counts, &table, &sampling, &prompt);
            assert!(near.abs() < RARE, "{drafter} {shape} {}: {near}", verify.name());
            // Control: a slightly different distribution must be detected.
            let far =
                distance(&counts, &table, &Sampling { temperature: 1.0, ..sampling }, &prompt);
            assert!(far > 1.5 * RARE, "{drafter} {shape}: {far}");
        }
    }
}

#[test]
fn an_oracle_chain_is_accepted_whole() {
    let table = TableDecoder::new(5, 3);
    for verify in [Rule::Rejection, Rule::Block] {
        let (_, records) =
            run(&mut session(&table, &[], drawn("oracle", "chain", 8, 1.0, verify)), &[0], 64);
        assert!(
            records.iter().all(|r| r.accepted == 7 && (r.expected_accepted - 7.0).abs() < 1e-4),
            "{records:?}"
        );
        // This is more than any tree of the theorem accepts, so that its ceilings aren't reported.
        assert!(records.iter().all(|r| r.ceilings.fluid.is_none() && r.ceilings.batch == 7.0));
    }
}

#[test]
fn block_verification_accepts_more_of_a_chain_than_single_tokens() {
    // The same drafter at the same temperature: compares mean accepted tokens over some 4,000 steps
    // each.
    let table = TableDecoder::new(4, 8);
    let mean = |verify: Rule| {
        let mut session = session(&table, &[], drawn("model", "chain", 6, 1.0, verify));
        let (mut steps, mut accepted) = (0.0, 0.0);
        for id in 0..20 {
            session.start(&id.to_string(), &[0, 1], 450).unwrap();
            while let Some(record) = session.step().unwrap() {
                (steps, accepted) = (steps + 1.0, accepted + record.expected_accepted);
            }
        }
        accepted / steps
    };
    let (single, block) = (mean(Rule::Rejection), mean(Rule::Block));
    assert!(block > single + 0.02, "{block} for {single}");
}

#[test]
fn expected_and_accepted_counts_of_sampled_trees_agree() {
    // Over many steps the expected and the actual number of accepted tokens agree.
    let table = TableDecoder::new(4, 8);
    for verify in RULES {
        for &shape in shapes(verify) {
            let mut session = session(&table, &[], drawn("model", shape, 6, 1.0, verify));
            let (mut n, mut accepted, mut expected) = (0.0, 0.0, 0.0);
            for id in 0..20 {
                session.start(&id.to_string(), &[0, 1], 450).unwrap();
                while let Some(record) = session.step().unwrap() {
                    (n, accepted, expected) = (
                        n + 1.0,
                        accepted + record.accepted as f64,
                        expected + record.expected_accepted,
                    );
                }
            }
            // Some 4,000 steps, each with a standard deviation of about 1.
            let (accepted, expected) = (accepted / n, expected / n);
            assert!((accepted - expected).abs() < 0.05, "{shape}: {accepted} for {expected}");
            assert!(accepted > 0.3, "{shape}: {accepted}");
        }
    }
}

proptest! {
    #[test]
    fn greedy_rules_match_plain_decoding_and_runs_repeat(
        seed in any::<u64>(), vocab in 3usize..7, budget in 1usize..40, tokens in 1usize..40, drafter in 0usize..DRAFTERS.len(),
        shape in 0usize..3, rule in 0usize..3, stop in prop_oneof![Just(vec![]), Just(vec![2u32])],
    ) {
        let table = TableDecoder::new(vocab, seed);
        let verify = RULES[rule];
        let shape = shapes(verify)[shape % shapes(verify).len()];
        let run = |settings: StepSettings| run(&mut session(&table, &stop, settings), &[1, 0, 1], tokens);
        let plain = run(settings("none", "chain", 1, 0.0)).0;
        let (got, records) = run(drawn(DRAFTERS[drafter], shape, budget, 0.0, verify));
        prop_assert_eq!(got, plain);
        prop_assert!(records.iter().all(|r| r.tree.accept == r.tree.p));
        let timeless = |r: &StepRecord| StepRecord { time: Default::default(), ..r.clone() };
        let settings = drawn(DRAFTERS[drafter], shape, budget, 1.0, verify);
        let (first, again) = (run(settings.clone()), run(settings));
        prop_assert!(first.1.iter().map(timeless).eq(again.1.iter().map(timeless)));
        for record in &first.1 {
            prop_assert!(record.tree.tokens.len() <= budget && record.emitted.len() == record.accepted + 1);
            prop_assert!(record.tree.tokens[1..].iter().all(|t| !stop.contains(t)));
            prop_assert!(record.expected_accepted <= record.tree.tokens.len() as f64 - 1.0 + 1e-9);
            prop_assert!(record.tree.accept.iter().all(|p| (0.0..=1.0).contains(p)));
        }
        let nothing = run(drawn(DRAFTERS[drafter], shape, 1, 1.0, verify)).0;
        prop_assert_eq!(nothing, run(self::settings("none", "chain", 1, 1.0)).0);
    }
}
