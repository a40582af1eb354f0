//! NEON kernels with dot products (Armv8.2 and later).
//!
//! They process 8 rows of a tile at a time, with four byte products a lane in one instruction.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "closures of iterator chains are not always inlined into code for an instruction set"
)]

use std::arch::aarch64::*;
use std::arch::asm;

use super::acts::{ActBlock, Row};
use super::dispatch::{
    BYTES, NIBBLES, NIBBLES_MIN, Q4K, packing, tile_by_counts, weighted_sum_by_counts,
};
use super::kernel::{TileOutput, WeightedSums};
use super::tile::Packing;

/// Maximum number of tokens that share each load of weights.
pub const TOKENS: usize = 4;

tile_by_counts!([1 2 3 4], "neon,dotprod");

#[target_feature(enable = "neon,dotprod")]
unsafe fn multiply<const T: usize, const P: usize>(tile: &[u8], tokens: &[Row], out: TileOutput) {
    for half in 0..2 {
        // SAFETY: the caller upholds the callee's requirements.
        unsafe { eight::<T, P>(tile, tokens, out, half) };
    }
}

/// Multiplies eight rows of a tile by T tokens, from row `8 * half` on.
#[target_feature(enable = "neon,dotprod")]
#[allow(clippy::needless_range_loop)] // `half` is also an offset
unsafe fn eight<const T: usize, const P: usize>(
    tile: &[u8],
    tokens: &[Row],
    out: TileOutput,
    half: usize,
) {
    let p = packing(P);
    let blocks = tokens[0].len();
    debug_assert!(tile.len() == p.tile(blocks) && tokens.len() == T);
    let rows: [*const ActBlock; T] = std::array::from_fn(|t| tokens[t].as_ptr());
    let mut sums = [[vdupq_n_f32(0.0); 2]; T];
    for b in 0..blocks {
        let (at, head) = p.place(b);
        // SAFETY: records and super-scales of all blocks lie within the tile (the caller checks its
        // size), and each row has `blocks` blocks.
        unsafe {
            let record = tile.as_ptr().add(at);
            let (lines, scales) = (record.add(half * 32), record.add(p.quants()));
            let x = rows.map(|row| row.add(b));
            let whole = if P == BYTES { bytes(lines, x) } else { nibbles(lines, x) };
            let head = tile.as_ptr().add(head + half * 16);
            for r in 0..2 {
                let d = if P == Q4K {
                    vmulq_f32(halves(head.add(r * 8)), small(scales.add(half * 8 + r * 4)))
                } else {
                    halves(scales.add(half * 16 + r * 8))
                };
                for t in 0..T {
                    let mut whole = whole[t][r];
                    if P == NIBBLES {
                        whole = vsubq_s32(whole, vdupq_n_s32(8 * (*x[t]).sum));
                    }
                    let d = vmulq_n_f32(d, (*x[t]).scale);
                    sums[t][r] = vfmaq_f32(sums[t][r], vcvtq_f32_s32(whole), d);
                }
                if P == NIBBLES_MIN || P == Q4K {
                    let m = if P == Q4K {
                        vnegq_f32(vmulq_f32(
                            halves(head.add(32 + r * 8)),
                            small(scales.add(16 + half * 8 + r * 4)),
                        ))
                    } else {
                        halves(scales.add(32 + half * 16 + r * 8))
                    };
                    for t in 0..T {
                        sums[t][r] = vfmaq_n_f32(sums[t][r], m, (*x[t]).scaled_sum);
                    }
                }
            }
        }
    }
    for (t, sums) in sums.iter().enumerate() {
        for (r, sum) in sums.iter().enumerate() {
            // SAFETY: the caller allows writes to 16 rows of each token.
            unsafe {
                let at = out.at.add(t * out.stride + half * 8 + r * 4);
                let sum = if out.add { vaddq_f32(vld1q_f32(at), *sum) } else { *sum };
                vst1q_f32(at, sum);
            }
        }
    }
}

/// Multiplies 8 rows of 32 unsigned nibbles by T tokens.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn nibbles<const T: usize>(
    lines: *const u8,
    x: [*const ActBlock; T],
) -> [[int32x4_t; 2]; T] {
    let low = vdupq_n_u8(15);
    let mut whole = [[vdupq_n_s32(0); 2]; T];
    // SAFETY: the caller passes whole lines and blocks.
    unsafe {
        let x: [[int8x16_t; 2]; T] = std::array::from_fn(|t| [quants(x[t], 0), quants(x[t], 1)]);
        // The lane index is an immediate operand of the instruction, so a loop over it is
        // impossible.
        macro_rules! line {
            ($j:literal) => {
                for r in 0..2 {
                    let w = vld1q_u8(lines.add($j * 64 + r * 16));
                    let (lo, hi) = (
                        vreinterpretq_s8_u8(vandq_u8(w, low)),
                        vreinterpretq_s8_u8(vshrq_n_u8(w, 4)),
                    );
                    for t in 0..T {
                        whole[t][r] = dot::<$j>(whole[t][r], lo, x[t][0]);
                        whole[t][r] = dot::<$j>(whole[t][r], hi, x[t][1]);
                    }
                }
            };
        }
        line!(0);
        line!(1);
        line!(2);
        line!(3);
    }
    whole
}

/// Multiplies 8 rows of 32 signed bytes by T tokens.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn bytes<const T: usize>(lines: *const u8, x: [*const ActBlock; T]) -> [[int32x4_t; 2]; T] {
    let mut whole = [[vdupq_n_s32(0); 2]; T];
    // SAFETY: as above.
    unsafe {
        for i in 0..2 {
            let (lines, x): (_, [int8x16_t; T]) =
                (lines.add(i * 256), std::array::from_fn(|t| quants(x[t], i)));
            macro_rules! line {
                ($j:literal) => {
                    for r in 0..2 {
                        let w = vreinterpretq_s8_u8(vld1q_u8(lines.add($j * 64 + r * 16)));
                        for t in 0..T {
                            whole[t][r] = dot::<$j>(whole[t][r], w, x[t]);
                        }
                    }
                };
            }
            line!(0);
            line!(1);
            line!(2);
            line!(3);
        }
    }
    whole
}

/// Loads 16 of the 32 quants of a block.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn quants(x: *const ActBlock, half: usize) -> int8x16_t {
    // SAFETY: the caller passes a valid block, which holds 16 quants in each half.
    unsafe { vld1q_s8(x.cast::<i8>().add(16 * half)) }
}

/// Adds a dot product of four bytes to each 32-bit lane of `sum`.
///
/// It multiplies the lane of `w` by lane J of `x`.
///
/// All bytes are signed. The intrinsic is not stable yet.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn dot<const J: usize>(mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction only uses registers, and the CPU supports it.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{j}]",
            sum = inout(vreg) sum, w = in(vreg) w, x = in(vreg) x, j = const J,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// Loads four half-precision numbers.
///
/// The type of the corresponding intrinsic is not available in all supported compilers.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn halves(at: *const u8) -> float32x4_t {
    let out: float32x4_t;
    // SAFETY: the caller guarantees eight readable bytes; the rest only uses registers.
    unsafe {
        let bits = vld1_u8(at);
        asm!(
            "fcvtl {out:v}.4s, {bits:v}.4h",
            out = lateout(vreg) out, bits = in(vreg) bits,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    out
}

/// Loads four unsigned bytes as numbers.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn small(at: *const u8) -> float32x4_t {
    // SAFETY: the caller guarantees four readable bytes.
    let bytes = unsafe { at.cast::<u32>().read_unaligned() };
    let wide = vmovl_u8(vcreate_u8(u64::from(bytes)));
    vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide)))
}

/// Maximum number of rows that share each load of f16 values.
pub const WEIGHTED_ROWS: usize = 6;

weighted_sum_by_counts!([1: 2 2: 2 3: 2 4: 1 5: 1 6: 1], "neon,dotprod");

#[target_feature(enable = "neon,dotprod")]
unsafe fn weighted_sum_rows<const R: usize, const C: usize>(w: WeightedSums) {
    // SAFETY: [`WeightedSums`] guarantees that all accesses lie within its arrays.
    unsafe {
        let mut sums = [[[vdupq_n_f32(0.0); 4]; C]; R];
        for r in 0..R {
            for c in 0..C {
                for i in 0..4 {
                    sums[r][c][i] = vld1q_f32(w.sums.add(r * w.sums_stride + 16 * c + 4 * i));
                }
            }
        }
        let a: [*const f32; R] = std::array::from_fn(|r| w.a.add(r * w.a_stride));
        for n in 0..w.n {
            for c in 0..C {
                for i in 0..4 {
                    let x = halves(w.halves.add(c * w.halves_stride + n * 16 + 4 * i).cast());
                    for r in 0..R {
                        sums[r][c][i] = vfmaq_n_f32(sums[r][c][i], x, *a[r].add(n));
                    }
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                for i in 0..4 {
                    vst1q_f32(w.sums.add(r * w.sums_stride + 16 * c + 4 * i), sums[r][c][i]);
                }
            }
        }
    }
}
