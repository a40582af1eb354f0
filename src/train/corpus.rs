//! Training corpus on disk: texts of the target, with hidden states and distributions per position.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use half::f16;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::TrainError;
use crate::tree::TokenId;

/// Number of most probable tokens kept of each distribution.
pub const TOP: usize = 48;

/// Settings that a corpus was made with; texts of other settings can't be added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorpusSettings {
    /// Version of the file format.
    pub form: u32,
    /// Digest of the target model, or its path.
    pub model: String,
    /// Number of values in a hidden state.
    pub dim: usize,
    /// Numbers of layers after which hidden states are kept.
    ///
    /// Empty if texts are kept alone, without hidden states and distributions.
    pub after: Vec<usize>,
    /// Digest of prompts and settings.
    pub prompts: String,
    /// Seed for sampling the answers.
    pub seed: u64,
    /// Longest answer, in tokens.
    pub max_tokens: usize,
}

impl CorpusSettings {
    /// Returns the number of tokens kept of each distribution.
    fn laws(&self) -> usize {
        if self.after.is_empty() { 0 } else { TOP }
    }
}

/// One text of the corpus.
///
/// Positions are those of the target's cache: all tokens but the last.
#[derive(Clone, Debug, PartialEq)]
pub struct CorpusText {
    /// Index of its prompt; follow-ups are numbered after all prompts.
    pub prompt: u32,
    /// Length of the prompt in tokens.
    pub prompt_tokens: u32,
    /// Tokens of prompt and answer.
    pub tokens: Vec<TokenId>,
    /// Hidden states, `after.len() * dim` values per position.
    pub hidden: Vec<f16>,
    /// Target distribution after each position at temperature 1: its [`TOP`] tokens, descending.
    pub distributions: Vec<(TokenId, f16)>,
}

impl CorpusText {
    /// Creates a text without hidden states and distributions.
    pub fn tokens_only(prompt: u32, prompt_tokens: u32, tokens: Vec<TokenId>) -> Self {
        CorpusText { prompt, prompt_tokens, tokens, hidden: Vec::new(), distributions: Vec::new() }
    }

    /// Returns the number of positions, one less than the tokens.
    pub fn positions(&self) -> usize {
        self.tokens.len().saturating_sub(1)
    }
}

/// Append-only file of texts.
#[derive(Debug)]
pub struct Corpus {
    path: PathBuf,
    file: File,
    about: CorpusSettings,
    /// Offset in the file and number of tokens of each text.
    index: Vec<(u64, usize)>,
    end: u64,
}

/// Version of the file format that this program reads and writes.
pub const CORPUS_FORM: u32 = 2;

/// First bytes of a record.
const RECORD_MAGIC: [u8; 4] = *b"text";

/// Length of a checksum in bytes.
const SUM: usize = 8;

/// Length of a record's head: its first bytes, three numbers, and their checksum.
const HEAD: usize = 16 + SUM;

/// Number of attempts to lock the file.
///
/// A child process that is being started briefly holds copies of its parent's open files.
const LOCK_TRIES: usize = 20;

/// Returns the checksum of bytes: the first ones of their SHA-256.
fn checksum(bytes: &[u8]) -> [u8; SUM] {
    let mut sum = [0; SUM];
    sum.copy_from_slice(&Sha256::digest(bytes)[..SUM]);
    sum
}

/// Takes the lock of the file, which ends with it.
fn lock(file: &File, path: &Path) -> Result<(), TrainError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            // Without file locks only this check is lost.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
        }
    }
    Err(TrainError::Locked { path: path.to_owned() })
}

impl Corpus {
    /// Opens the corpus at `path`, or creates it, for this process alone.
    ///
    /// Drops a text at the end that was not written completely. Nothing else is ever dropped.
    ///
    /// # Errors
    /// If the file can't be read or written, is used by another process, holds texts made with
    /// other settings, or is damaged.
    pub fn open(path: &Path, about: &CorpusSettings) -> Result<Corpus, TrainError> {
        let trouble = |source| TrainError::Disk { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(trouble)?;
        lock(&file, path)?;
        let line = serde_json::to_vec(about).unwrap_or_default();
        let own = [&(line.len() as u64).to_le_bytes()[..], &line].concat();
        let len = file.metadata().map_err(trouble)?.len();
        let mut found = Vec::new();
        (&mut file).take(own.len() as u64).read_to_end(&mut found).map_err(trouble)?;
        if found.len() < own.len() && own.starts_with(&found) {
            // New, or its beginning was not written completely.
            file.set_len(0)
                .and_then(|()| file.seek(SeekFrom::Start(0)))
                .and_then(|_| file.write_all(&own))
                .map_err(trouble)?;
        } else if found != own {
            return Err(TrainError::OtherCorpus { path: path.to_owned() });
        }
        let (mut at, mut index) = (own.len() as u64, Vec::new());
        while at < len {
            let damaged =
                || TrainError::DamagedCorpus { path: path.to_owned(), text: index.len(), at };
            let mut head = Vec::new();
            file.seek(SeekFrom::Start(at))
                .and_then(|_| (&mut file).take(HEAD as u64).read_to_end(&mut head))
                .map_err(trouble)?;
            if head.len() < HEAD {
                let begins = RECORD_MAGIC.iter().zip(&head).all(|(a, b)| a == b);
                if begins { break } else { return Err(damaged()) }
            }
            let tokens = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            if head[..4] != RECORD_MAGIC || head[16..] != checksum(&head[..16]) || tokens == 0 {
                return Err(damaged());
            }
            let bytes = Self::bytes(tokens, about);
            if bytes > len - at {
                break;
            }
            index.push((at, tokens));
            at += bytes;
        }
        file.set_len(at).map_err(trouble)?;
        Ok(Corpus { path: path.to_owned(), file, about: about.clone(), index, end: at })
    }

    /// Returns the length in bytes of a record with this number of tokens.
    fn bytes(tokens: usize, about: &CorpusSettings) -> u64 {
        let a_position = about.after.len() * about.dim * 2 + about.laws() * 6;
        let tokens = tokens as u64;
        (HEAD + SUM) as u64 + tokens * 4 + (tokens - 1).saturating_mul(a_position as u64)
    }

    /// Returns the number of texts.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns true if there is no text.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Returns the number of tokens in all texts.
    pub fn tokens(&self) -> usize {
        self.index.iter().map(|(_, tokens)| tokens).sum()
    }

    /// Returns the number of bytes on disk.
    pub fn size(&self) -> u64 {
        self.end
    }

    /// Appends a text to the file.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn push(&mut self, text: &CorpusText) -> Result<(), TrainError> {
        let path = self.path.clone();
        let trouble = |source| TrainError::Disk { path: path.clone(), source };
        let mut record = RECORD_MAGIC.to_vec();
        for n in [text.tokens.len() as u32, text.prompt, text.prompt_tokens] {
            record.extend(n.to_le_bytes());
        }
        record.extend(checksum(&record));
        for token in &text.tokens {
            record.extend(token.to_le_bytes());
        }
        for x in &text.hidden {
            record.extend(x.to_le_bytes());
        }
        for (token, p) in &text.distributions {
            record.extend(token.to_le_bytes());
            record.extend(p.to_le_bytes());
        }
        record.extend(checksum(&record[HEAD..]));
        self.file
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| self.file.write_all(&record))
            .map_err(trouble)?;
        self.index.push((self.end, text.tokens.len()));
        self.end += Self::bytes(text.tokens.len(), &self.about);
        Ok(())
    }

    /// Reads the text with index `i`.
    ///
    /// # Errors
    /// If it can't be read, or is damaged.
    pub fn read(&mut self, i: usize) -> Result<CorpusText, TrainError> {
        let (at, tokens) = self.index[i];
        let mut bytes = vec![0; Self::bytes(tokens, &self.about) as usize];
        self.file
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|source| TrainError::Disk { path: self.path.clone(), source })?;
        let body = bytes.len() - SUM;
        if bytes[body..] != checksum(&bytes[HEAD..body])
            || bytes[16..HEAD] != checksum(&bytes[..16])
        {
            return Err(TrainError::DamagedCorpus { path: self.path.clone(), text: i, at });
        }
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let half = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let hidden_at = HEAD + 4 * tokens;
        let numbers = (tokens - 1) * self.about.after.len() * self.about.dim;
        let laws_at = hidden_at + 2 * numbers;
        Ok(CorpusText {
            prompt: word(8),
            prompt_tokens: word(12),
            tokens: (0..tokens).map(|i| word(HEAD + 4 * i)).collect(),
            hidden: (0..numbers).map(|i| half(hidden_at + 2 * i)).collect(),
            distributions: (0..(tokens - 1) * self.about.laws())
                .map(|i| (word(laws_at + 6 * i), half(laws_at + 6 * i + 4)))
                .collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn about() -> CorpusSettings {
        CorpusSettings {
            form: CORPUS_FORM,
            model: "m".into(),
            dim: 2,
            after: vec![1, 3],
            prompts: "p".into(),
            seed: 1,
            max_tokens: 9,
        }
    }

    fn text(n: u32) -> CorpusText {
        CorpusText {
            prompt: n,
            prompt_tokens: 1,
            tokens: (0..n).collect(),
            hidden: (0..(n - 1) * 4).map(|i| f16::from_f32(i as f32)).collect(),
            distributions: (0..(n as usize - 1) * TOP)
                .map(|i| (i as u32, f16::from_f32(0.5)))
                .collect(),
        }
    }

    #[test]
    fn texts_are_read_back_after_an_interrupted_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corpus");
        let about = about();
        let mut corpus = Corpus::open(&path, &about).unwrap();
        corpus.push(&text(3)).unwrap();
        corpus.push(&text(5)).unwrap();
        assert!(matches!(Corpus::open(&path, &about), Err(TrainError::Locked { .. })));
        let two = corpus.size();
        drop(corpus);
        // Part of a third text, of any length.
        let mut corpus = Corpus::open(&path, &about).unwrap();
        corpus.push(&text(4)).unwrap();
        drop(corpus);
        let whole = std::fs::read(&path).unwrap();
        for len in [whole.len() - 7, two as usize + 30, two as usize + 9, two as usize + 2] {
            std::fs::write(&path, &whole[..len]).unwrap();
            let corpus = Corpus::open(&path, &about).unwrap();
            assert_eq!((corpus.len(), corpus.tokens(), corpus.size()), (2, 8, two), "{len}");
        }
        let mut corpus = Corpus::open(&path, &about).unwrap();
        corpus.push(&text(6)).unwrap();
        assert_eq!(
            (corpus.read(0).unwrap(), corpus.read(1).unwrap(), corpus.read(2).unwrap()),
            (text(3), text(5), text(6))
        );
        drop(corpus);
        let other = CorpusSettings { seed: 2, ..about };
        assert!(matches!(Corpus::open(&path, &other), Err(TrainError::OtherCorpus { .. })));
        // The beginning alone, not written completely.
        for len in [0, 3, 8, 20] {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(Corpus::open(&path, &self::about()).unwrap().is_empty(), "{len}");
        }
    }

    #[test]
    fn any_damaged_byte_is_found_and_nothing_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corpus");
        let mut corpus = Corpus::open(&path, &about()).unwrap();
        let begin = corpus.size() as usize;
        corpus.push(&text(2)).unwrap();
        corpus.push(&text(3)).unwrap();
        drop(corpus);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            std::fs::write(&path, &bytes).unwrap();
            let outcome = Corpus::open(&path, &about())
                .and_then(|mut corpus| (0..2).try_for_each(|i| corpus.read(i).map(drop)));
            match outcome {
                Err(TrainError::OtherCorpus { .. }) => assert!(at < begin, "{at}"),
                Err(TrainError::DamagedCorpus { text, at: record, .. }) => {
                    assert!(record as usize <= at && text < 2, "{at}");
                }
                other => panic!("byte {at}: {other:?}"),
            }
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "byte {at}: the file was changed");
        }
        // Bytes behind the last text that are no beginning of one.
        std::fs::write(&path, [&whole[..], b"xy"].concat()).unwrap();
        let said = Corpus::open(&path, &about()).unwrap_err().to_string();
        assert!(said.contains(&format!("text 2 at byte {} is damaged", whole.len())), "{said}");
    }

    #[test]
    fn what_cannot_be_read_is_no_empty_corpus() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Corpus::open(folder.path(), &about()), Err(TrainError::Disk { .. })));
    }
}
