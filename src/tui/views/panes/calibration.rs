//! Calibration pane: reliability diagrams of the drafter's q against the target's p.

use super::{Pen, empty};
use crate::telemetry::{BINS, Bin, CalibrationTally, Reliability};
use crate::tui::State;
use crate::tui::theme::Role;

/// Columns left of the bars.
const AXIS: usize = 3;
/// Number of nodes below which a bin is dimmed.
const FEW: usize = 10;
/// Minimum number of rows for two diagrams one above the other.
const STACKED: usize = 16;

fn error(value: f64) -> String {
    format!("{value:.3}")
}

/// Returns the title's summary: calibration error, calibrated and raw.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    let CalibrationTally { raw, calibrated } = &state.history.averages.told;
    match (calibrated.calibration_error(), raw.calibration_error()) {
        (Some(now), Some(before)) => {
            let (now, before) = (error(now), error(before));
            let short = format!("error {now}, raw {before}");
            (vec![format!("{short}, {} nodes", raw.nodes()), short, now], Role::Value)
        }
        _ => (Vec::new(), Role::Label),
    }
}

/// Draws the calibrated and, if it fits, the raw diagram. They stand side by side or stacked.
pub fn calibration(state: &State, pen: &mut Pen) {
    let CalibrationTally { raw, calibrated } = &state.history.averages.told;
    if raw.nodes() == 0 {
        empty(pen, "reliability of the drafter's q appears here");
        return;
    }
    let (width, height) = (pen.width(), pen.height());
    let least = AXIS + 3 * BINS + 2;
    if width >= 2 * least {
        let half = width / 2;
        diagram(calibrated, "calibrated", &mut pen.part(0, 0, half as u16, height as u16));
        diagram(
            raw,
            "raw: the drafter's q",
            &mut pen.part(half as u16, 0, (width - half) as u16, height as u16),
        );
    } else if height >= STACKED {
        let half = height / 2;
        diagram(calibrated, "calibrated", &mut pen.part(0, 0, width as u16, half as u16));
        diagram(
            raw,
            "raw: the drafter's q",
            &mut pen.part(0, half as u16, width as u16, (height - half) as u16),
        );
    } else {
        diagram(calibrated, "calibrated", pen);
    }
}

/// Draws one reliability diagram. For each tenth of q a bar shows the mean p, and a line across it
/// the mean q.
///
/// Below stand the counts of nodes, or their percentages if counts do not fit.
fn diagram(told: &Reliability, name: &str, pen: &mut Pen) {
    let (width, height, glyphs) = (pen.width(), pen.height(), pen.glyphs());
    // One row each for the name, q, and the counts, as far as the bars leave room.
    let named = usize::from(height >= 7);
    let below = if height >= 5 { 2 } else { 1 };
    let rows = height.saturating_sub(named + below);
    let cell = width.saturating_sub(AXIS + 1) / BINS;
    if rows == 0 || cell == 0 {
        return;
    }
    if named == 1 {
        let error = told.calibration_error().map_or_else(String::new, |e| format!(" {}", error(e)));
        let end = pen.text(
            1,
            0,
            &pen.shorten(&format!("{name}{error}"), width.saturating_sub(2)),
            Role::Title,
        );
        let words = format!("bar: mean p, {}: mean q", glyphs.heavy);
        if end + pen.measure(&words) + 2 < width {
            pen.right(width - 1, 0, &words, Role::Label);
        }
    }
    for (y, label) in [(0, "1"), (rows - 1, "0")] {
        pen.text(1, named + y, label, Role::PlotAxis);
    }
    for y in 0..rows {
        pen.text(AXIS - 1, named + y, glyphs.vline, Role::PlotAxis);
    }
    if below == 2 && cell > 2 {
        pen.text(1, named + rows + 1, if cell > 3 { "n" } else { "%" }, Role::PlotAxis);
    }
    let bins = told.bins();
    for (i, Bin { nodes, q, p, weight }) in bins.into_iter().enumerate() {
        let (x, end) = (AXIS + i * cell, AXIS + (i + 1) * cell - usize::from(cell > 1));
        let label = if cell > 2 { format!(".{i}") } else { i.to_string() };
        pen.text(x, named + rows, &label, Role::PlotAxis);
        let few = nodes < FEW;
        if below == 2 && cell > 2 {
            let role = if few { Role::NodeUnreached } else { Role::Base };
            // Percentages where counts do not fit.
            let share = (100.0 * nodes as f64 / told.nodes().max(1) as f64).round().min(99.0);
            let text = if cell > 3 { count(nodes) } else { format!("{share:.0}") };
            pen.text(x, named + rows + 1, &text, role);
        }
        if weight <= 0.0 {
            continue;
        }
        let eighths = ((p.clamp(0.0, 1.0) * (8 * rows) as f64).round() as usize).max(1);
        let role = if few { Role::NodeUnreached } else { Role::Plot };
        for r in 0..eighths.div_ceil(8) {
            pen.rule(x, end, named + rows - 1 - r, glyphs.level(eighths - 8 * r), role);
        }
        let at = ((q.clamp(0.0, 1.0) * rows as f64) as usize).min(rows - 1);
        pen.rule(x, end, named + rows - 1 - at, glyphs.heavy, Role::PlotMean);
    }
    if below == 2 && cell <= 2 {
        pen.text(AXIS, named + rows + 1, &format!("{} nodes", told.nodes()), Role::Label);
    }
}

/// Formats a count in three cells.
fn count(nodes: usize) -> String {
    match nodes {
        0..=99 => nodes.to_string(),
        100..=999 => format!(".{}k", nodes / 100),
        1000..=99_999 => format!("{}k", nodes / 1000),
        _ => "max".to_owned(),
    }
}
