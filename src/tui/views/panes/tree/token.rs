//! Token text as the tree shows it.

use crate::tui::views::pen::Pen;

/// Returns a token as the tree shows it, with leading and trailing spaces made visible.
pub fn token(text: &str, pen: &Pen, width: usize) -> String {
    let inner = text.trim_matches(' ');
    let lead = text.len() - text.trim_start_matches(' ').len();
    let shown = if inner.is_empty() && !text.is_empty() {
        pen.glyphs().space.repeat(text.len().min(8))
    } else if text.is_empty() {
        "<>".to_owned()
    } else {
        let tail = text.len() - lead - inner.len();
        format!(
            "{}{}{}",
            pen.glyphs().space.repeat(lead.min(8)),
            inner,
            pen.glyphs().space.repeat(tail.min(8))
        )
    };
    pen.shorten(&shown, width)
}
