//! Forward pass over a token tree with candle operations, on every device that candle supports.
//!
//! This is the path for GPUs, and on the CPU the reference for tests of other paths. Candle's
//! products do not keep one summation order for every batch size, so a node's logits depend on the
//! batch in their last bits. Where activations are rounded to 8 bits (products with quantized
//! weights on CPU and CUDA), such a difference can grow beyond the last bits.

mod cache;
mod decoder;
mod llama;
mod matrix;
mod reduce;
mod text_batch;

pub use decoder::CandleDecoder;
pub use llama::Llama;
pub use matrix::Precision;
pub use text_batch::{BatchStates, TextBatch};
