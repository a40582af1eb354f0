//! Rounding by the instructions of a set.
//!
//! Activations are quantized to bytes with the bits of [`lanes::quantize`], but without the detours
//! that a compiler takes there. Keys and values are rounded to half precision.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "closures of iterator chains are not always inlined into code for an instruction set"
)]

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::lanes::{self, LANES, QuantizedBlock};
use super::tile::BLOCK;

/// Rounding operations of one instruction set, bit-identical for all sets.
pub trait Rounding {
    /// Quantizes 32 values to signed bytes; returns quants, scale and sum, as [`lanes::quantize`]
    /// does.
    ///
    /// # Safety
    /// The CPU supports the instructions.
    unsafe fn quantize(x: &[f32; BLOCK]) -> QuantizedBlock;

    /// Rounds to half precision, to nearest with ties to even, and returns the bits.
    ///
    /// # Safety
    /// As [`Self::quantize`].
    unsafe fn halves(x: &[f32; LANES]) -> [u16; LANES];

    /// Quantizes two blocks, so that their waits for maximum and sum overlap.
    ///
    /// # Safety
    /// As [`Self::quantize`].
    #[inline(always)]
    unsafe fn quantize_two(x: &[[f32; BLOCK]; 2]) -> [QuantizedBlock; 2] {
        // SAFETY: guaranteed by the caller.
        unsafe { [Self::quantize(&x[0]), Self::quantize(&x[1])] }
    }
}

/// Rounding in plain Rust.
pub struct Plain;

impl Rounding for Plain {
    #[inline(always)]
    unsafe fn quantize(x: &[f32; BLOCK]) -> QuantizedBlock {
        lanes::quantize(x)
    }

    #[inline(always)]
    unsafe fn halves(x: &[f32; LANES]) -> [u16; LANES] {
        let mut halves = [f16::ZERO; LANES];
        halves.convert_from_f32_slice(x);
        halves.map(f16::to_bits)
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, LANES, QuantizedBlock, Rounding, lanes};

    /// Rounding with AVX2 and F16C.
    pub struct Avx2;
    /// Rounding with AVX-512, VNNI included.
    pub struct Avx512;

    impl Rounding for Avx2 {
        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline]
        unsafe fn quantize(x: &[f32; BLOCK]) -> QuantizedBlock {
            let mut parts = [_mm256_setzero_ps(); 4];
            for i in 0..4 {
                // SAFETY: the load covers a quarter of the block.
                parts[i] = unsafe { _mm256_loadu_ps(x.as_ptr().add(8 * i)) };
            }
            // Compared as bits, magnitudes keep their order, with infinity and NaN above all
            // others.
            let mut most = _mm256_setzero_si256();
            for part in parts {
                most = _mm256_max_epu32(
                    most,
                    _mm256_and_si256(_mm256_castps_si256(part), _mm256_set1_epi32(i32::MAX)),
                );
            }
            let most =
                _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256::<1>(most));
            let most = _mm_max_epu32(most, _mm_shuffle_epi32::<0b1110>(most));
            let most = _mm_max_epu32(most, _mm_shuffle_epi32::<0b01>(most));
            let most = f32::from_bits(_mm_cvtsi128_si32(most) as u32);
            let Some(inverse) = lanes::inverse_scale(most) else { return ([0; BLOCK], 0.0, 0) };
            let (inverse, magic) = (_mm256_set1_ps(inverse), _mm256_set1_ps(lanes::MAGIC));
            let mut whole = [_mm256_setzero_si256(); 4];
            for i in 0..4 {
                let bits =
                    _mm256_castps_si256(_mm256_add_ps(_mm256_mul_ps(parts[i], inverse), magic));
                // Sign-extends the low byte.
                whole[i] = _mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(_mm256_sub_epi32(
                    bits,
                    _mm256_castps_si256(magic),
                )));
            }
            let sums = _mm256_add_epi32(
                _mm256_add_epi32(whole[0], whole[1]),
                _mm256_add_epi32(whole[2], whole[3]),
            );
            // Both packing instructions work on each half of a register, which leaves groups of
            // four bytes out of order.
            let pairs =
                [_mm256_packs_epi32(whole[0], whole[1]), _mm256_packs_epi32(whole[2], whole[3])];
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            let bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(pairs[0], pairs[1]), order);
            let mut quants = [0; BLOCK];
            // SAFETY: the store covers the 32 bytes of `quants`.
            unsafe { _mm256_storeu_si256(quants.as_mut_ptr().cast(), bytes) };
            (quants, most / 127.0, total(sums))
        }

        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline]
        unsafe fn halves(x: &[f32; LANES]) -> [u16; LANES] {
            halves(x)
        }
    }

    impl Rounding for Avx512 {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        #[inline]
        unsafe fn halves(x: &[f32; LANES]) -> [u16; LANES] {
            halves(x)
        }

        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        #[inline]
        unsafe fn quantize(x: &[f32; BLOCK]) -> QuantizedBlock {
            // SAFETY: the loads cover the two halves of the block.
            let halves =
                unsafe { [_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(16))] };
            let magnitudes = halves.map(|half| {
                _mm512_and_si512(_mm512_castps_si512(half), _mm512_set1_epi32(i32::MAX))
            });
            let most = f32::from_bits(_mm512_reduce_max_epu32(_mm512_max_epu32(
                magnitudes[0],
                magnitudes[1],
            )));
            let Some(inverse) = lanes::inverse_scale(most) else { return ([0; BLOCK], 0.0, 0) };
            let (inverse, magic) = (_mm512_set1_ps(inverse), _mm512_set1_ps(lanes::MAGIC));
            let bytes = halves.map(|half| {
                let bits = _mm512_castps_si512(_mm512_add_ps(_mm512_mul_ps(half, inverse), magic));
                _mm512_cvtepi32_epi8(_mm512_sub_epi32(bits, _mm512_castps_si512(magic)))
            });
            let bytes = _mm256_set_m128i(bytes[1], bytes[0]);
            let sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), bytes);
            let mut quants = [0; BLOCK];
            // SAFETY: the store covers the 32 bytes of `quants`.
            unsafe { _mm256_storeu_si256(quants.as_mut_ptr().cast(), bytes) };
            (quants, most / 127.0, total(sums))
        }

        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        #[inline]
        unsafe fn quantize_two(x: &[[f32; BLOCK]; 2]) -> [QuantizedBlock; 2] {
            let magnitudes = |half: __m512| {
                _mm512_and_si512(_mm512_castps_si512(half), _mm512_set1_epi32(i32::MAX))
            };
            let (mut halves, mut most) =
                ([[_mm512_setzero_ps(); 2]; 2], [_mm512_setzero_si512(); 2]);
            for i in 0..2 {
                // SAFETY: the loads cover the two halves of the block.
                halves[i] = unsafe {
                    [_mm512_loadu_ps(x[i].as_ptr()), _mm512_loadu_ps(x[i].as_ptr().add(16))]
                };
                most[i] = _mm512_max_epu32(magnitudes(halves[i][0]), magnitudes(halves[i][1]));
            }
            // The first block's maxima in the lower half, the second's in the upper one; then each
            // half is reduced to all of its lanes.
            let [a, b] = most;
            let most = _mm512_max_epu32(
                _mm512_shuffle_i32x4::<0x44>(a, b),
                _mm512_shuffle_i32x4::<0xee>(a, b),
            );
            let most = _mm512_max_epu32(most, _mm512_shuffle_i32x4::<0xb1>(most, most));
            let most = _mm512_max_epu32(most, _mm512_shuffle_epi32::<0x4e>(most));
            let most = _mm512_max_epu32(most, _mm512_shuffle_epi32::<0xb1>(most));
            let (first, second) =
                (_mm512_castsi512_si128(most), _mm512_extracti32x4_epi32::<2>(most));
            let most = _mm_castsi128_ps(_mm_unpacklo_epi32(first, second));
            let inverses = _mm_div_ps(_mm_set1_ps(127.0), most);
            // Zeros, tiny numbers and NaN take the general path.
            if _mm_movemask_ps(_mm_cmplt_ps(inverses, _mm_set1_ps(f32::INFINITY))) != 15 {
                // SAFETY: guaranteed by the caller.
                return unsafe { [Self::quantize(&x[0]), Self::quantize(&x[1])] };
            }
            let magic = _mm512_set1_ps(lanes::MAGIC);
            let inverses =
                [_mm512_broadcastss_ps(inverses), _mm512_broadcastss_ps(_mm_movehdup_ps(inverses))];
            let (mut quants, mut sums) = ([[0; BLOCK]; 2], [_mm_setzero_si128(); 2]);
            for i in 0..2 {
                let mut bytes = [_mm_setzero_si128(); 2];
                for h in 0..2 {
                    let bits = _mm512_castps_si512(_mm512_add_ps(
                        _mm512_mul_ps(halves[i][h], inverses[i]),
                        magic,
                    ));
                    bytes[h] =
                        _mm512_cvtepi32_epi8(_mm512_sub_epi32(bits, _mm512_castps_si512(magic)));
                }
                let bytes = _mm256_set_m128i(bytes[1], bytes[0]);
                let sum = _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_set1_epi8(1), bytes);
                sums[i] =
                    _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
                // SAFETY: the store covers the 32 bytes of `quants[i]`.
                unsafe { _mm256_storeu_si256(quants[i].as_mut_ptr().cast(), bytes) };
            }
            let sums = _mm_add_epi32(
                _mm_unpacklo_epi32(sums[0], sums[1]),
                _mm_unpackhi_epi32(sums[0], sums[1]),
            );
            let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0x4e>(sums));
            let scales = _mm_div_ps(most, _mm_set1_ps(127.0));
            [
                (quants[0], _mm_cvtss_f32(scales), _mm_cvtsi128_si32(sums)),
                (quants[1], _mm_cvtss_f32(_mm_movehdup_ps(scales)), _mm_extract_epi32::<1>(sums)),
            ]
        }
    }

    /// Rounds to half precision with F16C.
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn halves(x: &[f32; LANES]) -> [u16; LANES] {
        let mut halves = [0; LANES];
        for i in 0..2 {
            // SAFETY: eight numbers are read and eight are written.
            unsafe {
                let eight = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(
                    x.as_ptr().add(8 * i),
                ));
                _mm_storeu_si128(halves.as_mut_ptr().add(8 * i).cast(), eight);
            }
        }
        halves
    }

    /// Sums the eight lanes.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn total(sums: __m256i) -> i32 {
        let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b1110>(sums));
        _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_shuffle_epi32::<0b01>(sums)))
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_set_rounds_to_the_same_bits(x in prop::array::uniform32(any::<f32>()), shrink in -80i32..0, odd in 0usize..32, any in any::<bool>()) {
            // Either arbitrary values, or values of similar size with one arbitrary one.
            let x = if any { x } else {
                std::array::from_fn(|i| if i == odd { x[i] } else { (x[i].to_bits() as f32 / 2f32.powi(31) - 1.0) * 2f32.powi(shrink) })
            };
            let bits = |(quants, scale, sum): QuantizedBlock| (quants, scale.to_bits(), sum);
            let want = bits(lanes::quantize(&x));
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
                // SAFETY: the CPU supports the instructions.
                prop_assert_eq!(bits(unsafe { Avx2::quantize(&x) }), want);
            }
            if super::super::Kernel::all().iter().any(|kernel| kernel.name == "avx512-vnni") {
                // SAFETY: as above.
                prop_assert_eq!(bits(unsafe { Avx512::quantize(&x) }), want);
                let other = x.map(|x| x * 0.37 + 1.0);
                // SAFETY: as above.
                let two = unsafe { [Avx512::quantize_two(&[x, other]), Avx512::quantize_two(&[other, x])] };
                let other = bits(lanes::quantize(&other));
                prop_assert_eq!(two.map(|two| two.map(bits)), [[want, other], [other, want]]);
            }
            let x: [f32; LANES] = std::array::from_fn(|i| x[i]);
            let want = x.map(|x| f16::from_f32(x).to_bits());
            // SAFETY: every CPU supports the instructions.
            prop_assert_eq!(unsafe { super::Plain::halves(&x) }, want);
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
                // SAFETY: the CPU supports the instructions.
                prop_assert_eq!(unsafe { Avx2::halves(&x) }, want);
            }
        }
    }
}
