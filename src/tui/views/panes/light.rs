//! Speed-of-light bar: tokens per second, from 0 to the ceiling of this machine.
//!
//! The speed reached and the losses by cause stand end to end, and their lengths add up to the
//! ceiling. A negative loss (luck can be good) takes no room of its own; the losses beside it
//! shrink by as much.

use super::{Pen, empty, greedy};
use crate::draft::DrafterKind;
use crate::telemetry::LightLadder;
use crate::theory::cost::CostCurve;
use crate::tui::theme::{Glyphs, Role};
use crate::tui::views::number::{percent, two};
use crate::tui::views::ruler::{PlacedLabel, RulerMark, Side, place};
use crate::tui::{State, Step};

/// Loss, as a segment of the bar.
struct LossSegment {
    /// Names for the label, longest first.
    names: [&'static str; 3],
    meaning: &'static str,
    role: Role,
    fill: &'static str,
    value: f64,
}

/// Values of the bar, in tokens per second.
struct Reading<'a> {
    reached: f64,
    light: Option<f64>,
    /// Interval of the fraction reached, as fractions.
    interval: Option<(f64, f64)>,
    parts: Vec<LossSegment>,
    plain: Option<f64>,
    /// Speed if drafting took no time, in tokens per second.
    free: Option<f64>,
    /// Ceiling under the assumption that positions are independent.
    iid: Option<f64>,
    top: f64,
    best_budget: Option<usize>,
    /// Step shown; `None` for means.
    single: Option<&'a Step>,
    greedy: bool,
    sampled_trees: bool,
    nothing_drafted: bool,
    searched: usize,
}

/// Returns a value if it is finite.
fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|v| v.is_finite())
}

/// Formats tokens per second: no decimals from 99.5 up or below 0.05, else one.
fn rate(value: f64) -> String {
    match value {
        v if !v.is_finite() => "-".to_owned(),
        v if v.abs() < 99.5 && v.abs() >= 0.05 => format!("{v:.1}"),
        v => format!("{:.0}", v + 0.0),
    }
}

/// Formats a loss as a change: negative for a loss.
fn change(loss: f64, glyphs: &Glyphs) -> String {
    let minus = if glyphs.ascii { "-" } else { "\u{2212}" };
    match loss {
        l if l.abs() < 0.5 => "0".to_owned(),
        l if l > 0.0 => format!("{minus}{}", rate(l)),
        l => format!("+{}", rate(-l)),
    }
}

/// Returns the known losses, from the speed reached upward. A remainder up to `light` becomes an
/// unsplit part.
fn parts(
    ladder: &LightLadder,
    reached: f64,
    light: Option<f64>,
    glyphs: &Glyphs,
) -> Vec<LossSegment> {
    let [_, drafting, overhead, knowledge, shape, budget, luck, unsplit] = glyphs.light;
    let all = [
        (
            ["drafting time", "drafting", "draft"],
            ladder.drafting,
            Role::LightDrafting,
            drafting,
            "time spent drafting",
        ),
        (
            ["other time", "other", "oth"],
            ladder.overhead,
            Role::LightOverhead,
            overhead,
            "sampling, records, and the rest of the step",
        ),
        (
            ["drafter's knowledge", "knowledge", "know"],
            ladder.knowledge,
            Role::LightKnowledge,
            knowledge,
            "oracle trees against the drafter's best, at the verified sizes",
        ),
        (
            ["tree shape", "shape", "shape"],
            ladder.shape,
            Role::LightShape,
            shape,
            "the drafter's best trees against the drafted ones",
        ),
        (
            ["budget", "budget", "B"],
            ladder.budget,
            Role::LightBudget,
            budget,
            "the best size of each pass against the verified sizes",
        ),
        (
            ["luck", "luck", "luck"],
            ladder.luck,
            Role::LightLuck,
            luck,
            "expected against actual accepted length; 0 in the long run",
        ),
    ];
    let mut all = all;
    if ladder.shape.is_none() {
        all[2].0 = ["drafter's knowledge and tree shape", "knowledge and shape", "know"];
    }
    let mut parts: Vec<LossSegment> = (all.into_iter())
        .filter_map(|(names, value, role, fill, meaning)| {
            Some(LossSegment { names, meaning, role, fill, value: finite(value)? })
        })
        .collect();
    let known: f64 = parts.iter().map(|part| part.value).sum();
    let rest = light.map_or(0.0, |light| light - reached - known);
    if rest.abs() > 1e-6 * light.unwrap_or(1.0).abs() {
        let names = ["not split yet", "not split", "rest"];
        let meaning = "knowledge, shape, and budget together";
        parts.push(LossSegment {
            names,
            meaning,
            role: Role::LightKnowledge,
            fill: unsplit,
            value: rest,
        });
    }
    parts
}

/// Returns one step's ladder, the best rate in its context, and that rate's budget.
///
/// The latter two are `None` if the step's oracle tree was not searched.
fn of_step(step: &Step, cost: Option<&CostCurve>) -> (LightLadder, Option<f64>, Option<usize>) {
    let (record, time) = (&step.record, &step.record.time);
    let (expected, nodes) =
        (1.0 + record.expected_accepted, record.tree.tokens.len().saturating_sub(1));
    let marks = [
        (1.0 + record.accepted as f64) / time.total(),
        expected / time.total(),
        expected / (time.draft + time.verify),
        expected / time.verify,
    ];
    let gap = |upper: f64, lower: f64| Some(upper - lower).filter(|gap| gap.is_finite());
    let mut ladder = LightLadder {
        luck: gap(marks[1], marks[0]),
        overhead: gap(marks[2], marks[1]),
        drafting: gap(marks[3], marks[2]),
        ..LightLadder::default()
    };
    let oracle = match (&step.curve, step.search_result) {
        (Some(curve), _) => Some(curve.lower(nodes).max(record.expected_accepted)),
        (None, result) => result.map(|result| result.best_known_mass(record.expected_accepted)),
    };
    let oracle_mark = oracle.map(|oracle| (1.0 + oracle) / time.verify);
    let best_mark = step
        .search_result
        .and_then(|result| result.drafter_best)
        .map(|best| (1.0 + best) / time.verify);
    ladder.shape = best_mark.and_then(|best| gap(best, marks[3]));
    ladder.knowledge = oracle_mark.zip(best_mark).and_then(|(oracle, best)| gap(oracle, best));
    let best = step.curve.as_ref().zip(cost).and_then(|(curve, cost)| {
        let most = cost.points().last().map_or(1, |point| point.0).min(curve.mass.len());
        let at = |b: usize| ((1.0 + curve.lower(b - 1)) / cost.seconds(b), b);
        (1..=most)
            .map(at)
            .filter(|best| best.0.is_finite())
            .reduce(|a, b| if b.0 > a.0 { b } else { a })
    });
    let light = best.map(|best| best.0).or(oracle_mark);
    ladder.budget = light.zip(oracle_mark).and_then(|(light, oracle)| gap(light, oracle));
    (ladder, finite(light), best.map(|best| best.1))
}

fn reading<'a>(state: &'a State, glyphs: &Glyphs) -> Option<Reading<'a>> {
    let single = state.selected.and_then(|n| state.history.get(n));
    let step = single.or_else(|| state.history.newest())?;
    let record = &step.record;
    let (figures, light) = (&state.light.figures, &state.light);
    let (reached, ceiling, ladder, best_budget, free) = match single {
        Some(step) => {
            let (ladder, ceiling, best) = of_step(step, state.cost.as_ref());
            let time = &record.time;
            let tokens = 1.0 + record.accepted as f64;
            (
                tokens / time.total(),
                ceiling,
                ladder,
                best,
                Some(tokens / (time.verify + time.other)),
            )
        }
        None => {
            let mut ladder = figures.ladder;
            if light.known.is_none() {
                (ladder.budget, ladder.knowledge, ladder.shape) = (None, None, None);
            }
            (light.reached?, light.known, ladder, figures.best_budget, light.free)
        }
    };
    let reached = finite(Some(reached))?;
    let ceiling = ceiling.filter(|c| *c > 0.0);
    Some(Reading {
        reached,
        light: ceiling,
        interval: finite(figures.share_low)
            .zip(finite(figures.share_high))
            .filter(|_| single.is_none()),
        parts: parts(&ladder, reached, ceiling, glyphs),
        plain: finite(state.plain),
        free: finite(free).filter(|free| *free > 1.01 * reached),
        iid: finite(figures.iid_tokens_per_second)
            .filter(|_| single.is_none() && ceiling.is_none()),
        top: scale(light.top, reached, ceiling.filter(|_| single.is_some())),
        best_budget,
        single,
        greedy: greedy(record),
        sampled_trees: record.settings.samples_trees(),
        nothing_drafted: record.settings.drafter == DrafterKind::None
            || record.settings.budget <= 1,
        searched: figures.searched_steps,
    })
}

/// Returns the right end of the bar.
///
/// Single steps use the scale of the means, so that selecting a step does not move it. A step
/// beyond the scale gets its smallest sufficient multiple.
fn scale(top: f64, reached: f64, ceiling: Option<f64>) -> f64 {
    let most = reached.max(ceiling.unwrap_or(0.0));
    if !(top > 0.0 && top.is_finite()) {
        return 2.0 * most;
    }
    top * (most / top).ceil().max(1.0)
}

/// Text pieces with their roles.
type Words = Vec<(String, Role)>;

impl Reading<'_> {
    /// Returns the left part of the headline, longest form first.
    fn headline(&self, glyphs: &Glyphs) -> Vec<Words> {
        let now = format!("{} tok/s", rate(self.reached));
        let times = |v: f64| format!("{}{}", glyphs.times, two(v));
        let plain = self.plain.filter(|p| *p > 0.0).map(|plain| times(self.reached / plain));
        let with_plain = |mut words: Words, tail: &str| {
            let (text, role) = match &plain {
                Some(plain) => (format!("{plain}{tail}"), Role::Base),
                None => ("plain not timed yet".to_owned(), Role::Label),
            };
            words.push((text, role));
            words
        };
        if let Some(step) = self.single {
            let record = &step.record;
            let head = format!(
                "step {}: {} of {} accepted",
                record.step,
                record.accepted,
                record.tree.tokens.len().saturating_sub(1)
            );
            let share = self.light.map(|light| {
                format!("{} of this context's ceiling", percent(self.reached / light))
            });
            let short = self.light.map_or(now.clone(), |light| {
                format!("{now}, {} of its ceiling", percent(self.reached / light))
            });
            let step_head = (head, Role::Notice);
            return vec![
                [
                    Some(step_head.clone()),
                    Some((now.clone(), Role::Value)),
                    share.map(|s| (s, Role::Base)),
                ]
                .into_iter()
                .flatten()
                .collect(),
                vec![step_head, (short.clone(), Role::Value)],
                vec![(format!("step {}", record.step), Role::Notice), (short, Role::Value)],
                vec![(format!("step {}", record.step), Role::Notice), (now, Role::Value)],
            ];
        }
        let value = |text: String| (text, Role::Value);
        let Some(light) = self.light else {
            return vec![
                with_plain(vec![value(now.clone())], " plain"),
                with_plain(vec![value(now.clone())], ""),
                vec![value(now)],
            ];
        };
        let share = percent(self.reached / light);
        let head = (format!("{share} of the speed of light"), Role::LightReached);
        let short = (format!("{share} of light"), Role::LightReached);
        let mut forms = Vec::new();
        let spoken = value(format!("now {now}"));
        let nothing = self.nothing_drafted.then(|| ("nothing drafted".to_owned(), Role::Label));
        let around = self.interval.map(|(low, high)| {
            (format!("({} to {})", percent(low).trim_end_matches('%'), percent(high)), Role::Label)
        });
        for around in [around, None] {
            let words: Words = [Some(head.clone()), around.clone(), Some(spoken.clone())]
                .into_iter()
                .flatten()
                .collect();
            if let Some(nothing) = &nothing {
                forms.push(with_plain([words.clone(), vec![nothing.clone()]].concat(), " plain"));
            }
            forms.push(with_plain(words, " plain"));
            if let Some(around) = around {
                forms.push(with_plain(vec![head.clone(), around, value(now.clone())], ""));
            }
        }
        forms.push(with_plain(vec![head.clone(), value(now.clone())], ""));
        forms.push(with_plain(vec![head], ""));
        forms.push(with_plain(vec![short.clone(), value(now)], ""));
        forms.push(vec![short]);
        forms
    }

    /// Returns the headline's right part: the speed of light, or why it is unknown.
    fn aside(&self, state: &State, glyphs: &Glyphs) -> Vec<(String, Role)> {
        let forms =
            |texts: Vec<String>, role: Role| texts.into_iter().map(|text| (text, role)).collect();
        if let Some(light) = self.light {
            let name = if self.single.is_some() { "this context" } else { "light" };
            let base = format!("{name} {} tok/s", rate(light));
            let factor = self
                .plain
                .filter(|p| *p > 0.0)
                .map(|plain| format!(" {}{}", glyphs.times, two(light / plain)));
            let factor = factor.unwrap_or_default();
            let at = self.best_budget.map(|b| format!(" at B {b}")).unwrap_or_default();
            let how = match self.single {
                Some(_) => "",
                None if self.greedy => ": reading speed",
                None if self.sampled_trees => ": reading speed, if q = p",
                None => ", free drafting",
            };
            return forms(
                vec![
                    format!("{base} {}{at}{how}", factor.trim_start()),
                    format!("{base}{factor}"),
                    format!("{name} {}{factor}", rate(light)),
                ],
                Role::Light,
            );
        }
        if self.single.is_some() {
            return forms(
                vec!["oracle tree not searched".to_owned(), "not searched".to_owned()],
                Role::Label,
            );
        }
        if state.cost.is_none() {
            return forms(
                vec![
                    "speed of light: passes not timed yet".to_owned(),
                    "passes not timed yet".to_owned(),
                ],
                Role::Label,
            );
        }
        let steps = |n: usize| if n == 1 { "1 step".to_owned() } else { format!("{n} steps") };
        if self.searched == 0 && state.look_every == 0 {
            return forms(
                vec![
                    "o: enable search for the speed of light".to_owned(),
                    "o: enable search".to_owned(),
                ],
                Role::Label,
            );
        }
        forms(
            vec![
                format!(
                    "searching: too early for the speed of light ({} searched)",
                    steps(self.searched)
                ),
                format!("too early for the speed of light ({} searched)", self.searched),
                format!("searching: {}, too early", steps(self.searched)),
                format!("too early ({})", self.searched),
            ],
            Role::Label,
        )
    }

    /// Returns the marks below the bar, most important first: value, role, labels.
    fn marks(&self, width: usize) -> Vec<(f64, Role, Vec<String>)> {
        let named = |value: f64, name: &str| vec![format!("{} {name}", rate(value)), rate(value)];
        let mut marks = Vec::new();
        if let Some(light) = self.light {
            marks.push((light, Role::Light, vec![rate(light)]));
        }
        marks.push((self.reached, Role::LightReached, named(self.reached, "now")));
        if let Some(plain) = self.plain {
            marks.push((plain, Role::Base, named(plain, "plain")));
        }
        if let Some(free) = self.free.filter(|_| width >= 60) {
            let mut labels = named(free, "free drafting");
            labels.insert(0, format!("{} if drafting were free", rate(free)));
            marks.push((free, Role::LightDrafting, labels));
        }
        if let Some(iid) = self.iid {
            marks.push((iid, Role::Label, named(iid, "if positions were independent")));
        }
        marks
    }

    /// Returns the column after the last one of a length in tokens per second.
    fn column(&self, value: f64, width: usize) -> usize {
        let share = (value / self.top).clamp(0.0, 1.0);
        if share.is_finite() { (share * width as f64).round() as usize } else { 0 }
    }
}

/// Draws those of headline, bar, marks, and losses that fit.
///
/// Returns the number of rows used.
pub fn light(state: &State, focused: bool, pen: &mut Pen) -> usize {
    let glyphs = pen.glyphs();
    if focused {
        pen.text(0, 0, glyphs.focus, Role::TitleFocus);
    }
    let Some(reading) = reading(state, glyphs) else {
        let forms = [
            "tokens per second against this machine's speed of light appear here",
            "the speed of light appears here",
        ];
        let words = forms.iter().find(|words| words.len() + 2 <= pen.width()).unwrap_or(&forms[1]);
        empty(pen, words);
        return pen.height().min(1);
    };
    let (width, height) = (pen.width().saturating_sub(2), pen.height());
    head(&reading, state, pen);
    let thick = match height {
        0..=1 => return height,
        2..=4 => 1,
        5..=7 => 2,
        _ => 3,
    };
    bar(&reading, thick, &mut pen.part(1, 1, width as u16, thick as u16));
    if height <= 1 + thick {
        return height;
    }
    marks(&reading, &mut pen.part(1, (1 + thick) as u16, width as u16, 1));
    let below = 2 + thick;
    if height <= below {
        return height;
    }
    if height < below + 4 {
        losses(&reading, &mut pen.part(1, below as u16, width as u16, 1));
        return below + 1;
    }
    below
        + 1
        + table(
            &reading,
            &mut pen.part(0, (below + 1) as u16, pen.width() as u16, (height - below - 1) as u16),
        )
}

/// Draws the headline: its two parts in the longest forms that fit.
fn head(reading: &Reading, state: &State, pen: &mut Pen) {
    let (width, glyphs) = (pen.width().saturating_sub(2), pen.glyphs());
    let (lefts, mut rights) = (reading.headline(glyphs), reading.aside(state, glyphs));
    rights.push((String::new(), Role::Base));
    let gap = if width >= 100 { 3 } else { 2 };
    let long = |words: &Words| {
        words.iter().map(|w| pen.measure(&w.0)).sum::<usize>() + gap * words.len().saturating_sub(1)
    };
    // While the speed of light is unknown, the reason matters more than the speed-up, which the
    // marks show as well.
    let fits = |left: &Words, right: &(String, Role)| {
        let right = pen.measure(&right.0);
        long(left) + if right > 0 { right + gap } else { 0 } <= width
    };
    let pick = if reading.light.is_none() && reading.single.is_none() {
        rights
            .iter()
            .find_map(|right| lefts.iter().find(|left| fits(left, right)).map(|left| (left, right)))
    } else {
        // Once known, the speed of light takes precedence over longer forms of the left part, as
        // long as that keeps the speeds.
        let with = |wanted: bool, least: usize| {
            let mut rich = lefts.iter().filter(|left| left.len() >= least);
            rich.find_map(|left| {
                let mut all = rights.iter().filter(|right| !wanted || !right.0.is_empty());
                all.find(|right| fits(left, right)).map(|right| (left, right))
            })
        };
        with(true, 3).or_else(|| with(false, 0))
    };
    let Some((left, right)) = pick.or(lefts.last().zip(rights.last())) else { return };
    let mut x = 1;
    for (text, role) in left {
        x = pen.text(x, 0, text, *role) + gap;
    }
    if !right.0.is_empty() {
        pen.right(1 + width, 0, &right.0, right.1);
    }
}

/// Draws the bar, `rows` thick, over the whole width of the pen.
fn bar(reading: &Reading, rows: usize, pen: &mut Pen) {
    let (width, glyphs) = (pen.width(), pen.glyphs());
    let mut segments =
        vec![(reading.column(reading.reached, width), glyphs.light[0], Role::LightReached)];
    // Negative parts shorten their neighbors, so that the bar ends at the speed of light.
    let mut at =
        reading.reached + reading.parts.iter().map(|part| part.value.min(0.0)).sum::<f64>();
    for part in reading.parts.iter().filter(|part| part.value > 0.0) {
        at += part.value;
        segments.push((reading.column(at, width), part.fill, part.role));
    }
    let mut x = 0;
    for (end, fill, role) in segments {
        for y in 0..rows {
            pen.rule(x, end, y, fill, role);
        }
        x = x.max(end);
    }
    // The track is drawn only while the speed of light is unknown; otherwise nothing lies beyond
    // it.
    for y in 0..if reading.light.is_none() { rows } else { 0 } {
        pen.rule(x, width, y, glyphs.losses[5], Role::LightTrack);
    }
    if reading.reached > reading.top && width > 0 {
        pen.text(width - 1, 0, glyphs.beyond, Role::Notice);
    }
}

/// Draws the pointers and numbers below the bar.
fn marks(reading: &Reading, pen: &mut Pen) {
    let (width, glyphs) = (pen.width(), pen.glyphs());
    if width == 0 {
        return;
    }
    let marks = reading.marks(width);
    let mut placing: Vec<RulerMark> = Vec::with_capacity(marks.len());
    for (value, _, labels) in &marks {
        // Last column that the length fills.
        let own = reading.column(*value, width).clamp(1, width) - 1;
        let taken = placing.iter().find(|m| m.column.abs_diff(own) == 1);
        placing.push(RulerMark {
            column: taken.map_or(own, |m| m.column),
            side: Side::Below,
            labels: labels.clone(),
        });
    }
    let measure = |text: &str| pen.measure(text);
    let mut placed = place(&placing, Side::Below, 1, width, measure);
    // Less important labels are shortened first, until reached speed and plain decoding show their
    // names.
    let important =
        [usize::from(reading.light.is_some()), usize::from(reading.light.is_some()) + 1];
    let named = |placed: &[PlacedLabel]| {
        placed
            .iter()
            .filter(|p| important.contains(&p.mark) && Some(&p.text) == marks[p.mark].2.first())
            .count()
    };
    let wanted = important.iter().filter(|&&at| at < marks.len()).count();
    let first = placed.clone();
    for at in (important[1] + 1..marks.len()).rev() {
        while named(&placed) < wanted && placing[at].labels.len() > 1 {
            placing[at].labels.remove(0);
            placed = place(&placing, Side::Below, 1, width, measure);
        }
    }
    if named(&placed) < wanted && placed.len() <= first.len() {
        placed = first;
    }
    let mut zero = true;
    for label in &placed {
        let role = marks[label.mark].1;
        pen.text(placing[label.mark].column, 0, glyphs.up, role);
        pen.text(label.start, 0, &label.text, role);
        zero &= label.start > 1 && placing[label.mark].column > 1;
    }
    if zero {
        pen.text(0, 0, "0", Role::PlotAxis);
    }
}

/// Draws the losses in one line, in the longest names that fit. Small losses are dropped before
/// names are abbreviated.
fn losses(reading: &Reading, pen: &mut Pen) {
    let (width, glyphs) = (pen.width(), pen.glyphs());
    // Index of the name's form, and number of losses dropped.
    const FORMS: [(usize, usize); 12] = [
        (0, 0),
        (1, 0),
        (0, 1),
        (1, 1),
        (1, 2),
        (2, 0),
        (2, 1),
        (2, 2),
        (2, 3),
        (2, 4),
        (2, 5),
        (2, 6),
    ];
    let small = 0.04 * reading.light.unwrap_or(reading.top);
    let item = |part: &LossSegment, form: usize| {
        format!("{} {} {}", part.fill, part.names[form], change(part.value, glyphs))
    };
    let mut by_size: Vec<usize> = (0..reading.parts.len()).collect();
    by_size.sort_by(|&a, &b| reading.parts[a].value.abs().total_cmp(&reading.parts[b].value.abs()));
    let long = |chosen: &[usize], form: usize| {
        chosen
            .iter()
            .map(|&i| pen.measure(&item(&reading.parts[i], form)) + 2)
            .sum::<usize>()
            .saturating_sub(2)
    };
    let found = FORMS.into_iter().find_map(|(form, gone)| {
        let gone = &by_size[..gone.min(by_size.len())];
        let allowed = form == 2 || gone.iter().all(|&i| reading.parts[i].value.abs() < small);
        let chosen: Vec<usize> = (0..reading.parts.len()).filter(|i| !gone.contains(i)).collect();
        (allowed && long(&chosen, form) <= width).then_some((form, chosen))
    });
    let Some((form, chosen)) = found else { return };
    let gap = 2 + usize::from(width - long(&chosen, form) >= chosen.len());
    let mut x = 0;
    for i in chosen {
        let part = &reading.parts[i];
        let role = if part.value.abs() < 0.5 { Role::Label } else { part.role };
        x = pen.text(x, 0, part.fill, role) + 1;
        x = pen.text(x, 0, &format!("{} {}", part.names[form], change(part.value, glyphs)), role)
            + gap;
    }
}

/// Draws one line per loss, for a zoomed pane; returns the number of lines used.
fn table(reading: &Reading, pen: &mut Pen) -> usize {
    let (width, glyphs) = (pen.width(), pen.glyphs());
    let mut y = 0;
    let mut line = |pen: &mut Pen,
                    fill: &str,
                    name: &str,
                    value: String,
                    share: Option<f64>,
                    role: Role,
                    words: &str| {
        pen.rule(1, 3, y, fill, role);
        pen.text(4, y, name, role);
        pen.right(45, y, &value, Role::Value);
        pen.right(52, y, &share.map_or_else(String::new, percent), Role::Label);
        let words = pen.shorten(words, width.saturating_sub(56));
        pen.text(55, y, &words, Role::Label);
        y += 1;
    };
    if let Some(light) = reading.light {
        let words = "free, perfect drafter with the best size of each pass";
        line(
            pen,
            " ",
            "speed of light",
            format!("{} tok/s", rate(light)),
            Some(1.0),
            Role::Light,
            words,
        );
    }
    let whole = reading.light;
    // From the speed of light down.
    let order = [
        Role::LightBudget,
        Role::LightKnowledge,
        Role::LightShape,
        Role::LightDrafting,
        Role::LightOverhead,
        Role::LightLuck,
    ];
    for part in
        order.iter().flat_map(|role| reading.parts.iter().filter(move |part| part.role == *role))
    {
        line(
            pen,
            part.fill,
            part.names[0],
            change(part.value, glyphs),
            whole.map(|w| part.value / w),
            part.role,
            part.meaning,
        );
    }
    let words = "tokens emitted over the time spent in steps";
    let share = whole.map(|w| reading.reached / w);
    line(
        pen,
        glyphs.light[0],
        "reached",
        format!("{} tok/s", rate(reading.reached)),
        share,
        Role::LightReached,
        words,
    );
    if let Some(plain) = reading.plain {
        line(
            pen,
            " ",
            "plain",
            format!("{} tok/s", rate(plain)),
            whole.map(|w| plain / w),
            Role::Base,
            "one token per pass, measured on this machine",
        );
    }
    y
}
