//! Keys of the one-line input: completion, recall, and running the line.

use crossterm::event::{KeyCode, KeyEvent};

use super::editor::EditorOutcome;
use super::line_input::{LineInput, LineKind};
use super::{Editor, Effect, Overlay, State, navigate, palette};

impl LineInput {
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
