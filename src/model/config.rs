//! A model's shape, from GGUF metadata or from a config.json, and the tensors that the shape calls for.

use std::path::Path;

use super::gguf::Metadata;
use super::load::LoadError;
use super::{Config, RopeScaling};

const CURE_LLAMA: &str = "only models of the Llama architecture can be run";
const CURE_HEAD: &str = "give the file of a drafting head, as speclight train makes it";

/// The architecture of Llamas, as GGUF names it.
pub(super) const LLAMA: &str = "llama";

/// The shape that GGUF metadata describes, of a model of that architecture. `vocab` is the number of rows of the embedding, where the file has one;
/// `factors` are what the rotary frequencies are to be divided by, in place of a [`RopeScaling`], where the file
/// asks for linear scaling.
pub(super) fn from_gguf(meta: &Metadata, architecture: &str, vocab: usize) -> Result<(Config, Option<Vec<f32>>), LoadError> {
    let of = |key: &str| format!("{architecture}.{key}");
    match meta.string("general.architecture")? {
        Some(found) if found == architecture => {}
        Some(other) => {
            let what = format!("the architecture is \"{other}\", where \"{architecture}\" was expected");
            return Err(meta.error(what, if architecture == LLAMA { CURE_LLAMA } else { CURE_HEAD }));
        }
        None => return Err(meta.error("has no metadata key general.architecture", CURE_LLAMA)),
    }
    if meta.size(&of("expert_count"))?.unwrap_or(0) > 0 {
        return Err(meta.error("is a mixture of experts (llama.expert_count)", CURE_LLAMA));
    }
    let need = |key: &str| {
        let key = of(key);
        let found = meta.size(&key)?.filter(|&n| n > 0);
        found.ok_or_else(|| meta.error(format!("has no metadata key {key} above 0"), "convert the model again"))
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
        kv_heads: meta.size(&of("attention.head_count_kv"))?.unwrap_or(heads),
        head_dim,
        vocab,
        context: need("context_length")?,
        eps: eps.ok_or_else(|| meta.error(format!("has no metadata key {eps_key}"), "convert the model again"))?,
        rope_base: meta.float(&of("rope.freq_base"))?.unwrap_or(10_000.0),
        rope_scaling: None,
    };
    check(&config, meta.path())?;
    let rotary = meta.size(&of("rope.dimension_count"))?.unwrap_or(head_dim);
    let values = meta.size(&of("attention.value_length"))?.unwrap_or(head_dim);
    if rotary != head_dim || values != head_dim {
        let what = format!("keys of {head_dim}, rotated in {rotary} dimensions, and values of {values} per head");
        return Err(meta.error(what, "only heads of one size, rotated in full, can be run"));
    }
    let factors = match meta.string(&of("rope.scaling.type"))? {
        None | Some("none") => None,
        Some("linear") => {
            let factor = meta.float(&of("rope.scaling.factor"))?.unwrap_or(1.0);
            Some(vec![factor; head_dim / 2])
        }
        Some(other) => {
            return Err(meta.error(format!("rotary scaling \"{other}\""), "only linear and Llama 3's scaling can be run"));
        }
    };
    Ok((config, factors))
}

/// What config.json says beyond candle's own `LlamaConfig`.
#[derive(serde::Deserialize)]
struct Extra {
    model_type: Option<String>,
    head_dim: Option<usize>,
    hidden_act: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    rope_scaling: Option<Rope>,
    /// Where newer files keep base and scaling.
    #[serde(default)]
    rope_parameters: Option<Rope>,
}

#[derive(serde::Deserialize)]
struct Rope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f32>,
    factor: Option<f32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    original_max_position_embeddings: Option<usize>,
}

/// The shape that the config.json at `path` describes, whether the head is the embedding, and the divisors of the
/// rotary frequencies where linear scaling is asked for.
pub(super) fn from_json(text: &str, path: &Path) -> Result<(Config, bool, Option<Vec<f32>>), LoadError> {
    let error = |what: String, cure: &str| LoadError::file(path, what, None, cure);
    let json =
        |e: serde_json::Error| error(format!("not a Llama's config: {e}"), "take the config.json that came with the weights");
    let mut value: serde_json::Value = serde_json::from_str(text).map_err(json)?;
    let extra: Extra = serde_json::from_value(value.clone()).map_err(json)?;
    if let Some(other) = extra.model_type.as_deref().filter(|t| *t != "llama") {
        return Err(error(format!("model_type is \"{other}\", where \"llama\" was expected"), CURE_LLAMA));
    }
    if extra.attention_bias || extra.mlp_bias {
        return Err(error("layers with biases".into(), "only Llamas without biases can be run"));
    }
    if let Some(other) = extra.hidden_act.as_deref().filter(|t| *t != "silu") {
        return Err(error(format!("hidden_act is \"{other}\", where \"silu\" was expected"), CURE_LLAMA));
    }
    // Scaling is read above, more strictly; candle's reader knows fewer kinds and would refuse the file.
    if let Some(object) = value.as_object_mut() {
        object.remove("rope_scaling");
    }
    let c: candle_transformers::models::llama::LlamaConfig = serde_json::from_value(value).map_err(json)?;
    if c.num_attention_heads == 0 {
        return Err(error("num_attention_heads is 0".into(), "take the config.json that came with the weights"));
    }
    let rope = extra.rope_parameters.or(extra.rope_scaling);
    let mut config = Config {
        dim: c.hidden_size,
        ffn: c.intermediate_size,
        layers: c.num_hidden_layers,
        heads: c.num_attention_heads,
        kv_heads: c.num_key_value_heads(),
        head_dim: extra.head_dim.unwrap_or(c.hidden_size / c.num_attention_heads),
        vocab: c.vocab_size,
        context: c.max_position_embeddings,
        eps: c.rms_norm_eps as f32,
        rope_base: rope.as_ref().and_then(|r| r.rope_theta).unwrap_or(c.rope_theta),
        rope_scaling: None,
    };
    let mut factors = None;
    if let Some(rope) = rope {
        let need = |key: &str, value: Option<f32>| {
            value.ok_or_else(|| {
                error(format!("the rotary scaling has no {key}"), "take the config.json that came with the weights")
            })
        };
        match rope.rope_type.as_deref() {
            None | Some("default") => {}
            Some("linear") => factors = Some(vec![need("factor", rope.factor)?; config.head_dim / 2]),
            Some("llama3") => {
                config.rope_scaling = Some(RopeScaling {
                    factor: need("factor", rope.factor)?,
                    low_freq_factor: need("low_freq_factor", rope.low_freq_factor)?,
                    high_freq_factor: need("high_freq_factor", rope.high_freq_factor)?,
                    original_context: rope.original_max_position_embeddings.unwrap_or(config.context),
                });
            }
            Some(other) => {
                return Err(error(format!("rotary scaling \"{other}\""), "only linear and Llama 3's scaling can be run"));
            }
        }
    }
    check(&config, path)?;
    Ok((config, c.tie_word_embeddings.unwrap_or(false), factors))
}

/// Refuses shapes that no Llama has, so that what is computed from them later can't overflow or divide by zero.
pub(super) fn check(c: &Config, path: &Path) -> Result<(), LoadError> {
    // Far above any model, far below where a product of two overflows.
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

/// The matrices of one layer with their rows and columns; each is called `blk.{layer}.{name}.weight`.
pub(super) fn layer_matrices(c: &Config) -> [(&'static str, usize, usize); 7] {
    let (q, kv) = (c.heads * c.head_dim, c.kv_heads * c.head_dim);
    [
        ("attn_q", q, c.dim),
        ("attn_k", kv, c.dim),
        ("attn_v", kv, c.dim),
        ("attn_output", c.dim, q),
        ("ffn_gate", c.ffn, c.dim),
        ("ffn_up", c.ffn, c.dim),
        ("ffn_down", c.dim, c.ffn),
    ]
}

/// Every tensor that a model of this shape must have (a head of its own is optional), with rows and columns. A norm
/// is one row.
pub(super) fn required(c: &Config) -> impl Iterator<Item = (String, usize, usize)> + '_ {
    let ends = [("token_embd.weight".to_string(), c.vocab, c.dim), ("output_norm.weight".to_string(), 1, c.dim)];
    let layers = (0..c.layers).flat_map(move |l| {
        let norms = ["attn_norm", "ffn_norm"].map(|n| (n, 1, c.dim));
        norms.into_iter().chain(layer_matrices(c)).map(move |(n, rows, cols)| (format!("blk.{l}.{n}.weight"), rows, cols))
    });
    ends.into_iter().chain(layers)
}
