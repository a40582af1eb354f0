//! AdamW optimizer whose state can be saved and restored.
//!
//! Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Result, Tensor, Var};

/// Decay rate of the first moment.
const BETA1: f32 = 0.9;
/// Decay rate of the second moment.
const BETA2: f32 = 0.95;
const EPS: f32 = 1e-8;
/// Weight decay per step and unit of the learning rate; norms are exempt.
const DECAY: f32 = 0.01;

/// Optimizer state: first and second moment of every parameter.
#[derive(Default)]
pub struct Adam {
    pub steps: usize,
    pub moments: BTreeMap<&'static str, (Tensor, Tensor)>,
}

/// Scalars of one step that are the same for all parameters.
struct StepScalars {
    /// Factor on all gradients, for clipping.
    scale: f32,
    /// Learning rate of the step.
    rate: f32,
    /// Bias corrections of the first and second moment, which start as zeros.
    c1: f32,
    c2: f32,
}

impl Adam {
    /// Applies one step along `grads` at the learning rate `rate`.
    ///
    /// Gradients are scaled so that their global norm is at most `clip`. Returns the norm before
    /// that; if it is not finite, nothing changes.
    pub fn step(
        &mut self,
        vars: &BTreeMap<&'static str, Var>,
        grads: BTreeMap<&'static str, Tensor>,
        rate: f64,
        clip: f64,
    ) -> Result<f64> {
        let mut powers = Vec::new();
        for grad in grads.values() {
            powers.push(match grad.device() {
                Device::Cpu => {
                    let squares = grad
                        .flatten_all()?
                        .to_vec1::<f32>()?
                        .into_iter()
                        .map(|g| f64::from(g) * f64::from(g));
                    Tensor::new(&[squares.sum::<f64>()], &Device::Cpu)?
                }
                // Row by row first: a device computes each sum on one of its processors.
                _ => grad.sqr()?.sum(D::Minus1)?.sum_all()?.to_dtype(DType::F64)?.reshape(1)?,
            });
        }
        // One transfer for all of them, since each waits for the device.
        let power = if powers.is_empty() {
            0.0
        } else {
            Tensor::cat(&powers, 0)?.sum_all()?.to_scalar::<f64>()?
        };
        let norm = power.sqrt();
        if !norm.is_finite() {
            return Ok(norm);
        }
        self.steps += 1;
        let rule = StepScalars {
            scale: if norm > clip { (clip / norm) as f32 } else { 1.0 },
            rate: rate as f32,
            c1: 1.0 - BETA1.powi(self.steps as i32),
            c2: 1.0 - BETA2.powi(self.steps as i32),
        };
        for (name, grad) in grads {
            let Some(var) = vars.get(name) else { continue };
            let decay = if var.rank() > 1 && var.dim(0)? > 8 { rule.rate * DECAY } else { 0.0 };
            let grad = grad.reshape(var.shape())?;
            let (m, v) = match self.moments.remove(name) {
                Some(moments) => moments,
                None => (grad.zeros_like()?, grad.zeros_like()?),
            };
            let moments = match grad.device() {
                Device::Cpu => rule.on_cpu(var, &grad, (&m, &v), decay)?,
                _ => rule.on_device(var, &grad, (&m, &v), decay)?,
            };
            self.moments.insert(name, moments);
        }
        Ok(norm)
    }
}

impl StepScalars {
    /// Updates a parameter in one pass over its values; returns the new moments.
    fn on_cpu(
        &self,
        var: &Var,
        grad: &Tensor,
        (m, v): (&Tensor, &Tensor),
        decay: f32,
    ) -> Result<(Tensor, Tensor)> {
        let vector = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
        let (mut values, grad, mut m, mut v) =
            (vector(var)?, vector(grad)?, vector(m)?, vector(v)?);
        for (((w, g), m), v) in values.iter_mut().zip(grad).zip(&mut m).zip(&mut v) {
            let g = g * self.scale;
            *m = BETA1 * *m + (1.0 - BETA1) * g;
            *v = BETA2 * *v + (1.0 - BETA2) * g * g;
            *w -= decay * *w + self.rate * (*m / self.c1) / ((*v / self.c2).sqrt() + EPS);
        }
        let tensor = |values: Vec<f32>| Tensor::from_vec(values, var.shape(), var.device());
        var.set(&tensor(values)?)?;
        Ok((tensor(m)?, tensor(v)?))
    }

    /// Updates a parameter by tensor operations of its device; returns the new moments.
    fn on_device(
        &self,
        var: &Var,
        grad: &Tensor,
        (m, v): (&Tensor, &Tensor),
        decay: f32,
    ) -> Result<(Tensor, Tensor)> {
        let wide = |x: f32| f64::from(x);
        let grad = (grad * wide(self.scale))?;
        let m = ((m * wide(BETA1))? + (&grad * wide(1.0 - BETA1))?)?;
        let v = ((v * wide(BETA2))? + (grad.sqr()? * wide(1.0 - BETA2))?)?;
        let root = ((&v / wide(self.c2))?.sqrt()? + wide(EPS))?;
        let step = ((&m * wide(self.rate / self.c1))? / root)?;
        var.set(&((var.as_tensor() * (1.0 - wide(decay)))? - step)?)?;
        Ok((m, v))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_step_goes_by_the_rate_and_the_sign() {
        let var =
            Var::from_tensor(&Tensor::new(&[1f32, -2.0, 3.0], &Device::Cpu).unwrap()).unwrap();
        let vars = BTreeMap::from([("w", var)]);
        let mut adam = Adam::default();
        let grads =
            |values: [f32; 3]| BTreeMap::from([("w", Tensor::new(&values, &Device::Cpu).unwrap())]);
        let norm = adam.step(&vars, grads([3.0, -4.0, 0.0]), 0.1, 1e9).unwrap();
        assert_eq!(norm, 5.0);
        let got = vars["w"].to_vec1::<f32>().unwrap();
        for (got, want) in got.iter().zip([0.9, -1.9, 3.0]) {
            assert!((got - want).abs() < 1e-5, "{got} for {want}");
        }
        // Gradients that are not finite change nothing.
        assert!(adam.step(&vars, grads([f32::NAN, 0.0, 0.0]), 0.1, 1.0).unwrap().is_nan());
        assert_eq!(vars["w"].to_vec1::<f32>().unwrap(), got);
    }

    #[test]
    fn a_device_makes_the_same_steps() {
        let begin: Vec<f32> = (0..96).map(|i| (i as f32 * 0.7).sin()).collect();
        let var = || {
            Var::from_tensor(&Tensor::from_slice(&begin, (12, 8), &Device::Cpu).unwrap()).unwrap()
        };
        let (one, two) = (var(), var());
        let zeros = one.zeros_like().unwrap();
        let (mut m1, mut m2) = ((zeros.clone(), zeros.clone()), (zeros.clone(), zeros));
        for step in 1..4 {
            let rule = StepScalars {
                scale: 0.5,
                rate: 0.01,
                c1: 1.0 - BETA1.powi(step),
                c2: 1.0 - BETA2.powi(step),
            };
            let grad =
                Tensor::from_iter((0..96).map(|i| (i as f32 * step as f32).cos()), &Device::Cpu)
                    .unwrap();
            let grad = grad.reshape((12, 8)).unwrap();
            m1 = rule.on_cpu(&one, &grad, (&m1.0, &m1.1), 0.001).unwrap();
            m2 = rule.on_device(&two, &grad, (&m2.0, &m2.1), 0.001).unwrap();
        }
        let numbers = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (got, want) in [(two.as_tensor(), one.as_tensor()), (&m2.0, &m1.0), (&m2.1, &m1.1)] {
            for (got, want) in numbers(got).iter().zip(numbers(want)) {
                assert!((got - want).abs() < 1e-6, "{got} for {want}");
            }
        }
        assert!(
            numbers(one.as_tensor())
                .iter()
                .zip(&begin)
                .filter(|(a, b)| (*a - *b).abs() > 1e-3)
                .count()
                > 48
        );
    }
}
