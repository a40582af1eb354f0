//! One context on the CPU path.

use std::sync::Arc;

use super::attention::Paths;
use super::cache::Cache;
use super::llama::{Batch, Llama};
use super::scratch::Scratch;
use crate::model::slots::Slots;
use crate::model::{Config, Decoder, ForwardError, Logits, Node, Pass};
use crate::tree::TokenId;

/// Tokens that go through the layers together at most; a longer pass is cut.
const AT_ONCE: usize = 256;

/// A [`Decoder`] over packed weights: a cache of its own, and the room that its passes need.
#[derive(Debug)]
pub struct CpuDecoder {
    llama: Arc<Llama>,
    cache: Cache,
    capacity: usize,
    len: usize,
    slots: Slots,
    scratch: Scratch,
    /// Cosines and sines, a row for each position that a pass has reached.
    angles: Vec<f32>,
    tokens: Vec<TokenId>,
    positions: Vec<usize>,
    paths: Paths,
    /// Nodes of the last pass, and which of them have logits.
    last: (usize, Logits),
}

impl CpuDecoder {
    /// An empty context with room for `capacity` positions, committed and not.
    pub fn new(llama: Arc<Llama>, capacity: usize) -> Self {
        let config = llama.config();
        Self {
            cache: Cache::new(config, capacity),
            capacity,
            len: 0,
            slots: Slots::default(),
            scratch: Scratch::new(config, llama.threads()),
            angles: Vec::new(),
            tokens: Vec::new(),
            positions: Vec::new(),
            paths: Paths::default(),
            last: (0, Logits::None),
            llama,
        }
    }

    /// Runs the `n` nodes from slot `first` on; logits of those in `wanted` (of the n) go to rows from `first_row` on.
    fn run(&mut self, first: usize, n: usize, layers: usize, wanted: std::ops::Range<usize>, first_row: usize) {
        self.positions.clear();
        self.paths.clear();
        for slot in first..first + n {
            self.positions.push(self.len + self.slots.depth(slot));
            self.paths.push(self.slots.upward(slot));
        }
        let width = self.llama.config().head_dim;
        let reached = self.positions.iter().max().map_or(0, |p| p + 1);
        let known = self.angles.len() / width.max(1);
        self.llama.angles(known, reached, &mut self.angles);
        let pass = Batch {
            tokens: &self.tokens[first..first + n],
            positions: &self.positions,
            paths: &self.paths,
            len: self.len,
            slot: self.len + first,
            layers,
            logits: wanted,
            first_row,
            angles: &self.angles,
        };
        self.llama.forward(&pass, &self.cache, &self.scratch);
    }
}

impl Decoder for CpuDecoder {
    fn config(&self) -> &Config {
        self.llama.config()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn len(&self) -> usize {
        self.len
    }

    fn nodes(&self) -> usize {
        self.slots.len()
    }

    fn append(&mut self, nodes: &[Node], pass: Pass) -> Result<(), ForwardError> {
        let layers = pass.layers.min(self.llama.config().layers);
        let first = self.slots.len();
        self.slots.append(self.llama.config(), self.capacity, self.len, nodes, layers)?;
        self.tokens.truncate(first);
        self.tokens.extend(nodes.iter().map(|node| node.token));
        let rows = match pass.logits {
            Logits::All => nodes.len(),
            Logits::Last => 1,
            Logits::None => 0,
        };
        self.last = (nodes.len(), pass.logits);
        self.scratch.reserve(nodes.len().min(AT_ONCE), rows, self.len, self.slots.len());
        for from in (0..nodes.len()).step_by(AT_ONCE) {
            let n = (nodes.len() - from).min(AT_ONCE);
            let (wanted, row) = match pass.logits {
                Logits::All => (0..n, from),
                Logits::Last if from + n == nodes.len() => (n - 1..n, 0),
                _ => (0..0, 0),
            };
            self.run(first + from, n, layers, wanted, row);
        }
        Ok(())
    }

    #[allow(unsafe_code)]
    fn logits(&self, i: usize) -> &[f32] {
        let row = match self.last {
            (n, Logits::All) if i < n => i,
            (n, Logits::Last) if i + 1 == n => 0,
            (n, wanted) => panic!("logits of node {i} of {n} were not asked for ({wanted:?})"),
        };
        let at = row * self.scratch.widths.vocab;
        // SAFETY: logits are written by passes alone, and none runs while the decoder is borrowed.
        unsafe { self.scratch.logits.read(at..at + self.llama.config().vocab) }
    }

    fn commit(&mut self, path: &[usize]) -> Result<(), ForwardError> {
        self.slots.check_path(path, self.llama.config().layers)?;
        let len = self.len;
        self.cache.gather(len, path.iter().map(|slot| len + slot));
        self.len += path.len();
        self.slots.truncate(0);
        Ok(())
    }

    fn discard(&mut self) {
        self.slots.truncate(0);
    }

    fn truncate(&mut self, len: usize) {
        self.slots.truncate(0);
        self.len = self.len.min(len);
    }

    fn fork(&self) -> Result<Box<dyn Decoder>, ForwardError> {
        let mut fork = Self::new(Arc::clone(&self.llama), self.capacity);
        fork.cache.copy_from(&self.cache, self.len);
        fork.len = self.len;
        Ok(Box::new(fork))
    }
}
