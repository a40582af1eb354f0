//! What the drafters that run a model share: nodes of the draft tree as uncommitted nodes of a decoder.

use super::Candidate;
use crate::dist::{Law, NotFinite, Warp};
use crate::model::{Decoder, ForwardError, Logits, Node, Parent, Pass};
use crate::tree::{TokenId, TokenTree};

/// Which slot of a decoder holds which node of the draft tree. Lives for one step.
#[derive(Debug, Default)]
pub(super) struct Explorer {
    /// Whether the root is a part of the decoder's context, and not run as a node.
    root_in_context: bool,
    /// Slot of each node of the tree that was run; nodes are asked about out of order, so there are gaps.
    slots: Vec<Option<usize>>,
}

impl Explorer {
    /// For a decoder whose context ends with the root.
    pub fn below_root() -> Self {
        Self { root_in_context: true, slots: Vec::new() }
    }

    /// A new step.
    pub fn clear(&mut self) {
        self.slots.clear();
    }

    /// The slot of a node of the tree, if it was run.
    pub fn slot(&self, node: usize) -> Option<usize> {
        self.slots.get(node).copied().flatten()
    }

    /// Runs `nodes` of `tree` below their parents in one pass of the first `layers` layers. Left out are those for which the
    /// cache has no room, and those whose parent was left out: another drafter may have proposed them. Returns the places in
    /// `nodes` of those that were run; their logits are those of the decoder, in this order.
    pub fn run(
        &mut self,
        decoder: &mut dyn Decoder,
        tree: &TokenTree,
        nodes: &[usize],
        layers: usize,
    ) -> Result<Vec<usize>, ForwardError> {
        let first = decoder.nodes();
        let room = decoder.capacity().saturating_sub(decoder.len() + first);
        let (mut batch, mut places) = (Vec::with_capacity(nodes.len()), Vec::with_capacity(nodes.len()));
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
        decoder.append(&batch, Pass { layers, logits: Logits::All })?;
        for (i, &place) in places.iter().enumerate() {
            let node = nodes[place];
            if self.slots.len() <= node {
                self.slots.resize(node + 1, None);
            }
            self.slots[node] = Some(first + i);
        }
        Ok(places)
    }
}

/// The `width` best candidates of each node of the decoder's last pass, at its place among `asked`; none at the other places.
/// Stop tokens are left out; their probability is nobody's.
pub(super) fn candidates(
    decoder: &dyn Decoder,
    places: &[usize],
    asked: usize,
    width: usize,
    warp: &Warp,
    stop: &[TokenId],
) -> Result<Vec<Vec<Candidate>>, NotFinite> {
    let mut all = vec![Vec::new(); asked];
    for (i, &place) in places.iter().enumerate() {
        let best = best_of(decoder.logits(i), warp, width + stop.len())?;
        all[place] = best.into_iter().filter(|c| !stop.contains(&c.token)).take(width).collect();
    }
    Ok(all)
}

/// The `n` likeliest tokens of a law, but for those of no probability.
pub(super) fn best_of(logits: &[f32], warp: &Warp, n: usize) -> Result<Vec<Candidate>, NotFinite> {
    let law = Law::new(logits, warp)?;
    Ok(law.top(n).into_iter().filter(|(_, q)| *q > 0.0).map(|(token, q)| Candidate { token, q }).collect())
}

/// The warp under which a model that imitates the target is read. A greedy target puts all mass on one token, but a
/// drafter does not know which: its own plain law says how sure it is.
pub(super) fn drafter_warp(target: &Warp) -> Warp {
    if target.greedy() { Warp::PLAIN } else { *target }
}
