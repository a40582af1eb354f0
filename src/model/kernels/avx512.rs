//! AVX-512 with VNNI: all 16 rows of a tile in one register, four products of bytes a lane in one instruction.
//!
//! The same source is made twice: with the instructions, and in tests with functions that do what each instruction is documented
//! to do, since not every CPU that runs the tests has them.
#![allow(unsafe_code)]

use super::tile::Packing;

/// Tokens that share each load of weights: two sums for each fit into the 32 registers with room for the weights.
pub const TOKENS: usize = 8;

const NIBBLES: usize = 0;
const NIBBLES_MIN: usize = 1;
const SUPER: usize = 2;
const BYTES: usize = 3;

const fn packing(p: usize) -> Packing {
    match p {
        NIBBLES => Packing::Nibbles { min: false },
        NIBBLES_MIN => Packing::Nibbles { min: true },
        SUPER => Packing::Super,
        _ => Packing::Bytes,
    }
}

/// Rows that share each load of halves.
pub const WEIGHED: usize = 12;

/// The kernel over the instructions in `$arch`, compiled for `$features`.
macro_rules! kernel {
    ($name:ident, $arch:path $(, $features:literal)?) => {
        pub mod $name {
            use $arch::*;

            use super::*;
            use crate::model::kernels::acts::Row;
            use crate::model::kernels::tile::BLOCK;
            use crate::model::kernels::{Out, Weigh};

            /// One tile times up to [`TOKENS`] tokens.
            ///
            /// # Safety
            /// The CPU has AVX-512 F, BW and VNNI. `tile` holds a whole tile of `p` for as many blocks as the rows have; `out` may be
            /// written at each token's 16 rows.
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
                        1 => multiply::<1, P>(tile, tokens, out),
                        2 => multiply::<2, P>(tile, tokens, out),
                        3 => multiply::<3, P>(tile, tokens, out),
                        4 => multiply::<4, P>(tile, tokens, out),
                        5 => multiply::<5, P>(tile, tokens, out),
                        6 => multiply::<6, P>(tile, tokens, out),
                        7 => multiply::<7, P>(tile, tokens, out),
                        8 => multiply::<8, P>(tile, tokens, out),
                        n => unreachable!("{n} tokens at once"),
                    }
                }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn multiply<const T: usize, const P: usize>(tile: &[u8], tokens: &[Row], out: Out) {
                let p = packing(P);
                let blocks = tokens[0].scale.len();
                debug_assert!(tile.len() == p.tile(blocks) && tokens.len() == T);
                let quants: [*const i8; T] = std::array::from_fn(|t| tokens[t].quants.as_ptr());
                let scale: [*const f32; T] = std::array::from_fn(|t| tokens[t].scale.as_ptr());
                let sum: [*const i32; T] = std::array::from_fn(|t| tokens[t].sum.as_ptr());
                let scaled_sum: [*const f32; T] = std::array::from_fn(|t| tokens[t].scaled_sum.as_ptr());
                let mut sums = [_mm512_setzero_ps(); T];
                for b in 0..blocks {
                    let (at, head) = p.place(b);
                    // SAFETY: records and heads of all blocks lie inside the tile (its size is checked by the caller), and each row
                    // has `blocks` blocks.
                    unsafe {
                        let record = tile.as_ptr().add(at);
                        let scales = record.add(p.quants());
                        let x = quants.map(|q| q.add(b * BLOCK));
                        // Weights are unsigned in these products. Those of bytes are 128 too large then, those of centred nibbles 8.
                        let more = match P {
                            NIBBLES => 8,
                            BYTES => 128,
                            _ => 0,
                        };
                        let whole: [__m512i; T] = std::array::from_fn(|t| match more {
                            0 => _mm512_setzero_si512(),
                            _ => _mm512_set1_epi32(-more * *sum[t].add(b)),
                        });
                        let whole = if P == BYTES { bytes(record, x, whole) } else { nibbles(record, x, whole) };
                        let half = |at: *const u8| _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()));
                        let byte = |at: *const u8| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())));
                        let head = tile.as_ptr().add(head);
                        let d = if P == SUPER { _mm512_mul_ps(half(head), byte(scales)) } else { half(scales) };
                        for t in 0..T {
                            let d = _mm512_mul_ps(d, _mm512_set1_ps(*scale[t].add(b)));
                            sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[t]), d, sums[t]);
                        }
                        if P == NIBBLES_MIN || P == SUPER {
                            let m = if P == SUPER {
                                let m = _mm512_mul_ps(half(head.add(32)), byte(scales.add(16)));
                                _mm512_sub_ps(_mm512_set1_ps(-0.0), m)
                            } else {
                                half(scales.add(32))
                            };
                            for t in 0..T {
                                sums[t] = _mm512_fmadd_ps(m, _mm512_set1_ps(*scaled_sum[t].add(b)), sums[t]);
                            }
                        }
                    }
                }
                for (t, sum) in sums.iter().enumerate() {
                    // SAFETY: the caller lets us write 16 rows of each token.
                    unsafe {
                        let at = out.at.add(t * out.stride);
                        let sum = if out.add { _mm512_add_ps(_mm512_loadu_ps(at), *sum) } else { *sum };
                        _mm512_storeu_ps(at, sum);
                    }
                }
            }

            /// 16 rows of 32 unsigned nibbles times T tokens, added to `whole`.
            $(#[target_feature(enable = $features)])?
            #[inline]
            unsafe fn nibbles<const T: usize>(lines: *const u8, x: [*const i8; T], mut whole: [__m512i; T]) -> [__m512i; T] {
                let low = _mm512_set1_epi8(15);
                // With few tokens the products of one sum would wait for each other.
                let mut other = [_mm512_setzero_si512(); T];
                for j in 0..4 {
                    // SAFETY: the caller's lines and rows hold a whole block.
                    unsafe {
                        let w = _mm512_loadu_si512(lines.add(j * 64).cast());
                        let (lo, hi) = (_mm512_and_si512(w, low), _mm512_and_si512(_mm512_srli_epi16(w, 4), low));
                        for t in 0..T {
                            whole[t] = _mm512_dpbusd_epi32(whole[t], lo, four(x[t].add(4 * j)));
                            let high = if T <= 2 { &mut other[t] } else { &mut whole[t] };
                            *high = _mm512_dpbusd_epi32(*high, hi, four(x[t].add(16 + 4 * j)));
                        }
                    }
                }
                if T <= 2 {
                    for t in 0..T {
                        whole[t] = _mm512_add_epi32(whole[t], other[t]);
                    }
                }
                whole
            }

            /// 16 rows of 32 signed bytes, each 128 larger, times T tokens, added to `whole`.
            $(#[target_feature(enable = $features)])?
            #[inline]
            unsafe fn bytes<const T: usize>(lines: *const u8, x: [*const i8; T], mut whole: [__m512i; T]) -> [__m512i; T] {
                let sign = _mm512_set1_epi8(-128);
                let mut other = [_mm512_setzero_si512(); T];
                for j in 0..8 {
                    // SAFETY: the caller's lines and rows hold a whole block.
                    unsafe {
                        let w = _mm512_xor_si512(_mm512_loadu_si512(lines.add(j * 64).cast()), sign);
                        for t in 0..T {
                            let sum = if T <= 2 && j % 2 == 1 { &mut other[t] } else { &mut whole[t] };
                            *sum = _mm512_dpbusd_epi32(*sum, w, four(x[t].add(4 * j)));
                        }
                    }
                }
                if T <= 2 {
                    for t in 0..T {
                        whole[t] = _mm512_add_epi32(whole[t], other[t]);
                    }
                }
                whole
            }

            /// Four bytes in every lane.
            $(#[target_feature(enable = $features)])?
            #[inline]
            unsafe fn four(at: *const i8) -> __m512i {
                // SAFETY: four bytes lie there, says the caller.
                _mm512_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
            }

            /// See [`Weigh`].
            ///
            /// # Safety
            /// The CPU has AVX-512 F, and `w` keeps the promises of [`Weigh`], with at most [`WEIGHED`] rows.
            $(#[target_feature(enable = $features)])?
            pub unsafe fn weigh(w: Weigh) {
                // SAFETY: the caller's promises are those of the callee; parts of the rows are rows.
                unsafe {
                    let mut first = 0;
                    while first < w.rows {
                        let left = w.rows - first;
                        let take = [12, 6, 3, 2, 1].into_iter().find(|&n| n <= left).unwrap_or(1);
                        let part = w.part(first, take);
                        match take {
                            12 => weigh_rows::<12>(part),
                            6 => weigh_rows::<6>(part),
                            3 => weigh_rows::<3>(part),
                            2 => weigh_rows::<2>(part),
                            _ => weigh_rows::<1>(part),
                        }
                        first += take;
                    }
                }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn weigh_rows<const R: usize>(w: Weigh) {
                // SAFETY: [`Weigh`] promises that all of these lie in its arrays.
                unsafe {
                    let mut sums: [__m512; R] = std::array::from_fn(|r| _mm512_loadu_ps(w.sums.add(r * w.sums_stride)));
                    let a: [*const f32; R] = std::array::from_fn(|r| w.a.add(r * w.a_stride));
                    for n in 0..w.n {
                        let halves = _mm512_cvtph_ps(_mm256_loadu_si256(w.halves.add(n * 16).cast()));
                        for r in 0..R {
                            sums[r] = _mm512_fmadd_ps(_mm512_set1_ps(*a[r].add(n)), halves, sums[r]);
                        }
                    }
                    for (r, sum) in sums.iter().enumerate() {
                        _mm512_storeu_ps(w.sums.add(r * w.sums_stride), *sum);
                    }
                }
            }
        }
    };
}

kernel!(real, std::arch::x86_64, "avx512f,avx512bw,avx512vnni");

#[cfg(test)]
kernel!(emulated, crate::model::kernels::emulation);
