//! What is measured, each step: the [`StepRecord`] and what is made of it.

mod batch_means;
mod curve;
mod ladder;
mod lines;
mod losses;
mod misses;
mod rates;
mod record;
mod summary;
#[cfg(test)]
pub(crate) mod testing;

pub use batch_means::BatchMeans;
pub use curve::{BudgetCurve, Within};
pub use ladder::*;
pub use lines::{Line, LookLine, RunLine, SummaryLine};
pub use losses::{Ladder, Losses};
pub use misses::{Causes, MissedToken, Misses};
pub use rates::PositionRates;
pub use record::*;
pub use summary::{ClassMisses, CurvePoint, MissSummary, OracleMean, RunningMoments, SpeedUp, Summary, Tally};
