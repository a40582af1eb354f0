//! One step of decoding ([`Session::step`]), and the thread that repeats it for the monitor.

mod calibrate;
mod laws;
#[cfg(test)]
mod lossless;
mod options;
mod protocol;
mod session;
mod settings;
#[cfg(test)]
pub(crate) mod testing;
mod vocabulary;

pub use options::{EngineOptions, Prompt};
pub use protocol::*;
pub use session::{Session, SessionError};
pub use settings::{BadSetting, MAX_BUDGET};
pub use vocabulary::{TextStream, Vocabulary};
