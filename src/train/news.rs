//! What a run tells whoever watches it.

use serde::Serialize;

use super::Report;

/// What a head is worth when it drafts from the prompts held out. All at a budget of 16 tokens a pass, best-first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Drafted {
    /// Tokens a step, greedy.
    pub greedy_tokens_per_step: f64,
    /// Mean of E\[accepted | T\] at temperature 1.
    pub expected_accepted: f64,
    /// The fluid ceiling from the same texts' laws, in accepted tokens.
    pub fluid: Option<f64>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum News {
    /// Texts are being written.
    Writing {
        /// Tokens there are.
        tokens: usize,
        /// Tokens there are to be.
        of: usize,
        /// Tokens a second of late.
        rate: f64,
    },
    /// Training begins, or goes on.
    Training {
        /// Texts.
        texts: usize,
        /// Their tokens.
        tokens: usize,
    },
    /// A step was made; with what the head is worth where that was measured after it.
    Step(Box<Report>, Option<Drafted>),
    /// All is done.
    Finished,
    /// It can't go on.
    Failed(String),
}
