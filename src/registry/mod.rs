//! Model registry: lists of models, their sources, downloads and checksums.
//!
//! Also reads the descriptions of machines for wall-clock bounds.
//!
//! A fetched file is stored in the cache folder as `models/NAME/FILE`. It is written under another
//! name in that folder, checksummed while it is written, and renamed when it is complete. An empty
//! file, `.lock`, keeps two processes from fetching a model at once.

mod document;
mod error;
mod hardware;
mod hub;
mod list;
mod part;
mod places;
mod progress;
mod pypi;
mod python;
mod registry_model;
#[cfg(test)]
mod testing;

pub use error::RegistryError;
#[cfg(test)]
pub(crate) use hardware::hardware_in;
pub use hardware::load_hardware;
pub use places::{cache_folder, config_folder};
pub use progress::Progress;
pub use pypi::pip_version;
pub use registry_model::{ChecksumResult, RegistryModel};
#[cfg(test)]
pub(crate) use testing::fetch_over;

use std::path::{Path, PathBuf};

use list::ModelEntry;

/// Models available by name: the built-in `models.toml`, overridden by the user's.
#[derive(Clone, Debug)]
pub struct Registry {
    entries: Vec<ModelEntry>,
    default: String,
    cache: PathBuf,
}

impl Registry {
    /// Reads the built-in list, and `models.toml` in the config folder if it exists.
    ///
    /// # Errors
    /// If the user's file can't be read or is invalid (the error names file, line and key), or
    /// there is no home folder and one of `SPECLIGHT_CONFIG` and `SPECLIGHT_CACHE` is unset.
    pub fn load() -> Result<Registry, RegistryError> {
        Registry::in_folders(&config_folder()?, cache_folder()?)
    }

    /// Reads the lists as [`load`](Self::load) does, with the given config and cache folders.
    pub(crate) fn in_folders(config: &Path, cache: PathBuf) -> Result<Registry, RegistryError> {
        let mut lists = vec![list::built_in()?];
        if let Some((file, text)) = own(config, "models.toml")? {
            lists.push(list::parse(&file, &text, config)?);
        }
        let (entries, default) = list::merge(lists)?;
        Ok(Registry { entries, default, cache })
    }

    /// Name of the model that runs if none is given.
    pub fn default_name(&self) -> &str {
        &self.default
    }

    /// Iterates over all models, in the order of the list.
    pub fn all(&self) -> impl Iterator<Item = RegistryModel> {
        self.entries.iter().map(|entry| RegistryModel::from_entry(entry.clone(), &self.cache))
    }

    /// Finds a model by its name in the list, or by its path.
    ///
    /// A path leads to a GGUF file or a folder. Names are case-insensitive and take precedence over
    /// paths. `None` stands for the default model.
    ///
    /// # Errors
    /// If it is neither in the list nor on disk.
    pub fn find(&self, name_or_path: Option<&str>) -> Result<RegistryModel, RegistryError> {
        let asked = name_or_path.unwrap_or(&self.default);
        if let Some(entry) = self.entries.iter().find(|e| e.name.eq_ignore_ascii_case(asked)) {
            return Ok(RegistryModel::from_entry(entry.clone(), &self.cache));
        }
        let path = Path::new(asked);
        if path.exists() {
            return Ok(RegistryModel::from_path(path));
        }
        if asked.contains(['/', '\\']) || asked.to_ascii_lowercase().ends_with(".gguf") {
            return Err(RegistryError::Absent { path: path.into() });
        }
        let known = self.entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>().join(", ");
        Err(RegistryError::Unknown { name: asked.into(), known })
    }
}

/// Reads the user's file `name` in the folder `config`, with its path for messages.
///
/// `None` if the file does not exist.
fn own(config: &Path, name: &str) -> Result<Option<(String, String)>, RegistryError> {
    let path = config.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path.display().to_string(), text))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RegistryError::Unreadable { path, source }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn registry(cache: &Path) -> Registry {
        let (entries, default) = list::merge(vec![list::built_in().unwrap()]).unwrap();
        Registry { entries, default, cache: cache.into() }
    }

    #[test]
    fn names_come_before_paths_and_the_default_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(folder.path());
        assert_eq!(registry.find(None).unwrap().name(), registry.default_name());
        assert_eq!(
            registry.find(Some("smolLM2-135m-INSTRUCT")).unwrap().name(),
            "SmolLM2-135M-Instruct"
        );
        assert!(registry.all().all(|found| !found.is_present()));
    }

    #[test]
    fn existing_path_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let registry = registry(folder.path());
        let file = folder.path().join("My.Model.gguf");
        std::fs::write(&file, b"GGUF").unwrap();
        let found = registry.find(file.to_str()).unwrap();
        assert_eq!((found.name(), found.sha256(), found.is_present()), ("My.Model", None, true));
        assert_eq!(found.ensure(&mut |_| panic!("nothing to bring")).unwrap(), file);
        assert_eq!(
            registry.find(folder.path().to_str()).unwrap().ensure(&mut |_| ()).unwrap(),
            folder.path()
        );
    }

    #[test]
    fn unknown_model_error_lists_known_names() {
        let registry = registry(Path::new("nowhere"));
        let line = registry.find(Some("magic")).unwrap_err().to_string();
        assert!(
            line.starts_with("no model `magic`: ") && line.contains("TinyLlama-1.1B-Chat"),
            "{line}"
        );
        let line = registry.find(Some("no/such.gguf")).unwrap_err().to_string();
        assert!(line.starts_with("no/such.gguf: no such file"), "{line}");
        assert!(matches!(registry.find(Some("such.GGUF")), Err(RegistryError::Absent { .. })));
    }

    #[test]
    fn progress_fraction_stays_between_0_and_1() {
        assert_eq!(Progress::new("x", 5, Some(10)).done, Some(0.5));
        assert_eq!(Progress::new("x", 11, Some(10)).done, Some(1.0));
        assert_eq!(
            (Progress::new("x", 0, Some(0)).done, Progress::new("x", 5, None).done),
            (None, None)
        );
    }
}
