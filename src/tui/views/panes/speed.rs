//! Speed pane: tokens per second against plain decoding, time by stage, cost of passes.

use super::{Pen, empty};
use crate::telemetry::{BudgetReason, SpeedUp, StageTimes};
use crate::theory::intervals::Estimate;
use crate::theory::speed::BestSpeedUp;
use crate::tui::theme::{Glyphs, Role};
use crate::tui::views::number;
use crate::tui::views::plot::{Curve, HorizontalAxis, Plot, between, round_up};
use crate::tui::{State, Step};

/// Half-width of the speed-up's interval, relative to the speed-up, above which it counts as
/// uncertain.
const WIDE: f64 = 0.1;

/// Returns the speed-up over plain decoding with its interval, if known.
pub fn factor(state: &State) -> Option<Estimate> {
    state.history.averages.comparison.speed_up().filter(|found| found.value.is_finite())
}

/// Returns whether other processes keep the machine busy, which distorts times.
pub fn busy(state: &State) -> bool {
    state.load.is_some_and(|load| load.busy)
}

/// Returns whether an estimate has no interval yet, or a wide one.
pub fn uncertain(found: &Estimate) -> bool {
    found.interval.is_none_or(|interval| interval.high - interval.low > 2.0 * WIDE * found.value)
}

/// Returns the title's summary: the speed-up with its interval, longest form first.
pub fn summary(state: &State, glyphs: &Glyphs) -> (Vec<String>, Role) {
    let busy = if busy(state) { "; machine busy" } else { "" };
    match factor(state) {
        Some(found) => {
            let value = format!("{}{} plain decoding", glyphs.times, number::two(found.value));
            let interval = found.interval.filter(|interval| interval.low < interval.high);
            let range = interval.map_or_else(String::new, |i| {
                format!(" ({} to {})", number::two(i.low), number::two(i.high))
            });
            let role = match () {
                () if uncertain(&found) || !busy.is_empty() => Role::Label,
                () if found.value < 1.0 => Role::NodeRefused,
                () => Role::GaugeAccepted,
            };
            (vec![format!("{value}{range}{busy}"), format!("{value}{busy}"), value], role)
        }
        None => (vec!["plain decoding not timed yet".to_owned()], Role::Label),
    }
}

/// Draws the speed pane, with plots if there is room.
pub fn speed(state: &State, pen: &mut Pen) {
    let (width, height) = (pen.width(), pen.height());
    let averages = &state.history.averages;
    if averages.steps == 0 {
        empty(pen, "tokens per second appear here");
        return;
    }
    let items = [
        ("now", state.history.tokens_per_second_now(), Role::Value),
        ("mean", averages.tokens_per_second(), Role::Value),
        ("plain", state.plain, Role::Base),
        ("whole run", state.history.tokens_per_second_all(), Role::Base),
    ];
    let mut x = 1;
    for (label, value, role) in items {
        let value = format!("{:>5}", number::speed(value));
        if x + label.len() + 1 + value.len() + 7 > width && label != "now" {
            break;
        }
        x = pen.text(x, 0, label, Role::Label) + 1;
        x = pen.text(x, 0, &value, role) + 2;
    }
    pen.text(x - 1, 0, "tok/s", Role::Label);
    if height > 1 {
        bar(&averages.time, pen);
    }
    if width < 30 {
        return;
    }
    let mut y = 3;
    if height > y {
        let per_step = |seconds: f64| number::millis(seconds / averages.steps as f64);
        let t = &averages.time;
        let line = format!(
            "{} = draft {} + verify {} + other {}",
            per_step(t.total()),
            per_step(t.draft),
            per_step(t.verify),
            per_step(t.other)
        );
        let forms = [
            format!("ms per step  {line}"),
            format!("ms {line}"),
            format!(
                "{} ms: {} + {} + {}",
                per_step(t.total()),
                per_step(t.draft),
                per_step(t.verify),
                per_step(t.other)
            ),
        ];
        let line = forms.iter().find(|line| pen.measure(line) + 2 <= width).unwrap_or(&forms[2]);
        pen.text(1, y, &pen.shorten(line, width.saturating_sub(2)), Role::Label);
        y += 1;
    }
    for line in [chosen(state), passes(state, pen.glyphs()), limit(state, pen.glyphs())]
        .into_iter()
        .flatten()
    {
        if height > y {
            let line = line.iter().find(|l| pen.measure(l) + 2 <= width).or(line.last());
            pen.text(
                1,
                y,
                &pen.shorten(line.map_or("", String::as_str), width.saturating_sub(2)),
                Role::Base,
            );
            y += 1;
        }
    }
    // Memory is shown where a plot still fits below it.
    if let Some(line) = caches(state)
        && height >= y + 7
        && pen.measure(&line) + 2 <= width
    {
        pen.text(1, y, &line, Role::Label);
        y += 1;
    }
    // Plots take the remaining rows: by budget, and also by step if both fit.
    let (rest, gap) = (height.saturating_sub(y), usize::from(height >= y + 8));
    if rest < 5 {
        return;
    }
    let (top, rest) = ((y + gap) as u16, (rest - gap) as u16);
    let known = state.cost.is_some();
    match () {
        () if known && width >= 100 => {
            let half = width / 2;
            by_budget(state, &mut pen.part(0, top, half as u16, rest));
            by_step(state, &mut pen.part(half as u16, top, (width - half) as u16, rest));
        }
        () if known && rest >= 14 => {
            by_budget(state, &mut pen.part(0, top, width as u16, rest / 2));
            by_step(state, &mut pen.part(0, top + rest / 2 + 1, width as u16, rest - rest / 2 - 1));
        }
        () if known => by_budget(state, &mut pen.part(0, top, width as u16, rest)),
        () => by_step(state, &mut pen.part(0, top, width as u16, rest)),
    }
}

/// Returns the budget of the newest step, and whether it was chosen automatically.
fn verified(state: &State) -> Option<(usize, bool)> {
    let record = &state.step().or_else(|| state.history.newest())?.record;
    Some(match record.choice.filter(|_| record.settings.automatic()) {
        Some(choice) => (choice.kept + 1, true),
        None => (record.settings.budget, false),
    })
}

/// Returns the memory of the caches of keys and values in words, if known.
fn caches(state: &State) -> Option<String> {
    let bytes = state.info.cache_bytes;
    (bytes > 0).then(|| format!("key and value caches {:.0} MB", bytes as f64 / 1e6))
}

/// Returns the cost of a pass in words, longest form first.
fn passes(state: &State, glyphs: &Glyphs) -> Option<Vec<String>> {
    let (cost, (batch, _)) = (state.cost.as_ref()?, verified(state)?);
    let (one, here) = (cost.seconds(1), cost.seconds(batch));
    let ratio = format!("{} {} t(1)", number::two(here / one), glyphs.times);
    let short = format!("t({batch}) {} ms = {ratio}", number::millis(here));
    Some(vec![
        format!(
            "verify pass over 1 token {} ms, over {batch} tokens {} ms = {ratio}",
            number::millis(one),
            number::millis(here)
        ),
        short,
    ])
}

/// Returns the upper bounds on the speed-up in words, longest form first.
fn limit(state: &State, glyphs: &Glyphs) -> Option<Vec<String>> {
    let (averages, fluid) = (&state.history.averages, state.bound()?);
    let greedy = super::greedy(&state.history.newest()?.record);
    let steps = averages.steps.max(1) as f64;
    let drafting = (averages.time.draft / steps, averages.nodes as f64 / steps);
    let best = SpeedUp::compute(
        factor(state),
        state.cost.as_ref(),
        &fluid.curve,
        &averages.curve,
        drafting,
    );
    let times =
        |b: BestSpeedUp| format!("{}{} at B {}", glyphs.times, number::two(b.speed_up), b.budget);
    let own = best.drafter.map(times)?;
    let ceiling = best.ceiling.filter(|_| !greedy).map(times);
    let short = format!("speed-up at most {own}");
    Some(match ceiling {
        Some(ceiling) => vec![
            format!("speed-up at most {own} with this drafter, {ceiling} with a free, perfect one"),
            format!("speed-up at most {own}; {ceiling} if free and perfect"),
            short,
        ],
        None => vec![format!("speed-up at most {own} with this drafter"), short],
    })
}

/// Returns the decision of the automatic budget and its reason in words, longest form first.
pub fn chosen(state: &State) -> Option<Vec<String>> {
    let choice = state.step().or_else(|| state.history.newest())?.record.choice?;
    let (kept, drafted) = (choice.kept, choice.drafted);
    let promise = number::speed(Some(choice.tokens_per_second));
    let plain = number::speed(Some(choice.plain_tokens_per_second));
    Some(match choice.reason {
        BudgetReason::Whole => vec![
            format!(
                "auto: verifies all {drafted} drafted tokens: {promise} tok/s expected, plain {plain} tok/s"
            ),
            format!("auto: all {drafted}: {promise} tok/s, plain {plain}"),
        ],
        BudgetReason::Cut => vec![
            format!(
                "auto: verifies {kept} of {drafted} drafted tokens: {promise} tok/s expected, plain {plain} tok/s; more would be slower"
            ),
            format!("auto: verifies {kept} of {drafted}: {promise} tok/s, plain {plain}"),
            format!("auto: {kept} of {drafted}: {promise} tok/s"),
        ],
        BudgetReason::NotWorth => vec![
            format!(
                "auto: verifies none of {drafted} drafted tokens, too slow: plain decoding, {plain} tok/s"
            ),
            format!("auto: none of {drafted} verified, too slow"),
        ],
        BudgetReason::NothingDrafted => {
            vec![
                "auto: nothing drafted, plain decoding".to_owned(),
                "auto: nothing drafted".to_owned(),
            ]
        }
        BudgetReason::Resting => vec![
            format!("auto: back-off, drafting was slower than plain decoding ({plain} tok/s)"),
            "auto: back-off, drafting was slower".to_owned(),
        ],
    })
}

/// Plots by budget: the cost of a pass, and the resulting tokens per second.
///
/// The latter follows from the mean of E\[X | T\] at each budget, with drafting and other work
/// taking their measured mean times.
fn by_budget(state: &State, pen: &mut Pen) {
    let (Some(cost), Some((batch, auto))) = (state.cost.as_ref(), verified(state)) else { return };
    let averages = &state.history.averages;
    let n = averages.steps.max(1) as f64;
    let (curve, rest) = (&averages.curve, (averages.time.draft + averages.time.other) / n);
    let expected: Vec<f64> = (1..=curve.budget()).map_while(|b| curve.expected(b)).collect();
    let measured = cost.points().last().map_or(1, |p| p.0);
    let most = measured.max(curve.budget()).max(2);
    let seconds = |b: f64| {
        let (low, high) = (cost.seconds(b.floor() as usize), cost.seconds(b.floor() as usize + 1));
        Some((low + (high - low) * b.fract()) * 1e3)
    };
    let rate = |b: f64| Some((1.0 + between(&expected, b)?) / (seconds(b)? / 1e3 + rest));
    let plain = |_: f64| state.plain;
    let mark = format!("B {batch}{}", if auto { " (auto)" } else { "" });
    let halves = pen.width() >= 64;
    let (width, height) = (pen.width(), pen.height());
    let (left, right) = if halves { (width / 2, width - width / 2) } else { (width, 0) };
    let mut cost_pen = pen.part(0, 0, left as u16, height as u16);
    let forms = [
        format!("t(B): ms per verify pass; {mark}"),
        format!("ms per pass; {mark}"),
        "ms per pass".to_owned(),
    ];
    let room = left.saturating_sub(2);
    let title = forms.iter().find(|form| cost_pen.measure(form) <= room).unwrap_or(&forms[2]);
    cost_pen.text(1, 0, &cost_pen.shorten(title, room), Role::Label);
    let top = round_up(seconds(most as f64).unwrap_or(1.0));
    let curves = [Curve {
        labels: vec![],
        letter: "t",
        role: Role::TimeVerify,
        dashed: false,
        until: None,
        value: &seconds,
    }];
    let plot = Plot {
        across: HorizontalAxis::Budgets,
        most,
        top,
        places: usize::from(top < 4.0),
        mark: Some(batch),
        curves: &curves,
    };
    plot.draw(&mut cost_pen.part(0, 1, left as u16, height.saturating_sub(1) as u16));
    if !halves {
        return;
    }
    let mut rate_pen = pen.part(left as u16, 0, right as u16, height as u16);
    rate_pen.text(
        1,
        0,
        &rate_pen.shorten("tokens per second by B", right.saturating_sub(2)),
        Role::Label,
    );
    let best = (1..=curve.budget())
        .filter_map(|b| rate(b as f64))
        .chain(state.plain)
        .filter(|r| r.is_finite())
        .fold(1.0, f64::max);
    let curves = [
        Curve {
            labels: vec!["tok/s".to_owned()],
            letter: "#",
            role: Role::GaugeAccepted,
            dashed: false,
            until: None,
            value: &rate,
        },
        Curve {
            labels: vec!["plain".to_owned()],
            letter: "-",
            role: Role::PlotMean,
            dashed: true,
            until: None,
            value: &plain,
        },
    ];
    let plot = Plot {
        across: HorizontalAxis::Budgets,
        most: curve.budget().max(2),
        top: round_up(best * 1.05),
        places: 0,
        mark: Some(batch),
        curves: &curves,
    };
    plot.draw(&mut rate_pen.part(0, 1, right as u16, height.saturating_sub(1) as u16));
}

/// Plots tokens per second by step, with plain decoding as a horizontal line.
fn by_step(state: &State, pen: &mut Pen) {
    let (width, height, glyphs) = (pen.width(), pen.height() - 1, pen.glyphs());
    pen.text(1, 0, "tokens per second by step; line: plain decoding", Role::Label);
    let axis = 6;
    let columns = width.saturating_sub(axis + 1);
    let steps: Vec<_> = state.history.steps_back_from(state.selected).take(columns).collect();
    let rate = |step: &Step| {
        let rate = step.record.emitted.len() as f64 / step.record.time.total();
        if rate.is_finite() { rate.max(0.0) } else { 0.0 }
    };
    let highest = steps.iter().map(|s| rate(s)).fold(state.plain.unwrap_or(0.0), f64::max);
    // Rounded up to a multiple of 50, so that the axis seldom moves.
    let top = ((highest / 50.0).ceil() * 50.0).max(50.0);
    pen.right(axis - 1, 1, &format!("{top:.0}"), Role::PlotAxis);
    pen.right(axis - 1, height, "0", Role::PlotAxis);
    for y in 1..=height {
        pen.text(axis - 1, y, glyphs.vline, Role::PlotAxis);
    }
    if let Some(plain) = state.plain {
        let y = height - ((plain / top * height as f64) as usize).min(height - 1);
        pen.rule(axis, axis + columns, y, glyphs.line, Role::PlotMean);
    }
    for (i, step) in steps.iter().rev().enumerate() {
        let eighths =
            ((rate(step) / top * (8 * height) as f64).round() as usize).clamp(1, 8 * height);
        let role = match step {
            _ if state.selected == Some(step.number) => Role::Notice,
            step if step.changed => Role::PlotChange,
            _ => Role::Plot,
        };
        for r in 0..eighths.div_ceil(8) {
            pen.text(axis + i, height - r, glyphs.level(eighths - 8 * r), role);
        }
    }
}

/// Draws the fractions of time by stage as one bar, with labels below.
fn bar(time: &StageTimes, pen: &mut Pen) {
    let width = pen.width().saturating_sub(2);
    let total = time.total();
    if !(total > 0.0 && total.is_finite()) || width == 0 {
        return;
    }
    let parts = [
        ("draft", time.draft, Role::TimeDraft),
        ("verify", time.verify, Role::TimeVerify),
        ("other", time.other, Role::TimeOther),
    ];
    let (mut x, mut sum, mut word) = (0, 0.0, 1);
    for (i, (label, seconds, role)) in parts.into_iter().enumerate() {
        sum += seconds;
        let end = ((sum / total * width as f64).round() as usize).min(width);
        let fill = pen.glyphs().fills[i];
        pen.rule(1 + x, 1 + end, 1, fill, role);
        x = end;
        word = pen.text(word, 2, fill, role) + 1;
        word = pen.text(word, 2, label, Role::Label) + 1;
        word = pen.text(word, 2, &format!("{:>3}", number::percent(seconds / total)), Role::Base)
            + 1
            + usize::from(width > 40);
    }
}
