//! AVX2 kernels, with and without AVX-VNNI.
//!
//! They process 8 rows of a tile at a time. With FMA and F16C alone, bytes are multiplied in pairs
//! into 16-bit sums; AVX-VNNI multiplies four bytes of a lane at once.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "closures of iterator chains are not always inlined into code for an instruction set"
)]

use std::arch::x86_64::*;

use super::acts::{ActBlock, Row};
use super::dispatch::{
    AHEAD, BYTES, NIBBLES, NIBBLES_MIN, Q4K, packing, tile_by_counts, weighted_sum_by_counts,
};
use super::kernel::{TileOutput, WeightedSums};
use super::tile::Packing;

/// Maximum number of tokens that share each load of weights.
pub const TOKENS: usize = 4;

/// Products for one set of features.
///
/// `$nibbles` and `$bytes` multiply a block of 8 rows by T tokens. `$more` is the offset that makes
/// signed bytes unsigned in those products.
macro_rules! products {
    ($name:ident, $features:literal, $nibbles:ident, $bytes:ident, $more:literal) => {
        pub mod $name {
            use super::*;

            tile_by_counts!([1 2 3 4], $features);

            /// Multiplies a tile by T tokens.
            ///
            /// Up to two tokens take both halves of a tile at once, so that it is read in one
            /// stream. With more there are not enough registers for that: they take one half after
            /// the other, and the second pass reads from the cache.
            #[target_feature(enable = $features)]
            unsafe fn multiply<const T: usize, const P: usize>(tile: &[u8], tokens: &[Row], out: TileOutput) {
                // SAFETY: as above.
                unsafe {
                    if T <= 2 {
                        halves::<T, P, 2>(tile, tokens, out, 0);
                    } else {
                        halves::<T, P, 1>(tile, tokens, out, 0);
                        halves::<T, P, 1>(tile, tokens, out, 1);
                    }
                }
            }

            /// Multiplies H halves of a tile, starting with half `first`.
            #[target_feature(enable = $features)]
            #[allow(clippy::needless_range_loop)] // half is also an offset
            unsafe fn halves<const T: usize, const P: usize, const H: usize>(
                tile: &[u8],
                tokens: &[Row],
                out: TileOutput,
                first: usize,
            ) {
                let p = packing(P);
                let blocks = tokens[0].len();
                debug_assert!(tile.len() == p.tile(blocks) && tokens.len() == T);
                let rows: [*const ActBlock; T] = std::array::from_fn(|t| tokens[t].as_ptr());
                let more = match P {
                    NIBBLES => 8,
                    BYTES => $more,
                    _ => 0,
                };
                let mut sums = [[_mm256_setzero_ps(); H]; T];
                for b in 0..blocks {
                    let (at, head) = p.place(b);
                    if first == 0 {
                        for line in 0..p.record().div_ceil(64) {
                            _mm_prefetch::<_MM_HINT_T0>(
                                tile.as_ptr().wrapping_add(at + AHEAD * p.record() + 64 * line).cast(),
                            );
                        }
                    }
                    for h in 0..H {
                        let half = first + h;
                        // SAFETY: records and super-scales of all blocks lie within the tile (the
                        // caller checks its size), and each row has `blocks` blocks.
                        unsafe {
                            let record = tile.as_ptr().add(at);
                            let (lines, scales) = (record.add(half * 32), record.add(p.quants()));
                            let x = rows.map(|row| row.add(b));
                            let whole: [__m256i; T] = if P == BYTES { $bytes::<T>(lines, x) } else { $nibbles::<T>(lines, x) };
                            let halves = |at: *const u8| _mm256_cvtph_ps(_mm_loadu_si128(at.cast()));
                            let byte = |at: *const u8| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast())));
                            let head = tile.as_ptr().add(head + half * 16);
                            let d = if P == Q4K {
                                _mm256_mul_ps(halves(head), byte(scales.add(half * 8)))
                            } else {
                                halves(scales.add(half * 16))
                            };
                            for t in 0..T {
                                let mut whole = whole[t];
                                if more != 0 {
                                    whole = _mm256_sub_epi32(whole, _mm256_set1_epi32(more * (*x[t]).sum));
                                }
                                let d = _mm256_mul_ps(d, _mm256_set1_ps((*x[t]).scale));
                                sums[t][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), d, sums[t][h]);
                            }
                            if P == NIBBLES_MIN || P == Q4K {
                                let m = if P == Q4K {
                                    let m = _mm256_mul_ps(halves(head.add(32)), byte(scales.add(16 + half * 8)));
                                    _mm256_sub_ps(_mm256_set1_ps(-0.0), m)
                                } else {
                                    halves(scales.add(32 + half * 16))
                                };
                                for t in 0..T {
                                    sums[t][h] = _mm256_fmadd_ps(m, _mm256_set1_ps((*x[t]).scaled_sum), sums[t][h]);
                                }
                            }
                        }
                    }
                }
                for (t, sums) in sums.iter().enumerate() {
                    for (h, sum) in sums.iter().enumerate() {
                        // SAFETY: the caller allows writes to 16 rows of each token.
                        unsafe {
                            let at = out.at.add(t * out.stride + (first + h) * 8);
                            let sum = if out.add { _mm256_add_ps(_mm256_loadu_ps(at), *sum) } else { *sum };
                            _mm256_storeu_ps(at, sum);
                        }
                    }
                }
            }
        }
    };
}

/// Defines block products with an instruction that multiplies four bytes of a lane.
macro_rules! vnni {
    ($dpbusd:ident, $features:literal, $nibbles:ident, $bytes:ident) => {
        /// Multiplies 8 rows of 32 unsigned nibbles by T tokens, with four products a lane.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn $nibbles<const T: usize>(
            lines: *const u8,
            x: [*const ActBlock; T],
        ) -> [__m256i; T] {
            let low = _mm256_set1_epi8(15);
            let mut whole = [_mm256_setzero_si256(); T];
            for j in 0..4 {
                // SAFETY: the caller's lines and rows hold a whole block.
                unsafe {
                    let w = _mm256_loadu_si256(lines.add(j * 64).cast());
                    let (lo, hi) =
                        (_mm256_and_si256(w, low), _mm256_and_si256(_mm256_srli_epi16(w, 4), low));
                    for t in 0..T {
                        whole[t] = $dpbusd(whole[t], lo, four(x[t], 4 * j));
                        whole[t] = $dpbusd(whole[t], hi, four(x[t], 16 + 4 * j));
                    }
                }
            }
            whole
        }

        /// Multiplies 8 rows of 32 signed bytes, each offset by 128, by T tokens.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn $bytes<const T: usize>(
            lines: *const u8,
            x: [*const ActBlock; T],
        ) -> [__m256i; T] {
            let mut whole = [_mm256_setzero_si256(); T];
            for j in 0..8 {
                // SAFETY: the caller's lines and rows hold a whole block.
                unsafe {
                    let w = _mm256_xor_si256(
                        _mm256_loadu_si256(lines.add(j * 64).cast()),
                        _mm256_set1_epi8(-128),
                    );
                    for t in 0..T {
                        whole[t] = $dpbusd(whole[t], w, four(x[t], 4 * j));
                    }
                }
            }
            whole
        }
    };
}

products!(avx2, "avx2,fma,f16c", nibbles, bytes, 0);
products!(vnni, "avx2,fma,f16c,avxvnni", vnni_nibbles, vnni_bytes, 128);
vnni!(_mm256_dpbusd_avx_epi32, "avx2,fma,f16c,avxvnni", vnni_nibbles, vnni_bytes);

// The same with a function that emulates the instruction as documented, since not every CPU that
// runs the tests has it.
#[cfg(test)]
products!(emulated, "avx2,fma,f16c", emulated_nibbles, emulated_bytes, 128);
#[cfg(test)]
vnni!(emulated_dpbusd, "avx2,fma,f16c", emulated_nibbles, emulated_bytes);

/// Computes `sum + a . b` in each 32-bit lane, with unsigned bytes in `a` and signed ones in `b`.
#[cfg(test)]
#[target_feature(enable = "avx2,fma,f16c")]
fn emulated_dpbusd(sum: __m256i, a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: all types are 32 bytes and have no invalid values.
    unsafe {
        let sum = std::mem::transmute::<__m256i, [i32; 8]>(sum);
        let (a, b) = (
            std::mem::transmute::<__m256i, [u8; 32]>(a),
            std::mem::transmute::<__m256i, [i8; 32]>(b),
        );
        let lane = |l: usize| {
            (4 * l..4 * l + 4)
                .map(|i| i32::from(a[i]) * i32::from(b[i]))
                .fold(sum[l], i32::wrapping_add)
        };
        std::mem::transmute::<[i32; 8], __m256i>(std::array::from_fn(lane))
    }
}

/// Multiplies 8 rows of 32 unsigned nibbles by T tokens.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn nibbles<const T: usize>(lines: *const u8, x: [*const ActBlock; T]) -> [__m256i; T] {
    let low = _mm256_set1_epi8(15);
    let mut pairs = [_mm256_setzero_si256(); T];
    for j in 0..4 {
        // SAFETY: the caller's lines and rows hold a whole block.
        unsafe {
            let w = _mm256_loadu_si256(lines.add(j * 64).cast());
            let (lo, hi) =
                (_mm256_and_si256(w, low), _mm256_and_si256(_mm256_srli_epi16(w, 4), low));
            for t in 0..T {
                // At most 8 sums of two products of 15 and 127: 30,480 fits in 16 bits.
                pairs[t] = _mm256_add_epi16(pairs[t], _mm256_maddubs_epi16(lo, four(x[t], 4 * j)));
                pairs[t] =
                    _mm256_add_epi16(pairs[t], _mm256_maddubs_epi16(hi, four(x[t], 16 + 4 * j)));
            }
        }
    }
    pairs.map(|pairs| _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// Multiplies 8 rows of 32 signed bytes by T tokens.
///
/// Computes |w| times x with the sign of w, since one factor must be unsigned.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn bytes<const T: usize>(lines: *const u8, x: [*const ActBlock; T]) -> [__m256i; T] {
    let mut whole = [_mm256_setzero_si256(); T];
    for j in 0..8 {
        // SAFETY: the caller's lines and rows hold a whole block.
        unsafe {
            let w = _mm256_loadu_si256(lines.add(j * 64).cast());
            let magnitude = _mm256_abs_epi8(w);
            for t in 0..T {
                // Two products of 128 and 127: 32,512 fits in 16 bits.
                let pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(four(x[t], 4 * j), w));
                whole[t] =
                    _mm256_add_epi32(whole[t], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
            }
        }
    }
    whole
}

/// Broadcasts four quants of a block, from number `from` on, to every lane.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn four(x: *const ActBlock, from: usize) -> __m256i {
    // SAFETY: the caller passes a valid block, which holds these four.
    _mm256_set1_epi32(unsafe { x.cast::<u8>().add(from).cast::<i32>().read_unaligned() })
}

/// Maximum number of rows that share each load of f16 values.
pub const WEIGHTED_ROWS: usize = 6;

weighted_sum_by_counts!([1: 2 2: 2 3: 2 4: 1 5: 1 6: 1], "avx2,fma,f16c");

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn weighted_sum_rows<const R: usize, const C: usize>(w: WeightedSums) {
    // SAFETY: [`WeightedSums`] guarantees that all accesses lie within its arrays.
    unsafe {
        let mut sums = [[[_mm256_setzero_ps(); 2]; C]; R];
        for r in 0..R {
            for c in 0..C {
                for i in 0..2 {
                    sums[r][c][i] = _mm256_loadu_ps(w.sums.add(r * w.sums_stride + 16 * c + 8 * i));
                }
            }
        }
        let a: [*const f32; R] = std::array::from_fn(|r| w.a.add(r * w.a_stride));
        for n in 0..w.n {
            for c in 0..C {
                for i in 0..2 {
                    let half = _mm256_cvtph_ps(_mm_loadu_si128(
                        w.halves.add(c * w.halves_stride + n * 16 + 8 * i).cast(),
                    ));
                    for r in 0..R {
                        sums[r][c][i] =
                            _mm256_fmadd_ps(_mm256_set1_ps(*a[r].add(n)), half, sums[r][c][i]);
                    }
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                for i in 0..2 {
                    _mm256_storeu_ps(w.sums.add(r * w.sums_stride + 16 * c + 8 * i), sums[r][c][i]);
                }
            }
        }
    }
}
