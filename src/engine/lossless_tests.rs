//! Tests that drafting changes the number of tokens per step, but never the text.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::testing::{LAYERS, TableDecoder, run, session, settings};
use super::{Session, Vocabulary};
use crate::distribution::{Sampling, TokenDist};
use crate::draft::{Drafter, EarlyExit, ModelDrafter};
use crate::telemetry::{
    BudgetReason, DepthRates, Ending, StageTimes, StepRecord, StepSettings, Tally,
};
use crate::theory::cost::CostCurve;
use crate::tree::{TokenId, TokenTree};
use crate::verify::verify;

const DRAFTERS: [&str; 8] =
    ["none", "ngram", "suffix", "early-exit", "model", "mix", "auto", "oracle"];

/// Reference for plain decoding: one token at a time from the table, without the engine.
fn plain(
    table: &TableDecoder,
    stop: &[TokenId],
    sampling: &Sampling,
    prompt: &[TokenId],
    tokens: usize,
    context: usize,
) -> Vec<TokenId> {
    let draws = crate::verify::TextRandom::new(11, "x");
    let mut text = prompt.to_vec();
    while text.len() < (prompt.len() + tokens).min(context) {
        let row = table.row(&text, LAYERS);
        let token = TokenDist::new(&row, sampling).unwrap().sample(draws.uniform(text.len()));
        text.push(token);
        if stop.contains(&token) {
            break;
        }
    }
    text.split_off(prompt.len())
}

#[test]
fn rehearsed_steps_leave_no_trace() {
    let table = TableDecoder::new(6, 3);
    for drafter in DRAFTERS {
        for (shape, temperature) in [("best-first", 1.0), ("chain", 0.0), ("static", 0.8)] {
            let text = |rehearse: bool| {
                let mut session = session(&table, &[], settings(drafter, shape, 6, temperature));
                session.start("x", &[0, 1, 2, 0, 1], 60).unwrap();
                let mut records = Vec::new();
                loop {
                    for _ in 0..if rehearse { records.len() % 3 } else { 0 } {
                        session.rehearse().unwrap();
                    }
                    let Some(mut record) = session.step().unwrap() else { break };
                    record.time = StageTimes::default();
                    records.push(record);
                }
                records
            };
            let (got, want) = (text(true), text(false));
            assert!(got == want, "{drafter} {shape} at {temperature}");
        }
    }
}

proptest! {
    #[test]
    fn every_drafter_and_shape_gives_the_text_of_plain_decoding(
        seed in any::<u64>(), vocab in 3usize..7, budget in 1usize..65, tokens in 1usize..40,
        temperature in prop_oneof![Just(0.0f32), Just(1.0), 0.2f32..2.0],
        prompt in prop::collection::vec(0u32..3, 1..12), stop in prop_oneof![Just(vec![]), Just(vec![2u32])],
        context in prop_oneof![Just(512usize), 13usize..40],
    ) {
        let table = TableDecoder::new(vocab, seed).with_capacity(context);
        let sampling = Sampling { temperature, top_p: 1.0, top_k: None };
        let want = plain(&table, &stop, &sampling, &prompt, tokens, context);
        for drafter in DRAFTERS {
            for shape in ["chain", "fixed", "fixed 3,2,1", "best-first", "static"] {
                let mut session = session(&table, &stop, settings(drafter, shape, budget, temperature));
                let (got, records) = run(&mut session, &prompt, tokens);
                prop_assert_eq!(&got, &want, "{} {}", drafter, shape);
                let ending = match want.last() {
                    Some(last) if stop.contains(last) => Ending::Stop,
                    _ if want.len() == tokens => Ending::Length,
                    _ => Ending::Context,
                };
                prop_assert_eq!(session.ending(), Some(ending));
                for record in &records {
                    prop_assert!(record.tree.tokens.len() <= budget);
                    prop_assert!(record.tree.tokens[1..].iter().all(|t| !stop.contains(t)));
                    prop_assert_eq!(record.emitted.len(), record.accepted + 1);
                    prop_assert!(record.expected_accepted.is_sign_positive(), "0 is not -0");
                    prop_assert!(record.expected_accepted <= record.tree.tokens.len() as f64 - 1.0 + 1e-9);
                    if temperature == 0.0 {
                        prop_assert_eq!(record.expected_accepted, record.accepted as f64);
                        prop_assert_eq!(record.mu, 0.0);
                    }
                }
                // The same settings give the same records, apart from the times.
                let again = run(&mut super::testing::session(&table, &stop, settings(drafter, shape, budget, temperature)), &prompt, tokens).1;
                let timeless = |r: &StepRecord| StepRecord { time: Default::default(), ..r.clone() };
                prop_assert!(again.iter().map(timeless).eq(records.iter().map(timeless)));
                let text: String = again.iter().flat_map(|r| r.emitted_text.clone()).collect();
                let want_text: String = want.iter().filter(|t| !stop.contains(t)).map(|&t| char::from(b'a' + t as u8)).collect();
                prop_assert_eq!(text, want_text);
            }
        }
    }

    #[test]
    fn settings_can_change_in_the_middle(
        seed in any::<u64>(), changes in prop::collection::vec((0usize..DRAFTERS.len(), any::<bool>(), 1usize..20), 1..12)
    ) {
        let table = TableDecoder::new(5, seed);
        let want = plain(&table, &[], &Sampling::PLAIN, &[1, 2, 1], 60, 512);
        let mut session = session(&table, &[], settings("none", "chain", 4, 1.0));
        session.start("x", &[1, 2, 1], 60).unwrap();
        let mut at = 0;
        while session.step().unwrap().is_some() {
            let (drafter, chain, budget) = changes[at % changes.len()];
            at += 1;
            session.set(settings(DRAFTERS[drafter], if chain { "chain" } else { "best-first" }, budget, 1.0)).unwrap();
            // Measurements between steps must not change the text.
            session.measure_plain_rate().unwrap();
        }
        prop_assert_eq!(&session.tokens()[3..], &want[..]);
    }

    /// A walk over a tree emits three tokens with the target's distribution.
    ///
    /// Checked by enumeration: a sequence is emitted for exactly the random numbers in a box of
    /// known volume.
    #[test]
    fn a_walk_emits_three_tokens_with_the_target_distribution(
        seed in any::<u64>(), vocab in 2usize..5, grow in prop::collection::vec((0usize..8, 0u32..4), 0..12),
        temperature in prop_oneof![Just(1.0f32), 0.3f32..2.0], top_p in prop_oneof![Just(1.0f32), 0.5f32..0.95],
        top_k in prop_oneof![Just(None), (1usize..4).prop_map(Some)],
    ) {
        let table = TableDecoder::new(vocab, seed);
        let sampling = Sampling { temperature, top_p, top_k };
        let mut tree = TokenTree::new(1);
        for (parent, token) in grow {
            let (parent, token) = (parent % tree.len(), token % vocab as u32);
            if tree.child(parent, token).is_none() {
                tree.push(parent, token, 0.5);
            }
        }
        let want = three(&table, &sampling, &[1], 1.0);
        let mut got: HashMap<Vec<TokenId>, f64> = HashMap::new();
        walk(&table, &sampling, &tree, &[1], 1.0, &mut got);
        prop_assert_eq!(got.len(), want.len());
        for (tokens, p) in want {
            let g = got.get(&tokens).copied().unwrap_or(0.0);
            prop_assert!((g - p).abs() < 1e-6, "{:?}: {} for {}", tokens, g, p);
        }
    }
}

/// Returns the target's distribution of the next three tokens after `text`.
fn three(
    table: &TableDecoder,
    sampling: &Sampling,
    text: &[TokenId],
    p: f64,
) -> HashMap<Vec<TokenId>, f64> {
    let mut all = HashMap::from([(Vec::new(), p)]);
    for _ in 0..3 {
        let mut next = HashMap::new();
        for (tokens, p) in all {
            let row = table.row(&[text, &tokens[..]].concat(), LAYERS);
            TokenDist::new(&row, sampling).unwrap().for_each(|token, own| {
                next.insert([&tokens[..], &[token]].concat(), p * own);
            });
        }
        all = next;
    }
    all
}

/// Adds to `got` the probability of each three-token text that `verify` emits.
///
/// Runs `verify` once for every sequence of quantile cells, with plain decoding after the bonus
/// token, and adds the volume of each cell.
fn walk(
    table: &TableDecoder,
    sampling: &Sampling,
    tree: &TokenTree,
    text: &[TokenId],
    p: f64,
    got: &mut HashMap<Vec<TokenId>, f64>,
) {
    let mut open: Vec<(Vec<f64>, f64)> = vec![(Vec::new(), p)];
    while let Some((draws, volume)) = open.pop() {
        let rows: Vec<Vec<f32>> = (0..tree.len())
            .map(|i| {
                let path: Vec<TokenId> = tree.path(i).into_iter().map(|n| tree.token(n)).collect();
                table.row(&[text, &path[..]].concat(), LAYERS)
            })
            .collect();
        // Numbers that are not chosen yet are 0; the tokens that they yield are ignored.
        let verdict = verify(
            tree,
            |node| TokenDist::new(&rows[node], sampling),
            |depth| draws.get(depth).copied().unwrap_or(0.0),
        )
        .unwrap();
        // Tokens that the chosen numbers determine, in this step and then by plain decoding.
        let mut out: Vec<TokenId> = verdict.emitted.iter().copied().take(draws.len()).collect();
        while out.len() < draws.len() {
            let row = table.row(&[text, &out[..]].concat(), LAYERS);
            out.push(TokenDist::new(&row, sampling).unwrap().sample(draws[out.len()]));
        }
        if draws.len() == 3 {
            *got.entry(out).or_default() += volume;
            continue;
        }
        // Splits the next quantile into the cells of the distribution after these tokens.
        let row = table.row(&[text, &out[..]].concat(), LAYERS);
        let mut below = 0.0;
        TokenDist::new(&row, sampling).unwrap().for_each(|_, own| {
            open.push(([&draws[..], &[below + own / 2.0]].concat(), volume * own));
            below += own;
        });
    }
}

#[test]
fn a_wrong_temperature_is_detected() {
    // Control of the test above: a slightly different distribution must be detected.
    let table = TableDecoder::new(3, 5);
    let mut tree = TokenTree::new(1);
    tree.push(0, 2, 0.5);
    let want = three(&table, &Sampling::PLAIN, &[1], 1.0);
    let mut got = HashMap::new();
    walk(&table, &Sampling { temperature: 0.9, ..Sampling::PLAIN }, &tree, &[1], 1.0, &mut got);
    assert!(want.iter().any(|(tokens, p)| (got[tokens] - p).abs() > 1e-3));
}

#[test]
fn the_oracle_reaches_every_token_when_greedy() {
    let table = TableDecoder::new(5, 3);
    let mut session = session(&table, &[], settings("oracle", "best-first", 8, 0.0));
    let (_, records) = run(&mut session, &[0], 64);
    assert!(
        records.iter().all(|r| r.accepted == 7),
        "{:?}",
        records.iter().map(|r| r.accepted).collect::<Vec<_>>()
    );
    assert_eq!(records.len(), 8);
    let summary = {
        let mut tally = Tally::default();
        records.iter().for_each(|r| tally.add(r));
        tally.summary(None)
    };
    assert_eq!((summary.tokens, summary.accepted_mean, summary.ceilings.batch), (64, 7.0, 7.0));
    assert_eq!(summary.ceilings.renewal, None);
}

#[test]
fn the_oracle_drafts_the_best_tree() {
    // E[accepted | T] of the oracle tree is the maximum over all trees of that budget in the same
    // context.
    let table = TableDecoder::new(4, 8);
    let mut oracle = session(&table, &[], settings("oracle", "best-first", 6, 1.0));
    let (_, best) = run(&mut oracle, &[0, 1], 200);
    let by_position: HashMap<usize, f64> =
        best.iter().map(|r| (r.position, r.expected_accepted)).collect();
    let mut compared = 0;
    for drafter in ["ngram", "suffix", "early-exit", "model", "mix"] {
        for shape in ["chain", "best-first"] {
            let (_, records) =
                run(&mut session(&table, &[], settings(drafter, shape, 6, 1.0)), &[0, 1], 200);
            for r in records.iter().filter(|r| r.position < 190) {
                if let Some(most) = by_position.get(&r.position) {
                    assert!(
                        r.expected_accepted <= most + 1e-9,
                        "{drafter} {shape} at {}",
                        r.position
                    );
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn expected_and_accepted_agree() {
    let table = TableDecoder::new(5, 21);
    for drafter in ["ngram", "suffix", "early-exit", "model", "mix", "oracle"] {
        let mut session = session(&table, &[], settings(drafter, "best-first", 8, 1.0));
        let mut records = Vec::new();
        for (i, seed) in (0..12).enumerate() {
            session.set(StepSettings { seed, ..settings(drafter, "best-first", 8, 1.0) }).unwrap();
            records.extend(run(&mut session, &[i as u32 % 5, 1], 400).1);
        }
        let n = records.len() as f64;
        let diff: Vec<f64> =
            records.iter().map(|r| r.accepted as f64 - r.expected_accepted).collect();
        let mean = diff.iter().sum::<f64>() / n;
        // Given the tree the difference has mean 0 whatever came before, so that it is a sum of
        // martingale differences.
        let error = (diff.iter().map(|d| d * d).sum::<f64>()).sqrt() / n;
        assert!(
            n > 1000.0 && mean.abs() < 4.0 * error,
            "{drafter}: {mean} +- {error} over {n} steps"
        );
        let rates = DepthRates::from_records(&records);
        assert_eq!(
            (1..=rates.max_depth()).map(|d| rates.counts(d).1).sum::<usize>(),
            records.iter().map(|r| r.accepted).sum::<usize>()
        );
    }
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let table = TableDecoder::new(4, 0).with_capacity(16);
    let mut session = session(&table, &[], settings("none", "chain", 4, 0.0));
    assert_eq!(
        session.start("x", &[], 5).unwrap_err().to_string(),
        "the prompt is empty: give at least one token of text"
    );
    assert_eq!(
        session.start("x", &[1; 16], 5).unwrap_err().to_string(),
        "the prompt has 16 tokens, and the context holds 16: one must be left for the answer"
    );
    assert!(session.step().unwrap().is_none() && session.measure_plain_rate().unwrap().is_none());
    session.start("x", &[1; 15], 5).unwrap();
    assert!(session.step().unwrap().is_some_and(|r| r.emitted.len() == 1));
    assert_eq!(session.ending(), Some(Ending::Context));
}

#[test]
fn a_drafter_of_another_run_is_refused_and_nothing_changes() {
    let table = TableDecoder::new(4, 0);
    let mut session = session(&table, &[], settings("none", "chain", 4, 0.0));
    let said = session.set(settings("external", "chain", 4, 0.0)).unwrap_err().to_string();
    assert_eq!(
        said,
        "there is no drafter \"external\" in this run: give one of none, ngram, suffix, early-exit, model, mix, auto, oracle"
    );
    assert_eq!(session.settings().drafter.name(), "none");
    assert!(EarlyExit::new(4, 4).is_err() && EarlyExit::new(0, 4).is_err());
}

/// Returns the records of a text under an automatic budget with this pass cost.
///
/// Checks that the text is that of plain decoding.
fn automatic(drafter: &str, seconds: &[(usize, f64)], tokens: usize) -> Vec<StepRecord> {
    let table = TableDecoder::new(5, 3);
    let settings = StepSettings { auto: true, ..settings(drafter, "best-first", 32, 0.0) };
    let mut session = session(&table, &[], settings);
    session.hold_cost(CostCurve::new(seconds.to_vec()).unwrap());
    let (got, records) = run(&mut session, &[0, 1], tokens);
    assert_eq!(got, plain(&table, &[], &Sampling::GREEDY, &[0, 1], tokens, 512));
    for record in &records {
        let choice = record.choice.unwrap();
        assert_eq!(record.tree.tokens.len(), choice.kept + 1);
        assert!(choice.kept <= choice.drafted && choice.drafted < 32);
        // Nodes that were drafted but not verified are recorded, each after its parent.
        assert_eq!(record.tree.cut.len(), (choice.drafted - choice.kept).min(64));
        assert!(
            record
                .tree
                .cut
                .iter()
                .zip(record.tree.tokens.len()..)
                .all(|(cut, i)| cut.parent < i && !cut.text.is_empty())
        );
        assert!(choice.expected <= choice.kept as f64 + 1e-9);
        assert_eq!(
            choice.reason == BudgetReason::Cut,
            0 < choice.kept && choice.kept < choice.drafted
        );
    }
    records
}

#[test]
fn an_automatic_budget_takes_what_pays() {
    // Passes of any size cost the same, far more than drafting does here. So the whole tree is
    // verified, and the requested budget grows to its maximum.
    let flat = automatic("oracle", &[(1, 1e3), (32, 1e3)], 400);
    assert!(
        flat.iter().all(|r| r.choice.unwrap().reason == BudgetReason::Whole),
        "{:?}",
        flat.iter().map(|r| r.choice).collect::<Vec<_>>()
    );
    let sizes: Vec<usize> = flat.iter().map(|r| r.tree.tokens.len()).collect();
    assert_eq!(sizes[..4], [8, 16, 32, 32]);

    // Each token costs more than a whole pass, so nothing pays. Drafting backs off and tries again.
    let steep: Vec<(usize, f64)> = (1..=32).map(|b| (b, 1e3 * b as f64 * b as f64)).collect();
    let records = automatic("model", &steep, 200);
    let count = |reason| records.iter().filter(|r| r.choice.unwrap().reason == reason).count();
    assert!(
        count(BudgetReason::Resting) + count(BudgetReason::NotWorth) > 150,
        "{} {}",
        count(BudgetReason::Resting),
        count(BudgetReason::NotWorth)
    );
    let last =
        records.iter().rposition(|r| r.choice.unwrap().reason != BudgetReason::Resting).unwrap();
    assert!(last > 60, "it looked again, the last time at step {last}");
}

#[test]
fn without_a_measured_cost_an_automatic_budget_is_a_fixed_one() {
    let table = TableDecoder::new(5, 3);
    let settings = StepSettings { auto: true, ..settings("oracle", "best-first", 32, 0.0) };
    let mut session = session(&table, &[], settings);
    let (_, records) = run(&mut session, &[0, 1], 64);
    assert!(records.iter().all(|r| r.choice.is_none() && r.tree.tokens.len() <= 8));
    let cost = session.measure_cost().unwrap().unwrap();
    let sizes: Vec<usize> = cost.points().iter().map(|p| p.0).collect();
    assert!(
        (0..8).all(|i| sizes.contains(&(1 << i))) && sizes.len() <= 9 && cost.largest() == 128,
        "{sizes:?}"
    );
    assert_eq!(session.tokens().len(), 66, "measuring leaves no trace");
}

#[test]
fn a_draft_model_with_more_or_fewer_rows_drafts_common_tokens_only() {
    for (target, draft) in [(4, 9), (9, 4), (5, 5)] {
        let table = TableDecoder::new(target, 3);
        for (temperature, shape) in [(0.0, "best-first"), (1.0, "chain"), (0.7, "fixed 3,2,1")] {
            let second = Box::new(TableDecoder::new(draft, 3));
            let drafters: Vec<Box<dyn Drafter>> =
                vec![Box::new(ModelDrafter::new(second, "second", target))];
            let bytes = (0..target).map(|t| vec![b'a' + t as u8].into()).collect();
            let vocabulary = Arc::new(Vocabulary::new(bytes, Vec::new()));
            let target_model = Box::new(table.clone());
            let set = settings("model", shape, 8, temperature);
            let mut session = Session::new(target_model, drafters, vocabulary, set).unwrap();
            let (got, records) = run(&mut session, &[1, 2, 0], 60);
            let sampling = Sampling { temperature, top_p: 1.0, top_k: None };
            assert_eq!(got, plain(&table, &[], &sampling, &[1, 2, 0], 60, 512), "{target} {draft}");
            let drafted = records.iter().flat_map(|record| record.tree.tokens[1..].to_vec());
            let drafted: Vec<TokenId> = drafted.collect();
            assert!(drafted.iter().all(|token| (*token as usize) < target.min(draft)));
            assert!(!drafted.is_empty(), "{target} {draft}: nothing was drafted");
        }
    }
}
