//! Input stage of a drafting head.
//!
//! It turns the target's hidden states and a token into a row of the residual stream.
//!
//! After EAGLE-3 (Li et al. 2025, arXiv 2503.01840, section 3.1): hidden states of several target
//! layers are fused into one state g. Below its own tokens the head uses its own last state as g.
//! State and token form the input x = g + W \[norm(embedding); norm(g)\], so that the state
//! continues in the residual stream. (The paper feeds the pair to its attention instead; here the
//! layers that follow are those of any Llama and run on the same code.)

use std::sync::Arc;

use super::acts::{Acts, To};
use super::llama::{Batch, Llama, WorkSplit};
use super::memory::Shared;
use super::pool::Worker;
use super::scratch::Scratch;
use super::tile::{BLOCK, PackedMatrix};
use crate::model::format::weights::Weights;
use crate::model::load::LoadError;

/// Input stage of a drafting head, before its layers.
#[derive(Debug)]
pub(super) struct InputStage {
    /// Model whose embedding is used.
    target: Arc<Llama>,
    /// `None` for an adapter, which uses its single hidden state unchanged.
    fusion: Option<Fusion>,
}

/// Matrices and norms that fuse several states into one, and combine state and token.
#[derive(Debug)]
struct Fusion {
    /// One norm for each fused hidden state.
    fuse_norms: Vec<Vec<f32>>,
    /// `dim` rows over the concatenated hidden states.
    fuse: PackedMatrix,
    token_norm: Vec<f32>,
    state_norm: Vec<f32>,
    /// `dim` rows over the token's embedding and the state.
    input: PackedMatrix,
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
    fused: usize,
    dim: usize,
    hidden: Acts,
    pair: Acts,
    embeddings: Vec<Shared<f32>>,
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
    /// The embedding is that of `target`.
    ///
    /// # Errors
    /// If reading fails, or the widths do not fit.
    pub fn load(
        weights: &Weights,
        target: &Arc<Llama>,
        mut mat: impl FnMut(&str) -> PackedMatrix,
    ) -> Result<InputStage, LoadError> {
        let (dim, of_target) = (weights.config().dim, target.config().dim);
        if dim != of_target || !dim.is_multiple_of(BLOCK) {
            let what = format!(
                "has states of width {dim}, and the target's have {of_target} (in whole blocks of {BLOCK})"
            );
            return Err(unfit(weights, what));
        }
        let fusion =
            if weights.has_attention() { Some(Fusion::load(weights, &mut mat)?) } else { None };
        Ok(InputStage { target: Arc::clone(target), fusion })
    }

    /// Number of fused hidden states; 1 for an adapter.
    pub fn fused(&self) -> usize {
        self.fusion.as_ref().map_or(1, |fusion| fusion.fuse_norms.len())
    }

    /// Vocabulary size, which is that of the target.
    pub fn vocab(&self) -> usize {
        self.target.config().vocab
    }

    /// Runs one thread's part and writes rows of the residual stream for the pass.
    ///
    /// When it returns, all threads have finished.
    #[allow(unsafe_code)]
    pub fn work(
        &self,
        head: &Llama,
        worker: &Worker,
        pass: &Batch,
        states: States,
        room: &InputBuffers,
        s: &Scratch,
    ) {
        let (k, w, dim, eps) = (head.kernel(), s.widths, room.dim, head.config().eps);
        let share = WorkSplit::by_stages(worker, 0..pass.tokens.len());
        let tokens = share.whole_rows();
        let Some(fusion) = &self.fusion else {
            let (States::Hidden(all) | States::Own(all)) = states;
            for t in tokens {
                // SAFETY: row t belongs to this thread.
                unsafe { s.residual.write(t * w.dim..t * w.dim + dim) }
                    .copy_from_slice(&all[t * dim..][..dim]);
            }
            worker.barrier();
            return;
        };
        match states {
            States::Hidden(all) => {
                for t in tokens.clone() {
                    for (j, norm) in fusion.fuse_norms.iter().enumerate() {
                        let x = &all[(t * room.fused + j) * dim..][..dim];
                        // SAFETY: the quantized row belongs to this thread; the CPU has the
                        // kernel's instructions.
                        unsafe {
                            (k.norm)(
                                x,
                                norm,
                                eps,
                                To {
                                    acts: &room.hidden,
                                    row: t,
                                    first: j * dim / BLOCK,
                                    interleaved: false,
                                },
                                0..dim / BLOCK,
                            )
                        };
                    }
                }
                worker.barrier();
                head.products(
                    &share,
                    &[(&fusion.fuse, 0)],
                    &room.hidden,
                    (&s.residual, w.dim, false),
                );
                worker.barrier();
            }
            States::Own(all) => {
                for t in tokens.clone() {
                    // SAFETY: row t belongs to this thread.
                    unsafe { s.residual.write(t * w.dim..t * w.dim + dim) }
                        .copy_from_slice(&all[t * dim..][..dim]);
                }
            }
        }
        for t in tokens {
            // SAFETY: the buffer belongs to this thread.
            let embedding = unsafe { room.embeddings[worker.index].write(0..dim) };
            self.target.embed(pass.tokens[t], embedding);
            // SAFETY: the quantized row belongs to this thread. So does row t of x if the states
            // are the head's own; if they were fused, all rows were written before the barrier. The
            // CPU has the kernel's instructions.
            unsafe {
                let to = |first: usize| To { acts: &room.pair, row: t, first, interleaved: false };
                (k.norm)(embedding, &fusion.token_norm, eps, to(0), 0..dim / BLOCK);
                (k.norm)(
                    s.residual.read(t * w.dim..t * w.dim + dim),
                    &fusion.state_norm,
                    eps,
                    to(dim / BLOCK),
                    0..dim / BLOCK,
                );
            }
        }
        worker.barrier();
        head.products(&share, &[(&fusion.input, 0)], &room.pair, (&s.residual, w.dim, true));
        worker.barrier();
    }
}
