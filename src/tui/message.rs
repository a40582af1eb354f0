//! Messages into a screen's state, and the effects that it requests.

use std::time::Duration;

use crossterm::event::KeyEvent;

use super::state::Pane;
use crate::engine::{Command, Event};

/// Direction of a move in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Toward older steps, or up.
    Back,
    /// Toward newer steps, or down.
    Forward,
}

/// Part of the screen that a mouse event refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Part without a meaning for the mouse.
    Nothing,
    /// Pane, beside its content.
    Pane(Pane),
    /// Step by its number, and the pane that shows it unless that is the timeline.
    Step(usize, Option<Pane>),
    /// Row of the scoreboard of runs.
    Run(usize),
    /// Bar of the speed of light.
    Light,
}

/// Input to a screen. The time of a message is that of the last [`Msg::Tick`] before it.
#[derive(Clone, Debug, PartialEq)]
pub enum Msg<E = Event> {
    /// Time since the program started.
    Tick(Duration),
    /// Key press, repeat, or release.
    Key(KeyEvent),
    /// A frame was drawn; holds the number of lines that can be scrolled beyond it.
    Drawn(u16),
    /// Text pasted by the user.
    Paste(String),
    /// Left mouse button pressed on this part of the screen.
    Click(Target),
    /// Mouse wheel turned over this part of the screen; back is up.
    Wheel(Direction, Target),
    /// Result of [`Effect::Write`]: the name of the file, or why it was not written.
    Written(Result<String, String>),
    /// Event from the engine.
    Engine(E),
    /// The engine's thread ended without a final event; holds the reason, if known.
    EngineGone(Option<String>),
}

/// Action that the event loop must carry out.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect<C = Command> {
    /// Send a command to the engine.
    Engine(C),
    /// Leave the screen and end the loop. `Some` holds an error message of one line.
    Leave(Option<String>),
    /// Write a new file into the current folder: `STEM.ENDING`, or `STEM-N.ENDING` if that exists.
    Write {
        /// Start of the file name.
        stem: &'static str,
        /// Ending of the file name, without the dot.
        ending: &'static str,
        /// Contents of the file.
        text: String,
    },
    /// Start or end a recording.
    Record,
    /// Save a picture of the screen.
    Picture,
}
