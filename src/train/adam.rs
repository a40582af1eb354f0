//! AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2), with state that can be kept and taken up again.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};

/// Decay of the first moment.
const BETA1: f32 = 0.9;
/// Decay of the second moment.
const BETA2: f32 = 0.95;
const EPS: f32 = 1e-8;
/// Decay of the weights, a step and unit of the learning rate; vectors (norms) are left alone.
const DECAY: f32 = 0.01;

/// Moments of every parameter.
#[derive(Default)]
pub struct Adam {
    pub steps: usize,
    pub moments: BTreeMap<&'static str, (Vec<f32>, Vec<f32>)>,
}

impl Adam {
    /// One step along `grads` at the learning rate `rate`; gradients are scaled so that their common norm is at most `clip`.
    /// Returns the norm before.
    pub fn step(
        &mut self,
        vars: &BTreeMap<&'static str, Var>,
        grads: BTreeMap<&'static str, Vec<f32>>,
        rate: f64,
        clip: f64,
    ) -> Result<f64> {
        let norm = grads.values().flatten().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return Ok(norm);
        }
        let scale = if norm > clip { (clip / norm) as f32 } else { 1.0 };
        self.steps += 1;
        let rate = rate as f32;
        let (c1, c2) = (1.0 - BETA1.powi(self.steps as i32), 1.0 - BETA2.powi(self.steps as i32));
        for (name, grad) in grads {
            let Some(var) = vars.get(name) else { continue };
            let decay = if var.rank() > 1 && var.dim(0)? > 8 { rate * DECAY } else { 0.0 };
            let mut values = var.flatten_all()?.to_vec1::<f32>()?;
            let (m, v) = self.moments.entry(name).or_insert_with(|| (vec![0.0; grad.len()], vec![0.0; grad.len()]));
            for (((w, g), m), v) in values.iter_mut().zip(grad).zip(m.iter_mut()).zip(v.iter_mut()) {
                let g = g * scale;
                *m = BETA1 * *m + (1.0 - BETA1) * g;
                *v = BETA2 * *v + (1.0 - BETA2) * g * g;
                *w -= decay * *w + rate * (*m / c1) / ((*v / c2).sqrt() + EPS);
            }
            var.set(&Tensor::from_vec(values, var.dims(), var.device())?)?;
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;

    #[test]
    fn the_first_step_goes_by_the_rate_and_the_sign() {
        let var = Var::from_tensor(&Tensor::new(&[1f32, -2.0, 3.0], &Device::Cpu).unwrap()).unwrap();
        let vars = BTreeMap::from([("w", var)]);
        let mut adam = Adam::default();
        let norm = adam.step(&vars, BTreeMap::from([("w", vec![3.0, -4.0, 0.0])]), 0.1, 1e9).unwrap();
        assert_eq!(norm, 5.0);
        let got = vars["w"].to_vec1::<f32>().unwrap();
        for (got, want) in got.iter().zip([0.9, -1.9, 3.0]) {
            assert!((got - want).abs() < 1e-5, "{got} for {want}");
        }
        // Gradients that are no numbers change nothing.
        assert!(adam.step(&vars, BTreeMap::from([("w", vec![f32::NAN, 0.0, 0.0])]), 0.1, 1.0).unwrap().is_nan());
        assert_eq!(vars["w"].to_vec1::<f32>().unwrap(), got);
    }
}
