//! Weights and buffers of a drafting head's input stage.
//!
//! The stage turns the target's hidden states and a token into a row of the residual stream.
//!
//! After EAGLE-3 (Li et al. 2025, arXiv 2503.01840, section 3.1): hidden states of several target
//! layers are fused into one state g. Below its own tokens the head uses its own last state as g.
//! State and token form the input x = g + W \[norm(embedding); norm(g)\], so that the state
//! continues in the residual stream. (The paper feeds the pair to its attention instead; here the
//! layers that follow are those of any Llama and run on the same code.)

use super::acts::Acts;
use super::memory::Shared;
use super::tile::{BLOCK, PackedMatrix};
use crate::model::error::LoadError;
use crate::model::format::weights::Weights;

/// Input stage of a drafting head, before its layers.
#[derive(Debug)]
pub(super) struct InputStage {
    /// `None` for an adapter, which uses its single hidden state unchanged.
    pub fusion: Option<Fusion>,
}

/// Matrices and norms that fuse several states into one, and combine state and token.
#[derive(Debug)]
pub(super) struct Fusion {
    /// One norm for each fused hidden state.
    pub fuse_norms: Vec<Vec<f32>>,
    /// `dim` rows over the concatenated hidden states.
    pub fuse: PackedMatrix,
    pub token_norm: Vec<f32>,
    pub state_norm: Vec<f32>,
    /// `dim` rows over the token's embedding and the state.
    pub input: PackedMatrix,
}

/// Source of the states of a pass.
#[derive(Clone, Copy, Debug)]
pub(super) enum States<'a> {
    /// Hidden states of the target to be fused, `fused * dim` numbers for each token.
    Hidden(&'a [f32]),
    /// States of the head itself, `dim` numbers for each token.
    Own(&'a [f32]),
}

/// Buffers of the input stage: quantized inputs of both products, and one embedding per thread.
#[derive(Debug)]
pub(super) struct InputBuffers {
    tokens: usize,
    pub fused: usize,
    pub dim: usize,
    pub hidden: Acts,
    pub pair: Acts,
    pub embeddings: Vec<Shared<f32>>,
}

impl InputBuffers {
    /// Creates buffers for a head that fuses `fused` states of `dim` numbers, on `threads` threads.
    pub fn new(fused: usize, dim: usize, threads: usize) -> Self {
        let embeddings = (0..threads).map(|_| Shared::new(dim)).collect();
        Self {
            tokens: 0,
            fused,
            dim,
            hidden: Acts::new(fused * dim, 0),
            pair: Acts::new(2 * dim, 0),
            embeddings,
        }
    }

    /// Grows the buffers for passes of `tokens` tokens.
    pub fn reserve(&mut self, tokens: usize) {
        if tokens > self.tokens {
            self.tokens = tokens.next_power_of_two();
            self.hidden = Acts::new(self.fused * self.dim, self.tokens);
            self.pair = Acts::new(2 * self.dim, self.tokens);
        }
    }
}

impl Fusion {
    fn load(
        weights: &Weights,
        mat: &mut impl FnMut(&str) -> PackedMatrix,
    ) -> Result<Fusion, LoadError> {
        let (dim, error) = (weights.config().dim, |what: String| Err(unfit(weights, what)));
        let fused = weights.tensor("fuse_norm.weight").map_or(0, |t| t.rows);
        for (name, rows, cols) in [
            ("fuse_norm.weight", fused.max(1), dim),
            ("fuse.weight", dim, fused * dim),
            ("token_norm.weight", 1, dim),
            ("state_norm.weight", 1, dim),
            ("input.weight", dim, 2 * dim),
        ] {
            match weights.tensor(name) {
                None => return error(format!("has no tensor {name}")),
                Some(t) if (t.rows, t.cols) != (rows, cols) => {
                    return error(format!(
                        "tensor {name} is {} x {}, where {rows} x {cols} was expected",
                        t.rows, t.cols
                    ));
                }
                Some(_) => {}
            }
        }
        let fuse_norms = (0..fused)
            .map(|i| weights.read_values("fuse_norm.weight", i..i + 1))
            .collect::<Result<_, _>>()?;
        Ok(Fusion {
            fuse_norms,
            fuse: mat("fuse.weight"),
            token_norm: weights.read_vector("token_norm.weight")?,
            state_norm: weights.read_vector("state_norm.weight")?,
            input: mat("input.weight"),
        })
    }
}

fn unfit(weights: &Weights, what: String) -> LoadError {
    LoadError::file(weights.path(), what, None, "train a head for this model: speclight train")
}

impl InputStage {
    /// Loads the input stage from `weights`; `mat` returns the packed location of a matrix.
    ///
    /// `target_dim` is the width of the target's hidden states.
    ///
    /// # Errors
    /// If reading fails, or the widths do not fit.
    pub fn load(
        weights: &Weights,
        target_dim: usize,
        mut mat: impl FnMut(&str) -> PackedMatrix,
    ) -> Result<InputStage, LoadError> {
        let dim = weights.config().dim;
        if dim != target_dim || !dim.is_multiple_of(BLOCK) {
            let what = format!(
                "has states of width {dim}, and the target's have {target_dim} (in whole blocks of {BLOCK})"
            );
            return Err(unfit(weights, what));
        }
        let fusion =
            if weights.has_attention() { Some(Fusion::load(weights, &mut mat)?) } else { None };
        Ok(InputStage { fusion })
    }

    /// Number of fused hidden states; 1 for an adapter.
    pub fn fused(&self) -> usize {
        self.fusion.as_ref().map_or(1, |fusion| fusion.fuse_norms.len())
    }
}
