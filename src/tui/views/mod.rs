//! Rendering of the screens: pure functions of state and theme.
//!
//! `layout` places the panes, `views` holds one file per pane, and `pen` draws clipped text by
//! role. `compare` and `training` draw the other two screens.

mod attach;
mod compare;
mod flow;
mod layout;
mod number;
mod panes;
mod pen;
mod plot;
mod ruler;
mod status_line;
mod training;

pub use attach::draw_attached;
pub use compare::draw_compare;
pub use layout::{LayoutVariant, MIN_SCREEN, ScreenLayout as Places, places};
pub use panes::target;
pub use ruler::{PlacedLabel, RulerMark, Side, place};
pub use status_line::draw_status_line;
pub use training::draw_training;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::tui::theme::{Role, Theme};
use crate::tui::{Overlay, Pane, Phase, State};
use pen::Pen;

/// Draws the whole screen into a frame; returns the same as [`draw`].
pub fn render(state: &State, theme: &Theme, frame: &mut Frame) -> u16 {
    let area = frame.area();
    draw(state, theme, area, frame.buffer_mut())
}

/// Draws the whole screen into a buffer; returns the maximum scroll offset in lines.
///
/// The offset is that of the open help or definitions, else that of the text.
pub fn draw(state: &State, theme: &Theme, area: Rect, buf: &mut Buffer) -> u16 {
    Pen::new(buf, theme, area).clear(Role::Base);
    if area.width < MIN_SCREEN.0 || area.height < MIN_SCREEN.1 {
        panes::too_small(&mut Pen::new(buf, theme, area));
        return 0;
    }
    let mut beyond = 0;
    let places = places(area, state);
    panes::header(state, &mut Pen::new(buf, theme, places.header));
    if let Some(rect) = places.light {
        let focused = state.focus == Pane::Gauge
            && !places.panes.iter().any(|(pane, _)| *pane == Pane::Gauge);
        let used = panes::light(state, focused, &mut Pen::new(buf, theme, rect)) as u16 + 1;
        // A zoomed bar leaves room below for the gauge in tokens per step.
        let left = rect.height.saturating_sub(used);
        if state.zoom && left >= 10 && state.step().is_some() {
            let mut pen = Pen::new(buf, theme, Rect { y: rect.y + used, height: left, ..rect });
            title(state, Pane::Gauge, &mut pen);
            panes::gauge(state, places.form, &mut pen.part(0, 1, rect.width, left - 1));
        }
    }
    for (pane, rect) in &places.panes {
        let mut pen = Pen::new(buf, theme, *rect);
        if places.form == LayoutVariant::Compact && !state.zoom {
            // Every row counts: panes have no titles.
            beyond = beyond.max(body(state, *pane, places.form, &mut pen));
        } else {
            title(state, *pane, &mut pen);
            let (width, height) = (rect.width, rect.height.saturating_sub(1));
            beyond =
                beyond.max(body(state, *pane, places.form, &mut pen.part(0, 1, width, height)));
        }
    }
    if let Some(rect) = places.tabs {
        panes::tabs(state, &mut Pen::new(buf, theme, rect));
    }
    if let Some(rect) = places.advice {
        panes::advice_line(state, places.form, &mut Pen::new(buf, theme, rect));
    }
    for x in &places.rules {
        panes::divider(&mut Pen::new(buf, theme, *x));
    }
    if let Some(rect) = places.figures {
        panes::figures(state, &mut Pen::new(buf, theme, rect));
    }
    if let Some(rect) = places.legend {
        panes::legend(&mut Pen::new(buf, theme, rect));
    }
    if let Some(rect) = places.timeline {
        let mut pen = Pen::new(buf, theme, rect);
        panes::timeline_row(state, &mut pen);
    }
    panes::footer(state, &mut Pen::new(buf, theme, places.footer));
    match &state.overlay {
        Overlay::None => {
            if let Phase::Loading(what, done) = &state.phase {
                panes::loading(what, *done, &mut Pen::new(buf, theme, area));
            }
        }
        Overlay::Help(scroll) => {
            beyond = panes::help(&state.keys, *scroll, &mut Pen::new(buf, theme, area))
        }
        Overlay::Marks(scroll) => beyond = panes::marks(*scroll, &mut Pen::new(buf, theme, area)),
        Overlay::Editor(input) => panes::editor(&input.editor, &mut Pen::new(buf, theme, area)),
        Overlay::Line(input) => panes::input(state, input, &mut Pen::new(buf, theme, area)),
    }
    u16::try_from(beyond).unwrap_or(u16::MAX)
}

fn title(state: &State, pane: Pane, pen: &mut Pen) {
    let focused = state.focus == pane;
    let (frame, name) =
        if focused { (Role::FrameFocus, Role::TitleFocus) } else { (Role::Frame, Role::Title) };
    let (line, width) = (pen.glyphs().line, pen.width());
    pen.rule(0, width, 0, line, frame);
    let start = if focused {
        let mark = pen.glyphs().focus;
        pen.text(0, 0, mark, name)
    } else {
        1
    };
    let end = pen.text(start, 0, &format!(" {} ", pane.name()), name);
    let (summary, role) = panes::summary(state, pane, pen.glyphs());
    let room = width.saturating_sub(end + 5);
    if let Some(text) = summary.iter().find(|t| !t.is_empty() && pen.measure(t) <= room) {
        pen.right(width - 1, 0, &format!(" {text} "), role);
    }
}

/// Draws the body of a pane; returns its maximum scroll offset in lines.
fn body(state: &State, pane: Pane, form: LayoutVariant, pen: &mut Pen) -> usize {
    match pane {
        Pane::Text => return panes::text(state, pen),
        Pane::Tree => panes::tree(state, pen),
        Pane::Entropy => panes::entropy(state, pen),
        Pane::Accepted => panes::accepted(state, pen),
        Pane::Speed => panes::speed(state, pen),
        Pane::Gauge => panes::gauge(state, form, pen),
        Pane::Ladder => panes::ladder(state, pen),
        Pane::Curve => panes::curve(state, pen),
        Pane::Misses => panes::misses(state, pen),
        Pane::Miss => panes::miss(state, pen),
        Pane::Rates => panes::rates(state, pen),
        Pane::Advice => panes::advice(state, pen),
        Pane::Calibration => panes::calibration(state, pen),
        Pane::Steps => panes::steps(state, pen),
        Pane::Race => panes::race_pane(state, pen),
        Pane::Runs => panes::runs(state, pen),
    }
    0
}
