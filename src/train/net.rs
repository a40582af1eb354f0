//! The head as a network over a whole text, with gradients: what `model/kernels/front.rs` and a Llama's layer compute, unrolled over
//! depths as it will be used (training-time test, EAGLE-3, arXiv 2503.01840, section 3.2). An adapter has one depth: whatever the
//! depth of a node is, it reads a state that the target computed.

use std::collections::BTreeMap;

use candle_core::{CpuStorage, CustomOp1, D, Device, Layout, Result, Shape, Tensor, Var, bail};

use super::corpus::TOP;
use super::linear::Products;
use super::sizes::Sizes;
use crate::dist::exp;
use crate::model::HeadForm;

/// The parameters of a head, by the names of their tensors.
pub struct Net {
    pub sizes: Sizes,
    pub vars: BTreeMap<&'static str, Var>,
}

/// Texts of like length as the network reads them together, each filled up to n entries: entry i joins the hidden states at position i
/// with the token at i + 1. An adapter reads the hidden state at position i + 1 instead, where the target has read that token.
pub struct Example {
    /// (texts, n, fused * dim)
    pub hidden: Tensor,
    /// Embeddings of the tokens at 1.., (texts, n, dim).
    pub embedded: Tensor,
    /// The target's laws after the tokens at i + 1, text after text.
    pub laws: Laws,
    /// How much each entry counts, text after text; 0 where a text has none.
    pub counts: Vec<f32>,
    /// The row of the target's most probable token, if it has one; where nobody asked for it, nothing.
    pub best: Vec<Option<u32>>,
    /// Entries that each text has of its own.
    pub lens: Vec<usize>,
}

/// What a head is to predict.
pub enum Laws {
    /// Of each entry [`TOP`] rows of the output and what they weigh, 0 where a token has no row.
    Top { rows: Vec<u32>, weights: Vec<f32> },
    /// The probability of every row of the output, (texts * n, vocab).
    Whole(Tensor),
}

impl Laws {
    /// The cross-entropy that logits (entries, vocab) have to these laws, each entry's times what `counts` has for it: the sum.
    pub fn loss(&self, logits: &Tensor, counts: &[f32]) -> Result<Tensor> {
        match self {
            Laws::Top { rows, weights } => logits.contiguous()?.apply_op1_no_bwd(&SoftCross::new(rows, weights, counts)),
            Laws::Whole(laws) => {
                let counts = Tensor::from_slice(counts, (counts.len(), 1), logits.device())?;
                let all = (laws.sum_keepdim(1)? * logits.log_sum_exp(1)?.unsqueeze(1)?)?;
                ((all - (laws * logits)?.sum_keepdim(1)?)? * counts)?.sum_all()
            }
        }
    }
}

/// What a depth loses.
pub struct Loss {
    /// A number whose gradient is that of the entries' losses times their shares.
    pub term: Tensor,
    /// Sum of the entries' losses times their counts.
    pub counted: Tensor,
}

/// What a pass over a text gives for one depth; rows before `from` mean nothing.
pub struct Depth {
    /// What the output multiplies, (texts, n, dim).
    normed: Tensor,
    pub from: usize,
    /// The states that the next depth goes on from, (texts, n, dim).
    pub out: Tensor,
}

/// The parts of a pass that later depths look back on.
struct Past {
    /// (texts, heads, n, head_dim), rotated.
    key: Tensor,
    value: Tensor,
}

impl Net {
    fn get(&self, name: &str) -> Result<&Tensor> {
        match self.vars.get(name) {
            Some(var) => Ok(var.as_tensor()),
            None => bail!("no tensor {name}"),
        }
    }

    fn norm(&self, x: &Tensor, weight: &str) -> Result<Tensor> {
        let ms = x.sqr()?.mean_keepdim(D::Minus1)?;
        let r = (ms + f64::from(self.sizes.eps))?.sqrt()?.recip()?;
        x.broadcast_mul(&r)?.broadcast_mul(self.get(weight)?)
    }

    fn linear(&self, x: &Tensor, weight: &str, products: Option<&Products>) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let x = x.reshape(((), x.dim(D::Minus1)?))?;
        let y = match products {
            Some(products) => products.apply(&x, weight)?,
            None => x.matmul(&self.get(weight)?.t()?)?,
        };
        shape.pop();
        shape.push(y.dim(1)?);
        y.reshape(shape)
    }

    /// The states that the target's hidden states fuse to, (texts, n, dim).
    fn fuse(&self, hidden: &Tensor, products: Option<&Products>) -> Result<Tensor> {
        let (texts, n, _) = hidden.dims3()?;
        let (fused, dim) = (self.sizes.fused, self.sizes.dim);
        let parts = self.norm(&hidden.reshape((texts, n, fused, dim))?, "fuse_norm.weight")?;
        self.linear(&parts.reshape((texts, n, fused * dim))?, "fuse.weight", products)
    }

    /// Runs `depths` depths over texts (an adapter's one): the fused states of the target, (texts, n, dim), and each depth. With
    /// `products` these multiply, and take up the gradients of the matrices.
    pub fn unroll(&self, example: &Example, depths: usize, products: Option<&Products>) -> Result<(Tensor, Vec<Depth>)> {
        if self.sizes.form == HeadForm::Adapter {
            let out = self.feed(example.hidden.clone(), products)?;
            return Ok((example.hidden.clone(), vec![Depth { normed: self.norm(&out, "output_norm.weight")?, from: 0, out }]));
        }
        let n = example.embedded.dim(1)?;
        let device = example.embedded.device();
        let tokens = self.norm(&example.embedded, "token_norm.weight")?;
        let (cos, sin) = self.angles(n, device)?;
        let fused = self.fuse(&example.hidden, products)?;
        let mut state = fused.clone();
        let (mut pasts, mut all): (Vec<Past>, Vec<Depth>) = (Vec::new(), Vec::new());
        for depth in 0..depths.min(n) {
            let pair = Tensor::cat(&[&tokens, &self.norm(&state, "state_norm.weight")?], 2)?;
            let x = (&state + self.linear(&pair, "input.weight", products)?)?;
            let normed = self.norm(&x, "blk.0.attn_norm.weight")?;
            let query = rotate(&self.heads(&normed, "blk.0.attn_q.weight", products)?, &cos, &sin)?;
            let key = self.repeat(&rotate(&self.heads(&normed, "blk.0.attn_k.weight", products)?, &cos, &sin)?)?;
            let value = self.repeat(&self.heads(&normed, "blk.0.attn_v.weight", products)?)?;
            pasts.push(Past { key, value });
            let mixed = self.attention(&query, &pasts)?;
            let x = (x + self.linear(&mixed, "blk.0.attn_output.weight", products)?)?;
            let out = self.feed(x, products)?;
            let normed = self.norm(&out, "output_norm.weight")?;
            state = shift(&out, 1, 1)?;
            all.push(Depth { normed, from: depth, out });
        }
        Ok((fused, all))
    }

    /// The feed-forward layer.
    fn feed(&self, x: Tensor, products: Option<&Products>) -> Result<Tensor> {
        let normed = self.norm(&x, "blk.0.ffn_norm.weight")?;
        let gated = (self.linear(&normed, "blk.0.ffn_gate.weight", products)?.silu()?
            * self.linear(&normed, "blk.0.ffn_up.weight", products)?)?;
        x + self.linear(&gated, "blk.0.ffn_down.weight", products)?
    }

    /// The logits of a depth, (texts * n, vocab).
    pub fn logits(&self, depth: &Depth, products: Option<&Products>) -> Result<Tensor> {
        self.linear(&depth.normed.flatten_to(1)?, "output.weight", products)
    }

    /// The cross-entropy of a depth to `laws`: each entry's counts as `counts` says, and has the share that `shares` says of what is
    /// learnt. Laws by their most probable tokens are of one text.
    pub fn cross(&self, depth: &Depth, laws: &Laws, counts: &[f32], shares: &[f32], products: Option<&Products>) -> Result<Loss> {
        match laws {
            Laws::Top { rows, weights } => {
                let soft = SoftCross::new(rows, weights, shares);
                let term = match products {
                    Some(products) => products.cross(&depth.normed.flatten_to(1)?, "output.weight", soft)?,
                    None => self.logits(depth, None)?.contiguous()?.apply_op1(soft)?,
                };
                let share =
                    shares.iter().zip(counts).find(|(_, count)| **count > 0.0).map_or(1.0, |(share, count)| share / count);
                Ok(Loss { counted: (term.detach() / f64::from(share))?, term })
            }
            Laws::Whole(all) => {
                let logits = self.logits(depth, products)?;
                let x = logits.detach();
                let shares = Tensor::from_slice(shares, (shares.len(), 1), x.device())?;
                // The gradient of the logits, by hand: what the composed operations would keep of a pass is many times as large.
                let mass = candle_nn::ops::softmax_last_dim(&x)?.broadcast_mul(&all.sum_keepdim(1)?)?;
                let slope = (mass - all)?.broadcast_mul(&shares)?;
                // Row by row first: a device gives each sum one of its processors.
                Ok(Loss { term: (logits * slope)?.sum(1)?.sum_all()?, counted: laws.loss(&x, counts)? })
            }
        }
    }

    fn heads(&self, x: &Tensor, weight: &str, products: Option<&Products>) -> Result<Tensor> {
        let (texts, n, _) = x.dims3()?;
        self.linear(x, weight, products)?.reshape((texts, n, (), self.sizes.head_dim))?.transpose(1, 2)?.contiguous()
    }

    /// Keys or values for each query head.
    fn repeat(&self, x: &Tensor) -> Result<Tensor> {
        let (texts, kv, n, d) = x.dims4()?;
        let group = self.sizes.heads / self.sizes.kv_heads;
        x.unsqueeze(2)?.broadcast_as((texts, kv, group, n, d))?.contiguous()?.reshape((texts, kv * group, n, d))
    }

    /// Attention of the newest depth, J: entry i sees the entries of depth 0 up to i - J, and of each later depth m the one on its
    /// own path, i - (J - m).
    fn attention(&self, query: &Tensor, pasts: &[Past]) -> Result<Tensor> {
        let (texts, heads, n, d) = query.dims4()?;
        let newest = pasts.len() - 1;
        let scale = 1.0 / (d as f64).sqrt();
        let mask: Vec<f32> = (0..n)
            .flat_map(|i| (0..n).map(move |j| if j + newest <= i || (i < newest && j == 0) { 0.0 } else { f32::NEG_INFINITY }))
            .collect();
        let mask = Tensor::from_vec(mask, (n, n), query.device())?;
        let mut scores = vec![(query.matmul(&pasts[0].key.t()?)? * scale)?.broadcast_add(&mask)?];
        for (m, past) in pasts.iter().enumerate().skip(1) {
            let key = shift(&past.key, 2, newest - m)?;
            scores.push(((query * key)?.sum_keepdim(D::Minus1)? * scale)?);
        }
        let scores = Tensor::cat(&scores, 3)?;
        let weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
        let mut mixed = weights.narrow(3, 0, n)?.contiguous()?.matmul(&pasts[0].value)?;
        for (m, past) in pasts.iter().enumerate().skip(1) {
            let value = shift(&past.value, 2, newest - m)?;
            mixed = (mixed + value.broadcast_mul(&weights.narrow(3, n + m - 1, 1)?)?)?;
        }
        mixed.transpose(1, 2)?.contiguous()?.reshape((texts, n, heads * d))
    }

    fn angles(&self, n: usize, device: &Device) -> Result<(Tensor, Tensor)> {
        let half = self.sizes.head_dim / 2;
        let frequency = |i: usize| f64::from(self.sizes.rope_base).powf(-(i as f64) / half as f64);
        let angles: Vec<f64> =
            (0..n).flat_map(|p| (0..half).map(move |i| (p, i))).map(|(p, i)| p as f64 * frequency(i)).collect();
        let part =
            |f: fn(f64) -> f64| Tensor::from_vec(angles.iter().map(|&a| f(a) as f32).collect::<Vec<_>>(), (n, half), device);
        Ok((part(f64::cos)?, part(f64::sin)?))
    }
}

/// Turns the pairs (i, i + half) of each head (texts, heads, n, head_dim).
fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(3)? / 2;
    let (a, b) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
    let first = (a.broadcast_mul(cos)? - b.broadcast_mul(sin)?)?;
    let second = (a.broadcast_mul(sin)? + b.broadcast_mul(cos)?)?;
    Tensor::cat(&[&first, &second], 3)
}

/// Entry i becomes what entry i - by was, along `dim`; the first are zeros.
fn shift(x: &Tensor, dim: usize, by: usize) -> Result<Tensor> {
    if by == 0 {
        return Ok(x.clone());
    }
    let n = x.dim(dim)?;
    let mut shape = x.dims().to_vec();
    shape[dim] = by.min(n);
    let zeros = Tensor::zeros(shape, x.dtype(), x.device())?;
    if by >= n {
        return Ok(zeros);
    }
    Tensor::cat(&[&zeros, &x.narrow(dim, 0, n - by)?], dim)
}

/// Cross-entropy against laws that are known at some rows: for entry i, sum over k of weight (log Z - logit). One pass over the
/// logits each way, which the composed operations take many for.
#[derive(Clone, Debug)]
pub struct SoftCross {
    pub rows: Vec<u32>,
    /// Already times how much the entry counts.
    pub weights: Vec<f32>,
}

impl SoftCross {
    /// Of laws by their [`TOP`] rows, entry i counting `shares[i]`.
    fn new(rows: &[u32], weights: &[f32], shares: &[f32]) -> SoftCross {
        let weights = weights.iter().enumerate().map(|(k, w)| w * shares[k / TOP]).collect();
        SoftCross { rows: rows.to_vec(), weights }
    }

    /// Sum of the losses of the entries from `first` on that `logits` hold; with `grad`, which is all zeros, the gradient of the
    /// logits too.
    pub fn pass(&self, first: usize, logits: &[f32], vocab: usize, mut grad: Option<&mut [f32]>) -> f64 {
        let mut total = 0f64;
        let mut powers = vec![0f32; vocab];
        let wanted = grad.is_some();
        for (i, x) in logits.chunks_exact(vocab).enumerate() {
            let (rows, weights) = (&self.rows[(first + i) * TOP..][..TOP], &self.weights[(first + i) * TOP..][..TOP]);
            let sum: f32 = weights.iter().sum();
            // A gradient begins as zeros.
            if sum == 0.0 {
                continue;
            }
            let max = x.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
            let powers = match &mut grad {
                Some(grad) => &mut grad[i * vocab..][..vocab],
                None => &mut powers[..],
            };
            let mut z = [0f32; 8];
            for (p, x) in powers.chunks_mut(8).zip(x.chunks(8)) {
                for ((p, &x), z) in p.iter_mut().zip(x).zip(&mut z) {
                    *p = exp(x - max);
                    *z += *p;
                }
            }
            let z: f32 = z.iter().sum();
            if wanted {
                let factor = sum / z;
                powers.iter_mut().for_each(|g| *g *= factor);
                for (&row, &w) in rows.iter().zip(weights) {
                    powers[row as usize] -= w;
                }
            }
            let log_z = f64::from(z.ln() + max);
            let cross = |(&row, &w): (&u32, &f32)| f64::from(w) * (log_z - f64::from(x[row as usize]));
            total += rows.iter().zip(weights).map(cross).sum::<f64>();
        }
        total
    }
}

impl CustomOp1 for SoftCross {
    fn name(&self) -> &'static str {
        "soft-cross"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (Some((from, to)), [_, vocab]) = (layout.contiguous_offsets(), layout.dims()) else { bail!("contiguous logits") };
        let loss = self.pass(0, &storage.as_slice::<f32>()?[from..to], *vocab, None);
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (n, vocab) = logits.dims2()?;
        let values = logits.flatten_all()?.to_vec1::<f32>()?;
        let mut out = vec![0f32; n * vocab];
        self.pass(0, &values, vocab, Some(&mut out));
        Ok(Some((Tensor::from_vec(out, (n, vocab), logits.device())? * f64::from(grad.to_scalar::<f32>()?))?))
    }
}
