//! Tests of the ceilings and misses in the records.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::outcome::is_most_probable;
use super::testing::{LAYERS, TableDecoder, run, session, settings};
use crate::distribution::{Sampling, TokenDist};
use crate::telemetry::{
    AcceptanceCurve, BudgetCurve, Ending, Losses, MissCause, StepRecord, StepSettings,
};
use crate::theory::pool::SurprisalPool;
use crate::tree::TokenId;

const DRAFTERS: [&str; 6] = ["ngram", "suffix", "early-exit", "model", "mix", "oracle"];

/// Returns the tokens of the text before a record's step.
fn before<'a>(record: &StepRecord, text: &'a [TokenId]) -> &'a [TokenId] {
    &text[..record.position]
}

proptest! {
    #[test]
    fn the_fluid_bound_is_that_of_the_generated_positions(
        seed in any::<u64>(), budget in 2usize..20, temperature in 0.3f32..1.5, tokens in 1usize..60
    ) {
        let table = TableDecoder::new(5, seed);
        let sampling = Sampling { temperature, top_p: 1.0, top_k: None };
        let (out, records) = run(&mut session(&table, &[], settings("ngram", "best-first", budget, temperature)), &[1, 2], tokens);
        let text = [&[1, 2][..], &out].concat();
        // Reference pool, filled from the table.
        let mut pool = SurprisalPool::new();
        let (mut at, mut known) = (2, Vec::new());
        for record in &records {
            for _ in &record.emitted {
                let row = table.row(&text[..at], LAYERS);
                let dist = TokenDist::new(&row, &sampling).unwrap();
                pool.add(&dist, dist.moments());
                at += 1;
            }
            let (fluid, floor) = pool.fluid_and_floor(budget - 1).unwrap();
            let ceilings = record.ceilings;
            prop_assert!((record.mu - pool.mu().unwrap()).abs() < 1e-12);
            // The bound is evaluated when the pool has grown by a twentieth: after every position
            // at first, and later for most of the positions.
            known.push((pool.positions(), fluid, floor));
            // Equal up to rounding, since the session sums the same numbers in another order.
            let same = |k: &&(usize, f64, Option<f64>)| (k.1 - ceilings.fluid.unwrap()).abs() < 1e-9 && k.2 == ceilings.fluid_floor;
            let last = known.iter().rev().find(same);
            prop_assert!(last.is_some_and(|k| pool.positions() <= k.0 + k.0 / 20), "{:?} at {:?}", ceilings, known.last());
        }
    }

    #[test]
    fn misses_record_the_token_and_its_cause(
        seed in any::<u64>(), vocab in 3usize..7, budget in 1usize..20, drafter in 0usize..DRAFTERS.len(), chain in any::<bool>(),
        temperature in prop_oneof![Just(0.0f32), 0.3f32..1.5], stop in prop_oneof![Just(vec![]), Just(vec![2u32])],
    ) {
        let table = TableDecoder::new(vocab, seed);
        let settings = settings(DRAFTERS[drafter], if chain { "chain" } else { "best-first" }, budget, temperature);
        let sampling = settings.sampling();
        let mut session = session(&table, &stop, settings);
        let (out, records) = run(&mut session, &[1, 0], 50);
        let text = [&[1, 0][..], &out].concat();
        for (i, record) in records.iter().enumerate() {
            let ended = i + 1 == records.len();
            prop_assert!(!ended || matches!(session.ending(), Some(Ending::Length | Ending::Stop)));
            prop_assert_eq!(record.miss.is_none(), budget == 1 || ended, "{:?}", record);
            let Some(miss) = &record.miss else { continue };
            prop_assert_eq!((miss.token, miss.depth), (record.bonus, record.accepted + 1));
            let last = record.path.last().copied().unwrap_or(0);
            let children = || (1..record.tree.tokens.len()).filter(|&c| record.tree.parents[c] == Some(last));
            prop_assert!(children().all(|c| record.tree.tokens[c] != miss.token));
            let at = before(record, &text).len() + record.accepted;
            let row = table.row(&text[..at], LAYERS);
            let dist = TokenDist::new(&row, &sampling).unwrap();
            prop_assert_eq!((miss.p, miss.rank), (dist.p(miss.token), dist.rank(miss.token)));
            let pi: f64 = record.entropy.iter().map(|e| e.p).product();
            prop_assert_eq!(miss.pi, pi);
            prop_assert_eq!((miss.q.is_some(), miss.q), (miss.draft_rank.is_some(), record.bonus_q));
            prop_assert!(miss.asked || miss.q.is_none());
            prop_assert!(miss.asked || children().next().is_none(), "what has children was asked about");
            let size = record.settings.ceiling_size(record.tree.tokens.len());
            let sure = is_most_probable(record.entropy.iter().map(|e| e.p), pi, size - 1);
            let below = record.ceilings.fluid_floor.is_some_and(|floor| miss.pi < floor);
            let unlucky = size > 1 && miss.rank + 1 >= size || below && !sure;
            prop_assert_eq!(miss.cause == MissCause::Unlucky, unlucky);
            if temperature == 0.0 {
                prop_assert_eq!((miss.pi, miss.rank, unlucky), (1.0, 0, false));
                prop_assert_eq!(record.ceilings.fluid, Some(budget as f64 - 1.0));
            }
            if !unlucky {
                prop_assert_eq!(miss.cause, MissCause::ignoring_luck(miss.rank, miss.draft_rank, miss.asked));
            }
            // The oracle knows everything, so that only luck or the budget can cause a miss.
            if DRAFTERS[drafter] == "oracle" && !chain {
                prop_assert!(matches!(miss.cause, MissCause::Unlucky | MissCause::Budget), "{:?}", miss);
            }
        }
    }

    #[test]
    fn a_smaller_budget_accepts_what_the_record_says(
        seed in any::<u64>(), budget in 2usize..20, drafter in 0usize..DRAFTERS.len(), position in 3usize..30
    ) {
        // Compares with another session that makes a step in the same context under each smaller
        // budget.
        let table = TableDecoder::new(5, seed);
        let (out, _) = run(&mut session(&table, &[], settings("none", "chain", 1, 1.0)), &[1, 2], 60);
        let text = [&[1, 2][..], &out].concat();
        let step = |budget: usize| {
            let mut session = session(&table, &[], settings(DRAFTERS[drafter], "chain", budget, 1.0));
            session.start("x", &text[..position], 60).unwrap();
            session.step().unwrap().unwrap()
        };
        let whole = step(budget);
        let within = AcceptanceCurve::budgets(&whole);
        for b in 1..=budget {
            let small = step(b);
            prop_assert_eq!(within.accepted[b - 1], small.accepted);
            prop_assert!((within.expected[b - 1] - small.expected_accepted).abs() < 1e-12);
        }
    }
}

#[test]
fn greedy_loses_nothing_to_the_budget() {
    let table = TableDecoder::new(5, 3);
    let (_, records) =
        run(&mut session(&table, &[], settings("oracle", "best-first", 8, 0.0)), &[0], 64);
    let mut curve = BudgetCurve::default();
    for record in &records {
        let losses = Losses::of_step(record, None);
        assert_eq!(
            (losses.budget, losses.unsplit, losses.luck, losses.total()),
            (Some(0.0), 0.0, 0.0, 0.0)
        );
        curve.add(record);
    }
    assert_eq!(
        (1..=8).map(|b| curve.accepted(b).unwrap()).collect::<Vec<_>>(),
        (0..8).map(f64::from).collect::<Vec<_>>()
    );
}

#[test]
fn the_pool_restarts_only_with_new_sampling_parameters() {
    let table = TableDecoder::new(5, 3);
    let mut session = session(&table, &[], settings("ngram", "best-first", 8, 1.0));
    session.start("x", &[0, 1], 400).unwrap();
    let mut step = |settings: Option<StepSettings>| {
        if let Some(settings) = settings {
            session.set(settings).unwrap();
        }
        session.step().unwrap().unwrap()
    };
    for _ in 0..40 {
        step(None);
    }
    let (small, large) = (
        step(Some(settings("oracle", "chain", 3, 1.0))),
        step(Some(settings("oracle", "chain", 9, 1.0))),
    );
    assert!(
        small.ceilings.fluid.unwrap() <= 2.0
            && large.ceilings.fluid.unwrap() > small.ceilings.fluid.unwrap()
    );
    assert!((large.mu - small.mu).abs() < 0.1 * small.mu);
    let cold = step(Some(settings("oracle", "chain", 9, 0.3)));
    let entropy =
        cold.entropy.iter().map(|e| e.sampled.entropy).sum::<f64>() / cold.entropy.len() as f64;
    assert!((cold.mu - entropy).abs() < 1e-12);
}
