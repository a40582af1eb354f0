//! Tests that the trained network and the head that drafts compute the same.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};

use super::corpus::TOP;
use super::export;
use super::linear::{Matrices, Products, SoftCross};
use super::net::{Example, Net, TargetDistributions};
use super::rounding;
use super::run::{Backpropagation, TrainSettings, backpropagate};
use super::sizes::HeadDims;
use super::sizes::HeadTensor;
use crate::model::cpu::{CpuDecoder, Llama, dense};
use crate::model::format::quant::TensorFormat;
use crate::model::format::weights::Weights;
use crate::model::{Config, Decoder, HeadForm, Node, Parent, Pass};

const CONFIG: Config = Config::SMALL;
const FUSED: usize = 2;

/// Pseudorandom numbers around 0.
fn numbers(n: usize, seed: u32, size: f32) -> Vec<f32> {
    let mut x = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        (x >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next() * size).collect()
}

fn net(form: HeadForm, fused: usize) -> Net {
    let sizes = HeadDims::for_target(form, &CONFIG, 48, fused);
    let mut vars = BTreeMap::new();
    for (i, HeadTensor { name, rows, cols }) in sizes.tensors().into_iter().enumerate() {
        let norm = name.ends_with("norm.weight");
        let size = if norm { 0.4 } else { 4.0 / (cols as f32).sqrt() };
        let values: Vec<f32> = numbers(rows * cols, i as u32 + 1, size)
            .into_iter()
            .map(|x| if norm { x + 1.0 } else { x })
            .collect();
        let shape = if rows == 1 { vec![cols] } else { vec![rows, cols] };
        // Rounded as in a file, so that writing loses nothing.
        let values =
            rounding::round_for_file(name, &Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
                .unwrap();
        vars.insert(name, Var::from_tensor(&values).unwrap());
    }
    Net { sizes, vars }
}

fn example(weights: &Weights, tokens: &[u32]) -> (Example, Vec<f32>) {
    let n = tokens.len() - 1;
    let hidden = numbers(n * FUSED * CONFIG.dim, 77, 6.0);
    let embedding = weights.read_values("token_embd.weight", 0..CONFIG.vocab).unwrap();
    let embedded: Vec<f32> =
        tokens[1..].iter().flat_map(|&t| embedding[t as usize * 64..][..64].to_vec()).collect();
    let example = Example {
        hidden: Tensor::from_slice(&hidden, (1, n, FUSED * CONFIG.dim), &Device::Cpu).unwrap(),
        embedded: Tensor::from_vec(embedded, (1, n, CONFIG.dim), &Device::Cpu).unwrap(),
        targets: TargetDistributions::Top { rows: vec![0; n * TOP], weights: vec![0.0; n * TOP] },
        counts: vec![1.0; n],
        best: vec![None; n],
        lens: vec![n],
    };
    (example, hidden)
}

#[test]
fn drafting_head_matches_the_trained_network() {
    let weights = Weights::random(CONFIG, TensorFormat::Q8_0, true, 5).unwrap();
    let net = net(HeadForm::Eagle, FUSED);
    let tokens: Vec<u32> = (0..13).map(|i| i * 31 % 96).collect();
    let (example, hidden) = example(&weights, &tokens);
    let (_, depths) = net.unroll(&example, 3, None).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("head.gguf");
    let rows: Vec<u32> = (0..48).map(|i| 2 * i).collect();
    export::write(&path, &net, &rows, &[1, 2], "a test").unwrap();
    let target = Arc::new(Llama::load(&weights, 2).unwrap());
    let head =
        Llama::load_head(&Weights::open_head(&path, HeadForm::Eagle).unwrap(), &target).unwrap();
    let mut decoder = CpuDecoder::new(Arc::new(head), 64);

    let close = |got: &[f32], depth: usize, entry: usize| {
        let want: Vec<f32> =
            net.logits(&depths[depth], None).unwrap().get(entry).unwrap().to_vec1().unwrap();
        let power: f32 = want.iter().map(|x| x * x).sum();
        let off: f32 = got.iter().zip(&want).map(|(a, b)| (a - b) * (a - b)).sum();
        // Inputs of products are rounded to 8 bits; a wrong position, state or order is off by the
        // whole.
        assert!(off < 2e-3 * power, "depth {depth}, entry {entry}: {off} of {power}");
    };
    let n = tokens.len() - 1;
    let nodes: Vec<Node> = (0..n)
        .map(|i| Node {
            token: tokens[i + 1],
            parent: i.checked_sub(1).map_or(Parent::Context, Parent::Slot),
        })
        .collect();
    decoder.append_with_hidden(&nodes, &hidden, Pass::FULL).unwrap();
    (0..n).for_each(|i| close(decoder.logits(i), 0, i));
    let all: Vec<usize> = (0..n).collect();
    decoder.commit(&all).unwrap();
    for entry in [3, 7, 10] {
        // Only the entries before this one have the target's states: this one and the next continue
        // from the head's own.
        decoder.truncate(entry);
        decoder
            .append(&[Node { token: tokens[entry + 1], parent: Parent::Context }], Pass::FULL)
            .unwrap();
        close(decoder.logits(0), 1, entry);
        decoder
            .append(&[Node { token: tokens[entry + 2], parent: Parent::Slot(0) }], Pass::FULL)
            .unwrap();
        close(decoder.logits(0), 2, entry + 1);
        decoder.discard();
        // The same again, in two parts.
        let width = FUSED * CONFIG.dim;
        decoder
            .append_with_hidden(
                &[Node { parent: Parent::Context, ..nodes[entry] }],
                &hidden[entry * width..][..width],
                Pass::FULL,
            )
            .unwrap();
        close(decoder.logits(0), 0, entry);
        decoder.commit(&[0]).unwrap();
        let rest: Vec<Node> = (entry + 1..n)
            .map(|i| Node {
                token: tokens[i + 1],
                parent: (i - entry - 1).checked_sub(1).map_or(Parent::Context, Parent::Slot),
            })
            .collect();
        decoder.append_with_hidden(&rest, &hidden[(entry + 1) * width..], Pass::FULL).unwrap();
        close(decoder.logits(rest.len() - 1), 0, n - 1);
        decoder.commit(&(0..rest.len()).collect::<Vec<_>>()).unwrap();
    }
}

#[test]
fn drafting_adapter_matches_the_trained_network() {
    let weights = Weights::random(CONFIG, TensorFormat::Q8_0, true, 5).unwrap();
    let net = net(HeadForm::Adapter, 1);
    assert_eq!(net.vars.len(), 6, "no attention, nothing before the layer: {:?}", net.vars.keys());
    let tokens: Vec<u32> = (0..40).map(|i| i * 31 % 96).collect();
    let (example, _) = example(&weights, &tokens);
    let n = tokens.len() - 1;
    let hidden = numbers(n * CONFIG.dim, 77, 6.0);
    let example = Example {
        hidden: Tensor::from_slice(&hidden, (1, n, CONFIG.dim), &Device::Cpu).unwrap(),
        ..example
    };
    let (_, depths) = net.unroll(&example, 3, None).unwrap();
    assert_eq!(depths.len(), 1);
    let want = net.logits(&depths[0], None).unwrap().to_vec2::<f32>().unwrap();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter.gguf");
    let rows: Vec<u32> = (0..48).map(|i| 2 * i).collect();
    export::write(&path, &net, &rows, &[1], "a test").unwrap();
    let said = Weights::open_head(&path, HeadForm::Eagle).unwrap_err().to_string();
    assert!(said.contains("speclight-adapter") && said.lines().count() == 1, "{said}");
    let target = Arc::new(Llama::load(&weights, 2).unwrap());
    let adapter =
        Llama::load_head(&Weights::open_head(&path, HeadForm::Adapter).unwrap(), &target).unwrap();
    let mut decoder = CpuDecoder::new(Arc::new(adapter), 64);
    // Few and many at once: the result must not depend on the rest of the batch.
    for batch in [1, 5, n] {
        for from in (0..n).step_by(batch) {
            let part = from..(from + batch).min(n);
            let nodes: Vec<Node> = part
                .clone()
                .map(|i| Node { token: tokens[i + 1], parent: Parent::Context })
                .collect();
            decoder
                .append_with_hidden(
                    &nodes,
                    &hidden[part.start * CONFIG.dim..part.end * CONFIG.dim],
                    Pass::FULL,
                )
                .unwrap();
            for i in part.clone() {
                let (got, want) = (decoder.logits(i - part.start), &want[i]);
                let power: f32 = want.iter().map(|x| x * x).sum();
                let off: f32 = got.iter().zip(want).map(|(a, b)| (a - b) * (a - b)).sum();
                assert!(off < 2e-3 * power, "entry {i} of {batch}: {off} of {power}");
            }
            decoder.discard();
        }
    }
}

#[test]
fn the_loss_and_its_gradient_are_those_of_the_composed_operations() {
    let (n, vocab) = (5, 60);
    let logits = Var::from_vec(numbers(n * vocab, 3, 9.0), (n, vocab), &Device::Cpu).unwrap();
    let rows: Vec<u32> = (0..n * TOP).map(|i| (i * 7 % vocab) as u32).collect();
    let weights: Vec<f32> = numbers(n * TOP, 9, 1.0)
        .into_iter()
        .enumerate()
        .map(|(i, w)| if i / TOP == 2 { 0.0 } else { w.abs() })
        .collect();
    let loss =
        logits.apply_op1(SoftCross { rows: rows.clone(), weights: weights.clone() }).unwrap();
    let grads = loss.backward().unwrap();

    let mut goal = vec![0f32; n * vocab];
    rows.iter()
        .zip(&weights)
        .enumerate()
        .for_each(|(k, (&row, &w))| goal[k / TOP * vocab + row as usize] += w);
    let goal = Tensor::from_vec(goal, (n, vocab), &Device::Cpu).unwrap();
    let composed = (candle_nn::ops::log_softmax(logits.as_tensor(), 1).unwrap() * goal)
        .unwrap()
        .sum_all()
        .unwrap()
        .neg()
        .unwrap();
    let want = composed.backward().unwrap();
    let (a, b) = (loss.to_scalar::<f32>().unwrap(), composed.to_scalar::<f32>().unwrap());
    assert!((a / b - 1.0).abs() < 1e-5, "{a} for {b}");
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for (a, b) in flat(grads.get(logits.as_tensor()).unwrap())
        .iter()
        .zip(flat(want.get(logits.as_tensor()).unwrap()))
    {
        assert!((a - b).abs() < 1e-4, "{a} for {b}");
    }
}

/// Options that the gradients depend on.
fn options(batch: usize) -> TrainSettings {
    TrainSettings {
        form: HeadForm::Eagle,
        steps: 1,
        rate: 1e-3,
        warm_up: 1,
        depths: 3,
        vocab: 48,
        window: 640,
        batch,
        prompt_weight: 0.25,
        regression: 0.3,
        clip: 1.0,
        held_out: 2,
        every: 1,
        seed: 0,
        threads: 1,
    }
}

#[test]
fn joined_texts_give_the_summed_gradients() {
    let weights = Weights::random(CONFIG, TensorFormat::Q8_0, true, 5).unwrap();
    let net = net(HeadForm::Eagle, FUSED);
    let tokens: Vec<u32> = (0..24).map(|i| i * 31 % 96).collect();
    let counts = |i: usize| if i < 3 { 0.25 } else { 1.0 };
    // Each with distributions by rows, as many as the output has.
    let one = |len: usize| {
        let (example, _) = example(&weights, &tokens[..len + 1]);
        let laws = (0..len)
            .flat_map(|i| numbers(TOP, (i + 100 * len) as u32, 0.04).into_iter().map(f32::abs))
            .collect();
        let rows = (0..len * TOP).map(|k| (k % TOP) as u32).collect();
        Example {
            targets: TargetDistributions::Top { rows, weights: laws },
            counts: (0..len).map(counts).collect(),
            ..example
        }
    };
    let lens = [13, 21];
    let parts = lens.map(one);
    let n = lens[1];
    // Padding of the shorter text must have no effect.
    let filled = |x: &Tensor| {
        Tensor::cat(
            &[
                x,
                &Tensor::full(0.7f32, (1, n - x.dim(1).unwrap(), x.dim(2).unwrap()), x.device())
                    .unwrap(),
            ],
            1,
        )
        .unwrap()
    };
    let both = |get: fn(&Example) -> &Tensor| {
        Tensor::cat(&parts.each_ref().map(|part| filled(get(part))), 0).unwrap()
    };
    let whole: Vec<f32> = (parts.iter())
        .flat_map(|part| {
            let TargetDistributions::Top { weights, .. } = &part.targets else {
                unreachable!("they were made so")
            };
            weights.iter().copied()
        })
        .collect();
    let whole = Tensor::from_vec(whole, (lens[0] + lens[1], TOP), &Device::Cpu).unwrap();
    let mass = whole.sum_keepdim(1).unwrap();
    let together = Example {
        hidden: both(|part| &part.hidden),
        embedded: both(|part| &part.embedded),
        targets: TargetDistributions::Whole { given: whole.broadcast_div(&mass).unwrap(), mass },
        counts: lens.iter().flat_map(|&len| (0..len).map(counts)).collect(),
        best: Vec::new(),
        lens: lens.to_vec(),
    };
    let told = |example: &Example| {
        let Backpropagation { store, loss, counted } =
            backpropagate(&net, example, &options(2), None).unwrap();
        let flat = |var: &Var| {
            store.get(var).map(|g| g.flatten_all().unwrap().to_vec1::<f32>().unwrap()).unwrap()
        };
        (
            net.vars.values().map(flat).collect::<Vec<_>>(),
            f64::from(loss.to_scalar::<f32>().unwrap()),
            counted,
        )
    };
    let (got, alone) = (told(&together), parts.each_ref().map(told));
    assert!((got.2 - alone[0].2 - alone[1].2).abs() < 1e-9);
    assert!(
        (got.1 / (alone[0].1 + alone[1].1) - 1.0).abs() < 1e-4,
        "{} for {} and {}",
        got.1,
        alone[0].1,
        alone[1].1
    );
    for (i, got) in got.0.iter().enumerate() {
        let want: Vec<f32> = alone[0].0[i].iter().zip(&alone[1].0[i]).map(|(a, b)| a + b).collect();
        let length = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
        let (off, all) = (
            length(&mut got.iter().zip(&want).map(|(a, b)| a - b)),
            length(&mut want.iter().copied()),
        );
        assert!(off < 1e-4 * all, "tensor {i}: {off} of {all}");
    }
}

/// Compares both ways of computing products; skipped without a tile unit.
#[test]
fn products_on_the_tile_unit_give_the_same_gradients() {
    if !dense::available() {
        return;
    }
    let weights = Weights::random(CONFIG, TensorFormat::Q8_0, true, 5).unwrap();
    let net = net(HeadForm::Eagle, FUSED);
    let tokens: Vec<u32> = (0..23).map(|i| i * 31 % 96).collect();
    let (example, _) = example(&weights, &tokens);
    let n = tokens.len() - 1;
    let laws = TargetDistributions::Top {
        rows: (0..n * TOP).map(|i| (i * 7 % 48) as u32).collect(),
        weights: numbers(n * TOP, 9, 0.1).iter().map(|w| w.abs()).collect(),
    };
    let ones = vec![1.0; n];
    let loss = |products: Option<&Products>| {
        let (_, depths) = net.unroll(&example, 3, products).unwrap();
        let each = depths.iter().map(|depth| {
            (net.cross_entropy(depth, &laws, &ones, &ones, products).unwrap().term * 0.5).unwrap()
        });
        each.reduce(|a, b| (a + b).unwrap()).unwrap()
    };
    let plain = loss(None);
    let matrices = Matrices::pack(&net.vars, &net.sizes.matrices(), 2).unwrap();
    let products = matrices.products();
    let packed = loss(Some(&products));
    let (a, b) = (plain.to_scalar::<f32>().unwrap(), packed.to_scalar::<f32>().unwrap());
    assert!(a != b && (a - b).abs() < 0.02 * a.abs(), "{a} and {b}");
    let (plain, packed) = (plain.backward().unwrap(), packed.backward().unwrap());
    let mut grads: BTreeMap<&str, Vec<f32>> = products.grads().collect();
    assert_eq!(grads.len(), net.sizes.matrices().len());
    for (name, var) in &net.vars {
        let of = |store: &candle_core::backprop::GradStore| {
            store.get(var).map(|g| g.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        };
        let want = of(&plain).unwrap();
        // Only the gradients of norms come through the graph.
        let found = of(&packed).or_else(|| grads.remove(name)).unwrap();
        let length = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
        let apart: Vec<f32> = want.iter().zip(&found).map(|(a, b)| a - b).collect();
        assert!(
            length(&apart) < 0.04 * length(&want),
            "{name}: {} of {}",
            length(&apart),
            length(&want)
        );
    }
    assert!(grads.is_empty());
}
