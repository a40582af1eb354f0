//! Terminal recordings of a replay, in version 2 of asciinema's format.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use serde_json::json;

/// Attributes with their SGR parameter.
const ATTRIBUTES: [(Modifier, u8); 6] = [
    (Modifier::BOLD, 1),
    (Modifier::DIM, 2),
    (Modifier::ITALIC, 3),
    (Modifier::UNDERLINED, 4),
    (Modifier::REVERSED, 7),
    (Modifier::CROSSED_OUT, 9),
];

/// Writer of a terminal recording. Each frame holds only the cells that changed.
pub struct Cast<W: Write> {
    out: W,
    shown: Buffer,
}

impl<W: Write> Cast<W> {
    /// Writes the header. `first` gives the size of the screen.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn new(mut out: W, first: &Buffer, title: &str) -> anyhow::Result<Cast<W>> {
        let header = json!({ "version": 2, "width": first.area.width, "height": first.area.height, "title": title });
        writeln!(out, "{header}")?;
        writeln!(out, "{}", json!([0.0, "o", "\u{1b}[?25l\u{1b}[0m\u{1b}[2J"]))?;
        Ok(Cast { out, shown: Buffer::empty(first.area) })
    }

    /// Writes the cells that differ from the last frame.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn frame(&mut self, at: Duration, buffer: &Buffer) -> anyhow::Result<()> {
        let cells = self.shown.diff(buffer);
        if cells.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        let (mut next, mut style) = (None, None);
        for (x, y, cell) in cells {
            if next != Some((x, y)) {
                let _ = write!(text, "\u{1b}[{};{}H", y + 1, x + 1);
            }
            if style != Some(cell.style()) {
                select(&mut text, cell);
                style = Some(cell.style());
            }
            text.push_str(cell.symbol());
            let width = unicode_width::UnicodeWidthStr::width(cell.symbol()).max(1) as u16;
            next = Some((x + width, y));
        }
        text.push_str("\u{1b}[0m");
        writeln!(self.out, "{}", json!([(at.as_secs_f64() * 1e6).round() / 1e6, "o", text]))?;
        self.shown = buffer.clone();
        Ok(())
    }

    /// Writes the end of the file: the cursor is shown again.
    ///
    /// # Errors
    /// If the output can't be written.
    pub fn finish(mut self, at: Duration) -> anyhow::Result<()> {
        writeln!(self.out, "{}", json!([at.as_secs_f64(), "o", "\u{1b}[?25h"]))?;
        self.out.flush()?;
        Ok(())
    }
}

/// Appends the sequence that selects the style of a cell.
fn select(text: &mut String, cell: &Cell) {
    text.push_str("\u{1b}[0");
    for (_, code) in ATTRIBUTES.iter().filter(|(modifier, _)| cell.modifier.contains(*modifier)) {
        let _ = write!(text, ";{code}");
    }
    for (color, base) in [(cell.fg, 38), (cell.bg, 48)] {
        match color {
            Color::Rgb(r, g, b) => drop(write!(text, ";{base};2;{r};{g};{b}")),
            Color::Indexed(i) => drop(write!(text, ";{base};5;{i}")),
            // Themes name no others; these leave the color to the terminal.
            _ => {}
        }
    }
    text.push('m');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ratatui::layout::Rect;
    use ratatui::style::Style;
    use serde_json::Value;

    #[test]
    fn a_terminal_that_plays_the_frames_shows_the_screen() {
        let mut first = Buffer::empty(Rect::new(0, 0, 12, 3));
        first.set_string(
            1,
            0,
            "one 日本",
            Style::new().fg(Color::Rgb(1, 2, 3)).add_modifier(Modifier::BOLD),
        );
        let mut second = first.clone();
        second.set_string(0, 2, "two", Style::new().bg(Color::Indexed(9)));
        second.set_string(1, 0, "o", Style::new());
        let mut out = Vec::new();
        let mut cast = Cast::new(&mut out, &first, "a \"title\"").unwrap();
        cast.frame(Duration::ZERO, &first).unwrap();
        cast.frame(Duration::from_millis(1), &first).unwrap();
        cast.frame(Duration::from_millis(1500), &second).unwrap();
        cast.finish(Duration::from_secs(2)).unwrap();
        let lines: Vec<Value> = String::from_utf8(out)
            .unwrap()
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(
            (&lines[0]["version"], &lines[0]["width"], &lines[0]["title"]),
            (&json!(2), &json!(12), &json!("a \"title\""))
        );
        let times: Vec<f64> = lines[1..].iter().map(|line| line[0].as_f64().unwrap()).collect();
        assert_eq!(times, [0.0, 0.0, 1.5, 2.0]);
        let mut terminal = vt100::Parser::new(3, 12, 0);
        lines[1..].iter().for_each(|line| terminal.process(line[2].as_str().unwrap().as_bytes()));
        let screen = terminal.screen();
        assert_eq!(screen.contents(), " one 日本\n\ntwo");
        let cell = |row, column| screen.cell(row, column).unwrap().clone();
        assert!(cell(0, 2).bold() && cell(0, 2).fgcolor() == vt100::Color::Rgb(1, 2, 3));
        assert_eq!(cell(2, 1).bgcolor(), vt100::Color::Idx(9));
    }
}
