//! CPU kernels: packed weights, int8 products, tree attention and the thread pool.
//!
//! This is the only module that contains `unsafe` code.
//!
//! The order of every sum depends only on the token's position (see ARCHITECTURE.md). Rows of a
//! product are summed over column blocks in order, scores over the dimensions of a head, and
//! attention outputs over positions. Batch size, slot, tree shape, thread count and instruction set
//! do not affect that order, so none of them changes a bit of the result.

mod acts;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod cache;
mod check;
mod decoder;
pub mod dense;
mod dispatch;
#[cfg(all(test, target_arch = "x86_64"))]
mod emulation;
#[cfg(feature = "cuda")]
pub(super) mod gpu_memory;
mod hidden;
mod input_stage;
mod lanes;
mod llama;
mod memory;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pool;
mod rounding;
mod scalar;
mod scratch;
mod stages;
#[cfg(test)]
mod tests;
mod tile;

pub use decoder::{CpuDecoder, MAX_BATCH_TOKENS};
pub use llama::Llama;
pub use pool::Pool;
pub use stages::Stage;

use std::ops::Range;
use std::sync::OnceLock;

use crate::model::format::quant::TensorFormat;
use acts::{Acts, Place, Row, To, TokenGroup};
use cache::Cache;
use tile::{BLOCK, Packing};

/// Returns `true` if `kind` has no packing of its own.
///
/// Matrices of such formats are requantized to 8 bits with one scale for each 32 values.
pub fn needs_requantizing(kind: TensorFormat) -> bool {
    !Packing::of(kind).1
}

/// Destination for the products of one tile: 16 rows for each token.
#[derive(Clone, Copy)]
struct TileOutput {
    /// Pointer to the first row of the first token.
    at: *mut f32,
    /// Distance between consecutive tokens, in elements.
    stride: usize,
    /// Adds to the existing values if `true`; overwrites them otherwise.
    add: bool,
}

/// Arguments of the weighted-sum kernel, the inner loop of attention.
///
/// For each row r, column group c (16 columns) and column i: `sums[r][16 c + i] += sum over n of
/// a[r][n] * halves[c][n][i]`, with n in order.
///
/// Whoever builds one guarantees that the arrays hold these elements, and that no other thread
/// accesses the sums meanwhile.
#[derive(Clone, Copy)]
struct WeightedSums {
    /// `n` terms of 16 f16 values for each column group.
    halves: *const u16,
    /// Distance between consecutive column groups of `halves`, in elements.
    halves_stride: usize,
    /// Number of 16-column groups.
    sixteens: usize,
    /// Number of terms in each sum.
    n: usize,
    /// Factors of the first row, `n` of them.
    a: *const f32,
    /// Distance between consecutive rows of factors, in elements.
    a_stride: usize,
    rows: usize,
    /// Sums of the first row, 16 for each column group.
    sums: *mut f32,
    /// Distance between consecutive rows of sums, in elements.
    sums_stride: usize,
}

impl WeightedSums {
    /// Restricts the operation to `rows` rows from row `first` on.
    fn part(&self, first: usize, rows: usize) -> WeightedSums {
        let a = self.a.wrapping_add(first * self.a_stride);
        WeightedSums { a, rows, sums: self.sums.wrapping_add(first * self.sums_stride), ..*self }
    }

    /// Restricts the operation to the column groups from number `first` on.
    fn columns(&self, first: usize) -> WeightedSums {
        let halves = self.halves.wrapping_add(first * self.halves_stride);
        WeightedSums {
            halves,
            sixteens: self.sixteens - first,
            sums: self.sums.wrapping_add(first * tile::ROWS),
            ..*self
        }
    }
}

/// Products on a matrix unit that multiplies whole tiles by 16-token groups.
#[derive(Debug)]
struct BySixteen {
    /// Configures the unit for this thread's calls of `tile`.
    begin: unsafe fn(),
    /// Multiplies a tile by the first `usize` tokens of up to [`acts::MAX_GROUPS`] 16-token groups.
    ///
    /// Only the last group may be partial.
    tile: unsafe fn(Packing, &[u8], &[TokenGroup], usize, TileOutput),
    /// Releases the unit on this thread.
    end: unsafe fn(),
}

/// Inner loops for one instruction set. All sets give bit-identical results.
///
/// Every function is unsafe to call for two reasons: the CPU must support the set, which
/// [`Kernel::detect`] ensures, and no other thread may access what they write, as `memory::Shared`
/// requires.
#[derive(Debug)]
pub struct Kernel {
    /// Display name of the instruction set.
    pub name: &'static str,
    /// Maximum number of tokens in one call of `tile`.
    tokens: usize,
    /// Maximum number of rows in one call of `weigh`.
    rows: usize,
    tile: unsafe fn(Packing, &[u8], &[Row], TileOutput),
    /// Maximum number of tokens with two consecutive nibble tiles; `None` if unsupported.
    pair: Option<usize>,
    /// Matrix unit that is faster with many tokens, if the CPU has one.
    sixteen: Option<&'static BySixteen>,
    weigh: unsafe fn(WeightedSums),
    norm: unsafe fn(&[f32], &[f32], f32, To, Range<usize>),
    round: unsafe fn(&[f32], To),
    gate: unsafe fn(&[f32], usize, usize, To),
    share: unsafe fn(&[f32], usize, &[f32], To, &[Place]),
    softmax: unsafe fn(&mut [f32], usize) -> (f32, f32),
    join: unsafe fn(&mut [f32], f32, &[f32], f32),
    /// Stores a key; the array holds layer, head and slot. `put_value` does the same for a value.
    put_key: unsafe fn(&Cache, [usize; 3], &[f32]),
    put_value: unsafe fn(&Cache, [usize; 3], &[f32]),
    rotate: unsafe fn(&mut [f32], &[f32], bool, f32),
}

/// Compiles the functions of [`Kernel`] other than the products for an instruction set.
macro_rules! lanes_of {
    ($name:ident, $rounding:ident $(, $feature:literal)?) => {
        #[allow(unsafe_code)]
        mod $name {
            use super::rounding::$rounding;
            use super::{Acts, Cache, Place, Range, To, between};
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn norm(x: &[f32], weight: &[f32], eps: f32, to: To, blocks: Range<usize>) {
                // SAFETY: guaranteed by the caller, as in all functions below: no other thread
                // accesses what is written.
                unsafe { between::norm::<$rounding>(x, weight, eps, to, blocks) }
            }
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn round(x: &[f32], to: To) {
                // SAFETY: as above.
                unsafe { Acts::put::<$rounding>(to, x) }
            }
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn gate(x: &[f32], stride: usize, n: usize, to: To) {
                // SAFETY: as above.
                unsafe { between::gate::<$rounding>(x, stride, n, to) }
            }
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn share(sums: &[f32], stride: usize, totals: &[f32], to: To, places: &[Place]) {
                // SAFETY: as above.
                unsafe { between::share::<$rounding>(sums, stride, totals, to, places) }
            }
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn put_key(cache: &Cache, place: [usize; 3], key: &[f32]) {
                // SAFETY: as above.
                unsafe { cache.put_key::<$rounding>(place, key) }
            }
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn put_value(cache: &Cache, place: [usize; 3], value: &[f32]) {
                // SAFETY: as above.
                unsafe { cache.put_value::<$rounding>(place, value) }
            }
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn softmax(scores: &mut [f32], len: usize) -> (f32, f32) {
                super::lanes::softmax(scores, len)
            }
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn join(sums: &mut [f32], keep: f32, more: &[f32], factor: f32) {
                super::lanes::join(sums, keep, more, factor);
            }
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn rotate(x: &mut [f32], angles: &[f32], neighbours: bool, factor: f32) {
                between::rotate(x, angles, neighbours, factor);
            }
        }
    };
}

/// Elementwise operations between the products, inlined into callers for each instruction set.
#[allow(unsafe_code)]
mod between {
    use super::rounding::Rounding;
    use super::{Acts, BLOCK, Place, Range, To, lanes};

    /// Number of blocks that are quantized together.
    const QUANTIZED_TOGETHER: usize = 8;

    /// Computes the RMS norm of `x` times `weight` and quantizes its given `blocks`.
    #[inline(always)]
    pub unsafe fn norm<R: Rounding>(
        x: &[f32],
        weight: &[f32],
        eps: f32,
        to: To,
        blocks: Range<usize>,
    ) {
        let r = lanes::rms(x, eps);
        let ((whole, rest), (weights, last)) =
            (x.as_chunks::<BLOCK>(), weight.as_chunks::<BLOCK>());
        let full = blocks.start.min(whole.len())..blocks.end.min(whole.len());
        for (b, (x, w)) in full.clone().zip(whole[full.clone()].iter().zip(&weights[full])) {
            let mut block = [0f32; BLOCK];
            for i in 0..BLOCK {
                block[i] = x[i] * r * w[i];
            }
            // SAFETY: the caller owns these blocks of the row, here and below.
            unsafe { Acts::put_block::<R>(to, b, &block) };
        }
        if !rest.is_empty() && blocks.contains(&whole.len()) {
            let mut block = [0f32; BLOCK];
            block.iter_mut().zip(rest).zip(last).for_each(|((y, x), w)| *y = x * r * w);
            unsafe { Acts::put_block::<R>(to, whole.len(), &block) };
        }
    }

    /// Blocks waiting to be quantized.
    ///
    /// Several are computed first and then quantized together, so that they do not wait for each
    /// other.
    struct PendingBlocks<'a> {
        to: To<'a>,
        blocks: [[f32; BLOCK]; QUANTIZED_TOGETHER],
        places: [Place; QUANTIZED_TOGETHER],
        count: usize,
    }

    impl<'a> PendingBlocks<'a> {
        #[inline(always)]
        fn new(to: To<'a>) -> Self {
            Self {
                to,
                blocks: [[0.0; BLOCK]; QUANTIZED_TOGETHER],
                places: [(0, 0); QUANTIZED_TOGETHER],
                count: 0,
            }
        }

        /// Returns the buffer for the next block, which goes to `place`.
        ///
        /// The buffer must be filled before the next call.
        ///
        /// # Safety
        /// As [`Acts::put_blocks`], for all blocks that were given.
        #[inline(always)]
        unsafe fn next<R: Rounding>(&mut self, place: Place) -> &mut [f32; BLOCK] {
            if self.count == QUANTIZED_TOGETHER {
                // SAFETY: guaranteed by the caller.
                unsafe { self.round::<R>() };
            }
            self.places[self.count] = place;
            self.count += 1;
            &mut self.blocks[self.count - 1]
        }

        /// Quantizes the waiting blocks.
        ///
        /// # Safety
        /// As [`Self::next`].
        #[inline(always)]
        unsafe fn round<R: Rounding>(&mut self) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                Acts::put_blocks::<R>(
                    self.to,
                    &self.blocks[..self.count],
                    &self.places[..self.count],
                )
            };
            self.count = 0;
        }
    }

    /// Computes silu(gate) * up and quantizes it, for each row of `x`.
    ///
    /// Each row has `n` gates at its start and `n` ups from its middle on. The first row goes to
    /// `to`, the others to the rows after it.
    #[inline(always)]
    pub unsafe fn gate<R: Rounding>(x: &[f32], stride: usize, n: usize, to: To) {
        let mut waiting = PendingBlocks::new(to);
        for (i, row) in x.chunks_exact(stride).enumerate() {
            let (gates, ups) = row.split_at(stride / 2);
            let ((gates, last), (ups, last_ups)) =
                (gates[..n].as_chunks::<BLOCK>(), ups[..n].as_chunks::<BLOCK>());
            for (b, (gate, up)) in gates.iter().zip(ups).enumerate() {
                // SAFETY: the caller owns these blocks, here and below.
                let block = unsafe { waiting.next::<R>((i, b)) };
                for k in 0..BLOCK {
                    block[k] = lanes::gated_silu(gate[k], up[k]);
                }
            }
            if !last.is_empty() {
                let block = unsafe { waiting.next::<R>((i, gates.len())) };
                *block = [0.0; BLOCK];
                block
                    .iter_mut()
                    .zip(last)
                    .zip(last_ups)
                    .for_each(|((y, &gate), &up)| *y = lanes::gated_silu(gate, up));
            }
        }
        unsafe { waiting.round::<R>() };
    }

    /// Divides weighted sums by their total weights and quantizes the results.
    ///
    /// `sums` has rows of `stride`, each made of whole blocks. The total weight of a row is the
    /// second number of its pair in `totals`. `places` gives, for each row, its row offset after
    /// `to` and its first block.
    #[inline(always)]
    pub unsafe fn share<R: Rounding>(
        sums: &[f32],
        stride: usize,
        totals: &[f32],
        to: To,
        places: &[Place],
    ) {
        let mut waiting = PendingBlocks::new(to);
        for ((row, totals), &(t, first)) in
            sums.chunks_exact(stride).zip(totals.chunks_exact(2)).zip(places)
        {
            let inverse = 1.0 / totals[1];
            for (b, x) in row.as_chunks::<BLOCK>().0.iter().enumerate() {
                // SAFETY: the caller owns these blocks, here and below.
                let block = unsafe { waiting.next::<R>((t, first + b)) };
                for k in 0..BLOCK {
                    block[k] = x[k] * inverse;
                }
            }
        }
        unsafe { waiting.round::<R>() };
    }

    /// Rotates the pairs of one head, `x`, and multiplies by `factor` (Su et al. 2021, section
    /// 3.4.2).
    ///
    /// `angles` holds the cosines of all pairs, then the sines. The two values of a pair are
    /// adjacent if `neighbours` is set, and half a head apart otherwise.
    #[inline(always)]
    pub fn rotate(x: &mut [f32], angles: &[f32], neighbours: bool, factor: f32) {
        let (cos, sin) = angles.split_at(x.len() / 2);
        if neighbours {
            for ((pair, &c), &s) in x.chunks_exact_mut(2).zip(cos).zip(sin) {
                let (a, b) = (pair[0] * factor, pair[1] * factor);
                (pair[0], pair[1]) = (a * c - b * s, a * s + b * c);
            }
        } else {
            let (first, second) = x.split_at_mut(cos.len());
            for (((x, y), &c), &s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                let (a, b) = (*x * factor, *y * factor);
                (*x, *y) = (a * c - b * s, a * s + b * c);
            }
        }
    }
}

lanes_of!(plain, Plain);
#[cfg(target_arch = "x86_64")]
lanes_of!(avx2_fma, Avx2, "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
lanes_of!(avx512_fma, Avx512, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni");

/// Reference kernel in scalar code.
#[allow(unsafe_code)]
static SCALAR: Kernel = {
    unsafe fn tile(packing: Packing, tile: &[u8], tokens: &[Row], out: TileOutput) {
        for (t, token) in tokens.iter().enumerate() {
            let sums = scalar::tile(packing, tile, token);
            // SAFETY: the caller allows writes to 16 rows of each token.
            let at =
                unsafe { std::slice::from_raw_parts_mut(out.at.add(t * out.stride), tile::ROWS) };
            for (at, sum) in at.iter_mut().zip(sums) {
                *at = if out.add { *at + sum } else { sum };
            }
        }
    }
    unsafe fn weigh(w: WeightedSums) {
        for (r, w) in (0..w.rows).flat_map(|r| (0..w.sixteens).map(move |c| (r, w.columns(c)))) {
            // SAFETY: guaranteed by [`WeightedSums`].
            let (halves, a, sums) = unsafe {
                (
                    std::slice::from_raw_parts(w.halves, w.n * tile::ROWS),
                    std::slice::from_raw_parts(w.a.add(r * w.a_stride), w.n),
                    std::slice::from_raw_parts_mut(w.sums.add(r * w.sums_stride), tile::ROWS),
                )
            };
            scalar::weigh(halves, a, sums);
        }
    }
    Kernel {
        name: "scalar",
        tokens: 4,
        rows: 6,
        tile,
        sixteen: None,
        pair: None,
        weigh,
        norm: plain::norm,
        round: plain::round,
        gate: plain::gate,
        share: plain::share,
        softmax: plain::softmax,
        join: plain::join,
        put_key: plain::put_key,
        put_value: plain::put_value,
        rotate: plain::rotate,
    }
};

#[cfg(target_arch = "x86_64")]
static AVX2: Kernel = Kernel {
    name: "avx2",
    tokens: avx2::TOKENS,
    rows: avx2::WEIGHED,
    tile: avx2::avx2::tile,
    pair: None,
    sixteen: None,
    weigh: avx2::weigh,
    norm: avx2_fma::norm,
    round: avx2_fma::round,
    gate: avx2_fma::gate,
    share: avx2_fma::share,
    softmax: avx2_fma::softmax,
    join: avx2_fma::join,
    put_key: avx2_fma::put_key,
    put_value: avx2_fma::put_value,
    rotate: avx2_fma::rotate,
};

#[cfg(target_arch = "x86_64")]
static AVX_VNNI: Kernel = Kernel { name: "avx-vnni", tile: avx2::vnni::tile, ..AVX2 };

#[cfg(target_arch = "x86_64")]
static AVX512: Kernel = Kernel {
    name: "avx512-vnni",
    tokens: avx512::TOKENS,
    rows: avx512::WEIGHED,
    tile: avx512::real::tile,
    pair: Some(avx512::PAIRED),
    sixteen: None,
    weigh: avx512::real::weigh,
    norm: avx512_fma::norm,
    round: avx512_fma::round,
    gate: avx512_fma::gate,
    share: avx512_fma::share,
    softmax: avx512_fma::softmax,
    join: avx512_fma::join,
    put_key: avx512_fma::put_key,
    put_value: avx512_fma::put_value,
    rotate: avx512_fma::rotate,
};

#[cfg(target_arch = "x86_64")]
static AMX: Kernel = Kernel { name: "amx-int8", sixteen: Some(&amx::AMX_UNIT), ..AVX512 };

// The functions between the products need no NEON variant: every 64-bit Arm target has NEON, so the
// plain ones use it.
#[cfg(target_arch = "aarch64")]
static NEON: Kernel = Kernel {
    name: "neon-dotprod",
    tokens: neon::TOKENS,
    rows: neon::WEIGHED,
    tile: neon::tile,
    weigh: neon::weigh,
    ..SCALAR
};

impl Kernel {
    /// Returns every kernel that this CPU supports, fastest first, ending with the scalar
    /// reference.
    pub fn all() -> Vec<&'static Kernel> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                if amx::amx_support().int8 {
                    all.push(&AMX);
                }
                all.push(&AVX512);
            }
            if is_x86_feature_detected!("avxvnni") {
                all.push(&AVX_VNNI);
            }
            all.push(&AVX2);
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            all.push(&NEON);
        }
        all.push(&SCALAR);
        all
    }

    /// Maximum number of tokens with two tiles of `packing`; `None` if unsupported.
    fn paired(&self, packing: Packing) -> Option<usize> {
        self.pair.filter(|_| packing != Packing::Bytes)
    }

    /// Returns the fastest kernel of this CPU that matches the scalar reference bit for bit.
    ///
    /// The match is checked once, on a sample of products (see `check`).
    pub fn detect() -> &'static Kernel {
        static FOUND: OnceLock<&'static Kernel> = OnceLock::new();
        FOUND.get_or_init(|| {
            Kernel::all()
                .into_iter()
                .find(|kernel| check::matches_reference(kernel, &SCALAR))
                .unwrap_or(&SCALAR)
        })
    }
}
