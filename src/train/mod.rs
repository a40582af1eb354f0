//! Training of draft heads by distillation.
//!
//! Holds the corpus of the target's own texts, the head as a network, its optimizer, and the
//! training run.

mod adam;
mod corpus;
mod custom_ops;
mod events;
mod export;
mod gather;
mod gpu_generate;
mod linear;
mod net;
mod rounding;
mod run;
mod sizes;
mod teacher;
#[cfg(test)]
mod tests;

pub use corpus::{CORPUS_FORM, Corpus, CorpusSettings, CorpusText, TOP};
pub use events::{DraftPerformance, TrainEvent};
pub use gather::{GenerationOptions, PromptTask, gather};
pub use gpu_generate::gather_on_gpu;
pub use run::{HeldOutMetrics, TrainReport, TrainSettings, TrainStart, train};
pub use teacher::Teacher;

use std::path::PathBuf;

/// Error that keeps training from starting or going on; its message is one line.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Failure to read or write a file.
    #[error("{}: {source}: check the path and the room on the disk", path.display())]
    Disk {
        /// Path of the file.
        path: PathBuf,
        /// Error reported by the operating system.
        source: std::io::Error,
    },
    /// Corpus made with another model, other prompts or other settings.
    #[error("{} holds texts of another model, other prompts or other settings, or of another version: give another folder, or remove it", path.display())]
    OtherCorpus {
        /// Path of the file.
        path: PathBuf,
    },
    /// Corpus that another process uses.
    #[error("another training uses {}: wait for it, or give another folder", path.display())]
    Locked {
        /// Path of the file.
        path: PathBuf,
    },
    /// Corpus with a text that was changed after it was written.
    #[error("{}: text {text} at byte {at} is damaged: restore the file, or remove it to start over", path.display())]
    DamagedCorpus {
        /// Path of the file.
        path: PathBuf,
        /// Index of the text.
        text: usize,
        /// Offset of the text in the file, in bytes.
        at: u64,
    },
    /// Checkpoint that does not fit this run.
    #[error("{}: {what}: give another folder, or remove it", path.display())]
    Checkpoint {
        /// Path of the file.
        path: PathBuf,
        /// Description of the problem.
        what: String,
    },
    /// Initial head of other sizes, or one that reads other layers.
    #[error("{} is a head of other sizes, or reads other layers: give one that was trained for this model", path.display())]
    OtherHead {
        /// Path of the file.
        path: PathBuf,
    },
    /// Target on a device that does not expose its hidden states.
    #[error("heads are trained on the CPU path alone")]
    Device,
    /// Failure to start a thread that writes answers.
    #[error(
        "no thread can be started for the model's answers: {source}: end other programs, or train with fewer threads"
    )]
    Thread {
        /// Error reported by the operating system.
        source: std::io::Error,
    },
    /// Corpus with too few texts to train on.
    #[error("{texts} texts are too few to train on: give more prompts")]
    Few {
        /// Number of texts in the corpus.
        texts: usize,
    },
    /// Loss or gradient that is not finite.
    #[error("the loss is not finite at step {step}: the last good checkpoint was kept")]
    Diverged {
        /// Step at which it occurred, from 0.
        step: usize,
    },
    /// Failure to load the model's files.
    #[error(transparent)]
    Load(#[from] crate::model::LoadError),
    /// Failure of a forward pass of the target.
    #[error(transparent)]
    Forward(#[from] crate::model::ForwardError),
    /// Target logits that define no distribution.
    #[error(transparent)]
    NotFinite(#[from] crate::distribution::NotFinite),
    /// Failure of a tensor operation.
    #[error("training failed: {0}")]
    Tensor(#[from] candle_core::Error),
}
