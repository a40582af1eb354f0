//! Decoding engine: a session that makes steps, and the driver that repeats them.
//!
//! [`Session::step`] drafts, verifies, commits and records one step. [`drive`] and [`spawn`] load
//! the models and run a session for a front end: they take [`Command`]s between steps and report
//! [`Event`]s. The submodules hold the automatic budget, the measured cost of verify passes, the
//! ceilings and the oracle search.

mod budget;
mod calibrate;
#[cfg(test)]
mod ceiling_tests;
mod ceilings;
mod costs;
mod drafters;
#[cfg(test)]
mod drawn_tests;
mod laws;
#[cfg(test)]
mod learning_tests;
mod load;
mod look;
#[cfg(test)]
mod look_tests;
#[cfg(test)]
mod lossless;
mod machine;
mod options;
mod protocol;
mod seen;
mod session;
mod settings;
#[cfg(test)]
pub(crate) mod testing;
mod thread;
#[cfg(test)]
mod thread_tests;
mod vocabulary;

pub(crate) use costs::CostCache;
pub(crate) use load::{Engine, load, load_each};
pub use options::{EngineOptions, Prompt};
pub use protocol::*;
pub use session::{Session, SessionError};
pub use settings::{AUTO_BUDGET, BadSetting, MAX_BUDGET};
pub use thread::{drive, spawn};
pub use vocabulary::{TextStream, Vocabulary};
