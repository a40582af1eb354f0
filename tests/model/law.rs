//! Distribution of the real model's next three tokens, sampled with drafts, against the exact one.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use speclight::distribution::{Sampling, TokenDist};
use speclight::draft::{Drafter, EarlyExit, Ngram};
use speclight::engine::{Session, Vocabulary};
use speclight::model::Model;
use speclight::model::device::DeviceChoice;
use speclight::telemetry::StepSettings;
use speclight::verify::Rule;

use super::tiny::alone;

/// Prompt with repeated words, so that n-grams match, and a continuation of high entropy.
const PROMPT: &str = "and on and on and on and";
/// Only the four likeliest tokens, so that there are few texts of three tokens.
const WARP: Sampling = Sampling { temperature: 1.0, top_p: 1.0, top_k: Some(4) };
/// A standard normal variable exceeds this with probability 0.001.
const RARE: f64 = 3.09;

/// Text of up to three tokens; a stop token ends it earlier.
type Text = Vec<u32>;

/// Returns the target's logits after every possible text, each decoded alone, token by token.
fn rows(model: &Model, prompt: &[u32]) -> HashMap<Text, Vec<f32>> {
    let mut decoder = model.decoder(64).unwrap();
    let mut rows = HashMap::new();
    let mut open = vec![Text::new()];
    while let Some(text) = open.pop() {
        let row = alone(&mut *decoder, &[prompt, &text].concat());
        if text.len() < 2 {
            let next = |token, _| open.push([&text[..], &[token]].concat());
            TokenDist::new(&row, &WARP).unwrap().for_each(next);
            open.retain(|text| {
                text.last().is_none_or(|last| !model.tokenizer().stop_tokens().contains(last))
            });
        }
        rows.insert(text, row);
    }
    rows
}

/// Returns the exact distribution of the next three tokens: products of the target's own
/// distributions.
fn exact(rows: &HashMap<Text, Vec<f32>>, warp: &Sampling) -> HashMap<Text, f64> {
    let (mut law, mut open) = (HashMap::new(), vec![(Text::new(), 1.0)]);
    while let Some((text, p)) = open.pop() {
        // A text without a row has ended.
        match rows.get(&text) {
            Some(row) => TokenDist::new(row, warp)
                .unwrap()
                .for_each(|token, own| open.push(([&text[..], &[token]].concat(), p * own))),
            None => drop(law.insert(text, p)),
        }
    }
    law
}

/// Distance of the counts from the distribution, as a standard normal value.
///
/// Pearson's chi-squared with the transformation of Wilson and Hilferty. Texts are taken in order
/// of probability; rare ones share a cell, so that each cell has an expected count of at least 5.
fn distance(counts: &HashMap<Text, usize>, law: &HashMap<Text, f64>) -> f64 {
    let total: usize = counts.values().sum();
    let mut texts: Vec<(&Text, f64)> =
        law.iter().map(|(text, p)| (text, p * total as f64)).collect();
    texts.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    let (mut cells, mut open) = (Vec::new(), (0.0, 0.0));
    for (text, expected) in texts {
        open = (open.0 + counts.get(text).copied().unwrap_or(0) as f64, open.1 + expected);
        if open.1 >= 5.0 {
            cells.push(std::mem::take(&mut open));
        }
    }
    let last = cells.last_mut().unwrap();
    *last = (last.0 + open.0, last.1 + open.1);
    assert!(cells.len() >= 8, "{} cells", cells.len());
    let chi2: f64 = cells.iter().map(|(seen, expected)| (seen - expected).powi(2) / expected).sum();
    let freedom = cells.len() as f64 - 1.0;
    let spread = 2.0 / (9.0 * freedom);
    ((chi2 / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
}

/// Samples a text for each id in `samples`.
///
/// Returns the texts and the numbers of accepted and rejected tokens.
fn sample(
    model: &Model,
    prompt: &[u32],
    settings: StepSettings,
    samples: Range<usize>,
) -> (Vec<Text>, usize, usize) {
    let layers = model.config().layers;
    let early_exit = EarlyExit::new(EarlyExit::default_layers(layers), layers).unwrap();
    let drafters: Vec<Box<dyn Drafter>> = vec![Box::new(Ngram::default()), Box::new(early_exit)];
    let tokenizer = model.tokenizer();
    let vocabulary =
        Arc::new(Vocabulary::new(tokenizer.token_bytes(), tokenizer.stop_tokens().to_vec()));
    let mut session =
        Session::new(model.decoder(64).unwrap(), drafters, vocabulary, settings).unwrap();
    let (mut texts, mut accepted, mut refused) = (Vec::new(), 0, 0);
    for id in samples {
        session.start(&id.to_string(), prompt, 3).unwrap();
        while let Some(record) = session.step().unwrap() {
            accepted += record.accepted;
            refused += record.tree.tokens.len() - 1 - record.accepted;
        }
        texts.push(session.tokens()[prompt.len()..].to_vec());
    }
    (texts, accepted, refused)
}

#[test]
fn drafting_keeps_the_distribution_of_three_tokens() {
    let model = Model::open(&super::common::path(), DeviceChoice::Cpu, Some(1)).unwrap();
    let prompt = model.prompt_tokens(PROMPT, true).unwrap();
    let rows = rows(&model, &prompt);
    let law = exact(&rows, &WARP);
    assert!((law.values().sum::<f64>() - 1.0).abs() < 1e-5);
    for (seed, drafter, shape, verify, budget, samples) in [
        (1, "ngram", "best-first", Rule::Match, 16, 300),
        (2, "early-exit", "best-first", Rule::Match, 8, 200),
        (3, "early-exit", "static", Rule::Rejection, 6, 300),
        (4, "early-exit", "fixed 3,1", Rule::GreedyFirst, 6, 200),
        (5, "early-exit", "chain", Rule::Block, 4, 300),
    ] {
        let settings = StepSettings {
            drafter: drafter.into(),
            shape: shape.parse().unwrap(),
            budget,
            auto: false,
            verify,
            temperature: WARP.temperature,
            top_p: WARP.top_p,
            top_k: WARP.top_k,
            seed,
        };
        // A text depends only on its id and the seed, not on the thread that samples it.
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let parts = std::thread::scope(|scope| {
            let share = |i: usize| samples * i / workers..samples * (i + 1) / workers;
            let (model, prompt, settings) = (&model, &prompt, &settings);
            let start = |i| scope.spawn(move || sample(model, prompt, settings.clone(), share(i)));
            let threads: Vec<_> = (0..workers).map(start).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let mut counts: HashMap<Text, usize> = HashMap::new();
        let (mut accepted, mut refused) = (0, 0);
        for part in parts {
            part.0.into_iter().for_each(|text| *counts.entry(text).or_default() += 1);
            (accepted, refused) = (accepted + part.1, refused + part.2);
        }
        assert!(
            counts.keys().all(|text| law.contains_key(text)),
            "{drafter}: a text that can't come"
        );
        // The test needs enough of both; chains of this drafter are seldom accepted.
        let fewest = if verify == Rule::Block { samples / 6 } else { samples / 2 };
        assert!(
            accepted > fewest && refused > samples / 2,
            "{drafter}: {accepted} accepted, {refused} refused"
        );
        let near = distance(&counts, &law);
        assert!(near.abs() < RARE, "{drafter}: {near}");
        // Negative control: the distributions at other temperatures are far away.
        for temperature in [0.5, 2.0] {
            let far = distance(&counts, &exact(&rows, &Sampling { temperature, ..WARP }));
            assert!(far > 1.5 * RARE, "{drafter} at temperature {temperature}: {far}");
        }
    }
}
