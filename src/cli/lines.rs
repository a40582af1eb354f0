//! Atomic output files: written to `FILE.part`, renamed to `FILE` on success.
//!
//! JSON lines, tables and pictures are written through [`Lines`].

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IsTerminal, Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail};
use serde::Serialize;

use super::overlap::{part_path, resolve};
use crate::sanitize::{sanitize_json, sanitize_lines};
use crate::signals::before_end;

/// Writer of output to a file or to standard output; every write is flushed.
///
/// A file is written as `FILE.part` beside it, which can be read while it grows, and renamed when
/// the last line is written. FILE is therefore always complete: a run that fails leaves nothing
/// behind and keeps an older FILE unchanged. Other kinds of files (devices, pipes) are written
/// directly.
pub struct AtomicOutput {
    to: Box<dyn Write>,
    name: String,
    part: Option<PartFile>,
    line: Vec<u8>,
    /// Output goes to a terminal, so control characters must be escaped.
    terminal: bool,
}

/// File under its temporary name, removed when dropped.
struct PartFile {
    file: File,
    at: PathBuf,
    goal: PathBuf,
}

/// Temporary files of this process, removed if a signal ends it.
static PARTS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes the temporary files of unfinished outputs.
fn remove_parts() {
    for part in PARTS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = std::fs::remove_file(part);
    }
}

impl PartFile {
    fn new(file: File, at: PathBuf, goal: PathBuf) -> PartFile {
        before_end(remove_parts);
        PARTS.lock().unwrap_or_else(PoisonError::into_inner).push(at.clone());
        PartFile { file, at, goal }
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        PARTS.lock().unwrap_or_else(PoisonError::into_inner).retain(|part| *part != self.at);
        // After the rename no file has this name.
        let _ = std::fs::remove_file(&self.at);
    }
}

impl AtomicOutput {
    /// Opens `path` for writing; "-" is standard output.
    ///
    /// # Errors
    /// If the file can't be written, or another run is writing it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let made = |to: Box<dyn Write>, name: String, part| Self {
            to,
            name,
            part,
            line: Vec::new(),
            terminal: false,
        };
        if path == Path::new("-") {
            let lines = made(Box::new(io::stdout()), "standard output".into(), None);
            return Ok(Self { terminal: io::stdout().is_terminal(), ..lines });
        }
        let name = path.display().to_string();
        let cure = || {
            format!(
                "can't write {name}: give a file in a writable folder, or - for standard output"
            )
        };
        // A symbolic link is followed, not replaced.
        let goal = resolve(path);
        let there = goal.metadata();
        if there.as_ref().is_ok_and(|there| there.is_dir()) || goal.file_name().is_none() {
            bail!("can't write {name}: it is a folder; give a file, or - for standard output");
        }
        if there.as_ref().is_ok_and(|there| !there.is_file()) {
            let file = OpenOptions::new().write(true).open(&goal).with_context(cure)?;
            let terminal = file.is_terminal();
            return Ok(Self { terminal, ..made(Box::new(file), name, None) });
        }
        if there.is_ok() {
            // A read-only file must not be replaced either.
            OpenOptions::new().write(true).open(&goal).with_context(cure)?;
        }
        let at = part_path(&goal);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&at)
            .with_context(cure)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "can't write {name}: another run is writing {}; give another file",
                    at.display()
                )
            }
            // Without file locks only this check is lost.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        // The lock is held: remove what a killed run left behind.
        file.set_len(0).with_context(cure)?;
        let part = PartFile::new(file.try_clone().with_context(cure)?, at, goal);
        Ok(made(Box::new(file), name, Some(part)))
    }

    /// Reserves space for a file that is written at the end of a long work.
    ///
    /// A disk that is full by then loses nothing that fits into the space.
    ///
    /// # Errors
    /// If there is no space.
    pub fn reserve(&mut self, bytes: u64) -> anyhow::Result<()> {
        let Some(part) = &mut self.part else { return Ok(()) };
        io::copy(&mut io::repeat(0).take(bytes), &mut part.file)
            .and_then(|_| part.file.rewind())
            .with_context(|| format!("can't reserve space for {}; free some", self.name))
    }

    /// Returns true if `path` stands for standard output.
    pub fn is_stdout(path: &Path) -> bool {
        path == Path::new("-")
    }

    /// Writes one value as a line of JSON.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn write(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line).context("can't serialize a line of JSON")?;
        self.line.push(b'\n');
        let mut line = std::mem::take(&mut self.line);
        if self.terminal {
            line = sanitize_json(&String::from_utf8_lossy(&line)).into_owned().into_bytes();
        }
        let written = self.write_bytes(&line);
        self.line = line;
        written
    }

    /// Writes text; on a terminal, control characters are escaped.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn write_text(&mut self, text: &str) -> anyhow::Result<()> {
        if self.terminal {
            self.write_bytes(sanitize_lines(text).as_bytes())
        } else {
            self.write_bytes(text.as_bytes())
        }
    }

    /// Writes bytes unchanged.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.to
            .write_all(bytes)
            .and_then(|()| self.to.flush())
            .with_context(|| format!("can't write {}", self.name))
    }

    /// Syncs the file and renames it to its final name.
    ///
    /// # Errors
    /// If the file can't be synced or renamed; nothing is left behind then.
    pub fn finish(self) -> anyhow::Result<()> {
        let Some(mut part) = self.part else { return Ok(()) };
        // Cuts off what was reserved and not needed.
        (part.file.stream_position())
            .and_then(|end| part.file.set_len(end))
            .and_then(|()| part.file.sync_all())
            .and_then(|()| std::fs::rename(&part.at, &part.goal))
            .with_context(|| format!("can't write {}", self.name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::telemetry::{JsonLine, Summary};

    fn line() -> JsonLine<'static> {
        JsonLine::Summary(Box::new(Summary::default().into()))
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = folder
            .read_dir()
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_takes_its_name_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        std::fs::write(&path, "older").unwrap();
        std::fs::write(
            folder.path().join("out.jsonl.part"),
            "left behind by a run that was killed",
        )
        .unwrap();
        let mut lines = AtomicOutput::open(&path).unwrap();
        lines.write(&line()).unwrap();
        // The lines can be read while they are written, and the older file is unchanged.
        let seen = std::fs::read_to_string(folder.path().join("out.jsonl.part")).unwrap();
        assert!(seen.starts_with("{\"type\":\"summary\"") && seen.ends_with("}\n"), "{seen}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "older");
        lines.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), seen);
        assert_eq!(names(folder.path()), ["out.jsonl"]);
    }

    #[test]
    fn a_run_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let mut lines = AtomicOutput::open(&path).unwrap();
        lines.write(&line()).unwrap();
        drop(lines);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn files_that_cannot_be_written_fail_on_open() {
        let folder = tempfile::tempdir().unwrap();
        let said = |path: &Path| format!("{:#}", AtomicOutput::open(path).err().unwrap());
        let line = said(&folder.path().join("no/such/out.jsonl"));
        assert!(
            line.contains("no/such/out.jsonl") && line.contains("give a file in a writable folder"),
            "{line}"
        );
        assert!(said(folder.path()).contains("it is a folder"));
        assert!(said(Path::new("")).contains("folder"));
        let path = folder.path().join("out.jsonl");
        let first = AtomicOutput::open(&path).unwrap();
        assert!(said(&path).contains("another run is writing"));
        drop(first);
        assert!(AtomicOutput::open(&path).is_ok());
    }

    #[test]
    #[cfg(unix)]
    fn devices_and_links_are_written_through() {
        let mut null = AtomicOutput::open(Path::new("/dev/null")).unwrap();
        null.write(&line()).unwrap();
        null.finish().unwrap();
        assert!(!Path::new("/dev/null.part").exists());
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut lines = AtomicOutput::open(&link).unwrap();
        lines.write(&line()).unwrap();
        lines.finish().unwrap();
        assert!(std::fs::read_to_string(&real).unwrap().starts_with("{\"type\""));
        assert!(link.symlink_metadata().unwrap().is_symlink());
        // A link to a file that is not there yet.
        let (made, dangling) = (folder.path().join("made"), folder.path().join("dangling"));
        std::os::unix::fs::symlink("made", &dangling).unwrap();
        let mut lines = AtomicOutput::open(&dangling).unwrap();
        lines.reserve(1 << 16).unwrap();
        lines.write(&line()).unwrap();
        lines.finish().unwrap();
        let text = std::fs::read_to_string(&made).unwrap();
        assert!(text.starts_with("{\"type\"") && text.ends_with("}\n"), "{} bytes", text.len());
        assert!(dangling.symlink_metadata().unwrap().is_symlink());
    }
}
