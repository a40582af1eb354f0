//! Initial weights of a head.

use candle_core::{Shape, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::super::TrainError;
use super::super::corpus::TOP;
use super::super::sizes::HeadDims;
use super::super::sizes::HeadTensor;
use super::Run;
use crate::model::format::weights::Weights;
use crate::model::{HeadForm, HeadInfo};
use crate::tree::TokenId;

impl Run<'_> {
    /// Chooses the tokens with the largest mass in the target's distributions over the answers.
    ///
    /// If the corpus has no distributions, chooses the most frequent tokens of the answers.
    pub(super) fn choose_tokens(&mut self) -> Result<(), TrainError> {
        let mut mass = vec![0f64; self.rows.len()];
        for i in 0..self.corpus.len() {
            let text = self.corpus.read(i)?;
            let prompt = text.prompt_tokens as usize;
            if self.teacher.is_some() {
                text.tokens
                    .get(prompt..)
                    .unwrap_or_default()
                    .iter()
                    .for_each(|&token| mass[token as usize] += 1.0);
            }
            let answer = prompt.saturating_sub(1) * TOP;
            for (token, p) in text.distributions.get(answer..).unwrap_or_default() {
                mass[*token as usize] += f64::from(p.to_f32());
            }
        }
        let mut order: Vec<TokenId> = (0..mass.len() as TokenId).collect();
        order.sort_by(|&a, &b| mass[b as usize].total_cmp(&mass[a as usize]).then(a.cmp(&b)));
        order.truncate(self.net.sizes.vocab);
        order.sort_unstable();
        self.tokens = order;
        Ok(())
    }

    /// Initializes the head from another one of the same form.
    ///
    /// Its output rows stay as they are if the same number is requested: an untrained row undoes
    /// what all others have learned. Otherwise the rows of its tokens that are among the chosen
    /// ones stay, and the target's own rows join them.
    pub(super) fn initialize_from_head(
        &mut self,
        head: &Weights,
        target: &Weights,
    ) -> Result<(), TrainError> {
        let (about, config, sizes) =
            (HeadInfo::read_info(head)?, head.config(), self.net.sizes.clone());
        let same =
            HeadDims::for_target(self.options.form, config, sizes.vocab, about.source_layers.len())
                == sizes;
        if !same || about.source_layers != self.options.read(&self.after) {
            return Err(TrainError::OtherHead { path: head.path().to_owned() });
        }
        if about.tokens.len() == sizes.vocab {
            self.tokens = about.tokens.to_vec();
        } else {
            self.choose_tokens()?;
        }
        for HeadTensor { name, rows, cols } in sizes.tensors() {
            let values = if name == "output.weight" {
                let row = |token: &TokenId| match about.tokens.binary_search(token) {
                    Ok(row) => head.read_values(head.output_matrix(), row..row + 1),
                    Err(_) => target
                        .read_values(target.output_matrix(), *token as usize..*token as usize + 1),
                };
                self.tokens.iter().map(row).collect::<Result<Vec<_>, _>>()?.concat()
            } else {
                head.read_values(name, 0..rows)?
            };
            self.put(name, values, rows, cols)?;
        }
        Ok(())
    }

    fn put(
        &mut self,
        name: &'static str,
        values: Vec<f32>,
        rows: usize,
        cols: usize,
    ) -> Result<(), TrainError> {
        let shape = if name != "fuse_norm.weight" && rows == 1 {
            Shape::from(cols)
        } else {
            Shape::from((rows, cols))
        };
        self.net
            .vars
            .insert(name, Var::from_tensor(&Tensor::from_vec(values, shape, &self.device())?)?);
        Ok(())
    }

    /// Initializes a new head from the target.
    ///
    /// The layer starts as the target's last, the output as the target's own, and the fused state
    /// as the last of the hidden states. An adapter's layer starts as the one that would read its
    /// states next.
    pub(super) fn initialize(&mut self, weights: &Weights) -> Result<(), TrainError> {
        let sizes = self.net.sizes.clone();
        let mut rng = ChaCha8Rng::seed_from_u64(self.options.seed);
        let layers = weights.config().layers;
        let (from, scale) = match self.options.form {
            // The target's residual stream is large where its last layers read it; here it has the
            // length of a norm's output.
            HeadForm::Eagle => (layers - 1, self.scale()?),
            HeadForm::Adapter => (self.after[0].min(layers - 1), 1.0),
        };
        for HeadTensor { name, rows, cols } in sizes.tensors() {
            let noise = |rng: &mut ChaCha8Rng, sd: f32| -> Vec<f32> {
                let uniform =
                    |rng: &mut ChaCha8Rng| (rng.next_u32() >> 8) as f32 / (1 << 24) as f32 - 0.5;
                (0..rows * cols).map(|_| uniform(rng) * sd * 12f32.sqrt()).collect()
            };
            let mut values = match name {
                "fuse.weight" => {
                    let mut values = noise(&mut rng, 0.02);
                    for i in 0..sizes.dim {
                        values[i * cols + cols - sizes.dim + i] += 1.0;
                    }
                    values
                }
                "input.weight" => {
                    let mut values = noise(&mut rng, 0.5 / (sizes.dim as f32).sqrt());
                    // The residual stream already holds the state.
                    values
                        .chunks_mut(cols)
                        .for_each(|row| row[sizes.dim..].iter_mut().for_each(|w| *w *= 0.2));
                    values
                }
                "fuse_norm.weight" | "token_norm.weight" | "state_norm.weight" => {
                    vec![1.0; rows * cols]
                }
                "output.weight" => (self.tokens.iter())
                    .map(|&t| {
                        weights.read_values(weights.output_matrix(), t as usize..t as usize + 1)
                    })
                    .collect::<Result<Vec<_>, _>>()?
                    .concat(),
                "output_norm.weight" => weights.read_vector(name)?,
                layer => weights
                    .read_values(&layer.replace("blk.0.", &format!("blk.{from}.")), 0..rows)?,
            };
            let rotated = name.ends_with("attn_q.weight") || name.ends_with("attn_k.weight");
            if rotated && weights.rope_interleaved() {
                values = apart(&values, cols, sizes.head_dim);
            }
            if name.ends_with("attn_output.weight") || name.ends_with("ffn_down.weight") {
                values.iter_mut().for_each(|w| *w /= scale);
            }
            self.put(name, values, rows, cols)?;
        }
        Ok(())
    }

    /// Returns the typical root mean square of the last hidden states, from one text.
    fn scale(&mut self) -> Result<f32, TrainError> {
        let text = self.corpus.read(0)?;
        let states: Vec<f32> = match self.teacher {
            Some(teacher) => teacher
                .evaluate(&text.tokens[..text.positions()], 1, &[0])?
                .hidden
                .flatten_all()?
                .to_vec1()?,
            None => text.hidden.iter().map(|x| x.to_f32()).collect(),
        };
        let (dim, fused) = (self.net.sizes.dim, self.after.len());
        let mut all: Vec<f64> = (states.chunks_exact(dim * fused))
            .map(|row| {
                row[dim * (fused - 1)..].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()
                    / dim as f64
            })
            .collect();
        // The first tokens of a text have far larger states than all others, so this takes the
        // median.
        all.sort_by(f64::total_cmp);
        Ok(all.get(all.len() / 2).copied().unwrap_or(1.0).sqrt().max(1e-3) as f32)
    }
}

/// Reorders query or key rows from adjacent rotary pairs to pairs half a head apart.
fn apart(values: &[f32], cols: usize, head_dim: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks(head_dim * cols) {
        for parity in 0..2 {
            for row in head.chunks(cols).skip(parity).step_by(2) {
                out.extend_from_slice(row);
            }
        }
    }
    out
}
