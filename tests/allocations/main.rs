//! Allocations of a step, counted by the allocator.
//!
//! A separate test program, since the count covers the whole process.
#![allow(clippy::unwrap_used)]

use std::alloc::System;
use std::sync::{Arc, Mutex};

use speclight::draft::{Drafter, EarlyExit, Ngram, NoDraft, Shape};
use speclight::engine::{Session, Vocabulary};
use speclight::model::cpu::{CpuDecoder, Llama};
use speclight::model::format::quant::TensorFormat;
use speclight::model::format::weights::Weights;
use speclight::model::{Config, Decoder, Node, Parent, Pass};
use speclight::telemetry::StepSettings;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Serializes the tests, whose allocations would be counted together otherwise.
static TURN: Mutex<()> = Mutex::new(());

fn config() -> Config {
    Config {
        dim: 96,
        ffn: 160,
        layers: 3,
        heads: 6,
        kv_heads: 2,
        head_dim: 16,
        vocab: 200,
        context: 2048,
        eps: 1e-5,
        rope_base: 1e4,
        rope_scaling: None,
    }
}

fn decoder(kind: TensorFormat, threads: usize, capacity: usize) -> CpuDecoder {
    let weights = Weights::random(config(), kind, true, 5).unwrap();
    CpuDecoder::new(Arc::new(Llama::load(&weights, threads).unwrap()), capacity)
}

/// Counts allocations and reallocations while `work` runs.
fn count(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    let seen = region.change();
    seen.allocations + seen.reallocations
}

/// Reads a prompt and verifies trees after it.
///
/// The context becomes long enough to be split in attention.
fn write(decoder: &mut CpuDecoder, prompt: &[Node], tree: &[Node]) {
    decoder.truncate(0);
    let path: [usize; 64] = std::array::from_fn(|i| i);
    for part in prompt.chunks(64) {
        decoder.append(part, Pass::FULL).unwrap();
        decoder.commit(&path[..part.len()]).unwrap();
    }
    for i in 0..40 {
        // Every tree size; some trees are discarded, some take two passes.
        decoder.append(&tree[..1 + i % tree.len()], Pass::FULL).unwrap();
        if i % 5 == 0 {
            decoder
                .append(
                    &[Node { token: 3, parent: Parent::Slot(0) }],
                    Pass { layers: 2, ..Pass::FULL },
                )
                .unwrap();
        }
        if i % 7 == 0 { decoder.discard() } else { decoder.commit(&[0]).unwrap() }
    }
}

#[test]
fn a_pass_allocates_nothing_once_its_sizes_were_seen() {
    let _turn = TURN.lock();
    let chain = |i: usize| i.checked_sub(1).map_or(Parent::Context, Parent::Slot);
    let prompt: Vec<Node> =
        (0..600).map(|i| Node { token: i as u32 % 200, parent: chain(i % 64) }).collect();
    let binary = |i: usize| i.checked_sub(1).map_or(Parent::Context, |i| Parent::Slot(i / 2));
    let tree: Vec<Node> = (0..33).map(|i| Node { token: i as u32, parent: binary(i) }).collect();
    for (kind, threads) in
        [(TensorFormat::Q4_1, 1), (TensorFormat::Q4_1, 2), (TensorFormat::Q8_0, 3)]
    {
        let mut decoder = decoder(kind, threads, 1024);
        let first = count(|| write(&mut decoder, &prompt, &tree));
        assert!(first > 0, "the allocator counts nothing");
        assert_eq!(
            count(|| write(&mut decoder, &prompt, &tree)),
            0,
            "{} on {threads} threads",
            kind.name()
        );
    }
}

#[test]
fn a_plain_step_allocates_its_record_however_long_the_text() {
    steps(&[("none", 1)]);
}

#[test]
fn a_step_with_a_tree_allocates_little_more_than_its_record() {
    steps(&[("ngram", 16), ("early-exit", 16)]);
}

fn steps(settings: &[(&str, usize)]) {
    let _turn = TURN.lock();
    let layers = config().layers;
    let vocabulary =
        Arc::new(Vocabulary::new((0..200u8).map(|b| Box::from([b])).collect(), Vec::new()));
    for &(drafter, budget) in settings {
        let drafters: Vec<Box<dyn Drafter>> = vec![
            Box::new(NoDraft),
            Box::new(Ngram::default()),
            Box::new(EarlyExit::new(1, layers).unwrap()),
        ];
        let settings =
            StepSettings { seed: 1, ..StepSettings::new(drafter, Shape::BestFirst, budget, 1.0) };
        let target = Box::new(decoder(TensorFormat::Q4_1, 2, 1024));
        let mut session =
            Session::new(target, drafters, Arc::clone(&vocabulary), settings).unwrap();
        let mut steps = Vec::new();
        for _ in 0..2 {
            steps.clear();
            let mut told = None;
            session.start("0", &[1, 2, 3, 1, 2], 900).unwrap();
            loop {
                let mut record = None;
                let allocated = count(|| record = session.step().unwrap());
                let Some(record) = record else { break };
                // When intervals are recomputed, their samples need memory.
                let now = record.reached.map(|reached| reached.steps);
                let more = if now == told { 0 } else { 64 };
                told = now;
                steps.push((allocated.saturating_sub(more), record.tree.tokens.len()));
            }
        }
        // The record's rows, those of p against q at the nodes of the path, a text for each node,
        // the five best tokens of target and drafter at the miss, and the drafter's search; never anything proportional to the length of the text.
        for &(allocated, nodes) in &steps {
            assert!(allocated <= 80 + 36 * nodes, "{drafter}: {allocated} for {nodes} nodes");
        }
        if drafter == "none" {
            let (early, late) = steps.split_at(steps.len() / 2);
            let most = |steps: &[(usize, usize)]| steps.iter().map(|step| step.0).max();
            assert!(
                late.len() > 400 && most(late) <= most(early),
                "{:?}, then {:?}",
                most(early),
                most(late)
            );
        }
    }
}
