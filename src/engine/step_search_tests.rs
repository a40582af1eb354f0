//! Tests of the oracle search on steps that were already made.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::step_search::StepSearch;
use super::testing::{LAYERS, TableDecoder, run, session, settings};
use crate::distribution::{Sampling, TokenDist};
use crate::telemetry::{
    LossLadder, Losses, OracleResult, OracleSearchState, StepRecord, StepSettings,
};
use crate::tree::TokenId;

const DRAFTERS: [&str; 7] = ["none", "ngram", "suffix", "early-exit", "model", "mix", "oracle"];

/// Refines a search until no pass is left, where the bounds equal the optimum.
fn exact(mut search: StepSearch) -> OracleResult {
    let mut passes = usize::MAX;
    while search.result().passes != passes {
        passes = search.result().passes;
        search.refine().unwrap();
    }
    search.result()
}

/// Returns the mass of the best `drafted` nodes after `text`, by enumeration.
///
/// Nodes are at most `depth` deep, and none is a stop token.
fn brute(
    table: &TableDecoder,
    sampling: &Sampling,
    stop: &[TokenId],
    text: &[TokenId],
    drafted: usize,
    depth: usize,
) -> f64 {
    let (mut open, mut all) = (vec![(text.to_vec(), 1.0)], Vec::new());
    while let Some((path, pi)) = open.pop() {
        if path.len() == text.len() + depth {
            continue;
        }
        let row = table.row(&path, LAYERS);
        let dist = TokenDist::new(&row, sampling).unwrap();
        dist.for_each(|token, _| {
            let p = dist.p(token);
            if !stop.contains(&token) {
                all.push(pi * p);
                open.push(([&path[..], &[token]].concat(), pi * p));
            }
        });
    }
    all.sort_by(|a, b| b.total_cmp(a));
    all.iter().take(drafted).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn searches_are_correct_and_leave_the_session_unchanged(
        seed in any::<u64>(), vocab in 3usize..6, budget in 1usize..24, drafter in 0usize..DRAFTERS.len(), chain in any::<bool>(),
        temperature in prop_oneof![Just(0.0f32), Just(1.0), 0.3f32..1.5], stop in prop_oneof![Just(vec![]), Just(vec![2u32])],
        context in prop_oneof![Just(512usize), 30usize..60],
    ) {
        let table = TableDecoder::new(vocab, seed).with_capacity(context);
        let settings = settings(DRAFTERS[drafter], if chain { "chain" } else { "best-first" }, budget, temperature);
        let timeless = |r: &StepRecord| StepRecord { time: Default::default(), ..r.clone() };
        let (out, want) = run(&mut session(&table, &stop, settings.clone()), &[1, 0], 25);
        let text = [&[1, 0][..], &out].concat();
        let mut session = session(&table, &stop, settings.clone());
        session.start("x", &[1, 0], 25).unwrap();
        prop_assert!(session.start_search(0).unwrap().is_none());
        let mut got: Vec<StepRecord> = Vec::new();
        let mut ladder = LossLadder::default();
        while let Some(record) = session.step().unwrap() {
            got.push(record);
            // Every earlier step is searched again after each step.
            for record in &got {
                let search = session.start_search(record.step).unwrap().unwrap();
                let first = search.result();
                prop_assert!(first.state == OracleSearchState::Refining && first.oracle_lower == 0.0);
                let result = exact(search);
                if record.step + 1 < got.len() {
                    continue;
                }
                let best = result.drafter_best.unwrap();
                prop_assert!((result.oracle_upper - result.oracle_lower).abs() < 1e-9 || context < 512, "{:?}", result);
                prop_assert!(result.oracle_upper >= best - 1e-9 && result.oracle_upper >= record.expected_accepted - 1e-9);
                prop_assert!(first.oracle_upper >= result.oracle_upper);
                prop_assert!(best >= record.expected_accepted, "{:?} for {}", result, record.expected_accepted);
                if !chain {
                    prop_assert_eq!(best, record.expected_accepted);
                }
                ladder.add(record, Some(&result));
                let losses = Losses::of_step(record, Some(&result));
                prop_assert!((losses.total() - (budget as f64 - 1.0 - record.accepted as f64)).abs() < 1e-9);
                if let Some(miss) = record.miss.as_ref().filter(|miss| miss.pi < result.oracle_floor) {
                    prop_assert!(result.oracle_lower > 0.0 && temperature > 0.0, "{:?}", miss);
                }
            }
        }
        prop_assert!(want.iter().map(timeless).eq(got.iter().map(timeless)), "a search changed a record");
        prop_assert_eq!(session.tokens(), &text[..]);
        prop_assert!(session.start_search(got.len()).unwrap().is_none());
        if let Some(losses) = ladder.losses() {
            let accepted = got.iter().map(|r| r.accepted as f64).sum::<f64>() / got.len() as f64;
            prop_assert!((losses.total() - (budget as f64 - 1.0 - accepted)).abs() < 1e-9);
        }
    }

    #[test]
    fn the_oracle_tree_is_the_best_of_all_trees(
        seed in any::<u64>(), budget in 2usize..16, temperature in prop_oneof![Just(0.0f32), 0.3f32..1.5], length in 1usize..7,
        stop in prop_oneof![Just(vec![]), Just(vec![2u32])],
    ) {
        let table = TableDecoder::new(4, seed);
        let mut session = session(&table, &stop, settings("ngram", "chain", budget, temperature));
        session.start("x", &[1, 0, 3], length).unwrap();
        session.step().unwrap();
        let result = exact(session.start_search(0).unwrap().unwrap());
        let sampling = session.settings().sampling();
        // The text ends after `length` tokens, the last of which is the bonus token.
        let want = brute(&table, &sampling, &stop, &[1, 0, 3], budget - 1, length - 1);
        prop_assert!((result.oracle_lower - want).abs() < 1e-9 && (result.oracle_upper - want).abs() < 1e-9, "{:?} for {}", result, want);
        // The oracle drafter must draft the same tree.
        let oracle = settings("oracle", "best-first", budget, temperature);
        let mut other = super::testing::session(&table, &stop, oracle);
        other.start("x", &[1, 0, 3], length).unwrap();
        let record = other.step().unwrap().unwrap();
        prop_assert!((record.expected_accepted - want).abs() < 1e-9);
    }
}

#[test]
fn a_past_step_is_searched_under_its_own_settings() {
    let table = TableDecoder::new(5, 9);
    let mut session = session(&table, &[], settings("model", "best-first", 12, 1.0));
    session.start("x", &[1, 0], 200).unwrap();
    let mut records = Vec::new();
    for i in 0..12 {
        let drafter = ["model", "ngram", "early-exit"][i % 3];
        session
            .set(StepSettings {
                temperature: 0.5 + i as f32 / 10.0,
                ..settings(drafter, "best-first", 4 + i, 1.0)
            })
            .unwrap();
        records.push(session.step().unwrap().unwrap());
    }
    let chain = |record: &StepRecord| StepSettings {
        shape: crate::draft::Shape::Chain,
        ..record.settings.clone()
    };
    for record in &records {
        let result = exact(session.start_search(record.step).unwrap().unwrap());
        assert_eq!(result.drafter_best, Some(record.expected_accepted));
        // In the same context as a chain, the best tree is drafted anew, by a drafter in the state
        // that it had then.
        let mut other = super::testing::session(&table, &[], chain(record));
        other.start("x", &session.tokens()[..record.position], 202 - record.position).unwrap();
        let first = other.step().unwrap().unwrap();
        other.step().unwrap();
        let again = exact(other.start_search(0).unwrap().unwrap());
        // If q is wrong, the chain itself can have the higher value.
        let want = record.expected_accepted.max(first.expected_accepted);
        assert_eq!(again.drafter_best, Some(want), "{}", record.settings.drafter);
        assert_eq!(
            (again.oracle_lower, again.oracle_floor),
            (result.oracle_lower, result.oracle_floor)
        );
    }
}

#[test]
fn where_the_cache_has_no_room_the_bounds_say_so() {
    let table = TableDecoder::new(5, 9).with_capacity(24);
    let mut session = session(&table, &[], settings("ngram", "best-first", 200, 1.0));
    session.start("x", &[1, 0], 100).unwrap();
    session.step().unwrap();
    let result = exact(session.start_search(0).unwrap().unwrap());
    assert!(
        result.state == OracleSearchState::Ended && result.oracle_lower < result.oracle_upper,
        "{result:?}"
    );
}

#[test]
fn a_search_out_of_passes_can_be_continued() {
    let table = TableDecoder::new(5, 9);
    let mut session = session(&table, &[], settings("ngram", "best-first", 100, 1.0));
    session.start("x", &[1, 0], 100).unwrap();
    session.step().unwrap();
    let whole = session.start_search(0).unwrap().unwrap().refined().unwrap();
    assert!(whole.converged() && whole.passes > 3, "{whole:?}");
    let mut search = session.start_search(0).unwrap().unwrap();
    search.max_passes = 2;
    assert!(search.refine().unwrap() && !search.refine().unwrap());
    let ended = search.result();
    assert_eq!((ended.state, ended.passes), (OracleSearchState::Ended, 2));
    // Breaking off a search that has ended has no effect.
    search.stop();
    assert_eq!(search.result(), ended);
    search.grant_passes();
    assert_eq!(search.result().state, OracleSearchState::Refining);
    while search.refine().unwrap() {}
    assert_eq!(search.result(), whole);
    // A converged search has nothing left to find.
    search.grant_passes();
    assert_eq!(search.result(), whole);
}
