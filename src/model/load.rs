//! From a path to a model that runs.

use std::path::{Path, PathBuf};

/// Why a model could not be loaded: one line with the file, what is wrong with it, where, and the cure.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file is missing, cut, damaged, or of a kind that is not known here.
    #[error("{}: {what}{}: {cure}", path.display(), at.map_or(String::new(), |at| format!(" (byte {at})")))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// The byte at which it was found, where there is one.
        at: Option<u64>,
        /// What to do about it.
        cure: String,
    },
    /// The device failed.
    #[error("the device failed while the model was loaded: {0}")]
    Device(#[from] candle_core::Error),
}

impl LoadError {
    pub(crate) fn file(path: &Path, what: impl Into<String>, at: Option<u64>, cure: &str) -> Self {
        LoadError::File { path: path.to_owned(), what: what.into(), at, cure: cure.into() }
    }
}
