//! Matrices packed for wide dot products: 16 rows side by side.
//!
//! A matrix of R rows is cut into ceil(R / 16) *tiles* of 16 rows, and a tile consists of *blocks*
//! of 32 columns, one record for each block. The quants of a record come first, in lines of 64
//! bytes: in line j each of the 16 rows has 4 bytes, so that a 32-bit lane holds 4 adjacent columns
//! of one row, as a byte dot product takes them.
//!
//! | packing | quants of a block | then, for each row | bytes a record |
//! |---|---|---|---|
//! | `Nibbles { min: false }` (Q4_0) | 4 lines of nibbles | f16 scale d: w = d (q - 8) | 288 |
//! | `Nibbles { min: true }` (Q4_1) | the same | f16 d, f16 m: w = d q + m | 320 |
//! | `Q4K` (Q4_K) | the same | u8 scale s, u8 minimum t: w = (D s) q - (M t) | 288 |
//! | `Bytes` (Q8_0 and all others) | 8 lines of signed bytes, columns 4j.. | f16 d: w = d q | 544 |
//!
//! In line j of nibbles, the low ones hold the 4 columns from 4j on and the high ones those from
//! 16 + 4j on. In `Q4K`, each group of 8 records is preceded by 16 f16 D and 16 f16 M (64 bytes).
//! Missing rows and columns are padded with zeros. Packing keeps the file's values bit for bit,
//! except for formats that have no packing of their own: those are requantized to Q8_0
//! (`Packing::of`).

use half::f16;

use crate::model::format::quant::{TensorFormat, scale_min};

/// Number of rows in a tile.
pub const ROWS: usize = 16;
/// Number of columns in a block.
pub const BLOCK: usize = 32;
/// Number of blocks that share one pair of super-scales.
const GROUP: usize = 8;
/// Size of a group's super-scales in bytes.
const SUPER_SCALE_BYTES: usize = 2 * 2 * ROWS;

/// Storage layout of a packed matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// 4 bits, with a scale and optionally a minimum for each 32 columns.
    Nibbles {
        /// Set if there is a minimum; without one, the quants are centered on 8.
        min: bool,
    },
    /// 4 bits, with 8-bit scale and minimum per 32 columns and super-scales per 256.
    Q4K,
    /// 8 bits, with a scale for each 32 columns.
    Bytes,
}

impl Packing {
    /// Returns the packing of a storage format, and whether it is exact.
    ///
    /// Formats without an exact packing are requantized to 8 bits with a scale for each 32 columns.
    pub fn of(kind: TensorFormat) -> (Packing, bool) {
        match kind {
            TensorFormat::Q4_0 => (Packing::Nibbles { min: false }, true),
            TensorFormat::Q4_1 => (Packing::Nibbles { min: true }, true),
            TensorFormat::Q4K => (Packing::Q4K, true),
            TensorFormat::Q8_0 => (Packing::Bytes, true),
            TensorFormat::Q5_0
            | TensorFormat::Q5_1
            | TensorFormat::Q5K
            | TensorFormat::Q6K
            | TensorFormat::F16
            | TensorFormat::BF16
            | TensorFormat::F32 => (Packing::Bytes, false),
        }
    }

    /// Size of a record's quants in bytes.
    pub const fn quants(self) -> usize {
        match self {
            Packing::Bytes => ROWS * BLOCK,
            _ => ROWS * BLOCK / 2,
        }
    }

    /// Size of a record in bytes.
    pub const fn record(self) -> usize {
        self.quants()
            + match self {
                Packing::Nibbles { min: true } => 4 * ROWS,
                Packing::Nibbles { min: false } | Packing::Q4K | Packing::Bytes => 2 * ROWS,
            }
    }

    /// Size of a tile of `blocks` blocks in bytes.
    pub const fn tile(self, blocks: usize) -> usize {
        let heads = if matches!(self, Packing::Q4K) {
            blocks.div_ceil(GROUP) * SUPER_SCALE_BYTES
        } else {
            0
        };
        blocks * self.record() + heads
    }

    /// Returns the offsets of block `b`'s record and of its group's super-scales within a tile.
    ///
    /// Both are the same in packings without super-scales.
    pub const fn place(self, b: usize) -> (usize, usize) {
        if matches!(self, Packing::Q4K) {
            let head = b / GROUP * (SUPER_SCALE_BYTES + GROUP * self.record());
            (head + SUPER_SCALE_BYTES + b % GROUP * self.record(), head)
        } else {
            (b * self.record(), b * self.record())
        }
    }
}

/// Location and shape of a packed matrix within the memory of all weights.
#[derive(Clone, Copy, Debug)]
pub struct PackedMatrix {
    pub packing: Packing,
    /// Number of rows, without the padding of the last tile.
    pub rows: usize,
    /// Number of columns, without the padding of the last block.
    pub cols: usize,
    /// Offset of the first byte.
    pub offset: usize,
    /// Index of the first tile's power-of-two factor, if the tiles have one; see [`pack_tile`].
    pub scales: Option<usize>,
}

impl PackedMatrix {
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    /// Number of blocks in a tile.
    pub fn blocks(&self) -> usize {
        self.cols.div_ceil(BLOCK)
    }

    /// Size of a tile in bytes.
    pub fn tile_bytes(&self) -> usize {
        self.packing.tile(self.blocks())
    }

    /// Number of weights in the matrix.
    pub fn size(&self) -> usize {
        self.rows * self.cols
    }

    /// Size of all tiles in bytes.
    pub fn bytes(&self) -> usize {
        self.tiles() * self.tile_bytes()
    }
}

/// Packs up to 16 rows in file format into a tile; returns its power-of-two factor.
///
/// The values of the tile are to be multiplied by that factor. It is 1 except for formats without a
/// packing of their own whose numbers, or some of them, are so small or so large that their
/// half-precision scales would be rounded to few bits, to 0 or to infinity. Those are packed as
/// large as half precision allows, so that blocks of the tile up to 2^28 times smaller than its
/// largest keep all bits of their scale.
///
/// # Panics
/// If a row is not `cols` values of `kind`, or `tile` is not the tile's size.
pub fn pack_tile(kind: TensorFormat, cols: usize, rows: &[&[u8]], tile: &mut [u8]) -> f32 {
    let (packing, exact) = Packing::of(kind);
    assert!(rows.len() <= ROWS && tile.len() == packing.tile(cols.div_ceil(BLOCK)));
    tile.fill(0);
    if let Packing::Nibbles { min: false } = packing {
        // Padding must unpack to zero: a centered quant of 0 is stored as 8. d is 0 there anyway.
        for b in 0..cols.div_ceil(BLOCK) {
            let (at, _) = packing.place(b);
            tile[at..at + packing.quants()].fill(0x88);
        }
    }
    if exact {
        rows.iter().enumerate().for_each(|(lane, row)| pack_row(kind, packing, row, lane, tile));
        return 1.0;
    }
    let mut values = vec![0.0; rows.len() * cols];
    rows.iter()
        .zip(values.chunks_exact_mut(cols))
        .for_each(|(row, values)| kind.dequantize(row, values));
    let scale = tile_scale(&values, cols);
    for (lane, values) in values.chunks_exact(cols).enumerate() {
        for (b, block) in values.chunks(BLOCK).enumerate() {
            put_bytes(packing, b, lane, &to_q8_0(block, scale), tile);
        }
    }
    scale
}

/// Returns the power-of-two factor of [`pack_tile`] for these rows of `cols` values.
fn tile_scale(values: &[f32], cols: usize) -> f32 {
    let largest = |block: &[f32]| block.iter().fold(0f32, |m, x| m.max(x.abs()));
    let blocks = || {
        values
            .chunks_exact(cols)
            .flat_map(|row| row.chunks(BLOCK))
            .map(largest)
            .filter(|most| *most > 0.0)
    };
    let most = blocks().fold(0f32, f32::max);
    let least = blocks().fold(f32::INFINITY, f32::min);
    if least / 127.0 >= f16::MIN_POSITIVE.to_f32() && most / 127.0 <= f16::MAX.to_f32()
        || most == 0.0
    {
        return 1.0;
    }
    // The largest scale, most / 127, becomes about 2^14. Sums are multiplied and divided by this
    // factor, which is far from the limits of f32.
    let exponent = f64::from(most / 127.0).log2().floor() as i32 - 14;
    2f32.powi(exponent.clamp(-80, 80))
}

fn pack_row(kind: TensorFormat, packing: Packing, row: &[u8], lane: usize, tile: &mut [u8]) {
    for (i, block) in row.chunks_exact(kind.block_bytes()).enumerate() {
        match kind {
            TensorFormat::Q8_0 => put_bytes(packing, i, lane, block, tile),
            TensorFormat::Q4_0 | TensorFormat::Q4_1 => {
                let (at, _) = packing.place(i);
                let head = block.len() - BLOCK / 2;
                put_nibbles(&block[head..], lane, &mut tile[at..]);
                for (part, scale) in block[..head].chunks_exact(2).enumerate() {
                    tile[at + packing.quants() + part * 2 * ROWS + 2 * lane..][..2]
                        .copy_from_slice(scale);
                }
            }
            TensorFormat::Q4K => {
                let (_, head) = packing.place(i * GROUP);
                tile[head + 2 * lane..][..2].copy_from_slice(&block[..2]);
                tile[head + 2 * ROWS + 2 * lane..][..2].copy_from_slice(&block[2..4]);
                for j in 0..GROUP {
                    let (at, _) = packing.place(i * GROUP + j);
                    // 32 bytes hold two blocks of 32 columns: one in the low nibbles, the next in
                    // the high ones.
                    let from = &block[16 + j / 2 * 32..][..32];
                    let quant = |k: usize| (from[k] >> (4 * (j % 2))) & 15;
                    let nibbles: [u8; 16] =
                        std::array::from_fn(|k| quant(k) | (quant(k + 16) << 4));
                    put_nibbles(&nibbles, lane, &mut tile[at..]);
                    let (scale, min) = scale_min(&block[4..16], j);
                    tile[at + packing.quants() + lane] = scale;
                    tile[at + packing.quants() + ROWS + lane] = min;
                }
            }
            _ => unreachable!("{} has no packing of its own", kind.name()),
        }
    }
}

/// Stores 16 bytes of nibbles.
///
/// Low nibbles are columns 0..16 and high ones 16..32, in GGUF's order and ours.
fn put_nibbles(quants: &[u8], lane: usize, record: &mut [u8]) {
    for (j, four) in quants.chunks_exact(4).enumerate() {
        record[j * 4 * ROWS + 4 * lane..][..4].copy_from_slice(four);
    }
}

/// Stores a block of Q8_0: two bytes of scale, then 32 signed bytes.
fn put_bytes(packing: Packing, b: usize, lane: usize, block: &[u8], tile: &mut [u8]) {
    let (at, _) = packing.place(b);
    for (j, four) in block[2..].chunks_exact(4).enumerate() {
        tile[at + j * 4 * ROWS + 4 * lane..][..4].copy_from_slice(four);
    }
    tile[at + packing.quants() + 2 * lane..][..2].copy_from_slice(&block[..2]);
}

/// Divides up to 32 values by `scale` and quantizes them to Q8_0, scale first.
///
/// Missing values are zeros.
fn to_q8_0(values: &[f32], scale: f32) -> [u8; 2 + BLOCK] {
    let mut block = [0; 2 + BLOCK];
    let most = values.iter().fold(0f32, |m, x| m.max(x.abs()));
    let d = f16::from_f32(most / 127.0 / scale);
    block[..2].copy_from_slice(&d.to_le_bytes());
    let inverse = if d.to_f32() > 0.0 { 1.0 / d.to_f32() } else { 0.0 };
    for (q, x) in block[2..].iter_mut().zip(values) {
        *q = (x / scale * inverse).round_ties_even().clamp(-127.0, 127.0) as i8 as u8;
    }
    block
}

/// Block of one row of a tile: 32 unpacked columns.
///
/// The values are `scale * quant + min`; for Q4_0 the quants are centered already.
pub struct RowBlock {
    /// Signed quants, one for each column.
    pub quants: [i8; BLOCK],
    /// Scale of the quants.
    pub scale: f32,
    /// Offset added to each value after scaling.
    pub min: f32,
}

impl RowBlock {
    /// Unpacks block `b` of row `r` (below 16) of `tile`.
    pub fn unpack(packing: Packing, tile: &[u8], b: usize, r: usize) -> RowBlock {
        let (at, head) = packing.place(b);
        let record = &tile[at..at + packing.record()];
        let half = |bytes: &[u8], at: usize| {
            f16::from_le_bytes([bytes[at + 2 * r], bytes[at + 2 * r + 1]]).to_f32()
        };
        let (scales, own) = (packing.quants(), packing.quants() + 2 * ROWS);
        let byte = |line: usize, k: usize| record[line * 4 * ROWS + 4 * r + k % 4];
        let quants = std::array::from_fn(|k| match packing {
            Packing::Bytes => byte(k / 4, k) as i8,
            _ => {
                let q = ((byte(k % 16 / 4, k) >> (k / 16 * 4)) & 15) as i8;
                if packing == (Packing::Nibbles { min: false }) { q - 8 } else { q }
            }
        });
        let (scale, min) = match packing {
            Packing::Bytes | Packing::Nibbles { min: false } => (half(record, scales), 0.0),
            Packing::Nibbles { min: true } => (half(record, scales), half(record, own)),
            Packing::Q4K => {
                let [s, t] = [record[scales + r], record[scales + ROWS + r]].map(f32::from);
                (half(tile, head) * s, -(half(tile, head + 2 * ROWS) * t))
            }
        };
        RowBlock { quants, scale, min }
    }
}

/// Unpacks row `r` (below 16) of a tile to `out`, without the tile's factor.
pub fn unpack_row(packing: Packing, tile: &[u8], r: usize, out: &mut [f32]) {
    for (b, out) in out.chunks_mut(BLOCK).enumerate() {
        let part = RowBlock::unpack(packing, tile, b, r);
        for (y, &q) in out.iter_mut().zip(&part.quants) {
            *y = f32::from(q) * part.scale + part.min;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::super::tests::raw_rows;
    use super::*;

    #[test]
    fn packed_rows_unpack_to_the_file_values() {
        for kind in TensorFormat::ALL {
            let (packing, exact) = Packing::of(kind);
            // Only one shape under Miri, which is slow.
            for &(n, cols) in
                if cfg!(miri) { &[(2, 256)][..] } else { &[(16, 512), (5, 256), (1, 768)] }
            {
                // Random file bytes instead of quantized weights, which would take Miri hours to
                // produce.
                let rows = raw_rows(kind, n, cols, &mut ChaCha8Rng::seed_from_u64(7));
                let mut tile = vec![0xAA; packing.tile(cols / BLOCK)];
                let all = rows.iter().map(|r| &r[..]).collect::<Vec<_>>();
                let scale = pack_tile(kind, cols, &all, &mut tile);
                assert!(!exact || scale == 1.0);
                for r in 0..ROWS {
                    let (mut got, mut want) = (vec![0.0; cols], vec![0.0; cols]);
                    unpack_row(packing, &tile, r, &mut got);
                    got.iter_mut().for_each(|x| *x *= scale);
                    if let Some(row) = rows.get(r) {
                        kind.dequantize(row, &mut want);
                    }
                    for (b, (got, want)) in got.chunks(BLOCK).zip(want.chunks(BLOCK)).enumerate() {
                        let most = want.iter().fold(0f32, |m, x| m.max(x.abs()));
                        // Half a step of the 8-bit grid, plus the rounding of its scale to 11 bits.
                        let allowed =
                            if exact { 0.0 } else { most / 127.0 * (0.5 + 127.0 / 2048.0) };
                        for (g, w) in got.iter().zip(want) {
                            assert!(
                                (g - w).abs() <= allowed,
                                "{} row {r} block {b}: {g} for {w}",
                                kind.name()
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn missing_columns_unpack_to_zero() {
        let row: Vec<u8> = (0..40).flat_map(|i| (i as f32 - 20.0).to_le_bytes()).collect();
        let mut tile = vec![0xAA; Packing::Bytes.tile(2)];
        assert_eq!(pack_tile(TensorFormat::F32, 40, &[&row], &mut tile), 1.0);
        let mut got = vec![1.0; 64];
        unpack_row(Packing::Bytes, &tile, 0, &mut got);
        assert!(got[40..].iter().all(|&x| x == 0.0));
        assert!((got[39] - 19.0).abs() < 0.1 && got[20] == 0.0, "{got:?}");
    }

    #[test]
    fn small_and_large_numbers_keep_their_bits() {
        let rows: Vec<Vec<f32>> = (0..3)
            .map(|r| (0..64).map(|i| ((i * 37 + r * 11) % 64) as f32 - 31.5).collect())
            .collect();
        let pack = |rows: &[Vec<f32>]| {
            let bytes: Vec<Vec<u8>> =
                rows.iter().map(|row| row.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
            let mut tile = vec![0; Packing::Bytes.tile(2)];
            let scale = pack_tile(
                TensorFormat::F32,
                64,
                &bytes.iter().map(|r| &r[..]).collect::<Vec<_>>(),
                &mut tile,
            );
            let unpacked: Vec<Vec<f32>> = (0..rows.len())
                .map(|r| {
                    let mut row = vec![0.0; 64];
                    unpack_row(Packing::Bytes, &tile, r, &mut row);
                    row.iter().map(|x| x * scale).collect()
                })
                .collect();
            (scale, unpacked)
        };
        let near = |got: &[Vec<f32>], want: &[Vec<f32>]| {
            for (got, want) in got.iter().zip(want) {
                let most = want.iter().fold(0f32, |most, x| most.max(x.abs()));
                assert!(
                    got.iter().zip(want).all(|(g, w)| (g - w).abs() <= most * 0.005),
                    "{got:?} for {want:?}"
                );
            }
        };
        let (plain, values) = pack(&rows);
        assert_eq!(plain, 1.0);
        // The same bits at every order of magnitude for which half precision has no scale.
        for exponent in [-60, -40, -24, 24, 40, 60] {
            let by = |rows: &[Vec<f32>]| {
                rows.iter()
                    .map(|row| row.iter().map(|x| x * 2f32.powi(exponent)).collect())
                    .collect()
            };
            let scaled: Vec<Vec<f32>> = by(&rows);
            let (scale, got) = pack(&scaled);
            assert_ne!(scale, 1.0, "2^{exponent}");
            assert_eq!(got, by(&values), "2^{exponent}");
        }
        // Rows of ordinary numbers beside a row of small ones.
        let mut mixed = rows.clone();
        mixed[1].iter_mut().for_each(|x| *x *= 1e-6);
        let (_, got) = pack(&mixed);
        near(&got, &mixed);
    }

    #[test]
    fn records_have_the_sizes_that_the_table_says() {
        let sizes = [
            Packing::Nibbles { min: false },
            Packing::Nibbles { min: true },
            Packing::Q4K,
            Packing::Bytes,
        ]
        .map(Packing::record);
        assert_eq!(sizes, [288, 320, 288, 544]);
        assert_eq!(Packing::Q4K.tile(16), 2 * (64 + 8 * 288));
        assert_eq!(Packing::Q4K.place(9), (64 + 8 * 288 + 64 + 288, 64 + 8 * 288));
    }
}
