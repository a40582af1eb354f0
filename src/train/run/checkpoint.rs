//! Checkpoints of a run, so that it can continue after an interruption.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::super::TrainError;
use super::super::sizes::HeadDims;
use super::super::sizes::HeadTensor;
use super::{Run, TrainSettings};
use crate::tree::TokenId;

/// Largest number of steps in a checkpoint; trainings have thousands.
const MOST_STEPS: usize = i32::MAX as usize / 2;

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
        let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
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
        let part = self.checkpoint.with_extension("part");
        let written = write_tensors(&part, &about, &tensors);
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        written?;
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
            .filter(|about| about.dtype() == DType::U8)
            .ok_or_else(|| wrong("no checkpoint of a head"))?
            .flatten_all()?
            .to_vec1::<u8>()?;
        let kept: CheckpointMetadata = serde_json::from_slice(&about)
            .map_err(|e| wrong(&format!("no checkpoint of a head: {e}")))?;
        if kept.sizes != self.net.sizes
            || kept.tokens.len() != kept.sizes.vocab
            || kept.tokens.iter().any(|&t| t as usize >= self.rows.len())
        {
            return Err(wrong("is of a head of another shape"));
        }
        // Larger counts are damage; they would overflow in the steps that follow.
        if kept.adam_steps.max(kept.step) > MOST_STEPS || kept.tokens_read > 1 << 53 {
            return Err(wrong("counts more steps or tokens than a training can have"));
        }
        let distinct: BTreeSet<TokenId> = kept.tokens.iter().copied().collect();
        if distinct.len() < kept.tokens.len() {
            return Err(wrong("names a token twice"));
        }
        let device = self.device();
        for HeadTensor { name, rows, cols } in kept.sizes.tensors() {
            let found = |suffix: &str| {
                tensors.get(&format!("{name}{suffix}")).filter(|t| {
                    t.dtype() == DType::F32
                        && (t.dims() == [rows, cols] || (rows == 1 && t.dims() == [cols]))
                })
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

/// Writes a safetensors file of F32 tensors, and the bytes `about` under that name.
///
/// The writer of the `safetensors` crate goes through a file with a random name, which a kill would
/// leave behind for good.
fn write_tensors(
    path: &Path,
    about: &[u8],
    tensors: &BTreeMap<String, Tensor>,
) -> Result<(), TrainError> {
    let disk = |source| TrainError::Disk { path: path.to_owned(), source };
    let mut head = serde_json::Map::new();
    let mut at = 0;
    let mut entry = |kind: &str, shape: &[usize], bytes: usize| {
        let range = [at, at + bytes];
        at += bytes;
        serde_json::json!({ "dtype": kind, "shape": shape, "data_offsets": range })
    };
    for (name, tensor) in tensors {
        head.insert(name.clone(), entry("F32", tensor.dims(), 4 * tensor.elem_count()));
    }
    // Last, so that the floats before it are aligned.
    head.insert("about".to_owned(), entry("U8", &[about.len()], about.len()));
    let mut head = serde_json::to_vec(&head).map_err(|e| disk(e.into()))?;
    head.resize(head.len().next_multiple_of(8), b' ');
    let mut out = BufWriter::new(File::create(path).map_err(disk)?);
    out.write_all(&(head.len() as u64).to_le_bytes())
        .and_then(|()| out.write_all(&head))
        .map_err(disk)?;
    for tensor in tensors.values() {
        for value in tensor.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()? {
            out.write_all(&value.to_le_bytes()).map_err(disk)?;
        }
    }
    out.write_all(about).and_then(|()| out.flush()).map_err(disk)
}
