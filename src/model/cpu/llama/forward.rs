//! Forward pass: its phases, each split among the threads.

use std::ops::Range;

use super::super::acts::{Acts, GROUP_TOKENS, To};
use super::super::attention::{Attention, Paths};
use super::super::cache::Cache;
use super::super::hidden::Hidden;
use super::super::input_stage::{self, States};
use super::super::lanes::LANES;
use super::super::pool::Worker;
use super::super::scratch::{MAX_SOLO_TOKENS, Scratch, feed_blocks};
use super::super::stages::{Clock, Stage};
use super::super::tile::{BLOCK, ROWS};
use super::super::work_split::WorkSplit;
use super::products::ProductOutput;
use super::{AttentionWeights, Layer, Llama};
use crate::tree::TokenId;

impl Llama {
    /// Returns how many of `m` rows go to the matrix unit; 0 without one.
    ///
    /// A short remainder of a 16-token group goes to the vector unit.
    pub(super) fn matrix_unit_tokens(&self, m: usize) -> usize {
        match (self.kernel.matrix_unit, m % GROUP_TOKENS) {
            (None, _) => 0,
            (_, rest) if rest < MIN_GROUP_TOKENS => m - rest,
            _ => m,
        }
    }

    /// Runs a pass; keys and values go to `cache`, logits to `scratch`.
    #[allow(unsafe_code)]
    pub(in super::super) fn forward(&self, pass: &Batch, cache: &Cache, scratch: &Scratch) {
        let unit =
            self.kernel.matrix_unit.filter(|_| self.matrix_unit_tokens(pass.tokens.len()) > 0);
        let far = self.far();
        self.pool.run(&|worker| {
            if let Some(unit) = unit {
                // SAFETY: the CPU has the kernel's matrix unit.
                unsafe { (unit.begin)() };
            }
            self.work(worker, pass, cache, scratch, far);
            if pass.tokens.len() > DISTANCE_CHECK_TOKENS {
                worker.measure_distance();
            }
            if let Some(unit) = unit {
                // SAFETY: the unit was configured above.
                unsafe { (unit.end)() };
            }
        });
    }

    /// Runs one thread's part of a pass.
    ///
    /// Between two barriers, each written row or block belongs to one thread, and data is read only
    /// if it was written before the barrier or by the same thread. Every unsafe block here relies
    /// on that.
    #[allow(unsafe_code)]
    fn work(&self, worker: &Worker, pass: &Batch, cache: &Cache, s: &Scratch, far: bool) {
        let (c, w, k, m) = (&self.config, s.widths, self.kernel, pass.tokens.len());
        let clock = Clock::start(s.stages.as_ref());
        let solo = m <= MAX_SOLO_TOKENS;
        let split = self.split_pass(worker, pass, far);
        match (&self.head_input, pass.states) {
            (Some(head_input), Some((states, room))) => {
                self.run_input_stage(head_input, worker, pass, states, room, s);
                clock.lap(Stage::Input);
            }
            _ => {
                for t in split.whole_rows() {
                    // SAFETY: row t belongs to this thread.
                    self.embed(pass.tokens[t], unsafe {
                        s.residual.write(t * w.dim..t * w.dim + c.dim)
                    });
                }
                split.meet(&clock, Stage::Input);
            }
        }
        // With few tokens, each thread quantizes the whole input for itself, which takes less time
        // than a barrier. With many, each thread quantizes the columns that it wrote itself, so
        // that no two threads write to one cache line.
        let rounded = |split: &WorkSplit, weight: &[f32], first: usize| -> &Acts {
            let blocks = c.dim.div_ceil(BLOCK);
            let (acts, columns) = if solo {
                (&s.solo_normed[worker.index], 0..blocks)
            } else {
                (&s.normed, split.items(blocks))
            };
            let by_unit = self.matrix_unit_tokens(m - first);
            for t in split.token_range() {
                let row = t - first;
                let to = To { acts, row, first: 0, interleaved: row < by_unit };
                // SAFETY: these blocks belong to this thread, and no other thread writes these
                // tokens' x now.
                unsafe {
                    (k.norm)(
                        s.residual.read(t * w.dim..t * w.dim + c.dim),
                        weight,
                        c.eps,
                        to,
                        columns.clone(),
                    )
                };
            }
            if solo {
                clock.lap(Stage::Norms)
            } else {
                split.meet(&clock, Stage::Norms)
            }
            acts
        };
        for (l, layer) in self.layers.iter().enumerate().take(pass.layers) {
            if let Some(mixing) = &layer.attention {
                let acts = rounded(&split, &mixing.norm, 0);
                self.attend(&split, (l, mixing), acts, pass, cache, s, &clock);
            }
            let acts = rounded(&split, &layer.ffn_norm, 0);
            self.feed(&split, layer, acts, s);
            split.meet(&clock, Stage::Feed);
            self.products(
                &split,
                &[(&layer.down, 0)],
                &s.hidden,
                ProductOutput::add(&s.residual, w.dim),
            );
            split.meet(&clock, Stage::Down);
            if let Some(hidden) = pass.hidden {
                // SAFETY: these tokens' rows belong to this thread, and no thread writes x before
                // the next barrier.
                unsafe {
                    hidden.store_rows(l + 1, pass.slot, split.whole_rows(), &s.residual, w.dim)
                };
            }
        }
        let wanted = pass.logits.clone();
        if wanted.is_empty() {
            return;
        }
        if split.by_token {
            // The head is the one matrix too large for every thread to read all of it.
            clock.barrier(Stage::Down, worker);
        }
        let (first, rows) = (wanted.start, wanted.len());
        let split = WorkSplit::by_stages(worker, wanted);
        let acts = rounded(&split, &self.output_norm, first);
        self.product(
            &self.lm_head,
            split.items(self.lm_head.tiles()),
            acts,
            0..rows,
            ProductOutput::set(&s.logits, w.vocab),
            pass.first_row * w.vocab,
        );
        if s.stages.is_some() {
            // The pass ends when all threads have finished.
            clock.barrier(Stage::Head, worker);
        }
    }

    /// Runs one thread's part of a layer's attention, up to the residual stream.
    #[allow(unsafe_code)]
    #[allow(clippy::too_many_arguments, reason = "a phase of `work`, with what that has")]
    fn attend(
        &self,
        split: &WorkSplit,
        (l, mixing): (usize, &AttentionWeights),
        acts: &Acts,
        pass: &Batch,
        cache: &Cache,
        s: &Scratch,
        clock: &Clock,
    ) {
        let (c, w, k, m) = (&self.config, s.widths, self.kernel, pass.tokens.len());
        let row = w.q + 2 * w.kv;
        // The attention output is quantized head by head if heads are whole blocks.
        let by_head = c.head_dim.is_multiple_of(BLOCK);
        let [q, key, value] = &mixing.qkv;
        let mats = [(q, 0), (key, w.q), (value, w.q + w.kv)];
        self.products(split, &mats, acts, ProductOutput::set(&s.qkv, row));
        clock.barrier(Stage::Projections, split.worker);
        self.place(split, l, pass, cache, s);
        clock.barrier(Stage::Rotation, split.worker);
        let attention = Attention {
            kernel: k,
            config: c,
            cache,
            layer: l,
            len: pass.len,
            queries: &s.qkv,
            stride: row,
            positions: pass.positions,
            angles: pass.angles,
            rope_interleaved: self.rope_interleaved,
            paths: pass.paths,
            out: &s.attended,
            out_stride: w.q,
            rounded: by_head.then_some(&s.heads),
            interleaved_tokens: self.matrix_unit_tokens(m),
            parts: &s.parts,
        };
        // SAFETY: the buffers belong to this thread, and no thread writes queries, keys or values
        // now.
        unsafe { attention.compute_thread_part(split, &s.attention[split.worker.index]) };
        split.meet(clock, Stage::Attention);
        if attention.is_split() {
            for number in split.token_items(c.heads) {
                // SAFETY: each head of each token is merged by one thread.
                unsafe { attention.merge_splits(number) };
            }
            split.meet(clock, Stage::Attention);
        }
        if !by_head {
            let width = c.heads * c.head_dim;
            let blocks = split.items(width.div_ceil(BLOCK));
            let (from, end) = (blocks.start * BLOCK, (blocks.end * BLOCK).min(width));
            for t in split.token_range() {
                // SAFETY: these blocks belong to this thread, and no thread writes the attention
                // output now.
                unsafe {
                    let to = To {
                        acts: &s.heads,
                        row: t,
                        first: blocks.start,
                        interleaved: t < self.matrix_unit_tokens(m),
                    };
                    (k.quantize)(s.attended.read(t * w.q + from..t * w.q + end), to);
                }
            }
            split.meet(clock, Stage::Norms);
        }
        self.products(
            split,
            &[(&mixing.output, 0)],
            &s.heads,
            ProductOutput::add(&s.residual, w.dim),
        );
        split.meet(clock, Stage::Output);
    }

    /// Rotates keys and stores this thread's keys and values in the cache.
    ///
    /// The work is split by tiles of 16 slots, whose keys share cache lines.
    fn place(&self, split: &WorkSplit, layer: usize, pass: &Batch, cache: &Cache, s: &Scratch) {
        let (heads, m, worker) = (self.config.kv_heads, pass.tokens.len(), split.worker);
        let (first, last) = (pass.slot / LANES, (pass.slot + m - 1) / LANES);
        let tokens = |tile: usize| {
            (tile * LANES).max(pass.slot) - pass.slot
                ..((tile + 1) * LANES).min(pass.slot + m) - pass.slot
        };
        if split.by_token {
            for tile in
                (first..=last).filter(|&tile| split.token_range().contains(&tokens(tile).start))
            {
                for head in 0..heads {
                    self.store_keys(layer, head, tokens(tile), pass, cache, s);
                    self.store_values(layer, head, tokens(tile), pass, cache, s);
                }
            }
            return;
        }
        for item in (worker.index..(last + 1 - first) * heads * 2).step_by(worker.count) {
            let (tile, head) = (first + item / 2 / heads, item / 2 % heads);
            // Keys take longer than values, so with two threads each gets some of both.
            if (item + item / 2).is_multiple_of(2) {
                self.store_keys(layer, head, tokens(tile), pass, cache, s);
            } else {
                self.store_values(layer, head, tokens(tile), pass, cache, s);
            }
        }
    }

    #[allow(unsafe_code)]
    fn store_keys(
        &self,
        layer: usize,
        head: usize,
        tokens: Range<usize>,
        pass: &Batch,
        cache: &Cache,
        s: &Scratch,
    ) {
        let (c, w) = (&self.config, s.widths);
        for t in tokens {
            let at = t * (w.q + 2 * w.kv) + w.q + head * c.head_dim;
            let angles = &pass.angles[pass.positions[t] * c.head_dim..][..c.head_dim];
            // SAFETY: these slots' keys of this head, and the buffer that they are computed in,
            // belong to this thread; the CPU has the kernel's instructions.
            unsafe {
                let key = s.qkv.write(at..at + c.head_dim);
                (self.kernel.rotate)(key, angles, self.rope_interleaved, 1.0);
                (self.kernel.put_key)(cache, [layer, head, pass.slot + t], key);
            }
        }
    }

    #[allow(unsafe_code)]
    fn store_values(
        &self,
        layer: usize,
        head: usize,
        tokens: Range<usize>,
        pass: &Batch,
        cache: &Cache,
        s: &Scratch,
    ) {
        let (c, w) = (&self.config, s.widths);
        for t in tokens {
            let at = t * (w.q + 2 * w.kv) + w.q + w.kv + head * c.head_dim;
            // SAFETY: these slots' values of this head belong to this thread, and no thread writes
            // their source; the CPU has the kernel's instructions.
            unsafe {
                (self.kernel.put_value)(
                    cache,
                    [layer, head, pass.slot + t],
                    s.qkv.read(at..at + c.head_dim),
                )
            };
        }
    }

    /// Computes the first half of the feed-forward layer for this thread's blocks.
    ///
    /// That is gate and up, and their gated product, quantized.
    #[allow(unsafe_code)]
    fn feed(&self, split: &WorkSplit, layer: &Layer, acts: &Acts, s: &Scratch) {
        let c = &self.config;
        let (blocks, rows) = (split.items(c.ffn.div_ceil(BLOCK)), split.token_range());
        let (room, together, by_unit) = (
            &s.gates_and_ups[split.worker.index],
            feed_blocks(rows.len()),
            self.matrix_unit_tokens(rows.len()),
        );
        for first in blocks.clone().step_by(together) {
            let last = (first + together).min(blocks.end);
            let tiles = first * (BLOCK / ROWS)..(last * (BLOCK / ROWS)).min(layer.gate.tiles());
            // For each token the gates, then the ups, each as wide as a whole number of tiles.
            let (width, begin) = (tiles.len() * ROWS, tiles.start * ROWS);
            let n = c.ffn.min(last * BLOCK) - begin;
            self.product_to(
                &layer.gate,
                tiles.clone(),
                acts,
                rows.clone(),
                ProductOutput::set(room, 2 * width),
                0,
            );
            self.product_to(
                &layer.up,
                tiles,
                acts,
                rows.clone(),
                ProductOutput::set(room, 2 * width),
                width,
            );
            let cut = rows.len().min(by_unit);
            for (part, side_by_side) in [(0..cut, true), (cut..rows.len(), false)] {
                let at = part.start * 2 * width..part.end * 2 * width;
                let to = To {
                    acts: &s.hidden,
                    row: rows.start + part.start,
                    first,
                    interleaved: side_by_side,
                };
                // SAFETY: the buffer and the blocks that result belong to this thread.
                unsafe { (self.kernel.swiglu)(room.read(at), 2 * width, n, to) };
            }
        }
    }
}

/// Passes of more tokens measure the distance between threads.
///
/// They take so long that the measurement adds nothing noticeable.
const DISTANCE_CHECK_TOKENS: usize = 8;

/// Minimum number of tokens in a 16-token group for the matrix unit.
///
/// With fewer, the vector unit is faster.
///
/// The matrix unit takes as long for one token as for sixteen.
const MIN_GROUP_TOKENS: usize = 11;

/// Inputs of one pass.
pub(in super::super) struct Batch<'a> {
    /// Tokens of the pass.
    pub tokens: &'a [TokenId],
    /// Rotary position of each token.
    pub positions: &'a [usize],
    /// Paths of the tokens through the tree.
    pub paths: &'a Paths,
    /// Number of committed positions.
    pub len: usize,
    /// Slot of the first token; the others follow.
    pub slot: usize,
    /// Number of layers to run, from the first.
    pub layers: usize,
    /// Indices of the tokens that need logits.
    pub logits: Range<usize>,
    /// Logits row of the first of these tokens.
    pub first_row: usize,
    /// Cosines, then sines, for each position.
    pub angles: &'a [f32],
    /// Destination of the hidden states, if they are kept.
    pub hidden: Option<&'a Hidden>,
    /// States of a drafting head's tokens, and the buffers of its input stage.
    pub states: Option<(States<'a>, &'a input_stage::InputBuffers)>,
}
