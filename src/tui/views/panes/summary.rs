//! Titles of the panes: name and main figures.

use super::{
    accepted, advice, calibration, curve, entropy, gauge, ladder, miss, misses, race, rates, runs,
    speed, text, tree,
};
use crate::tui::theme::{Glyphs, Role};
use crate::tui::{Pane, State};

/// Returns the right part of a pane's title, longest form first, with its role.
pub fn summary(state: &State, pane: Pane, glyphs: &Glyphs) -> (Vec<String>, Role) {
    match pane {
        Pane::Text => text::summary(state),
        Pane::Tree => tree::summary(state),
        Pane::Entropy => entropy::summary(state, glyphs),
        Pane::Accepted => accepted::summary(state),
        Pane::Speed => speed::summary(state, glyphs),
        Pane::Gauge => gauge::summary(state),
        Pane::Ladder => ladder::summary(state),
        Pane::Curve => curve::summary(state),
        Pane::Misses => misses::summary(state),
        Pane::Miss => miss::summary(state),
        Pane::Rates => rates::summary(state),
        Pane::Advice => advice::summary(state),
        Pane::Calibration => calibration::summary(state),
        Pane::Steps => (Vec::new(), Role::Label),
        Pane::Race => race::summary(state),
        Pane::Runs => runs::summary(state),
    }
}
