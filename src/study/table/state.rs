//! State file of a table, from which an interrupted run resumes.
//!
//! The file has a JSON line for the settings, then one for each finished text and for measured pass
//! costs. A line is written and synced at once; the next start cuts off an incomplete last line, so
//! that each text is there in full or not at all.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text_result::TextResult;
use crate::theory::cost::CostCurve;

/// Everything the numbers depend on; a state with other settings is rejected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Version of this program.
    pub version: String,
    /// Name of the target model.
    pub model: String,
    /// Format of the model's weights, such as "Q4_1".
    pub quantisation: String,
    /// SHA-256 of the model file in hexadecimal, if known.
    pub sha256: Option<String>,
    /// Device, kernel and threads.
    pub device: String,
    /// Draft model, if given.
    pub draft_model: Option<String>,
    /// Layers of the early-exit drafter, if given.
    pub exit_layers: Option<usize>,
    /// File of the early-exit adapter, if given.
    #[serde(default)]
    pub adapter: Option<String>,
    /// File of the drafting head, if given.
    #[serde(default)]
    pub head: Option<String>,
    /// Prompt sets of the table.
    pub sets: Vec<SetSettings>,
    /// Budgets B in ascending order.
    pub budgets: Vec<usize>,
    /// Names of the drafters, without plain decoding.
    pub drafters: Vec<String>,
    /// Measured temperatures; 0 is greedy.
    pub temperatures: Vec<f32>,
    /// Shape of the token trees.
    pub shape: String,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Largest number of output tokens per prompt.
    pub max_tokens: usize,
    /// Prompts are run without the chat template.
    pub raw: bool,
    /// Number of prompts of each set that are run at every budget.
    pub timed: usize,
}

/// Error for a state file that this run can't use.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another run has the file open.
    #[error("another run is using {}", path.display())]
    InUse {
        /// Path of the state file.
        path: PathBuf,
    },
    /// The file belongs to a table with other settings.
    #[error("{} belongs to a table with other settings ({differing})", path.display())]
    OtherSettings {
        /// Path of the state file.
        path: PathBuf,
        /// Names of the settings that differ.
        differing: String,
    },
}

/// Identity of a prompt set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetSettings {
    /// Name of the set.
    pub name: String,
    /// Number of prompts in the set.
    pub prompts: usize,
    /// SHA-256 of ids and texts, in hexadecimal.
    pub sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    Settings(Box<Settings>),
    Cost(CostCurve),
    Piece(Box<TextResult>),
}

/// Finished texts, from earlier runs and this one.
pub struct TableState {
    to: Option<(File, PathBuf)>,
    /// Results of the finished texts.
    pub pieces: Vec<TextResult>,
    /// Measured cost of passes, if known.
    pub cost: Option<CostCurve>,
}

impl TableState {
    /// Creates a state without a file.
    pub fn nowhere() -> TableState {
        TableState { to: None, pieces: Vec::new(), cost: None }
    }

    /// Opens the state file of a table with these settings.
    ///
    /// A new or empty file starts over.
    ///
    /// # Errors
    /// If the file can't be read or written, is used by another run, is not a state file, or has
    /// other settings; the error names those that differ.
    pub fn open(path: &Path, settings: &Settings) -> anyhow::Result<TableState> {
        let name = path.display();
        let cure = || format!("can't use {name} as a state file; give a file in a writable folder");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(cure)?;
        // A child process that is being started briefly holds copies of its parent's open files.
        let mut patience = 20;
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if patience > 0 {
                patience -= 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
                continue;
            }
            bail!(StateError::InUse { path: path.to_owned() });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(cure)?;
        let header = line(&Entry::Settings(Box::new(settings.clone())))?;
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        if whole == 0 && !header.starts_with(&bytes) {
            bail!("{name} is not the state of a table; give another file");
        }
        let mut state = TableState { to: None, pieces: Vec::new(), cost: None };
        for (i, bytes) in bytes[..whole].split_inclusive(|&b| b == b'\n').enumerate() {
            let number = i + 1;
            match (i, serde_json::from_slice(bytes)) {
                (0, Ok(Entry::Settings(held))) if *held == *settings => {}
                (0, Ok(Entry::Settings(held))) => bail!(StateError::OtherSettings {
                    path: path.to_owned(),
                    differing: differing(&held, settings),
                }),
                (0, _) => bail!("{name} is not the state of a table; give another file"),
                (_, Ok(Entry::Cost(cost))) => state.cost = Some(cost),
                (_, Ok(Entry::Piece(piece))) => state.pieces.push(*piece),
                (_, Ok(Entry::Settings(_)) | Err(_)) => {
                    bail!("{name}:{number}: the line is damaged; delete the file to start over")
                }
            }
        }
        file.set_len(whole as u64).and_then(|()| file.seek(SeekFrom::End(0))).with_context(cure)?;
        state.to = Some((file, path.to_owned()));
        if whole == 0 {
            state.put(&header)?;
        }
        Ok(state)
    }

    /// Adds the result of a finished text.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn add(&mut self, piece: TextResult) -> anyhow::Result<()> {
        if self.to.is_some() {
            self.put(&line(&Entry::Piece(Box::new(piece.clone())))?)?;
        }
        self.pieces.push(piece);
        Ok(())
    }

    /// Sets the measured cost of passes.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn set_cost(&mut self, cost: CostCurve) -> anyhow::Result<()> {
        self.put(&line(&Entry::Cost(cost.clone()))?)?;
        self.cost = Some(cost);
        Ok(())
    }

    fn put(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let Some((file, path)) = &mut self.to else { return Ok(()) };
        let written = file.write_all(line).and_then(|()| file.sync_data());
        written.with_context(|| {
            format!(
                "can't write {}; free some space, then resume with the same command",
                path.display()
            )
        })
    }
}

fn line(entry: &Entry) -> anyhow::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(entry).context("can't serialize a line of the state")?;
    line.push(b'\n');
    Ok(line)
}

/// Returns the names of the settings that differ, separated by commas.
fn differing(a: &Settings, b: &Settings) -> String {
    let map = |s: &Settings| serde_json::to_value(s).unwrap_or(Value::Null);
    let (a, b) = (map(a), map(b));
    let keys = a
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| b.get(key) != Some(value))
        .map(|(key, _)| key.as_str());
    keys.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::study::table::text_result::TextKey;

    fn settings() -> Settings {
        Settings {
            version: "0".into(),
            model: "m".into(),
            quantisation: "F32".into(),
            sha256: None,
            device: "cpu".into(),
            draft_model: None,
            exit_layers: None,
            adapter: None,
            head: None,
            sets: vec![SetSettings { name: "a".into(), prompts: 2, sha256: "0".into() }],
            budgets: vec![1, 2],
            drafters: vec!["ngram".into()],
            temperatures: vec![0.0, 0.6],
            shape: "best-first".into(),
            seed: 0,
            max_tokens: 9,
            raw: false,
            timed: 1,
        }
    }

    fn piece(prompt: usize) -> TextResult {
        TextResult::refused(
            TextKey { set: 0, temperature: 0, prompt, drafter: None, budget: 1 },
            "too\nlong".into(),
        )
    }

    #[test]
    fn finished_texts_survive_an_interruption() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut state = TableState::open(&path, &settings()).unwrap();
        assert!(
            format!("{:#}", TableState::open(&path, &settings()).err().unwrap())
                .contains("another run")
        );
        state.add(piece(0)).unwrap();
        state.set_cost(CostCurve::new(vec![(1, 0.1), (2, 1.0 / 3.0)]).unwrap()).unwrap();
        state.add(piece(1)).unwrap();
        drop(state);
        let whole = std::fs::read(&path).unwrap();
        // The file is cut within lines and around their ends. Complete lines are kept, and the next
        // line follows them.
        let ends = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i);
        let around = ends.flat_map(|end| [end - 1, end, end + 1, end + 2]);
        for len in around
            .chain((0..whole.len()).step_by(whole.len() / 40 + 1))
            .filter(|&len| len <= whole.len())
        {
            std::fs::write(&path, &whole[..len]).unwrap();
            let mut state = TableState::open(&path, &settings()).unwrap();
            let lines = whole[..len].iter().filter(|&&b| b == b'\n').count();
            assert_eq!(
                (state.pieces.len(), state.cost.is_some()),
                (lines.saturating_sub(1) - usize::from(lines > 2), lines > 2)
            );
            state.add(piece(7)).unwrap();
            drop(state);
            assert_eq!(
                TableState::open(&path, &settings()).unwrap().pieces.last(),
                Some(&piece(7))
            );
        }
    }

    #[test]
    fn pieces_of_an_earlier_version_without_steps_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut state = TableState::open(&path, &settings()).unwrap();
        state.add(piece(0)).unwrap();
        drop(state);
        let written = std::fs::read_to_string(&path).unwrap();
        let old = written.replace(",\"light\":[]", "");
        assert_ne!(old, written);
        std::fs::write(&path, old).unwrap();
        assert_eq!(TableState::open(&path, &settings()).unwrap().pieces, [piece(0)]);
    }

    #[test]
    fn other_settings_and_other_files_are_refused_and_left_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        drop(TableState::open(&path, &settings()).unwrap());
        let said =
            |settings: &Settings| format!("{:#}", TableState::open(&path, settings).err().unwrap());
        let other = Settings { seed: 1, budgets: vec![1], ..settings() };
        assert!(said(&other).contains("other settings (budgets, seed)"), "{}", said(&other));
        for content in ["hello", "hello\n", "{}\n", "{\"settings\":3}\n", "{\"cost\":[[1,1.0]]}\n"]
        {
            std::fs::write(&path, content).unwrap();
            assert!(said(&settings()).contains("not the state of a table"), "{content}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        let header = line(&Entry::Settings(Box::new(settings()))).unwrap();
        std::fs::write(&path, [&header[..], b"{\"piece\":{}}\n"].concat()).unwrap();
        assert!(said(&settings()).contains("state:2: the line is damaged"));
        assert!(
            format!(
                "{:#}",
                TableState::open(&folder.path().join("no/such"), &settings()).err().unwrap()
            )
            .contains("can't use")
        );
    }
}
