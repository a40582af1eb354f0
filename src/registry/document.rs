//! Files in TOML that a person may have written: what is wrong in them, with file, line and key.

use serde::de::DeserializeOwned;

use super::RegistryError;

/// A place in such a file.
#[derive(Debug)]
pub(super) struct Site {
    file: String,
    line: usize,
}

impl Site {
    /// The line of byte `at` of `text`, the text of `file`.
    pub fn at(file: &str, text: &str, at: usize) -> Site {
        Site { file: file.into(), line: text.bytes().take(at).filter(|&b| b == b'\n').count() + 1 }
    }

    /// What is wrong there, with the key and the cure.
    pub fn error(&self, what: String) -> RegistryError {
        RegistryError::List { file: self.file.clone(), line: self.line, what }
    }
}

/// Reads the text of `file`.
///
/// # Errors
/// If it is no TOML, or not of this form: names file, line and key.
pub(super) fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, RegistryError> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        // Messages on keys name them; those on values don't.
        let key = if message.starts_with("invalid") { key_before(text, at) } else { None };
        Site::at(file, text, at).error(key.map_or(message.clone(), |key| format!("`{key}`: {message}")))
    })
}

/// The key whose value holds byte `at`.
fn key_before(text: &str, at: usize) -> Option<&str> {
    let (before, _) = text.get(..at)?.rsplit_once('=')?;
    before.trim_end().rsplit(|c: char| !(c.is_alphanumeric() || "_-.\"".contains(c))).next().filter(|key| !key.is_empty())
}
