//! Text of `speclight attach` and `speclight import`.

use crate::attach::bracket::Bracket;
use crate::attach::earlier::EarlierProbe;
use crate::attach::estimate::{Brackets, Estimates};
use crate::attach::{Identity, Plan, ServerKind, Summary, Window};
use crate::cli::table;
use crate::sanitize::sanitize_name;
use crate::theory::intervals::Estimate;

/// Figures that can't be had from outside, with the reason.
pub const ABSENT: &str = "not available from outside, since no server reports rejected drafts or their\n\
                          probabilities: E[X|T], drafter's best, oracle tree, causes of rejections,\n\
                          calibration";

/// Source of a summary's figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Counters of a server that is watched.
    Counters,
    /// Answers to prompts that were sent.
    Probe,
    /// Files that were imported.
    Files,
}

/// Brackets that a table shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownBrackets {
    /// Brackets are shown beside the estimates.
    All,
    /// Brackets are shown in the place of missing estimates.
    Missing,
}

/// Returns the first line: engine, model, and address.
pub fn server(engine: ServerKind, identity: &Identity, address: &str) -> String {
    let mut parts = vec![format!("{} at {address}", engine.name())];
    parts.extend(identity.model.as_ref().map(|model| format!("model {}", sanitize_name(model))));
    parts.extend(identity.budget.map(|budget| format!("B {budget}")));
    parts.extend(
        identity.outside.as_ref().map(|why| format!("outside the theorem: {}", sanitize_name(why))),
    );
    parts.extend(
        identity.method.as_ref().map(|method| format!("speculation by {}", sanitize_name(method))),
    );
    parts.extend(
        identity.version.as_ref().map(|version| format!("version {}", sanitize_name(version))),
    );
    parts.join(", ")
}

/// Announces what a probe sends.
pub fn plan(plan: &Plan) -> Vec<String> {
    let mut lines = vec![format!(
        "will send at most {} requests, one at a time, for at most {} tokens:",
        plan.count(),
        plan.tokens()
    )];
    for kind in &plan.kinds {
        let tokens = match kind.tokens {
            0 => String::new(),
            1 => " of 1 token".to_owned(),
            n => format!(" of up to {n} tokens"),
        };
        lines.push(format!("  {} x {}{tokens}: {}", kind.count, kind.request, kind.purpose));
    }
    lines
}

/// One interval of a server that is watched.
pub fn window(w: &Window) -> String {
    let mut parts = Vec::new();
    parts.extend(w.accepted_mean.map(|mean| format!("{mean:.2} accepted per drafted step")));
    if !w.acceptance_by_depth.is_empty() {
        let bound = if w.depth_is_lower_bound { "at least " } else { "" };
        parts.push(format!("by depth {bound}{}", rates(&w.acceptance_by_depth)));
    }
    parts.extend(w.tokens_per_step.map(|tokens| format!("{tokens:.2} tokens per step")));
    parts.extend(
        w.own.map(|own| format!("engine's own window {:.2} tokens per step", own.tokens_per_step)),
    );
    parts.extend(
        w.undrafted_share.map(|share| format!("{:.1}% of steps without a draft", 100.0 * share)),
    );
    parts.extend(w.step_seconds.map(|seconds| format!("{:.1} ms per step", 1e3 * seconds)));
    parts.extend(w.tokens_per_second.map(|rate| format!("{rate:.1} tokens/s")));
    parts.extend(w.running.map(|running| format!("{running:.0} running")));
    if parts.is_empty() {
        parts.push("nothing counted".to_owned());
    }
    format!("{:5.1} s: {}", w.seconds, parts.join(", "))
}

fn rates(rates: &[f64]) -> String {
    let shown: Vec<String> = rates.iter().take(8).map(|rate| format!("{rate:.2}")).collect();
    let more = if rates.len() > 8 { " ..." } else { "" };
    shown.join(" ") + more
}

/// Figures of an earlier probe, in one line.
pub fn earlier(e: &EarlierProbe) -> String {
    let found = &e.estimates;
    let figures = [("mu", found.mu), ("mu2", found.mu2), ("fluid at B - 1", found.fluid)];
    let shown = figures
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} {}", estimate(value?))));
    format!("{}: {}", earlier_name(e), shown.collect::<Vec<_>>().join(", "))
}

/// Source of the figures of an earlier probe.
fn earlier_name(e: &EarlierProbe) -> String {
    let top_p = if e.top_p < 1.0 { format!(", top-p {}", e.top_p) } else { String::new() };
    let (date, tokens) = (e.local_date(), e.tokens);
    format!("from a probe of {date}, {tokens} tokens, temperature {}{top_p}", e.temperature)
}

/// Progress of a probe.
pub fn progress(s: &Summary, requests: usize, tokens: usize) -> String {
    let accepted = s
        .accepted_mean
        .map(|mean| format!(", {mean:.2} accepted per step so far"))
        .unwrap_or_default();
    format!("text {} of {requests}: {tokens} tokens{accepted}", s.texts)
}

/// Rows of the summary: name, value, how it is known.
pub fn table(
    s: &Summary,
    engine: Option<ServerKind>,
    source: Source,
    show: ShownBrackets,
) -> String {
    let mut rows: Vec<[String; 3]> = Vec::new();
    let mut row =
        |name: &str, value: String, how: &str| rows.push([name.to_owned(), value, how.to_owned()]);
    let unknown = || "-".to_owned();
    let count = |n: Option<f64>| n.map_or_else(unknown, |n| format!("{n:.0}"));
    let mean = |n: Option<f64>| n.map_or_else(unknown, |n| format!("{n:.3}"));
    let counted = if engine == Some(ServerKind::LlamaServer) && source == Source::Counters {
        "exact, of requests that ended"
    } else {
        "exact"
    };
    row("drafted steps", count(s.drafted_steps), counted);
    row("drafted tokens", count(s.drafted), counted);
    row("accepted tokens", count(s.accepted), counted);
    let how = if s.accepted_per_drafted_step.is_some() { "exact" } else { "not counted by it" };
    row("accepted per drafted step", mean(s.accepted_per_drafted_step), how);
    let own =
        engine.and_then(|engine| engine.own_length(s.accepted_per_drafted_step, s.tokens_per_step));
    if let Some(own) = own {
        row(&format!("its {}", own.name), mean(own.value), own.definition);
    }
    if s.steps.is_some() {
        let certain = format!("{} of {} steps are certain", s.exact_steps, count(s.steps));
        row(
            "tokens per step",
            mean(s.tokens_per_step),
            if s.exact_steps > 0 { &certain } else { "over all steps" },
        );
    } else {
        row(
            "tokens per step",
            mean(s.tokens_per_step),
            if s.tokens_per_step.is_some() { "engine's window means" } else { "not counted by it" },
        );
    }
    if !s.acceptance_by_depth.is_empty() {
        let how = if s.depth_is_lower_bound {
            "at least (drafts differ in length)"
        } else {
            "given that it was reached"
        };
        row("acceptance by depth", rates(&s.acceptance_by_depth), how);
    }
    row(
        "steps without a draft",
        s.undrafted_share.map_or_else(unknown, |share| format!("{:.1}%", 100.0 * share)),
        "",
    );
    row(
        "step time",
        s.step_seconds.map_or_else(unknown, |t| format!("{:.2} ms", 1e3 * t)),
        if s.step_seconds.is_some() { "mean, drafting included" } else { "not reported" },
    );
    row("speed", s.tokens_per_second.map_or_else(unknown, |v| format!("{v:.1} tokens/s")), "");
    row("B", s.budget.map_or_else(unknown, |b| b.to_string()), "root included");
    ceilings(s, source, show, &mut row);
    let mut text = table::lines(&rows);
    let mut line = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    if let Some(found) = s.estimates.as_ref().or(s.reference.as_ref()) {
        let of = if s.greedy { ", of the same contexts at temperature 1" } else { "" };
        if found.positions > 0 {
            line(&format!("estimates: {} positions of {} texts{of}", found.positions, found.texts));
        }
        if found.marks > 0 {
            line(&format!("chains: {} steps compared with the target's own", found.marks));
        }
    }
    if !s.pass_times.is_empty() {
        let times = s.pass_times.iter().take(8);
        let shown: Vec<String> =
            times.map(|t| format!("t({}) {:.1}", t.tokens, 1e3 * t.seconds)).collect();
        line(&format!("step times t(b), ms: {}", shown.join(", ")));
    }
    if let Some(earlier) = &s.earlier {
        line(&format!("{}, of other text:", earlier_name(earlier)));
        line(table::lines(&earlier_rows(earlier)).trim_end());
    }
    line(ABSENT);
    text
}

/// Names of the figures that come from distributions, in the order of the rows.
const FIGURES: [&str; 7] = [
    "mu (nats)",
    "mu2 (nats^2)",
    "ceiling: renewal",
    "ceiling: renewal, tuned",
    "ceiling: fluid at B - 1",
    "ceiling: fluid, mean draft",
    "ceiling: chains of B - 1",
];

fn figures(e: &Estimates) -> impl Iterator<Item = (&'static str, Option<Estimate>)> {
    let values = [e.mu, e.mu2, e.renewal, e.renewal_tuned, e.fluid, e.fluid_at_mean, e.chain];
    FIGURES.into_iter().zip(values)
}

fn earlier_rows(e: &EarlierProbe) -> Vec<[String; 3]> {
    figures(&e.estimates)
        .filter_map(|(name, value)| {
            Some([format!("  {name}"), estimate(value?), "earlier estimate".to_owned()])
        })
        .collect()
}

/// Rows of the brackets.
fn bracket_rows(b: &Brackets, how: &str, row: &mut impl FnMut(&str, String, &str)) {
    let (mu, mu2) = (Some(b.mu), Some(b.mu2));
    let values = [mu, mu2, b.renewal, b.renewal_tuned, b.fluid, b.fluid_at_mean, b.chain];
    for (name, value) in FIGURES.into_iter().zip(values) {
        if let Some(value) = value {
            row(name, bracket(value), how);
        }
    }
}

fn ceilings(
    s: &Summary,
    source: Source,
    show: ShownBrackets,
    row: &mut impl FnMut(&str, String, &str),
) {
    let batch = s.budget.map_or_else(|| "-".to_owned(), |b| (b - 1).to_string());
    row("ceiling: B - 1", batch, if s.greedy { "greedy text: the only ceiling" } else { "exact" });
    let known = |found: &&Estimates| found.positions > 0;
    let own = s.estimates.as_ref().filter(known);
    let reference = s.reference.as_ref().filter(known);
    let only = own.is_none() && reference.is_none();
    if let Some(brackets) = s.brackets.as_ref().filter(|_| only || show == ShownBrackets::All) {
        let how = match (reference, only) {
            (Some(_), _) => "bracket, temperature 1",
            (None, false) => "bracket",
            (None, true) => "bracket; no estimate",
        };
        bracket_rows(brackets, how, row);
    }
    let (found, how) = match (&s.estimates, &s.reference) {
        (Some(found), _) => (Some(found), "95% interval"),
        (None, Some(found)) => (Some(found), "reference: temperature 1"),
        (None, None) => (None, ""),
    };
    let Some(found) = found else {
        if s.brackets.is_some() {
            return;
        }
        let why = match source {
            Source::Counters => "needs --probe",
            Source::Probe => "no distributions were reported",
            Source::Files => "these files hold no distributions",
        };
        row("mu, mu2, fluid", "-".to_owned(), why);
        return;
    };
    let chains = [
        ("oracle chain of B - 1", found.oracle_chain),
        ("oracle chain as drafted", found.oracle_chain_at_drafted),
    ];
    for (name, value) in figures(found).chain(chains) {
        if let Some(value) = value {
            row(name, estimate(value), how);
        }
    }
    if let Some(accepted) = found.accepted_at_marks {
        row("accepted at these steps", estimate(accepted), how);
    }
    if let Some(light) = s.light {
        let at = format!("tokens/s at B = {}", light.best_budget);
        row("speed of light c", estimate(light.ceiling), &at);
        row("v / c", estimate(light.share), "");
    }
}

fn bracket(b: Bracket) -> String {
    match b.high {
        Some(high) => format!("{:.3} to {high:.3}", b.low),
        None => format!("at least {:.3}", b.low),
    }
}

fn estimate(e: Estimate) -> String {
    match e.interval {
        Some(i) => format!("{:.3} [{:.3}, {:.3}]", e.value, i.low, i.high),
        None => format!("{:.3} (too few texts)", e.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_names_are_made_visible_and_nothing_is_no_number() {
        let identity = Identity { model: Some("\u{1b}[31mx".into()), ..Identity::default() };
        let line = server(ServerKind::Vllm, &identity, "http://127.0.0.1:1");
        assert_eq!(line, "vllm at http://127.0.0.1:1, model \\u{1b}[31mx");
        let text = table(&Summary::default(), None, Source::Counters, ShownBrackets::All);
        assert!(
            !text.contains("NaN")
                && text.contains("needs --probe")
                && text.contains("not available from outside")
        );
        assert_eq!(
            window(&Window { seconds: 2.0, ..Window::default() }),
            "  2.0 s: nothing counted"
        );
    }
}
