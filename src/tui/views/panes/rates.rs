//! Rates pane: misses per token of each kind, against the mean, and over time.

use super::{Pen, empty};
use crate::telemetry::{CONTEXT_RANGES, MissRate, POSITION_RANGES, TokenClass};
use crate::tui::State;
use crate::tui::theme::Role;
use crate::tui::views::number::{percent, points, two};

/// Width of a table from which two stand side by side.
const TABLE: usize = 44;

/// Rows of one table: name and rate of each kind.
struct RateTable {
    title: &'static str,
    rows: Vec<(String, MissRate)>,
    all: MissRate,
}

/// Returns the title's summary: the mean rate, longest form first.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    let total = state.history.averages.base_rates.total();
    let Some(rate) = total.rate() else { return (Vec::new(), Role::Label) };
    let rate = percent(rate);
    (
        vec![
            format!("{} of {} tokens missed: {rate}", total.misses, total.tokens),
            format!("mean {rate}"),
            rate,
        ],
        Role::Label,
    )
}

/// Names the ranges that begin at these values.
fn ranges(from: &[usize]) -> Vec<String> {
    let short = |n: usize| {
        if n >= 1024 && n.is_multiple_of(1024) { format!("{}k", n / 1024) } else { n.to_string() }
    };
    let name = |(i, &low): (usize, &usize)| match from.get(i + 1) {
        Some(&high) => format!("{} to {}", short(low), high - 1),
        None => format!("from {}", short(low)),
    };
    from.iter().enumerate().map(name).collect()
}

fn tables(state: &State) -> Vec<RateTable> {
    let rates = &state.history.averages.base_rates;
    let all = rates.total();
    let some = |rows: Vec<(String, MissRate)>| {
        rows.into_iter().filter(|(_, rate)| rate.tokens > 0).collect::<Vec<_>>()
    };
    let mut classes = some(
        TokenClass::ALL
            .iter()
            .map(|&class| (class.name().to_owned(), rates.class(class)))
            .collect(),
    );
    classes.sort_by_key(|class| std::cmp::Reverse(class.1.misses));
    let depth = |(i, rate): (usize, &MissRate)| {
        let more = if i + 1 == rates.depths().len() { "+" } else { "" };
        (format!("depth {}{more}", i + 1), *rate)
    };
    let named = |from: &[usize], list: &[MissRate]| {
        some(ranges(from).into_iter().zip(list.iter().copied()).collect())
    };
    let drafters = &state.history.drafter_rates;
    let by_drafter: Vec<(String, MissRate)> =
        drafters.iter().map(|(name, rate)| (name.to_owned(), rate)).collect();
    let mut tables = vec![
        RateTable { title: "token class", rows: classes, all },
        RateTable {
            title: "depth",
            rows: some(rates.depths().iter().enumerate().map(depth).collect()),
            all,
        },
        RateTable {
            title: "position in text",
            rows: named(&POSITION_RANGES, rates.positions()),
            all,
        },
        RateTable { title: "context length", rows: named(&CONTEXT_RANGES, rates.contexts()), all },
    ];
    // With one drafter, its rate is the mean.
    if by_drafter.len() > 1 {
        tables.insert(
            2,
            RateTable { title: "drafter, all settings", rows: by_drafter, all: drafters.total() },
        );
    }
    tables.retain(|table| !table.rows.is_empty());
    tables
}

/// Draws the tables that fit, and the rate over time below them.
pub fn rates(state: &State, pen: &mut Pen) {
    let rates = &state.history.averages.base_rates;
    if rates.total().misses == 0 {
        empty(pen, "misses per token of each kind appear here");
        return;
    }
    let (width, height) = (pen.width(), pen.height());
    let drift_rows = match height {
        0..=5 => 0,
        6..=13 => 1,
        _ => 2,
    };
    let columns = (width / TABLE).clamp(1, 3);
    let column = width / columns;
    let bottom = height - drift_rows;
    // Each table goes to the column with the most room left.
    let mut free: Vec<usize> = vec![0; columns];
    for table in tables(state) {
        let Some((at, &top)) = free.iter().enumerate().min_by_key(|(_, top)| **top) else { break };
        let gap = usize::from(top > 0 && bottom >= 12);
        let rows = table.rows.len().min(bottom.saturating_sub(top + gap + 1));
        // A table of which most would be missing is left out.
        if rows == 0 || rows * 2 < table.rows.len() {
            continue;
        }
        draw(
            &table,
            rows,
            &mut pen.part(
                (at * column) as u16,
                (top + gap) as u16,
                column as u16,
                (rows + 1) as u16,
            ),
        );
        free[at] = top + gap + rows + 1;
    }
    if drift_rows > 0 {
        over_time(state, &mut pen.part(0, bottom as u16, width as u16, drift_rows as u16));
    }
}

/// Draws one table with `rows` rows.
fn draw(table: &RateTable, rows: usize, pen: &mut Pen) {
    let (width, times) = (pen.width(), pen.glyphs().times);
    // Right edges: rate, ratio; the bar takes the rest.
    let name = width.saturating_sub(24).clamp(10, 16);
    let (rate_end, ratio_end) = (name + 8, name + 15);
    pen.text(1, 0, &pen.shorten(table.title, name), Role::Title);
    pen.right(rate_end, 0, "missed", Role::Label);
    pen.right(ratio_end, 0, &format!("{times}mean"), Role::Label);
    if width >= ratio_end + 9 {
        pen.right(width - 1, 0, "tokens", Role::Label);
    }
    let most =
        table.rows.iter().filter_map(|(_, rate)| rate.ratio(&table.all)).fold(2.0f64, f64::max);
    let bar = width.saturating_sub(ratio_end + 10);
    for (y, (kind, rate)) in table.rows.iter().take(rows).enumerate().map(|(i, row)| (i + 1, row)) {
        let ratio = rate.ratio(&table.all);
        let sure = rate.differs(&table.all);
        let role = match ratio {
            Some(ratio) if sure && ratio > 1.0 => Role::LossKnowledge,
            Some(_) if sure => Role::NodeAccepted,
            _ => Role::Label,
        };
        pen.text(1, y, &pen.shorten(kind, name), Role::Base);
        pen.right(rate_end, y, &rate.rate().map_or_else(|| "-".to_owned(), percent), Role::Value);
        pen.right(
            ratio_end,
            y,
            &ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{times}{}", two(ratio))),
            role,
        );
        if let Some(ratio) = ratio.filter(|_| bar >= 4) {
            let cells = (ratio / most * (bar * 8) as f64).round() as usize;
            let start = ratio_end + 1;
            pen.rule(start, start + cells / 8, y, pen.glyphs().level_right(8), role);
            if !cells.is_multiple_of(8) {
                pen.text(start + cells / 8, y, pen.glyphs().level_right(cells % 8), role);
            }
        }
        if width >= ratio_end + 9 {
            pen.right(width - 1, y, &rate.tokens.to_string(), Role::Label);
        }
    }
}

/// Draws the rate over time as a row of levels, and its drift in words.
fn over_time(state: &State, pen: &mut Pen) {
    let rates = &state.history.averages.base_rates;
    let (width, glyphs) = (pen.width(), pen.glyphs());
    let units = rates.over_time();
    let start = pen.text(1, 0, "over time", Role::Title) + 1;
    let most = units.iter().filter_map(MissRate::rate).fold(0.0f64, f64::max).max(0.05);
    let mut x = start;
    for unit in units {
        let eighths = unit.rate().map_or(0, |rate| ((rate / most * 8.0).round() as usize).max(1));
        x = pen.text(x, 0, glyphs.level(eighths), Role::Plot);
    }
    let Some(drift) = rates.drift() else { return };
    let span = format!("{} {} {}", percent(drift.first), glyphs.arrow, percent(drift.second));
    let (verdict, role) = match drift.change.interval {
        None => ("too early for an interval".to_owned(), Role::Label),
        Some(interval) => {
            let half = (interval.high - interval.low) / 2.0;
            let change = format!(
                "{} {} {} points",
                points(drift.change.value),
                glyphs.plus_minus,
                points(half).trim_start_matches('+')
            );
            match () {
                () if interval.low > 0.0 => (format!("{change}: rising"), Role::LossKnowledge),
                () if interval.high < 0.0 => (format!("{change}: falling"), Role::NodeAccepted),
                () => (format!("{change}: no drift"), Role::Label),
            }
        }
    };
    let words = format!("first to second half {span}, {verdict}");
    let short = format!("{span}, {verdict}");
    // Beside the levels if there is room, else below them.
    let (x, y) = if pen.height() > 1 { (1, 1) } else { (x + 2, 0) };
    let room = width.saturating_sub(x + 1);
    let forms = [words, short, verdict];
    if let Some(words) = forms.iter().find(|words| pen.measure(words) <= room) {
        pen.text(x, y, words, role);
    }
}
