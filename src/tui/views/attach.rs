//! The screen of `speclight attach`: marks on one ruler, acceptance by depth, steps or readings.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::number::{percent, two, two_or_dash};
use super::pen::Pen;
use super::{MIN_SCREEN, panes};
use crate::theory::intervals::Estimate;
use crate::tui::theme::{Role, Theme};
use crate::tui::{ATTACH_KEYS, Attached};

/// Panes that an engine's own screen has and a server can't fill, with the reason.
const ABSENT: &str = "E[X|T], drafter's best, oracle tree, causes, calibration: no server reports rejected drafts or their probabilities";

/// Draws the screen over a server.
pub fn draw_attached(state: &Attached, theme: &Theme, area: Rect, buf: &mut Buffer) {
    let mut pen = Pen::new(buf, theme, area);
    pen.clear(Role::Base);
    if area.width < MIN_SCREEN.0 || area.height < MIN_SCREEN.1 {
        panes::too_small(&mut pen);
        return;
    }
    let (width, height) = (area.width, area.height);
    header(state, &mut pen.part(0, 0, width, 1));
    figures(state, &mut pen.part(0, 1, width, 2));
    footer(state, &mut pen.part(0, height - 1, width, 1));
    absent(&mut pen.part(0, height - 2, width, 1));
    let (top, rows) = (3, height - 5);
    if width >= 100 {
        let half = width / 2;
        marks(state, &mut pen.part(0, top, half, rows));
        let upper = (rows / 2).min(10);
        depth(state, &mut pen.part(half + 1, top, width - half - 1, upper));
        course(state, &mut pen.part(half + 1, top + upper, width - half - 1, rows - upper));
    } else {
        let first = rows.div_ceil(2).max(6).min(rows);
        marks(state, &mut pen.part(0, top, width, first));
        if rows > first {
            course(state, &mut pen.part(0, top + first, width, rows - first));
        }
    }
}

fn header(state: &Attached, pen: &mut Pen) {
    let glyphs = pen.glyphs();
    let (word, role) = match (state.finished, &state.plan) {
        (true, _) => ("finished".to_owned(), Role::StatePaused),
        (false, Some(_)) => (format!("{} probing", glyphs.live), Role::StateLive),
        (false, None) => (format!("{} watching", glyphs.live), Role::StateLive),
    };
    let end = pen.width().saturating_sub(pen.measure(&word) + 3);
    let server = pen.shorten(&state.server, end.saturating_sub(2));
    pen.text(1, 0, &server, Role::Header);
    pen.right(pen.width().saturating_sub(1), 0, &format!(" {word} "), role);
}

fn footer(state: &Attached, pen: &mut Pen) {
    let mut x = 1;
    for (key, name) in ATTACH_KEYS {
        x = pen.text(x, 0, key, Role::FooterKey) + 1;
        x = pen.text(x, 0, name, Role::FooterText) + 2;
    }
    if let Some(notice) = &state.notice {
        let notice = pen.shorten(notice, pen.width().saturating_sub(x + 1));
        pen.right(pen.width().saturating_sub(1), 0, &notice, Role::Notice);
    }
}

fn absent(pen: &mut Pen) {
    let text = pen.shorten(&format!("not from outside: {ABSENT}"), pen.width().saturating_sub(2));
    pen.text(1, 0, &text, Role::Label);
}

fn figures(state: &Attached, pen: &mut Pen) {
    let s = &state.summary;
    let width = pen.width().saturating_sub(1);
    let known = |value: Option<f64>| value.map_or_else(String::new, two);
    let accepted = s.accepted_per_drafted_step.or(s.accepted_mean);
    let items = vec![
        ("accepted per drafted step", two_or_dash(accepted), Role::GaugeAccepted, 0),
        ("tokens per step", known(s.tokens_per_step), Role::Value, 0),
        ("B", s.budget.map_or_else(String::new, |b| b.to_string()), Role::Value, 1),
        (
            "tokens/s",
            s.tokens_per_second.map_or_else(String::new, |v| format!("{v:.1}")),
            Role::Value,
            1,
        ),
        (
            "ms per step",
            s.step_seconds.map_or_else(String::new, |t| format!("{:.1}", 1e3 * t)),
            Role::Value,
            2,
        ),
        ("without a draft", s.undrafted_share.map_or_else(String::new, percent), Role::Base, 3),
    ];
    panes::items(pen, 0, width, items);
    let mut items = Vec::new();
    match (&state.plan, &s.light) {
        (_, Some(light)) => {
            items.push(("v/c", interval(light.share), Role::LightReached, 0));
            items.push((
                "c, estimated",
                format!("{:.1} tokens/s at B {}", light.ceiling.value, light.best_budget),
                Role::Light,
                1,
            ));
        }
        (None, None) => items.push((
            "",
            "reads counters only; ceilings need a probe, which sends prompts".to_owned(),
            Role::Label,
            0,
        )),
        (Some(plan), None) => items.push(("", plan.clone(), Role::Label, 0)),
    }
    if state.plan.is_some() {
        items.push(("text", format!("{} of {}", s.texts, state.requests), Role::Base, 2));
        let certain = format!("{} of {} certain", s.exact_steps, s.steps.unwrap_or(0.0));
        items.push(("steps", certain, Role::Base, 2));
    }
    panes::items(pen, 1, width, items);
}

fn interval(e: Estimate) -> String {
    match e.interval {
        Some(i) => format!("{} [{}, {}]", two(e.value), two(i.low), two(i.high)),
        None => two(e.value),
    }
}

/// Title of a pane, with the first of `labels` that fits at its right.
fn title(pen: &mut Pen, name: &str, labels: &[&str]) {
    let (line, width) = (pen.glyphs().line, pen.width());
    pen.rule(0, width, 0, line, Role::Frame);
    let name = pen.shorten(name, width.saturating_sub(4));
    let end = pen.text(1, 0, &format!(" {name} "), Role::Title);
    if let Some(label) = labels.iter().find(|label| pen.measure(label) + end + 3 <= width) {
        pen.right(width.saturating_sub(1), 0, &format!(" {label} "), Role::Label);
    }
}

/// One mark: name, value with its interval, role.
type Row = (&'static str, Estimate, Role);

/// Marks from the highest ceiling down to what was accepted, on one scale.
fn marks(state: &Attached, pen: &mut Pen) {
    let s = &state.summary;
    let exact = |value: f64| Estimate { value, interval: None };
    let mut rows: Vec<Row> = Vec::new();
    let found = s.estimates.as_ref().or(s.reference.as_ref());
    let long = found
        .map(|found| format!("estimated, {} positions of {} texts", found.positions, found.texts));
    let labels: &[&str] = match (&s.estimates, &long) {
        (Some(_), Some(long)) => &[long, "estimated"],
        (None, Some(_)) => {
            &["greedy text; estimates are of temperature 1", "greedy: reference T 1"]
        }
        _ => &[],
    };
    rows.extend(s.budget.map(|budget| ("B - 1", exact(budget as f64 - 1.0), Role::Gauge)));
    if let Some(found) = found {
        let named = [
            ("renewal, tuned", found.renewal_tuned, Role::GaugeCeiling),
            ("fluid at B - 1", found.fluid, Role::GaugeFluid),
            ("chains of B - 1", found.chain, Role::GaugeCeiling),
            ("oracle chain", found.oracle_chain, Role::GaugeOracle),
        ];
        rows.extend(named.into_iter().filter_map(|(name, value, role)| Some((name, value?, role))));
    }
    let accepted = s.accepted_mean.or(s.accepted_per_drafted_step);
    rows.extend(accepted.map(|accepted| ("accepted", exact(accepted), Role::GaugeAccepted)));
    title(pen, "accepted drafted tokens per step", labels);
    if rows.is_empty() {
        pen.text(1, 1, "nothing counted yet", Role::Label);
        return;
    }
    // Where there is no room for all, the main ceiling and what was reached stay.
    for name in ["renewal, tuned", "chains of B - 1", "B - 1", "oracle chain"] {
        if rows.len() + 1 > pen.height() {
            rows.retain(|row| row.0 != name);
        }
    }
    let most = s.budget.map_or(1.0, |budget| budget as f64 - 1.0);
    // A large B would push all other marks into one cell.
    let seen = rows
        .iter()
        .filter(|row| row.0 != "B - 1")
        .map(|row| row.1.interval.map_or(row.1.value, |i| i.high))
        .fold(0.0, f64::max);
    let scale = if seen > 0.0 { most.min(1.25 * seen).max(seen) } else { most }.max(1e-9);
    let glyphs = pen.glyphs();
    let name_width = 16;
    let value_width = if pen.width() >= 56 { 21 } else { 6 };
    let start = name_width + value_width + 2;
    let room = pen.width().saturating_sub(start + 1);
    let mut y = 1;
    for (name, estimate, role) in rows {
        pen.text(1, y, name, Role::Label);
        let value = if value_width > 6 { interval(estimate) } else { two(estimate.value) };
        pen.right(name_width + value_width, y, &value, role);
        let column = |value: f64| ((value / scale).clamp(0.0, 1.0) * room as f64).round() as usize;
        pen.rule(start, start + column(estimate.value), y, glyphs.heavy, role);
        if let Some(i) = estimate.interval {
            pen.rule(start + column(estimate.value), start + column(i.high), y, glyphs.band, role);
        }
        if estimate.value > scale {
            pen.right(start + room + 1, y, glyphs.beyond, role);
        }
        y += 1;
    }
    let items = match found {
        Some(found) => vec![
            ("mu", found.mu.map_or_else(String::new, interval), Role::Value, 0),
            ("mu2", found.mu2.map_or_else(String::new, interval), Role::Value, 0),
            ("", "nats, nats squared".to_owned(), Role::Label, 1),
        ],
        None => vec![(
            "",
            "entropy of others' text is not reported: fluid and mu need a probe".to_owned(),
            Role::Label,
            0,
        )],
    };
    panes::items(pen, y, pen.width().saturating_sub(1), items);
}

fn depth(state: &Attached, pen: &mut Pen) {
    let rates = &state.summary.acceptance_by_depth;
    let labels: &[&str] = match (rates.is_empty(), state.summary.depth_is_lower_bound) {
        (true, _) => &[],
        (false, true) => &["at least; drafts of other lengths count as rejected", "at least"],
        (false, false) => &["exact"],
    };
    title(pen, "acceptance by depth, given that it was reached", labels);
    if rates.is_empty() {
        pen.text(1, 1, "not reported by this engine, or no drafts yet", Role::Label);
        return;
    }
    let glyphs = pen.glyphs();
    let room = pen.width().saturating_sub(14);
    for (i, rate) in rates.iter().enumerate().take(pen.height().saturating_sub(1)) {
        pen.right(4, i + 1, &(i + 1).to_string(), Role::Label);
        pen.right(10, i + 1, &two(*rate), Role::Value);
        let filled = (rate.clamp(0.0, 1.0) * room as f64).round() as usize;
        pen.rule(12, 12 + filled, i + 1, glyphs.heavy, Role::accepted(i + 1));
    }
}

/// Last steps of a probe, or last readings of a server that is watched.
fn course(state: &Attached, pen: &mut Pen) {
    let rows = pen.height().saturating_sub(1);
    if state.plan.is_none() {
        title(pen, "readings", &["the newest first"]);
        if state.windows.is_empty() {
            pen.text(1, 1, "the first interval is not over yet", Role::Label);
        }
        for (y, window) in state.windows.iter().rev().take(rows).enumerate() {
            let own = window.own.map(|own| own.tokens_per_step - 1.0);
            let items = vec![
                ("accepted", two_or_dash(window.accepted_mean.or(own)), Role::GaugeAccepted, 0),
                (
                    "tokens/s",
                    window.tokens_per_second.map_or_else(String::new, |v| format!("{v:.1}")),
                    Role::Value,
                    1,
                ),
                (
                    "ms per step",
                    window.step_seconds.map_or_else(String::new, |t| format!("{:.1}", 1e3 * t)),
                    Role::Value,
                    2,
                ),
                (
                    "running",
                    window.running.map_or_else(String::new, |n| format!("{n:.0}")),
                    Role::Base,
                    1,
                ),
            ];
            panes::items(pen, y + 1, pen.width().saturating_sub(1), items);
        }
        return;
    }
    title(pen, "steps", &["accepted of drafted, ms; the newest first", "accepted of drafted, ms"]);
    if state.steps.is_empty() {
        pen.text(1, 1, "no step yet", Role::Label);
    }
    let glyphs = pen.glyphs();
    for (y, step) in state.steps.iter().rev().take(rows).enumerate() {
        let y = y + 1;
        let number = |n: Option<usize>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let sure = if step.exact { "" } else { " uncertain" };
        pen.right(
            9,
            y,
            &format!("{}/{}", number(step.accepted), number(step.drafted)),
            Role::Value,
        );
        let time = step.seconds.map_or_else(String::new, |t| format!("{:.1}", 1e3 * t));
        pen.right(18, y, &time, Role::TimeVerify);
        let (accepted, drafted) =
            (step.accepted.unwrap_or(0), step.drafted.or(step.accepted).unwrap_or(0));
        let mut x = 20;
        for i in 0..drafted.min(pen.width().saturating_sub(32)) {
            let (glyph, role) = if i < accepted {
                (glyphs.accepted, Role::accepted(i + 1))
            } else {
                (glyphs.refused, Role::NodeRefused)
            };
            x = pen.text(x, y, glyph, role);
        }
        pen.text(x, y, sure, Role::Label);
    }
}
