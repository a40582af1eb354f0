//! Arithmetic between the products, in plain Rust over arrays of 16 lanes.
//!
//! Each function is inlined into a caller for every instruction set and vectorized there.
//! Vectorization reorders no operation, so every set gives the same bits; a fused multiply-add is
//! written explicitly.

use super::tile::BLOCK;

/// Number of partial sums that run side by side.
///
/// It is part of the summation order, so it is the same for every instruction set.
pub const LANES: usize = 16;

/// Quants, scale, and sum of the quants of a block.
pub type QuantizedBlock = ([i8; BLOCK], f32, i32);

/// Quantizes 32 values to signed bytes; returns quants, scale and sum of the quants.
///
/// The scale is max |x| / 127.
///
/// A non-finite value makes the scale non-finite, so that it shows in everything computed from it.
#[inline(always)]
pub fn quantize(x: &[f32; BLOCK]) -> QuantizedBlock {
    // Compared as bits, magnitudes keep their order, with infinity and NaN above all others.
    let mut most = [0i32; LANES];
    for i in 0..LANES {
        let magnitude = |x: f32| (x.to_bits() & 0x7fff_ffff) as i32;
        most[i] = magnitude(x[i]).max(magnitude(x[i + LANES]));
    }
    let most = f32::from_bits(halved(most, i32::max) as u32);
    let Some(inverse) = inverse_scale(most) else { return ([0; BLOCK], 0.0, 0) };
    let mut whole = [0i32; BLOCK];
    for (q, x) in whole.iter_mut().zip(x) {
        // Exceeds 127 only by rounding of the inverse of a tiny maximum, and then by less than half
        // a step.
        *q = i32::from(((x * inverse + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32) as i8);
    }
    let mut quants = [0i8; BLOCK];
    for (byte, q) in quants.iter_mut().zip(whole) {
        *byte = q as i8;
    }
    let mut sums = [0i32; LANES];
    for i in 0..LANES {
        sums[i] = whole[i] + whole[i + LANES];
    }
    (quants, most / 127.0, halved(sums, |a, b| a + b))
}

/// Rounding constant, 1.5 * 2^23.
///
/// Adding it rounds to an integer, ties to even, in the low bits of the sum.
pub const MAGIC: f32 = 12_582_912.0;

/// Returns 127 / `most`, which quantizes numbers of magnitude up to `most`; 0 for 0.
///
/// `None` if the quotient overflows (`most` below about 127 / `f32::MAX`); such values count as
/// zeros.
#[inline(always)]
pub fn inverse_scale(most: f32) -> Option<f32> {
    let inverse = if most > 0.0 { 127.0 / most } else { 0.0 };
    (!inverse.is_infinite()).then_some(inverse)
}

/// Reduces lanes pairwise, half of them with the other half, until one is left.
///
/// The order is fixed and maps directly to vector instructions.
#[inline(always)]
fn halved<T: Copy>(mut lanes: [T; LANES], combine: impl Fn(T, T) -> T) -> T {
    let mut n = LANES / 2;
    while n > 0 {
        for i in 0..n {
            lanes[i] = combine(lanes[i], lanes[i + n]);
        }
        n /= 2;
    }
    lanes[0]
}

/// Sums the lanes in a fixed order.
#[inline(always)]
pub fn sum_lanes(lanes: &[f32; LANES]) -> f32 {
    halved(*lanes, |a, b| a + b)
}

/// Adds the squares of numbers to four times as many lanes.
///
/// Not a closure, since that would not be compiled for the instruction set.
#[inline(always)]
fn add_squares(x: &[f32; 4 * LANES], lanes: &mut [[f32; LANES]; 4]) {
    for j in 0..4 {
        for i in 0..LANES {
            let x = x[j * LANES + i];
            lanes[j][i] = x.mul_add(x, lanes[j][i]);
        }
    }
}

/// Returns the factor of the RMS norm (Zhang & Sennrich 2019, eq. 4).
///
/// That is 1 / sqrt(mean of x^2 + eps).
#[inline(always)]
pub fn rms(x: &[f32], eps: f32) -> f32 {
    let mut lanes = [[0f32; LANES]; 4];
    let (chunks, rest) = x.as_chunks::<{ 4 * LANES }>();
    for chunk in chunks {
        add_squares(chunk, &mut lanes);
    }
    if !rest.is_empty() {
        // Padding zeros add nothing.
        let mut last = [0.0; 4 * LANES];
        last[..rest.len()].copy_from_slice(rest);
        add_squares(&last, &mut lanes);
    }
    let mut sums = [0f32; LANES];
    for i in 0..LANES {
        sums[i] = (lanes[0][i] + lanes[1][i]) + (lanes[2][i] + lanes[3][i]);
    }
    1.0 / (sum_lanes(&sums) / x.len() as f32 + eps).sqrt()
}

/// Computes e^x for x <= 87.3 with a relative error of about 1e-7.
///
/// The result is 0 below -87.7.
///
/// Uses 2^n p(r) with x = n ln 2 + r, branch-free and with fused operations. NaN gives a value
/// close to 0.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.max(-88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    // ln 2 is split in two parts, so that r keeps its last bits.
    let r = n.mul_add(2.121_944_4e-4, n.mul_add(-0.693_359_4, x));
    let p = 1.987_569_2e-4f32
        .mul_add(r, 1.398_2e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1).mul_add(r, 0.5);
    // The low bits hold n; -127 becomes a factor of 0.
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
    (p * r).mul_add(r, r + 1.0) * scale
}

/// Computes silu(gate) * up (Shazeer 2020, "GLU variants", eq. 5).
///
/// silu(g) = g / (1 + e^-g).
#[inline(always)]
pub fn gated_silu(gate: f32, up: f32) -> f32 {
    // Beyond 87.3 the result is negligible anyway.
    gate / (1.0 + exp((-gate).min(87.3))) * up
}

/// Turns scores in position order into weights e^(s - max), in place.
///
/// Returns the maximum and the sum of the weights. `scores` is a whole number of lanes; entries
/// from `len` on are padding and become 0. A position's lane is its index modulo the number of
/// lanes. A non-finite score makes the sum NaN.
#[inline(always)]
pub fn softmax(scores: &mut [f32], len: usize) -> (f32, f32) {
    let (scores, beyond) = scores.split_at_mut(len.next_multiple_of(LANES));
    if !beyond.is_empty() {
        beyond.fill(0.0);
    }
    let (scores, _) = scores.as_chunks_mut::<LANES>();
    if let Some((last, whole)) = scores.split_last_mut() {
        let kept = len - whole.len() * LANES;
        for (i, s) in last.iter_mut().enumerate() {
            // Far below every score, so that its weight is 0, but finite, so that it does not count
            // as a fault.
            *s = if i < kept { *s } else { -1e30 };
        }
    }
    let mut most = [f32::NEG_INFINITY; LANES];
    for s in scores.iter() {
        for i in 0..LANES {
            most[i] = if s[i] > most[i] { s[i] } else { most[i] };
        }
    }
    let most = halved(most, |a, b| if b > a { b } else { a });
    let (mut sums, mut faults) = ([0f32; LANES], [0f32; LANES]);
    for s in scores {
        for i in 0..LANES {
            let z = s[i] - most;
            faults[i] = z.mul_add(0.0, faults[i]);
            s[i] = exp(z);
            sums[i] += s[i];
        }
    }
    for i in 0..LANES {
        sums[i] += faults[i];
    }
    (most, sum_lanes(&sums))
}

/// Computes y = y * keep + x * factor, as in BLAS extensions.
///
/// The first product is rounded, the second fused.
#[inline(always)]
pub fn axpby(y: &mut [f32], keep: f32, x: &[f32], factor: f32) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = x.mul_add(factor, *y * keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quants_are_the_nearest(x in prop::array::uniform32(-1e3f32..1e3), shrink in -30i32..30) {
            let x = x.map(|x| x * 2f32.powi(shrink));
            let (q, d, sum) = quantize(&x);
            prop_assert_eq!(sum, q.iter().map(|&q| i32::from(q)).sum::<i32>());
            let most = x.iter().fold(0f32, |m, x| m.max(x.abs()));
            prop_assert_eq!(d, most / 127.0);
            for (x, q) in x.iter().zip(q) {
                prop_assert!((x - f32::from(q) * d).abs() <= d * 0.5001, "{} for {}", f32::from(q) * d, x);
            }
        }

        #[test]
        fn the_norm_and_the_gate_are_their_formulas(x in prop::collection::vec(-30f32..30.0, 1..300)) {
            let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / x.len() as f64;
            let want = 1.0 / (mean + 1e-5).sqrt();
            prop_assert!((f64::from(rms(&x, 1e-5)) / want - 1.0).abs() < 1e-6);
            for x in x {
                let (y, x) = (f64::from(gated_silu(x, x)), f64::from(x));
                prop_assert!((y - x / (1.0 + (-x).exp()) * x).abs() <= 1e-6 * x * x, "{y} for {x}");
            }
        }

        #[test]
        fn weights_are_a_softmax(s in prop::collection::vec(-40f32..40.0, 1..100)) {
            let mut scores = s.clone();
            scores.resize(s.len().next_multiple_of(LANES), 7.0);
            let (most, sum) = softmax(&mut scores, s.len());
            let total: f64 = s.iter().map(|x| f64::from(*x - most).exp()).sum();
            prop_assert!((f64::from(sum) / total - 1.0).abs() < 1e-6);
            for (p, s) in scores.iter().zip(&s) {
                prop_assert!((f64::from(*p) - f64::from(s - most).exp()).abs() < 1e-6);
            }
            prop_assert!(scores[s.len()..].iter().all(|&p| p == 0.0));
        }
    }

    #[test]
    fn exp_matches_the_standard_library() {
        for i in (-876_000..873_000).step_by(if cfg!(miri) { 10_007 } else { 1 }) {
            let x = i as f32 * 1e-4;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            // Below -87.3 the result is subnormal.
            assert!(
                (got / want - 1.0).abs() < 3e-7 || x < -87.3 && got < 2e-38,
                "exp({x}) = {got}, not {want}"
            );
        }
        assert_eq!((exp(-100.0), exp(f32::NEG_INFINITY), exp(0.0)), (0.0, 0.0, 1.0));
        assert!(gated_silu(-200.0, 1.0).abs() < 1e-35 && gated_silu(200.0, 1.0) == 200.0);
    }

    #[test]
    fn non_finite_inputs_give_non_finite_results() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN] {
            let mut x = [1.0; BLOCK];
            x[9] = bad;
            assert!(!quantize(&x).1.is_finite());
            assert!(!rms(&x, 1e-5).is_normal());
        }
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!gated_silu(bad, 1.0).is_finite() && !gated_silu(1.0, bad).is_finite());
            let mut scores = [1.0; 2 * LANES];
            scores[5] = bad;
            assert!(softmax(&mut scores, 20).1.is_nan(), "{bad}");
        }
        assert_eq!(quantize(&[0.0; BLOCK]), ([0; BLOCK], 0.0, 0));
        assert_eq!(quantize(&[1e-40; BLOCK]), ([0; BLOCK], 0.0, 0));
    }
}
