//! Input line at the bottom of the screen: command palette, search, and step number.

use super::Pen;
use crate::tui::palette::{self, Completion};
use crate::tui::theme::Role;
use crate::tui::{LineInput, LineKind, Query, State};

/// Maximum number of candidates listed above the line.
const MAX_CANDIDATES: usize = 8;

/// Returns the lines of help above the input: names with their descriptions.
fn hints(state: &State, input: &LineInput) -> Vec<(String, String)> {
    match input.kind {
        LineKind::Command => {
            let entry = |c: Completion| (c.label, c.doc.to_owned());
            palette::complete(state, input.recalling.editor.text()).into_iter().map(entry).collect()
        }
        LineKind::Find => {
            let mut all = vec![
                (
                    "text".to_owned(),
                    "steps that emitted or missed it; quotes take it as it is".to_owned(),
                ),
                (
                    "knowledge".to_owned(),
                    "a cause: knowledge, vocabulary, ranking, budget, unlucky".to_owned(),
                ),
            ];
            let fields: Vec<&str> = Query::fields().map(|(name, _)| name).collect();
            all.push(("depth>3".to_owned(), format!("<, <=, =, >=, > with {}", fields.join(", "))));
            all
        }
        LineKind::Step => vec![("number".to_owned(), "step within the text shown".to_owned())],
    }
}

/// Draws the input line over the footer, with candidates above it.
pub fn input(state: &State, input: &LineInput, pen: &mut Pen) {
    let (width, height) = (pen.width(), pen.height());
    let hints = hints(state, input);
    let rows = hints.len().min(MAX_CANDIDATES).min(height.saturating_sub(1) / 2);
    let top = height.saturating_sub(rows + 1);
    let mut pen = pen.part(0, top as u16, width as u16, (rows + 1) as u16);
    pen.clear(Role::Overlay);
    let name =
        hints.iter().take(rows).map(|hint| pen.measure(&hint.0)).max().unwrap_or(0).min(width / 2)
            + 2;
    for (y, (label, doc)) in hints.iter().take(rows).enumerate() {
        let style = pen.style(Role::Overlay).patch(pen.style(Role::FooterKey));
        let label = pen.shorten(label, name.saturating_sub(1));
        pen.styled(1, y, &label, style);
        let doc = pen.shorten(doc, width.saturating_sub(name + 2));
        pen.text(1 + name, y, &doc, Role::Overlay);
    }
    if hints.len() > rows && rows > 0 {
        pen.right(
            width.saturating_sub(1),
            rows - 1,
            &format!(" {} more ", hints.len() - rows),
            Role::Label,
        );
    }
    let editor = &input.recalling.editor;
    let style = pen.style(Role::Overlay);
    let mut x = pen.text(0, rows, input.kind.sign(), Role::TitleFocus);
    let (before, after) = editor.text().split_at(editor.cursor());
    // The end of a long text before the cursor matters more than its start.
    let room = width.saturating_sub(x + 2);
    let from = before.char_indices().rev().nth(room).map_or(0, |(at, _)| at);
    let mut shown = &before[from..];
    while pen.measure(shown) > room {
        let mut rest = shown.chars();
        rest.next();
        shown = rest.as_str();
    }
    x = pen.styled(x, rows, shown, style);
    let cursor = style.add_modifier(ratatui::style::Modifier::REVERSED);
    let mut following = after.chars();
    let under = following.next().map_or_else(|| " ".to_owned(), String::from);
    let next = pen.styled(x, rows, &under, cursor);
    pen.styled(next, rows, following.as_str(), style);
}
