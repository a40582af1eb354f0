//! What the drafters that run a model share: nodes of the draft tree as uncommitted nodes of a decoder.

use std::time::Instant;

use super::Candidate;
use super::thrift::{Thrift, Worth};
use crate::dist::{Law, NotFinite, Warp};
use crate::model::{Decoder, ForwardError, Node, Parent, Pass};
use crate::tree::{TokenId, TokenTree};

/// Which slot of a decoder holds which node of the draft tree. Lives for one step.
#[derive(Debug, Default)]
pub(super) struct Explorer {
    /// Whether the root is a part of the decoder's context, and not run as a node.
    root_in_context: bool,
    /// Slot of each node of the tree that was run; nodes are asked about out of order, so there are gaps.
    slots: Vec<Option<usize>>,
    thrift: Thrift,
    /// The last pass: when it began, where that counts, and the probabilities with which its nodes are reached.
    last: Option<(Instant, Vec<f64>)>,
}

impl Explorer {
    /// For a decoder whose context ends with the root.
    pub fn below_root() -> Self {
        Self { root_in_context: true, ..Self::default() }
    }

    /// A new step.
    pub fn clear(&mut self) {
        self.slots.clear();
    }

    /// What passes are to pay for themselves by.
    pub fn worth(&mut self, worth: Option<Worth>) {
        self.thrift.set(worth);
    }

    /// The slot of a node of the tree, if it was run.
    pub fn slot(&self, node: usize) -> Option<usize> {
        self.slots.get(node).copied().flatten()
    }

    /// Runs `nodes` of `tree` below their parents in one pass. Left out are those for which the cache has no room, and those whose
    /// parent was left out: another drafter may have proposed them; and all, where the pass would not pay for itself. Returns the places
    /// in `nodes` of those that were run; what the decoder knows of its last pass is in this order.
    pub fn run(
        &mut self,
        decoder: &mut dyn Decoder,
        tree: &TokenTree,
        nodes: &[usize],
        pass: Pass,
    ) -> Result<Vec<usize>, ForwardError> {
        self.last = None;
        let mut reached = Vec::new();
        if self.thrift.on() {
            let all = tree.path_products(|i| tree.q(i));
            reached = nodes.iter().map(|&node| all[node]).collect();
            if !self.thrift.pays(reached.iter().copied()) {
                return Ok(Vec::new());
            }
        }
        let began = self.thrift.on().then(Instant::now);
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

    /// What came of the last pass, for each of its nodes.
    pub fn told(&mut self, lists: &[Vec<Candidate>]) {
        if let Some((began, reached)) = self.last.take() {
            let seconds = began.elapsed().as_secs_f64();
            let best = |list: &Vec<Candidate>| list.first().map(|best| best.q);
            let children = reached.into_iter().zip(lists).filter_map(|(reach, list)| Some((reach, best(list)?)));
            self.thrift.learn(seconds, children);
        }
    }
}

/// The `width` best candidates of each node of the decoder's last pass, at its place among `asked`; none at the other places.
/// `tokens` as for [`best_tokens`].
pub(super) fn candidates(
    decoder: &dyn Decoder,
    tokens: Option<&[TokenId]>,
    places: &[usize],
    asked: usize,
    width: usize,
    warp: &Warp,
    stop: &[TokenId],
) -> Result<Vec<Vec<Candidate>>, NotFinite> {
    let mut all = vec![Vec::new(); asked];
    for (i, &place) in places.iter().enumerate() {
        all[place] = best_tokens(decoder.logits(i), tokens, width, warp, stop)?;
    }
    Ok(all)
}

/// The `width` best candidates by `logits`. Number i of a head's is token `tokens[i]`; a whole model has none, and i is the token itself.
/// Stop tokens are left out; their probability is nobody's.
pub(super) fn best_tokens(
    logits: &[f32],
    tokens: Option<&[TokenId]>,
    width: usize,
    warp: &Warp,
    stop: &[TokenId],
) -> Result<Vec<Candidate>, NotFinite> {
    let best = Law::new(logits, warp)?.top(width + stop.len()).into_iter().filter(|(_, q)| *q > 0.0);
    let named = best.map(|(i, q)| Candidate { token: tokens.map_or(i, |tokens| tokens[i as usize]), q });
    Ok(named.filter(|c| !stop.contains(&c.token)).take(width).collect())
}

/// The warp under which a model that imitates the target is read. A greedy target puts all mass on one token, but a
/// drafter does not know which: its own plain law says how sure it is.
pub(super) fn drafter_warp(target: &Warp) -> Warp {
    if target.greedy() { Warp::PLAIN } else { *target }
}
