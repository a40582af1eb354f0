//! Kernels of all instruction sets, and the choice among them.

use std::ops::Range;
use std::sync::OnceLock;

use super::acts::{Acts, Place, Row, To};
#[cfg(target_arch = "x86_64")]
use super::amx;
#[cfg(target_arch = "x86_64")]
use super::avx2;
#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::cache::Cache;
use super::kernel::{Kernel, TileOutput, WeightedSums};
#[cfg(target_arch = "aarch64")]
use super::neon;
use super::tile::{Packing, ROWS};
use super::{check, elementwise, scalar};

/// Compiles the functions of [`Kernel`] other than the products for an instruction set.
macro_rules! lanes_of {
    ($name:ident, $rounding:ident $(, $feature:literal)?) => {
        #[allow(unsafe_code)]
        mod $name {
            use super::super::rounding::$rounding;
            use super::{Acts, Cache, Place, Range, To, elementwise};
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn norm(x: &[f32], weight: &[f32], eps: f32, to: To, blocks: Range<usize>) {
                // SAFETY: guaranteed by the caller, as in all functions below: no other thread
                // accesses what is written.
                unsafe { elementwise::norm::<$rounding>(x, weight, eps, to, blocks) }
            }
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn quantize(x: &[f32], to: To) {
                // SAFETY: as above.
                unsafe { Acts::put::<$rounding>(to, x) }
            }
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn swiglu(x: &[f32], stride: usize, n: usize, to: To) {
                // SAFETY: as above.
                unsafe { elementwise::swiglu::<$rounding>(x, stride, n, to) }
            }
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn normalize_quantize(sums: &[f32], stride: usize, totals: &[f32], to: To, places: &[Place]) {
                // SAFETY: as above.
                unsafe { elementwise::normalize_quantize::<$rounding>(sums, stride, totals, to, places) }
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
                super::super::lanes::softmax(scores, len)
            }
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn axpby(sums: &mut [f32], keep: f32, more: &[f32], factor: f32) {
                super::super::lanes::axpby(sums, keep, more, factor);
            }
            $(#[target_feature(enable = $feature)])?
            pub unsafe fn rotate(x: &mut [f32], angles: &[f32], rope_interleaved: bool, factor: f32) {
                elementwise::rotate(x, angles, rope_interleaved, factor);
            }
        }
    };
}

lanes_of!(plain, Plain);
#[cfg(target_arch = "x86_64")]
lanes_of!(avx2_fma, Avx2, "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
lanes_of!(avx512_fma, Avx512, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni");

/// Reference kernel in scalar code.
#[allow(unsafe_code)]
pub(super) static SCALAR: Kernel = {
    unsafe fn tile(packing: Packing, tile: &[u8], tokens: &[Row], out: TileOutput) {
        for (t, token) in tokens.iter().enumerate() {
            let sums = scalar::tile(packing, tile, token);
            // SAFETY: the caller allows writes to 16 rows of each token.
            let at = unsafe { std::slice::from_raw_parts_mut(out.at.add(t * out.stride), ROWS) };
            for (at, sum) in at.iter_mut().zip(sums) {
                *at = if out.add { *at + sum } else { sum };
            }
        }
    }
    unsafe fn weighted_sum(w: WeightedSums) {
        for (r, w) in (0..w.rows).flat_map(|r| (0..w.column_groups).map(move |c| (r, w.columns(c))))
        {
            // SAFETY: guaranteed by [`WeightedSums`].
            let (halves, a, sums) = unsafe {
                (
                    std::slice::from_raw_parts(w.halves, w.n * ROWS),
                    std::slice::from_raw_parts(w.a.add(r * w.a_stride), w.n),
                    std::slice::from_raw_parts_mut(w.sums.add(r * w.sums_stride), ROWS),
                )
            };
            scalar::weighted_sum(halves, a, sums);
        }
    }
    Kernel {
        name: "scalar",
        tokens: 4,
        rows: 6,
        tile,
        matrix_unit: None,
        pair: None,
        weighted_sum,
        norm: plain::norm,
        quantize: plain::quantize,
        swiglu: plain::swiglu,
        normalize_quantize: plain::normalize_quantize,
        softmax: plain::softmax,
        axpby: plain::axpby,
        put_key: plain::put_key,
        put_value: plain::put_value,
        rotate: plain::rotate,
    }
};

#[cfg(target_arch = "x86_64")]
pub(super) static AVX2: Kernel = Kernel {
    name: "avx2",
    tokens: avx2::TOKENS,
    rows: avx2::WEIGHTED_ROWS,
    tile: avx2::avx2::tile,
    pair: None,
    matrix_unit: None,
    weighted_sum: avx2::weighted_sum,
    norm: avx2_fma::norm,
    quantize: avx2_fma::quantize,
    swiglu: avx2_fma::swiglu,
    normalize_quantize: avx2_fma::normalize_quantize,
    softmax: avx2_fma::softmax,
    axpby: avx2_fma::axpby,
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
    rows: avx512::WEIGHTED_ROWS,
    tile: avx512::real::tile,
    pair: Some(avx512::PAIRED),
    matrix_unit: None,
    weighted_sum: avx512::real::weighted_sum,
    norm: avx512_fma::norm,
    quantize: avx512_fma::quantize,
    swiglu: avx512_fma::swiglu,
    normalize_quantize: avx512_fma::normalize_quantize,
    softmax: avx512_fma::softmax,
    axpby: avx512_fma::axpby,
    put_key: avx512_fma::put_key,
    put_value: avx512_fma::put_value,
    rotate: avx512_fma::rotate,
};

#[cfg(target_arch = "x86_64")]
static AMX: Kernel = Kernel { name: "amx-int8", matrix_unit: Some(&amx::AMX_UNIT), ..AVX512 };

// The functions between the products need no NEON variant: every 64-bit Arm target has NEON, so the
// plain ones use it.
#[cfg(target_arch = "aarch64")]
static NEON: Kernel = Kernel {
    name: "neon-dotprod",
    tokens: neon::TOKENS,
    rows: neon::WEIGHTED_ROWS,
    tile: neon::tile,
    weighted_sum: neon::weighted_sum,
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
