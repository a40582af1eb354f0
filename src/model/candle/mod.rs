//! The forward over a tree in candle's operations: the same for every device that candle knows.
//!
//! It is the path for GPUs, and on CPU the reference that other paths are tested against. Candle's products don't keep
//! one order of sums for every batch size, so a node's logits depend on the batch in their last bits; and where
//! activations are rounded to 8 bits (products with quantised weights on CPU and CUDA), a last bit can become more.

mod cache;
mod decoder;
mod llama;
mod matrix;
mod reduce;
mod texts;

pub use decoder::CandleDecoder;
pub use llama::{Llama, Precision};
pub use texts::{Seen, Texts};
