//! What stands before the layers of a drafting head: from the target's hidden states and a token to a row of the residual stream.
//!
//! After EAGLE-3 (Li et al. 2025, arXiv 2503.01840, section 3.1): hidden states of several of the target's layers are fused into
//! one state; below its own tokens the head takes its own last state instead. State and token together make the input:
//! x = g + W \[norm(embedding); norm(g)\], so that the state flows on in the residual stream (the paper feeds the pair to its
//! attention instead; here the layers behind are those of any Llama, and run on the same code).

use std::sync::Arc;

use super::acts::{Acts, To};
use super::llama::{Batch, Llama, Share};
use super::memory::Shared;
use super::pool::Worker;
use super::scratch::Scratch;
use super::tile::{BLOCK, Mat};
use crate::model::load::LoadError;
use crate::model::weights::Weights;

/// What is before the layers.
#[derive(Debug)]
pub(super) struct Front {
    /// Whose embedding is used.
    target: Arc<Llama>,
    /// An adapter has none: it goes on from the one hidden state as it is.
    fusion: Option<Fusion>,
}

/// The matrices and norms that make one state of several, and an input of state and token.
#[derive(Debug)]
struct Fusion {
    /// One norm for each hidden state that is fused.
    fuse_norms: Vec<Vec<f32>>,
    /// `dim` rows over all hidden states.
    fuse: Mat,
    token_norm: Vec<f32>,
    state_norm: Vec<f32>,
    /// `dim` rows over the token's embedding and the state.
    input: Mat,
}

/// Where the states of a pass come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum States<'a> {
    /// Hidden states of the target, `fused * dim` numbers a token, to be fused.
    Hidden(&'a [f32]),
    /// States of the head itself: `dim` numbers a token.
    Own(&'a [f32]),
}

/// Rounded inputs of the two products, and an embedding for each thread.
#[derive(Debug)]
pub(super) struct Room {
    tokens: usize,
    fused: usize,
    dim: usize,
    hidden: Acts,
    pair: Acts,
    embeddings: Vec<Shared<f32>>,
}

impl Room {
    /// Room of a head that fuses `fused` states of `dim` numbers, on `threads` threads.
    pub fn new(fused: usize, dim: usize, threads: usize) -> Self {
        let embeddings = (0..threads).map(|_| Shared::new(dim)).collect();
        Self { tokens: 0, fused, dim, hidden: Acts::new(fused * dim, 0), pair: Acts::new(2 * dim, 0), embeddings }
    }

    /// Makes room for passes of `tokens` tokens.
    pub fn reserve(&mut self, tokens: usize) {
        if tokens > self.tokens {
            self.tokens = tokens.next_power_of_two();
            self.hidden = Acts::new(self.fused * self.dim, self.tokens);
            self.pair = Acts::new(2 * self.dim, self.tokens);
        }
    }
}

impl Fusion {
    fn load(weights: &Weights, mat: &mut impl FnMut(&str) -> Mat) -> Result<Fusion, LoadError> {
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
                    return error(format!("tensor {name} is {} x {}, where {rows} x {cols} was expected", t.rows, t.cols));
                }
                Some(_) => {}
            }
        }
        let fuse_norms = (0..fused).map(|i| weights.read_values("fuse_norm.weight", i..i + 1)).collect::<Result<_, _>>()?;
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

impl Front {
    /// The front in `weights`, where they have one; `mat` says where a matrix is packed. The embedding is `target`'s.
    ///
    /// # Errors
    /// If reading fails, or the widths do not fit.
    pub fn load(weights: &Weights, target: &Arc<Llama>, mut mat: impl FnMut(&str) -> Mat) -> Result<Front, LoadError> {
        let (dim, of_target) = (weights.config().dim, target.config().dim);
        if dim != of_target || !dim.is_multiple_of(BLOCK) {
            let what = format!("has states of width {dim}, and the target's have {of_target} (in whole blocks of {BLOCK})");
            return Err(unfit(weights, what));
        }
        let fusion = if weights.attends() { Some(Fusion::load(weights, &mut mat)?) } else { None };
        Ok(Front { target: Arc::clone(target), fusion })
    }

    /// Hidden states that are fused, or the one that is gone on from.
    pub fn fused(&self) -> usize {
        self.fusion.as_ref().map_or(1, |fusion| fusion.fuse_norms.len())
    }

    /// Tokens that it knows: those of the target.
    pub fn vocab(&self) -> usize {
        self.target.config().vocab
    }

    /// One thread's part: rows of the residual stream for the tokens of a pass. Everybody's are done when it returns.
    #[allow(unsafe_code)]
    pub fn work(&self, head: &Llama, worker: &Worker, pass: &Batch, states: States, room: &Room, s: &Scratch) {
        let (k, w, dim, eps) = (head.kernel(), s.widths, room.dim, head.config().eps);
        let share = Share::of_stages(worker, 0..pass.tokens.len());
        let tokens = share.own();
        let Some(fusion) = &self.fusion else {
            let (States::Hidden(all) | States::Own(all)) = states;
            for t in tokens {
                // SAFETY: row t is this thread's.
                unsafe { s.x.write(t * w.dim..t * w.dim + dim) }.copy_from_slice(&all[t * dim..][..dim]);
            }
            worker.meet();
            return;
        };
        match states {
            States::Hidden(all) => {
                for t in tokens.clone() {
                    for (j, norm) in fusion.fuse_norms.iter().enumerate() {
                        let x = &all[(t * room.fused + j) * dim..][..dim];
                        // SAFETY: the rounded row is this thread's; the CPU has the kernel's instructions.
                        unsafe {
                            (k.norm)(
                                x,
                                norm,
                                eps,
                                To { acts: &room.hidden, row: t, first: j * dim / BLOCK, side_by_side: false },
                                0..dim / BLOCK,
                            )
                        };
                    }
                }
                worker.meet();
                head.products(&share, &[(&fusion.fuse, 0)], &room.hidden, (&s.x, w.dim, false));
                worker.meet();
            }
            States::Own(all) => {
                for t in tokens.clone() {
                    // SAFETY: row t is this thread's.
                    unsafe { s.x.write(t * w.dim..t * w.dim + dim) }.copy_from_slice(&all[t * dim..][..dim]);
                }
            }
        }
        for t in tokens {
            // SAFETY: this thread's room.
            let embedding = unsafe { room.embeddings[worker.index].write(0..dim) };
            self.target.embed(pass.tokens[t], embedding);
            // SAFETY: the rounded row is this thread's, and so is row t of x where the states are the head's own; where they were
            // fused, all rows were written before the threads met. The CPU has the kernel's instructions.
            unsafe {
                let to = |first: usize| To { acts: &room.pair, row: t, first, side_by_side: false };
                (k.norm)(embedding, &fusion.token_norm, eps, to(0), 0..dim / BLOCK);
                (k.norm)(s.x.read(t * w.dim..t * w.dim + dim), &fusion.state_norm, eps, to(dim / BLOCK), 0..dim / BLOCK);
            }
        }
        worker.meet();
        head.products(&share, &[(&fusion.input, 0)], &room.pair, (&s.x, w.dim, true));
        worker.meet();
    }
}
