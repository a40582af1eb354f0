//! The monitor without a terminal: states and screens from keys and events.
#![allow(clippy::unwrap_used)]

#[path = "../common/script.rs"]
mod script;

mod attach;
mod compare;
mod contrast;
mod history;
mod properties;
mod replay;
mod snapshots;
mod themes;
mod time;
mod training;
mod update;
mod views;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use speclight::telemetry::StepSettings;
use speclight::tui::theme::{ColorDepth, TerminalAbilities, Theme};
use speclight::tui::{Effect, Msg, State};

/// Returns a state after `steps` steps under these settings.
fn running(settings: &StepSettings, steps: usize) -> State {
    let mut state = State::new(3);
    for event in script::Script::new(7).events(settings, steps) {
        speclight::tui::update(&mut state, Msg::Engine(event));
    }
    state
}

/// Presses keys and returns the effects.
///
/// Keys are written as in the help (`d`, `space`, `Tab`, `Left`, `Ctrl-C`).
fn press(state: &mut State, keys: &[&str]) -> Vec<Effect> {
    keys.iter().flat_map(|key| speclight::tui::update(state, Msg::Key(key_of(key)))).collect()
}

fn key_of(key: &str) -> KeyEvent {
    let code = match key {
        "space" => KeyCode::Char(' '),
        "Tab" => KeyCode::Tab,
        "Shift-Tab" => KeyCode::BackTab,
        "Left" => KeyCode::Left,
        "Right" => KeyCode::Right,
        "Up" => KeyCode::Up,
        "Down" => KeyCode::Down,
        "PgUp" => KeyCode::PageUp,
        "PgDn" => KeyCode::PageDown,
        "End" => KeyCode::End,
        "Home" => KeyCode::Home,
        "Backspace" => KeyCode::Backspace,
        "Esc" => KeyCode::Esc,
        "Enter" => KeyCode::Enter,
        "Ctrl-C" => return KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL),
        "Ctrl-U" => return KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL),
        one => KeyCode::Char(one.chars().next().unwrap()),
    };
    let shifted =
        matches!(code, KeyCode::Char(c) if c.is_uppercase() || "?+_<>{}():GN".contains(c));
    KeyEvent::new(code, if shifted { KeyModifiers::SHIFT } else { KeyModifiers::NONE })
}

fn theme(name: &str, ascii: bool) -> Theme {
    Theme::load(name, &TerminalAbilities { depth: ColorDepth::True, ascii, folder: None }).unwrap()
}

fn drawn(state: &State, theme: &Theme, width: u16, height: u16) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    speclight::tui::views::draw(state, theme, area, &mut buffer);
    buffer
}

/// Returns the characters of a buffer, line by line, without trailing blanks.
fn text(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let mut line = String::new();
        let mut x = 0;
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            x += unicode_width::UnicodeWidthStr::width(symbol).max(1) as u16;
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
