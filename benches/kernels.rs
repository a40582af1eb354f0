//! CPU kernels on random weights, and whole steps of the real model.
//!
//! Products by kernel, format and batch size; attention by context length.
//!
//! `cargo bench --bench kernels` runs everything; `-- attention` runs the benchmarks of that name.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/model.rs"]
mod real;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use speclight::draft::{Drafter, Ngram, NoDraft, Shape};
use speclight::engine::{Session, Vocabulary};
use speclight::model::cpu::{CpuDecoder, Kernel, Llama};
use speclight::model::device::{DeviceChoice, default_threads};
use speclight::model::format::quant::TensorFormat;
use speclight::model::format::weights::Weights;
use speclight::model::{Config, Decoder, Logits, Model, Node, Parent, Pass};
use speclight::telemetry::StepSettings;

fn config(dim: usize, ffn: usize, layers: usize) -> Config {
    Config {
        dim,
        ffn,
        layers,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        vocab: 64,
        context: 1 << 14,
        eps: 1e-5,
        rope_base: 1e4,
        rope_scaling: None,
    }
}

fn decoder(
    config: &Config,
    kind: TensorFormat,
    kernel: &'static Kernel,
    capacity: usize,
) -> CpuDecoder {
    let weights = Weights::random(config.clone(), kind, true, 1).unwrap();
    CpuDecoder::new(
        Arc::new(Llama::with_kernel(&weights, default_threads(), kernel).unwrap()),
        capacity,
    )
}

/// Binary tree of `nodes` nodes.
fn tree(nodes: usize) -> Vec<Node> {
    let parent = |i: usize| if i == 0 { Parent::Context } else { Parent::Slot((i - 1) / 2) };
    (0..nodes).map(|i| Node { token: (i % 64) as u32, parent: parent(i) }).collect()
}

/// Times a pass and discards its nodes.
fn pass(
    group: &mut BenchmarkGroup<WallTime>,
    id: BenchmarkId,
    decoder: &mut dyn Decoder,
    nodes: usize,
) {
    let nodes = tree(nodes);
    group.bench_function(id, |b| {
        b.iter(|| {
            decoder.append(&nodes, Pass::FULL).unwrap();
            black_box(decoder.logits(0));
            decoder.discard();
        });
    });
}

fn short<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    group
}

/// Four layers with almost no context, so that products dominate. Elements are multiply-adds.
fn products(c: &mut Criterion) {
    let config = config(768, 2048, 4);
    let linear = config.layers * (config.dim * (2 * 576 + 2 * 192) + 3 * config.dim * config.ffn);
    let mut group = short(c, "products");
    let kernels = Kernel::all();
    for (i, kernel) in kernels.iter().enumerate() {
        for kind in [
            TensorFormat::Q4_0,
            TensorFormat::Q4_1,
            TensorFormat::Q4K,
            TensorFormat::Q6K,
            TensorFormat::Q8_0,
            TensorFormat::BF16,
        ] {
            let mut decoder = decoder(&config, kind, kernel, 256);
            // The scalar reference comes last and is too slow for larger batches.
            for nodes in if i + 1 < kernels.len() { &[1, 2, 4, 8, 16, 64][..] } else { &[1][..] } {
                group.throughput(Throughput::Elements((nodes * linear) as u64));
                let id = BenchmarkId::new(format!("{}/{}", kernel.name, kind.name()), nodes);
                pass(&mut group, id, &mut decoder, *nodes);
            }
        }
    }
}

/// Eight layers that consist almost entirely of attention.
fn attention(c: &mut Criterion) {
    let config = config(576, 32, 8);
    let mut group = short(c, "attention");
    for context in [128, 1024, 4096, 8192] {
        let mut decoder = decoder(&config, TensorFormat::Q8_0, Kernel::detect(), context + 64);
        let tokens: Vec<u32> = (0..context as u32).map(|i| i % 64).collect();
        (&mut decoder as &mut dyn Decoder).prefill(&tokens, 256, Logits::None).unwrap();
        for nodes in [1, 16] {
            pass(
                &mut group,
                BenchmarkId::new(format!("{nodes} after"), context),
                &mut decoder,
                nodes,
            );
        }
    }
}

/// Steps of a session: draft, verify, accept, record.
fn step(c: &mut Criterion) {
    let model = Model::open(&real::path(), DeviceChoice::Cpu, None).unwrap();
    let prompt = model
        .prompt_tokens("Write a long story about a lighthouse and its keeper.", false)
        .unwrap();
    let tokenizer = model.tokenizer();
    let vocabulary = Arc::new(Vocabulary::new(tokenizer.token_bytes(), Vec::new()));
    let mut group = c.benchmark_group("step");
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for (drafter, budget) in [("none", 1), ("ngram", 4), ("ngram", 16), ("ngram", 64)] {
        let drafters: Vec<Box<dyn Drafter>> = vec![Box::new(NoDraft), Box::new(Ngram::default())];
        let settings = StepSettings::new(drafter, Shape::BestFirst, budget, 0.0);
        let target = model.decoder(1024).unwrap();
        let mut session =
            Session::new(target, drafters, Arc::clone(&vocabulary), settings).unwrap();
        group.bench_function(BenchmarkId::new(drafter, budget), |b| {
            b.iter_custom(|steps| {
                let mut spent = Duration::ZERO;
                for _ in 0..steps {
                    if session.tokens().is_empty() || session.ending().is_some() {
                        session.start("0", &prompt, 512).unwrap();
                    }
                    let start = Instant::now();
                    black_box(session.step().unwrap());
                    spent += start.elapsed();
                }
                spent
            });
        });
    }
}

criterion_group!(benches, products, attention, step);
criterion_main!(benches);
