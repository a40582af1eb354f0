//! The target itself as its drafter: what perfect knowledge draws (bounds.md, "oracle tree").

use super::explore::{Explorer, candidates};
use super::{Candidate, Context, DraftError, Drafter};
use crate::tree::TokenTree;

/// Reads the law that is sampled from off the target itself. With the best-first shape its tree holds the largest
/// path probabilities of this context; greedy, it is the arg-max chain and all of it is accepted. It never pays in
/// time: it shows what the best drafter could reach.
#[derive(Debug, Default)]
pub struct Oracle {
    explorer: Explorer,
}

impl Drafter for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn cost(&self) -> String {
        "the whole target, once a depth: shows what perfect knowledge draws, never pays".into()
    }

    fn reset(&mut self) {}

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
        let ran = self.explorer.run(cx.target, tree, nodes, usize::MAX)?;
        Ok(candidates(cx.target, ran, nodes.len(), width, cx.warp, cx.stop)?)
    }

    fn end(&mut self, cx: &mut Context) {
        cx.target.discard();
    }
}
