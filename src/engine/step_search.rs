//! Oracle search on a step that was already made.
//!
//! Bounds the mass of the oracle tree in the step's context and evaluates the drafter's best tree
//! there (bounds.md, "The ceilings on one ruler"). A search works on a fork of the target,
//! truncated to where the step began. The session is only read.

use std::sync::Arc;

use super::error::SessionError;
use super::past_step::{PastContext, PastStep};
use super::session::Session;
use super::vocabulary::Vocabulary;
use crate::distribution::{Sampling, TokenDist};
use crate::draft::shape::grow;
use crate::draft::{DraftError, DraftRequest, DrafterKind, OracleSearch, Plan, Shape};
use crate::model::{Decoder, Node, Pass};
use crate::telemetry::{OracleResult, OracleSearchState, OracleTree};
use crate::theory::cost::CostCurve;
use crate::theory::light::OracleCurve;
use crate::tree::{TokenId, TokenTree};

/// Nodes per pass: about a common budget, and few enough to react to commands quickly.
const AT_ONCE: usize = 16;
/// Passes after which a search ends unfinished, until it is requested again.
const MOST_PASSES: usize = 512;
/// Maximum number of further passes for the trees of other sizes.
const CURVE_PASSES: usize = 48;
/// Mass that trees of other sizes may still gain when their search ends.
const CURVE_TOLERANCE: f64 = 0.01;

/// Sizes of the trees that an oracle search covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SearchSizes {
    /// Size of the step's own tree.
    Own,
    /// All sizes that can pay on this machine, if the pass cost is known.
    All,
}

/// Oracle search that can be refined pass by pass.
pub(crate) struct StepSearch {
    pub prompt_id: String,
    /// Index of the step within the prompt.
    pub step: usize,
    /// Maximum number of passes before the search ends unfinished.
    pub max_passes: usize,
    target: Box<dyn Decoder>,
    tokens: Vec<TokenId>,
    sampling: Sampling,
    vocabulary: Arc<Vocabulary>,
    oracle: OracleSearch,
    drafter_best: Option<f64>,
    /// Best tree of the step's size, once its search has ended.
    tree: Option<Arc<OracleTree>>,
    state: OracleSearchState,
    /// Cost of verify passes, if trees of other sizes are searched too.
    cost: Option<CostCurve>,
    /// Tokens that can still be drafted, if decoding is greedy and all sizes are requested.
    ///
    /// A greedy oracle knows all of them, so that no search is needed.
    remaining: Option<usize>,
    /// Result at the step's own size, and the pass at which further search ends.
    own: Option<(OracleResult, usize)>,
    /// Set when the search for trees of other sizes is done.
    curve_done: bool,
}

impl Session {
    /// Starts an oracle search on step `step` of the current text, in a forked context.
    ///
    /// Returns `None` if there is no such step.
    ///
    /// # Errors
    /// If a forward or the drafter fails. The session is unchanged in any case.
    pub(crate) fn start_search(&self, step: usize) -> Result<Option<StepSearch>, SessionError> {
        self.search(step, SearchSizes::Own)
    }

    /// Starts an oracle search on step `step` of the current text, for trees of `sizes`.
    ///
    /// Returns `None` if there is no such step. The result for all sizes is [`StepSearch::curve`].
    ///
    /// # Errors
    /// As [`Self::start_search`].
    pub(crate) fn search(
        &self,
        step: usize,
        sizes: SearchSizes,
    ) -> Result<Option<StepSearch>, SessionError> {
        let Some(PastContext { prompt_id, tokens, past }) = self.past_step(step) else {
            return Ok(None);
        };
        let greedy = past.settings.sampling().greedy();
        let all_sizes = sizes == SearchSizes::All;
        let cost =
            self.cost().filter(|_| all_sizes && !greedy && !past.settings.samples_trees()).cloned();
        let widest = cost.as_ref().map_or(0, CostCurve::largest);
        let mut target = self.target.fork()?;
        target.truncate(tokens.len().saturating_sub(1));
        let sampling = past.settings.sampling();
        let root = tokens.last().copied().unwrap_or_default();
        let mut search = StepSearch {
            prompt_id: prompt_id.to_owned(),
            step,
            target,
            tokens: tokens.to_vec(),
            sampling,
            vocabulary: Arc::clone(self.vocabulary()),
            oracle: OracleSearch::new(root, past.limits, widest),
            drafter_best: past.best.then_some(past.expected),
            tree: None,
            max_passes: MOST_PASSES,
            state: OracleSearchState::Refining,
            cost,
            remaining: (all_sizes && greedy).then_some(past.limits.depth),
            own: None,
            curve_done: false,
        };
        if !past.best {
            search.draft(self, past)?;
        }
        Ok(Some(search))
    }

    /// Searches trees of all sizes to the end, if this step is due.
    ///
    /// One step in `every` is due; see [`Session::is_searched`].
    ///
    /// # Errors
    /// As [`Self::start_search`].
    pub(crate) fn search_if_due(
        &self,
        step: usize,
        every: usize,
    ) -> Result<Option<StepSearch>, SessionError> {
        if !self.is_searched(step, every) {
            return Ok(None);
        }
        let mut found = self.search(step, SearchSizes::All)?;
        if let Some(search) = &mut found {
            while search.refine()? {}
        }
        Ok(found)
    }
}

impl StepSearch {
    /// Drafts the tree that is best by the drafter's q, and evaluates it under p.
    ///
    /// If q is wrong, the verified tree can have the higher value. Then that one is the drafter's
    /// best.
    fn draft(&mut self, session: &Session, past: &PastStep) -> Result<(), SessionError> {
        let kind = &past.settings.drafter;
        let Some(drafter) = session.drafter_of(kind) else { return Ok(()) };
        let failed = |source: DraftError| SessionError::Draft { kind: kind.clone(), source };
        let mut drafter = drafter.fork_at(self.tokens.len()).map_err(failed)?;
        let stop = self.vocabulary.stop();
        let mut request = DraftRequest {
            sampling: self.sampling,
            stop,
            limits: past.limits,
            ..DraftRequest::new(&self.tokens, &mut *self.target)
        };
        let tree = grow(Shape::BestFirst, &mut *drafter, &mut request, &Plan::default())
            .map_err(failed)?
            .tree;
        self.drafter_best = Some(self.value(&tree)?.max(past.expected));
        Ok(())
    }

    /// Returns E\[X | T\] of a tree, with one pass of the target.
    fn value(&mut self, tree: &TokenTree) -> Result<f64, SessionError> {
        if tree.drafted() == 0 {
            return Ok(0.0);
        }
        self.target.append(&Node::of_tree(tree), Pass::FULL)?;
        let mut p = vec![1.0; tree.len()];
        for parent in 0..tree.len() {
            if tree.children(parent).next().is_some() {
                let dist = TokenDist::new(self.target.logits(parent), &self.sampling)?;
                tree.children(parent).for_each(|child| p[child] = dist.p(tree.token(child)));
            }
        }
        self.target.discard();
        Ok(tree.expected_accepted(|i| p[i]))
    }

    /// Makes one more pass and returns true if another one is useful.
    ///
    /// # Errors
    /// If a forward fails.
    pub fn refine(&mut self) -> Result<bool, SessionError> {
        let stop = self.vocabulary.stop();
        let mut request = DraftRequest {
            sampling: self.sampling,
            stop,
            ..DraftRequest::new(&self.tokens, &mut *self.target)
        };
        let failed = |source| SessionError::Draft { kind: DrafterKind::Oracle, source };
        let went_on = self.oracle.refine(&mut request, AT_ONCE).map_err(failed)?;
        if let Some((_, most)) = self.own {
            self.curve_done = !went_on || self.oracle.passes() >= most || !self.larger_can_pay();
            return Ok(self.refining());
        }
        let search = self.oracle.search();
        self.state = if search.upper() - search.lower() <= OracleResult::TOLERANCE * search.upper()
        {
            OracleSearchState::Converged
        } else if went_on && self.oracle.passes() < self.max_passes {
            OracleSearchState::Refining
        } else {
            OracleSearchState::Ended
        };
        if self.state != OracleSearchState::Refining {
            self.tree = Some(Arc::new(self.best_tree()));
        }
        if self.state != OracleSearchState::Refining
            && let Some(widest) = self.cost.as_ref().map(CostCurve::largest)
        {
            self.own = Some((self.result(), self.oracle.passes() + CURVE_PASSES));
            self.oracle.widen(widest);
            // A search that ended early still yields its curve, so that contexts that are hard to
            // search aren't missing from the means.
            self.curve_done = self.state == OracleSearchState::Ended || !self.larger_can_pay();
        }
        Ok(self.refining())
    }

    /// Returns true if a tree beyond the exactly known part could pay.
    ///
    /// Assumes free drafting. The additional nodes must yield at least 1 / t(1) tokens per
    /// additional second, since no speed-of-light bound is below that rate.
    fn larger_can_pay(&self) -> bool {
        let Some(cost) = &self.cost else { return false };
        let (search, largest) = (self.oracle.search(), cost.largest());
        let unknown = search.unknown();
        let known = search.path_probabilities().take_while(|&pi| pi >= unknown).count();
        let gain = |size: usize| unknown * (size - 1 - known) as f64;
        let pays = |size: usize| {
            gain(size) > (cost.seconds(size) - cost.seconds(known + 1)) / cost.seconds(1)
        };
        known + 1 < largest && gain(largest) > CURVE_TOLERANCE && (known + 2..=largest).any(pays)
    }

    /// Returns the oracle tree, once its search has ended.
    pub fn tree(&self) -> Option<Arc<OracleTree>> {
        self.tree.clone()
    }

    /// Returns the tree of the most probable nodes found so far.
    fn best_tree(&self) -> OracleTree {
        let found = self.oracle.search().found().tree;
        OracleTree {
            tokens: found.tokens().to_vec(),
            text: found.tokens().iter().map(|&token| self.vocabulary.text(token)).collect(),
            parents: (0..found.len()).map(|i| found.parent(i).unwrap_or(0)).collect(),
            p: (0..found.len()).map(|i| if i == 0 { 1.0 } else { found.q(i) }).collect(),
        }
    }

    /// Returns true while [`Self::refine`] can still improve the bounds or the curve.
    pub fn refining(&self) -> bool {
        self.state == OracleSearchState::Refining || (self.own.is_some() && !self.curve_done)
    }

    /// Returns the mass of the oracle tree by size, once that search is done.
    ///
    /// `None` if it was not requested.
    pub fn curve(&self) -> Option<OracleCurve> {
        if let Some(remaining) =
            self.remaining.filter(|_| self.state != OracleSearchState::Refining)
        {
            return Some(OracleCurve::deterministic(remaining));
        }
        let search = self.oracle.search();
        let curve =
            || OracleCurve::from_path_probabilities(search.path_probabilities(), search.unknown());
        (self.own.is_some() && self.curve_done).then(curve)
    }

    /// Grants a search that ran out of passes the same number again.
    pub fn grant_passes(&mut self) {
        if self.state == OracleSearchState::Ended {
            (self.max_passes, self.state) =
                (self.oracle.passes() + MOST_PASSES, OracleSearchState::Refining);
        }
    }

    /// Stops a search that is still being refined.
    pub fn stop(&mut self) {
        if self.state == OracleSearchState::Refining {
            self.state = OracleSearchState::BrokenOff;
        }
    }

    /// Refines to the end and returns the result.
    ///
    /// # Errors
    /// If a forward fails.
    #[cfg(test)]
    pub fn refined(mut self) -> Result<OracleResult, SessionError> {
        while self.refine()? {}
        Ok(self.result())
    }

    /// Returns the bounds known so far.
    pub fn result(&self) -> OracleResult {
        if let Some((result, _)) = self.own {
            return result;
        }
        let search = self.oracle.search();
        OracleResult {
            oracle_lower: search.lower(),
            oracle_upper: search.upper(),
            oracle_floor: search.least_path_probability(),
            passes: self.oracle.passes(),
            drafter_best: self.drafter_best,
            state: self.state,
        }
    }
}
