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
        let mut x = self.embedding.rows(&Tensor::new(batch.tokens, &self.device)?)?;
        let (cos, sin) = self.angles(batch.positions)?;
        let mask = batch.mask.as_ref().map(|mask| {
            let behind = Tensor::from_slice(mask, (n, mask.len() / n), &self.device)?;
            Tensor::cat(&[&Tensor::zeros((n, batch.mask_from), DType::F32, &self.device)?, &behind], 1)
        });
        let mask = mask.transpose()?;
        for (i, layer) in self.layers.iter().take(layers).enumerate() {
            let normed = ops::rms_norm(&x, &layer.attention_norm, self.config.eps)?;
            let [q, k, v] = [(&layer.query, true), (&layer.key, true), (&layer.value, false)].map(|(matrix, rotate)| {
                let heads = matrix.forward(&normed)?.reshape((n, (), self.config.head_dim))?.transpose(0, 1)?.contiguous()?;
                if rotate { self.rotate(&heads, &cos, &sin) } else { Ok(heads) }
            });
            let (keys, values) = cache.put(i, batch.at, &k?, &v?)?;
            let mixed = self.attention(&q?, &keys, &values, mask.as_ref())?;
            x = (x + layer.output.forward(&mixed)?)?;
            let normed = ops::rms_norm(&x, &layer.ffn_norm, self.config.eps)?;
            let hidden = (ops::silu(&layer.gate.forward(&normed)?)? * layer.up.forward(&normed)?)?;
            x = (x + layer.down.forward(&hidden)?)?;
        }
        Ok(x)
    }

    /// Logits of the last `n` rows of `x` (rows, dim), brought to the host: `n * vocab`.
    pub(super) fn logits(&self, x: &Tensor, n: usize) -> Result<Vec<f32>> {
        let x = x.narrow(0, x.dim(0)? - n, n)?.contiguous()?;
        let normed = ops::rms_norm(&x, &self.norm, self.config.eps)?;
        self.head.as_ref().unwrap_or(&self.embedding).forward(&normed)?.flatten_all()?.to_vec1()
    }

    /// Cosines and sines of every position's angles, each (n, head_dim / 2). The angle is a product in 32 bits, as
    /// Llamas were trained with.
    fn angles(&self, positions: &[usize]) -> Result<(Tensor, Tensor)> {
        let shape = (positions.len(), self.frequencies.len());
        let angles = positions.iter().flat_map(|&p| self.frequencies.iter().map(move |f| p as f32 * f));
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles.map(f32::sin_cos).unzip();
        Ok((Tensor::from_vec(cos, shape, &self.device)?, Tensor::from_vec(sin, shape, &self.device)?))
    }

    /// Turns the heads (heads, n, head_dim) by their positions' angles.
    fn rotate(&self, heads: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let heads = heads.unsqueeze(0)?;
        let turned = if self.interleaved { rotary_emb::rope_i(&heads, cos, sin)? } else { rotary_emb::rope(&heads, cos, sin)? };
        turned.squeeze(0)
    }

    /// Queries (heads, n, head_dim) over keys and values (kv_heads, rows, head_dim): (n, heads * head_dim).
    fn attention(&self, q: &Tensor, keys: &Tensor, values: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (heads, n, size) = q.dims3()?;
        let (kv_heads, rows, _) = keys.dims3()?;
        // The queries that share a key are neighbours: one product for all of them, and no copies of the keys.
        let q = q.reshape((kv_heads, heads / kv_heads * n, size))?;
        let mut scores = (q.matmul(&keys.t()?)? * (1.0 / (size as f64).sqrt()))?;
        if let Some(mask) = mask {
            scores = scores.reshape((heads, n, rows))?.broadcast_add(mask)?.reshape((kv_heads, heads / kv_heads * n, rows))?;
        }
        let mixed = ops::softmax_last_dim(&scores)?.matmul(values)?;
        mixed.reshape((heads, n, size))?.transpose(0, 1)?.contiguous()?.reshape((n, heads * size))
    }
}
