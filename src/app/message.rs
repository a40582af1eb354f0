//! What the state is told, and what it wants done.

use std::time::Duration;

use crossterm::event::KeyEvent;

use crate::engine::{Command, Event};

/// What happened. The time of a message is the last [`Msg::Tick`] before it.
#[derive(Clone, Debug, PartialEq)]
pub enum Msg<E = Event> {
    /// Time since the start.
    Tick(Duration),
    /// A key was pressed.
    Key(KeyEvent),
    /// A frame was drawn: how many lines what can be scrolled in it goes beyond it.
    Drawn(u16),
    /// Text was pasted.
    Paste(String),
    /// The engine said something.
    Engine(E),
    /// The engine's thread is gone without a last word; why, where it is known.
    EngineGone(Option<String>),
}

/// What the loop must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect<C = Command> {
    /// Tell the engine.
    Engine(C),
    /// Leave. With an error: in one line, for the person.
    Leave(Option<String>),
}
