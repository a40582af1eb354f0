//! Activations rounded to bytes, 32 at a time: what the products with packed weights read.

use super::lanes;
use super::memory::Shared;
use super::tile::BLOCK;

/// Rounded activations of some tokens. For each block of 32: x is about `scale * quant`, with scale = max |x| / 127.
///
/// A block depends on its own 32 values alone, so a token's are the same whatever stands beside it.
#[derive(Debug)]
pub struct Acts {
    blocks: usize,
    quants: Shared<i8>,
    scale: Shared<f32>,
    sum: Shared<i32>,
    scaled_sum: Shared<f32>,
}

/// One token's blocks, to be read.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// 32 a block.
    pub quants: &'a [i8],
    /// Of each block.
    pub scale: &'a [f32],
    /// Sum of each block's quants.
    pub sum: &'a [i32],
    /// scale * sum.
    pub scaled_sum: &'a [f32],
}

#[allow(unsafe_code)]
impl Acts {
    /// Room for `tokens` rows of `cols` values (filled up to whole blocks).
    pub fn new(cols: usize, tokens: usize) -> Self {
        let blocks = cols.div_ceil(BLOCK);
        let n = blocks * tokens;
        Self { blocks, quants: Shared::new(n * BLOCK), scale: Shared::new(n), sum: Shared::new(n), scaled_sum: Shared::new(n) }
    }

    /// Blocks of a row.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Token `t`'s row.
    ///
    /// # Safety
    /// No thread writes it while the row lives.
    pub unsafe fn row(&self, t: usize) -> Row<'_> {
        let (from, to) = (t * self.blocks, (t + 1) * self.blocks);
        // SAFETY: the caller's promise.
        unsafe {
            Row {
                quants: self.quants.read(from * BLOCK..to * BLOCK),
                scale: self.scale.read(from..to),
                sum: self.sum.read(from..to),
                scaled_sum: self.scaled_sum.read(from..to),
            }
        }
    }

    /// Rounds blocks of token `t` from `first` on; `values` are whole blocks but for the row's end. Inlined, so that it is
    /// compiled for the instruction set of its caller.
    ///
    /// # Safety
    /// No other thread touches these blocks meanwhile.
    #[inline(always)]
    pub unsafe fn put(&self, t: usize, first: usize, values: &[f32]) {
        for (i, values) in values.chunks(BLOCK).enumerate() {
            let mut whole = [0f32; BLOCK];
            whole[..values.len()].copy_from_slice(values);
            let at = t * self.blocks + first + i;
            debug_assert!(first + i < self.blocks);
            // SAFETY: the caller's promise.
            let (quants, scale, sum, scaled_sum) = unsafe {
                (
                    self.quants.write(at * BLOCK..(at + 1) * BLOCK),
                    self.scale.write(at..at + 1),
                    self.sum.write(at..at + 1),
                    self.scaled_sum.write(at..at + 1),
                )
            };
            let (quant, d) = lanes::quantise(&whole);
            let total: i32 = quant.iter().map(|&q| i32::from(q)).sum();
            quants.copy_from_slice(&quant);
            (scale[0], sum[0], scaled_sum[0]) = (d, total, d * total as f32);
        }
    }
}
