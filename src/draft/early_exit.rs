//! The target's own first layers and its head, or a small trained adapter in the head's place.

use std::sync::Arc;

use super::explore::{Explorer, candidates, drafter_warp, head_candidates};
use super::{Candidate, Context, DraftError, Drafter, Worth};
use crate::model::kernels::CpuDecoder;
use crate::model::{Decoder, ForwardError, Head, Logits, Node, Parent, Pass};
use crate::tree::{TokenId, TokenTree};

/// Nodes that an adapter reads in one pass at most.
const READ: usize = 256;

/// Leaves the target after its first layers, on the target's own cache (which holds those layers' keys and values of
/// the whole context already).
pub struct EarlyExit {
    layers: usize,
    of: usize,
    adapter: Option<Adapter>,
    explorer: Explorer,
}

/// What reads hidden states of an early layer in the place of the target's own head, which was made for those of the last.
struct Adapter {
    decoder: CpuDecoder,
    tokens: Arc<[TokenId]>,
    megabytes: f64,
    /// The hidden states of a pass.
    states: Vec<f32>,
}

impl EarlyExit {
    /// Exits after `layers` of the target's `of` layers.
    ///
    /// # Errors
    /// Unless 1 <= `layers` < `of`.
    pub fn new(layers: usize, of: usize) -> Result<Self, DraftError> {
        if layers == 0 || layers >= of {
            let most = of.saturating_sub(1);
            return Err(DraftError::Unfit(format!("early-exit after {layers} layers: the target has {of}, give 1 to {most}")));
        }
        Ok(Self { layers, of, adapter: None, explorer: Explorer::default() })
    }

    /// Exits where `adapter`, a head of that form ([`crate::model::HeadForm::Adapter`]) for this target, was trained to read.
    ///
    /// # Errors
    /// If that is behind no or all of the target's `of` layers.
    pub fn with(adapter: &Head, of: usize) -> Result<Self, DraftError> {
        let layers = adapter.about().after.first().copied().unwrap_or(0);
        let adapter = Adapter {
            decoder: adapter.decoder(READ),
            tokens: Arc::clone(&adapter.about().tokens),
            megabytes: adapter.weight_bytes() as f64 / 1e6,
            states: Vec::new(),
        };
        Ok(Self { adapter: Some(adapter), ..Self::new(layers, of)? })
    }

    /// The layers that are run when nobody says otherwise and there is no adapter: a third of the target's.
    pub fn default_layers(of: usize) -> usize {
        (of / 3).max(1)
    }
}

impl Adapter {
    /// Reads the hidden states of the last pass of `target`, over `tokens`; whether they were at hand.
    fn read(&mut self, target: &dyn Decoder, tokens: &[TokenId]) -> Result<bool, ForwardError> {
        self.states.clear();
        for i in 0..tokens.len() {
            let Some(state) = target.state(i).filter(|_| tokens.len() <= READ) else { return Ok(false) };
            self.states.extend_from_slice(state);
        }
        // Without attention no node sees another.
        let nodes: Vec<Node> = tokens.iter().map(|&token| Node { token, parent: Parent::Context }).collect();
        self.decoder.discard();
        self.decoder.append_with(&nodes, &self.states, Pass::FULL)?;
        Ok(true)
    }
}

impl Drafter for EarlyExit {
    fn name(&self) -> &'static str {
        "early-exit"
    }

    fn cost(&self) -> String {
        let head = match &self.adapter {
            Some(adapter) => format!("a trained adapter of {:.1} MB", adapter.megabytes),
            None => "its head".into(),
        };
        format!("{} of the target's {} layers and {head}, once a depth", self.layers, self.of)
    }

    fn reset(&mut self) {}

    fn worth(&mut self, worth: Option<Worth>) {
        self.explorer.worth(worth);
    }

    fn costly(&self) -> bool {
        true
    }

    fn begin(&mut self, _: &mut Context) -> Result<(), DraftError> {
        self.explorer.clear();
        Ok(())
    }

    fn propose(
        &mut self,
        cx: &mut Context,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        let logits = if self.adapter.is_some() { Logits::None } else { Logits::All };
        let ran = self.explorer.run(cx.target, tree, nodes, Pass { layers: self.layers, logits })?;
        let all = match &mut self.adapter {
            None => candidates(cx.target, &ran, nodes.len(), width, &drafter_warp(cx.warp), cx.stop)?,
            Some(adapter) => {
                let mut all = vec![Vec::new(); nodes.len()];
                let tokens: Vec<TokenId> = ran.iter().map(|&place| tree.token(nodes[place])).collect();
                if !tokens.is_empty() && adapter.read(cx.target, &tokens)? {
                    for (i, &place) in ran.iter().enumerate() {
                        all[place] = head_candidates(adapter.decoder.logits(i), &adapter.tokens, width, cx)?;
                    }
                }
                all
            }
        };
        self.explorer.told(&all);
        Ok(all)
    }

    fn end(&mut self, cx: &mut Context) {
        cx.target.discard();
    }

    fn at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        let adapter = self.adapter.as_ref().map(|adapter| Adapter {
            decoder: adapter.decoder.fork_context(),
            tokens: Arc::clone(&adapter.tokens),
            megabytes: adapter.megabytes,
            states: Vec::new(),
        });
        Ok(Box::new(EarlyExit { layers: self.layers, of: self.of, adapter, explorer: Explorer::default() }))
    }
}
