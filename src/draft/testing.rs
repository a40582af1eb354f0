//! Helpers for tests of drafters.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use super::{Candidate, DraftError, DraftRequest, Drafter, DrafterInfo, VerifyFeedback};
use crate::engine::testing::TableDecoder;
use crate::tree::{TokenId, TokenTree};

/// Returns the candidates of `drafter` after `text`, with a vocabulary of 8 tokens.
pub fn candidates_after(
    drafter: &mut dyn Drafter,
    text: &[TokenId],
    stop: &[TokenId],
) -> Vec<Candidate> {
    let mut target = TableDecoder::new(8, 0);
    let mut request = DraftRequest { stop, ..DraftRequest::new(text, &mut target) };
    drafter.begin(&mut request).unwrap();
    let tree = TokenTree::new(text[text.len() - 1]);
    drafter.propose(&mut request, &tree, &[0], 8).unwrap().remove(0)
}

/// Drafter whose candidates depend on the path alone: `propose_after(path)`, without stop tokens.
pub struct Fixed<F: Fn(&[TokenId]) -> Vec<Candidate> + Send> {
    propose_after: F,
    /// Number of calls of `propose`.
    pub rounds: usize,
    /// Outcomes that `learn` received.
    pub feedback: Arc<Mutex<Vec<VerifyFeedback>>>,
}

impl<F: Fn(&[TokenId]) -> Vec<Candidate> + Send> Fixed<F> {
    pub fn new(propose_after: F) -> Self {
        Self { propose_after, rounds: 0, feedback: Arc::default() }
    }
}

impl<F: Fn(&[TokenId]) -> Vec<Candidate> + Send> Drafter for Fixed<F> {
    fn info(&self) -> DrafterInfo {
        DrafterInfo::new("fixed", "")
    }
    fn reset(&mut self) {}
    fn begin(&mut self, _: &mut DraftRequest) -> Result<(), DraftError> {
        Ok(())
    }
    fn propose(
        &mut self,
        _: &mut DraftRequest,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        self.rounds += 1;
        let below = |&node: &usize| {
            let path: Vec<TokenId> = tree.path(node).into_iter().map(|n| tree.token(n)).collect();
            let mut best = (self.propose_after)(&path);
            best.sort_by(|a, b| b.q.total_cmp(&a.q).then(a.token.cmp(&b.token)));
            best.truncate(width);
            best
        };
        Ok(nodes.iter().map(below).collect())
    }
    fn learn(&mut self, feedback: &VerifyFeedback) {
        self.feedback.lock().unwrap().push(feedback.clone());
    }
    fn fork_at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        Err(DraftError::Unfit("a drafter for tests has one text".into()))
    }
}
