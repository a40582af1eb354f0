//! Files that are whole or not there: where the lines of JSON go, tables and pictures.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;

use crate::clean::{json, lines};

/// Lines of JSON to a file or to standard output, each written when it is there.
///
/// A file is written as `FILE.part` beside it, which can be watched while it grows, and takes its name only when the last
/// line is in it: FILE is always a whole run, and a run that fails leaves nothing behind and an older FILE as it was.
/// What is no ordinary file (a device, a pipe) is written straight.
pub struct Lines {
    to: Box<dyn Write>,
    name: String,
    part: Option<Part>,
    line: Vec<u8>,
    /// Whether a terminal reads them, which must not obey what is in them.
    terminal: bool,
}

/// A file under its temporary name, removed when dropped.
struct Part {
    file: File,
    at: PathBuf,
    goal: PathBuf,
}

impl Drop for Part {
    fn drop(&mut self) {
        // After the renaming there is nothing of this name.
        let _ = std::fs::remove_file(&self.at);
    }
}

impl Lines {
    /// Opens `path`; "-" is standard output.
    ///
    /// # Errors
    /// If it can't be written, or another run is writing it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let made = |to: Box<dyn Write>, name: String, part| Self { to, name, part, line: Vec::new(), terminal: false };
        if path == Path::new("-") {
            let lines = made(Box::new(io::stdout()), "standard output".into(), None);
            return Ok(Self { terminal: io::stdout().is_terminal(), ..lines });
        }
        let name = path.display().to_string();
        let cure = || format!("can't write {name}: give a file in a folder that can be written, or - for standard output");
        // A link is written through, not replaced.
        let goal = path.canonicalize().unwrap_or_else(|_| path.to_owned());
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
            // A file that must not be written is not to be replaced either.
            OpenOptions::new().write(true).open(&goal).with_context(cure)?;
        }
        let mut at = goal.clone().into_os_string();
        at.push(".part");
        let at = PathBuf::from(at);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&at).with_context(cure)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                bail!("can't write {name}: another run writes {} now; give another file", at.display())
            }
            // Where files can't be locked nothing is lost but this check.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        // What a killed run left behind goes, now that it is ours.
        file.set_len(0).with_context(cure)?;
        let part = Part { file: file.try_clone().with_context(cure)?, at, goal };
        Ok(made(Box::new(file), name, Some(part)))
    }

    /// Whether they go to standard output.
    pub fn to_stdout(path: &Path) -> bool {
        path == Path::new("-")
    }

    /// Writes one line.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line).context("a line of JSON can't be made")?;
        self.line.push(b'\n');
        let mut line = std::mem::take(&mut self.line);
        if self.terminal {
            line = json(&String::from_utf8_lossy(&line)).into_owned().into_bytes();
        }
        let written = self.write_bytes(&line);
        self.line = line;
        written
    }

    /// Writes text: as it is, or on a terminal without what that would obey.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write_text(&mut self, text: &str) -> anyhow::Result<()> {
        if self.terminal { self.write_bytes(lines(text).as_bytes()) } else { self.write_bytes(text.as_bytes()) }
    }

    /// Writes what is no text, as it is.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write_bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.to.write_all(bytes).and_then(|()| self.to.flush()).with_context(|| format!("can't write {}", self.name))
    }

    /// The last line is written: gives the file its name.
    ///
    /// # Errors
    /// If the file can't be finished; nothing is left behind then.
    pub fn finish(self) -> anyhow::Result<()> {
        let Some(part) = self.part else { return Ok(()) };
        (part.file.sync_all())
            .and_then(|()| std::fs::rename(&part.at, &part.goal))
            .with_context(|| format!("can't write {}", self.name))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::telemetry::{Line, Summary};

    fn line() -> Line<'static> {
        Line::Summary(Box::new(Summary::default().into()))
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = folder.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_takes_its_name_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        std::fs::write(&path, "older").unwrap();
        std::fs::write(folder.path().join("out.jsonl.part"), "left behind by a run that was killed").unwrap();
        let mut lines = Lines::open(&path).unwrap();
        lines.write(&line()).unwrap();
        // It can be watched line by line, and the older one stands.
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
        let mut lines = Lines::open(&path).unwrap();
        lines.write(&line()).unwrap();
        drop(lines);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn what_cannot_be_written_is_said_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let said = |path: &Path| format!("{:#}", Lines::open(path).err().unwrap());
        let line = said(&folder.path().join("no/such/out.jsonl"));
        assert!(line.contains("no/such/out.jsonl") && line.contains("give a file in a folder"), "{line}");
        assert!(said(folder.path()).contains("it is a folder"));
        assert!(said(Path::new("")).contains("folder"));
        let path = folder.path().join("out.jsonl");
        let first = Lines::open(&path).unwrap();
        assert!(said(&path).contains("another run writes"));
        drop(first);
        assert!(Lines::open(&path).is_ok());
    }

    #[test]
    #[cfg(unix)]
    fn devices_and_links_are_written_through() {
        let mut null = Lines::open(Path::new("/dev/null")).unwrap();
        null.write(&line()).unwrap();
        null.finish().unwrap();
        assert!(!Path::new("/dev/null.part").exists());
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let mut lines = Lines::open(&link).unwrap();
        lines.write(&line()).unwrap();
        lines.finish().unwrap();
        assert!(std::fs::read_to_string(&real).unwrap().starts_with("{\"type\""));
        assert!(link.symlink_metadata().unwrap().is_symlink());
    }
}
