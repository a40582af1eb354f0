//! Llama inference: weights, tokenizer, devices, and the forward pass over a token tree.
//!
//! [`Model`] loads a GGUF file or a folder of safetensors onto a device. [`Decoder`] is one context
//! of a model with its own KV cache; it scores the nodes of a token tree in one pass. Two backends
//! implement it: [`cpu`] on the CPU, and [`candle`] on GPUs and as the reference for tests.

pub mod candle;
pub mod chat;
mod config;
pub mod cpu;
pub mod device;
pub mod error;
pub mod format;
mod head;
mod head_form;
mod jinja;
pub mod load;
pub mod rope;
mod strftime;
pub mod tokenizer;
mod uncommitted;

pub use error::LoadError;
pub use head::{Head, HeadInfo};
pub use head_form::HeadForm;
pub use load::Model;
pub use tokenizer::{Tokenizer, same_vocabulary};

use crate::distribution::LogitSums;
use crate::tree::{TokenId, TokenTree};

/// Shape of a Llama model, in elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream (hidden size).
    pub dim: usize,
    /// Width of the feed-forward layer (intermediate size).
    pub ffn: usize,
    /// Number of decoder layers.
    pub layers: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key-value heads (GQA); divides `heads`.
    pub kv_heads: usize,
    /// Elements per attention head.
    pub head_dim: usize,
    /// Number of tokens in the vocabulary.
    pub vocab: usize,
    /// Longest context that the model was trained for, in tokens.
    pub context: usize,
    /// Epsilon of the RMS norms.
    pub eps: f32,
    /// Base of the rotary embedding (RoPE theta).
    pub rope_base: f32,
    /// Llama 3's scaling of the rotary frequencies, if the model uses it.
    pub rope_scaling: Option<RopeScaling>,
}

#[cfg(test)]
impl Config {
    /// Shape of a small model for tests.
    pub(crate) const SMALL: Config = Config {
        dim: 64,
        ffn: 96,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocab: 96,
        context: 64,
        eps: 1e-5,
        rope_base: 1e4,
        rope_scaling: None,
    };
}

impl Config {
    /// Number of weights that each token is multiplied with.
    ///
    /// Counts the matrices of attention and feed-forward in all layers, and the output head.
    /// Excludes the norms, which are small, and the embedding, of which a token reads one row.
    pub fn multiplied_weights(&self) -> u64 {
        let (dim, heads, kv) = (
            self.dim as u64,
            (self.heads * self.head_dim) as u64,
            (self.kv_heads * self.head_dim) as u64,
        );
        let layer = 2 * dim * heads + 2 * dim * kv + 3 * dim * self.ffn as u64;
        self.layers as u64 * layer + dim * self.vocab as u64
    }

    /// Bytes of keys and values for a number of tokens, at half precision.
    pub fn cache_bytes(&self, tokens: usize) -> u64 {
        let values = (self.kv_heads * self.head_dim) as u64;
        4 * values * self.layers as u64 * tokens as u64
    }
}

/// Parameters of Llama 3's scaling of rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeScaling {
    /// Divisor of the frequencies that are scaled in full.
    pub factor: f32,
    /// Wavelengths above `original_context / low_freq_factor` are scaled in full.
    pub low_freq_factor: f32,
    /// Wavelengths below `original_context / high_freq_factor` are not scaled.
    pub high_freq_factor: f32,
    /// Context length before scaling, in tokens.
    pub original_context: usize,
}

/// Parent of a node appended to a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parent {
    /// The last committed position, or the empty context if nothing is committed.
    Context,
    /// An uncommitted node, by its slot.
    ///
    /// The slot is the number of nodes appended before it since the last commit or discard.
    Slot(usize),
}

/// Token to run through the model, with its place in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Id of the token.
    pub token: TokenId,
    /// Node or context that this node follows.
    ///
    /// The node attends to the whole committed context, its ancestors and itself, and to nothing
    /// else. Its rotary position is the number of committed positions plus the number of its
    /// ancestors.
    pub parent: Parent,
}

impl Node {
    /// Returns all nodes of a tree, the root below the context.
    ///
    /// A node's slot is its index in the tree.
    pub fn of_tree(tree: &TokenTree) -> Vec<Node> {
        let node = |i: usize| Node {
            token: tree.token(i),
            parent: tree.parent(i).map_or(Parent::Context, Parent::Slot),
        };
        (0..tree.len()).map(node).collect()
    }

    /// Returns `tokens` as a chain, the first below the context, in slots from 0.
    pub fn chain(tokens: &[TokenId]) -> Vec<Node> {
        let below = |i: usize| i.checked_sub(1).map_or(Parent::Context, Parent::Slot);
        tokens.iter().enumerate().map(|(i, &token)| Node { token, parent: below(i) }).collect()
    }
}

/// Layers that a pass runs, and the nodes whose logits it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Number of decoder layers to run, from the first; `usize::MAX` for all.
    ///
    /// The output norm and the head follow the last of them.
    pub layers: usize,
    /// Nodes for which logits are computed.
    pub logits: Logits,
}

/// Nodes of a pass for which logits are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// Every node of the pass.
    All,
    /// Only the last node, as at the end of a prompt.
    Last,
    /// No node, as in the middle of a prompt.
    None,
}

impl Pass {
    /// All layers, with logits of every node.
    pub const FULL: Pass = Pass { layers: usize::MAX, logits: Logits::All };
}

/// Result of [`Decoder::reduced`]: statistics of a pass's logits, computed on the device.
#[derive(Clone, Debug, Default)]
pub struct Reductions {
    /// Sums for each temperature, then for each node of the pass.
    pub nodes: Vec<Vec<LogitSums>>,
    /// Logit and rank of each token that was requested.
    ///
    /// The rank is the number of tokens with a higher logit, or an equal logit and a lower id.
    pub tokens: Vec<(f32, usize)>,
}

/// Reasons that a forward pass could not run.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The nodes do not fit into the cache.
    #[error("the context is full: {needed} tokens, and the cache holds {capacity}")]
    Full {
        /// Number of tokens that the cache would have to hold.
        needed: usize,
        /// Number of tokens that the cache can hold.
        capacity: usize,
    },
    /// A token id is outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocab}")]
    Token {
        /// Id of the rejected token.
        token: TokenId,
        /// Number of tokens in the vocabulary.
        vocab: usize,
    },
    /// A parent is not an uncommitted node that precedes the node.
    #[error("node {node} hangs under slot {parent}, which does not come before it")]
    Parent {
        /// Slot that the node would have had.
        node: usize,
        /// Slot that the node names as its parent.
        parent: usize,
    },
    /// A slot in a path does not continue the path from the context down.
    #[error("slot {slot} is not on a path from the context down")]
    Path {
        /// First slot that breaks the path.
        slot: usize,
    },
    /// A node was not run through all layers that are needed.
    #[error("slot {slot} was not run through all layers that are needed of it")]
    Unfinished {
        /// Slot of the unfinished node.
        slot: usize,
    },
    /// Memory for the cache could not be allocated.
    #[error(
        "a cache of {capacity} tokens needs {bytes} bytes of memory, which can't be had: ask for fewer tokens"
    )]
    Memory {
        /// Number of tokens that the cache was meant to hold.
        capacity: usize,
        /// Size of the cache in bytes.
        bytes: usize,
    },
    /// An operation on the device failed.
    #[error("the device failed: {0}")]
    Device(#[from] candle_core::Error),
}

/// Context of a model: a KV cache and logits of its own.
///
/// Contexts of one model share its weights. The cache holds committed positions `0..len()`,
/// followed by `nodes()` uncommitted nodes of a token tree, appended in any number of passes. The
/// logits of a node depend only on the tokens of its context, its ancestors and itself. On the CPU
/// path that holds bit for bit, whatever the pass, the slot, the tree or the number of threads.
pub trait Decoder: Send {
    /// Returns the shape of the model.
    fn config(&self) -> &Config;

    /// Number of positions that the cache can hold, committed or not.
    fn capacity(&self) -> usize;

    /// Number of committed positions.
    fn len(&self) -> usize;

    /// Returns true if no position is committed.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of uncommitted nodes.
    fn nodes(&self) -> usize;

    /// Runs `nodes`, which get the next free slots in order.
    ///
    /// Discards the logits of earlier passes.
    ///
    /// # Errors
    /// See [`ForwardError`]. After an error the cache is as it was before the call.
    fn append(&mut self, nodes: &[Node], pass: Pass) -> Result<(), ForwardError>;

    /// Returns the `vocab` logits of the `i`-th node of the last pass.
    ///
    /// With [`Logits::Last`] only the last node has logits.
    ///
    /// # Panics
    /// If the last pass did not compute the logits of node `i`.
    fn logits(&self, i: usize) -> &[f32];

    /// Reduces the logits of the last pass on the device.
    ///
    /// Computes the sums over the vocabulary for every node at each of `temperatures`, which must
    /// be above 0, and the logit and rank of each (node, token) pair in `tokens`. Returns `None` if
    /// the logits are in host memory already, where the caller can read them.
    ///
    /// # Errors
    /// If the device fails.
    fn reduced(
        &self,
        temperatures: &[f32],
        tokens: &[(usize, TokenId)],
    ) -> Result<Option<Reductions>, ForwardError> {
        let _ = (temperatures, tokens);
        Ok(None)
    }

    /// Commits the uncommitted nodes at `path` and drops all others.
    ///
    /// `path` lists slots from the context down. Its nodes must have been run through all layers.
    ///
    /// # Errors
    /// If the device fails, `path` is not a path from the context down, or one of its nodes was not
    /// run through all layers.
    fn commit(&mut self, path: &[usize]) -> Result<(), ForwardError>;

    /// Drops all uncommitted nodes.
    fn discard(&mut self);

    /// Drops all uncommitted nodes and the committed positions from `len` on.
    fn truncate(&mut self, len: usize);

    /// Keeps the residual stream after each of the layers `after`.
    ///
    /// Applies to positions appended from now on. `after` holds numbers of layers in ascending
    /// order; an empty list keeps nothing. Returns false if this decoder does not support it.
    fn keep_hidden(&mut self, after: &[usize]) -> bool {
        let _ = after;
        false
    }

    /// Returns the kept hidden states of the positions `rows`.
    ///
    /// The states are ordered by position, and within a position by layer in the order of
    /// [`keep_hidden`](Self::keep_hidden). Rows from `len()` on are uncommitted slots. Returns
    /// `None` if the states were not kept.
    fn hidden(&self, rows: std::ops::Range<usize>) -> Option<&[f32]> {
        let _ = rows;
        None
    }

    /// Returns the residual stream of the `i`-th node of the last pass.
    ///
    /// It is taken after the last layer that the pass ran: the input that an output head would
    /// read. Returns `None` if it is not available.
    fn state(&self, i: usize) -> Option<&[f32]> {
        let _ = i;
        None
    }

    /// Creates a second context with the same committed positions and the same weights.
    ///
    /// # Errors
    /// If the device fails.
    fn fork(&self) -> Result<Box<dyn Decoder>, ForwardError>;
}

impl dyn Decoder + '_ {
    /// Appends `tokens` as a chain in passes of at most `at_once` tokens, and commits them.
    ///
    /// If `logits` is [`Logits::Last`], the logits of the last token remain available, at index
    /// `(tokens.len() - 1) % at_once`.
    ///
    /// # Errors
    /// As [`Decoder::append`]. Tokens committed before the error stay committed.
    pub fn prefill(
        &mut self,
        tokens: &[TokenId],
        at_once: usize,
        logits: Logits,
    ) -> Result<(), ForwardError> {
        let passes = tokens.chunks(at_once);
        let last = passes.len().saturating_sub(1);
        for (i, chunk) in passes.enumerate() {
            let pass =
                Pass { layers: usize::MAX, logits: if i == last { logits } else { Logits::None } };
            self.append(&Node::chain(chunk), pass)?;
            self.commit(&(0..chunk.len()).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}
