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
mod elementwise;
#[cfg(all(test, target_arch = "x86_64"))]
mod emulation;
mod features;
#[cfg(feature = "cuda")]
pub(super) mod gpu_memory;
mod hidden;
mod input_stage;
mod kernel;
mod kernels;
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
mod work_split;

pub use decoder::{CpuDecoder, MAX_BATCH_TOKENS};
pub use features::{cpu_features, cpu_name};
pub use kernel::Kernel;
pub use llama::Llama;
pub use pool::ThreadPool;
pub use stages::Stage;

use crate::model::format::quant::TensorFormat;
use tile::Packing;

/// Returns `true` if `kind` has no packing of its own.
///
/// Matrices of such formats are requantized to 8 bits with one scale for each 32 values.
pub fn needs_requantizing(kind: TensorFormat) -> bool {
    !Packing::of(kind).1
}
