//! Helpers for tests of drafters.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use super::{Candidate, Context, DraftError, Drafter, VerifyFeedback};
use crate::distribution::Sampling;
use crate::engine::testing::TableDecoder;
use crate::tree::{TokenId, TokenTree};

/// Returns the candidates of `drafter` after `text`, with a vocabulary of 8 tokens.
pub fn candidates_after(
    drafter: &mut dyn Drafter,
    text: &[TokenId],
    stop: &[TokenId],
) -> Vec<Candidate> {
    let mut target = TableDecoder::new(8, 0);
    let mut cx = Context { tokens: text, target: &mut target, warp: &Sampling::PLAIN, stop };
    drafter.begin(&mut cx).unwrap();
    let tree = TokenTree::new(text[text.len() - 1]);
    drafter.propose(&mut cx, &tree, &[0], 8).unwrap().remove(0)
}

/// Drafter whose candidates depend on the path alone: `law(path)`, without stop tokens.
pub struct Fixed<F: Fn(&[TokenId]) -> Vec<Candidate> + Send> {
    law: F,
    /// Number of calls of `propose`.
    pub rounds: usize,
    /// Outcomes that `learn` received.
    pub feedback: Arc<Mutex<Vec<VerifyFeedback>>>,
}

impl<F: Fn(&[TokenId]) -> Vec<Candidate> + Send> Fixed<F> {
    pub fn new(law: F) -> Self {
        Self { law, rounds: 0, feedback: Arc::default() }
    }
}

impl<F: Fn(&[TokenId]) -> Vec<Candidate> + Send> Drafter for Fixed<F> {
    fn name(&self) -> &'static str {
        "fixed"
    }
    fn cost(&self) -> String {
        String::new()
    }
    fn reset(&mut self) {}
    fn begin(&mut self, _: &mut Context) -> Result<(), DraftError> {
        Ok(())
    }
    fn propose(
        &mut self,
        _: &mut Context,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        self.rounds += 1;
        let below = |&node: &usize| {
            let path: Vec<TokenId> = tree.path(node).into_iter().map(|n| tree.token(n)).collect();
            let mut best = (self.law)(&path);
            best.sort_by(|a, b| b.q.total_cmp(&a.q).then(a.token.cmp(&b.token)));
            best.truncate(width);
            best
        };
        Ok(nodes.iter().map(below).collect())
    }
    fn learn(&mut self, verified: &VerifyFeedback) {
        self.feedback.lock().unwrap().push(verified.clone());
    }
    fn at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        Err(DraftError::Unfit("a drafter for tests has one text".into()))
    }
}
