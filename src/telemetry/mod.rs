//! What is measured, each step: the [`StepRecord`] and what is made of it.

mod batch_means;
mod curve;
mod ladder;
mod lines;
mod losses;
mod misses;
mod origins;
mod overlap;
mod rates;
mod record;
mod reliability;
mod summary;
#[cfg(test)]
pub(crate) mod testing;

pub use batch_means::BatchMeans;
pub use curve::{BudgetCurve, Within};
pub use ladder::*;
pub use lines::{Line, LookLine, RunLine, SummaryLine};
pub use losses::{Ladder, Losses};
pub use misses::{Causes, MissedToken, Misses};
pub use origins::{Origins, Proposals};
pub use overlap::{Overlap, OverlapMean, Overlaps, RuleCeiling, RuleCeilingMean};
pub use rates::PositionRates;
pub use record::*;
pub use reliability::{BINS, Bin, CalibrationSummary, Reliability, Told};
pub use summary::{ClassMisses, CurvePoint, MissSummary, OracleMean, RunningMoments, SpeedUp, Summary, Tally};
