//! GGUF writer for heads, with matrices in 4-bit blocks that have a minimum (Q4_1).
//!
//! Drafting one depth takes as long as reading the weights. At 8 bits it would take three fifths
//! longer, for a hundredth more tokens per step.

use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::Device;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{self, Value};

use super::TrainError;
use super::net::Net;
use super::rounding::kind;
use super::sizes::HeadTensor;
use crate::tree::TokenId;

/// Writes the head to `path` atomically; `card` describes its training in one line.
///
/// # Errors
/// If it can't be written.
pub fn write(
    path: &Path,
    net: &Net,
    tokens: &[TokenId],
    after: &[usize],
    card: &str,
) -> Result<(), TrainError> {
    let s = &net.sizes;
    let architecture = s.form.architecture();
    let key = |name: &str| format!("{architecture}.{name}");
    let whole = |n: usize| Value::U32(n as u32);
    let list = |all: &mut dyn Iterator<Item = u32>| Value::Array(all.map(Value::U32).collect());
    let metadata = [
        ("general.architecture".to_owned(), Value::String(architecture.into())),
        ("general.description".to_owned(), Value::String(card.into())),
        (key("embedding_length"), whole(s.dim)),
        (key("feed_forward_length"), whole(s.ffn)),
        (key("block_count"), whole(1)),
        (key("context_length"), whole(1 << 20)),
        (key("attention.head_count"), whole(s.heads)),
        (key("attention.head_count_kv"), whole(s.kv_heads)),
        (key("attention.key_length"), whole(s.head_dim)),
        (key("attention.value_length"), whole(s.head_dim)),
        (key("attention.layer_norm_rms_epsilon"), Value::F32(s.eps)),
        (key("rope.freq_base"), Value::F32(s.rope_base)),
        (key("rope.dimension_count"), whole(s.head_dim)),
        (key("tokens"), list(&mut tokens.iter().copied())),
        (key("after"), list(&mut after.iter().map(|&n| n as u32))),
    ];
    let mut tensors = Vec::new();
    for HeadTensor { name, rows, cols } in s.tensors() {
        let Some(var) = net.vars.get(name) else { continue };
        let kind = kind(name, cols);
        let shape = if rows == 1 {
            var.as_tensor().reshape(cols)?
        } else {
            var.as_tensor().reshape((rows, cols))?
        };
        tensors.push((name, QTensor::quantize(&shape.to_device(&Device::Cpu)?, kind)?));
    }
    let disk = |source| TrainError::Disk { path: path.to_owned(), source };
    let part = path.with_extension("part");
    let mut out = BufWriter::new(std::fs::File::create(&part).map_err(disk)?);
    let metadata: Vec<(&str, &Value)> =
        metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    gguf_file::write(&mut out, &metadata, &tensors)?;
    out.flush().map_err(disk)?;
    std::fs::rename(&part, path).map_err(disk)
}
