//! A head's matrices where the CPU has a tile unit: the same products as candle's in bfloat16, many times as fast, of the weights as
//! the head's file will have them. What comes back is taken for the gradient of the weights before they are rounded (Bengio et al.
//! 2013, arXiv 1308.3432, "straight-through"), so that they learn to be rounded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, Var, bail};

use super::export;
use super::net::SoftCross;
use crate::model::kernels::dense::{Right, View, multiply};

/// A matrix of a head, (rows, cols), packed for both ways.
#[derive(Debug)]
struct Matrix {
    rows: usize,
    cols: usize,
    /// Its transpose: inputs times this are outputs.
    forward: Right,
    /// Itself: gradients of outputs times this are gradients of inputs.
    backward: Right,
}

/// All matrices of a head, as they are at one step.
#[derive(Debug, Default)]
pub struct Matrices(BTreeMap<&'static str, Arc<Matrix>>);

impl Matrices {
    /// Packs those among `vars` that `matrices` names, on `threads` threads.
    ///
    /// # Errors
    /// If one is no matrix of floats.
    pub fn pack(vars: &BTreeMap<&'static str, Var>, matrices: &[&'static str], threads: usize) -> Result<Matrices> {
        let pack = |name: &'static str| {
            let Some(var) = vars.get(name) else { bail!("no tensor {name}") };
            let (rows, cols) = var.dims2()?;
            let values = export::rounded(name, var.as_tensor())?.flatten_all()?.to_vec1::<f32>()?;
            let view = View::new(&values, rows, cols);
            Ok((name, Arc::new(Matrix { rows, cols, forward: Right::pack(view.turned()), backward: Right::pack(view) })))
        };
        let share = matrices.len().div_ceil(threads.max(1)).max(1);
        std::thread::scope(|scope| {
            let packed: Vec<_> = (matrices.chunks(share))
                .map(|names| scope.spawn(move || names.iter().map(|&name| pack(name)).collect::<Result<Vec<_>>>()))
                .collect();
            let mut all = BTreeMap::new();
            for part in packed {
                all.extend(part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(Matrices(all))
        })
    }

    /// The products of one text, with room for the gradients that it gives.
    pub fn products(&self) -> Products {
        Products(self.0.iter().map(|(&name, matrix)| (name, Linear { matrix: matrix.clone(), grads: Arc::default() })).collect())
    }
}

/// The products of one text.
#[derive(Debug)]
pub struct Products(BTreeMap<&'static str, Linear>);

impl Products {
    /// `x`, (n, cols), times the transpose of the matrix `name`: (n, rows).
    ///
    /// # Errors
    /// If there is none of this name, or `x` has another width.
    pub fn apply(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let Some(linear) = self.0.get(name) else { bail!("no matrix {name}") };
        x.contiguous()?.apply_op1(linear.clone())
    }

    /// The cross-entropy of `x`, (n, cols), times the transpose of the matrix `name`.
    ///
    /// # Errors
    /// As for [`Self::apply`].
    pub fn cross(&self, x: &Tensor, name: &str, soft: SoftCross) -> Result<Tensor> {
        let Some(linear) = self.0.get(name) else { bail!("no matrix {name}") };
        x.contiguous()?.apply_op1(Cross { linear: linear.clone(), soft, grad: Mutex::default() })
    }

    /// What the passes back have summed up for each matrix: its gradient, row by row. A matrix that took no part has none.
    pub fn grads(self) -> impl Iterator<Item = (&'static str, Vec<f32>)> {
        let taken = |linear: Linear| std::mem::take(&mut *linear.grads.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.into_iter().map(move |(name, linear)| (name, taken(linear))).filter(|(_, grads)| !grads.is_empty())
    }
}

/// Products with one matrix. Its own gradient is summed up beside the graph, over all depths of a text: in the graph each depth
/// would make a matrix of gradients, and adding them would take longer than the products.
#[derive(Clone, Debug)]
struct Linear {
    matrix: Arc<Matrix>,
    grads: Arc<Mutex<Vec<f32>>>,
}

impl Linear {
    /// Rows of inputs, and how many.
    fn rows<'a>(&self, storage: &'a CpuStorage, layout: &Layout) -> Result<(&'a [f32], usize)> {
        let (Some((from, to)), [n, cols]) = (layout.contiguous_offsets(), layout.dims()) else { bail!("contiguous rows") };
        if *cols != self.matrix.cols {
            bail!("{cols} columns for a matrix of {}", self.matrix.cols)
        }
        Ok((&storage.as_slice::<f32>()?[from..to], *n))
    }

    /// Takes up the matrix's gradient, and gives that of the inputs.
    fn back(&self, x: &Tensor, dy: &[f32]) -> Result<Tensor> {
        let Matrix { rows, cols, backward, .. } = &*self.matrix;
        let n = x.dim(0)?;
        let values = x.flatten_all()?.to_vec1::<f32>()?;
        let dy = View::new(dy, n, *rows);
        {
            let mut grads = self.grads.lock().unwrap_or_else(PoisonError::into_inner);
            grads.resize(rows * cols, 0.0);
            multiply(dy.turned(), &Right::pack(View::new(&values, n, *cols)), &mut grads);
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
        multiply(View::new(x, n, *cols), forward, &mut out);
        Ok((CpuStorage::F32(out), Shape::from((n, *rows))))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.back(x, &grad.flatten_all()?.to_vec1::<f32>()?).map(Some)
    }
}

/// Inputs whose logits are in the cache together.
const TOGETHER: usize = 32;

/// The output's products and the cross-entropy in one, so that the logits, by far the widest numbers of a pass, never become
/// tensors of the graph.
struct Cross {
    linear: Linear,
    soft: SoftCross,
    /// The gradient of the logits, from the pass forward to the pass back.
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
        let mut logits = vec![0f32; TOGETHER * rows];
        let mut loss = 0.0;
        for (i, (x, grad)) in x.chunks(TOGETHER * cols).zip(grad.chunks_mut(TOGETHER * rows)).enumerate() {
            let logits = &mut logits[..grad.len()];
            logits.fill(0.0);
            multiply(View::new(x, grad.len() / rows, *cols), forward, logits);
            loss += self.soft.pass(i * TOGETHER, logits, *rows, Some(grad));
        }
        *self.grad.lock().unwrap_or_else(PoisonError::into_inner) = grad;
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let mut logits = std::mem::take(&mut *self.grad.lock().unwrap_or_else(PoisonError::into_inner));
        let factor = grad.to_scalar::<f32>()?;
        if factor != 1.0 {
            logits.iter_mut().for_each(|g| *g *= factor);
        }
        self.linear.back(x, &logits).map(Some)
    }
}
