//! Part of the screen under the mouse.

use ratatui::layout::{Position, Rect};

use super::{entropy, runs, steps, text, timeline};
use crate::tui::theme::Theme;
use crate::tui::views::{LayoutVariant, MIN_SCREEN, places};
use crate::tui::{Pane, State, Target};

/// Returns the part of a screen of this size at column `x` and row `y`.
pub fn target(state: &State, theme: &Theme, area: Rect, x: u16, y: u16) -> Target {
    if area.width < MIN_SCREEN.0 || area.height < MIN_SCREEN.1 {
        return Target::Nothing;
    }
    let at = Position { x, y };
    let places = places(area, state);
    if let Some(rect) = places.timeline.filter(|rect| rect.contains(at)) {
        let step = timeline::step_at(state, usize::from(rect.width), usize::from(x - rect.x));
        return step.map_or(Target::Nothing, |number| Target::Step(number, None));
    }
    if places.light.is_some_and(|rect| rect.contains(at)) {
        return Target::Light;
    }
    let Some((pane, rect)) = places.panes.iter().find(|(_, rect)| rect.contains(at)) else {
        return Target::Nothing;
    };
    // Panes of the compact layout have no titles.
    let title = u16::from(places.form != LayoutVariant::Compact || state.zoom);
    let Some(row) = (y - rect.y).checked_sub(title) else { return Target::Pane(*pane) };
    let (width, height) = (usize::from(rect.width), usize::from(rect.height - title));
    let (column, row) = (usize::from(x - rect.x), usize::from(row));
    let step = match pane {
        Pane::Text => text::step_at(state, &theme.glyphs, (width, height), column, row),
        Pane::Steps => steps::step_at(state, height, row),
        Pane::Entropy => entropy::step_at(state, width, column),
        Pane::Runs => {
            return runs::row_at(state, height, row).map_or(Target::Pane(*pane), Target::Run);
        }
        _ => None,
    };
    step.map_or(Target::Pane(*pane), |number| Target::Step(number, Some(*pane)))
}
