//! Small models with random weights, and trees over them.

use std::sync::Arc;

use candle_core::Device;
use proptest::prelude::*;
use speclight::model::candle::{CandleDecoder, Llama, Precision};
use speclight::model::format::quant::TensorFormat;
use speclight::model::format::weights::Weights;
use speclight::model::{Config, Decoder, Logits, Node, Parent, Pass, RopeScaling};

/// Llama 3's rotary scaling, tight enough to affect a context of a few dozen tokens.
pub const SCALING: RopeScaling =
    RopeScaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 64 };

/// Returns a shape with `groups` query heads per key-value head.
pub fn config(groups: usize) -> Config {
    Config {
        dim: 64,
        ffn: 96,
        layers: 3,
        heads: 4,
        kv_heads: 4 / groups,
        head_dim: 16,
        vocab: 120,
        context: 512,
        eps: 1e-5,
        rope_base: 10_000.0,
        rope_scaling: None,
    }
}

/// Returns a new decoder for the weights.
pub fn decoder(weights: &Weights, precision: Precision, capacity: usize) -> Box<dyn Decoder> {
    let llama = Llama::load(weights, &Device::Cpu, precision).unwrap();
    Box::new(CandleDecoder::new(Arc::new(llama), capacity).unwrap())
}

/// Returns random weights whose shape and format depend on `seed`.
pub fn weights(seed: u64) -> Weights {
    let kinds = [
        TensorFormat::F32,
        TensorFormat::Q8_0,
        TensorFormat::Q4_1,
        TensorFormat::BF16,
        TensorFormat::Q4_0,
        TensorFormat::F16,
    ];
    let mut config = config([1, 2, 4][seed as usize % 3]);
    config.rope_scaling = (seed / 3 % 2 == 1).then_some(SCALING);
    Weights::random(config, kinds[seed as usize / 6 % 6], (seed / 36).is_multiple_of(2), seed)
        .unwrap()
}

/// Context, nodes of a tree below it, and the number of nodes in each pass.
#[derive(Clone, Debug)]
pub struct Tree {
    pub context: Vec<u32>,
    pub nodes: Vec<Node>,
    pub passes: Vec<usize>,
}

impl Tree {
    /// Generates trees of up to `most` nodes below up to `context` tokens.
    pub fn any(vocab: u32, context: usize, most: usize) -> impl Strategy<Value = Tree> {
        let node = (0..vocab, any::<prop::sample::Index>());
        let nodes = prop::collection::vec(node, 1..=most);
        (prop::collection::vec(0..vocab, 0..=context), nodes, prop::collection::vec(1..=most, 1..4))
            .prop_map(|(context, nodes, passes)| {
                let nodes = nodes.iter().enumerate().map(|(i, (token, at))| {
                    // Sometimes below the context, more often below a node.
                    let parent =
                        at.index(i + 1).checked_sub(1).map_or(Parent::Context, Parent::Slot);
                    Node { token: *token, parent }
                });
                Tree { context, nodes: nodes.collect(), passes }
            })
    }

    /// Returns the path to node `i` from the context down, the node included.
    pub fn path(&self, i: usize) -> Vec<usize> {
        let above = |&i: &usize| match self.nodes[i].parent {
            Parent::Slot(parent) => Some(parent),
            Parent::Context => None,
        };
        let mut path: Vec<usize> = std::iter::successors(Some(i), above).collect();
        path.reverse();
        path
    }

    /// Returns the whole text that ends with node `i`.
    pub fn text(&self, i: usize) -> Vec<u32> {
        let nodes = self.path(i).into_iter().map(|i| self.nodes[i].token);
        self.context.iter().copied().chain(nodes).collect()
    }

    /// Runs the tree below its context on an empty decoder; returns all logits.
    pub fn run(&self, decoder: &mut dyn Decoder) -> Vec<Vec<f32>> {
        decoder.prefill(&self.context, 7, Logits::None).unwrap();
        let mut logits = Vec::new();
        let (mut rest, mut sizes) = (self.nodes.as_slice(), self.passes.iter().cycle());
        while !rest.is_empty() {
            let (pass, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            decoder.append(pass, Pass::FULL).unwrap();
            logits.extend((0..pass.len()).map(|i| decoder.logits(i).to_vec()));
            rest = after;
        }
        logits
    }
}

/// Returns the logits after `text`, decoded alone, token by token.
pub fn alone(decoder: &mut dyn Decoder, text: &[u32]) -> Vec<f32> {
    decoder.truncate(0);
    decoder.prefill(text, 1, Logits::Last).unwrap();
    decoder.logits(0).to_vec()
}

/// Largest absolute difference between two rows of logits.
pub fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
