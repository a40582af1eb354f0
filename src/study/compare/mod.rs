//! Comparison of settings on the same prompts, with common random numbers.
//!
//! Random numbers are keyed by text position, so settings with the same temperature, top-p, top-k
//! and seed generate the same text, and their steps can be paired.
//!
//! [`EngineSet`] runs the engines, a [`SettingResults`] keeps what a comparison needs of one
//! setting, and the other functions compute results from the texts of two sides. [`spawn`] runs two
//! settings on a thread for the screen.

mod contexts;
mod course;
mod differences;
mod lab;
mod side;
mod takes;
mod thread;

pub use contexts::{ContextChange, ContextComparison, contexts};
pub use course::{StepTrace, TextTrace, TokenOrigin};
pub use differences::{Differences, PairedMean, Pairing, TextPair, couples, differences};
pub use lab::{ComparedStep, EngineSet};
pub use side::SettingResults;
pub use takes::{ExclusiveAccept, ExclusiveAccepts, OutcomeCounts, Outcomes, outcomes, takes};
pub use thread::{CompareCommand, CompareEvent, spawn};

use crate::telemetry::StepSettings;

/// Returns true if two settings generate the same text.
///
/// For greedy decoding the other sampling parameters and the seed have no effect.
pub fn generate_same_text(a: &StepSettings, b: &StepSettings) -> bool {
    let greedy = (a.sampling().greedy(), b.sampling().greedy());
    greedy == (true, true)
        || (greedy == (false, false) && a.sampling() == b.sampling() && a.seed == b.seed)
}
