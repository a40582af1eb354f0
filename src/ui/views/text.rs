//! The text, each token in the colour of where it came from.

use ratatui::style::Style;

use super::{Pen, empty};
use crate::app::{State, Step};
use crate::clean::{self, Kind};
use crate::telemetry::Ending;
use crate::theme::{Glyphs, Role};

/// Text in cells, ready to be broken into lines.
#[derive(Default)]
struct Flow {
    arena: String,
    cells: Vec<Cell>,
}

struct Cell {
    start: u32,
    len: u8,
    width: u8,
    kind: Kind,
    style: Style,
}

impl Flow {
    fn push(&mut self, text: &str, glyphs: &Glyphs, style: Style, sign: Style) {
        clean::each(text, &glyphs.signs(), |symbol, width, kind| {
            let style = if kind == Kind::Sign { style.patch(sign) } else { style };
            self.cells.push(Cell { start: self.arena.len() as u32, len: symbol.len() as u8, width: width as u8, kind, style });
            self.arena.push_str(symbol);
        });
    }

    fn symbol(&self, cell: &Cell) -> &str {
        &self.arena[cell.start as usize..cell.start as usize + usize::from(cell.len)]
    }

    /// Lines as ranges of cells: broken at line breaks, else after the last space that fits, else anywhere.
    fn lines(&self, width: usize) -> Vec<(usize, usize)> {
        let (mut lines, mut start, mut used, mut space) = (Vec::new(), 0, 0, None);
        let mut i = 0;
        while i < self.cells.len() {
            let cell = &self.cells[i];
            let wide = usize::from(cell.width);
            // A space or the sign of a line break may hang over the edge unseen.
            if used + wide > width && !matches!(cell.kind, Kind::Space | Kind::Newline) && i > start {
                let end = space.unwrap_or(i);
                lines.push((start, end));
                (start, used, space, i) = (end, 0, None, end);
                continue;
            }
            used += wide;
            i += 1;
            match cell.kind {
                Kind::Newline => {
                    lines.push((start, i));
                    (start, used, space) = (i, 0, None);
                }
                Kind::Space => space = Some(i),
                _ => {}
            }
        }
        lines.push((start, i));
        lines
    }
}

/// The role of the i-th token that a step put out.
fn origin(step: &Step, i: usize) -> Role {
    let record = &step.record;
    if i < record.accepted {
        Role::accepted(i + 1)
    } else if record.tree.parents.len() <= 1 {
        Role::TokenPlain
    } else {
        Role::TokenBonus
    }
}

/// The number of the text to show.
fn shown(state: &State) -> Option<usize> {
    match state.selected.and_then(|n| state.history.get(n)) {
        Some(step) => Some(step.text),
        None => state.history.text().map(|t| t.number),
    }
}

/// What the title says: how far the text is, and how it ended.
pub fn summary(state: &State) -> (Vec<String>, Role) {
    let Some(number) = shown(state) else { return (Vec::new(), Role::Label) };
    let tokens: usize = state.history.of_text(number).map(|s| s.record.emitted.len()).sum();
    let ending = match state.history.text_of(number).and_then(|t| t.ending) {
        None => "",
        Some(Ending::Stop) => ", ended by itself",
        Some(Ending::Length) => ", at its length",
        Some(Ending::Context) => ", the context is full",
        Some(Ending::Interrupted) => ", broken off",
    };
    (vec![format!("{tokens} tokens{ending}"), format!("{tokens} tokens")], Role::Label)
}

/// Draws it; says how many lines it can be scrolled back.
pub fn text(state: &State, pen: &mut Pen) -> usize {
    let Some(number) = shown(state) else {
        empty(pen, "the text comes here, token by token");
        return 0;
    };
    let glyphs = pen.glyphs();
    let sign = pen.style(Role::Invisible);
    let mut flow = Flow::default();
    if let Some(text) = state.history.text_of(number) {
        flow.push(&text.prompt, glyphs, pen.style(Role::TokenPrompt), sign);
        flow.push("\n", glyphs, pen.style(Role::TokenPrompt), sign);
    }
    let mut selected_from = None;
    for step in state.history.of_text(number) {
        let selected = state.selected == Some(step.number);
        if selected {
            selected_from = Some(flow.cells.len());
        }
        for (i, text) in step.record.emitted_text.iter().enumerate() {
            let mut style = pen.style(origin(step, i));
            if selected {
                style = style.patch(pen.style(Role::Selection));
            }
            flow.push(text, glyphs, style, sign);
        }
    }
    let width = pen.width().saturating_sub(2).max(1);
    let lines = flow.lines(width);
    let height = pen.height();
    // The end of the text, or the selected step, or what the person scrolled to.
    let bottom = match selected_from {
        Some(cell) => {
            (lines.iter().position(|l| cell < l.1).unwrap_or(0) + 1 + height / 2).clamp(height.min(lines.len()), lines.len())
        }
        None => lines.len().saturating_sub(usize::from(state.scroll)).max(height.min(lines.len())),
    };
    for (y, line) in lines[bottom.saturating_sub(height)..bottom].iter().enumerate() {
        let mut x = 1;
        for cell in &flow.cells[line.0..line.1] {
            if x < 1 + width {
                x = pen.symbol(x, y, flow.symbol(cell), usize::from(cell.width), cell.style);
            }
        }
        if y + 1 == height.min(bottom) && bottom == lines.len() && !state.motion.still() && x < 1 + width {
            pen.tint(x, y, 1, Role::FrameFocus);
            let bar = pen.glyphs().focus;
            pen.text(x, y, bar, Role::FrameFocus);
        }
    }
    lines.len().saturating_sub(height)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theme::UNICODE;
    use proptest::prelude::*;

    fn wrapped(text: &str, width: usize) -> Vec<String> {
        let mut flow = Flow::default();
        flow.push(text, &UNICODE, Style::new(), Style::new());
        flow.lines(width).iter().map(|l| flow.cells[l.0..l.1].iter().map(|c| flow.symbol(c)).collect()).collect()
    }

    #[test]
    fn lines_break_at_spaces_else_anywhere() {
        assert_eq!(wrapped("the cat sat", 7), ["the cat ", "sat"]);
        assert_eq!(wrapped("unbreakable", 4), ["unbr", "eaka", "ble"]);
        assert_eq!(wrapped("a\n\nb", 9), ["a↵", "↵", "b"]);
        assert_eq!(wrapped("日本語", 5), ["日本", "語"]);
        assert_eq!(wrapped("日本", 1), ["日", "本"]);
        assert_eq!(wrapped("", 5), [""]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in "[a-z \n日\u{1b}]{0,80}", width in 1usize..20) {
            prop_assert_eq!(wrapped(&text, width).concat(), clean::line(&text, &UNICODE.signs()));
        }
    }
}
