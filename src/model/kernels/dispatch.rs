//! From what is known when the program runs (the packing, how many tokens, how many rows) to code that was compiled for it: the
//! same for every instruction set.

use super::tile::Packing;

/// Blocks between the one that is multiplied and the one that is asked for from memory. What the CPU foresees by itself is not
/// enough: with a few tokens the loop over a block is too long for it to have many lines under way.
#[cfg(target_arch = "x86_64")]
pub const AHEAD: usize = 10;
/// Blocks between the one that is multiplied and the one that is asked for into the second cache: the CPU by itself foresees to
/// the end of a page of 4 KiB, and waits anew at the beginning of each.
#[cfg(target_arch = "x86_64")]
pub const FAR: usize = 64;

/// Packings as constants that code can be compiled for.
pub const NIBBLES: usize = 0;
/// Nibbles with a minimum.
pub const NIBBLES_MIN: usize = 1;
/// Nibbles with super-scales.
pub const SUPER: usize = 2;
/// Bytes.
pub const BYTES: usize = 3;

/// The packing of such a constant.
pub const fn packing(p: usize) -> Packing {
    match p {
        NIBBLES => Packing::Nibbles { min: false },
        NIBBLES_MIN => Packing::Nibbles { min: true },
        SUPER => Packing::Super,
        _ => Packing::Bytes,
    }
}

/// Makes `tile`, which calls `multiply::<T, P>(tile, tokens, out)` of the place where it stands, for each of the counts of tokens.
macro_rules! tile_by_counts {
    ([$($count:literal)*] $(, $features:literal)?) => {
        /// One tile times up to [`TOKENS`] tokens, or two where the kernel takes them.
        ///
        /// # Safety
        /// The CPU has the features. `tile` holds a whole tile of `p` for as many blocks as the rows have, or two; `out` may be
        /// written at each token's rows, 16 a tile.
        $(#[target_feature(enable = $features)])?
        pub unsafe fn tile(p: Packing, tile: &[u8], tokens: &[Row], out: Out) {
            // SAFETY: the caller's promises are those of the callee; the count of tokens is that of the slice.
            unsafe {
                match p {
                    Packing::Nibbles { min: false } => by_count::<NIBBLES>(tile, tokens, out),
                    Packing::Nibbles { min: true } => by_count::<NIBBLES_MIN>(tile, tokens, out),
                    Packing::Super => by_count::<SUPER>(tile, tokens, out),
                    Packing::Bytes => by_count::<BYTES>(tile, tokens, out),
                }
            }
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn by_count<const P: usize>(tile: &[u8], tokens: &[Row], out: Out) {
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

/// Makes `weigh`, which calls `weigh_rows::<R, C>(w)` of the place where it stands, for each of the counts of rows, with as many
/// sixteens of columns at once as stand beside it: few rows alone would wait for each other's sums.
macro_rules! weigh_by_counts {
    ([$($count:literal: $columns:literal)*] $(, $features:literal)?) => {
        /// See [`Weigh`].
        ///
        /// # Safety
        /// The CPU has the features, and `w` keeps the promises of [`Weigh`], with at most [`WEIGHED`] rows.
        $(#[target_feature(enable = $features)])?
        pub unsafe fn weigh(w: Weigh) {
            // SAFETY: the caller's promises are those of the callee.
            unsafe {
                match w.rows {
                    $($count => weigh_columns::<$count, $columns>(w),)*
                    n => unreachable!("{n} rows at once"),
                }
            }
        }

        $(#[target_feature(enable = $features)])?
        unsafe fn weigh_columns<const R: usize, const C: usize>(w: Weigh) {
            let mut c = 0;
            // SAFETY: as above.
            unsafe {
                while c + C <= w.sixteens {
                    weigh_rows::<R, C>(w.columns(c));
                    c += C;
                }
                while c < w.sixteens {
                    weigh_rows::<R, 1>(w.columns(c));
                    c += 1;
                }
            }
        }
    };
}

pub(super) use {tile_by_counts, weigh_by_counts};
