//! Products of f32 matrices, rounded to bfloat16 and summed in f32, on Intel AMX.
//!
//! CPUs have it since Sapphire Rapids.
//!
//! Used for training, which consists almost entirely of products and where that rounding is usual
//! (Micikevicius et al. 2018, "Mixed precision training"). There it is 20 to 40 times as fast as
//! the vector units.
#![cfg_attr(
    not(all(target_arch = "x86_64", target_os = "linux")),
    allow(dead_code, reason = "nothing else has the unit, and `available` says so")
)]

/// Rows and columns of a tile of sums.
const TILE: usize = 16;
/// Number of terms that one instruction sums: a row of a bfloat16 tile.
const DEPTH: usize = 32;
/// One tile of factors in bfloat16.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Factors([u16; TILE * DEPTH]);
/// Tile of zeros, for padding.
const ZERO_TILE: Factors = Factors([0; TILE * DEPTH]);
/// Number of pieces of [`DEPTH`] terms summed at a time.
///
/// Chosen so that their packed data stays in the cache.
const PIECES: usize = 32;

/// Borrowed row-major matrix, or its transpose.
#[derive(Clone, Copy, Debug)]
pub struct MatrixView<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    turned: bool,
}

impl<'a> MatrixView<'a> {
    /// Creates a view of `rows` rows stored one after the other.
    ///
    /// # Panics
    /// If `data.len()` is not `rows * cols`.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> MatrixView<'a> {
        assert_eq!(data.len(), rows * cols, "a matrix of {rows} rows and {cols} columns");
        MatrixView { data, rows, cols, turned: false }
    }

    /// Returns the transpose without moving data.
    pub fn transpose(self) -> MatrixView<'a> {
        MatrixView { data: self.data, rows: self.cols, cols: self.rows, turned: !self.turned }
    }

    /// Returns elements `from..to` of stored row `i`, clipped to the matrix.
    fn stored(&self, i: usize, from: usize, to: usize) -> &'a [f32] {
        let (rows, cols) =
            if self.turned { (self.cols, self.rows) } else { (self.rows, self.cols) };
        if i >= rows || from >= cols {
            &[]
        } else {
            &self.data[i * cols + from..i * cols + to.min(cols)]
        }
    }
}

/// Rounds to the nearest bfloat16, ties to even.
fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    // NaN is handled apart, since adding to its bits could overflow.
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    (if x.is_nan() { 0x7fc0_0000 } else { rounded } >> 16) as u16
}

/// Right-hand matrix of a GEMM, packed once as bf16 for many multiplications.
#[derive(Debug)]
pub struct PackedRight {
    /// Number of rows, the terms of each sum.
    terms: usize,
    cols: usize,
    /// Tiles of row pairs: for each 16 columns, all pieces of 32 rows.
    tiles: Vec<Factors>,
}

impl PackedRight {
    /// Packs a matrix of shape (terms, columns).
    pub fn pack(of: MatrixView<'_>) -> PackedRight {
        let (pieces, blocks) = (of.rows.div_ceil(DEPTH), of.cols.div_ceil(TILE));
        let mut tiles = vec![ZERO_TILE; pieces * blocks];
        for (t, Factors(tile)) in tiles.iter_mut().enumerate() {
            let (k, c) = (t % pieces * DEPTH, t / pieces * TILE);
            if of.turned {
                for (j, column) in (c..c + TILE).enumerate() {
                    for (i, &x) in of.stored(column, k, k + DEPTH).iter().enumerate() {
                        tile[i / 2 * DEPTH + 2 * j + i % 2] = round(x);
                    }
                }
            } else {
                for (pair, row) in tile.chunks_exact_mut(DEPTH).enumerate() {
                    for half in 0..2 {
                        let from = of.stored(k + 2 * pair + half, c, c + TILE);
                        row.iter_mut()
                            .skip(half)
                            .step_by(2)
                            .zip(from)
                            .for_each(|(to, &x)| *to = round(x));
                    }
                }
            }
        }
        PackedRight { terms: of.rows, cols: of.cols, tiles }
    }

    /// Number of columns of the unpacked matrix.
    pub fn cols(&self) -> usize {
        self.cols
    }

    fn pieces(&self) -> usize {
        self.terms.div_ceil(DEPTH)
    }
}

/// Packs a left factor: for each 16 rows, all pieces of 32 columns.
fn pack_left(of: MatrixView<'_>) -> Vec<Factors> {
    let (pieces, blocks) = (of.cols.div_ceil(DEPTH), of.rows.div_ceil(TILE));
    let mut tiles = vec![ZERO_TILE; pieces * blocks];
    for (t, Factors(tile)) in tiles.iter_mut().enumerate() {
        let (k, r) = (t % pieces * DEPTH, t / pieces * TILE);
        if of.turned {
            for i in 0..DEPTH {
                for (row, &x) in of.stored(k + i, r, r + TILE).iter().enumerate() {
                    tile[row * DEPTH + i] = round(x);
                }
            }
        } else {
            for (row, to) in tile.chunks_exact_mut(DEPTH).enumerate() {
                to.iter_mut()
                    .zip(of.stored(r + row, k, k + DEPTH))
                    .for_each(|(to, &x)| *to = round(x));
            }
        }
    }
    tiles
}

/// Computes `sums += left * right`, with shape (rows of `left`, columns of `right`).
///
/// Sums run over the terms in pieces of 32, in order; within a piece in the instruction's order.
/// The scalar reference of the tests uses another order within a piece, so its last bits differ.
///
/// # Panics
/// If the sizes do not match, or if [`available`] returns `false`.
pub fn multiply(left: MatrixView<'_>, right: &PackedRight, sums: &mut [f32]) {
    assert_eq!(left.cols, right.terms, "columns of the left factor are rows of the right one");
    assert_eq!(sums.len(), left.rows * right.cols, "a sum for each row and column");
    assert!(available(), "this CPU has no tile unit");
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    amx::multiply(left.rows, &pack_left(left), right, sums);
}

/// Computes the product of [`multiply`] without the AMX unit.
#[cfg(test)]
fn reference(left: MatrixView<'_>, right: &PackedRight, sums: &mut [f32]) {
    let (packed, pieces, cols) = (pack_left(left), right.pieces(), right.cols);
    let value = |bits: u16| f32::from_bits(u32::from(bits) << 16);
    for (at, sum) in sums.iter_mut().enumerate() {
        let (r, c) = (at / cols, at % cols);
        for k in 0..left.cols {
            let (piece, i) = (k / DEPTH, k % DEPTH);
            let x = value(packed[r / TILE * pieces + piece].0[r % TILE * DEPTH + i]);
            let y = value(
                right.tiles[c / TILE * pieces + piece].0[i / 2 * DEPTH + c % TILE * 2 + i % 2],
            );
            *sum += x * y;
        }
    }
}

/// Returns `true` if this process can use AMX with bfloat16 on this CPU.
pub fn available() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        super::amx::amx_support().bf16
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    false
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(unsafe_code)]
mod amx {
    use std::arch::asm;

    use super::super::amx::{FULL_TILES, load_tile_config, release};
    use super::{Factors, PIECES, PackedRight, TILE};

    /// Multiplies two tiles of rows by two of columns, into four tiles of sums.
    ///
    /// # Safety
    /// The CPU has the unit and the tile configuration is loaded; `a[i]` and `b[i]` point to
    /// `pieces` tiles; each of `sums` points to 16 rows of 16 floats, `stride` bytes apart, which
    /// no other thread accesses.
    #[inline]
    unsafe fn block(
        pieces: usize,
        a: [*const Factors; 2],
        b: [*const Factors; 2],
        sums: [*mut f32; 4],
        stride: usize,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            asm!(
                "tileloadd tmm0, [{c0} + {s}]",
                "tileloadd tmm1, [{c1} + {s}]",
                "tileloadd tmm2, [{c2} + {s}]",
                "tileloadd tmm3, [{c3} + {s}]",
                "2:",
                "tileloadd tmm4, [{a0} + {row}]",
                "tileloadd tmm6, [{b0} + {row}]",
                "tileloadd tmm5, [{a1} + {row}]",
                "tileloadd tmm7, [{b1} + {row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a0}, 1024",
                "add {a1}, 1024",
                "add {b0}, 1024",
                "add {b1}, 1024",
                "dec {n}",
                "jnz 2b",
                "tilestored [{c0} + {s}], tmm0",
                "tilestored [{c1} + {s}], tmm1",
                "tilestored [{c2} + {s}], tmm2",
                "tilestored [{c3} + {s}], tmm3",
                n = inout(reg) pieces => _,
                a0 = inout(reg) a[0] => _,
                a1 = inout(reg) a[1] => _,
                b0 = inout(reg) b[0] => _,
                b1 = inout(reg) b[1] => _,
                c0 = in(reg) sums[0],
                c1 = in(reg) sums[1],
                c2 = in(reg) sums[2],
                c3 = in(reg) sums[3],
                s = in(reg) stride,
                row = in(reg) 64_usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }

    pub fn multiply(rows: usize, left: &[Factors], right: &PackedRight, sums: &mut [f32]) {
        let (cols, pieces) = (right.cols, right.pieces());
        if rows == 0 || cols == 0 || pieces == 0 {
            return;
        }
        // SAFETY: the caller has checked `available`, so the unit is present.
        unsafe { load_tile_config(&FULL_TILES) };
        let (row_blocks, col_blocks) = (rows.div_ceil(TILE), cols.div_ceil(TILE));
        // Blocks that cross the edge of the matrix are summed in a separate buffer.
        let mut apart = [0f32; 4 * TILE * TILE];
        for first in (0..pieces).step_by(PIECES) {
            let n = PIECES.min(pieces - first);
            for cb in (0..col_blocks).step_by(2) {
                // With an odd number of blocks, the last one is computed twice and kept once.
                let cbs = [cb, (cb + 1).min(col_blocks - 1)];
                let b = cbs.map(|cb| right.tiles[cb * pieces + first..].as_ptr());
                for rb in (0..row_blocks).step_by(2) {
                    let rbs = [rb, (rb + 1).min(row_blocks - 1)];
                    let a = rbs.map(|rb| left[rb * pieces + first..].as_ptr());
                    if (rb + 2) * TILE <= rows && (cb + 2) * TILE <= cols {
                        let at = sums.as_mut_ptr();
                        let to = [(rb, cb), (rb, cb + 1), (rb + 1, cb), (rb + 1, cb + 1)];
                        let to = to.map(|(r, c)| at.wrapping_add(r * TILE * cols + c * TILE));
                        // SAFETY: unit and tile configuration as above; the packed factors hold
                        // these pieces; the four tiles lie within `sums`, which is borrowed
                        // exclusively.
                        unsafe { block(n, a, b, to, cols * 4) };
                        continue;
                    }
                    apart.fill(0.0);
                    let at = apart.as_mut_ptr();
                    let to = [0, 1, 2, 3].map(|i| at.wrapping_add(i * TILE * TILE));
                    // SAFETY: as above; the four tiles are those of `apart`.
                    unsafe { block(n, a, b, to, 64) };
                    for (i, tile) in apart.chunks_exact(TILE * TILE).enumerate() {
                        let (r, c) = (rb + i / 2, cb + i % 2);
                        if r >= row_blocks || c >= col_blocks {
                            continue;
                        }
                        for (row, tile) in (r * TILE..rows).zip(tile.chunks_exact(TILE)) {
                            let to = &mut sums
                                [row * cols + c * TILE..row * cols + ((c + 1) * TILE).min(cols)];
                            to.iter_mut().zip(tile).for_each(|(to, x)| *to += x);
                        }
                    }
                }
            }
        }
        // SAFETY: as above.
        unsafe { release() };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(n: usize, seed: u32) -> Vec<f32> {
        let mut x = seed.wrapping_mul(2_654_435_761) | 1;
        let mut next = || {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            (x >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn rounding_is_to_the_nearest_even() {
        let of = |x: f32| f32::from_bits(u32::from(round(x)) << 16);
        assert_eq!(of(1.0), 1.0);
        // 1 + 1/256 lies midway between 1 and 1 + 1/128 and rounds to even, down; the next tie
        // rounds up.
        assert_eq!(of(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(of(1.0 + 3.0 / 256.0), 1.0 + 4.0 / 256.0);
        assert_eq!(of(-3.4e38), f32::NEG_INFINITY);
        assert_eq!(of(f32::INFINITY), f32::INFINITY);
        assert!(
            of(f32::NAN).is_nan()
                && of(f32::from_bits(0x7fff_ffff)).is_nan()
                && of(f32::from_bits(0xffff_ffff)).is_nan()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn products_match_plain_loops(m in 1usize..70, k in 1usize..90, n in 1usize..70, turned in 0u8..4, seed in 1u32..9999) {
            let (a, b) = (numbers(m * k, seed), numbers(k * n, seed + 1));
            let left = if turned & 1 == 0 { MatrixView::new(&a, m, k) } else { MatrixView::new(&a, k, m).transpose() };
            let right = if turned & 2 == 0 { MatrixView::new(&b, k, n) } else { MatrixView::new(&b, n, k).transpose() };
            let at = |v: &[f32], flat: bool, r: usize, c: usize, rows: usize, cols: usize| if flat { v[r * cols + c] } else { v[c * rows + r] };
            let packed = PackedRight::pack(right);
            let mut found = vec![1.0; m * n];
            reference(left, &packed, &mut found);
            for r in 0..m {
                for c in 0..n {
                    let want: f32 = (0..k).map(|i| at(&a, turned & 1 == 0, r, i, m, k) * at(&b, turned & 2 == 0, i, c, k, n)).sum();
                    let close = 1e-3 + k as f32 * 0.25 * 2.0 * 0.004;
                    prop_assert!((found[r * n + c] - 1.0 - want).abs() < close, "{} for {}", found[r * n + c] - 1.0, want);
                }
            }
            if available() {
                let mut fast = vec![1.0; m * n];
                multiply(left, &packed, &mut fast);
                for (fast, found) in fast.iter().zip(&found) {
                    prop_assert!((fast - found).abs() < 1e-4, "{fast} for {found}");
                }
            }
        }
    }

    #[test]
    #[cfg_attr(
        miri,
        ignore = "safe code, and millions of products: it would take Miri a quarter of an hour"
    )]
    fn long_sums_match_the_reference() {
        let (m, k, n) = (33, 2000, 40);
        let (a, b) = (numbers(m * k, 3), numbers(k * n, 4));
        let packed = PackedRight::pack(MatrixView::new(&b, k, n));
        let mut found = vec![0.0; m * n];
        reference(MatrixView::new(&a, m, k), &packed, &mut found);
        if available() {
            let mut fast = vec![0.0; m * n];
            multiply(MatrixView::new(&a, m, k), &packed, &mut fast);
            for (fast, found) in fast.iter().zip(&found) {
                assert!((fast - found).abs() < 1e-3, "{fast} for {found}");
            }
            assert!(fast.iter().any(|x| x.abs() > 1.0));
        }
    }
}
