//! The target's laws at the nodes of a verified tree, made where they are needed and once.

use crate::dist::{Law, NotFinite, Warp};
use crate::model::Decoder;

/// Laws over the logits of a decoder's last pass, by node.
pub(super) struct Laws<'a> {
    target: &'a dyn Decoder,
    warp: Warp,
    law: Vec<Option<Law<'a>>>,
    plain: Vec<Option<Law<'a>>>,
}

impl<'a> Laws<'a> {
    /// The laws of the `nodes` nodes of `target`'s last pass.
    pub fn new(target: &'a dyn Decoder, warp: Warp, nodes: usize) -> Self {
        Self { target, warp, law: vec![None; nodes], plain: vec![None; nodes] }
    }

    /// The law that is sampled from.
    pub fn sampled(&mut self, node: usize) -> Result<&Law<'a>, NotFinite> {
        made(&mut self.law[node], self.target, node, &self.warp)
    }

    /// The model's own law, at temperature 1.
    pub fn plain(&mut self, node: usize) -> Result<&Law<'a>, NotFinite> {
        if self.warp == Warp::PLAIN {
            return self.sampled(node);
        }
        made(&mut self.plain[node], self.target, node, &Warp::PLAIN)
    }
}

fn made<'l, 'a>(
    place: &'l mut Option<Law<'a>>,
    target: &'a dyn Decoder,
    node: usize,
    warp: &Warp,
) -> Result<&'l Law<'a>, NotFinite> {
    match place {
        Some(law) => Ok(law),
        None => Ok(place.insert(Law::new(target.logits(node), warp)?)),
    }
}
