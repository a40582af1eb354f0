//! One step of decoding (`Session::step`), and the thread that repeats it for the monitor.

mod protocol;

pub use protocol::*;
