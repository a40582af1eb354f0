//! One step of decoding ([`Session::step`]), and the thread that repeats it for the monitor.

mod arms;
mod auto;
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
mod line;
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

pub(crate) use costs::Shelf;
pub(crate) use load::{Engine, load, load_each};
pub use options::{EngineOptions, Prompt};
pub use protocol::*;
pub use session::{Session, SessionError};
pub use settings::{AUTO_BUDGET, BadSetting, MAX_BUDGET};
pub use thread::{drive, spawn};
pub use vocabulary::{TextStream, Vocabulary};
