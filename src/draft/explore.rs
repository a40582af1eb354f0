//! What the drafters that run a model share: nodes of the draft tree as uncommitted nodes of a decoder.

use super::Candidate;
use crate::dist::{Law, NotFinite, Warp};
use crate::model::{Decoder, ForwardError, Logits, Node, Parent, Pass};
use crate::tree::{TokenId, TokenTree};

/// Which slot of a decoder holds which node of the draft tree. Lives for one step.
#[derive(Debug, Default)]
pub(super) struct Explorer {
    /// Slot of each node of the tree that was run; nodes are asked about out of order, so there are gaps.
    slots: Vec<Option<usize>>,
}

impl Explorer {
    /// A new step.
    pub fn clear(&mut self) {
        self.slots.clear();
    }

    /// The slot of a node of the tree, if it was run.
    pub fn slot(&self, node: usize) -> Option<usize> {
        self.slots.get(node).copied().flatten()
    }

    /// Runs `nodes` of `tree` below their parents in one pass of the first `layers` layers. Those for which the cache
    /// has no room are left out: returns how many of `nodes`, from the first, were run. Their logits are those of the
    /// decoder, in the order of `nodes`.
    pub fn run(
        &mut self,
        decoder: &mut dyn Decoder,
        tree: &TokenTree,
        nodes: &[usize],
        layers: usize,
    ) -> Result<usize, ForwardError> {
        let first = decoder.nodes();
        let room = decoder.capacity().saturating_sub(decoder.len() + first);
        let nodes = &nodes[..nodes.len().min(room)];
        if nodes.is_empty() {
            return Ok(0);
        }
        let mut batch = Vec::with_capacity(nodes.len());
        for &node in nodes {
            let parent = match tree.parent(node) {
                None => Parent::Context,
                // A parent that had no room has no candidates, so that none of its children is ever asked about.
                Some(parent) => match self.slot(parent) {
                    Some(slot) => Parent::Slot(slot),
                    None => return Err(ForwardError::Parent { node: first + batch.len(), parent }),
                },
            };
            batch.push(Node { token: tree.token(node), parent });
        }
        decoder.append(&batch, Pass { layers, logits: Logits::All })?;
        for (i, &node) in nodes.iter().enumerate() {
            if self.slots.len() <= node {
                self.slots.resize(node + 1, None);
            }
            self.slots[node] = Some(first + i);
        }
        Ok(nodes.len())
    }
}

/// The `width` best candidates of each of the first `ran` nodes of the decoder's last pass, and none for the rest of
/// `asked`. Stop tokens are left out; their probability is nobody's.
pub(super) fn candidates(
    decoder: &dyn Decoder,
    ran: usize,
    asked: usize,
    width: usize,
    warp: &Warp,
    stop: &[TokenId],
) -> Result<Vec<Vec<Candidate>>, NotFinite> {
    let mut all = Vec::with_capacity(asked);
    for i in 0..ran {
        let best = best_of(decoder.logits(i), warp, width + stop.len())?;
        all.push(best.into_iter().filter(|c| !stop.contains(&c.token)).take(width).collect());
    }
    all.resize(asked, Vec::new());
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
