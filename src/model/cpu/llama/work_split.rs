//! Work split of a pass among the threads.
//!
//! A pass is split by stages (each thread computes a part of every stage for all tokens) or by
//! tokens (each thread runs all stages for some tokens).

use std::ops::Range;

use super::super::pool::Worker;
use super::super::stages::{Clock, Stage};
use super::super::tile::PackedMatrix;
use super::{Batch, Layer, Llama};

/// One thread's part of a pass.
pub(in super::super) struct WorkSplit<'a> {
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

    /// Splits a pass by stages, or by tokens if there are enough of them.
    ///
    /// In a split by tokens every thread reads all weights, and finds everything that it reads in
    /// its own caches, except keys and values. That matters if the threads are `far` from each
    /// other, on cores that share no cache. A matrix unit needs all tokens, so its passes are split
    /// by stages.
    pub fn for_pass(llama: &Llama, worker: &'a Worker<'a>, pass: &Batch, far: bool) -> Self {
        let (m, count) = (pass.tokens.len(), worker.count);
        let enough = if far { MIN_FAR_TOKENS } else { MIN_NEAR_TOKENS } * count * count;
        if count == 1 || llama.front.is_some() || llama.kernel.sixteen.is_some() || m < enough {
            return Self::by_stages(worker, 0..m);
        }
        let c = &llama.config;
        let weights: usize = llama.layers.iter().take(pass.layers).map(Layer::weights).sum();
        let seen = ATTENTION_COST * 2 * pass.layers * c.heads * c.head_dim;
        let cost = |t: usize| weights + seen * pass.paths.visibility(t, pass.len).end;
        let all: usize = (0..m).map(cost).sum();
        // Returns the first token before which `parts` of `count` equal parts of the work are done.
        let cut = |parts: usize| {
            let mut done = 0;
            let behind = |&t: &usize| {
                let behind = done * count < all * parts;
                done += cost(t);
                behind
            };
            let n = (0..m).take_while(behind).count();
            // Rounded to multiples of four: attention and products take several tokens at once.
            if n == m { m } else { (n + 2) / 4 * 4 }
        };
        WorkSplit { worker, tokens: cut(worker.index)..cut(worker.index + 1), by_token: true }
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

impl Layer {
    fn weights(&self) -> usize {
        let mixing = self.attention.iter().flat_map(|a| a.qkv.iter().chain([&a.output]));
        mixing.chain([&self.gate, &self.up, &self.down]).map(PackedMatrix::size).sum()
    }
}

/// Minimum token count for a split by tokens, per squared thread count, without a shared cache.
///
/// Every thread then reads all weights, which must take less time than computing with them.
const MIN_FAR_TOKENS: usize = 4;
/// Same with a shared cache, where fewer tokens are faster split by stages.
const MIN_NEAR_TOKENS: usize = 64;

/// Cost of a multiply-add of attention, relative to one of weights.
const ATTENTION_COST: usize = 3;
