//! Small files of the cache folder: JSON that is replaced as a whole, and the time of its content.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// Returns the time in seconds since 1970; 0 if the clock is set before that.
pub(crate) fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Writes `content` as the file at `path`, and creates its folder.
///
/// The file is written to a `.part` file of one name for all processes, so that a killed one leaves
/// nothing that the next does not replace. Two that write at once may damage the file.
///
/// # Errors
/// If it can't be written; the file before it is then left as it was.
pub(crate) fn replace(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let part = path.with_extension("json.part");
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
        std::fs::write(&part, serde_json::to_vec(content)?)?;
        std::fs::rename(&part, path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}
