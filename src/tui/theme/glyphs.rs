//! Glyph sets: one for UTF-8 terminals and one in ASCII.
//!
//! Each glyph is one cell wide unless its doc says otherwise.

use crate::sanitize::Signs;

/// Set of characters that the screen is drawn with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glyphs {
    /// Set if all glyphs are ASCII; text outside ASCII is then escaped.
    pub ascii: bool,
    /// Accepted node of a tree.
    pub accepted: &'static str,
    /// Rejected node of a tree.
    pub refused: &'static str,
    /// Node whose parent was not reached.
    pub unreached: &'static str,
    /// Node that was drafted, then pruned by the budget.
    pub cut: &'static str,
    /// Node of the oracle tree that was not drafted.
    pub oracle: &'static str,
    /// Bonus token of a step.
    pub bonus: &'static str,
    /// Root of the tree.
    pub root: &'static str,
    /// Branch to a node with later siblings (two cells).
    pub tee: &'static str,
    /// Branch to the last sibling (two cells).
    pub corner: &'static str,
    /// Branch that continues to a later sibling (two cells).
    pub pass: &'static str,
    /// Horizontal line that branches downward.
    pub fork: &'static str,
    /// Dashed horizontal line, one cell.
    pub dashed: &'static str,
    /// Thin horizontal line, one cell.
    pub line: &'static str,
    /// Heavy horizontal line, one cell.
    pub heavy: &'static str,
    /// Thin vertical line, one cell.
    pub vline: &'static str,
    /// Marker of changed settings.
    pub change: &'static str,
    /// Fill levels of a cell, from one eighth to full.
    pub levels: [&'static str; 8],
    /// Fill levels of a cell from the left, from one eighth to full.
    pub bars: [&'static str; 8],
    /// Mark at the foot of a plot for a value of zero.
    pub zero: &'static str,
    /// Fills for time: draft, verify, other.
    pub fills: [&'static str; 3],
    /// Fills of the loss ladder: accepted, luck, shape, knowledge, context, budget.
    pub losses: [&'static str; 6],
    /// Fills of the speed-of-light bar: reached, drafting, overhead, knowledge, shape, budget,
    /// luck, unsplit.
    pub light: [&'static str; 8],
    /// Interval on a ruler.
    pub band: &'static str,
    /// Pointer down to the ruler.
    pub down: &'static str,
    /// Pointer up to the ruler.
    pub up: &'static str,
    /// Pointer to a value beyond the right end.
    pub beyond: &'static str,
    /// Mark for omitted text.
    pub ellipsis: &'static str,
    /// Indicator of a running engine.
    pub live: &'static str,
    /// Indicator of a paused engine (up to two cells).
    pub paused: &'static str,
    /// Multiplication sign, as in "1.5× plain".
    pub times: &'static str,
    /// Plus-minus sign (up to two cells).
    pub plus_minus: &'static str,
    /// Symbol of the mean entropy (up to two cells).
    pub mu: &'static str,
    /// Separator between items of a line.
    pub dot: &'static str,
    /// Arrow from one setting to the next (up to two cells).
    pub arrow: &'static str,
    /// Visible symbol for a space.
    pub space: &'static str,
    /// Visible symbol for a line break.
    pub newline: &'static str,
    /// Visible symbol for a tab.
    pub tab: &'static str,
    /// Mark of the focused pane.
    pub focus: &'static str,
}

/// Glyph set for UTF-8 terminals.
pub const UNICODE: Glyphs = Glyphs {
    ascii: false,
    accepted: "✓",
    refused: "✗",
    unreached: "·",
    cut: "◌",
    oracle: "◇",
    bonus: "★",
    root: "●",
    tee: "├─",
    corner: "└─",
    pass: "│ ",
    fork: "┬",
    dashed: "╌",
    line: "─",
    heavy: "━",
    vline: "│",
    change: "┆",
    levels: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    bars: ["▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"],
    zero: "▁",
    fills: ["▓", "█", "░"],
    losses: ["█", "▞", "▓", "▒", "░", "·"],
    light: ["█", "▓", "▞", "▒", "▚", "░", "▟", "▒"],
    band: "═",
    down: "▼",
    up: "▲",
    beyond: "▶",
    ellipsis: "…",
    live: "▶",
    paused: "‖",
    times: "×",
    plus_minus: "±",
    mu: "μ",
    dot: "·",
    arrow: "→",
    space: "␣",
    newline: "↵",
    tab: "⇥",
    focus: "▌",
};

/// Glyph set in pure ASCII.
pub const ASCII: Glyphs = Glyphs {
    ascii: true,
    accepted: "+",
    refused: "x",
    unreached: ".",
    cut: ":",
    oracle: "?",
    bonus: "*",
    root: "o",
    tee: "|-",
    corner: "`-",
    pass: "| ",
    fork: "+",
    dashed: ".",
    line: "-",
    heavy: "=",
    vline: "|",
    change: ":",
    levels: [".", ".", ":", ":", "i", "i", "#", "#"],
    bars: ["-", "-", "-", "=", "=", "=", "=", "="],
    zero: ".",
    fills: ["d", "#", "."],
    losses: ["#", "l", "s", "k", "c", "."],
    light: ["#", "d", "o", "k", "s", "b", "l", "?"],
    band: "~",
    down: "v",
    up: "^",
    beyond: ">",
    ellipsis: "~",
    live: ">",
    paused: "||",
    times: "x",
    plus_minus: "+-",
    mu: "mu",
    dot: "|",
    arrow: "->",
    space: "_",
    newline: "$",
    tab: ">",
    focus: ">",
};

impl Glyphs {
    /// Returns the set with this name: `unicode` or `ascii`.
    pub fn by_name(name: &str) -> Option<Glyphs> {
        match name {
            "unicode" => Some(UNICODE),
            "ascii" => Some(ASCII),
            _ => None,
        }
    }

    /// Returns the symbols that stand for characters without a glyph in text from outside.
    pub fn signs(&self) -> Signs {
        Signs { ascii: self.ascii, newline: self.newline, tab: self.tab }
    }

    /// Returns the glyph for the last cell of a horizontal bar.
    ///
    /// `eighths` are those of a cell, clamped as in [`Glyphs::level`].
    pub fn level_right(&self, eighths: usize) -> &'static str {
        eighths.min(8).checked_sub(1).map_or(" ", |i| self.bars[i])
    }

    /// Returns the level glyph for `eighths` of a cell. Values above 8 are clamped; 0 gives a
    /// space.
    pub fn level(&self, eighths: usize) -> &'static str {
        eighths.min(8).checked_sub(1).map_or(" ", |i| self.levels[i])
    }
}
