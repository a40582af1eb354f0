//! AVX-512 with VNNI: all 16 rows of a tile in one register, four products of bytes a lane in one instruction.
//!
//! The same source is made twice: with the instructions, and in tests with functions that do what each instruction is documented
//! to do, since not every CPU that runs the tests has them.
#![allow(unsafe_code)]

use super::dispatch::{AHEAD, BYTES, FAR, NIBBLES, NIBBLES_MIN, SUPER, packing, tile_by_counts, weigh_by_counts};
use super::tile::Packing;

/// Tokens that share each load of weights: two sums for each fit into the 32 registers with room for the weights.
pub const TOKENS: usize = 8;

/// Rows that share each load of halves.
pub const WEIGHED: usize = 12;

/// Terms between the one that is weighed and the one that is asked for: keys and values are too many for the nearest cache.
const WEIGHED_AHEAD: usize = 48;

/// The kernel over the instructions in `$arch`, compiled for `$features`.
macro_rules! kernel {
    ($name:ident, $arch:path $(, $features:literal)?) => {
        pub mod $name {
            use $arch::*;

            use super::*;
            use crate::model::kernels::acts::{ActBlock, Row};
            use crate::model::kernels::{Out, Weigh};

            tile_by_counts!([1 2 3 4 5 6 7 8] $(, $features)?);

            $(#[target_feature(enable = $features)])?
            unsafe fn multiply<const T: usize, const P: usize>(tile: &[u8], tokens: &[Row], out: Out) {
                let p = packing(P);
                let blocks = tokens[0].len();
                debug_assert!(tile.len() == p.tile(blocks) && tokens.len() == T);
                let rows: [*const ActBlock; T] = std::array::from_fn(|t| tokens[t].as_ptr());
                let mut sums = [_mm512_setzero_ps(); T];
                let (low, sign) = (_mm512_set1_epi8(15), _mm512_set1_epi8(-128));
                for b in 0..blocks {
                    let at = p.place(b).0;
                    // SAFETY: records and heads of all blocks lie inside the tile (its size is checked by the caller), and each row
                    // has `blocks` blocks.
                    unsafe {
                        let record = tile.as_ptr().add(at);
                        for line in 0..p.record().div_ceil(64) {
                            _mm_prefetch::<_MM_HINT_T0>(record.wrapping_add(AHEAD * p.record() + 64 * line).cast());
                            _mm_prefetch::<_MM_HINT_T1>(record.wrapping_add(FAR * p.record() + 64 * line).cast());
                        }
                        let mut x = rows;
                        for t in 0..T {
                            x[t] = rows[t].add(b);
                        }
                        // Weights are unsigned in these products. Those of bytes are 128 too large then, those of centred nibbles 8.
                        let more = match P {
                            NIBBLES => 8,
                            BYTES => 128,
                            _ => 0,
                        };
                        let mut whole = [_mm512_setzero_si512(); T];
                        if more > 0 {
                            for t in 0..T {
                                whole[t] = _mm512_set1_epi32(-more * (*x[t]).sum);
                            }
                        }
                        // With few tokens the products of one sum would wait for each other.
                        let mut other = [_mm512_setzero_si512(); T];
                        // These loops stand here and in no function of their own: where the compiler does not inline it, sums go through
                        // memory, which takes half as long again.
                        if P == BYTES {
                            for j in 0..8 {
                                let w = _mm512_xor_si512(_mm512_loadu_si512(record.add(j * 64).cast()), sign);
                                for t in 0..T {
                                    let sum = if T <= 2 && j % 2 == 1 { &mut other[t] } else { &mut whole[t] };
                                    *sum = _mm512_dpbusd_epi32(*sum, w, four(x[t], 4 * j));
                                }
                            }
                        } else {
                            for j in 0..4 {
                                let w = _mm512_loadu_si512(record.add(j * 64).cast());
                                let (lo, hi) = (_mm512_and_si512(w, low), _mm512_and_si512(_mm512_srli_epi16(w, 4), low));
                                for t in 0..T {
                                    whole[t] = _mm512_dpbusd_epi32(whole[t], lo, four(x[t], 4 * j));
                                    let high = if T <= 2 { &mut other[t] } else { &mut whole[t] };
                                    *high = _mm512_dpbusd_epi32(*high, hi, four(x[t], 16 + 4 * j));
                                }
                            }
                        }
                        if T <= 2 {
                            for t in 0..T {
                                whole[t] = _mm512_add_epi32(whole[t], other[t]);
                            }
                        }
                        let (d, m) = scales::<P>(tile.as_ptr(), b);
                        for t in 0..T {
                            let d = _mm512_mul_ps(d, _mm512_set1_ps((*x[t]).scale));
                            sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[t]), d, sums[t]);
                        }
                        if P == NIBBLES_MIN || P == SUPER {
                            for t in 0..T {
                                sums[t] = _mm512_fmadd_ps(m, _mm512_set1_ps((*x[t]).scaled_sum), sums[t]);
                            }
                        }
                    }
                }
                // SAFETY: the caller lets us write 16 rows of each token.
                unsafe { put(&sums, out) };
            }

            /// Writes the sums of some tokens, or adds them to what is there.
            ///
            /// # Safety
            /// The CPU has the features; `out` may be written at each token's 16 rows.
            $(#[target_feature(enable = $features)])?
            #[inline]
            pub unsafe fn put(sums: &[__m512], out: Out) {
                for (t, sum) in sums.iter().enumerate() {
                    // SAFETY: the caller's promise.
                    unsafe {
                        let at = out.at.add(t * out.stride);
                        let sum = if out.add { _mm512_add_ps(_mm512_loadu_ps(at), *sum) } else { *sum };
                        _mm512_storeu_ps(at, sum);
                    }
                }
            }

            /// What the quants of block `b` are worth in each row, and the minimum, where there is one.
            ///
            /// # Safety
            /// The CPU has the features; the tile, of that packing, has this block.
            $(#[target_feature(enable = $features)])?
            #[inline]
            pub unsafe fn scales<const P: usize>(tile: *const u8, b: usize) -> (__m512, __m512) {
                let (at, head) = packing(P).place(b);
                // SAFETY: scales and heads of all blocks lie inside the tile.
                unsafe {
                    let (scales, head) = (tile.add(at + packing(P).quants()), tile.add(head));
                    let half = |at: *const u8| _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()));
                    let byte = |at: *const u8| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())));
                    match P {
                        SUPER => {
                            let m = _mm512_mul_ps(half(head.add(32)), byte(scales.add(16)));
                            (_mm512_mul_ps(half(head), byte(scales)), _mm512_sub_ps(_mm512_set1_ps(-0.0), m))
                        }
                        NIBBLES_MIN => (half(scales), half(scales.add(32))),
                        _ => (half(scales), _mm512_setzero_ps()),
                    }
                }
            }

            /// Four quants of a block, from number `from` on, in every lane.
            $(#[target_feature(enable = $features)])?
            #[inline]
            unsafe fn four(x: *const ActBlock, from: usize) -> __m512i {
                // SAFETY: it is a block, says the caller, and has these four.
                _mm512_set1_epi32(unsafe { x.cast::<u8>().add(from).cast::<i32>().read_unaligned() })
            }

            weigh_by_counts!([1: 4 2: 4 3: 4 4: 4 5: 4 6: 4 7: 2 8: 2 9: 2 10: 2 11: 2 12: 2] $(, $features)?);

            $(#[target_feature(enable = $features)])?
            unsafe fn weigh_rows<const R: usize, const C: usize>(w: Weigh) {
                // SAFETY: [`Weigh`] promises that all of these lie in its arrays.
                unsafe {
                    let mut sums: [[__m512; C]; R] = [[_mm512_setzero_ps(); C]; R];
                    for r in 0..R {
                        for c in 0..C {
                            sums[r][c] = _mm512_loadu_ps(w.sums.add(r * w.sums_stride + 16 * c));
                        }
                    }
                    // One address for three rows: there are not enough registers for one each.
                    let mut a: [*const f32; WEIGHED / 3] = std::array::from_fn(|i| w.a.wrapping_add(3 * i * w.a_stride));
                    let mut at = w.halves;
                    // Where the terms lie one after the other, those of the next sixteens begin behind these.
                    let ahead = if w.halves_stride == 16 * w.n { C * w.halves_stride } else { WEIGHED_AHEAD * 16 };
                    for _ in 0..w.n {
                        let mut halves = [_mm512_setzero_ps(); C];
                        for c in 0..C {
                            let at = at.wrapping_add(c * w.halves_stride);
                            halves[c] = _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()));
                            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(ahead).cast());
                        }
                        for r in 0..R {
                            let a = _mm512_set1_ps(*a[r / 3].add(r % 3 * w.a_stride));
                            for c in 0..C {
                                sums[r][c] = _mm512_fmadd_ps(a, halves[c], sums[r][c]);
                            }
                        }
                        for a in &mut a {
                            *a = a.wrapping_add(1);
                        }
                        at = at.wrapping_add(16);
                    }
                    for r in 0..R {
                        for c in 0..C {
                            _mm512_storeu_ps(w.sums.add(r * w.sums_stride + 16 * c), sums[r][c]);
                        }
                    }
                }
            }
        }
    };
}

kernel!(real, std::arch::x86_64, "avx512f,avx512bw,avx512vnni");

#[cfg(test)]
kernel!(emulated, crate::model::kernels::emulation);
