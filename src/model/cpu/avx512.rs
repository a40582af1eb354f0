//! AVX-512 kernels with VNNI: all 16 rows of a tile in one register.
//!
//! One instruction computes four byte products a lane. The same source is compiled twice: with the
//! instructions, and in tests with functions that emulate each instruction as documented, since not
//! every CPU that runs the tests has them.
#![allow(unsafe_code)]

use super::dispatch::{
    AHEAD, BYTES, FAR, NIBBLES, NIBBLES_MIN, Q4K, packing, tile_by_counts, weighted_sum_by_counts,
};
use super::tile::Packing;

/// Maximum number of tokens that share each load of weights.
///
/// Two sums for each token fit into the 32 registers along with the weights.
pub const TOKENS: usize = 8;

/// Maximum number of rows that share each load of f16 values.
pub const WEIGHTED_ROWS: usize = 12;

/// Prefetch distance of the weighted-sum kernel, in terms.
///
/// Keys and values do not fit into L1.
const WEIGHTED_SUM_AHEAD: usize = 48;

/// Maximum number of tokens multiplied with two tiles at once.
///
/// Each load of four quants serves both tiles: with a single tile, loads take as long as products.
pub const PAIRED: usize = 6;

/// Keeps a vector in a register.
///
/// Otherwise the compiler loads all of a block's vectors at once and has no registers left for the
/// sums.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn pinned_in_register(mut x: std::arch::x86_64::__m512i) -> std::arch::x86_64::__m512i {
    // SAFETY: the assembly contains only a comment and no instruction.
    unsafe {
        std::arch::asm!("/* {0} */", inout(zmm_reg) x, options(nostack, preserves_flags, nomem))
    };
    x
}

/// Unrolls a loop at compile time.
macro_rules! unrolled {
    ($j:ident in [$($n:literal)*] $body:block) => {
        $({
            let $j: usize = $n;
            $body
        })*
    };
}

/// Kernel over the instructions in `$arch`, compiled for `$features`.
macro_rules! kernel {
    ($name:ident, $arch:path, $pin:path $(, $features:literal)?) => {
        pub mod $name {
            use $arch::*;
            use $pin as pinned;

            use super::*;
            use crate::model::cpu::acts::{ActBlock, Row};
            use crate::model::cpu::kernel::{TileOutput, WeightedSums};

            tile_by_counts!([1 2 3 4 5 6 7 8] $(, $features)?);

            $(#[target_feature(enable = $features)])?
            unsafe fn multiply<const T: usize, const P: usize>(tile: &[u8], tokens: &[Row], out: TileOutput) {
                // SAFETY: guaranteed by the caller.
                unsafe {
                    if P != BYTES && T <= PAIRED && tile.len() > packing(P).tile(tokens[0].len()) {
                        products::<T, P, 2>(tile, tokens, out);
                    } else {
                        products::<T, P, 1>(tile, tokens, out);
                    }
                }
            }

            /// Multiplies W consecutive tiles by T tokens.
            $(#[target_feature(enable = $features)])?
            unsafe fn products<const T: usize, const P: usize, const W: usize>(tiles: &[u8], tokens: &[Row], out: TileOutput) {
                let p = packing(P);
                let blocks = tokens[0].len();
                let size = p.tile(blocks);
                debug_assert!(tiles.len() == W * size && tokens.len() == T);
                let rows: [*const ActBlock; T] = std::array::from_fn(|t| tokens[t].as_ptr());
                let mut sums = [[_mm512_setzero_ps(); T]; W];
                let (low, sign) = (_mm512_set1_epi8(15), _mm512_set1_epi8(-128));
                for b in 0..blocks {
                    let at = p.place(b).0;
                    // SAFETY: records and super-scales of all blocks lie within the tiles (the
                    // caller checks their size), and each row has `blocks` blocks.
                    unsafe {
                        let record = tiles.as_ptr().add(at);
                        for w in 0..W {
                            let record = record.add(w * size);
                            for line in 0..p.record().div_ceil(64) {
                                _mm_prefetch::<_MM_HINT_T0>(record.wrapping_add(AHEAD * p.record() + 64 * line).cast());
                                _mm_prefetch::<_MM_HINT_T1>(record.wrapping_add(FAR * p.record() + 64 * line).cast());
                            }
                        }
                        let mut x = rows;
                        for t in 0..T {
                            x[t] = rows[t].add(b);
                        }
                        // These products treat weights as unsigned: bytes are offset by 128,
                        // centered nibbles by 8.
                        let more = match P {
                            NIBBLES => 8,
                            BYTES => 128,
                            _ => 0,
                        };
                        let mut whole = [[_mm512_setzero_si512(); T]; W];
                        if more > 0 {
                            for t in 0..T {
                                let sum = _mm512_set1_epi32(-more * (*x[t]).sum);
                                for w in 0..W {
                                    whole[w][t] = sum;
                                }
                            }
                        }
                        // With few tokens, products into a single sum would wait for each other.
                        let mut other = [[_mm512_setzero_si512(); T]; W];
                        // These loops are not in functions of their own: if the compiler does not
                        // inline those, sums go through memory, which takes half as long again.
                        if P == BYTES {
                            for j in 0..8 {
                                let mut quants = [_mm512_setzero_si512(); W];
                                for w in 0..W {
                                    quants[w] = _mm512_xor_si512(_mm512_loadu_si512(record.add(w * size + j * 64).cast()), sign);
                                }
                                for t in 0..T {
                                    let x = four::<W>(x[t], 4 * j);
                                    for w in 0..W {
                                        let sum = if T * W <= 2 && j % 2 == 1 { &mut other[w][t] } else { &mut whole[w][t] };
                                        *sum = _mm512_dpbusd_epi32(*sum, quants[w], x);
                                    }
                                }
                            }
                        } else {
                            unrolled!(j in [0 1 2 3] {
                                let (mut lo, mut hi) = ([_mm512_setzero_si512(); W], [_mm512_setzero_si512(); W]);
                                for w in 0..W {
                                    let quants = _mm512_loadu_si512(record.add(w * size + j * 64).cast());
                                    lo[w] = _mm512_and_si512(quants, low);
                                    hi[w] = _mm512_and_si512(_mm512_srli_epi16(quants, 4), low);
                                }
                                for t in 0..T {
                                    let four_lo = four::<W>(x[t], 4 * j);
                                    for w in 0..W {
                                        whole[w][t] = _mm512_dpbusd_epi32(whole[w][t], lo[w], four_lo);
                                    }
                                    let four_hi = four::<W>(x[t], 16 + 4 * j);
                                    for w in 0..W {
                                        let sum = if T * W <= 2 { &mut other[w][t] } else { &mut whole[w][t] };
                                        *sum = _mm512_dpbusd_epi32(*sum, hi[w], four_hi);
                                    }
                                }
                            });
                        }
                        if T * W <= 2 {
                            for w in 0..W {
                                for t in 0..T {
                                    whole[w][t] = _mm512_add_epi32(whole[w][t], other[w][t]);
                                }
                            }
                        }
                        for w in 0..W {
                            let (d, m) = scales::<P>(tiles.as_ptr().add(w * size), b);
                            for t in 0..T {
                                let d = _mm512_mul_ps(d, _mm512_set1_ps((*x[t]).scale));
                                sums[w][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[w][t]), d, sums[w][t]);
                            }
                            if P == NIBBLES_MIN || P == Q4K {
                                for t in 0..T {
                                    sums[w][t] = _mm512_fmadd_ps(m, _mm512_set1_ps((*x[t]).scaled_sum), sums[w][t]);
                                }
                            }
                        }
                    }
                }
                for w in 0..W {
                    // SAFETY: the caller allows writes to 16 rows of each token and tile.
                    unsafe { put(&sums[w], TileOutput { at: out.at.add(16 * w), ..out }) };
                }
            }

            /// Writes the sums of some tokens, or adds them to the existing values.
            ///
            /// # Safety
            /// The CPU has the features; `out` may be written at each token's 16 rows.
            $(#[target_feature(enable = $features)])?
            #[inline]
            pub unsafe fn put(sums: &[__m512], out: TileOutput) {
                for (t, sum) in sums.iter().enumerate() {
                    // SAFETY: guaranteed by the caller.
                    unsafe {
                        let at = out.at.add(t * out.stride);
                        let sum = if out.add { _mm512_add_ps(_mm512_loadu_ps(at), *sum) } else { *sum };
                        _mm512_storeu_ps(at, sum);
                    }
                }
            }

            /// Returns the scale and the minimum of block `b` in each row.
            ///
            /// The minimum is 0 if the packing has none.
            ///
            /// # Safety
            /// The CPU has the features; the tile is of packing `P` and has this block.
            $(#[target_feature(enable = $features)])?
            #[inline]
            pub unsafe fn scales<const P: usize>(tile: *const u8, b: usize) -> (__m512, __m512) {
                let (at, head) = packing(P).place(b);
                // SAFETY: scales and super-scales of all blocks lie within the tile.
                unsafe {
                    let (scales, head) = (tile.add(at + packing(P).quants()), tile.add(head));
                    let half = |at: *const u8| _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()));
                    let byte = |at: *const u8| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())));
                    match P {
                        Q4K => {
                            let m = _mm512_mul_ps(half(head.add(32)), byte(scales.add(16)));
                            (_mm512_mul_ps(half(head), byte(scales)), _mm512_sub_ps(_mm512_set1_ps(-0.0), m))
                        }
                        NIBBLES_MIN => (half(scales), half(scales.add(32))),
                        _ => (half(scales), _mm512_setzero_ps()),
                    }
                }
            }

            /// Broadcasts four quants of a block, from number `from` on, to every lane.
            $(#[target_feature(enable = $features)])?
            #[inline]
            unsafe fn four<const W: usize>(x: *const ActBlock, from: usize) -> __m512i {
                // SAFETY: the caller passes a valid block, which holds these four; the CPU has the
                // features.
                unsafe {
                    let all = _mm512_set1_epi32(x.cast::<u8>().add(from).cast::<i32>().read_unaligned());
                    if W > 1 { pinned(all) } else { all }
                }
            }

            weighted_sum_by_counts!([1: 4 2: 4 3: 4 4: 4 5: 4 6: 4 7: 2 8: 2 9: 2 10: 2 11: 2 12: 2] $(, $features)?);

            $(#[target_feature(enable = $features)])?
            unsafe fn weighted_sum_rows<const R: usize, const C: usize>(w: WeightedSums) {
                // SAFETY: [`WeightedSums`] guarantees that all accesses lie within its arrays.
                unsafe {
                    let mut sums: [[__m512; C]; R] = [[_mm512_setzero_ps(); C]; R];
                    for r in 0..R {
                        for c in 0..C {
                            sums[r][c] = _mm512_loadu_ps(w.sums.add(r * w.sums_stride + 16 * c));
                        }
                    }
                    // One address serves three rows: there are not enough registers for one each.
                    let mut a: [*const f32; WEIGHTED_ROWS / 3] = std::array::from_fn(|i| w.a.wrapping_add(3 * i * w.a_stride));
                    let mut at = w.halves;
                    // If terms are contiguous, those of the next column groups follow these.
                    let ahead = if w.halves_stride == 16 * w.n { C * w.halves_stride } else { WEIGHTED_SUM_AHEAD * 16 };
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

kernel!(real, std::arch::x86_64, super::pinned_in_register, "avx512f,avx512bw,avx512vnni");

#[cfg(test)]
kernel!(emulated, crate::model::cpu::emulation, std::convert::identity);
