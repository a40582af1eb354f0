//! Storage formats of weights: block layouts and dequantization.
//!
//! The layouts are those of GGUF (the `ggml` block formats): little-endian, and a row of a matrix
//! is a whole number of blocks. The arithmetic follows ggml's reference dequantization, with the
//! same operations in the same order, so that results agree bit for bit with other readers of the
//! format.

use half::{bf16, f16};

/// Storage format of a tensor's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorFormat {
    /// Floats of 32 bits (IEEE 754).
    F32,
    /// Floats of 16 bits (IEEE 754).
    F16,
    /// 16-bit brain floats (bfloat16).
    BF16,
    /// 4 bits per value, one scale per 32 values.
    Q4_0,
    /// 4 bits per value, a scale and a minimum per 32 values.
    Q4_1,
    /// 5 bits per value, one scale per 32 values.
    Q5_0,
    /// 5 bits per value, a scale and a minimum per 32 values.
    Q5_1,
    /// 8 bits per value, one scale per 32 values.
    Q8_0,
    /// 4 bits per value, 6-bit scales and minima per 32 values, in super-blocks of 256.
    Q4K,
    /// 5 bits per value, 6-bit scales and minima per 32 values, in super-blocks of 256.
    Q5K,
    /// 6 bits per value, 8-bit scales per 16 values, in super-blocks of 256.
    Q6K,
}

impl TensorFormat {
    /// All formats, ordered by bits per value, widest first.
    pub const ALL: [TensorFormat; 11] = [
        TensorFormat::F32,
        TensorFormat::F16,
        TensorFormat::BF16,
        TensorFormat::Q8_0,
        TensorFormat::Q6K,
        TensorFormat::Q5_1,
        TensorFormat::Q5_0,
        TensorFormat::Q5K,
        TensorFormat::Q4_1,
        TensorFormat::Q4_0,
        TensorFormat::Q4K,
    ];

    /// Number of values in a block.
    pub fn block_len(self) -> usize {
        match self {
            TensorFormat::F32 | TensorFormat::F16 | TensorFormat::BF16 => 1,
            TensorFormat::Q4_0
            | TensorFormat::Q4_1
            | TensorFormat::Q5_0
            | TensorFormat::Q5_1
            | TensorFormat::Q8_0 => 32,
            TensorFormat::Q4K | TensorFormat::Q5K | TensorFormat::Q6K => 256,
        }
    }

    /// Size of a block in bytes.
    pub fn block_bytes(self) -> usize {
        match self {
            TensorFormat::F32 => 4,
            TensorFormat::F16 | TensorFormat::BF16 => 2,
            TensorFormat::Q4_0 => 18,
            TensorFormat::Q4_1 => 20,
            TensorFormat::Q5_0 => 22,
            TensorFormat::Q5_1 => 24,
            TensorFormat::Q8_0 => 34,
            TensorFormat::Q4K => 144,
            TensorFormat::Q5K => 176,
            TensorFormat::Q6K => 210,
        }
    }

    /// Size of a row of `cols` values in bytes.
    ///
    /// Returns `None` if `cols` is not a whole number of blocks, or the size overflows `usize`.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        if cols.is_multiple_of(self.block_len()) {
            (cols / self.block_len()).checked_mul(self.block_bytes())
        } else {
            None
        }
    }

    /// Name of the format as in llama.cpp, such as "Q4_K".
    pub fn name(self) -> &'static str {
        match self {
            TensorFormat::F32 => "F32",
            TensorFormat::F16 => "F16",
            TensorFormat::BF16 => "BF16",
            TensorFormat::Q4_0 => "Q4_0",
            TensorFormat::Q4_1 => "Q4_1",
            TensorFormat::Q5_0 => "Q5_0",
            TensorFormat::Q5_1 => "Q5_1",
            TensorFormat::Q8_0 => "Q8_0",
            TensorFormat::Q4K => "Q4_K",
            TensorFormat::Q5K => "Q5_K",
            TensorFormat::Q6K => "Q6_K",
        }
    }

    /// Index of the first NaN or infinite value in whole blocks of `bytes`.
    ///
    /// For quantized formats, it is the first value of the first block whose scale or minimum is
    /// not finite.
    pub fn first_not_finite(self, bytes: &[u8]) -> Option<usize> {
        let halves: &[usize] = match self {
            TensorFormat::F32 => &[2],
            TensorFormat::F16
            | TensorFormat::BF16
            | TensorFormat::Q4_0
            | TensorFormat::Q5_0
            | TensorFormat::Q8_0 => &[0],
            TensorFormat::Q4_1 | TensorFormat::Q5_1 | TensorFormat::Q4K | TensorFormat::Q5K => {
                &[0, 2]
            }
            TensorFormat::Q6K => &[208],
        };
        // All bits of the exponent. The upper half of a 32-bit float is a bfloat16.
        let exponent: u16 =
            if matches!(self, TensorFormat::F32 | TensorFormat::BF16) { 0x7f80 } else { 0x7c00 };
        let bad = |b: &[u8]| {
            halves.iter().any(|&at| u16::from_le_bytes([b[at], b[at + 1]]) & exponent == exponent)
        };
        bytes.chunks_exact(self.block_bytes()).position(bad).map(|block| block * self.block_len())
    }

    /// Dequantizes the whole blocks in `bytes` to `out`.
    ///
    /// # Panics
    /// If `out.len()` is not a whole number of blocks, or `bytes` does not have exactly their size.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(
            self.row_bytes(out.len()),
            Some(bytes.len()),
            "{} values of {}",
            out.len(),
            self.name()
        );
        let blocks =
            bytes.chunks_exact(self.block_bytes()).zip(out.chunks_exact_mut(self.block_len()));
        match self {
            TensorFormat::F32 => {
                blocks.for_each(|(b, y)| y[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            }
            TensorFormat::F16 => blocks.for_each(|(b, y)| y[0] = half_at(b, 0)),
            TensorFormat::BF16 => {
                blocks.for_each(|(b, y)| y[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32())
            }
            TensorFormat::Q4_0 => blocks.for_each(|(b, y)| {
                let d = half_at(b, 0);
                nibbles(&b[2..], y, |q| (q as f32 - 8.0) * d);
            }),
            TensorFormat::Q4_1 => blocks.for_each(|(b, y)| {
                let (d, m) = (half_at(b, 0), half_at(b, 2));
                nibbles(&b[4..], y, |q| q as f32 * d + m);
            }),
            TensorFormat::Q5_0 => blocks.for_each(|(b, y)| {
                let d = half_at(b, 0);
                fives(&b[2..], y, |q| (q as f32 - 16.0) * d);
            }),
            TensorFormat::Q5_1 => blocks.for_each(|(b, y)| {
                let (d, m) = (half_at(b, 0), half_at(b, 2));
                fives(&b[4..], y, |q| q as f32 * d + m);
            }),
            TensorFormat::Q8_0 => blocks.for_each(|(b, y)| {
                let d = half_at(b, 0);
                for (y, &q) in y.iter_mut().zip(&b[2..]) {
                    *y = q as i8 as f32 * d;
                }
            }),
            TensorFormat::Q4K => blocks.for_each(|(b, y)| q4k(b, y)),
            TensorFormat::Q5K => blocks.for_each(|(b, y)| q5k(b, y)),
            TensorFormat::Q6K => blocks.for_each(|(b, y)| q6k(b, y)),
        }
    }
}

fn half_at(b: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([b[at], b[at + 1]]).to_f32()
}

/// Decodes 4-bit values from the nibbles of `qs`.
///
/// The low nibbles make the first half of `y`, the high ones the second.
fn nibbles(qs: &[u8], y: &mut [f32], value: impl Fn(u8) -> f32) {
    let (low, high) = y.split_at_mut(qs.len());
    for ((&q, low), high) in qs.iter().zip(low).zip(high) {
        *low = value(q & 15);
        *high = value(q >> 4);
    }
}

/// Decodes 5-bit values.
///
/// As [`nibbles`], with the fifth bit of value i in bit i of the four bytes before the nibbles.
fn fives(b: &[u8], y: &mut [f32], value: impl Fn(u8) -> f32) {
    let high = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    let fifth = |i: usize| ((high >> i & 1) as u8) << 4;
    for (i, &q) in b[4..].iter().enumerate() {
        y[i] = value((q & 15) | fifth(i));
        y[i + 16] = value((q >> 4) | fifth(i + 16));
    }
}

/// Unpacks the 6-bit scale and minimum of sub-block `j` (of 8).
///
/// They are packed in the 12 bytes `s`. The first four pairs are in the low six bits of bytes 0..8.
/// The others have their low four bits in the nibbles of bytes 8..12, and their upper two bits in
/// those of bytes 0..8.
pub(crate) fn scale_min(s: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        ((s[j + 4] & 15) | (s[j - 4] >> 6 << 4), (s[j + 4] >> 4) | (s[j] >> 6 << 4))
    }
}

fn q4k(b: &[u8], y: &mut [f32]) {
    let (d, min, scales, qs) = (half_at(b, 0), half_at(b, 2), &b[4..16], &b[16..]);
    // Each 32 bytes hold two sub-blocks: one in the low nibbles, the next in the high nibbles.
    for (j, (q, y)) in qs.chunks_exact(32).zip(y.chunks_exact_mut(64)).enumerate() {
        let ((s0, m0), (s1, m1)) = (scale_min(scales, 2 * j), scale_min(scales, 2 * j + 1));
        let (d0, m0, d1, m1) = (d * s0 as f32, min * m0 as f32, d * s1 as f32, min * m1 as f32);
        let (low, high) = y.split_at_mut(32);
        for ((&q, low), high) in q.iter().zip(low).zip(high) {
            *low = d0 * (q & 15) as f32 - m0;
            *high = d1 * (q >> 4) as f32 - m1;
        }
    }
}

fn q5k(b: &[u8], y: &mut [f32]) {
    let (d, min, scales, qh, qs) = (half_at(b, 0), half_at(b, 2), &b[4..16], &b[16..48], &b[48..]);
    // As Q4_K, with the fifth bit of sub-block i in bit i of the 32 bytes `qh`.
    for (j, (q, y)) in qs.chunks_exact(32).zip(y.chunks_exact_mut(64)).enumerate() {
        let ((s0, m0), (s1, m1)) = (scale_min(scales, 2 * j), scale_min(scales, 2 * j + 1));
        let (d0, m0, d1, m1) = (d * s0 as f32, min * m0 as f32, d * s1 as f32, min * m1 as f32);
        let (low, high) = y.split_at_mut(32);
        for (i, (&q, &h)) in q.iter().zip(qh).enumerate() {
            low[i] = d0 * ((q & 15) + (((h >> (2 * j)) & 1) << 4)) as f32 - m0;
            high[i] = d1 * ((q >> 4) + (((h >> (2 * j + 1)) & 1) << 4)) as f32 - m1;
        }
    }
}

fn q6k(b: &[u8], y: &mut [f32]) {
    let (ql, qh, scales, d) = (&b[..128], &b[128..192], &b[192..208], half_at(b, 208));
    let halves = ql.chunks_exact(64).zip(qh.chunks_exact(32)).zip(scales.chunks_exact(8));
    for (((ql, qh), scales), y) in halves.zip(y.chunks_exact_mut(128)) {
        for l in 0..32 {
            let (a, b, h) = (ql[l], ql[l + 32], qh[l]);
            let q = [
                (a & 15) | ((h & 3) << 4),
                (b & 15) | (((h >> 2) & 3) << 4),
                (a >> 4) | (((h >> 4) & 3) << 4),
                (b >> 4) | ((h >> 6) << 4),
            ];
            for (i, q) in q.into_iter().enumerate() {
                y[l + 32 * i] = d * (scales[l / 16 + 2 * i] as i8) as f32 * (q as i8 - 32) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;
    use candle_core::quantized::{GgmlDType, QStorage, QTensor};
    use std::borrow::Cow;

    fn ggml(kind: TensorFormat) -> GgmlDType {
        match kind {
            TensorFormat::F32 => GgmlDType::F32,
            TensorFormat::F16 => GgmlDType::F16,
            TensorFormat::BF16 => GgmlDType::BF16,
            TensorFormat::Q4_0 => GgmlDType::Q4_0,
            TensorFormat::Q4_1 => GgmlDType::Q4_1,
            TensorFormat::Q5_0 => GgmlDType::Q5_0,
            TensorFormat::Q5_1 => GgmlDType::Q5_1,
            TensorFormat::Q8_0 => GgmlDType::Q8_0,
            TensorFormat::Q4K => GgmlDType::Q4K,
            TensorFormat::Q5K => GgmlDType::Q5K,
            TensorFormat::Q6K => GgmlDType::Q6K,
        }
    }

    /// Random blocks whose floats (scales, minima, or the values themselves) are finite.
    fn random_blocks(kind: TensorFormat, blocks: usize) -> Vec<u8> {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        let mut bytes: Vec<u8> = (0..blocks * kind.block_bytes()).map(|_| next()).collect();
        let high_bytes: &[usize] = match kind {
            TensorFormat::F32 => &[3],
            TensorFormat::F16
            | TensorFormat::BF16
            | TensorFormat::Q4_0
            | TensorFormat::Q5_0
            | TensorFormat::Q8_0 => &[1],
            TensorFormat::Q4_1 | TensorFormat::Q5_1 | TensorFormat::Q4K | TensorFormat::Q5K => {
                &[1, 3]
            }
            TensorFormat::Q6K => &[209],
        };
        for block in bytes.chunks_exact_mut(kind.block_bytes()) {
            for &at in high_bytes {
                block[at] &= 0xBB; // one exponent bit cleared: always finite
            }
        }
        bytes
    }

    #[test]
    fn values_are_those_of_candle_bit_for_bit() {
        for kind in TensorFormat::ALL {
            let blocks = if kind.block_len() == 1 { 1024 } else { 64 };
            let bytes = random_blocks(kind, blocks);
            let mut ours = vec![0.0; blocks * kind.block_len()];
            kind.dequantize(&bytes, &mut ours);
            let storage =
                QStorage::from_data(Cow::Borrowed(&bytes), &Device::Cpu, ggml(kind)).unwrap();
            let theirs = QTensor::new(storage, ours.len())
                .unwrap()
                .dequantize(&Device::Cpu)
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
                assert!(a.is_finite());
                assert_eq!(
                    a.to_bits(),
                    b.to_bits(),
                    "{} value {i}: {a} here, {b} there",
                    kind.name()
                );
            }
        }
    }

    #[test]
    fn first_not_finite_finds_nan_and_infinity() {
        for kind in TensorFormat::ALL {
            let mut bytes = random_blocks(kind, 5);
            assert_eq!(kind.first_not_finite(&bytes), None, "{}", kind.name());
            let (at, bits): (usize, &[u8]) = match kind {
                TensorFormat::F32 => (0, &[0, 0, 0x80, 0xff]),
                TensorFormat::BF16 => (0, &[0xc0, 0x7f]),
                TensorFormat::Q4_1 | TensorFormat::Q5_1 | TensorFormat::Q4K | TensorFormat::Q5K => {
                    (2, &[0, 0x7e])
                }
                TensorFormat::Q6K => (208, &[0, 0xfc]),
                _ => (0, &[1, 0x7c]),
            };
            let from = 3 * kind.block_bytes() + at;
            bytes[from..from + bits.len()].copy_from_slice(bits);
            assert_eq!(
                kind.first_not_finite(&bytes),
                Some(3 * kind.block_len()),
                "{}",
                kind.name()
            );
            let mut values = vec![0.0; 5 * kind.block_len()];
            kind.dequantize(&bytes, &mut values);
            assert!(
                values[3 * kind.block_len()..][..kind.block_len()].iter().any(|x| !x.is_finite()),
                "{}",
                kind.name()
            );
        }
    }

    #[test]
    fn a_row_is_a_whole_number_of_blocks() {
        assert_eq!(TensorFormat::Q4_1.row_bytes(576), Some(360));
        assert_eq!(TensorFormat::Q4K.row_bytes(576), None);
        assert_eq!(TensorFormat::BF16.row_bytes(usize::MAX), None);
    }
}
