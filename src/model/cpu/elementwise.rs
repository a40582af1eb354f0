//! Elementwise operations between the products, inlined into callers for each instruction set.
#![allow(unsafe_code)]

use std::ops::Range;

use super::acts::{Acts, Place, To};
use super::lanes;
use super::rounding::Rounding;
use super::tile::BLOCK;

/// Number of blocks that are quantized together.
const QUANTIZED_TOGETHER: usize = 8;

/// Computes the RMS norm of `x` times `weight` and quantizes its given `blocks`.
#[inline(always)]
pub unsafe fn norm<R: Rounding>(x: &[f32], weight: &[f32], eps: f32, to: To, blocks: Range<usize>) {
    let r = lanes::rms(x, eps);
    let ((whole, rest), (weights, last)) = (x.as_chunks::<BLOCK>(), weight.as_chunks::<BLOCK>());
    let full = blocks.start.min(whole.len())..blocks.end.min(whole.len());
    for (b, (x, w)) in full.clone().zip(whole[full.clone()].iter().zip(&weights[full])) {
        let mut block = [0f32; BLOCK];
        for i in 0..BLOCK {
            block[i] = x[i] * r * w[i];
        }
        // SAFETY: the caller owns these blocks of the row, here and below.
        unsafe { Acts::put_block::<R>(to, b, &block) };
    }
    if !rest.is_empty() && blocks.contains(&whole.len()) {
        let mut block = [0f32; BLOCK];
        block.iter_mut().zip(rest).zip(last).for_each(|((y, x), w)| *y = x * r * w);
        unsafe { Acts::put_block::<R>(to, whole.len(), &block) };
    }
}

/// Blocks waiting to be quantized.
///
/// Several are computed first and then quantized together, so that they do not wait for each
/// other.
struct PendingBlocks<'a> {
    to: To<'a>,
    blocks: [[f32; BLOCK]; QUANTIZED_TOGETHER],
    places: [Place; QUANTIZED_TOGETHER],
    count: usize,
}

impl<'a> PendingBlocks<'a> {
    #[inline(always)]
    fn new(to: To<'a>) -> Self {
        Self {
            to,
            blocks: [[0.0; BLOCK]; QUANTIZED_TOGETHER],
            places: [(0, 0); QUANTIZED_TOGETHER],
            count: 0,
        }
    }

    /// Returns the buffer for the next block, which goes to `place`.
    ///
    /// The buffer must be filled before the next call.
    ///
    /// # Safety
    /// As [`Acts::put_blocks`], for all blocks that were given.
    #[inline(always)]
    unsafe fn next<R: Rounding>(&mut self, place: Place) -> &mut [f32; BLOCK] {
        if self.count == QUANTIZED_TOGETHER {
            // SAFETY: guaranteed by the caller.
            unsafe { self.quantize::<R>() };
        }
        self.places[self.count] = place;
        self.count += 1;
        &mut self.blocks[self.count - 1]
    }

    /// Quantizes the waiting blocks.
    ///
    /// # Safety
    /// As [`Self::next`].
    #[inline(always)]
    unsafe fn quantize<R: Rounding>(&mut self) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            Acts::put_blocks::<R>(self.to, &self.blocks[..self.count], &self.places[..self.count])
        };
        self.count = 0;
    }
}

/// Computes silu(gate) * up and quantizes it, for each row of `x`.
///
/// Each row has `n` gates at its start and `n` ups from its middle on. The first row goes to
/// `to`, the others to the rows after it.
#[inline(always)]
pub unsafe fn swiglu<R: Rounding>(x: &[f32], stride: usize, n: usize, to: To) {
    let mut waiting = PendingBlocks::new(to);
    for (i, row) in x.chunks_exact(stride).enumerate() {
        let (gates, ups) = row.split_at(stride / 2);
        let ((gates, last), (ups, last_ups)) =
            (gates[..n].as_chunks::<BLOCK>(), ups[..n].as_chunks::<BLOCK>());
        for (b, (gate, up)) in gates.iter().zip(ups).enumerate() {
            // SAFETY: the caller owns these blocks, here and below.
            let block = unsafe { waiting.next::<R>((i, b)) };
            for k in 0..BLOCK {
                block[k] = lanes::gated_silu(gate[k], up[k]);
            }
        }
        if !last.is_empty() {
            let block = unsafe { waiting.next::<R>((i, gates.len())) };
            *block = [0.0; BLOCK];
            block
                .iter_mut()
                .zip(last)
                .zip(last_ups)
                .for_each(|((y, &gate), &up)| *y = lanes::gated_silu(gate, up));
        }
    }
    unsafe { waiting.quantize::<R>() };
}

/// Divides weighted sums by their total weights and quantizes the results.
///
/// `sums` has rows of `stride`, each made of whole blocks. The total weight of a row is the
/// second number of its pair in `totals`. `places` gives, for each row, its row offset after
/// `to` and its first block.
#[inline(always)]
pub unsafe fn normalize_quantize<R: Rounding>(
    sums: &[f32],
    stride: usize,
    totals: &[f32],
    to: To,
    places: &[Place],
) {
    let mut waiting = PendingBlocks::new(to);
    for ((row, totals), &(t, first)) in
        sums.chunks_exact(stride).zip(totals.chunks_exact(2)).zip(places)
    {
        let inverse = 1.0 / totals[1];
        for (b, x) in row.as_chunks::<BLOCK>().0.iter().enumerate() {
            // SAFETY: the caller owns these blocks, here and below.
            let block = unsafe { waiting.next::<R>((t, first + b)) };
            for k in 0..BLOCK {
                block[k] = x[k] * inverse;
            }
        }
    }
    unsafe { waiting.quantize::<R>() };
}

/// Rotates the pairs of one head, `x`, and multiplies by `factor` (Su et al. 2021, section
/// 3.4.2).
///
/// `angles` holds the cosines of all pairs, then the sines. The two values of a pair are
/// adjacent if `rope_interleaved` is set, and half a head apart otherwise.
#[inline(always)]
pub fn rotate(x: &mut [f32], angles: &[f32], rope_interleaved: bool, factor: f32) {
    let (cos, sin) = angles.split_at(x.len() / 2);
    if rope_interleaved {
        for ((pair, &c), &s) in x.chunks_exact_mut(2).zip(cos).zip(sin) {
            let (a, b) = (pair[0] * factor, pair[1] * factor);
            (pair[0], pair[1]) = (a * c - b * s, a * s + b * c);
        }
    } else {
        let (first, second) = x.split_at_mut(cos.len());
        for (((x, y), &c), &s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            let (a, b) = (*x * factor, *y * factor);
            (*x, *y) = (a * c - b * s, a * s + b * c);
        }
    }
}
