//! Gauge pane: accepted and expected length against the ceilings, on one ruler.
//!
//! The ruler counts tokens per step from 0 to B. Its first token is the bonus, followed by the bar
//! of accepted drafted tokens. Numbers at the marks count drafted tokens without the bonus, as
//! everywhere.

use super::{Pen, empty, greedy, ladder};
use crate::telemetry::{Ceilings, Interval, ReachedIntervals, StepRecord};
use crate::theory::bounds;
use crate::tui::State;
use crate::tui::theme::Role;
use crate::tui::views::layout::LayoutVariant;
use crate::tui::views::number::{ceiling, percent, two};
use crate::tui::views::ruler::{RulerMark, Side, place};

/// Values on the gauge, in accepted drafted tokens per step without the bonus.
struct Reading<'a> {
    accepted: f64,
    expected: f64,
    budget: usize,
    ceilings: &'a Ceilings,
    greedy: bool,
    /// Set for sampled trees. B - 1 is their only ceiling, and no oracle tree bounds them.
    sampled_trees: bool,
    /// Set for a single step, clear for a mean.
    single: bool,
    /// Means with their intervals; `None` for a single step.
    reached: Option<&'a ReachedIntervals>,
    /// Lower and upper bound on the oracle tree's mass: of this step, or the mean.
    oracle: Option<(f64, f64)>,
    /// E\[X | T\] of the drafter's best tree.
    best: Option<f64>,
    /// Closed form at temperature 1 over the same contexts, if greedy.
    reference: Option<f64>,
}

fn reading(state: &State) -> Option<Reading<'_>> {
    let single = state.selected.and_then(|n| state.history.get(n));
    let step = single.or_else(|| state.history.newest())?;
    let record: &StepRecord = &step.record;
    let averages = &state.history.averages;
    let (accepted, expected) = match single {
        Some(_) => (record.accepted as f64, record.expected_accepted),
        None => (averages.accepted_mean()?, averages.expected_mean()?),
    };
    let mean = averages
        .ladder
        .losses()
        .filter(|_| single.is_none() && averages.ladder.searched_steps() >= ladder::MIN_SEARCHES);
    let sampled_trees = record.settings.samples_trees();
    let (oracle, best) = match (single, mean) {
        _ if sampled_trees => (None, None),
        (Some(step), _) => (
            step.search_result.map(|l| {
                (l.best_known_mass(expected), l.oracle_upper.max(l.best_known_mass(expected)))
            }),
            step.search_result.and_then(|l| l.drafter_best),
        ),
        (None, Some(m)) => {
            let best = m.shape.map(|shape| expected + shape);
            (
                best.zip(m.knowledge).map(|(best, knowledge)| (best + knowledge, best + knowledge)),
                best,
            )
        }
        _ => (None, None),
    };
    let greedy = greedy(record);
    let plain = &state.history.plain_moments;
    Some(Reading {
        accepted,
        expected,
        budget: record.settings.budget,
        ceilings: &record.ceilings,
        greedy,
        sampled_trees,
        single: single.is_some(),
        reached: record.reached.as_ref().filter(|_| single.is_none()),
        oracle,
        best,
        reference: bounds::renewal_tuned(
            plain.mu(),
            plain.mu2(),
            record.settings.budget.saturating_sub(1),
        )
        .filter(|_| greedy),
    })
}

/// Returns a value if it is finite.
fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|v| v.is_finite())
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole).filter(|s| s.is_finite())
}

impl Reading<'_> {
    /// Returns the lowest proven ceiling for this budget. The published form does not count, since
    /// its constant is unknown.
    fn tightest(&self) -> f64 {
        let c = self.ceilings;
        let known = [c.fluid, c.renewal_tuned, c.renewal].into_iter().filter_map(finite);
        known.fold(c.batch, f64::min)
    }

    /// Returns the fraction of the fluid ceiling with its interval, both of the same moment. `None`
    /// while it is too early.
    fn share_of_fluid(&self) -> Option<(f64, Interval)> {
        let (share, interval) = self.reached.and_then(|r| r.share_mean.zip(r.share))?;
        [share, interval.low, interval.high]
            .iter()
            .all(|x| x.is_finite())
            .then_some((share, interval))
    }

    /// Returns the fraction of the oracle tree's mass that is reached.
    fn fraction_of_oracle(&self) -> Option<f64> {
        share(self.expected, self.oracle?.0)
    }

    /// Returns the summary in words, longest form first. A fraction without an interval is not
    /// shown.
    fn words(&self) -> Vec<String> {
        let context = self.fraction_of_oracle().map(percent);
        let with = |head: String, tail: &str| {
            context.as_ref().map_or_else(|| head.clone(), |c| format!("{head}, {c} of {tail}"))
        };
        if self.single {
            let step =
                format!("this step: accepted {:.0}, E[X|T] {}", self.accepted, two(self.expected));
            let short = context
                .as_ref()
                .map_or_else(|| step.clone(), |c| format!("this step: {c} of the oracle tree"));
            return vec![with(step.clone(), "the oracle tree"), short, step];
        }
        if self.budget <= 1 {
            return vec!["nothing drafted at B 1".to_owned()];
        }
        if self.greedy {
            let of = share(self.expected, self.ceilings.batch)
                .map_or_else(String::new, |s| format!("; {} reached", percent(s)));
            return vec![format!("greedy: ceiling B{of}"), "greedy: ceiling B".to_owned()];
        }
        if self.sampled_trees {
            return vec![
                "sampled trees are outside the theorem: of its ceilings only B - 1 applies"
                    .to_owned(),
                "sampled trees: only the ceiling B - 1 applies".to_owned(),
                "sampled: only B - 1 applies".to_owned(),
                "sampled trees".to_owned(),
            ];
        }
        let Some(fluid) = finite(self.ceilings.fluid) else {
            let of = share(self.expected, self.tightest()).map_or_else(|| "-".to_owned(), percent);
            return vec![
                with(format!("{of} of the lowest known ceiling"), "the oracle tree"),
                format!("{of} of ceiling"),
            ];
        };
        match self.share_of_fluid().filter(|_| fluid > 0.0) {
            Some((share, interval)) => {
                let (share, low, high) =
                    (percent(share), percent(interval.low), percent(interval.high));
                vec![
                    with(
                        format!(
                            "{share} of the fluid ceiling ({} to {high})",
                            low.trim_end_matches('%')
                        ),
                        "the oracle tree",
                    ),
                    with(format!("{share} of the fluid ceiling"), "the oracle tree"),
                    with(format!("{share} of fluid"), "the oracle"),
                    format!("{share} of fluid"),
                ]
            }
            None => {
                let steps = self.reached.map_or(0, |r| r.steps);
                let of = if steps > 0 { format!(" ({steps} steps)") } else { String::new() };
                vec![
                    with(
                        format!("too early for a fraction of the fluid ceiling{of}"),
                        "the oracle tree",
                    ),
                    with(format!("fraction of fluid: too early{of}"), "the oracle"),
                    "too early".to_owned(),
                ]
            }
        }
    }

    /// Returns all marks, most important first: position in drafted tokens, side, role, labels.
    fn marks(&self, untitled: bool) -> Vec<(f64, Side, Role, Vec<String>)> {
        let c = self.ceilings;
        let named = |name: &str, short: &str, value: f64| {
            vec![format!("{name} {}", ceiling(value)), name.to_owned(), short.to_owned()]
        };
        let mut marks = Vec::new();
        let (got, short) = if self.single { ("this step", "step") } else { ("accepted", "acc") };
        let of = self
            .share_of_fluid()
            .map(|(share, _)| percent(share))
            .filter(|_| untitled && !self.greedy);
        let mut labels = vec![
            format!("{got} {}", two(self.accepted)),
            format!("{short} {}", two(self.accepted)),
            short.to_owned(),
        ];
        if let Some(of) = of {
            labels.insert(0, format!("{got} {} = {of} of fluid", two(self.accepted)));
        }
        marks.push((self.accepted, Side::Below, Role::GaugeAccepted, labels));
        marks.push((
            self.expected,
            Side::Below,
            Role::GaugeExpected,
            named("E[X|T]", "E[X|T]", self.expected),
        ));
        if let Some(value) = finite(c.fluid).filter(|_| !self.greedy) {
            marks.push((value, Side::Above, Role::GaugeFluid, named("fluid", "fluid", value)));
        }
        if let Some((low, high)) =
            self.oracle.filter(|o| o.0.is_finite() && o.1.is_finite() && !self.greedy)
        {
            let close = high - low < 0.005;
            let label = if close {
                format!("oracle {}", two(low))
            } else {
                format!("oracle {} to {}", two(low), two(high))
            };
            marks.push((
                low,
                Side::Above,
                Role::GaugeOracle,
                vec![label, format!("oracle {}", two(low)), "oracle".to_owned()],
            ));
        }
        if let Some(value) = finite(self.best) {
            marks.push((
                value,
                Side::Below,
                Role::GaugeBest,
                named("drafter's best", "best", value),
            ));
        }
        // The renewal form adds little to its tuned form, which is never looser. The table shows
        // both.
        let form = finite(c.renewal_tuned)
            .map(|v| (v, "tuned"))
            .or_else(|| finite(c.renewal).map(|v| (v, "renewal")));
        if let Some((value, name)) = form {
            marks.push((value, Side::Above, Role::GaugeCeiling, named(name, name, value)));
        }
        if let Some(value) = finite(c.published) {
            let labels = vec![
                format!("published {} + O(1) unknown", ceiling(value)),
                format!("publ. {} + O(1)?", ceiling(value)),
                "publ.?".to_owned(),
            ];
            marks.push((value, Side::Above, Role::GaugeUnknown, labels));
        }
        if let Some(value) = finite(self.reference) {
            let labels = vec![
                format!("same contexts at T = 1: tuned {}", ceiling(value)),
                format!("T=1: tuned {}", ceiling(value)),
            ];
            marks.push((value, Side::Above, Role::GaugeUnknown, labels));
        }
        marks
    }
}

/// Returns the title's summary: the fraction of the ceiling that is reached.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    match reading(state) {
        Some(reading) => {
            (reading.words(), if reading.single { Role::Notice } else { Role::GaugeAccepted })
        }
        None => (Vec::new(), Role::Label),
    }
}

/// Draws the gauge pane: ruler, labels, and a table if there is room.
pub fn gauge(state: &State, form: LayoutVariant, pen: &mut Pen) {
    let Some(reading) = reading(state) else {
        empty(pen, "accepted tokens against the ceilings appear here");
        return;
    };
    let (width, height) = (pen.width(), pen.height());
    let untitled = form == LayoutVariant::Compact && !state.zoom;
    // The number of rows above the ruler is fixed, so that it does not move; text below takes the
    // rows that labels leave free.
    let above = match height {
        0..=2 => 0,
        3 => 1,
        4..=5 if untitled => 1,
        _ => 2,
    };
    let under = height.saturating_sub(above + 1);
    let spoken = untitled && height >= 4;
    let rows = if spoken { under - 1 } else { under.min(2) };
    let below = ruler(&reading, above, rows, untitled && !spoken, pen);
    if spoken {
        let words = reading.words();
        let line = words.iter().find(|w| pen.measure(w) + 2 <= width).or(words.last());
        let line = line.map_or_else(String::new, |w| pen.shorten(w, width.saturating_sub(2)));
        pen.text(1, height - 1, &line, Role::GaugeAccepted);
        return;
    }
    let left = under.saturating_sub(below);
    table(state, &reading, &mut pen.part(0, (above + below + 1) as u16, width as u16, left as u16));
}

/// Draws the ruler in row `above`, with labels on both sides. Returns the number of rows used below
/// it.
fn ruler(reading: &Reading, above: usize, under: usize, untitled: bool, pen: &mut Pen) -> usize {
    let (width, glyphs) = (pen.width(), pen.glyphs());
    let marks = reading.marks(untitled);
    // The ruler ends at B. If B lies far beyond all marks, the ruler is broken.
    let most = reading.budget.max(1) as f64;
    let furthest = marks.iter().map(|m| m.0 + 1.0).filter(|v| *v <= most).fold(0.0, f64::max);
    let near = (furthest * 1.25).ceil().max(4.0);
    let broken = near < 0.6 * most;
    let end = if broken { near } else { most };
    let tail = format!(
        "{}{}B = {}",
        if broken { format!("{0}{0} ", glyphs.change) } else { String::new() },
        if reading.greedy { "ceiling " } else { "" },
        reading.budget,
    );
    let (left, right) = (3, width.saturating_sub(pen.measure(&tail) + 2));
    if right <= left + 4 {
        return 0;
    }
    // Column for a value in tokens per step.
    let column = |tokens: f64| {
        let share = (tokens / end).clamp(0.0, 1.0);
        left + (share * (right - 1 - left) as f64).round() as usize
    };
    pen.text(1, above, "0", Role::PlotAxis);
    pen.text(right + 1, above, &tail, Role::GaugeCeiling);
    pen.rule(left, right, above, glyphs.line, Role::Gauge);
    pen.rule(left, column(reading.tightest() + 1.0) + 1, above, glyphs.line, Role::GaugeCeiling);
    if reading.accepted > 0.0 {
        pen.rule(
            left,
            column(reading.accepted + 1.0) + 1,
            above,
            glyphs.heavy,
            Role::GaugeAccepted,
        );
    }
    pen.rule(left, column(1.0), above, glyphs.heavy, Role::TokenBonus);
    let star = column(1.0);
    pen.text(star, above, glyphs.bonus, Role::NodeBonus);
    let mut band = |low: f64, high: f64, role: Role| {
        let (from, to) = (column(low + 1.0), column(high + 1.0));
        // A band of one cell adds nothing to the mark.
        if from < to && low.is_finite() && high.is_finite() {
            pen.rule(from.max(star + 1), to + 1, above, glyphs.band, role);
        }
    };
    if let Some((low, high)) = reading.oracle {
        band(low, high, Role::GaugeOracle);
    }
    if let Some(reached) = reading.reached {
        for (interval, role) in
            [(reached.fluid, Role::GaugeFluid), (reached.expected, Role::GaugeExpected)]
        {
            if let Some(interval) = interval {
                band(interval.low, interval.high, role);
            }
        }
    }
    let mut placing: Vec<RulerMark> = Vec::with_capacity(marks.len());
    for (value, side, _, labels) in &marks {
        // Neighboring marks share a column: adjacent pointers would be hard to tell apart, and the
        // labels hold the numbers.
        let own = column(value + 1.0);
        let shared = placing.iter().find(|m| m.side == *side && m.column.abs_diff(own) == 1);
        placing.push(RulerMark {
            column: shared.map_or(own, |m| m.column),
            side: *side,
            labels: labels.clone(),
        });
    }
    let mut below = 0;
    for side in [Side::Above, Side::Below] {
        let rows = if side == Side::Above { above } else { under };
        let y_of = |row: usize| if side == Side::Above { above - 1 - row } else { above + 1 + row };
        let placed = place(&placing, side, rows, width, |text| pen.measure(text));
        if side == Side::Below {
            below = placed.iter().map(|p| p.row + 1).max().unwrap_or(0);
        }
        for label in placed.iter().rev() {
            let (value, _, role, _) = &marks[label.mark];
            let column = placing[label.mark].column;
            for row in 1..=label.row {
                pen.text(column, y_of(row), glyphs.vline, *role);
            }
            let pointer = match side {
                _ if value + 1.0 > end => glyphs.beyond,
                Side::Above => glyphs.down,
                Side::Below => glyphs.up,
            };
            pen.text(label.start, y_of(label.row), &label.text, *role);
            if rows > 0 {
                pen.text(column, y_of(0), pointer, *role);
            }
        }
    }
    below
}

/// Draws the text below the ruler: main limit and, if it fits, a table.
fn table(state: &State, reading: &Reading, pen: &mut Pen) {
    let (width, height) = (pen.width(), pen.height());
    if height == 0 || width < 60 {
        return;
    }
    let c = reading.ceilings;
    let oracle = if reading.single {
        "best tree of B - 1 nodes after this context"
    } else {
        "best trees after these contexts, from searched steps"
    };
    let batch = match (reading.greedy, reading.sampled_trees) {
        (true, _) => "greedy: the only ceiling; a perfect drafter reaches it",
        (_, true) => "all drafted tokens: the only ceiling of sampled trees",
        _ => "all drafted tokens",
    };
    let rows = [
        (
            "fluid",
            c.fluid.filter(|_| !reading.greedy),
            Role::GaugeFluid,
            "upper bound on any drafter's mean if positions are independent",
        ),
        ("oracle", reading.oracle.map(|o| o.0), Role::GaugeOracle, oracle),
        ("drafter's best", reading.best, Role::GaugeBest, "best trees of this drafter"),
        (
            "E[X|T]",
            Some(reading.expected),
            Role::GaugeExpected,
            "expected accepted length of the drafted trees",
        ),
        ("tuned renewal", c.renewal_tuned, Role::GaugeCeiling, "renewal form at its best t"),
        ("renewal", c.renewal, Role::GaugeCeiling, "closed form: ln(P)/mu + mu2/mu^2, P = B - 1"),
        ("B - 1", Some(c.batch), Role::GaugeCeiling, batch),
    ];
    let rows: Vec<_> = rows
        .into_iter()
        .filter_map(|(n, v, r, w)| finite(v).filter(|v| *v > 0.0).map(|v| (n, v, r, w)))
        .collect();
    let limits = ladder::limits(state);
    let limits = limits.iter().find(|l| pen.measure(l) + 2 <= width).or(limits.last());
    if let Some(limits) = limits {
        let line = pen.shorten(limits, width.saturating_sub(2));
        pen.text(1, height - 1, &line, Role::Base);
    }
    let room = height - usize::from(limits.is_some());
    if room < 4 {
        return;
    }
    pen.text(1, 0, "mark", Role::Label);
    pen.right(23, 0, "tokens", Role::Label);
    if !reading.single {
        pen.right(31, 0, "reached", Role::Label);
    }
    pen.text(
        33,
        0,
        &pen.shorten(
            "drafted tokens per step, without the bonus; reached: E[X|T] / mark",
            width - 34,
        ),
        Role::Label,
    );
    for (y, (name, value, role, meaning)) in rows.into_iter().take(room - 1).enumerate() {
        pen.text(1, y + 1, name, role);
        pen.right(23, y + 1, &ceiling(value), Role::Base);
        if !reading.single && name != "E[X|T]" {
            pen.right(31, y + 1, &percent(reading.expected / value), Role::Value);
        }
        pen.text(33, y + 1, &pen.shorten(meaning, width.saturating_sub(34)), Role::Label);
    }
}
