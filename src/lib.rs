//! Library of `speclight`, a terminal monitor for speculative decoding with a small Llama.
//!
//! ARCHITECTURE.md has the map of the modules, lower ones first, and the invariants. Two tests on the
//! source text keep the boundaries: `tests/layers.rs` (imports run downward and without cycles) and
//! `tests/walls.rs` (which module may name tokio, ratatui, candle, and the like).

pub mod attach;
mod cache_file;
pub mod cli;
mod csv_row;
pub mod distribution;
pub mod draft;
pub mod engine;
#[cfg(test)]
mod fuzzing;
mod guarded;
mod hex;
pub mod model;
mod processes;
pub mod registry;
pub mod sanitize;
mod signals;
pub mod study;
pub mod telemetry;
pub mod theory;
pub mod train;
pub mod tree;
#[cfg(feature = "tui")]
pub mod tui;
pub mod verify;
