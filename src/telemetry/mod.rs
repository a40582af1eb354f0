//! What is measured, each step: the [`StepRecord`] and what is made of it.

mod rates;
mod record;
mod summary;

pub use rates::PositionRates;
pub use record::*;
pub use summary::{RunningMoments, Tally};
