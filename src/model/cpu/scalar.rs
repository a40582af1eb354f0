//! Scalar kernels in safe code.
//!
//! All other kernels match this reference bit for bit. It also serves CPUs that none of them
//! supports.

use half::f16;

use super::acts::Row;
use super::tile::{Packing, ROWS, RowBlock};

/// Computes the products of one tile with one token, for each of 16 rows.
///
/// For each block in order it adds first the scaled integer product of quants, then, if the packing
/// has minima, the minimum times the scaled sum of the token's quants.
pub fn tile(packing: Packing, tile: &[u8], token: Row) -> [f32; ROWS] {
    std::array::from_fn(|r| {
        let mut sum = 0f32;
        for (b, x) in token.iter().enumerate() {
            let part = RowBlock::unpack(packing, tile, b, r);
            let product: i32 =
                part.quants.iter().zip(&x.quants).map(|(&w, &q)| i32::from(w) * i32::from(q)).sum();
            sum = (product as f32).mul_add(part.scale * x.scale, sum);
            if matches!(packing, Packing::Nibbles { min: true } | Packing::Q4K) {
                sum = part.min.mul_add(x.scaled_sum, sum);
            }
        }
        sum
    })
}

/// Computes weighted sums of f16 values.
///
/// `sums[i] += sum over n of a[n] * halves[16 n + i]`, with n in order and fused multiply-adds.
pub fn weighted_sum(halves: &[u16], a: &[f32], sums: &mut [f32]) {
    for (halves, a) in halves.chunks_exact(ROWS).zip(a) {
        for (sum, &h) in sums.iter_mut().zip(halves) {
            *sum = a.mul_add(f16::from_bits(h).to_f32(), *sum);
        }
    }
}
