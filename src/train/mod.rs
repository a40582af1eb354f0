//! Distilling a drafting head: a corpus of the target's own texts, the head as a network, its optimiser, and the run.

mod adam;
mod corpus;
mod crowd;
mod export;
mod gather;
mod linear;
mod net;
mod news;
mod own;
mod run;
mod sizes;
mod teacher;
#[cfg(test)]
mod tests;

pub use corpus::{About, Corpus, TOP, Text};
pub use crowd::gather_there;
pub use gather::{Ask, Writing, gather};
pub use news::{Drafted, News};
pub use run::{Figures, Options, Report, Start, train};
pub use teacher::Teacher;

use std::path::PathBuf;

/// Why training could not begin or go on: one line.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A file can't be read or written.
    #[error("{}: {source}: check the path and the room on the disk", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A corpus was made otherwise.
    #[error("{} holds texts of another model, other prompts or other settings: give another folder, or remove it", path.display())]
    OtherCorpus {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint does not fit.
    #[error("{}: {what}: give another folder, or remove it", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A head to go on from has another form.
    #[error("{} is a head of other sizes, or reads other layers: give one that was trained for this model", path.display())]
    OtherHead {
        /// The file.
        path: PathBuf,
    },
    /// The target runs where its hidden states can't be had.
    #[error("heads are trained on the CPU path: give --device cpu")]
    Device,
    /// There is too little to train on.
    #[error("{texts} texts are too few to train on: give more prompts")]
    Few {
        /// Texts.
        texts: usize,
    },
    /// The loss is no number.
    #[error("the loss is not finite at step {step}: the last good checkpoint was kept; try a lower --learning-rate")]
    Diverged {
        /// The step.
        step: usize,
    },
    /// The model's files.
    #[error(transparent)]
    Load(#[from] crate::model::LoadError),
    /// A pass of the target.
    #[error(transparent)]
    Forward(#[from] crate::model::ForwardError),
    /// The target's logits are no law.
    #[error(transparent)]
    NotFinite(#[from] crate::dist::NotFinite),
    /// The network.
    #[error("training failed: {0}")]
    Tensor(#[from] candle_core::Error),
}
