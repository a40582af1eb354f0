//! Target distributions at the nodes of a verified tree.
//!
//! Each one is computed on first use and kept for the rest of the step.

use crate::distribution::{LogitSums, Moments, NotFinite, Sampling, TokenDist};
use crate::model::{Decoder, ForwardError, Reductions};
use crate::tree::{TokenId, TokenTree};

/// Distributions from the logits of a decoder's last pass, by node.
///
/// If the device can reduce logits, only nodes that need more than the reductions are copied to the
/// host.
pub(super) struct NodeDistributions<'a> {
    target: &'a dyn Decoder,
    sampling: Sampling,
    dists: Vec<Option<TokenDist<'a>>>,
    plain: Vec<Option<TokenDist<'a>>>,
    reduced: Option<Reductions>,
}

/// Statistics of a node's token under the target's distribution at its parent.
pub(super) struct TokenStats {
    /// Probability under the sampling parameters.
    pub p: f64,
    /// Probability at temperature 1, over the whole vocabulary.
    pub p_plain: f64,
    /// Number of tokens ranked before it.
    pub rank: usize,
}

impl<'a> NodeDistributions<'a> {
    /// Prepares the distributions of `target`'s last pass, which was over `tree`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn new(
        target: &'a dyn Decoder,
        sampling: Sampling,
        tree: &TokenTree,
    ) -> Result<Self, ForwardError> {
        let whole = sampling.greedy()
            || sampling.top_k.is_none()
                && sampling.top_p >= 1.0
                && (1.0 / sampling.temperature).is_finite();
        let reduced = if whole {
            let own = Some(sampling.temperature).filter(|&own| own != 1.0 && !sampling.greedy());
            let tokens: Vec<_> = tree
                .nodes()
                .map(|node| (tree.parent(node).unwrap_or(0), tree.token(node)))
                .collect();
            target.reduced(&[1.0].into_iter().chain(own).collect::<Vec<_>>(), &tokens)?
        } else {
            None
        };
        Ok(Self {
            target,
            sampling,
            dists: vec![None; tree.len()],
            plain: vec![None; tree.len()],
            reduced,
        })
    }

    /// Returns the reductions of a node at temperature 1 and at the sampling temperature.
    ///
    /// `None` if the device reduced nothing, or the sums are not finite.
    fn reduced(&self, node: usize) -> Option<(&LogitSums, &LogitSums)> {
        let nodes = &self.reduced.as_ref()?.nodes;
        let (plain, own) = (nodes.first()?.get(node)?, nodes.last()?.get(node)?);
        (plain.is_finite() && own.is_finite()).then_some((plain, own))
    }

    /// Returns the distribution that is sampled from at `node`.
    pub fn sampled(&mut self, node: usize) -> Result<&TokenDist<'a>, NotFinite> {
        let dist = match (self.dists[node].take(), self.reduced(node)) {
            (Some(dist), _) => dist,
            (None, Some((plain, _))) if self.sampling.greedy() => {
                TokenDist::one_hot(plain.best, plain.max)
            }
            _ => TokenDist::new(self.target.logits(node), &self.sampling)?,
        };
        Ok(self.dists[node].insert(dist))
    }

    /// Returns the model's own distribution at `node`, at temperature 1.
    fn plain(&mut self, node: usize) -> Result<&TokenDist<'a>, NotFinite> {
        if self.sampling == Sampling::PLAIN {
            return self.sampled(node);
        }
        let plain = match self.plain[node].take() {
            Some(dist) => dist,
            None => self.sampled(node)?.to_unmodified(),
        };
        Ok(self.plain[node].insert(plain))
    }

    /// Returns the moments of the model's own distribution at `node`.
    pub fn plain_moments(&mut self, node: usize) -> Result<Moments, NotFinite> {
        match self.reduced(node) {
            Some((plain, _)) => Ok(plain.moments()),
            None => Ok(self.plain(node)?.moments()),
        }
    }

    /// Returns the probability of `token` after `node` at temperature 1.
    ///
    /// It is taken over the whole vocabulary. `token` is the one that was emitted there.
    pub fn plain_probability(&mut self, node: usize, token: TokenId) -> Result<f64, NotFinite> {
        match self.reduced(node) {
            // With greedy decoding this avoids copying the node's logits to the host.
            Some((plain, _)) if token == plain.best => Ok(plain.p(plain.max, 1.0)),
            _ => Ok(self.plain(node)?.p(token)),
        }
    }

    /// Returns the `n` most probable tokens after `node`, descending; when greedy, at temperature 1.
    ///
    /// When greedy on a device that reduced the logits, only the most probable one is known.
    pub fn best(&mut self, node: usize, n: usize) -> Result<Vec<(TokenId, f64)>, NotFinite> {
        match self.reduced(node) {
            Some((plain, _)) if self.sampling.greedy() => {
                Ok(vec![(plain.best, plain.p(plain.max, 1.0))])
            }
            _ if self.sampling.greedy() => Ok(self.plain(node)?.top(n)),
            _ => Ok(self.sampled(node)?.top(n)),
        }
    }

    /// Returns the statistics of `node`, which carries `token`, at its `parent`.
    pub fn child_stats(
        &mut self,
        parent: usize,
        node: usize,
        token: TokenId,
    ) -> Result<TokenStats, NotFinite> {
        if let Some((plain, own)) = self.reduced(parent)
            && let Some(&(logit, rank)) =
                self.reduced.as_ref().and_then(|all| all.tokens.get(node - 1))
        {
            let p_plain = plain.p(logit, 1.0);
            let p = match self.sampling.greedy() {
                true => TokenDist::one_hot(plain.best, plain.max).p(token),
                false => own.p(logit, 1.0 / self.sampling.temperature),
            };
            return Ok(TokenStats { p, p_plain, rank });
        }
        let dist = self.sampled(parent)?;
        let (p, rank) = (dist.p(token), dist.rank(token));
        Ok(TokenStats { p, p_plain: self.plain(parent)?.p(token), rank })
    }
}
