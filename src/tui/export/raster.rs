//! Screens as pixels, cell by cell, with the bundled font.

use std::collections::HashMap;

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};
use ratatui::buffer::Buffer;
use ratatui::style::Modifier;
use unicode_width::UnicodeWidthStr;

use super::super::svg::{CellStyle, base_colors, braille_dots, line_ends, shade_opacity};
use crate::tui::theme::Theme;

/// Width and height of a cell in pixels at scale 1.
const CELL: (usize, usize) = (9, 18);
/// Size of the font's em in pixels at scale 1.
///
/// The largest whose advance fits the cell.
const EM: f32 = 14.9;
/// Height of the baseline above the bottom of a cell, in cell heights.
const DESCENT: f32 = 0.24;
/// Opacity of dim text.
const DIM: f32 = 0.6;

type Rgb = (u8, u8, u8);

/// Picture in RGB, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Width of the picture in pixels.
    pub width: usize,
    /// Height of the picture in pixels.
    pub height: usize,
    /// Three bytes per pixel.
    pub pixels: Vec<u8>,
}

impl Image {
    /// Creates a picture of one color.
    pub fn new(width: usize, height: usize, color: Rgb) -> Image {
        Image { width, height, pixels: [color.0, color.1, color.2].repeat(width * height) }
    }

    /// Returns the picture as a PNG file.
    ///
    /// # Errors
    /// If the encoder fails.
    pub fn png(&self) -> anyhow::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut encoder =
            png::Encoder::new(&mut out, u32::try_from(self.width)?, u32::try_from(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.pixels)?;
        writer.finish()?;
        Ok(out)
    }

    /// Blends a color over a pixel. Pixels outside of the picture are ignored.
    fn blend(&mut self, x: usize, y: usize, color: Rgb, opacity: f32) {
        if x >= self.width || y >= self.height {
            return;
        }
        let at = 3 * (y * self.width + x);
        for (old, new) in self.pixels[at..at + 3].iter_mut().zip([color.0, color.1, color.2]) {
            *old = (f32::from(*old) + (f32::from(new) - f32::from(*old)) * opacity)
                .round()
                .clamp(0.0, 255.0) as u8;
        }
    }

    /// Fills a rectangle, given by its left, top, width, and height.
    pub fn fill(&mut self, [left, top, width, height]: [usize; 4], color: Rgb, opacity: f32) {
        for y in top..top + height {
            for x in left..left + width {
                self.blend(x, y, color, opacity);
            }
        }
    }
}

/// Glyph as coverage of pixels, placed relative to the upper left corner of its cell.
struct Coverage {
    left: i32,
    top: i32,
    width: usize,
    values: Vec<f32>,
}

/// Painter of screens, which keeps the glyphs that it has drawn.
pub struct Painter {
    scale: usize,
    regular: FontRef<'static>,
    bold: FontRef<'static>,
    glyphs: HashMap<(char, bool), Coverage>,
}

impl Painter {
    /// Loads the bundled font. `scale` is the number of pixels per pixel of scale 1.
    ///
    /// Returns `None` if the bundled font is invalid.
    pub fn new(scale: usize) -> Option<Painter> {
        let font = |bytes| FontRef::try_from_slice(bytes).ok();
        let (regular, bold) =
            (font(dejavu::sans_mono::regular())?, font(dejavu::sans_mono::bold())?);
        Some(Painter { scale: scale.max(1), regular, bold, glyphs: HashMap::new() })
    }

    /// Returns the width of a text in pixels.
    pub fn width(&self, text: &str) -> usize {
        text.width() * CELL.0 * self.scale
    }

    /// Writes a text whose first row of cells begins at a pixel; `cell` is the size of a cell.
    pub fn write(
        &mut self,
        image: &mut Image,
        (x, y): (usize, usize),
        [_, height]: [usize; 2],
        text: &str,
        color: Rgb,
    ) {
        let style = CellStyle { fg: color, bg: color, modifier: Modifier::empty() };
        let (mut x, y) = (x, y + height.saturating_sub(CELL.1 * self.scale) / 2);
        for c in text.chars() {
            let symbol = c.to_string();
            self.symbol(image, (x, y), symbol.width(), &symbol, &style);
            x += self.width(&symbol);
        }
    }

    /// Paints a screen with the colors of a theme.
    pub fn paint(&mut self, buffer: &Buffer, theme: &Theme) -> Image {
        let (foreground, background) = base_colors(theme);
        let (cell_width, cell_height) = (CELL.0 * self.scale, CELL.1 * self.scale);
        let area = buffer.area;
        let mut image = Image::new(
            usize::from(area.width) * cell_width,
            usize::from(area.height) * cell_height,
            background,
        );
        // Backgrounds first, so that no glyph is cut where it leaves its cell.
        for text in [false, true] {
            for y in area.top()..area.bottom() {
                let mut x = area.left();
                while x < area.right() {
                    let cell = &buffer[(x, y)];
                    let style = CellStyle::of(cell, foreground, background);
                    let columns = cell.symbol().width().max(1);
                    let at = (
                        usize::from(x - area.left()) * cell_width,
                        usize::from(y - area.top()) * cell_height,
                    );
                    if text {
                        self.symbol(&mut image, at, columns, cell.symbol(), &style);
                    } else if style.bg != background {
                        image.fill([at.0, at.1, columns * cell_width, cell_height], style.bg, 1.0);
                    }
                    x = x.saturating_add(columns as u16);
                }
            }
        }
        image
    }

    fn symbol(
        &mut self,
        image: &mut Image,
        (x, y): (usize, usize),
        columns: usize,
        symbol: &str,
        style: &CellStyle,
    ) {
        let (width, height) = (CELL.0 * self.scale, CELL.1 * self.scale);
        let opacity = if style.modifier.contains(Modifier::DIM) { DIM } else { 1.0 };
        let line = self.scale;
        if style.modifier.contains(Modifier::UNDERLINED) {
            image.fill([x, y + height - 2 * line, columns * width, line], style.fg, opacity);
        }
        if style.modifier.contains(Modifier::CROSSED_OUT) {
            image.fill([x, y + height / 2, columns * width, line], style.fg, opacity);
        }
        if let Some(level) = "▁▂▃▄▅▆▇█".chars().position(|c| symbol.starts_with(c))
        {
            let tall = (height * (level + 1) + 4) / 8;
            image.fill([x, y + height - tall, width, tall], style.fg, opacity);
        } else if let Some(level) = "▏▎▍▌▋▊▉".chars().position(|c| symbol.starts_with(c))
        {
            image.fill([x, y, (width * (level + 1) + 4) / 8, height], style.fg, opacity);
        } else if let Some(shade) = shade_opacity(symbol) {
            image.fill([x, y, width, height], style.fg, opacity * shade as f32);
        } else if let Some(dots) = braille_dots(symbol) {
            let (wide, tall) = (width / 2, height / 4);
            let side = 2 * self.scale;
            for (column, row) in dots {
                let left = x + column * wide + wide.saturating_sub(side) / 2;
                image.fill(
                    [left, y + row * tall + tall.saturating_sub(side) / 2, side, side],
                    style.fg,
                    opacity,
                );
            }
        } else if let Some(ends) = line_ends(symbol) {
            let line = if symbol == "━" { 2 * line } else { line };
            let (left, top) = (x + (width - line) / 2, y + (height - line) / 2);
            let dashed = symbol == "┆";
            let [west, east, north, south] = ends;
            let horizontal = [(west, x, left + line - x), (east, left, x + width - left)];
            for (_, from, length) in horizontal.into_iter().filter(|arm| arm.0) {
                image.fill([from, top, length, line], style.fg, opacity);
            }
            for (_, from, length) in [(north, y, top + line - y), (south, top, y + height - top)]
                .into_iter()
                .filter(|arm| arm.0)
            {
                for row in (from..from + length)
                    .filter(|row| !dashed || ((row - y) / (3 * self.scale)).is_multiple_of(2))
                {
                    image.fill([left, row, line, 1], style.fg, opacity);
                }
            }
        } else {
            for c in symbol.chars().filter(|c| !c.is_whitespace()) {
                self.glyph(image, (x, y), c, style, opacity);
            }
        }
    }

    fn glyph(
        &mut self,
        image: &mut Image,
        (x, y): (usize, usize),
        c: char,
        style: &CellStyle,
        opacity: f32,
    ) {
        let bold = style.modifier.contains(Modifier::BOLD);
        let (font, scale) = (if bold { &self.bold } else { &self.regular }, self.scale as f32);
        let coverage = self.glyphs.entry((c, bold)).or_insert_with(|| rasterize(font, c, scale));
        for (i, value) in coverage.values.iter().enumerate().filter(|(_, value)| **value > 0.0) {
            let column = x as i32 + coverage.left + (i % coverage.width) as i32;
            let row = y as i32 + coverage.top + (i / coverage.width) as i32;
            if let (Ok(column), Ok(row)) = (usize::try_from(column), usize::try_from(row)) {
                image.blend(column, row, style.fg, opacity * value.min(1.0));
            }
        }
    }
}

/// Rasterizes a character of the font at `scale`.
///
/// A character that the font lacks gets its glyph for missing characters.
fn rasterize(font: &FontRef, c: char, scale: f32) -> Coverage {
    let units = font.units_per_em().unwrap_or(1000.0);
    let pixels = PxScale::from(EM * scale * font.height_unscaled() / units);
    let baseline = (CELL.1 as f32 * scale * (1.0 - DESCENT)).round();
    let id = font.as_scaled(pixels).glyph_id(c);
    let glyph = Glyph { id, scale: pixels, position: point(0.0, baseline) };
    let Some(outline) = font.outline_glyph(glyph) else {
        return Coverage { left: 0, top: 0, width: 1, values: Vec::new() };
    };
    let bounds = outline.px_bounds();
    let (width, height) = (bounds.width().max(1.0) as usize, bounds.height().max(0.0) as usize);
    let mut values = vec![0.0; width * height];
    outline.draw(|x, y, value| {
        if let Some(pixel) = values.get_mut(y as usize * width + x as usize) {
            *pixel = value;
        }
    });
    Coverage { left: bounds.min.x as i32, top: bounds.min.y as i32, width, values }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ratatui::layout::Rect;
    use ratatui::style::{Color, Style};

    #[test]
    fn cells_get_their_colors_and_glyphs_stay_in_theirs() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 4, 1));
        buffer.set_string(
            0,
            0,
            "█▄M ",
            Style::new().fg(Color::Rgb(255, 0, 0)).bg(Color::Rgb(0, 0, 255)),
        );
        let terminal = crate::tui::theme::TerminalAbilities {
            depth: crate::tui::theme::ColorDepth::True,
            ascii: false,
            folder: None,
        };
        let theme = Theme::load("dark", &terminal).unwrap();
        let image = Painter::new(1).unwrap().paint(&buffer, &theme);
        assert_eq!((image.width, image.height, image.pixels.len()), (36, 18, 3 * 36 * 18));
        let pixel = |x: usize, y: usize| {
            <[u8; 3]>::try_from(&image.pixels[3 * (y * 36 + x)..][..3]).unwrap()
        };
        assert_eq!((pixel(4, 1), pixel(4, 17)), ([255, 0, 0], [255, 0, 0]));
        assert_eq!((pixel(13, 1), pixel(13, 17)), ([0, 0, 255], [255, 0, 0]));
        let red = (18..27)
            .flat_map(|x| (0..18).map(move |y| (x, y)))
            .filter(|&(x, y)| pixel(x, y)[0] > 128)
            .count();
        assert!((20..120).contains(&red), "{red}");
        assert!((27..36).all(|x| (0..18).all(|y| pixel(x, y) == [0, 0, 255])));
    }
}
