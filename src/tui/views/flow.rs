//! Text flow: wraps styled text into lines.

use ratatui::style::Style;

use super::pen::Pen;
use crate::sanitize::{self, PieceKind};
use crate::tui::theme::Glyphs;

/// Styled text in cells, ready to be wrapped.
#[derive(Default)]
pub struct Flow {
    arena: String,
    cells: Vec<Cell>,
}

struct Cell {
    start: u32,
    len: u8,
    width: u8,
    kind: PieceKind,
    style: Style,
}

impl Flow {
    /// Appends text in a style; symbols for characters without a glyph are patched with `sign`.
    pub fn push(&mut self, text: &str, glyphs: &Glyphs, style: Style, sign: Style) {
        sanitize::for_each_piece(text, &glyphs.signs(), |symbol, width, kind| {
            let style = if kind == PieceKind::Sign { style.patch(sign) } else { style };
            self.cells.push(Cell {
                start: self.arena.len() as u32,
                len: symbol.len() as u8,
                width: width as u8,
                kind,
                style,
            });
            self.arena.push_str(symbol);
        });
    }

    fn symbol(&self, cell: &Cell) -> &str {
        &self.arena[cell.start as usize..cell.start as usize + usize::from(cell.len)]
    }

    /// Returns the lines as ranges of cells. Lines end at line breaks, after the last space that
    /// fits, or anywhere if there is none.
    pub fn lines(&self, width: usize) -> Vec<(usize, usize)> {
        let (mut lines, mut start, mut used, mut space) = (Vec::new(), 0, 0, None);
        let mut i = 0;
        while i < self.cells.len() {
            let cell = &self.cells[i];
            let wide = usize::from(cell.width);
            // A space or line-break symbol may hang over the edge, invisibly.
            if used + wide > width
                && !matches!(cell.kind, PieceKind::Space | PieceKind::Newline)
                && i > start
            {
                let end = space.unwrap_or(i);
                lines.push((start, end));
                (start, used, space, i) = (end, 0, None, end);
                continue;
            }
            used += wide;
            i += 1;
            match cell.kind {
                PieceKind::Newline => {
                    lines.push((start, i));
                    (start, used, space) = (i, 0, None);
                }
                PieceKind::Space => space = Some(i),
                _ => {}
            }
        }
        lines.push((start, i));
        lines
    }

    /// Returns the number of cells so far.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Returns the cell at a column of a line.
    pub fn cell_at(&self, line: (usize, usize), column: usize) -> Option<usize> {
        let mut end = 0;
        (line.0..line.1).find(|&cell| {
            end += usize::from(self.cells[cell].width);
            column < end
        })
    }

    /// Draws a line in row `y` from column 1; returns the column after it. Columns from `end` on
    /// stay untouched.
    pub fn draw(&self, line: (usize, usize), y: usize, end: usize, pen: &mut Pen) -> usize {
        let mut x = 1;
        for cell in &self.cells[line.0..line.1] {
            if x < end {
                x = pen.symbol(x, y, self.symbol(cell), usize::from(cell.width), cell.style);
            }
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::theme::UNICODE;
    use proptest::prelude::*;

    fn wrapped(text: &str, width: usize) -> Vec<String> {
        let mut flow = Flow::default();
        flow.push(text, &UNICODE, Style::new(), Style::new());
        flow.lines(width)
            .iter()
            .map(|l| flow.cells[l.0..l.1].iter().map(|c| flow.symbol(c)).collect())
            .collect()
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
        fn wrapped_lines_concatenate_to_the_text(text in "[a-z \n日\u{1b}]{0,80}", width in 1usize..20) {
            prop_assert_eq!(wrapped(&text, width).concat(), sanitize::visible_line(&text, &UNICODE.signs()));
        }
    }
}
