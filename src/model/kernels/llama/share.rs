//! How a pass is shared out among the threads.

use std::ops::Range;

use super::super::pool::Worker;
use super::super::stages::{Clock, Stage};
use super::super::tile::Mat;
use super::{Batch, Layer, Llama};

/// What of a pass is one thread's.
pub(in super::super) struct Share<'a> {
    /// The thread.
    pub worker: &'a Worker<'a>,
    /// The tokens of which it computes something.
    tokens: Range<usize>,
    /// Whether it does all for these tokens by itself. Else it does a part of each stage for them.
    pub apart: bool,
}

impl<'a> Share<'a> {
    /// A part of each stage for `tokens`.
    pub fn of_stages(worker: &'a Worker<'a>, tokens: Range<usize>) -> Self {
        Share { worker, tokens, apart: false }
    }

    /// What of a pass is a thread's: a part of each stage for all tokens; or all stages for a part of the tokens, where these are so
    /// many that every thread may read all weights. Then a thread finds what it reads in its own caches, but for keys and values,
    /// which counts where the threads are `far` from each other. (A unit for sixteen wants all tokens.)
    pub fn of_pass(llama: &Llama, worker: &'a Worker<'a>, pass: &Batch, far: bool) -> Self {
        let (m, count) = (pass.tokens.len(), worker.count);
        let enough = if far { FAR } else { NEAR } * count * count;
        if count == 1 || llama.front.is_some() || llama.kernel.sixteen.is_some() || m < enough {
            return Self::of_stages(worker, 0..m);
        }
        let c = &llama.config;
        let weights: usize = llama.layers.iter().take(pass.layers).map(Layer::weights).sum();
        let seen = ATTENTION * 2 * pass.layers * c.heads * c.head_dim;
        let cost = |t: usize| weights + seen * pass.paths.sight(t, pass.len).end;
        let all: usize = (0..m).map(cost).sum();
        // The first token before which so many of equal parts of the work are done.
        let cut = |parts: usize| {
            let mut done = 0;
            let behind = |&t: &usize| {
                let behind = done * count < all * parts;
                done += cost(t);
                behind
            };
            let n = (0..m).take_while(behind).count();
            // In fours: attention and products take some tokens at once.
            if n == m { m } else { (n + 2) / 4 * 4 }
        };
        Share { worker, tokens: cut(worker.index)..cut(worker.index + 1), apart: true }
    }

    /// The share of `n` equal things that are computed of each token.
    pub fn of(&self, n: usize) -> Range<usize> {
        if self.apart { 0..n } else { self.worker.share(n) }
    }

    /// The tokens of which it computes such things.
    pub fn rows(&self) -> Range<usize> {
        self.tokens.clone()
    }

    /// The tokens of which it computes what is not shared out.
    pub fn own(&self) -> Range<usize> {
        self.own_of(1)
    }

    /// The same of `n` things for each token, numbered by token.
    pub fn own_of(&self, n: usize) -> Range<usize> {
        let (first, all) = (self.tokens.start * n, self.tokens.len() * n);
        let own = if self.apart { 0..all } else { self.worker.share(all) };
        first + own.start..first + own.end
    }

    /// Ends a stage whose results are read by all that compute something of the same tokens.
    pub fn meet(&self, clock: &Clock, stage: Stage) {
        if self.apart { clock.lap(stage) } else { clock.meet(stage, self.worker) }
    }
}

impl Layer {
    fn weights(&self) -> usize {
        let mixing = self.attention.iter().flat_map(|a| a.qkv.iter().chain([&a.output]));
        mixing.chain([&self.gate, &self.up, &self.down]).map(Mat::size).sum()
    }
}

/// So many times the square of the number of threads must tokens be to be shared out where cores share no cache: every thread reads all
/// weights then, and that must take less time than computing with them.
const FAR: usize = 4;
/// The same where they share one: there, fewer are faster by stages.
const NEAR: usize = 64;

/// How much longer a multiply-add of attention takes than one of weights.
const ATTENTION: usize = 3;
