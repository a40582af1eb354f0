//! Dimensions of a head, and the tensors that they require.

use serde::{Deserialize, Serialize};

use crate::model::{Config, HeadForm};

/// Name and shape of a head's tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadTensor {
    pub name: &'static str,
    /// Number of rows; 1 for a vector.
    pub rows: usize,
    pub cols: usize,
}

/// Dimensions of a head of one decoder layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeadDims {
    /// Form of the head: an adapter has no attention and nothing before its layer.
    #[serde(default)]
    pub form: HeadForm,
    /// Width of the residual stream, which is the target's.
    pub dim: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads.
    pub kv_heads: usize,
    /// Dimension of an attention head.
    pub head_dim: usize,
    /// Number of rows of the output.
    pub vocab: usize,
    /// Number of hidden states that are fused.
    pub fused: usize,
    /// Epsilon of the norms.
    pub eps: f32,
    /// Base of the rotary embedding.
    pub rope_base: f32,
}

impl HeadDims {
    /// Returns the target's dimensions, with `vocab` output rows over `fused` hidden states.
    pub fn for_target(form: HeadForm, target: &Config, vocab: usize, fused: usize) -> HeadDims {
        HeadDims {
            form,
            dim: target.dim,
            ffn: target.ffn,
            heads: target.heads,
            kv_heads: target.kv_heads,
            head_dim: target.head_dim,
            vocab,
            fused,
            eps: target.eps,
            rope_base: target.rope_base,
        }
    }

    /// Returns the tensors of the head's file.
    pub fn tensors(&self) -> Vec<HeadTensor> {
        let (dim, q, kv) = (self.dim, self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let all = [
            ("fuse_norm.weight", self.fused, dim),
            ("fuse.weight", dim, self.fused * dim),
            ("token_norm.weight", 1, dim),
            ("state_norm.weight", 1, dim),
            ("input.weight", dim, 2 * dim),
            ("blk.0.attn_norm.weight", 1, dim),
            ("blk.0.attn_q.weight", q, dim),
            ("blk.0.attn_k.weight", kv, dim),
            ("blk.0.attn_v.weight", kv, dim),
            ("blk.0.attn_output.weight", dim, q),
            ("blk.0.ffn_norm.weight", 1, dim),
            ("blk.0.ffn_gate.weight", self.ffn, dim),
            ("blk.0.ffn_up.weight", self.ffn, dim),
            ("blk.0.ffn_down.weight", dim, self.ffn),
            ("output_norm.weight", 1, dim),
            ("output.weight", self.vocab, dim),
        ];
        let has = |name: &str| match self.form {
            HeadForm::Eagle => true,
            HeadForm::Adapter => name.contains(".ffn_") || name.starts_with("output"),
        };
        let tensor = |(name, rows, cols)| HeadTensor { name, rows, cols };
        all.into_iter().filter(|(name, ..)| has(name)).map(tensor).collect()
    }

    /// Returns the names of the matrices that inputs are multiplied by.
    pub fn matrices(&self) -> Vec<&'static str> {
        self.tensors()
            .into_iter()
            .map(|tensor| tensor.name)
            .filter(|name| !name.ends_with("norm.weight"))
            .collect()
    }
}
