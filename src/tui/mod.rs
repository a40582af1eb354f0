//! State, input handling, and event loop of the terminal screens (monitor, compare, train).
//!
//! `update(&mut State, Msg) -> Vec<Effect>` is pure: it does no I/O and reads no clock, and time
//! arrives in messages. `views::render` draws a state without changing it. Only `event_loop` touches the
//! terminal, the engine's channels, and signals.

mod attach;
mod basic;
mod commands;
mod compare;
mod config;
mod editor;
mod event_loop;
pub mod export;
mod farewell;
mod film;
mod history;
mod keymap;
mod light;
mod line_input;
mod line_keys;
mod message;
mod monitor;
mod navigate;
mod new_file;
pub(crate) mod palette;
mod picture;
mod pixels;
mod player;
mod preset;
mod query;
pub(crate) mod race;
mod recall;
mod replay;
pub(crate) mod runs;
mod setting_effects;
mod state;
mod svg;
mod terminal;
#[cfg(test)]
pub(crate) mod testing;
pub mod theme;
mod training;
mod update;
pub mod views;

pub use attach::{ATTACH_KEYS, Attached};
pub use commands::{COMMANDS, CommandEntry};
pub use compare::{COMPARE_KEYS, Compare, Lane};
pub use config::{Config, ConfigError, OptionDefault, parse_presets};
pub use editor::Editor;
pub use event_loop::{
    EngineLink, Exit, ExitReason, Screen, ScreenOptions, channel, check_terminal, run, show,
};
pub use film::{Film, FilmFrame, state_at};
pub use history::{Averages, GeneratedText, History, Step, Totals};
pub use keymap::{Chord, Keymap};
pub use light::{GaugeUnit, LightBar};
pub use line_input::{LineInput, LineKind, LineRecalls};
pub use message::{Direction, Effect, Msg, Target};
pub use monitor::Monitor;
pub use picture::{Picture, save_picture};
pub use pixels::{PixelChoice, PixelProtocol, Pixels};
pub use player::{Ahead, PlayCommand, PlayPace, Played, Source, play};
pub use preset::Preset;
pub use query::Query;
pub use recall::{Recall, Recalling};
pub use replay::{Replay, apply};
pub use runs::{RunScore, Runs};
pub use state::{LossRank, Notice, Overlay, Pane, Phase, RunState, State, TreeForm, View};
pub use svg::svg;
pub use terminal::{Mouse, TerminalGuard};
pub use training::{Measurement, Stage, Stop, TRAINING_KEYS, Training};
pub use update::update;
