//! State, input handling, and event loop of the terminal screens (monitor, compare, train).
//!
//! `update(&mut State, Msg) -> Vec<Effect>` is pure: it does no I/O and reads no clock, and time
//! arrives in messages. `views::render` draws a state without changing it. Only `event_loop` touches the
//! terminal, the engine's channels, and signals.

mod attach;
mod commands;
mod compare;
mod config;
mod editor;
mod event_loop;
mod farewell;
mod history;
mod keymap;
mod light;
mod line_input;
mod message;
mod navigate;
mod new_file;
pub(crate) mod palette;
mod query;
pub(crate) mod race;
mod recall;
pub(crate) mod runs;
mod state;
mod svg;
mod terminal;
pub mod theme;
mod training;
mod update;
pub mod views;

pub use attach::{ATTACH_KEYS, Attached};
use commands::set_pace;
pub use commands::{COMMANDS, Chord, CommandEntry};
pub use compare::{COMPARE_KEYS, Compare, Lane};
pub use config::{Config, ConfigError, OptionDefault, Preset, parse_presets};
pub use editor::Editor;
pub use event_loop::{
    EngineLink, Exit, ExitReason, Screen, ScreenOptions, channel, check_terminal, run, show,
};
pub use history::{Averages, GeneratedText, History, Step, Totals};
pub use keymap::Keymap;
pub use light::{GaugeUnit, LightBar};
pub use line_input::{LineInput, LineKind, LineRecalls};
pub use message::{Effect, Msg};
pub use navigate::{Direction, LossRank};
pub use query::Query;
pub use recall::{Recall, Recalling};
pub use runs::{RunScore, Runs};
pub use state::{Notice, Overlay, Pane, Phase, RunState, State, TreeForm, View};
pub use svg::svg;
pub use terminal::{Mouse, TerminalGuard};
pub use training::{Measurement, Stage, Stop, TRAINING_KEYS, Training};
use update::ALL_DONE;
pub use update::update;
pub use views::Target;
