//! GGUF writer for heads, with matrices in 4-bit blocks that have a minimum (Q4_1).
//!
//! Drafting one depth takes as long as reading the weights. At 8 bits it would take three fifths
//! longer, for a hundredth more tokens per step.

use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{D, DType, Device, Tensor};

use super::TrainError;
use super::net::Net;
use crate::tree::TokenId;

/// Returns the storage type of a tensor with that many columns.
fn kind(name: &str, cols: usize) -> GgmlDType {
    if name.ends_with("norm.weight") || !cols.is_multiple_of(32) {
        GgmlDType::F32
    } else {
        GgmlDType::Q4_1
    }
}

/// Returns a tensor's values as the file will store them.
///
/// # Errors
/// If it is not a tensor of floats.
pub fn round_for_file(name: &str, tensor: &Tensor) -> candle_core::Result<Tensor> {
    match kind(name, tensor.dim(D::Minus1)?) {
        GgmlDType::F32 => Ok(tensor.clone()),
        kind => QTensor::quantize(tensor, kind)?.dequantize(tensor.device()),
    }
}

/// Does the same as [`rounded`] on the tensor's device, without a copy to the host.
///
/// [`GgmlDType::Q4_1`] has 4 bits between the smallest and the largest number of each block of 32;
/// smallest number and step are kept in half precision.
///
/// # Errors
/// If it is not a tensor of floats.
pub fn round_on_device(name: &str, tensor: &Tensor) -> candle_core::Result<Tensor> {
    if kind(name, tensor.dim(D::Minus1)?) == GgmlDType::F32 {
        return Ok(tensor.clone());
    }
    let half = |x: &Tensor| x.to_dtype(DType::F16)?.to_dtype(DType::F32);
    let blocks = tensor.reshape(((), 32))?;
    let least = blocks.min_keepdim(1)?;
    let step = ((blocks.max_keepdim(1)? - &least)? / 15.0)?;
    // A constant block has step 0.
    let times = step.eq(0.0)?.where_cond(&step.zeros_like()?, &step.recip()?)?;
    let level =
        (blocks.broadcast_sub(&least)?.broadcast_mul(&times)? + 0.5)?.floor()?.clamp(0.0, 15.0)?;
    level.broadcast_mul(&half(&step)?)?.broadcast_add(&half(&least)?)?.reshape(tensor.shape())
}

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
    for (name, rows, cols) in s.tensors() {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_device_rounds_as_the_file_does() {
        let mut values: Vec<f32> = (0..8 * 64)
            .map(|i| ((i * i) as f32 * 0.37).sin() * if i < 256 { 0.04 } else { 3.0 })
            .collect();
        // A constant block, a block of zeros, and an outlier.
        values[64..96].fill(0.25);
        values[96..128].fill(0.0);
        values[130] = 40.0;
        let tensor = Tensor::from_vec(values, (8, 64), &Device::Cpu).unwrap();
        for name in ["output.weight", "output_norm.weight"] {
            let numbers = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (want, got) = (
                numbers(round_for_file(name, &tensor).unwrap()),
                numbers(round_on_device(name, &tensor).unwrap()),
            );
            assert_eq!(
                want.iter().zip(&got).filter(|(a, b)| (*a - *b).abs() > 1e-6 * a.abs()).count(),
                0,
                "{name}"
            );
        }
    }
}
