//! Advice pane: what would make decoding faster, with the predicted gains.

use super::{Pen, empty};
use crate::telemetry::{Change, Gain, MIN_ADVICE_STEPS};
use crate::tui::State;
use crate::tui::theme::{Glyphs, Role};
use crate::tui::views::number::{percent_change, speed};

/// Returns a change in words.
fn name(change: Change, budget: usize, glyphs: &Glyphs) -> String {
    match change {
        Change::Budget(b) => format!("B {budget} {} {b}", glyphs.arrow),
        Change::Automatic => "automatic budget (b)".to_owned(),
        Change::NoDrafting => "no drafting".to_owned(),
        Change::BestFirst => "best-first trees (s)".to_owned(),
        Change::FreeDrafting => "drafting for free".to_owned(),
        Change::PerfectDrafter => "a perfect drafter".to_owned(),
    }
}

/// Returns the budget of the settings in force.
fn budget(state: &State) -> usize {
    state.history.newest().map_or(0, |step| step.record.settings.budget)
}

/// Returns the line of advice, longest form first; empty while nothing is predicted.
pub fn line(state: &State, glyphs: &Glyphs) -> Vec<String> {
    let advice = &state.advice;
    let shown = advice.shown();
    if shown.is_empty() {
        return Vec::new();
    }
    let budget = budget(state);
    let item = |(change, gain): &(Change, f64)| {
        format!("{}: {}", name(*change, budget, glyphs), percent_change(*gain))
    };
    let all: Vec<String> = shown.iter().map(item).collect();
    let none = advice.setting().is_none();
    let head = if none { "these settings are the fastest predicted; " } else { "" };
    let mut forms =
        vec![format!("would help: {head}{}", all.join("; ")), format!("{head}{}", all.join("; "))];
    (1..all.len()).rev().for_each(|n| forms.push(all[..n].join("; ")));
    forms
}

/// Returns the title's summary.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    let steps = state.history.averages.steps.min(crate::telemetry::MAX_ADVICE_STEPS);
    match state.advice.gains.is_empty() {
        true => (Vec::new(), Role::Label),
        false => (
            vec![format!("predicted from the last {steps} steps"), format!("from {steps} steps")],
            Role::Label,
        ),
    }
}

/// Draws the pane: the changes that would help most, one a row.
pub fn advice(state: &State, pen: &mut Pen) {
    let (width, height, glyphs) = (pen.width(), pen.height(), pen.glyphs());
    let advice = &state.advice;
    if advice.gains.is_empty() {
        let steps = state.history.averages.steps;
        let undrafted =
            state.settings.as_ref().is_some_and(|settings| settings.is_plain_decoding());
        let words = match () {
            () if undrafted => "nothing is drafted: d selects a drafter".to_owned(),
            () => format!(
                "predictions appear after {MIN_ADVICE_STEPS} steps at these settings ({steps} so far)"
            ),
        };
        empty(pen, &words);
        return;
    }
    let (reached, budget) = (state.light.reached, budget(state));
    // The advised setting, the drafter's two limits, then the other settings by gain.
    let mut order: Vec<&Gain> = advice.gains.iter().collect();
    let fixed = |gain: &Gain| match gain.change {
        change if Some(change) == advice.setting() => 0,
        Change::FreeDrafting => 1,
        Change::PerfectDrafter => 2,
        _ => 3,
    };
    order.sort_by(|a, b| fixed(a).cmp(&fixed(b)).then(b.gain.value.total_cmp(&a.gain.value)));
    let mut y = 0;
    if advice.setting().is_none() {
        pen.text(
            1,
            0,
            &pen.shorten("no setting is predicted to be faster", width.saturating_sub(2)),
            Role::Base,
        );
        y = 1;
    }
    let (gain_end, speed_start) = (30.min(width.saturating_sub(1)), 32);
    for gain in order {
        if y >= height {
            break;
        }
        let main = fixed(gain) < 3;
        let value = advice.gain(gain.change).unwrap_or(gain.gain.value);
        let role = match () {
            () if gain.change == Change::PerfectDrafter => Role::Light,
            () if gain.change == Change::FreeDrafting => Role::LightDrafting,
            () if main => Role::LightReached,
            () => Role::Label,
        };
        pen.text(
            1,
            y,
            &pen.shorten(&name(gain.change, budget, glyphs), gain_end.saturating_sub(8)),
            if main { Role::Base } else { Role::Label },
        );
        pen.right(gain_end, y, &percent_change(value), role);
        let least = matches!(gain.change, Change::Budget(_) | Change::Automatic);
        let around = gain.gain.interval.zip(reached).map(|(interval, v)| {
            format!(
                "{} to {} tok/s",
                speed(Some(v * (1.0 + interval.low))),
                speed(Some(v * (1.0 + interval.high)))
            )
        });
        let single = reached.map(|v| format!("{} tok/s", speed(Some(v * (1.0 + value)))));
        let words: Vec<String> = around.into_iter().chain(single).collect();
        let bound =
            |words: &String| if least { format!("{words}, at least") } else { words.clone() };
        let forms: Vec<String> = words.iter().map(bound).chain(words.iter().cloned()).collect();
        if let Some(words) = forms.iter().find(|words| speed_start + pen.measure(words) < width) {
            pen.text(speed_start, y, words, Role::Label);
        }
        y += 1;
    }
}
