//! The screen of `speclight attach`: marks on one ruler, acceptance by depth, steps or readings.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::number::{percent, two, two_or_dash};
use super::pen::Pen;
use super::{MIN_SCREEN, panes};
use crate::attach::bracket::Bracket;
use crate::attach::earlier::EarlierProbe;
use crate::attach::estimate::{Brackets, Estimates};
use crate::theory::intervals::Estimate;
use crate::tui::theme::{Role, Theme};
use crate::tui::{ATTACH_KEYS, Attached};

/// Panes that an engine's own screen has and a server can't fill, longest form first.
const ABSENT: [&str; 3] = [
    "not from outside: E[X|T], drafter's best, oracle tree, causes, calibration (rejected drafts are not reported)",
    "E[X|T], oracle tree, causes, calibration: rejected drafts are not reported",
    "not from outside: E[X|T], causes",
];

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
    if state.help {
        terms(&mut pen.part(0, top, width, rows));
        return;
    }
    if width >= 100 {
        let half = width / 2;
        let upper = if state.summary.earlier.is_some() { 17 } else { 11 }.min(rows);
        marks(state, &mut pen.part(0, top, half, upper));
        if rows > upper + 1 {
            depth(state, &mut pen.part(0, top + upper, half, rows - upper));
        }
        course(state, &mut pen.part(half + 1, top, width - half - 1, rows));
    } else {
        let first = rows.div_ceil(2).max(6).min(rows);
        marks(state, &mut pen.part(0, top, width, first));
        if rows > first {
            course(state, &mut pen.part(0, top + first, width, rows - first));
        }
    }
}

/// Terms of this screen, each in one line.
const TERMS: [(&str, &str); 12] = [
    ("accepted", "drafted tokens per step that the target kept; without the bonus"),
    ("B", "tokens of one verify pass, root included: B - 1 are drafted"),
    ("mu, mu2", "mean of -ln p and ln^2 p of the target's next token (nats, nats^2)"),
    ("fluid", "ceiling of any drafter, positions taken as independent"),
    ("renewal", "ceiling from mu and mu2 alone, at its best threshold (tuned)"),
    ("chains", "ceiling of drafts without branches, positions independent"),
    ("oracle chain", "accepted if the target's most probable tokens were drafted"),
    ("v/c", "speed reached, of the ceiling c from this server's step times"),
    ("[low, high]", "95% interval of an estimate, from a bootstrap over texts"),
    ("low to high", "bracket: holds for every distribution with the listed tokens"),
    ("certain", "steps that are known to be single ones"),
    ("at least", "lower bound: drafts of other lengths count as rejected"),
];

fn terms(pen: &mut Pen) {
    title(pen, "terms", &["? or Esc closes"]);
    let width = pen.width().saturating_sub(1);
    for (i, (name, meaning)) in TERMS.iter().enumerate().take(pen.height().saturating_sub(1)) {
        pen.text(1, i + 1, name, Role::Value);
        let meaning = pen.shorten(meaning, width.saturating_sub(15));
        pen.text(15, i + 1, &meaning, Role::Label);
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
    let room = pen.width().saturating_sub(2);
    let text = ABSENT.iter().find(|text| pen.measure(text) <= room).unwrap_or(&ABSENT[2]);
    let text = pen.shorten(text, room);
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

/// Value of a mark, and how it is known.
#[derive(Clone, Copy)]
enum Mark {
    Exact(f64),
    Estimated(Estimate),
    Bracketed(Bracket),
}

impl Mark {
    /// End of the solid part, and of the part that may belong to it.
    fn ends(self) -> (f64, f64) {
        match self {
            Mark::Exact(value) => (value, value),
            Mark::Estimated(e) => (e.value, e.interval.map_or(e.value, |i| i.high)),
            Mark::Bracketed(b) => (b.low, b.high.unwrap_or(f64::INFINITY)),
        }
    }

    fn long(self) -> String {
        match self {
            Mark::Exact(value) => two(value),
            Mark::Estimated(e) => interval(e),
            Mark::Bracketed(Bracket { low, high: Some(high) }) => {
                format!("{} to {}", two(low), two(high))
            }
            Mark::Bracketed(Bracket { low, high: None }) => format!("at least {}", two(low)),
        }
    }

    fn short(self) -> String {
        match self {
            Mark::Bracketed(b) => b.high.map_or_else(|| "-".to_owned(), two),
            other => two(other.ends().0),
        }
    }
}

/// One row of marks: name, value, role.
type Row = (&'static str, Mark, Role);

/// Rows of the ceilings.
///
/// If there is no room, the marks pane drops their names in this order.
fn estimated(found: &Estimates) -> Vec<Row> {
    [
        ("renewal, tuned", found.renewal_tuned, Role::GaugeCeiling),
        ("fluid at B - 1", found.fluid, Role::GaugeFluid),
        ("chains of B - 1", found.chain, Role::GaugeCeiling),
        ("oracle chain", found.oracle_chain, Role::GaugeOracle),
    ]
    .into_iter()
    .filter_map(|(name, value, role)| Some((name, Mark::Estimated(value?), role)))
    .collect()
}

fn bracketed(found: &Brackets) -> Vec<Row> {
    [
        ("renewal, tuned", found.renewal_tuned, Role::GaugeCeiling),
        ("fluid at B - 1", found.fluid, Role::GaugeFluid),
        ("chains of B - 1", found.chain, Role::GaugeCeiling),
    ]
    .into_iter()
    .filter_map(|(name, value, role)| Some((name, Mark::Bracketed(value?), role)))
    .collect()
}

/// Draws the marks from the highest ceiling to the accepted length, on one scale.
fn marks(state: &Attached, pen: &mut Pen) {
    let s = &state.summary;
    let mut rows: Vec<Row> = Vec::new();
    let found = s.estimates.as_ref().or(s.reference.as_ref());
    let known = found.filter(|found| found.positions > 0);
    let brackets = s.brackets.as_ref().filter(|_| state.brackets || known.is_none());
    let long = known
        .map(|found| format!("estimated, {} positions of {} texts", found.positions, found.texts));
    let labels: &[&str] = match (brackets, s.greedy, &long) {
        (Some(_), true, _) => &["greedy text; brackets at temperature 1", "greedy: T 1"],
        (Some(_), false, _) => &["brackets: hold without an estimate", "brackets"],
        (None, true, Some(_)) => {
            &["greedy text; estimates are of temperature 1", "greedy: reference T 1"]
        }
        (None, false, Some(long)) => &[long, "estimated"],
        _ => &[],
    };
    rows.extend(s.budget.map(|budget| ("B - 1", Mark::Exact(budget as f64 - 1.0), Role::Gauge)));
    match (brackets, found) {
        (Some(brackets), _) => {
            rows.extend(bracketed(brackets));
            let oracle = found.and_then(|found| found.oracle_chain);
            rows.extend(oracle.map(|e| ("oracle chain", Mark::Estimated(e), Role::GaugeOracle)));
        }
        (None, Some(found)) => rows.extend(estimated(found)),
        (None, None) => {}
    }
    let accepted = s.accepted_mean.or(s.accepted_per_drafted_step);
    rows.extend(accepted.map(|accepted| ("accepted", Mark::Exact(accepted), Role::GaugeAccepted)));
    title(pen, "accepted drafted tokens per step", labels);
    if rows.is_empty() && s.earlier.is_none() {
        pen.text(1, 1, "nothing counted yet", Role::Label);
        return;
    }
    let earlier_rows = s.earlier.as_ref().map_or(0, |_| 4);
    // Where there is no room for all, the main ceiling and what was reached stay.
    for name in ["renewal, tuned", "chains of B - 1", "B - 1", "oracle chain"] {
        if rows.len() + 1 + earlier_rows > pen.height() {
            rows.retain(|row| row.0 != name);
        }
    }
    let mut y = 1 + ruler(&rows, s.budget, 1, pen);
    let width = pen.width().saturating_sub(1);
    let items = match (brackets, known) {
        (Some(b), _) => moments(Mark::Bracketed(b.mu), Mark::Bracketed(b.mu2)),
        (None, Some(Estimates { mu: Some(mu), mu2: Some(mu2), .. })) => {
            moments(Mark::Estimated(*mu), Mark::Estimated(*mu2))
        }
        _ if s.earlier.is_some() => Vec::new(),
        _ if state.plan.is_none() => vec![(
            "",
            "entropy of others' text is not reported: fluid and mu need a probe".to_owned(),
            Role::Label,
            0,
        )],
        _ => vec![("", "no distributions yet: mu and fluid follow".to_owned(), Role::Label, 0)],
    };
    if !items.is_empty() {
        panes::items(pen, y, width, items);
        y += 1;
    }
    let own = state
        .engine
        .and_then(|engine| engine.own_length(s.accepted_per_drafted_step, s.tokens_per_step));
    if let Some(own) = own.filter(|_| y + 1 + earlier_rows < pen.height()) {
        let value = own.value.map_or_else(|| "-".to_owned(), two);
        let text = format!("the engine's {}: {value} ({})", own.name, own.definition);
        let text = pen.shorten(&text, width);
        pen.text(1, y, &text, Role::Label);
        y += 1;
    }
    if let Some(earlier) = &s.earlier {
        earlier_marks(earlier, y, pen);
    }
}

/// Draws the figures of an earlier probe, with their own title and scale.
fn earlier_marks(e: &EarlierProbe, top: usize, pen: &mut Pen) {
    let (width, height) = (pen.width(), pen.height());
    if top + 2 > height {
        return;
    }
    let mut part = pen.part(0, top as u16, width as u16, (height - top) as u16);
    let name = format!("from a probe of {}, {} tokens", e.local_date(), e.tokens);
    let parameters = if e.top_p < 1.0 {
        format!("of other text, temperature {}, top-p {}", e.temperature, e.top_p)
    } else {
        format!("of other text, temperature {}", e.temperature)
    };
    title(&mut part, &name, &[&parameters, "of other text"]);
    let mut rows = estimated(&e.estimates);
    for name in ["renewal, tuned", "chains of B - 1"] {
        if rows.len() + 2 > part.height() {
            rows.retain(|row| row.0 != name);
        }
    }
    let y = 1 + ruler(&rows, e.budget, 1, &mut part);
    if let (Some(mu), Some(mu2)) = (e.estimates.mu, e.estimates.mu2) {
        let mut items = moments(Mark::Estimated(mu), Mark::Estimated(mu2));
        items[2] = ("", "of other text".to_owned(), Role::Label, 0);
        panes::items(&mut part, y, width.saturating_sub(1), items);
    }
}

fn moments(mu: Mark, mu2: Mark) -> Vec<(&'static str, String, Role, u8)> {
    vec![
        ("mu", mu.long(), Role::Value, 0),
        ("mu2", mu2.long(), Role::Value, 0),
        ("", "nats, nats squared".to_owned(), Role::Label, 1),
    ]
}

/// Draws rows on one scale from row `top` on; returns their number.
fn ruler(rows: &[Row], budget: Option<usize>, top: usize, pen: &mut Pen) -> usize {
    let most = budget.map_or(0.0, |budget| budget as f64 - 1.0);
    // A large B would push all other marks into one cell.
    let seen = rows
        .iter()
        .filter(|row| row.0 != "B - 1")
        .map(|row| row.1.ends().1)
        .filter(|end| end.is_finite())
        .fold(0.0, f64::max);
    // No mark needs more room than B - 1: what lies beyond is no lower ceiling.
    let scale = match budget {
        Some(_) if seen > 0.0 => most.min(1.25 * seen),
        Some(_) => most,
        None => 1.25 * seen,
    }
    .max(1e-9);
    let glyphs = pen.glyphs();
    let name_width = 16;
    let value_width = if pen.width() >= 56 { 21 } else { 6 };
    let start = name_width + value_width + 2;
    let room = pen.width().saturating_sub(start + 1);
    let mut y = top;
    for &(name, mark, role) in rows {
        pen.text(1, y, name, Role::Label);
        let value = if value_width > 6 { mark.long() } else { mark.short() };
        pen.right(name_width + value_width, y, &value, role);
        let column = |value: f64| ((value / scale).clamp(0.0, 1.0) * room as f64).round() as usize;
        let (solid, end) = mark.ends();
        pen.rule(start, start + column(solid), y, glyphs.heavy, role);
        pen.rule(start + column(solid), start + column(end), y, glyphs.band, role);
        if solid > scale {
            pen.right(start + room + 1, y, glyphs.beyond, role);
        }
        y += 1;
    }
    y - top
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
    let times = &state.summary.pass_times;
    let below = usize::from(!times.is_empty() && rates.len() + 1 < pen.height());
    if below > 0 {
        let shown: Vec<String> =
            times.iter().map(|t| format!("t({}) {:.1}", t.tokens, 1e3 * t.seconds)).collect();
        let text = format!("step time by tokens, ms: {}", shown.join("  "));
        let text = pen.shorten(&text, pen.width().saturating_sub(2));
        pen.text(1, rates.len() + 1, &text, Role::Label);
    }
    for (i, rate) in rates.iter().enumerate().take(pen.height().saturating_sub(1 + below)) {
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
            let by_depth: Vec<String> =
                window.acceptance_by_depth.iter().take(7).map(|rate| two(*rate)).collect();
            let by_depth = by_depth.join(" ");
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
                    "tokens per step",
                    window.tokens_per_step.map_or_else(String::new, two),
                    Role::Value,
                    2,
                ),
                (
                    "without a draft",
                    window.undrafted_share.map_or_else(String::new, percent),
                    Role::Base,
                    4,
                ),
                ("by depth", by_depth, Role::Value, 3),
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
