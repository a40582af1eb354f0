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
use crate::tree::{TokenId, TokenTree};

/// Nodes of one pass: as many as the budgets that people use most, and few enough that a command never waits long.
const AT_ONCE: usize = 16;
/// Passes after which a look ends as it is, until somebody asks for as many more.
const MOST_PASSES: usize = 512;

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
}

impl Session {
    /// Begins to look at step `step` of the present text, in a context of its own. None if there is no such step.
    ///
    /// # Errors
    /// If a forward or the drafter fails; the session is unchanged whatever happens.
    pub(crate) fn look(&self, step: usize) -> Result<Option<Looking>, SessionError> {
        let Some((id, tokens, past)) = self.past(step) else { return Ok(None) };
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
            oracle: OracleSearch::new(root, past.limits),
            drafter_best: past.best.then_some(past.expected),
            most: MOST_PASSES,
            state: LookState::Refining,
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
        let search = self.oracle.search();
        self.state = if search.upper() - search.lower() <= Look::TOLERANCE * search.upper() {
            LookState::Converged
        } else if went_on && self.oracle.passes() < self.most {
            LookState::Refining
        } else {
            LookState::Ended
        };
        Ok(self.refining())
    }

    /// Whether another pass is worth it.
    pub fn refining(&self) -> bool {
        self.state == LookState::Refining
    }

    /// It was asked for once more: where it ended for want of passes, it has as many again.
    pub fn go_on(&mut self) {
        if self.state == LookState::Ended {
            (self.most, self.state) = (self.oracle.passes() + MOST_PASSES, LookState::Refining);
        }
    }

    /// Something else comes first: where it was being refined, it is so no more.
    pub fn break_off(&mut self) {
        if self.refining() {
            self.state = LookState::BrokenOff;
        }
    }

    /// Refines to the end: what is known then.
    ///
    /// # Errors
    /// If a forward fails.
    pub fn refined(mut self) -> Result<Look, SessionError> {
        while self.refine()? {}
        Ok(self.found())
    }

    /// What is known, whether it is refined further or not.
    pub fn found(&self) -> Look {
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
