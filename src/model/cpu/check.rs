//! Run-time check that a kernel matches the scalar reference bit for bit on this CPU.
//!
//! Tests only cover the kernels of the tester's CPU. This check runs once before a kernel is used,
//! so that on other CPUs a wrong kernel costs speed instead of correctness.
#![allow(unsafe_code)]

use super::acts::{Acts, GROUP_TOKENS, MAX_GROUPS, To};
use super::kernel::{Kernel, MatrixUnit, TileOutput, WeightedSums};
use super::rounding::Plain;
use super::tile::{BLOCK, Packing, ROWS};

/// Number of blocks in a row.
///
/// Covers three super-scale groups, the last one partial, and more blocks than a matrix unit takes
/// at once.
const BLOCKS: usize = 18;

/// Multiplies one tile by the first `tokens` of `acts`, on `kernel` or on `unit`.
///
/// # Safety
/// No other thread accesses `acts`; `out` may be written at each token's 16 rows; the CPU has the
/// kernel's instructions and the unit.
pub(super) unsafe fn multiply(
    kernel: &Kernel,
    unit: Option<&MatrixUnit>,
    packing: Packing,
    tile: &[u8],
    acts: &Acts,
    tokens: usize,
    out: TileOutput,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        match unit.zip(acts.token_groups(0)) {
            Some((unit, x)) => {
                (unit.begin)();
                (unit.tile)(packing, tile, &x[..tokens.div_ceil(GROUP_TOKENS)], tokens, out);
                (unit.end)();
            }
            None => (kernel.tile)(
                packing,
                tile,
                &(0..tokens).map(|t| acts.row(t)).collect::<Vec<_>>(),
                out,
            ),
        }
    }
}

/// Quantizes row `t` into both layouts, plain and interleaved.
///
/// # Safety
/// No other thread accesses `acts`.
pub(super) unsafe fn quantize_row(acts: &Acts, t: usize, values: &[f32]) {
    for side_by_side in [false, true] {
        // SAFETY: guaranteed by the caller.
        unsafe {
            Acts::put::<Plain>(To { acts, row: t, first: 0, interleaved: side_by_side }, values)
        };
    }
}

/// Returns `true` if `kernel` gives the same bits as `reference`.
///
/// Compares tiles of every packing with every token count that it takes (its matrix unit and pairs
/// of tiles included), and weighted sums.
pub(super) fn matches_reference(kernel: &Kernel, reference: &Kernel) -> bool {
    let mut state = 0u32;
    // A Weyl sequence, well mixed: the numbers are the same on every machine.
    let mut number = || {
        state = state.wrapping_add(0x9e37_79b9);
        let mixed = (state ^ (state >> 15)).wrapping_mul(0x85eb_ca6b);
        mixed ^ (mixed >> 13)
    };
    let most = if kernel.matrix_unit.is_some() { MAX_GROUPS * GROUP_TOKENS } else { kernel.tokens };
    let acts = Acts::new_grouped(BLOCKS * BLOCK, most, kernel.matrix_unit.is_some());
    for t in 0..most {
        let row: Vec<f32> =
            (0..BLOCKS * BLOCK).map(|_| number() as f32 / 2f32.powi(31) - 1.0).collect();
        // SAFETY: only one thread runs.
        unsafe { quantize_row(&acts, t, &row) };
    }
    let packings = [
        Packing::Nibbles { min: false },
        Packing::Nibbles { min: true },
        Packing::Q4K,
        Packing::Bytes,
    ];
    let products = packings.into_iter().all(|packing| {
        let mut tile: Vec<u8> = (0..packing.tile(BLOCKS)).map(|_| number() as u8).collect();
        // Clearing bit 14 of each half keeps it finite.
        tile.iter_mut().skip(1).step_by(2).for_each(|byte| *byte &= 0xbf);
        // Multiplies the tile, repeated `times` times.
        let by_times =
            |kernel: &Kernel, times: usize, tokens: usize, unit: Option<&MatrixUnit>| -> Vec<u32> {
                let mut out = vec![0.5f32; tokens * times * ROWS];
                let to = TileOutput { at: out.as_mut_ptr(), stride: times * ROWS, add: true };
                // SAFETY: only one thread runs; `out` has the rows that are written; this CPU
                // supports the kernel.
                unsafe { multiply(kernel, unit, packing, &tile.repeat(times), &acts, tokens, to) };
                out.into_iter().map(f32::to_bits).collect()
            };
        let by = |kernel: &Kernel, tokens: usize, unit: Option<&MatrixUnit>| {
            by_times(kernel, 1, tokens, unit)
        };
        let want = by(reference, most, None);
        let rows =
            (1..=kernel.tokens).all(|tokens| by(kernel, tokens, None) == want[..tokens * ROWS]);
        let twice: Vec<u32> = want.chunks_exact(ROWS).flat_map(|rows| rows.repeat(2)).collect();
        let pairs = kernel.paired(packing).is_none_or(|most| {
            (1..=most).all(|tokens| by_times(kernel, 2, tokens, None) == twice[..tokens * 2 * ROWS])
        });
        rows && pairs
            && kernel.matrix_unit.is_none_or(|unit| {
                (1..=most).all(|tokens| by(kernel, tokens, Some(unit)) == want[..tokens * ROWS])
            })
    });
    // A kernel may take several column groups at once, and the remainder singly.
    let (terms, column_groups) = (5, 7);
    let halves: Vec<u16> =
        (0..column_groups * terms * ROWS).map(|_| number() as u16 & 0xbfff).collect();
    let a: Vec<f32> =
        (0..terms * kernel.rows).map(|_| number() as f32 / 2f32.powi(31) - 1.0).collect();
    let by = |kernel: &Kernel, rows: usize| -> Vec<u32> {
        let mut sums = vec![0.5f32; rows * column_groups * ROWS];
        let w = WeightedSums {
            halves: halves.as_ptr(),
            halves_stride: terms * ROWS,
            column_groups,
            n: terms,
            a: a.as_ptr(),
            a_stride: terms,
            rows,
            sums: sums.as_mut_ptr(),
            sums_stride: column_groups * ROWS,
        };
        // SAFETY: only one thread runs; the arrays are laid out as `w` says; this CPU supports the
        // kernel.
        unsafe { (kernel.weighted_sum)(w) };
        sums.into_iter().map(f32::to_bits).collect()
    };
    let want = by(reference, kernel.rows);
    products
        && (1..=kernel.rows).all(|rows| by(kernel, rows) == want[..rows * column_groups * ROWS])
}
