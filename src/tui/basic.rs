//! Screens with a few fixed keys and no mouse: comparison, training, and attached server.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::theme::Theme;
use super::{Effect, Msg, Screen};

/// Parts in which these screens differ. The other keys are the same: `q` and `Ctrl-C` leave, and
/// `c` selects the next theme.
pub trait BasicScreen {
    /// Event type of the engine.
    type Event;
    /// Command type of the engine.
    type Command;
    /// Start of the message when the engine ends unexpectedly.
    ///
    /// Such as "the engine stopped".
    const STOPPED: &str;

    /// Takes the time since the program started.
    fn tick(&mut self, now: Duration);

    /// Applies a key without Control; returns the effect that it requests.
    fn key(&mut self, _code: KeyCode) -> Option<Effect<Self::Command>> {
        None
    }

    /// Applies an event of the engine; returns the effect that it requests.
    fn handle_event(&mut self, event: Self::Event) -> Option<Effect<Self::Command>>;

    /// Returns whether the engine may end without a reason, since its work is done.
    fn finished(&self) -> bool {
        false
    }

    /// Returns the index of the theme in use, and the number of themes.
    fn theme(&mut self) -> (&mut usize, usize);

    /// Draws the whole screen into `area`.
    fn draw(&self, themes: &[Theme], area: Rect, buffer: &mut Buffer);

    /// Returns whether the passing of time alone changes the picture.
    fn ages(&self) -> bool;

    /// Returns the command that ends the engine.
    fn quit() -> Self::Command;
}

fn pressed<S: BasicScreen>(screen: &mut S, key: KeyEvent) -> Option<Effect<S::Command>> {
    match (key.code, key.modifiers.contains(KeyModifiers::CONTROL)) {
        (KeyCode::Char('c'), true) | (KeyCode::Char('q'), false) => Some(Effect::Leave(None)),
        (KeyCode::Char('c'), false) => {
            let (theme, themes) = screen.theme();
            *theme = (*theme + 1) % themes.max(1);
            None
        }
        (code, false) => screen.key(code),
        (_, true) => None,
    }
}

impl<S: BasicScreen> Screen for S {
    type Event = S::Event;
    type Command = S::Command;

    fn update(&mut self, msg: Msg<S::Event>) -> Vec<Effect<S::Command>> {
        let effect = match msg {
            Msg::Tick(now) => {
                self.tick(now);
                None
            }
            Msg::Key(key) if key.kind != KeyEventKind::Release => pressed(self, key),
            Msg::Engine(event) => self.handle_event(event),
            // The thread may end after its final event.
            Msg::EngineGone(None) if self.finished() => None,
            Msg::EngineGone(why) => {
                let why = why
                    .map_or_else(|| "it gave no reason".to_owned(), |why| why.replace('\n', " "));
                Some(Effect::Leave(Some(format!("{}: {why}", S::STOPPED))))
            }
            Msg::Key(_)
            | Msg::Drawn(_)
            | Msg::Paste(_)
            | Msg::Click(_)
            | Msg::Wheel(..)
            | Msg::Written(_) => None,
        };
        effect.into_iter().collect()
    }

    fn render(&self, themes: &[Theme], frame: &mut Frame) -> u16 {
        let area = frame.area();
        self.draw(themes, area, frame.buffer_mut());
        0
    }

    fn ages(&self) -> bool {
        BasicScreen::ages(self)
    }

    fn quit() -> S::Command {
        <S as BasicScreen>::quit()
    }
}
