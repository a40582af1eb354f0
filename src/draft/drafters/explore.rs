//! Code shared by the drafters that run a model. [`Explorer`] runs nodes of the draft tree as
//! uncommitted nodes of a decoder. The function [`candidates`] turns the decoder's logits into
//! candidates.

use std::time::Instant;

use crate::distribution::{NotFinite, Sampling, TokenDist};
use crate::draft::Candidate;
use crate::draft::cost_gate::{CostGate, CostModel};
use crate::model::{Decoder, ForwardError, Node, Parent, Pass};
use crate::tree::{TokenId, TokenTree};

/// Mapping from nodes of the draft tree to slots of a decoder, for one step.
#[derive(Debug, Default)]
pub(super) struct Explorer {
    /// True if the decoder's context ends with the root, which is then not run.
    root_in_context: bool,
    /// Slot of each node that was run, by node. Nodes are run out of order, so there are gaps.
    slots: Vec<Option<usize>>,
    gate: CostGate,
    /// Start time of the last pass and the reach probabilities of its nodes. `None` if there is no
    /// cost gate.
    last: Option<(Instant, Vec<f64>)>,
}

impl Explorer {
    /// Creates an explorer for a decoder whose context ends with the root.
    pub fn below_root() -> Self {
        Self { root_in_context: true, ..Self::default() }
    }

    /// Forgets the nodes of the last step.
    pub fn clear(&mut self) {
        self.slots.clear();
    }

    /// Returns the decoder slot of a tree node, if the node was run.
    pub fn slot(&self, node: usize) -> Option<usize> {
        self.slots.get(node).copied().flatten()
    }

    /// Runs `nodes` of `tree` below their parents in one pass.
    ///
    /// Returns the indices into `nodes` of those that were run; the decoder's last pass has them in
    /// this order. Skipped are nodes for which the cache has no room, and nodes whose parent was
    /// not run (another drafter may have proposed it). If the pass does not pay for itself by the
    /// cost model, all nodes are skipped.
    pub fn run(
        &mut self,
        decoder: &mut dyn Decoder,
        tree: &TokenTree,
        nodes: &[usize],
        pass: Pass,
        cost_model: Option<CostModel>,
    ) -> Result<Vec<usize>, ForwardError> {
        self.last = None;
        let mut reached = Vec::new();
        if let Some(model) = &cost_model {
            let all = tree.path_products(|i| tree.q(i));
            reached = nodes.iter().map(|&node| all[node]).collect();
            if !self.gate.pass_pays(model, reached.iter().copied()) {
                return Ok(Vec::new());
            }
        }
        let began = cost_model.map(|_| Instant::now());
        let first = decoder.nodes();
        let room = decoder.capacity().saturating_sub(decoder.len() + first);
        let (mut batch, mut places) =
            (Vec::with_capacity(nodes.len()), Vec::with_capacity(nodes.len()));
        for (place, &node) in nodes.iter().enumerate() {
            let parent = match tree.parent(node) {
                None => Some(Parent::Context),
                Some(0) if self.root_in_context => Some(Parent::Context),
                Some(parent) => self.slot(parent).map(Parent::Slot),
            };
            if let Some(parent) = parent.filter(|_| batch.len() < room) {
                batch.push(Node { token: tree.token(node), parent });
                places.push(place);
            }
        }
        if batch.is_empty() {
            return Ok(places);
        }
        decoder.append(&batch, pass)?;
        for (i, &place) in places.iter().enumerate() {
            let node = nodes[place];
            if self.slots.len() <= node {
                self.slots.resize(node + 1, None);
            }
            self.slots[node] = Some(first + i);
        }
        self.last = began.map(|began| (began, reached));
        Ok(places)
    }

    /// Passes the last pass's candidates of each node to the cost gate.
    pub fn learn_pass(&mut self, lists: &[Vec<Candidate>]) {
        if let Some((began, reached)) = self.last.take() {
            let seconds = began.elapsed().as_secs_f64();
            let best = |list: &Vec<Candidate>| list.first().map(|best| best.q);
            let children = reached
                .into_iter()
                .zip(lists)
                .filter_map(|(reach, list)| Some((reach, best(list)?)));
            self.gate.learn(seconds, children);
        }
    }
}

/// Returns the `width` best candidates of each node in the decoder's last pass.
///
/// The result has `nodes` lists. The list of the i-th node of the pass is at index `places[i]`, and
/// all others are empty. `tokens` is as for [`best_tokens`].
pub(super) fn candidates(
    decoder: &dyn Decoder,
    tokens: Option<&[TokenId]>,
    places: &[usize],
    nodes: usize,
    width: usize,
    sampling: &Sampling,
    stop: &[TokenId],
) -> Result<Vec<Vec<Candidate>>, NotFinite> {
    let mut all = vec![Vec::new(); nodes];
    for (i, &place) in places.iter().enumerate() {
        all[place] = best_tokens(decoder.logits(i), tokens, width, sampling, stop)?;
    }
    Ok(all)
}

/// Returns the `width` best candidates by `logits`.
///
/// With a reduced vocabulary, output i is token `tokens[i]`; without one (`None`), output i is
/// token i. Stop tokens are left out, and their probability is not redistributed.
pub(super) fn best_tokens(
    logits: &[f32],
    tokens: Option<&[TokenId]>,
    width: usize,
    sampling: &Sampling,
    stop: &[TokenId],
) -> Result<Vec<Candidate>, NotFinite> {
    let best = TokenDist::new(logits, sampling)?
        .top(width + stop.len())
        .into_iter()
        .filter(|(_, q)| *q > 0.0);
    let named =
        best.map(|(i, q)| Candidate { token: tokens.map_or(i, |tokens| tokens[i as usize]), q });
    Ok(named.filter(|c| !stop.contains(&c.token)).take(width).collect())
}

/// Returns the sampling parameters for reading a model that imitates the target.
///
/// A greedy target puts all mass on one token, but the drafter does not know which one. Its plain
/// distribution (temperature 1) tells how sure it is.
pub(super) fn drafter_sampling(target: &Sampling) -> Sampling {
    if target.greedy() { Sampling::PLAIN } else { *target }
}
