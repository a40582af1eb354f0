//! Attention over a committed context and a tree of uncommitted nodes.
//!
//! Scores do not depend on the slot of a key. They are put into position order, and from there on
//! every sum runs over positions in order: weights in lanes by position, values one after the
//! other. Long contexts are split at fixed positions, and the results are merged in order (Milakov
//! & Gimelshein 2018, "Online normalizer calculation for softmax", section 3.1). So the result of a
//! node depends only on the token at each position of its path.

mod paths;

use std::ops::Range;

pub use self::paths::Paths;
use self::paths::Visibility;
use super::acts::{Acts, To};
use super::cache::Cache;
use super::kernel::{Kernel, WeightedSums};
use super::lanes::{LANES, exp};
use super::memory::Shared;
use super::tile::BLOCK;
use super::work_split::WorkSplit;
use crate::model::Config;

/// Positions in one split of a long context. Fixed, because it is part of the summation order.
const SPLIT_POSITIONS: usize = 512;
/// Maximum number of queries that share each load of keys and values.
const MAX_QUERIES: usize = 12;

/// Buffers of one thread for one work item.
#[derive(Debug, Default)]
pub struct AttentionBuffers {
    arrays: Option<Arrays>,
    tiles: usize,
}

#[derive(Debug)]
struct Arrays {
    /// Queries of the group, contiguous.
    queries: Shared<f32>,
    /// Scores, then weights, in position order: one row for each query.
    scores: Shared<f32>,
    /// Scores of uncommitted slots, indexed by slot.
    tail: Shared<f32>,
    /// Nonzero for each tile of the tail that is computed.
    marks: Shared<u8>,
    /// Weighted sums of values, one row for each query.
    sums: Shared<f32>,
    /// Maximum score and sum of weights, a pair for each query.
    totals: Shared<f32>,
}

impl AttentionBuffers {
    /// Grows the buffers for trees of `nodes` uncommitted nodes.
    pub fn reserve(&mut self, c: &Config, nodes: usize) {
        let tiles = nodes.div_ceil(LANES) + 1;
        if self.arrays.is_some() && tiles <= self.tiles {
            return;
        }
        self.tiles = tiles.next_power_of_two();
        self.arrays = Some(Arrays {
            queries: Shared::new(MAX_QUERIES * c.head_dim),
            scores: Shared::new(MAX_QUERIES * SPLIT_POSITIONS),
            tail: Shared::new(MAX_QUERIES * self.tiles * LANES),
            marks: Shared::new(self.tiles),
            sums: Shared::new(MAX_QUERIES * c.head_dim.next_multiple_of(LANES)),
            totals: Shared::new(2 * MAX_QUERIES),
        });
    }
}

/// Results of the splits of long contexts.
///
/// For each token, query head and split: the maximum score, the sum of weights, and the weighted
/// values.
#[derive(Debug, Default)]
pub struct SplitResults {
    all: Option<Shared<f32>>,
    room: usize,
}

impl SplitResults {
    /// Grows the buffer for `tokens` tokens in contexts of up to `positions`.
    pub fn reserve(&mut self, c: &Config, tokens: usize, positions: usize) {
        let parts = positions.div_ceil(SPLIT_POSITIONS);
        let needed = tokens * c.heads * parts * (c.head_dim + 2);
        if parts > 1 && needed > self.room {
            self.room = needed.next_power_of_two();
            self.all = Some(Shared::new(self.room));
        }
    }
}

/// Attention of one layer for the tokens of a pass.
pub struct Attention<'a> {
    /// Inner loops of the chosen instruction set.
    pub kernel: &'static Kernel,
    /// Dimensions of the model.
    pub config: &'a Config,
    /// Keys and values, those of this pass included.
    pub cache: &'a Cache,
    pub layer: usize,
    /// Number of committed positions.
    pub len: usize,
    /// Queries before rotation, at the start of rows of `stride`.
    pub queries: &'a Shared<f32>,
    /// Distance between consecutive tokens' rows, in elements.
    pub stride: usize,
    /// Rotary position of each token.
    pub positions: &'a [usize],
    /// Cosines, then sines, for each position.
    pub angles: &'a [f32],
    /// Set if the two values of a rotated pair are adjacent.
    pub rope_interleaved: bool,
    /// Uncommitted nodes on the path to each token, from the context down.
    pub paths: &'a Paths,
    /// Destination of the results, in rows of `out_stride`.
    pub out: &'a Shared<f32>,
    /// Distance between consecutive tokens' results, in elements.
    pub out_stride: usize,
    /// Destination of the quantized results, if heads are whole blocks.
    pub rounded: Option<&'a Acts>,
    /// Number of tokens of the pass stored interleaved in `rounded`.
    pub interleaved_tokens: usize,
    /// Buffer for the results of context splits.
    pub parts: &'a SplitResults,
}

#[allow(unsafe_code)]
impl Attention<'_> {
    /// Number of splits of the longest context of the pass.
    fn cut(&self) -> usize {
        (self.len + self.paths.longest()).div_ceil(SPLIT_POSITIONS).max(1)
    }

    /// Returns `true` if the results must be merged by [`Self::merge_splits`] after all items are
    /// done.
    pub fn is_split(&self) -> bool {
        self.cut() > 1
    }

    /// Computes this thread's fraction of the queries of all nodes.
    ///
    /// Each thread gets queries adjacent in key-value head, context split and node. So threads
    /// rarely need the same keys, seldom write to the same cache line, and have equal amounts of
    /// work.
    ///
    /// # Safety
    /// `room` belongs to this thread; no thread writes queries, keys or values meanwhile.
    pub unsafe fn compute_thread_part(&self, split: &WorkSplit, room: &AttentionBuffers) {
        let (cut, per) = (self.cut(), self.queries_per_kv_head());
        let runs = self.config.kv_heads * cut;
        if split.by_token {
            let queries = split.token_range().start * per..split.token_range().end * per;
            // SAFETY: guaranteed by the caller; each query is computed by one thread.
            (0..runs).for_each(|run| unsafe { self.run(run, queries.clone(), room) });
            return;
        }
        let queries = self.paths.tokens() * per;
        let mine = split.items(runs * queries);
        let mut at = mine.start;
        while at < mine.end {
            let (run, first) = (at / queries, at % queries);
            let n = (mine.end - at).min(queries - first);
            // SAFETY: as above.
            unsafe { self.run(run, first..first + n, room) };
            at += n;
        }
    }

    /// Computes queries of one key-value head over one context split, a few at a time.
    ///
    /// Runs are numbered by head, then by split.
    ///
    /// # Safety
    /// As [`Self::compute_thread_part`], and no other thread computes these queries.
    unsafe fn run(&self, run: usize, queries: Range<usize>, room: &AttentionBuffers) {
        let (cut, first, n) = (self.cut(), queries.start, queries.len());
        let groups = n.div_ceil(MAX_QUERIES);
        for g in 0..groups {
            // SAFETY: guaranteed by the caller.
            unsafe {
                self.item(
                    run / cut,
                    run % cut,
                    first + n * g / groups..first + n * (g + 1) / groups,
                    room,
                )
            };
        }
    }

    /// Number of query heads per key-value head.
    fn queries_per_kv_head(&self) -> usize {
        self.config.heads / self.config.kv_heads
    }

    fn sight(&self, t: usize) -> Visibility<'_> {
        self.paths.visibility(t, self.len)
    }

    /// Computes a group of queries of one key-value head over a context split.
    ///
    /// Queries are numbered by node, then by query head.
    ///
    /// # Safety
    /// `room` belongs to this thread, no thread writes queries, keys or values meanwhile, and no
    /// other thread computes the same item.
    unsafe fn item(
        &self,
        head: usize,
        part: usize,
        numbers: Range<usize>,
        room: &AttentionBuffers,
    ) {
        let (c, cut, per) = (self.config, self.cut(), self.queries_per_kv_head());
        let (hd, padded) = (c.head_dim, c.head_dim.next_multiple_of(LANES));
        let nodes = numbers.start / per..numbers.end.div_ceil(per);
        let from = part * SPLIT_POSITIONS;
        let to =
            nodes.clone().map(|t| self.sight(t).end).max().unwrap_or(0).min(from + SPLIT_POSITIONS);
        let Some(arrays) = room.arrays.as_ref().filter(|_| from < to) else { return };
        let (rows, stride) = (numbers.len(), (to - from).next_multiple_of(LANES));
        // Rows of node `t`.
        let own = |t: usize| {
            (t * per).max(numbers.start) - numbers.start
                ..((t + 1) * per).min(numbers.end) - numbers.start
        };
        // SAFETY: no other thread uses the buffers (guaranteed by the caller), and they are
        // distinct arrays.
        let (queries, scores, sums) = unsafe {
            (
                arrays.queries.write(0..rows * hd),
                arrays.scores.write(0..rows * stride),
                arrays.sums.write(0..rows * padded),
            )
        };
        for (query, number) in queries.chunks_exact_mut(hd).zip(numbers.clone()) {
            let (t, h) = (number / per, head * per + number % per);
            let at = t * self.stride + h * hd;
            // SAFETY: no thread writes queries now.
            query.copy_from_slice(unsafe { self.queries.read(at..at + hd) });
            let angles = &self.angles[self.positions[t] * hd..][..hd];
            // SAFETY: the CPU has the kernel's instructions.
            unsafe {
                (self.kernel.rotate)(query, angles, self.rope_interleaved, 1.0 / (hd as f32).sqrt())
            };
        }
        scores.fill(0.0);
        sums.fill(0.0);

        // Scores: directly in place where position and slot agree, the others by way of the tail.
        let direct = nodes.clone().map(|t| self.sight(t).direct).max().unwrap_or(0).min(to);
        let tiles = from / LANES..direct.div_ceil(LANES).max(from / LANES);
        self.score(head, tiles, queries, rows, scores.as_mut_ptr(), stride);
        if nodes.clone().any(|t| self.sight(t).direct < self.sight(t).end.min(to)) {
            // SAFETY: as above.
            let (tail, marks) = unsafe {
                (arrays.tail.write(0..arrays.tail.len()), arrays.marks.write(0..arrays.marks.len()))
            };
            marks.fill(0);
            for t in nodes.clone() {
                self.score_tail(
                    head,
                    self.sight(t),
                    (from..to, own(t)),
                    (queries, rows),
                    (tail, marks),
                    (scores, stride),
                );
            }
        }

        // Weights.
        // SAFETY: as above.
        let totals = unsafe { arrays.totals.write(0..2 * rows) };
        for (r, scores) in scores.chunks_exact_mut(stride).enumerate() {
            let seen = self.sight((numbers.start + r) / per).end.min(to).saturating_sub(from);
            // SAFETY: the CPU has the kernel's instructions.
            let (m, l) =
                if seen > 0 { unsafe { (self.kernel.softmax)(scores, seen) } } else { (0.0, 0.0) };
            if seen == 0 {
                scores.fill(0.0);
            }
            (totals[2 * r], totals[2 * r + 1]) = (m, l);
        }

        // Values: slots that all nodes see at the same positions are added for all at once, then
        // the rest node by node.
        let sights = || nodes.clone().map(|t| self.sight(t)).filter(|s| s.end > from);
        let common = sights().map(|s| s.direct).min().unwrap_or(from).clamp(from, to);
        self.add_values(head, from..common, &scores[..rows * stride], stride, sums, padded);
        for t in nodes.clone() {
            let (sight, own) = (self.sight(t), own(t));
            let scores = &scores[own.start * stride..own.end * stride];
            let sums = &mut sums[own.start * padded..own.end * padded];
            let mut at = common;
            while at < sight.end.min(to) {
                let slot = |p: usize| {
                    if p < sight.direct { p } else { self.len + sight.path[p - self.len] as usize }
                };
                let start = slot(at);
                let n =
                    (1..sight.end.min(to) - at).take_while(|&i| slot(at + i) == start + i).count()
                        + 1;
                self.add_values(head, start..start + n, &scores[at - from..], stride, sums, padded);
                at += n;
            }
        }

        if let (Some(acts), 1) = (self.rounded, cut) {
            let blocks = hd / BLOCK;
            let mut places = [(0, 0); MAX_QUERIES];
            for (place, number) in places.iter_mut().zip(numbers.clone()) {
                *place = (number / per, (head * per + number % per) * blocks);
            }
            // Interleaved tokens first, then the others.
            let side =
                (self.interleaved_tokens * per).clamp(numbers.start, numbers.end) - numbers.start;
            for (part, side_by_side) in [(0..side, true), (side..rows, false)] {
                let to = To { acts, row: 0, first: 0, interleaved: side_by_side };
                let (sums, totals) = (
                    &sums[part.start * padded..part.end * padded],
                    &totals[2 * part.start..2 * part.end],
                );
                // SAFETY: no other item writes these heads of these tokens; the CPU has the
                // kernel's instructions.
                unsafe {
                    (self.kernel.normalize_quantize)(sums, padded, totals, to, &places[part])
                };
            }
            return;
        }
        for ((r, sums), number) in sums.chunks_exact(padded).enumerate().zip(numbers) {
            let (t, h) = (number / per, head * per + number % per);
            let (m, l) = (totals[2 * r], totals[2 * r + 1]);
            if cut == 1 {
                // SAFETY: no other item writes this head of this token.
                unsafe { self.finish(t, h, &sums[..hd], l) };
            } else if self.sight(t).end > from
                && let Some(parts) = &self.parts.all
            {
                let at = ((t * c.heads + h) * cut + part) * (hd + 2);
                // SAFETY: as above.
                let to = unsafe { parts.write(at..at + hd + 2) };
                (to[0], to[1]) = (m, l);
                to[2..].copy_from_slice(&sums[..hd]);
            }
        }
    }

    /// Computes the scores of some tiles of slots for every query.
    ///
    /// They go to `out`, 16 for each row and tile.
    fn score(
        &self,
        head: usize,
        tiles: Range<usize>,
        queries: &[f32],
        rows: usize,
        out: *mut f32,
        out_stride: usize,
    ) {
        let (hd, column_groups) = (self.config.head_dim, tiles.len());
        // SAFETY: no thread writes keys while attention runs (guaranteed by the caller of
        // [`Self::compute_thread_part`]).
        let keys = unsafe { self.cache.key_tiles(self.layer, head, tiles) };
        self.weighted_sum(WeightedSums {
            halves: keys.as_ptr(),
            halves_stride: LANES * hd,
            column_groups,
            n: hd,
            a: queries.as_ptr(),
            a_stride: hd,
            rows,
            sums: out,
            sums_stride: out_stride,
        });
    }

    /// Calls the weighted-sum kernel for as many rows at a time as it takes.
    fn weighted_sum(&self, w: WeightedSums) {
        for first in (0..w.rows).step_by(self.kernel.rows) {
            // SAFETY: the CPU has the kernel's instructions; the callers lay out the arrays as `w`
            // says.
            unsafe {
                (self.kernel.weighted_sum)(w.part(first, (w.rows - first).min(self.kernel.rows)))
            };
        }
    }

    /// Computes a node's scores of positions in `range` whose slot differs from the position.
    ///
    /// They go to the node's rows `own` of `scores`. Each tile of slots is computed once for all
    /// queries, marked in `marks`, and copied from `tail`.
    fn score_tail(
        &self,
        head: usize,
        sight: Visibility,
        (range, own): (Range<usize>, Range<usize>),
        (queries, rows): (&[f32], usize),
        (tail, marks): (&mut [f32], &mut [u8]),
        (scores, stride): (&mut [f32], usize),
    ) {
        let (base, tail_stride) = (self.len / LANES, marks.len() * LANES);
        for position in sight.direct.max(range.start)..sight.end.min(range.end) {
            let slot = self.len + sight.path[position - self.len] as usize;
            let tile = slot / LANES - base;
            if marks[tile] == 0 {
                marks[tile] = 1;
                for row in tail.chunks_exact_mut(tail_stride).take(rows) {
                    row[tile * LANES..][..LANES].fill(0.0);
                }
                let tiles = base + tile..base + tile + 1;
                self.score(
                    head,
                    tiles,
                    queries,
                    rows,
                    tail[tile * LANES..].as_mut_ptr(),
                    tail_stride,
                );
            }
            for r in own.clone() {
                scores[r * stride + position - range.start] =
                    tail[r * tail_stride + slot - base * LANES];
            }
        }
    }

    /// Adds the values of consecutive `slots` to `sums`, weighted by each row of `weights`.
    fn add_values(
        &self,
        head: usize,
        slots: Range<usize>,
        weights: &[f32],
        stride: usize,
        sums: &mut [f32],
        padded: usize,
    ) {
        if slots.is_empty() {
            return;
        }
        // SAFETY: no thread writes values while attention runs.
        let (values, halves_stride) =
            unsafe { self.cache.value_runs(self.layer, head, slots.clone()) };
        self.weighted_sum(WeightedSums {
            halves: values,
            halves_stride,
            column_groups: padded / LANES,
            n: slots.len(),
            a: weights.as_ptr(),
            a_stride: stride,
            rows: sums.len() / padded,
            sums: sums.as_mut_ptr(),
            sums_stride: padded,
        });
    }

    /// Merges the splits of one query head of a token, in order.
    ///
    /// `number` is `token * heads + head`.
    ///
    /// # Safety
    /// All items are done, and no other thread merges the same head.
    pub unsafe fn merge_splits(&self, number: usize) {
        let (c, cut) = (self.config, self.cut());
        let (t, h, hd) = (number / c.heads, number % c.heads, c.head_dim);
        let Some(parts) = &self.parts.all else { return };
        let own = self.sight(t).end.div_ceil(SPLIT_POSITIONS);
        // SAFETY: no other thread accesses the splits of this head of this token (guaranteed by the
        // caller).
        let all = unsafe { parts.write(number * cut * (hd + 2)..(number + 1) * cut * (hd + 2)) };
        let (first, others) = all.split_at_mut(hd + 2);
        let (state, sums) = first.split_at_mut(2);
        let (mut most, mut total) = (state[0], state[1]);
        for part in others.chunks_exact(hd + 2).take(own - 1) {
            let top = if part[0] > most { part[0] } else { most };
            let (keep, add) = (exp(most - top), exp(part[0] - top));
            // SAFETY: the CPU has the kernel's instructions.
            unsafe { (self.kernel.axpby)(sums, keep, &part[2..], add) };
            (most, total) = (top, total * keep + part[1] * add);
        }
        // SAFETY: as above.
        unsafe { self.finish(t, h, sums, total) };
    }

    /// Writes the weighted values of one query head, divided by their total weight.
    ///
    /// # Safety
    /// No other thread writes the same head.
    unsafe fn finish(&self, t: usize, h: usize, sums: &[f32], total: f32) {
        let (at, inverse) = (t * self.out_stride + h * sums.len(), 1.0 / total);
        // SAFETY: no other thread writes this head of this token.
        let out = unsafe { self.out.write(at..at + sums.len()) };
        for (out, x) in out.iter_mut().zip(sums) {
            *out = x * inverse;
        }
        if let Some(acts) = self.rounded {
            // SAFETY: the same holds for its blocks; the CPU has the kernel's instructions.
            unsafe {
                (self.kernel.quantize)(
                    out,
                    To {
                        acts,
                        row: t,
                        first: h * sums.len() / BLOCK,
                        interleaved: t < self.interleaved_tokens,
                    },
                );
            }
        }
    }
}
