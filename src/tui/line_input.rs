//! One-line input of the command palette, the search, and the step number.

use crossterm::event::{KeyCode, KeyEvent};

use super::editor::EditorOutcome;
use super::recall::{Recall, Recalling};
use super::{Editor, Effect, Overlay, State, navigate, palette};

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
    /// Returns what stands before the text on the screen.
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
    cycle: Option<(Vec<String>, usize)>,
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

    /// Replaces the text by the next completion, or the previous one.
    fn complete(&mut self, state: &State, backward: bool) {
        let (lines, at) = match self.cycle.take() {
            Some((lines, at)) => {
                let count = lines.len();
                (lines, if backward { (at + count - 1) % count } else { (at + 1) % count })
            }
            None => {
                let lines: Vec<String> = palette::complete(state, self.recalling.editor.text())
                    .into_iter()
                    .map(|found| found.line)
                    .collect();
                let at = if backward { lines.len().saturating_sub(1) } else { 0 };
                (lines, at)
            }
        };
        if let Some(line) = lines.get(at) {
            self.recalling.editor = Editor::new(line);
            // A single candidate is complete: the next Tab completes its value.
            self.cycle = (lines.len() > 1).then_some((lines, at));
        }
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
    fn of_kind(&mut self, kind: LineKind) -> &mut Recall {
        match kind {
            LineKind::Command => &mut self.command,
            LineKind::Find => &mut self.find,
            LineKind::Step => &mut self.step,
        }
    }
}

/// Applies a key to the open input; runs the line on Enter.
pub fn pressed(state: &mut State, mut input: LineInput, key: KeyEvent, effects: &mut Vec<Effect>) {
    match key.code {
        KeyCode::Tab | KeyCode::BackTab if input.kind == LineKind::Command => {
            input.complete(state, key.code == KeyCode::BackTab);
        }
        KeyCode::Up => input.recalling.older(state.recalls.of_kind(input.kind)),
        KeyCode::Down => input.recalling.newer(state.recalls.of_kind(input.kind)),
        // Deleting in an empty line closes it.
        KeyCode::Backspace if input.recalling.editor.text().is_empty() => {
            state.overlay = Overlay::None;
            return;
        }
        _ => {
            input.cycle = None;
            match input.recalling.editor.key(key) {
                EditorOutcome::Edit => {}
                EditorOutcome::Leave => {
                    state.overlay = Overlay::None;
                    return;
                }
                EditorOutcome::Send(line) => {
                    state.overlay = Overlay::None;
                    enter(state, input.kind, &line, effects);
                    return;
                }
            }
        }
    }
    state.overlay = Overlay::Line(input);
}

/// Runs an entered line.
fn enter(state: &mut State, kind: LineKind, line: &str, effects: &mut Vec<Effect>) {
    let line = line.trim();
    if line.is_empty() {
        return;
    }
    state.recalls.of_kind(kind).add(line);
    match kind {
        LineKind::Command => palette::run(state, effects, line),
        LineKind::Find => navigate::find(state, effects, line),
        LineKind::Step => match line.parse() {
            Ok(number) => navigate::in_text(state, effects, number),
            Err(_) => state.say(format!("{line}: give the number of a step")),
        },
    }
}
