//! Settings beside each other on the same prompts, with common random numbers: draws belong to places, so that settings with the same
//! temperature, top-p, top-k and seed write the same text, and their steps can be paired.
//!
//! [`Lab`] makes the steps, a [`Side`] keeps what a comparison needs of them, and the rest are functions of two sides' texts.

mod contexts;
mod course;
mod differences;
mod lab;
mod side;
mod takes;
mod thread;

pub use contexts::{Change, Contexts, contexts};
pub use course::{Course, Place, Step};
pub use differences::{Couple, Differences, Pairing, Quantity, couples, differences};
pub use lab::{Lab, Made};
pub use side::Side;
pub use takes::{Outcomes, Row, Taken, Takes, outcomes, takes};
pub use thread::{News, Order, spawn};

use crate::telemetry::StepSettings;

/// Whether two settings write the same text: where sampling is greedy the rest of the law's warp and the seed say nothing.
pub fn same_text(a: &StepSettings, b: &StepSettings) -> bool {
    let greedy = (a.warp().greedy(), b.warp().greedy());
    greedy == (true, true) || (greedy == (false, false) && a.warp() == b.warp() && a.seed == b.seed)
}
