//! Batched decoding of several texts, to keep a GPU busy.

use std::sync::Arc;

use candle_core::{DType, Result, Tensor};

use super::Llama;
use crate::tree::TokenId;

/// Added to attention scores that must not count.
///
/// Finite, because a padding token before a text has no other scores.
const MASKED_SCORE: f32 = -1e9;

/// Batch of texts that grow together, by one or more tokens per pass.
///
/// Texts shorter than the longest start with padding.
#[derive(Debug)]
pub struct TextBatch {
    llama: Arc<Llama>,
    /// Keys and values of each layer, both (texts, kv_heads, capacity, head_dim).
    layers: Vec<(Tensor, Tensor)>,
    /// Number of padding tokens at the start of each text.
    pads: Vec<usize>,
    /// Number of tokens of each text so far, padding included.
    len: usize,
}

/// Hidden states of one pass over a batch of texts.
#[derive(Debug)]
pub struct BatchStates {
    /// Residual stream after the last layer, (texts * n, dim).
    pub last: Tensor,
    /// Residual stream after each of the requested layers, (texts * n, dim) each.
    pub after: Vec<Tensor>,
}

impl TextBatch {
    /// Creates a batch of texts that start with `pads` padding tokens.
    ///
    /// Each text can hold `capacity` tokens, padding included.
    ///
    /// # Errors
    /// If the device has no memory left.
    pub fn new(llama: Arc<Llama>, pads: Vec<usize>, capacity: usize) -> Result<Self> {
        let config = llama.config();
        let shape = (pads.len(), config.kv_heads, capacity, config.head_dim);
        let empty = || Tensor::zeros(shape, DType::F32, llama.device());
        let layers = (0..config.layers).map(|_| Ok((empty()?, empty()?))).collect::<Result<_>>()?;
        Ok(Self { llama, layers, pads, len: 0 })
    }

    /// Appends n tokens to each text and runs them.
    ///
    /// `tokens` holds the n tokens of the first text, then those of the second, and so on. Returns
    /// the residual stream after the last layer, and after each number of layers in `after`.
    ///
    /// # Errors
    /// If a text is full, or the device fails.
    pub fn append(&mut self, tokens: &[TokenId], after: &[usize]) -> Result<BatchStates> {
        let llama = self.llama.clone();
        let (texts, n) = (self.pads.len(), tokens.len() / self.pads.len());
        let mut x = llama.embed(tokens)?;
        let positions: Vec<usize> = self
            .pads
            .iter()
            .flat_map(|&pad| (self.len..self.len + n).map(move |i| i.saturating_sub(pad)))
            .collect();
        let (cos, sin) = llama.rotary_cos_sin(&positions)?;
        let angles = cos.dim(1)?;
        let turns = (cos.reshape((texts, n, angles))?, sin.reshape((texts, n, angles))?);
        let mask = self.mask(n)?;
        let mut states = Vec::with_capacity(after.len());
        for (i, (keys, values)) in self.layers.iter().enumerate() {
            x = llama.run_layer(i, x, texts, &turns, Some(&mask), |k, v| {
                keys.slice_set(&k, 2, self.len)?;
                values.slice_set(&v, 2, self.len)?;
                Ok((keys.narrow(2, 0, self.len + n)?, values.narrow(2, 0, self.len + n)?))
            })?;
            if after.contains(&(i + 1)) {
                states.push(x.clone());
            }
        }
        self.len += n;
        Ok(BatchStates { last: x, after: states })
    }

    /// Attention mask of the next n tokens of each text: (texts, heads, n, tokens).
    ///
    /// Expanded to full size once, since every layer adds it.
    fn mask(&self, n: usize) -> Result<Tensor> {
        let end = self.len + n;
        let hide = |hidden: bool| if hidden { MASKED_SCORE } else { 0.0 };
        let later: Vec<f32> =
            (self.len..end).flat_map(|i| (0..end).map(move |j| hide(j > i))).collect();
        let padding: Vec<f32> =
            self.pads.iter().flat_map(|&pad| (0..end).map(move |j| hide(j < pad))).collect();
        let device = self.llama.device();
        let later = Tensor::from_vec(later, (1, 1, n, end), device)?;
        let mask = later.broadcast_add(&Tensor::from_vec(
            padding,
            (self.pads.len(), 1, 1, end),
            device,
        )?)?;
        mask.broadcast_as((self.pads.len(), self.llama.config().heads, n, end))?.contiguous()
    }

    /// Keeps the texts with these indices, in this order, and drops the others.
    ///
    /// # Errors
    /// If the device fails.
    pub fn keep(&mut self, texts: &[u32]) -> Result<()> {
        let chosen = Tensor::new(texts, self.llama.device())?;
        for (keys, values) in &mut self.layers {
            (*keys, *values) = (keys.index_select(&chosen, 0)?, values.index_select(&chosen, 0)?);
        }
        self.pads = texts.iter().map(|&i| self.pads[i as usize]).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;
    use crate::model::candle::{CandleDecoder, Precision};
    use crate::model::format::quant::TensorFormat;
    use crate::model::format::weights::Weights;
    use crate::model::{Config, Decoder, Node, Parent, Pass};

    const CONFIG: Config = Config { layers: 3, ..Config::SMALL };

    /// Logits after each token of a text that is decoded on its own.
    fn alone(llama: &Arc<Llama>, text: &[TokenId]) -> Vec<Vec<f32>> {
        let mut decoder = CandleDecoder::new(llama.clone(), 64).unwrap();
        let nodes: Vec<Node> = (text.iter().enumerate())
            .map(|(i, &token)| Node {
                token,
                parent: i.checked_sub(1).map_or(Parent::Context, Parent::Slot),
            })
            .collect();
        decoder.append(&nodes, Pass::FULL).unwrap();
        (0..text.len()).map(|i| decoder.logits(i).to_vec()).collect()
    }

    #[test]
    fn batched_text_equals_text_decoded_alone() {
        for interleaved in [false, true] {
            let weights = Weights::random(CONFIG, TensorFormat::Q8_0, interleaved, 5).unwrap();
            let llama = Arc::new(Llama::load(&weights, &Device::Cpu, Precision::F32).unwrap());
            let long: Vec<TokenId> = (0..17).map(|i| i * 31 % 96).collect();
            let short: Vec<TokenId> = (0..11).map(|i| (i * 7 + 3) % 96).collect();
            let pads = vec![0, long.len() - short.len()];
            let padded: Vec<TokenId> = vec![0; pads[1]].into_iter().chain(short.clone()).collect();
            let mut texts = TextBatch::new(llama.clone(), pads.clone(), long.len()).unwrap();
            // The last two tokens are appended one at a time, the last only to the second text.
            let (head, tail) = (long.len() - 2, long.len());
            let first = texts.append(&[&long[..head], &padded[..head]].concat(), &[1, 3]).unwrap();
            assert_eq!(first.after.len(), 2);
            let same = first.after[1]
                .sub(&first.last)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap();
            assert_eq!(same, 0.0);
            let next = texts.append(&[long[head], padded[head]], &[]).unwrap();
            texts.keep(&[1]).unwrap();
            let end = texts.append(&padded[tail - 1..], &[]).unwrap();

            let row = |x: &Tensor, i: usize| -> Vec<f32> {
                llama
                    .compute_logits(&x.narrow(0, i, 1).unwrap())
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .to_vec1()
                    .unwrap()
            };
            let close = |got: Vec<f32>, want: &[f32], what: &str| {
                let off = got.iter().zip(want).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
                assert!(off < 1e-3, "{what}: {off}");
            };
            let (one, two) = (alone(&llama, &long), alone(&llama, &short));
            (0..head).for_each(|i| close(row(&first.last, i), &one[i], "the long text"));
            (pads[1]..head).for_each(|i| {
                close(row(&first.last, head + i), &two[i - pads[1]], "the short text")
            });
            close(row(&next.last, 0), &one[head], "the long text's next");
            close(row(&next.last, 1), &two[head - pads[1]], "the short text's next");
            close(row(&end.last, 0), &two[tail - 1 - pads[1]], "the short text's last");
        }
    }

    #[test]
    fn no_room_is_an_error() {
        let weights = Weights::random(CONFIG, TensorFormat::Q8_0, false, 5).unwrap();
        let llama = Arc::new(Llama::load(&weights, &Device::Cpu, Precision::F32).unwrap());
        let mut texts = TextBatch::new(llama, vec![0, 1], 4).unwrap();
        texts.append(&[1, 2, 3, 0, 5, 6], &[]).unwrap();
        assert!(texts.append(&[1, 2, 3, 4], &[]).is_err());
    }
}
