//! Tokenizer of a vocabulary: special tokens, tokens that end a text, and spelling.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tokenizers::{OffsetReferential, OffsetType};

use super::pieces::Pieces;
use crate::guarded::catch_panic;
use crate::model::error::LoadError;
use crate::tree::TokenId;

/// Tokenizer of a model, with its special tokens.
#[derive(Debug)]
pub struct Tokenizer {
    pub(super) path: PathBuf,
    /// Behind a lock because parsing of special tokens is a state of the tokenizer.
    pub(super) inner: Mutex<tokenizers::Tokenizer>,
    /// Pieces of a SentencePiece vocabulary with scores, which `inner` only splits texts for.
    pub(super) pieces: Option<Pieces>,
    pub(super) tokens: Vec<Token>,
    pub(super) spelling: Spelling,
    pub(super) bos: Option<TokenId>,
    pub(super) special: SpecialTokens,
    pub(super) stop: Vec<TokenId>,
}

/// Token of the vocabulary, as spelled there.
#[derive(Debug)]
pub(super) struct Token {
    pub text: String,
    pub kind: TokenKind,
    /// True for an added token, outside the base vocabulary.
    pub added: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
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
pub(super) enum Spelling {
    /// A character per byte (GPT-2's table).
    ByteLevel,
    /// Plain text, with U+2581 for a space.
    SentencePiece,
}

/// Special tokens that chat templates refer to.
#[derive(Debug, Default)]
pub(super) struct SpecialTokens {
    pub bos: Option<TokenId>,
    pub eos: Option<TokenId>,
}

/// Spellings of tokens that end a text in some model family, whatever the metadata say.
///
/// The list of llama.cpp, and `<|end_of_turn|>`.
pub(super) const STOPS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|end_of_turn|>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
];

/// Spellings of tokens around code to fill in, which end a text as in llama.cpp.
///
/// Of each line, the token of the lowest id counts, unless the metadata name another.
pub(super) const FILL_IN_STOPS: [(&str, &[&str]); 3] = [
    ("fim_pad", &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    ("fim_rep", &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"]),
    ("fim_sep", &["<|file_sep|>"]),
];

impl Tokenizer {
    /// Returns the stop tokens, sorted by id.
    ///
    /// These are `named` and those whose spelling is in [`STOPS`], as in llama.cpp. Exceptions,
    /// also as there: `<|end|>` ends a part of a text only, where a vocabulary has other tokens for
    /// the end, and `</s>` is plain text in vocabularies with `<|tool_response>`.
    pub(super) fn find_stops(
        tokens: &[Token],
        named: impl IntoIterator<Item = TokenId>,
    ) -> Vec<TokenId> {
        let spelled =
            tokens.iter().enumerate().filter(|(_, token)| STOPS.contains(&token.text.as_str()));
        let spelled: Vec<(TokenId, &str)> =
            spelled.map(|(id, token)| (id as TokenId, token.text.as_str())).collect();
        let mut stop: Vec<TokenId> =
            named.into_iter().chain(spelled.iter().map(|(id, _)| *id)).collect();
        let has = |text: &str| spelled.iter().any(|(_, known)| *known == text);
        let calls = has("<|call|>") || has("<|calls|>");
        let exceptions = [
            ("<|end|>", calls && (has("<|return|>") || has("<|flush|>"))),
            ("</s>", has("<|tool_response>")),
        ];
        for (text, _) in exceptions.into_iter().filter(|(_, holds)| *holds) {
            stop.retain(|id| tokens.get(*id as usize).is_none_or(|token| token.text != text));
        }
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
        let encoded = catch_panic(|| match &self.pieces {
            Some(pieces) => Ok(encode_pieces(&inner, pieces, text)),
            None => inner
                .encode_fast(text, false)
                .map(|encoding| encoding.get_ids().to_vec())
                .map_err(|e| e.to_string()),
        });
        let ids = encoded
            .and_then(|ids| ids)
            .map_err(|e| self.error(format!("the text can't be tokenised: {e}")))?;
        match ids.iter().find(|&&id| id as usize >= self.tokens.len()) {
            Some(id) => Err(self
                .error(format!("gives token {id}, and the vocabulary has {}", self.tokens.len()))),
            None => Ok(ids),
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

pub(super) const CURE: &str = "the tokenizer is damaged: fetch the model again";

/// Splits a text at special tokens, and encodes the text between them.
fn encode_pieces(inner: &tokenizers::Tokenizer, pieces: &Pieces, text: &str) -> Vec<TokenId> {
    let split = inner.get_added_vocabulary().extract_and_normalize(inner.get_normalizer(), text);
    let mut ids = Vec::new();
    for (part, _, tokens) in split.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
        match tokens {
            Some(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
            None => pieces.encode(part, &mut ids),
        }
    }
    ids
}

/// Checks that a draft model has the same vocabulary as the target.
///
/// Speculative decoding requires that every token id means the same to both. One vocabulary may
/// have more tokens at its end, as from padding: those are never drafted, and a text that holds one
/// is not drafted for.
///
/// # Errors
/// Returns one line with the first token that differs and both spellings.
pub fn same_vocabulary(target: &Tokenizer, draft: &Tokenizer) -> Result<(), String> {
    let spelled = |of: &Tokenizer, id| of.token_text(id).unwrap_or_default().to_owned();
    match (0..target.len().min(draft.len()) as TokenId)
        .find(|&id| target.token_text(id) != draft.token_text(id))
    {
        None => Ok(()),
        Some(id) => Err(format!(
            "the vocabularies differ: token {id} is {:?} for the target and {:?} for the draft \
             model: give a draft model of the target's family",
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
pub(super) fn byte(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}
