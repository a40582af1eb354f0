//! The real model.

use speclight::model::device::DeviceChoice;
use speclight::model::{Logits, Model, Node, Parent, Pass};

/// The token of the highest logit, the lowest number of several.
fn best(logits: &[f32]) -> u32 {
    (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}

#[test]
fn it_knows_the_capital_of_france() {
    let model = Model::open(&super::common::path(), DeviceChoice::Cpu, Some(2)).unwrap();
    assert_eq!(model.quantisation(), "Q4_1");
    let tokens = model.prompt_tokens("What is the capital of France?", false).unwrap();
    let mut decoder = model.decoder(64).unwrap();
    decoder.prefill(&tokens, 16, Logits::Last).unwrap();
    let bytes = model.tokenizer().token_bytes();
    let mut token = best(decoder.logits((tokens.len() - 1) % 16));
    let mut text = Vec::new();
    while !model.tokenizer().stop().contains(&token) && text.len() < 100 {
        text.extend_from_slice(&bytes[token as usize]);
        decoder.append(&[Node { token, parent: Parent::Context }], Pass::FULL).unwrap();
        token = best(decoder.logits(0));
        decoder.commit(&[0]).unwrap();
    }
    assert_eq!(String::from_utf8(text).unwrap(), "The capital of France is Paris.");
}
