//! What a pass computes on its way, kept from pass to pass so that none allocates.

use super::Kernel;
use super::acts::Acts;
use super::attention;
use super::llama::{SOLO, fed_together};
use super::memory::Shared;
use super::stages::Stages;
use super::tile::{BLOCK, ROWS};
use crate::model::Config;

/// Widths of the rows below, filled up to whole tiles.
#[derive(Clone, Copy, Debug)]
pub struct Widths {
    /// Residual stream.
    pub dim: usize,
    /// Queries of all heads.
    pub q: usize,
    /// Keys (or values) of all heads.
    pub kv: usize,
    /// Logits.
    pub vocab: usize,
}

impl Widths {
    fn of(c: &Config) -> Self {
        let whole = |n: usize| n.next_multiple_of(ROWS);
        Self { dim: whole(c.dim), q: whole(c.heads * c.head_dim), kv: whole(c.kv_heads * c.head_dim), vocab: whole(c.vocab) }
    }
}

/// Buffers for passes over a number of tokens, by rows of one token.
#[derive(Debug)]
pub struct Scratch {
    tokens: usize,
    rows: usize,
    threads: usize,
    kernel: &'static Kernel,
    config: Config,
    /// Widths of the rows.
    pub widths: Widths,
    /// The residual stream.
    pub x: Shared<f32>,
    /// Queries, keys, values: `q + 2 kv` a row.
    pub qkv: Shared<f32>,
    /// Room of each thread for the gates and ups that it rounds next.
    pub fed: Vec<Shared<f32>>,
    /// Attention's output, `q` a row.
    pub attended: Shared<f32>,
    /// Rounded input of the layer's products, of `dim`.
    pub normed: Acts,
    /// Rounded output of attention.
    pub heads: Acts,
    /// Rounded input of the last product of a layer.
    pub hidden: Acts,
    /// Rows like `normed` for every thread: with few tokens each thread rounds for itself, and nobody waits.
    pub own: Vec<Acts>,
    /// Room of each thread for its part of attention.
    pub attention: Vec<attention::Room>,
    /// Attention over parts of a long context, until they are joined.
    pub parts: attention::Parts,
    /// Logits, a row of `vocab` for each node that wants them.
    pub logits: Shared<f32>,
    /// Where the time of passes goes, if anybody wants to know.
    pub stages: Option<Stages>,
}

impl Scratch {
    /// Room for a first pass; it grows with them.
    pub fn new(config: &Config, threads: usize, kernel: &'static Kernel) -> Self {
        let widths = Widths::of(config);
        let mut scratch = Self {
            tokens: 0,
            rows: 0,
            threads,
            kernel,
            config: config.clone(),
            widths,
            x: Shared::new(0),
            qkv: Shared::new(0),
            fed: Vec::new(),
            attended: Shared::new(0),
            normed: Acts::new(config.dim, 0),
            heads: Acts::new(config.heads * config.head_dim, 0),
            hidden: Acts::new(config.ffn, 0),
            own: (0..threads).map(|_| Acts::new(config.dim, SOLO)).collect(),
            attention: (0..threads).map(|_| attention::Room::default()).collect(),
            parts: attention::Parts::default(),
            logits: Shared::new(0),
            stages: None,
        };
        scratch.reserve(1, 1, 0, 0);
        scratch
    }

    /// Makes room for a pass over `tokens` tokens, `rows` of which want logits, after `len` committed positions and
    /// among `nodes` uncommitted ones.
    pub fn reserve(&mut self, tokens: usize, rows: usize, len: usize, nodes: usize) {
        let w = self.widths;
        if tokens > self.tokens {
            let n = tokens.next_power_of_two();
            self.tokens = n;
            self.x = Shared::new(n * w.dim);
            self.qkv = Shared::new(n * (w.q + 2 * w.kv));
            // Of fewer tokens more blocks are taken together, and never more numbers.
            let fed = (n * fed_together(n)).max(fed_together(1)) * 2 * BLOCK;
            self.fed = (0..self.threads).map(|_| Shared::new(fed)).collect();
            self.attended = Shared::new(n * w.q);
            let acts = |cols: usize| Acts::for_kernel(self.kernel, cols, n);
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
        debug_assert_eq!(self.own.len(), self.threads);
    }
}
