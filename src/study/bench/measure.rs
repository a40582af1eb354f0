//! Measurements of the cost of passes on this machine.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use super::report::{BenchReport, median};
use crate::distribution::argmax;
use crate::draft::EarlyExit;
use crate::model::cpu::{CpuDecoder, Stage, cpu_features, cpu_name};
use crate::model::device::default_threads;
use crate::model::load::Model;
use crate::model::{Decoder, ForwardError, Head, HeadForm, Logits, Node, Parent, Pass};
use crate::registry::RegistryModel;
use crate::tree::TokenId;

/// Sizes of the verify passes, in tokens.
const BATCHES: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
/// Committed tokens before each verify pass.
const CONTEXT: usize = 128;
/// Prompt lengths for which prefill is measured, in tokens.
const PROMPTS: [usize; 1] = [256];
/// Sizes of the passes that are timed by stage, in tokens.
const STAGED: [usize; 3] = [1, 4, 16];
/// Longer contexts, in tokens, which show the cost of attention.
const CONTEXTS: [usize; 3] = [1024, 4096, 8000];
/// Tokens of plain decoding per round.
const DECODED: usize = 24;
/// Minimum time of repeated passes of one kind before one of them is counted.
const MIN_REPEAT_TIME: Duration = Duration::from_millis(30);
/// Bytes read to measure memory bandwidth: larger than any cache.
const BANDWIDTH_BYTES: usize = 256 << 20;

/// Measures everything once per round, for `rounds` rounds and one to warm up.
///
/// `round_done` is called after each round.
///
/// # Errors
/// If a head can't be loaded or a pass fails.
pub fn measure(
    model: &Model,
    found: &RegistryModel,
    rounds: usize,
    round_done: &mut dyn FnMut(),
) -> anyhow::Result<BenchReport> {
    let config = model.config();
    let room = CONTEXTS.iter().max().map_or(0, |most| most + 2).min(config.context);
    let mut decoder = model.decoder(room)?;
    // Any tokens serve: the amount of computation does not depend on them.
    let tokens: Vec<TokenId> =
        (0..room as u64).map(|i| (i * 7919 % config.vocab as u64) as TokenId).collect();
    let threads = model.threads().unwrap_or_else(default_threads);
    let memory = vec![1u64; BANDWIDTH_BYTES / 8];
    let shipped = |form| Head::load_built_in(found.sha256(), form, model);
    let mut head =
        shipped(HeadForm::Eagle)?.as_ref().map(|head| entered(head, &tokens)).transpose()?;
    let staged_room = CONTEXT + STAGED[STAGED.len() - 1];
    let mut timed = model.cpu_decoder(staged_room).filter(|_| staged_room <= room);
    if let Some(timed) = &mut timed {
        let timed: &mut dyn Decoder = timed;
        timed.prefill(&tokens[..CONTEXT], CONTEXT, Logits::None)?;
    }
    let adapter = shipped(HeadForm::Adapter)?;
    let exit = match &adapter {
        Some(adapter) => adapter.info().source_layers.first().copied(),
        None => (config.layers > 1).then(|| EarlyExit::default_layers(config.layers)),
    };
    let mut adapter = adapter.map(|adapter| adapter.decoder(1));
    let state = vec![0.5; config.dim];
    let mut samples: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    // Round 0 warms up caches and threads, and is not counted.
    for round in 0..=rounds {
        let mut keep = |name: String, value: f64| {
            if round > 0 {
                samples.entry(name).or_default().push(value);
            }
        };
        for n in PROMPTS.into_iter().filter(|&n| n <= room) {
            decoder.truncate(0);
            let took = time(|| decoder.prefill(&tokens[..n], n, Logits::Last))?;
            keep(format!("prefill_seconds.{n}"), took);
        }
        decoder.truncate(0);
        decoder.prefill(&tokens[..CONTEXT.min(room)], CONTEXT, Logits::None)?;
        let left = room - decoder.len();
        for n in BATCHES.into_iter().filter(|&n| n <= left) {
            keep(
                format!("t_seconds.{n}"),
                steady(|| pass(&mut *decoder, &tokens[..n], Pass::FULL))?,
            );
        }
        // Each pass follows one of another size and, if there is a head, one depth of drafting, as
        // in decoding steps.
        for n in BATCHES.into_iter().filter(|&n| n <= left) {
            if let Some(head) = &mut head {
                pass(head, &tokens[..1], Pass::FULL)?;
            }
            keep(format!("between_seconds.{n}"), pass(&mut *decoder, &tokens[..n], Pass::FULL)?);
        }
        if let Some(timed) = &mut timed {
            for n in STAGED {
                stages(timed, &tokens[..n], |stage, seconds| {
                    keep(format!("stage_seconds.{n}.{stage}"), seconds)
                })?;
            }
        }
        if let Some(layers) = exit {
            let depth = || -> Result<f64, ForwardError> {
                let Some(adapter) = &mut adapter else {
                    return pass(&mut *decoder, &tokens[..1], Pass { layers, ..Pass::FULL });
                };
                let nodes = Node::chain(&tokens[..1]);
                let exit =
                    pass(&mut *decoder, &tokens[..1], Pass { layers, logits: Logits::None })?;
                let read = time(|| adapter.append_with_hidden(&nodes, &state, Pass::FULL))?;
                adapter.discard();
                Ok(exit + read)
            };
            keep("early_exit_seconds".into(), steady(depth)?);
        }
        if let Some(head) = &mut head {
            keep("eagle_seconds".into(), steady(|| pass(head, &tokens[..1], Pass::FULL))?);
        }
        let n = DECODED.min(room - decoder.len());
        steady(|| pass(&mut *decoder, &tokens[..1], Pass::FULL))?;
        let took = time(|| decode(&mut *decoder, tokens[0], n))?;
        keep("decode_tokens_per_second".into(), n as f64 / took);
        keep("bandwidth_bytes_per_second".into(), bandwidth(&memory, threads));
        round_done();
    }
    // Filling a long context is slow, so each is filled once.
    for n in CONTEXTS.into_iter().filter(|&n| n < room) {
        let from = decoder.len();
        decoder.prefill(&tokens[from..n], 256, Logits::None)?;
        for round in 0..=rounds {
            let took = pass(&mut *decoder, &tokens[..1], Pass::FULL)?;
            if round > 0 {
                samples.entry(format!("context_seconds.{n}")).or_default().push(took);
            }
        }
    }

    let of = |name: &str| samples.get(name).map(|samples| median(samples));
    let by = |name: &str, sizes: &[usize]| -> BTreeMap<usize, f64> {
        sizes.iter().filter_map(|&n| Some((n, of(&format!("{name}.{n}"))?))).collect()
    };
    let staged = |n: usize| -> BTreeMap<String, f64> {
        let of = |name: &str| Some((name.to_owned(), of(&format!("stage_seconds.{n}.{name}"))?));
        Stage::ALL.into_iter().filter_map(|stage| of(stage.name())).collect()
    };
    Ok(BenchReport {
        kind: "bench".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        model: found.name().into(),
        quantisation: model.quantization(),
        device: model.device_name(),
        kernel: model.kernel().into(),
        rounded: model.rounded_formats().into_iter().map(str::to_owned).collect(),
        threads: model.threads(),
        cpu: cpu_name(),
        cpu_features: cpu_features().into_iter().filter(|f| f.1).map(|f| f.0.to_owned()).collect(),
        decode_tokens_per_second: of("decode_tokens_per_second").unwrap_or(f64::NAN),
        prefill_seconds: by("prefill_seconds", &PROMPTS),
        t_seconds: by("t_seconds", &BATCHES),
        between_seconds: by("between_seconds", &BATCHES),
        context_seconds: by("context_seconds", &CONTEXTS),
        stage_seconds: STAGED
            .into_iter()
            .map(|n| (n, staged(n)))
            .filter(|(_, stages)| !stages.is_empty())
            .collect(),
        early_exit_seconds: of("early_exit_seconds"),
        eagle_seconds: of("eagle_seconds"),
        bandwidth_bytes_per_second: of("bandwidth_bytes_per_second").unwrap_or(f64::NAN),
        weight_bytes_per_token: model.weight_bytes(),
        samples,
    })
}

/// Repeats a pass for 30 ms or more and returns the last one's seconds.
///
/// A pass that takes longer runs once. Decoding makes passes of similar size one after the other;
/// if a large cache keeps the weights between them, the first passes after other work are slower
/// than all that follow (by two thirds for one token on a Xeon, until the sixth).
pub fn steady<E>(mut pass: impl FnMut() -> Result<f64, E>) -> Result<f64, E> {
    let start = Instant::now();
    loop {
        let took = pass()?;
        if start.elapsed() >= MIN_REPEAT_TIME {
            return Ok(took);
        }
    }
}

fn time(work: impl FnOnce() -> Result<(), ForwardError>) -> Result<f64, ForwardError> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Reports the seconds of each stage of a pass over `tokens`, after warm-up passes.
fn stages(
    decoder: &mut CpuDecoder,
    tokens: &[TokenId],
    mut tell: impl FnMut(&str, f64),
) -> Result<(), ForwardError> {
    steady(|| {
        decoder.time_stages();
        pass(decoder, tokens, Pass::FULL)
    })?;
    decoder.stages().into_iter().flatten().for_each(|(stage, seconds)| tell(stage.name(), seconds));
    Ok(())
}

/// Returns a decoder of the head that holds a context of [`CONTEXT`] tokens.
fn entered(head: &Head, tokens: &[TokenId]) -> Result<CpuDecoder, ForwardError> {
    let tokens = &tokens[..CONTEXT.min(tokens.len())];
    let mut decoder = head.decoder(CONTEXT + 1);
    let nodes = Node::chain(tokens);
    // Any states serve, as above.
    let hidden = vec![0.5; nodes.len() * head.info().source_layers.len() * decoder.config().dim];
    decoder.append_with_hidden(
        &nodes,
        &hidden,
        Pass { layers: usize::MAX, logits: Logits::Last },
    )?;
    decoder.commit(&(0..nodes.len()).collect::<Vec<_>>())?;
    Ok(decoder)
}

/// Times one pass over a binary tree of `tokens`, in seconds.
fn pass(decoder: &mut dyn Decoder, tokens: &[TokenId], wanted: Pass) -> Result<f64, ForwardError> {
    let parent = |i: usize| if i == 0 { Parent::Context } else { Parent::Slot((i - 1) / 2) };
    let nodes: Vec<Node> =
        tokens.iter().enumerate().map(|(i, &token)| Node { token, parent: parent(i) }).collect();
    let took = time(|| decoder.append(&nodes, wanted))?;
    if wanted.logits != Logits::None {
        black_box(decoder.logits(0));
    }
    decoder.discard();
    Ok(took)
}

/// Decodes `n` tokens greedily, one per pass.
fn decode(decoder: &mut dyn Decoder, mut token: TokenId, n: usize) -> Result<(), ForwardError> {
    for _ in 0..n {
        decoder.append(&[Node { token, parent: Parent::Context }], Pass::FULL)?;
        // A damaged model can have logits that are not numbers; other code reports that.
        token = argmax(decoder.logits(0)).map_or(token, |best| best.0);
        decoder.commit(&[0])?;
    }
    Ok(())
}

/// Measures the bytes per second at which `threads` threads together read all of `memory` once.
///
/// This is the memory bandwidth if `memory` is larger than the caches.
pub fn bandwidth(memory: &[u64], threads: usize) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for part in memory.chunks(memory.len().div_ceil(threads.max(1))) {
            let read = move || {
                let mut lanes = [0u64; 16];
                for eight in part.chunks_exact(16) {
                    for (lane, x) in lanes.iter_mut().zip(eight) {
                        *lane = lane.wrapping_add(*x);
                    }
                }
                black_box(lanes);
            };
            // If the system grants no more threads, this one reads in their place.
            if std::thread::Builder::new().spawn_scoped(scope, read).is_err() {
                read();
            }
        }
    });
    size_of_val(memory) as f64 / start.elapsed().as_secs_f64()
}
