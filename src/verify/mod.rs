//! Lossless verification of token trees, by one of the rules of [`Rule`].
//!
//! Sample-and-match ([`verify()`]; bounds.md, "Setting") samples the next token from the target's
//! distribution at each node, from the root down. If a child carries the token, the walk continues
//! there; if none does, the token is emitted as the bonus and the step ends. The tree thus
//! determines how many tokens a step emits, never which. Greedy decoding is the same walk with a
//! distribution of one token. If children are sampled from the drafter, [`verify_rejection`] and
//! [`verify_block`] keep the text's distribution, but a given seed's text then depends on the
//! draft.

mod block;
mod random;
mod rejection;
mod rule;

pub use block::{BlockAcceptance, verify_block};
pub use random::TextRandom;
pub use rejection::{Proposal, Rejection, verify_rejection};
pub use rule::{Rule, Verdict};

use crate::distribution::{NotFinite, TokenDist};
use crate::tree::TokenTree;

/// Verifies `tree` by sample-and-match.
///
/// `dist(node)` is the target's distribution after that node, and `draw(d)` the uniform random
/// number in \[0, 1) of the step's d-th token, from 0. Each token is the quantile of its
/// distribution at its number.
///
/// # Errors
/// If a distribution does not exist.
pub fn verify<'a>(
    tree: &TokenTree,
    mut dist: impl FnMut(usize) -> Result<TokenDist<'a>, NotFinite>,
    mut draw: impl FnMut(usize) -> f64,
) -> Result<Verdict, NotFinite> {
    let mut verdict = Verdict { path: Vec::new(), emitted: Vec::new() };
    loop {
        let at = verdict.last_accepted();
        let token = dist(at)?.sample(draw(verdict.path.len()));
        verdict.emitted.push(token);
        match tree.child(at, token) {
            Some(child) => verdict.path.push(child),
            None => return Ok(verdict),
        }
    }
}
