//! Test decoder whose logits are a table, and sessions over it.
//!
//! Logits are a hash of the whole path, so that every distribution can be enumerated.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::{Engine, Session, Vocabulary};
use crate::draft::{Drafter, EarlyExit, Mix, ModelDrafter, Ngram, NoDraft, Oracle, Suffix};
use crate::model::{Config, Decoder, ForwardError, Logits, Node, Parent, Pass};
use crate::telemetry::{StepRecord, StepSettings};
use crate::tree::TokenId;

/// Number of layers the decoder reports. With fewer layers its logits are similar.
pub const LAYERS: usize = 4;

/// Deterministic decoder of a small vocabulary, without a model.
///
/// Logits are multiples of 1/4 in \[-2, 2), so that ties are common.
#[derive(Clone)]
pub struct TableDecoder {
    config: Config,
    seed: u64,
    committed: Vec<TokenId>,
    nodes: Vec<(Node, bool)>,
    logits: Vec<Option<Vec<f32>>>,
    capacity: usize,
    /// Number of the pass that fails, from 1.
    fails_at: Option<usize>,
    /// Number of passes made, and of nodes run in them.
    pub passes: (usize, usize),
}

impl TableDecoder {
    /// Creates a decoder with a vocabulary of `vocab` tokens.
    pub fn new(vocab: usize, seed: u64) -> Self {
        let config = Config {
            dim: 1,
            ffn: 1,
            layers: LAYERS,
            heads: 1,
            kv_heads: 1,
            head_dim: 1,
            vocab,
            context: 512,
            eps: 1e-5,
            rope_base: 1e4,
            rope_scaling: None,
        };
        Self {
            config,
            seed,
            committed: vec![],
            nodes: vec![],
            logits: vec![],
            capacity: 512,
            fails_at: None,
            passes: (0, 0),
        }
    }

    /// Limits the cache and the context to `capacity` positions.
    pub fn with_capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self.config.context = capacity;
        self
    }

    /// Makes the device fail at pass `at`, from 1.
    pub fn failing(mut self, at: usize) -> Self {
        self.fails_at = Some(at);
        self
    }

    /// Returns the logits after `path`, which is the whole text.
    pub fn row(&self, path: &[TokenId], layers: usize) -> Vec<f32> {
        let mix = |h: u64, x: u64| {
            let h = (h ^ x.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (h ^ (h >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) ^ (h >> 17)
        };
        let state = path.iter().fold(self.seed, |h, &t| mix(h, u64::from(t)));
        let level = |h: u64| ((h >> 40) % 16) as f32 / 4.0 - 2.0;
        let full = |t: u64| level(mix(state, t + 1000));
        let off = |t: u64| level(mix(state, t + 2000)) * 0.3;
        (0..self.config.vocab as u64)
            .map(|t| full(t) + if layers < LAYERS { off(t) } else { 0.0 })
            .collect()
    }

    fn path_of(&self, slot: usize) -> Vec<TokenId> {
        let mut path = vec![self.nodes[slot].0.token];
        let mut at = self.nodes[slot].0.parent;
        while let Parent::Slot(s) = at {
            path.push(self.nodes[s].0.token);
            at = self.nodes[s].0.parent;
        }
        path.extend(self.committed.iter().rev());
        path.reverse();
        path
    }
}

impl Decoder for TableDecoder {
    fn config(&self) -> &Config {
        &self.config
    }
    fn capacity(&self) -> usize {
        self.capacity
    }
    fn len(&self) -> usize {
        self.committed.len()
    }
    fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn append(&mut self, nodes: &[Node], pass: Pass) -> Result<(), ForwardError> {
        let needed = self.committed.len() + self.nodes.len() + nodes.len();
        if needed > self.capacity {
            return Err(ForwardError::Full { needed, capacity: self.capacity });
        }
        if self.fails_at == Some(self.passes.0 + 1) {
            return Err(ForwardError::Device(candle_core::Error::Msg(
                "it was lost\n  at some place".into(),
            )));
        }
        self.passes = (self.passes.0 + 1, self.passes.1 + nodes.len());
        self.logits.clear();
        for (i, &node) in nodes.iter().enumerate() {
            let slot = self.nodes.len();
            if let Parent::Slot(parent) = node.parent {
                // As in the real decoder, a parent must have been run through as many layers.
                if parent >= slot || (pass.layers >= LAYERS && !self.nodes[parent].1) {
                    return Err(ForwardError::Parent { node: slot, parent });
                }
            }
            self.nodes.push((node, pass.layers >= LAYERS));
            let wanted =
                pass.logits == Logits::All || (pass.logits == Logits::Last && i + 1 == nodes.len());
            let row = wanted.then(|| self.row(&self.path_of(slot), pass.layers));
            self.logits.push(row);
        }
        Ok(())
    }

    fn logits(&self, i: usize) -> &[f32] {
        self.logits[i].as_deref().expect("logits that were asked for")
    }

    fn commit(&mut self, path: &[usize]) -> Result<(), ForwardError> {
        let mut below = Parent::Context;
        for &slot in path {
            assert!(self.nodes[slot].0.parent == below, "slot {slot} is not below {below:?}");
            assert!(self.nodes[slot].1, "slot {slot} was not run through all layers");
            below = Parent::Slot(slot);
        }
        let tokens: Vec<TokenId> = path.iter().map(|&slot| self.nodes[slot].0.token).collect();
        self.committed.extend(tokens);
        self.nodes.clear();
        Ok(())
    }

    fn discard(&mut self) {
        self.nodes.clear();
    }

    fn truncate(&mut self, len: usize) {
        self.nodes.clear();
        self.committed.truncate(len);
    }

    fn fork(&self) -> Result<Box<dyn Decoder>, ForwardError> {
        let mut fork = self.clone();
        fork.nodes.clear();
        Ok(Box::new(fork))
    }
}

/// Returns settings with seed 11.
pub fn settings(drafter: &str, shape: &str, budget: usize, temperature: f32) -> StepSettings {
    StepSettings {
        seed: 11,
        ..StepSettings::new(drafter, shape.parse().unwrap(), budget, temperature)
    }
}

/// Creates a session with all drafters; the draft model is another table.
pub fn session(table: &TableDecoder, stop: &[TokenId], settings: StepSettings) -> Session {
    let vocab = Decoder::config(table).vocab;
    let second = Box::new(TableDecoder::new(vocab, 99));
    let drafters: Vec<Box<dyn Drafter>> = vec![
        Box::new(NoDraft),
        Box::new(Ngram::default()),
        Box::new(Suffix::default()),
        Box::new(EarlyExit::new(1, LAYERS).unwrap()),
        Box::new(ModelDrafter::new(second, "second", vocab)),
        Box::new(
            Mix::new(
                "mix",
                vec![Box::new(Suffix::default()), Box::new(EarlyExit::new(1, LAYERS).unwrap())],
            )
            .unwrap(),
        ),
        Box::new(
            Mix::new(
                "auto",
                vec![Box::new(Suffix::default()), Box::new(EarlyExit::new(1, LAYERS).unwrap())],
            )
            .unwrap(),
        ),
        Box::new(Oracle::default()),
    ];
    let bytes = (0..vocab).map(|t| vec![b'a' + t as u8].into()).collect();
    let vocabulary = Arc::new(Vocabulary::new(bytes, stop.to_vec()));
    Session::new(Box::new(table.clone()), drafters, vocabulary, settings).unwrap()
}

/// Creates an engine over [`session`] with one token per letter, starting at "a".
///
/// The prompt "!" can't be encoded.
pub fn engine(table: &TableDecoder, stop: &[TokenId], settings: StepSettings) -> Engine {
    let tokens = |text: &str| match text {
        "!" => Err("no template for it".to_owned()),
        text => Ok(text.bytes().map(|b| u32::from(b - b'a')).collect()),
    };
    let session = session(table, stop, settings);
    Engine {
        session,
        tokens: Box::new(tokens),
        info: Default::default(),
        cost_cache: None,
        work: Default::default(),
    }
}

/// Generates a text to its end and returns the generated tokens and the records.
pub fn run(
    session: &mut Session,
    prompt: &[TokenId],
    tokens: usize,
) -> (Vec<TokenId>, Vec<StepRecord>) {
    session.start("x", prompt, tokens).unwrap();
    let mut records = Vec::new();
    while let Some(record) = session.step().unwrap() {
        records.push(record);
    }
    (session.tokens()[prompt.len()..].to_vec(), records)
}
