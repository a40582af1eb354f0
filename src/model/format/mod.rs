//! Model file formats: GGUF and safetensors, their quantized blocks, and the weights read from
//! them.

pub mod gguf;
pub mod quant;
pub(super) mod safetensors;
pub(super) mod shards;
pub mod weights;
