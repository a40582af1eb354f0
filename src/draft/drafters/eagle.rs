//! Drafting with a trained head over the target's hidden states, after EAGLE. See Li et al. 2024,
//! arXiv 2401.15077, and for EAGLE-3 arXiv 2503.01840.

use std::sync::Arc;

use crate::draft::drafters::explore::{Explorer, best_tokens, candidates, drafter_sampling};
use crate::draft::{Candidate, DraftError, DraftRequest, Drafter, DrafterInfo, DrafterKind};
use crate::model::cpu::CpuDecoder;
use crate::model::{Decoder, Head, Logits, Node, Pass};
use crate::tree::{TokenId, TokenTree};

/// Drafter that runs a trained head on the target's hidden states.
///
/// Entry i of the head combines the target's hidden states at position i with the token at i + 1,
/// and predicts the token at i + 2. Below the root, the head's own states replace the target's
/// hidden states, which are not computed yet.
pub struct Eagle {
    decoder: CpuDecoder,
    tokens: Arc<[TokenId]>,
    fused: usize,
    cost: String,
    explorer: Explorer,
    /// True if the root's entry could be run in this step.
    able: bool,
}

impl Eagle {
    /// Creates a drafter from `head` for texts of up to `capacity` tokens.
    ///
    /// From the first token on, the target must keep the hidden states that the head reads
    /// ([`Decoder::keep_hidden`] with the layers in [`crate::model::HeadInfo`]).
    pub fn new(head: &Head, capacity: usize) -> Eagle {
        let megabytes = head.weight_bytes() as f64 / 1e6;
        Eagle {
            decoder: head.decoder(capacity),
            tokens: Arc::clone(&head.info().tokens),
            fused: head.info().source_layers.len(),
            cost: format!(
                "a trained head of {megabytes:.1} MB, once a depth and for each new token"
            ),
            explorer: Explorer::below_root(),
            able: false,
        }
    }
}

impl Drafter for Eagle {
    fn info(&self) -> DrafterInfo {
        DrafterInfo::with_model(DrafterKind::Eagle, self.cost.clone())
    }

    fn reset(&mut self) {
        self.decoder.truncate(0);
        self.able = false;
    }

    fn begin(&mut self, request: &mut DraftRequest) -> Result<(), DraftError> {
        self.explorer.clear();
        self.decoder.discard();
        self.able = false;
        // Entry i belongs to the token at i + 1; the root's entry is the last.
        let entries = request.tokens.len().saturating_sub(1);
        if entries == 0 || entries >= self.decoder.capacity() {
            return Ok(());
        }
        // If the step is begun again, the root's entry is run again to get its logits.
        self.decoder.truncate(entries - 1);
        let entered = self.decoder.len();
        let Some(hidden) = request.target.hidden(entered..entries) else { return Ok(()) };
        let nodes = Node::chain(&request.tokens[entered + 1..]);
        let path: Vec<usize> = (0..nodes.len()).collect();
        debug_assert_eq!(hidden.len() % (nodes.len() * self.fused), 0);
        self.decoder.append_with_hidden(
            &nodes,
            hidden,
            Pass { layers: usize::MAX, logits: Logits::Last },
        )?;
        self.decoder.commit(&path)?;
        self.able = true;
        Ok(())
    }

    fn propose(
        &mut self,
        request: &mut DraftRequest,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        if !self.able {
            return Ok(vec![Vec::new(); nodes.len()]);
        }
        // `begin` already ran the root's entry. The root is always proposed for first, and alone.
        if nodes == [0] {
            let mut all = vec![Vec::new()];
            if let Some(last) =
                self.decoder.last_with_logits().filter(|_| self.decoder.nodes() == 0)
            {
                all[0] = best_tokens(
                    self.decoder.logits(last),
                    Some(&self.tokens),
                    width,
                    &drafter_sampling(&request.sampling),
                    request.stop,
                )?;
            }
            return Ok(all);
        }
        let ran =
            self.explorer.run(&mut self.decoder, tree, nodes, Pass::FULL, request.cost_model)?;
        let sampling = drafter_sampling(&request.sampling);
        let all = candidates(
            &self.decoder,
            Some(&self.tokens),
            &ran,
            nodes.len(),
            width,
            &sampling,
            request.stop,
        )?;
        self.explorer.learn_pass(&all);
        Ok(all)
    }

    fn can_propose(&self, token: TokenId) -> bool {
        self.tokens.binary_search(&token).is_ok()
    }

    fn end(&mut self, _: &mut DraftRequest) {
        self.decoder.discard();
    }

    fn fork_at(&self, tokens: usize) -> Result<Box<dyn Drafter>, DraftError> {
        let mut decoder = self.decoder.fork_context()?;
        decoder.truncate(tokens.saturating_sub(1));
        let (tokens, cost) = (Arc::clone(&self.tokens), self.cost.clone());
        Ok(Box::new(Eagle {
            decoder,
            tokens,
            fused: self.fused,
            cost,
            explorer: Explorer::below_root(),
            able: false,
        }))
    }
}
