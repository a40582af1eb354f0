//! Telemetry: the [`StepRecord`] of each step, and the statistics computed from it. The engine
//! fills in the records. Screen, traces, JSON lines, and comparisons read these records and the
//! tallies here ([`Tally`], [`LightTally`], [`LossLadder`], [`Misses`], and others), which add up
//! steps in constant memory.

mod advice;
mod base_rates;
mod capacity;
mod curve;
mod findings;
mod light;
mod lines;
mod losses;
mod misses;
mod origins;
mod overlap;
mod plain;
mod rates;
mod record;
pub mod recording;
mod reliability;
mod summary;
#[cfg(test)]
pub(crate) mod testing;
mod text_means;

pub use advice::{
    Advice, AdviceStep, Change, Gain, MAX_ADVICE_STEPS, MIN_ADVICE_STEPS, MeasuredSpeeds,
    predicted_gains,
};
pub use base_rates::{BaseRates, CONTEXT_RANGES, DrafterRates, Drift, MissRate, POSITION_RANGES};
pub use capacity::{CapacitySummary, CapacityTally};
pub use curve::{AcceptanceCurve, BudgetCurve};
pub use findings::*;
pub use light::{LightIntervals, LightLadder, LightTally, SearchedStep, SpeedOfLight};
pub use lines::{JsonLine, OracleResultLine, RunLine, SummaryLine};
pub use losses::{LossLadder, Losses};
pub use misses::{CauseCounts, MissedToken, Misses};
pub use origins::{NodeCounts, Origins};
pub use overlap::{Overlap, OverlapMean, OverlapTally, RuleCeiling, RuleCeilingMean};
pub use plain::{MachineLoad, PlainComparison};
pub use rates::DepthRates;
pub use record::*;
pub use reliability::{BINS, Bin, CalibrationSummary, CalibrationTally, Reliability};
pub use summary::{
    ClassMisses, CurvePoint, MissSummary, OracleMean, PassSeconds, RunningMoments, SpeedUp,
    Summary, Tally,
};
pub use text_means::{FEWEST_TEXTS, TextMeans};
