//! Drawing the state: `render` changes nothing and is a function of the state and the theme alone.

mod attach;
mod compare;
mod flow;
mod layout;
mod number;
mod pen;
mod plot;
mod ruler;
mod training;
mod views;

pub use attach::draw_attached;
pub use compare::draw_compare;
pub use layout::{Form, Frame as Places, LEAST, places};
pub use ruler::{Mark, Placed, Side, place};
pub use training::draw_training;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::app::{Overlay, Pane, Phase, State};
use crate::theme::{Role, Theme};
use pen::Pen;

/// Draws the whole screen; says, as [`draw`] does, how far it can be scrolled.
pub fn render(state: &State, theme: &Theme, frame: &mut Frame) -> u16 {
    let area = frame.area();
    draw(state, theme, area, frame.buffer_mut())
}

/// Draws the whole screen into a buffer; says how many lines the help (or the marks), or without it the text, goes beyond what is
/// shown of it: as far as it can be scrolled.
pub fn draw(state: &State, theme: &Theme, area: Rect, buf: &mut Buffer) -> u16 {
    Pen::new(buf, theme, area).clear(Role::Base);
    if area.width < LEAST.0 || area.height < LEAST.1 {
        views::too_small(&mut Pen::new(buf, theme, area));
        return 0;
    }
    let mut beyond = 0;
    let places = places(area, state);
    views::header(state, &mut Pen::new(buf, theme, places.header));
    if let Some(rect) = places.light {
        let focused = state.focus == Pane::Gauge && !places.panes.iter().any(|(pane, _)| *pane == Pane::Gauge);
        let used = views::light(state, focused, &mut Pen::new(buf, theme, rect)) as u16 + 1;
        // Filling the screen, it leaves room for the other unit.
        let left = rect.height.saturating_sub(used);
        if state.zoom && left >= 10 && state.step().is_some() {
            let mut pen = Pen::new(buf, theme, Rect { y: rect.y + used, height: left, ..rect });
            title(state, Pane::Gauge, &mut pen);
            views::gauge(state, places.form, &mut pen.part(0, 1, rect.width, left - 1));
        }
    }
    for (pane, rect) in &places.panes {
        let mut pen = Pen::new(buf, theme, *rect);
        if places.form == Form::Compact && !state.zoom {
            // Every row counts: panes go without their titles.
            beyond = beyond.max(body(state, *pane, places.form, &mut pen));
        } else {
            title(state, *pane, &mut pen);
            let (width, height) = (rect.width, rect.height.saturating_sub(1));
            beyond = beyond.max(body(state, *pane, places.form, &mut pen.part(0, 1, width, height)));
        }
    }
    for x in &places.rules {
        views::divider(&mut Pen::new(buf, theme, *x));
    }
    if let Some(rect) = places.figures {
        views::figures(state, &mut Pen::new(buf, theme, rect));
    }
    if let Some(rect) = places.legend {
        views::legend(&mut Pen::new(buf, theme, rect));
    }
    views::footer(state, &mut Pen::new(buf, theme, places.footer));
    match &state.overlay {
        Overlay::None => {
            if let Phase::Loading(what, done) = &state.phase {
                views::loading(what, *done, &mut Pen::new(buf, theme, area));
            }
        }
        Overlay::Help(scroll) => beyond = views::help(*scroll, &mut Pen::new(buf, theme, area)),
        Overlay::Marks(scroll) => beyond = views::marks(*scroll, &mut Pen::new(buf, theme, area)),
        Overlay::Editor(editor) => views::editor(editor, &mut Pen::new(buf, theme, area)),
    }
    u16::try_from(beyond).unwrap_or(u16::MAX)
}

fn title(state: &State, pane: Pane, pen: &mut Pen) {
    let focused = state.focus == pane;
    let (frame, name) = if focused { (Role::FrameFocus, Role::TitleFocus) } else { (Role::Frame, Role::Title) };
    let (line, width) = (pen.glyphs().line, pen.width());
    pen.rule(0, width, 0, line, frame);
    let start = if focused {
        let mark = pen.glyphs().focus;
        pen.text(0, 0, mark, name)
    } else {
        1
    };
    let end = pen.text(start, 0, &format!(" {} ", pane.name()), name);
    let (told, role) = views::summary(state, pane, pen.glyphs());
    let room = width.saturating_sub(end + 5);
    if let Some(told) = told.iter().find(|t| !t.is_empty() && pen.measure(t) <= room) {
        pen.right(width - 1, 0, &format!(" {told} "), role);
    }
}

/// Draws a pane; says how many lines it can be scrolled.
fn body(state: &State, pane: Pane, form: Form, pen: &mut Pen) -> usize {
    match pane {
        Pane::Text => return views::text(state, pen),
        Pane::Tree => views::tree(state, pen),
        Pane::Entropy => views::entropy(state, pen),
        Pane::Accepted => views::accepted(state, pen),
        Pane::Speed => views::speed(state, pen),
        Pane::Gauge => views::gauge(state, form, pen),
        Pane::Ladder => views::ladder(state, pen),
        Pane::Curve => views::curve(state, pen),
        Pane::Misses => views::misses(state, pen),
        Pane::Calibration => views::calibration(state, pen),
        Pane::Steps => views::steps(state, pen),
    }
    0
}
