//! Everything around the panes: header, footer, compact figures, progress, and prompt editor.

use super::{Pen, accepted, entropy, speed};
use crate::engine::Pace;
use crate::sanitize::{self, PieceKind};
use crate::tui::theme::Role;
use crate::tui::views::{LayoutVariant, number};
use crate::tui::{COMMANDS, Chord, CommandEntry, Editor, Phase, RunState, State, View};
use crate::verify::Rule;

/// Draws the message for a screen below the minimum size.
pub fn too_small(pen: &mut Pen) {
    let (needs, has) = (crate::tui::views::MIN_SCREEN, (pen.width(), pen.height()));
    let words = format!("too small: needs {}x{}, has {}x{}", needs.0, needs.1, has.0, has.1);
    let y = pen.height() / 2;
    for (i, part) in words.split(": ").enumerate() {
        let x = pen.width().saturating_sub(part.len()) / 2;
        pen.text(x, (y + i).saturating_sub(1), part, Role::Base);
    }
}

/// Draws the vertical line between two columns.
pub fn divider(pen: &mut Pen) {
    let glyph = pen.glyphs().vline;
    for y in 0..pen.height() {
        pen.text(0, y, glyph, Role::Frame);
    }
}

/// Draws the names of the views with their keys, on a rule.
pub fn tabs(state: &State, pen: &mut Pen) {
    let (width, line) = (pen.width(), pen.glyphs().line);
    pen.rule(0, width, 0, line, Role::Frame);
    let mut x = 2;
    for (i, view) in View::ALL.into_iter().enumerate() {
        let active = view == state.view;
        let words = format!(" {} {} ", i + 1, view.name());
        if x + words.len() + 2 > width {
            break;
        }
        x = pen.text(x, 0, &words, if active { Role::TabActive } else { Role::Tab });
    }
}

/// Draws the line of advice: the setting to change, or the main loss.
///
/// The main loss is shown if a pane already shows the advice.
pub fn advice_line(state: &State, form: LayoutVariant, pen: &mut Pen) {
    let shown = matches!(form, LayoutVariant::Wide | LayoutVariant::Huge)
        && matches!(state.view, View::Watch | View::Losses | View::Speed);
    let forms = match shown {
        true => super::ladder::limits(state),
        false => super::advice::line(state, pen.glyphs()),
    };
    let width = pen.width().saturating_sub(2);
    if let Some(words) = forms.iter().find(|words| pen.measure(words) <= width) {
        pen.text(1, 0, words, Role::Advice);
    }
}

/// Item of a line: label, value, role of the value, priority. Priority 0 is kept longest.
pub type Item = (&'static str, String, Role, u8);

/// Writes the items that fit, in their order, leaving out those of the lowest priority.
pub fn items(pen: &mut Pen, y: usize, end: usize, items: Vec<Item>) {
    let width = |item: &Item, pen: &Pen| {
        item.0.len() + usize::from(!item.0.is_empty()) + pen.measure(&item.1) + 3
    };
    let mut order: Vec<usize> = (0..items.len()).filter(|&i| !items[i].1.is_empty()).collect();
    order.sort_by_key(|&i| items[i].3);
    let (mut used, mut keep) = (1, vec![false; items.len()]);
    for i in order {
        let w = width(&items[i], pen);
        if used + w <= end + 3 {
            used += w;
            keep[i] = true;
        }
    }
    let (mut x, dot) = (1, pen.glyphs().dot);
    for (item, _) in items.iter().zip(keep).filter(|(_, k)| *k) {
        if x > 1 {
            x = pen.text(x, y, &format!(" {dot} "), Role::Frame);
        }
        if !item.0.is_empty() {
            x = pen.text(x, y, item.0, Role::Label) + 1;
        }
        x = pen.text(x, y, &item.1, item.2);
    }
}

/// Draws the header: model, settings, and run state.
pub fn header(state: &State, pen: &mut Pen) {
    let glyphs = pen.glyphs();
    let (mut word, role) = match (&state.phase, state.motion, state.selected) {
        (Phase::Loading(..), ..) => ("loading".to_owned(), Role::StatePaused),
        (Phase::Finished, _, None) => ("finished".to_owned(), Role::StatePaused),
        (_, _, Some(n)) => (
            format!("{} step {}", glyphs.paused, state.history.get(n).map_or(0, |s| s.record.step)),
            Role::StatePaused,
        ),
        (_, RunState::Live, _) if state.pace != Pace::Full => {
            (format!("{} {}", glyphs.live, state.pace), Role::StateLive)
        }
        (_, RunState::Live, _) => (format!("{} live", glyphs.live), Role::StateLive),
        (_, RunState::Pausing, _) => (format!("{} pausing", glyphs.paused), Role::StatePaused),
        (_, RunState::Paused, _) => (format!("{} paused", glyphs.paused), Role::StatePaused),
        (_, RunState::Resuming, _) => (format!("{} resuming", glyphs.live), Role::StateLive),
    };
    if state.recording {
        word.push_str(" rec");
    }
    let end = pen.width().saturating_sub(pen.measure(&word) + 3);
    let info = &state.info;
    let model = if info.model.is_empty() {
        "speclight".to_owned()
    } else {
        pen.shorten(&info.model, end.saturating_sub(2).max(8))
    };
    items(
        pen,
        0,
        end,
        vec![
            ("", model, Role::Header, 0),
            ("", info.quantisation.clone(), Role::Base, 1),
            ("", info.device.clone(), Role::Base, 2),
        ],
    );
    pen.right(pen.width().saturating_sub(1), 0, &format!(" {word} "), role);
    // A selected step shows its own settings and prompt, not the present ones.
    let back = state.selected.and_then(|n| state.history.get(n));
    let settings = back.map(|step| &step.record.settings);
    let (Some(now), Some(wished)) =
        (settings.or(state.settings.as_ref()), settings.or(state.wished.as_ref()))
    else {
        return;
    };
    let number = back
        .and_then(|step| state.history.text_by_number(step.text))
        .map_or(state.prompt, |text| text.index);
    let pending = |same: bool, role: Role| if same { role } else { Role::HeaderPending };
    let temperature = if wished.temperature == 0.0 {
        "greedy".to_owned()
    } else {
        format!("T {:.1}", wished.temperature)
    };
    let cut = match (wished.top_p < 1.0, wished.top_k) {
        (true, Some(k)) => format!("top-p {} top-k {k}", wished.top_p),
        (true, None) => format!("top-p {}", wished.top_p),
        (false, Some(k)) => format!("top-k {k}"),
        (false, None) => String::new(),
    };
    let rule = if wished.verify == Rule::Match { "" } else { wished.verify.name() };
    let budget = if wished.automatic() {
        format!("B auto, up to {}", wished.budget)
    } else {
        format!("B {}", wished.budget)
    };
    let prompt = if state.prompts.is_empty() {
        String::new()
    } else {
        format!("{}/{}", number + 1, state.prompts.len())
    };
    let line = vec![
        (
            "",
            wished.drafter.name().to_owned(),
            pending(now.drafter == wished.drafter, Role::Header),
            0,
        ),
        ("", wished.shape.name(), pending(now.shape == wished.shape, Role::Header), 3),
        ("", rule.to_owned(), pending(now.verify == wished.verify, Role::Notice), 2),
        (
            "",
            if speed::busy(state) { "machine busy".to_owned() } else { String::new() },
            Role::Notice,
            2,
        ),
        (
            "",
            budget,
            pending(
                (now.budget, now.automatic()) == (wished.budget, wished.automatic()),
                Role::Header,
            ),
            1,
        ),
        ("", temperature, pending(now.temperature == wished.temperature, Role::Header), 2),
        ("", cut, Role::Base, 4),
        ("seed", wished.seed.to_string(), pending(now.seed == wished.seed, Role::Base), 5),
        ("prompt", prompt, Role::Base, 6),
    ];
    let width = pen.width().saturating_sub(1);
    items(pen, 1, width, line);
}

/// Commands that come first in the footer.
const FOOTER_FIRST: [&str; 5] = ["pause", "step", "older", "quit", "help"];

/// Draws the footer: the notice if there is one, else the keys.
pub fn footer(state: &State, pen: &mut Pen) {
    let width = pen.width();
    if let Some(notice) = &state.notice {
        let text = pen.shorten(&notice.text, width.saturating_sub(2));
        pen.text(1, 0, &text, Role::Notice);
        return;
    }
    let mut x = 1;
    let (still, finished) = (state.motion.still(), state.phase == Phase::Finished);
    let due =
        |c: &&CommandEntry| (c.footer || (still && c.name == "older")) && !(finished && c.engine);
    let mut commands: Vec<&CommandEntry> = COMMANDS.iter().filter(due).collect();
    // The way out and the help are shown at every width.
    commands.sort_by_key(|command| !FOOTER_FIRST.contains(&command.name));
    for command in commands {
        let Some(key) = state.keys.keys(&command.id()).first().map(Chord::label) else { continue };
        // Commands in pairs show both keys.
        let pair = |other: &str| {
            state.keys.label(other).map_or_else(|| key.clone(), |other| format!("{other}/{key}"))
        };
        let (label, name) = match command.name {
            "pause" if still => (key, "resume"),
            "older" => (
                state
                    .keys
                    .label("newer")
                    .map_or_else(|| key.clone(), |newer| format!("{key}/{newer}")),
                "steps",
            ),
            "budget" => (
                state
                    .keys
                    .label("budget-less")
                    .map_or_else(|| key.clone(), |less| format!("{key}/{less}")),
                "budget",
            ),
            "temp" => (pair("temp-down"), "temp"),
            "faster" => (pair("slower"), "pace"),
            "next" if state.query.is_some() => (key, "older match"),
            name => (key, name),
        };
        if x + label.len() + 1 + name.len() > width.saturating_sub(1) {
            continue;
        }
        x = pen.text(x, 0, &label, Role::FooterKey) + 1;
        x = pen.text(x, 0, name, Role::FooterText) + 2;
    }
}

/// Draws entropy, accepted length, and speed in one line each, for small screens.
pub fn figures(state: &State, pen: &mut Pen) {
    let width = pen.width();
    let words = 9;
    let dash = number::two_or_dash;
    if pen.height() > 0 {
        pen.text(1, 0, "accepted", Role::Label);
        pen.right(words + 6, 0, &dash(state.history.averages.accepted_mean()), Role::GaugeAccepted);
        accepted::sparkline(state, pen, words + 8, 0, width.saturating_sub(words + 9), 1);
    }
    pen.text(1, 1, "entropy", Role::Label);
    let mean = entropy::mean(state);
    pen.right(words + 6, 1, &dash(mean), Role::PlotMean);
    entropy::strip(state, pen, words + 8, 1, width.saturating_sub(words + 9));
    pen.text(1, 2, "speed", Role::Label);
    pen.right(
        words + 6,
        2,
        &number::speed(state.history.averages.tokens_per_second()),
        Role::Value,
    );
    let factor = speed::factor(state).map_or_else(
        || "plain not timed".to_owned(),
        |f| format!("{}{} plain", pen.glyphs().times, number::two(f.value)),
    );
    let time = &state.history.averages.time;
    let x = pen.text(words + 8, 2, &format!("tok/s {factor}"), Role::Base);
    if time.total() > 0.0 && x + 12 < width {
        pen.text(
            x + 1,
            2,
            &format!("verify {}", number::percent(time.verify / time.total())),
            Role::Label,
        );
    }
}

/// Draws the progress box shown before the first step.
pub fn loading(what: &str, done: Option<f64>, pen: &mut Pen) {
    let width = pen.width().saturating_sub(8).min(60);
    let (x, y) = ((pen.width() - width) / 2, pen.height() / 2);
    let mut pen = pen.part(x as u16 - 2, y as u16 - 2, width as u16 + 4, 5);
    pen.clear(Role::Overlay);
    let (line, wide) = (pen.glyphs().line, pen.width());
    pen.rule(0, wide, 0, line, Role::FrameFocus);
    pen.rule(0, wide, 4, line, Role::FrameFocus);
    let what = pen.shorten(what, width);
    pen.text(2, 1, &what, Role::Overlay);
    let Some(done) = done.filter(|d| d.is_finite()) else { return };
    let done = done.clamp(0.0, 1.0);
    let bar = width - 5;
    let full = (done * bar as f64).round() as usize;
    let (heavy, line) = (pen.glyphs().heavy, pen.glyphs().line);
    pen.rule(2, 2 + full, 3, heavy, Role::GaugeAccepted);
    pen.rule(2 + full, 2 + bar, 3, line, Role::Gauge);
    pen.right(2 + width, 3, &number::percent(done), Role::Value);
}

/// Draws the prompt editor at the bottom of the screen.
pub fn editor(editor: &Editor, pen: &mut Pen) {
    let rows = (pen.height() / 3).clamp(3, 12);
    let (width, top) = (pen.width(), pen.height() - rows);
    let mut pen = pen.part(0, top as u16, width as u16, rows as u16);
    pen.clear(Role::Overlay);
    let line = pen.glyphs().line;
    pen.rule(0, width, 0, line, Role::FrameFocus);
    pen.text(1, 0, " prompt ", Role::TitleFocus);
    let hints = [
        " Enter sends, Alt-Enter adds a line, Ctrl-U deletes left, Esc cancels ",
        " Enter sends, Esc cancels ",
    ];
    if let Some(hint) = hints.iter().find(|hint| hint.len() + 12 <= width) {
        pen.right(width - 1, 0, hint, Role::Label);
    }
    let inner = width.saturating_sub(2).max(1);
    // Lines break at the edge, not at words, so that a key never moves text before the cursor.
    let mut cells: Vec<(usize, usize, String, usize, PieceKind)> = Vec::new();
    let (mut x, mut y, mut cursor) = (0, 0, (0, 0));
    let glyphs = pen.glyphs();
    let (before, after) = editor.text().split_at(editor.cursor());
    for (i, part) in [before, after].into_iter().enumerate() {
        sanitize::for_each_piece(part, &glyphs.signs(), |symbol, w, kind| {
            if x + w > inner {
                (x, y) = (0, y + 1);
            }
            cells.push((x, y, symbol.to_owned(), w, kind));
            x += w;
            if kind == PieceKind::Newline {
                (x, y) = (0, y + 1);
            }
        });
        if i == 0 {
            if x >= inner {
                (x, y) = (0, y + 1);
            }
            cursor = (x, y);
        }
    }
    let rows = rows - 1;
    let first = cursor.1.saturating_sub(rows - 1);
    for (x, y, symbol, w, kind) in &cells {
        if (first..first + rows).contains(y) {
            let role = if matches!(kind, PieceKind::Sign | PieceKind::Newline) {
                Role::Invisible
            } else {
                Role::Overlay
            };
            let style = pen.style(Role::Overlay).patch(pen.style(role));
            pen.symbol(x + 1, y - first + 1, symbol, *w, style);
        }
    }
    let style = ratatui::style::Style::new().add_modifier(ratatui::style::Modifier::REVERSED);
    let under = cells
        .iter()
        .find(|c| (c.0, c.1) == cursor && c.4 != PieceKind::Newline)
        .map_or((" ".to_owned(), 1), |c| (c.2.clone(), c.3));
    let style = pen.style(Role::Overlay).patch(style);
    pen.symbol(cursor.0 + 1, cursor.1 - first + 1, &under.0, under.1, style);
}
