//! Race pane: the shown text and the same text under other settings, each at its own pace.

use super::{Pen, empty};
use crate::tui::State;
use crate::tui::race::{Race, RaceLane, race};
use crate::tui::theme::Role;
use crate::tui::views::flow::Flow;
use crate::tui::views::number;

/// Returns the title's summary: who is ahead, and by how much.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    let Some(race) = race(state) else { return (Vec::new(), Role::Label) };
    let (own, other) = (race.own.tokens as f64, race.other.tokens as f64);
    if own == 0.0 || other == 0.0 {
        return (Vec::new(), Role::Label);
    }
    let ahead = own / other - 1.0;
    let role = if ahead >= 0.0 { Role::GaugeAccepted } else { Role::NodeRefused };
    let words = if ahead >= 0.0 { "ahead" } else { "behind" };
    (
        vec![
            format!("{} {words} after {:.2} s", number::percent(ahead.abs()), race.seconds),
            format!("{} {words}", number::percent(ahead.abs())),
        ],
        role,
    )
}

/// Draws a bar for each lane, and the agreement of the texts.
///
/// Also draws both texts if there is room.
pub fn race_pane(state: &State, pen: &mut Pen) {
    let Some(race) = race(state) else {
        empty(pen, "x switches drafting off or on, then r starts the race: one text, twice");
        return;
    };
    let (width, height) = (pen.width(), pen.height());
    let total = [&race.own, &race.other]
        .iter()
        .map(|lane| lane.total.unwrap_or(lane.tokens))
        .fold(1, usize::max);
    for (y, (lane, role)) in
        [(&race.own, Role::GaugeAccepted), (&race.other, Role::Gauge)].into_iter().enumerate()
    {
        bar(lane, total, role, y, pen);
    }
    if height > 2 {
        let line = agreement(&race);
        let line = line.iter().find(|line| pen.measure(line) + 2 <= width).or(line.last());
        pen.text(
            1,
            2,
            &pen.shorten(line.map_or("", String::as_str), width.saturating_sub(2)),
            Role::Label,
        );
    }
    if height > 5 && width >= 60 && !race.other.text.is_empty() {
        let half = width / 2;
        let rows = (height - 4) as u16;
        for (i, lane) in [&race.own, &race.other].into_iter().enumerate() {
            text(lane, &mut pen.part((i * half) as u16, 4, (half - 1) as u16, rows));
        }
    }
}

/// Returns the line on the agreement of the texts, longest form first.
fn agreement(race: &Race) -> Vec<String> {
    match race.agreement {
        Some(found) if found.equal == found.common => vec![
            format!("both write the same text: {} of {} tokens agree", found.equal, found.common),
            format!("{} of {} tokens agree", found.equal, found.common),
        ],
        Some(found) => vec![
            format!("the texts differ from token {} on, though they must not", found.equal + 1),
            format!("texts differ from token {} on", found.equal + 1),
        ],
        None => vec![
            "the same text at the measured speed of plain decoding; x then r writes it without drafting".to_owned(),
            "x then r writes it without drafting".to_owned(),
        ],
    }
}

/// Draws one lane: name, bar, tokens, and speed.
fn bar(lane: &RaceLane, total: usize, role: Role, y: usize, pen: &mut Pen) {
    let width = pen.width();
    let name = (width / 3).min(30);
    pen.text(1, y, &pen.shorten(&lane.name, name.saturating_sub(2)), Role::Base);
    let rate = lane.tokens_per_second.map_or_else(String::new, |rate| format!("  {rate:.0} tok/s"));
    let tokens = match lane.total {
        Some(total) => format!("{} of {total}", lane.tokens),
        None => format!("{} tokens", lane.tokens),
    };
    let figures = format!(" {tokens}{rate}");
    let columns = width.saturating_sub(name + figures.len() + 1);
    let full = (lane.tokens.saturating_mul(columns) / total).min(columns);
    let (heavy, line) = (pen.glyphs().levels[7], pen.glyphs().line);
    pen.rule(name, name + full, y, heavy, role);
    pen.rule(name + full, name + columns, y, line, Role::PlotAxis);
    pen.text(name + columns, y, &figures, Role::Value);
}

/// Draws the end of a lane's text.
fn text(lane: &RaceLane, pen: &mut Pen) {
    let (style, sign) = (pen.style(Role::Base), pen.style(Role::Invisible));
    let mut flow = Flow::default();
    for piece in &lane.text {
        flow.push(piece, pen.glyphs(), style, sign);
    }
    let width = pen.width().saturating_sub(2).max(1);
    let lines = flow.lines(width);
    let from = lines.len().saturating_sub(pen.height());
    for (y, line) in lines[from..].iter().enumerate() {
        flow.draw(*line, y, 1 + width, pen);
    }
}
