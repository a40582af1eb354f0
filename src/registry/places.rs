//! Folders for the user's settings and for fetched models.

use std::path::PathBuf;

use etcetera::BaseStrategy;

use super::RegistryError;

/// Folder of the user's settings (`models.toml`, `themes`).
///
/// `SPECLIGHT_CONFIG`, or `speclight` in the system's config folder. It may not exist.
///
/// # Errors
/// If neither the variable nor a home folder is set.
pub fn config_folder() -> Result<PathBuf, RegistryError> {
    place("SPECLIGHT_CONFIG", "settings", |base| base.config_dir())
}

/// Folder of fetched models.
///
/// `SPECLIGHT_CACHE`, or `speclight` in the system's cache folder. It may not exist.
///
/// # Errors
/// If neither the variable nor a home folder is set.
pub fn cache_folder() -> Result<PathBuf, RegistryError> {
    place("SPECLIGHT_CACHE", "models", |base| base.cache_dir())
}

fn place(
    variable: &'static str,
    what: &'static str,
    of: impl Fn(&dyn BaseStrategy) -> PathBuf,
) -> Result<PathBuf, RegistryError> {
    if let Some(folder) = std::env::var_os(variable).filter(|value| !value.is_empty()) {
        return Ok(folder.into());
    }
    let base =
        etcetera::choose_base_strategy().map_err(|_| RegistryError::NoHome { what, variable })?;
    Ok(of(&base).join("speclight"))
}
