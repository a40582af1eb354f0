//! Why a model can't be had: one line each, with the cure.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// Why a model can't be named, found or brought.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A list of models or machines is wrong.
    #[error("{file}:{line}: {what}")]
    List {
        /// The file.
        file: String,
        /// Its line, from 1.
        line: usize,
        /// What is wrong, with the key and the cure.
        what: String,
    },
    /// A list of models or machines, or a model, can't be read.
    #[error("{}: can't be read: {source}: check its permissions, or take it away", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no place for settings or models.
    #[error("no home folder to keep {what} in: set {variable} to a folder")]
    NoHome {
        /// What would be kept there.
        what: &'static str,
        /// The variable that names another place.
        variable: &'static str,
    },
    /// A name that no list has.
    #[error("no model `{name}`: take one of {known}, or give the path of a GGUF file or a folder")]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A path at which there is nothing.
    #[error("{}: no such file or folder: give a GGUF file, a folder, or a name that `speclight models` lists", path.display())]
    Absent {
        /// The path.
        path: PathBuf,
    },
    /// The cache can't be written.
    #[error("{}: can't be written: {source}: {}", path.display(), cure(source))]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is here is not what the list says.
    #[error("{}: it {what}: {cure}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it differs, in words that follow "it".
        what: String,
        /// What to do about it.
        cure: String,
    },
    /// No source of a model gave it.
    #[error("can't fetch {name}: {why}")]
    Fetch {
        /// The model.
        name: String,
        /// What each source said, with the cure.
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

/// Why one source did not give a model.
pub(super) enum Trouble {
    /// The fault is on this machine, and another source would not help.
    Here(RegistryError),
    /// The source failed: what it said, with the cure.
    There(String),
}

impl Trouble {
    /// Something in the cache that can't be written.
    pub fn unwritable(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Trouble::Here(RegistryError::Unwritable { path: path.into(), source })
    }
}
