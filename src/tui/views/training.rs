//! Rendering of the `speclight train` screen: loss, acceptance by depth, and accepted length when
//! drafting.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::number::{percent, two};
use super::pen::Pen;
use super::plot::{Curve, HorizontalAxis, Plot, round_up};
use super::{MIN_SCREEN, panes};
use crate::tui::theme::{Role, Theme};
use crate::tui::{Measurement, Stage, TRAINING_KEYS, Training};

/// Number of depths drawn.
const DEPTHS: usize = 4;
/// Roles of the depths, and their letters in ASCII.
const COLORS: [(Role, &str); DEPTHS] = [
    (Role::Accepted1, "1"),
    (Role::Accepted2, "2"),
    (Role::Accepted3, "3"),
    (Role::Accepted4, "4"),
];

/// Draws the training screen into a buffer.
pub fn draw_training(state: &Training, theme: &Theme, area: Rect, buf: &mut Buffer) {
    let mut pen = Pen::new(buf, theme, area);
    pen.clear(Role::Base);
    if area.width < MIN_SCREEN.0 || area.height < MIN_SCREEN.1 {
        panes::too_small(&mut pen);
        return;
    }
    let (width, height) = (area.width, area.height);
    header(state, &mut pen.part(0, 0, width, 1));
    let figures_height = if height < 20 { 3 } else { 5 };
    figures(state, &mut pen.part(0, 1, width, figures_height));
    footer(&mut pen.part(0, height - 1, width, 1));
    let (top, rows) = (1 + figures_height, height - figures_height - 2);
    // Side by side if all three fit, else as many as fit below each other.
    type Pane = fn(&Training, &mut Pen);
    let panes: [Pane; 3] = [losses, acceptances, drafts];
    let (across, down): (u16, u16) = match (width, rows) {
        (120.., _) => (3, 1),
        (72.., 14..) => (2, 2),
        (72.., _) => (2, 1),
        (_, 21..) => (1, 3),
        (_, 14..) => (1, 2),
        _ => (1, 1),
    };
    for (i, pane) in (0u16..).zip(panes).take(usize::from(across * down)) {
        let (column, row) = (i % across, i / across);
        let (from, to) = (width * column / across, width * (column + 1) / across);
        let (up, low) = (rows * row / down, rows * (row + 1) / down);
        // The third pane takes the rest of its row.
        let to = if i == 2 { width } else { to };
        pane(state, &mut pen.part(from, top + up, to - from, low - up));
    }
}

fn header(state: &Training, pen: &mut Pen) {
    let glyphs = pen.glyphs();
    let (word, role) = match state.stage {
        Stage::Loading => ("loading".to_owned(), Role::StatePaused),
        Stage::Writing(..) => (format!("{} writing texts", glyphs.live), Role::StateLive),
        Stage::Training => (format!("{} training", glyphs.live), Role::StateLive),
        Stage::Finished => ("finished".to_owned(), Role::StatePaused),
    };
    let end = pen.width().saturating_sub(pen.measure(&word) + 3);
    let items = vec![
        ("a head for", state.model.clone(), Role::Header, 0),
        ("to", state.out.display().to_string(), Role::Base, 1),
    ];
    panes::items(pen, 0, end, items);
    pen.right(pen.width().saturating_sub(1), 0, &format!(" {word} "), role);
}

fn footer(pen: &mut Pen) {
    let mut x = 1;
    for (key, name) in TRAINING_KEYS {
        x = pen.text(x, 0, key, Role::FooterKey) + 1;
        x = pen.text(x, 0, name, Role::FooterText) + 2;
    }
}

/// Draws the progress bar, and the numbers of the last step and the last measurement.
fn figures(state: &Training, pen: &mut Pen) {
    let width = pen.width();
    let (done, of, what) = match (state.stage, &state.last) {
        (Stage::Writing(tokens, of, _), _) => (tokens, of, "tokens"),
        (_, Some(last)) => (last.step, last.steps, "steps"),
        _ => (0, 0, "steps"),
    };
    let share = if of == 0 { 0.0 } else { (done as f64 / of as f64).min(1.0) };
    let mut words = format!("{done} of {of} {what}, {}", percent(share));
    if let Some(left) = state.left() {
        words += &format!(", {} left", time(left));
    }
    let (glyphs, bar) = (pen.glyphs(), width.saturating_sub(pen.measure(&words) + 4));
    let filled = (share * bar as f64).round() as usize;
    pen.rule(1, 1 + filled, 0, glyphs.heavy, Role::GaugeAccepted);
    pen.rule(1 + filled, 1 + bar, 0, glyphs.line, Role::Gauge);
    pen.right(width.saturating_sub(1), 0, &words, Role::Value);
    let mut items = Vec::new();
    if let Stage::Writing(_, _, rate) = state.stage {
        items.push(("tokens/s", format!("{rate:.0}"), Role::Value, 0));
    }
    if let Some(last) = &state.last {
        items.push(("loss", format!("{:.3}", last.loss), Role::Value, 0));
        items.push(("learning rate", format!("{:.1e}", last.rate), Role::Base, 1));
        items.push(("gradient norm", two(last.norm), Role::Base, 1));
        items.push(("trained on", format!("{} tokens", last.tokens), Role::Base, 2));
        items.push(("in", time(last.seconds), Role::Base, 2));
        items.push((
            "corpus",
            format!("{} texts, {} tokens", state.corpus.0, state.corpus.1),
            Role::Base,
            3,
        ));
    }
    panes::items(pen, 1, width.saturating_sub(1), items);
    if let Some(measured) = state.measured.last() {
        panes::items(pen, 2, width.saturating_sub(1), worth(measured, "held out"));
    }
    if pen.height() >= 5
        && let Some(best) = state
            .best()
            .filter(|best| state.measured.last().is_some_and(|last| last.step != best.step))
    {
        panes::items(pen, 3, width.saturating_sub(1), worth(best, "best"));
    }
}

fn worth(measured: &Measurement, name: &'static str) -> Vec<(&'static str, String, Role, u8)> {
    let mut items = vec![(name, format!("step {}", measured.step), Role::Label, 0)];
    if let Some(drafted) = measured.drafted {
        items.push((
            "greedy, B 16",
            format!("{} tokens/step", two(drafted.greedy_tokens_per_step)),
            Role::GaugeAccepted,
            0,
        ));
        let share = drafted
            .fluid
            .filter(|fluid| *fluid > 0.0)
            .map(|fluid| drafted.expected_accepted / fluid);
        let share =
            share.map_or_else(String::new, |share| format!(", {} of fluid", percent(share)));
        items.push((
            "T 1: E[X|T]",
            format!("{}{share}", two(drafted.expected_accepted)),
            Role::GaugeExpected,
            1,
        ));
        if let Some(share) = drafted.speed_of_light.reached() {
            items.push(("T 1: of light", percent(share.value), Role::Value, 2));
        }
    }
    items.push(("a chain accepts", two(measured.figures.accepted), Role::Value, 2));
    items
}

fn title(pen: &mut Pen, name: &str) {
    let (line, width) = (pen.glyphs().line, pen.width());
    pen.rule(0, width, 0, line, Role::Frame);
    let name = pen.shorten(name, width.saturating_sub(4));
    pen.text(1, 0, &format!(" {name} "), Role::Title);
}

/// Draws curves below a title, or a message if there is none yet.
fn plot(state: &Training, pen: &mut Pen, name: &str, top: f64, curves: &[Curve], nothing: &str) {
    title(pen, name);
    let (width, height) = (pen.width() as u16, pen.height().saturating_sub(1) as u16);
    let mut below = pen.part(0, 1, width, height);
    let Some(last) = state.last.as_ref().filter(|_| !curves.is_empty()) else {
        below.text(1, 0, nothing, Role::Label);
        return;
    };
    let plot = Plot {
        across: HorizontalAxis::Steps,
        most: last.steps.max(2),
        top: round_up(top),
        places: 1,
        mark: None,
        curves,
    };
    plot.draw(&mut below);
}

/// Interpolates linearly between two measurements.
fn between(points: &[(usize, f64)], step: f64) -> Option<f64> {
    let after = points.partition_point(|(at, _)| (*at as f64) < step);
    let (&(b, y), before) = (points.get(after)?, after.checked_sub(1).map(|i| points[i]));
    match before {
        None => (b as f64 == step).then_some(y),
        Some((a, x)) => Some(x + (y - x) * (step - a as f64) / (b - a) as f64),
    }
}

/// Returns the mean loss of all steps within `span` of a step.
fn smooth(losses: &[(usize, f64)], step: f64, span: f64) -> Option<f64> {
    let from = losses.partition_point(|(at, _)| (*at as f64) < step - span);
    let to = losses.partition_point(|(at, _)| (*at as f64) <= step + span);
    let part = losses.get(from..to).filter(|part| !part.is_empty())?;
    Some(part.iter().map(|(_, loss)| loss).sum::<f64>() / part.len() as f64)
}

fn losses(state: &Training, pen: &mut Pen) {
    let span = state
        .last
        .as_ref()
        .map_or(1.0, |last| (last.steps as f64 / pen.width().max(1) as f64).max(4.0));
    let held: Vec<Vec<(usize, f64)>> = by_depth(state, |m| &m.figures.loss);
    let trained = |step: f64| smooth(&state.losses, step, span);
    let values: Vec<_> = held.iter().map(|points| move |step: f64| between(points, step)).collect();
    let mut curves = Vec::new();
    if let Some((last, _)) = state.losses.last() {
        let labels = vec!["trained on".to_owned(), "train".to_owned()];
        curves.push(Curve {
            labels,
            letter: "t",
            role: Role::PlotMean,
            dashed: false,
            until: Some(*last),
            value: &trained,
        });
    }
    curves.extend(depth_curves(state, &values));
    // The first steps of a fresh head have far higher losses than all later ones.
    let mut all: Vec<f64> = state
        .losses
        .iter()
        .map(|(_, loss)| *loss)
        .chain(held.iter().flatten().map(|(_, x)| *x))
        .collect();
    all.sort_by(f64::total_cmp);
    let top = all.get(all.len() * 19 / 20).copied().unwrap_or(1.0);
    plot(state, pen, "loss in nats, held-out loss by depth", top, &curves, "no step yet");
}

fn acceptances(state: &Training, pen: &mut Pen) {
    let held: Vec<Vec<(usize, f64)>> = by_depth(state, |m| &m.figures.acceptance);
    let values: Vec<_> = held.iter().map(|points| move |step: f64| between(points, step)).collect();
    let top = held.iter().flatten().map(|(_, x)| *x).fold(0.1, f64::max);
    plot(
        state,
        pen,
        "acceptance rate by depth, held out",
        top,
        &depth_curves(state, &values),
        "not measured yet",
    );
}

fn drafts(state: &Training, pen: &mut Pen) {
    let points = |of: fn(&Measurement) -> Option<f64>| -> Vec<(usize, f64)> {
        state.measured.iter().filter_map(|m| Some((m.step, of(m)?))).collect()
    };
    let greedy = points(|m| m.drafted.map(|d| d.greedy_tokens_per_step - 1.0));
    let expected = points(|m| m.drafted.map(|d| d.expected_accepted));
    let fluid = points(|m| m.drafted.and_then(|d| d.fluid));
    let top =
        [&greedy, &expected, &fluid].into_iter().flatten().map(|(_, x)| *x).fold(0.1, f64::max);
    let (a, b, c) = (
        |step: f64| between(&greedy, step),
        |step: f64| between(&expected, step),
        |step: f64| between(&fluid, step),
    );
    let label = |long: &str, short: &str| vec![long.to_owned(), short.to_owned()];
    let until = state.measured.last().map(|m| m.step);
    let curve =
        |labels, letter, role, dashed, value| Curve { labels, letter, role, dashed, until, value };
    let mut curves = Vec::new();
    if !greedy.is_empty() {
        curves.push(curve(
            label("greedy", "T 0"),
            "g",
            Role::GaugeAccepted,
            false,
            &a as &dyn Fn(f64) -> Option<f64>,
        ));
        curves.push(curve(label("E[X|T]", "T 1"), "e", Role::GaugeExpected, false, &b));
    }
    if !fluid.is_empty() {
        curves.push(curve(label("fluid", "fl"), "f", Role::GaugeFluid, true, &c));
    }
    plot(state, pen, "accepted per step when drafting, B 16", top, &curves, "not measured yet");
}

/// Returns one figure of all measurements, a list for each depth.
fn by_depth(state: &Training, of: fn(&Measurement) -> &Vec<f64>) -> Vec<Vec<(usize, f64)>> {
    let depth = |d: usize| {
        state.measured.iter().filter_map(|m| Some((m.step, *of(m).get(d)?))).collect::<Vec<_>>()
    };
    (0..DEPTHS).map(depth).filter(|points| !points.is_empty()).collect()
}

fn depth_curves<'a, F: Fn(f64) -> Option<f64>>(
    state: &Training,
    values: &'a [F],
) -> Vec<Curve<'a>> {
    let until = state.measured.last().map(|m| m.step);
    (values.iter().zip(COLORS).enumerate())
        .map(|(d, (value, (role, letter)))| {
            let labels = vec![format!("depth {}", d + 1), format!("d{}", d + 1)];
            Curve { labels, letter, role, dashed: false, until, value }
        })
        .collect()
}

/// Formats a duration in its two largest units.
fn time(seconds: f64) -> String {
    let whole = seconds.clamp(0.0, 1e9).round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}
