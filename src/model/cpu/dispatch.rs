//! Dispatch from run-time values (packing, token count, row count) to code compiled for them.
//!
//! Shared by the kernels of all instruction sets.

use super::tile::Packing;

/// Prefetch distance into L1, in blocks.
///
/// Hardware prefetching is not enough: with a few tokens, the loop over a block is too long to keep
/// many cache lines in flight.
#[cfg(target_arch = "x86_64")]
pub const AHEAD: usize = 10;
/// Prefetch distance into L2, in blocks.
///
/// The hardware prefetcher stops at the end of each 4 KiB page and starts again in the next one.
#[cfg(target_arch = "x86_64")]
pub const FAR: usize = 64;

/// [`Packing`] as a constant for const generics: nibbles without a minimum.
pub const NIBBLES: usize = 0;
/// Nibbles with a minimum.
pub const NIBBLES_MIN: usize = 1;
/// Nibbles with scales of super-blocks.
pub const Q4K: usize = 2;
/// 8-bit values with one scale.
pub const BYTES: usize = 3;

/// Converts such a constant to its [`Packing`].
pub const fn packing(p: usize) -> Packing {
    match p {
        NIBBLES => Packing::Nibbles { min: false },
        NIBBLES_MIN => Packing::Nibbles { min: true },
        Q4K => Packing::Q4K,
        _ => Packing::Bytes,
    }
}

/// Defines `tile`, which calls `multiply::<T, P>(tile, tokens, out)` for each token count T.
///
/// `multiply` is looked up in the module that invokes the macro.
macro_rules! tile_by_counts {
    ([$($count:literal)*] $(, $features:literal)?) => {
        /// Multiplies one tile, or two if the kernel supports pairs, by up to [`TOKENS`] tokens.
        ///
        /// # Safety
        /// The CPU has the features. `tile` holds one or two whole tiles of `p` with as many blocks
        /// as the rows have; `out` may be written at each token's rows, 16 for each tile.
        $(#[target_feature(enable = $features)])?
        pub unsafe fn tile(p: Packing, tile: &[u8], tokens: &[Row], out: TileOutput) {
            // SAFETY: the caller upholds the callee's requirements; the token count is that of the
            // slice.
            unsafe {
                match p {
                    Packing::Nibbles { min: false } => by_count::<NIBBLES>(tile, tokens, out),
                    Packing::Nibbles { min: true } => by_count::<NIBBLES_MIN>(tile, tokens, out),
                    Packing::Q4K => by_count::<Q4K>(tile, tokens, out),
                    Packing::Bytes => by_count::<BYTES>(tile, tokens, out),
                }
            }
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn by_count<const P: usize>(tile: &[u8], tokens: &[Row], out: TileOutput) {
            // SAFETY: as above.
            unsafe {
                match tokens.len() {
                    $($count => multiply::<$count, P>(tile, tokens, out),)*
                    n => unreachable!("{n} tokens at once"),
                }
            }
        }
    };
}

/// Defines `weighted_sum`, which calls `weighted_sum_rows::<R, C>(w)` for each row count R.
///
/// `weighted_sum_rows` is looked up in the module that invokes the macro. C is the number of column
/// groups computed at once, given after each row count: with few rows and a single group, each sum
/// would wait for the previous one.
macro_rules! weighted_sum_by_counts {
    ([$($count:literal: $columns:literal)*] $(, $features:literal)?) => {
        /// Computes the weighted sums described by [`WeightedSums`].
        ///
        /// # Safety
        /// The CPU has the features, and `w` fulfills the guarantees of [`WeightedSums`] with at
        /// most [`WEIGHTED_ROWS`] rows.
        $(#[target_feature(enable = $features)])?
        pub unsafe fn weighted_sum(w: WeightedSums) {
            // SAFETY: the caller upholds the callee's requirements.
            unsafe {
                match w.rows {
                    $($count => weighted_sum_columns::<$count, $columns>(w),)*
                    n => unreachable!("{n} rows at once"),
                }
            }
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn weighted_sum_columns<const R: usize, const C: usize>(w: WeightedSums) {
            let mut c = 0;
            // SAFETY: as above.
            unsafe {
                while c + C <= w.column_groups {
                    weighted_sum_rows::<R, C>(w.columns(c));
                    c += C;
                }
                while c < w.column_groups {
                    weighted_sum_rows::<R, 1>(w.columns(c));
                    c += 1;
                }
            }
        }
    };
}

pub(super) use {tile_by_counts, weighted_sum_by_counts};
