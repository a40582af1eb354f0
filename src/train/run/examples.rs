//! Which texts a step reads, and what the network reads of one.

use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::super::TrainError;
use super::super::corpus::{TOP, Text};
use super::super::net::Example;
use super::Run;
use crate::model::HeadForm;

impl Run<'_> {
    /// The order in which the texts are read in an epoch, and a random number: a function of seed and epoch alone.
    fn order(&self, epoch: usize) -> (Vec<usize>, u64) {
        let mut order: Vec<usize> = (0..self.corpus.len()).filter(|i| i % self.options.held_out != 0).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(self.options.seed ^ 0x5eed);
        rng.set_stream(epoch as u64);
        for i in (1..order.len()).rev() {
            order.swap(i, (rng.next_u64() % (i as u64 + 1)) as usize);
        }
        (order, rng.next_u64())
    }

    /// Which texts the present step reads, each with a random number that says where in it.
    pub(super) fn batch(&self) -> Vec<(usize, u64)> {
        let texts = self.corpus.len() - self.corpus.len().div_ceil(self.options.held_out);
        let (mut epoch, mut order, mut random) = (None, Vec::new(), 0);
        let place = |b: usize| self.step * self.options.batch + b;
        (0..self.options.batch)
            .map(|b| {
                let (now, at) = (place(b) / texts, place(b) % texts);
                if epoch != Some(now) {
                    (epoch, (order, random)) = (Some(now), self.order(now));
                }
                (order[at], random.wrapping_add(at as u64))
            })
            .collect()
    }

    pub(super) fn example(&self, text: &Text, from: usize) -> Result<Example, TrainError> {
        let (dim, width) = (self.net.sizes.dim, self.net.sizes.dim * self.after.len());
        let entries = text.positions().saturating_sub(1);
        let to = entries.min(from + self.options.window);
        let n = to - from;
        let hidden: Vec<f32> = match self.options.form {
            HeadForm::Eagle => text.hidden[from * width..to * width].iter().map(|x| x.to_f32()).collect(),
            HeadForm::Adapter => (text.hidden.chunks_exact(width).skip(from + 1).take(n))
                .flat_map(|states| states[..dim].iter().map(|x| x.to_f32()))
                .collect(),
        };
        let mut embedded = Vec::with_capacity(n * dim);
        for &token in &text.tokens[from + 1..to + 1] {
            embedded.extend_from_slice(&self.embedding[token as usize * dim..][..dim]);
        }
        let (mut rows, mut weights, mut counts, mut best) =
            (vec![0u32; n * TOP], vec![0f32; n * TOP], vec![0f32; n], vec![None; n]);
        for i in 0..n {
            let law = &text.laws[(from + i + 1) * TOP..][..TOP];
            // The answer begins with the law after the prompt's last token.
            counts[i] = if from + i + 2 >= text.prompt_tokens as usize { 1.0 } else { self.options.prompt_weight };
            best[i] = self.rows[law[0].0 as usize];
            for (k, (token, p)) in law.iter().enumerate() {
                if let Some(row) = self.rows[*token as usize] {
                    rows[i * TOP + k] = row;
                    weights[i * TOP + k] = p.to_f32();
                }
            }
        }
        Ok(Example {
            hidden: Tensor::from_vec(hidden, (n, self.net.sizes.fused * dim), &Device::Cpu)?,
            embedded: Tensor::from_vec(embedded, (n, dim), &Device::Cpu)?,
            rows,
            weights,
            counts,
            best,
        })
    }
}
