//! Views of the monitor, one file each.
//!
//! Each is a function that draws a part of the state with a pen. Most have a `summary` for the
//! pane's title.

mod accepted;
mod advice;
mod calibration;
mod chrome;
mod curve;
mod entropy;
mod gauge;
mod help;
mod input;
mod ladder;
mod light;
mod marks;
mod miss;
mod misses;
mod overlap;
mod race;
mod rates;
mod runs;
mod speed;
mod steps;
mod target;
mod text;
mod timeline;
mod tree;

pub use input::input;
pub use race::race_pane;
pub use runs::runs;
pub use target::{Target, target};
pub use timeline::timeline_row;

pub use accepted::accepted;
pub use advice::advice;
pub use calibration::calibration;
pub use chrome::{
    advice_line, divider, editor, figures, footer, header, items, loading, tabs, too_small,
};
pub use curve::curve;
pub use entropy::entropy;
pub use gauge::gauge;
pub use help::{help, legend};
pub use ladder::ladder;
pub use light::light;
pub use marks::marks;
pub use miss::miss;
pub use misses::{cause_role, misses};
pub use rates::rates;
pub use speed::speed;
pub use steps::steps;
pub use text::text;
pub use tree::{token, tree};

use super::pen::Pen;
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

/// Writes a gray line into a pane that has nothing to show yet.
pub fn empty(pen: &mut Pen, words: &str) {
    let words = pen.shorten(words, pen.width().saturating_sub(2));
    pen.text(1, 0, &words, Role::Label);
}

/// Returns whether the sampled distribution is a single token.
fn greedy(record: &crate::telemetry::StepRecord) -> bool {
    record.settings.temperature == 0.0 || record.settings.top_k == Some(1)
}
