//! The target's own first layers and its head: a drafter without weights of its own.

use super::explore::{Explorer, candidates, drafter_warp};
use super::{Candidate, Context, DraftError, Drafter, Worth};
use crate::tree::TokenTree;

/// Leaves the target after its first layers, on the target's own cache (which holds those layers' keys and values of
/// the whole context already).
#[derive(Debug)]
pub struct EarlyExit {
    layers: usize,
    of: usize,
    explorer: Explorer,
}

impl EarlyExit {
    /// Exits after `layers` of the target's `of` layers.
    ///
    /// # Errors
    /// Unless 1 <= `layers` < `of`.
    pub fn new(layers: usize, of: usize) -> Result<Self, DraftError> {
        if layers == 0 || layers >= of {
            let most = of.saturating_sub(1);
            return Err(DraftError::Unfit(format!("early-exit after {layers} layers: the target has {of}, give 1 to {most}")));
        }
        Ok(Self { layers, of, explorer: Explorer::default() })
    }

    /// The layers that are run when nobody says otherwise: a third of the target's.
    pub fn default_layers(of: usize) -> usize {
        (of / 3).max(1)
    }
}

impl Drafter for EarlyExit {
    fn name(&self) -> &'static str {
        "early-exit"
    }

    fn cost(&self) -> String {
        format!("{} of the target's {} layers and its head, once a depth", self.layers, self.of)
    }

    fn reset(&mut self) {}

    fn worth(&mut self, worth: Option<Worth>) {
        self.explorer.worth(worth);
    }

    fn costly(&self) -> bool {
        true
    }

    fn begin(&mut self, _: &mut Context) -> Result<(), DraftError> {
        self.explorer.clear();
        Ok(())
    }

    fn propose(
        &mut self,
        cx: &mut Context,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        let ran = self.explorer.run(cx.target, tree, nodes, self.layers)?;
        let all = candidates(cx.target, &ran, nodes.len(), width, &drafter_warp(cx.warp), cx.stop)?;
        self.explorer.told(&all);
        Ok(all)
    }

    fn end(&mut self, cx: &mut Context) {
        cx.target.discard();
    }

    fn at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        Ok(Box::new(EarlyExit { layers: self.layers, of: self.of, explorer: Explorer::default() }))
    }
}
