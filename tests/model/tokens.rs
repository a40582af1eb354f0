//! The real model's tokenizer against llama.cpp's, which wrote the cases
//! (`tests/data/tokens.json`).

use speclight::model::Tokenizer;
use speclight::model::format::weights::Weights;

#[derive(serde::Deserialize)]
struct Golden {
    smollm2: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    /// Tokens of the text without special tokens.
    plain: Vec<u32>,
    /// Tokens of the text with special tokens parsed.
    special: Vec<u32>,
}

#[test]
fn tokens_are_those_of_llama_cpp() {
    let golden: Golden = serde_json::from_str(include_str!("../data/tokens.json")).unwrap();
    let tokenizer = Tokenizer::open(&Weights::open(&super::common::path()).unwrap()).unwrap();
    assert!(golden.smollm2.len() > 100);
    for case in golden.smollm2 {
        assert_eq!(tokenizer.encode(&case.text, false).unwrap(), case.plain, "{:?}", case.text);
        assert_eq!(tokenizer.encode(&case.text, true).unwrap(), case.special, "{:?}", case.text);
    }
    assert_eq!(tokenizer.len(), 49_152);
    assert_eq!((tokenizer.bos(), tokenizer.stop_tokens()), (None, &[0, 2, 4][..]));
    assert_eq!(tokenizer.bos_and_eos_texts(), ["<|im_start|>", "<|im_end|>"]);
}
