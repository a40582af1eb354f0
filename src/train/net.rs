//! Draft head as a network over whole texts, with gradients.
//!
//! Computes what `model/cpu/input_stage.rs` and a Llama's layer compute, unrolled over depths as in
//! drafting (training-time test, EAGLE-3, arXiv 2503.01840, section 3.2). An adapter has one depth:
//! at every depth of a node it reads a state that the target computed.

use std::collections::BTreeMap;

use candle_core::{CpuStorage, CustomOp1, D, Device, Layout, Result, Shape, Tensor, Var, bail};
use candle_nn::ops::softmax_last_dim;

use super::corpus::TOP;
use super::custom_ops::{rope, select_rows, softmax, unit};
use super::linear::{Products, SoftCross};
use super::sizes::HeadDims;
use crate::distribution::exp;
use crate::model::HeadForm;

/// Parameters of a head, by tensor name.
pub struct Net {
    pub sizes: HeadDims,
    pub vars: BTreeMap<&'static str, Var>,
}

/// Batch of texts of similar length, each padded to n entries.
///
/// Entry i joins the hidden states at position i with the token at i + 1. An adapter reads the
/// hidden state at position i + 1 instead, where the target has read that token.
pub struct Example {
    /// Hidden states, (texts, n, fused * dim).
    pub hidden: Tensor,
    /// Embeddings of the tokens from position 1 on, (texts, n, dim).
    pub embedded: Tensor,
    /// Target distributions after the tokens at i + 1, for all entries without padding.
    pub targets: TargetDistributions,
    /// Weight of each of these entries.
    pub counts: Vec<f32>,
    /// Output row of the target's most probable token for each, if it has one.
    ///
    /// May be empty if it was not requested.
    pub best: Vec<Option<u32>>,
    /// Number of entries of each text, without padding.
    pub lens: Vec<usize>,
}

impl Example {
    /// Iterates over the index of each entry within its text, text after text.
    pub fn within(&self) -> impl Iterator<Item = usize> + '_ {
        self.lens.iter().flat_map(|&len| 0..len)
    }

    /// Selects the rows without padding: from (texts, n, width) to (entries, width).
    fn own(&self, x: &Tensor) -> Result<Tensor> {
        let n = x.dim(1)?;
        let rows = x.flatten_to(1)?;
        if self.lens.iter().all(|&len| len == n) {
            return Ok(rows);
        }
        let places: Vec<u32> = self
            .lens
            .iter()
            .enumerate()
            .flat_map(|(t, &len)| (t * n..t * n + len).map(|i| i as u32))
            .collect();
        select_rows(&rows, &places)
    }
}

/// Target distributions that a head is to predict.
pub enum TargetDistributions {
    /// [`TOP`] output rows per entry with weights, 0 where a token has no row.
    Top { rows: Vec<u32>, weights: Vec<f32> },
    /// Probability of each output row given that it is one of them, and their mass.
    ///
    /// Shapes are (entries, vocab) and (entries, 1).
    Whole { given: Tensor, mass: Tensor },
}

impl TargetDistributions {
    /// Returns the cross-entropy of logits (entries, vocab), summed with weights `counts`.
    pub fn loss(&self, logits: &Tensor, counts: &[f32]) -> Result<Tensor> {
        match self {
            TargetDistributions::Top { rows, weights } => {
                logits.contiguous()?.apply_op1_no_bwd(&SoftCross::new(rows, weights, counts))
            }
            TargetDistributions::Whole { given, mass } => {
                whole(given, mass, logits, &softmax_last_dim(logits)?, counts)
            }
        }
    }
}

/// Returns the cross-entropy of logits with softmax `probabilities`, summed with weights `counts`.
///
/// For distributions in the form of [`TargetDistributions::Whole`].
fn whole(
    given: &Tensor,
    mass: &Tensor,
    logits: &Tensor,
    probabilities: &Tensor,
    counts: &[f32],
) -> Result<Tensor> {
    let counts = Tensor::from_slice(counts, (counts.len(), 1), logits.device())?;
    // The largest logit and its probability give the logarithm of the sum of all powers.
    let log_z = (logits.max_keepdim(1)? - probabilities.max_keepdim(1)?.log()?)?;
    ((log_z - (given * logits)?.sum_keepdim(1)?)? * mass * counts)?.sum_all()
}

/// Loss of one depth.
pub struct Loss {
    /// Scalar whose gradient is that of the entries' losses weighted by `shares`.
    pub term: Tensor,
    /// Sum of the entries' losses weighted by `counts`.
    pub counted: Tensor,
}

/// Output of a pass for one depth; rows before `from` are meaningless.
pub struct Depth {
    /// Input of the output matrix, (entries, dim), without padding.
    normed: Tensor,
    pub from: usize,
    /// States from which the next depth continues, (texts, n, dim).
    pub out: Tensor,
}

/// Keys and values of one depth, which later depths attend to.
struct DepthCache {
    /// Rotated keys, (texts, heads, n, head_dim).
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
        unit(x, self.sizes.eps)?.broadcast_mul(self.get(weight)?)
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

    /// Returns the fused hidden states of the target, (texts, n, dim).
    fn fuse(&self, hidden: &Tensor, products: Option<&Products>) -> Result<Tensor> {
        let (texts, n, _) = hidden.dims3()?;
        let (fused, dim) = (self.sizes.fused, self.sizes.dim);
        let parts = self.norm(&hidden.reshape((texts, n, fused, dim))?, "fuse_norm.weight")?;
        self.linear(&parts.reshape((texts, n, fused * dim))?, "fuse.weight", products)
    }

    /// Runs `depths` depths over texts (one for an adapter).
    ///
    /// Returns the fused states of the target, (texts, n, dim), and each depth. If `products` are
    /// given, they multiply and accumulate the gradients of the matrices.
    pub fn unroll(
        &self,
        example: &Example,
        depths: usize,
        products: Option<&Products>,
    ) -> Result<(Tensor, Vec<Depth>)> {
        if self.sizes.form == HeadForm::Adapter {
            let out = self.feed(example.hidden.clone(), products)?;
            let normed = self.norm(&example.own(&out)?, "output_norm.weight")?;
            return Ok((example.hidden.clone(), vec![Depth { normed, from: 0, out }]));
        }
        let n = example.embedded.dim(1)?;
        let device = example.embedded.device();
        let tokens = self.norm(&example.embedded, "token_norm.weight")?;
        let (cos, sin) = self.angles(n, device)?;
        let fused = self.fuse(&example.hidden, products)?;
        let mut state = fused.clone();
        let (mut pasts, mut all): (Vec<DepthCache>, Vec<Depth>) = (Vec::new(), Vec::new());
        for depth in 0..depths.min(n) {
            let pair = Tensor::cat(&[&tokens, &self.norm(&state, "state_norm.weight")?], 2)?;
            let x = (&state + self.linear(&pair, "input.weight", products)?)?;
            let normed = self.norm(&x, "blk.0.attn_norm.weight")?;
            let query = rope(&self.heads(&normed, "blk.0.attn_q.weight", products)?, &cos, &sin)?;
            let key = self.repeat(&rope(
                &self.heads(&normed, "blk.0.attn_k.weight", products)?,
                &cos,
                &sin,
            )?)?;
            let value = self.repeat(&self.heads(&normed, "blk.0.attn_v.weight", products)?)?;
            pasts.push(DepthCache { key, value });
            let mixed = self.attention(&query, &pasts)?;
            let x = (x + self.linear(&mixed, "blk.0.attn_output.weight", products)?)?;
            let out = self.feed(x, products)?;
            let normed = self.norm(&example.own(&out)?, "output_norm.weight")?;
            state = shift(&out, 1, 1)?;
            all.push(Depth { normed, from: depth, out });
        }
        Ok((fused, all))
    }

    /// Applies the feed-forward layer and adds its input.
    fn feed(&self, x: Tensor, products: Option<&Products>) -> Result<Tensor> {
        let normed = self.norm(&x, "blk.0.ffn_norm.weight")?;
        let gated = (self.linear(&normed, "blk.0.ffn_gate.weight", products)?.silu()?
            * self.linear(&normed, "blk.0.ffn_up.weight", products)?)?;
        x + self.linear(&gated, "blk.0.ffn_down.weight", products)?
    }

    /// Returns the logits of a depth, (entries, vocab).
    pub fn logits(&self, depth: &Depth, products: Option<&Products>) -> Result<Tensor> {
        self.linear(&depth.normed, "output.weight", products)
    }

    /// Returns the cross-entropy of a depth to `laws`.
    ///
    /// Each entry is weighted by `counts` in the reported loss and by `shares` in the gradient.
    /// [`TargetDistributions::Top`] must be of one text.
    pub fn cross_entropy(
        &self,
        depth: &Depth,
        targets: &TargetDistributions,
        counts: &[f32],
        shares: &[f32],
        products: Option<&Products>,
    ) -> Result<Loss> {
        match targets {
            TargetDistributions::Top { rows, weights } => {
                let soft = SoftCross::new(rows, weights, shares);
                let term = match products {
                    Some(products) => {
                        products.cross_entropy(&depth.normed, "output.weight", soft)?
                    }
                    None => self.logits(depth, None)?.contiguous()?.apply_op1(soft)?,
                };
                let share = shares
                    .iter()
                    .zip(counts)
                    .find(|(_, count)| **count > 0.0)
                    .map_or(1.0, |(share, count)| share / count);
                Ok(Loss { counted: (term.detach() / f64::from(share))?, term })
            }
            TargetDistributions::Whole { given, mass } => {
                let (input, output) = (depth.normed.detach(), self.get("output.weight")?);
                let logits = self.logits(depth, products)?.detach();
                let probabilities = softmax_last_dim(&logits)?;
                // Gradients of both factors by hand: the composed operations would go through all
                // logits many times.
                let slope = (&probabilities - given)?;
                let weigh =
                    (Tensor::from_slice(shares, (shares.len(), 1), logits.device())? * mass)?;
                let back = slope.matmul(&output.detach())?.broadcast_mul(&weigh)?;
                let learned = slope.t()?.matmul(&input.broadcast_mul(&weigh)?)?;
                // Row by row first: a device computes each sum on one of its processors.
                let sum = |x: Tensor| x.sum(1)?.sum_all();
                let term = (sum((&depth.normed * back)?)? + sum((output * learned)?)?)?;
                Ok(Loss { term, counted: whole(given, mass, &logits, &probabilities, counts)? })
            }
        }
    }

    fn heads(&self, x: &Tensor, weight: &str, products: Option<&Products>) -> Result<Tensor> {
        let (texts, n, _) = x.dims3()?;
        self.linear(x, weight, products)?
            .reshape((texts, n, (), self.sizes.head_dim))?
            .transpose(1, 2)?
            .contiguous()
    }

    /// Repeats keys or values for each query head.
    fn repeat(&self, x: &Tensor) -> Result<Tensor> {
        let (texts, kv, n, d) = x.dims4()?;
        let group = self.sizes.heads / self.sizes.kv_heads;
        x.unsqueeze(2)?.broadcast_as((texts, kv, group, n, d))?.contiguous()?.reshape((
            texts,
            kv * group,
            n,
            d,
        ))
    }

    /// Computes attention for the newest depth, J.
    ///
    /// Entry i attends to the entries of depth 0 up to i - J, and for each later depth m to the one
    /// on its own path, i - (J - m).
    fn attention(&self, query: &Tensor, pasts: &[DepthCache]) -> Result<Tensor> {
        let (texts, heads, n, d) = query.dims4()?;
        let newest = pasts.len() - 1;
        let scale = 1.0 / (d as f64).sqrt();
        let sees = |i: usize, j: usize| j >= n || j + newest <= i || (i < newest && j == 0);
        let mask = (0..n).flat_map(|i| {
            (0..n + newest).map(move |j| if sees(i, j) { 0.0 } else { f32::NEG_INFINITY })
        });
        let mask = Tensor::from_iter(mask, query.device())?.reshape((n, n + newest))?;
        let query = (query * scale)?;
        let mut scores = vec![query.matmul(&pasts[0].key.t()?)?];
        for (m, past) in pasts.iter().enumerate().skip(1) {
            let key = shift(&past.key, 2, newest - m)?;
            scores.push((&query * key)?.sum_keepdim(D::Minus1)?);
        }
        let weights = softmax(&Tensor::cat(&scores, 3)?, &mask)?;
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
        let angles: Vec<f64> = (0..n)
            .flat_map(|p| (0..half).map(move |i| (p, i)))
            .map(|(p, i)| p as f64 * frequency(i))
            .collect();
        let part = |f: fn(f64) -> f64| {
            Tensor::from_vec(
                angles.iter().map(|&a| f(a) as f32).collect::<Vec<_>>(),
                (n, half),
                device,
            )
        };
        Ok((part(f64::cos)?, part(f64::sin)?))
    }
}

/// Moves entry i - `by` to entry i along `dim`; the first entries become zeros.
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

impl SoftCross {
    /// Builds the loss for [`TOP`] rows per entry, entry i weighted by `shares[i]`.
    fn new(rows: &[u32], weights: &[f32], shares: &[f32]) -> SoftCross {
        let weights = weights.iter().enumerate().map(|(k, w)| w * shares[k / TOP]).collect();
        SoftCross { rows: rows.to_vec(), weights }
    }

    /// Returns the summed loss of the entries from `first` on, whose logits are `logits`.
    ///
    /// With `grad`, which must be all zeros, also writes the gradient of the logits.
    pub fn pass(
        &self,
        first: usize,
        logits: &[f32],
        vocab: usize,
        mut grad: Option<&mut [f32]>,
    ) -> f64 {
        let mut total = 0f64;
        let mut powers = vec![0f32; vocab];
        let wanted = grad.is_some();
        for (i, x) in logits.chunks_exact(vocab).enumerate() {
            let (rows, weights) =
                (&self.rows[(first + i) * TOP..][..TOP], &self.weights[(first + i) * TOP..][..TOP]);
            let sum: f32 = weights.iter().sum();
            // The gradient is already zero.
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
            let cross =
                |(&row, &w): (&u32, &f32)| f64::from(w) * (log_z - f64::from(x[row as usize]));
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
        let (Some((from, to)), [_, vocab]) = (layout.contiguous_offsets(), layout.dims()) else {
            bail!("contiguous logits")
        };
        let loss = self.pass(0, &storage.as_slice::<f32>()?[from..to], *vocab, None);
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (n, vocab) = logits.dims2()?;
        let values = logits.flatten_all()?.to_vec1::<f32>()?;
        let mut out = vec![0f32; n * vocab];
        self.pass(0, &values, vocab, Some(&mut out));
        Ok(Some(
            (Tensor::from_vec(out, (n, vocab), logits.device())?
                * f64::from(grad.to_scalar::<f32>()?))?,
        ))
    }
}
