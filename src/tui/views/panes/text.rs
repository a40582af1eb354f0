//! Text pane: the generated text, each token colored by its origin.

use ratatui::style::Style;

use super::{Pen, empty};
use crate::telemetry::Ending;
use crate::tui::theme::{Glyphs, Role};
use crate::tui::views::flow::Flow;
use crate::tui::{State, Step};

/// Returns the role of the i-th token that a step emitted.
fn origin(step: &Step, i: usize) -> Role {
    let record = &step.record;
    if i < record.accepted {
        Role::accepted(i + 1)
    } else if record.tree.parents.len() <= 1 {
        Role::TokenPlain
    } else {
        Role::TokenBonus
    }
}

/// Returns the number of the text to show.
fn shown(state: &State) -> Option<usize> {
    match state.selected.and_then(|n| state.history.get(n)) {
        Some(step) => Some(step.text),
        None => state.history.text().map(|t| t.number),
    }
}

/// Returns the title's summary: number of tokens, and how the text ended.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    let Some(number) = shown(state) else { return (Vec::new(), Role::Label) };
    let tokens: usize = state.history.steps_of_text(number).map(|s| s.record.emitted.len()).sum();
    let ending = match state.history.text_by_number(number).and_then(|t| t.ending) {
        None => "",
        Some(Ending::Stop) => ", end of text",
        Some(Ending::Length) => ", length limit",
        Some(Ending::Context) => ", context full",
        Some(Ending::Interrupted) => ", interrupted",
    };
    (vec![format!("{tokens} tokens{ending}"), format!("{tokens} tokens")], Role::Label)
}

/// Returns the number of lines up to the last one shown.
///
/// The end of the text, the selected step, or the scroll position determines it.
fn last_line(
    lines: &[(usize, usize)],
    height: usize,
    selected_from: Option<usize>,
    scroll: u16,
) -> usize {
    let least = height.min(lines.len());
    match selected_from {
        Some(cell) => (lines.iter().position(|line| cell < line.1).unwrap_or(0) + 1 + height / 2)
            .clamp(least, lines.len()),
        None => lines.len().saturating_sub(usize::from(scroll)).max(least),
    }
}

/// Returns the number of the step whose token is at a cell, for the mouse.
///
/// `size` is that of the pane.
pub fn step_at(
    state: &State,
    glyphs: &Glyphs,
    size: (usize, usize),
    x: usize,
    y: usize,
) -> Option<usize> {
    let number = shown(state)?;
    let (width, height) = (size.0.saturating_sub(2).max(1), size.1);
    let (plain, mut flow) = (Style::new(), Flow::default());
    if let Some(text) = state.history.text_by_number(number) {
        flow.push(&text.prompt, glyphs, plain, plain);
        flow.push("\n", glyphs, plain, plain);
    }
    let (mut starts, mut selected_from) = (Vec::new(), None);
    for step in state.history.steps_of_text(number) {
        starts.push((flow.len(), step.number));
        if state.selected == Some(step.number) {
            selected_from = Some(flow.len());
        }
        step.record.emitted_text.iter().for_each(|text| flow.push(text, glyphs, plain, plain));
    }
    let lines = flow.lines(width);
    let bottom = last_line(&lines, height, selected_from, state.scroll);
    let line = lines.get(bottom.saturating_sub(height) + y).filter(|_| y < height)?;
    let cell = flow.cell_at(*line, x.checked_sub(1)?)?;
    starts.iter().rev().find(|start| start.0 <= cell).map(|start| start.1)
}

/// Draws the text pane; returns how many lines it can be scrolled back.
pub fn text(state: &State, pen: &mut Pen) -> usize {
    let Some(number) = shown(state) else {
        empty(pen, "generated text appears here");
        return 0;
    };
    let glyphs = pen.glyphs();
    let sign = pen.style(Role::Invisible);
    let mut flow = Flow::default();
    if let Some(text) = state.history.text_by_number(number) {
        flow.push(&text.prompt, glyphs, pen.style(Role::TokenPrompt), sign);
        flow.push("\n", glyphs, pen.style(Role::TokenPrompt), sign);
    }
    let mut selected_from = None;
    for step in state.history.steps_of_text(number) {
        let selected = state.selected == Some(step.number);
        if selected {
            selected_from = Some(flow.len());
        }
        for (i, text) in step.record.emitted_text.iter().enumerate() {
            let mut style = pen.style(origin(step, i));
            if selected {
                style = style.patch(pen.style(Role::Selection));
            }
            flow.push(text, glyphs, style, sign);
        }
    }
    let width = pen.width().saturating_sub(2).max(1);
    let lines = flow.lines(width);
    let height = pen.height();
    let bottom = last_line(&lines, height, selected_from, state.scroll);
    for (y, line) in lines[bottom.saturating_sub(height)..bottom].iter().enumerate() {
        let x = flow.draw(*line, y, 1 + width, pen);
        if y + 1 == height.min(bottom)
            && bottom == lines.len()
            && !state.motion.still()
            && x < 1 + width
        {
            pen.tint(x, y, 1, Role::FrameFocus);
            let bar = pen.glyphs().focus;
            pen.text(x, y, bar, Role::FrameFocus);
        }
    }
    lines.len().saturating_sub(height)
}
