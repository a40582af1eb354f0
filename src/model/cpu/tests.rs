//! Bitwise comparison of kernels with the scalar reference, and of tree passes with plain decoding.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use half::{bf16, f16};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::acts::{Acts, Row, To};
use super::kernel::{Kernel, TileOutput, WeightedSums};
#[cfg(target_arch = "x86_64")]
use super::kernels::AVX2;
use super::kernels::SCALAR;
use super::tile::{BLOCK, Packing, ROWS, pack_tile};
use super::{CpuDecoder, Llama, check};
use super::{avx2, avx512};
use crate::model::format::quant::TensorFormat;
use crate::model::format::weights::Weights;
use crate::model::{Config, Decoder, Logits, Node, Parent, Pass, RopeScaling};

/// Small model with grouped queries.
///
/// Its head size is no multiple of 32, and its widths do not fill whole tiles.
fn config() -> Config {
    Config {
        dim: 96,
        ffn: 160,
        layers: 3,
        heads: 6,
        kv_heads: 2,
        head_dim: 24,
        vocab: 211,
        context: 2048,
        eps: 1e-5,
        rope_base: 10_000.0,
        rope_scaling: None,
    }
}

fn llama(
    config: Config,
    kind: TensorFormat,
    seed: u64,
    threads: usize,
    kernel: &'static Kernel,
) -> Arc<Llama> {
    let weights = Weights::random(config, kind, true, seed).unwrap();
    let mut llama = Llama::with_kernel(&weights, threads, kernel).unwrap();
    // The seed decides whether passes are split by stages or by token, regardless of the machine.
    llama.far = Some(seed.is_multiple_of(2));
    Arc::new(llama)
}

fn bits(row: &[f32]) -> Vec<u32> {
    assert!(row.iter().all(|x| x.is_finite()), "a logit is not finite");
    row.iter().map(|x| x.to_bits()).collect()
}

/// Returns rows of a matrix in file format.
///
/// Either floats between -1 and 1, or random bytes whose embedded floats are finite.
pub(super) fn raw_rows(
    kind: TensorFormat,
    rows: usize,
    cols: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<Vec<u8>> {
    let high: &[usize] = match kind {
        TensorFormat::Q4_1 | TensorFormat::Q5_1 | TensorFormat::Q4K | TensorFormat::Q5K => &[1, 3],
        TensorFormat::Q6K => &[209],
        _ => &[1],
    };
    let row = |rng: &mut ChaCha8Rng| {
        let mut number = || rng.next_u32() as f32 / 2f32.powi(31) - 1.0;
        match kind {
            TensorFormat::F32 => return (0..cols).flat_map(|_| number().to_le_bytes()).collect(),
            TensorFormat::F16 => {
                return (0..cols).flat_map(|_| f16::from_f32(number()).to_le_bytes()).collect();
            }
            TensorFormat::BF16 => {
                return (0..cols).flat_map(|_| bf16::from_f32(number()).to_le_bytes()).collect();
            }
            _ => {}
        }
        let mut bytes: Vec<u8> =
            (0..kind.row_bytes(cols).unwrap()).map(|_| rng.next_u32() as u8).collect();
        for block in bytes.chunks_exact_mut(kind.block_bytes()) {
            high.iter().for_each(|&at| block[at] &= 0xBB);
        }
        bytes
    };
    (0..rows).map(|_| row(rng)).collect()
}

/// Returns the kernels that this CPU supports, plus emulated ones.
fn kernels() -> Vec<&'static Kernel> {
    let all = Kernel::all();
    #[cfg(target_arch = "x86_64")]
    let mut all = all;
    #[cfg(target_arch = "x86_64")]
    if all.iter().any(|kernel| kernel.name == AVX2.name) {
        static EMULATED: [Kernel; 2] = [
            Kernel {
                name: "avx512-vnni, emulated",
                tile: avx512::emulated::tile,
                weighted_sum: avx512::emulated::weighted_sum,
                tokens: avx512::TOKENS,
                pair: Some(avx512::PAIRED),
                rows: avx512::WEIGHTED_ROWS,
                ..AVX2
            },
            Kernel { name: "avx-vnni, emulated", tile: avx2::emulated::tile, ..AVX2 },
        ];
        all.extend(&EMULATED);
    }
    all
}

/// Multiplies tiles by tokens, with a kernel or its matrix unit.
///
/// Returns for each tile the rows of each token.
///
/// The products are added to existing values if `add` is set.
#[allow(unsafe_code)]
fn multiply(
    kernel: &Kernel,
    unit: bool,
    packing: Packing,
    tiles: &[&[u8]],
    acts: &Acts,
    tokens: usize,
    add: bool,
) -> Vec<Vec<u32>> {
    let stride = tiles.len() * ROWS + 3;
    let before = |i: usize| (i / stride * ROWS + i % stride % ROWS) as f32 / 7.0;
    let mut out: Vec<f32> = (0..tokens * stride).map(before).collect();
    let to = TileOutput { at: out.as_mut_ptr(), stride, add };
    // SAFETY: only one thread runs; `out` has the rows that are written; this CPU supports the
    // kernel.
    unsafe {
        check::multiply(
            kernel,
            kernel.matrix_unit.filter(|_| unit),
            packing,
            &tiles.concat(),
            acts,
            tokens,
            to,
        )
    };
    assert!(
        (0..tokens * stride).all(|i| i % stride < stride - 3 || out[i] == before(i)),
        "{} wrote behind a row",
        kernel.name
    );
    let rows = |tile: usize| {
        out.chunks(stride)
            .flat_map(move |token| token[tile * ROWS..][..ROWS].iter().map(|x| x.to_bits()))
            .collect()
    };
    (0..tiles.len()).map(rows).collect()
}

proptest! {
    #[test]
    #[allow(unsafe_code)]
    fn products_match_the_scalar_kernel(
        seed in any::<u64>(), which in 0usize..5, blocks in 1usize..30, tokens in 1usize..65, scale in -20i32..20, extreme in any::<bool>(),
        add in any::<bool>(), rows in 1usize..17
    ) {
        let kind = [TensorFormat::Q4_0, TensorFormat::Q4_1, TensorFormat::Q4K, TensorFormat::Q8_0, TensorFormat::F32][which];
        let cols = if kind == TensorFormat::Q4K { 256 * (1 + blocks % 5) } else { BLOCK * blocks };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let packing = Packing::of(kind).0;
        let raw = if extreme && kind != TensorFormat::F32 {
            // The largest quants of either sign, with which 16-bit sums would overflow.
            raw_rows(kind, rows, cols, &mut rng).into_iter().map(|row| {
                let byte = [0x80, 0x7f, 0xff, 0x00][rng.next_u32() as usize % 4];
                let (len, size) = (row.len(), kind.block_bytes());
                (0..len).map(|i| if i % size < 4 { row[i] } else { byte }).collect()
            }).collect()
        } else {
            raw_rows(kind, rows, cols, &mut rng)
        };
        let packed = |rows: &mut dyn Iterator<Item = &Vec<u8>>| {
            let mut tile = vec![0; packing.tile(cols / BLOCK)];
            pack_tile(kind, cols, &rows.map(|r| &r[..]).collect::<Vec<_>>(), &mut tile);
            tile
        };
        let tile = packed(&mut raw.iter());
        // Also stored in interleaved 16-token groups if this CPU has a matrix unit.
        let acts = Acts::new_grouped(cols, tokens, Kernel::all()[0].matrix_unit.is_some());
        for t in 0..tokens {
            let value = |rng: &mut ChaCha8Rng| {
                let x = rng.next_u32() as f32 / 2f32.powi(31) - 1.0;
                if extreme { x.signum() } else { x * 2f32.powi(scale) }
            };
            let row: Vec<f32> = (0..cols).map(|_| value(&mut rng)).collect();
            // SAFETY: only one thread runs.
            unsafe { check::quantize_row(&acts, t, &row) };
        }
        let want = multiply(&SCALAR, false, packing, &[&tile], &acts, tokens, add);
        for kernel in kernels() {
            if tokens <= kernel.tokens {
                prop_assert_eq!(&multiply(kernel, false, packing, &[&tile], &acts, tokens, add), &want, "{}", kernel.name);
            }
            if kernel.matrix_unit.is_some() {
                prop_assert_eq!(&multiply(kernel, true, packing, &[&tile], &acts, tokens, add), &want, "{}, its unit", kernel.name);
            }
            if kernel.paired(packing).is_some_and(|most| tokens <= most) {
                let other = packed(&mut raw.iter().rev());
                let want: Vec<_> = [&tile, &other].map(|tile| multiply(&SCALAR, false, packing, &[tile], &acts, tokens, add)).concat();
                let got = multiply(kernel, false, packing, &[&tile, &other], &acts, tokens, add);
                prop_assert_eq!(got, want, "{}, two tiles", kernel.name);
            }
        }
    }

    #[test]
    #[allow(unsafe_code)]
    fn weighted_sums_and_what_lies_between_are_the_scalar_ones(seed in any::<u64>(), n in 0usize..70, rows in 1usize..13, odd in 0usize..9, column_groups in 0usize..8) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut number = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.next_u32() as f32 / 2f32.powi(29) - 4.0).collect() };
        let gap = 16 * n + odd;
        let halves: Vec<u16> = number(column_groups * gap).into_iter().map(|x| half::f16::from_f32(x).to_bits()).collect();
        let (a, sums) = (number(rows * (n + odd)), number(rows * (16 * column_groups + odd)));
        let (x, y, weight) = (number(n + 64), number(n + 64), number(n + 64));
        let gates = number(7 * 2 * (n + 80));
        // Six heads of one block each.
        let (shares, totals) = (number(6 * BLOCK), number(12));
        let angles = number(2 * (n + 64));
        let results = |kernel: &Kernel| {
            let mut sums = sums.clone();
            let w = WeightedSums {
                halves: halves.as_ptr(),
                halves_stride: gap,
                column_groups,
                n,
                a: a.as_ptr(),
                a_stride: n + odd,
                rows,
                sums: sums.as_mut_ptr(),
                sums_stride: 16 * column_groups + odd,
            };
            let acts = Acts::new(n + 64, 12);
            let mut scores = x.clone();
            scores.resize((n + 64).next_multiple_of(16), 0.0);
            let mut joined = y.clone();
            let (mut turned, mut halved) = (x[..(n + 64) & !1].to_vec(), x[..(n + 64) & !1].to_vec());
            // SAFETY: only one thread runs; the arrays are laid out as `w` says; this CPU supports
            // the kernel.
            let (softmax, rows) = unsafe {
                (kernel.weighted_sum)(w);
                // A row computed in two parts must equal the whole row.
                let row = |row: usize| To { acts: &acts, row, first: 0, interleaved: false };
                let to = row(0);
                (kernel.norm)(&x, &weight, 1e-5, to, 1..9);
                (kernel.norm)(&x, &weight, 1e-5, to, 0..1);
                (kernel.quantize)(&y, row(1));
                (kernel.swiglu)(&gates, 2 * (n + 80), n + 64, row(2));
                (kernel.normalize_quantize)(&shares, BLOCK, &totals, row(9), &[(0, 0), (1, 1), (2, 0), (1, 0), (0, 1), (2, 1)]);
                (kernel.axpby)(&mut joined, 0.3, &x, 0.7);
                (kernel.rotate)(&mut turned, &angles[..(n + 64) & !1], true, 0.125);
                (kernel.rotate)(&mut halved, &angles[..(n + 64) & !1], false, 1.0);
                let rows: Vec<_> = (0..12).map(|t| acts.row(t)).map(<[_]>::to_vec).collect();
                ((kernel.softmax)(&mut scores, n + 64), rows)
            };
            (bits(&sums), rows, bits(&scores), bits(&[softmax.0, softmax.1]), bits(&joined), bits(&turned), bits(&halved))
        };
        let want = results(&SCALAR);
        for kernel in kernels().into_iter().filter(|kernel| rows <= kernel.rows) {
            prop_assert_eq!(&results(kernel), &want, "{}", kernel.name);
        }
    }
}

#[test]
fn the_kernel_check_detects_a_wrong_bit() {
    #[allow(unsafe_code)]
    unsafe fn wrong(packing: Packing, tile: &[u8], tokens: &[Row], out: TileOutput) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            (SCALAR.tile)(packing, tile, tokens, out);
            if packing == Packing::Bytes && tokens.len() == 3 {
                let last = out.at.add(2 * out.stride + ROWS - 1);
                *last = f32::from_bits((*last).to_bits() ^ 1);
            }
        }
    }
    assert!(kernels().iter().all(|kernel| check::matches_reference(kernel, &SCALAR)));
    assert!(!check::matches_reference(&Kernel { name: "wrong", tile: wrong, ..SCALAR }, &SCALAR));
}

/// Builds a random tree: parents are the context or earlier nodes.
fn tree(n: usize, vocab: usize, rng: &mut ChaCha8Rng) -> Vec<Node> {
    let node = |i: usize, rng: &mut ChaCha8Rng| {
        // Biased to recent nodes, so that paths get long.
        let back = 1 + (rng.next_u32() as usize % 4).min(rng.next_u32() as usize % (i + 1));
        let parent = if back > i { Parent::Context } else { Parent::Slot(i - back) };
        Node { token: rng.next_u32() % vocab as u32, parent }
    };
    (0..n).map(|i| node(i, rng)).collect()
}

/// Returns the tokens from the context down to a node.
fn path(nodes: &[Node], i: usize) -> Vec<u32> {
    let mut path = vec![nodes[i].token];
    let mut at = nodes[i].parent;
    while let Parent::Slot(slot) = at {
        path.push(nodes[slot].token);
        at = nodes[slot].parent;
    }
    path.reverse();
    path
}

/// Returns the logits after each of `tokens`, decoded one token per pass.
fn one_by_one(llama: &Arc<Llama>, tokens: &[u32]) -> Vec<Vec<u32>> {
    let mut decoder = CpuDecoder::new(Arc::clone(llama), tokens.len());
    let mut rows = Vec::new();
    for &token in tokens {
        decoder.append(&[Node { token, parent: Parent::Context }], Pass::FULL).unwrap();
        rows.push(bits(decoder.logits(0)));
        decoder.commit(&[0]).unwrap();
    }
    rows
}

fn context(n: usize, vocab: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
    (0..n).map(|_| rng.next_u32() % vocab as u32).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_node_is_its_path_bit_for_bit(seed in any::<u64>(), past in 0usize..30, n in 1usize..24, cut in 0usize..24, kind in 0usize..4, threads in 1usize..4) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let kind = [TensorFormat::Q4_1, TensorFormat::Q4_0, TensorFormat::Q8_0, TensorFormat::F32][kind];
        let llama = llama(config(), kind, seed, threads, Kernel::detect());
        let (before, nodes) = (context(past, 211, &mut rng), tree(n, 211, &mut rng));
        let mut decoder = CpuDecoder::new(Arc::clone(&llama), past + n);
        (&mut decoder as &mut dyn Decoder).prefill(&before, 7, Logits::None).unwrap();
        // In two passes, split at a random node.
        let cut = cut.min(n);
        let mut rows = Vec::new();
        for part in [&nodes[..cut], &nodes[cut..]] {
            decoder.append(part, Pass::FULL).unwrap();
            rows.extend((0..part.len()).map(|i| bits(decoder.logits(i))));
        }
        for (i, row) in rows.iter().enumerate() {
            let whole = [&before[..], &path(&nodes, i)].concat();
            prop_assert!(*row == *one_by_one(&llama, &whole).last().unwrap(), "node {i} of {nodes:?}");
        }
        // Committing a path and continuing must equal recomputing from scratch.
        let last = n - 1;
        let slots: Vec<usize> = {
            let mut slots = vec![last];
            while let Parent::Slot(slot) = nodes[slots[slots.len() - 1]].parent { slots.push(slot) }
            slots.reverse();
            slots
        };
        decoder.commit(&slots).unwrap();
        let mut whole = [&before[..], &path(&nodes, last)].concat();
        if whole.len() < past + n {
            whole.push(5);
            decoder.append(&[Node { token: 5, parent: Parent::Context }], Pass::FULL).unwrap();
            prop_assert!(bits(decoder.logits(0)) == *one_by_one(&llama, &whole).last().unwrap(), "after a commit");
        }
    }
}

/// Returns logits and kept hidden states of each node, as bits.
fn rows_of(llama: &Arc<Llama>, before: &[u32], nodes: &[Node], at_once: usize) -> Vec<Vec<u32>> {
    let mut decoder = CpuDecoder::new(Arc::clone(llama), before.len() + nodes.len());
    decoder.keep_hidden(&[1, 3]);
    (&mut decoder as &mut dyn Decoder).prefill(before, at_once, Logits::None).unwrap();
    decoder.append(nodes, Pass::FULL).unwrap();
    let states = |i: usize| bits(decoder.hidden(before.len() + i..before.len() + i + 1).unwrap());
    (0..nodes.len()).map(|i| [bits(decoder.logits(i)), states(i)].concat()).collect()
}

#[test]
fn neither_threads_nor_instruction_sets_nor_passes_change_a_bit() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (kind, dim) in
        [(TensorFormat::Q4_1, 96), (TensorFormat::Q4K, 256), (TensorFormat::BF16, 40)]
    {
        // Head sizes with and without whole blocks, which are quantized head by head or afterward.
        let head_dim = if dim == 96 { 24 } else { 32 };
        let config = Config { dim, ffn: if dim == 256 { 512 } else { 72 }, head_dim, ..config() };
        // Long enough that the context is split in attention.
        let (before, nodes) = (context(530, 211, &mut rng), tree(40, 211, &mut rng));
        let all = Kernel::all();
        let (reference, others) = all.split_last().unwrap();
        let want = rows_of(&llama(config.clone(), kind, 3, 1, reference), &before, &nodes, 256);
        for &kernel in others {
            // If the threads count as far from each other, these passes are split by token, and so
            // is the tree's.
            for (threads, at_once, far) in [
                (1, 64, false),
                (2, 256, false),
                (2, 100, true),
                (3, 100, false),
                (3, 190, true),
                (5, 530, true),
            ] {
                let mut llama =
                    Arc::into_inner(llama(config.clone(), kind, 3, threads, kernel)).unwrap();
                llama.far = Some(far);
                let got = rows_of(&Arc::new(llama), &before, &nodes, at_once);
                assert!(
                    got == want,
                    "{} with {threads} threads (far: {far}), {at_once} tokens a pass, {}",
                    kernel.name,
                    kind.name()
                );
            }
        }
    }
}

#[test]
fn nodes_across_context_splits_match_their_paths() {
    // A tree that starts just before a split boundary and extends beyond it.
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let llama = llama(config(), TensorFormat::Q8_0, 4, 2, Kernel::detect());
    let (before, nodes) = (context(508, 211, &mut rng), tree(30, 211, &mut rng));
    let rows = rows_of(&llama, &before, &nodes, 256);
    assert!((0..30).any(|i| path(&nodes, i).len() > 6), "no path crosses the cut");
    for (i, row) in rows.iter().enumerate() {
        let alone = one_by_one(&llama, &[&before[..], &path(&nodes, i)].concat());
        assert!(row.starts_with(alone.last().unwrap()), "node {i}");
    }
}

#[test]
fn logits_change_with_parent_and_position() {
    // Negative controls: with a blind comparison, these would be equal too.
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let llama = llama(config(), TensorFormat::Q4_1, 3, 2, Kernel::detect());
    let (before, nodes) = (context(20, 211, &mut rng), tree(12, 211, &mut rng));
    let rows = rows_of(&llama, &before, &nodes, 64);
    let mut changed = 0;
    for i in 0..nodes.len() {
        let Parent::Slot(parent) = nodes[i].parent else { continue };
        changed += 1;
        let mut hidden = nodes.clone();
        hidden[i].parent = nodes[parent].parent;
        assert!(rows_of(&llama, &before, &hidden, 64)[i] != rows[i], "a hidden parent of {i}");
        let mut other = nodes.clone();
        other[parent].token = (other[parent].token + 1) % 211;
        assert!(rows_of(&llama, &before, &other, 64)[i] != rows[i], "another parent of {i}");
        assert!(rows_of(&llama, &before[1..], &nodes, 64)[i] != rows[i], "another position of {i}");
    }
    assert!(changed > 4);
}

#[test]
fn scaled_rotations_and_early_exits() {
    let scaling = RopeScaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 64,
    };
    let plain = llama(config(), TensorFormat::F32, 3, 1, Kernel::detect());
    let scaled = llama(
        Config { rope_scaling: Some(scaling), ..config() },
        TensorFormat::F32,
        3,
        1,
        Kernel::detect(),
    );
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (before, nodes) = (context(20, 211, &mut rng), tree(3, 211, &mut rng));
    assert!(rows_of(&plain, &before, &nodes, 64) != rows_of(&scaled, &before, &nodes, 64));

    let mut decoder = CpuDecoder::new(Arc::clone(&plain), 64);
    (&mut decoder as &mut dyn Decoder).prefill(&before, 64, Logits::None).unwrap();
    let mut run = |layers| {
        decoder.append(&nodes, Pass { layers, logits: Logits::Last }).unwrap();
        let row = bits(decoder.logits(2));
        decoder.discard();
        row
    };
    assert_eq!(run(3), run(usize::MAX));
    assert_ne!(run(2), run(3));
    assert_ne!(run(1), run(2));
}

#[test]
fn invalid_nodes_are_rejected_and_leave_no_state() {
    let llama = llama(config(), TensorFormat::Q4_1, 3, 2, Kernel::detect());
    let mut decoder = CpuDecoder::new(llama, 4);
    let node = |token, parent| Node { token, parent };
    let said = |e: crate::model::ForwardError| e.to_string();
    let wrong = [node(1, Parent::Context), node(211, Parent::Context)];
    assert!(said(decoder.append(&wrong, Pass::FULL).unwrap_err()).contains("211"));
    assert!(
        said(decoder.append(&[node(1, Parent::Slot(0))], Pass::FULL).unwrap_err())
            .contains("slot 0")
    );
    assert!(
        said(decoder.append(&[node(1, Parent::Context); 5], Pass::FULL).unwrap_err())
            .contains("5 tokens")
    );
    assert_eq!((decoder.len(), decoder.nodes()), (0, 0));
    decoder.append(&[node(1, Parent::Context)], Pass { layers: 1, logits: Logits::None }).unwrap();
    assert!(said(decoder.commit(&[0]).unwrap_err()).contains("all layers"));
    assert!(
        said(decoder.append(&[node(1, Parent::Slot(0))], Pass::FULL).unwrap_err())
            .contains("all layers")
    );
}

#[test]
fn forks_are_independent() {
    let llama = llama(config(), TensorFormat::Q4_1, 3, 2, Kernel::detect());
    let mut a = CpuDecoder::new(Arc::clone(&llama), 40);
    (&mut a as &mut dyn Decoder).prefill(&[1, 2, 3, 4, 5], 8, Logits::None).unwrap();
    let mut b = a.fork().unwrap();
    a.append(&[Node { token: 9, parent: Parent::Context }], Pass::FULL).unwrap();
    a.commit(&[0]).unwrap();
    b.append(&[Node { token: 7, parent: Parent::Context }], Pass::FULL).unwrap();
    assert!(bits(b.logits(0)) == *one_by_one(&llama, &[1, 2, 3, 4, 5, 7]).last().unwrap());
    b.truncate(2);
    b.append(&[Node { token: 7, parent: Parent::Context }], Pass::FULL).unwrap();
    assert!(bits(b.logits(0)) == *one_by_one(&llama, &[1, 2, 7]).last().unwrap());
    assert_eq!((a.len(), b.len(), b.capacity()), (6, 2, 40));
}
