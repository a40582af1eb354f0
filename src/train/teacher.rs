//! The target on a GPU: it tells what a head is to learn anew whenever it is asked, which is quicker there than to keep it on disk.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::TrainError;
use crate::model::candle::{Llama, Precision, Texts};
use crate::model::weights::Weights;
use crate::tree::TokenId;

/// The target, and where it is read.
pub struct Teacher {
    llama: Arc<Llama>,
    after: Vec<usize>,
}

/// What it tells of some texts.
pub struct Lesson {
    /// The hidden states behind all layers that are read, (texts, n, after * dim).
    pub hidden: Tensor,
    /// The laws asked for, at temperature 1, (asked, vocab).
    pub laws: Tensor,
}

impl Teacher {
    /// The target of these weights, its hidden states to be read behind so many layers each.
    ///
    /// # Errors
    /// If the weights can't be read or the device has no room for them.
    pub fn new(weights: &Weights, device: &Device, after: &[usize]) -> std::result::Result<Teacher, TrainError> {
        // Its products may have the precision of half the bits: what is learnt is its law to a thousandth.
        candle_core::cuda::set_gemm_reduced_precision_f32(true);
        Ok(Teacher { llama: Arc::new(Llama::load(weights, device, Precision::F32)?), after: after.to_vec() })
    }

    /// The target itself.
    pub fn llama(&self) -> &Arc<Llama> {
        &self.llama
    }

    /// Where it is.
    pub fn device(&self) -> &Device {
        self.llama.device()
    }

    /// Reads `texts` texts of the same length, n tokens: `asked` says after which tokens, numbered text after text, a law is wanted.
    ///
    /// # Errors
    /// If the device fails.
    pub fn read(&self, tokens: &[TokenId], texts: usize, asked: &[u32]) -> Result<Lesson> {
        let n = tokens.len() / texts;
        let seen = Texts::new(self.llama.clone(), vec![0; texts], n)?.append(tokens, &self.after)?;
        let last = seen.last.index_select(&Tensor::new(asked, self.device())?, 0)?;
        Ok(Lesson {
            hidden: Tensor::cat(&seen.after, 1)?.reshape((texts, n, ()))?,
            laws: softmax_last_dim(&self.llama.head(&last)?)?,
        })
    }
}
