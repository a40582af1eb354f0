//! Checkpoints of a run, so that it can continue after an interruption.

use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::super::TrainError;
use super::super::sizes::HeadDims;
use super::super::sizes::HeadTensor;
use super::{Run, TrainSettings};
use crate::tree::TokenId;

/// Contents of a checkpoint besides the tensors.
#[derive(Serialize, Deserialize)]
struct CheckpointMetadata {
    options: TrainSettings,
    sizes: HeadDims,
    tokens: Vec<TokenId>,
    step: usize,
    tokens_read: usize,
    seconds: f64,
    adam_steps: usize,
}

impl Run<'_> {
    /// Writes the checkpoint atomically.
    pub(super) fn save_checkpoint(&self) -> Result<(), TrainError> {
        let disk = |source| TrainError::Disk { path: self.checkpoint.clone(), source };
        let mut tensors: std::collections::HashMap<String, Tensor> =
            std::collections::HashMap::new();
        for (name, var) in &self.net.vars {
            tensors.insert((*name).to_owned(), var.as_tensor().clone());
            if let Some((m, v)) = self.adam.moments.get(name) {
                tensors.insert(format!("{name}.m"), m.clone());
                tensors.insert(format!("{name}.v"), v.clone());
            }
        }
        let kept = CheckpointMetadata {
            options: self.options.clone(),
            sizes: self.net.sizes.clone(),
            tokens: self.tokens.clone(),
            step: self.step,
            tokens_read: self.tokens_read,
            seconds: self.seconds,
            adam_steps: self.adam.steps,
        };
        // One file, so that tensors and metadata are always of the same step.
        let about = serde_json::to_vec(&kept).unwrap_or_default();
        tensors.insert("about".into(), Tensor::from_vec(about.clone(), about.len(), &Device::Cpu)?);
        let part = self.checkpoint.with_extension("part");
        candle_core::safetensors::save(&tensors, &part).map_err(|e| {
            let _ = std::fs::remove_file(&part);
            disk(std::io::Error::other(e.to_string()))
        })?;
        std::fs::rename(&part, &self.checkpoint).map_err(disk)
    }

    /// Restores the checkpoint; returns false if there is none.
    pub(super) fn load_checkpoint(&mut self) -> Result<bool, TrainError> {
        if !self.checkpoint.exists() {
            return Ok(false);
        }
        let wrong = |what: &str| TrainError::Checkpoint {
            path: self.checkpoint.clone(),
            what: what.into(),
        };
        let tensors = candle_core::safetensors::load(&self.checkpoint, &Device::Cpu)
            .map_err(|e| wrong(&e.to_string()))?;
        let about = tensors
            .get("about")
            .ok_or_else(|| wrong("no checkpoint of a head"))?
            .flatten_all()?
            .to_vec1::<u8>()?;
        let kept: CheckpointMetadata = serde_json::from_slice(&about)
            .map_err(|e| wrong(&format!("no checkpoint of a head: {e}")))?;
        if kept.sizes != self.net.sizes
            || kept.tokens.iter().any(|&t| t as usize >= self.rows.len())
        {
            return Err(wrong("is of a head of another shape"));
        }
        let device = self.device();
        for HeadTensor { name, rows, cols } in kept.sizes.tensors() {
            let found = |suffix: &str| {
                tensors.get(&format!("{name}{suffix}")).filter(|t| t.elem_count() == rows * cols)
            };
            let values = found("").ok_or_else(|| wrong(&format!("lacks tensor {name}")))?;
            self.net.vars.insert(name, Var::from_tensor(&values.to_device(&device)?)?);
            if let (Some(m), Some(v)) = (found(".m"), found(".v")) {
                self.adam.moments.insert(name, (m.to_device(&device)?, v.to_device(&device)?));
            }
        }
        (self.step, self.tokens_read, self.seconds) = (kept.step, kept.tokens_read, kept.seconds);
        (self.tokens, self.adam.steps) = (kept.tokens, kept.adam_steps);
        Ok(true)
    }
}
