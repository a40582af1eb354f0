//! Miss pane: why the step shown ended, with the best tokens of target and drafter side by side.

use super::misses::cause_role;
use super::{Pen, empty, greedy, token};
use crate::telemetry::{Miss, MissCause, OracleResult, RankedToken};
use crate::tui::theme::Role;
use crate::tui::views::number::{ordinal, percent, probability};
use crate::tui::{State, Step};

/// Returns the title's summary: the step and its cause, longest form first.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    let Some(step) = shown(state) else { return (Vec::new(), Role::Label) };
    let role = if state.selected.is_some() { Role::Notice } else { Role::Label };
    let Some((_, cause)) = cause(step) else {
        return (vec![format!("step {}", step.record.step)], role);
    };
    let sure = if step.search_result.is_some() { "" } else { "?" };
    (
        vec![
            format!("step {}: {}{sure}", step.record.step, cause.name()),
            format!("{}{sure}", cause.name()),
        ],
        role,
    )
}

fn shown(state: &State) -> Option<&Step> {
    state.step().or_else(|| state.history.newest())
}

/// Returns the miss of a step and its best known cause.
fn cause(step: &Step) -> Option<(&Miss, MissCause)> {
    let miss = step.record.miss.as_ref()?;
    Some((miss, step.search_result.map_or(miss.cause, |result| miss.cause_given_oracle(&result))))
}

/// Returns the cause in words, longest form first.
///
/// Without an oracle search, bad luck is inferred from the mean context.
fn reason(miss: &Miss, cause: MissCause, result: Option<&OracleResult>) -> Vec<String> {
    let choice = format!("target's {} choice", ordinal(miss.rank.saturating_add(1)));
    match cause {
        MissCause::Knowledge => {
            let best = miss.draft_best.first().map(|best| format!("; its best was {}", probability(best.probability).trim()));
            let best = best.unwrap_or_default();
            vec![format!("knowledge: the drafter did not propose the {choice}{best}"), format!("knowledge: the {choice} was not proposed"), "not proposed".into()]
        }
        MissCause::Vocabulary => vec![
            "vocabulary: the token is outside the draft vocabulary; this drafter can never propose it".into(),
            "vocabulary: outside the draft vocabulary".into(),
            "outside vocabulary".into(),
        ],
        MissCause::Ranking => {
            let rank = miss.draft_rank.map_or_else(String::new, |rank| format!(" as its {} choice", ordinal(rank.saturating_add(1))));
            vec![format!("ranking: the drafter proposed the {choice}{rank} only"), "ranking: ranked too low".into(), "ranked low".into()]
        }
        MissCause::Budget if miss.q.is_some() => vec![
            "budget: the drafter ranked it as high as the target, but the tree had no room for it".into(),
            "budget: proposed, no room in the tree".into(),
            "no room".into(),
        ],
        MissCause::Budget => vec![
            "budget: the tree ends here, and no more candidates were requested".into(),
            "budget: the tree ends here".into(),
            "tree ends".into(),
        ],
        MissCause::Unlucky if result.is_none() => vec![
            format!("unlucky, probably: path probability {}, less than an oracle tree needs on average", probability(miss.pi).trim()),
            format!("unlucky, probably: path probability {}, too low for an oracle tree", probability(miss.pi).trim()),
            "unlucky, probably: below an oracle tree's mean".into(),
            "unlucky?".into(),
        ],
        MissCause::Unlucky => vec![
            format!("unlucky: path probability {}: an oracle tree of this budget misses it, too", probability(miss.pi).trim()),
            "unlucky: an oracle misses it, too".into(),
            "unlucky".into(),
        ],
    }
}

/// Draws the miss of the step shown.
pub fn miss(state: &State, pen: &mut Pen) {
    let Some(step) = shown(state) else {
        empty(pen, "the token that each step missed appears here");
        return;
    };
    let (width, height) = (pen.width(), pen.height());
    let record = &step.record;
    let Some((miss, cause)) = cause(step) else {
        let why = match record.tree.parents.len() {
            0 | 1 => "nothing drafted, so nothing was missed",
            _ => "nothing missed: the text ended",
        };
        empty(pen, why);
        return;
    };
    // The missed token with p, q and both ranks.
    let text = token(&miss.text, pen, 16);
    let plain = miss.p_plain.filter(|_| greedy(record));
    let p = match plain {
        Some(plain) => format!("p(T=1) {}", probability(plain).trim()),
        None => format!("p {}", probability(miss.p).trim()),
    };
    let target = format!("{p}, target's {} choice", ordinal(miss.rank.saturating_add(1)));
    let drafter = match (miss.q, miss.draft_rank) {
        (Some(q), Some(rank)) => format!(
            "q {}, drafter's {} choice",
            probability(q).trim(),
            ordinal(rank.saturating_add(1))
        ),
        _ if cause == MissCause::Vocabulary || miss.outside_vocabulary == Some(true) => {
            "outside the draft vocabulary".to_owned()
        }
        _ if miss.asked => "not proposed by the drafter".to_owned(),
        _ => "drafter not asked".to_owned(),
    };
    let x = pen.text(1, 0, &text, Role::NodeBonus);
    let at = format!("missed at depth {}", miss.depth);
    let forms = [
        format!("{at}: {target}; {drafter}"),
        format!("{target}; {drafter}"),
        format!("{p}; {drafter}"),
        p.clone(),
    ];
    let room = width.saturating_sub(x + 2);
    let line = forms.iter().find(|line| pen.measure(line) <= room).unwrap_or(&forms[3]);
    pen.text(x + 1, 0, &pen.shorten(line, room), Role::Base);
    if height < 2 {
        return;
    }
    // The cause, in one or two rows at most.
    let reasons = reason(miss, cause, step.search_result.as_ref());
    let room = width.saturating_sub(2);
    let rows = usize::from(height >= 9) + 1;
    let wrapped = reasons
        .iter()
        .map(|words| super::help::wrap(words, room))
        .find(|lines| lines.len() <= rows);
    let lines = wrapped.unwrap_or_else(|| {
        reasons.last().map(|words| vec![pen.shorten(words, room)]).unwrap_or_default()
    });
    let mut y = 1;
    for line in &lines {
        pen.text(1, y, line, cause_role(cause));
        y += 1;
    }
    if height <= y + 1 {
        brief(miss, y, pen);
        return;
    }
    y += usize::from(height >= y + 8);
    lists(miss, plain.is_some(), y, pen);
}

/// Writes the best tokens one after another where there is only one row for them.
fn brief(miss: &Miss, y: usize, pen: &mut Pen) {
    let width = pen.width();
    if y >= pen.height() {
        return;
    }
    let mut x = 1;
    for (name, list) in [("target", &miss.target_best), ("drafter", &miss.draft_best)] {
        let end = if name == "target" { width / 2 } else { width };
        x = pen.text(if name == "target" { x } else { x.max(width / 2) }, y, name, Role::Label) + 1;
        if list.is_empty() {
            let why = match name {
                "drafter" if miss.asked => "proposed nothing",
                "drafter" => "not asked",
                _ => "not recorded",
            };
            x = pen.text(x, y, why, Role::Label) + 2;
        }
        for best in list {
            let words =
                format!("{} {}", token(&best.text, pen, 10), probability(best.probability).trim());
            if x + pen.measure(&words) + 1 > end {
                break;
            }
            x = pen.text(x, y, &words, role_of(miss, best)) + 2;
        }
    }
}

fn role_of(miss: &Miss, best: &RankedToken) -> Role {
    if best.token == miss.token { Role::NodeBonus } else { Role::Base }
}

/// Draws both lists side by side, with bars where there is room.
fn lists(miss: &Miss, plain: bool, y: usize, pen: &mut Pen) {
    let (width, height) = (pen.width(), pen.height());
    let half = (width / 2).min(48);
    let target: &[&str] = match plain {
        true => &["target's best, p at T=1", "target, p at T=1", "target, p"],
        false => &["target's best, p", "target, p"],
    };
    for (x, names, list, none) in [
        (1, target, &miss.target_best, "not recorded"),
        (
            half + 1,
            &["drafter's best, q", "drafter, q"],
            &miss.draft_best,
            if miss.asked { "nothing proposed" } else { "not asked" },
        ),
    ] {
        let room = half.saturating_sub(2);
        let name = names.iter().find(|name| name.len() <= room).or(names.last()).unwrap_or(&"");
        pen.text(x, y, &pen.shorten(name, room), Role::Label);
        if list.is_empty() && y + 1 < height {
            pen.text(x, y + 1, &pen.shorten(none, room), Role::Label);
        }
        // Token, probability, and a bar in what is left.
        let words = room.saturating_sub(6).clamp(4, 14);
        let bar = room.saturating_sub(words + 8);
        for (i, best) in list.iter().enumerate() {
            let y = y + 1 + i;
            if y >= height {
                break;
            }
            let role = role_of(miss, best);
            let mark = if best.token == miss.token { pen.glyphs().bonus } else { " " };
            pen.text(x, y, mark, Role::NodeBonus);
            let text = token(&best.text, pen, words.saturating_sub(2));
            pen.text(x + 2, y, &text, role);
            pen.text(x + 1 + words, y, probability(best.probability).trim(), role);
            let cells = (best.probability.clamp(0.0, 1.0) * (bar * 8) as f64).round() as usize;
            let bar_role = if role == Role::Base { Role::Plot } else { role };
            let start = x + words + 6;
            pen.rule(start, start + cells / 8, y, pen.glyphs().level_right(8), bar_role);
            if !cells.is_multiple_of(8) {
                pen.text(start + cells / 8, y, pen.glyphs().level_right(cells % 8), bar_role);
            }
        }
    }
    let rows = miss.target_best.len().max(miss.draft_best.len()).max(1);
    let sum = |list: &[RankedToken]| list.iter().map(|best| best.probability).sum::<f64>();
    if y + rows + 1 < height && !miss.target_best.is_empty() {
        let words = format!("together {}", percent(sum(&miss.target_best)));
        pen.text(1, y + 1 + rows, &words, Role::Label);
        if !miss.draft_best.is_empty() {
            pen.text(
                half + 1,
                y + 1 + rows,
                &format!("together {}", percent(sum(&miss.draft_best))),
                Role::Label,
            );
        }
    }
}
