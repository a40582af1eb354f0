//! Logits reduced on the device against full rows copied to the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Device;
use proptest::prelude::*;
use serde_json::Value;
use speclight::distribution::{Sampling, TokenDist};
use speclight::draft::{Drafter, EarlyExit, Ngram, Shape};
use speclight::engine::{Session, Vocabulary};
use speclight::model::candle::{CandleDecoder, Llama, Precision};
use speclight::model::format::weights::Weights;
use speclight::model::{Config, Decoder, ForwardError, Node, Parent, Pass, Reductions};
use speclight::telemetry::StepSettings;

use super::tiny::weights;

fn decoder(weights: &Weights) -> CandleDecoder {
    CandleDecoder::new(Arc::new(Llama::load(weights, &Device::Cpu, Precision::F32).unwrap()), 200)
        .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn reductions_match_the_full_distribution(seed in 0u64..72, tokens in prop::collection::vec((0u32..120, 0u32..120), 1..12), t in 0.2f32..3.0) {
        let mut decoder = decoder(&weights(seed)).with_reduction();
        let nodes: Vec<Node> = tokens.iter().enumerate().map(|(i, &(token, _))| {
            Node { token, parent: if i < 2 { Parent::Context } else { Parent::Slot(i / 2) } }
        }).collect();
        decoder.append(&nodes, Pass::FULL).unwrap();
        let asked: Vec<(usize, u32)> = tokens.iter().enumerate().map(|(i, &(_, asked))| (i, asked)).collect();
        let reduced = decoder.reduced(&[1.0, t], &asked).unwrap().unwrap();
        for (temperature, of) in [1.0, t].into_iter().zip(&reduced.nodes) {
            for (&(i, token), &(logit, rank)) in asked.iter().zip(&reduced.tokens) {
                let law = TokenDist::new(decoder.logits(i), &Sampling { temperature, ..Sampling::PLAIN }).unwrap();
                let (want, got) = (law.moments(), of[i].moments());
                prop_assert!((want.entropy - got.entropy).abs() < 1e-4 && (want.second - got.second).abs() < 1e-3, "{want:?} {got:?}");
                prop_assert_eq!((law.best(), law.rank(token), decoder.logits(i)[token as usize]), (of[i].best, rank, logit));
                prop_assert!((law.p(token) / of[i].p(logit, 1.0 / temperature) - 1.0).abs() < 1e-4);
            }
        }
    }
}

/// Decoder that counts the requests for full rows of logits.
struct Counted(CandleDecoder, Arc<AtomicUsize>);

impl Decoder for Counted {
    fn config(&self) -> &Config {
        self.0.config()
    }
    fn capacity(&self) -> usize {
        self.0.capacity()
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn nodes(&self) -> usize {
        self.0.nodes()
    }
    fn append(&mut self, nodes: &[Node], pass: Pass) -> Result<(), ForwardError> {
        self.0.append(nodes, pass)
    }
    fn logits(&self, i: usize) -> &[f32] {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.logits(i)
    }
    fn reduced(
        &self,
        temperatures: &[f32],
        tokens: &[(usize, u32)],
    ) -> Result<Option<Reductions>, ForwardError> {
        self.0.reduced(temperatures, tokens)
    }
    fn commit(&mut self, path: &[usize]) -> Result<(), ForwardError> {
        self.0.commit(path)
    }
    fn discard(&mut self) {
        self.0.discard();
    }
    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
    fn fork(&self) -> Result<Box<dyn Decoder>, ForwardError> {
        self.0.fork()
    }
}

/// Returns a text's records without times, and the number of rows copied to the host.
fn run(decoder: CandleDecoder, settings: StepSettings) -> (Vec<Value>, usize) {
    let rows = Arc::new(AtomicUsize::new(0));
    let drafters: Vec<Box<dyn Drafter>> =
        vec![Box::new(Ngram::default()), Box::new(EarlyExit::new(1, 3).unwrap())];
    let vocabulary =
        Arc::new(Vocabulary::new((0..120u8).map(|i| Box::from([i])).collect(), Vec::new()));
    let mut session =
        Session::new(Box::new(Counted(decoder, Arc::clone(&rows))), drafters, vocabulary, settings)
            .unwrap();
    session.start("0", &[1, 2, 3, 1, 2, 3, 1, 2], 60).unwrap();
    let mut records = Vec::new();
    while let Some(record) = session.step().unwrap() {
        let mut record = serde_json::to_value(record).unwrap();
        record.as_object_mut().unwrap().remove("time");
        records.push(record);
    }
    (records, rows.load(Ordering::Relaxed))
}

/// Compares values, with a tolerance for floating-point numbers.
fn near(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-4 * (1.0 + a.abs())
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| near(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn a_text_and_its_records_are_the_same_and_few_rows_come_to_the_host() {
    let weights = weights(7);
    for (drafter, temperature, top_k) in [
        ("ngram", 0.0, None),
        ("early-exit", 0.0, None),
        ("ngram", 1.0, None),
        ("ngram", 0.6, None),
        ("ngram", 1.0, Some(5)),
    ] {
        let settings =
            StepSettings { top_k, ..StepSettings::new(drafter, Shape::BestFirst, 12, temperature) };
        let (want, whole) = run(decoder(&weights), settings.clone());
        let (got, few) = run(decoder(&weights).with_reduction(), settings);
        let emitted: usize =
            want.iter().map(|record| record["emitted"].as_array().unwrap().len()).sum();
        assert!(want.len() > 5 && emitted == 60);
        for (mut got, mut want) in got.iter().cloned().zip(want.iter().cloned()) {
            if temperature == 0.0 {
                // Greedy, no row comes to the host from which the best tokens could be read.
                for record in [&mut got, &mut want] {
                    record["miss"]["target_best"].take();
                }
            }
            assert!(near(&got, &want), "{drafter} at {temperature}:\n{got}\n{want}");
        }
        assert_eq!(got.len(), want.len());
        match (drafter, top_k) {
            // Top-k cannot be computed from reduced sums.
            (_, Some(_)) => assert_eq!(few, whole),
            // The drafter reads the logits of its own passes.
            ("early-exit", _) => assert!(few < whole, "{few} of {whole}"),
            _ if temperature == 0.0 => assert_eq!(few, 0),
            // Only the rows that are sampled from.
            _ => assert!(few <= emitted && few < whole, "{few} of {whole}, {emitted} tokens"),
        }
    }
}
