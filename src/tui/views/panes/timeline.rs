//! Timeline: all kept steps in one row of bars, with prompts, changes of settings, and a cursor.

use super::misses::cause_role;
use super::{Pen, empty};
use crate::telemetry::{MissCause, StepSettings};
use crate::tui::theme::Role;
use crate::tui::{State, Step};

/// Steps in one column of the timeline.
#[derive(Clone, Debug, Default, PartialEq)]
struct Bin {
    steps: usize,
    tokens: usize,
    /// Number of misses by cause, in the order of [`MissCause::ALL`].
    causes: [usize; MissCause::ALL.len()],
    /// Holds the step shown.
    shown: bool,
}

impl Bin {
    fn add(&mut self, step: &Step, shown: Option<usize>) {
        self.steps += 1;
        self.tokens += step.record.emitted.len();
        self.shown |= shown == Some(step.number);
        if let Some(cause) = step.cause()
            && let Some(i) = MissCause::ALL.iter().position(|&c| c == cause)
        {
            self.causes[i] += 1;
        }
    }

    /// Returns mean tokens per step.
    fn mean(&self) -> f64 {
        if self.steps == 0 { 0.0 } else { self.tokens as f64 / self.steps as f64 }
    }

    /// Returns the color of the most frequent cause.
    ///
    /// That of accepted tokens if nothing was missed.
    fn role(&self) -> Role {
        // Of equal counts the first cause wins, so that the color is stable.
        let main = (0..MissCause::ALL.len())
            .rev()
            .max_by_key(|&i| self.causes[i])
            .filter(|&i| self.causes[i] > 0);
        main.map_or(Role::GaugeAccepted, |i| cause_role(MissCause::ALL[i]))
    }
}

/// Placement of steps in columns.
///
/// A column holds a power of two of steps, aligned to step numbers: columns never change once they
/// are full, and when the row is full, neighbors are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scale {
    /// Number of the first column's first step.
    first: usize,
    /// Number of steps per column.
    per_column: usize,
}

impl Scale {
    /// Returns the scale for steps `oldest` to `newest` in `columns` columns.
    fn new(oldest: usize, newest: usize, columns: usize) -> Scale {
        let mut per_column = 1;
        let fits = |size: usize| newest / size - oldest / size < columns.max(1);
        while !fits(per_column) && per_column < usize::MAX / 2 {
            per_column *= 2;
        }
        Scale { first: oldest / per_column * per_column, per_column }
    }

    /// Returns the column of a step.
    fn column(self, number: usize) -> usize {
        number.saturating_sub(self.first) / self.per_column
    }
}

/// Left margin, in columns.
const MARGIN: usize = 1;

/// Returns the scale of the timeline at this width; `None` before the first step.
fn scale(state: &State, width: usize) -> Option<Scale> {
    let (oldest, newest) = (state.history.oldest()?.number, state.history.newest()?.number);
    Some(Scale::new(oldest, newest, width.saturating_sub(2 * MARGIN)))
}

/// Returns the number of the step under column `x` of a timeline of this width.
///
/// Of several steps in a column it is the one with the largest loss; without losses the first.
pub fn step_at(state: &State, width: usize, x: usize) -> Option<usize> {
    let scale = scale(state, width)?;
    let from = scale.first + x.checked_sub(MARGIN)? * scale.per_column;
    let steps =
        state.history.steps_from(from).take_while(|step| step.number < from + scale.per_column);
    let loss = |step: &Step| step.loss().unwrap_or(0.0);
    steps
        .reduce(|best, step| if loss(step) > loss(best) { step } else { best })
        .map(|step| step.number)
}

/// Describes a change of settings briefly: the values that differ.
fn change(before: &StepSettings, after: &StepSettings) -> String {
    let mut said = Vec::new();
    if before.drafter != after.drafter {
        said.push(after.drafter.name().to_owned());
    }
    if before.shape != after.shape {
        said.push(after.shape.name());
    }
    if before.verify != after.verify {
        said.push(after.verify.name().to_owned());
    }
    if (before.budget, before.automatic()) != (after.budget, after.automatic()) {
        said.push(if after.automatic() {
            "B auto".to_owned()
        } else {
            format!("B {}", after.budget)
        });
    }
    if before.temperature != after.temperature {
        said.push(format!("T {:.1}", after.temperature));
    }
    if before.top_p != after.top_p {
        said.push(format!("top-p {}", after.top_p));
    }
    if before.top_k != after.top_k {
        said.push(after.top_k.map_or_else(|| "top-k off".to_owned(), |k| format!("top-k {k}")));
    }
    said.join(" ")
}

/// Draws the timeline above the footer, with a title if there are three rows.
pub fn timeline_row(state: &State, pen: &mut Pen) {
    let (width, height) = (pen.width(), pen.height());
    let title = usize::from(height >= 3);
    if title == 1 {
        let line = pen.glyphs().line;
        pen.rule(0, width, 0, line, Role::Frame);
        pen.text(1, 0, " timeline ", Role::Title);
        let words = " height: tokens per step, color: main loss ";
        if width > words.len() + 14 {
            pen.right(width - 1, 0, words, Role::Label);
        }
    }
    timeline(state, &mut pen.part(0, title as u16, width as u16, (height - title) as u16));
}

/// Draws the timeline: bars, and a last row for prompts, changes, and the cursor.
fn timeline(state: &State, pen: &mut Pen) {
    let (width, height) = (pen.width(), pen.height());
    let Some(scale) = scale(state, width) else {
        empty(pen, "one bar per step appears here");
        return;
    };
    if height == 0 || width < 2 * MARGIN + 1 {
        return;
    }
    let columns = width - 2 * MARGIN;
    let shown = state.step().or_else(|| state.history.newest()).map(|step| step.number);
    let mut bins = vec![Bin::default(); columns];
    for step in state.history.steps_from(0) {
        if let Some(bin) = bins.get_mut(scale.column(step.number)) {
            bin.add(step, shown);
        }
    }
    let rows = if height > 1 { height - 1 } else { 1 };
    let glyphs = pen.glyphs();
    let top = bins.iter().map(Bin::mean).fold(1.0, f64::max).ceil();
    for (i, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.steps > 0) {
        let eighths = ((bin.mean() / top * (8 * rows) as f64).round() as usize).clamp(1, 8 * rows);
        for row in 0..eighths.div_ceil(8) {
            pen.text(MARGIN + i, rows - 1 - row, glyphs.level(eighths - 8 * row), bin.role());
        }
    }
    let cursor = bins.iter().position(|bin| bin.shown);
    if let Some(column) = cursor.filter(|_| state.selected.is_some()) {
        for row in 0..rows {
            pen.tint(MARGIN + column, row, 1, Role::Selection);
        }
    }
    if height > 1 {
        events(state, scale, cursor, pen, height - 1);
    }
}

/// Draws the row below the bars: prompts, changed settings, and the step shown.
fn events(state: &State, scale: Scale, cursor: Option<usize>, pen: &mut Pen, y: usize) {
    let end = pen.width().saturating_sub(MARGIN);
    // The step shown comes first: it must be readable at every width.
    let mut taken = vec![false; pen.width()];
    if let (Some(column), Some(step)) = (cursor, state.selected.and_then(|n| state.history.get(n)))
    {
        let last = state.history.newest().map_or(0, |newest| newest.number);
        let mark = pen.glyphs().up;
        let back = last - step.number;
        let words = [
            format!("step {}, {back} back", step.record.step),
            format!("step {}", step.record.step),
        ];
        let at = MARGIN + column;
        let place = words.iter().find_map(|words| {
            let wide = words.len() + 1;
            let right = (at + 1 + wide <= end).then_some((at + 2, words));
            right.or_else(|| (at >= MARGIN + wide).then(|| (at - wide, words)))
        });
        pen.text(at, y, mark, Role::Notice);
        taken[at] = true;
        if let Some((x, words)) = place {
            pen.text(x, y, words, Role::Notice);
            (x.saturating_sub(1)..(x + words.len() + 1).min(taken.len()))
                .for_each(|x| taken[x] = true);
        }
    }
    let mut before: Option<&Step> = None;
    let (mut free, corner, change_mark) = (MARGIN, pen.glyphs().corner, pen.glyphs().change);
    let first_of_corner: String = corner.chars().take(1).collect();
    for step in state.history.steps_from(0) {
        let at = MARGIN + scale.column(step.number);
        let begins = before.is_none_or(|before| before.text != step.text);
        let label = match before.filter(|_| step.changed) {
            Some(before) => change(&before.record.settings, &step.record.settings),
            None => String::new(),
        };
        before = Some(step);
        if !begins && label.is_empty() {
            continue;
        }
        let (mark, words, role) = if label.is_empty() {
            let number =
                state.history.text_by_number(step.text).map_or(step.text, |text| text.index) + 1;
            let words =
                if free == MARGIN { format!("prompt {number}") } else { number.to_string() };
            (first_of_corner.as_str(), words, Role::PlotAxis)
        } else {
            (change_mark, label, Role::PlotChange)
        };
        let clear =
            |from: usize, to: usize| to <= end && (from..to).all(|x| taken.get(x) == Some(&false));
        if at >= free && clear(at, at + 1) {
            pen.text(at, y, mark, role);
            free = at + 1;
            let wide = pen.measure(&words);
            if clear(at + 1, at + 2 + wide) {
                pen.text(at + 1, y, &words, role);
                free = at + 2 + wide;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_join_in_pairs_when_the_row_is_full() {
        assert_eq!(Scale::new(0, 9, 10), Scale { first: 0, per_column: 1 });
        assert_eq!(Scale::new(0, 10, 10), Scale { first: 0, per_column: 2 });
        assert_eq!(Scale::new(0, 20, 10), Scale { first: 0, per_column: 4 });
        assert_eq!(Scale::new(7, 24, 10), Scale { first: 6, per_column: 2 });
    }

    proptest! {
        #[test]
        fn every_step_has_a_column_in_the_row(oldest in 0usize..100_000, kept in 0usize..5000, columns in 1usize..300) {
            let scale = Scale::new(oldest, oldest + kept, columns);
            prop_assert!(scale.first <= oldest);
            prop_assert!(scale.column(oldest + kept) < columns);
            // The row is never less than about half used.
            prop_assert!(scale.per_column == 1 || scale.column(oldest + kept) + 2 >= columns.div_ceil(2));
        }
    }
}
