//! Matrix products of a head on the CPU's tile unit, in bfloat16.
//!
//! These are the products that candle computes, many times faster, with the weights as the head's
//! file will store them. Their gradients are used for the weights before rounding (straight-through
//! estimator, Bengio et al. 2013, arXiv 1308.3432), so that training takes the rounding into
//! account.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, Var, bail};

use super::rounding;
use crate::model::cpu::dense::{MatrixView, PackedRight, multiply};

/// Cross-entropy against distributions that are known at some rows.
///
/// For entry i it is the sum over k of weight (log Z - logit). It takes one pass over the logits
/// each way, where the composed operations take many.
#[derive(Clone, Debug)]
pub struct SoftCross {
    pub rows: Vec<u32>,
    /// Weights of the rows, already multiplied by the weight of the entry.
    pub weights: Vec<f32>,
}

/// Matrix of a head, (rows, cols), packed for both directions.
#[derive(Debug)]
struct Matrix {
    rows: usize,
    cols: usize,
    /// Transpose of the matrix: inputs times this are outputs.
    forward: PackedRight,
    /// Matrix itself: gradients of outputs times this are gradients of inputs.
    backward: PackedRight,
}

/// Packed matrices of a head, as they are at one step.
#[derive(Debug, Default)]
pub struct Matrices(BTreeMap<&'static str, Arc<Matrix>>);

impl Matrices {
    /// Packs those of `vars` that `matrices` names, on `threads` threads.
    ///
    /// # Errors
    /// If one is missing, or is not a matrix of floats.
    pub fn pack(
        vars: &BTreeMap<&'static str, Var>,
        matrices: &[&'static str],
        threads: usize,
    ) -> Result<Matrices> {
        let pack = |name: &'static str| {
            let Some(var) = vars.get(name) else { bail!("no tensor {name}") };
            let (rows, cols) = var.dims2()?;
            let values =
                rounding::round_for_file(name, var.as_tensor())?.flatten_all()?.to_vec1::<f32>()?;
            let view = MatrixView::new(&values, rows, cols);
            Ok((
                name,
                Arc::new(Matrix {
                    rows,
                    cols,
                    forward: PackedRight::pack(view.transpose()),
                    backward: PackedRight::pack(view),
                }),
            ))
        };
        let share = matrices.len().div_ceil(threads.max(1)).max(1);
        let pack_all = |names: &[&'static str]| {
            names.iter().map(|&name| pack(name)).collect::<Result<Vec<_>>>()
        };
        std::thread::scope(|scope| {
            let parts: Vec<_> = (matrices.chunks(share))
                .map(|names| (names, Builder::new().spawn_scoped(scope, move || pack_all(names))))
                .collect();
            let mut all = BTreeMap::new();
            for (names, part) in parts {
                // If the system grants no more threads, this one does the work.
                all.extend(match part {
                    Ok(part) => part.join().unwrap_or_else(|panic| resume_unwind(panic)),
                    Err(_) => pack_all(names),
                }?);
            }
            Ok(Matrices(all))
        })
    }

    /// Returns the products for one text, with accumulators for its gradients.
    pub fn products(&self) -> Products {
        Products(
            self.0
                .iter()
                .map(|(&name, matrix)| {
                    (name, Linear { matrix: matrix.clone(), grads: Arc::default() })
                })
                .collect(),
        )
    }
}

/// Matrix products for one text.
#[derive(Debug)]
pub struct Products(BTreeMap<&'static str, Linear>);

impl Products {
    /// Returns `x`, (n, cols), times the transpose of the matrix `name`: (n, rows).
    ///
    /// # Errors
    /// If there is no such matrix, or `x` has another width.
    pub fn apply(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let Some(linear) = self.0.get(name) else { bail!("no matrix {name}") };
        x.contiguous()?.apply_op1(linear.clone())
    }

    /// Returns the cross-entropy of the logits: `x`, (n, cols), times the transpose of `name`.
    ///
    /// # Errors
    /// As for [`Self::apply`].
    pub fn cross_entropy(&self, x: &Tensor, name: &str, soft: SoftCross) -> Result<Tensor> {
        let Some(linear) = self.0.get(name) else { bail!("no matrix {name}") };
        x.contiguous()?.apply_op1(Cross { linear: linear.clone(), soft, grad: Mutex::default() })
    }

    /// Returns the gradient of each matrix, row by row, as summed by the backward passes.
    ///
    /// A matrix that took no part is left out.
    pub fn grads(self) -> impl Iterator<Item = (&'static str, Vec<f32>)> {
        let taken = |linear: Linear| {
            std::mem::take(&mut *linear.grads.lock().unwrap_or_else(PoisonError::into_inner))
        };
        self.0
            .into_iter()
            .map(move |(name, linear)| (name, taken(linear)))
            .filter(|(_, grads)| !grads.is_empty())
    }
}

/// Product with one matrix, whose gradient is summed outside the graph.
///
/// The sum is over all depths of a text. In the graph each depth would create a matrix of
/// gradients, and adding them would take longer than the products.
#[derive(Clone, Debug)]
struct Linear {
    matrix: Arc<Matrix>,
    grads: Arc<Mutex<Vec<f32>>>,
}

impl Linear {
    /// Returns the rows of inputs, and their number.
    fn rows<'a>(&self, storage: &'a CpuStorage, layout: &Layout) -> Result<(&'a [f32], usize)> {
        let (Some((from, to)), [n, cols]) = (layout.contiguous_offsets(), layout.dims()) else {
            bail!("contiguous rows")
        };
        if *cols != self.matrix.cols {
            bail!("{cols} columns for a matrix of {}", self.matrix.cols)
        }
        Ok((&storage.as_slice::<f32>()?[from..to], *n))
    }

    /// Accumulates the matrix's gradient, and returns that of the inputs.
    fn back(&self, x: &Tensor, dy: &[f32]) -> Result<Tensor> {
        let Matrix { rows, cols, backward, .. } = &*self.matrix;
        let n = x.dim(0)?;
        let values = x.flatten_all()?.to_vec1::<f32>()?;
        let dy = MatrixView::new(dy, n, *rows);
        {
            let mut grads = self.grads.lock().unwrap_or_else(PoisonError::into_inner);
            grads.resize(rows * cols, 0.0);
            multiply(
                dy.transpose(),
                &PackedRight::pack(MatrixView::new(&values, n, *cols)),
                &mut grads,
            );
        }
        let mut dx = vec![0f32; n * cols];
        multiply(dy, backward, &mut dx);
        Tensor::from_vec(dx, (n, *cols), x.device())
    }
}

impl CustomOp1 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, n) = self.rows(storage, layout)?;
        let Matrix { rows, cols, forward, .. } = &*self.matrix;
        let mut out = vec![0f32; n * rows];
        multiply(MatrixView::new(x, n, *cols), forward, &mut out);
        Ok((CpuStorage::F32(out), Shape::from((n, *rows))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.back(x, &grad.flatten_all()?.to_vec1::<f32>()?).map(Some)
    }
}

/// Number of inputs whose logits fit in the cache together.
const CACHED_INPUTS: usize = 32;

/// Output product and cross-entropy in one operation.
///
/// The logits, by far the widest values of a pass, never become tensors of the graph.
struct Cross {
    linear: Linear,
    soft: SoftCross,
    /// Gradient of the logits, kept from the forward pass for the backward pass.
    grad: Mutex<Vec<f32>>,
}

impl CustomOp1 for Cross {
    fn name(&self) -> &'static str {
        "linear-soft-cross"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, n) = self.linear.rows(storage, layout)?;
        let Matrix { rows, cols, forward, .. } = &*self.linear.matrix;
        let mut grad = vec![0f32; n * rows];
        let mut logits = vec![0f32; CACHED_INPUTS * rows];
        let mut loss = 0.0;
        for (i, (x, grad)) in
            x.chunks(CACHED_INPUTS * cols).zip(grad.chunks_mut(CACHED_INPUTS * rows)).enumerate()
        {
            let logits = &mut logits[..grad.len()];
            logits.fill(0.0);
            multiply(MatrixView::new(x, grad.len() / rows, *cols), forward, logits);
            loss += self.soft.pass(i * CACHED_INPUTS, logits, *rows, Some(grad));
        }
        *self.grad.lock().unwrap_or_else(PoisonError::into_inner) = grad;
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut logits =
            std::mem::take(&mut *self.grad.lock().unwrap_or_else(PoisonError::into_inner));
        let factor = grad.to_scalar::<f32>()?;
        if factor != 1.0 {
            logits.iter_mut().for_each(|g| *g *= factor);
        }
        self.linear.back(x, &logits).map(Some)
    }
}
