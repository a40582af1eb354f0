//! Figures of texts that were held out.

use super::super::TrainError;
use super::super::corpus::TOP;
use super::super::linear::Matrices;
use super::super::net::SoftCross;
use super::{Figures, Run};
use crate::model::HeadForm;

impl Run<'_> {
    /// The figures of at most 24 of the texts held out.
    pub(super) fn held_out(&mut self) -> Result<Figures, TrainError> {
        let depths = self.options.depths.max(4);
        // Of an adapter one depth is all.
        let own = if self.options.form == HeadForm::Adapter { 1 } else { depths };
        let texts: Vec<usize> = (0..self.corpus.len()).filter(|i| i % self.options.held_out == 0).take(24).collect();
        let (mut loss, mut counted) = (vec![0.0; own], vec![0.0; own]);
        let (mut reached, mut passed) = (vec![0usize; depths], vec![0usize; depths]);
        let products = self.matrices()?.as_ref().map(Matrices::products);
        for i in texts {
            let text = self.corpus.read(i)?;
            let example = self.example(&text, 0)?;
            let n = example.counts.len();
            let (_, unrolled) = self.net.unroll(&example, own, products.as_ref())?;
            let mut right = vec![vec![false; n]; own];
            for (d, depth) in unrolled.iter().enumerate() {
                let count = |i: usize| if i >= depth.from && example.counts[i] == 1.0 { 1.0 } else { 0.0 };
                let weights = example.weights.iter().enumerate().map(|(k, w)| w * count(k / TOP)).collect();
                let cross = SoftCross { rows: example.rows.clone(), weights };
                let logits = self.net.logits(depth, products.as_ref())?;
                loss[d] += f64::from(logits.contiguous()?.apply_op1_no_bwd(&cross)?.to_scalar::<f32>()?);
                counted[d] += (0..n).map(|i| f64::from(count(i))).sum::<f64>();
                let best = logits.argmax(1)?.to_vec1::<u32>()?;
                for i in 0..n {
                    right[d][i] = example.best[i] == Some(best[i]);
                }
            }
            // A run begins at entry r of depth 1, and goes on at entry r + d of depth 1 + d.
            for r in (0..n).filter(|&r| example.counts[r] == 1.0) {
                for d in 0..depths.min(n - r) {
                    reached[d] += 1;
                    if !right[d.min(own - 1)][r + d] {
                        break;
                    }
                    passed[d] += 1;
                }
            }
        }
        let rate = |(a, b): (f64, f64)| if b > 0.0 { a / b } else { 0.0 };
        let count = |all: &[usize]| all.iter().map(|&n| n as f64).collect::<Vec<_>>();
        Ok(Figures {
            loss: loss.into_iter().zip(counted).map(rate).collect(),
            acceptance: count(&passed).into_iter().zip(count(&reached)).map(rate).collect(),
            accepted: rate((passed.iter().sum::<usize>() as f64, reached[0] as f64)),
        })
    }
}
