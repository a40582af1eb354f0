//! Loss and gradients of the examples of a step.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};

use super::super::linear::{Matrices, Products};
use super::super::net::{Example, Net};
use super::super::{TrainError, rounding};
use super::gradients::BatchGradients;
use super::{Run, TrainSettings};
use crate::model::HeadForm;
use crate::model::cpu::dense;

/// Loss and gradients of one text, as computed by a thread.
struct TextGradients {
    loss: f64,
    counted: f64,
    grads: BTreeMap<&'static str, Vec<f32>>,
}

impl Run<'_> {
    pub(super) fn learn(&self, examples: &[Example]) -> Result<BatchGradients, TrainError> {
        if self.teacher.is_some() {
            self.learn_on_gpu(examples)
        } else {
            self.learn_on_threads(examples)
        }
    }

    /// Packs the matrices for the tile unit, if the CPU has one and trains.
    pub(super) fn matrices(&self) -> Result<Option<Matrices>, TrainError> {
        let packed =
            || Matrices::pack(&self.net.vars, &self.net.sizes.matrices(), self.options.threads);
        Ok(if self.teacher.is_none() && dense::available() { Some(packed()?) } else { None })
    }

    /// Returns the network on the teacher's device, with weights rounded as in the head's file.
    ///
    /// Gradients of these are used for the weights before rounding, as in `linear.rs`.
    pub(super) fn rounded_net(&self) -> Result<Net, TrainError> {
        let round = |(name, var): (&&'static str, &Var)| {
            Ok((*name, Var::from_tensor(&rounding::round_on_device(name, var)?)?))
        };
        Ok(Net {
            sizes: self.net.sizes.clone(),
            vars: self.net.vars.iter().map(round).collect::<candle_core::Result<_>>()?,
        })
    }

    /// Computes the gradients of examples one after another, each of many texts.
    fn learn_on_gpu(&self, examples: &[Example]) -> Result<BatchGradients, TrainError> {
        let net = self.rounded_net()?;
        let mut learned = BatchGradients::default();
        let mut losses = Vec::new();
        for example in examples {
            let Backpropagation { store, loss, counted } =
                backpropagate(&net, example, &self.options, None)?;
            losses.push(loss);
            learned.counted += counted;
            for (name, var) in &net.vars {
                let Some(grad) = store.get(var.as_tensor()) else { continue };
                let sum = match learned.grads.remove(name) {
                    None => grad.clone(),
                    Some(sum) => (sum + grad)?,
                };
                learned.grads.insert(*name, sum);
            }
        }
        // Read once everything is queued: each read waits for the device.
        for loss in losses {
            learned.loss += f64::from(loss.to_scalar::<f32>()?);
        }
        Ok(learned)
    }

    /// Computes the gradients with one text per thread.
    ///
    /// Candle's own threads would wait for each other after every operation. Gradients are added in
    /// the order of the texts, so that the sums do not depend on timing.
    fn learn_on_threads(&self, examples: &[Example]) -> Result<BatchGradients, TrainError> {
        let matrices = self.matrices()?;
        let next = AtomicUsize::new(0);
        let learn = || {
            let mut mine = Vec::new();
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(example) = examples.get(i) else { return mine };
                mine.push((i, self.part(example, matrices.as_ref())));
            }
        };
        let mut parts = std::thread::scope(|scope| {
            // If the system grants no more threads, fewer do the work.
            let threads: Vec<_> = (1..self.options.threads)
                .map_while(|_| std::thread::Builder::new().spawn_scoped(scope, learn).ok())
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<_>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            let mut parts = learn();
            parts.extend(threads.into_iter().flat_map(join));
            parts
        });
        parts.sort_by_key(|(i, _)| *i);
        let (mut learned, mut grads) =
            (BatchGradients::default(), BTreeMap::<&'static str, Vec<f32>>::new());
        for (_, part) in parts {
            let part = part?;
            learned.loss += part.loss;
            learned.counted += part.counted;
            for (name, grad) in part.grads {
                match grads.get_mut(name) {
                    None => drop(grads.insert(name, grad)),
                    Some(sum) => sum.iter_mut().zip(grad).for_each(|(s, g)| *s += g),
                }
            }
        }
        for (name, grad) in grads {
            let Some(var) = self.net.vars.get(name) else { continue };
            learned.grads.insert(name, Tensor::from_vec(grad, var.shape(), var.device())?);
        }
        Ok(learned)
    }

    fn part(
        &self,
        example: &Example,
        matrices: Option<&Matrices>,
    ) -> Result<TextGradients, TrainError> {
        let products = matrices.map(Matrices::products);
        let Backpropagation { store, loss, counted } =
            backpropagate(&self.net, example, &self.options, products.as_ref())?;
        let mut grads = BTreeMap::new();
        for (name, var) in &self.net.vars {
            let Some(grad) = store.get(var.as_tensor()) else { continue };
            grads.insert(*name, grad.flatten_all()?.to_vec1::<f32>()?);
        }
        grads.extend(products.into_iter().flat_map(Products::grads));
        Ok(TextGradients { loss: f64::from(loss.to_scalar::<f32>()?), counted, grads })
    }
}

/// Gradients and loss on an example.
pub struct Backpropagation {
    pub store: GradStore,
    /// Loss in nats, summed over all depths.
    pub loss: Tensor,
    /// Weight of the entries, summed over all depths.
    pub counted: f64,
}

/// Computes the gradients on an example.
pub fn backpropagate(
    net: &Net,
    example: &Example,
    options: &TrainSettings,
    products: Option<&Products>,
) -> candle_core::Result<Backpropagation> {
    let (fused, depths) = net.unroll(example, options.depths, products)?;
    let goal = fused.detach();
    let (texts, n) = (example.lens.len(), example.embedded.dim(1)?);
    // Each text has the same weight in a step.
    let share = |entries: usize| 1.0 / (options.batch * entries.max(1)) as f32;
    let zero = Tensor::zeros((), DType::F32, fused.device())?;
    let (mut total, mut loss, mut counted) = (zero.clone(), zero, 0.0);
    for depth in &depths {
        let count = |(i, &count): (usize, &f32)| if i < depth.from { 0.0 } else { count };
        let counts: Vec<f32> = example.within().zip(&example.counts).map(count).collect();
        let each = example.lens.iter().flat_map(|&len| std::iter::repeat_n(share(len), len));
        let shares: Vec<f32> =
            counts.iter().zip(each).map(|(count, share)| count * share).collect();
        counted += counts.iter().map(|&c| f64::from(c)).sum::<f64>();
        let cross = net.cross_entropy(depth, &example.targets, &counts, &shares, products)?;
        let mut term = cross.term;
        // An adapter's state feeds no later depth.
        if options.regression > 0.0 && options.form == HeadForm::Eagle && n > depth.from + 1 {
            let difference = (depth.out.narrow(1, 0, n - 1)? - goal.narrow(1, 1, n - 1)?)?;
            // Quadratic near 0, linear further off: a few states are many times as large as all
            // others.
            let smooth = ((difference.sqr()? + 1.0)?.sqrt()? - 1.0)?.mean(2)?;
            let part = |&len: &usize| {
                let within = depth.from..len.saturating_sub(1);
                let each = share(within.len()) * options.regression as f32;
                (0..n - 1).map(move |i| if within.contains(&i) { each } else { 0.0 })
            };
            let parts: Vec<f32> = example.lens.iter().flat_map(part).collect();
            let parts = Tensor::from_vec(parts, (texts, n - 1), smooth.device())?;
            term = (term + (smooth * parts)?.sum_all()?)?;
        }
        (total, loss) = ((total + term)?, (loss + cross.counted)?);
    }
    Ok(Backpropagation { store: total.backward()?, loss, counted })
}
