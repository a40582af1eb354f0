//! Decoder for one context on the CPU.
//!
//! It owns the cache and the buffers of the context; the weights ([`Llama`]) are shared.

use std::ops::Range;
use std::sync::Arc;

use super::attention::Paths;
use super::cache::Cache;
use super::hidden::Hidden;
use super::input_stage::{InputBuffers, States};
use super::llama::{Batch, Llama};
use super::scratch::Scratch;
use super::stages::{Stage, StageNanos};
use crate::model::uncommitted::UncommittedNodes;
use crate::model::{Config, Decoder, ForwardError, Logits, Node, Parent, Pass};
use crate::tree::TokenId;

/// Maximum number of tokens that run through the layers together.
///
/// A longer pass is split into batches of this size.
pub const MAX_BATCH_TOKENS: usize = 256;

/// [`Decoder`] over packed weights, with its own cache and the buffers that its passes need.
#[derive(Debug)]
pub struct CpuDecoder {
    llama: Arc<Llama>,
    cache: Cache,
    capacity: usize,
    len: usize,
    uncommitted: UncommittedNodes,
    scratch: Scratch,
    /// Cosines and sines, one row for each position that a pass has reached.
    angles: Vec<f32>,
    tokens: Vec<TokenId>,
    positions: Vec<usize>,
    paths: Paths,
    /// Node count of the last pass, and which of its nodes have logits.
    last: (usize, Logits),
    /// Hidden states, if they are kept.
    hidden: Option<Hidden>,
    /// Buffers for the input stage of a drafting head.
    input_buffers: Option<InputBuffers>,
    /// States of the nodes of a drafting head's pass, `dim` numbers each.
    states: Vec<f32>,
}

impl CpuDecoder {
    /// Creates an empty context for `capacity` positions, committed and uncommitted.
    ///
    /// # Panics
    /// If the system cannot provide the memory.
    pub fn new(llama: Arc<Llama>, capacity: usize) -> Self {
        Self::try_new(llama, capacity).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Creates an empty context for `capacity` positions, committed and uncommitted.
    ///
    /// # Errors
    /// If the system cannot provide the memory.
    pub fn try_new(llama: Arc<Llama>, capacity: usize) -> Result<Self, ForwardError> {
        let config = llama.config();
        let cache = Cache::new(config, capacity)
            .map_err(|bytes| ForwardError::Memory { capacity, bytes })?;
        Ok(Self {
            cache,
            capacity,
            len: 0,
            uncommitted: UncommittedNodes::default(),
            scratch: Scratch::new(config, llama.threads(), llama.kernel()),
            angles: Vec::new(),
            tokens: Vec::new(),
            positions: Vec::new(),
            paths: Paths::default(),
            last: (0, Logits::None),
            hidden: llama.head_input().map(|_| Hidden::new(&[config.layers], config.dim, 0)),
            input_buffers: llama.head_input().map(|head_input| {
                InputBuffers::new(head_input.fused(), config.dim, llama.threads())
            }),
            states: Vec::new(),
            llama,
        })
    }

    /// Runs `nodes` of a drafting head as a chain below the context, like [`Decoder::append`].
    ///
    /// Node i comes with the target's hidden states `hidden[i * fused * dim ..]`. Nodes appended
    /// without hidden states use the head's own state of their parent instead.
    ///
    /// # Errors
    /// As [`Decoder::append`].
    ///
    /// # Panics
    /// If `hidden` has another length, or the model is not a drafting head.
    pub fn append_with_hidden(
        &mut self,
        nodes: &[Node],
        hidden: &[f32],
        pass: Pass,
    ) -> Result<(), ForwardError> {
        let fused = self
            .llama
            .head_input()
            .map_or(0, |head_input| head_input.fused() * self.llama.config().dim);
        assert!(fused > 0 && hidden.len() == nodes.len() * fused, "hidden states of every node");
        self.extend(nodes, Some(hidden), pass)
    }

    /// Index of the last node of the last pass, if it has logits.
    pub fn last_with_logits(&self) -> Option<usize> {
        self.last.0.checked_sub(1).filter(|_| self.last.1 != Logits::None)
    }

    /// Starts timing passes by stage and resets earlier times.
    ///
    /// Timing costs about 1% of the pass time.
    pub fn time_stages(&mut self) {
        self.scratch.stages = Some(StageNanos::default());
    }

    /// Seconds by stage of all passes since [`Self::time_stages`], averaged over the threads.
    pub fn stages(&self) -> Option<[(Stage, f64); Stage::ALL.len()]> {
        Some(self.scratch.stages.as_ref()?.seconds(self.llama.threads()))
    }

    /// Copies the context, like [`Decoder::fork`].
    ///
    /// # Errors
    /// If the system cannot provide the memory.
    pub fn fork_context(&self) -> Result<CpuDecoder, ForwardError> {
        let mut fork = Self::try_new(Arc::clone(&self.llama), self.capacity)?;
        fork.cache.copy_from(&self.cache, self.len);
        fork.hidden = self.hidden.as_ref().map(|hidden| Hidden::copy_of(hidden, self.len));
        fork.len = self.len;
        Ok(fork)
    }

    /// Returns the state that precedes a drafting head's node.
    ///
    /// This is its parent's state, or that of the last committed position.
    fn state(&self, node: &Node) -> Option<&[f32]> {
        let row = match node.parent {
            Parent::Context => self.len.checked_sub(1)?,
            Parent::Slot(slot) => self.len + slot,
        };
        self.hidden.as_ref()?.rows(row..row + 1)
    }

    fn extend(
        &mut self,
        nodes: &[Node],
        given: Option<&[f32]>,
        pass: Pass,
    ) -> Result<(), ForwardError> {
        let layers = pass.layers.min(self.llama.config().layers);
        let first = self.uncommitted.len();
        let head_input = self.llama.head_input();
        let vocab = head_input.map_or(self.llama.config().vocab, |head_input| head_input.vocab());
        let width =
            if given.is_some() { head_input.map_or(0, |head_input| head_input.fused()) } else { 1 }
                * self.llama.config().dim;
        if head_input.is_some() && given.is_none() {
            let mut states = std::mem::take(&mut self.states);
            states.clear();
            for (i, node) in nodes.iter().enumerate() {
                match self.state(node) {
                    // Parents within this pass have no state yet: a head runs one depth at a time.
                    Some(state) if node.parent < Parent::Slot(first) => {
                        states.extend_from_slice(state)
                    }
                    _ => {
                        self.states = states;
                        return Err(ForwardError::Parent { node: first + i, parent: first + i });
                    }
                }
            }
            self.states = states;
        }
        self.uncommitted.append(vocab, self.capacity, self.len, nodes, layers)?;
        self.tokens.truncate(first);
        self.tokens.extend(nodes.iter().map(|node| node.token));
        let rows = match pass.logits {
            Logits::All => nodes.len(),
            Logits::Last => 1,
            Logits::None => 0,
        };
        self.last = (nodes.len(), pass.logits);
        self.scratch.reserve(
            nodes.len().min(MAX_BATCH_TOKENS),
            rows,
            self.len,
            self.uncommitted.len(),
        );
        if let Some(hidden) = &mut self.hidden {
            hidden.reserve(self.len + first, self.len + self.uncommitted.len());
        }
        if let Some(room) = &mut self.input_buffers {
            room.reserve(nodes.len().min(MAX_BATCH_TOKENS));
        }
        for from in (0..nodes.len()).step_by(MAX_BATCH_TOKENS) {
            let n = (nodes.len() - from).min(MAX_BATCH_TOKENS);
            let (wanted, row) = match pass.logits {
                Logits::All => (0..n, from),
                Logits::Last if from + n == nodes.len() => (n - 1..n, 0),
                _ => (0..0, 0),
            };
            let part = from * width..(from + n) * width;
            let given = given.map(|given| &given[part.clone()]);
            self.run(first + from, n, layers, wanted, row, (given, part));
        }
        Ok(())
    }

    /// Runs `n` nodes from slot `first` on.
    ///
    /// Logits of the nodes in `wanted` (indices below `n`) go to rows from `first_row` on. For a
    /// drafting head, the last argument holds the target's hidden states, or the range of its own
    /// states.
    fn run(
        &mut self,
        first: usize,
        n: usize,
        layers: usize,
        wanted: Range<usize>,
        first_row: usize,
        (given, own): (Option<&[f32]>, Range<usize>),
    ) {
        self.positions.clear();
        self.paths.clear();
        for slot in first..first + n {
            self.positions.push(self.len + self.uncommitted.depth(slot));
            self.paths.push(self.uncommitted.path_to_context(slot));
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
            hidden: self.hidden.as_ref(),
            states: self.input_buffers.as_ref().map(|room| match given {
                Some(given) => (States::Hidden(given), room),
                None => (States::Own(&self.states[own]), room),
            }),
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
        self.uncommitted.len()
    }

    fn append(&mut self, nodes: &[Node], pass: Pass) -> Result<(), ForwardError> {
        self.extend(nodes, None, pass)
    }

    #[allow(unsafe_code)]
    fn logits(&self, i: usize) -> &[f32] {
        let row = match self.last {
            (n, Logits::All) if i < n => i,
            (n, Logits::Last) if i + 1 == n => 0,
            (n, wanted) => panic!("logits of node {i} of {n} were not asked for ({wanted:?})"),
        };
        let at = row * self.scratch.widths.vocab;
        // SAFETY: only passes write logits, and none runs while the decoder is borrowed.
        unsafe { self.scratch.logits.read(at..at + self.llama.config().vocab) }
    }

    fn commit(&mut self, path: &[usize]) -> Result<(), ForwardError> {
        self.uncommitted.check_path(path, self.llama.config().layers)?;
        let len = self.len;
        self.cache.gather(len, path.iter().map(|slot| len + slot));
        if let Some(hidden) = &mut self.hidden {
            hidden.gather(len, path.iter().map(|slot| len + slot));
        }
        self.len += path.len();
        self.uncommitted.truncate(0);
        Ok(())
    }

    fn discard(&mut self) {
        self.uncommitted.truncate(0);
    }

    fn truncate(&mut self, len: usize) {
        self.uncommitted.truncate(0);
        self.len = self.len.min(len);
        if let Some(hidden) = &mut self.hidden {
            hidden.truncate(self.len);
        }
    }

    fn keep_hidden(&mut self, after: &[usize]) -> bool {
        if self.input_buffers.is_none() {
            let from = self.len + self.uncommitted.len();
            self.hidden =
                (!after.is_empty()).then(|| Hidden::new(after, self.llama.config().dim, from));
        }
        self.input_buffers.is_none()
    }

    fn hidden(&self, rows: Range<usize>) -> Option<&[f32]> {
        self.hidden.as_ref().filter(|_| rows.end <= self.len + self.uncommitted.len())?.rows(rows)
    }

    #[allow(unsafe_code)]
    fn state(&self, i: usize) -> Option<&[f32]> {
        let (at, dim) = (i * self.scratch.widths.dim, self.llama.config().dim);
        // If the pass was split, later batches have overwritten the rows of the first ones.
        let there = i < self.last.0 && self.last.0 <= MAX_BATCH_TOKENS;
        // SAFETY: only passes write the residual stream, and none runs while the decoder is
        // borrowed.
        there.then(|| unsafe { self.scratch.residual.read(at..at + dim) })
    }

    fn fork(&self) -> Result<Box<dyn Decoder>, ForwardError> {
        Ok(Box::new(self.fork_context()?))
    }
}
