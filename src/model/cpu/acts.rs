//! Activations quantized to 8 bits in blocks of 32, for products with packed weights.
//!
//! Rows of single tokens serve the vector kernels; [`TokenGroup`] interleaves 16 tokens for a
//! matrix unit.

use super::lanes::QuantizedBlock;
use super::memory::{Pod, Shared};
use super::rounding::Rounding;
use super::tile::BLOCK;

/// Block of 32 quantized activations.
///
/// x is about `scale * quant`, with scale = max |x| / 127.
///
/// Everything that a product needs is stored together, so that one address per token suffices.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActBlock {
    /// Quantized values, one byte each.
    pub quants: [i8; BLOCK],
    /// Quantization step of the block.
    pub scale: f32,
    /// Product `scale * sum` of the block.
    pub scaled_sum: f32,
    /// Sum of the quants.
    pub sum: i32,
}

impl Pod for ActBlock {}
impl Pod for [i8; BLOCK] {}
impl Pod for i32 {}

/// Blocks of one token.
pub type Row<'a> = &'a [ActBlock];

/// Number of tokens interleaved in a [`TokenGroup`].
pub const GROUP_TOKENS: usize = 16;
/// Maximum number of 16-token groups multiplied with a tile in one call.
pub const MAX_GROUPS: usize = 4;

/// Quantized activations of 16 tokens, the layout that a matrix unit reads.
///
/// Block by block; within a block, the data of the 16 tokens is contiguous.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other CPU has such a unit"))]
pub struct TokenGroup<'a> {
    /// Quantized values, 16 tokens for each block.
    pub quants: &'a [[i8; BLOCK]],
    /// Quantization steps of the blocks.
    pub scales: &'a [f32],
    /// `scale * sum` of each block.
    pub scaled_sums: &'a [f32],
    /// Sum of the quants of each block.
    pub sums: &'a [i32],
}

#[cfg(target_arch = "x86_64")]
impl TokenGroup<'_> {
    /// Number of blocks in a row.
    pub fn blocks(&self) -> usize {
        self.sums.len() / GROUP_TOKENS
    }
}

/// Backing arrays of all [`TokenGroup`]s.
#[derive(Debug)]
struct TokenGroups {
    quants: Shared<[i8; BLOCK]>,
    scales: Shared<f32>,
    scaled_sums: Shared<f32>,
    sums: Shared<i32>,
}

/// Quantized activations of several tokens.
///
/// A block depends only on its own 32 values, so a token's blocks do not depend on the other
/// tokens.
#[derive(Debug)]
pub struct Acts {
    row: usize,
    all: Shared<ActBlock>,
    /// Tokens interleaved for a matrix unit, if the kernel has one.
    groups: Option<TokenGroups>,
}

#[allow(unsafe_code)]
impl Acts {
    /// Allocates `tokens` rows of `cols` values, each padded to whole blocks.
    pub fn new(cols: usize, tokens: usize) -> Self {
        let row = cols.div_ceil(BLOCK);
        Self { row, all: Shared::new(row * tokens), groups: None }
    }

    /// Like [`Acts::new`], with interleaved 16-token groups if `groups`, for a matrix unit.
    pub fn new_grouped(cols: usize, tokens: usize, groups: bool) -> Self {
        let acts = Self::new(cols, tokens);
        if !groups {
            return acts;
        }
        let n = acts.row * tokens.next_multiple_of(GROUP_TOKENS);
        let (quants, scales, scaled_sums, sums) =
            (Shared::new(n), Shared::new(n), Shared::new(n), Shared::new(n));
        Self { groups: Some(TokenGroups { quants, scales, scaled_sums, sums }), ..acts }
    }

    /// Number of blocks in a row.
    pub fn blocks(&self) -> usize {
        self.row
    }

    /// Returns the row of token `t`.
    ///
    /// # Safety
    /// No thread writes it while the row lives.
    pub unsafe fn row(&self, t: usize) -> Row<'_> {
        // SAFETY: guaranteed by the caller.
        unsafe { self.all.read(t * self.row..(t + 1) * self.row) }
    }

    /// Returns 16-token groups from number `first` on; `None` if the kernel has no matrix unit.
    ///
    /// Blocks that were never stored are zeros. Past the end, the last group is repeated.
    ///
    /// # Safety
    /// No thread writes them while they live.
    pub unsafe fn token_groups(&self, first: usize) -> Option<[TokenGroup<'_>; MAX_GROUPS]> {
        let all = self.groups.as_ref()?;
        let size = GROUP_TOKENS * self.row;
        let last = (all.sums.len() / size.max(1)).checked_sub(1)?;
        Some(std::array::from_fn(|i| {
            let n = (first + i).min(last);
            let range = n * size..(n + 1) * size;
            // SAFETY: guaranteed by the caller, for all four slices.
            unsafe {
                TokenGroup {
                    quants: all.quants.read(range.clone()),
                    scales: all.scales.read(range.clone()),
                    scaled_sums: all.scaled_sums.read(range.clone()),
                    sums: all.sums.read(range),
                }
            }
        }))
    }

    /// Quantizes `values` to `to`, in whole blocks; the last one is padded with zeros.
    ///
    /// Inlined, so that it is compiled for the instruction set of its caller.
    ///
    /// # Safety
    /// No other thread accesses these blocks meanwhile, and the CPU supports the instructions of
    /// `R`.
    #[inline(always)]
    pub unsafe fn put<R: Rounding>(to: To, values: &[f32]) {
        let (whole, rest) = values.as_chunks::<BLOCK>();
        for (i, block) in whole.iter().enumerate() {
            // SAFETY: guaranteed by the caller, here and below.
            unsafe { Self::put_block::<R>(to, i, block) };
        }
        if !rest.is_empty() {
            let mut block = [0f32; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            unsafe { Self::put_block::<R>(to, whole.len(), &block) };
        }
    }

    /// Quantizes `values` into block `b` after `to`.
    ///
    /// # Safety
    /// As [`Self::put`].
    #[inline(always)]
    pub unsafe fn put_block<R: Rounding>(to: To, b: usize, values: &[f32; BLOCK]) {
        // SAFETY: guaranteed by the caller.
        unsafe { Self::store(to, b, R::quantize(values)) };
    }

    /// Quantizes each of `blocks` and stores it at its place, relative to `to`.
    ///
    /// Two blocks at a time, which is faster than one after the other.
    ///
    /// # Safety
    /// As [`Self::put`], for all these blocks.
    #[inline(always)]
    pub unsafe fn put_blocks<R: Rounding>(to: To, blocks: &[[f32; BLOCK]], places: &[Place]) {
        let (pairs, single) = blocks.as_chunks::<2>();
        let (places, last) = places.as_chunks::<2>();
        for (pair, [first, second]) in pairs.iter().zip(places) {
            // SAFETY: guaranteed by the caller, here and below.
            unsafe {
                let rounded = R::quantize_two(pair);
                Self::store(To { row: to.row + first.0, ..to }, first.1, rounded[0]);
                Self::store(To { row: to.row + second.0, ..to }, second.1, rounded[1]);
            }
        }
        for (block, at) in single.iter().zip(last) {
            unsafe { Self::store(To { row: to.row + at.0, ..to }, at.1, R::quantize(block)) };
        }
    }

    /// Stores a quantized block as block `b` after `to`.
    ///
    /// # Safety
    /// As [`Self::put`].
    #[inline(always)]
    unsafe fn store(to: To, b: usize, (quants, scale, sum): QuantizedBlock) {
        let (acts, t, b) = (to.acts, to.row, to.first + b);
        debug_assert!(b < acts.row);
        let scaled_sum = scale * sum as f32;
        if let Some(all) = acts.groups.as_ref().filter(|_| to.interleaved) {
            let at = (t / GROUP_TOKENS * acts.row + b) * GROUP_TOKENS + t % GROUP_TOKENS;
            // SAFETY: guaranteed by the caller: no other thread accesses this token's and block's
            // elements.
            unsafe {
                all.quants.write(at..at + 1)[0] = quants;
                all.scales.write(at..at + 1)[0] = scale;
                all.scaled_sums.write(at..at + 1)[0] = scaled_sum;
                all.sums.write(at..at + 1)[0] = sum;
            }
        } else {
            let at = t * acts.row + b;
            // SAFETY: as above.
            unsafe { acts.all.write(at..at + 1)[0] = ActBlock { quants, scale, scaled_sum, sum } };
        }
    }
}

/// Row offset and block index within that row.
pub type Place = (usize, usize);

/// Destination of a quantized row.
#[derive(Clone, Copy, Debug)]
pub struct To<'a> {
    /// Array of all rows.
    pub acts: &'a Acts,
    pub row: usize,
    /// Index of the first block within the row.
    pub first: usize,
    /// Stores into the interleaved 16-token groups instead of the plain rows, if they exist.
    pub interleaved: bool,
}
