//! Intel AMX, a matrix unit with tile registers of 16 rows of 64 bytes.
//!
//! See Intel, "Software Developer's Manual", volume 1, chapter 18. With int8 it computes products
//! of packed weights with many tokens. Those sums are integers, so the bits equal those of the
//! other kernels. [`super::dense`] uses the unit with bfloat16.
#![allow(unsafe_code)]
#![allow(
    clippy::needless_range_loop,
    reason = "closures of iterator chains are not always inlined into code for an instruction set"
)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::OnceLock;

use super::acts::{GROUP_TOKENS, MAX_GROUPS, TokenGroup};
use super::avx512::real::{put, scales};
use super::dispatch::{BYTES, FAR, NIBBLES, NIBBLES_MIN, Q4K, packing};
use super::kernel::{MatrixUnit, TileOutput};
use super::tile::{BLOCK, Packing, ROWS};

/// Data types that the AMX unit can multiply here.
#[derive(Clone, Copy, Debug)]
pub struct AmxSupport {
    pub int8: bool,
    /// bfloat16, with f32 sums.
    pub bf16: bool,
}

/// Detects the formats of the AMX unit, if the system grants its use.
pub fn amx_support() -> AmxSupport {
    static FOUND: OnceLock<AmxSupport> = OnceLock::new();
    *FOUND.get_or_init(|| {
        const BF16: u32 = 1 << 22;
        const TILES: u32 = 1 << 24;
        const INT8: u32 = 1 << 25;
        // Miri supports neither the instruction nor the unit.
        let bits = if cfg!(miri) || __cpuid(0).eax < 7 { 0 } else { __cpuid_count(7, 0).edx };
        let usable = bits & TILES != 0 && allowed();
        AmxSupport { int8: usable && bits & INT8 != 0, bf16: usable && bits & BF16 != 0 }
    })
}

/// Requests permission to use AMX from Linux.
///
/// Linux saves the unit's state only for processes that asked, and traps its instructions in all
/// others.
#[cfg(target_os = "linux")]
fn allowed() -> bool {
    // arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)
    let mut status: i64 = 158;
    // SAFETY: the call only changes which of our registers the system saves. It overwrites rcx and
    // r11.
    unsafe {
        asm!("syscall", inout("rax") status, in("rdi") 0x1023_u64, in("rsi") 18_u64, out("rcx") _, out("r11") _, options(nostack));
    }
    status == 0
}

/// Always `false`: AMX is untested on other systems.
#[cfg(not(target_os = "linux"))]
fn allowed() -> bool {
    false
}

/// Operand of `ldtilecfg`, which configures the eight tile registers.
#[repr(C, align(64))]
pub struct TileConfig {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl TileConfig {
    /// Configures tile registers with these row sizes in bytes and row counts.
    const fn new(row_bytes: [u16; 8], rows: [u8; 8]) -> TileConfig {
        let mut shape = TileConfig {
            palette: 1,
            start: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        let mut i = 0;
        while i < 8 {
            (shape.row_bytes[i], shape.rows[i]) = (row_bytes[i], rows[i]);
            i += 1;
        }
        shape
    }
}

/// All tile registers with 16 rows of 64 bytes.
pub static FULL_TILES: TileConfig = TileConfig::new([64; 8], [16; 8]);
/// Tile registers: two of sums, two of 16 tokens' blocks, two of weights.
static BLOCKS: TileConfig =
    TileConfig::new([64, 64, 0, 0, 32, 32, 64, 64], [16, 16, 0, 0, 16, 16, 8, 8]);

/// Loads the tile configuration of this thread.
///
/// # Safety
/// [`found`] has found the unit.
pub unsafe fn load_tile_config(shape: &'static TileConfig) {
    // SAFETY: the unit is present, and both configurations are valid.
    unsafe { asm!("ldtilecfg [{}]", in(reg) shape, options(nostack, readonly)) };
}

/// Releases the tile registers, which the system saves at every context switch until then.
///
/// # Safety
/// [`found`] has found the unit.
pub unsafe fn release() {
    // SAFETY: the unit is present.
    unsafe { asm!("tilerelease", options(nostack, nomem)) };
}

/// Products of packed weights with 16-token groups on the AMX unit.
pub static AMX_UNIT: MatrixUnit = {
    unsafe fn begin() {
        // SAFETY: the unit is present (guaranteed by the caller).
        unsafe { load_tile_config(&BLOCKS) };
    }
    MatrixUnit { begin, tile, end: release }
};

/// Number of blocks multiplied before the first one is scaled.
///
/// What the unit stores can't be read immediately, and the vector unit is slower by half for some
/// time after each use of AMX. The unpacked weights and the products of a segment are meant to stay
/// in the L1 cache.
const SEGMENT: usize = 12;
/// Prefetch distance into the L1 cache, in blocks: a little more than a segment.
const L1_PREFETCH_BLOCKS: usize = 16;

/// Integer products of 16 tokens' blocks with one block of 16 rows of weights.
#[repr(C, align(64))]
struct Whole([i32; GROUP_TOKENS * ROWS]);

/// Sums of 16 tokens for 16 rows, carried from segment to segment.
#[repr(C, align(64))]
struct Sums([f32; GROUP_TOKENS * ROWS]);

/// One block of unpacked weights, in eight lines of 64 bytes.
#[repr(C, align(64))]
struct UnpackedBlock([u8; ROWS * BLOCK]);

/// Multiplies one tile by the first `n` tokens of up to [`MAX_GROUPS`] 16-token groups.
///
/// Only the last group may be partial.
///
/// # Safety
/// [`found`] has found int8 support, [`MatrixUnit::begin`] was called before, and the CPU has
/// AVX-512 with VNNI. `tile` holds a whole tile of `p` with as many blocks as the tokens have;
/// `out` may be written at each token's 16 rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn tile(p: Packing, tile: &[u8], x: &[TokenGroup], n: usize, out: TileOutput) {
    // SAFETY: the caller upholds the callee's requirements.
    unsafe {
        match p {
            Packing::Nibbles { min: false } => multiply::<NIBBLES>(tile, x, n, out),
            Packing::Nibbles { min: true } => multiply::<NIBBLES_MIN>(tile, x, n, out),
            Packing::Q4K => multiply::<Q4K>(tile, x, n, out),
            Packing::Bytes => multiply::<BYTES>(tile, x, n, out),
        }
    }
}

/// Multiplies one block in three tile registers (sums, tokens, weights) and stores the sums.
///
/// Weights are signed if they are bytes, and unsigned otherwise.
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
unsafe fn multiply<const P: usize>(tile: &[u8], x: &[TokenGroup], n: usize, out: TileOutput) {
    let (p, blocks) = (packing(P), x[0].blocks());
    debug_assert!(
        tile.len() == p.tile(blocks)
            && x.len() <= MAX_GROUPS
            && n.div_ceil(GROUP_TOKENS) == x.len()
    );
    let mut lines = [const { MaybeUninit::<UnpackedBlock>::uninit() }; SEGMENT];
    let mut whole = [const { MaybeUninit::<Whole>::uninit() }; SEGMENT];
    let mut sums = [const { MaybeUninit::<Sums>::uninit() }; MAX_GROUPS];
    // SAFETY: the records of all blocks lie within the tile, at the offsets given by `place`.
    let record = |b: usize| unsafe { tile.as_ptr().add(p.place(b).0) };
    // Segments of nearly equal length.
    let length = blocks.div_ceil(blocks.div_ceil(SEGMENT));
    for first in (0..blocks).step_by(length) {
        let segment = first..(first + length).min(blocks);
        if P != BYTES {
            for (b, lines) in segment.clone().zip(&mut lines) {
                // SAFETY: the record has four lines.
                unsafe { unpack(record(b), lines.as_mut_ptr().cast()) };
            }
        }
        for (g, of) in x.iter().enumerate() {
            if segment.end == blocks {
                // Rows of different tokens lie far apart, so their cache lines are prefetched
                // before they are written.
                for t in g * GROUP_TOKENS..((g + 1) * GROUP_TOKENS).min(n) {
                    _mm_prefetch::<_MM_HINT_ET0>(out.at.wrapping_add(t * out.stride).cast());
                }
            }
            for (i, b) in segment.clone().enumerate() {
                let x = of.quants[b * GROUP_TOKENS..][..GROUP_TOKENS].as_ptr();
                let from = if P == BYTES { record(b) } else { lines[i].as_ptr().cast() };
                let to = whole[i].as_mut_ptr();
                if g == 0 {
                    ask::<_MM_HINT_T1>(tile, p, b + FAR);
                }
                // SAFETY: the unit reads 16 blocks of 32 quants and eight lines of weights, all of
                // which exist, and writes 16 x 16 sums.
                unsafe {
                    // Two sets of tile registers, so that one product need not wait for the other.
                    match (P == BYTES, i % 2) {
                        (true, 0) => product!("tdpbssd", "tmm0", "tmm4", "tmm6", x, from, to),
                        (true, _) => product!("tdpbssd", "tmm1", "tmm5", "tmm7", x, from, to),
                        (false, 0) => product!("tdpbsud", "tmm0", "tmm4", "tmm6", x, from, to),
                        (false, _) => product!("tdpbsud", "tmm1", "tmm5", "tmm7", x, from, to),
                    }
                }
            }
            let (whole, sums, next) =
                (whole.as_ptr().cast(), sums[g].as_mut_ptr().cast(), g + 1 == x.len());
            // SAFETY: the tile has these blocks, and the unit has written their products.
            unsafe {
                match n - g * GROUP_TOKENS {
                    ..=PARTIAL_GROUP_TOKENS => scale::<P, PARTIAL_GROUP_TOKENS>(
                        tile,
                        segment.clone(),
                        of,
                        whole,
                        sums,
                        next,
                    ),
                    _ => scale::<P, GROUP_TOKENS>(tile, segment.clone(), of, whole, sums, next),
                }
            }
        }
    }
    for (g, sums) in sums.iter().enumerate().take(x.len()) {
        let first = g * GROUP_TOKENS;
        let n = GROUP_TOKENS.min(n - first);
        let out = TileOutput { at: out.at.wrapping_add(first * out.stride), ..out };
        let sums: *const f32 = sums.as_ptr().cast();
        let mut rows = [_mm512_setzero_ps(); GROUP_TOKENS];
        for t in 0..n {
            // SAFETY: the sums of each of these tokens were written above.
            rows[t] = unsafe { _mm512_load_ps(sums.add(t * ROWS)) };
        }
        // SAFETY: the caller allows writes to 16 rows of each token.
        unsafe { put(&rows[..n], out) };
    }
}

/// Prefetches the weights of block `b`, in this tile or after it.
///
/// A few lines are prefetched with each block of work: into L2 while the AMX unit works, and into
/// L1 while the vector unit does. Prefetching all of them at once would stall.
fn ask<const INTO: i32>(tile: &[u8], p: Packing, b: usize) {
    for line in 0..p.record().div_ceil(64) {
        // SAFETY: a prefetch accepts any address; nothing is read.
        unsafe {
            _mm_prefetch::<INTO>(tile.as_ptr().wrapping_add(b * p.record() + 64 * line).cast())
        };
    }
}

/// Up to this many tokens, the rest of a 16-token group is not scaled.
const PARTIAL_GROUP_TOKENS: usize = 12;

/// Scales a segment's products with the first `N` of 16 tokens and accumulates them.
///
/// The sums start from zero at the first block. If `next` is set, it also prefetches the weights
/// that follow.
///
/// # Safety
/// The CPU supports the instructions, the tile has these blocks, `whole` holds the products, and
/// `sums` has 16 rows for each token.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
unsafe fn scale<const P: usize, const N: usize>(
    tile: &[u8],
    segment: Range<usize>,
    x: &TokenGroup,
    whole: *const i32,
    sums: *mut f32,
    next: bool,
) {
    let mut rows = [_mm512_setzero_ps(); N];
    if segment.start > 0 {
        for t in 0..N {
            // SAFETY: an earlier segment has written them.
            rows[t] = unsafe { _mm512_load_ps(sums.add(t * ROWS)) };
        }
    }
    for (i, b) in segment.enumerate() {
        let of = b * GROUP_TOKENS..(b + 1) * GROUP_TOKENS;
        let (scale, scaled_sum, sum) =
            (&x.scales[of.clone()], &x.scaled_sums[of.clone()], &x.sums[of]);
        if next {
            ask::<_MM_HINT_T0>(tile, packing(P), b + L1_PREFETCH_BLOCKS);
        }
        // SAFETY: the tile has this block, and `whole` its products.
        unsafe {
            let (d, m) = scales::<P>(tile.as_ptr(), b);
            for t in 0..N {
                let mut products =
                    _mm512_load_si512(whole.add((i * GROUP_TOKENS + t) * ROWS).cast());
                if P == NIBBLES {
                    // The quants are centered on 8.
                    products = _mm512_sub_epi32(products, _mm512_set1_epi32(8 * sum[t]));
                }
                let d = _mm512_mul_ps(d, _mm512_set1_ps(scale[t]));
                rows[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), d, rows[t]);
                if P == NIBBLES_MIN || P == Q4K {
                    rows[t] = _mm512_fmadd_ps(m, _mm512_set1_ps(scaled_sum[t]), rows[t]);
                }
            }
        }
    }
    for t in 0..N {
        // SAFETY: there is room for 16 rows of each token.
        unsafe { _mm512_store_ps(sums.add(t * ROWS), rows[t]) };
    }
}

/// Unpacks a block's nibbles to bytes, the lines of low nibbles first.
///
/// # Safety
/// Four lines of 64 bytes lie at `record`, and there is room for eight at `to`, which is aligned to
/// 64 bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
unsafe fn unpack(record: *const u8, to: *mut u8) {
    let low = _mm512_set1_epi8(15);
    for j in 0..4 {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let w = _mm512_loadu_si512(record.add(64 * j).cast());
            _mm512_store_si512(to.add(64 * j).cast(), _mm512_and_si512(w, low));
            _mm512_store_si512(
                to.add(256 + 64 * j).cast(),
                _mm512_and_si512(_mm512_srli_epi16(w, 4), low),
            );
        }
    }
}
