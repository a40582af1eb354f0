//! Choice between the two splits of a pass, by the cost of its tokens.

use super::super::pool::Worker;
use super::super::tile::PackedMatrix;
use super::super::work_split::WorkSplit;
use super::forward::Batch;
use super::{Layer, Llama};

impl Llama {
    /// Splits a pass by stages, or by tokens if there are enough of them.
    ///
    /// In a split by tokens every thread reads all weights, and finds everything that it reads in
    /// its own caches, except keys and values. That matters if the threads are `far` from each
    /// other, on cores that share no cache. A matrix unit needs all tokens, so its passes are split
    /// by stages.
    pub(super) fn split_pass<'a>(
        &self,
        worker: &'a Worker<'a>,
        pass: &Batch,
        far: bool,
    ) -> WorkSplit<'a> {
        let (m, count) = (pass.tokens.len(), worker.count);
        let enough = if far { MIN_FAR_TOKENS } else { MIN_NEAR_TOKENS } * count * count;
        if count == 1
            || self.head_input.is_some()
            || self.kernel.matrix_unit.is_some()
            || m < enough
        {
            return WorkSplit::by_stages(worker, 0..m);
        }
        let c = &self.config;
        let weights: usize = self.layers.iter().take(pass.layers).map(Layer::weights).sum();
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
        WorkSplit::by_tokens(worker, cut(worker.index)..cut(worker.index + 1))
    }
}

impl Layer {
    fn weights(&self) -> usize {
        let mixing = self.attention.iter().flat_map(|a| a.qkv.iter().chain([&a.output]));
        mixing.chain([&self.gate, &self.up, &self.down]).map(PackedMatrix::size).sum()
    }
}

/// Minimum tokens for a split by tokens, per squared thread count, without a shared cache.
///
/// Every thread then reads all weights, which must take less time than computing with them.
const MIN_FAR_TOKENS: usize = 4;
/// Same with a shared cache, where fewer tokens are faster split by stages.
const MIN_NEAR_TOKENS: usize = 64;

/// Cost of a multiply-add of attention, relative to one of weights.
const ATTENTION_COST: usize = 3;
