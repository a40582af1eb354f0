//! Help sheet: keys, glyphs, and definitions of the numbers on the screen.

use super::Pen;
use crate::tui::theme::{Glyphs, Role};
use crate::tui::{COMMANDS, Chord, Keymap};

/// Terms on the screen with their definitions.
pub const DEFINITIONS: &[(&str, &str)] = &[
    (
        "step",
        "one round: draft a token tree, verify it in one pass, accept a path, add the bonus token",
    ),
    (
        "accepted",
        "drafted tokens accepted in a step (acc), without the bonus; E[X|T] and the ceilings count the same way",
    ),
    ("bonus", "the token that the target chooses itself after the last accepted one"),
    ("tokens/step", "accepted + bonus (tau)"),
    ("tok/s", "tokens per second, over the time spent in steps"),
    (
        "B",
        "budget: tokens in one verify pass, the root (pending token) included; P = B - 1 can be drafted",
    ),
    ("t(B)", "time of a verify pass over B tokens, in ms"),
    (
        "p, q",
        "probability of a node's token after its parent: p in the target's sampled distribution, q in the drafter's",
    ),
    ("rank", "rank of the node's token under the target; 0 is the most probable"),
    ("path", "pi: product of p from the root down to the node"),
    ("d", "depth of a node; d1 is a child of the root"),
    ("E[X|T]", "expected accepted length of a tree: sum of pi over its nodes; exact"),
    ("accept", "% accept: acceptance rate at that depth, given that it was reached"),
    (
        "entropy",
        "H = -sum p ln p of the distribution of each generated token, in nats (ln, not log2); mu is its mean",
    ),
    ("mean", "since the settings last changed; mu: since temperature, top-p, or top-k changed"),
    (
        "+-",
        "95% interval; that of mu comes from whole texts, since neighboring positions are correlated",
    ),
    ("fluid", "bound on any drafter's mean if positions are independent; m defines all marks"),
    ("oracle", "best tree of B - 1 nodes after this context, found with the target itself"),
    (
        "greedy",
        "temperature 0: mu = 0, the only ceiling is B - 1; entropy and the p of nodes are shown at T = 1 for reference",
    ),
    ("T", "temperature; T = 1 is the model's own distribution"),
    ("plain", "plain decoding: the same model with nothing drafted, timed on this machine"),
];

/// Returns the glyphs with their roles and meanings.
fn signs(glyphs: &Glyphs) -> [(&'static str, Role, &'static str); 10] {
    [
        (glyphs.accepted, Role::NodeAccepted, "accepted"),
        (glyphs.bonus, Role::NodeBonus, "bonus: the token that the target chose itself"),
        (
            glyphs.refused,
            Role::NodeRefused,
            "rejected: its parent was reached, the target chose another token",
        ),
        (glyphs.unreached, Role::NodeUnreached, "unreached: its parent was not accepted"),
        (glyphs.cut, Role::NodeUnreached, "cut by the budget: drafted, but not verified"),
        (glyphs.root, Role::NodeRoot, "root: the pending token, already in the text"),
        (glyphs.oracle, Role::NodeUnreached, "in the oracle's tree, but not drafted"),
        (
            glyphs.change,
            Role::PlotChange,
            "settings changed here; in the tree, a node of the oracle",
        ),
        (glyphs.down, Role::GaugeCeiling, "a ceiling on the gauge"),
        (glyphs.up, Role::GaugeAccepted, "accepted length and E[X|T] on the gauge"),
    ]
}

/// Line of a sheet.
pub enum SheetLine {
    /// Heading of a section.
    Heading(&'static str),
    /// Term, its role, and its definition.
    Entry(String, Role, String),
    /// Row that shows the colors of token origins.
    Depths,
    /// Blank row between sections.
    Empty,
}

fn lines(glyphs: &Glyphs, keymap: &Keymap) -> Vec<SheetLine> {
    let mut out = vec![SheetLine::Heading("keys")];
    for command in COMMANDS {
        let keys: Vec<String> = keymap.keys(&command.id()).iter().map(Chord::label).collect();
        out.push(SheetLine::Entry(keys.join(" "), Role::FooterKey, command.doc.to_owned()));
    }
    out.extend([SheetLine::Empty, SheetLine::Heading("signs and colors")]);
    out.extend(
        signs(glyphs)
            .map(|(sign, role, words)| SheetLine::Entry(sign.to_owned(), role, words.to_owned())),
    );
    out.push(SheetLine::Depths);
    out.extend([SheetLine::Empty, SheetLine::Heading("numbers")]);
    out.extend(DEFINITIONS.iter().map(|(word, means)| {
        SheetLine::Entry((*word).to_owned(), Role::Value, (*means).to_owned())
    }));
    out
}

/// Draws the help over the screen; returns its maximum scroll offset in lines.
pub fn help(keymap: &Keymap, scroll: u16, pen: &mut Pen) -> usize {
    let lines = lines(pen.glyphs(), keymap);
    sheet("help", lines, scroll, pen)
}

/// Draws a sheet over the screen, scrolled by `scroll` lines; returns its maximum scroll offset.
pub fn sheet(name: &str, lines: Vec<SheetLine>, scroll: u16, pen: &mut Pen) -> usize {
    pen.clear(Role::Overlay);
    let (width, height, line) = (pen.width(), pen.height(), pen.glyphs().line);
    pen.rule(0, width, 0, line, Role::FrameFocus);
    pen.text(1, 0, &format!(" {name} "), Role::TitleFocus);
    pen.right(width - 1, 0, " up/down scroll, any other key closes ", Role::Label);
    let columns = if width >= 110 { 2 } else { 1 };
    let (wide, room) = (width / columns, height.saturating_sub(2));
    let indent = 15.min(wide / 3);
    // Each entry takes as many rows as its wrapped text needs.
    let mut rows: Vec<(Option<SheetLine>, String)> = Vec::new();
    for line in lines {
        let words = match &line {
            SheetLine::Entry(_, _, words) => wrap(words, wide.saturating_sub(indent + 2)),
            _ => vec![String::new()],
        };
        let mut words = words.into_iter();
        rows.push((Some(line), words.next().unwrap_or_default()));
        rows.extend(words.map(|w| (None, w)));
    }
    let (total, shown) = (rows.len(), room * columns);
    let beyond = total.saturating_sub(shown);
    let first = usize::from(scroll).min(beyond);
    for (i, (line, words)) in rows.into_iter().skip(first).take(shown).enumerate() {
        let (x, y) = (i / room * wide, 1 + i % room);
        let mut pen = pen.part(x as u16, y as u16, wide as u16, 1);
        match line {
            Some(SheetLine::Heading(name)) => {
                let name = pen.shorten(name, wide.saturating_sub(2));
                pen.text(1, 0, &name, Role::TitleFocus);
            }
            Some(SheetLine::Entry(key, role, _)) => {
                let key = pen.shorten(&key, indent - 2);
                let style = pen.style(Role::Overlay).patch(pen.style(role));
                pen.styled(2, 0, &key, style);
            }
            Some(SheetLine::Depths) => depths(&mut pen, indent),
            _ => {}
        }
        pen.text(indent + 1, 0, &words, Role::Overlay);
    }
    let below = total.saturating_sub(first + shown);
    let more = if below > 0 {
        format!(" {below} more line{} below ", if below == 1 { "" } else { "s" })
    } else {
        " end ".to_owned()
    };
    pen.rule(0, width, height - 1, line, Role::Frame);
    pen.right(width - 1, height - 1, &more, Role::Label);
    beyond
}

/// Draws the colors of accepted tokens by depth.
fn depths(pen: &mut Pen, indent: usize) {
    let mut x = pen.text(2, 0, "text", Role::Label).max(indent + 1);
    for depth in 1..=6 {
        x = pen.text(
            x,
            0,
            &format!("d{depth}{}", if depth == 6 { "+" } else { "" }),
            Role::accepted(depth),
        ) + 1;
    }
    x = pen.text(x, 0, "bonus", Role::TokenBonus) + 1;
    x = pen.text(x, 0, "plain", Role::TokenPlain) + 1;
    pen.text(x, 0, "prompt", Role::TokenPrompt);
}

/// Wraps ASCII text into lines of at most `width` columns.
pub fn wrap(words: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split(' ') {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines
}

/// Draws signs and the most important definitions, for screens with room.
pub fn legend(pen: &mut Pen) {
    let (width, line) = (pen.width(), pen.glyphs().line);
    pen.rule(0, width, 0, line, Role::Frame);
    pen.text(1, 0, " signs and numbers ", Role::Title);
    // What follows a colon, comma, or semicolon is left to the help.
    let short = |words: &'static str, ends: &[char]| words.split(ends).next().unwrap_or(words);
    let signs = signs(pen.glyphs());
    let signs = signs.map(|(sign, role, words)| (sign, role, short(words, &[':', ',', ';'])));
    row(1, &signs, pen);
    let terms = ["E[X|T]", "fluid", "B"];
    let terms = terms.iter().filter_map(|name| DEFINITIONS.iter().find(|found| found.0 == *name));
    let terms: Vec<_> =
        terms.map(|&(name, words)| (name, Role::Base, short(words, &[';']))).collect();
    row(2, &terms, pen);
}

/// Writes terms with their meanings side by side, as many as fit.
fn row(y: usize, terms: &[(&str, Role, &str)], pen: &mut Pen) {
    let mut x = 1;
    for (term, role, words) in terms {
        if x + pen.measure(term) + 1 + pen.measure(words) >= pen.width() {
            return;
        }
        x = pen.text(x, y, term, *role) + 1;
        x = pen.text(x, y, words, Role::Label) + 3;
    }
}
