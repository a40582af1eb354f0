//! Drawing into a part of the screen: clipped, cleaned, by role.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::clean;
use crate::theme::{Glyphs, Role, Theme};

/// Draws into `area`; positions are relative to it, and what lies outside is not drawn.
pub struct Pen<'a> {
    buf: &'a mut Buffer,
    theme: &'a Theme,
    area: Rect,
}

impl<'a> Pen<'a> {
    /// A pen for `area`, cut to what the buffer has.
    pub fn new(buf: &'a mut Buffer, theme: &'a Theme, area: Rect) -> Pen<'a> {
        let area = area.intersection(buf.area);
        Pen { buf, theme, area }
    }

    /// A pen for a part of this one's area.
    pub fn part(&mut self, x: u16, y: u16, width: u16, height: u16) -> Pen<'_> {
        let (left, top) = (self.area.x.saturating_add(x), self.area.y.saturating_add(y));
        let area = Rect::new(left, top, width, height).intersection(self.area);
        Pen { buf: self.buf, theme: self.theme, area }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        usize::from(self.area.width)
    }

    /// Rows.
    pub fn height(&self) -> usize {
        usize::from(self.area.height)
    }

    /// What is drawn with.
    pub fn glyphs(&self) -> &'a Glyphs {
        &self.theme.glyphs
    }

    /// The style of a role.
    pub fn style(&self, role: Role) -> Style {
        self.theme.style(role)
    }

    /// Writes text at (x, y), cut at the right edge; returns the column after it.
    pub fn text(&mut self, x: usize, y: usize, text: &str, role: Role) -> usize {
        let style = self.theme.style(role);
        self.styled(x, y, text, style)
    }

    /// As [`Pen::text`], in a style.
    pub fn styled(&mut self, x: usize, y: usize, text: &str, style: Style) -> usize {
        let mut x = x;
        clean::each(text, &self.theme.glyphs.signs(), |symbol, width, _| x = self.symbol(x, y, symbol, width, style));
        x
    }

    /// Writes text that ends before column `end`; text that is longer loses its end.
    pub fn right(&mut self, end: usize, y: usize, text: &str, role: Role) {
        let text = self.shorten(text, end);
        let start = end - self.measure(&text).min(end);
        self.text(start, y, &text, role);
    }

    /// One symbol that is known to be safe, `width` cells wide; returns the column after it. A wide one that does not
    /// fit is left out.
    pub fn symbol(&mut self, x: usize, y: usize, symbol: &str, width: usize, style: Style) -> usize {
        if y < self.height() && x + width <= self.width() {
            let (left, row) = (self.area.x + x as u16, self.area.y + y as u16);
            self.buf[(left, row)].set_symbol(symbol).set_style(style);
            for i in 1..width as u16 {
                // What a wide symbol covers holds nothing of its own.
                self.buf[(left + i, row)].set_symbol(" ").set_style(style);
            }
        }
        x + width
    }

    /// Changes the style of cells, not their symbols.
    pub fn tint(&mut self, x: usize, y: usize, width: usize, role: Role) {
        let style = self.theme.style(role);
        for x in x..(x + width).min(self.width()) {
            if y < self.height() {
                self.buf[(self.area.x + x as u16, self.area.y + y as u16)].set_style(style);
            }
        }
    }

    /// Repeats a glyph from column `x` up to, not with, `end`.
    pub fn rule(&mut self, x: usize, end: usize, y: usize, glyph: &str, role: Role) {
        let style = self.theme.style(role);
        for x in x..end.min(self.width()) {
            self.symbol(x, y, glyph, 1, style);
        }
    }

    /// Blank cells in the style of a role.
    pub fn clear(&mut self, role: Role) {
        let style = self.theme.style(role);
        for y in self.area.top()..self.area.bottom() {
            for x in self.area.left()..self.area.right() {
                let cell = &mut self.buf[(x, y)];
                cell.reset();
                cell.set_style(style);
            }
        }
    }

    /// Width of a text in cells, as it would be drawn.
    pub fn measure(&self, text: &str) -> usize {
        let mut total = 0;
        clean::each(text, &self.theme.glyphs.signs(), |_, width, _| total += width);
        total
    }

    /// The text made safe and no wider than `width`; what is cut is marked.
    pub fn shorten(&self, text: &str, width: usize) -> String {
        shorten(text, width, &self.theme.glyphs)
    }
}

/// The text made safe and no wider than `width` cells; what is cut is marked by an ellipsis.
pub fn shorten(text: &str, width: usize, glyphs: &Glyphs) -> String {
    let (mut out, mut used, mut keep, mut cut) = (String::new(), 0, 0, false);
    clean::each(text, &glyphs.signs(), |symbol, w, _| {
        cut |= used + w > width;
        if !cut {
            out.push_str(symbol);
            used += w;
            if used < width {
                keep = out.len();
            }
        }
    });
    if cut {
        out.truncate(keep);
        if width > 0 {
            out.push_str(glyphs.ellipsis);
        }
    }
    out
}
