//! Misses pane: a step's rejection, and all rejections by cause, depth, class, and token.

use super::{Pen, empty, greedy};
use crate::telemetry::{MissCause, Misses, TokenClass};
use crate::tui::theme::Role;
use crate::tui::views::number::{percent, probability};
use crate::tui::{Pane, State, Step};

/// Causes in the order of the table. They range from the drafter's deficits to what no drafter
/// could know.
const CAUSES: [MissCause; 5] = [
    MissCause::Knowledge,
    MissCause::Vocabulary,
    MissCause::Ranking,
    MissCause::Budget,
    MissCause::Unlucky,
];

/// Returns the role of a cause.
pub fn cause_role(cause: MissCause) -> Role {
    match cause {
        MissCause::Knowledge | MissCause::Vocabulary | MissCause::Ranking => Role::LossKnowledge,
        MissCause::Budget => Role::LossShape,
        MissCause::Unlucky => Role::LossContext,
    }
}

/// Returns the title's summary: the number of rejections, and the fraction not proposed.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    let causes = state.history.averages.misses.causes();
    let total = causes.total();
    if total == 0 {
        return (Vec::new(), Role::Label);
    }
    let known = percent(causes.count_of(MissCause::Knowledge) as f64 / total as f64);
    (
        vec![
            format!("{total} rejections, {known} not proposed"),
            format!("{total} rejections"),
            total.to_string(),
        ],
        Role::Label,
    )
}

/// Draws the misses pane: the shown step's rejection, then tables over all steps.
pub fn misses(state: &State, pen: &mut Pen) {
    let Some(step) = state.step().or_else(|| state.history.newest()) else {
        empty(pen, "rejections and their causes appear here");
        return;
    };
    let mut y = autopsy(state, step, pen);
    let misses = &state.history.averages.misses;
    let mut height = pen.height();
    if let Some(line) = super::overlap::line(state).filter(|_| height >= 14) {
        height -= 1;
        let width = pen.width().saturating_sub(2);
        let line = line.iter().find(|l| pen.measure(l) <= width).or(line.last());
        pen.text(1, height, &pen.shorten(line.map_or("", String::as_str), width), Role::Label);
    }
    if misses.causes().total() == 0 {
        return;
    }
    // A blank row separates the step from the tables if all fit.
    y += usize::from(height >= 12);
    y = by_cause(misses, y, pen);
    if y < height {
        y = by_class(misses, y, pen);
    }
    if y < height {
        let cursor = (state.focus == Pane::Misses).then_some(state.miss_cursor);
        worst(misses, y, height, cursor, pen);
    }
}

/// Draws the rejection of one step in two rows; returns the next free row.
fn autopsy(state: &State, step: &Step, pen: &mut Pen) -> usize {
    let width = pen.width();
    let record = &step.record;
    let role = if state.selected.is_some() { Role::Notice } else { Role::Label };
    let mut x = pen.text(1, 0, &format!("step {}", record.step), role);
    let Some(miss) = &record.miss else {
        let why =
            if record.tree.parents.len() > 1 { ": nothing rejected" } else { ": nothing drafted" };
        pen.text(x, 0, why, Role::Label);
        return 1;
    };
    let cause = step.search_result.map_or(miss.cause, |result| miss.cause_given_oracle(&result));
    let name = cause.name();
    let sure = if step.search_result.is_some() { "" } else { "?" };
    let token = super::tree::token(&miss.text, pen, width.saturating_sub(x + 28).max(6));
    x = pen.text(x, 0, " missed ", Role::Label);
    x = pen.text(x, 0, &token, Role::NodeBonus);
    x = pen.text(x, 0, &format!(" at d{} ", miss.depth), Role::Label);
    if x + name.len() + 1 < width {
        pen.text(x, 0, &format!("{name}{sure}"), cause_role(cause));
    }
    let rank = |r: usize| if r > 999 { ">999".to_owned() } else { r.to_string() };
    let drafter = match (miss.q, miss.draft_rank) {
        (Some(q), Some(r)) => format!("drafter: q {} rank {}", probability(q).trim(), rank(r)),
        _ if miss.asked => "drafter: not proposed".to_owned(),
        _ => "drafter: not queried".to_owned(),
    };
    // If greedy, p is 1 for every token that is chosen; p at temperature 1 says more.
    let brief = match miss.p_plain.filter(|_| greedy(record)) {
        Some(plain) => format!("p(T=1) {} rank {}", probability(plain).trim(), rank(miss.rank)),
        None => format!("p {} rank {}", probability(miss.p).trim(), rank(miss.rank)),
    };
    let target = match greedy(record) {
        true => brief.clone(),
        false => format!("{brief} path {}", probability(miss.pi).trim()),
    };
    let brief = format!("{brief}  {}", drafter.trim_start_matches("drafter: "));
    let line = [format!("target: {target}  {drafter}"), format!("{target}  {drafter}"), brief];
    let line = line.iter().find(|l| pen.measure(l) + 2 <= width).unwrap_or(&line[2]);
    pen.text(1, 1, &pen.shorten(line, width.saturating_sub(2)), Role::Base);
    2
}

/// Draws counts by cause and depth; returns the next free row.
fn by_cause(misses: &Misses, mut y: usize, pen: &mut Pen) -> usize {
    let (width, causes) = (pen.width(), misses.causes());
    let total = causes.total();
    let depths = misses.depths();
    let (cell, start) = (4, 22);
    let columns = (width.saturating_sub(start + 1) / cell).min(8);
    let shown = depths.len().min(columns);
    pen.text(1, y, "cause", Role::Label);
    pen.right(15, y, "count", Role::Label);
    pen.right(21, y, "share", Role::Label);
    // If not all depths fit, the last column stands for all deeper ones as well.
    let cut = depths.len() > shown;
    for d in 0..shown {
        let more = if cut && d + 1 == shown { "+" } else { "" };
        pen.right(start + (d + 1) * cell, y, &format!("d{}{more}", d + 1), Role::Label);
    }
    // Few drafters have a vocabulary of their own.
    let occurs = |cause: &MissCause| *cause != MissCause::Vocabulary || causes.count_of(*cause) > 0;
    for cause in CAUSES.into_iter().filter(occurs) {
        y += 1;
        pen.text(1, y, cause.name(), cause_role(cause));
        let count = causes.count_of(cause);
        pen.right(15, y, &count.to_string(), Role::Base);
        pen.right(21, y, &percent(count as f64 / total as f64), Role::Value);
        for d in 0..shown {
            let count: usize = match cut && d + 1 == shown {
                true => depths[d..].iter().map(|c| c.count_of(cause)).sum(),
                false => depths[d].count_of(cause),
            };
            let role = if count == 0 { Role::NodeUnreached } else { Role::Base };
            pen.right(start + (d + 1) * cell, y, &count.to_string(), role);
        }
    }
    y + 1
}

/// Draws the fractions by token class, most frequent first; returns the next free row.
fn by_class(misses: &Misses, y: usize, pen: &mut Pen) -> usize {
    let total = misses.causes().total() as f64;
    let mut classes: Vec<(usize, &str)> =
        TokenClass::ALL.iter().map(|&c| (misses.class(c).total(), c.name())).collect();
    classes.sort_by_key(|c| std::cmp::Reverse(c.0));
    let mut x = 1;
    for (count, name) in classes.into_iter().filter(|c| c.0 > 0) {
        let share = percent(count as f64 / total);
        if x + name.len() + share.len() + 2 > pen.width() {
            break;
        }
        x = pen.text(x, y, name, Role::Label) + 1;
        x = pen.text(x, y, &share, Role::Base) + 2;
    }
    y + 1
}

/// Draws the most frequently missed tokens, each with its count and main cause.
fn worst(misses: &Misses, y: usize, height: usize, cursor: Option<usize>, pen: &mut Pen) {
    let (width, rows) = (pen.width(), height - y);
    let cell = 30;
    let columns = (width.saturating_sub(1) / cell).max(1);
    let (head, rows) = if rows >= 3 { (1, rows - 1) } else { (0, rows) };
    if head == 1 {
        pen.text(1, y, "most missed", Role::Label);
    }
    for (i, token) in misses.most_missed(rows * columns).into_iter().enumerate() {
        let (x, y) = (1 + i / rows * cell, y + head + i % rows);
        let text = super::tree::token(&token.text, pen, 13);
        pen.right(x + 3, y, &token.causes.total().to_string(), Role::Value);
        let times = pen.glyphs().times;
        pen.text(x + 3, y, times, Role::Label);
        pen.text(x + 5, y, &text, Role::TokenBonus);
        let main = CAUSES.iter().max_by_key(|&&cause| token.causes.count_of(cause));
        if let Some(&cause) = main.filter(|_| x + 19 + 9 <= width) {
            pen.text(x + 19, y, cause.name(), cause_role(cause));
        }
        if cursor == Some(i) {
            pen.tint(x, y, cell.min(width - x), Role::Selection);
        }
    }
}
