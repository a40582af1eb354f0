//! A Llama's weights on a device, and the pass over them.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{ops, rotary_emb};

use super::cache::Cache;
use super::matrix::Matrix;
use crate::model::load::LoadError;
use crate::model::weights::Weights;
use crate::model::{Config, rope};
use crate::tree::TokenId;

/// The numbers that a forward computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Weights as they are stored; products with quantised weights round their inputs as candle does on that device.
    Stored,
    /// All weights turned to 32-bit floats, no rounding of inputs: the reference.
    F32,
}

/// The weights of a Llama on a device.
#[derive(Debug)]
pub struct Llama {
    config: Config,
    device: Device,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Tensor,
    /// None where the head is the embedding.
    head: Option<Matrix>,
    interleaved: bool,
    frequencies: Vec<f32>,
}

#[derive(Debug)]
struct Layer {
    attention_norm: Tensor,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    output: Matrix,
    ffn_norm: Tensor,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// The nodes of one pass, as the layers see them.
pub(super) struct Batch<'a> {
    /// A token each.
    pub tokens: &'a [TokenId],
    /// A rotary position each.
    pub positions: &'a [usize],
    /// The cache's row of the first node; the others follow.
    pub at: usize,
    /// Of every node, the rows from `mask_from` on up to the last node's that it may not see: 0 or -inf, row by row.
    /// None where each sees all, as one node alone does.
    pub mask: Option<Vec<f32>>,
    /// Every node sees all rows before this one.
    pub mask_from: usize,
}

impl Llama {
    /// Puts the weights on `device`.
    ///
    /// # Errors
    /// If reading them or the device fails.
    pub fn load(weights: &Weights, device: &Device, precision: Precision) -> std::result::Result<Self, LoadError> {
        let config = weights.config().clone();
        let matrix = |name: &str| Matrix::load(weights, name, device, precision);
        let layers = (0..config.layers).map(|i| {
            let name = |part: &str| format!("blk.{i}.{part}.weight");
            Ok(Layer {
                attention_norm: Matrix::load_norm(weights, &name("attn_norm"), device)?,
                query: matrix(&name("attn_q"))?,
                key: matrix(&name("attn_k"))?,
                value: matrix(&name("attn_v"))?,
                output: matrix(&name("attn_output"))?,
                ffn_norm: Matrix::load_norm(weights, &name("ffn_norm"), device)?,
                gate: matrix(&name("ffn_gate"))?,
                up: matrix(&name("ffn_up"))?,
                down: matrix(&name("ffn_down"))?,
            })
        });
        let embedding = "token_embd.weight";
        Ok(Self {
            layers: layers.collect::<std::result::Result<_, LoadError>>()?,
            embedding: matrix(embedding)?,
            norm: Matrix::load_norm(weights, "output_norm.weight", device)?,
            head: (weights.head() != embedding).then(|| matrix(weights.head())).transpose()?,
            interleaved: weights.rope_interleaved(),
            frequencies: rope::frequencies(&config, weights.rope_factors()),
            device: device.clone(),
            config,
        })
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Runs `batch` through the first `layers` layers and leaves its keys and values in `cache`: the residual stream
    /// behind them, (n, dim).
    pub(super) fn layers(&self, batch: &Batch, cache: &Cache, layers: usize) -> Result<Tensor> {
        let n = batch.tokens.len();
        let mut x = self.embed(batch.tokens)?;
        let turns = self.turns(batch.positions)?;
        let mask = batch.mask.as_ref().map(|mask| {
            let behind = Tensor::from_slice(mask, (n, mask.len() / n), &self.device)?;
            Tensor::cat(&[&Tensor::zeros((n, batch.mask_from), DType::F32, &self.device)?, &behind], 1)
        });
        let mask = mask.transpose()?;
        for i in 0..layers {
            x = self.layer(i, x, 1, &turns, mask.as_ref(), |keys, values| {
                let (keys, values) = cache.put(i, batch.at, &keys.squeeze(0)?, &values.squeeze(0)?)?;
                Ok((keys.unsqueeze(0)?, values.unsqueeze(0)?))
            })?;
        }
        Ok(x)
    }

    /// The embeddings of `tokens`, (tokens, dim).
    pub fn embed(&self, tokens: &[TokenId]) -> Result<Tensor> {
        self.embedding.rows(&Tensor::new(tokens, &self.device)?)
    }

    /// Layer `i` over `texts` texts, n tokens of each: x (texts * n, dim). `put` takes their keys and values, (texts, kv_heads, n,
    /// head_dim) each, and gives all that the texts have, which the mask (n, rows), or (texts, heads, n, rows), adds to.
    pub(super) fn layer(
        &self,
        i: usize,
        x: Tensor,
        texts: usize,
        (cos, sin): &(Tensor, Tensor),
        mask: Option<&Tensor>,
        put: impl FnOnce(Tensor, Tensor) -> Result<(Tensor, Tensor)>,
    ) -> Result<Tensor> {
        let layer = &self.layers[i];
        let n = x.dim(0)? / texts;
        let normed = ops::rms_norm(&x, &layer.attention_norm, self.config.eps)?;
        let heads = |matrix: &Matrix| {
            matrix.forward(&normed)?.reshape((texts, n, (), self.config.head_dim))?.transpose(1, 2)?.contiguous()
        };
        let rotate = |heads: Tensor| match self.interleaved {
            true => rotary_emb::rope_i(&heads, cos, sin),
            false => rotary_emb::rope(&heads, cos, sin),
        };
        let (keys, values) = put(rotate(heads(&layer.key)?)?, heads(&layer.value)?)?;
        let mixed = self.attention(&rotate(heads(&layer.query)?)?, &keys, &values, mask)?;
        let x = (x + layer.output.forward(&mixed)?)?;
        let normed = ops::rms_norm(&x, &layer.ffn_norm, self.config.eps)?;
        let hidden = (ops::silu(&layer.gate.forward(&normed)?)? * layer.up.forward(&normed)?)?;
        x + layer.down.forward(&hidden)?
    }

    /// Logits (rows, vocab) of the residual stream behind the last layer, (rows, dim).
    pub fn head(&self, x: &Tensor) -> Result<Tensor> {
        let normed = ops::rms_norm(&x.contiguous()?, &self.norm, self.config.eps)?;
        self.head.as_ref().unwrap_or(&self.embedding).forward(&normed)
    }

    /// Cosines and sines of every position's angles, each (n, head_dim / 2). The angle is a product in 32 bits, as
    /// Llamas were trained with.
    pub(super) fn turns(&self, positions: &[usize]) -> Result<(Tensor, Tensor)> {
        let shape = (positions.len(), self.frequencies.len());
        let angles = positions.iter().flat_map(|&p| self.frequencies.iter().map(move |f| p as f32 * f));
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles.map(f32::sin_cos).unzip();
        Ok((Tensor::from_vec(cos, shape, &self.device)?, Tensor::from_vec(sin, shape, &self.device)?))
    }

    /// Queries (texts, heads, n, head_dim) over keys and values (texts, kv_heads, rows, head_dim): (texts * n, heads * head_dim).
    fn attention(&self, q: &Tensor, keys: &Tensor, values: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (texts, heads, n, size) = q.dims4()?;
        let (_, kv_heads, rows, _) = keys.dims4()?;
        // The queries that share a key are neighbours: one product for all of them, and no copies of the keys.
        let together = heads / kv_heads * n;
        let q = q.reshape((texts, kv_heads, together, size))?;
        let mut scores = (q * (1.0 / (size as f64).sqrt()))?.matmul(&keys.t()?)?;
        if let Some(mask) = mask {
            scores = scores.reshape((texts, heads, n, rows))?.broadcast_add(mask)?.reshape((texts, kv_heads, together, rows))?;
        }
        let mixed = ops::softmax_last_dim(&scores)?.matmul(values)?;
        mixed.reshape((texts, heads, n, size))?.transpose(1, 2)?.contiguous()?.reshape((texts * n, heads * size))
    }
}
