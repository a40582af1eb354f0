//! Clipped drawing into a part of the screen, by role and with safe symbols.

use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::sanitize;
use crate::tui::svg::{CellStyle, base_colors};
use crate::tui::theme::{Glyphs, Role, Theme};

/// Pen that draws into `area`. Positions are relative to it; cells outside it are not drawn.
pub struct Pen<'a> {
    buf: &'a mut Buffer,
    theme: &'a Theme,
    area: Rect,
}

impl<'a> Pen<'a> {
    /// Returns a pen for `area`, clipped to the buffer.
    pub fn new(buf: &'a mut Buffer, theme: &'a Theme, area: Rect) -> Pen<'a> {
        let area = area.intersection(buf.area);
        Pen { buf, theme, area }
    }

    /// Returns a pen for a part of this one's area.
    pub fn part(&mut self, x: u16, y: u16, width: u16, height: u16) -> Pen<'_> {
        let (left, top) = (self.area.x.saturating_add(x), self.area.y.saturating_add(y));
        let area = Rect::new(left, top, width, height).intersection(self.area);
        Pen { buf: self.buf, theme: self.theme, area }
    }

    /// Returns the width in columns.
    pub fn width(&self) -> usize {
        usize::from(self.area.width)
    }

    /// Returns the height in rows.
    pub fn height(&self) -> usize {
        usize::from(self.area.height)
    }

    /// Returns the glyph set of the theme.
    pub fn glyphs(&self) -> &'a Glyphs {
        &self.theme.glyphs
    }

    /// Returns the style of a role.
    pub fn style(&self, role: Role) -> Style {
        self.theme.style(role)
    }

    /// Returns the colors of a role where they are drawn in pixels.
    pub fn pixel_style(&self, role: Role) -> CellStyle {
        let mut cell = Cell::default();
        cell.set_style(self.theme.style(role));
        let (foreground, background) = base_colors(self.theme);
        CellStyle::of(&cell, foreground, background)
    }

    /// Returns the background of the screen where it is drawn in pixels.
    pub fn background(&self) -> (u8, u8, u8) {
        base_colors(self.theme).1
    }

    /// Returns the place on the screen of a part of the area.
    pub fn place(&self, x: u16, y: u16, width: u16, height: u16) -> Rect {
        Rect::new(self.area.x + x, self.area.y + y, width, height).intersection(self.area)
    }

    /// Writes text at (x, y), cut at the right edge; returns the column after it.
    pub fn text(&mut self, x: usize, y: usize, text: &str, role: Role) -> usize {
        let style = self.theme.style(role);
        self.styled(x, y, text, style)
    }

    /// Writes text like [`Pen::text`], but in an explicit style.
    pub fn styled(&mut self, x: usize, y: usize, text: &str, style: Style) -> usize {
        let mut x = x;
        sanitize::for_each_piece(text, &self.theme.glyphs.signs(), |symbol, width, _| {
            x = self.symbol(x, y, symbol, width, style)
        });
        x
    }

    /// Writes text that ends before column `end`, shortened if it is longer.
    pub fn right(&mut self, end: usize, y: usize, text: &str, role: Role) {
        let text = self.shorten(text, end);
        let start = end - self.measure(&text).min(end);
        self.text(start, y, &text, role);
    }

    /// Writes one symbol of `width` cells; returns the column after it.
    ///
    /// The symbol must be safe to print. A wide symbol that does not fit is left out.
    pub fn symbol(
        &mut self,
        x: usize,
        y: usize,
        symbol: &str,
        width: usize,
        style: Style,
    ) -> usize {
        if y < self.height() && x + width <= self.width() {
            let (left, row) = (self.area.x + x as u16, self.area.y + y as u16);
            self.buf[(left, row)].set_symbol(symbol).set_style(style);
            for i in 1..width as u16 {
                // Cells covered by a wide symbol hold no symbol of their own.
                self.buf[(left + i, row)].set_symbol(" ").set_style(style);
            }
        }
        x + width
    }

    /// Changes the style of cells, but not their symbols.
    pub fn tint(&mut self, x: usize, y: usize, width: usize, role: Role) {
        let style = self.theme.style(role);
        for x in x..(x + width).min(self.width()) {
            if y < self.height() {
                self.buf[(self.area.x + x as u16, self.area.y + y as u16)].set_style(style);
            }
        }
    }

    /// Repeats a glyph from column `x` up to but not including `end`.
    pub fn rule(&mut self, x: usize, end: usize, y: usize, glyph: &str, role: Role) {
        let style = self.theme.style(role);
        for x in x..end.min(self.width()) {
            self.symbol(x, y, glyph, 1, style);
        }
    }

    /// Resets all cells to blanks in the style of a role.
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

    /// Returns the width of a text in cells, as drawn.
    pub fn measure(&self, text: &str) -> usize {
        let mut total = 0;
        sanitize::for_each_piece(text, &self.theme.glyphs.signs(), |_, width, _| total += width);
        total
    }

    /// Returns the text made safe and at most `width` cells wide. A cut is marked by an ellipsis.
    pub fn shorten(&self, text: &str, width: usize) -> String {
        shorten(text, width, &self.theme.glyphs)
    }
}

/// Returns the text made safe and at most `width` cells wide. A cut is marked by an ellipsis.
pub fn shorten(text: &str, width: usize, glyphs: &Glyphs) -> String {
    let (mut out, mut used, mut keep, mut cut) = (String::new(), 0, 0, false);
    sanitize::for_each_piece(text, &glyphs.signs(), |symbol, w, _| {
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
