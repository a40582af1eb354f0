//! Writer of recordings: a file that takes its name when it is complete.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::{Entry, Header, VERSION};

/// Maximum time between two flushes, by the times of the entries.
///
/// What was written before a flush survives the end of the process, whatever ends it.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// Number of bytes of JSON after which the output is flushed early.
const FLUSH_BYTES: usize = 1 << 18;

/// Output file under its temporary name, `FILE.part`.
///
/// It is removed unless the recording is finished. A kill leaves it: a recording can be replayed up
/// to its last flush.
#[derive(Debug)]
struct PartFile {
    file: File,
    part: PathBuf,
    goal: PathBuf,
    finished: bool,
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.finished {
            // It may be gone already; a destructor can't report any other failure.
            drop(std::fs::remove_file(&self.part));
        }
    }
}

/// Writer of a recording.
pub struct Writer {
    encoder: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    file: PartFile,
    line: Vec<u8>,
    at: Option<Duration>,
    flushed_at: Duration,
    unflushed: usize,
}

impl Writer {
    /// Creates `FILE.part` beside `path` and writes the header.
    ///
    /// `level` is the compression level, from 1 to 19.
    ///
    /// # Errors
    /// If the file can't be created, or another process is writing it.
    pub fn create(path: &Path, level: i32) -> io::Result<Writer> {
        // A symbolic link is followed, not replaced.
        let goal = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if goal.is_dir() || goal.file_name().is_none() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
        }
        if goal.exists() {
            // A file that must not be written must not be replaced either.
            OpenOptions::new().write(true).open(&goal)?;
        }
        let mut part = goal.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&part)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "another process is recording to it",
                ));
            }
            // Without file locks only this check is lost.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        file.set_len(0)?;
        let mut encoder =
            zstd::stream::write::Encoder::new(BufWriter::new(file.try_clone()?), level)?;
        encoder.include_checksum(true)?;
        let file = PartFile { file, part, goal, finished: false };
        let (line, at, flushed_at) = (Vec::new(), None, Duration::ZERO);
        let mut writer = Writer { encoder, file, line, at, flushed_at, unflushed: 0 };
        writer.line(&Entry::Recording(Header {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }))?;
        Ok(writer)
    }

    /// Writes an entry that happened at this time.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&mut self, at: Duration, entry: &Entry) -> io::Result<()> {
        if self.at != Some(at) {
            self.at = Some(at);
            self.line(&Entry::At { seconds: at.as_secs_f64() })?;
        }
        self.line(entry)?;
        if self.unflushed >= FLUSH_BYTES || at.saturating_sub(self.flushed_at) >= FLUSH_AFTER {
            self.encoder.flush()?;
            (self.flushed_at, self.unflushed) = (at, 0);
        }
        Ok(())
    }

    /// Writes a line of JSON as it is, such as the one of type `run`.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn json(&mut self, json: &[u8]) -> io::Result<()> {
        self.line.clear();
        self.line.extend_from_slice(json);
        self.end_line()
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.end_line()
    }

    fn end_line(&mut self) -> io::Result<()> {
        self.line.push(b'\n');
        self.unflushed += self.line.len();
        self.encoder.write_all(&self.line)
    }

    /// Writes the last line, syncs the file, and renames it to its final name.
    ///
    /// Returns that name.
    ///
    /// # Errors
    /// If the file can't be written, synced, or renamed; nothing is left of it then.
    pub fn finish(mut self) -> io::Result<PathBuf> {
        self.line(&Entry::End)?;
        let Writer { encoder, mut file, .. } = self;
        encoder.finish()?.flush()?;
        file.file.sync_all()?;
        std::fs::rename(&file.part, &file.goal)?;
        file.finished = true;
        Ok(std::mem::take(&mut file.goal))
    }
}
