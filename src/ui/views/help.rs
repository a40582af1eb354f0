//! Help: the keys, the signs, and what each number means.

use super::Pen;
use crate::app::{COMMANDS, Chord};
use crate::theme::{Glyphs, Role};

/// Words and what they mean, as the field uses them.
pub const DEFINITIONS: &[(&str, &str)] = &[
    ("step", "one round: draft a tree, verify it in one pass, accept, add the bonus"),
    ("accepted", "drafted tokens that were accepted in a step, the bonus not counted; E[X|T] and ceilings count so too"),
    ("bonus", "the token that the target adds itself after the last accepted one"),
    ("tokens/step", "accepted + bonus (tau)"),
    ("B", "budget: tokens in one verify pass, the root (the pending token) included"),
    ("p, q", "probability of a node after its parent: the target's, in the law sampled from; the drafter's"),
    ("rank", "place of the node's token in the target's order; 0 is the most probable"),
    ("path", "pi, the product of p from the root down to the node"),
    ("E[X|T]", "expected accepted of a tree: the sum of pi over its nodes; exact, and steadier than accepted"),
    ("passed", "share accepted at that position, of the steps in which a draft there was reached"),
    ("entropy", "H = -sum p ln p of the law behind each generated token, in nats (ln, not log2)"),
    ("mean", "since the settings last changed; mu: since temperature, top-p or top-k did"),
    ("+-", "95% interval by batch means, since neighbouring positions are correlated"),
    ("fluid", "ceiling of any drafter's mean if positions are independent; the marks key has all of them"),
    ("oracle", "the best tree of B - 1 nodes after this context, by the target itself"),
    ("greedy", "temperature 0: mu = 0, no ceiling but B - 1; entropy and the p of nodes are then shown at T = 1, as a reference"),
    ("plain", "the same model with nothing drafted, timed on this machine"),
];

/// Signs and what they mean.
fn signs(glyphs: &Glyphs) -> [(&'static str, Role, &'static str); 9] {
    [
        (glyphs.accepted, Role::NodeAccepted, "accepted"),
        (glyphs.bonus, Role::NodeBonus, "bonus: the target's own token"),
        (glyphs.refused, Role::NodeRefused, "refused: its parent was reached, another token came"),
        (glyphs.unreached, Role::NodeUnreached, "never reached: its parent was not accepted"),
        (glyphs.cut, Role::NodeUnreached, "cut by the budget: drafted, and not verified"),
        (glyphs.root, Role::NodeRoot, "root: the pending token, already in the text"),
        (glyphs.change, Role::PlotChange, "settings changed here"),
        (glyphs.down, Role::GaugeCeiling, "a ceiling on the gauge"),
        (glyphs.up, Role::GaugeAccepted, "what was reached, and E[X|T]"),
    ]
}

/// A line of help: an entry and its words, in roles; or a heading.
pub enum Line {
    /// A heading.
    Heading(&'static str),
    /// A word and what it means.
    Entry(String, Role, String),
    /// The colours of depths.
    Depths,
    /// Nothing.
    Empty,
}

fn lines(glyphs: &Glyphs) -> Vec<Line> {
    let mut out = vec![Line::Heading("keys")];
    for command in COMMANDS {
        let keys: Vec<String> = command.keys.iter().map(Chord::label).collect();
        out.push(Line::Entry(keys.join(" "), Role::FooterKey, command.doc.to_owned()));
    }
    out.extend([Line::Empty, Line::Heading("signs and colours")]);
    out.extend(signs(glyphs).map(|(sign, role, words)| Line::Entry(sign.to_owned(), role, words.to_owned())));
    out.push(Line::Depths);
    out.extend([Line::Empty, Line::Heading("numbers")]);
    out.extend(DEFINITIONS.iter().map(|(word, means)| Line::Entry((*word).to_owned(), Role::Value, (*means).to_owned())));
    out
}

/// Draws the help over the screen; says how far it can be scrolled.
pub fn help(scroll: u16, pen: &mut Pen) -> usize {
    sheet("help", lines, scroll, pen)
}

/// Draws lines over the screen, `scroll` lines down (as far as there are lines); says how far they can be scrolled.
pub fn sheet(name: &str, lines: fn(&Glyphs) -> Vec<Line>, scroll: u16, pen: &mut Pen) -> usize {
    pen.clear(Role::Overlay);
    let (width, height, line) = (pen.width(), pen.height(), pen.glyphs().line);
    pen.rule(0, width, 0, line, Role::FrameFocus);
    pen.text(1, 0, &format!(" {name} "), Role::TitleFocus);
    pen.right(width - 1, 0, " up/down scroll, any other key leaves ", Role::Label);
    let columns = if width >= 110 { 2 } else { 1 };
    let (wide, room) = (width / columns, height.saturating_sub(2));
    let indent = 15.min(wide / 3);
    // Each entry broken over as many rows as its words need.
    let mut rows: Vec<(Option<Line>, String)> = Vec::new();
    for line in lines(pen.glyphs()) {
        let words = match &line {
            Line::Entry(_, _, words) => wrap(words, wide.saturating_sub(indent + 2)),
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
            Some(Line::Heading(name)) => {
                let name = pen.shorten(name, wide.saturating_sub(2));
                pen.text(1, 0, &name, Role::TitleFocus);
            }
            Some(Line::Entry(key, role, _)) => {
                let key = pen.shorten(&key, indent - 2);
                let style = pen.style(Role::Overlay).patch(pen.style(role));
                pen.styled(2, 0, &key, style);
            }
            Some(Line::Depths) => depths(&mut pen, indent),
            _ => {}
        }
        pen.text(indent + 1, 0, &words, Role::Overlay);
    }
    let below = total.saturating_sub(first + shown);
    let more =
        if below > 0 { format!(" {below} more line{} below ", if below == 1 { "" } else { "s" }) } else { " end ".to_owned() };
    pen.rule(0, width, height - 1, line, Role::Frame);
    pen.right(width - 1, height - 1, &more, Role::Label);
    beyond
}

/// The colours of accepted tokens by depth.
fn depths(pen: &mut Pen, indent: usize) {
    let mut x = pen.text(2, 0, "text", Role::Label).max(indent + 1);
    for depth in 1..=6 {
        x = pen.text(x, 0, &format!("d{depth}{}", if depth == 6 { "+" } else { "" }), Role::accepted(depth)) + 1;
    }
    x = pen.text(x, 0, "bonus", Role::TokenBonus) + 1;
    x = pen.text(x, 0, "plain", Role::TokenPlain) + 1;
    pen.text(x, 0, "prompt", Role::TokenPrompt);
}

/// Words broken into lines no wider than `width`; all are ASCII.
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

/// Signs and the most needed definitions, for screens with room.
pub fn legend(pen: &mut Pen) {
    let (width, line) = (pen.width(), pen.glyphs().line);
    pen.rule(0, width, 0, line, Role::Frame);
    pen.text(1, 0, " signs and numbers ", Role::Title);
    for (i, (sign, role, words)) in signs(pen.glyphs()).into_iter().take(4).enumerate() {
        // Two a row; what follows a colon is left to the help.
        let (x, y) = (1 + i % 2 * (width / 2), 1 + i / 2);
        let words = words.split([':', ',']).next().unwrap_or(words);
        pen.text(x, y, sign, role);
        pen.text(x + 2, y, &pen.shorten(words, width / 2 - 4), Role::Label);
    }
    let mut y = 3;
    for name in ["E[X|T]", "passed", "mean", "fluid"] {
        let Some((word, means)) = DEFINITIONS.iter().find(|d| d.0 == name) else { continue };
        pen.text(1, y, word, Role::Base);
        for line in wrap(means, width.saturating_sub(11)) {
            pen.text(9, y, &line, Role::Label);
            y += 1;
        }
    }
}
