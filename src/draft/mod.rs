//! Drafters behind one trait, one file a drafter; [`shape`] grows a tree from what they propose.

mod calibration;
mod eagle;
mod early_exit;
mod explore;
mod external;
mod mix;
mod model;
mod ngram;
mod none;
mod oracle;
pub mod shape;
mod suffix;
#[cfg(test)]
pub(crate) mod testing;
mod thrift;
mod verified;

pub use calibration::{Calibration, Observation};
pub use eagle::Eagle;
pub use early_exit::EarlyExit;
pub use external::{External, end_processes};
pub use mix::{MEMBERS, Mix};
pub use model::ModelDrafter;
pub use ngram::Ngram;
pub use none::NoDraft;
pub use oracle::{Oracle, OracleSearch};
pub use shape::{BudgetCut, Cut, Draft, Limits, Plan, Planner, Promise, Shape, Widths};
pub use suffix::Suffix;
pub use thrift::Worth;
pub(crate) use thrift::follow;
pub use verified::Verified;

use crate::dist::Warp;
use crate::model::{Decoder, ForwardError};
use crate::tree::{TokenId, TokenTree};

/// Names of all drafters, in the order in which the monitor walks them. A run has those for which it has what they need.
pub const DRAFTERS: [&str; 10] = ["none", "ngram", "suffix", "early-exit", "eagle", "model", "external", "mix", "auto", "oracle"];

/// What a drafter may look at.
pub struct Context<'a> {
    /// All tokens so far, prompt and output, the pending token (the root) last.
    pub tokens: &'a [TokenId],
    /// The target. All tokens but the pending one are committed and nothing is uncommitted; a drafter that uses it
    /// discards what it appended before its turn ends.
    pub target: &'a mut dyn Decoder,
    /// How the target's law is warped before it is sampled from.
    pub warp: &'a Warp,
    /// Tokens that end a text: never drafted, since nothing can follow them.
    pub stop: &'a [TokenId],
}

/// A token that a drafter proposes after some node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token.
    pub token: TokenId,
    /// The probability that the drafter gives it after that node; those of one node add up to at most 1.
    pub q: f64,
}

/// Why a drafter could not draft.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// A forward failed.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// A law did not exist.
    #[error(transparent)]
    NotFinite(#[from] crate::dist::NotFinite),
    /// The drafter does not fit the target.
    #[error("{0}")]
    Unfit(String),
}

/// Proposes continuations. One object lives through a text, and is told of every step.
pub trait Drafter: Send {
    /// Its name, as the person types it.
    fn name(&self) -> &'static str;

    /// What a draft costs, in words and in the units that count (weights read, passes made).
    fn cost(&self) -> String;

    /// The names of the drafters whose candidates it merges; its own where it is one.
    fn members(&self) -> Vec<&'static str> {
        vec![self.name()]
    }

    /// A new text: forget the old one.
    fn reset(&mut self);

    /// How large a tree is wanted in the step that begins next, for drafters that must know it beforehand.
    fn limits(&mut self, _limits: Limits) {}

    /// What drafting is to pay for itself by in the step that begins next; none says that it need not. A drafter that runs a model
    /// leaves out passes that promise less than they take.
    fn worth(&mut self, _worth: Option<Worth>) {}

    /// Whether children are drawn from the laws that it proposes from now on; they are the best of them before it is told.
    fn drawn(&mut self, _drawn: bool) {}

    /// Whether it runs a model, so that being asked takes time.
    fn costly(&self) -> bool {
        false
    }

    /// Whether it can also draft without running a model, if it is told to ([`Worth::rest`]).
    fn frugal(&self) -> bool {
        false
    }

    /// A new step begins: the root of its tree is the last of `cx.tokens`.
    ///
    /// # Errors
    /// See [`DraftError`].
    fn begin(&mut self, cx: &mut Context) -> Result<(), DraftError>;

    /// Candidates below each of `nodes` (indices into `tree`, whose nodes were proposed in this step: by this drafter or, in
    /// a [`Mix`], by another), in order of falling q, ties to the lower id, at most `width` each. A node is asked about
    /// once a step, after its parent; nodes of one call are run together where that is cheaper. A drafter that knows
    /// nothing about a node, or has no room left for it, gives an empty list.
    ///
    /// # Errors
    /// See [`DraftError`].
    fn propose(
        &mut self,
        cx: &mut Context,
        tree: &TokenTree,
        nodes: &[usize],
        width: usize,
    ) -> Result<Vec<Vec<Candidate>>, DraftError>;

    /// The tree is grown: leave the target as it was found.
    fn end(&mut self, _cx: &mut Context) {}

    /// For each node of a tree that was grown in this step the member that gave it most, by its place in
    /// [`Drafter::members`].
    fn origins(&self, tree: &TokenTree) -> Vec<usize> {
        vec![0; tree.len()]
    }

    /// A tree that was grown in this step was verified. What was accepted comes with the tokens of the next [`Drafter::begin`].
    fn learn(&mut self, _verified: &Verified) {}

    /// What went wrong in this step and did not end the run, in one line, once.
    fn notice(&mut self) -> Option<String> {
        None
    }

    /// Another of its kind for the same text when it had `tokens` tokens, its root the last of them: once begun, it proposes what
    /// this one would have proposed then.
    ///
    /// # Errors
    /// If a device fails.
    fn at(&self, tokens: usize) -> Result<Box<dyn Drafter>, DraftError>;
}
