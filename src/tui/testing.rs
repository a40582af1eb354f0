//! Helpers for tests of other modules.

use crossterm::event::KeyCode;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::theme::{ColorDepth, TerminalAbilities, Theme};
use super::{Msg, State, update, views};

/// Draws each view of a state at a middle and a small size.
pub fn draw_all_views(state: &mut State) {
    let terminal = TerminalAbilities { depth: ColorDepth::True, ascii: false, folder: None };
    let theme = Theme::load("dark", &terminal).expect("a built-in theme");
    for view in '1'..='7' {
        drop(update(state, Msg::Key(KeyCode::Char(view).into())));
        for (width, height) in [(120, 40), (41, 13)] {
            let area = Rect::new(0, 0, width, height);
            views::draw(state, &theme, area, &mut Buffer::empty(area));
        }
    }
}
