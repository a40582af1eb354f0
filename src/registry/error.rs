//! Errors of finding and fetching models: one line each, with the fix.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// Reasons that a model can't be named, found or fetched.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A list of models or machines is invalid.
    #[error("{file}:{line}: {what}")]
    List {
        /// Path of the list, or the name of a built-in list.
        file: String,
        /// Line of the error, counted from 1.
        line: usize,
        /// Description of the error, with the key and the fix.
        what: String,
    },
    /// A model, or a list of models or machines, can't be read.
    #[error("{}: can't be read: {source}: check its permissions, or take it away", path.display())]
    Unreadable {
        /// Path of the unreadable file.
        path: PathBuf,
        /// Underlying error of the system.
        source: io::Error,
    },
    /// No folder for settings or models is known.
    #[error("no home folder to keep {what} in: set {variable} to a folder")]
    NoHome {
        /// Contents that the folder would hold, such as "models".
        what: &'static str,
        /// Environment variable that sets the folder.
        variable: &'static str,
    },
    /// A name is in no list.
    #[error("no model `{name}`: take one of {known}, or give the path of a GGUF file or a folder")]
    Unknown {
        /// Name that was requested.
        name: String,
        /// Names in the list, separated by commas.
        known: String,
    },
    /// Nothing exists at a path.
    #[error("{}: no such file or folder: give a GGUF file, a folder, or a name that `speclight models` lists", path.display())]
    Absent {
        /// Path that was requested.
        path: PathBuf,
    },
    /// Failure to write to the cache.
    #[error("{}: can't be written: {source}: {}", path.display(), cure(source))]
    Unwritable {
        /// Path of the file or folder in the cache.
        path: PathBuf,
        /// Underlying error of the system.
        source: io::Error,
    },
    /// Local file that differs from its entry in the list.
    #[error("{}: it {what}: {cure}", path.display())]
    Damaged {
        /// Path of the differing file.
        path: PathBuf,
        /// Description of the difference, in words that follow "it".
        what: String,
        /// Fix that the message suggests to the user.
        cure: String,
    },
    /// Every source of a model failed.
    #[error("can't fetch {name}: {why}")]
    Fetch {
        /// Name of the model in the list.
        name: String,
        /// Message of each source, with the fix.
        why: String,
    },
}

fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "free some space, or set SPECLIGHT_CACHE to a folder that has room"
        }
        _ => "set SPECLIGHT_CACHE to a folder that can be written",
    }
}

/// Reasons that one source did not provide a model.
pub(super) enum SourceError {
    /// An error on this machine, which another source would not avoid.
    Here(RegistryError),
    /// A failure of the source: its message, with the fix.
    Remote(String),
}

impl SourceError {
    /// Creates an error about a path in the cache that can't be written.
    pub fn unwritable(path: impl Into<PathBuf>, source: io::Error) -> Self {
        SourceError::Here(RegistryError::Unwritable { path: path.into(), source })
    }
}
