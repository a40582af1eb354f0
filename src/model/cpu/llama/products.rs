//! Products of packed matrices with the tokens of a pass.

use std::ops::Range;

use super::super::acts::{Acts, GROUP_TOKENS, MAX_GROUPS};
use super::super::kernel::TileOutput;
use super::super::memory::Shared;
use super::super::tile::{PackedMatrix, ROWS};
use super::super::work_split::WorkSplit;
use super::Llama;

/// Destination of products: a row for each token.
#[derive(Clone, Copy)]
pub(super) struct ProductOutput<'a> {
    /// Values of all rows.
    pub values: &'a Shared<f32>,
    /// Distance between consecutive rows, in elements.
    pub stride: usize,
    /// Adds to the existing values if `true`; overwrites them otherwise.
    pub add: bool,
}

impl<'a> ProductOutput<'a> {
    /// Destination whose values are overwritten.
    pub fn set(values: &'a Shared<f32>, stride: usize) -> Self {
        ProductOutput { values, stride, add: false }
    }

    /// Destination whose values are added to.
    pub fn add(values: &'a Shared<f32>, stride: usize) -> Self {
        ProductOutput { values, stride, add: true }
    }
}

impl Llama {
    /// Computes this thread's tiles of several matrices with the same input.
    ///
    /// Each matrix comes with its column offset in the rows of `out`.
    pub(super) fn products(
        &self,
        split: &WorkSplit,
        mats: &[(&PackedMatrix, usize)],
        acts: &Acts,
        out: ProductOutput,
    ) {
        let mine = split.items(mats.iter().map(|(mat, _)| mat.tiles()).sum());
        let mut before = 0;
        for (mat, at) in mats {
            let n = mat.tiles();
            let tiles = mine.start.clamp(before, before + n) - before
                ..mine.end.clamp(before, before + n) - before;
            self.product(mat, tiles, acts, split.token_range(), out, *at);
            before += n;
        }
    }

    /// Multiplies some tiles of a matrix by some rows of `acts`.
    ///
    /// The results go to the same rows of `out`, at the tiles' places after column `first`.
    pub(super) fn product(
        &self,
        mat: &PackedMatrix,
        tiles: Range<usize>,
        acts: &Acts,
        rows: Range<usize>,
        out: ProductOutput,
        first: usize,
    ) {
        let first = first + tiles.start * ROWS + rows.start * out.stride;
        self.product_to(mat, tiles, acts, rows, out, first);
    }

    /// Multiplies some tiles by some rows; the first result goes to index `first`.
    #[allow(unsafe_code)]
    pub(super) fn product_to(
        &self,
        mat: &PackedMatrix,
        tiles: Range<usize>,
        acts: &Acts,
        tokens: Range<usize>,
        ProductOutput { values: out, stride, add }: ProductOutput,
        first: usize,
    ) {
        debug_assert_eq!(acts.blocks(), mat.blocks());
        let size = mat.tile_bytes();
        // A matrix unit counts its 16-token groups from the first token on.
        debug_assert!(tokens.start == 0 || self.kernel.matrix_unit.is_none());
        for from in tokens.clone().step_by(CHUNK) {
            let n = (tokens.end - from).min(CHUNK);
            // SAFETY: no thread writes the quantized input now.
            let rows: [_; CHUNK] =
                std::array::from_fn(|i| unsafe { acts.row(from + i.min(n - 1)) });
            // SAFETY: as above.
            let many =
                self.kernel.matrix_unit.zip(unsafe { acts.token_groups(from / GROUP_TOKENS) });
            let by_unit = if many.is_some() {
                self.matrix_unit_tokens(tokens.len()).saturating_sub(from).min(n)
            } else {
                0
            };
            // Two tiles at once, if more tokens are left than a single call takes.
            let pair =
                self.kernel.paired(mat.packing).filter(|_| n > self.kernel.tokens && by_unit == 0);
            let mut tile = tiles.start;
            while tile < tiles.end {
                let at = mat.offset + tile * size;
                let (count, most) = match pair {
                    Some(most) if tile + 1 < tiles.end => (2, most),
                    _ => (1, self.kernel.tokens),
                };
                // SAFETY: packed weights are never written after loading.
                let weights = unsafe { self.packed.read(at..at + count * size) };
                // Paired tiles have packings without per-tile scales.
                let scale = self.scale(mat, tile);
                let mut t = 0;
                while t < n {
                    let group = if t < by_unit { by_unit } else { together(n - t, most) };
                    let to =
                        first + (from - tokens.start + t) * stride + (tile - tiles.start) * ROWS;
                    // SAFETY: these rows of these tokens belong to this thread; the range ends with
                    // the last token's rows.
                    let at = unsafe { out.write(to..to + (group - 1) * stride + count * ROWS) }
                        .as_mut_ptr();
                    // Existing sums are scaled to the tile's magnitude and back, which changes only
                    // their exponents.
                    let rescale = |factor: f32| {
                        for row in (0..group).map(|i| to + i * stride) {
                            // SAFETY: as above; the kernel does not run meanwhile.
                            unsafe { out.write(row..row + ROWS) }
                                .iter_mut()
                                .for_each(|x| *x *= factor);
                        }
                    };
                    if add && scale != 1.0 {
                        rescale(1.0 / scale);
                    }
                    let out = TileOutput { at, stride, add };
                    // SAFETY: the CPU has the kernel's instructions; the tiles are whole, and their
                    // rows of the group's tokens may be written.
                    unsafe {
                        match &many {
                            Some((matrix_unit, x)) if t < by_unit => {
                                (matrix_unit.tile)(
                                    mat.packing,
                                    weights,
                                    &x[..group.div_ceil(GROUP_TOKENS)],
                                    group,
                                    out,
                                );
                            }
                            _ => (self.kernel.tile)(mat.packing, weights, &rows[t..t + group], out),
                        }
                    }
                    if scale != 1.0 {
                        rescale(scale);
                    }
                    t += group;
                }
                tile += count;
            }
        }
    }
}

/// Number of tokens in a chunk.
///
/// The weights are read once for each chunk.
const CHUNK: usize = MAX_GROUPS * GROUP_TOKENS;

/// Returns the size of the next token group, with `left` tokens left.
///
/// A call takes at most `most` tokens.
///
/// The last two groups are of nearly equal size.
fn together(left: usize, most: usize) -> usize {
    if left <= most {
        left
    } else if left < 2 * most {
        left.div_ceil(2)
    } else {
        most
    }
}
