//! Folders of safetensors with config.json and tokenizer.json.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, safetensors};
use serde_json::{Value, json};
use speclight::model::candle::Precision;
use speclight::model::device::DeviceChoice;
use speclight::model::format::quant::TensorFormat;
use speclight::model::format::weights::Weights;
use speclight::model::{Config, Logits, Model, Tokenizer};

use super::reference::safetensors_name;
use super::tiny::{self, decoder};

const BEGIN: &str = "<|begin_of_text|>";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn golden() -> Value {
    let mut golden: Value = serde_json::from_str(include_str!("../data/tokens.json")).unwrap();
    golden["llama3"].take()
}

fn config() -> Config {
    Config { vocab: 704, rope_scaling: Some(tiny::SCALING), ..tiny::config(2) }
}

/// Builds a tokenizer.json like Llama 3's, with a small vocabulary and three special tokens.
fn tokenizer() -> Value {
    let golden = golden();
    let tokens = golden["tokens"].as_array().unwrap();
    let vocab: serde_json::Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.as_str().unwrap().into(), id.into()))
        .collect();
    let added = [BEGIN, "<|end_of_text|>", "<|eot_id|>"].iter().zip(700..).map(|(content, id)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": BEGIN, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {BEGIN: {"id": BEGIN, "ids": [700], "tokens": [BEGIN]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": false, "byte_fallback": false, "ignore_merges": true, "vocab": vocab, "merges": golden["merges"],
        },
    })
}

fn write(folder: &Path, name: &str, value: &Value) {
    std::fs::write(folder.join(name), value.to_string()).unwrap();
}

/// Writes a model folder with `weights` stored in their own float type.
fn folder(weights: &Weights, dtype: DType) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let c = weights.config();
    let s = tiny::SCALING;
    let scaling = json!({"rope_type": "llama3", "factor": s.factor, "low_freq_factor": s.low_freq_factor,
        "high_freq_factor": s.high_freq_factor, "original_max_position_embeddings": s.original_context});
    let config = json!({"model_type": "llama", "hidden_size": c.dim, "intermediate_size": c.ffn, "vocab_size": c.vocab,
        "num_hidden_layers": c.layers, "num_attention_heads": c.heads, "num_key_value_heads": c.kv_heads,
        "rms_norm_eps": 1e-5, "rope_theta": c.rope_base, "max_position_embeddings": c.context, "hidden_act": "silu",
        "tie_word_embeddings": weights.output_matrix() == "token_embd.weight", "rope_scaling": scaling, "eos_token_id": 701});
    write(folder.path(), "config.json", &config);
    write(folder.path(), "tokenizer.json", &tokenizer());
    write(folder.path(), "generation_config.json", &json!({"eos_token_id": [701, 702]}));
    let template = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}<|eot_id|>{% endfor %}";
    let names = json!({"bos_token": {"content": BEGIN}, "eos_token": "<|end_of_text|>", "chat_template": template});
    write(folder.path(), "tokenizer_config.json", &names);
    let tensors: HashMap<String, Tensor> = (weights.tensors())
        .map(|t| {
            let values = weights.read_values(&t.name, 0..t.rows).unwrap();
            let shape = if t.rows == 1 { vec![t.cols] } else { vec![t.rows, t.cols] };
            let tensor =
                Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
            (safetensors_name(&t.name), tensor)
        })
        .collect();
    safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    folder
}

#[test]
fn a_folder_runs_like_the_weights_that_it_holds() {
    for (kind, dtype, name, tied) in [
        (TensorFormat::F32, DType::F32, "F32", true),
        (TensorFormat::F16, DType::F16, "F16", false),
        (TensorFormat::BF16, DType::BF16, "BF16", true),
    ] {
        let weights = Weights::random(config(), kind, tied, 8).unwrap();
        let folder = folder(&weights, dtype);
        let model = Model::open(folder.path(), DeviceChoice::Cpu, Some(1)).unwrap();
        assert_eq!((model.config(), model.quantization().as_str()), (weights.config(), name));

        let tokens = model.prompt_tokens("Hi", false).unwrap();
        assert_eq!((tokens[0], tokens[tokens.len() - 1]), (700, 702));
        assert!(tokens[1..].iter().all(|&id| id != 700), "one begin token, the template's");
        assert_eq!(
            model.prompt_tokens("Hi", true).unwrap()[0],
            700,
            "raw text has its begin token too"
        );

        let opened = Weights::open(folder.path()).unwrap();
        assert_eq!(opened.config().rope_scaling, Some(tiny::SCALING));
        let logits = |weights: &Weights| {
            let mut decoder = decoder(weights, Precision::F32, 64);
            decoder.prefill(&tokens, 64, Logits::Last).unwrap();
            decoder.logits(tokens.len() - 1).to_vec()
        };
        // Norms are f32 in memory, and rounded in the folder.
        if kind == TensorFormat::F32 {
            assert_eq!(logits(&opened), logits(&weights));
        } else {
            assert!(tiny::distance(&logits(&opened), &logits(&weights)) < 0.1);
        }
    }
}

#[test]
fn tokenizer_json_is_read_with_its_special_tokens() {
    let weights = Weights::random(config(), TensorFormat::F32, true, 8).unwrap();
    let folder = folder(&weights, DType::F32);
    let tokenizer = Tokenizer::open(&Weights::open(folder.path()).unwrap()).unwrap();
    let bytes = tokenizer.token_bytes();
    for case in golden()["cases"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let ids = tokenizer.encode(text, false).unwrap();
        assert_eq!(json!(ids), case["ids"], "{text:?}");
        let back: Vec<u8> = ids.iter().flat_map(|&id| bytes[id as usize].to_vec()).collect();
        assert_eq!(back, text.as_bytes());
    }
    assert_eq!(
        (tokenizer.bos(), tokenizer.stop_tokens(), tokenizer.len()),
        (Some(700), &[701, 702][..], 703)
    );
    assert_eq!(tokenizer.bos_and_eos_texts(), [BEGIN, "<|end_of_text|>"]);
    assert_eq!(tokenizer.encode("<|eot_id|>", true).unwrap(), [702]);
    assert!(tokenizer.encode("<|eot_id|>", false).unwrap().len() > 1);
    assert!(bytes[700..].iter().all(|bytes| bytes.is_empty()));
}

#[test]
fn settings_of_training_in_tokenizer_json_do_not_reach_a_prompt() {
    let weights = Weights::random(config(), TensorFormat::F32, true, 8).unwrap();
    let folder = folder(&weights, DType::F32);
    let text = "Hello world, hello world, hello world.";
    let open = || Tokenizer::open(&Weights::open(folder.path()).unwrap()).unwrap();
    let want = open().encode(text, false).unwrap();
    assert!(want.len() > 8);
    for (pointer, value) in [
        (
            "/truncation",
            json!({"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}),
        ),
        (
            "/truncation",
            json!({"direction": "Left", "max_length": 1, "strategy": "OnlySecond", "stride": 7}),
        ),
        (
            "/padding",
            json!({"strategy": {"Fixed": 64}, "direction": "Left", "pad_to_multiple_of": null, "pad_id": 1, "pad_type_id": 0, "pad_token": "x"}),
        ),
        (
            "/padding",
            json!({"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": 64, "pad_id": 1, "pad_type_id": 0, "pad_token": "x"}),
        ),
        ("/model/dropout", json!(0.9)),
    ] {
        let mut trained = tokenizer();
        *trained.pointer_mut(pointer).unwrap() = value;
        write(folder.path(), "tokenizer.json", &trained);
        assert_eq!(open().encode(text, false).unwrap(), want, "{pointer}");
    }
}

#[test]
fn damaged_folders_are_refused_with_one_line() {
    let weights = Weights::random(config(), TensorFormat::F32, true, 8).unwrap();
    let folder = folder(&weights, DType::F32);
    let refused = |name: &str, said: &str| {
        let line = Model::open(folder.path(), DeviceChoice::Cpu, Some(1)).unwrap_err().to_string();
        assert!(line.contains(name) && line.contains(said) && line.lines().count() == 1, "{line}");
    };
    for name in ["generation_config.json", "tokenizer_config.json", "tokenizer.json"] {
        let whole = std::fs::read(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name), &whole[..whole.len() - 1]).unwrap();
        refused(name, "EOF while parsing");
        std::fs::write(folder.path().join(name), whole).unwrap();
    }
    for (pointer, value, said) in [
        ("/model/merges/3", json!(format!("a {}", "b".repeat(999))), "merge 3 makes no token"),
        ("/model/merges/3", json!("\u{1} q"), "no tokenizer"),
        ("/model/vocab/a", json!(-1), "no tokenizer"),
        ("/model/vocab/a", json!(4_000_000_000u32), "has 703 tokens with numbers below 4000000001"),
        ("/model/vocab/a", json!(704), "the tokenizer has 705 tokens, and the embedding 704 rows"),
        ("/model", json!({}), "no tokenizer"),
        (
            "/normalizer",
            json!({"type": "Sequence", "normalizers": vec![json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}); 40]}),
            "times as long",
        ),
        ("/model/continuing_subword_prefix", json!("x".repeat(99)), "no tokenizer"),
    ] {
        let mut damaged = tokenizer();
        *damaged.pointer_mut(pointer).unwrap() = value;
        write(folder.path(), "tokenizer.json", &damaged);
        refused("tokenizer.json", said);
    }
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    refused("tokenizer.json", "can't be opened");
}

#[test]
fn files_that_are_not_the_model_s_change_nothing() {
    let weights = Weights::random(config(), TensorFormat::F32, true, 8).unwrap();
    let (folder, other) = (
        folder(&weights, DType::F32),
        folder(&Weights::random(config(), TensorFormat::F32, true, 9).unwrap(), DType::F32),
    );
    let from = other.path().join("model.safetensors");
    let same = || {
        let opened = Weights::open(folder.path()).unwrap();
        for t in weights.tensors() {
            let rows = 0..t.rows;
            assert_eq!(
                opened.read_values(&t.name, rows.clone()).unwrap(),
                weights.read_values(&t.name, rows).unwrap(),
                "{}",
                t.name
            );
        }
    };
    for stray in [
        "old-checkpoint.safetensors",
        "consolidated.safetensors",
        "adapter_model.safetensors",
        "model-00001-of-00002.safetensors",
    ] {
        std::fs::copy(&from, folder.path().join(stray)).unwrap();
        same();
    }
    // With an index that names the file of each tensor.
    let name = "model-00001-of-00001.safetensors";
    std::fs::rename(folder.path().join("model.safetensors"), folder.path().join(name)).unwrap();
    let map: serde_json::Map<String, Value> =
        weights.tensors().map(|t| (safetensors_name(&t.name), name.into())).collect();
    write(
        folder.path(),
        "model.safetensors.index.json",
        &json!({ "metadata": {}, "weight_map": map }),
    );
    same();
    // Without an index, duplicate tensors are rejected.
    std::fs::remove_file(folder.path().join("model.safetensors.index.json")).unwrap();
    std::fs::remove_file(folder.path().join("model-00001-of-00002.safetensors")).unwrap();
    same();
    std::fs::copy(&from, folder.path().join("model-other.safetensors")).unwrap();
    let line = Weights::open(folder.path()).unwrap_err().to_string();
    assert!(
        line.contains("is in ") && line.contains("remove the file that is not the model's"),
        "{line}"
    );
}

#[test]
fn quantized_folders_are_named() {
    let weights = Weights::random(config(), TensorFormat::F32, true, 8).unwrap();
    let folder = folder(&weights, DType::F32);
    let path = folder.path().join("model.safetensors");
    let tensors = safetensors::load(&path, &Device::Cpu).unwrap();
    let scale = Tensor::ones(4, DType::F32, &Device::Cpu).unwrap();
    for (name, said) in [
        ("model.layers.0.self_attn.q_proj.weight_scale", "of a quantized model"),
        ("model.layers.0.mlp.up_proj.scales", "of a quantized model"),
        ("model.layers.0.mlp.up_proj.qweight", "of a quantized model"),
        ("base_model.model.layers.0.mlp.up_proj.lora_A.weight", "LoRA adapter"),
        ("model.layers.0.self_attn.q_norm.weight", "that a Llama doesn't have"),
        ("score", "that a Llama doesn't have"),
    ] {
        let mut more = tensors.clone();
        more.insert(name.to_owned(), scale.clone());
        safetensors::save(&more, &path).unwrap();
        let line = Weights::open(folder.path()).unwrap_err().to_string();
        assert!(line.contains(name) && line.contains(said) && line.lines().count() == 1, "{line}");
    }
    let mut more = tensors.clone();
    more.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), scale);
    safetensors::save(&more, &path).unwrap();
    Weights::open(folder.path()).unwrap();
}

#[test]
fn added_tokens_beyond_the_embedding_pass_and_marks_before_json_too() {
    let weights = Weights::random(config(), TensorFormat::F32, true, 8).unwrap();
    let folder = folder(&weights, DType::F32);
    let mut more = tokenizer();
    let added = more["added_tokens"].as_array_mut().unwrap();
    for id in 703..708 {
        let mut token = added[0].clone();
        (token["id"], token["content"]) = (id.into(), format!("<extra_{id}>").into());
        added.push(token);
    }
    write(folder.path(), "tokenizer.json", &more);
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name), format!("\u{feff}{text}")).unwrap();
    }
    let model = Model::open(folder.path(), DeviceChoice::Cpu, Some(1)).unwrap();
    let tokenizer = model.tokenizer();
    assert_eq!(
        (tokenizer.len(), tokenizer.token_text(703), tokenizer.token_text(704)),
        (704, Some("<extra_703>"), None)
    );
    assert_eq!(tokenizer.encode("<extra_703>", true).unwrap(), [703]);
    // Encoding the text of a token beyond the rows of the embedding fails.
    let line = tokenizer.encode("<extra_705>", true).unwrap_err().to_string();
    assert!(line.contains("gives token 705") && line.lines().count() == 1, "{line}");
}

#[test]
fn tokens_that_only_tokenizer_config_lists_are_added() {
    let weights = Weights::random(config(), TensorFormat::F32, true, 8).unwrap();
    let folder = folder(&weights, DType::F32);
    // Ids and tokens as transformers 5.24 gives them.
    let names = json!({"bos_token": BEGIN, "added_tokens_decoder": {
        "703": {"content": "<extra>", "special": false, "normalized": false, "lstrip": true, "rstrip": false, "single_word": false},
        "700": {"content": BEGIN, "special": true},
        "x": {"content": "<no id>"},
        "704": {"content": ""},
        "705": 1,
    }});
    write(folder.path(), "tokenizer_config.json", &names);
    let model = Model::open(folder.path(), DeviceChoice::Cpu, Some(1)).unwrap();
    let tokenizer = model.tokenizer();
    assert_eq!((tokenizer.len(), tokenizer.token_text(703)), (704, Some("<extra>")));
    let tokens = tokenizer.encode("a <extra>a", true).unwrap();
    let a = tokenizer.encode("a", true).unwrap()[0];
    assert_eq!(tokens, [a, 703, a]);
}
