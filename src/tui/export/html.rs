//! Self-contained page about a run: figures, the final screen, curves, and misses.

use std::fmt::Write;

use crate::sanitize::sanitize_line;
use crate::telemetry::{MissCause, Summary};
use crate::tui::theme::{Role, Theme};

use super::super::svg::{base_colors, hex, role_color};

/// Width and height of a chart in user units.
const CHART: (f64, f64) = (560.0, 260.0);
/// Left, top, right, and bottom margin of a chart's plot.
const MARGIN: [f64; 4] = [56.0, 14.0, 14.0, 40.0];
/// Maximum number of points of a drawn curve; longer ones are averaged.
const MAX_POINTS: usize = 280;

/// Content of a page.
pub struct Page<'a> {
    /// Title, such as the name of the model.
    pub title: &'a str,
    /// Facts about the run: label and value.
    pub facts: Vec<(&'static str, String)>,
    /// Final screen as an SVG document.
    pub screen: &'a str,
    /// Means over the steps.
    pub summary: &'a Summary,
    /// Tokens per step of every step, in order.
    pub tokens: &'a [f64],
    /// Tokens per second of every step, in order.
    pub speeds: &'a [f64],
    /// Last misses, newest first.
    pub misses: &'a [MissRow],
    /// Reason why the recording is not complete, if it is not.
    pub incomplete: Option<String>,
}

/// Row of the table of misses.
#[derive(Clone, Debug, PartialEq)]
pub struct MissRow {
    /// Number of the step, from 0.
    pub step: usize,
    /// End of the text before the missed token.
    pub before: String,
    /// Text of the missed token.
    pub token: String,
    /// Name of the cause.
    pub cause: String,
    /// Depth that the token would have had.
    pub depth: usize,
    /// Target's probability of the missed token.
    pub p: f64,
    /// Drafter's probability, if it proposed the token.
    pub q: Option<f64>,
    /// Rank under the target, from 0.
    pub rank: usize,
}

/// Curve of a chart.
struct Curve {
    name: &'static str,
    color: String,
    dashed: bool,
    points: Vec<(f64, f64)>,
}

/// Returns the page as an HTML document that refers to nothing outside of itself.
pub fn html(page: &Page, theme: &Theme) -> String {
    let (foreground, background) = base_colors(theme);
    let role = |role| hex(role_color(theme, role));
    let summary = page.summary;
    let title = escape(page.title);
    let (r, g, b) = background;
    let scheme =
        if u32::from(r) + u32::from(g) + u32::from(b) < 3 * 128 { "dark" } else { "light" };
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title} - speclight</title>\n<style>\n\
         :root {{ color-scheme: {scheme} }}\n\
         body {{ color: {}; background: {}; font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em }}\n\
         h1, h2 {{ font-weight: 600 }} h1 small, .note, th, figcaption {{ color: {}; font-weight: normal }}\n\
         table {{ border-collapse: collapse }} td, th {{ padding: .15em .8em .15em 0; text-align: left; vertical-align: top }}\n\
         td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums }}\n\
         code {{ font-family: 'DejaVu Sans Mono', Menlo, Consolas, monospace; white-space: pre-wrap }}\n\
         th {{ white-space: nowrap }}\n\
         .screen, .wide {{ overflow-x: auto }} .screen svg {{ width: 100%; min-width: 640px; height: auto; border-radius: 6px }}\n\
         .charts {{ display: flex; flex-wrap: wrap; gap: 2em }} figure {{ margin: 0 }} figure svg {{ max-width: 100%; height: auto }}\n\
         .wide code {{ display: inline-block; min-width: 16em }}\n\
         @media print {{\n\
         @page {{ margin: 1cm }} body {{ margin: 0; font-size: 11px; print-color-adjust: exact; -webkit-print-color-adjust: exact }}\n\
         .screen svg {{ min-width: 0 }} h2 {{ break-after: avoid }} .screen, figure, tr {{ break-inside: avoid }}\n\
         }}\n\
         </style>\n</head>\n<body>\n<h1>{title} <small>speculative decoding, step by step</small></h1>\n",
        hex(foreground),
        hex(background),
        role(Role::Label),
    );
    if let Some(why) = &page.incomplete {
        let _ =
            writeln!(out, "<p class=\"note\">The recording is not complete: {}.</p>", escape(why));
    }
    out.push_str("<table>\n");
    for (label, value) in page.facts.iter().chain(&figures(summary)) {
        let _ = writeln!(out, "<tr><th>{label}</th><td>{}</td></tr>", escape(value));
    }
    out.push_str("</table>\n<h2>Final screen</h2>\n<div class=\"screen\">\n");
    out.push_str(page.screen);
    out.push_str("</div>\n<h2>Curves</h2>\n<div class=\"charts\">\n");
    let flat =
        |value: f64, end: usize| vec![(0.0, value), (end.saturating_sub(1).max(1) as f64, value)];
    let steps = page.speeds.len();
    let mut speed = vec![Curve {
        name: "steps",
        color: role(Role::Plot),
        dashed: false,
        points: averaged(page.speeds),
    }];
    let lines = [
        ("speed of light", Role::GaugeFluid, summary.speed_of_light.tokens_per_second),
        ("mean", Role::GaugeAccepted, summary.tokens_per_second),
        ("plain decoding", Role::TokenPlain, summary.autoregressive_tokens_per_second),
    ];
    for (name, color, value) in lines {
        if let Some(value) = value {
            speed.push(Curve {
                name,
                color: role(color),
                dashed: true,
                points: flat(value, steps),
            });
        }
    }
    chart(&mut out, theme, "Tokens per second by step", "step", &speed);
    let tokens = [
        Curve {
            name: "steps",
            color: role(Role::Plot),
            dashed: false,
            points: averaged(page.tokens),
        },
        Curve {
            name: "mean",
            color: role(Role::GaugeAccepted),
            dashed: true,
            points: flat(summary.tokens_per_step, steps),
        },
    ];
    chart(&mut out, theme, "Tokens per step", "step", &tokens);
    let by_budget = |value: fn(&crate::telemetry::CurvePoint) -> Option<f64>| -> Vec<(f64, f64)> {
        summary
            .curve
            .iter()
            .filter_map(|point| Some((point.budget as f64, value(point)?)))
            .collect()
    };
    let budgets = [
        Curve {
            name: "accepted",
            color: role(Role::GaugeAccepted),
            dashed: false,
            points: by_budget(|point| Some(point.accepted)),
        },
        Curve {
            name: "expected",
            color: role(Role::GaugeExpected),
            dashed: true,
            points: by_budget(|point| Some(point.expected)),
        },
        Curve {
            name: "fluid bound",
            color: role(Role::GaugeFluid),
            dashed: false,
            points: by_budget(|point| point.fluid),
        },
    ];
    chart(&mut out, theme, "Accepted drafted tokens by budget", "budget B", &budgets);
    out.push_str("</div>\n<h2>Misses</h2>\n");
    misses(&mut out, page);
    out.push_str("</body>\n</html>\n");
    out
}

/// Returns the means as facts.
fn figures(summary: &Summary) -> Vec<(&'static str, String)> {
    let light = &summary.speed_of_light;
    let mut all = vec![
        ("steps", format!("{} steps, {} tokens", summary.steps, summary.tokens)),
        ("tokens per step", format!("{:.2}", summary.tokens_per_step)),
    ];
    if let Some(speed) = summary.tokens_per_second {
        all.push(("speed", format!("{speed:.1} tok/s")));
    }
    if let Some(plain) = summary.autoregressive_tokens_per_second {
        let times = summary
            .tokens_per_second
            .map_or(String::new(), |speed| format!(" (drafting: {:.2} times)", speed / plain));
        all.push(("plain decoding", format!("{plain:.1} tok/s{times}")));
    }
    if let Some(ceiling) = light.tokens_per_second {
        let share = light
            .share
            .map_or(String::new(), |share| format!(", of which {:.0}% reached", 100.0 * share));
        all.push(("speed of light", format!("{ceiling:.1} tok/s{share}")));
        let parts = [
            ("knowledge", light.ladder.knowledge),
            ("shape", light.ladder.shape),
            ("budget", light.ladder.budget),
            ("drafting", light.ladder.drafting),
            ("overhead", light.ladder.overhead),
            ("luck", light.ladder.luck),
        ];
        let known =
            parts.iter().filter_map(|(name, lost)| lost.map(|lost| format!("{name} {lost:.1}")));
        all.push(("lost by cause", format!("{} tok/s", known.collect::<Vec<_>>().join(", "))));
    }
    all.push(("mean entropy", format!("{:.2} nats per token", summary.mu)));
    all
}

fn misses(out: &mut String, page: &Page) {
    let causes = &page.summary.misses.causes;
    let total = causes.total();
    if total == 0 {
        out.push_str(
            "<p class=\"note\">No miss: nothing was drafted, or all of it was accepted.</p>\n",
        );
        return;
    }
    let meaning = |cause: MissCause| match cause {
        MissCause::Knowledge => "not proposed",
        MissCause::Vocabulary => "outside the draft vocabulary",
        MissCause::Ranking => "ranked worse than by the target",
        MissCause::Budget => "left out",
        MissCause::Unlucky => "too improbable for an oracle tree",
    };
    let known: Vec<String> = MissCause::ALL
        .into_iter()
        .filter(|cause| causes.count_of(*cause) > 0)
        .map(|cause| format!("{} {} ({})", cause.name(), causes.count_of(cause), meaning(cause)))
        .collect();
    let _ = writeln!(
        out,
        "<p>{total} steps ended with a token that the tree lacked. Causes: {}.</p>",
        known.join(", ")
    );
    out.push_str("<div class=\"charts\">\n<table>\n<tr><th>missed most often</th><th>class</th><th class=\"n\">misses</th></tr>\n");
    for worst in &page.summary.misses.worst {
        let (text, class) = (escape(&visible(&worst.text)), escape(worst.class.name()));
        let _ = writeln!(
            out,
            "<tr><td><code>{text}</code></td><td>{class}</td><td class=\"n\">{}</td></tr>",
            worst.causes.total()
        );
    }
    out.push_str("</table>\n<div class=\"wide\">\n<table>\n<tr><th class=\"n\">step</th><th>text and missed token</th><th>cause</th><th class=\"n\">depth</th>");
    out.push_str("<th class=\"n\">p</th><th class=\"n\">q</th><th class=\"n\">rank</th></tr>\n");
    for miss in page.misses {
        let q = miss.q.map_or("-".to_owned(), probability);
        let _ = writeln!(
            out,
            "<tr><td class=\"n\">{}</td><td><code>{}<b>{}</b></code></td><td>{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{q}</td><td class=\"n\">{}</td></tr>",
            miss.step,
            escape(&miss.before),
            escape(&visible(&miss.token)),
            escape(&miss.cause),
            miss.depth,
            probability(miss.p),
            miss.rank + 1
        );
    }
    out.push_str("</table>\n</div>\n</div>\n");
}

/// Formats a probability with three digits.
fn probability(value: f64) -> String {
    match value {
        p if p > 0.0 && p < 0.0005 => "&lt;.001".to_owned(),
        p if p < 1.0 && p > 0.9995 => "&gt;.999".to_owned(),
        p => format!("{p:.3}"),
    }
}

/// Returns the token with its leading space kept and line breaks shown.
fn visible(token: &str) -> String {
    token.replace(' ', "\u{2423}").replace('\n', "\u{21b5}").replace('\t', "\u{21e5}")
}

/// Averages neighboring values until a curve has few enough points.
fn averaged(values: &[f64]) -> Vec<(f64, f64)> {
    let size = values.len().div_ceil(MAX_POINTS).max(1);
    let mean = |(i, chunk): (usize, &[f64])| {
        let middle = (i * size) as f64 + (chunk.len() - 1) as f64 / 2.0;
        (middle, chunk.iter().sum::<f64>() / chunk.len() as f64)
    };
    values.chunks(size).enumerate().map(mean).collect()
}

/// Appends a chart with its legend, if any curve has two points.
fn chart(out: &mut String, theme: &Theme, title: &str, x_label: &str, curves: &[Curve]) {
    let points = || {
        curves
            .iter()
            .flat_map(|curve| &curve.points)
            .filter(|(x, y)| x.is_finite() && y.is_finite())
    };
    let (left, right) =
        points().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, r), &(x, _)| (l.min(x), r.max(x)));
    let top = points().fold(0.0f64, |top, &(_, y)| top.max(y));
    if !(right > left && top > 0.0) {
        return;
    }
    let axis = hex(role_color(theme, Role::PlotAxis));
    let [margin_left, margin_top, margin_right, margin_bottom] = MARGIN;
    let (width, height) =
        (CHART.0 - margin_left - margin_right, CHART.1 - margin_top - margin_bottom);
    let step = round_step(top / 4.0);
    let top = (top / step).ceil() * step;
    let x_at = |x: f64| margin_left + (x - left) / (right - left) * width;
    let y_at = |y: f64| margin_top + (1.0 - y.max(0.0) / top) * height;
    let _ = write!(
        out,
        "<figure><figcaption>{title}</figcaption>\n<svg viewBox=\"0 0 {} {}\" width=\"{0}\" height=\"{1}\" font-size=\"12\" \
         font-family=\"system-ui, sans-serif\" role=\"img\" aria-label=\"{title}\">\n",
        CHART.0, CHART.1
    );
    let mut y = 0.0;
    while y <= top * 1.000_001 {
        let at = y_at(y);
        let _ = writeln!(
            out,
            "<path d=\"M{margin_left:.1} {at:.1}h{width:.1}\" stroke=\"{axis}\" opacity=\"0.3\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{axis}\">{}</text>",
            margin_left - 6.0,
            at + 4.0,
            short(y)
        );
        y += step;
    }
    let step = round_step((right - left) / 6.0).max(1.0);
    let mut x = (left / step).ceil() * step;
    while x <= right {
        let (at, below) = (x_at(x), CHART.1 - margin_bottom + 16.0);
        let _ = writeln!(
            out,
            "<text x=\"{at:.1}\" y=\"{below:.1}\" text-anchor=\"middle\" fill=\"{axis}\">{}</text>",
            short(x)
        );
        x += step;
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{axis}\">{x_label}</text>",
        margin_left + width / 2.0,
        CHART.1 - 6.0
    );
    let mut legend = margin_left + 8.0;
    for curve in curves.iter().filter(|curve| curve.points.len() > 1) {
        let dash = if curve.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        let line: Vec<String> =
            curve.points.iter().map(|&(x, y)| format!("{:.1},{:.1}", x_at(x), y_at(y))).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.6\"{dash}/>\
             <path d=\"M{legend:.1} 8h18\" stroke=\"{1}\" stroke-width=\"2\"{dash}/>\
             <text x=\"{:.1}\" y=\"12\" fill=\"{1}\">{}</text>",
            line.join(" "),
            curve.color,
            legend + 22.0,
            curve.name
        );
        legend += 40.0 + 7.0 * curve.name.len() as f64;
    }
    out.push_str("</svg></figure>\n");
}

/// Returns the smallest of 1, 2, 5, 10, ... that is at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|step| *step >= least * 0.999_999)
        .unwrap_or(10.0 * power)
}

/// Formats a number of an axis.
fn short(value: f64) -> String {
    if value == value.round() {
        format!("{value:.0}")
    } else {
        format!("{value:.2}").trim_end_matches('0').to_owned()
    }
}

/// Escapes text from outside for HTML, in one line.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in sanitize_line(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tui::theme::{ColorDepth, TerminalAbilities};

    #[test]
    fn text_from_outside_is_escaped_and_nothing_is_loaded() {
        let theme = Theme::load(
            "dark",
            &TerminalAbilities { depth: ColorDepth::True, ascii: false, folder: None },
        )
        .unwrap();
        let mut summary =
            Summary { steps: 9, tokens: 27, tokens_per_step: 3.0, ..Summary::default() };
        let causes = serde_json::json!({ "unlucky": 0, "budget": 0, "ranking": 0, "knowledge": 1 });
        summary.misses.causes = serde_json::from_value(causes).unwrap();
        let miss = MissRow {
            step: 4,
            before: "<script>alert(1)</script>\u{1b}[2J".into(),
            token: " \"x\"\n".into(),
            cause: "knowledge".into(),
            depth: 1,
            p: 0.5,
            q: None,
            rank: 0,
        };
        let content = Page {
            title: "a & b",
            facts: vec![("device", "<b>".into())],
            screen: "<svg></svg>",
            summary: &summary,
            tokens: &[1.0, 5.0, 3.0],
            speeds: &[10.0, 50.0, 30.0],
            misses: &[miss],
            incomplete: Some("it was cut".into()),
        };
        let html = html(&content, &theme);
        assert!(
            html.contains("a &amp; b") && html.contains("&lt;b&gt;") && html.contains("it was cut")
        );
        assert!(
            !html.contains("<script")
                && !html.contains('\u{1b}')
                && html.contains("&lt;script&gt;")
        );
        assert!(html.contains("<b>\u{2423}&quot;x&quot;\u{21b5}</b>"));
        assert_eq!(html.matches("<polyline").count(), 3);
        assert!(html.contains("Causes: knowledge 1 (not proposed)."), "{html}");
        assert_eq!(
            [0.0, 0.0001, 0.5, 0.9999, 1.0].map(probability),
            ["0.000", "&lt;.001", "0.500", "&gt;.999", "1.000"]
        );
        for outside in ["http:", "https:", "src=", "url(", "@import", "<link"] {
            assert!(!html.replace("http://www.w3.org/2000/svg", "").contains(outside), "{outside}");
        }
    }

    #[test]
    fn long_curves_are_averaged_and_steps_are_round() {
        let values: Vec<f64> = (0..1000).map(f64::from).collect();
        let points = averaged(&values);
        assert_eq!((points.len(), points[0]), (250, (1.5, 1.5)));
        assert_eq!([0.3, 2.0, 2.1, 70.0].map(round_step), [0.5, 2.0, 5.0, 100.0]);
    }
}
