//! Looking at a step that was made: the oracle tree of its context, and the drafter's best tree there (bounds.md, "The ceilings on
//! one ruler").
//!
//! A look works on a second context of the target, cut back to where the step began. The session is only read.

use std::sync::Arc;

use super::session::{Session, SessionError};
use super::vocabulary::Vocabulary;
use crate::dist::{Law, Warp};
use crate::draft::shape::{Limits, grow};
use crate::draft::{Context, DraftError, OracleSearch, Plan, Shape};
use crate::model::{Decoder, Node, Pass};
use crate::telemetry::{Look, LookState, StepSettings};
use crate::theory::cost::Cost;
use crate::theory::light::OracleCurve;
use crate::tree::{TokenId, TokenTree};

/// Nodes of one pass: as many as the budgets that people use most, and few enough that a command never waits long.
const AT_ONCE: usize = 16;
/// Passes after which a look ends as it is, until somebody asks for as many more.
const MOST_PASSES: usize = 512;
/// Passes that the search for the trees of other sizes may take beyond.
const CURVE_PASSES: usize = 48;
/// Mass that trees of other sizes may still gain when the search for them ends.
const CURVE_TOLERANCE: f64 = 0.01;

/// What the session keeps of a step for a later look.
#[derive(Clone, Debug)]
pub(super) struct Past {
    /// Tokens of the text before the step, the root included.
    pub position: usize,
    /// The settings that held.
    pub settings: StepSettings,
    /// The limits of the best tree: the settings' budget as far as the context had room, and the depth to the end of the text.
    pub limits: Limits,
    /// E\[X | T\].
    pub expected: f64,
    /// Whether its tree is the drafter's best: best-first at the whole budget, and nothing cut afterwards.
    pub best: bool,
}

/// A look that can be refined.
pub(crate) struct Looking {
    /// The prompt's id.
    pub prompt_id: String,
    /// The step's number.
    pub step: usize,
    /// Passes after which it ends as it is.
    pub most: usize,
    target: Box<dyn Decoder>,
    tokens: Vec<TokenId>,
    warp: Warp,
    vocabulary: Arc<Vocabulary>,
    oracle: OracleSearch,
    drafter_best: Option<f64>,
    state: LookState,
    /// Cost of passes, where trees of other sizes are searched for as well.
    cost: Option<Cost>,
    /// Greedy, where trees of other sizes are asked for: tokens that can still be drafted, all of which an oracle knows.
    left: Option<usize>,
    /// The tree of the step's own size once it is found, and the passes after which the search for others ends.
    own: Option<(Look, usize)>,
    /// Whether the search for others is done.
    curve_done: bool,
}

impl Session {
    /// Begins to look at step `step` of the present text, in a context of its own. None if there is no such step.
    ///
    /// # Errors
    /// If a forward or the drafter fails; the session is unchanged whatever happens.
    pub(crate) fn look(&self, step: usize) -> Result<Option<Looking>, SessionError> {
        self.search(step, false)
    }

    /// As [`Self::look`]; with `all_sizes` the search goes on for oracle trees of every size that can pay on this machine, where the
    /// cost of passes is known ([`Looking::curve`]).
    ///
    /// # Errors
    /// As [`Self::look`].
    pub(crate) fn search(&self, step: usize, all_sizes: bool) -> Result<Option<Looking>, SessionError> {
        let Some((id, tokens, past)) = self.past(step) else { return Ok(None) };
        let greedy = past.settings.warp().greedy();
        let cost = self.cost().filter(|_| all_sizes && !greedy && !past.settings.drawn()).cloned();
        let widest = cost.as_ref().map_or(0, Cost::largest);
        let mut target = self.target.fork()?;
        target.truncate(tokens.len().saturating_sub(1));
        let warp = past.settings.warp();
        let root = tokens.last().copied().unwrap_or_default();
        let mut looking = Looking {
            prompt_id: id.to_owned(),
            step,
            target,
            tokens: tokens.to_vec(),
            warp,
            vocabulary: Arc::clone(self.vocabulary()),
            oracle: OracleSearch::new(root, past.limits, widest),
            drafter_best: past.best.then_some(past.expected),
            most: MOST_PASSES,
            state: LookState::Refining,
            cost,
            left: (all_sizes && greedy).then_some(past.limits.depth),
            own: None,
            curve_done: false,
        };
        if !past.best {
            looking.draft(self, past)?;
        }
        Ok(Some(looking))
    }
}

impl Looking {
    /// Draws the tree that is best by the drafter's own q, and values it. Where q is wrong the tree that was verified can be worth
    /// more; then that one is the drafter's best.
    fn draft(&mut self, session: &Session, past: &Past) -> Result<(), SessionError> {
        let Some(drafter) = session.drafter_named(&past.settings.drafter) else { return Ok(()) };
        let name = drafter.name();
        let failed = |source: DraftError| SessionError::Draft { name, source };
        let mut drafter = drafter.at(self.tokens.len()).map_err(failed)?;
        let stop = self.vocabulary.stop();
        let mut cx = Context { tokens: &self.tokens, target: &mut *self.target, warp: &self.warp, stop };
        let tree = grow(Shape::BestFirst, &mut *drafter, &mut cx, past.limits, &Plan::default()).map_err(failed)?.tree;
        self.drafter_best = Some(self.value(&tree)?.max(past.expected));
        Ok(())
    }

    /// E\[X | T\] of a tree.
    fn value(&mut self, tree: &TokenTree) -> Result<f64, SessionError> {
        if tree.drafted() == 0 {
            return Ok(0.0);
        }
        self.target.append(&Node::of_tree(tree), Pass::FULL)?;
        let mut p = vec![1.0; tree.len()];
        for parent in 0..tree.len() {
            if tree.children(parent).next().is_some() {
                let law = Law::new(self.target.logits(parent), &self.warp)?;
                tree.children(parent).for_each(|child| p[child] = law.p(tree.token(child)));
            }
        }
        self.target.discard();
        Ok(tree.expected_accepted(|i| p[i]))
    }

    /// One pass more. Says whether it is worth another.
    ///
    /// # Errors
    /// If a forward fails.
    pub fn refine(&mut self) -> Result<bool, SessionError> {
        let stop = self.vocabulary.stop();
        let mut cx = Context { tokens: &self.tokens, target: &mut *self.target, warp: &self.warp, stop };
        let failed = |source| SessionError::Draft { name: "oracle", source };
        let went_on = self.oracle.refine(&mut cx, AT_ONCE).map_err(failed)?;
        if let Some((_, most)) = self.own {
            self.curve_done = !went_on || self.oracle.passes() >= most || !self.larger_can_pay();
            return Ok(self.refining());
        }
        let search = self.oracle.search();
        self.state = if search.upper() - search.lower() <= Look::TOLERANCE * search.upper() {
            LookState::Converged
        } else if went_on && self.oracle.passes() < self.most {
            LookState::Refining
        } else {
            LookState::Ended
        };
        if self.state != LookState::Refining
            && let Some(widest) = self.cost.as_ref().map(Cost::largest)
        {
            self.own = Some((self.found(), self.oracle.passes() + CURVE_PASSES));
            self.oracle.widen(widest);
            // A search that ended early says what is known: contexts that are hard to search must not be missing.
            self.curve_done = self.state == LookState::Ended || !self.larger_can_pay();
        }
        Ok(self.refining())
    }

    /// Whether a tree that is larger than what is surely known can be worth its pass to a drafter that is free: at a price of a token
    /// that no speed of light is below, 1 / t(1) tokens per second.
    fn larger_can_pay(&self) -> bool {
        let Some(cost) = &self.cost else { return false };
        let (search, largest) = (self.oracle.search(), cost.largest());
        let unknown = search.unknown();
        let known = search.path_probabilities().take_while(|&pi| pi >= unknown).count();
        let gain = |size: usize| unknown * (size - 1 - known) as f64;
        let pays = |size: usize| gain(size) > (cost.seconds(size) - cost.seconds(known + 1)) / cost.seconds(1);
        known + 1 < largest && gain(largest) > CURVE_TOLERANCE && (known + 2..=largest).any(pays)
    }

    /// Whether another pass is worth it.
    pub fn refining(&self) -> bool {
        self.state == LookState::Refining || (self.own.is_some() && !self.curve_done)
    }

    /// Mass of the oracle's trees by size. None unless it was asked for and its search is done.
    pub fn curve(&self) -> Option<OracleCurve> {
        if let Some(left) = self.left.filter(|_| self.state != LookState::Refining) {
            return Some(OracleCurve::deterministic(left));
        }
        let search = self.oracle.search();
        let curve = || OracleCurve::from_path_probabilities(search.path_probabilities(), search.unknown());
        (self.own.is_some() && self.curve_done).then(curve)
    }

    /// It was asked for once more: where it ended for want of passes, it has as many again.
    pub fn go_on(&mut self) {
        if self.state == LookState::Ended {
            (self.most, self.state) = (self.oracle.passes() + MOST_PASSES, LookState::Refining);
        }
    }

    /// Something else comes first: where it was being refined, it is so no more.
    pub fn break_off(&mut self) {
        if self.state == LookState::Refining {
            self.state = LookState::BrokenOff;
        }
    }

    /// Refines to the end: what is known then.
    ///
    /// # Errors
    /// If a forward fails.
    #[cfg(test)]
    pub fn refined(mut self) -> Result<Look, SessionError> {
        while self.refine()? {}
        Ok(self.found())
    }

    /// What is known, whether it is refined further or not.
    pub fn found(&self) -> Look {
        if let Some((look, _)) = self.own {
            return look;
        }
        let search = self.oracle.search();
        Look {
            oracle_lower: search.lower(),
            oracle_upper: search.upper(),
            oracle_floor: search.floor(),
            passes: self.oracle.passes(),
            drafter_best: self.drafter_best,
            state: self.state,
        }
    }
}
