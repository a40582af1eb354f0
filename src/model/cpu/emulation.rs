//! Lane-by-lane emulation of the AVX-512 instructions used in `avx512.rs`, for tests on CPUs
//! without them.
//!
//! Follows Intel's intrinsics guide. The functions have the intrinsics' names.
#![allow(unsafe_code, non_camel_case_types, clippy::missing_safety_doc)]

use std::array::from_fn;

use half::f16;

// Prefetches have no effect on results, and every x86-64 CPU supports them.
pub use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

pub type __m128i = [u8; 16];
pub type __m256i = [u8; 32];
pub type __m512i = [u8; 64];
pub type __m512 = [f32; 16];

fn lanes(x: __m512i) -> [i32; 16] {
    from_fn(|i| i32::from_le_bytes([x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]]))
}

fn whole(lanes: [i32; 16]) -> __m512i {
    from_fn(|i| lanes[i / 4].to_le_bytes()[i % 4])
}

pub unsafe fn _mm_loadu_si128(at: *const __m128i) -> __m128i {
    // SAFETY: guaranteed by the caller, here and in all functions that read or write.
    unsafe { at.read_unaligned() }
}

pub unsafe fn _mm256_loadu_si256(at: *const __m256i) -> __m256i {
    // SAFETY: as above.
    unsafe { at.read_unaligned() }
}

pub unsafe fn _mm512_loadu_si512(at: *const __m512i) -> __m512i {
    // SAFETY: as above.
    unsafe { at.read_unaligned() }
}

pub unsafe fn _mm512_loadu_ps(at: *const f32) -> __m512 {
    // SAFETY: as above.
    unsafe { at.cast::<__m512>().read_unaligned() }
}

pub unsafe fn _mm512_storeu_ps(at: *mut f32, x: __m512) {
    // SAFETY: as above.
    unsafe { at.cast::<__m512>().write_unaligned(x) }
}

pub fn _mm512_setzero_ps() -> __m512 {
    [0.0; 16]
}

pub fn _mm512_setzero_si512() -> __m512i {
    [0; 64]
}

pub fn _mm512_set1_ps(x: f32) -> __m512 {
    [x; 16]
}

pub fn _mm512_set1_epi32(x: i32) -> __m512i {
    whole([x; 16])
}

pub fn _mm512_set1_epi8(x: i8) -> __m512i {
    [x as u8; 64]
}

pub fn _mm512_and_si512(a: __m512i, b: __m512i) -> __m512i {
    from_fn(|i| a[i] & b[i])
}

pub fn _mm512_xor_si512(a: __m512i, b: __m512i) -> __m512i {
    from_fn(|i| a[i] ^ b[i])
}

pub fn _mm512_srli_epi16(a: __m512i, by: u32) -> __m512i {
    let lane = |i: usize| u16::from_le_bytes([a[2 * i], a[2 * i + 1]]) >> by;
    from_fn(|i| lane(i / 2).to_le_bytes()[i % 2])
}

pub fn _mm512_add_epi32(a: __m512i, b: __m512i) -> __m512i {
    let (a, b) = (lanes(a), lanes(b));
    whole(from_fn(|i| a[i].wrapping_add(b[i])))
}

pub fn _mm512_dpbusd_epi32(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
    let sum = lanes(sum);
    let product = |i: usize| i32::from(a[i]) * i32::from(b[i] as i8);
    whole(from_fn(|l| (4 * l..4 * l + 4).map(product).fold(sum[l], i32::wrapping_add)))
}

pub fn _mm512_cvtph_ps(x: __m256i) -> __m512 {
    from_fn(|i| f16::from_le_bytes([x[2 * i], x[2 * i + 1]]).to_f32())
}

pub fn _mm512_cvtepu8_epi32(x: __m128i) -> __m512i {
    whole(from_fn(|i| i32::from(x[i])))
}

pub fn _mm512_cvtepi32_ps(x: __m512i) -> __m512 {
    lanes(x).map(|x| x as f32)
}

pub fn _mm512_mul_ps(a: __m512, b: __m512) -> __m512 {
    from_fn(|i| a[i] * b[i])
}

pub fn _mm512_add_ps(a: __m512, b: __m512) -> __m512 {
    from_fn(|i| a[i] + b[i])
}

pub fn _mm512_sub_ps(a: __m512, b: __m512) -> __m512 {
    from_fn(|i| a[i] - b[i])
}

pub fn _mm512_fmadd_ps(a: __m512, b: __m512, c: __m512) -> __m512 {
    from_fn(|i| a[i].mul_add(b[i], c[i]))
}
