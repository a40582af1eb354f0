//! Tokenizers: text to tokens, and the bytes that each token adds to a text.
//!
//! A tokenizer is read from GGUF metadata or from tokenizer.json, and built on the `tokenizers`
//! crate. This module also determines which tokens are special, which end a text, and how tokens
//! are spelled.

mod gguf;
mod json;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::format::weights::Weights;
use super::load::LoadError;
use crate::guarded::catch_panic;
use crate::tree::TokenId;

/// Tokenizer of a model, with its special tokens.
#[derive(Debug)]
pub struct Tokenizer {
    path: PathBuf,
    /// Behind a lock because parsing of special tokens is a state of the tokenizer.
    inner: Mutex<tokenizers::Tokenizer>,
    tokens: Vec<Token>,
    spelling: Spelling,
    bos: Option<TokenId>,
    special: SpecialTokens,
    stop: Vec<TokenId>,
}

/// Token of the vocabulary, as spelled there.
#[derive(Debug)]
struct Token {
    text: String,
    kind: TokenKind,
    /// True for an added token, outside the base vocabulary.
    added: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenKind {
    /// Text in the spelling of the vocabulary.
    Piece,
    /// Text that is spelled literally.
    Literal,
    /// A single byte, such as `<0xAB>`.
    Byte(u8),
    /// Control token, which adds nothing to a text.
    Control,
}

/// Spelling of the pieces of a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// A character per byte (GPT-2's table).
    ByteLevel,
    /// Plain text, with U+2581 for a space.
    SentencePiece,
}

/// Special tokens that chat templates refer to.
#[derive(Debug, Default)]
struct SpecialTokens {
    bos: Option<TokenId>,
    eos: Option<TokenId>,
}

/// Spellings of tokens that end a text in some model family, whatever the metadata say.
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
    /// Reads the tokenizer that comes with `weights`.
    ///
    /// It is in the metadata of a GGUF file, or in tokenizer.json in a folder of safetensors.
    ///
    /// # Errors
    /// If there is no tokenizer, its kind is not supported, or it is damaged.
    pub fn open(weights: &Weights) -> Result<Tokenizer, LoadError> {
        let mut tokenizer = match weights.metadata() {
            Some(metadata) => gguf::read(metadata)?,
            None => json::read(weights.path())?,
        };
        let (tokens, rows) = (tokenizer.len(), weights.config().vocab);
        // Added tokens that were never trained may lack an embedding row; they are dropped.
        if tokens > rows && tokenizer.tokens[rows..].iter().all(|token| token.added) {
            tokenizer.tokens.truncate(rows);
            let known = |id: &TokenId| (*id as usize) < rows;
            tokenizer.stop.retain(known);
            tokenizer.bos = tokenizer.bos.filter(known);
            tokenizer.special = SpecialTokens {
                bos: tokenizer.special.bos.filter(known),
                eos: tokenizer.special.eos.filter(known),
            };
        } else if tokens > rows {
            let what = format!("the tokenizer has {tokens} tokens, and the embedding {rows} rows");
            return Err(LoadError::file(
                &tokenizer.path,
                what,
                None,
                "take tokenizer and weights of the same model",
            ));
        }
        Ok(tokenizer)
    }

    /// Returns the stop tokens, sorted by id: `named`, and those whose spelling is in [`STOPS`].
    fn find_stops(tokens: &[Token], named: impl IntoIterator<Item = TokenId>) -> Vec<TokenId> {
        let spelled =
            tokens.iter().enumerate().filter(|(_, token)| STOPS.contains(&token.text.as_str()));
        let mut stop: Vec<TokenId> =
            named.into_iter().chain(spelled.map(|(id, _)| id as TokenId)).collect();
        stop.sort_unstable();
        stop.dedup();
        stop
    }

    /// Returns the tokens of `text`, without BOS and EOS tokens.
    ///
    /// If `special`, special tokens spelled in the text become those tokens, as a rendered chat
    /// template intends; otherwise they are treated as plain text.
    ///
    /// # Errors
    /// If the text can't be tokenized, which only happens with a damaged tokenizer.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<TokenId>, LoadError> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.set_encode_special_tokens(!special);
        let encoding = catch_panic(|| inner.encode_fast(text, false).map_err(|e| e.to_string()))
            .and_then(|encoding| encoding);
        let encoding =
            encoding.map_err(|e| self.error(format!("the text can't be tokenised: {e}")))?;
        let ids = encoding.get_ids();
        match ids.iter().find(|&&id| id as usize >= self.tokens.len()) {
            Some(id) => Err(self
                .error(format!("gives token {id}, and the vocabulary has {}", self.tokens.len()))),
            None => Ok(ids.to_vec()),
        }
    }

    /// Returns the bytes that each token adds to a text, by token id.
    ///
    /// Control tokens add nothing.
    pub fn token_bytes(&self) -> Vec<Box<[u8]>> {
        let table = byte_level_table();
        let bytes = |token: &Token| match (token.kind, self.spelling) {
            (TokenKind::Control, _) => Box::default(),
            (TokenKind::Byte(byte), _) => Box::from([byte]),
            (TokenKind::Literal, _) => Box::from(token.text.as_bytes()),
            (TokenKind::Piece, Spelling::SentencePiece) => {
                token.text.replace('\u{2581}', " ").into_bytes().into()
            }
            (TokenKind::Piece, Spelling::ByteLevel) => {
                let mut bytes = Vec::with_capacity(token.text.len());
                for c in token.text.chars() {
                    match table.get(c as usize).copied().flatten() {
                        Some(byte) => bytes.push(byte),
                        // The character is not in the byte table and stands for itself.
                        None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
                bytes.into()
            }
        };
        self.tokens.iter().map(bytes).collect()
    }

    /// Iterates over the control tokens: id and spelling.
    ///
    /// Control tokens steer the model and add nothing to a text.
    pub fn control_tokens(&self) -> impl Iterator<Item = (TokenId, &str)> {
        let control = |(_, token): &(usize, &Token)| token.kind == TokenKind::Control;
        self.tokens
            .iter()
            .enumerate()
            .filter(control)
            .map(|(id, token)| (id as TokenId, token.text.as_str()))
    }

    /// Returns the tokens that end a text, sorted by id.
    pub fn stop_tokens(&self) -> &[TokenId] {
        &self.stop
    }

    /// Returns the BOS token, if prompts must start with one.
    pub fn bos(&self) -> Option<TokenId> {
        self.bos
    }

    /// Spellings of the BOS and EOS tokens for chat templates; empty if there is none.
    pub fn bos_and_eos_texts(&self) -> [&str; 2] {
        [self.special.bos, self.special.eos]
            .map(|id| id.and_then(|id| self.token_text(id)).unwrap_or_default())
    }

    /// Returns the spelling of a token, or `None` if `id` is outside the vocabulary.
    pub fn token_text(&self, id: TokenId) -> Option<&str> {
        self.tokens.get(id as usize).map(|token| token.text.as_str())
    }

    /// Number of tokens in the vocabulary.
    #[allow(clippy::len_without_is_empty)] // a vocabulary without tokens is refused
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    fn error(&self, what: String) -> LoadError {
        LoadError::file(&self.path, what, None, CURE)
    }
}

const CURE: &str = "the tokenizer is damaged: fetch the model again";

/// Checks that a draft model has the same vocabulary as the target.
///
/// Speculative decoding requires that every token id means the same to both.
///
/// # Errors
/// Returns one line with the first token that differs and both spellings.
pub fn same_vocabulary(target: &Tokenizer, draft: &Tokenizer) -> Result<(), String> {
    let spelled = |of: &Tokenizer, id| {
        of.token_text(id).map_or("absent".to_string(), |text| format!("{text:?}"))
    };
    match (0..target.len().max(draft.len()) as TokenId)
        .find(|&id| target.token_text(id) != draft.token_text(id))
    {
        None => Ok(()),
        Some(id) => Err(format!(
            "the vocabularies differ: token {id} is {} for the target and {} for the draft model: \
             give a draft model of the target's family",
            spelled(target, id),
            spelled(draft, id)
        )),
    }
}

/// Byte for each character in byte-level vocabularies, indexed by code point.
///
/// Printable Latin-1 characters stand for themselves; the other bytes follow in order from U+0100.
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

/// Parses the byte in a spelling such as `<0xAB>`.
fn byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}
