//! Buffers for intermediate results, reused from pass to pass so that no pass allocates.

use super::acts::Acts;
use super::attention;
use super::kernel::Kernel;
use super::memory::Shared;
use super::stages::StageNanos;
use super::tile::{BLOCK, ROWS};
use crate::model::Config;

/// Row widths of the buffers in elements, padded to whole tiles.
#[derive(Clone, Copy, Debug)]
pub struct Widths {
    /// Width of the residual stream.
    pub dim: usize,
    /// Width of the queries of all heads.
    pub q: usize,
    /// Width of the keys (or values) of all heads.
    pub kv: usize,
    /// Width of the logits.
    pub vocab: usize,
}

impl Widths {
    fn of(c: &Config) -> Self {
        let whole = |n: usize| n.next_multiple_of(ROWS);
        Self {
            dim: whole(c.dim),
            q: whole(c.heads * c.head_dim),
            kv: whole(c.kv_heads * c.head_dim),
            vocab: whole(c.vocab),
        }
    }
}

/// Buffers for passes, with one row per token.
#[derive(Debug)]
pub struct Scratch {
    tokens: usize,
    rows: usize,
    threads: usize,
    kernel: &'static Kernel,
    config: Config,
    /// Widths of the rows.
    pub widths: Widths,
    /// Residual stream, `dim` numbers a row.
    pub residual: Shared<f32>,
    /// Queries, keys and values, `q + 2 kv` numbers a row.
    pub qkv: Shared<f32>,
    /// Gates and ups that a thread quantizes next, one buffer per thread.
    pub gates_and_ups: Vec<Shared<f32>>,
    /// Output of attention, `q` numbers a row.
    pub attended: Shared<f32>,
    /// Quantized input of attention or feed-forward, `dim` numbers a row.
    pub normed: Acts,
    /// Quantized output of attention.
    pub heads: Acts,
    /// Quantized input of the down projection.
    pub hidden: Acts,
    /// Rows like `normed`, one buffer per thread.
    ///
    /// With few tokens each thread quantizes for itself, so that no thread waits.
    pub solo_normed: Vec<Acts>,
    /// Attention buffers, one per thread.
    pub attention: Vec<attention::AttentionBuffers>,
    /// Attention results over splits of a long context, until they are merged.
    pub parts: attention::SplitResults,
    /// Logits, one row of `vocab` for each node that needs them.
    pub logits: Shared<f32>,
    /// Time by stage, if it is measured.
    pub stages: Option<StageNanos>,
}

impl Scratch {
    /// Allocates buffers for a first pass; they grow as needed.
    pub fn new(config: &Config, threads: usize, kernel: &'static Kernel) -> Self {
        let widths = Widths::of(config);
        let mut scratch = Self {
            tokens: 0,
            rows: 0,
            threads,
            kernel,
            config: config.clone(),
            widths,
            residual: Shared::new(0),
            qkv: Shared::new(0),
            gates_and_ups: Vec::new(),
            attended: Shared::new(0),
            normed: Acts::new(config.dim, 0),
            heads: Acts::new(config.heads * config.head_dim, 0),
            hidden: Acts::new(config.ffn, 0),
            solo_normed: (0..threads).map(|_| Acts::new(config.dim, MAX_SOLO_TOKENS)).collect(),
            attention: (0..threads).map(|_| attention::AttentionBuffers::default()).collect(),
            parts: attention::SplitResults::default(),
            logits: Shared::new(0),
            stages: None,
        };
        scratch.reserve(1, 1, 0, 0);
        scratch
    }

    /// Grows the buffers for a pass over `tokens` tokens, `rows` of which need logits.
    ///
    /// The pass follows `len` committed positions and has `nodes` uncommitted ones in total.
    pub fn reserve(&mut self, tokens: usize, rows: usize, len: usize, nodes: usize) {
        let w = self.widths;
        if tokens > self.tokens {
            let n = tokens.next_power_of_two();
            self.tokens = n;
            self.residual = Shared::new(n * w.dim);
            self.qkv = Shared::new(n * (w.q + 2 * w.kv));
            // With fewer tokens, more blocks are taken at once, but never more numbers in total.
            let fed = (n * feed_blocks(n)).max(feed_blocks(1)) * 2 * BLOCK;
            self.gates_and_ups = (0..self.threads).map(|_| Shared::new(fed)).collect();
            self.attended = Shared::new(n * w.q);
            let groups = self.kernel.matrix_unit.is_some();
            let acts = |cols: usize| Acts::new_grouped(cols, n, groups);
            self.normed = acts(self.config.dim);
            self.heads = acts(self.config.heads * self.config.head_dim);
            self.hidden = acts(self.config.ffn);
        }
        if rows > self.rows {
            self.rows = rows;
            self.logits = Shared::new(rows * w.vocab);
        }
        for room in &mut self.attention {
            room.reserve(&self.config, nodes);
        }
        self.parts.reserve(&self.config, tokens, len + nodes);
        debug_assert_eq!(self.solo_normed.len(), self.threads);
    }
}

/// Number of blocks of gates and ups that are computed before their product is quantized.
///
/// Chosen so that those of `m` tokens stay in L1, and a single token needs few calls.
pub(super) fn feed_blocks(m: usize) -> usize {
    (64 / m.max(1)).max(2)
}

/// Maximum number of tokens that each thread quantizes for itself.
pub(super) const MAX_SOLO_TOKENS: usize = 2;
