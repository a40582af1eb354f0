//! The target's laws at the nodes of a verified tree, made where they are needed and once.

use crate::dist::{Law, Moments, NotFinite, Reduced, Warp};
use crate::model::{Decoder, ForwardError, Reductions};
use crate::tree::{TokenId, TokenTree};

/// Laws over the logits of a decoder's last pass, by node. Where a device reduces logits only those come to the host of which more is
/// wanted than that.
pub(super) struct Laws<'a> {
    target: &'a dyn Decoder,
    warp: Warp,
    law: Vec<Option<Law<'a>>>,
    plain: Vec<Option<Law<'a>>>,
    reduced: Option<Reductions>,
}

/// What the target's law at a node's parent says of the node's token.
pub(super) struct Told {
    /// Its probability.
    pub p: f64,
    /// That at temperature 1, over the whole vocabulary.
    pub p_plain: f64,
    /// How many tokens come before it.
    pub rank: usize,
}

impl<'a> Laws<'a> {
    /// The laws of the nodes of `target`'s last pass, which was over `tree`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(target: &'a dyn Decoder, warp: Warp, tree: &TokenTree) -> Result<Self, ForwardError> {
        let whole = warp.greedy() || warp.top_k.is_none() && warp.top_p >= 1.0 && (1.0 / warp.temperature).is_finite();
        let reduced = if whole {
            let own = Some(warp.temperature).filter(|&own| own != 1.0 && !warp.greedy());
            let tokens: Vec<_> = tree.nodes().map(|node| (tree.parent(node).unwrap_or(0), tree.token(node))).collect();
            target.reduced(&[1.0].into_iter().chain(own).collect::<Vec<_>>(), &tokens)?
        } else {
            None
        };
        Ok(Self { target, warp, law: vec![None; tree.len()], plain: vec![None; tree.len()], reduced })
    }

    /// The sums at temperature 1, and those under the warp where it is a temperature: where they were reduced, and are numbers.
    fn reduced(&self, node: usize) -> Option<(&Reduced, &Reduced)> {
        let nodes = &self.reduced.as_ref()?.nodes;
        let (plain, own) = (nodes.first()?.get(node)?, nodes.last()?.get(node)?);
        (plain.is_finite() && own.is_finite()).then_some((plain, own))
    }

    /// The law that is sampled from.
    pub fn sampled(&mut self, node: usize) -> Result<&Law<'a>, NotFinite> {
        let law = match (self.law[node].take(), self.reduced(node)) {
            (Some(law), _) => law,
            (None, Some((plain, _))) if self.warp.greedy() => Law::certain(plain.best, plain.max),
            _ => Law::new(self.target.logits(node), &self.warp)?,
        };
        Ok(self.law[node].insert(law))
    }

    /// The model's own law, at temperature 1.
    fn plain(&mut self, node: usize) -> Result<&Law<'a>, NotFinite> {
        if self.warp == Warp::PLAIN {
            return self.sampled(node);
        }
        let plain = match self.plain[node].take() {
            Some(law) => law,
            None => self.sampled(node)?.plain(),
        };
        Ok(self.plain[node].insert(plain))
    }

    /// The moments of the model's own law.
    pub fn plain_moments(&mut self, node: usize) -> Result<Moments, NotFinite> {
        match self.reduced(node) {
            Some((plain, _)) => Ok(plain.moments()),
            None => Ok(self.plain(node)?.moments()),
        }
    }

    /// The probability at temperature 1, over the whole vocabulary, of the token that came after `node`.
    pub fn plain_p(&mut self, node: usize, token: TokenId) -> Result<f64, NotFinite> {
        match self.reduced(node) {
            // Of a greedy target's logits nothing else comes to the host.
            Some((plain, _)) if token == plain.best => Ok(plain.p(plain.max, 1.0)),
            _ => Ok(self.plain(node)?.p(token)),
        }
    }

    /// What `node` of the tree, that carries `token`, was to its `parent`.
    pub fn of_child(&mut self, parent: usize, node: usize, token: TokenId) -> Result<Told, NotFinite> {
        if let Some((plain, own)) = self.reduced(parent)
            && let Some(&(logit, rank)) = self.reduced.as_ref().and_then(|all| all.tokens.get(node - 1))
        {
            let p_plain = plain.p(logit, 1.0);
            let p = match self.warp.greedy() {
                true => Law::certain(plain.best, plain.max).p(token),
                false => own.p(logit, 1.0 / self.warp.temperature),
            };
            return Ok(Told { p, p_plain, rank });
        }
        let law = self.sampled(parent)?;
        let (p, rank) = (law.p(token), law.rank(token));
        Ok(Told { p, p_plain: self.plain(parent)?.p(token), rank })
    }
}
