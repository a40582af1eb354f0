//! Target model on a GPU, which computes what a head is to learn on demand.
//!
//! Computing it again is faster there than keeping it on disk.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::TrainError;
use crate::model::candle::{Llama, Precision, TextBatch};
use crate::model::format::weights::Weights;
use crate::tree::TokenId;

/// Target model, and the layers after which its hidden states are read.
pub struct Teacher {
    llama: Arc<Llama>,
    after: Vec<usize>,
}

/// Hidden states and distributions of some texts.
pub struct TeacherOutput {
    /// Hidden states after all layers that are read, (texts, n, after * dim).
    pub hidden: Tensor,
    /// Requested distributions at temperature 1, (asked, vocab).
    pub distributions: Tensor,
}

impl Teacher {
    /// Loads the target, to read its hidden states after the numbers of layers in `after`.
    ///
    /// # Errors
    /// If the weights can't be read, or do not fit on the device.
    pub fn new(
        weights: &Weights,
        device: &Device,
        after: &[usize],
    ) -> std::result::Result<Teacher, TrainError> {
        // Products in reduced precision give the target's distribution to a thousandth, which is
        // enough.
        candle_core::cuda::set_gemm_reduced_precision_f32(true);
        Ok(Teacher {
            llama: Arc::new(Llama::load(weights, device, Precision::F32)?),
            after: after.to_vec(),
        })
    }

    /// Returns the target model itself.
    pub fn llama(&self) -> &Arc<Llama> {
        &self.llama
    }

    /// Returns the device that holds the target.
    pub fn device(&self) -> &Device {
        self.llama.device()
    }

    /// Reads `texts` texts of the same length, n tokens each.
    ///
    /// `asked` has the tokens, numbered text after text, after which a distribution is wanted.
    ///
    /// # Errors
    /// If the device fails.
    pub fn evaluate(
        &self,
        tokens: &[TokenId],
        texts: usize,
        asked: &[u32],
    ) -> Result<TeacherOutput> {
        let n = tokens.len() / texts;
        let seen =
            TextBatch::new(self.llama.clone(), vec![0; texts], n)?.append(tokens, &self.after)?;
        let last = seen.last.index_select(&Tensor::new(asked, self.device())?, 0)?;
        Ok(TeacherOutput {
            hidden: Tensor::cat(&seen.after, 1)?.reshape((texts, n, ()))?,
            distributions: softmax_last_dim(&self.llama.compute_logits(&last)?)?,
        })
    }
}
