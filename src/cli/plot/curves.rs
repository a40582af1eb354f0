//! What a figure shows: curves over log2 B with their looks, and the frame around them (pure).

use crate::clean::{self, Signs};
use crate::cli::study::SetRows;
use crate::theory::intervals::Estimate;

/// Colours that people with any kind of colour vision tell apart (Okabe & Ito, "Color Universal Design", 2008).
pub const BLUE: Colour = (0x00, 0x72, 0xb2);
const VERMILION: Colour = (0xd5, 0x5e, 0x00);
const GREEN: Colour = (0x00, 0x9e, 0x73);
const PURPLE: Colour = (0xcc, 0x79, 0xa7);
const ORANGE: Colour = (0xe6, 0x9f, 0x00);
const SKY: Colour = (0x56, 0xb4, 0xe9);
const BLACK: Colour = (0, 0, 0);
const GREY: Colour = (0x80, 0x80, 0x80);
/// Those of the drafters in turn, and of the described machines.
const DRAFTERS: [Colour; 5] = [BLUE, VERMILION, GREEN, PURPLE, ORANGE];
const MACHINES: [Colour; 4] = [SKY, ORANGE, GREEN, PURPLE];
/// Of a name, at most so many letters are shown.
const LETTERS: usize = 34;

/// Red, green, blue.
pub type Colour = (u8, u8, u8);

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Look {
    /// A line.
    Line,
    /// A line of dashes of this length.
    Dashed(u32),
    /// A line with full marks and the ends of intervals.
    Marked,
    /// Open marks alone.
    Points,
}

/// One curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// What the legend says.
    pub label: String,
    /// Its colour.
    pub colour: Colour,
    /// Its look.
    pub look: Look,
    /// (log2 B, value), B rising.
    pub points: Vec<(f64, f64)>,
    /// (log2 B, low, high).
    pub intervals: Vec<(f64, f64, f64)>,
}

/// One panel.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What stands above it.
    pub title: String,
    /// What stands beside the vertical axis, with the unit.
    pub unit: &'static str,
    /// The curves; what leaves the frame is cut there.
    pub curves: Vec<Curve>,
    /// Ends of the horizontal axis, in log2 B.
    pub across: (f64, f64),
    /// Upper end of the vertical axis, which begins at 0.
    pub top: f64,
}

impl Panel {
    /// `frame` are the values that the frame must hold.
    fn new(title: String, unit: &'static str, curves: Vec<Curve>, frame: impl Iterator<Item = f64>) -> Panel {
        let all = || curves.iter().flat_map(|curve| &curve.points).map(|point| point.0);
        let (least, most) = (all().fold(f64::MAX, f64::min), all().fold(f64::MIN, f64::max));
        let across = if least < most { (least, most) } else { (0.0, 1.0) };
        let top = frame.filter(|x| x.is_finite()).fold(0.0, f64::max);
        let top = if top > 0.0 { (1.08 * top).min(1e12) } else { 1.0 };
        let mut panel = Panel { title, unit, curves, across, top };
        for curve in &mut panel.curves {
            curve.points = below(&curve.points, top);
            if curve.points.is_empty() {
                curve.label += ", above the frame";
            }
            curve.intervals.retain(|i| i.1 <= top);
            curve.intervals.iter_mut().for_each(|i| i.2 = i.2.min(top));
        }
        panel
    }
}

/// A line cut where it first rises above `top`.
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

/// A budget on the axis. None for what is no budget.
fn log(budget: usize) -> Option<f64> {
    (1..=1 << 20).contains(&budget).then(|| (budget as f64).log2())
}

/// Points in the order of B, without what is no number or below 0.
fn points(all: impl Iterator<Item = (usize, Option<f64>)>) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> =
        all.filter_map(|(b, y)| Some((log(b)?, y.filter(|y| y.is_finite() && *y >= 0.0)?))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn intervals(all: impl Iterator<Item = (usize, Estimate)>) -> Vec<(f64, f64, f64)> {
    let sound = |e: &Estimate| e.interval.filter(|i| 0.0 <= i.low && i.low <= i.high && i.high.is_finite());
    all.filter_map(|(b, e)| sound(&e).and_then(|i| Some((log(b)?, i.low, i.high)))).collect()
}

/// A name from a file, safe and short.
fn short(name: &str) -> String {
    let name = clean::line(name, &Signs { ascii: false, newline: " ", tab: " " });
    if name.chars().count() <= LETTERS { name } else { name.chars().take(LETTERS - 1).chain(['…']).collect() }
}

/// The drafters of a set, with their colours.
fn drafters(set: &SetRows) -> Vec<(&str, Colour)> {
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

/// The ceilings and what the drafters reach of them, in accepted drafted tokens a step.
pub fn accepted(set: &SetRows) -> Panel {
    let ceiling = |label: &str, colour, look, of: fn(&crate::cli::study::CeilingRow) -> Option<f64>| Curve {
        label: label.to_owned(),
        colour,
        look,
        points: points(set.ceilings.iter().map(|c| (c.budget, of(c)))),
        intervals: Vec::new(),
    };
    let mut curves = vec![
        ceiling("B − 1", GREY, Look::Dashed(2), |c| Some(c.batch)),
        ceiling("published, without its O(1)", SKY, Look::Dashed(9), |c| c.published),
        ceiling("renewal", ORANGE, Look::Dashed(5), |c| c.renewal),
        ceiling("renewal, tuned", GREY, Look::Line, |c| c.renewal_tuned),
        ceiling("fluid bound", BLACK, Look::Line, |c| Some(c.fluid.value)),
    ];
    curves[4].intervals = intervals(set.ceilings.iter().map(|c| (c.budget, c.fluid)));
    let mut reached: f64 = 0.0;
    for (name, colour) in drafters(set) {
        let rows = || set.drafters.iter().filter(|row| row.drafter == name);
        let expected = points(rows().map(|row| (row.budget, Some(row.expected.value))));
        let seen = points(rows().map(|row| (row.budget, Some(row.accepted.value))));
        let ends = intervals(rows().map(|row| (row.budget, row.expected)));
        let highest = expected.iter().chain(&seen).map(|p| p.1).chain(ends.iter().map(|i| i.2));
        reached = highest.fold(reached, f64::max);
        let name = short(name);
        curves.push(Curve { label: format!("{name}: E[X|T]"), colour, look: Look::Marked, points: expected, intervals: ends });
        curves.push(Curve {
            label: format!("{name}: accepted"),
            colour,
            look: Look::Points,
            points: seen,
            intervals: Vec::new(),
        });
    }
    curves.retain(|curve| !curve.points.is_empty());
    // The fluid bound is what the rest is measured against. Greedy it is B - 1, which would leave nothing of the rest to see.
    let fluid = set.ceilings.iter().map(|c| c.fluid.interval.map_or(c.fluid.value, |i| i.high)).fold(0.0, f64::max);
    let top = if set.temperature > 0.0 || reached <= 0.0 { reached.max(fluid) } else { reached.max(fluid.min(4.0 * reached)) };
    Panel::new(title(set), "accepted drafted tokens a step", curves, [top].into_iter())
}

/// The ceilings of the speed-up and what the drafters reach of them.
pub fn speed(set: &SetRows) -> Panel {
    let budgets: Vec<usize> = set.ceilings.iter().map(|c| c.budget).collect();
    let mut curves = Vec::new();
    let mut others = MACHINES.into_iter().cycle().zip([7, 4, 10].into_iter().cycle());
    let (mut here, mut elsewhere) = (1.0f64, 1.0f64);
    for machine in &set.machines {
        let points = points(budgets.iter().copied().zip(machine.speed_up.iter().map(|x| Some(*x))));
        let most = points.iter().map(|p| p.1).fold(0.0, f64::max);
        let (colour, look) = match others.next().filter(|_| !machine.measured) {
            Some((colour, dash)) => {
                elsewhere = elsewhere.max(most);
                (colour, Look::Dashed(dash))
            }
            None => {
                here = here.max(most);
                (BLACK, Look::Line)
            }
        };
        let label = format!("ceiling, {}", short(&machine.name));
        curves.push(Curve { label, colour, look, points, intervals: Vec::new() });
    }
    for (name, colour) in drafters(set) {
        let rows = set.drafters.iter().filter(|row| row.drafter == name);
        let points = points(rows.map(|row| (row.budget, row.timed.map(|timed| timed.speed_up))));
        here = points.iter().map(|p| p.1).fold(here, f64::max);
        let label = format!("{}, measured", short(name));
        curves.push(Curve { label, colour, look: Look::Marked, points, intervals: Vec::new() });
    }
    curves.retain(|curve| !curve.points.is_empty());
    let ends = curves.iter().flat_map(|curve| &curve.points).map(|p| p.0);
    let (least, most) = (ends.clone().fold(f64::MAX, f64::min), ends.fold(f64::MIN, f64::max));
    if least < most {
        let (label, points) = ("plain decoding".to_owned(), vec![(least, 1.0), (most, 1.0)]);
        curves.push(Curve { label, colour: GREY, look: Look::Dashed(2), points, intervals: Vec::new() });
    }
    let top = elsewhere.min(4.0 * here).max(here);
    Panel::new(title(set), "tokens a second, times those of plain decoding", curves, [top].into_iter())
}
