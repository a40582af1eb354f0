//! Tokens a second, against plain decoding, and where the time goes.

use super::{Pen, empty};
use crate::app::State;
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
        Some(f) => (vec![format!("{}{} plain decoding", glyphs.times, number::two(f))], Role::GaugeAccepted),
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
