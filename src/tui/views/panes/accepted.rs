//! Accepted-length pane: accepted length by step and as a histogram, and acceptance rate by depth.

use super::{Pen, empty};
use crate::tui::State;
use crate::tui::theme::Role;
use crate::tui::views::number;

/// Returns the title's summary: mean accepted length, with and without the bonus.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    match state.history.averages.accepted_mean() {
        Some(mean) => {
            let (mean, tau) = (number::two(mean), number::two(mean + 1.0));
            (
                vec![
                    format!("mean {mean} + bonus = {tau} tokens/step"),
                    format!("mean {mean} + 1 bonus"),
                    mean,
                ],
                Role::GaugeAccepted,
            )
        }
        None => (Vec::new(), Role::Label),
    }
}

/// Draws one bar per step, the newest on the right.
pub fn sparkline(state: &State, pen: &mut Pen, x: usize, y: usize, width: usize, rows: usize) {
    let glyphs = pen.glyphs();
    let steps: Vec<_> = state.history.steps_back_from(state.selected).take(width).collect();
    let highest = steps.iter().map(|s| s.record.accepted).max().unwrap_or(0).max(1);
    for (i, step) in steps.iter().rev().enumerate() {
        let role = match step.record.accepted {
            _ if state.selected == Some(step.number) => Role::Notice,
            0 => Role::TokenBonus,
            n => Role::accepted(n),
        };
        if step.changed {
            for r in 0..rows {
                pen.text(x + i, y + r, glyphs.change, Role::PlotChange);
            }
            // The bar of a step with changed settings is drawn over the marker.
        }
        let eighths = (step.record.accepted * 8 * rows).div_ceil(highest);
        for r in 0..eighths.div_ceil(8) {
            pen.text(x + i, y + rows - 1 - r, glyphs.level(eighths - 8 * r), role);
        }
        if eighths == 0 && !step.changed {
            pen.text(x + i, y + rows - 1, glyphs.zero, Role::PlotAxis);
        }
    }
}

/// Draws the accepted-length pane: histogram, table by length, and bars by step.
pub fn accepted(state: &State, pen: &mut Pen) {
    let (width, height, glyphs) = (pen.width(), pen.height(), pen.glyphs());
    let averages = &state.history.averages;
    if averages.steps == 0 {
        empty(pen, "accepted drafted tokens per step appear here");
        return;
    }
    // Labels on the left, then one column per length.
    let words = 9;
    // From the bottom: bars by step in one to three rows, the table by length, the histogram in the
    // remaining rows.
    let rows = if height >= 10 {
        3
    } else if height >= 8 {
        2
    } else {
        1
    };
    let gap = usize::from(height >= 7);
    let bars = height.saturating_sub(rows + gap + 3);
    if bars == 0 {
        sparkline(state, pen, 1, 0, width.saturating_sub(2), height.min(1));
        return;
    }
    pen.text(1, height - 1, "by step", Role::Label);
    sparkline(state, pen, words + 1, height - rows, width.saturating_sub(words + 2), rows);
    let cell = 4;
    let columns = width.saturating_sub(words + 1) / cell;
    if columns == 0 {
        return;
    }
    let longest = averages.lengths.len().max(averages.rates.max_depth() + 1);
    let cut = longest > columns;
    let shown = longest.min(columns);
    // If not all lengths fit, the last column stands for all longer ones as well.
    let share = |k: usize| {
        let from = &averages.lengths[k.min(averages.lengths.len())..];
        let count: usize = if cut && k + 1 == shown {
            from.iter().sum()
        } else {
            from.first().copied().unwrap_or(0)
        };
        count as f64 / averages.steps as f64
    };
    let highest = (0..shown).map(share).fold(0.0, f64::max);
    let labels = [("length", 0), ("% steps", 1), ("% accept", 2)];
    for (label, i) in labels {
        pen.text(1, bars + i, label, Role::Label);
    }
    for k in 0..shown {
        let x = words + 1 + k * cell;
        let end = x + cell - 1;
        let role = if k == 0 { Role::TokenBonus } else { Role::accepted(k) };
        let eighths = if highest > 0.0 {
            (share(k) / highest * (8 * bars) as f64).round() as usize
        } else {
            0
        };
        let eighths = if share(k) > 0.0 { eighths.max(1) } else { 0 };
        for r in 0..eighths.div_ceil(8) {
            pen.rule(x, end, bars - 1 - r, glyphs.level(eighths - 8 * r), role);
        }
        let more = cut && k + 1 == shown;
        pen.right(end, bars, &if more { format!("{k}+") } else { k.to_string() }, Role::Base);
        pen.right(end, bars + 1, &whole(share(k)), Role::Base);
        // Dimmed below ten trials, where the rate means little.
        let (reached, _) = averages.rates.counts(k);
        let role = if reached < 10 { Role::NodeUnreached } else { Role::Value };
        if let Some(rate) = averages.rates.rate(k).filter(|_| !more) {
            pen.right(end, bars + 2, &whole(rate), role);
        }
    }
}

fn whole(share: f64) -> String {
    format!("{:.0}", share * 100.0)
}
