//! `speclight models`: lists, fetches and verifies models.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};

use super::errors::{print_line, print_lines};
use super::progress::{DownloadBar, size};
use super::table;
use crate::registry::{ChecksumResult, Registry, RegistryModel};
use crate::sanitize::{self, sanitize_name};

/// Options of `speclight models`.
#[derive(Args, Clone, Debug)]
pub struct ModelsOptions {
    /// Action; `None` lists the models.
    #[command(subcommand)]
    pub action: Option<Action>,
}

/// Actions of `speclight models`.
#[derive(Subcommand, Clone, Debug)]
pub enum Action {
    /// List the models that can be selected by name
    List,
    /// Fetch a model into the cache
    ///
    /// A model that is already there is verified, and fetched again if it does not match its
    /// checksum.
    Fetch {
        /// Name of the model [default: the default model]
        name: Option<String>,
    },
    /// Verify models against the checksums in the list
    ///
    /// The exit status is 1 if a model does not match or can't be verified.
    Verify {
        /// Name or path of a model [default: all models that are present]
        name: Option<String>,
    },
}

/// Runs the action.
///
/// # Errors
/// If the list of models is invalid, a model can't be fetched or read, or the output can't be
/// written.
pub fn run(options: ModelsOptions) -> anyhow::Result<ExitCode> {
    let registry = Registry::load()?;
    match options.action.unwrap_or(Action::List) {
        Action::List => list(&registry),
        Action::Fetch { name } => fetch(&registry.find(name.as_deref())?),
        Action::Verify { name: Some(name) } => verify(&[registry.find(Some(&name))?], true),
        Action::Verify { name: None } => verify(&registry.all().collect::<Vec<_>>(), false),
    }
}

fn list(registry: &Registry) -> anyhow::Result<ExitCode> {
    let mut rows = vec![["NAME", "STATE", "SIZE", "NOTES", "SOURCE"].map(str::to_owned)];
    for found in registry.all() {
        let path = found.path();
        let here = path
            .as_ref()
            .and_then(|path| std::fs::metadata(path).ok())
            .filter(std::fs::Metadata::is_file);
        let default = if found.name() == registry.default_name() {
            ["default", found.notes()]
        } else {
            [found.notes(), ""]
        };
        let notes =
            default.iter().filter(|note| !note.is_empty()).copied().collect::<Vec<_>>().join("; ");
        rows.push([
            sanitize_name(found.name()),
            if path.is_some() { "present" } else { "absent" }.to_owned(),
            here.map(|metadata| metadata.len())
                .or(found.bytes())
                .map_or_else(|| "-".to_owned(), size),
            notes,
            sanitize_name(&found.source()),
        ]);
    }
    print_lines(&table::lines(&rows))?;
    Ok(ExitCode::SUCCESS)
}

fn fetch(found: &RegistryModel) -> anyhow::Result<ExitCode> {
    let mut bar = DownloadBar::new();
    let path = found.fetch(&mut |progress| bar.show(progress))?;
    drop(bar);
    let bytes = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file);
    let bytes = bytes.map(|metadata| format!(" ({})", size(metadata.len()))).unwrap_or_default();
    print_line(&format!("{} is present: {}{bytes}", found.name(), path.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn verify(models: &[RegistryModel], named: bool) -> anyhow::Result<ExitCode> {
    let (mut checked, mut good) = (0, true);
    for found in models {
        let mut bar = DownloadBar::new();
        let check = found.verify(&mut |progress| bar.show(progress))?;
        drop(bar);
        let name = found.name();
        let said = match check {
            ChecksumResult::Absent if named && found.is_present() => {
                bail!("{name} is a folder: only a file can be verified")
            }
            ChecksumResult::Absent if named => {
                bail!("{name} is absent: run speclight models fetch {name}")
            }
            ChecksumResult::Absent => continue,
            ChecksumResult::Right { sha256 } => format!("ok        sha256 {sha256}"),
            ChecksumResult::NoChecksum { sha256 } => {
                format!("unknown   sha256 {sha256}; the list has no checksum for it")
            }
            ChecksumResult::Differing { what } => {
                good = false;
                format!("mismatch  it {what}: run speclight models fetch {name}")
            }
        };
        checked += 1;
        print_lines(&format!(
            "{}  {}\n",
            sanitize::sanitize_name(name),
            sanitize::sanitize_lines(&said)
        ))?;
    }
    if checked == 0 {
        bail!("no model is present: run speclight models fetch");
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
