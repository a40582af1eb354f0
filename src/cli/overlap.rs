//! Checks that outputs replace neither an input of the same command nor another output.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::registry::{Registry, config_folder};

/// File of a command line, with the option that names it.
#[derive(Clone, Debug)]
pub struct NamedFile {
    option: &'static str,
    path: PathBuf,
}

impl NamedFile {
    /// Names the file of an option.
    pub fn new(option: &'static str, path: impl Into<PathBuf>) -> Self {
        Self { option, path: path.into() }
    }

    /// Names the file or folder of a model, given by path or by name.
    pub fn model(option: &'static str, name: Option<&str>) -> Option<NamedFile> {
        let found = Registry::load().ok()?.find(name).ok()?;
        Some(Self::new(option, found.path()?))
    }

    /// Names the user's own lists in the config folder.
    pub fn lists() -> impl Iterator<Item = NamedFile> {
        let folder = config_folder().ok();
        let list = |name| folder.as_ref().map(|folder| folder.join(name));
        [("models.toml", list("models.toml")), ("hardware.toml", list("hardware.toml"))]
            .into_iter()
            .filter_map(|(name, path)| Some(NamedFile::new(name, path?)))
    }

    /// Names the files of an option that may be given several times.
    pub fn all<'a>(
        option: &'static str,
        paths: &'a [PathBuf],
    ) -> impl Iterator<Item = NamedFile> + 'a {
        paths.iter().map(move |path| Self::new(option, path))
    }
}

/// Identity of a file, whatever path names it.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    /// Device and number of an existing file: equal for all its hard links.
    #[cfg(unix)]
    Inode(u64, u64),
    /// Resolved path of the file.
    Path(PathBuf),
}

impl Identity {
    /// Identifies a file or the place of one that does not exist yet.
    ///
    /// `None` for standard streams and for devices and pipes, which hold no contents to lose.
    fn of(path: &Path) -> Option<Identity> {
        if path == Path::new("-") {
            return None;
        }
        let path = resolve(path);
        match path.metadata() {
            Ok(about) if !about.is_file() && !about.is_dir() => None,
            #[cfg(unix)]
            Ok(about) => {
                use std::os::unix::fs::MetadataExt;
                Some(Identity::Inode(about.dev(), about.ino()))
            }
            _ => Some(Identity::Path(path)),
        }
    }
}

/// Most symbolic links that are followed for one path, as in Linux.
const MOST_LINKS: usize = 40;

/// Resolves symbolic links, also those to files that do not exist yet.
///
/// Opening a dangling link for writing creates its target; so does a rename to what this returns.
pub fn resolve(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        if let Ok(whole) = path.canonicalize() {
            return whole;
        }
        match path.read_link() {
            // A relative target starts at the folder of the link.
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => break,
        }
    }
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path,
    }
}

/// Returns the temporary name of an output file while it is written.
pub fn part_path(goal: &Path) -> PathBuf {
    let mut part = goal.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

/// Checks that no output replaces an input or another output.
///
/// An output inside an input folder is refused if it replaces one of its files.
///
/// # Errors
/// If one does; the line names both options.
pub fn check_outputs(inputs: &[NamedFile], outputs: &[NamedFile]) -> anyhow::Result<()> {
    for (i, output) in outputs.iter().enumerate() {
        let Some(identity) = Identity::of(&output.path) else { continue };
        let shown = output.path.display();
        let others = inputs.iter().chain(&outputs[..i]);
        if let Some(other) =
            others.clone().find(|other| Identity::of(&other.path).as_ref() == Some(&identity))
        {
            bail!(
                "{} {shown}: it is also the file of {}; give another file",
                output.option,
                other.option
            );
        }
        let place = resolve(&output.path);
        let part = Identity::of(&part_path(&place));
        let same = |input: &&NamedFile| part.is_some() && Identity::of(&input.path) == part;
        if let Some(input) = inputs.iter().find(same) {
            bail!(
                "{} {shown}: it is written as {}, the file of {}; give another file",
                output.option,
                part_path(&place).display(),
                input.option
            );
        }
        let within = |input: &&NamedFile| {
            input.path.is_dir() && place.is_file() && place.starts_with(resolve(&input.path))
        };
        if let Some(input) = inputs.iter().find(within) {
            bail!(
                "{} {shown}: it would replace a file of {}; give a file elsewhere",
                output.option,
                input.option
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    fn said(inputs: &[(&'static str, &Path)], outputs: &[(&'static str, &Path)]) -> Option<String> {
        let named = |all: &[(&'static str, &Path)]| {
            all.iter().map(|&(option, path)| NamedFile::new(option, path)).collect::<Vec<_>>()
        };
        check_outputs(&named(inputs), &named(outputs)).err().map(|error| error.to_string())
    }

    #[test]
    fn outputs_over_inputs_or_outputs_are_refused_whatever_the_path() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::write(at("in"), "x").unwrap();
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("folder/config.json"), "{}").unwrap();
        let plain = said(&[("--prompts", &at("in"))], &[("--json", &at("in"))]).unwrap();
        assert!(
            plain.starts_with("--json ")
                && plain.ends_with("it is also the file of --prompts; give another file"),
            "{plain}"
        );
        assert!(said(&[("--prompts", &at("in"))], &[("--json", &at("folder/../in"))]).is_some());
        assert!(said(&[("--model", &at("folder"))], &[("--json", &at("folder"))]).is_some());
        let within =
            said(&[("--model", &at("folder"))], &[("--json", &at("folder/config.json"))]).unwrap();
        assert!(within.contains("would replace a file of --model"), "{within}");
        fs::write(at("new.jsonl.part"), "x").unwrap();
        let part = said(&[("--prompts", &at("new.jsonl.part"))], &[("--json", &at("new.jsonl"))]);
        assert!(part.unwrap().contains("it is written as "));
        // Outputs that do not exist yet.
        let both = said(&[], &[("--csv", &at("new")), ("--json", &at("folder/../new"))]).unwrap();
        assert!(both.starts_with("--json ") && both.contains("also the file of --csv"), "{both}");
        assert_eq!(said(&[("--model", &at("folder"))], &[("--json", &at("folder/new"))]), None);
        assert_eq!(
            said(&[("--prompts", &at("in"))], &[("--json", &at("out")), ("--csv", &at("out2"))]),
            None
        );
        let dash = Path::new("-");
        assert_eq!(said(&[("--prompts", dash)], &[("--json", dash), ("--csv", dash)]), None);
    }

    #[test]
    #[cfg(unix)]
    fn links_are_followed_to_what_they_name_or_will_name() {
        use std::os::unix::fs::symlink;
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().canonicalize().unwrap().join(name);
        fs::write(at("in"), "x").unwrap();
        fs::create_dir(at("d")).unwrap();
        fs::hard_link(at("in"), at("hard")).unwrap();
        symlink("../in", at("d/soft")).unwrap();
        symlink("d/made", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for other in ["hard", "d/soft"] {
            assert!(
                said(&[("--prompts", &at("in"))], &[("--json", &at(other))]).is_some(),
                "{other}"
            );
        }
        assert_eq!(resolve(&at("dangling")), at("d/made"));
        assert_eq!(resolve(&at("d/soft")), at("in"));
        assert_eq!(resolve(&at("loop")), at("loop"));
        assert!(said(&[], &[("--csv", &at("d/made")), ("--json", &at("dangling"))]).is_some());
        let null = Path::new("/dev/null");
        assert_eq!(said(&[("--prompts", null)], &[("--json", null), ("--csv", null)]), None);
    }
}
