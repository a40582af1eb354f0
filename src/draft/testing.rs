//! What tests of drafters share.
#![allow(clippy::unwrap_used)]

use super::{Candidate, Context, Drafter};
use crate::dist::Warp;
use crate::engine::testing::TableDecoder;
use crate::tree::{TokenId, TokenTree};

/// What a drafter that is told `text` of a vocabulary of 8 tokens proposes after it.
pub fn ask(drafter: &mut dyn Drafter, text: &[TokenId], stop: &[TokenId]) -> Vec<Candidate> {
    let mut target = TableDecoder::new(8, 0);
    let mut cx = Context { tokens: text, target: &mut target, warp: &Warp::PLAIN, stop };
    drafter.begin(&mut cx).unwrap();
    let tree = TokenTree::new(text[text.len() - 1]);
    drafter.propose(&mut cx, &tree, &[0], 8).unwrap().remove(0)
}
