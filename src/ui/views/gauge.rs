//! The gauge: what was accepted and what was to be expected, against the ceilings, on one ruler.
//!
//! The ruler counts accepted drafted tokens a step, the bonus not counted, from 0 to B - 1: the unit of the ceilings, of
//! all other numbers of this name on the screen, and of the records.

use super::{Pen, empty, greedy};
use crate::app::State;
use crate::telemetry::{Ceilings, StepRecord};
use crate::theme::Role;
use crate::ui::layout::Form;
use crate::ui::number::{percent, two};
use crate::ui::ruler::{Mark, Side, place};

/// What the gauge shows, in accepted drafted tokens a step (the bonus not counted).
struct Reading<'a> {
    accepted: f64,
    expected: f64,
    budget: usize,
    ceilings: &'a Ceilings,
    greedy: bool,
    /// Whether it is one step and not a mean.
    single: bool,
}

fn reading(state: &State) -> Option<Reading<'_>> {
    let single = state.selected.and_then(|n| state.history.get(n));
    let step = single.or_else(|| state.history.newest())?;
    let record: &StepRecord = &step.record;
    let means = || Some((state.history.averages.accepted_mean()?, state.history.averages.expected_mean()?));
    let (accepted, expected) = match single {
        Some(_) => (record.accepted as f64, record.expected_accepted),
        None => means()?,
    };
    Some(Reading {
        accepted,
        expected,
        budget: record.settings.budget,
        ceilings: &record.ceilings,
        greedy: greedy(record),
        single: single.is_some(),
    })
}

impl Reading<'_> {
    /// The lowest ceiling that is proven for this budget, and its name. The published form is not among them: its
    /// constant is unknown.
    fn tightest(&self) -> (f64, &'static str) {
        let c = self.ceilings;
        [(c.fluid, "fluid"), (c.renewal_tuned, "tuned renewal"), (c.renewal, "renewal")]
            .into_iter()
            .filter_map(|(value, name)| value.filter(|v| v.is_finite()).map(|v| (v, name)))
            .chain([(c.batch, "B-1")])
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap_or((c.batch, "B-1"))
    }

    fn share(&self) -> Option<f64> {
        let ceiling = self.tightest().0;
        (ceiling > 0.0).then(|| self.accepted / ceiling)
    }
}

/// What the title says: the share reached.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    let Some(reading) = reading(state) else { return (Vec::new(), Role::Label) };
    if reading.single {
        // A ceiling bounds the mean; one step may lie over it.
        let short = format!("this step: accepted {:.0}, E[X|T] {}", reading.accepted, two(reading.expected));
        return (vec![format!("{short}; ceilings bound means, not single steps"), short], Role::Notice);
    }
    let (ceiling, name) = reading.tightest();
    let share = reading.share().map_or_else(
        || "nothing is drafted at B 1".to_owned(),
        |s| format!("accepted {} = {} of {} ({name})", two(reading.accepted), percent(s), two(ceiling)),
    );
    let texts = match reading.greedy {
        true => vec![format!("greedy: ceiling B-1; {share}"), "greedy: ceiling B-1".to_owned()],
        false => vec![share],
    };
    (texts, Role::GaugeAccepted)
}

/// Draws it.
pub fn gauge(state: &State, form: Form, pen: &mut Pen) {
    let Some(reading) = reading(state) else {
        empty(pen, "accepted tokens against their ceilings come here");
        return;
    };
    let (width, height, glyphs) = (pen.width(), pen.height(), pen.glyphs());
    let untitled = form == Form::Compact && !state.zoom;
    // Rows over the ruler stay as they are, so that it stands still; under it, words take what labels leave.
    let above = match height {
        0..=2 => 0,
        3..=5 => 1,
        _ => 2,
    };
    let under = height.saturating_sub(above + 1);
    let drafted = reading.budget.saturating_sub(1);
    let c = reading.ceilings;
    let marks: Vec<(f64, Side, Role, Vec<String>)> = labels(&reading, untitled, c);
    // The ruler ends at B - 1. Where that is far beyond all marks, it is broken.
    let most = drafted as f64;
    let furthest = marks.iter().map(|m| m.0).filter(|v| *v <= most).fold(0.0, f64::max);
    let near = (furthest * 1.25).ceil().max(3.0);
    let broken = near < 0.6 * most;
    let end = if broken { near } else { most.max(1.0) };
    let tail = format!(
        "{}{}B-1 = {drafted}",
        if broken { format!("{0}{0} ", glyphs.change) } else { String::new() },
        if reading.greedy { "ceiling " } else { "" },
    );
    let (left, right) = (3, width.saturating_sub(pen.measure(&tail) + 2));
    if right <= left + 4 {
        return;
    }
    let column = |value: f64| {
        let share = (value / end).clamp(0.0, 1.0);
        left + (share * (right - 1 - left) as f64).round() as usize
    };
    pen.text(1, above, "0", Role::PlotAxis);
    pen.text(right + 1, above, &tail, Role::GaugeCeiling);
    let (tightest, _) = reading.tightest();
    pen.rule(left, right, above, glyphs.line, Role::Gauge);
    pen.rule(left, column(tightest) + 1, above, glyphs.line, Role::GaugeCeiling);
    if reading.accepted > 0.0 {
        pen.rule(left, column(reading.accepted) + 1, above, glyphs.heavy, Role::GaugeAccepted);
    }
    let mut placing: Vec<Mark> = Vec::with_capacity(marks.len());
    for (value, side, _, labels) in &marks {
        // Neighbours share a column: two pointers side by side could not be told apart, and the numbers say the rest.
        let own = column(*value);
        let shared = placing.iter().find(|m| m.side == *side && m.column.abs_diff(own) == 1);
        placing.push(Mark { column: shared.map_or(own, |m| m.column), side: *side, labels: labels.clone() });
    }
    let mut below = 0;
    for side in [Side::Above, Side::Below] {
        let rows = if side == Side::Above { above } else { under.min(2) };
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
                _ if *value > end => glyphs.beyond,
                Side::Above => glyphs.down,
                Side::Below => glyphs.up,
            };
            pen.text(label.start, y_of(label.row), &label.text, *role);
            if rows > 0 {
                pen.text(column, y_of(0), pointer, *role);
            }
        }
    }
    words(&reading, &mut pen.part(0, (above + below + 1) as u16, width as u16, under.saturating_sub(below) as u16));
}

/// All marks in accepted drafted tokens a step, the most important first.
fn labels(reading: &Reading, untitled: bool, c: &Ceilings) -> Vec<(f64, Side, Role, Vec<String>)> {
    let mut marks = Vec::new();
    let share = reading.share().map(percent).filter(|_| untitled && !reading.single);
    let share = share.map_or_else(String::new, |s| format!(" = {s}"));
    let (got, short) = if reading.single { ("this step", "step") } else { ("accepted", "acc") };
    marks.push((
        reading.accepted,
        Side::Below,
        Role::GaugeAccepted,
        vec![
            format!("{got} {}{share}", two(reading.accepted)),
            format!("{short} {}{share}", two(reading.accepted)),
            short.to_owned(),
        ],
    ));
    marks.push((
        reading.expected,
        Side::Below,
        Role::GaugeExpected,
        vec![format!("E[X|T] {}", two(reading.expected)), "E[X|T]".to_owned()],
    ));
    let ceilings = [(c.fluid, "fluid"), (c.renewal_tuned, "tuned"), (c.renewal, "renewal")];
    for (value, name) in ceilings {
        if let Some(value) = value.filter(|v| v.is_finite()) {
            let labels = vec![format!("{name} {}", two(value)), name.to_owned()];
            marks.push((value, Side::Above, Role::GaugeCeiling, labels));
        }
    }
    if let Some(value) = c.published.filter(|v| v.is_finite()) {
        let labels = vec![
            format!("published {} + O(1) unknown", two(value)),
            format!("publ. {} + O(1)?", two(value)),
            "publ.?".to_owned(),
        ];
        marks.push((value, Side::Above, Role::GaugeUnknown, labels));
    }
    marks
}

/// Words under the ruler: one line where there is little room, else a line for each ceiling.
fn words(reading: &Reading, pen: &mut Pen) {
    let (width, height) = (pen.width(), pen.height());
    if height == 0 || width < 60 {
        return;
    }
    let c = reading.ceilings;
    let rows = [
        ("fluid", c.fluid, "best of any drafter if positions were independent"),
        ("tuned renewal", c.renewal_tuned, "the closed form at its best t"),
        ("renewal", c.renewal, "closed form: ln(P)/mu + mu2/mu^2, P = B - 1"),
        (
            "B - 1",
            Some(c.batch),
            if reading.greedy { "greedy: no other ceiling; a perfect drafter reaches it" } else { "all that is drafted" },
        ),
        ("E[X|T]", Some(reading.expected), "not a ceiling: what these trees were worth, before luck"),
    ];
    let rows: Vec<_> =
        rows.into_iter().filter_map(|(n, v, w)| v.filter(|v| *v > 0.0 && v.is_finite()).map(|v| (n, v, w))).collect();
    if height <= rows.len() {
        pen.text(1, height - 1, "in accepted drafted tokens a step, the bonus not counted", Role::Label);
        return;
    }
    pen.text(1, 0, "ceiling", Role::Label);
    pen.right(23, 0, "tokens", Role::Label);
    if !reading.single {
        pen.right(31, 0, "reached", Role::Label);
    }
    pen.text(33, 0, &pen.shorten("accepted drafted tokens a step, the bonus not counted", width - 34), Role::Label);
    for (y, (name, value, meaning)) in rows.into_iter().enumerate() {
        let role = if name == "E[X|T]" { Role::GaugeExpected } else { Role::GaugeCeiling };
        pen.text(1, y + 1, name, role);
        pen.right(23, y + 1, &two(value), Role::Base);
        if !reading.single {
            pen.right(31, y + 1, &percent(reading.accepted / value), Role::Value);
        }
        pen.text(33, y + 1, &pen.shorten(meaning, width.saturating_sub(34)), Role::Label);
    }
}
