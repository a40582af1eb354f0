//! Plain decoding, the baseline.

use crate::draft::{Candidate, Context, DraftError, Drafter};
use crate::tree::TokenTree;

/// Drafter that proposes nothing, so that every step is one token of plain decoding.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDraft;

impl Drafter for NoDraft {
    fn name(&self) -> &'static str {
        "none"
    }

    fn cost(&self) -> String {
        "nothing: plain decoding".into()
    }

    fn reset(&mut self) {}

    fn begin(&mut self, _: &mut Context) -> Result<(), DraftError> {
        Ok(())
    }

    fn propose(
        &mut self,
        _: &mut Context,
        _: &TokenTree,
        nodes: &[usize],
        _: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        Ok(vec![Vec::new(); nodes.len()])
    }

    fn at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        Ok(Box::new(NoDraft))
    }
}
