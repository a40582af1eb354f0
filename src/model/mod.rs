//! Llamas: the forward over a tree, weights, tokenizer, devices.

pub mod blocks;
pub mod candle;
pub mod chat;
mod config;
pub mod device;
pub mod gguf;
mod head;
mod jinja;
pub mod kernels;
pub mod load;
pub mod rope;
mod safetensors;
mod shards;
mod slots;
pub mod tokenizer;
pub mod weights;

pub use head::{About, Head, HeadForm};
pub use load::{LoadError, Model};
pub use tokenizer::{Tokenizer, same_vocabulary};

use crate::dist::Reduced;
use crate::tree::{TokenId, TokenTree};

/// What a Llama is made of (lengths in elements).
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub dim: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of it (grouped queries).
    pub kv_heads: usize,
    /// Size of a head.
    pub head_dim: usize,
    /// Size of the vocabulary.
    pub vocab: usize,
    /// The longest context the model was made for, in tokens.
    pub context: usize,
    /// Epsilon of the RMS norms.
    pub eps: f32,
    /// Base of the rotary embedding.
    pub rope_base: f32,
    /// Llama 3's scaling of the rotary frequencies, where the model has it.
    pub rope_scaling: Option<RopeScaling>,
}

#[cfg(test)]
impl Config {
    /// The shape of a small model for tests.
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
    /// Weights that each token is multiplied with: those of attention and feed-forward in all layers, and the head. Norms are left
    /// out (they are few), and so is the embedding, of which a token reads one row.
    pub fn multiplied_weights(&self) -> u64 {
        let (dim, heads, kv) = (self.dim as u64, (self.heads * self.head_dim) as u64, (self.kv_heads * self.head_dim) as u64);
        let layer = 2 * dim * heads + 2 * dim * kv + 3 * dim * self.ffn as u64;
        self.layers as u64 * layer + dim * self.vocab as u64
    }
}

/// Llama 3's scaling of rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeScaling {
    /// Frequencies of long wavelengths are divided by this.
    pub factor: f32,
    /// Wavelengths above `original_context / low_freq_factor` are scaled in full.
    pub low_freq_factor: f32,
    /// Wavelengths below `original_context / high_freq_factor` are not scaled.
    pub high_freq_factor: f32,
    /// The context, in tokens, that the frequencies were made for.
    pub original_context: usize,
}

/// What a node appended to a decoder hangs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parent {
    /// The last committed position (or nothing, in an empty cache).
    Context,
    /// An uncommitted node, by its slot: the count of nodes appended before it since the last commit or discard.
    Slot(usize),
}

/// One token to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// The token.
    pub token: TokenId,
    /// Where it hangs. It sees the whole committed context, its ancestors and itself, and nothing else; its rotary
    /// position is the count of those before it.
    pub parent: Parent,
}

impl Node {
    /// All nodes of a tree, the root below the context, in slots by their numbers.
    pub fn of_tree(tree: &TokenTree) -> Vec<Node> {
        let node = |i: usize| Node { token: tree.token(i), parent: tree.parent(i).map_or(Parent::Context, Parent::Slot) };
        (0..tree.len()).map(node).collect()
    }

    /// `tokens` one below the other, the first below the context, in slots from 0.
    pub fn chain(tokens: &[TokenId]) -> Vec<Node> {
        let below = |i: usize| i.checked_sub(1).map_or(Parent::Context, Parent::Slot);
        tokens.iter().enumerate().map(|(i, &token)| Node { token, parent: below(i) }).collect()
    }
}

/// How far a pass goes, and for which of its nodes logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Decoder layers to run, from the first; the output norm and the head follow. `usize::MAX` for all.
    pub layers: usize,
    /// Logits wanted.
    pub logits: Logits,
}

/// The nodes of a pass for which logits are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logits {
    /// All of the pass.
    All,
    /// The last one alone (the end of a prompt).
    Last,
    /// None (the middle of a prompt).
    None,
}

impl Pass {
    /// All layers, logits of every node.
    pub const FULL: Pass = Pass { layers: usize::MAX, logits: Logits::All };
}

/// See [`Decoder::reduced`].
#[derive(Clone, Debug, Default)]
pub struct Reductions {
    /// For each temperature, for each node.
    pub nodes: Vec<Vec<Reduced>>,
    /// For each token that was asked about its logit, and its rank.
    pub tokens: Vec<(f32, usize)>,
}

/// Why a forward could not run.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The cache has no room.
    #[error("the context is full: {needed} tokens, and the cache holds {capacity}")]
    Full {
        /// Tokens that the cache would have to hold.
        needed: usize,
        /// Tokens it can hold.
        capacity: usize,
    },
    /// A token that the vocabulary does not have.
    #[error("token {token} is outside the vocabulary of {vocab}")]
    Token {
        /// The token.
        token: TokenId,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A parent that is not an uncommitted node.
    #[error("node {node} hangs under slot {parent}, which does not come before it")]
    Parent {
        /// The node's slot.
        node: usize,
        /// The slot it names.
        parent: usize,
    },
    /// A slot that is not where a path from the context down would have it.
    #[error("slot {slot} is not on a path from the context down")]
    Path {
        /// The slot.
        slot: usize,
    },
    /// A node that was not run through the layers that are needed.
    #[error("slot {slot} was not run through all layers that are needed of it")]
    Unfinished {
        /// The slot.
        slot: usize,
    },
    /// There is no memory for the cache.
    #[error("a cache of {capacity} tokens needs {bytes} bytes of memory, which can't be had: ask for fewer tokens")]
    Memory {
        /// Tokens that it was to hold.
        capacity: usize,
        /// Bytes that it needs.
        bytes: usize,
    },
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(#[from] candle_core::Error),
}

/// One context of one model: weights shared with its siblings, a cache and logits of its own.
///
/// The cache holds committed positions `0..len()` and, behind them, `nodes()` uncommitted nodes of a token tree,
/// appended in any number of passes. The logits of a node depend on the tokens of its context, its ancestors and
/// itself alone; on CPU that holds bit for bit, whatever the pass, the slot, the tree or the number of threads.
pub trait Decoder: Send {
    /// The model's shape.
    fn config(&self) -> &Config;

    /// Positions the cache can hold, committed and not.
    fn capacity(&self) -> usize;

    /// Committed positions.
    fn len(&self) -> usize;

    /// Whether nothing is committed.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Uncommitted nodes.
    fn nodes(&self) -> usize;

    /// Runs `nodes`, which get the next slots in turn. Logits of an earlier pass are gone.
    ///
    /// # Errors
    /// See [`ForwardError`]; the cache is then as it was before the call.
    fn append(&mut self, nodes: &[Node], pass: Pass) -> Result<(), ForwardError>;

    /// Logits of the i-th node of the last pass, `vocab` of them. With [`Logits::Last`] only the last node's exist.
    ///
    /// # Panics
    /// If they were not asked for.
    fn logits(&self, i: usize) -> &[f32];

    /// What the last pass's logits come to, for all of its nodes at each of `temperatures` (above 0), and of each of `tokens` (node,
    /// token) the logit and how many tokens come before it: where logits lie on a device that reduces them. None where they are at hand
    /// anyway.
    ///
    /// # Errors
    /// If the device fails.
    fn reduced(&self, temperatures: &[f32], tokens: &[(usize, TokenId)]) -> Result<Option<Reductions>, ForwardError> {
        let _ = (temperatures, tokens);
        Ok(None)
    }

    /// Commits the uncommitted nodes at `path` (slots, a path from the context down) and drops the others. Nodes
    /// must have been run through all layers.
    ///
    /// # Errors
    /// If the device fails, or `path` is not such a path.
    fn commit(&mut self, path: &[usize]) -> Result<(), ForwardError>;

    /// Drops all uncommitted nodes.
    fn discard(&mut self);

    /// Drops all uncommitted nodes and all committed positions from `len` on.
    fn truncate(&mut self, len: usize);

    /// Keeps, from now on, the residual stream behind each of `after` layers (counts of layers, rising; none to keep nothing) for
    /// every position; says whether this decoder can.
    fn keep_hidden(&mut self, after: &[usize]) -> bool {
        let _ = after;
        false
    }

    /// The hidden states that are kept for `rows`, one position after the other, for each what is kept of its layers in turn. Rows
    /// from `len()` on are those of uncommitted slots. None where they are not kept.
    fn hidden(&self, rows: std::ops::Range<usize>) -> Option<&[f32]> {
        let _ = rows;
        None
    }

    /// The residual stream of the i-th node of the last pass behind the last layer that the pass ran: what a head would read. None
    /// where it is not at hand.
    fn state(&self, i: usize) -> Option<&[f32]> {
        let _ = i;
        None
    }

    /// A second context with the same committed positions and the same weights.
    ///
    /// # Errors
    /// If the device fails.
    fn fork(&self) -> Result<Box<dyn Decoder>, ForwardError>;
}

impl dyn Decoder + '_ {
    /// Appends `tokens` as a chain below the context in passes of at most `at_once`, commits them, and leaves the
    /// logits of the last token behind (at index `(tokens.len() - 1) % at_once`) where `logits` is [`Logits::Last`].
    ///
    /// # Errors
    /// As [`Decoder::append`]; what was committed before the error stays.
    pub fn prefill(&mut self, tokens: &[TokenId], at_once: usize, logits: Logits) -> Result<(), ForwardError> {
        let passes = tokens.chunks(at_once);
        let last = passes.len().saturating_sub(1);
        for (i, chunk) in passes.enumerate() {
            let pass = Pass { layers: usize::MAX, logits: if i == last { logits } else { Logits::None } };
            self.append(&Node::chain(chunk), pass)?;
            self.commit(&(0..chunk.len()).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}
