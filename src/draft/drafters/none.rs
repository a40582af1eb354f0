//! Plain decoding, the baseline.

use crate::draft::{Candidate, DraftError, DraftRequest, Drafter, DrafterInfo, DrafterKind};
use crate::tree::TokenTree;

/// Drafter that proposes nothing, so that every step is one token of plain decoding.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDraft;

impl Drafter for NoDraft {
    fn info(&self) -> DrafterInfo {
        DrafterInfo::new(DrafterKind::None, "nothing: plain decoding")
    }

    fn reset(&mut self) {}

    fn begin(&mut self, _: &mut DraftRequest) -> Result<(), DraftError> {
        Ok(())
    }

    fn propose(
        &mut self,
        _: &mut DraftRequest,
        _: &TokenTree,
        nodes: &[usize],
        _: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        Ok(vec![Vec::new(); nodes.len()])
    }

    fn fork_at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        Ok(Box::new(NoDraft))
    }
}
