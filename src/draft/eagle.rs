//! A trained head over the target's hidden states, after EAGLE (Li et al. 2024, arXiv 2401.15077; EAGLE-3: arXiv 2503.01840).

use super::explore::{best_of, drafter_warp};
use super::{Candidate, Context, DraftError, Drafter};
use crate::model::kernels::CpuDecoder;
use crate::model::{Decoder, Head, Logits, Node, Parent, Pass};
use crate::tree::{TokenId, TokenTree};
use std::sync::Arc;

/// Drafts with a head whose entry i joins the target's hidden states at position i with the token at i + 1, and so tells what
/// comes at i + 2. Below the tree's root its own states stand in for those that the target has not computed yet.
pub struct Eagle {
    decoder: CpuDecoder,
    tokens: Arc<[TokenId]>,
    fused: usize,
    cost: String,
    /// Slot of each node of the tree that was run in this step, the root's entry not among them: it is committed.
    slots: Vec<Option<usize>>,
    /// Whether the root's entry could be run in this step.
    able: bool,
}

impl Eagle {
    /// A drafter from `head`, for texts of up to `capacity` tokens. The target must keep the hidden states that the head reads
    /// ([`Decoder::keep_hidden`] with the layers in [`crate::model::About`]), from the first token on.
    pub fn new(head: &Head, capacity: usize) -> Eagle {
        let megabytes = head.weight_bytes() as f64 / 1e6;
        Eagle {
            decoder: head.decoder(capacity),
            tokens: Arc::clone(&head.about().tokens),
            fused: head.about().after.len(),
            cost: format!("a trained head of {megabytes:.1} MB, once a depth and for each new token"),
            slots: Vec::new(),
            able: false,
        }
    }

    /// Candidates after the i-th node of the last pass.
    fn candidates(&self, i: usize, width: usize, cx: &Context) -> Result<Vec<Candidate>, DraftError> {
        let best = best_of(self.decoder.logits(i), &drafter_warp(cx.warp), width + cx.stop.len())?;
        let named = best.into_iter().map(|c| Candidate { token: self.tokens[c.token as usize], ..c });
        Ok(named.filter(|c| !cx.stop.contains(&c.token)).take(width).collect())
    }
}

impl Drafter for Eagle {
    fn name(&self) -> &'static str {
        "eagle"
    }

    fn cost(&self) -> String {
        self.cost.clone()
    }

    fn reset(&mut self) {
        self.decoder.truncate(0);
        self.able = false;
    }

    fn begin(&mut self, cx: &mut Context) -> Result<(), DraftError> {
        self.slots.clear();
        self.decoder.discard();
        self.able = false;
        // The entry of the token at i + 1 is number i; the root's is the last.
        let entries = cx.tokens.len().saturating_sub(1);
        if entries == 0 || entries >= self.decoder.capacity() {
            return Ok(());
        }
        // Where a step is begun again, its root's entry is run again, for its logits.
        self.decoder.truncate(entries - 1);
        let known = self.decoder.len();
        let Some(hidden) = cx.target.hidden(known..entries) else { return Ok(()) };
        let nodes: Vec<Node> = (cx.tokens[known + 1..].iter().enumerate())
            .map(|(j, &token)| Node { token, parent: j.checked_sub(1).map_or(Parent::Context, Parent::Slot) })
            .collect();
        let path: Vec<usize> = (0..nodes.len()).collect();
        debug_assert_eq!(hidden.len() % (nodes.len() * self.fused), 0);
        self.decoder.append_with(&nodes, hidden, Pass { layers: usize::MAX, logits: Logits::Last })?;
        self.decoder.commit(&path)?;
        self.able = true;
        Ok(())
    }

    fn propose(
        &mut self,
        cx: &mut Context,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        let mut all = vec![Vec::new(); nodes.len()];
        if !self.able {
            return Ok(all);
        }
        let first = self.decoder.nodes();
        let room = self.decoder.capacity().saturating_sub(self.decoder.len() + first);
        let (mut batch, mut places) = (Vec::with_capacity(nodes.len()), Vec::with_capacity(nodes.len()));
        for (place, &node) in nodes.iter().enumerate() {
            let parent = match tree.parent(node) {
                // The root's entry was run when the step began; it is asked about first, and alone.
                None => {
                    if let Some(last) = self.decoder.last_with_logits().filter(|_| first == 0) {
                        all[place] = self.candidates(last, width, cx)?;
                    }
                    continue;
                }
                Some(0) => Some(Parent::Context),
                Some(parent) => self.slots.get(parent).copied().flatten().map(Parent::Slot),
            };
            // A parent that found no room has no entry to go on from.
            if let Some(parent) = parent.filter(|_| batch.len() < room) {
                batch.push(Node { token: tree.token(node), parent });
                places.push(place);
            }
        }
        if batch.is_empty() {
            return Ok(all);
        }
        self.decoder.append(&batch, Pass::FULL)?;
        for (i, place) in places.into_iter().enumerate() {
            let node = nodes[place];
            if self.slots.len() <= node {
                self.slots.resize(node + 1, None);
            }
            self.slots[node] = Some(first + i);
            all[place] = self.candidates(i, width, cx)?;
        }
        Ok(all)
    }

    fn end(&mut self, _: &mut Context) {
        self.decoder.discard();
    }

    fn at(&self, tokens: usize) -> Result<Box<dyn Drafter>, DraftError> {
        let mut decoder = self.decoder.fork_context();
        decoder.truncate(tokens.saturating_sub(1));
        let (tokens, cost) = (Arc::clone(&self.tokens), self.cost.clone());
        Ok(Box::new(Eagle { decoder, tokens, fused: self.fused, cost, slots: Vec::new(), able: false }))
    }
}
