//! Intel AMX: a unit that multiplies tiles of up to 16 rows of 64 bytes (Intel, "Software Developer's Manual", volume 1, chapter
//! 18). With bytes it serves the products of packed weights with many tokens: what it sums is whole, so the bits are the other
//! kernels'. [`super::dense`] uses it with bfloat16.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::acts::{SIDE_BY_SIDE, Sixteen};
use super::avx512::real::{put, scales};
use super::dispatch::{BYTES, FAR, NIBBLES, NIBBLES_MIN, SUPER, packing};
use super::tile::{BLOCK, Packing, ROWS};
use super::{BySixteen, Out};

/// What the unit can multiply here.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Bytes.
    pub int8: bool,
    /// bfloat16.
    pub bf16: bool,
}

/// What this CPU's unit can do, if the system lets this process use it.
pub fn found() -> Found {
    static FOUND: OnceLock<Found> = OnceLock::new();
    *FOUND.get_or_init(|| {
        const BF16: u32 = 1 << 22;
        const TILES: u32 = 1 << 24;
        const INT8: u32 = 1 << 25;
        let bits = if __cpuid(0).eax < 7 { 0 } else { __cpuid_count(7, 0).edx };
        let usable = bits & TILES != 0 && allowed();
        Found { int8: usable && bits & INT8 != 0, bf16: usable && bits & BF16 != 0 }
    })
}

/// Asks for the unit: Linux keeps its state only for processes that did, and runs its instructions for no other.
#[cfg(target_os = "linux")]
fn allowed() -> bool {
    // arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)
    let mut status: i64 = 158;
    // SAFETY: this call changes what the system saves of our registers and nothing else. It overwrites rcx and r11.
    unsafe {
        asm!("syscall", inout("rax") status, in("rdi") 0x1023_u64, in("rsi") 18_u64, out("rcx") _, out("r11") _, options(nostack));
    }
    status == 0
}

/// Elsewhere nobody has tried.
#[cfg(not(target_os = "linux"))]
fn allowed() -> bool {
    false
}

/// What the instruction reads that shapes the eight tiles.
#[repr(C, align(64))]
pub struct Shape {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shape {
    /// Tiles of so many bytes a row, and of so many rows.
    const fn new(row_bytes: [u16; 8], rows: [u8; 8]) -> Shape {
        let mut shape = Shape { palette: 1, start: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        let mut i = 0;
        while i < 8 {
            (shape.row_bytes[i], shape.rows[i]) = (row_bytes[i], rows[i]);
            i += 1;
        }
        shape
    }
}

/// All tiles of 16 rows of 64 bytes.
pub static WHOLE: Shape = Shape::new([64; 8], [16; 8]);
/// Two tiles of sums, two of 16 tokens' blocks, two of a block's weights.
static BLOCKS: Shape = Shape::new([64, 64, 0, 0, 32, 32, 64, 64], [16, 16, 0, 0, 16, 16, 8, 8]);

/// Shapes the tiles of this thread.
///
/// # Safety
/// [`found`] has found the unit.
pub unsafe fn shape(shape: &'static Shape) {
    // SAFETY: the unit is there, and both shapes are valid ones.
    unsafe { asm!("ldtilecfg [{}]", in(reg) shape, options(nostack, readonly)) };
}

/// Leaves the tiles: until then the system saves them at every switch of threads.
///
/// # Safety
/// [`found`] has found the unit.
pub unsafe fn release() {
    // SAFETY: the unit is there.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Products of packed weights with sixteen tokens, on this unit.
pub static BY_SIXTEEN: BySixteen = {
    unsafe fn begin() {
        // SAFETY: the caller has found the unit.
        unsafe { shape(&BLOCKS) };
    }
    BySixteen { begin, tile, end: release }
};

/// Blocks whose products are made before the first is scaled: what the unit stores can't be read at once. Their weights,
/// unpacked, and the products are to stay in the nearest cache.
const SEGMENT: usize = 12;
/// Blocks between the one that is scaled and the one that is asked for, beyond a segment.
const AHEAD: usize = 4;

/// Whole-number products of 16 tokens' blocks with a block of 16 rows of weights.
#[repr(C, align(64))]
struct Whole([i32; SIDE_BY_SIDE * ROWS]);

/// A block of unpacked weights.
#[repr(C, align(64))]
struct Lines([u8; ROWS * BLOCK]);

/// One tile times the first `n` of sixteen tokens.
///
/// # Safety
/// [`found`] has found products of bytes, [`BySixteen::begin`] came before, and the CPU has AVX-512 with VNNI. `tile` holds a whole
/// tile of `p` for as many blocks as the tokens have; `out` may be written at each token's 16 rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn tile(p: Packing, tile: &[u8], x: &Sixteen, n: usize, out: Out) {
    // SAFETY: the caller's promises are those of the callee.
    unsafe {
        match p {
            Packing::Nibbles { min: false } => multiply::<NIBBLES>(tile, x, n, out),
            Packing::Nibbles { min: true } => multiply::<NIBBLES_MIN>(tile, x, n, out),
            Packing::Super => multiply::<SUPER>(tile, x, n, out),
            Packing::Bytes => multiply::<BYTES>(tile, x, n, out),
        }
    }
}

/// The products of one block in three tiles (sums, tokens, weights), stored. Weights are signed where they are bytes.
macro_rules! product {
    ($multiply:literal, $sums:literal, $tokens:literal, $weights:literal, $x:expr, $lines:expr, $to:expr) => {
        asm!(
            concat!("tilezero ", $sums),
            concat!("tileloadd ", $tokens, ", [{x} + {stride}]"),
            concat!("tileloadd ", $weights, ", [{lines} + {line}]"),
            concat!($multiply, " ", $sums, ", ", $tokens, ", ", $weights),
            concat!("tilestored [{to} + {line}], ", $sums),
            x = in(reg) $x,
            stride = in(reg) BLOCK,
            lines = in(reg) $lines,
            line = in(reg) 64_usize,
            to = in(reg) $to,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn multiply<const P: usize>(tile: &[u8], x: &Sixteen, n: usize, out: Out) {
    let (p, blocks) = (packing(P), x.blocks());
    debug_assert!(tile.len() == p.tile(blocks) && n <= SIDE_BY_SIDE);
    debug_assert!([x.scales.len(), x.scaled_sums.len(), x.quants.len()] == [x.sums.len(); 3]);
    let mut lines = [const { MaybeUninit::<Lines>::uninit() }; SEGMENT];
    let mut whole = [const { MaybeUninit::<Whole>::uninit() }; SEGMENT];
    let mut sums = [_mm512_setzero_ps(); SIDE_BY_SIDE];
    // SAFETY: the records of all blocks lie inside the tile, and `place` says where.
    let record = |b: usize| unsafe { tile.as_ptr().add(p.place(b).0) };
    // What is read later is asked for a little with each block: asked for at once, it would be waited for.
    let half = p.record().div_ceil(128);
    let ask = |b: usize, lines: std::ops::Range<usize>| {
        for line in lines {
            let at = tile.as_ptr().wrapping_add(b * p.record() + 64 * line);
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add((SEGMENT + AHEAD) * p.record()).cast());
            _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(FAR * p.record()).cast());
        }
    };
    let prepare = |b: usize, lines: &mut MaybeUninit<Lines>| {
        if P != BYTES {
            // SAFETY: the record has four lines.
            unsafe { unpack(record(b), lines.as_mut_ptr().cast()) };
        }
    };
    for (b, lines) in lines.iter_mut().enumerate().take(blocks) {
        prepare(b, lines);
    }
    for first in (0..blocks).step_by(SEGMENT) {
        let segment = first..(first + SEGMENT).min(blocks);
        for b in segment.clone() {
            let x = x.quants[b * SIDE_BY_SIDE..][..SIDE_BY_SIDE].as_ptr();
            let from = if P == BYTES { record(b) } else { lines[b % SEGMENT].as_ptr().cast() };
            let to = whole[b % SEGMENT].as_mut_ptr();
            ask(b, 0..half);
            // SAFETY: the unit reads 16 blocks of 32 quants and eight lines of weights, which are there, and writes 16 times 16 sums.
            unsafe {
                // Two sets of tiles, so that one product need not wait for the other.
                match (P == BYTES, b % 2) {
                    (true, 0) => product!("tdpbssd", "tmm0", "tmm4", "tmm6", x, from, to),
                    (true, _) => product!("tdpbssd", "tmm1", "tmm5", "tmm7", x, from, to),
                    (false, 0) => product!("tdpbsud", "tmm0", "tmm4", "tmm6", x, from, to),
                    (false, _) => product!("tdpbsud", "tmm1", "tmm5", "tmm7", x, from, to),
                }
            }
        }
        for b in segment {
            let of = b * SIDE_BY_SIDE..(b + 1) * SIDE_BY_SIDE;
            let (scale, scaled_sum, sum) = (&x.scales[of.clone()], &x.scaled_sums[of.clone()], &x.sums[of]);
            // SAFETY: the tile has this block, and the unit has written its sums.
            unsafe {
                let (d, m) = scales::<P>(tile.as_ptr(), b);
                let whole: *const i32 = whole[b % SEGMENT].as_ptr().cast();
                for t in 0..SIDE_BY_SIDE {
                    let mut products = _mm512_load_si512(whole.add(t * ROWS).cast());
                    // Centred nibbles were taken as 8 larger than they are.
                    if P == NIBBLES {
                        products = _mm512_sub_epi32(products, _mm512_set1_epi32(8 * sum[t]));
                    }
                    let d = _mm512_mul_ps(d, _mm512_set1_ps(scale[t]));
                    sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), d, sums[t]);
                    if P == NIBBLES_MIN || P == SUPER {
                        sums[t] = _mm512_fmadd_ps(m, _mm512_set1_ps(scaled_sum[t]), sums[t]);
                    }
                }
            }
            ask(b, half..p.record().div_ceil(64));
            if b + SEGMENT < blocks {
                prepare(b + SEGMENT, &mut lines[b % SEGMENT]);
            }
        }
    }
    // SAFETY: the caller lets us write 16 rows of each token.
    unsafe { put(&sums[..n], out) };
}

/// The nibbles of a block as bytes: first the lines of the low ones, then those of the high ones.
///
/// # Safety
/// Four lines of 64 bytes lie at `record`, and there is room for eight at `to`, which begins on a line.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
unsafe fn unpack(record: *const u8, to: *mut u8) {
    let low = _mm512_set1_epi8(15);
    for j in 0..4 {
        // SAFETY: the caller's promise.
        unsafe {
            let w = _mm512_loadu_si512(record.add(64 * j).cast());
            _mm512_store_si512(to.add(64 * j).cast(), _mm512_and_si512(w, low));
            _mm512_store_si512(to.add(256 + 64 * j).cast(), _mm512_and_si512(_mm512_srli_epi16(w, 4), low));
        }
    }
}
