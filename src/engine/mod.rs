//! One step of decoding (`Session::step`), and the thread that repeats it for the monitor.

mod options;
mod protocol;

pub use options::{EngineOptions, Prompt};
pub use protocol::*;
