//! Work split of a pass among the threads.
//!
//! A pass is split by stages (each thread computes a part of every stage for all tokens) or by
//! tokens (each thread runs all stages for some tokens).

use std::ops::Range;

use super::pool::Worker;
use super::stages::{Clock, Stage};

/// One thread's part of a pass.
pub(super) struct WorkSplit<'a> {
    /// Thread that does this part.
    pub worker: &'a Worker<'a>,
    /// Tokens for which the thread computes something.
    tokens: Range<usize>,
    /// Set if the thread runs all stages for these tokens, instead of parts of each.
    pub by_token: bool,
}

impl<'a> WorkSplit<'a> {
    /// Assigns a part of each stage for `tokens`.
    pub fn by_stages(worker: &'a Worker<'a>, tokens: Range<usize>) -> Self {
        WorkSplit { worker, tokens, by_token: false }
    }

    /// Assigns whole stages for `tokens` alone.
    pub fn by_tokens(worker: &'a Worker<'a>, tokens: Range<usize>) -> Self {
        WorkSplit { worker, tokens, by_token: true }
    }

    /// Range of `n` equal items (tiles, blocks) that this thread computes for each token.
    pub fn items(&self, n: usize) -> Range<usize> {
        if self.by_token { 0..n } else { self.worker.items(n) }
    }

    /// Tokens for which the thread computes such items.
    pub fn token_range(&self) -> Range<usize> {
        self.tokens.clone()
    }

    /// Tokens for which the thread computes whole rows, where a row is not split.
    pub fn whole_rows(&self) -> Range<usize> {
        self.token_items(1)
    }

    /// Range of items that the thread computes, with `n` items per token.
    ///
    /// Items are numbered by token.
    pub fn token_items(&self, n: usize) -> Range<usize> {
        let (first, all) = (self.tokens.start * n, self.tokens.len() * n);
        let own = if self.by_token { 0..all } else { self.worker.items(all) };
        first + own.start..first + own.end
    }

    /// Ends a stage whose results all threads with the same tokens read.
    pub fn meet(&self, clock: &Clock, stage: Stage) {
        if self.by_token { clock.lap(stage) } else { clock.barrier(stage, self.worker) }
    }
}
