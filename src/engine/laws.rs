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
        match &mut self.law[node] {
            Some(law) => Ok(law),
            none => Ok(none.insert(Law::new(self.target.logits(node), &self.warp)?)),
        }
    }

    /// The model's own law, at temperature 1.
    pub fn plain(&mut self, node: usize) -> Result<&Law<'a>, NotFinite> {
        if self.warp == Warp::PLAIN {
            return self.sampled(node);
        }
        let plain = match self.plain[node].take() {
            Some(law) => law,
            None => self.sampled(node)?.plain(),
        };
        Ok(self.plain[node].insert(plain))
    }
}
