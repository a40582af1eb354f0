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
mod summary;
mod target;
mod text;
mod timeline;
mod tree;

pub use input::input;
pub use race::race_pane;
pub use runs::runs;
pub use summary::summary;
pub use target::target;
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
use crate::tui::theme::Role;

/// Writes a gray line into a pane that has nothing to show yet.
pub fn empty(pen: &mut Pen, words: &str) {
    let words = pen.shorten(words, pen.width().saturating_sub(2));
    pen.text(1, 0, &words, Role::Label);
}

/// Returns whether the sampled distribution is a single token.
fn greedy(record: &crate::telemetry::StepRecord) -> bool {
    record.settings.temperature == 0.0 || record.settings.top_k == Some(1)
}
