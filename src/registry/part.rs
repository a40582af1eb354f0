//! Atomic file in the cache: written under another name, renamed when it is complete.
//!
//! The checksum is computed while the file is written.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::SourceError;
use crate::hex::hex;

/// Expected size and checksum of a file, if known.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    pub bytes: Option<u64>,
    /// Checksum in lower-case hexadecimal digits.
    pub sha256: Option<String>,
}

/// File to fetch into the cache, and its expected contents.
pub(super) struct FetchJob<'a> {
    /// Folder of the model in the cache.
    pub folder: &'a Path,
    /// File name in that folder.
    pub file: &'a str,
    /// Expected size and checksum.
    pub expected: Expected,
}

/// A file being written, which gets its final name in [`finish`](Self::finish).
pub(super) struct PartialFile {
    path: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl PartialFile {
    /// Creates the file, replacing any existing one.
    pub fn create(path: &Path) -> Result<PartialFile, SourceError> {
        let file = File::create(path).map_err(|e| SourceError::unwritable(path, e))?;
        Ok(PartialFile { path: path.into(), file, hash: Sha256::new(), bytes: 0 })
    }

    /// Continues an existing file, after computing the checksum of its contents.
    ///
    /// `seen` is called with the number of bytes processed so far.
    pub fn resume(path: &Path, seen: &mut dyn FnMut(u64)) -> Result<PartialFile, SourceError> {
        let open = || File::options().read(true).append(true).open(path);
        let mut file = open().map_err(|e| SourceError::unwritable(path, e))?;
        let mut hash = Sha256::new();
        let bytes =
            copy(&mut file, &mut hash, seen).map_err(|e| SourceError::unwritable(path, e))?;
        Ok(PartialFile { path: path.into(), file, hash, bytes })
    }

    /// Number of bytes in the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends data. On error the file is removed, which frees the space on a full disk.
    pub fn write(&mut self, data: &[u8]) -> Result<(), SourceError> {
        self.hash.update(data);
        self.bytes += data.len() as u64;
        self.file.write_all(data).map_err(|e| {
            let _ = fs::remove_file(&self.path);
            SourceError::unwritable(&self.path, e)
        })
    }

    /// Verifies the file and renames it to `name`. On error the file is removed.
    ///
    /// # Errors
    /// [`SourceError::Remote`] if it differs from `expected`, in words that follow "it".
    pub fn finish(self, expected: &Expected, name: &Path) -> Result<(), SourceError> {
        let PartialFile { path, file, hash, bytes } = self;
        let sum = hex(&hash.finalize());
        let named = match mismatch(expected, bytes, &sum) {
            Some(what) => Err(SourceError::Remote(what)),
            // The bytes must be on disk before the file gets its name.
            None => file
                .sync_all()
                .and_then(|()| fs::rename(&path, name))
                .map_err(|e| SourceError::unwritable(name, e)),
        };
        if named.is_err() {
            let _ = fs::remove_file(&path);
        }
        named
    }
}

/// Describes the mismatch of a file, in words that follow "it".
pub(super) fn mismatch(expected: &Expected, bytes: u64, sha256: &str) -> Option<String> {
    if let Some(want) = expected.bytes.filter(|&want| want != bytes) {
        return Some(format!("has {bytes} bytes and must have {want}"));
    }
    let want = expected.sha256.as_deref().filter(|want| *want != sha256)?;
    Some(format!("has the sha256 {sha256} and must have {want}"))
}

/// Returns the size and the SHA-256 of a file.
///
/// `seen` is called with the number of bytes read so far.
pub(super) fn checksum(path: &Path, seen: &mut dyn FnMut(u64)) -> io::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let bytes = copy(&mut File::open(path)?, &mut hash, seen)?;
    Ok((bytes, hex(&hash.finalize())))
}

fn copy(from: &mut File, into: &mut Sha256, seen: &mut dyn FnMut(u64)) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(n) => {
                into.update(&buffer[..n]);
                bytes += n as u64;
                seen(bytes);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn expected(bytes: u64, sha256: &str) -> Expected {
        Expected { bytes: Some(bytes), sha256: Some(sha256.into()) }
    }

    #[test]
    fn resumed_file_is_checksummed_in_full() {
        let folder = tempfile::tempdir().unwrap();
        let (path, name) = (folder.path().join("a.part"), folder.path().join("a"));
        PartialFile::create(&path).ok().unwrap().write(b"ab").ok().unwrap();
        let mut part = PartialFile::resume(&path, &mut |_| ()).ok().unwrap();
        assert_eq!(part.bytes(), 2);
        part.write(b"c").ok().unwrap();
        part.finish(&expected(3, ABC), &name).ok().unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"abc");
        assert!(!path.exists());
        assert_eq!(checksum(&name, &mut |_| ()).unwrap(), (3, ABC.into()));
    }

    #[test]
    fn mismatched_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, name) = (folder.path().join("a.part"), folder.path().join("a"));
        for (wrong, what) in
            [(expected(4, ABC), "has 3 bytes and must have 4"), (expected(3, &"0".repeat(64)), ABC)]
        {
            let mut part = PartialFile::create(&path).ok().unwrap();
            part.write(b"abc").ok().unwrap();
            match part.finish(&wrong, &name) {
                Err(SourceError::Remote(said)) => assert!(said.contains(what), "{said}"),
                _ => panic!("accepted"),
            }
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
