//! The file from which a table goes on after a break: a line of JSON for the settings, then one for each text as it is done. A line
//! is written at once and reaches the disk; what a break left of one is cut off by the next start, so that each text is there or
//! not.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::piece::Piece;
use crate::theory::cost::Cost;

/// All that the numbers hang on. A state of other settings is another table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Version of this program.
    pub version: String,
    /// Name of the model.
    pub model: String,
    /// Kind of its weights.
    pub quantisation: String,
    /// SHA-256 of its file in hexadecimal, where known.
    pub sha256: Option<String>,
    /// Device, kernel and threads.
    pub device: String,
    /// The second model, where there is one.
    pub draft_model: Option<String>,
    /// Layers of the early exit, where given.
    pub exit_layers: Option<usize>,
    /// File of the early exit's adapter, where given.
    #[serde(default)]
    pub adapter: Option<String>,
    /// File of the drafting head, where given.
    #[serde(default)]
    pub head: Option<String>,
    /// The sets of prompts.
    pub sets: Vec<SetSettings>,
    /// Budgets B, rising.
    pub budgets: Vec<usize>,
    /// Drafters, plain decoding left out.
    pub drafters: Vec<String>,
    /// Temperatures.
    pub temperatures: Vec<f32>,
    /// Shape of the trees.
    pub shape: String,
    /// Seed of all draws.
    pub seed: u64,
    /// Longest output in tokens.
    pub max_tokens: usize,
    /// Whether prompts go without the chat template.
    pub raw: bool,
    /// Prompts of each set that are run at every budget.
    pub timed: usize,
}

/// A set of prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetSettings {
    /// Its name.
    pub name: String,
    /// How many prompts it has.
    pub prompts: usize,
    /// SHA-256 over ids and texts, in hexadecimal.
    pub sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    Settings(Box<Settings>),
    Cost(Cost),
    Piece(Box<Piece>),
}

/// What was done before, and what is done now.
pub struct State {
    to: Option<(File, PathBuf)>,
    /// Texts that are done.
    pub pieces: Vec<Piece>,
    /// What passes cost, where it was measured.
    pub cost: Option<Cost>,
}

impl State {
    /// What is kept in memory alone.
    pub fn nowhere() -> State {
        State { to: None, pieces: Vec::new(), cost: None }
    }

    /// What `path` holds of a table of these settings; an empty file or none begins a new one.
    ///
    /// # Errors
    /// If the file can't be read or written, another program writes it, it is something else, or it is of other settings: says
    /// which differ.
    pub fn open(path: &Path, settings: &Settings) -> anyhow::Result<State> {
        let name = path.display();
        let cure = || format!("can't use {name} as a state: give a file in a folder that can be written");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).with_context(cure)?;
        // A process that is being started holds a copy of what its parent has open, for a moment.
        let mut patience = 20;
        while let Err(TryLockError::WouldBlock) = file.try_lock() {
            if patience > 0 {
                patience -= 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
                continue;
            }
            bail!("another run goes on with {name} now: wait for it, or give another --state");
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(cure)?;
        let header = line(&Entry::Settings(Box::new(settings.clone())))?;
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        if whole == 0 && !header.starts_with(&bytes) {
            bail!("{name} is no state of a table: give another file");
        }
        let mut state = State { to: None, pieces: Vec::new(), cost: None };
        for (i, bytes) in bytes[..whole].split_inclusive(|&b| b == b'\n').enumerate() {
            let number = i + 1;
            match (i, serde_json::from_slice(bytes)) {
                (0, Ok(Entry::Settings(held))) if *held == *settings => {}
                (0, Ok(Entry::Settings(held))) => bail!(
                    "{name} is of a table with other settings ({}): take it away to begin anew, or give another --state",
                    differing(&held, settings)
                ),
                (0, _) => bail!("{name} is no state of a table: give another file"),
                (_, Ok(Entry::Cost(cost))) => state.cost = Some(cost),
                (_, Ok(Entry::Piece(piece))) => state.pieces.push(*piece),
                (_, Ok(Entry::Settings(_)) | Err(_)) => {
                    bail!("{name}:{number}: the line is damaged: take the file away to begin anew")
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

    /// A text is done.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn add(&mut self, piece: Piece) -> anyhow::Result<()> {
        if self.to.is_some() {
            self.put(&line(&Entry::Piece(Box::new(piece.clone())))?)?;
        }
        self.pieces.push(piece);
        Ok(())
    }

    /// What passes cost is measured.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn set_cost(&mut self, cost: Cost) -> anyhow::Result<()> {
        self.put(&line(&Entry::Cost(cost.clone()))?)?;
        self.cost = Some(cost);
        Ok(())
    }

    fn put(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let Some((file, path)) = &mut self.to else { return Ok(()) };
        let written = file.write_all(line).and_then(|()| file.sync_data());
        written.with_context(|| format!("can't write {}: free some space; the same command then goes on", path.display()))
    }
}

fn line(entry: &Entry) -> anyhow::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(entry).context("a line of the state can't be made")?;
    line.push(b'\n');
    Ok(line)
}

/// The names of the settings that differ.
fn differing(a: &Settings, b: &Settings) -> String {
    let map = |s: &Settings| serde_json::to_value(s).unwrap_or(Value::Null);
    let (a, b) = (map(a), map(b));
    let keys = a.as_object().into_iter().flatten().filter(|(key, value)| b.get(key) != Some(value)).map(|(key, _)| key.as_str());
    keys.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::study::piece::Key;

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

    fn piece(prompt: usize) -> Piece {
        Piece::refused(Key { set: 0, temperature: 0, prompt, drafter: None, budget: 1 }, "too\nlong".into())
    }

    #[test]
    fn what_was_done_is_there_after_a_break() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut state = State::open(&path, &settings()).unwrap();
        assert!(format!("{:#}", State::open(&path, &settings()).err().unwrap()).contains("another run"));
        state.add(piece(0)).unwrap();
        state.set_cost(Cost::new(vec![(1, 0.1), (2, 1.0 / 3.0)]).unwrap()).unwrap();
        state.add(piece(1)).unwrap();
        drop(state);
        let whole = std::fs::read(&path).unwrap();
        // Broken off in the middle of lines and around their ends: the lines that are whole are there, and the next one follows them.
        let ends = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i);
        let around = ends.flat_map(|end| [end - 1, end, end + 1, end + 2]);
        for len in around.chain((0..whole.len()).step_by(whole.len() / 40 + 1)).filter(|&len| len <= whole.len()) {
            std::fs::write(&path, &whole[..len]).unwrap();
            let mut state = State::open(&path, &settings()).unwrap();
            let lines = whole[..len].iter().filter(|&&b| b == b'\n').count();
            assert_eq!((state.pieces.len(), state.cost.is_some()), (lines.saturating_sub(1) - usize::from(lines > 2), lines > 2));
            state.add(piece(7)).unwrap();
            drop(state);
            assert_eq!(State::open(&path, &settings()).unwrap().pieces.last(), Some(&piece(7)));
        }
    }

    #[test]
    fn pieces_of_an_earlier_version_without_steps_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let mut state = State::open(&path, &settings()).unwrap();
        state.add(piece(0)).unwrap();
        drop(state);
        let written = std::fs::read_to_string(&path).unwrap();
        let old = written.replace(",\"light\":[]", "");
        assert_ne!(old, written);
        std::fs::write(&path, old).unwrap();
        assert_eq!(State::open(&path, &settings()).unwrap().pieces, [piece(0)]);
    }

    #[test]
    fn other_settings_and_other_files_are_refused_and_left_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        drop(State::open(&path, &settings()).unwrap());
        let said = |settings: &Settings| format!("{:#}", State::open(&path, settings).err().unwrap());
        let other = Settings { seed: 1, budgets: vec![1], ..settings() };
        assert!(said(&other).contains("other settings (budgets, seed): take it away"), "{}", said(&other));
        for content in ["hello", "hello\n", "{}\n", "{\"settings\":3}\n", "{\"cost\":[[1,1.0]]}\n"] {
            std::fs::write(&path, content).unwrap();
            assert!(said(&settings()).contains("no state of a table"), "{content}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        let header = line(&Entry::Settings(Box::new(settings()))).unwrap();
        std::fs::write(&path, [&header[..], b"{\"piece\":{}}\n"].concat()).unwrap();
        assert!(said(&settings()).contains("state:2: the line is damaged"));
        assert!(format!("{:#}", State::open(&folder.path().join("no/such"), &settings()).err().unwrap()).contains("can't use"));
    }
}
