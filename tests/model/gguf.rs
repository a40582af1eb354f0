//! GGUF files with keys and tensors that change the computation of a Llama.
//!
//! They must be computed as llama.cpp does, or rejected.

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use speclight::model::cpu::{CpuDecoder, Llama};
use speclight::model::format::quant::TensorFormat;
use speclight::model::format::weights::{RawTensor, Weights};
use speclight::model::rope::frequencies;
use speclight::model::{Decoder, Logits};

use super::tiny;

/// Writes a GGUF file of a small model with additional keys and tensors.
fn file(folder: &tempfile::TempDir, keys: &[(&str, Value)], more: &[(&str, &[f32])]) -> PathBuf {
    let weights = Weights::random(tiny::config(2), TensorFormat::F32, false, 3).unwrap();
    let c = weights.config();
    let whole = |n: usize| Value::U32(n as u32);
    let mut metadata = vec![
        ("general.architecture", Value::String("llama".into())),
        ("llama.embedding_length", whole(c.dim)),
        ("llama.feed_forward_length", whole(c.ffn)),
        ("llama.block_count", whole(c.layers)),
        ("llama.context_length", whole(c.context)),
        ("llama.attention.head_count", whole(c.heads)),
        ("llama.attention.head_count_kv", whole(c.kv_heads)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(c.eps)),
    ];
    for (key, value) in keys {
        metadata.retain(|(known, _)| known != key);
        metadata.push((key, value.clone()));
    }
    let mut tensors: Vec<(String, QTensor)> = Vec::new();
    let mut put = |name: &str, shape: Vec<usize>, values: Vec<f32>| {
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        tensors.push((name.to_owned(), QTensor::quantize(&tensor, GgmlDType::F32).unwrap()));
    };
    for t in weights.tensors() {
        let shape = if t.rows == 1 { vec![t.cols] } else { vec![t.rows, t.cols] };
        put(&t.name, shape, weights.read_values(&t.name, 0..t.rows).unwrap());
    }
    more.iter().for_each(|(name, values)| put(name, vec![values.len()], values.to_vec()));
    let path = folder.path().join("m.gguf");
    let mut out = std::fs::File::create(&path).unwrap();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut out, &metadata, &tensors).unwrap();
    path
}

fn refused(path: &std::path::Path, said: &str) {
    let line = Weights::open(path).unwrap_err().to_string();
    assert!(line.contains(said) && line.lines().count() == 1, "{line}: {said}");
}

#[test]
fn rotary_scaling_is_read_in_every_way_that_llama_cpp_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let list: Vec<f32> = (1..=8).map(|i| i as f32).collect();
    let text = |text: &str| Value::String(text.into());
    let (kind, factor, old) =
        ("llama.rope.scaling.type", "llama.rope.scaling.factor", "llama.rope.scale_linear");
    type Case<'a> = (&'a [(&'a str, Value)], bool, f64);
    let cases: [Case; 12] = [
        (&[], false, 1.0),
        (&[(old, Value::F32(4.0))], false, 4.0),
        (&[(factor, Value::F32(2.0))], false, 2.0),
        (&[(factor, Value::F32(2.0)), (old, Value::F32(4.0))], false, 2.0),
        (&[(kind, text("linear")), (factor, Value::F32(8.0))], false, 8.0),
        (&[(kind, text("linear"))], false, 1.0),
        (&[(kind, text("none")), (factor, Value::F32(8.0))], false, 1.0),
        (&[(old, Value::F32(0.0))], false, 1.0),
        (&[], true, 1.0),
        (&[(old, Value::F32(4.0))], true, 4.0),
        (&[(kind, text("linear")), (factor, Value::F32(2.0))], true, 2.0),
        (&[(kind, text("none")), (factor, Value::F32(2.0))], true, 1.0),
    ];
    for (keys, freqs, by) in cases {
        let more: &[(&str, &[f32])] = if freqs { &[("rope_freqs.weight", &list)] } else { &[] };
        let weights = Weights::open(&file(&folder, keys, more)).unwrap();
        let got = frequencies(weights.config(), weights.rope_factors());
        for (i, got) in got.iter().enumerate() {
            let divisor = by * if freqs { f64::from(list[i]) } else { 1.0 };
            let want = 10_000f64.powf(-2.0 * i as f64 / 16.0) / divisor;
            assert!(
                (f64::from(*got) / want - 1.0).abs() < 1e-6,
                "{keys:?}, list {freqs}, pair {i}: {got} for {want}"
            );
        }
    }
    for other in ["yarn", "longrope"] {
        refused(
            &file(&folder, &[(kind, text(other)), (factor, Value::F32(2.0))], &[]),
            &format!("rotary scaling \"{other}\""),
        );
    }
    refused(&file(&folder, &[(old, Value::F32(-1.0))], &[]), "rotary frequency");
}

#[test]
fn tensors_that_a_llama_does_not_compute_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let norm = [5.0f32; 64];
    for name in [
        "blk.0.attn_q_norm.weight",
        "blk.1.attn_k_norm.weight",
        "blk.0.attn_sub_norm.weight",
        "blk.2.ffn_sub_norm.weight",
        "blk.0.post_attention_norm.weight",
        "blk.0.attn_q.scale",
        "blk.0.attn_q.bias",
        "blk.3.attn_norm.weight",
        "rope_factors_long.weight",
        "output_norm.bias",
        "fuse.weight",
    ] {
        refused(&file(&folder, &[], &[(name, &norm)]), name);
    }
}

#[test]
fn keys_that_a_llama_does_not_compute_are_refused_by_name_and_neutral_ones_pass() {
    let folder = tempfile::tempdir().unwrap();
    let text = |text: &str| Value::String(text.into());
    for (key, value) in [
        ("llama.attention.causal", Value::Bool(false)),
        ("llama.logit_scale", Value::F32(0.5)),
        ("llama.embedding_scale", Value::F32(12.0)),
        ("llama.residual_scale", Value::F32(0.22)),
        ("llama.attention.scale", Value::F32(0.5)),
        ("llama.attention.sliding_window", Value::U32(8)),
        ("llama.attn_logit_softcapping", Value::F32(50.0)),
        ("llama.final_logit_softcapping", Value::F32(30.0)),
        ("llama.attention.clamp_kqv", Value::F32(8.0)),
        ("llama.attention.max_alibi_bias", Value::F32(8.0)),
        ("llama.rope.scaling.attn_factor", Value::F32(1.2)),
        ("llama.use_parallel_residual", Value::Bool(true)),
        ("llama.hidden_act", text("gelu")),
        ("llama.attention.new_qk_norm", Value::Bool(true)),
        ("llama.no_rope_layer_interval", Value::U32(4)),
        ("llama.full_attention_interval", Value::U32(4)),
        ("llama.attention.shared_kv_layers", Value::U32(1)),
        ("llama.attention.key_length_mla", Value::U32(8)),
        ("llama.ssm.state_size", Value::U32(16)),
        ("llama.token_shift_count", Value::U32(2)),
    ] {
        refused(&file(&folder, &[(key, value)], &[]), key);
    }
    let neutral = [
        ("llama.attention.causal", Value::Bool(true)),
        ("llama.logit_scale", Value::F32(1.0)),
        ("llama.attention.scale", Value::F32(0.25)),
        ("llama.attention.sliding_window", Value::U32(1 << 25)),
        ("llama.attn_logit_softcapping", Value::F32(0.0)),
        ("llama.use_parallel_residual", Value::Bool(false)),
        ("llama.hidden_act", text("silu")),
        ("llama.vocab_size", Value::U32(120)),
        ("llama.rope.dimension_count", Value::U32(16)),
        ("llama.expert_count", Value::U32(0)),
        ("llama.tensor_data_layout", text("Meta AI original pth")),
        ("llama.attention.head_count_kv", Value::Array(vec![Value::U32(2); 3])),
        ("llama.context_length", Value::U32(1 << 25)),
        ("general.type", text("model")),
    ];
    assert_eq!(Weights::open(&file(&folder, &neutral, &[])).unwrap().config().kv_heads, 2);
    let differs = Value::Array([1, 2, 2].map(Value::U32).to_vec());
    refused(
        &file(&folder, &[("llama.attention.head_count_kv", differs)], &[]),
        "llama.attention.head_count_kv differs",
    );
}

#[test]
fn files_that_are_something_else_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = |text: &str| Value::String(text.into());
    refused(
        &file(&folder, &[("split.count", Value::U16(2)), ("split.no", Value::U16(0))], &[]),
        "part 1 of a model split into 2",
    );
    refused(&file(&folder, &[("general.type", text("adapter"))], &[]), "LoRA adapter");
    let path = folder.path().join("x.gguf");
    for (content, said) in [
        (
            &b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n"[..],
            "pointer of Git LFS",
        ),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\n<html lang=\"en\">", "web page"),
        (b"PK\x03\x04zip", "PyTorch"),
        (b"tjgg\x01\x00\x00\x00", "before GGUF"),
        (b"\x40\0\0\0\0\0\0\0{\"a.weight\":{}}", "safetensors"),
        (b"{\"error\": \"not found\"}", "JSON"),
        (b"abcdefgh", "begins with [61, 62, 63, 64]"),
    ] {
        std::fs::write(&path, content).unwrap();
        refused(&path, said);
    }
}

/// Returns the weights with changed tensor values, stored as `kind`.
fn changed(weights: &Weights, kind: TensorFormat, change: impl Fn(&str, &mut [f32])) -> Weights {
    let tensor = |t: &speclight::model::format::weights::TensorInfo| -> RawTensor {
        let mut values = weights.read_values(&t.name, 0..t.rows).unwrap();
        change(&t.name, &mut values);
        let kind = if t.rows == 1 { TensorFormat::F32 } else { kind };
        let bytes = match kind {
            TensorFormat::F16 => {
                values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect()
            }
            TensorFormat::BF16 => {
                values.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect()
            }
            _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        (t.name.clone(), kind, t.rows, t.cols, bytes)
    };
    Weights::from_tensors(weights.config().clone(), weights.tensors().map(tensor).collect(), false)
        .unwrap()
}

fn logits(weights: &Weights) -> Vec<f32> {
    let mut decoder = CpuDecoder::new(Arc::new(Llama::load(weights, 1).unwrap()), 64);
    (&mut decoder as &mut dyn Decoder).prefill(&[3, 1, 4, 1, 5, 9, 2, 6], 8, Logits::Last).unwrap();
    decoder.logits(7).to_vec()
}

#[test]
fn matrices_of_small_and_of_large_numbers_are_not_flushed() {
    let weights = Weights::random(tiny::config(2), TensorFormat::F32, false, 3).unwrap();
    let want = logits(&weights);
    // Scaled by powers of two, compensated in the preceding norm or the following matrix: the
    // products are the same.
    for factor in [2f32.powi(-20), 2f32.powi(-40), 2f32.powi(30)] {
        let scaled = changed(&weights, TensorFormat::F32, |name, values| {
            let by = match name {
                "output.weight" => factor,
                "output_norm.weight" => 1.0 / factor,
                _ if name.ends_with("ffn_up.weight") => factor.sqrt(),
                _ if name.ends_with("ffn_down.weight") => 1.0 / factor.sqrt(),
                _ => 1.0,
            };
            values.iter_mut().for_each(|x| *x *= by);
        });
        let got = logits(&scaled);
        assert_eq!(got, want, "{factor}");
    }
    // Factors that are no powers of two, and rows of different magnitudes.
    let scaled = changed(&weights, TensorFormat::F32, |name, values| {
        let by = [("output.weight", 1e-6), ("output_norm.weight", 1e6)];
        let by = by.iter().find(|(own, _)| *own == name).map_or(1.0, |(_, by)| *by);
        values.iter_mut().for_each(|x| *x *= by);
    });
    let most = want.iter().fold(0f32, |most, x| most.max(x.abs()));
    assert!(tiny::distance(&logits(&scaled), &want) < 0.01 * most);
}

#[test]
fn non_finite_weights_are_refused_by_tensor_name() {
    let weights = Weights::random(tiny::config(2), TensorFormat::F32, false, 3).unwrap();
    for kind in [TensorFormat::F32, TensorFormat::F16, TensorFormat::BF16] {
        for (tensor, bad) in [
            ("output.weight", f32::NAN),
            ("blk.1.ffn_down.weight", f32::INFINITY),
            ("blk.0.attn_q.weight", f32::NEG_INFINITY),
            ("blk.2.ffn_norm.weight", f32::NAN),
        ] {
            let damaged = changed(&weights, kind, |name, values| {
                if name == tensor {
                    values[33] = bad;
                }
            });
            let line = Llama::load(&damaged, 2).unwrap_err().to_string();
            assert!(
                line.contains(&format!("tensor {tensor} has a value that is not finite")),
                "{line}"
            );
            assert!(line.contains("row 0 from column 33") && line.lines().count() == 1, "{line}");
        }
    }
}
