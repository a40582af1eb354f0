//! Data of the figures: curves over log2 B with their styles, and axis ranges. Without I/O.

use crate::cli::study::SetRows;
use crate::sanitize::{self, Signs};
use crate::theory::intervals::{Estimate, Interval};

/// Blue of a palette that is distinguishable with any color vision.
///
/// All colors except black and gray are from Okabe & Ito, "Color Universal Design", 2008.
pub const BLUE: Color = (0x00, 0x72, 0xb2);
const VERMILION: Color = (0xd5, 0x5e, 0x00);
const GREEN: Color = (0x00, 0x9e, 0x73);
const PURPLE: Color = (0xcc, 0x79, 0xa7);
const ORANGE: Color = (0xe6, 0x9f, 0x00);
const SKY: Color = (0x56, 0xb4, 0xe9);
const BLACK: Color = (0, 0, 0);
const GRAY: Color = (0x80, 0x80, 0x80);
/// Colors of the drafters in order, and of the described machines.
const DRAFTERS: [Color; 5] = [BLUE, VERMILION, GREEN, PURPLE, ORANGE];
const MACHINES: [Color; 4] = [SKY, ORANGE, GREEN, PURPLE];
/// Largest number of characters shown of a name.
const MAX_NAME_CHARS: usize = 34;

/// Color as red, green and blue components.
pub type Color = (u8, u8, u8);

/// Style of a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CurveStyle {
    /// Solid line without marks.
    Line,
    /// Dashed line with dashes of this length, in units.
    Dashed(u32),
    /// Solid line with filled marks and error bars.
    Marked,
    /// Open marks without a line.
    Points,
}

/// Error bar, parallel to the vertical axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorBar {
    /// Place on the horizontal axis, log2 B.
    pub x: f64,
    pub low: f64,
    pub high: f64,
}

/// Curve of a panel.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Text in the legend.
    pub label: String,
    /// Color of line and marks.
    pub color: Color,
    /// Style of line and marks.
    pub style: CurveStyle,
    /// Points (log2 B, value), in order of B.
    pub points: Vec<(f64, f64)>,
    /// Error bars, in order of B.
    pub intervals: Vec<ErrorBar>,
}

/// Panel of a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// Title above the panel.
    pub title: String,
    /// Label of the vertical axis, with its unit.
    pub unit: &'static str,
    /// Curves, cut at the upper end of the vertical axis.
    pub curves: Vec<Curve>,
    /// Lower and upper end of the horizontal axis, in log2 B.
    pub across: (f64, f64),
    /// Upper end of the vertical axis, which starts at 0.
    pub top: f64,
}

impl Panel {
    /// Creates a panel whose vertical axis covers the values in `frame`.
    ///
    /// Curves are cut above it.
    fn new(
        title: String,
        unit: &'static str,
        curves: Vec<Curve>,
        frame: impl Iterator<Item = f64>,
    ) -> Panel {
        let all = || curves.iter().flat_map(|curve| &curve.points).map(|point| point.0);
        let (least, most) = (all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max));
        let across = if least < most { (least, most) } else { (0.0, 1.0) };
        let top = frame.filter(|x| x.is_finite()).fold(0.0, f64::max);
        let top = if top > 0.0 { (1.08 * top).min(1e12) } else { 1.0 };
        let mut panel = Panel { title, unit, curves, across, top };
        for curve in &mut panel.curves {
            curve.points = below(&curve.points, top);
            if curve.points.is_empty() {
                curve.label += ", above the axis";
            }
            curve.intervals.retain(|bar| bar.low <= top);
            curve.intervals.iter_mut().for_each(|bar| bar.high = bar.high.min(top));
        }
        panel
    }
}

/// Cuts a line where it first rises above `top`.
fn below(points: &[(f64, f64)], top: f64) -> Vec<(f64, f64)> {
    let mut cut: Vec<(f64, f64)> = Vec::with_capacity(points.len());
    for &(x, y) in points {
        if y > top {
            if let Some(&(x0, y0)) = cut.last() {
                cut.push((x0 + (x - x0) * (top - y0) / (y - y0), top));
            }
            break;
        }
        cut.push((x, y));
    }
    cut
}

/// Position of a budget on the axis; `None` if out of range.
fn log(budget: usize) -> Option<f64> {
    (1..=1 << 20).contains(&budget).then(|| (budget as f64).log2())
}

/// Returns the points in order of B, without values that are negative or not finite.
fn points(all: impl Iterator<Item = (usize, Option<f64>)>) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = all
        .filter_map(|(b, y)| Some((log(b)?, y.filter(|y| y.is_finite() && *y >= 0.0)?)))
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn intervals(all: impl Iterator<Item = (usize, Estimate)>) -> Vec<ErrorBar> {
    let sound =
        |e: &Estimate| e.interval.filter(|i| 0.0 <= i.low && i.low <= i.high && i.high.is_finite());
    let bar = |(b, e): (usize, Estimate)| {
        let Interval { low, high } = sound(&e)?;
        Some(ErrorBar { x: log(b)?, low, high })
    };
    all.filter_map(bar).collect()
}

/// Escapes a name from a file and shortens it to [`MAX_NAME_CHARS`] characters.
fn short(name: &str) -> String {
    let name = sanitize::visible_line(name, &Signs { ascii: false, newline: " ", tab: " " });
    if name.chars().count() <= MAX_NAME_CHARS {
        name
    } else {
        name.chars().take(MAX_NAME_CHARS - 1).chain(['…']).collect()
    }
}

/// Returns the drafters of a set with their colors.
fn drafters(set: &SetRows) -> Vec<(&str, Color)> {
    let mut names: Vec<&str> = Vec::new();
    for row in &set.drafters {
        if !names.contains(&row.drafter.as_str()) {
            names.push(&row.drafter);
        }
    }
    names.into_iter().zip(DRAFTERS.into_iter().cycle()).collect()
}

fn title(set: &SetRows) -> String {
    match set.temperature {
        t if t > 0.0 => format!("{}, temperature {t}", short(&set.name)),
        _ => format!("{}, greedy", short(&set.name)),
    }
}

/// Panel of accepted drafted tokens per step: ceilings and drafters over the budget.
pub fn accepted(set: &SetRows) -> Panel {
    let ceiling =
        |label: &str, color, style, of: fn(&crate::cli::study::CeilingRow) -> Option<f64>| Curve {
            label: label.to_owned(),
            color,
            style,
            points: points(set.ceilings.iter().map(|c| (c.budget, of(c)))),
            intervals: Vec::new(),
        };
    let mut curves = vec![
        ceiling("B − 1", GRAY, CurveStyle::Dashed(2), |c| Some(c.batch)),
        ceiling("published, without O(1)", SKY, CurveStyle::Dashed(9), |c| c.published),
        ceiling("renewal", ORANGE, CurveStyle::Dashed(5), |c| c.renewal),
        ceiling("renewal, tuned", GRAY, CurveStyle::Line, |c| c.renewal_tuned),
        ceiling("fluid bound", BLACK, CurveStyle::Line, |c| Some(c.fluid.value)),
    ];
    curves[4].intervals = intervals(set.ceilings.iter().map(|c| (c.budget, c.fluid)));
    let mut reached: f64 = 0.0;
    for (name, color) in drafters(set) {
        let rows = || set.drafters.iter().filter(|row| row.drafter == name);
        let expected = points(rows().map(|row| (row.budget, Some(row.expected.value))));
        let seen = points(rows().map(|row| (row.budget, Some(row.accepted.value))));
        let ends = intervals(rows().map(|row| (row.budget, row.expected)));
        let highest =
            expected.iter().chain(&seen).map(|p| p.1).chain(ends.iter().map(|bar| bar.high));
        reached = highest.fold(reached, f64::max);
        let name = short(name);
        curves.push(Curve {
            label: format!("{name}: E[X|T]"),
            color,
            style: CurveStyle::Marked,
            points: expected,
            intervals: ends,
        });
        curves.push(Curve {
            label: format!("{name}: accepted"),
            color,
            style: CurveStyle::Points,
            points: seen,
            intervals: Vec::new(),
        });
    }
    curves.retain(|curve| !curve.points.is_empty());
    // The axis covers drafters and fluid bound. For greedy decoding the bound is B - 1, which would
    // leave the drafters' curves too flat to read.
    let fluid = set
        .ceilings
        .iter()
        .map(|c| c.fluid.interval.map_or(c.fluid.value, |i| i.high))
        .fold(0.0, f64::max);
    let top = if set.temperature > 0.0 || reached <= 0.0 {
        reached.max(fluid)
    } else {
        reached.max(fluid.min(4.0 * reached))
    };
    Panel::new(title(set), "accepted drafted tokens per step", curves, [top].into_iter())
}

/// Panel of speed-ups over plain decoding: ceilings by machine and measured drafters.
pub fn speed(set: &SetRows) -> Panel {
    let budgets: Vec<usize> = set.ceilings.iter().map(|c| c.budget).collect();
    let mut curves = Vec::new();
    let mut others = MACHINES.into_iter().cycle().zip([7, 4, 10].into_iter().cycle());
    let (mut here, mut elsewhere) = (1.0f64, 1.0f64);
    for machine in &set.machines {
        let points = points(budgets.iter().copied().zip(machine.speed_up.iter().map(|x| Some(*x))));
        let most = points.iter().map(|p| p.1).fold(0.0, f64::max);
        let (color, style) = match others.next().filter(|_| !machine.measured) {
            Some((color, dash)) => {
                elsewhere = elsewhere.max(most);
                (color, CurveStyle::Dashed(dash))
            }
            None => {
                here = here.max(most);
                (BLACK, CurveStyle::Line)
            }
        };
        let label = format!("ceiling, {}", short(&machine.name));
        curves.push(Curve { label, color, style, points, intervals: Vec::new() });
    }
    for (name, color) in drafters(set) {
        let rows = set.drafters.iter().filter(|row| row.drafter == name);
        let points = points(rows.map(|row| (row.budget, row.timed.map(|timed| timed.speed_up))));
        here = points.iter().map(|p| p.1).fold(here, f64::max);
        let label = format!("{}, measured", short(name));
        curves.push(Curve {
            label,
            color,
            style: CurveStyle::Marked,
            points,
            intervals: Vec::new(),
        });
    }
    curves.retain(|curve| !curve.points.is_empty());
    let ends = curves.iter().flat_map(|curve| &curve.points).map(|p| p.0);
    let (least, most) = (ends.clone().fold(f64::MAX, f64::min), ends.fold(f64::MIN, f64::max));
    if least < most {
        let (label, points) = ("plain decoding".to_owned(), vec![(least, 1.0), (most, 1.0)]);
        curves.push(Curve {
            label,
            color: GRAY,
            style: CurveStyle::Dashed(2),
            points,
            intervals: Vec::new(),
        });
    }
    let top = elsewhere.min(4.0 * here).max(here);
    Panel::new(title(set), "speed-up over plain decoding", curves, [top].into_iter())
}
