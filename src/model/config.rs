//! Shapes of models, from GGUF metadata or a config.json, and the tensors they require.
//!
//! Metadata that would change the forward pass in a way that this crate does not compute is
//! rejected: ignoring it would silently produce wrong logits.

use std::path::Path;

use serde_json::Value;

use super::error::{LoadError, json_error, replace_python_numbers};
use super::format::gguf::Metadata;
use super::{Config, RopeScaling};

const CURE_LLAMA: &str = "only models of the Llama architecture can be run";
const CURE_HEAD: &str = "give the file of a drafting head, as speclight train makes it";

/// Upper bound on the context length, in tokens.
///
/// Larger values in files are reduced to it.
const LONGEST_CONTEXT: usize = 1 << 24;

/// Architecture name of Llamas in GGUF.
pub(super) const LLAMA: &str = "llama";

/// Reads the shape of a model of the given architecture from GGUF metadata.
///
/// `vocab` is the number of rows of the embedding. Also returns the divisors of the rotary
/// frequencies if the file asks for linear scaling, which take the place of a [`RopeScaling`].
pub(super) fn from_gguf(
    meta: &Metadata,
    architecture: &str,
    vocab: usize,
) -> Result<(Config, Option<Vec<f32>>), LoadError> {
    let of = |key: &str| format!("{architecture}.{key}");
    match meta.string("general.architecture")? {
        Some(found) if found == architecture => {}
        Some(other) => {
            let what =
                format!("the architecture is \"{other}\", where \"{architecture}\" was expected");
            return Err(
                meta.error(what, if architecture == LLAMA { CURE_LLAMA } else { CURE_HEAD })
            );
        }
        None => return Err(meta.error("has no metadata key general.architecture", CURE_LLAMA)),
    }
    if meta.size(&of("expert_count"))?.unwrap_or(0) > 0 {
        return Err(meta.error("is a mixture of experts (llama.expert_count)", CURE_LLAMA));
    }
    let need = |key: &str| {
        let key = of(key);
        // Some files list the value once per layer, even if all layers are alike.
        let found = meta.equal_sizes(&key)?.filter(|&n| n > 0);
        found.ok_or_else(|| {
            meta.error(format!("has no metadata key {key} above 0"), "convert the model again")
        })
    };
    let (dim, heads) = (need("embedding_length")?, need("attention.head_count")?);
    let head_dim = meta.size(&of("attention.key_length"))?.unwrap_or(dim / heads);
    let eps_key = of("attention.layer_norm_rms_epsilon");
    let eps = meta.float(&eps_key)?;
    let config = Config {
        dim,
        ffn: need("feed_forward_length")?,
        layers: need("block_count")?,
        heads,
        kv_heads: meta.equal_sizes(&of("attention.head_count_kv"))?.unwrap_or(heads),
        head_dim,
        vocab,
        context: need("context_length")?.min(LONGEST_CONTEXT),
        eps: eps.ok_or_else(|| {
            meta.error(format!("has no metadata key {eps_key}"), "convert the model again")
        })?,
        rope_base: meta.float(&of("rope.freq_base"))?.unwrap_or(10_000.0),
        rope_scaling: None,
    };
    check(&config, meta.path())?;
    let rotary = meta.size(&of("rope.dimension_count"))?.unwrap_or(head_dim);
    let values = meta.size(&of("attention.value_length"))?.unwrap_or(head_dim);
    if rotary != head_dim || values != head_dim {
        let what = format!(
            "keys of {head_dim}, rotated in {rotary} dimensions, and values of {values} per head"
        );
        return Err(meta.error(what, "only heads of one size, rotated in full, can be run"));
    }
    uncomputed(meta, architecture, &config)?;
    let factors = linear(meta, architecture)?.map(|factor| vec![factor; head_dim / 2]);
    Ok((config, factors))
}

/// Rejects GGUF files that are not a complete model, such as split parts and adapters.
pub(super) fn reject_partial_model(meta: &Metadata) -> Result<(), LoadError> {
    let parts = meta.size("split.count").ok().flatten().unwrap_or(1);
    if parts > 1 {
        let number = meta.size("split.no").ok().flatten().unwrap_or(0) + 1;
        let cure = "join the parts by llama-gguf-split --merge, and give the whole file";
        return Err(
            meta.error(format!("is part {number} of a model split into {parts} files"), cure)
        );
    }
    match meta.string("general.type").ok().flatten() {
        Some("adapter") => Err(meta.error(
            "is a LoRA adapter, not a model",
            "merge it into its base model, and give that",
        )),
        Some("mmproj") => {
            Err(meta.error("is a projector of images, not a model", "give the model's own file"))
        }
        Some("imatrix") => {
            Err(meta.error("is an importance matrix, not a model", "give the model's own file"))
        }
        _ => Ok(()),
    }
}

/// Reads the divisor of linear rotary scaling; `None` if the file has none.
///
/// Follows llama.cpp: a factor without a type is linear, `rope.scale_linear` is an older name of
/// the factor, and a factor of 0 means none.
fn linear(meta: &Metadata, architecture: &str) -> Result<Option<f32>, LoadError> {
    let of = |key: &str| format!("{architecture}.rope.{key}");
    let factor = match meta.float(&of("scaling.factor"))? {
        Some(factor) => Some(factor),
        None => meta.float(&of("scale_linear"))?,
    };
    match meta.string(&of("scaling.type"))? {
        Some("none") => Ok(None),
        None | Some("linear") => Ok(factor.filter(|factor| *factor != 0.0 && *factor != 1.0)),
        Some(other) => {
            let what = format!("rotary scaling \"{other}\" ({})", of("scaling.type"));
            Err(meta.error(what, "only linear and Llama 3's scaling can be run"))
        }
    }
}

/// Values of a metadata key that leave a Llama's forward pass unchanged.
enum Neutral {
    /// 0, false, or an absent key.
    Off,
    /// The number 0 or 1.
    One,
    /// The value true, or 1.
    On,
    /// 0, false, or a value of at least the context length.
    Context,
    /// 0, false, or `1 / sqrt(head_dim)`.
    Attention,
    /// The string "silu", the activation of Llama.
    Silu,
    /// 0, 1 or false: most likely no effect, for a key that is not known.
    Unknown,
}

/// Keys that other architectures compute with, and the values that turn them off.
const UNSUPPORTED_KEYS: [(&str, Neutral); 23] = [
    ("attention.causal", Neutral::On),
    ("attention.sliding_window", Neutral::Context),
    ("attention.chunk_size", Neutral::Context),
    ("attention.scale", Neutral::Attention),
    ("attention.output_scale", Neutral::One),
    ("attention.temperature_scale", Neutral::Off),
    ("attention.temperature_length", Neutral::Off),
    ("attention.clamp_kqv", Neutral::Off),
    ("attention.max_alibi_bias", Neutral::Off),
    ("attention.group_norm_groups", Neutral::Off),
    ("attention.shared_kv_layers", Neutral::Off),
    ("attn_logit_softcapping", Neutral::Off),
    ("final_logit_softcapping", Neutral::Off),
    ("router_logit_softcapping", Neutral::Off),
    ("logit_scale", Neutral::One),
    ("residual_scale", Neutral::One),
    ("embedding_scale", Neutral::One),
    ("rope.scaling.attn_factor", Neutral::One),
    ("use_parallel_residual", Neutral::Off),
    ("swin_norm", Neutral::Off),
    ("nextn_predict_layers", Neutral::Off),
    ("hidden_activation", Neutral::Silu),
    ("hidden_act", Neutral::Silu),
];

/// Parts of unknown keys that suggest a computation of their own.
const SUSPICIOUS_KEY_PARTS: [&str; 20] = [
    "softcap",
    "clamp",
    "causal",
    "window",
    "alibi",
    "residual",
    "temperature",
    "activation",
    "qk_norm",
    "_scale",
    ".scale",
    "mrope",
    "no_rope",
    "ssm.",
    "_mla",
    "indexer",
    "full_attention",
    "dense_2",
    "dense_3",
    "token_shift",
];

/// Rejects metadata that ask for a computation other than a Llama's.
///
/// Ignoring them would silently change the logits.
fn uncomputed(meta: &Metadata, architecture: &str, c: &Config) -> Result<(), LoadError> {
    for key in meta.keys() {
        let Some(name) = key.strip_prefix(architecture).and_then(|rest| rest.strip_prefix('.'))
        else {
            continue;
        };
        let known =
            UNSUPPORTED_KEYS.iter().find(|(known, _)| *known == name).map(|(_, neutral)| neutral);
        let telling = SUSPICIOUS_KEY_PARTS.iter().any(|part| name.contains(part))
            && name != "rope.scale_linear"
            && !name.starts_with("expert");
        let Some(neutral) = known.or(telling.then_some(&Neutral::Unknown)) else { continue };
        let (flag, number, text) = (
            meta.flag(key).ok().flatten(),
            meta.float(key).ok().flatten(),
            meta.string(key).ok().flatten(),
        );
        let off = flag == Some(false) || number == Some(0.0);
        let neutral = match neutral {
            Neutral::Off => off,
            Neutral::Unknown => off || number == Some(1.0),
            Neutral::One => number == Some(1.0) || number == Some(0.0),
            Neutral::On => flag == Some(true) || number == Some(1.0),
            Neutral::Context => off || number.is_some_and(|n| n >= c.context as f32),
            Neutral::Attention => {
                off || number.is_some_and(|n| (n * (c.head_dim as f32).sqrt() - 1.0).abs() < 1e-5)
            }
            Neutral::Silu => text == Some("silu"),
        };
        if !neutral {
            let value = meta.display_value(key);
            return Err(meta.error(
                format!("{key} is {value}, which a Llama's forward does not compute"),
                CURE_LLAMA,
            ));
        }
    }
    Ok(())
}

/// Keys of a config.json, read as leniently as in transformers.
///
/// Null counts as absent, and a float without a fraction as an integer.
struct Json<'a> {
    path: &'a Path,
    /// Prefix of the keys in messages, such as "rope_scaling."; empty at the top level.
    place: &'static str,
    value: &'a Value,
}

impl Json<'_> {
    fn error(&self, key: &str, wanted: &str) -> LoadError {
        let found = self.value[key].to_string();
        let found =
            if found.len() > 80 { format!("a value of {} bytes", found.len()) } else { found };
        let what = format!("{}{key} is {found}, where {wanted} was expected", self.place);
        LoadError::file(self.path, what, None, CURE_CONFIG)
    }

    fn get<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, LoadError> {
        match &self.value[key] {
            Value::Null => Ok(None),
            value => read(value).map(Some).ok_or_else(|| self.error(key, wanted)),
        }
    }

    fn size(&self, key: &str) -> Result<Option<usize>, LoadError> {
        self.get(key, "a whole number from 0 up", |value| {
            let whole = |x: f64| (x >= 0.0 && x.fract() == 0.0 && x < 9e15).then_some(x as u64);
            value
                .as_u64()
                .or_else(|| value.as_f64().and_then(whole))
                .and_then(|n| usize::try_from(n).ok())
        })
    }

    fn float(&self, key: &str) -> Result<Option<f32>, LoadError> {
        self.get(key, "a number", |value| value.as_f64().map(|x| x as f32))
    }

    fn flag(&self, key: &str) -> Result<bool, LoadError> {
        Ok(self.get(key, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    fn text(&self, key: &str) -> Result<Option<&str>, LoadError> {
        self.get(key, "a string", |value| value.is_string().then_some(()))?;
        Ok(self.value[key].as_str())
    }
}

const CURE_CONFIG: &str = "take the config.json that came with the weights";

/// Contents of a config.json.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonConfig {
    pub config: Config,
    /// True if the output head is tied to the embedding.
    pub tied: bool,
    /// Divisors of the rotary frequencies, if linear scaling is used.
    pub rope_factors: Option<Vec<f32>>,
}

/// Reads the config.json at `path`, whose text is `text`.
///
/// Absent keys have the defaults of transformers' `LlamaConfig`.
pub(super) fn from_json(text: &str, path: &Path) -> Result<JsonConfig, LoadError> {
    let error = |what: String, cure: &str| LoadError::file(path, what, None, cure);
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let value: Value = serde_json::from_slice(&replace_python_numbers(text.as_bytes()))
        .map_err(|e| json_error(text.as_bytes(), &e, path))?;
    if !value.is_object() {
        return Err(error("is no object of JSON".into(), CURE_CONFIG));
    }
    let json = Json { path, place: "", value: &value };
    if let Some(other) = json.text("model_type")?.filter(|t| *t != "llama") {
        return Err(error(
            format!("model_type is \"{other}\", where \"llama\" was expected"),
            CURE_LLAMA,
        ));
    }
    let architectures = value["architectures"].as_array().map_or(&[][..], Vec::as_slice);
    let is_llama =
        |name: &Value| name.as_str().is_none_or(|name| name.to_ascii_lowercase().contains("llama"));
    if value["model_type"].is_null() && !architectures.iter().all(is_llama) {
        let what = format!("architectures is {}", value["architectures"]);
        return Err(error(what, CURE_LLAMA));
    }
    for key in ["quantization_config", "compression_config", "quantization"] {
        if !value[key].is_null() {
            let method = value[key]["quant_method"]
                .as_str()
                .map_or(String::new(), |method| format!(" with {method}"));
            let what = format!("the weights are quantized{method} ({key})");
            return Err(error(what, "take the model with float weights, or a GGUF file of it"));
        }
    }
    if json.flag("attention_bias")? || json.flag("mlp_bias")? {
        return Err(error("layers with biases".into(), "only Llamas without biases can be run"));
    }
    if let Some(other) = json.text("hidden_act")?.filter(|t| *t != "silu") {
        return Err(error(
            format!("hidden_act is \"{other}\", where \"silu\" was expected"),
            CURE_LLAMA,
        ));
    }
    if value["is_causal"] == false || value["use_bidirectional_attention"] == true {
        return Err(error("tokens attend to later ones".into(), "only causal models can be run"));
    }
    // Newer files keep base and scaling in one object.
    let place =
        if value["rope_parameters"].is_object() { "rope_parameters" } else { "rope_scaling" };
    if !matches!(value[place], Value::Null | Value::Object(_)) {
        return Err(json.error(place, "an object"));
    }
    let rope = Json {
        path,
        place: if place == "rope_scaling" { "rope_scaling." } else { "rope_parameters." },
        value: &value[place],
    };
    for part in [&json, &rope] {
        if part.float("partial_rotary_factor")?.is_some_and(|x| x != 1.0) {
            let what = format!("partial_rotary_factor is {}", part.value["partial_rotary_factor"]);
            return Err(error(what, "only heads that are rotated in full can be run"));
        }
    }
    let heads = json.size("num_attention_heads")?.unwrap_or(32);
    let dim = json.size("hidden_size")?.unwrap_or(4096);
    let theta = rope.float("rope_theta")?;
    let mut config = Config {
        dim,
        ffn: json.size("intermediate_size")?.unwrap_or(11_008),
        layers: json.size("num_hidden_layers")?.unwrap_or(32),
        heads,
        kv_heads: json.size("num_key_value_heads")?.unwrap_or(heads),
        head_dim: json.size("head_dim")?.unwrap_or_else(|| dim.checked_div(heads).unwrap_or(0)),
        vocab: json.size("vocab_size")?.unwrap_or(32_000),
        context: json.size("max_position_embeddings")?.unwrap_or(2048).min(LONGEST_CONTEXT),
        eps: json.float("rms_norm_eps")?.unwrap_or(1e-6),
        rope_base: match theta {
            Some(theta) => theta,
            None => json.float("rope_theta")?.unwrap_or(10_000.0),
        },
        rope_scaling: None,
    };
    // Before anything is computed from these numbers.
    check(&config, path)?;
    let need = |key: &str| {
        rope.float(key)?
            .ok_or_else(|| error(format!("the rotary scaling has no {key}"), CURE_CONFIG))
    };
    let mut factors = None;
    // transformers writes both names: `rope_type` for itself, and the older `type` for other
    // programs.
    let kind = match rope.text("rope_type")? {
        Some(kind) => Some(kind),
        None => rope.text("type")?,
    };
    match kind {
        None if rope.float("factor")?.is_some_and(|factor| factor != 1.0) => {
            let what = "the rotary scaling has a factor and no rope_type".into();
            return Err(error(what, CURE_CONFIG));
        }
        None | Some("default") => {}
        Some("linear") => {
            let factor = need("factor")?;
            if !(factor.is_finite() && factor > 0.0) {
                return Err(rope.error("factor", "a number above 0"));
            }
            factors = Some(vec![factor; config.head_dim / 2]);
        }
        Some("llama3") => {
            config.rope_scaling = Some(RopeScaling {
                factor: need("factor")?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original_context: rope
                    .size("original_max_position_embeddings")?
                    .unwrap_or(config.context),
            });
        }
        Some(other) => {
            return Err(error(
                format!("rotary scaling \"{other}\""),
                "only linear and Llama 3's scaling can be run",
            ));
        }
    }
    let tied = json.flag("tie_word_embeddings")?;
    Ok(JsonConfig { config, tied, rope_factors: factors })
}

/// Rejects shapes that no Llama has.
///
/// Later computations on the shape can then neither overflow nor divide by zero.
pub(super) fn check(c: &Config, path: &Path) -> Result<(), LoadError> {
    // Far above any real model, and far below where a product of two overflows.
    let sane = |n: usize| (1..=1 << 24).contains(&n);
    let wrong = [
        ("width", c.dim),
        ("feed-forward width", c.ffn),
        ("count of layers", c.layers),
        ("count of heads", c.heads),
        ("count of key-value heads", c.kv_heads),
        ("size of a head", c.head_dim),
        ("vocabulary", c.vocab),
        ("context", c.context),
    ];
    let cure = "the file is damaged: fetch it again";
    if let Some((what, n)) = wrong.into_iter().find(|&(_, n)| !sane(n)) {
        return Err(LoadError::file(path, format!("a {what} of {n}"), None, cure));
    }
    let what = if !c.heads.is_multiple_of(c.kv_heads) {
        format!("{} heads over {} key-value heads", c.heads, c.kv_heads)
    } else if !c.head_dim.is_multiple_of(2) {
        format!("heads of the odd size {}", c.head_dim)
    } else if !(c.eps.is_finite() && c.eps >= 0.0) {
        format!("a norm epsilon of {}", c.eps)
    } else if !(c.rope_base.is_finite() && c.rope_base > 0.0) {
        format!("a rotary base of {}", c.rope_base)
    } else {
        return Ok(());
    };
    Err(LoadError::file(path, what, None, cure))
}

/// Name and shape of a tensor.
pub(super) struct TensorShape {
    pub name: String,
    /// Number of rows; 1 for a norm.
    pub rows: usize,
    pub cols: usize,
}

/// Returns the tensors that a model of this shape must have.
///
/// The output matrix is not among them: it is optional.
pub(super) fn required_tensors(c: &Config) -> impl Iterator<Item = TensorShape> + '_ {
    let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    let of_layer = [
        ("attn_norm", 1, c.dim),
        ("ffn_norm", 1, c.dim),
        ("attn_q", q, c.dim),
        ("attn_k", kv, c.dim),
        ("attn_v", kv, c.dim),
        ("attn_output", c.dim, q),
        ("ffn_gate", c.ffn, c.dim),
        ("ffn_up", c.ffn, c.dim),
        ("ffn_down", c.dim, c.ffn),
    ];
    let tensor = |name: String, rows, cols| TensorShape { name, rows, cols };
    let layers = (0..c.layers).flat_map(move |l| {
        let name = move |name: &str| format!("blk.{l}.{name}.weight");
        of_layer.map(|(part, rows, cols)| tensor(name(part), rows, cols))
    });
    let ends = [
        tensor("token_embd.weight".to_string(), c.vocab, c.dim),
        tensor("output_norm.weight".to_string(), 1, c.dim),
    ];
    ends.into_iter().chain(layers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CONFIG: &str = r#"{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 256, "rms_norm_eps": 1e-5}"#;

    fn read(more: serde_json::Value) -> Result<JsonConfig, String> {
        let mut value: Value = serde_json::from_str(CONFIG).unwrap();
        for (key, more) in more.as_object().unwrap() {
            value[key] = more.clone();
        }
        let read =
            from_json(&value.to_string(), Path::new("config.json")).map_err(|e| e.to_string());
        assert!(read.as_ref().err().is_none_or(|line| line.lines().count() == 1), "{read:?}");
        read
    }

    #[test]
    fn configs_are_read_as_transformers_reads_them() {
        let plain = read(serde_json::json!({})).unwrap();
        assert_eq!(
            (plain.config.head_dim, plain.config.rope_base, plain.tied, &plain.rope_factors),
            (16, 10_000.0, false, &None)
        );
        for same in [
            serde_json::json!({"attention_bias": null, "mlp_bias": null, "rope_scaling": null, "head_dim": null, "eos_token_id": -1}),
            serde_json::json!({"eos_token_id": [1, 2], "bos_token_id": null, "hidden_size": 64.0, "rope_theta": 10000}),
            serde_json::json!({"rope_scaling": {"rope_type": "default"}, "tie_word_embeddings": null}),
            serde_json::json!({"model_type": null, "architectures": ["LlamaForCausalLM"]}),
            serde_json::json!({"is_causal": true, "rope_scaling": {"factor": 1.0}}),
        ] {
            assert_eq!(read(same).unwrap(), plain);
        }
        let JsonConfig { config: defaults, .. } =
            from_json("\u{feff}{\"model_type\": \"llama\"}", Path::new("config.json")).unwrap();
        assert_eq!(
            (defaults.dim, defaults.ffn, defaults.layers, defaults.heads),
            (4096, 11_008, 32, 32)
        );
        assert_eq!((defaults.vocab, defaults.context, defaults.eps), (32_000, 2048, 1e-6));
        let huge = read(serde_json::json!({"max_position_embeddings": 1u64 << 40})).unwrap().config;
        assert_eq!(huge.context, LONGEST_CONTEXT);
    }

    #[test]
    fn both_names_of_the_kind_of_scaling_are_one() {
        let scaling = |names: &[&str]| {
            let mut rope = serde_json::json!({"factor": 8.0, "low_freq_factor": 1, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64});
            names.iter().for_each(|name| rope[name] = "llama3".into());
            read(serde_json::json!({ "rope_scaling": rope })).unwrap().config.rope_scaling.unwrap()
        };
        let want = RopeScaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 64,
        };
        for names in [&["type"][..], &["rope_type"], &["type", "rope_type"]] {
            assert_eq!(scaling(names), want);
        }
        let JsonConfig { rope_factors: factors, .. } =
            read(serde_json::json!({"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 4}})).unwrap();
        assert_eq!(factors.unwrap(), vec![4.0; 8]);
    }

    #[test]
    fn unsupported_config_keys_are_named_in_the_error() {
        for (more, said) in [
            (
                serde_json::json!({"quantization_config": {"quant_method": "gptq", "bits": 4}}),
                "quantized with gptq (quantization_config)",
            ),
            (serde_json::json!({"quantization_config": {}}), "(quantization_config)"),
            (serde_json::json!({"compression_config": {"format": "x"}}), "(compression_config)"),
            (serde_json::json!({"attention_bias": true}), "biases"),
            (serde_json::json!({"hidden_act": "gelu"}), "hidden_act"),
            (serde_json::json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
            (
                serde_json::json!({"rope_scaling": {"rope_type": "yarn", "factor": 4}}),
                "rotary scaling \"yarn\"",
            ),
            (serde_json::json!({"rope_scaling": {"rope_type": "linear"}}), "no factor"),
            (serde_json::json!({"rope_scaling": {"factor": 2.0}}), "a factor and no rope_type"),
            (serde_json::json!({"is_causal": false}), "attend to later ones"),
            (serde_json::json!({"use_bidirectional_attention": true}), "attend to later ones"),
            (
                serde_json::json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
                "partial_rotary_factor is 0.5",
            ),
            (
                serde_json::json!({"model_type": null, "architectures": ["MistralForCausalLM"]}),
                "architectures is [\"MistralForCausalLM\"]",
            ),
            (
                serde_json::json!({"rope_scaling": {"rope_type": "linear", "factor": 0}}),
                "rope_scaling.factor is 0",
            ),
            (serde_json::json!({"rope_scaling": 4}), "rope_scaling is 4"),
            (serde_json::json!({"hidden_size": "64"}), "hidden_size is \"64\""),
            (serde_json::json!({"hidden_size": 64.5}), "hidden_size is 64.5"),
            (serde_json::json!({"num_attention_heads": 0}), "count of heads of 0"),
            (
                serde_json::json!({"head_dim": 1u64 << 63, "rope_scaling": {"type": "linear", "factor": 2}}),
                "size of a head",
            ),
        ] {
            let line = read(more).unwrap_err();
            assert!(line.contains(said), "{line}: {said}");
        }
    }

    #[test]
    fn numbers_of_python_are_read() {
        let text = CONFIG.trim_end().trim_end_matches('}').to_owned()
            + ", \"rope_scaling\": NaN, \"x\": [Infinity, -Infinity]}";
        from_json(&text, Path::new("config.json")).unwrap();
    }
}
