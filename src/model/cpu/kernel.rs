//! Table of the functions compiled for one instruction set, and their arguments.

use std::ops::Range;

use super::acts::{Place, Row, To, TokenGroup};
use super::cache::Cache;
use super::tile::{Packing, ROWS};

/// Destination for the products of one tile: 16 rows for each token.
#[derive(Clone, Copy)]
pub(super) struct TileOutput {
    /// Pointer to the first row of the first token.
    pub at: *mut f32,
    /// Distance between consecutive tokens, in elements.
    pub stride: usize,
    /// Adds to the existing values if `true`; overwrites them otherwise.
    pub add: bool,
}

/// Arguments of the weighted-sum kernel, the inner loop of attention.
///
/// For each row r, column group c (16 columns) and column i: `sums[r][16 c + i] += sum over n of
/// a[r][n] * halves[c][n][i]`, with n in order.
///
/// Its creator guarantees that the arrays hold these elements, and that no other thread
/// accesses the sums meanwhile.
#[derive(Clone, Copy)]
pub(super) struct WeightedSums {
    /// `n` terms of 16 f16 values for each column group.
    pub halves: *const u16,
    /// Distance between consecutive column groups of `halves`, in elements.
    pub halves_stride: usize,
    /// Number of 16-column groups.
    pub column_groups: usize,
    /// Number of terms in each sum.
    pub n: usize,
    /// Factors of the first row, `n` of them.
    pub a: *const f32,
    /// Distance between consecutive rows of factors, in elements.
    pub a_stride: usize,
    pub rows: usize,
    /// Sums of the first row, 16 for each column group.
    pub sums: *mut f32,
    /// Distance between consecutive rows of sums, in elements.
    pub sums_stride: usize,
}

impl WeightedSums {
    /// Restricts the operation to `rows` rows from row `first` on.
    pub fn part(&self, first: usize, rows: usize) -> WeightedSums {
        let a = self.a.wrapping_add(first * self.a_stride);
        WeightedSums { a, rows, sums: self.sums.wrapping_add(first * self.sums_stride), ..*self }
    }

    /// Restricts the operation to the column groups from number `first` on.
    pub fn columns(&self, first: usize) -> WeightedSums {
        let halves = self.halves.wrapping_add(first * self.halves_stride);
        WeightedSums {
            halves,
            column_groups: self.column_groups - first,
            sums: self.sums.wrapping_add(first * ROWS),
            ..*self
        }
    }
}

/// Products on a matrix unit that multiplies whole tiles by 16-token groups.
#[derive(Debug)]
pub(super) struct MatrixUnit {
    /// Configures the unit for this thread's calls of `tile`.
    pub begin: unsafe fn(),
    /// Multiplies a tile by the first `usize` tokens of up to
    /// [`MAX_GROUPS`](super::acts::MAX_GROUPS) 16-token groups.
    ///
    /// Only the last group may be partial.
    pub tile: unsafe fn(Packing, &[u8], &[TokenGroup], usize, TileOutput),
    /// Releases the unit on this thread.
    pub end: unsafe fn(),
}

/// Table of the functions compiled for one instruction set.
///
/// All sets give bit-identical results.
///
/// Every function is unsafe to call for two reasons: the CPU must support the set, which
/// [`Kernel::detect`] ensures, and no other thread may access what they write, as `memory::Shared`
/// requires.
#[derive(Debug)]
pub struct Kernel {
    /// Display name of the instruction set.
    pub name: &'static str,
    /// Maximum number of tokens in one call of `tile`.
    pub(super) tokens: usize,
    /// Maximum number of rows in one call of `weighted_sum`.
    pub(super) rows: usize,
    pub(super) tile: unsafe fn(Packing, &[u8], &[Row], TileOutput),
    /// Maximum number of tokens with two consecutive nibble tiles; `None` if unsupported.
    pub(super) pair: Option<usize>,
    /// Matrix unit that is faster with many tokens, if the CPU has one.
    pub(super) matrix_unit: Option<&'static MatrixUnit>,
    pub(super) weighted_sum: unsafe fn(WeightedSums),
    pub(super) norm: unsafe fn(&[f32], &[f32], f32, To, Range<usize>),
    pub(super) quantize: unsafe fn(&[f32], To),
    pub(super) swiglu: unsafe fn(&[f32], usize, usize, To),
    pub(super) normalize_quantize: unsafe fn(&[f32], usize, &[f32], To, &[Place]),
    pub(super) softmax: unsafe fn(&mut [f32], usize) -> (f32, f32),
    pub(super) axpby: unsafe fn(&mut [f32], f32, &[f32], f32),
    /// Stores a key; the array holds layer, head and slot. `put_value` does the same for a value.
    pub(super) put_key: unsafe fn(&Cache, [usize; 3], &[f32]),
    pub(super) put_value: unsafe fn(&Cache, [usize; 3], &[f32]),
    pub(super) rotate: unsafe fn(&mut [f32], &[f32], bool, f32),
}

impl Kernel {
    /// Maximum number of tokens with two tiles of `packing`; `None` if unsupported.
    pub(super) fn paired(&self, packing: Packing) -> Option<usize> {
        self.pair.filter(|_| packing != Packing::Bytes)
    }
}
