//! Oracle drafting: the target itself as drafter (bounds.md, "oracle tree"). [`Oracle`] is the
//! drafter; [`OracleSearch`] finds the oracle tree of one context pass by pass.

use crate::draft::drafters::explore::{Explorer, candidates};
use crate::draft::{
    Candidate, DraftError, DraftRequest, Drafter, DrafterInfo, DrafterKind, Limits,
};
use crate::model::Pass;
use crate::theory::search::TreeSearch;
use crate::tree::{TokenId, TokenTree};

/// Drafter that proposes from the target's own distribution.
///
/// With the best-first shape, its tree holds the largest path probabilities of the context. With
/// greedy sampling, the tree is the arg-max chain, and all of it is accepted. It never saves time;
/// it shows the most that any drafter could reach.
#[derive(Debug, Default)]
pub struct Oracle {
    explorer: Explorer,
}

impl Drafter for Oracle {
    fn info(&self) -> DrafterInfo {
        let cost = "the whole target, once a depth: shows what perfect knowledge draws, never pays";
        DrafterInfo::new(DrafterKind::Oracle, cost)
    }

    fn reset(&mut self) {}

    fn begin(&mut self, _: &mut DraftRequest) -> Result<(), DraftError> {
        self.explorer.clear();
        Ok(())
    }

    fn propose(
        &mut self,
        request: &mut DraftRequest,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError> {
        let ran = self.explorer.run(request.target, tree, nodes, Pass::FULL, None)?;
        Ok(candidates(
            request.target,
            None,
            &ran,
            nodes.len(),
            width,
            &request.sampling,
            request.stop,
        )?)
    }

    fn end(&mut self, request: &mut DraftRequest) {
        request.target.discard();
    }

    fn fork_at(&self, _: usize) -> Result<Box<dyn Drafter>, DraftError> {
        Ok(Box::new(Oracle::default()))
    }
}

/// Incremental search for the best-first tree of [`Oracle`], with bounds until it is finished.
#[derive(Debug)]
pub struct OracleSearch {
    search: TreeSearch,
    explorer: Explorer,
    width: usize,
    passes: usize,
    /// True if the cache has no room for more nodes.
    full: bool,
}

impl OracleSearch {
    /// Creates a search for the tree below `root` within `limits`. It can later be enlarged up to
    /// `widest` tokens ([`OracleSearch::widen`]).
    pub fn new(root: TokenId, limits: Limits, widest: usize) -> Self {
        let drafted = limits.budget.saturating_sub(1);
        let search = TreeSearch::new(root, drafted, limits.depth);
        let width = drafted.max(widest.saturating_sub(1));
        Self { search, explorer: Explorer::default(), width, passes: 0, full: false }
    }

    /// Runs one pass of the target over the best unexpanded nodes, at most `most`.
    ///
    /// Returns `false` if nothing could be run. The nodes stay uncommitted in the target, which
    /// must not be used otherwise between two calls.
    ///
    /// # Errors
    /// If a forward pass fails, or its logits are not finite.
    pub fn refine(&mut self, request: &mut DraftRequest, most: usize) -> Result<bool, DraftError> {
        let nodes = if self.full { Vec::new() } else { self.search.next_to_expand(most.max(1)) };
        let ran =
            self.explorer.run(request.target, self.search.explored(), &nodes, Pass::FULL, None)?;
        if ran.is_empty() {
            self.full |= !nodes.is_empty();
            return Ok(false);
        }
        // The search returns parents before children, so only the last nodes can be missing from
        // `ran`, for lack of room.
        let children = candidates(
            request.target,
            None,
            &ran,
            ran.len(),
            self.width,
            &request.sampling,
            request.stop,
        )?;
        self.search.expand(
            &nodes[..ran.len()],
            children.into_iter().map(|list| list.into_iter().map(|c| (c.token, c.q))),
        );
        self.passes += 1;
        Ok(true)
    }

    /// Enlarges the tree to `budget` tokens, root included, at most `widest` of
    /// [`OracleSearch::new`].
    pub fn widen(&mut self, budget: usize) {
        self.search.widen(budget.saturating_sub(1).min(self.width));
    }

    /// Returns the search with the tree found so far.
    pub fn search(&self) -> &TreeSearch {
        &self.search
    }

    /// Returns the number of passes run.
    pub fn passes(&self) -> usize {
        self.passes
    }
}
