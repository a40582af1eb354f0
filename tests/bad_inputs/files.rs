//! Folders with config.json, safetensors and tokenizer.json.

use serde_json::{Value, json};

use super::Case;
use super::tiny_gguf::{DIM, byte_level, f32s};

const RUN: &str = "run --model DIR/m --prompt hi --raw --max-tokens 2 --threads 1 --drafter none";
const VOCAB: usize = 258;

/// A tensor of a safetensors file: dtype, shape, bytes.
type Tensor = (String, Vec<usize>, Vec<u8>);

/// Folder that works before a case changes it.
struct Folder {
    config: Value,
    tokenizer: Value,
    tensors: Vec<(String, Tensor)>,
    /// Other files, by name.
    more: Vec<(String, Vec<u8>)>,
    /// Contents of model.safetensors, if they differ from those of `tensors`.
    weights: Option<Vec<u8>>,
    without: Vec<&'static str>,
}

fn folder() -> Folder {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": DIM, "intermediate_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": VOCAB,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": true
    });
    let mut vocab: serde_json::Map<String, Value> =
        byte_level().iter().enumerate().map(|(i, c)| (c.to_string(), json!(i))).collect();
    vocab.insert("hi".into(), json!(256));
    let special = json!({
        "id": 257, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true
    });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [special], "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                   "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": ["h i"] }
    });
    let tensor = |shape: &[usize]| {
        let count: usize = shape.iter().product();
        ("F32".to_owned(), shape.to_vec(), f32s((0..count).map(|i| (i % 7) as f32 * 0.1 - 0.3)))
    };
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let tensors = vec![
        ("model.embed_tokens.weight".to_owned(), tensor(&[VOCAB, DIM])),
        ("model.norm.weight".to_owned(), tensor(&[DIM])),
        (layer("input_layernorm"), tensor(&[DIM])),
        (layer("post_attention_layernorm"), tensor(&[DIM])),
        (layer("self_attn.q_proj"), tensor(&[DIM, DIM])),
        (layer("self_attn.k_proj"), tensor(&[DIM, DIM])),
        (layer("self_attn.v_proj"), tensor(&[DIM, DIM])),
        (layer("self_attn.o_proj"), tensor(&[DIM, DIM])),
        (layer("mlp.gate_proj"), tensor(&[64, DIM])),
        (layer("mlp.up_proj"), tensor(&[64, DIM])),
        (layer("mlp.down_proj"), tensor(&[DIM, 64])),
    ];
    Folder { config, tokenizer, tensors, more: Vec::new(), weights: None, without: Vec::new() }
}

/// Bytes of a safetensors file with this header.
fn safetensors(head: &[u8], data: &[u8]) -> Vec<u8> {
    [&(head.len() as u64).to_le_bytes(), head, data].concat()
}

impl Folder {
    /// Header and data of the weights.
    fn parts(&self) -> (Value, Vec<u8>) {
        let (mut head, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, (dtype, shape, bytes)) in &self.tensors {
            let end = data.len() + bytes.len();
            head.insert(
                name.clone(),
                json!({ "dtype": dtype, "shape": shape, "data_offsets": [data.len(), end] }),
            );
            data.extend(bytes);
        }
        (head.into(), data)
    }

    fn case(self, name: &str) -> Case {
        let (head, data) = self.parts();
        let weights =
            self.weights.unwrap_or_else(|| safetensors(head.to_string().as_bytes(), &data));
        let mut case = Case::new(&format!("folder {name}"), RUN, 1);
        for (file, content) in [
            ("config.json", self.config.to_string().into_bytes()),
            ("tokenizer.json", self.tokenizer.to_string().into_bytes()),
            ("model.safetensors", weights),
        ] {
            // A file of the case replaces the working one.
            if !self.without.contains(&file) && !self.more.iter().any(|(name, _)| name == file) {
                case = case.file(&format!("m/{file}"), content);
            }
        }
        for (file, content) in self.more {
            case = case.file(&format!("m/{file}"), content);
        }
        case
    }
}

fn changed(name: &str, change: impl FnOnce(&mut Folder)) -> Case {
    let mut folder = folder();
    change(&mut folder);
    folder.case(name)
}

/// Case of another value in config.json.
fn config(key: &str, value: Value) -> Case {
    let name = format!("config.json {key}: {value}");
    changed(&name, |folder| folder.config[key] = value)
}

/// Case of other bytes in a file.
fn file(name: &'static str, content: impl AsRef<[u8]>) -> Case {
    let shown: String = String::from_utf8_lossy(content.as_ref()).chars().take(40).collect();
    let content = content.as_ref().to_vec();
    changed(&format!("{name} of {shown:?}"), |folder| folder.more.push((name.into(), content)))
}

/// Case of a header of model.safetensors that is changed.
fn header(name: &str, change: impl FnOnce(&mut Value)) -> Case {
    changed(&format!("safetensors {name}"), |folder| {
        let (mut head, data) = folder.parts();
        change(&mut head);
        folder.weights = Some(safetensors(head.to_string().as_bytes(), &data));
    })
}

pub fn cases() -> Vec<Case> {
    const NORM: &str = "model.norm.weight";
    vec![
        changed("without config.json", |folder| folder.without.push("config.json")),
        file("config.json", ""),
        file("config.json", "{\"model_type\": \"llama\","),
        file("config.json", "[1, 2]"),
        file("config.json", "\u{1b}]52;c;cHduZWQ=\u{7}"),
        file("config.json", format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000))),
        config("model_type", json!("mistral\u{202e}")),
        config("hidden_size", json!("32")),
        config("hidden_size", json!(0)),
        config("hidden_size", json!(1e18)),
        config("num_hidden_layers", json!(-1)),
        config("num_hidden_layers", json!(2)),
        config("num_key_value_heads", json!(3)),
        config("head_dim", json!(9_223_372_036_854_775_808u64)),
        config("vocab_size", json!(300)),
        config("hidden_act", json!("gelu")),
        config("attention_bias", json!(true)),
        config("rope_scaling", json!([1])),
        config("rope_scaling", json!({ "rope_type": "yarn", "factor": 2 })),
        config("rope_scaling", json!({ "rope_type": "llama3", "factor": 8 })),
        config("quantization_config", json!({ "quant_method": "gptq", "bits": 4 })),
        changed("without weights", |folder| folder.without.push("model.safetensors")),
        changed("with pytorch_model.bin alone", |folder| {
            folder.without.push("model.safetensors");
            folder.more.push(("pytorch_model.bin".into(), b"PK\x03\x04".to_vec()));
        }),
        file(
            "model.safetensors.index.json",
            json!({ "weight_map": { NORM: "../x.safetensors" } }).to_string(),
        ),
        file("model.safetensors.index.json", json!({ "weight_map": {} }).to_string()),
        file("model.safetensors", ""),
        file("model.safetensors", [0xff; 16]),
        file("model.safetensors", safetensors(b"[1, 2, 3]", b"")),
        file("model.safetensors", safetensors(b"{\"a\": {\"dtype\"", b"")),
        header("with a tensor beyond the end", |head| {
            head[NORM]["data_offsets"] = json!([0, 1u64 << 60])
        }),
        header("with bytes in reverse", |head| head[NORM]["data_offsets"] = json!([256, 128])),
        header("with integers", |head| head[NORM]["dtype"] = json!("I64")),
        header("with packed floats", |head| head[NORM]["dtype"] = json!("F8_E4M3")),
        header("of three dimensions", |head| head[NORM]["shape"] = json!([DIM, 1, 1])),
        header("with a shape beyond 2^64", |head| {
            head[NORM]["shape"] = json!([1u64 << 40, 1u64 << 40])
        }),
        header("without a tensor", |head| {
            drop(head.as_object_mut().unwrap().remove("model.layers.0.mlp.up_proj.weight"))
        }),
        header("with a bias", |head| {
            let norm = head[NORM].clone();
            head["model.layers.0.self_attn.q_proj.bias"] = norm;
        }),
        changed("with NaN in a matrix", |folder| {
            folder.tensors[8].1.2[..4].copy_from_slice(&f32::NAN.to_le_bytes())
        }),
        changed("without tokenizer.json", |folder| folder.without.push("tokenizer.json")),
        file("tokenizer.json", ""),
        file("tokenizer.json", "{\"version\": \"1.0\"}"),
        file("tokenizer.json", [0x7b, 0xff, 0xfe, 0x7d]),
        changed("tokenizer of an unknown kind", |folder| {
            folder.tokenizer["model"]["type"] = json!("Magic")
        }),
        changed("tokenizer with a merge of no token", |folder| {
            folder.tokenizer["model"]["merges"] = json!(["z q"])
        }),
        changed("tokenizer with a gap in its ids", |folder| {
            folder.tokenizer["model"]["vocab"]["hi"] = json!(100_000)
        }),
        changed("tokenizer with more tokens than rows", |folder| {
            for i in 0..40 {
                folder.tokenizer["model"]["vocab"][format!("t{i}")] = json!(257 + i);
            }
            folder.tokenizer["added_tokens"] = json!([]);
        }),
        changed("tokenizer whose normalizer grows texts", |folder| {
            folder.tokenizer["normalizer"] = json!({ "type": "Replace", "pattern": { "String": "h" }, "content": "x".repeat(100_000) });
        }),
    ]
}
