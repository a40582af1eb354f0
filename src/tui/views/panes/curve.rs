//! Curve pane: accepted length at every budget up to B, beside the ceilings. The horizontal axis is
//! log B, as in the figure of Pankratov and Alistarh.

use super::{Pen, empty, greedy};
use crate::telemetry::{AcceptanceCurve, BudgetCurve};
use crate::theory::bounds;
use crate::tui::State;
use crate::tui::theme::Role;
use crate::tui::views::number::{self, percent, two};
use crate::tui::views::plot::{Curve, HorizontalAxis, Plot, between, round_up};

/// Minimum budget at the right end of the plot.
const LEAST: usize = 64;

/// Closed form: name, short name, letter, value at a budget, role.
type Form<'a> = (&'static str, &'static str, &'static str, &'a dyn Fn(f64) -> Option<f64>, Role);

/// Returns accepted and E\[X | T\] for B = 1, 2, ... tokens. They are those of the selected step,
/// else the means.
fn measured(state: &State) -> Option<(Vec<f64>, Vec<f64>)> {
    if let Some(step) = state
        .selected
        .and_then(|n| state.history.get(n))
        .filter(|step| BudgetCurve::applies_to(&step.record))
    {
        let within = AcceptanceCurve::budgets(&step.record);
        return Some((within.accepted.into_iter().map(|a| a as f64).collect(), within.expected));
    }
    let curve = &state.history.averages.curve;
    let all =
        |f: &dyn Fn(usize) -> Option<f64>| (1..=curve.budget()).map_while(f).collect::<Vec<f64>>();
    (curve.steps() > 0).then(|| (all(&|b| curve.accepted(b)), all(&|b| curve.expected(b))))
}

/// Returns the title's summary: E\[X | T\] at the full and at half the budget.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    let Some((_, expected)) = measured(state) else { return (Vec::new(), Role::Label) };
    let (b, half) = (expected.len(), expected.len() / 2);
    let at = |b: usize| expected.get(b.wrapping_sub(1)).map(|e| two(*e));
    match (at(b), at(half)) {
        (Some(all), Some(part)) => {
            let short = format!("E[X|T] {all} at B {b}");
            (vec![format!("{short}, {part} at B {half}"), short], Role::GaugeExpected)
        }
        _ => (Vec::new(), Role::Label),
    }
}

/// Draws the curve pane. For sampled trees other than chains no curve is known, only the ceiling of
/// the verification rule.
pub fn curve(state: &State, pen: &mut Pen) {
    let (Some((accepted, expected)), Some(newest)) = (measured(state), state.history.newest())
    else {
        if !state.samples_trees() {
            empty(pen, "accepted length by budget appears here");
            return;
        }
        let width = pen.width().saturating_sub(2);
        let words =
            ["unavailable for sampled trees (chains only)", "unavailable for sampled trees"];
        empty(pen, if words[0].len() <= width { words[0] } else { words[1] });
        let rows = super::overlap::rows(state);
        for (y, line) in (1..pen.height()).zip(&rows) {
            pen.text(1, y, &pen.shorten(line, width), Role::Label);
        }
        return;
    };
    let (width, mut height) = (pen.width(), pen.height());
    let line = match state.selected {
        Some(_) => depths(state),
        None if state.samples_trees() => super::overlap::line(state),
        None => kinds(state).filter(|_| !greedy(&newest.record)),
    };
    if let Some(line) = line.filter(|_| height >= 12) {
        height -= 1;
        let line = line.iter().find(|l| pen.measure(l) + 2 <= width).or(line.last());
        pen.text(
            1,
            height,
            &pen.shorten(line.map_or("", String::as_str), width.saturating_sub(2)),
            Role::Label,
        );
    }
    let record = &newest.record;
    let greedy = greedy(record);
    // If greedy, the closed forms are those of the same contexts at temperature 1, and labeled so.
    let plain = &state.history.plain_moments;
    let (mu, mu2) = if greedy { (plain.mu(), plain.mu2()) } else { (record.mu, record.mu2) };
    let most = accepted.len().max(LEAST);
    let last = |values: &[f64]| values.last().copied().filter(|v| v.is_finite());
    let drafted = |b: f64| (b - 1.0).max(0.0);
    let ceiling = |form: fn(f64, f64, usize) -> Option<f64>, b: f64| {
        let (low, high) = (
            form(mu, mu2, drafted(b.floor()) as usize)?,
            form(mu, mu2, drafted(b.floor()) as usize + 1)?,
        );
        Some((low + (high - low) * b.fract()).min(drafted(b)))
    };
    let tuned = |b: f64| ceiling(bounds::renewal_tuned, b);
    let renewal = |b: f64| ceiling(bounds::renewal, b);
    let published = |b: f64| {
        bounds::published(mu, mu2, b.floor() as usize).zip(bounds::published(
            mu,
            mu2,
            b.floor() as usize + 1,
        ))
    };
    let published = |b: f64| published(b).map(|(low, high)| low + (high - low) * b.fract());
    let batch = |b: f64| Some(drafted(b));
    let known: &[f64] = state.bound().map_or(&[], |f| &f.curve);
    let fluid = |b: f64| between(known, b);
    let took = |b: f64| between(&accepted, b);
    let worth = |b: f64| between(&expected, b);
    let named = |name: &str, value: Option<f64>| {
        value.filter(|v| v.is_finite()).map_or_else(
            || vec![name.to_owned()],
            |v| vec![format!("{name} {}", number::ceiling(v)), name.to_owned()],
        )
    };
    let shorter = |mut labels: Vec<String>, short: &str| {
        labels.push(short.to_owned());
        labels
    };
    let reference = if greedy { "T=1: " } else { "" };
    let mut curves = vec![
        Curve {
            labels: shorter(named("accepted", last(&accepted)), "acc."),
            letter: "#",
            role: Role::GaugeAccepted,
            dashed: false,
            until: Some(accepted.len()),
            value: &took,
        },
        Curve {
            labels: named("E[X|T]", last(&expected)),
            letter: "e",
            role: Role::GaugeExpected,
            dashed: false,
            until: Some(expected.len()),
            value: &worth,
        },
    ];
    if !known.is_empty() && !greedy {
        curves.push(Curve {
            labels: named("fluid", fluid(most as f64).or(last(known))),
            letter: "f",
            role: Role::GaugeFluid,
            dashed: false,
            until: None,
            value: &fluid,
        });
    }
    let forms: [Form; 3] = [
        ("tuned", "tuned", "t", &tuned, Role::GaugeCeiling),
        ("renewal", "renew", "r", &renewal, Role::GaugeCeiling),
        ("published?", "publ.?", "p", &published, Role::GaugeUnknown),
    ];
    for (name, short, letter, value, role) in forms {
        if value(most as f64).is_some() && !state.samples_trees() {
            let role = if greedy { Role::GaugeUnknown } else { role };
            curves.push(Curve {
                labels: shorter(named(&format!("{reference}{name}"), value(most as f64)), short),
                letter,
                role,
                dashed: true,
                until: None,
                value,
            });
        }
    }
    curves.push(Curve {
        labels: vec!["B - 1".to_owned()],
        letter: ".",
        role: Role::PlotAxis,
        dashed: true,
        until: None,
        value: &batch,
    });
    // Scaled to the measured and proven curves. The published form is left out, since its constant
    // is unknown.
    let proven =
        tuned(most as f64).or_else(|| renewal(most as f64)).filter(|_| !state.samples_trees());
    let top = [last(&accepted), last(&expected), fluid(most as f64), proven];
    let top = top.into_iter().flatten().filter(|v| v.is_finite()).fold(1.0, f64::max);
    let kept = record.choice.map(|c| c.kept + 1).filter(|_| record.settings.automatic());
    let plot = Plot {
        across: HorizontalAxis::Budgets,
        most,
        top: round_up(top * 1.05),
        places: usize::from(top < 10.0 && round_up(top * 1.05).fract() > 0.0),
        mark: Some(kept.unwrap_or(record.settings.budget)),
        curves: &curves,
    };
    plot.draw(&mut pen.part(0, 0, width as u16, height as u16));
}

/// Returns E\[X | T\] of the selected step's tree cut at each depth.
fn depths(state: &State) -> Option<Vec<String>> {
    let step = state.selected.and_then(|n| state.history.get(n))?;
    let worth = AcceptanceCurve::depths(&step.record).expected;
    let each: Vec<String> =
        worth.iter().enumerate().skip(1).map(|(d, e)| format!("{d}: {}", two(*e))).collect();
    (!each.is_empty()).then(|| vec![format!("E[X|T] of the tree cut at depth {}", each.join(", "))])
}

/// Returns the fluid bound by entropy class in words, longest form first. Each is the bound as if
/// all contexts were of that class.
fn kinds(state: &State) -> Option<Vec<String>> {
    let kinds = &state.bound()?.kinds;
    let word = |long: bool| {
        let each: Vec<String> = (kinds.iter().enumerate())
            .filter_map(|(i, kind)| {
                let bound = two(kind.fluid.filter(|f| f.is_finite())?);
                let share = percent(kind.share);
                let (next, nats) = (
                    kinds.get(i + 1).map(|next| next.entropy_from),
                    if i == 0 && long { " nats" } else { "" },
                );
                let under =
                    next.map_or_else(|| "over".to_owned(), |to| format!("under {to}{nats}"));
                Some(if long {
                    format!("{under}: {bound} ({share})")
                } else {
                    format!("{under} {bound}")
                })
            })
            .collect();
        each.join(", ")
    };
    (!kinds.is_empty()).then(|| {
        vec![
            format!("fluid bound by entropy: {}", word(true)),
            format!("fluid by entropy: {}", word(false)),
        ]
    })
}
