//! Reads tokenizers of safetensors folders: tokenizer.json and the files beside it.
//!
//! tokenizer_config.json, generation_config.json and config.json name the special tokens.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokenizers::{AddedToken, DecoderWrapper, ModelWrapper};

use super::vocabulary::{SpecialTokens, Spelling, Token, TokenKind, Tokenizer};
use crate::guarded::catch_panic;
use crate::model::error::{LoadError, json_file, recognize_placeholder, strip_byte_order_mark};
use crate::tree::TokenId;

/// Part of tokenizer.json that is checked before the tokenizer is built.
#[derive(Deserialize)]
struct File {
    model: Model,
    #[serde(default)]
    normalizer: Value,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    vocab: Option<Vocabulary>,
    #[serde(default)]
    merges: Vec<Merge>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Vocabulary {
    Numbers(HashMap<String, IgnoredAny>),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Line(String),
    Pair(String, String),
}

/// Reads the tokenizer of the model in `folder`.
pub(super) fn read(folder: &Path) -> Result<Tokenizer, LoadError> {
    let path = folder.join("tokenizer.json");
    let error = |what: String| {
        LoadError::file(&path, what, None, "take the tokenizer.json that came with the weights")
    };
    let text = std::fs::read(&path).map_err(|e| error(format!("can't be opened: {e}")))?;
    if let Some((what, cure)) = recognize_placeholder(&text) {
        return Err(LoadError::file(&path, what, None, cure));
    }
    let text = strip_byte_order_mark(&text);
    check_limits(text).map_err(error)?;
    // A hostile or damaged file can make the builder panic.
    let built = catch_panic(|| {
        tokenizers::Tokenizer::from_bytes(text)
            .and_then(drop_training_settings)
            .map_err(|e| e.to_string())
    });
    let mut inner =
        built.and_then(|built| built).map_err(|e| error(format!("no tokenizer: {e}")))?;
    let config = json_file(&folder.join("tokenizer_config.json"))?;
    if let Some(config) = &config {
        let missing = tokens_missing_from(&inner, config);
        catch_panic(|| inner.add_tokens(missing).map_err(|e| e.to_string()))
            .and_then(|added| added)
            .map_err(|e| error(format!("the added tokens can't be read: {e}")))?;
    }

    let spelling = match inner.get_decoder() {
        Some(DecoderWrapper::ByteLevel(_)) => Spelling::ByteLevel,
        Some(DecoderWrapper::Sequence(all))
            if all.get_decoders().iter().any(|one| matches!(one, DecoderWrapper::ByteLevel(_))) =>
        {
            Spelling::ByteLevel
        }
        _ => Spelling::SentencePiece,
    };
    let vocabulary = inner.get_vocab(true);
    let added = inner.get_added_tokens_decoder();
    let len = vocabulary.values().max().map_or(0, |&last| last as usize + 1);
    // Ids may have gaps, but at least one in 16 must be used.
    if vocabulary.is_empty() || len / 16 > vocabulary.len() {
        return Err(error(format!("has {} tokens with numbers below {len}", vocabulary.len())));
    }
    let mut tokens: Vec<Token> = (0..len)
        .map(|_| Token { text: String::new(), kind: TokenKind::Control, added: true })
        .collect();
    for (text, id) in vocabulary {
        let kind = match added.get(&id) {
            Some(token) if token.special => TokenKind::Control,
            Some(_) => TokenKind::Literal,
            None if spelling == Spelling::SentencePiece => {
                super::vocabulary::byte(&text).map_or(TokenKind::Piece, TokenKind::Byte)
            }
            None => TokenKind::Piece,
        };
        tokens[id as usize] = Token { text, kind, added: added.contains_key(&id) };
    }

    let mut special = SpecialTokens::default();
    if let Some(config) = config {
        let find = |key: &str| {
            let value = &config[key];
            let text = value.as_str().or_else(|| value["content"].as_str())?;
            inner.token_to_id(text)
        };
        special = SpecialTokens { bos: find("bos_token"), eos: find("eos_token") };
    }
    let mut named: Vec<TokenId> = special.eos.into_iter().collect();
    for name in ["generation_config.json", "config.json"] {
        if let Some(config) = json_file(&folder.join(name))? {
            let value = &config["eos_token_id"];
            let ids = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            named.extend(
                ids.iter()
                    .filter_map(|id| TokenId::try_from(id.as_u64()?).ok())
                    .filter(|&id| (id as usize) < len),
            );
        }
    }
    let stop = Tokenizer::find_stops(&tokens, named);
    // Tokens added to an empty text are those added around every text.
    let around = catch_panic(|| inner.encode_fast("", true).map_err(|e| e.to_string()))
        .and_then(|around| around);
    let around = around.map_err(|e| error(format!("can't tokenise an empty text: {e}")))?;
    let bos = around
        .get_ids()
        .first()
        .copied()
        .filter(|id| special.bos == Some(*id) || !stop.contains(id));
    special.bos = special.bos.or(bos);
    Ok(Tokenizer {
        path,
        inner: Mutex::new(inner),
        pieces: None,
        tokens,
        spelling,
        bos,
        special,
        stop,
    })
}

/// Returns the added tokens that only tokenizer_config.json lists, in the order of their ids.
///
/// transformers adds them to those of tokenizer.json.
fn tokens_missing_from(inner: &tokenizers::Tokenizer, config: &Value) -> Vec<AddedToken> {
    let known = inner.get_added_tokens_decoder();
    let listed = config["added_tokens_decoder"].as_object().into_iter().flatten();
    let mut missing: Vec<(TokenId, AddedToken)> = listed
        .filter_map(|(id, token)| {
            let flag = |name: &str, absent| token[name].as_bool().unwrap_or(absent);
            let content = token["content"].as_str().filter(|content| !content.is_empty())?;
            let special = flag("special", false);
            let token = AddedToken::from(content, special)
                .single_word(flag("single_word", false))
                .lstrip(flag("lstrip", false))
                .rstrip(flag("rstrip", false))
                .normalized(flag("normalized", !special));
            Some((id.parse().ok()?, token))
        })
        .filter(|(_, token)| !known.values().any(|known| known.content == token.content))
        .collect();
    missing.sort_by_key(|(id, _)| *id);
    missing.into_iter().map(|(_, token)| token).collect()
}

/// Drops settings for training in tokenizer.json: truncation, padding and merge dropout.
///
/// A prompt is neither cut nor padded, and its tokens are always the same. transformers also
/// ignores the first two.
fn drop_training_settings(
    mut inner: tokenizers::Tokenizer,
) -> tokenizers::Result<tokenizers::Tokenizer> {
    inner.with_truncation(None)?;
    inner.with_padding(None);
    if let ModelWrapper::BPE(bpe) = inner.get_model()
        && bpe.dropout.is_some()
    {
        let mut bpe = bpe.clone();
        bpe.dropout = None;
        inner.with_model(bpe);
    }
    Ok(inner)
}

/// Upper bound on the growth of a text by a normalizer.
///
/// Real normalizers stay far below: NFKC has characters that become 18 times as long, and spaces
/// become three bytes.
const MOST_GROWTH: f64 = 1e4;

/// Upper bound on the factor by which a normalizer can lengthen a text.
fn growth(normalizer: &Value) -> f64 {
    match normalizer["type"].as_str() {
        None => 1.0,
        Some("Sequence") => {
            normalizer["normalizers"].as_array().into_iter().flatten().map(growth).product()
        }
        Some("Replace") => {
            let content = normalizer["content"].as_str().map_or(0, str::len) as f64;
            match normalizer["pattern"]["String"].as_str() {
                Some(pattern) if !pattern.is_empty() => (content / pattern.len() as f64).max(1.0),
                _ => content + 1.0,
            }
        }
        Some("NFKC" | "NFKD" | "Precompiled") => 18.0,
        Some("Lowercase" | "NFC" | "NFD" | "BertNormalizer" | "ByteLevel") => 3.0,
        Some(_) => 1.0,
    }
}

/// Rejects normalizers that could exhaust memory, and merges longer than any token.
///
/// The tokenizer's builder relies on every merge making a token.
fn check_limits(text: &[u8]) -> Result<(), String> {
    let file: File = serde_json::from_slice(text).map_err(|e| format!("no tokenizer: {e}"))?;
    let times = growth(&file.normalizer);
    if times > MOST_GROWTH {
        return Err(format!("its normalizer could make a text {times:.0} times as long"));
    }
    let Some(Vocabulary::Numbers(vocabulary)) = file.model.vocab else { return Ok(()) };
    let longest = vocabulary.keys().map(String::len).max().unwrap_or(0);
    for (i, merge) in file.model.merges.iter().enumerate() {
        let len = match merge {
            // The separating space is not part of the merged token.
            Merge::Line(line) => line.len().saturating_sub(1),
            Merge::Pair(a, b) => a.len() + b.len(),
        };
        if len > longest {
            return Err(format!("merge {i} makes no token"));
        }
    }
    Ok(())
}
