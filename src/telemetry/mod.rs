//! What is measured, each step: the [`StepRecord`] and what is made of it.

mod batch_means;
mod ladder;
mod lines;
mod rates;
mod record;
mod summary;

pub use batch_means::BatchMeans;
pub use ladder::*;
pub use lines::{Line, RunLine, SummaryLine};
pub use rates::PositionRates;
pub use record::*;
pub use summary::{RunningMoments, Tally};
