//! Error of everything that reads model files, and checks that many of these files need.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use super::device::DeviceError;

/// Reasons that a model could not be loaded.
///
/// The message is one line: the file, what is wrong, where, and the fix.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file is missing, truncated, damaged, or of an unsupported kind.
    #[error("{}: {what}{}: {cure}", path.display(), at.map_or(String::new(), |at| format!(" (byte {at})")))]
    File {
        /// Path of the file or folder.
        path: PathBuf,
        /// Description of the problem, in words that follow the path.
        what: String,
        /// Byte at which the problem was found, if known.
        at: Option<u64>,
        /// Fix that the message suggests to the user.
        cure: String,
    },
    /// The chat template is invalid, rejects the message, or exceeds a limit.
    #[error("{}: the chat template fails: {why}", path.display())]
    Template {
        /// Path of the file with the template.
        path: PathBuf,
        /// Reason, as the template engine gives it.
        why: String,
    },
    /// The device failed while the model was loaded.
    #[error("the device failed while the model was loaded: {0}")]
    Device(#[from] candle_core::Error),
    /// The requested device is not available.
    #[error(transparent)]
    NoDevice(#[from] DeviceError),
}

impl LoadError {
    pub(crate) fn file(path: &Path, what: impl Into<String>, at: Option<u64>, cure: &str) -> Self {
        LoadError::File { path: path.to_owned(), what: what.into(), at, cure: cure.into() }
    }
}

/// Error about a file that is not JSON.
///
/// Says what the file is instead if that is known, or else where the parser stopped.
pub(super) fn json_error(text: &[u8], error: &serde_json::Error, path: &Path) -> LoadError {
    match recognize_placeholder(text) {
        Some((what, cure)) => LoadError::file(path, what, None, cure),
        None => LoadError::file(
            path,
            format!("no JSON: {error}"),
            None,
            "take the file that came with the weights",
        ),
    }
}

/// Recognizes files that a failed download or clone leaves behind.
///
/// Decides by the first bytes. Returns a description and the fix.
pub(crate) fn recognize_placeholder(begin: &[u8]) -> Option<(&'static str, &'static str)> {
    let begin = &begin[..begin.len().min(200)];
    let text =
        String::from_utf8_lossy(strip_byte_order_mark(begin)).trim_start().to_ascii_lowercase();
    let starts = |with: &[&str]| with.iter().any(|with| text.starts_with(with));
    if starts(&["version https://git-lfs"]) {
        Some((
            "is a pointer of Git LFS, not the file itself",
            "fetch it by git lfs pull, or download the file",
        ))
    } else if starts(&["<!doctype", "<html", "<?xml", "<head"]) {
        Some((
            "is a web page, not a model",
            "download the file itself: the address may want a login, or end in /resolve/",
        ))
    } else {
        None
    }
}

/// Strips the byte order mark that some editors write.
pub(crate) fn strip_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Replaces the numbers that Python writes and JSON lacks (NaN and infinities) by null.
pub(super) fn replace_python_numbers(text: &[u8]) -> Cow<'_, [u8]> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut out: Option<Vec<u8>> = None;
    let (mut at, mut copied, mut quoted) = (0, 0, false);
    while let Some(&byte) = text.get(at) {
        let word = WORDS.into_iter().find(|word| !quoted && text[at..].starts_with(word));
        if let Some(word) = word {
            let out = out.get_or_insert_with(|| Vec::with_capacity(text.len()));
            out.extend_from_slice(&text[copied..at]);
            out.extend_from_slice(b"null");
            at += word.len();
            copied = at;
            continue;
        }
        match byte {
            b'"' => quoted = !quoted,
            // The next byte is escaped.
            b'\\' if quoted => at += 1,
            _ => {}
        }
        at += 1;
    }
    match out {
        Some(mut out) => {
            out.extend_from_slice(&text[copied..]);
            Cow::Owned(out)
        }
        None => Cow::Borrowed(text),
    }
}

/// Reads the JSON file at `path`; `None` if the file does not exist.
pub(super) fn json_file(path: &Path) -> Result<Option<serde_json::Value>, LoadError> {
    let error = |what: String| {
        LoadError::file(path, what, None, "take the file that came with the weights")
    };
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&replace_python_numbers(strip_byte_order_mark(&text)))
            .map(Some)
            .map_err(|e| json_error(&text, &e, path)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(error(format!("can't be opened: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::replace_python_numbers;

    #[test]
    fn numbers_of_python_become_null_outside_of_strings() {
        for (text, want) in [
            (r#"{"a": NaN, "b": [-Infinity,Infinity]}"#, r#"{"a": null, "b": [null,null]}"#),
            (
                r#"{"NaN": "Infinity \"NaN\" \\", "b": NaN}"#,
                r#"{"NaN": "Infinity \"NaN\" \\", "b": null}"#,
            ),
            (r#"{"a": 1}"#, r#"{"a": 1}"#),
            ("\"\\", "\"\\"),
        ] {
            assert_eq!(replace_python_numbers(text.as_bytes()), want.as_bytes(), "{text}");
        }
    }
}
