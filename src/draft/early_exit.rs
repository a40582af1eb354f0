//! The target's own first layers and its head, or a small trained adapter in the head's place.

use std::sync::Arc;

use super::explore::{Explorer, candidates, drafter_warp};
use super::{Candidate, Context, DraftError, Drafter, Worth};
use crate::model::kernels::{AT_ONCE, CpuDecoder};
use crate::model::{Decoder, ForwardError, Head, Logits, Node, Parent, Pass};
use crate::tree::{TokenId, TokenTree};

/// Leaves the target after its first layers, on the target's own cache (which holds those layers' keys and values of
/// the whole context already).
pub struct EarlyExit {
    layers: usize,
    cost: String,
    adapter: Option<Adapter>,
    explorer: Explorer,
}

/// What reads hidden states of an early layer in the place of the target's own head, which was made for those of the last.
struct Adapter {
    decoder: CpuDecoder,
    tokens: Arc<[TokenId]>,
    /// The hidden states of a pass.
    states: Vec<f32>,
}

impl EarlyExit {
    /// Exits after `layers` of the target's `of` layers, to its own head.
    ///
    /// # Errors
    /// Unless 1 <= `layers` < `of`.
    pub fn new(layers: usize, of: usize) -> Result<Self, DraftError> {
        Self::to("its head", None, layers, of)
    }

    /// Exits where `adapter`, a head of that form ([`crate::model::HeadForm::Adapter`]) for this target, was trained to read.
    ///
    /// # Errors
    /// If that is behind no or all of the target's `of` layers.
    pub fn with(adapter: &Head, of: usize) -> Result<Self, DraftError> {
        let layers = adapter.about().after.first().copied().unwrap_or(0);
        let head = format!("a trained adapter of {:.1} MB", adapter.weight_bytes() as f64 / 1e6);
        // More nodes at once have no states to be read.
        let adapter = Adapter::new(adapter.decoder(AT_ONCE), &adapter.about().tokens);
        Self::to(&head, Some(adapter), layers, of)
    }

    /// The early exit where nobody says otherwise: with the adapter, where there is one; else after [`Self::default_layers`]. None where
    /// the target's `of` layers leave none to exit before.
    ///
    /// # Errors
    /// As [`Self::with`].
    pub fn usual(adapter: Option<&Head>, of: usize) -> Result<Option<Self>, DraftError> {
        match adapter {
            Some(adapter) => Self::with(adapter, of).map(Some),
            None => (of > 1).then(|| Self::new(Self::default_layers(of), of)).transpose(),
        }
    }

    fn to(head: &str, adapter: Option<Adapter>, layers: usize, of: usize) -> Result<Self, DraftError> {
        if layers == 0 || layers >= of {
            let most = of.saturating_sub(1);
            return Err(DraftError::Unfit(format!("early-exit after {layers} layers: the target has {of}, give 1 to {most}")));
        }
        let cost = format!("{layers} of the target's {of} layers and {head}, once a depth");
        Ok(Self { layers, cost, adapter, explorer: Explorer::default() })
    }

    /// The layers that are run when nobody says otherwise and there is no adapter: a third of the target's.
    pub fn default_layers(of: usize) -> usize {
        (of / 3).max(1)
    }
}

impl Adapter {
    fn new(decoder: CpuDecoder, tokens: &Arc<[TokenId]>) -> Self {
        Self { decoder, tokens: Arc::clone(tokens), states: Vec::new() }
    }

    /// Reads the hidden states of the last pass of `target`, over `tokens`; whether they were at hand.
    fn read(&mut self, target: &dyn Decoder, tokens: &[TokenId]) -> Result<bool, ForwardError> {
        if tokens.is_empty() {
            return Ok(false);
        }
        self.states.clear();
        for i in 0..tokens.len() {
            let Some(state) = target.state(i) else { return Ok(false) };
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
        self.cost.clone()
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
        let warp = drafter_warp(cx.warp);
        let all = match &mut self.adapter {
            None => candidates(cx.target, None, &ran, nodes.len(), width, &warp, cx.stop)?,
            Some(adapter) => {
                let tokens: Vec<TokenId> = ran.iter().map(|&place| tree.token(nodes[place])).collect();
                let read = if adapter.read(cx.target, &tokens)? { &ran[..] } else { &[] };
                candidates(&adapter.decoder, Some(&adapter.tokens), read, nodes.len(), width, &warp, cx.stop)?
            }
        };
        self.explorer.told(&all);
        Ok(all)
    }

    fn end(&mut self, cx: &mut Context) {
        cx.target.discard();
    }

    fn at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        let adapter = match &self.adapter {
            Some(adapter) => Some(Adapter::new(adapter.decoder.fork_context()?, &adapter.tokens)),
            None => None,
        };
        Ok(Box::new(EarlyExit { layers: self.layers, cost: self.cost.clone(), adapter, explorer: Explorer::default() }))
    }
}
