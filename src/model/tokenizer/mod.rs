//! From text to tokens, and what each token adds to a text.

mod gguf;
mod json;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::load::LoadError;
use super::weights::Weights;
use crate::guarded::guarded;
use crate::tree::TokenId;

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    path: PathBuf,
    /// Behind a lock since whether special tokens are parsed is a state of it.
    inner: Mutex<tokenizers::Tokenizer>,
    tokens: Vec<Token>,
    spelling: Spelling,
    bos: Option<TokenId>,
    special: Special,
    stop: Vec<TokenId>,
}

/// A token of the vocabulary, as it is spelled there.
#[derive(Debug)]
struct Token {
    text: String,
    kind: TokenKind,
    /// Whether it was added to a vocabulary that was there before.
    added: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenKind {
    /// A piece of text, spelled as the vocabulary spells all of them.
    Piece,
    /// A piece of text that is spelled as it is.
    Literal,
    /// One byte.
    Byte(u8),
    /// Steers the model and adds nothing to a text.
    Control,
}

/// How the pieces of a vocabulary are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// A letter for each byte (GPT-2's table).
    ByteLevel,
    /// Text with U+2581 for a space.
    SentencePiece,
}

/// The tokens that chat templates name.
#[derive(Debug, Default)]
struct Special {
    bos: Option<TokenId>,
    eos: Option<TokenId>,
}

/// Spellings of tokens that end a text in some family of models, whatever the metadata say of them.
const STOPS: [&str; 9] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<end_of_turn>",
    "<|end_of_turn|>",
    "<EOT>",
];

impl Tokenizer {
    /// The tokenizer that came with `weights`: in the metadata of a GGUF file, or as tokenizer.json in a folder of
    /// safetensors.
    ///
    /// # Errors
    /// If there is none, it is of a kind that is not known here, or it is damaged.
    pub fn open(weights: &Weights) -> Result<Tokenizer, LoadError> {
        let mut tokenizer = match weights.metadata() {
            Some(metadata) => gguf::read(metadata)?,
            None => json::read(weights.path())?,
        };
        let (tokens, rows) = (tokenizer.len(), weights.config().vocab);
        // Tokens that were added and never trained need no row as long as nobody writes them.
        if tokens > rows && tokenizer.tokens[rows..].iter().all(|token| token.added) {
            tokenizer.tokens.truncate(rows);
            let known = |id: &TokenId| (*id as usize) < rows;
            tokenizer.stop.retain(known);
            tokenizer.bos = tokenizer.bos.filter(known);
            tokenizer.special = Special { bos: tokenizer.special.bos.filter(known), eos: tokenizer.special.eos.filter(known) };
        } else if tokens > rows {
            let what = format!("the tokenizer has {tokens} tokens, and the embedding {rows} rows");
            return Err(LoadError::file(&tokenizer.path, what, None, "take tokenizer and weights of the same model"));
        }
        Ok(tokenizer)
    }

    /// The stop tokens: those of `named` and those that are spelled like one, in order of their numbers.
    fn find_stops(tokens: &[Token], named: impl IntoIterator<Item = TokenId>) -> Vec<TokenId> {
        let spelled = tokens.iter().enumerate().filter(|(_, token)| STOPS.contains(&token.text.as_str()));
        let mut stop: Vec<TokenId> = named.into_iter().chain(spelled.map(|(id, _)| id as TokenId)).collect();
        stop.sort_unstable();
        stop.dedup();
        stop
    }

    /// The tokens of `text`, without any before or after it. With `special`, special tokens that are spelled in the
    /// text become those tokens, as a rendered chat template means them; without, they are text like any other.
    ///
    /// # Errors
    /// If the text can't be tokenised, which only a damaged tokenizer brings about.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<TokenId>, LoadError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.set_encode_special_tokens(!special);
        let encoding = guarded(|| inner.encode_fast(text, false).map_err(|e| e.to_string())).and_then(|encoding| encoding);
        let encoding = encoding.map_err(|e| self.error(format!("the text can't be tokenised: {e}")))?;
        let ids = encoding.get_ids();
        match ids.iter().find(|&&id| id as usize >= self.tokens.len()) {
            Some(id) => Err(self.error(format!("gives token {id}, and the vocabulary has {}", self.tokens.len()))),
            None => Ok(ids.to_vec()),
        }
    }

    /// By token, what it adds to a text. Special tokens add nothing.
    pub fn token_bytes(&self) -> Vec<Box<[u8]>> {
        let table = byte_level_table();
        let bytes = |token: &Token| match (token.kind, self.spelling) {
            (TokenKind::Control, _) => Box::default(),
            (TokenKind::Byte(byte), _) => Box::from([byte]),
            (TokenKind::Literal, _) => Box::from(token.text.as_bytes()),
            (TokenKind::Piece, Spelling::SentencePiece) => token.text.replace('\u{2581}', " ").into_bytes().into(),
            (TokenKind::Piece, Spelling::ByteLevel) => {
                let mut bytes = Vec::with_capacity(token.text.len());
                for c in token.text.chars() {
                    match table.get(c as usize).copied().flatten() {
                        Some(byte) => bytes.push(byte),
                        // No byte is spelled so: the character stands for itself.
                        None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
                bytes.into()
            }
        };
        self.tokens.iter().map(bytes).collect()
    }

    /// The tokens that steer the model and add nothing to a text, as the vocabulary spells them.
    pub fn control(&self) -> impl Iterator<Item = (TokenId, &str)> {
        let control = |(_, token): &(usize, &Token)| token.kind == TokenKind::Control;
        self.tokens.iter().enumerate().filter(control).map(|(id, token)| (id as TokenId, token.text.as_str()))
    }

    /// The tokens that end a text, in order of their numbers.
    pub fn stop(&self) -> &[TokenId] {
        &self.stop
    }

    /// The token that begins every text, where the model wants one.
    pub fn bos(&self) -> Option<TokenId> {
        self.bos
    }

    /// The begin token and the end token as the vocabulary spells them, for chat templates; empty where there is none.
    pub fn named(&self) -> [&str; 2] {
        [self.special.bos, self.special.eos].map(|id| id.and_then(|id| self.token(id)).unwrap_or_default())
    }

    /// A token as the vocabulary spells it.
    pub fn token(&self, id: TokenId) -> Option<&str> {
        self.tokens.get(id as usize).map(|token| token.text.as_str())
    }

    /// Size of the vocabulary.
    #[allow(clippy::len_without_is_empty)] // a vocabulary without tokens is refused
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    fn error(&self, what: String) -> LoadError {
        LoadError::file(&self.path, what, None, CURE)
    }
}

const CURE: &str = "the tokenizer is damaged: fetch the model again";

/// Refuses a draft model whose vocabulary differs from the target's: the two must mean the same by every token.
///
/// # Errors
/// One line with the first token that differs, and both spellings.
pub fn same_vocabulary(target: &Tokenizer, draft: &Tokenizer) -> Result<(), String> {
    let spelled = |of: &Tokenizer, id| of.token(id).map_or("absent".to_string(), |text| format!("{text:?}"));
    match (0..target.len().max(draft.len()) as TokenId).find(|&id| target.token(id) != draft.token(id)) {
        None => Ok(()),
        Some(id) => Err(format!(
            "the vocabularies differ: token {id} is {} for the target and {} for the draft model: \
             give a draft model of the target's family",
            spelled(target, id),
            spelled(draft, id)
        )),
    }
}

/// The byte that each character stands for in byte-level vocabularies, by code point: printable Latin-1 for itself,
/// the other bytes in turn from U+0100 on.
fn byte_level_table() -> [Option<u8>; 0x144] {
    let mut table = [None; 0x144];
    let mut next = 0x100;
    for byte in 0..=255u8 {
        let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let at = if printable { byte as usize } else { next };
        next += usize::from(!printable);
        table[at] = Some(byte);
    }
    table
}

/// The byte that `<0xAB>` spells.
fn byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}
