//! Entropy pane: entropy of the distribution of each generated token, with mean and interval.

use super::{Pen, empty, greedy};
use crate::telemetry::{FEWEST_TEXTS, TextMeans};
use crate::tui::State;
use crate::tui::theme::{Glyphs, Role};
use crate::tui::views::number;

/// Columns of the axis left of the bars.
const AXIS: usize = 4;

/// Column of the plot; one generated token.
struct Bar {
    step: usize,
    value: f64,
    accepted: bool,
    changed: bool,
    begins: bool,
    selected: bool,
}

/// Returns the entropies of the newest `count` tokens. They are those of the sampled distribution,
/// or at temperature 1 if greedy.
fn bars(state: &State, count: usize) -> Vec<Bar> {
    let mut out = Vec::with_capacity(count);
    for step in state.history.steps_back_from(state.selected) {
        let record = &step.record;
        for (i, entropy) in record.entropy.iter().enumerate().rev() {
            if out.len() == count {
                break;
            }
            out.push(Bar {
                step: step.number,
                value: if greedy(record) { entropy.plain.entropy } else { entropy.sampled.entropy },
                accepted: i < record.accepted,
                changed: step.changed && i == 0,
                begins: step.first && i == 0,
                selected: state.selected == Some(step.number),
            });
        }
        if out.len() == count {
            break;
        }
    }
    out.reverse();
    out
}

/// Returns the means to show, and whether they refer to temperature 1. That is so for greedy text.
fn means(state: &State) -> (&TextMeans, bool) {
    let reference = state.history.newest().is_some_and(|s| greedy(&s.record));
    (if reference { &state.history.plain_entropy } else { &state.history.entropy }, reference)
}

/// Returns the mean entropy to show, in nats.
pub fn mean(state: &State) -> Option<f64> {
    means(state).0.mean()
}

/// Returns the title's summary: mean entropy with its interval, longest form first.
pub fn summary(state: &State, glyphs: &Glyphs) -> (Vec<String>, Role) {
    let (means, reference) = means(state);
    let Some(mean) = means.mean() else { return (Vec::new(), Role::Label) };
    let half = means.half_width();
    let interval =
        half.map_or_else(String::new, |h| format!(" {} {}", glyphs.plus_minus, number::two(h)));
    let mean = number::two(mean);
    let texts = if reference {
        vec![
            format!("greedy: {} 0; at T=1: {mean}{interval} nats", glyphs.mu),
            format!("{} 0; T=1: {mean} nats", glyphs.mu),
        ]
    } else {
        // The variance between texts can't be estimated from a few of them.
        let mut texts = Vec::new();
        if half.is_none() {
            let texts_so_far = means.texts();
            texts.push(format!(
                "{} {mean} nats, interval after {FEWEST_TEXTS} texts ({texts_so_far} so far)",
                glyphs.mu
            ));
            texts.push(format!("{} {mean} nats, too early for an interval", glyphs.mu));
        }
        texts.extend([
            format!("{} {mean}{interval} nats", glyphs.mu),
            format!("{} {mean}", glyphs.mu),
        ]);
        texts
    };
    (texts, Role::PlotMean)
}

/// Draws the newest tokens in one row, for small screens.
pub fn strip(state: &State, pen: &mut Pen, x: usize, y: usize, width: usize) {
    let bars = bars(state, width);
    let top = top(bars.iter().map(|b| b.value).fold(0.0, f64::max));
    for (i, bar) in bars.iter().enumerate() {
        let eighths = ((bar.value / top * 8.0).round() as usize).min(8);
        let (glyph, role) = match eighths {
            0 => (pen.glyphs().zero, Role::PlotAxis),
            n if bar.accepted => (pen.glyphs().level(n), Role::Plot),
            n => (pen.glyphs().level(n), Role::TokenBonus),
        };
        pen.text(x + i, y, glyph, role);
    }
}

/// Returns the top of the axis: a round number not below `value`. It comes from a short list, so
/// that the axis seldom moves.
fn top(value: f64) -> f64 {
    const TOPS: [f64; 8] = [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0];
    TOPS.into_iter().find(|&t| value <= t).unwrap_or(16.0)
}

/// Returns the number of the step at a column, for the mouse.
///
/// `width` is that of the pane.
pub fn step_at(state: &State, width: usize, x: usize) -> Option<usize> {
    let bars = bars(state, width.saturating_sub(AXIS + 1));
    bars.get(x.checked_sub(AXIS)?).map(|bar| bar.step)
}

/// Draws the entropy pane: one bar per token, with mean and interval across.
pub fn entropy(state: &State, pen: &mut Pen) {
    let (width, height, glyphs) = (pen.width(), pen.height(), pen.glyphs());
    let axis = AXIS;
    let columns = width.saturating_sub(axis + 1);
    let bars = bars(state, columns);
    if bars.is_empty() || height == 0 {
        empty(pen, "entropy of each generated token appears here");
        return;
    }
    let means = means(state).0;
    let (mu, half) = (means.mean(), means.half_width());
    let highest = bars.iter().map(|b| b.value).fold(0.0, f64::max).max(mu.unwrap_or(0.0));
    let top = top(highest);
    // Row of a value, counted from the bottom.
    let row = |value: f64| ((value / top * height as f64) as usize).min(height - 1);
    let y_of = |row: usize| height - 1 - row;
    for (value, r) in [(top, height - 1), (0.0, 0)] {
        if height > 2 || r > 0 {
            pen.right(axis - 1, y_of(r), &format!("{value:.0}"), Role::PlotAxis);
        }
    }
    if height >= 7 {
        pen.right(
            axis - 1,
            y_of(row(top / 2.0)),
            number::two(top / 2.0).trim_end_matches('0').trim_end_matches('.'),
            Role::PlotAxis,
        );
    }
    for y in 0..height {
        pen.text(axis - 1, y, glyphs.vline, Role::PlotAxis);
    }
    if let (Some(mu), Some(half)) = (mu, half) {
        for r in row((mu - half).max(0.0))..=row(mu + half) {
            pen.tint(axis, y_of(r), columns, Role::PlotBand);
        }
    }
    if let Some(mu) = mu {
        pen.rule(axis, axis + columns, y_of(row(mu)), glyphs.line, Role::PlotMean);
        pen.right(axis - 1, y_of(row(mu)), &format!("{:>3}", glyphs.mu), Role::PlotMean);
    }
    for (i, bar) in bars.iter().enumerate() {
        let x = axis + i;
        if bar.changed {
            for y in 0..height {
                pen.text(x, y, glyphs.change, Role::PlotChange);
            }
        }
        let role = match bar {
            Bar { selected: true, .. } => Role::Notice,
            Bar { accepted: true, .. } => Role::Plot,
            _ => Role::TokenBonus,
        };
        let eighths = ((bar.value / top * (8 * height) as f64).round() as usize).min(8 * height);
        for r in 0..eighths.div_ceil(8) {
            let glyph = glyphs.level(eighths - 8 * r);
            pen.text(x, y_of(r), glyph, role);
        }
        if eighths == 0 && !bar.changed {
            pen.text(x, y_of(0), glyphs.zero, Role::PlotAxis);
        }
        if bar.begins && !bar.changed && eighths < 8 * height - 7 && i > 0 {
            pen.text(x, 0, glyphs.down, Role::PlotAxis);
        }
    }
}
