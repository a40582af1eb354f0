//! Prompts from files and folders, for the benchmarks that take them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use speclight::cli::read_files;
use speclight::engine::Prompt;

/// Reads up to `limit` prompts of each file in `paths`; returns them with their files.
///
/// `paths` are files with one JSON object per line, or folders of such files (*.jsonl).
///
/// # Errors
/// If a file can't be read, or there are no prompts.
pub fn read(
    paths: &[PathBuf],
    limit: Option<usize>,
    warn: &mut dyn FnMut(String),
) -> anyhow::Result<Vec<(PathBuf, Prompt)>> {
    let mut prompts = Vec::new();
    for path in paths {
        for file in files(path).with_context(|| {
            format!("can't read {}: give files of prompts or folders of them", path.display())
        })? {
            let read = read_files(std::slice::from_ref(&file), limit, warn)?;
            prompts.extend(read.into_iter().map(|prompt| (file.clone(), prompt)));
        }
    }
    if prompts.is_empty() {
        bail!("there are no *.jsonl files in the folders given");
    }
    Ok(prompts)
}

/// Returns `path` itself, or the prompt files in it if it is a folder, sorted.
fn files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files =
        path.read_dir()?.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    Ok(files)
}
