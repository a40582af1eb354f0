//! Operations with hand-written gradients.
//!
//! In operations that candle composes, each part has a gradient of its own, mostly over broadcast
//! numbers, and a GPU waits longer for their launches than for the arithmetic. Candle's fused
//! operations have no gradients.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, D, DType, Layout, MetalStorage, Result, Shape, Storage,
    Tensor, bail,
};
use candle_nn::{ops, rotary_emb};

/// Precomputed value, and the function from its gradient to that of the argument.
struct WithGradient<F> {
    value: Tensor,
    back: F,
}

/// Returns `value` as a function of `x`, with a hand-written gradient.
///
/// `back` turns the gradient of the value into that of `x`.
fn own(
    x: &Tensor,
    value: Tensor,
    back: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    x.apply_op1(WithGradient { value: value.contiguous()?, back })
}

impl<F> WithGradient<F> {
    /// Returns a copy of the value's storage, made by `get`.
    fn value<S>(
        &self,
        get: impl FnOnce(&Storage, &Layout) -> Option<Result<S>>,
    ) -> Result<(S, Shape)> {
        let (storage, layout) = self.value.storage_and_layout();
        match get(&storage, layout) {
            Some(numbers) if layout.start_offset() == 0 => Ok((numbers?, layout.shape().clone())),
            _ => bail!("a value on another device than its argument, or a part of one"),
        }
    }
}

impl<F: Fn(&Tensor) -> Result<Tensor>> CustomOp1 for WithGradient<F> {
    fn name(&self) -> &'static str {
        "own-gradient"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.value(
            |storage, layout| {
                if let Storage::Cpu(it) = storage { Some(it.try_clone(layout)) } else { None }
            },
        )
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.value(
            |storage, layout| {
                if let Storage::Cuda(it) = storage { Some(it.try_clone(layout)) } else { None }
            },
        )
    }

    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        self.value(
            |storage, layout| {
                if let Storage::Metal(it) = storage { Some(it.try_clone(layout)) } else { None }
            },
        )
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        (self.back)(&grad.contiguous()?).map(Some)
    }
}

/// Returns the softmax over the last dimension of `x` + `mask`.
pub fn softmax(x: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let y = ops::softmax_last_dim(&x.detach().broadcast_add(mask)?)?;
    own(x, y.clone(), move |grad| {
        let sum = (grad * &y)?.sum_keepdim(D::Minus1)?;
        &y * grad.broadcast_sub(&sum)?
    })
}

/// Divides rows over the last dimension by their root mean square.
pub fn unit(x: &Tensor, eps: f32) -> Result<Tensor> {
    let x0 = x.detach().contiguous()?;
    let y = ops::rms_norm(&x0, &Tensor::ones(x.dim(D::Minus1)?, DType::F32, x.device())?, eps)?;
    own(x, y.clone(), move |grad| {
        let scale = (x0.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?.recip()?;
        let along = (grad * &y)?.mean_keepdim(D::Minus1)?;
        (grad - y.broadcast_mul(&along)?)?.broadcast_mul(&scale)
    })
}

/// Rotates the pairs (i, i + half) of each head.
///
/// `x` is (texts, heads, n, head_dim); the angles' `cos` and `sin` are (n, head_dim / 2).
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (back_cos, back_sin) = (cos.clone(), sin.neg()?);
    own(x, rotary_emb::rope(&x.detach(), cos, sin)?, move |grad| {
        rotary_emb::rope(grad, &back_cos, &back_sin)
    })
}

/// Selects rows of (rows, width), each at most once.
pub fn select_rows(x: &Tensor, rows: &[u32]) -> Result<Tensor> {
    let (all, width) = x.dims2()?;
    // A row that is not selected gets the gradient of the row of zeros appended to all others.
    let mut places = vec![rows.len() as u32; all];
    for (place, &row) in rows.iter().enumerate() {
        places[row as usize] = place as u32;
    }
    let places = Tensor::from_vec(places, all, x.device())?;
    own(x, x.detach().index_select(&Tensor::new(rows, x.device())?, 0)?, move |grad| {
        Tensor::cat(&[grad, &Tensor::zeros((1, width), DType::F32, grad.device())?], 0)?
            .index_select(&places, 0)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{Device, Var};

    use super::*;

    /// Asserts that value and gradient equal those of the composed operations.
    fn same(
        shape: &[usize],
        fused: impl Fn(&Tensor) -> Result<Tensor>,
        composed: impl Fn(&Tensor) -> Result<Tensor>,
    ) {
        let n: usize = shape.iter().product();
        let numbers =
            |by: f32| -> Vec<f32> { (0..n).map(|i| (i as f32 * by + 0.3).sin() * 2.0).collect() };
        let x = Var::from_vec(numbers(0.71), shape, &Device::Cpu).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let told = |y: Tensor| {
            let weights = (0..y.elem_count()).map(|i| (i as f32 * 1.3).cos()).collect();
            let weights = Tensor::from_vec(weights, y.shape(), &Device::Cpu).unwrap();
            let store = (&y * weights).unwrap().sum_all().unwrap().backward().unwrap();
            (flat(&y), flat(store.get(x.as_tensor()).unwrap()))
        };
        let (got, want) = (told(fused(&x).unwrap()), told(composed(&x).unwrap()));
        for (got, want) in got.0.iter().zip(&want.0).chain(got.1.iter().zip(&want.1)) {
            assert!((got - want).abs() < 1e-5, "{got} for {want}");
        }
    }

    #[test]
    fn gradients_are_those_of_the_composed_operations() {
        let mask = Tensor::new(
            &[[0f32, 0.0, f32::NEG_INFINITY, 0.0], [0.0, f32::NEG_INFINITY, 0.0, 0.0]],
            &Device::Cpu,
        )
        .unwrap();
        same(
            &[3, 2, 4],
            |x| softmax(x, &mask),
            |x| ops::softmax(&x.broadcast_add(&mask)?, D::Minus1),
        );
        let norm =
            |x: &Tensor| x.broadcast_div(&(x.sqr()?.mean_keepdim(D::Minus1)? + 1e-3)?.sqrt()?);
        same(&[2, 3, 8], |x| unit(x, 1e-3), norm);
        let angles: Vec<f32> = (0..12).map(|i| i as f32 * 0.4).collect();
        let angles = Tensor::from_vec(angles, (4, 3), &Device::Cpu).unwrap();
        let (cos, sin) = (angles.cos().unwrap(), angles.sin().unwrap());
        same(&[2, 2, 4, 6], |x| rope(x, &cos, &sin), |x| rotary_emb::rope_slow(x, &cos, &sin));
        let rows = [4u32, 0, 3];
        same(
            &[5, 3],
            |x| select_rows(x, &rows),
            |x| x.index_select(&Tensor::new(&rows, &Device::Cpu)?, 0),
        );
    }
}
