//! Activations rounded to bytes, 32 at a time: what the products with packed weights read.

use super::Kernel;
use super::memory::{Plain, Shared};
use super::rounding::Rounding;
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
impl Plain for [i8; BLOCK] {}
impl Plain for i32 {}

/// One token's blocks.
pub type Row<'a> = &'a [ActBlock];

/// Tokens that lie side by side in a [`Sixteen`].
pub const SIDE_BY_SIDE: usize = 16;
/// Sixteens of tokens that are multiplied with a tile together at most.
pub const SIXTEENS: usize = 4;

/// Rounded activations of sixteen tokens, block by block: what a unit reads that multiplies whole tiles. Of each block the
/// sixteen tokens lie together.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "no other CPU has such a unit"))]
pub struct Sixteen<'a> {
    /// Rounded values.
    pub quants: &'a [[i8; BLOCK]],
    /// Scales.
    pub scales: &'a [f32],
    /// Scales times sums.
    pub scaled_sums: &'a [f32],
    /// Sums of the quants.
    pub sums: &'a [i32],
}

#[cfg(target_arch = "x86_64")]
impl Sixteen<'_> {
    /// Blocks of a row.
    pub fn blocks(&self) -> usize {
        self.sums.len() / SIDE_BY_SIDE
    }
}

/// The arrays of [`Sixteen`]s.
#[derive(Debug)]
struct Sixteens {
    quants: Shared<[i8; BLOCK]>,
    scales: Shared<f32>,
    scaled_sums: Shared<f32>,
    sums: Shared<i32>,
}

/// Rounded activations of some tokens.
///
/// A block depends on its own 32 values alone, so a token's are the same whatever stands beside it.
#[derive(Debug)]
pub struct Acts {
    row: usize,
    all: Shared<ActBlock>,
    /// Tokens that a unit wants side by side.
    sixteens: Option<Sixteens>,
}

#[allow(unsafe_code)]
impl Acts {
    /// Room for `tokens` rows of `cols` values (filled up to whole blocks).
    pub fn new(cols: usize, tokens: usize) -> Self {
        let row = cols.div_ceil(BLOCK);
        Self { row, all: Shared::new(row * tokens), sixteens: None }
    }

    /// The same, with room for every sixteen tokens side by side, too, where `kernel` takes them so.
    pub fn for_kernel(kernel: &Kernel, cols: usize, tokens: usize) -> Self {
        let acts = Self::new(cols, tokens);
        if kernel.sixteen.is_none() {
            return acts;
        }
        let n = acts.row * tokens.next_multiple_of(SIDE_BY_SIDE);
        let (quants, scales, scaled_sums, sums) = (Shared::new(n), Shared::new(n), Shared::new(n), Shared::new(n));
        Self { sixteens: Some(Sixteens { quants, scales, scaled_sums, sums }), ..acts }
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

    /// Tokens `16 first` and so on, sixteen side by side in each; what was never put is zeros. Where there is no room for so many the
    /// last stands again. None where no kernel wants them so.
    ///
    /// # Safety
    /// No thread writes them while they live.
    pub unsafe fn sixteens(&self, first: usize) -> Option<[Sixteen<'_>; SIXTEENS]> {
        let all = self.sixteens.as_ref()?;
        let size = SIDE_BY_SIDE * self.row;
        let last = (all.sums.len() / size.max(1)).checked_sub(1)?;
        Some(std::array::from_fn(|i| {
            let n = (first + i).min(last);
            let range = n * size..(n + 1) * size;
            // SAFETY: the caller's promise, four times.
            unsafe {
                Sixteen {
                    quants: all.quants.read(range.clone()),
                    scales: all.scales.read(range.clone()),
                    scaled_sums: all.scaled_sums.read(range.clone()),
                    sums: all.sums.read(range),
                }
            }
        }))
    }

    /// Rounds `values` to where they go: whole blocks but for the row's end, what lacks there is zeros. Inlined, so that it is compiled
    /// for the instruction set of its caller.
    ///
    /// # Safety
    /// No other thread touches these blocks meanwhile, and the CPU has the instructions of `R`.
    #[inline(always)]
    pub unsafe fn put<R: Rounding>(to: To, values: &[f32]) {
        let (whole, rest) = values.as_chunks::<BLOCK>();
        for (i, block) in whole.iter().enumerate() {
            // SAFETY: the caller's promise, here and below.
            unsafe { Self::put_block::<R>(to, i, block) };
        }
        if !rest.is_empty() {
            let mut block = [0f32; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            unsafe { Self::put_block::<R>(to, whole.len(), &block) };
        }
    }

    /// Rounds block `b` of what goes there.
    ///
    /// # Safety
    /// As [`Self::put`].
    #[inline(always)]
    pub unsafe fn put_block<R: Rounding>(to: To, b: usize, values: &[f32; BLOCK]) {
        // SAFETY: the caller's promise.
        unsafe { Self::store(to, b, R::quantise(values)) };
    }

    /// Rounds blocks that go to these places behind `to`.
    ///
    /// # Safety
    /// As [`Self::put`], of all these blocks.
    #[inline(always)]
    pub unsafe fn put_some<R: Rounding>(to: To, blocks: &[[f32; BLOCK]], places: &[Place]) {
        let (pairs, single) = blocks.as_chunks::<2>();
        let (places, last) = places.as_chunks::<2>();
        for (pair, [first, second]) in pairs.iter().zip(places) {
            // SAFETY: the caller's promise, here and below.
            unsafe {
                let rounded = R::quantise_two(pair);
                Self::store(To { row: to.row + first.0, ..to }, first.1, rounded[0]);
                Self::store(To { row: to.row + second.0, ..to }, second.1, rounded[1]);
            }
        }
        for (block, at) in single.iter().zip(last) {
            unsafe { Self::store(To { row: to.row + at.0, ..to }, at.1, R::quantise(block)) };
        }
    }

    /// Stores block `b` of what goes there.
    ///
    /// # Safety
    /// As [`Self::put`].
    #[inline(always)]
    unsafe fn store(to: To, b: usize, (quants, scale, sum): ([i8; BLOCK], f32, i32)) {
        let (acts, t, b) = (to.acts, to.row, to.first + b);
        debug_assert!(b < acts.row);
        let scaled_sum = scale * sum as f32;
        if let Some(all) = acts.sixteens.as_ref().filter(|_| to.side_by_side) {
            let at = (t / SIDE_BY_SIDE * acts.row + b) * SIDE_BY_SIDE + t % SIDE_BY_SIDE;
            // SAFETY: the caller's promise: these elements are this token's and block's alone.
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

/// Where a block goes: so many rows further, and to that block of the row.
pub type Place = (usize, usize);

/// Where a row goes that is rounded.
#[derive(Clone, Copy, Debug)]
pub struct To<'a> {
    /// All rows.
    pub acts: &'a Acts,
    /// Which.
    pub row: usize,
    /// The block where it begins.
    pub first: usize,
    /// Whether it is to stand among sixteen, where a kernel takes them so, and not by itself.
    pub side_by_side: bool,
}
