//! Reads tokenizers from the metadata of GGUF files.
//!
//! Supports the kinds that Llamas have: byte-level BPE ("gpt2") and SentencePiece BPE ("llama").
//! Both are converted to merges for the `tokenizers` crate.

use std::sync::Mutex;

use tokenizers::models::bpe::{BPE, BpeBuilder, Merges, Vocab};
use tokenizers::normalizers::{Prepend, Replace};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::pieces::Pieces;
use super::vocabulary::{CURE, SpecialTokens, Spelling, Token, TokenKind, Tokenizer};
use crate::guarded::catch_panic;
use crate::model::error::LoadError;
use crate::model::format::gguf::Metadata;
use crate::tree::TokenId;

/// Regular expression with which GPT-2 splits a text into words.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// As [`QWEN2`], where punctuation takes no line ends.
const SEED_CODER: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
/// Words of alphabets with letter case, in DeepSeek LLM.
const DEEPSEEK_LETTERS: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const DEEPSEEK_PUNCTUATION: &str = r"\s?[!-/:-~！-／：-～‘-‟　-。]+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const HAN: &str = r"[一-龥ࠀ-一가-퟿]+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+|[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Longest piece of a SentencePiece vocabulary, in bytes.
///
/// A piece has as many possible splits as characters, so its length bounds the work.
/// SentencePiece's own limit is 16 characters, except for runs of spaces.
const LONGEST_PIECE: usize = 512;

/// Rules for splitting a text into words before merging, named by `tokenizer.ggml.pre`.
struct WordSplit {
    /// Split patterns; each applies to the parts left by those before it.
    patterns: &'static [&'static str],
    /// True if a word that is a token skips the merges.
    whole: bool,
    /// True if a BOS token is used unless the metadata say otherwise.
    bos: bool,
}

fn words(pre: &str) -> Option<WordSplit> {
    let (patterns, whole, bos): (&'static [&'static str], _, _) = match pre {
        "default" => {
            (&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"], false, false)
        }
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "pixtral" | "midm-2.0" | "lfm2" => {
            (&[LLAMA3], true, true)
        }
        "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => (&[LLAMA3], false, false),
        "qwen2" | "stablelm2" | "deepseek-r1-qwen" | "megrez" | "kormo" | "f2llmv2" => {
            (&[QWEN2], false, false)
        }
        "seed-coder" => (&[SEED_CODER], false, false),
        "bailingmoe" => (&[BAILING], false, false),
        "gpt-4o" | "llama4" | "kanana2" => (&[GPT4O], false, false),
        "falcon" => (&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"], false, false),
        "deepseek-llm" => (
            &["[\r\n]", DEEPSEEK_LETTERS, DEEPSEEK_PUNCTUATION, r"\s+$", HAN, r"\p{N}+"],
            false,
            false,
        ),
        "deepseek-coder" => (&["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN, r"\p{N}"], false, false),
        "deepseek-v3" | "hunyuan-dense" => {
            (&[r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK3], false, false)
        }
        "poro-chat" | "bloom" | "gpt3-finnish" => (&[BLOOM], false, false),
        "viking" => (&[BLOOM, r"\p{N}"], false, false),
        "tekken" => (&[TEKKEN], true, true),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b"
        | "mellum2" => (&[r"\p{N}", GPT2], false, false),
        "gpt-2" | "gpt2" | "mpt" | "olmo" | "phi-2" | "jais" | "trillion" | "gigachat"
        | "exaone4" | "a.x-4.0" => (&[GPT2], false, false),
        _ => return None,
    };
    Some(WordSplit { patterns, whole, bos })
}

/// Builds the tokenizer that the metadata describe.
pub(super) fn read(meta: &Metadata) -> Result<Tokenizer, LoadError> {
    let model = meta.string("tokenizer.ggml.model")?;
    let missing = |key: &str| {
        meta.error(format!("has no metadata key {key}"), "take a model with its tokenizer")
    };
    let spelling = match model.ok_or_else(|| missing("tokenizer.ggml.model"))? {
        "gpt2" => Spelling::ByteLevel,
        "llama" => Spelling::SentencePiece,
        other => {
            let cure = "only \"gpt2\" and \"llama\" can be read, the kinds that Llamas have";
            return Err(meta.error(format!("the tokenizer's model is \"{other}\""), cure));
        }
    };
    let key = "tokenizer.ggml.tokens";
    let texts =
        meta.strings(key)?.filter(|tokens| !tokens.is_empty()).ok_or_else(|| missing(key))?;
    let kinds = meta.numbers("tokenizer.ggml.token_type")?;
    if let Some(kinds) = kinds.as_ref().filter(|kinds| kinds.len() != texts.len()) {
        let what =
            format!("has {} tokens and {} tokenizer.ggml.token_type", texts.len(), kinds.len());
        return Err(meta.error(what, CURE));
    }
    let kind = |id: usize| kinds.as_ref().map_or(1, |kinds| kinds[id] as u32);
    let tokens: Vec<Token> = (texts.iter().enumerate())
        .map(|(id, text)| {
            let kind = match kind(id) {
                2 | 3 | 5 => TokenKind::Control,
                4 => TokenKind::Literal,
                6 => super::vocabulary::byte(text).map_or(TokenKind::Piece, TokenKind::Byte),
                _ => TokenKind::Piece,
            };
            Token { text: text.clone(), kind, added: false }
        })
        .collect();

    let (mut inner, pieces, wants_bos) = match spelling {
        Spelling::ByteLevel => {
            let (inner, wants_bos) = byte_level(meta, texts)?;
            (inner, None, wants_bos)
        }
        Spelling::SentencePiece => {
            let (inner, pieces) = sentence_piece(meta, &tokens)?;
            (inner, Some(pieces), true)
        }
    };
    // Unused tokens (type 5) are left out: no text produces them.
    let added = (texts.iter().enumerate()).filter(|&(id, _)| matches!(kind(id), 2..=4));
    let added =
        added.map(|(id, text)| AddedToken::from(text.clone(), kind(id) != 4).normalized(false));
    catch_panic(|| inner.add_tokens(added).map_err(|e| e.to_string()))
        .and_then(|added| added)
        .map_err(|e| meta.error(format!("the special tokens can't be read: {e}"), CURE))?;

    // As in llama.cpp: an id outside the vocabulary (4294967295 or -1 for "none") counts as absent,
    // and SentencePiece vocabularies default to 1 for BOS and 2 for EOS.
    let known = |id: &usize| *id < tokens.len();
    let id = |name: &str| -> Result<Option<TokenId>, LoadError> {
        let id = meta.integer(&format!("tokenizer.ggml.{name}_token_id"))?;
        Ok(id.and_then(|id| usize::try_from(id).ok()).filter(known).map(|id| id as TokenId))
    };
    let usual = |id: usize| {
        (spelling == Spelling::SentencePiece).then_some(id).filter(known).map(|id| id as TokenId)
    };
    let special = SpecialTokens { bos: id("bos")?.or(usual(1)), eos: id("eos")?.or(usual(2)) };
    let bos = special.bos.filter(|_| wants_bos);
    let mut named: Vec<TokenId> =
        [special.eos, id("eot")?, id("eom")?].into_iter().flatten().collect();
    for (key, spellings) in super::vocabulary::FILL_IN_STOPS {
        let spelled = tokens.iter().position(|token| spellings.contains(&token.text.as_str()));
        named.extend(id(key)?.or(spelled.map(|id| id as TokenId)));
    }
    let stop = Tokenizer::find_stops(&tokens, named);
    let wanted = meta.flag("tokenizer.ggml.add_bos_token")?;
    let bos = wanted.map_or(bos, |wanted| special.bos.filter(|_| wanted));
    Ok(Tokenizer {
        path: meta.path().to_owned(),
        inner: Mutex::new(inner),
        pieces,
        tokens,
        spelling,
        bos,
        special,
        stop,
    })
}

fn vocabulary(texts: impl Iterator<Item = String>) -> Vocab {
    texts.enumerate().map(|(id, text)| (text, id as TokenId)).collect()
}

fn build(meta: &Metadata, builder: BpeBuilder) -> Result<tokenizers::Tokenizer, LoadError> {
    let bpe = catch_panic(|| builder.build().map_err(|e| e.to_string()))
        .and_then(|bpe| bpe)
        .map_err(|e| meta.error(format!("the tokenizer can't be built: {e}"), CURE))?;
    Ok(tokenizers::Tokenizer::new(bpe))
}

/// Builds byte-level BPE.
///
/// Also returns true if its kind uses a BOS token by default.
fn byte_level(
    meta: &Metadata,
    texts: &[String],
) -> Result<(tokenizers::Tokenizer, bool), LoadError> {
    let pre = meta.string("tokenizer.ggml.pre")?.unwrap_or("default");
    let Some(words) = words(pre) else {
        return Err(meta.error(
            format!("tokenizer.ggml.pre is \"{pre}\", which is not known"),
            "take another model",
        ));
    };
    let key = "tokenizer.ggml.merges";
    let merges =
        meta.strings(key)?.ok_or_else(|| meta.error(format!("has no metadata key {key}"), CURE))?;
    let longest = texts.iter().map(String::len).max().unwrap_or(0);
    let merges = (merges.iter().enumerate()).map(|(i, merge)| match merge.split_once(' ') {
        // The builder relies on every merge making a token.
        Some((a, b)) if a.len() + b.len() <= longest => Ok((a.to_owned(), b.to_owned())),
        _ => Err(meta.error(format!("{key}: entry {i}, {merge:?}, makes no token"), CURE)),
    });
    let merges: Merges = merges.collect::<Result<_, _>>()?;
    let builder = BPE::builder()
        .vocab_and_merges(vocabulary(texts.iter().cloned()), merges)
        .ignore_merges(words.whole);
    let mut inner = build(meta, builder)?;
    let splits = words.patterns.iter().map(|&pattern| {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map(PreTokenizerWrapper::from)
    });
    let mut steps = splits
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| meta.error(format!("tokenizer.ggml.pre {pre}: {e}"), CURE))?;
    steps.push(ByteLevel::new(false, false, false).into());
    inner.with_pre_tokenizer(Some(Sequence::new(steps)));
    Ok((inner, words.bos))
}

/// Builds SentencePiece BPE: a tokenizer that splits texts, and the scored pieces.
///
/// The tokenizer has no merges; it splits texts at special tokens and spells them.
fn sentence_piece(
    meta: &Metadata,
    tokens: &[Token],
) -> Result<(tokenizers::Tokenizer, Pieces), LoadError> {
    let key = "tokenizer.ggml.scores";
    let scores =
        meta.numbers(key)?.ok_or_else(|| meta.error(format!("has no metadata key {key}"), CURE))?;
    if scores.len() != tokens.len() || scores.iter().any(|score| score.is_nan()) {
        let what = format!(
            "{key} has {} numbers for {} tokens, or one that is none",
            scores.len(),
            tokens.len()
        );
        return Err(meta.error(what, CURE));
    }
    if let Some(id) = tokens
        .iter()
        .position(|token| token.kind == TokenKind::Piece && token.text.len() > LONGEST_PIECE)
    {
        let what = format!(
            "token {id} has {} bytes, where pieces have at most {LONGEST_PIECE}",
            tokens[id].text.len()
        );
        return Err(meta.error(what, CURE));
    }
    let unknown = meta
        .integer("tokenizer.ggml.unknown_token_id")?
        .and_then(|id| usize::try_from(id).ok())
        .unwrap_or(0);
    let all = || tokens.iter().zip(0 as TokenId..);
    let own = all().zip(&scores).filter(|((token, _), _)| token.kind == TokenKind::Piece);
    let own = own.map(|((token, id), score)| (token.text.as_str().into(), id, *score as f32));
    let bytes = all().filter_map(|(token, id)| match token.kind {
        TokenKind::Byte(byte) => Some((byte, id)),
        _ => None,
    });
    let unknown = Some(unknown).filter(|id| *id < tokens.len()).map(|id| id as TokenId);
    let pieces = Pieces::new(own, bytes, unknown);
    let vocab = vocabulary(tokens.iter().map(|token| token.text.clone()));
    let mut inner = build(meta, BPE::builder().vocab_and_merges(vocab, Merges::new()))?;
    let spaces = Replace::new(" ", "\u{2581}")
        .map_err(|e| meta.error(format!("the tokenizer can't be built: {e}"), CURE))?;
    let mut steps: Vec<NormalizerWrapper> = vec![spaces.into()];
    if meta.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
        steps.insert(0, Prepend::new("\u{2581}".to_owned()).into());
    }
    let steps = tokenizers::normalizers::Sequence::new(steps);
    inner
        .with_normalizer(Some(steps))
        .map_err(|e| meta.error(format!("the tokenizer can't be built: {e}"), CURE))?;
    Ok((inner, pieces))
}
