//! Metrics on the held-out texts.

use super::super::TrainError;
use super::super::linear::Matrices;
use super::{HeldOutMetrics, Run};
use crate::model::HeadForm;

impl Run<'_> {
    /// Measures at most 24 of the held-out texts.
    pub(super) fn measure_held_out(&mut self) -> Result<HeldOutMetrics, TrainError> {
        let depths = self.options.depths.max(4);
        // An adapter has only one depth.
        let own = if self.options.form == HeadForm::Adapter { 1 } else { depths };
        let texts: Vec<(usize, u64)> = (0..self.corpus.len())
            .step_by(self.options.held_out)
            .take(24)
            .map(|i| (i, 0))
            .collect();
        let (mut loss, mut counted) = (vec![0.0; own], vec![0.0; own]);
        let (mut reached, mut passed) = (vec![0usize; depths], vec![0usize; depths]);
        let products = self.matrices()?.as_ref().map(Matrices::products);
        let rounded = self.teacher.map(|_| self.rounded_net()).transpose()?;
        let examples = self.examples(&texts, true)?;
        let net = rounded.as_ref().unwrap_or(&self.net);
        for example in examples {
            let (_, unrolled) = net.unroll(&example, own, products.as_ref())?;
            let mut right = vec![vec![false; example.counts.len()]; own];
            for (d, depth) in unrolled.iter().enumerate() {
                let count = |(i, &count): (usize, &f32)| {
                    if i >= depth.from && count == 1.0 { 1.0 } else { 0.0 }
                };
                let counts: Vec<f32> = example.within().zip(&example.counts).map(count).collect();
                let logits = net.logits(depth, products.as_ref())?;
                loss[d] += f64::from(example.targets.loss(&logits, &counts)?.to_scalar::<f32>()?);
                counted[d] += counts.iter().map(|&c| f64::from(c)).sum::<f64>();
                let best = logits.argmax(1)?.to_vec1::<u32>()?;
                for (right, (best, target)) in
                    right[d].iter_mut().zip(best.iter().zip(&example.best))
                {
                    *right = *target == Some(*best);
                }
            }
            // A run begins at entry r of depth 1, and continues at entry r + d of depth 1 + d.
            let mut begin = 0;
            for &len in &example.lens {
                for r in (0..len).filter(|&r| example.counts[begin + r] == 1.0) {
                    for d in 0..depths.min(len - r) {
                        reached[d] += 1;
                        if !right[d.min(own - 1)][begin + r + d] {
                            break;
                        }
                        passed[d] += 1;
                    }
                }
                begin += len;
            }
        }
        let rate = |(a, b): (f64, f64)| if b > 0.0 { a / b } else { 0.0 };
        let count = |all: &[usize]| all.iter().map(|&n| n as f64).collect::<Vec<_>>();
        Ok(HeldOutMetrics {
            loss: loss.into_iter().zip(counted).map(rate).collect(),
            acceptance: count(&passed).into_iter().zip(count(&reached)).map(rate).collect(),
            accepted: rate((passed.iter().sum::<usize>() as f64, reached[0] as f64)),
        })
    }
}
