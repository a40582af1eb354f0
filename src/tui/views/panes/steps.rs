//! Steps pane: a table of the most recent steps.

use std::borrow::Cow;

use super::{Pen, empty};
use crate::telemetry::StepRecord;
use crate::tui::State;
use crate::tui::theme::{Glyphs, Role};
use crate::tui::views::number;

/// Returns the text of an emitted token, with visible spaces if it is blank.
///
/// A stop token, which adds no text, is shown by its name.
fn visible_text<'a>(
    record: &'a StepRecord,
    i: usize,
    text: &'a str,
    glyphs: &Glyphs,
) -> Cow<'a, str> {
    match text {
        "" if i + 1 == record.emitted_text.len() => Cow::from(&record.bonus_text),
        text if !text.is_empty() && text.trim_matches(' ').is_empty() => {
            Cow::from(glyphs.space.repeat(text.len()))
        }
        text => Cow::from(text),
    }
}

/// Returns the number of the step in the first row; `None` for the newest step.
///
/// The selected step is centered if there are enough newer ones.
fn first_row_step(state: &State, rows: usize) -> Option<usize> {
    let newest = state.history.newest().map_or(0, |step| step.number);
    state.selected.map(|number| (number + rows / 2).min(newest))
}

/// Returns the number of the step in a row, for the mouse.
///
/// `height` is that of the pane.
pub fn step_at(state: &State, height: usize, row: usize) -> Option<usize> {
    let rows = height.saturating_sub(1);
    let back = row.checked_sub(1).filter(|&back| back < rows)?;
    state.history.steps_back_from(first_row_step(state, rows)).nth(back).map(|step| step.number)
}

/// Draws the table, newest step first, with the selected step in the middle.
pub fn steps(state: &State, pen: &mut Pen) {
    let (width, height) = (pen.width(), pen.height());
    if state.history.newest().is_none() {
        empty(pen, "one line per step appears here");
        return;
    }
    // Right edges of the number columns; the emitted tokens follow.
    let heads = [("step", 6), ("B", 11), ("E[X|T]", 19), ("acc", 24), ("H", 31), ("ms", 39)];
    let words = 41;
    for (head, end) in heads {
        pen.right(end, 0, head, Role::Label);
    }
    pen.text(words, 0, "emitted", Role::Label);
    let rows = height.saturating_sub(1);
    let first = first_row_step(state, rows);
    for (y, step) in state.history.steps_back_from(first).take(rows).enumerate() {
        let (y, record) = (y + 1, &step.record);
        let mean = record.entropy.iter().map(|e| e.sampled.entropy).sum::<f64>()
            / record.entropy.len().max(1) as f64;
        let values = [
            record.step.to_string(),
            record.tree.tokens.len().to_string(),
            number::two(record.expected_accepted),
            record.accepted.to_string(),
            number::two(mean),
            number::millis(record.time.total()),
        ];
        for ((_, end), value) in heads.iter().zip(values) {
            pen.right(*end, y, &value, Role::Base);
        }
        let mut x = words;
        let mut pen = pen.part(0, 0, width.saturating_sub(1) as u16, height as u16);
        for (i, text) in record.emitted_text.iter().enumerate() {
            let role = if i < record.accepted { Role::accepted(i + 1) } else { Role::TokenBonus };
            x = pen.text(x, y, &visible_text(record, i, text, pen.glyphs()), role);
        }
        if state.selected == Some(step.number) {
            pen.tint(0, y, width, Role::Selection);
        }
        if step.changed || step.first {
            let mark = pen.glyphs().change;
            pen.text(0, y, mark, if step.changed { Role::PlotChange } else { Role::PlotAxis });
        }
    }
}
