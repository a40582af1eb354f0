//! The kernels in safe scalar code: the reference that all others equal bit for bit, and the path of CPUs that have none
//! of their own.

use half::f16;

use super::acts::Row;
use super::tile::{Packing, Part, ROWS};

/// The products of one tile with one token: for each of 16 rows, over blocks in order, first the scaled whole-number
/// product of quants, then, where the packing has minima, the minimum times the scaled sum of the token's quants.
pub fn tile(packing: Packing, tile: &[u8], token: Row) -> [f32; ROWS] {
    std::array::from_fn(|r| {
        let mut sum = 0f32;
        for (b, x) in token.iter().enumerate() {
            let part = Part::of(packing, tile, b, r);
            let product: i32 = part.quants.iter().zip(&x.quants).map(|(&w, &q)| i32::from(w) * i32::from(q)).sum();
            sum = (product as f32).mul_add(part.scale * x.scale, sum);
            if matches!(packing, Packing::Nibbles { min: true } | Packing::Super) {
                sum = part.min.mul_add(x.scaled_sum, sum);
            }
        }
        sum
    })
}

/// `sums[i] += sum over n of a[n] * halves[16 n + i]`, over n in order, each product fused into its sum.
pub fn weigh(halves: &[u16], a: &[f32], sums: &mut [f32]) {
    for (halves, a) in halves.chunks_exact(ROWS).zip(a) {
        for (sum, &h) in sums.iter_mut().zip(halves) {
            *sum = a.mul_add(f16::from_bits(h).to_f32(), *sum);
        }
    }
}
