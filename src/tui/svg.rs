//! SVG export of a screen, cell by cell as a terminal would show it.

use std::fmt::Write;

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use unicode_width::UnicodeWidthStr;

use crate::tui::theme::{Role, Theme, rgb};

/// Width and height of a cell in user units of the picture.
const CELL: (f64, f64) = (8.4, 18.0);
/// Font size in user units.
const LETTER: f64 = 14.0;

/// Returns the buffer as an SVG document.
///
/// Cells without a color of their own get those of the theme's base style. Where the theme leaves
/// these to the terminal, they are light gray on near black.
pub fn svg(buffer: &Buffer, theme: &Theme) -> String {
    let (foreground, background) = base_colors(theme);
    let area = buffer.area;
    let (width, height) = (f64::from(area.width) * CELL.0, f64::from(area.height) * CELL.1);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"{LETTER}\" xml:space=\"preserve\" shape-rendering=\"crispEdges\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"{}\"/>\n",
        hex(background)
    );
    for y in area.top()..area.bottom() {
        let mut x = area.left();
        while x < area.right() {
            let cell = &buffer[(x, y)];
            let style = CellStyle::of(cell, foreground, background);
            // Adjacent cells of one style form one text run. Wide and non-ASCII symbols stand
            // alone, so that columns stay aligned.
            let (start, mut text) = (x, String::new());
            loop {
                let symbol = buffer[(x, y)].symbol();
                text.push_str(symbol);
                // A wide symbol covers the next cell.
                x += symbol.width().max(1) as u16;
                let plain = symbol.is_ascii() && symbol.len() == 1;
                let next = (x < area.right()).then(|| &buffer[(x, y)]);
                let goes_on = next.is_some_and(|c| {
                    c.symbol().is_ascii()
                        && c.symbol().len() == 1
                        && CellStyle::of(c, foreground, background) == style
                });
                if !(plain && goes_on) {
                    break;
                }
            }
            run(
                &mut out,
                (f64::from(start - area.left()), f64::from(y - area.top())),
                f64::from(x - start),
                &text,
                &style,
                background,
            );
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Returns the default foreground and background colors.
pub(super) fn base_colors(theme: &Theme) -> (Rgb, Rgb) {
    let base = theme.style(Role::Base);
    let foreground = color(base.fg.unwrap_or(Color::Reset), (0xd0, 0xd6, 0xde));
    (foreground, color(base.bg.unwrap_or(Color::Reset), (0x11, 0x15, 0x1c)))
}

/// Returns the foreground color of a role.
pub(super) fn role_color(theme: &Theme, role: Role) -> Rgb {
    color(theme.style(role).fg.unwrap_or(Color::Reset), base_colors(theme).0)
}

/// Red, green, and blue.
type Rgb = (u8, u8, u8);

/// Resolved style of a cell.
#[derive(PartialEq)]
pub(super) struct CellStyle {
    pub(super) fg: Rgb,
    pub(super) bg: Rgb,
    pub(super) modifier: Modifier,
}

impl CellStyle {
    pub(super) fn of(cell: &ratatui::buffer::Cell, foreground: Rgb, background: Rgb) -> CellStyle {
        let (mut fg, mut bg) = (color(cell.fg, foreground), color(cell.bg, background));
        if cell.modifier.contains(Modifier::REVERSED) {
            std::mem::swap(&mut fg, &mut bg);
        }
        CellStyle { fg, bg, modifier: cell.modifier - Modifier::REVERSED }
    }
}

fn run(
    out: &mut String,
    at: (f64, f64),
    cells: f64,
    text: &str,
    style: &CellStyle,
    background: (u8, u8, u8),
) {
    let (x, y) = (at.0 * CELL.0, at.1 * CELL.1);
    if style.bg != background {
        // Slightly wider than the cells, so that no seam shows between them.
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\"/>",
            cells * CELL.0 + 0.2,
            CELL.1 + 0.2,
            hex(style.bg)
        );
    }
    let level = "▁▂▃▄▅▆▇█".chars().position(|c| text.starts_with(c));
    if let Some(level) = level {
        // Block elements as rectangles: font glyphs would leave gaps between rows.
        let tall = CELL.1 * (level + 1) as f64 / 8.0;
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{tall:.2}\" fill=\"{}\"/>",
            y + CELL.1 - tall,
            CELL.0 + 0.05,
            hex(style.fg)
        );
        return;
    }
    if let Some(dots) = braille_dots(text) {
        let (wide, tall) = (CELL.0 / 2.0, CELL.1 / 4.0);
        let mut path = String::new();
        for (column, row) in dots {
            let (left, top) = (
                x + column as f64 * wide + (wide - 2.2) / 2.0,
                y + row as f64 * tall + (tall - 2.2) / 2.0,
            );
            let _ = write!(path, "M{left:.1} {top:.1}h2.2v2.2h-2.2z");
        }
        let _ = writeln!(out, "<path d=\"{path}\" fill=\"{}\"/>", hex(style.fg));
        return;
    }
    if let Some(opacity) = shade_opacity(text) {
        // Exactly as wide as the cell, whatever the font: overlapping cells would show a seam.
        let (wide, tall) = CELL;
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\" fill=\"{}\" opacity=\"{opacity}\"/>",
            hex(style.fg)
        );
        return;
    }
    let ends = line_ends(text);
    if let Some(ends) = ends {
        let (mx, my) = (x + CELL.0 / 2.0, y + CELL.1 / 2.0);
        let heavy = if text == "━" { 3.0 } else { 1.0 };
        let mut path = String::new();
        for (on, tx, ty) in [
            (ends[0], x, my),
            (ends[1], x + CELL.0, my),
            (ends[2], mx, y),
            (ends[3], mx, y + CELL.1),
        ] {
            if on {
                let _ = write!(path, "M{mx:.1} {my:.1}L{tx:.1} {ty:.1}");
            }
        }
        let dash = if text == "┆" { " stroke-dasharray=\"3 2\"" } else { "" };
        let _ = writeln!(
            out,
            "<path d=\"{path}\" stroke=\"{}\" stroke-width=\"{heavy}\"{dash}/>",
            hex(style.fg)
        );
        return;
    }
    if text.trim().is_empty() && !style.modifier.contains(Modifier::UNDERLINED) {
        return;
    }
    let _ =
        write!(out, "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{}\"", y + CELL.1 * 0.76, hex(style.fg));
    if text.is_ascii() {
        let _ = write!(out, " textLength=\"{:.1}\"", cells * CELL.0);
    }
    for (modifier, attribute) in [
        (Modifier::BOLD, " font-weight=\"bold\""),
        (Modifier::ITALIC, " font-style=\"italic\""),
        (Modifier::UNDERLINED, " text-decoration=\"underline\""),
        (Modifier::DIM, " opacity=\"0.6\""),
    ] {
        if style.modifier.contains(modifier) {
            out.push_str(attribute);
        }
    }
    out.push('>');
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            ' ' => out.push('\u{a0}'),
            c => out.push(c),
        }
    }
    out.push_str("</text>\n");
}

/// Returns the opacity of a shade character.
pub(super) fn shade_opacity(text: &str) -> Option<f64> {
    match text {
        "░" => Some(0.25),
        "▒" => Some(0.5),
        "▓" => Some(0.75),
        _ => None,
    }
}

/// Returns the dots of a braille character.
///
/// Each is given by column and row in a grid of 2 by 4.
///
/// They are drawn as squares that line up across cells, since few fonts have these characters.
pub(super) fn braille_dots(text: &str) -> Option<impl Iterator<Item = (usize, usize)> + use<>> {
    const DOTS: [(usize, usize); 8] =
        [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)];
    let bits =
        text.chars().next().map(u32::from).filter(|c| (0x2801..=0x28ff).contains(c))? - 0x2800;
    Some(DOTS.into_iter().enumerate().filter(move |(i, _)| bits & 1 << i != 0).map(|(_, dot)| dot))
}

/// Returns which arms a box-drawing character has: left, right, up, down.
pub(super) fn line_ends(text: &str) -> Option<[bool; 4]> {
    Some(match text {
        "─" | "━" => [true, true, false, false],
        "│" | "┆" => [false, false, true, true],
        "├" => [false, true, true, true],
        "└" => [false, true, true, false],
        _ => return None,
    })
}

fn color(color: Color, default: (u8, u8, u8)) -> (u8, u8, u8) {
    match color {
        Color::Rgb(r, g, b) => (r, g, b),
        Color::Indexed(i) => rgb(i),
        _ => default,
    }
}

pub(super) fn hex((r, g, b): Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    #[test]
    fn cells_become_letters_lines_and_blocks() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 1));
        buffer.set_string(
            0,
            0,
            "a<b",
            Style::new().fg(Color::Rgb(1, 2, 3)).add_modifier(Modifier::BOLD),
        );
        buffer.set_string(3, 0, "▄├─日", Style::new().bg(Color::Indexed(196)));
        let terminal = crate::tui::theme::TerminalAbilities {
            depth: crate::tui::theme::ColorDepth::True,
            ascii: false,
            folder: None,
        };
        let picture = svg(&buffer, &Theme::load("mono", &terminal).unwrap());
        assert!(
            picture.contains(
                "fill=\"#010203\" textLength=\"25.2\" font-weight=\"bold\">a&lt;b</text>"
            ),
            "{picture}"
        );
        assert!(picture.contains("fill=\"#ff0000\""), "{picture}");
        assert!(picture.contains("height=\"9.00\""), "half a block: {picture}");
        assert_eq!(picture.matches("<path").count(), 2);
        assert!(picture.contains(">日</text>"));
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    }
}
