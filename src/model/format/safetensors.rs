//! Reads headers of safetensors files.
//!
//! A file is an 8-byte length, a JSON object of names, types, shapes and byte ranges, then the
//! data. Every length and range is checked against the size of the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::gguf::TensorEntry;
use super::quant::TensorFormat;
use crate::model::error::{LoadError, recognize_placeholder};

const CURE: &str = "the file is cut off or damaged: fetch it again";

/// Longest header that the format allows, in bytes.
const LONGEST_HEAD: u64 = 100_000_000;

/// Name suffixes of computed tables that older files store beside the weights.
const COMPUTED: [&str; 4] =
    ["rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached", ".position_ids"];

/// Name suffixes in quantized models: GPTQ, AWQ, bitsandbytes, compressed-tensors, FP8, quanto,
/// HQQ.
const QUANTIZED: [&str; 22] = [
    ".qweight",
    ".qzeros",
    ".scales",
    ".g_idx",
    ".absmax",
    ".quant_map",
    ".nested_absmax",
    ".nested_quant_map",
    ".quant_state.bitsandbytes__nf4",
    ".quant_state.bitsandbytes__fp4",
    ".SCB",
    ".weight_format",
    ".weight_scale",
    ".weight_scale_inv",
    ".weight_zero_point",
    ".weight_packed",
    ".weight_shape",
    ".weight_g_idx",
    ".weight_global_scale",
    ".input_scale",
    ".output_scale",
    "._data",
];

#[derive(serde::Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// Reads the tensors of one file, under their names in the file.
pub(in crate::model) fn read(mut file: &File, path: &Path) -> Result<Vec<TensorEntry>, LoadError> {
    let error = |what: String, at: u64| LoadError::file(path, what, Some(at), CURE);
    let io = |e: std::io::Error| error(format!("reading failed: {e}"), 0);
    let len = file.metadata().map_err(io)?.len();
    let mut head = [0; 8];
    file.read_exact(&mut head).map_err(io)?;
    let mut begin = head.to_vec();
    if !head.contains(&0) {
        // No header is that long, so this is not a safetensors file.
        let _ = file.take(200).read_to_end(&mut begin);
        if let Some((what, cure)) = recognize_placeholder(&begin) {
            return Err(LoadError::file(path, what, None, cure));
        }
    }
    let head = u64::from_le_bytes(head);
    if head > len.saturating_sub(8).min(LONGEST_HEAD) {
        return Err(error(
            format!("the head is said to have {head} bytes, and the file has {len}"),
            0,
        ));
    }
    let mut text = vec![0; head as usize];
    file.read_exact(&mut text).map_err(io)?;
    let json = |e: serde_json::Error| error(format!("the head is no list of tensors: {e}"), 8);
    let mut values: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&text).map_err(json)?;
    values.remove("__metadata__");

    let data = 8 + head;
    let mut entries = Vec::new();
    for (name, value) in values {
        // Computed tables are not weights, whatever their type.
        if COMPUTED.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        // Checked before the type: the name of a scale or packed weight explains more than its
        // type.
        if gguf_name(&name).is_none() {
            let quantized = QUANTIZED.iter().any(|end| name.ends_with(end));
            let lora = name.contains("lora_");
            let (what, cure) = match (quantized, lora) {
                (true, _) => (
                    "of a quantized model",
                    "take the model with float weights, or a GGUF file of it",
                ),
                (_, true) => {
                    ("of a LoRA adapter", "merge it into its base model and give the merged folder")
                }
                _ => (
                    "that a Llama doesn't have",
                    "only models of the Llama architecture can be run",
                ),
            };
            return Err(LoadError::file(path, format!("has a tensor {name} {what}"), None, cure));
        }
        let t: Tensor =
            serde_json::from_value(value).map_err(|e| error(format!("tensor {name}: {e}"), 8))?;
        let kind = match t.dtype.as_str() {
            "F32" => TensorFormat::F32,
            "F16" => TensorFormat::F16,
            "BF16" => TensorFormat::BF16,
            other => {
                let what =
                    format!("tensor {name} is stored as {other}, which quantized models use");
                return Err(LoadError::file(
                    path,
                    what,
                    None,
                    "take weights in F32, F16 or BF16, or a GGUF file",
                ));
            }
        };
        let (rows, cols) = match *t.shape {
            [cols] => (1, cols),
            [rows, cols] => (rows, cols),
            _ => {
                return Err(error(
                    format!(
                        "tensor {name} has {} dimensions, where 1 or 2 were expected",
                        t.shape.len()
                    ),
                    8,
                ));
            }
        };
        let (from, to) = t.data_offsets;
        let bytes = kind.row_bytes(cols).and_then(|b| b.checked_mul(rows)).map(|b| b as u64);
        if to.checked_sub(from).is_none() || to.checked_sub(from) != bytes {
            return Err(error(
                format!(
                    "tensor {name}: bytes {from} to {to} for {rows} rows of {cols} values in {}",
                    kind.name()
                ),
                8,
            ));
        }
        let end = data.saturating_add(to);
        if end > len {
            return Err(error(
                format!("tensor {name} ends at byte {end}, and the file has {len}"),
                data.saturating_add(from),
            ));
        }
        entries.push(TensorEntry { name, kind, rows, cols, offset: data + from, bytes: to - from });
    }
    Ok(entries)
}

/// Returns the GGUF name of a Llama tensor, or `None` for any other tensor.
pub(in crate::model) fn gguf_name(name: &str) -> Option<String> {
    let end = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        "lm_head.weight" => Some("output.weight"),
        _ => None,
    };
    if let Some(end) = end {
        return Some(end.into());
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let name = match rest.strip_suffix(".weight")? {
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        _ => return None,
    };
    Some(format!("blk.{layer}.{name}.weight"))
}
