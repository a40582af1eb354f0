//! Early exit: drafts with the target's first layers and an output head. The head is the target's
//! own or a small trained adapter.

use std::sync::Arc;

use crate::draft::drafters::explore::{Explorer, candidates, drafter_sampling};
use crate::draft::{Candidate, DraftError, DraftRequest, Drafter, DrafterInfo, DrafterKind};
use crate::model::cpu::{CpuDecoder, MAX_BATCH_TOKENS};
use crate::model::{Decoder, ForwardError, Head, Logits, Node, Parent, Pass};
use crate::tree::{TokenId, TokenTree};

/// Drafter that runs the first layers of the target.
///
/// It runs on the target's own cache, which already holds these layers' keys and values for the
/// whole context.
pub struct EarlyExit {
    layers: usize,
    cost: String,
    adapter: Option<Adapter>,
    explorer: Explorer,
}

/// Trained head for the hidden states of an early layer. The target's own head was trained on those
/// of the last layer.
struct Adapter {
    decoder: CpuDecoder,
    tokens: Arc<[TokenId]>,
    /// Hidden states of the last pass, one node after another.
    states: Vec<f32>,
}

/// Describes an exit after `layers` of `of` layers, which is out of range.
fn exit_out_of_range(layers: usize, of: usize) -> String {
    let depth = if layers == 1 { "1 layer".to_owned() } else { format!("{layers} layers") };
    match of {
        0 | 1 => format!("early-exit after {depth}: the target has {of}, too few to exit early"),
        2 => format!("early-exit after {depth}: the target has 2, give 1"),
        _ => format!("early-exit after {depth}: the target has {of}, give 1 to {}", of - 1),
    }
}

impl EarlyExit {
    /// Creates a drafter that exits after `layers` of `of` layers, to the target's head.
    ///
    /// # Errors
    /// Unless 1 <= `layers` < `of`.
    pub fn new(layers: usize, of: usize) -> Result<Self, DraftError> {
        Self::with_head("its head", None, layers, of)
    }

    /// Creates a drafter that exits at the layer for which `adapter` was trained.
    ///
    /// `adapter` is a head of the form [`crate::model::HeadForm::Adapter`], trained for this
    /// target. The target has `of` layers.
    ///
    /// # Errors
    /// If the exit is not between the first and the last layer.
    pub fn with_adapter(adapter: &Head, of: usize) -> Result<Self, DraftError> {
        let layers = adapter.info().source_layers.first().copied().unwrap_or(0);
        let head = format!("a trained adapter of {:.1} MB", adapter.weight_bytes() as f64 / 1e6);
        // `Decoder::state` is only available for passes of up to `MAX_BATCH_TOKENS` nodes.
        let adapter = Adapter::new(adapter.decoder(MAX_BATCH_TOKENS), &adapter.info().tokens);
        Self::with_head(&head, Some(adapter), layers, of)
    }

    /// Creates the default early exit, with the adapter if there is one.
    ///
    /// Otherwise it exits after [`Self::default_layers`]. `None` if the target's `of` layers are
    /// too few for an early exit.
    ///
    /// # Errors
    /// As [`Self::with_adapter`].
    pub fn default_exit(adapter: Option<&Head>, of: usize) -> Result<Option<Self>, DraftError> {
        match adapter {
            Some(adapter) => Self::with_adapter(adapter, of).map(Some),
            None => (of > 1).then(|| Self::new(Self::default_layers(of), of)).transpose(),
        }
    }

    fn with_head(
        head: &str,
        adapter: Option<Adapter>,
        layers: usize,
        of: usize,
    ) -> Result<Self, DraftError> {
        if layers == 0 || layers >= of {
            return Err(DraftError::Unfit(exit_out_of_range(layers, of)));
        }
        let cost = format!("{layers} of the target's {of} layers and {head}, once a depth");
        Ok(Self { layers, cost, adapter, explorer: Explorer::default() })
    }

    /// Returns the default number of layers without an adapter.
    ///
    /// A third of the target's, but at least 1.
    pub fn default_layers(of: usize) -> usize {
        (of / 3).max(1)
    }
}

impl Adapter {
    fn new(decoder: CpuDecoder, tokens: &Arc<[TokenId]>) -> Self {
        Self { decoder, tokens: Arc::clone(tokens), states: Vec::new() }
    }

    /// Runs the adapter on the hidden states of the last pass of `target`, over `tokens`. Returns
    /// `false` if the target does not provide its hidden states.
    fn read(&mut self, target: &dyn Decoder, tokens: &[TokenId]) -> Result<bool, ForwardError> {
        if tokens.is_empty() {
            return Ok(false);
        }
        self.states.clear();
        for i in 0..tokens.len() {
            let Some(state) = target.state(i) else { return Ok(false) };
            self.states.extend_from_slice(state);
        }
        // The adapter has no attention, so every node can be placed directly below the context.
        let nodes: Vec<Node> =
            tokens.iter().map(|&token| Node { token, parent: Parent::Context }).collect();
        self.decoder.discard();
        self.decoder.append_with_hidden(&nodes, &self.states, Pass::FULL)?;
        Ok(true)
    }
}

impl Drafter for EarlyExit {
    fn info(&self) -> DrafterInfo {
        DrafterInfo::with_model(DrafterKind::EarlyExit, self.cost.clone())
    }

    fn reset(&mut self) {}

    fn begin(&mut self, _: &mut DraftRequest) -> Result<(), DraftError> {
        self.explorer.clear();
        Ok(())
    }

    fn propose(
        &mut self,
        request: &mut DraftRequest,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        let logits = if self.adapter.is_some() { Logits::None } else { Logits::All };
        let pass = Pass { layers: self.layers, logits };
        let ran = self.explorer.run(request.target, tree, nodes, pass, request.cost_model)?;
        let sampling = drafter_sampling(&request.sampling);
        let all = match &mut self.adapter {
            None => {
                candidates(request.target, None, &ran, nodes.len(), width, &sampling, request.stop)?
            }
            Some(adapter) => {
                let tokens: Vec<TokenId> =
                    ran.iter().map(|&place| tree.token(nodes[place])).collect();
                let read = if adapter.read(request.target, &tokens)? { &ran[..] } else { &[] };
                candidates(
                    &adapter.decoder,
                    Some(&adapter.tokens),
                    read,
                    nodes.len(),
                    width,
                    &sampling,
                    request.stop,
                )?
            }
        };
        self.explorer.learn_pass(&all);
        Ok(all)
    }

    fn end(&mut self, request: &mut DraftRequest) {
        request.target.discard();
    }

    fn fork_at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        let adapter = match &self.adapter {
            Some(adapter) => Some(Adapter::new(adapter.decoder.fork_context()?, &adapter.tokens)),
            None => None,
        };
        Ok(Box::new(EarlyExit {
            layers: self.layers,
            cost: self.cost.clone(),
            adapter,
            explorer: Explorer::default(),
        }))
    }
}
