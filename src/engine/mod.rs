//! Decoding engine: a session that makes steps, and the driver that repeats them.
//!
//! [`Session::step`] drafts, verifies, commits and records one step. [`drive`] and [`spawn`] load
//! the models and run a session for a front end: they take [`Command`]s between steps and report
//! [`Event`]s. The submodules hold the automatic budget, the measured cost of verify passes, the
//! ceilings and the oracle search.

mod budget;
#[cfg(test)]
mod ceiling_tests;
mod ceilings;
mod cost_cache;
mod distributions;
mod drafters;
mod driver;
#[cfg(test)]
mod driver_tests;
mod error;
#[cfg(test)]
mod feedback_tests;
mod load;
#[cfg(test)]
mod lossless_tests;
mod machine_load;
mod options;
mod outcome;
mod pace;
mod past_step;
mod protocol;
mod recording;
#[cfg(test)]
mod sampled_tests;
mod session;
mod settings;
mod step_search;
#[cfg(test)]
mod step_search_tests;
#[cfg(test)]
pub(crate) mod testing;
mod timing;
mod vocabulary;

pub use ceilings::FluidReport;
pub(crate) use cost_cache::CostCache;
pub use driver::{drive, spawn};
pub use error::SessionError;
pub(crate) use load::{Engine, load, load_each};
pub use options::{EngineOptions, ErrorFormat, Prompt};
pub use pace::Pace;
pub use protocol::*;
pub use recording::{EventReader, Recorded, Recorder, RunContext, entries};
pub use session::Session;
pub use settings::{AUTO_BUDGET, BadSetting, MAX_BUDGET};
pub use vocabulary::{TextStream, Vocabulary};
