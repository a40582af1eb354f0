//! TOML files that a user may have written.
//!
//! Parse errors name file, line and key.

use serde::de::DeserializeOwned;

use super::RegistryError;

/// Location in a TOML file, for error messages.
#[derive(Debug)]
pub(super) struct TextLocation {
    file: String,
    line: usize,
}

impl TextLocation {
    /// Returns the location of byte `at` in `text`, the text of `file`.
    pub fn from_offset(file: &str, text: &str, at: usize) -> TextLocation {
        TextLocation {
            file: file.into(),
            line: text.bytes().take(at).filter(|&b| b == b'\n').count() + 1,
        }
    }

    /// Creates an error at this location; `what` describes it.
    pub fn error(&self, what: String) -> RegistryError {
        RegistryError::List { file: self.file.clone(), line: self.line, what }
    }
}

/// Parses `text`, the text of `file`.
///
/// # Errors
/// If it is not valid TOML or does not have the form of `T`. The error names file, line and key.
pub(super) fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, RegistryError> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        // The parser's messages about values don't name the key.
        let key = if message.starts_with("invalid") { key_before(text, at) } else { None };
        TextLocation::from_offset(file, text, at)
            .error(key.map_or(message.clone(), |key| format!("`{key}`: {message}")))
    })
}

/// Returns the key whose value contains byte `at`.
fn key_before(text: &str, at: usize) -> Option<&str> {
    let (before, _) = text.get(..at)?.rsplit_once('=')?;
    before
        .trim_end()
        .rsplit(|c: char| !(c.is_alphanumeric() || "_-.\"".contains(c)))
        .next()
        .filter(|key| !key.is_empty())
}
