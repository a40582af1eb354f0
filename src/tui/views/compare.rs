//! Rendering of the `speclight compare` screen: two lanes side by side, with their differences
//! below.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::flow::Flow;
use super::number::{self, change, percent, two};
use super::pen::Pen;
use super::{MIN_SCREEN, panes};
use crate::study::compare::{PairedMean, Pairing, TextTrace, TokenOrigin};
use crate::telemetry::Losses;
use crate::theory::intervals::Estimate;
use crate::tui::theme::{Role, Theme};
use crate::tui::{COMPARE_KEYS, Compare, Lane, Phase, RunState};

/// Number of steps below which a lane's means are not shown.
const MIN_STEPS: usize = 3;
/// Minimum screen widths for two and for three columns below the lanes.
const COLUMNS: [usize; 2] = [76, 108];

/// Draws the comparison screen into a buffer.
pub fn draw_compare(state: &Compare, theme: &Theme, area: Rect, buf: &mut Buffer) {
    let mut pen = Pen::new(buf, theme, area);
    pen.clear(Role::Base);
    if area.width < MIN_SCREEN.0 || area.height < MIN_SCREEN.1 {
        panes::too_small(&mut pen);
        return;
    }
    let (width, height) = (area.width, area.height);
    let head = if height < 16 { 1 } else { 2 };
    let below = match height {
        ..16 => 3,
        16..32 => 8,
        32..50 => 12,
        _ => 16,
    };
    header(state, &mut pen.part(0, 0, width, head));
    let rows = height - head - below - 1;
    let half = (width - 1) / 2;
    lane(state, 0, &mut pen.part(0, head, half, rows));
    panes::divider(&mut pen.part(half, head, 1, rows));
    lane(state, 1, &mut pen.part(half + 1, head, width - half - 1, rows));
    apart(state, &mut pen.part(0, head + rows, width, below));
    footer(state, &mut pen.part(0, height - 1, width, 1));
    if let Phase::Loading(what, done) = &state.phase {
        panes::loading(what, *done, &mut pen);
    }
}

/// Draws the header: model, run state, prompt, and pairing.
fn header(state: &Compare, pen: &mut Pen) {
    let glyphs = pen.glyphs();
    let (word, role) = match (&state.phase, state.motion) {
        (Phase::Loading(..), _) => ("loading".to_owned(), Role::StatePaused),
        (Phase::Finished, _) => ("finished".to_owned(), Role::StatePaused),
        (_, RunState::Live) => (format!("{} live", glyphs.live), Role::StateLive),
        (_, RunState::Pausing) => (format!("{} pausing", glyphs.paused), Role::StatePaused),
        (_, RunState::Paused) => (format!("{} paused", glyphs.paused), Role::StatePaused),
        (_, RunState::Resuming) => (format!("{} resuming", glyphs.live), Role::StateLive),
    };
    let (info, width) = (&state.info, pen.width());
    let end = width.saturating_sub(pen.measure(&word) + 3);
    let model = if info.model.is_empty() {
        "speclight compare".to_owned()
    } else {
        pen.shorten(&info.model, end.saturating_sub(2))
    };
    let items = vec![
        ("", model, Role::Header, 0),
        ("", info.quantisation.clone(), Role::Base, 1),
        ("", info.device.clone(), Role::Base, 2),
    ];
    panes::items(pen, 0, end, items);
    pen.right(width.saturating_sub(1), 0, &format!(" {word} "), role);
    let prompt = if info.prompts.is_empty() {
        String::new()
    } else {
        format!("{}/{}", state.prompt + 1, info.prompts.len())
    };
    let (long, short) = match state.pairing {
        Pairing::Positions => ("same text: steps paired by position", "same text"),
        Pairing::Prompts => {
            ("different distributions or seeds: prompts paired as a whole", "texts differ")
        }
    };
    let paired = if width >= 100 { long } else { short };
    let plain = state
        .plain
        .map(|plain| format!("{} tokens/s", number::speed(Some(plain))))
        .unwrap_or_default();
    let items = vec![
        ("prompt", prompt, Role::Header, 0),
        ("", paired.to_owned(), Role::Base, 1),
        ("plain decoding", plain, Role::Base, 2),
    ];
    panes::items(pen, 1, width.saturating_sub(1), items);
}

/// Draws the footer: the notice if there is one, else the keys.
fn footer(state: &Compare, pen: &mut Pen) {
    let width = pen.width();
    if let Some(notice) = &state.notice {
        let text = pen.shorten(&notice.text, width.saturating_sub(2));
        pen.text(1, 0, &text, Role::Notice);
        return;
    }
    let mut x = 1;
    for (key, name) in COMPARE_KEYS {
        let name = if key == "space" && state.motion.still() { "resume" } else { name };
        if x + key.len() + 1 + name.len() < width {
            x = pen.text(x, 0, key, Role::FooterKey) + 1;
            x = pen.text(x, 0, name, Role::FooterText) + 2;
        }
    }
}

/// Draws a rule with a name on it, and with `words` if they fit.
fn title(pen: &mut Pen, name: &str, words: &str) {
    let (line, width) = (pen.glyphs().line, pen.width());
    pen.rule(0, width, 0, line, Role::Frame);
    let name = pen.shorten(name, width.saturating_sub(4));
    let x = pen.text(1, 0, &format!(" {name} "), Role::TitleFocus);
    let room = width.saturating_sub(x + 2);
    if room >= 8 && !words.is_empty() {
        let words = pen.shorten(words, room);
        pen.text(x, 0, &format!("{words} "), Role::Label);
    }
}

/// Draws a lane: last step, means, and text colored by each token's origin.
fn lane(state: &Compare, number: usize, pen: &mut Pen) {
    let lane = &state.lanes[number];
    let (width, height) = (pen.width(), pen.height());
    title(pen, &lane.name, &lane.words);
    let figures = match height {
        ..7 => 1,
        7..10 => 2,
        _ => 3,
    };
    means(state, lane, figures, &mut pen.part(0, 1, width as u16, figures as u16));
    let top = 1 + figures + usize::from(height >= 14);
    let course = lane.side.course();
    text(
        state,
        course,
        &mut pen.part(0, top as u16, width as u16, height.saturating_sub(top) as u16),
    );
}

fn means(state: &Compare, lane: &Lane, rows: usize, pen: &mut Pen) {
    let (width, m) = (pen.width(), &lane.means);
    let early = m.steps < MIN_STEPS;
    let known = |value: String| if early { "-".to_owned() } else { value };
    let tokens = ("tokens/step", known(two(m.tokens_per_step)), Role::GaugeAccepted, 0);
    let speed = ("tokens/s", number::speed(m.tokens_per_second.filter(|_| !early)), Role::Value, 1);
    if rows == 1 {
        panes::items(pen, 0, width, vec![tokens, speed]);
        return;
    }
    step(lane, pen);
    let expected = ("E[X|T]", known(two(m.expected_accepted_mean)), Role::GaugeExpected, 2);
    let fluid = m.ceilings.fluid.filter(|fluid| *fluid > 0.0 && !early);
    // If greedy, the ceiling is B - 1.
    let of = if lane.settings.sampling().greedy() { "of B - 1" } else { "of fluid" };
    let share = fluid.map_or(String::new(), |fluid| {
        format!("{} {of}", percent(m.expected_accepted_mean / fluid))
    });
    let share = ("", share, Role::GaugeFluid, 3);
    if rows == 2 {
        panes::items(pen, 1, width, vec![tokens, expected, share, speed]);
        return;
    }
    let draft = if m.time.total() > 0.0 && !early {
        percent(m.time.draft / m.time.total())
    } else {
        String::new()
    };
    panes::items(pen, 1, width, vec![tokens, expected, ("drafting", draft, Role::TimeDraft, 3)]);
    let factor =
        m.tokens_per_second.zip(state.plain).filter(|_| !early).map(|(now, plain)| now / plain);
    let of_plain = if width < 46 { "" } else { " plain" };
    let factor = factor.map_or(String::new(), |factor| {
        format!("{} {}{of_plain}", pen.glyphs().times, two(factor))
    });
    panes::items(pen, 2, width, vec![speed, ("", factor, Role::Base, 4), share]);
}

/// Draws the last step: one glyph per accepted token.
fn step(lane: &Lane, pen: &mut Pen) {
    let Some(record) = &lane.last else { return };
    let (width, glyphs) = (pen.width(), pen.glyphs());
    let mut x = pen.text(1, 0, &format!("step {}", record.step), Role::Label) + 1;
    let words =
        format!("{} of {} accepted", record.accepted, record.tree.parents.len().saturating_sub(1));
    let end = width.saturating_sub(words.len() + 2);
    for depth in 1..=record.accepted {
        if x + 2 < end {
            x = pen.text(x, 0, glyphs.accepted, Role::accepted(depth));
        }
    }
    if x < end {
        pen.text(x, 0, glyphs.bonus, Role::TokenBonus);
        pen.right(width.saturating_sub(1), 0, &words, Role::Base);
    }
}

fn role(place: &TokenOrigin) -> Role {
    match place {
        TokenOrigin::Taken(depth) => Role::accepted(*depth),
        TokenOrigin::Refused(_) | TokenOrigin::Bonus(Some(_)) => Role::TokenBonus,
        TokenOrigin::Bonus(None) => Role::TokenPlain,
    }
}

/// Draws the end of the text, as much as fits.
fn text(state: &Compare, course: Option<&TextTrace>, pen: &mut Pen) {
    let Some(course) = course else {
        panes::empty(pen, "generated text appears here");
        return;
    };
    let (glyphs, sign, mut flow) = (pen.glyphs(), pen.style(Role::Invisible), Flow::default());
    if let Some(prompt) = state.info.prompts.get(course.prompt) {
        flow.push(prompt, glyphs, pen.style(Role::TokenPrompt), sign);
        flow.push("\n", glyphs, pen.style(Role::TokenPrompt), sign);
    }
    for (text, place) in course.texts.iter().zip(&course.origins) {
        flow.push(text, glyphs, pen.style(role(place)), sign);
    }
    let (width, height) = (pen.width().saturating_sub(2).max(1), pen.height());
    let lines = flow.lines(width);
    for (y, line) in lines[lines.len().saturating_sub(height)..].iter().enumerate() {
        flow.draw(*line, y, 1 + width, pen);
    }
}

/// Draws the differences between the lanes.
fn apart(state: &Compare, pen: &mut Pen) {
    let (width, height) = (pen.width() as u16, pen.height() as u16);
    let [a, b] = &state.lanes;
    let prompts = a.side.courses.len();
    title(
        pen,
        &format!("{} - {}", b.name, a.name),
        &format!("over {prompts} {}", if prompts == 1 { "text" } else { "texts" }),
    );
    let body = height - 1;
    let columns = 1 + COLUMNS.iter().filter(|least| usize::from(width) >= **least).count();
    if columns == 1 || body < 5 {
        let rows = if body > 2 { body - 1 } else { 1 };
        table(state, &mut pen.part(0, 1, width, rows));
        latest(state, &mut pen.part(0, 1 + rows, width, body - rows));
        return;
    }
    let wide = if width >= 140 { 58 } else { 49 };
    table(state, &mut pen.part(0, 1, wide, body));
    let mut x = wide;
    if columns == 3 {
        ladder(state, &mut pen.part(x, 1, 28, body));
        x += 28;
    }
    latest(state, &mut pen.part(x, 1, width - x, body));
}

/// Formats an estimate and its interval with `write`.
fn written(e: &Estimate, write: impl Fn(f64) -> String) -> String {
    match e.interval {
        Some(i) => format!("{} [{}, {}]", write(e.value), write(i.low), write(i.high)),
        None => format!("{} too early", write(e.value)),
    }
}

/// Draws the table of differences with their intervals.
fn table(state: &Compare, pen: &mut Pen) {
    let Some(d) = &state.differences else {
        panes::empty(pen, "differences between the lanes appear here");
        return;
    };
    type Write = fn(f64) -> String;
    let (fine, coarse): ([Write; 2], [Write; 2]) =
        ([two, change], [|x| number::speed(Some(x)), |x| format!("{x:+.1}")]);
    let rows: [(&str, &PairedMean, [Write; 2]); 4] = [
        ("tokens/step", &d.tokens_per_step, fine),
        ("E[X|T]", &d.expected_accepted, fine),
        ("accepted", &d.accepted, fine),
        ("tokens/s", &d.tokens_per_second, coarse),
    ];
    let [a, b] = &state.lanes;
    let mut y = 0;
    if pen.height() >= 6 {
        pen.right(19, 0, &pen.shorten(&a.name, 6), Role::Title);
        pen.right(26, 0, &pen.shorten(&b.name, 6), Role::Title);
        pen.text(27, 0, "difference [95%]", Role::Label);
        y = 1;
    }
    for (name, q, [value, difference]) in rows {
        pen.text(1, y, name, Role::Label);
        pen.right(19, y, &value(q.a), Role::Base);
        pen.right(26, y, &value(q.b), Role::Base);
        let line = pen.shorten(&written(&q.difference, difference), pen.width().saturating_sub(27));
        pen.text(
            27,
            y,
            &line,
            if q.difference.interval.is_some() { Role::Value } else { Role::Label },
        );
        y += 1;
    }
    if state.pairing == Pairing::Prompts {
        pen.text(1, y, "texts differ: prompts paired as a whole", Role::Label);
    } else {
        let o = &state.outcomes;
        let (only_a, only_b) = (o.taken.refused + o.taken.bonus, o.refused.taken + o.bonus.taken);
        let x = pen.text(1, y, "accepted by", Role::Label) + 1;
        let [a, b] = [a, b].map(|lane| pen.shorten(&lane.name, 6));
        let line = format!("both {}, {a} {only_a}, {b} {only_b} of {}", o.taken.taken, o.positions);
        pen.text(x, y, &pen.shorten(&line, pen.width().saturating_sub(x + 1)), Role::Base);
    }
    let speed = format!("{} {}", pen.glyphs().times, written(&d.speed, two));
    pen.text(1, y + 1, "speed", Role::Label);
    pen.text(27, y + 1, &pen.shorten(&speed, pen.width().saturating_sub(27)), Role::Value);
}

/// Draws the mean losses of both lanes.
fn ladder(state: &Compare, pen: &mut Pen) {
    let [a, b] = &state.lanes;
    pen.text(1, 0, "ladder", Role::Label);
    pen.right(19, 0, &pen.shorten(&a.name, 6), Role::Title);
    pen.right(26, 0, &pen.shorten(&b.name, 6), Role::Title);
    type Part = fn(&Losses) -> Option<f64>;
    let losses: [(&str, Role, Part); 5] = [
        ("budget", Role::LossBudget, |l| l.budget),
        ("context", Role::LossContext, |l| l.context),
        ("knowledge", Role::LossKnowledge, |l| l.knowledge),
        ("shape", Role::LossShape, |l| l.shape),
        ("unsplit", Role::LossKnowledge, |l| Some(l.unsplit)),
    ];
    let mut row = |y: usize, name: &str, role: Role, values: [Option<f64>; 2]| {
        pen.text(1, y, name, role);
        for (end, value) in [19, 26].into_iter().zip(values) {
            pen.right(end, y, &number::two_or_dash(value), Role::Base);
        }
    };
    let some = |lane: &Lane, value: f64| Some(value).filter(|_| lane.means.steps > 0);
    let both = |of: &dyn Fn(&Lane) -> Option<f64>| [of(a), of(b)];
    row(1, "B - 1", Role::GaugeCeiling, both(&|lane| some(lane, lane.means.ceilings.batch)));
    for (i, (name, role, of)) in losses.into_iter().enumerate() {
        row(
            2 + i,
            name,
            role,
            both(&|lane| of(&lane.means.losses).filter(|_| lane.means.steps > 0)),
        );
    }
    row(
        7,
        "E[X|T]",
        Role::GaugeExpected,
        both(&|lane| some(lane, lane.means.expected_accepted_mean)),
    );
    row(8, "luck", Role::LossLuck, both(&|lane| some(lane, lane.means.losses.luck)));
    row(9, "accepted", Role::GaugeAccepted, both(&|lane| some(lane, lane.means.accepted_mean)));
}

/// Draws the latest positions that only one lane accepted, newest first.
fn latest(state: &Compare, pen: &mut Pen) {
    if state.pairing == Pairing::Prompts || pen.height() == 0 {
        return;
    }
    let [a, b] = &state.lanes;
    let (Some(of_a), Some(of_b)) = (a.side.course(), b.side.course()) else { return };
    let mut y = 0;
    if pen.height() >= 4 {
        pen.text(1, 0, "accepted by one lane only", Role::Label);
        y = 1;
    }
    let common = of_a.origins.len().min(of_b.origins.len());
    for at in (0..common).rev() {
        if y >= pen.height() {
            return;
        }
        let (taker, depth, missed) =
            match (of_a.origins[at].accepted_depth(), of_b.origins[at].accepted_depth()) {
                (Some(depth), None) => (a, depth, &of_b.origins[at]),
                (None, Some(depth)) => (b, depth, &of_a.origins[at]),
                _ => continue,
            };
        disagreement(of_a, at, taker, depth, missed, y, pen);
        y += 1;
    }
}

/// Draws one such position: accepting lane, text up to it, and cause of the miss.
fn disagreement(
    course: &TextTrace,
    at: usize,
    taker: &Lane,
    depth: usize,
    missed: &TokenOrigin,
    y: usize,
    pen: &mut Pen,
) {
    let width = pen.width();
    let name = pen.shorten(&taker.name, 6);
    let mut x = pen.text(1, y, &name, Role::Title);
    x = pen.text(x, y, &format!(" d{depth} "), Role::accepted(depth));
    let (why, why_role) = match missed.miss() {
        Some(miss) => (miss.cause.name(), panes::cause_role(miss.cause)),
        None => ("nothing drafted", Role::Label),
    };
    let end = width.saturating_sub(why.len() + 2);
    if end <= x + 4 {
        return;
    }
    let token = panes::token(course.names.get(at).map_or("", |name| name), pen, end - x);
    let room = end.saturating_sub(x + pen.measure(&token));
    let mut before = course.text_before(at, room);
    // Characters may be wider than one cell.
    while pen.measure(&before) > room {
        before.remove(0);
    }
    x = pen.text(x, y, &before, Role::Label);
    pen.text(x, y, &token, Role::accepted(depth));
    pen.right(width.saturating_sub(1), y, why, why_role);
}
