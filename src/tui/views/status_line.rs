//! Line of a replay below the monitor's screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::panes::items;
use super::pen::Pen;
use crate::tui::theme::{Role, Theme};

/// Draws texts side by side, leaving out the last ones where there is no room.
///
/// Each has a role; text from outside is made safe.
pub fn draw_status_line(texts: &[(&str, Role)], theme: &Theme, area: Rect, buf: &mut Buffer) {
    let mut pen = Pen::new(buf, theme, area);
    pen.clear(Role::Base);
    let width = pen.width().saturating_sub(1);
    let item = |(i, (text, role)): (usize, &(&str, Role))| {
        let text = pen.shorten(text, width.saturating_sub(1));
        ("", text, *role, u8::try_from(i).unwrap_or(u8::MAX))
    };
    let all = texts.iter().enumerate().map(item).collect();
    items(&mut pen, 0, width, all);
}
