//! Weights of a Llama on a device, and the forward pass over them.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{ops, rotary_emb};

use super::cache::Cache;
use super::matrix::{Matrix, Precision};
use crate::model::error::LoadError;
use crate::model::format::weights::Weights;
use crate::model::{Config, rope};
use crate::tree::TokenId;

/// Weights of a Llama on a device.
#[derive(Debug)]
pub struct Llama {
    config: Config,
    device: Device,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Tensor,
    /// Output matrix; `None` if it is tied to the embedding.
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

/// Nodes of one pass, in the form that the layers use.
pub(super) struct Batch<'a> {
    /// Token of each node.
    pub tokens: &'a [TokenId],
    /// Rotary position of each node.
    pub positions: &'a [usize],
    /// Cache row of the first node; the others follow it.
    pub first_row: usize,
    /// Attention mask of each node over the cache rows from `mask_from` on.
    ///
    /// 0 or -inf, row by row, up to the cache row of the last node. `None` if every node sees all
    /// of these rows, as a single node does.
    pub mask: Option<Vec<f32>>,
    /// First cache row that the mask covers; every node sees all rows before it.
    pub mask_from: usize,
}

impl Llama {
    /// Copies the weights to `device`.
    ///
    /// # Errors
    /// If reading the weights or the device fails.
    pub fn load(
        weights: &Weights,
        device: &Device,
        precision: Precision,
    ) -> std::result::Result<Self, LoadError> {
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
            head: (weights.output_matrix() != embedding)
                .then(|| matrix(weights.output_matrix()))
                .transpose()?,
            interleaved: weights.rope_interleaved(),
            frequencies: rope::frequencies(&config, weights.rope_factors()),
            device: device.clone(),
            config,
        })
    }

    /// Returns the shape of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Device that holds the weights.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Runs `batch` through the first `layers` layers, and stores its keys and values in `cache`.
    ///
    /// Returns the residual stream after them, (n, dim).
    pub(super) fn run_layers(&self, batch: &Batch, cache: &Cache, layers: usize) -> Result<Tensor> {
        let n = batch.tokens.len();
        let mut x = self.embed(batch.tokens)?;
        let turns = self.rotary_cos_sin(batch.positions)?;
        let mask = batch.mask.as_ref().map(|mask| {
            let behind = Tensor::from_slice(mask, (n, mask.len() / n), &self.device)?;
            Tensor::cat(
                &[&Tensor::zeros((n, batch.mask_from), DType::F32, &self.device)?, &behind],
                1,
            )
        });
        let mask = mask.transpose()?;
        for i in 0..layers {
            x = self.run_layer(i, x, 1, &turns, mask.as_ref(), |keys, values| {
                let (keys, values) =
                    cache.put(i, batch.first_row, &keys.squeeze(0)?, &values.squeeze(0)?)?;
                Ok((keys.unsqueeze(0)?, values.unsqueeze(0)?))
            })?;
        }
        Ok(x)
    }

    /// Looks up the embeddings of `tokens`: (tokens, dim).
    pub fn embed(&self, tokens: &[TokenId]) -> Result<Tensor> {
        self.embedding.lookup_rows(&Tensor::new(tokens, &self.device)?)
    }

    /// Runs layer `i` over `texts` texts with n tokens each.
    ///
    /// `x` is (texts * n, dim). `put` takes the keys and values of these tokens, each (texts,
    /// kv_heads, n, head_dim), and returns those of all tokens of the texts. `mask`, (n, rows) or
    /// (texts, heads, n, rows), is added to the attention scores.
    pub(super) fn run_layer(
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
            matrix
                .forward(&normed)?
                .reshape((texts, n, (), self.config.head_dim))?
                .transpose(1, 2)?
                .contiguous()
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

    /// Computes logits, (rows, vocab), from the residual stream after the last layer, (rows, dim).
    pub fn compute_logits(&self, x: &Tensor) -> Result<Tensor> {
        let normed = ops::rms_norm(&x.contiguous()?, &self.norm, self.config.eps)?;
        self.head.as_ref().unwrap_or(&self.embedding).forward(&normed)
    }

    /// Cosines and sines of the rotary angles of each position, both (n, head_dim / 2).
    ///
    /// The angle is a 32-bit product, as in the training of Llamas.
    pub(super) fn rotary_cos_sin(&self, positions: &[usize]) -> Result<(Tensor, Tensor)> {
        let shape = (positions.len(), self.frequencies.len());
        let angles =
            positions.iter().flat_map(|&p| self.frequencies.iter().map(move |f| p as f32 * f));
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles.map(f32::sin_cos).unzip();
        Ok((
            Tensor::from_vec(cos, shape, &self.device)?,
            Tensor::from_vec(sin, shape, &self.device)?,
        ))
    }

    /// Attention of queries (texts, heads, n, head_dim) over keys and values.
    ///
    /// Keys and values are (texts, kv_heads, rows, head_dim); the result is (texts * n, heads *
    /// head_dim).
    fn attention(
        &self,
        q: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (texts, heads, n, size) = q.dims4()?;
        let (_, kv_heads, rows, _) = keys.dims4()?;
        // Queries that share a key head are adjacent: one product serves all of them, without
        // copies of the keys.
        let together = heads / kv_heads * n;
        let q = q.reshape((texts, kv_heads, together, size))?;
        let mut scores = (q * (1.0 / (size as f64).sqrt()))?.matmul(&keys.t()?)?;
        if let Some(mask) = mask {
            scores = scores
                .reshape((texts, heads, n, rows))?
                .broadcast_add(mask)?
                .reshape((texts, kv_heads, together, rows))?;
        }
        let mixed = ops::softmax_last_dim(&scores)?.matmul(values)?;
        mixed
            .reshape((texts, heads, n, size))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((texts * n, heads * size))
    }
}
