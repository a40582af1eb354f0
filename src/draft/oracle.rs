//! The target itself as its drafter: what perfect knowledge draws (bounds.md, "oracle tree").

use super::explore::{Explorer, candidates};
use super::shape::Limits;
use super::{Candidate, Context, DraftError, Drafter};
use crate::model::Pass;
use crate::theory::search::Search;
use crate::tree::{TokenId, TokenTree};

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
        let ran = self.explorer.run(cx.target, tree, nodes, Pass::FULL)?;
        Ok(candidates(cx.target, None, &ran, nodes.len(), width, cx.warp, cx.stop)?)
    }

    fn end(&mut self, cx: &mut Context) {
        cx.target.discard();
    }

    fn at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        Ok(Box::new(Oracle::default()))
    }
}

/// The tree that [`Oracle`] draws with the best-first shape, found pass by pass, with bounds while it is not finished.
#[derive(Debug)]
pub struct OracleSearch {
    search: Search,
    explorer: Explorer,
    width: usize,
    passes: usize,
    /// Whether the cache has no room for more nodes.
    full: bool,
}

impl OracleSearch {
    /// The tree below `root`, within `limits`, which can later be widened to one of `widest` tokens.
    pub fn new(root: TokenId, limits: Limits, widest: usize) -> Self {
        let drafted = limits.budget.saturating_sub(1);
        let search = Search::new(root, drafted, limits.depth);
        let width = drafted.max(widest.saturating_sub(1));
        Self { search, explorer: Explorer::default(), width, passes: 0, full: false }
    }

    /// One pass of the target over the best nodes whose children are not known, at most `most`, which stay uncommitted behind
    /// the context; between two calls nobody else may use the target. Says whether there was anything left to do.
    ///
    /// # Errors
    /// If a forward fails, or there is no law.
    pub fn refine(&mut self, cx: &mut Context, most: usize) -> Result<bool, DraftError> {
        let nodes = if self.full { Vec::new() } else { self.search.open(most.max(1)) };
        let ran = self.explorer.run(cx.target, self.search.explored(), &nodes, Pass::FULL)?;
        if ran.is_empty() {
            self.full |= !nodes.is_empty();
            return Ok(false);
        }
        // All nodes are the search's own, so that none is left out but the last, for want of room.
        let children = candidates(cx.target, None, &ran, ran.len(), self.width, cx.warp, cx.stop)?;
        self.search.expand(&nodes[..ran.len()], children.into_iter().map(|list| list.into_iter().map(|c| (c.token, c.q))));
        self.passes += 1;
        Ok(true)
    }

    /// Searches on for a tree of `budget` tokens, the root included, at most the widest that was announced.
    pub fn widen(&mut self, budget: usize) {
        self.search.widen(budget.saturating_sub(1).min(self.width));
    }

    /// The tree as far as it is found.
    pub fn search(&self) -> &Search {
        &self.search
    }

    /// Passes made.
    pub fn passes(&self) -> usize {
        self.passes
    }
}
