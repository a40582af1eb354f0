//! The program killed, signaled, cut off and starved of resources, on a tiny model.
//!
//! Counts come from the environment, so that `scripts/endure` runs the same checks many times:
//! `SPECLIGHT_KILLS` per kind of work, `SPECLIGHT_WORK` for some kinds only (`train,table`), and
//! `SPECLIGHT_SEED` for the moments.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../registry/server.rs"]
mod server;
#[cfg(feature = "tui")]
#[path = "../pty/terminal.rs"]
mod terminal;

mod closed;
mod kills;
mod limits;
#[cfg(feature = "tui")]
mod monitor;
mod signals;
mod work;
