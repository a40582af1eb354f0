//! Finds the safetensors files that make up the model in a folder.
//!
//! A folder often holds others too: older checkpoints, adapters, a copy in another layout
//! (`consolidated.safetensors`). As in transformers, `model.safetensors` alone is read if it
//! exists, and otherwise the files that `model.safetensors.index.json` lists. Without either, the
//! files whose names start with `model` are read, as in llama.cpp's converter, or a single file of
//! any name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::error::{LoadError, json_file};

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Safetensors files of a model, and the index of their tensors.
#[derive(Debug, Default)]
pub(in crate::model) struct Shards {
    folder: PathBuf,
    names: Vec<String>,
    /// File name by tensor name; empty without an index.
    index: BTreeMap<String, String>,
}

impl Shards {
    /// Returns the paths of the files, sorted by name.
    pub fn files(&self) -> Vec<PathBuf> {
        self.names.iter().map(|name| self.folder.join(name)).collect()
    }

    /// Returns true if the model's copy of a tensor is in the file at `path`.
    ///
    /// The index may place the tensor in another file.
    pub fn holds(&self, path: &Path, tensor: &str) -> bool {
        let file = path.file_name().and_then(|name| name.to_str());
        self.index.get(tensor).is_none_or(|at| Some(at.as_str()) == file)
    }
}

/// Finds the safetensors files of the model in `folder`.
///
/// # Errors
/// If there are none, a file of the index or of a numbered series is missing, or it is ambiguous
/// which of several files are the model.
pub(in crate::model) fn find(folder: &Path) -> Result<Shards, LoadError> {
    let index = index(folder)?;
    let single = folder.join(WHOLE).is_file();
    if let Some(index) = index.filter(|index| !single || index.values().any(|name| name == WHOLE)) {
        let mut names: Vec<String> = index.values().cloned().collect();
        names.sort();
        names.dedup();
        if let Some(missing) = names.iter().find(|name| !folder.join(name).exists()) {
            let what = format!("names {missing}, which is not there");
            return Err(LoadError::file(&folder.join(INDEX), what, None, "fetch the missing file"));
        }
        return Ok(Shards { folder: folder.into(), names, index });
    }
    if single {
        return Ok(Shards {
            folder: folder.into(),
            names: vec![WHOLE.into()],
            index: BTreeMap::new(),
        });
    }
    let mut all = names(folder)?;
    let has = |name: &str| folder.join(name).exists();
    if all.is_empty() || (all.len() == 1 && all[0].starts_with("adapter_")) {
        let (what, cure) = if has("adapter_config.json") || !all.is_empty() {
            (
                "holds a LoRA adapter, not a model",
                "merge it into its base model and give the merged folder",
            )
        } else if has("pytorch_model.bin")
            || has("pytorch_model.bin.index.json")
            || has("consolidated.00.pth")
        {
            (
                "has no safetensors, only PyTorch files (.bin or .pth)",
                "take or convert to safetensors, or a GGUF file",
            )
        } else {
            (
                "has no *.safetensors",
                "give a folder with config.json and safetensors, or a GGUF file",
            )
        };
        return Err(LoadError::file(folder, what, None, cure));
    }
    if all.len() > 1 {
        let models: Vec<String> =
            all.iter().filter(|name| name.starts_with("model")).cloned().collect();
        if models.is_empty() {
            let what = format!("has {} safetensors files and no {INDEX}", all.len());
            return Err(LoadError::file(
                folder,
                what,
                None,
                "fetch the index, or keep the model's files alone",
            ));
        }
        all = models;
    }
    whole(folder, &all)?;
    Ok(Shards { folder: folder.into(), names: all, index: BTreeMap::new() })
}

/// Lists the names of all safetensors files in the folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>, LoadError> {
    let error = |e: std::io::Error| {
        LoadError::file(folder, format!("can't be read: {e}"), None, "check its permissions")
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let name = entry.map_err(error)?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.ends_with(".safetensors")) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Rejects incomplete series of numbered files: `model-00001-of-00003.safetensors`.
fn whole(folder: &Path, names: &[String]) -> Result<(), LoadError> {
    let parts: Vec<NumberedFile> =
        names.iter().filter_map(|name| NumberedFile::parse(name)).collect();
    for &NumberedFile { stem, count: of, .. } in &parts {
        let missing =
            (1..=of.min(10_000)).find(|n| !parts.iter().any(|p| p.stem == stem && p.number == *n));
        if let Some(n) = missing {
            let what = format!("lacks {stem}-{n:05}-of-{of:05}.safetensors");
            return Err(LoadError::file(folder, what, None, "fetch the missing file"));
        }
    }
    Ok(())
}

/// Parts of a name like `model-00001-of-00003.safetensors`.
struct NumberedFile<'a> {
    stem: &'a str,
    number: usize,
    /// Number of files in the series.
    count: usize,
}

impl NumberedFile<'_> {
    /// Splits a name; `None` if it has no number.
    fn parse(name: &str) -> Option<NumberedFile<'_>> {
        let (rest, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        Some(NumberedFile { stem, number: number.parse().ok()?, count: count.parse().ok()? })
    }
}

/// Reads the index: file name by tensor name; `None` if there is no index.
fn index(folder: &Path) -> Result<Option<BTreeMap<String, String>>, LoadError> {
    let path = folder.join(INDEX);
    let error = |what: String| {
        LoadError::file(&path, what, None, "take the index that came with the weights")
    };
    let Some(value) = json_file(&path)? else { return Ok(None) };
    let Some(map) = value["weight_map"].as_object().filter(|map| !map.is_empty()) else {
        return Err(error("has no weight_map".into()));
    };
    let mut index = BTreeMap::new();
    for (tensor, file) in map {
        let plain = file
            .as_str()
            .filter(|name| name.ends_with(".safetensors") && !name.contains(['/', '\\', ':']));
        match plain {
            Some(name) => index.insert(tensor.clone(), name.to_owned()),
            None => {
                return Err(error(format!(
                    "places tensor {tensor} in {file}, which is no safetensors file of the folder"
                )));
            }
        };
    }
    Ok(Some(index))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Files found in a folder with these files and this index, or the error.
    fn found(files: &[&str], index: Option<&[(&str, &str)]>) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        files.iter().for_each(|name| std::fs::write(folder.path().join(name), "").unwrap());
        if let Some(index) = index {
            let map: BTreeMap<_, _> = index.iter().copied().collect();
            std::fs::write(
                folder.path().join(INDEX),
                serde_json::json!({ "weight_map": map }).to_string(),
            )
            .unwrap();
        }
        find(folder.path()).map(|shards| shards.names).map_err(|e| e.to_string())
    }

    #[test]
    fn files_outside_the_model_are_ignored() {
        let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
        let index: &[(&str, &str)] = &[("a.weight", one), ("b.weight", two)];
        let all = [
            one,
            two,
            "old.safetensors",
            "consolidated.safetensors",
            "adapter_model.safetensors",
            "model.ckpt",
        ];
        assert_eq!(found(&all, Some(index)).unwrap(), [one, two]);
        assert_eq!(found(&all, None).unwrap(), [one, two]);
        assert_eq!(found(&[WHOLE, "old.safetensors", one], Some(index)).unwrap(), [WHOLE]);
        assert_eq!(found(&[WHOLE, "adapter_model.safetensors"], None).unwrap(), [WHOLE]);
        assert_eq!(found(&["weights.safetensors"], None).unwrap(), ["weights.safetensors"]);
    }

    #[test]
    fn missing_files_and_other_things_are_named() {
        let one = "model-00001-of-00002.safetensors";
        let index: &[(&str, &str)] =
            &[("a.weight", one), ("b.weight", "model-00002-of-00002.safetensors")];
        for (files, index, said) in [
            (&[one][..], Some(index), "names model-00002-of-00002.safetensors, which is not there"),
            (&[one], None, "lacks model-00002-of-00002.safetensors"),
            (&["pytorch_model.bin"], None, "has no safetensors, only PyTorch files"),
            (&["adapter_config.json", "adapter_model.safetensors"], None, "LoRA adapter"),
            (&["adapter_model.safetensors"], None, "LoRA adapter"),
            (
                &["a.safetensors", "b.safetensors"],
                None,
                "has 2 safetensors files and no model.safetensors.index.json",
            ),
            (&[], None, "has no *.safetensors"),
            (
                &[one],
                Some(&[("a.weight", "../x.safetensors")]),
                "no safetensors file of the folder",
            ),
        ] {
            let line = found(files, index).unwrap_err();
            assert!(line.contains(said) && line.lines().count() == 1, "{line}");
        }
    }
}
