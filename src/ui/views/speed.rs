//! Tokens a second, against plain decoding, and where the time goes.

use super::{Pen, empty};
use crate::app::{State, Step};
use crate::telemetry::StageTimes;
use crate::theme::{Glyphs, Role};
use crate::ui::number;

/// How many times plain decoding's speed, where both are known.
pub fn factor(state: &State) -> Option<f64> {
    Some(state.history.averages.tokens_per_second()? / state.plain?)
}

/// What the title says.
pub fn summary(state: &State, glyphs: &Glyphs) -> (Vec<String>, Role) {
    match factor(state) {
        Some(f) => (
            vec![format!("{}{} plain decoding", glyphs.times, number::two(f))],
            if f < 1.0 { Role::NodeRefused } else { Role::GaugeAccepted },
        ),
        None => (vec!["plain speed not timed yet".to_owned()], Role::Label),
    }
}

/// Draws it.
pub fn speed(state: &State, pen: &mut Pen) {
    let (width, height) = (pen.width(), pen.height());
    let averages = &state.history.averages;
    if averages.steps == 0 {
        empty(pen, "tokens a second come here");
        return;
    }
    let items = [
        ("now", state.history.tokens_per_second_now(), Role::Value),
        ("mean", averages.tokens_per_second(), Role::Value),
        ("plain", state.plain, Role::Base),
        ("whole run", state.history.tokens_per_second_all(), Role::Base),
    ];
    let mut x = 1;
    for (label, value, role) in items {
        let value = format!("{:>5}", number::speed(value));
        if x + label.len() + 1 + value.len() + 7 > width && label != "now" {
            break;
        }
        x = pen.text(x, 0, label, Role::Label) + 1;
        x = pen.text(x, 0, &value, role) + 2;
    }
    pen.text(x - 1, 0, "tok/s", Role::Label);
    if height > 1 {
        bar(&averages.time, pen);
    }
    if height >= 4 && width >= 30 {
        let per_step = |seconds: f64| number::millis(seconds / averages.steps as f64);
        let t = &averages.time;
        let line = format!(
            "ms a step  {} = draft {} + verify {} + other {}",
            per_step(t.total()),
            per_step(t.draft),
            per_step(t.verify),
            per_step(t.other)
        );
        pen.text(1, 3, &pen.shorten(&line, width.saturating_sub(2)), Role::Label);
    }
    if height >= 9 && width >= 30 {
        by_step(state, &mut pen.part(0, 5, width as u16, (height - 5) as u16));
    }
}

/// Tokens a second of each step, with plain decoding as a line.
fn by_step(state: &State, pen: &mut Pen) {
    let (width, height, glyphs) = (pen.width(), pen.height() - 1, pen.glyphs());
    pen.text(1, 0, "tokens a second of each step; the line is plain decoding", Role::Label);
    let axis = 6;
    let columns = width.saturating_sub(axis + 1);
    let steps: Vec<_> = state.history.back_from(state.selected).take(columns).collect();
    let rate = |step: &Step| {
        let rate = step.record.emitted.len() as f64 / step.record.time.total();
        if rate.is_finite() { rate.max(0.0) } else { 0.0 }
    };
    let highest = steps.iter().map(|s| rate(s)).fold(state.plain.unwrap_or(0.0), f64::max);
    // To the next 50, so that the axis seldom moves.
    let top = ((highest / 50.0).ceil() * 50.0).max(50.0);
    pen.right(axis - 1, 1, &format!("{top:.0}"), Role::PlotAxis);
    pen.right(axis - 1, height, "0", Role::PlotAxis);
    for y in 1..=height {
        pen.text(axis - 1, y, glyphs.vline, Role::PlotAxis);
    }
    if let Some(plain) = state.plain {
        let y = height - ((plain / top * height as f64) as usize).min(height - 1);
        pen.rule(axis, axis + columns, y, glyphs.line, Role::PlotMean);
    }
    for (i, step) in steps.iter().rev().enumerate() {
        let eighths = ((rate(step) / top * (8 * height) as f64).round() as usize).clamp(1, 8 * height);
        let role = match step {
            _ if state.selected == Some(step.number) => Role::Notice,
            step if step.changed => Role::PlotChange,
            _ => Role::Plot,
        };
        for r in 0..eighths.div_ceil(8) {
            pen.text(axis + i, height - r, glyphs.level(eighths - 8 * r), role);
        }
    }
}

/// The shares of time as one bar, with a line of words below it.
fn bar(time: &StageTimes, pen: &mut Pen) {
    let width = pen.width().saturating_sub(2);
    let total = time.total();
    if !(total > 0.0 && total.is_finite()) || width == 0 {
        return;
    }
    let parts = [
        ("draft", time.draft, Role::TimeDraft),
        ("verify", time.verify, Role::TimeVerify),
        ("other", time.other, Role::TimeOther),
    ];
    let (mut x, mut sum, mut word) = (0, 0.0, 1);
    for (i, (label, seconds, role)) in parts.into_iter().enumerate() {
        sum += seconds;
        let end = ((sum / total * width as f64).round() as usize).min(width);
        let fill = pen.glyphs().fills[i];
        pen.rule(1 + x, 1 + end, 1, fill, role);
        x = end;
        word = pen.text(word, 2, fill, role) + 1;
        word = pen.text(word, 2, label, Role::Label) + 1;
        word = pen.text(word, 2, &format!("{:>3}", number::percent(seconds / total)), Role::Base) + 1 + usize::from(width > 40);
    }
}
