//! One-line input of the command palette, the search, and the step number.

use super::recall::{Recall, Recalling};

/// Purpose of a one-line input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// Settings and commands by name.
    Command,
    /// Search over the kept steps.
    Find,
    /// Number of a step in the text shown.
    Step,
}

impl LineKind {
    /// Returns the sign before the text on the screen.
    pub fn sign(self) -> &'static str {
        match self {
            LineKind::Command => ":",
            LineKind::Find => "/",
            LineKind::Step => "step ",
        }
    }
}

/// Open input of one line.
#[derive(Clone, Debug, PartialEq)]
pub struct LineInput {
    /// Purpose of the line.
    pub kind: LineKind,
    /// Text with its cursor, and the recall of earlier lines.
    pub recalling: Recalling,
    /// Completion in progress: the lines to cycle through, and the present one.
    pub(super) cycle: Option<(Vec<String>, usize)>,
}

impl LineInput {
    /// Returns an empty input.
    pub fn new(kind: LineKind) -> LineInput {
        LineInput { kind, recalling: Recalling::default(), cycle: None }
    }

    /// Inserts pasted text; line breaks become spaces.
    pub fn paste(&mut self, text: &str) {
        self.cycle = None;
        self.recalling.editor.insert(&text.replace(['\r', '\n'], " "));
    }
}

/// Lines entered earlier, for each purpose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineRecalls {
    command: Recall,
    find: Recall,
    step: Recall,
}

impl LineRecalls {
    pub(super) fn of_kind(&mut self, kind: LineKind) -> &mut Recall {
        match kind {
            LineKind::Command => &mut self.command,
            LineKind::Find => &mut self.find,
            LineKind::Step => &mut self.step,
        }
    }
}
