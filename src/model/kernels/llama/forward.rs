//! The forward of a pass: its phases, each shared out among the threads.

use std::ops::Range;

use super::super::acts::{SIDE_BY_SIDE, SIXTEENS, To};
use super::super::attention::{Attention, Paths};
use super::super::cache::Cache;
use super::super::front::{self, States};
use super::super::hidden::Hidden;
use super::super::lanes::LANES;
use super::super::memory::Shared;
use super::super::pool::Worker;
use super::super::scratch::Scratch;
use super::super::stages::{Clock, Stage};
use super::super::tile::{BLOCK, Mat, ROWS};
use super::super::{Acts, Out};
use super::{Layer, Llama, Mixing};
use crate::tree::TokenId;

impl Llama {
    /// Tokens of `m` rows that a unit for sixteen takes, where the kernel has one: few at the end are not worth it.
    fn by_unit(&self, m: usize) -> usize {
        match (self.kernel.sixteen, m % SIDE_BY_SIDE) {
            (None, _) => 0,
            (_, rest) if rest < FEW => m - rest,
            _ => m,
        }
    }

    /// Runs a pass. Keys and values go to `cache`, logits to `scratch`.
    #[allow(unsafe_code)]
    pub(in super::super) fn forward(&self, pass: &Batch, cache: &Cache, scratch: &Scratch) {
        let unit = self.kernel.sixteen.filter(|_| self.by_unit(pass.tokens.len()) > 0);
        self.pool.run(&|worker| {
            if let Some(unit) = unit {
                // SAFETY: the CPU has the kernel's unit.
                unsafe { (unit.begin)() };
            }
            self.work(worker, pass, cache, scratch);
            if let Some(unit) = unit {
                // SAFETY: as it was begun.
                unsafe { (unit.end)() };
            }
        });
    }

    /// One thread's part of a pass. Between two barriers each row or block that is written is one thread's, and what is
    /// read was written before the barrier: that is the reason of every unsafe block here.
    #[allow(unsafe_code)]
    fn work(&self, worker: &Worker, pass: &Batch, cache: &Cache, s: &Scratch) {
        let (c, w, k, m) = (&self.config, s.widths, self.kernel, pass.tokens.len());
        let clock = Clock::start(s.stages.as_ref());
        let solo = m <= SOLO;
        let tokens = worker.share(m);
        match (&self.front, pass.states) {
            (Some(front), Some((states, room))) => {
                front.work(self, worker, pass, states, room, s);
                clock.lap(Stage::Input);
            }
            _ => {
                for t in tokens.clone() {
                    // SAFETY: row t is this thread's.
                    self.embed(pass.tokens[t], unsafe { s.x.write(t * w.dim..t * w.dim + c.dim) });
                }
                clock.meet(Stage::Input, worker);
            }
        }
        // With few tokens each thread rounds the input for itself: that takes less time than a barrier. Of many each rounds some
        // columns: those that it wrote itself, and so that no two write to one line of memory.
        let columns = if solo { 0..c.dim.div_ceil(BLOCK) } else { worker.share(c.dim.div_ceil(BLOCK)) };
        let rounded = |weight: &[f32], rows: Range<usize>| -> &Acts {
            let acts = if solo { &s.own[worker.index] } else { &s.normed };
            let by_unit = self.by_unit(rows.len());
            for (row, t) in rows.enumerate() {
                let to = To { acts, row, first: 0, side_by_side: row < by_unit };
                // SAFETY: these blocks are this thread's, and nobody writes x now.
                unsafe { (k.norm)(s.x.read(t * w.dim..t * w.dim + c.dim), weight, c.eps, to, columns.clone()) };
            }
            if solo {
                clock.lap(Stage::Norms)
            } else {
                clock.meet(Stage::Norms, worker)
            }
            acts
        };
        for (l, layer) in self.layers.iter().enumerate().take(pass.layers) {
            if let Some(mixing) = &layer.attention {
                let acts = rounded(&mixing.norm, 0..m);
                self.attend(worker, (l, mixing), acts, pass, cache, s, &clock);
            }
            let acts = rounded(&layer.ffn_norm, 0..m);
            self.feed(worker, layer, acts, m, s);
            clock.meet(Stage::Feed, worker);
            self.products(worker, &[(&layer.down, 0)], &s.hidden, m, (&s.x, w.dim, true));
            clock.meet(Stage::Down, worker);
            if let Some(hidden) = pass.hidden {
                // SAFETY: these tokens' rows are this thread's, and nobody writes x before the threads met again.
                unsafe { hidden.put(l + 1, pass.slot, tokens.clone(), &s.x, w.dim) };
            }
        }
        let wanted = pass.logits.clone();
        if wanted.is_empty() {
            return;
        }
        let rows = wanted.len();
        let acts = rounded(&self.output_norm, wanted);
        let first = pass.first_row * w.vocab;
        let tiles = worker.share(self.head.tiles());
        self.product(&self.head, tiles, acts, rows, (&s.logits, w.vocab, false), first);
        if s.stages.is_some() {
            // The pass ends when all are done.
            clock.meet(Stage::Head, worker);
        }
    }

    /// One thread's part of a layer's attention, from the rounded input to the residual stream.
    #[allow(unsafe_code)]
    #[allow(clippy::too_many_arguments, reason = "a phase of `work`, with what that has")]
    fn attend(
        &self,
        worker: &Worker,
        (l, mixing): (usize, &Mixing),
        acts: &Acts,
        pass: &Batch,
        cache: &Cache,
        s: &Scratch,
        clock: &Clock,
    ) {
        let (c, w, k, m) = (&self.config, s.widths, self.kernel, pass.tokens.len());
        let row = w.q + 2 * w.kv;
        // What attention gives is rounded head by head where heads are whole blocks.
        let by_head = c.head_dim.is_multiple_of(BLOCK);
        let [q, key, value] = &mixing.qkv;
        let mats = [(q, 0), (key, w.q), (value, w.q + w.kv)];
        self.products(worker, &mats, acts, m, (&s.qkv, row, false));
        clock.meet(Stage::Projections, worker);
        self.place(worker, l, pass, cache, s);
        clock.meet(Stage::Rotation, worker);
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
            neighbours: self.neighbours,
            paths: pass.paths,
            out: &s.attended,
            out_stride: w.q,
            rounded: by_head.then_some(&s.heads),
            by_unit: self.by_unit(m),
            parts: &s.parts,
        };
        // SAFETY: the room is this thread's, and nobody writes queries, keys or values now.
        unsafe { attention.share(worker, &s.attention[worker.index]) };
        clock.meet(Stage::Attention, worker);
        if attention.in_parts() {
            for number in worker.share(m * c.heads) {
                // SAFETY: each head of each token is one thread's.
                unsafe { attention.join(number) };
            }
            clock.meet(Stage::Attention, worker);
        }
        if !by_head {
            let width = c.heads * c.head_dim;
            let blocks = worker.share(width.div_ceil(BLOCK));
            let (from, end) = (blocks.start * BLOCK, (blocks.end * BLOCK).min(width));
            for t in 0..m {
                // SAFETY: these blocks are this thread's, and nobody writes attention's output now.
                unsafe {
                    let to = To { acts: &s.heads, row: t, first: blocks.start, side_by_side: t < self.by_unit(m) };
                    (k.round)(s.attended.read(t * w.q + from..t * w.q + end), to);
                }
            }
            clock.meet(Stage::Norms, worker);
        }
        self.products(worker, &[(&mixing.output, 0)], &s.heads, m, (&s.x, w.dim, true));
        clock.meet(Stage::Output, worker);
    }

    /// This thread's share of the products of several matrices with the same input, each to its place in the rows of
    /// `out` (array, stride, whether to add).
    pub(in super::super) fn products(
        &self,
        worker: &Worker,
        mats: &[(&Mat, usize)],
        acts: &Acts,
        m: usize,
        out: (&Shared<f32>, usize, bool),
    ) {
        let share = worker.share(mats.iter().map(|(mat, _)| mat.tiles()).sum());
        let mut before = 0;
        for (mat, at) in mats {
            let n = mat.tiles();
            let tiles = share.start.clamp(before, before + n) - before..share.end.clamp(before, before + n) - before;
            self.product(mat, tiles, acts, m, out, *at);
            before += n;
        }
    }

    /// Some tiles of a matrix times the first `m` rows of `acts`: each to its place after `first` in the rows of `out`.
    fn product(&self, mat: &Mat, tiles: Range<usize>, acts: &Acts, m: usize, out: (&Shared<f32>, usize, bool), first: usize) {
        let first = first + tiles.start * ROWS;
        self.product_to(mat, tiles, acts, m, out, first);
    }

    /// The same, with the first of these tiles at `first`.
    #[allow(unsafe_code)]
    fn product_to(
        &self,
        mat: &Mat,
        tiles: Range<usize>,
        acts: &Acts,
        m: usize,
        (out, stride, add): (&Shared<f32>, usize, bool),
        first: usize,
    ) {
        debug_assert_eq!(acts.blocks(), mat.blocks());
        let size = mat.tile_bytes();
        for from in (0..m).step_by(CHUNK) {
            let n = (m - from).min(CHUNK);
            // SAFETY: nobody writes the rounded input now.
            let rows: [_; CHUNK] = std::array::from_fn(|i| unsafe { acts.row(from + i.min(n - 1)) });
            // SAFETY: as above.
            let many = self.kernel.sixteen.zip(unsafe { acts.sixteens(from / SIDE_BY_SIDE) });
            let by_unit = if many.is_some() { self.by_unit(m).saturating_sub(from).min(n) } else { 0 };
            for tile in tiles.clone() {
                let at = mat.at + tile * size;
                // SAFETY: packed weights are never written after loading.
                let weights = unsafe { self.packed.read(at..at + size) };
                let mut t = 0;
                while t < n {
                    let group = if t < by_unit { by_unit } else { together(n - t, self.kernel.tokens) };
                    let to = first + (from + t) * stride + (tile - tiles.start) * ROWS;
                    // SAFETY: these rows of these tokens are this thread's; the last token's end at this index.
                    let at = unsafe { out.write(to..to + (group - 1) * stride + ROWS) }.as_mut_ptr();
                    let out = Out { at, stride, add };
                    // SAFETY: the CPU has the kernel's instructions; the tile is whole, and 16 rows of the group's tokens
                    // may be written.
                    unsafe {
                        match &many {
                            Some((sixteen, x)) if t < by_unit => {
                                (sixteen.tile)(mat.packing, weights, &x[..group.div_ceil(SIDE_BY_SIDE)], group, out);
                            }
                            _ => (self.kernel.tile)(mat.packing, weights, &rows[t..t + group], out),
                        }
                    }
                    t += group;
                }
            }
        }
    }

    /// Puts the keys, rotated, and the values of a pass where attention reads them: this thread's share of them. That is cut by sixteen
    /// slots, whose keys lie in the same lines of memory.
    #[allow(unsafe_code)]
    fn place(&self, worker: &Worker, layer: usize, pass: &Batch, cache: &Cache, s: &Scratch) {
        let (c, w, m) = (&self.config, s.widths, pass.tokens.len());
        let (first, last) = (pass.slot / LANES, (pass.slot + m - 1) / LANES);
        let items = (last + 1 - first) * c.kv_heads * 2;
        for item in (worker.index..items).step_by(worker.count) {
            let (tile, head) = (first + item / 2 / c.kv_heads, item / 2 % c.kv_heads);
            let slots = (tile * LANES).max(pass.slot)..((tile + 1) * LANES).min(pass.slot + m);
            for slot in slots {
                let t = slot - pass.slot;
                let part = |at: usize| {
                    let at = t * (w.q + 2 * w.kv) + at + head * c.head_dim;
                    at..at + c.head_dim
                };
                // Keys take longer than values: each thread of two gets some of both.
                if (item + item / 2).is_multiple_of(2) {
                    let angles = &pass.angles[pass.positions[t] * c.head_dim..][..c.head_dim];
                    // SAFETY: these slots' keys of this head, and where they are computed, are this thread's; the CPU has the kernel's
                    // instructions.
                    unsafe {
                        let key = s.qkv.write(part(w.q));
                        (self.kernel.rotate)(key, angles, self.neighbours, 1.0);
                        cache.put_key(layer, head, slot, key, self.kernel.halves);
                    }
                } else {
                    // SAFETY: these slots' values of this head are this thread's, and nobody writes what they are copied from.
                    unsafe { cache.put_value(layer, head, slot, s.qkv.read(part(w.q + w.kv)), self.kernel.halves) };
                }
            }
        }
    }

    /// The first half of the feed-forward layer: gate and up of this thread's blocks, and their gated product, rounded.
    #[allow(unsafe_code)]
    fn feed(&self, worker: &Worker, layer: &Layer, acts: &Acts, m: usize, s: &Scratch) {
        let c = &self.config;
        let blocks = worker.share(c.ffn.div_ceil(BLOCK));
        let (room, together, by_unit) = (&s.fed[worker.index], fed_together(m), self.by_unit(m));
        for first in blocks.clone().step_by(together) {
            let last = (first + together).min(blocks.end);
            let tiles = first * (BLOCK / ROWS)..(last * (BLOCK / ROWS)).min(layer.gate.tiles());
            // Gates, then ups of a token, as wide as a whole number of tiles.
            let (width, begin) = (tiles.len() * ROWS, tiles.start * ROWS);
            let n = c.ffn.min(last * BLOCK) - begin;
            self.product_to(&layer.gate, tiles.clone(), acts, m, (room, 2 * width, false), 0);
            self.product_to(&layer.up, tiles, acts, m, (room, 2 * width, false), width);
            for t in 0..m {
                let at = t * 2 * width;
                // SAFETY: the room is this thread's, and so are the blocks that come of it.
                unsafe {
                    let (gate, up) = (room.read(at..at + n), room.read(at + width..at + width + n));
                    let to = To { acts: &s.hidden, row: t, first, side_by_side: t < by_unit };
                    (self.kernel.gate)(gate, up, to);
                }
            }
        }
    }
}

/// Blocks of gates and ups that are computed before their products are rounded: so that those of `m` tokens stay in the nearest
/// cache, and one token needs few calls.
pub(in super::super) fn fed_together(m: usize) -> usize {
    (64 / m.max(1)).max(1)
}

/// Tokens whose rows are looked up at once; weights are read once for each such chunk.
const CHUNK: usize = SIXTEENS * SIDE_BY_SIDE;

/// Tokens that each thread rounds for itself.
pub(in super::super) const SOLO: usize = 2;

/// With fewer tokens the vector unit is faster than one for sixteen, which takes as long for one as for all.
const FEW: usize = 11;

/// How many tokens to take at once where `left` are left and `most` fit: as evenly as the last groups allow.
fn together(left: usize, most: usize) -> usize {
    if left <= most {
        left
    } else if left < 2 * most {
        left.div_ceil(2)
    } else {
        most
    }
}

/// A pass.
pub(in super::super) struct Batch<'a> {
    /// Its tokens.
    pub tokens: &'a [TokenId],
    /// Rotary position of each.
    pub positions: &'a [usize],
    /// Their paths.
    pub paths: &'a Paths,
    /// Committed positions.
    pub len: usize,
    /// Slot of the first; the others follow.
    pub slot: usize,
    /// Layers to run.
    pub layers: usize,
    /// Which tokens want logits.
    pub logits: Range<usize>,
    /// Row of the first one's logits.
    pub first_row: usize,
    /// Cosines, then sines, by position.
    pub angles: &'a [f32],
    /// Where hidden states go that are kept.
    pub hidden: Option<&'a Hidden>,
    /// For a drafting head: the states that its tokens come with, and room for them.
    pub states: Option<(States<'a>, &'a front::Room)>,
}
