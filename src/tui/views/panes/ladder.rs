//! Ladder pane: losses from B - 1 down to accepted, as bar and table.

use super::{Pen, empty};
use crate::telemetry::{Losses, MissCause};
use crate::tui::State;
use crate::tui::theme::{Glyphs, Role};
use crate::tui::views::number::{change, percent, speed, two};

/// Searched steps below which mean losses are not shown.
pub const MIN_SEARCHES: usize = 5;
/// Rejections below which the fractions by cause are not shown.
const FEWEST_MISSES: usize = 20;
/// Loss in tokens per step below which it does not count as a limit.
const SMALL: f64 = 0.05;

/// Row of the table and segment of the bar.
struct LossRow {
    name: &'static str,
    role: Role,
    fill: &'static str,
    mean: Option<f64>,
    step: Option<f64>,
}

/// Returns the losses, topmost first. What is not split yet forms one part of its own.
fn parts(mean: &Losses, step: &Losses, glyphs: &Glyphs) -> Vec<LossRow> {
    let [_, luck, shape, knowledge, context, budget] = glyphs.losses;
    let part = |name, role, fill, mean, step| LossRow { name, role, fill, mean, step };
    let mut parts = vec![
        part("budget", Role::LossBudget, budget, mean.budget, step.budget),
        part("context", Role::LossContext, context, mean.context, step.context),
        part("knowledge", Role::LossKnowledge, knowledge, mean.knowledge, step.knowledge),
        part("shape", Role::LossShape, shape, mean.shape, step.shape),
        part("luck", Role::LossLuck, luck, Some(mean.luck), Some(step.luck)),
    ];
    let unsplit = |l: &Losses| Some(l.unsplit).filter(|u| *u != 0.0);
    if let (mean, step) = (unsplit(mean), unsplit(step))
        && (mean.is_some() || step.is_some())
    {
        parts.insert(4, part("unsplit", Role::LossKnowledge, knowledge, mean, step));
    }
    parts
}

/// Returns the title's summary: the number of searched steps, longest form first.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    let ladder = &state.history.averages.ladder;
    if ladder.steps() == 0 {
        return (Vec::new(), Role::Label);
    }
    let (searches, steps) = (ladder.searched_steps(), ladder.steps());
    if searches == 0 && state.look_every == 0 {
        return (vec!["o: enable oracle search".to_owned(), "o: search".to_owned()], Role::Label);
    }
    (
        vec![
            format!("drafted tokens per step; oracle searched {searches} of {steps} steps"),
            format!("oracle searched {searches} of {steps} steps"),
            format!("{searches} of {steps} searched"),
        ],
        Role::Label,
    )
}

/// Draws the ladder pane: bar, table, and main limit.
pub fn ladder(state: &State, pen: &mut Pen) {
    let averages = &state.history.averages;
    let shown = state.step().or_else(|| state.history.newest());
    let (Some(mean), Some(shown)) = (averages.ladder.losses(), shown) else {
        empty(pen, "losses of drafted tokens appear here");
        return;
    };
    let (width, height, glyphs) = (pen.width(), pen.height(), pen.glyphs());
    let step = Losses::of_step(&shown.record, shown.search_result.as_ref());
    let (accepted, one) = (averages.accepted_mean().unwrap_or(0.0), shown.record.accepted as f64);
    let parts = parts(&mean, &step, glyphs);
    let single = state.selected.is_some();
    if height < 8 {
        let shown: Vec<(&str, Role, Option<f64>)> =
            parts.iter().map(|p| (p.name, p.role, if single { p.step } else { p.mean })).collect();
        brief(state, &parts, &shown, if single { one } else { accepted }, single, pen);
        return;
    }
    let roomy = height >= 9;
    if roomy {
        let (reached, pick): (f64, fn(&LossRow) -> Option<f64>) =
            if single { (one, |p| p.step) } else { (accepted, |p| p.mean) };
        bar(&parts, reached, pick, &mut pen.part(1, 0, width.saturating_sub(2) as u16, 1));
    }
    let top = usize::from(roomy);
    // Right edges of the number columns.
    let (first, second, third) = if width >= 44 { (24, 33, 43) } else { (20, 28, 37) };
    pen.text(1, top, if width >= 44 { "tokens/step" } else { "tokens" }, Role::Label);
    pen.right(first, top, "mean", Role::Label);
    pen.right(second, top, "tok/s", Role::Label);
    let head = [format!("step {}", shown.record.step), format!("#{}", shown.record.step)];
    let head = head.iter().find(|h| h.len() < third - second).unwrap_or(&head[1]);
    pen.right(third, top, head, if single { Role::Notice } else { Role::Label });
    let steps_a_second = averages.steps as f64 / averages.time.total();
    let mut line = |y: usize,
                    name: &str,
                    (fill, role): (&str, Role),
                    values: [Option<f64>; 2],
                    write: fn(f64) -> String| {
        pen.rule(1, 3, y, fill, role);
        pen.text(4, y, name, role);
        let shown = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), write);
        let mark = write(0.0) == two(0.0);
        pen.right(first, y, &shown(values[0]), if mark { Role::Value } else { Role::Base });
        pen.right(second, y, &speed(values[0].map(|v| v * steps_a_second)), Role::Label);
        pen.right(third, y, &shown(values[1]), if single { Role::Value } else { Role::Base });
        // Meaning of the loss, if there is room.
        if let Some(words) = super::marks::meaning(name).filter(|_| width >= third + 30) {
            // The marks that the loss lies between are left out if the text is too long.
            let room = width - third - 4;
            let brief = words.split_once(": ").map_or(words, |w| w.1);
            let words = pen.shorten(if pen.measure(words) <= room { words } else { brief }, room);
            pen.text(third + 3, y, &words, Role::Label);
        }
    };
    // Marks with their values, losses as negative changes, so that each column adds up.
    line(
        top + 1,
        "B - 1",
        (" ", Role::GaugeCeiling),
        [Some(accepted + mean.total()), Some(one + step.total())],
        two,
    );
    let off = |loss: Option<f64>| loss.map(|l| -l);
    for (i, part) in parts.iter().enumerate() {
        line(
            top + 2 + i,
            part.name,
            (part.fill, part.role),
            [off(part.mean), off(part.step)],
            change,
        );
    }
    let y = top + 2 + parts.len();
    line(y, "accepted", (glyphs.losses[0], Role::GaugeAccepted), [Some(accepted), Some(one)], two);
    let (words, room) = (limits(state), height.saturating_sub(y + 1));
    let broken = |words: &String| super::help::wrap(words, width.saturating_sub(2));
    let fits = words.iter().map(broken).find(|lines| lines.len() <= room).unwrap_or_default();
    for (i, line) in fits.iter().enumerate() {
        pen.text(1, y + 1 + i, line, Role::Base);
    }
}

/// Draws the ladder with little room: the bar, and the losses one after another.
fn brief(
    state: &State,
    parts: &[LossRow],
    shown: &[(&str, Role, Option<f64>)],
    accepted: f64,
    single: bool,
    pen: &mut Pen,
) {
    let (width, height) = (pen.width(), pen.height());
    bar(
        parts,
        accepted,
        if single { |p| p.step } else { |p| p.mean },
        &mut pen.part(1, 0, width.saturating_sub(2) as u16, 1),
    );
    let (mut x, mut y) = (1, 1);
    for (name, role, value) in shown.iter().filter_map(|(n, r, v)| v.map(|v| (*n, *r, change(-v))))
    {
        if x > 1 && x + name.len() + value.len() + 2 > width {
            (x, y) = (1, y + 1);
        }
        if y >= height {
            return;
        }
        x = pen.text(x, y, name, role) + 1;
        x = pen.text(x, y, &value, Role::Base) + 2;
    }
    let words = limits(state);
    if let Some(line) =
        words.iter().find(|w| pen.measure(w) + 2 <= width).filter(|_| y + 1 < height)
    {
        pen.text(1, y + 1, line, Role::Base);
    }
}

/// Draws the stacked bar: accepted, then the losses up to B - 1.
///
/// A large budget loss is broken, so that the others remain visible. A negative loss takes no room.
fn bar(parts: &[LossRow], accepted: f64, pick: fn(&LossRow) -> Option<f64>, pen: &mut Pen) {
    let (width, glyphs) = (pen.width(), pen.glyphs());
    let positive = |v: f64| if v.is_finite() { v.max(0.0) } else { 0.0 };
    let mut segments = vec![(positive(accepted), glyphs.losses[0], Role::GaugeAccepted)];
    segments.extend(parts.iter().rev().map(|p| (positive(pick(p).unwrap_or(0.0)), p.fill, p.role)));
    let budget = segments.last().map_or(0.0, |s| s.0);
    let others: f64 = segments.iter().map(|s| s.0).sum::<f64>() - budget;
    let broken = budget > 0.8 * others && others > 0.0;
    let tail = if broken { width / 4 } else { 0 };
    let total = if broken { others } else { others + budget };
    if !(total > 0.0 && total.is_finite()) || width < 8 {
        return;
    }
    let room = (width - tail) as f64;
    let (mut sum, mut x) = (0.0, 0);
    let last = segments.len() - 1;
    for (i, (value, fill, role)) in segments.into_iter().enumerate() {
        sum += value;
        let end = if broken && i == last {
            width
        } else {
            ((sum / total * room).round() as usize).min(width)
        };
        pen.rule(x, end, 0, fill, role);
        if broken && i == last {
            pen.rule(x + tail / 2, x + tail / 2 + 2, 0, glyphs.change, Role::PlotAxis);
        }
        x = end;
    }
}

/// Returns the main limit in words, longest form first. Based on measurements only; empty while
/// there are too few.
pub fn limits(state: &State) -> Vec<String> {
    let averages = &state.history.averages;
    let Some(newest) = state.history.newest() else { return Vec::new() };
    let causes = averages.misses.causes();
    let total = causes.total();
    let losses =
        averages.ladder.losses().filter(|_| averages.ladder.searched_steps() >= MIN_SEARCHES);
    if total < FEWEST_MISSES {
        return if newest.record.tree.parents.len() > 1 {
            vec![format!(
                "too early to name the main limit ({total} rejection{})",
                if total == 1 { "" } else { "s" }
            )]
        } else {
            Vec::new()
        };
    }
    let part = |cause: MissCause| percent(causes.count_of(cause) as f64 / total as f64);
    let costs =
        |loss: Option<f64>| loss.map_or_else(String::new, |l| format!(", {} tokens/step", two(l)));
    let (knowledge, shape) = losses.map_or((None, None), |l| (l.knowledge, l.shape));
    // Decided by the losses if the oracle was searched, else by the causes of rejections.
    let by_shape = matches!((knowledge, shape), (Some(k), Some(s)) if s > k && s > SMALL);
    let most = |among: &[MissCause]| {
        among.iter().copied().max_by_key(|&c| causes.count_of(c)).unwrap_or(MissCause::Knowledge)
    };
    let main = match knowledge {
        Some(k) if k > SMALL => {
            most(&[MissCause::Ranking, MissCause::Vocabulary, MissCause::Knowledge])
        }
        Some(_) => most(&[MissCause::Budget, MissCause::Unlucky]),
        None => most(&MissCause::ALL),
    };
    let head = match main {
        _ if by_shape => {
            format!("shape{}: other trees of this drafter have a higher E[X|T]", costs(shape))
        }
        MissCause::Knowledge => {
            format!(
                "knowledge{}: the drafter did not propose {} of the missed tokens",
                costs(knowledge),
                part(main)
            )
        }
        MissCause::Vocabulary => {
            format!(
                "knowledge{}: {} of the missed tokens are outside the draft vocabulary",
                costs(knowledge),
                part(main)
            )
        }
        MissCause::Ranking => {
            format!(
                "knowledge{}: the drafter ranked {} of the missed tokens too low",
                costs(knowledge),
                part(main)
            )
        }
        MissCause::Budget => format!(
            "budget: the drafter knew {} of the missed tokens, but they did not fit",
            part(main)
        ),
        MissCause::Unlucky => {
            format!(
                "text: an oracle with this budget misses {} of the missed tokens too",
                part(main)
            )
        }
    };
    let short = match main {
        _ if by_shape => "limit: tree shape".to_owned(),
        MissCause::Knowledge => format!("knowledge: {} not proposed", part(main)),
        MissCause::Vocabulary => format!("knowledge: {} outside the vocabulary", part(main)),
        MissCause::Ranking => format!("knowledge: {} ranked too low", part(main)),
        MissCause::Budget => format!("budget: {} known, did not fit", part(main)),
        MissCause::Unlucky => format!("text: {} sampled from the tail", part(main)),
    };
    let curve = &averages.curve;
    let gain = curve
        .expected(curve.budget())
        .zip(curve.expected(curve.budget() / 2))
        .map(|(all, half)| all - half);
    let gain = gain
        .filter(|_| curve.budget() >= 4)
        .map(|g| format!("half the budget would lose {} tokens/step", two(g)));
    gain.into_iter().map(|g| format!("{head}; {g}")).chain([head.clone(), short]).collect()
}
