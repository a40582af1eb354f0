//! Training corpus on disk: texts of the target, with hidden states and distributions per position.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::f16;
use serde::{Deserialize, Serialize};

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

const RECORD_MAGIC: [u8; 4] = *b"text";

impl Corpus {
    /// Opens the corpus at `path`, or creates it.
    ///
    /// Drops a text at the end that was not written completely.
    ///
    /// # Errors
    /// If the file can't be read or written, or holds texts made with other settings.
    pub fn open(path: &Path, about: &CorpusSettings) -> Result<Corpus, TrainError> {
        let trouble = |source| TrainError::Disk { path: path.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(trouble)?;
        let mut reader = BufReader::new(&mut file);
        let mut head = [0u8; 8];
        let fresh = reader.read_exact(&mut head).is_err();
        if fresh {
            let line = serde_json::to_vec(about).unwrap_or_default();
            file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(trouble)?;
            file.write_all(&(line.len() as u64).to_le_bytes())
                .and_then(|()| file.write_all(&line))
                .map_err(trouble)?;
            let end = 8 + line.len() as u64;
            return Ok(Corpus {
                path: path.to_owned(),
                file,
                about: about.clone(),
                index: Vec::new(),
                end,
            });
        }
        let length = u64::from_le_bytes(head);
        let mut line = vec![0; length.min(1 << 20) as usize];
        let found: Option<CorpusSettings> =
            reader.read_exact(&mut line).ok().and_then(|()| serde_json::from_slice(&line).ok());
        if found.as_ref() != Some(about) {
            return Err(TrainError::OtherCorpus { path: path.to_owned() });
        }
        let len = reader.get_ref().metadata().map_err(trouble)?.len();
        let (mut at, mut index) = (8 + length, Vec::new());
        while let Some((tokens, bytes)) =
            Self::record(&mut file, at, about).filter(|(_, bytes)| at + bytes <= len)
        {
            index.push((at, tokens));
            at += bytes;
        }
        file.set_len(at).map_err(trouble)?;
        Ok(Corpus { path: path.to_owned(), file, about: about.clone(), index, end: at })
    }

    /// Returns tokens and bytes of the record at `at`, if one begins there.
    fn record(file: &mut File, at: u64, about: &CorpusSettings) -> Option<(usize, u64)> {
        let mut head = [0u8; 8];
        file.seek(SeekFrom::Start(at)).ok()?;
        file.read_exact(&mut head).ok()?;
        let tokens = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        (head[..4] == RECORD_MAGIC && tokens > 0).then(|| (tokens, Self::bytes(tokens, about)))
    }

    fn bytes(tokens: usize, about: &CorpusSettings) -> u64 {
        let a_position = about.after.len() * about.dim * 2 + about.laws() * 6;
        (16 + tokens * 4 + (tokens - 1) * a_position) as u64
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
        self.file.seek(SeekFrom::Start(self.end)).map_err(trouble)?;
        let mut out = BufWriter::with_capacity(1 << 20, &mut self.file);
        let mut write = || -> std::io::Result<()> {
            out.write_all(&RECORD_MAGIC)?;
            for n in [text.tokens.len() as u32, text.prompt, text.prompt_tokens] {
                out.write_all(&n.to_le_bytes())?;
            }
            for token in &text.tokens {
                out.write_all(&token.to_le_bytes())?;
            }
            for x in &text.hidden {
                out.write_all(&x.to_le_bytes())?;
            }
            for (token, p) in &text.distributions {
                out.write_all(&token.to_le_bytes())?;
                out.write_all(&p.to_le_bytes())?;
            }
            out.flush()
        };
        write().map_err(trouble)?;
        drop(out);
        self.index.push((self.end, text.tokens.len()));
        self.end += Self::bytes(text.tokens.len(), &self.about);
        Ok(())
    }

    /// Reads the text with index `i`.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn read(&mut self, i: usize) -> Result<CorpusText, TrainError> {
        let (at, tokens) = self.index[i];
        let mut bytes = vec![0; Self::bytes(tokens, &self.about) as usize];
        self.file
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|source| TrainError::Disk { path: self.path.clone(), source })?;
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let half = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let hidden_at = 16 + 4 * tokens;
        let numbers = (tokens - 1) * self.about.after.len() * self.about.dim;
        let laws_at = hidden_at + 2 * numbers;
        Ok(CorpusText {
            prompt: word(8),
            prompt_tokens: word(12),
            tokens: (0..tokens).map(|i| word(16 + 4 * i)).collect(),
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

    #[test]
    fn texts_are_read_back_after_an_interrupted_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("corpus");
        let about = CorpusSettings {
            form: 1,
            model: "m".into(),
            dim: 2,
            after: vec![1, 3],
            prompts: "p".into(),
            seed: 1,
            max_tokens: 9,
        };
        let text = |n: u32| CorpusText {
            prompt: n,
            prompt_tokens: 1,
            tokens: (0..n).collect(),
            hidden: (0..(n - 1) * 4).map(|i| f16::from_f32(i as f32)).collect(),
            distributions: (0..(n as usize - 1) * TOP)
                .map(|i| (i as u32, f16::from_f32(0.5)))
                .collect(),
        };
        let mut corpus = Corpus::open(&path, &about).unwrap();
        corpus.push(&text(3)).unwrap();
        corpus.push(&text(5)).unwrap();
        drop(corpus);
        // Part of a third text.
        let mut corpus = Corpus::open(&path, &about).unwrap();
        corpus.push(&text(4)).unwrap();
        let whole = corpus.size();
        drop(corpus);
        OpenOptions::new().write(true).open(&path).unwrap().set_len(whole - 7).unwrap();
        let mut corpus = Corpus::open(&path, &about).unwrap();
        assert_eq!((corpus.len(), corpus.tokens()), (2, 8));
        corpus.push(&text(6)).unwrap();
        assert_eq!(
            (corpus.read(0).unwrap(), corpus.read(1).unwrap(), corpus.read(2).unwrap()),
            (text(3), text(5), text(6))
        );
        let other = CorpusSettings { seed: 2, ..about };
        assert!(matches!(Corpus::open(&path, &other), Err(TrainError::OtherCorpus { .. })));
    }
}
