#![allow(clippy::unwrap_used)]

use std::path::Path;

use proptest::prelude::*;

use super::vocabulary::{FILL_IN_STOPS, STOPS, Spelling};
use super::*;
use crate::model::format::gguf;

/// GGUF file that has metadata and no tensors.
#[derive(Clone, Default)]
struct Keys(Vec<(String, Vec<u8>)>);

impl Keys {
    fn set(mut self, key: &str, ty: u32, value: Vec<u8>) -> Self {
        let key = format!("tokenizer.ggml.{key}");
        self.0.retain(|(k, _)| *k != key);
        self.0.push((key, [ty.to_le_bytes().to_vec(), value].concat()));
        self
    }

    fn without(mut self, key: &str) -> Self {
        self.0.retain(|(k, _)| *k != format!("tokenizer.ggml.{key}"));
        self
    }

    fn string(self, key: &str, value: &str) -> Self {
        self.set(key, 8, string(value))
    }

    fn strings<S: AsRef<str>>(self, key: &str, values: &[S]) -> Self {
        let head =
            [8u32.to_le_bytes().to_vec(), (values.len() as u64).to_le_bytes().to_vec()].concat();
        self.set(
            key,
            9,
            values.iter().fold(head, |all, value| [all, string(value.as_ref())].concat()),
        )
    }

    fn kinds(self, values: &[i32]) -> Self {
        let head =
            [5u32.to_le_bytes().to_vec(), (values.len() as u64).to_le_bytes().to_vec()].concat();
        self.set(
            "token_type",
            9,
            values.iter().fold(head, |all, value| [all, value.to_le_bytes().to_vec()].concat()),
        )
    }

    fn scores(self, values: &[f32]) -> Self {
        let head =
            [6u32.to_le_bytes().to_vec(), (values.len() as u64).to_le_bytes().to_vec()].concat();
        self.set(
            "scores",
            9,
            values.iter().fold(head, |all, value| [all, value.to_le_bytes().to_vec()].concat()),
        )
    }

    fn number(self, key: &str, value: u32) -> Self {
        self.set(key, 4, value.to_le_bytes().to_vec())
    }

    fn flag(self, key: &str, value: bool) -> Self {
        self.set(key, 7, vec![value.into()])
    }

    fn bytes(&self) -> Vec<u8> {
        let head =
            [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec(), 0u64.to_le_bytes().to_vec()].concat();
        let head = [head, (self.0.len() as u64).to_le_bytes().to_vec()].concat();
        self.0.iter().fold(head, |all, (key, value)| [all, string(key), value.clone()].concat())
    }

    fn read(&self) -> Result<Tokenizer, LoadError> {
        read(&self.bytes())
    }

    /// Returns the error of reading it, which must be a single line.
    fn refused(&self) -> String {
        let line = self.read().unwrap_err().to_string();
        assert!(line.starts_with("m.gguf: ") && line.lines().count() == 1, "{line}");
        line
    }
}

fn string(text: &str) -> Vec<u8> {
    [(text.len() as u64).to_le_bytes().as_slice(), text.as_bytes()].concat()
}

fn read(bytes: &[u8]) -> Result<Tokenizer, LoadError> {
    super::gguf::read(&gguf::read_header(bytes, bytes.len() as u64, Path::new("m.gguf"))?.metadata)
}

/// Texts and tokens from other implementations, over small vocabularies.
#[derive(serde::Deserialize)]
struct Golden {
    /// From the sentencepiece library.
    sentencepiece: Family,
    /// Byte-level, from tiktoken with Llama 3's pattern.
    llama3: Family,
}

#[derive(serde::Deserialize)]
struct Family {
    tokens: Vec<String>,
    #[serde(default)]
    scores: Vec<f32>,
    #[serde(default)]
    kinds: Vec<i32>,
    #[serde(default)]
    merges: Vec<String>,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    ids: Vec<TokenId>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../tests/data/tokens.json")).unwrap()
}

fn sentence_piece() -> Keys {
    let f = golden().sentencepiece;
    let keys = Keys::default()
        .string("model", "llama")
        .strings("tokens", &f.tokens)
        .scores(&f.scores)
        .kinds(&f.kinds);
    keys.number("bos_token_id", 1).number("eos_token_id", 2)
}

fn byte_level() -> Keys {
    let f = golden().llama3;
    Keys::default()
        .string("model", "gpt2")
        .string("pre", "llama-bpe")
        .strings("tokens", &f.tokens)
        .strings("merges", &f.merges)
}

fn agree(tokenizer: &Tokenizer, cases: &[Case]) {
    assert!(cases.len() > 90);
    let bytes = tokenizer.token_bytes();
    for case in cases {
        let ids = tokenizer.encode(&case.text, false).unwrap();
        assert_eq!(ids, case.ids, "{:?}", case.text);
        let back: Vec<u8> = ids.iter().flat_map(|&id| bytes[id as usize].to_vec()).collect();
        let back = String::from_utf8(back).unwrap();
        assert_eq!(
            back.strip_prefix(' ')
                .filter(|_| tokenizer.spelling == Spelling::SentencePiece)
                .unwrap_or(&back),
            case.text
        );
    }
}

#[test]
fn pieces_are_those_of_sentencepiece() {
    agree(&sentence_piece().read().unwrap(), &golden().sentencepiece.cases);
}

#[test]
fn byte_level_tokens_are_those_of_tiktoken() {
    agree(&byte_level().read().unwrap(), &golden().llama3.cases);
}

/// Against llama.cpp's ids, with merges that go beyond words wherever a rule does not split.
#[test]
fn words_are_those_of_llama_cpp_for_each_rule() {
    #[derive(serde::Deserialize)]
    struct Words {
        tokens: Vec<String>,
        merges: Vec<String>,
        texts: Vec<String>,
        kinds: Vec<Kind>,
    }
    #[derive(serde::Deserialize)]
    struct Kind {
        names: Vec<String>,
        ids: Vec<Vec<TokenId>>,
    }
    let words: Words =
        serde_json::from_str(include_str!("../../../tests/data/words.json")).unwrap();
    let names: usize = words.kinds.iter().map(|kind| kind.names.len()).sum();
    assert!(names >= 50 && words.kinds.len() >= 12);
    for kind in &words.kinds {
        for name in &kind.names {
            let keys = Keys::default()
                .string("model", "gpt2")
                .string("pre", name)
                .strings("tokens", &words.tokens)
                .strings("merges", &words.merges);
            let tokenizer = keys.read().unwrap();
            for (text, ids) in words.texts.iter().zip(&kind.ids) {
                assert_eq!(tokenizer.encode(text, false).unwrap(), *ids, "{name}: {text:?}");
            }
        }
    }
}

#[test]
fn special_tokens_are_parsed_on_demand_and_add_nothing() {
    let tokens = ["<s>", "</s>", "a", "b", "ab", "<tool>", "<|im_end|>"];
    let keys =
        Keys::default().string("model", "gpt2").string("pre", "gpt-2").strings("tokens", &tokens);
    let keys = keys
        .strings("merges", &["a b"])
        .kinds(&[3, 3, 1, 1, 1, 4, 3])
        .number("bos_token_id", 0)
        .number("eos_token_id", 1);
    let t = keys.read().unwrap();
    assert_eq!(t.encode("<s>ab<tool></s>", true).unwrap(), [0, 4, 5, 1]);
    // The letters of <s> are not in this vocabulary and are dropped; a literal is always parsed.
    assert_eq!(t.encode("<s>ab<tool>", false).unwrap(), [4, 5]);
    let bytes: Vec<&[u8]> = vec![b"", b"", b"a", b"b", b"ab", b"<tool>", b""];
    assert_eq!(t.token_bytes().iter().map(|b| &**b).collect::<Vec<_>>(), bytes);
    let control: Vec<_> = t.control_tokens().collect();
    assert_eq!(control, [(0, "<s>"), (1, "</s>"), (6, "<|im_end|>")]);
    // The end token, and a token with the spelling of a stop token.
    assert_eq!(
        (t.stop_tokens(), t.bos(), t.bos_and_eos_texts()),
        (&[1, 6][..], None, ["<s>", "</s>"])
    );
    assert_eq!((t.token_text(4), t.token_text(7), t.len()), (Some("ab"), None, 7));
    assert_eq!(keys.clone().flag("add_bos_token", true).read().unwrap().bos(), Some(0));
    assert_eq!(keys.string("pre", "llama-bpe").read().unwrap().bos(), Some(0));
}

#[test]
fn sentencepiece_adds_a_leading_space_unless_disabled() {
    let keys = sentence_piece();
    let t = keys.read().unwrap();
    assert_eq!(t.bos(), Some(1));
    assert_eq!(t.stop_tokens(), [2]);
    let without =
        keys.clone().flag("add_space_prefix", false).flag("add_bos_token", false).read().unwrap();
    assert_eq!(without.encode(" model", false).unwrap(), t.encode("model", false).unwrap());
    assert_eq!(without.bos(), None);
    // A character that is in no piece becomes its bytes.
    let ids = t.encode("\u{10348}", false).unwrap();
    let spelled: Vec<&str> = ids.iter().map(|&id| t.token_text(id).unwrap()).collect();
    assert_eq!(spelled, ["\u{2581}", "<0xF0>", "<0x90>", "<0x8D>", "<0x88>"]);
}

#[test]
fn damaged_metadata_is_refused_with_one_line() {
    let (good, pieces) = (byte_level(), sentence_piece());
    for (keys, said) in [
        (good.clone().without("model"), "has no metadata key tokenizer.ggml.model"),
        (good.clone().string("model", "bert"), "the tokenizer's model is \"bert\""),
        (
            good.clone().number("model", 1),
            "tokenizer.ggml.model is an integer where a string was expected",
        ),
        (good.clone().without("tokens"), "has no metadata key tokenizer.ggml.tokens"),
        (good.clone().strings::<&str>("tokens", &[]), "has no metadata key tokenizer.ggml.tokens"),
        (good.clone().string("pre", "of-tomorrow"), "tokenizer.ggml.pre is \"of-tomorrow\""),
        (good.clone().without("merges"), "has no metadata key tokenizer.ggml.merges"),
        (good.clone().strings("merges", &["ab"]), "entry 0, \"ab\", makes no token"),
        (good.clone().strings("merges", &["a b", &format!("a {}", "b".repeat(999))]), "entry 1, "),
        (good.clone().strings("merges", &["\u{1} q"]), "the tokenizer can't be built"),
        (good.clone().kinds(&[1, 1]), "has 700 tokens and 2 tokenizer.ggml.token_type"),
        (pieces.clone().without("scores"), "has no metadata key tokenizer.ggml.scores"),
        (pieces.clone().scores(&[0.0]), "tokenizer.ggml.scores has 1 numbers for 700 tokens"),
        (pieces.clone().scores(&[f32::NAN; 700]), "or one that is none"),
    ] {
        let line = keys.refused();
        assert!(line.contains(said), "{line}");
    }
}

#[test]
fn differing_vocabularies_name_the_first_different_token() {
    let keys = byte_level();
    let (a, mut tokens) = (keys.read().unwrap(), golden().llama3.tokens);
    assert_eq!(same_vocabulary(&a, &keys.read().unwrap()), Ok(()));
    let other = |tokens: &[String]| {
        keys.clone().strings("tokens", tokens).strings::<&str>("merges", &[]).read().unwrap()
    };
    // More tokens at the end of either, as from padding.
    tokens.push("[PAD700]".into());
    assert_eq!(same_vocabulary(&a, &other(&tokens)), Ok(()));
    assert_eq!(same_vocabulary(&other(&tokens), &a), Ok(()));
    tokens[5] = "\n".into();
    let line = same_vocabulary(&a, &other(&tokens)).unwrap_err();
    assert!(
        line.contains("token 5 is \"&\" for the target and \"\\n\" for the draft model"),
        "{line}"
    );
    assert!(same_vocabulary(&other(&tokens), &a).is_err());
}

#[test]
fn pieces_of_equal_score_are_joined_as_in_llama_cpp() {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
    tokens.extend((0..256).map(|b| format!("<0x{b:02X}>")));
    let bytes = tokens.len();
    let words = [
        "\u{2581}h",
        "\u{2581}he",
        "he",
        "el",
        "ll",
        "llo",
        "hel",
        "ello",
        "lo",
        "\u{2581}\u{2581}",
    ];
    tokens.extend(words.map(String::from));
    tokens.extend(["\u{2581}", "h", "e", "l", "o"].map(String::from));
    let kind = |i: usize| match i {
        0 => 2,
        1 | 2 => 3,
        i if i < bytes => 6,
        _ => 1,
    };
    let kinds: Vec<i32> = (0..tokens.len()).map(kind).collect();
    let scores: Vec<f32> =
        kinds.iter().map(|kind| if *kind == 1 { -1000.0 } else { 0.0 }).collect();
    let keys = Keys::default().string("model", "llama").strings("tokens", &tokens);
    let tokenizer = keys.kinds(&kinds).scores(&scores).read().unwrap();
    let id = |text: &str| tokens.iter().position(|token| token == text).unwrap() as TokenId;
    // Tokens of llama.cpp for this vocabulary.
    let want = [id("\u{2581}\u{2581}"), id("hel"), id("lo")];
    assert_eq!(tokenizer.encode(" hello", false).unwrap(), want);
    // A character that is no piece, between pieces: its bytes.
    let around = [id("\u{2581}h"), 3 + 0xc3, 3 + 0xa9, id("he")];
    assert_eq!(tokenizer.encode("h\u{e9}he", false).unwrap(), around);
    // Control tokens split a text only where they may stand for themselves.
    assert_eq!(tokenizer.encode("he</s>he", true).unwrap()[1], 2);
    assert!(!tokenizer.encode("he</s>he", false).unwrap().contains(&2));
}

#[test]
fn tokens_that_end_a_text_are_those_of_llama_cpp() {
    let stops = |special: &[&str]| {
        let tokens: Vec<&str> = ["a", "b"].iter().chain(special).copied().collect();
        let keys = Keys::default().string("model", "gpt2").string("pre", "gpt-2");
        let keys = keys.strings("tokens", &tokens).strings::<&str>("merges", &[]);
        let kinds: Vec<i32> = (0..tokens.len()).map(|i| if i < 2 { 1 } else { 3 }).collect();
        let tokenizer = keys.kinds(&kinds).read().unwrap();
        tokenizer.stop_tokens().iter().map(|id| tokens[*id as usize].to_owned()).collect::<Vec<_>>()
    };
    for spelling in STOPS {
        assert_eq!(stops(&[spelling]), [spelling]);
    }
    for (_, spellings) in FILL_IN_STOPS {
        assert_eq!(stops(spellings), spellings[..1], "the first of them");
    }
    assert_eq!(stops(&["<|start|>", "<think>", "<|im_start|>", "<bos>"]), [""; 0]);
    // What only ends a part of a text, or is plain text, where other tokens end it.
    assert_eq!(stops(&["<|end|>", "<|return|>", "<|call|>"]), ["<|return|>", "<|call|>"]);
    assert_eq!(stops(&["<|end|>", "<|calls|>", "<|flush|>"]), ["<|calls|>", "<|flush|>"]);
    assert_eq!(stops(&["<|end|>", "<|return|>"]), ["<|end|>", "<|return|>"]);
    assert_eq!(stops(&["</s>", "<|tool_response>"]), ["<|tool_response>"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn encoded_text_decodes_to_itself(text in any::<String>()) {
        thread_local! {
            static BOTH: [Tokenizer; 2] = [byte_level().read().unwrap(), sentence_piece().read().unwrap()];
        }
        BOTH.with(|both| -> Result<(), TestCaseError> {
            for t in both {
                let bytes = t.token_bytes();
                let ids = t.encode(&text, false).unwrap();
                let back: Vec<u8> = ids.iter().flat_map(|&id| bytes[id as usize].to_vec()).collect();
                let back = String::from_utf8(back).unwrap();
                // SentencePiece puts a space before a text, and can't tell its own mark from a
                // space.
                let (back, text) = match t.spelling {
                    Spelling::ByteLevel => (back.as_str(), text.clone()),
                    Spelling::SentencePiece => (back.strip_prefix(' ').unwrap_or(&back), text.replace('\u{2581}', " ")),
                };
                prop_assert_eq!(back, text);
            }
            Ok(())
        })?;
    }

    #[test]
    fn damaged_bytes_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let small = ["<s>", "a", "b", "ab", "\u{2581}a"];
        let keys = Keys::default().strings("tokens", &small).strings("merges", &["a b"]).kinds(&[3, 1, 1, 1, 1]).scores(&[0.0; 5]);
        for model in ["gpt2", "llama"] {
            let mut bytes = keys.clone().string("model", model).bytes();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            match read(&bytes) {
                Ok(t) => drop((t.encode("<s>ab a\u{2581}", true), t.token_bytes())),
                Err(e) => prop_assert_eq!(e.to_string().lines().count(), 1),
            }
        }
    }
}

#[test]
fn missing_or_invalid_special_token_ids_use_defaults() {
    // As in llama.cpp: SentencePiece uses 1 and 2 by default, and ids outside the vocabulary are
    // ignored.
    let bare = sentence_piece().without("bos_token_id").without("eos_token_id");
    for keys in [
        bare.clone(),
        bare.clone().number("bos_token_id", u32::MAX).number("eos_token_id", 1 << 20),
    ] {
        let tokenizer = keys.read().unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.special.eos), (Some(1), Some(2)));
        assert!(tokenizer.stop_tokens().contains(&2));
    }
    let minus = bare.set("eos_token_id", 5, (-1i32).to_le_bytes().to_vec());
    assert_eq!(minus.read().unwrap().special.eos, Some(2));
    let other = byte_level().number("eos_token_id", u32::MAX).read().unwrap();
    assert_eq!((other.bos(), other.special.eos), (None, None));
}

#[test]
fn long_pieces_are_refused_and_many_prefixes_cost_nothing() {
    let vocabulary = |pieces: Vec<String>| {
        let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).to_vec();
        tokens.extend(pieces);
        let kinds: Vec<i32> = (0..tokens.len()).map(|i| if i < 3 { 3 } else { 1 }).collect();
        Keys::default()
            .string("model", "llama")
            .strings("tokens", &tokens)
            .scores(&vec![0.0; kinds.len()])
            .kinds(&kinds)
    };
    let line = vocabulary(vec!["a".into(), "a".repeat(1_000_000)]).refused();
    assert!(line.contains("token 4 has 1000000 bytes"), "{line}");
    // a^i b^j: every piece can be split at every character.
    let pieces: Vec<String> = (0..100)
        .flat_map(|i| (0..100).map(move |j| "a".repeat(i) + &"b".repeat(j)))
        .skip(1)
        .collect();
    let tokenizer = vocabulary(pieces.clone()).flag("add_space_prefix", false).read().unwrap();
    let text = "a".repeat(70) + &"b".repeat(99);
    let ids = tokenizer.encode(&text, false).unwrap();
    let spelled: String = ids.iter().map(|id| pieces[*id as usize - 3].as_str()).collect();
    assert!(spelled == text && ids.len() < 20, "{ids:?}");
}
