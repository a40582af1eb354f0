//! Activations rounded to bytes, 32 at a time: what the products with packed weights read.

use super::lanes;
use super::memory::{Plain, Shared};
use super::tile::BLOCK;

/// 32 rounded activations: x is about `scale * quant`, with scale = max |x| / 127. All that a product needs of them lies
/// together, so that one address a token does.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActBlock {
    /// The rounded values.
    pub quants: [i8; BLOCK],
    /// What one step is worth.
    pub scale: f32,
    /// scale * sum.
    pub scaled_sum: f32,
    /// Sum of the quants.
    pub sum: i32,
}

impl Plain for ActBlock {}

/// One token's blocks.
pub type Row<'a> = &'a [ActBlock];

/// Rounded activations of some tokens.
///
/// A block depends on its own 32 values alone, so a token's are the same whatever stands beside it.
#[derive(Debug)]
pub struct Acts {
    row: usize,
    all: Shared<ActBlock>,
}

#[allow(unsafe_code)]
impl Acts {
    /// Room for `tokens` rows of `cols` values (filled up to whole blocks).
    pub fn new(cols: usize, tokens: usize) -> Self {
        let row = cols.div_ceil(BLOCK);
        Self { row, all: Shared::new(row * tokens) }
    }

    /// Blocks of a row.
    pub fn blocks(&self) -> usize {
        self.row
    }

    /// Token `t`'s row.
    ///
    /// # Safety
    /// No thread writes it while the row lives.
    pub unsafe fn row(&self, t: usize) -> Row<'_> {
        // SAFETY: the caller's promise.
        unsafe { self.all.read(t * self.row..(t + 1) * self.row) }
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
            debug_assert!(first + i < self.row);
            let at = t * self.row + first + i;
            // SAFETY: the caller's promise.
            let block = unsafe { &mut self.all.write(at..at + 1)[0] };
            let (quants, scale) = lanes::quantise(&whole);
            let sum: i32 = quants.iter().map(|&q| i32::from(q)).sum();
            *block = ActBlock { quants, scale, scaled_sum: scale * sum as f32, sum };
        }
    }
}
