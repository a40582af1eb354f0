//! A Llama's packed weights, and the forward of a pass through them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::acts::{SIDE_BY_SIDE, SIXTEENS, To};
use super::attention::{Attention, Paths};
use super::cache::Cache;
use super::front::{self, Front, States};
use super::hidden::Hidden;
use super::lanes::LANES;
use super::memory::Shared;
use super::pool::{Pool, Worker};
use super::scratch::Scratch;
use super::stages::{Clock, Stage};
use super::tile::{BLOCK, Mat, Packing, ROWS, pack_tile, unpack_row};
use super::{Acts, Kernel, Out};
use crate::model::blocks::Kind;
use crate::model::load::LoadError;
use crate::model::weights::Weights;
use crate::model::{Config, rope};
use crate::tree::TokenId;

/// The matrices of a layer, by what they are multiplied with.
#[derive(Debug)]
struct Layer {
    /// An adapter has none.
    attention: Option<Mixing>,
    ffn_norm: Vec<f32>,
    gate: Mat,
    up: Mat,
    down: Mat,
}

/// The attention of a layer.
#[derive(Debug)]
struct Mixing {
    norm: Vec<f32>,
    /// Queries, keys, values.
    qkv: [Mat; 3],
    output: Mat,
}

/// Where the embedding lies.
#[derive(Debug)]
enum Embedding {
    /// It is the head too.
    Tied,
    /// Rows as the file has them.
    Own { kind: Kind, row: usize, bytes: Vec<u8> },
}

/// Weights packed for the CPU, shared by all contexts of the model.
#[derive(Debug)]
pub struct Llama {
    config: Config,
    kernel: &'static Kernel,
    pool: Arc<Pool>,
    packed: Shared<u8>,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    head: Mat,
    embedding: Embedding,
    /// Radians a position of each rotated pair.
    frequencies: Vec<f32>,
    /// Whether the values of a rotated pair are neighbours.
    neighbours: bool,
    /// Formats that were rounded to 8 bits, since they have no packing of their own.
    rounded: Vec<Kind>,
    /// What a drafting head has in place of an embedding.
    front: Option<Front>,
}

/// What is to be packed where.
struct Plan<'a> {
    name: String,
    kind: Kind,
    mat: Mat,
    weights: &'a Weights,
}

impl Llama {
    /// Reads and packs the weights, on `threads` threads, for the fastest kernel of this CPU.
    ///
    /// # Errors
    /// If reading fails.
    pub fn load(weights: &Weights, threads: usize) -> Result<Self, LoadError> {
        Self::with_kernel(weights, threads, Kernel::detect())
    }

    /// A drafting head for `target`: layers behind a [`Front`], run by the target's threads and kernel.
    ///
    /// # Errors
    /// If reading fails, or the head does not fit the target.
    pub fn load_head(weights: &Weights, target: &Arc<Llama>) -> Result<Self, LoadError> {
        Self::build(weights, target.threads(), target.kernel, Some(target))
    }

    /// The same for a kernel of choice.
    ///
    /// # Errors
    /// As [`Llama::load`].
    pub fn with_kernel(weights: &Weights, threads: usize, kernel: &'static Kernel) -> Result<Self, LoadError> {
        Self::build(weights, threads, kernel, None)
    }

    fn build(weights: &Weights, threads: usize, kernel: &'static Kernel, target: Option<&Arc<Llama>>) -> Result<Self, LoadError> {
        let config = weights.config().clone();
        let mut plans: Vec<Plan> = Vec::new();
        let mut size = 0;
        let mut rounded = Vec::new();
        let mut plan = |name: String| -> Mat {
            // That the tensor is there was checked when the weights were opened.
            let (kind, rows, cols) = weights.tensor(&name).map_or((Kind::F32, 0, 0), |t| (t.kind, t.rows, t.cols));
            let (packing, exact) = Packing::of(kind);
            if !exact && !rounded.contains(&kind) {
                rounded.push(kind);
            }
            let mat = Mat { packing, rows, cols, at: size };
            size += mat.bytes().next_multiple_of(64);
            plans.push(Plan { name, kind, mat, weights });
            mat
        };
        let mut layers = Vec::with_capacity(config.layers);
        for l in 0..config.layers {
            let mut mat = |name: &str| plan(format!("blk.{l}.{name}.weight"));
            let attention = if weights.attends() {
                let norm = weights.read_vector(&format!("blk.{l}.attn_norm.weight"))?;
                Some(Mixing { norm, qkv: [mat("attn_q"), mat("attn_k"), mat("attn_v")], output: mat("attn_output") })
            } else {
                None
            };
            layers.push(Layer {
                attention,
                ffn_norm: weights.read_vector(&format!("blk.{l}.ffn_norm.weight"))?,
                gate: mat("ffn_gate"),
                up: mat("ffn_up"),
                down: mat("ffn_down"),
            });
        }
        let head = plan(weights.head().to_owned());
        let front = target.map(|target| Front::load(weights, target, |name| plan(name.to_owned()))).transpose()?;
        let packed = Shared::streamed(size);
        pack(&plans, &packed, threads)?;
        let embedding = match weights.tensor("token_embd.weight").filter(|t| t.name != weights.head()) {
            None => Embedding::Tied,
            Some(t) => {
                let mut bytes = Vec::new();
                weights.read_rows(&t.name, 0..t.rows, &mut bytes)?;
                Embedding::Own { kind: t.kind, row: t.row_bytes(), bytes }
            }
        };
        Ok(Self {
            kernel,
            pool: Pool::shared(threads),
            packed,
            layers,
            output_norm: weights.read_vector("output_norm.weight")?,
            head,
            embedding,
            frequencies: rope::frequencies(&config, weights.rope_factors()),
            neighbours: weights.rope_interleaved(),
            rounded,
            front,
            config,
        })
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The kernel.
    pub(super) fn kernel(&self) -> &'static Kernel {
        self.kernel
    }

    /// Name of the kernel.
    pub fn kernel_name(&self) -> &'static str {
        self.kernel.name
    }

    /// Hidden states of the target that a drafting head fuses; 0 for a model.
    pub fn fused(&self) -> usize {
        self.front.as_ref().map_or(0, Front::fused)
    }

    /// What a drafting head has before its layers.
    pub(super) fn front(&self) -> Option<&Front> {
        self.front.as_ref()
    }

    /// Threads of a forward.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Formats of the file that were rounded to 8 bits with a scale for 32 values, since they have no packing.
    pub fn rounded(&self) -> &[Kind] {
        &self.rounded
    }

    /// Bytes of the packed weights, all of which a pass reads.
    pub fn weight_bytes(&self) -> usize {
        self.packed.len()
    }

    /// The value of a token's embedding, to `out`.
    #[allow(unsafe_code)]
    pub(super) fn embed(&self, token: TokenId, out: &mut [f32]) {
        let row = token as usize;
        match &self.embedding {
            Embedding::Own { kind, row: bytes, bytes: all } => kind.dequantise(&all[row * bytes..][..*bytes], out),
            Embedding::Tied => {
                let size = self.head.tile_bytes();
                let at = self.head.at + row / ROWS * size;
                // SAFETY: packed weights are never written after loading.
                unpack_row(self.head.packing, unsafe { self.packed.read(at..at + size) }, row % ROWS, out);
            }
        }
    }

    /// Fills `angles`, a row for each position from `known` up to `positions`, with cosines, then sines.
    pub(super) fn angles(&self, known: usize, positions: usize, angles: &mut Vec<f32>) {
        for p in known..positions {
            let angle = |f: &f32| f64::from(*f) * p as f64;
            angles.extend(self.frequencies.iter().map(|f| angle(f).cos() as f32));
            angles.extend(self.frequencies.iter().map(|f| angle(f).sin() as f32));
        }
    }

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
    pub(super) fn forward(&self, pass: &Batch, cache: &Cache, scratch: &Scratch) {
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
        let solo = m == 1;
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
        // With one token each thread rounds the input for itself: that takes less time than a barrier. Of many each rounds some
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
    pub(super) fn products(
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
pub(super) fn fed_together(m: usize) -> usize {
    (64 / m.max(1)).max(1)
}

/// Tokens whose rows are looked up at once; weights are read once for each such chunk.
const CHUNK: usize = SIXTEENS * SIDE_BY_SIDE;

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
pub(super) struct Batch<'a> {
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

/// Reads and packs all matrices; threads take tiles as they come.
#[allow(unsafe_code)]
fn pack(plans: &[Plan], packed: &Shared<u8>, threads: usize) -> Result<(), LoadError> {
    /// Tiles read at once.
    const RUN: usize = 16;
    let runs: Vec<(&Plan, Range<usize>)> = (plans.iter())
        .flat_map(|plan| {
            let tiles = plan.mat.tiles();
            (0..tiles).step_by(RUN).map(move |from| (plan, from..(from + RUN).min(tiles)))
        })
        .collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || -> Result<(), LoadError> {
        let mut bytes = Vec::new();
        while let Some((plan, tiles)) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mat = plan.mat;
            plan.weights.read_rows(&plan.name, tiles.start * ROWS..(tiles.end * ROWS).min(mat.rows), &mut bytes)?;
            let Some(row) = plan.kind.row_bytes(mat.cols) else { continue };
            let rows: Vec<&[u8]> = bytes.chunks_exact(row).collect();
            for (i, rows) in rows.chunks(ROWS).enumerate() {
                let at = mat.at + (tiles.start + i) * mat.tile_bytes();
                // SAFETY: each tile is packed by the one thread that took its run.
                pack_tile(plan.kind, mat.cols, rows, unsafe { packed.write(at..at + mat.tile_bytes()) });
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                if let Err(error) = work() {
                    *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}
