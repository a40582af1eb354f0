//! The monitor: its state, what changes it, and the loop that feeds it.
//!
//! `update(&mut State, Msg) -> Vec<Effect>` is pure: no I/O and no clock, time comes in messages. `ui::render` draws a
//! state without changing it. `run` alone touches the terminal, the engine's channels and the signals.

mod attach;
mod commands;
mod compare;
mod editor;
mod history;
mod light;
mod message;
mod run;
mod state;
mod terminal;
mod training;
mod update;

pub use attach::{ATTACH_KEYS, Attached};
pub use commands::{COMMANDS, Chord, Entry, command_for};
pub use compare::{Compare, KEYS, Lane};
pub use editor::Editor;
pub use history::{Averages, History, Step, Text};
pub use light::{GaugeUnit, Light};
pub use message::{Effect, Msg};
pub use run::{Ended, Link, Options, Screen, channel, check_terminal, run, show};
pub use state::{Motion, Notice, Overlay, Pane, Phase, State};
pub use terminal::Guard;
pub use training::{Measured, Stage, Stop, TRAINING_KEYS, Training};
pub use update::update;
