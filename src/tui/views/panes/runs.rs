//! Runs pane: scoreboard of the session, with the comparison of two runs.

use super::{Pen, empty};
use crate::study::compare::Pairing;
use crate::theory::intervals::Estimate;
use crate::tui::runs::{RunScore, compare, describe};
use crate::tui::theme::Role;
use crate::tui::views::number;
use crate::tui::{Pane, State};

/// Returns the parts of the title: the keys, and the number of runs.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    let count = state.all_runs().len();
    let keys = if state.focus == Pane::Runs {
        "up/down, Enter selects two, w writes the table"
    } else {
        ""
    };
    (vec![keys.to_owned(), format!("{count} so far")], Role::Label)
}

/// Column of the table: heading, width, and minimum width of the pane that shows it.
struct Column {
    head: &'static str,
    width: usize,
    least: usize,
    cell: fn(&RunScore, plus_minus: &str) -> String,
}

/// Formats a value with half the width of its interval, if known.
fn with_half(found: Option<&Estimate>, digits: usize, factor: f64, plus_minus: &str) -> String {
    let Some(found) = found.filter(|found| found.value.is_finite()) else { return "-".to_owned() };
    let value = format!("{:.digits$}", found.value * factor);
    match found
        .interval
        .map(|ends| (ends.high - ends.low) / 2.0 * factor)
        .filter(|half| half.is_finite())
    {
        Some(half) => format!("{value} {plus_minus}{half:.digits$}"),
        None => value,
    }
}

const COLUMNS: [Column; 5] = [
    Column { head: "steps", width: 7, least: 92, cell: |run, _| run.steps.to_string() },
    Column {
        head: "tok/step",
        width: 13,
        least: 66,
        cell: |run, sign| with_half(Some(&run.tokens_per_step), 2, 1.0, sign),
    },
    Column {
        head: "% of light",
        width: 11,
        least: 80,
        cell: |run, sign| with_half(run.of_light.as_ref(), 0, 100.0, sign),
    },
    Column {
        head: "tok/s",
        width: 11,
        least: 36,
        cell: |run, sign| with_half(run.tokens_per_second.as_ref(), 0, 1.0, sign),
    },
    Column {
        head: "x plain",
        width: 13,
        least: 52,
        cell: |run, sign| with_half(run.speed_up.as_ref(), 2, 1.0, sign),
    },
];

/// Returns the number of rows for runs at this height of the pane.
fn rows(state: &State, height: usize) -> usize {
    let foot = usize::from(!state.runs.marked.is_empty() && height >= 4);
    height.saturating_sub(1 + foot)
}

/// Returns the index of the first run shown.
///
/// Keeps the cursor visible, or without the focus the newest run.
fn first(state: &State, count: usize, rows: usize) -> usize {
    let cursor = state.runs.cursor.min(count.saturating_sub(1));
    let last = if state.focus == Pane::Runs { (cursor + 1).max(rows).min(count) } else { count };
    last.saturating_sub(rows)
}

/// Returns the run in a row of a pane of this height, for the mouse.
pub fn row_at(state: &State, height: usize, row: usize) -> Option<usize> {
    let (count, rows) = (
        state.runs.past().len() + usize::from(state.history.averages.steps > 0),
        rows(state, height),
    );
    let at = row.checked_sub(1).filter(|&row| row < rows)? + first(state, count, rows);
    (at < count).then_some(at)
}

/// Draws the scoreboard, newest run last.
///
/// The comparison of the two selected runs is below it.
pub fn runs(state: &State, pen: &mut Pen) {
    let runs = state.all_runs();
    let (width, height) = (pen.width(), pen.height());
    if runs.is_empty() {
        empty(pen, "one line per combination of settings appears here");
        return;
    }
    let sign = pen.glyphs().plus_minus;
    let columns: Vec<&Column> = COLUMNS.iter().filter(|column| width >= column.least).collect();
    let figures: usize = columns.iter().map(|column| column.width + 1).sum();
    let words = width.saturating_sub(figures + 6);
    pen.text(5, 0, "settings", Role::Label);
    let mut x = 5 + words;
    for column in &columns {
        x += column.width + 1;
        pen.right(x, 0, column.head, Role::Label);
    }
    let rows = rows(state, height);
    let (focused, cursor) = (state.focus == Pane::Runs, state.runs.cursor.min(runs.len() - 1));
    let first = first(state, runs.len(), rows);
    for (y, (i, run)) in runs.iter().enumerate().skip(first).take(rows).enumerate() {
        let y = y + 1;
        let present = i + 1 == runs.len();
        let marked = state.runs.marked.contains(&run.number);
        let role = if present { Role::Value } else { Role::Base };
        let mark = if marked {
            pen.glyphs().accepted
        } else if present {
            pen.glyphs().live
        } else {
            " "
        };
        pen.text(0, y, mark, if marked { Role::Notice } else { Role::StateLive });
        pen.right(4, y, &run.number.to_string(), role);
        pen.text(5, y, &pen.shorten(&describe(&run.settings), words), role);
        let mut x = 5 + words;
        for column in &columns {
            x += column.width + 1;
            pen.right(x, y, &(column.cell)(run, sign), role);
        }
        if focused && i == cursor {
            pen.tint(0, y, width, Role::Selection);
        }
    }
    if runs.len() == 1 && height > 4 {
        let forms = [
            "other settings start another line: try x, d, b, or T; Enter on two lines compares them",
            "other settings start another line",
        ];
        let words = forms.iter().find(|words| words.len() + 6 <= width).unwrap_or(&forms[1]);
        pen.text(5, 3, &pen.shorten(words, width.saturating_sub(6)), Role::Label);
    }
    let comparison = comparison(state, &runs, pen);
    if rows + 1 < height && !comparison.is_empty() {
        let room = width.saturating_sub(2);
        let line = comparison.iter().find(|line| pen.measure(line) <= room).or(comparison.last());
        pen.text(1, height - 1, &pen.shorten(line.map_or("", String::as_str), room), Role::Notice);
    }
}

/// Returns the comparison of the selected runs in one line, longest form first.
fn comparison(state: &State, runs: &[RunScore], pen: &Pen) -> Vec<String> {
    let find = |number: &usize| runs.iter().find(|run| run.number == *number);
    let (a, b) = match state.runs.marked.as_slice() {
        [] => return Vec::new(),
        [one] => {
            return vec![format!(
                "run {one} selected: select another one to compare them on the same text"
            )];
        }
        [a, b, ..] => (find(a), find(b)),
    };
    let (Some(a), Some(b)) = (a, b) else { return Vec::new() };
    let Some(found) = compare(&state.history, a, b) else {
        return vec![
            format!(
                "{} and {}: no common text yet; r restarts a prompt under the present settings",
                a.number, b.number
            ),
            format!("{} and {}: no common text yet", a.number, b.number),
        ];
    };
    let glyphs = pen.glyphs();
    let change = |found: &Estimate, digits: usize| {
        let half = found.interval.map(|ends| (ends.high - ends.low) / 2.0);
        let half =
            half.map_or_else(String::new, |half| format!(" {}{half:.digits$}", glyphs.plus_minus));
        format!("{:+.digits$}{half}", found.value)
    };
    let what = if found.pairing == Pairing::Positions {
        "on the same text"
    } else {
        "on the same prompts"
    };
    let texts = format!("{} text{}", found.texts, if found.texts == 1 { "" } else { "s" });
    let (numbers, means) = (format!("{} against {}", b.number, a.number), &found.means);
    let (tokens, rate) = (
        change(&means.tokens_per_step.difference, 2),
        change(&means.tokens_per_second.difference, 0),
    );
    let speed = number::two(means.speed.value);
    let times = glyphs.times;
    vec![
        format!(
            "{numbers} {what}: {tokens} tokens per step, {rate} tok/s, {times}{speed} ({texts})"
        ),
        format!("{numbers} {what}: {tokens} tok/step, {rate} tok/s"),
        format!("{numbers}: {tokens} tok/step, {rate} tok/s"),
    ]
}
