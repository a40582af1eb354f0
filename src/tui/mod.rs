//! State, input handling, and event loop of the terminal screens (monitor, compare, train).
//!
//! `update(&mut State, Msg) -> Vec<Effect>` is pure: it does no I/O and reads no clock, and time
//! arrives in messages. `views::render` draws a state without changing it. Only `event_loop` touches the
//! terminal, the engine's channels, and signals.

mod attach;
mod commands;
mod compare;
mod editor;
mod event_loop;
mod history;
mod light;
mod message;
mod state;
mod svg;
mod terminal;
pub mod theme;
mod training;
mod update;
pub mod views;

pub use attach::{ATTACH_KEYS, Attached};
pub use commands::{COMMANDS, Chord, CommandEntry, command_for};
pub use compare::{COMPARE_KEYS, Compare, Lane};
pub use editor::Editor;
pub use event_loop::{
    EngineLink, ExitReason, Screen, ScreenOptions, channel, check_terminal, run, show,
};
pub use history::{Averages, GeneratedText, History, Step};
pub use light::{GaugeUnit, LightBar};
pub use message::{Effect, Msg};
pub use state::{Notice, Overlay, Pane, Phase, RunState, State};
pub use svg::svg;
pub use terminal::TerminalGuard;
pub use training::{Measurement, Stage, Stop, TRAINING_KEYS, Training};
pub use update::update;
