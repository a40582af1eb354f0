//! The characters that the screen is drawn with: one set for UTF-8 terminals, one in ASCII. Each is one cell wide
//! unless its doc says otherwise.

use crate::clean::Signs;

/// A set of glyphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glyphs {
    /// Whether all of them are ASCII; text outside it is then escaped.
    pub ascii: bool,
    /// Accepted node.
    pub accepted: &'static str,
    /// Refused node.
    pub refused: &'static str,
    /// Node never reached.
    pub unreached: &'static str,
    /// A node that was drafted and that the budget cut.
    pub cut: &'static str,
    /// Bonus token.
    pub bonus: &'static str,
    /// Root of the tree.
    pub root: &'static str,
    /// Branch to a node with later siblings (two cells).
    pub tee: &'static str,
    /// Branch to the last sibling (two cells).
    pub corner: &'static str,
    /// A branch that goes on below (two cells).
    pub pass: &'static str,
    /// Horizontal line.
    pub line: &'static str,
    /// Horizontal line, heavy.
    pub heavy: &'static str,
    /// Vertical line.
    pub vline: &'static str,
    /// Where settings changed.
    pub change: &'static str,
    /// Fill levels of a cell from one eighth to full.
    pub levels: [&'static str; 8],
    /// A thin mark at the foot of a plot where the value is zero.
    pub zero: &'static str,
    /// Fill of the three kinds of time.
    pub fills: [&'static str; 3],
    /// Fill of accepted and of the losses above it: luck, shape, knowledge, context, budget.
    pub losses: [&'static str; 6],
    /// Fill of the bar against the speed of light: reached, drafting, overhead, knowledge, shape, budget, luck, and what is not split.
    pub light: [&'static str; 8],
    /// An interval on a ruler.
    pub band: &'static str,
    /// Pointer down to the ruler.
    pub down: &'static str,
    /// Pointer up to the ruler.
    pub up: &'static str,
    /// Pointer to something beyond the right end.
    pub beyond: &'static str,
    /// Left out.
    pub ellipsis: &'static str,
    /// Running.
    pub live: &'static str,
    /// Waiting (up to two cells).
    pub paused: &'static str,
    /// Multiplication sign.
    pub times: &'static str,
    /// Plus or minus (up to two cells).
    pub plus_minus: &'static str,
    /// The mean entropy (up to two cells).
    pub mu: &'static str,
    /// Between items in a line.
    pub dot: &'static str,
    /// From one setting to the next (up to two cells).
    pub arrow: &'static str,
    /// A space that must be seen.
    pub space: &'static str,
    /// A line break that must be seen.
    pub newline: &'static str,
    /// A tab that must be seen.
    pub tab: &'static str,
    /// Marks the pane that has the keys.
    pub focus: &'static str,
}

/// For UTF-8 terminals.
pub const UNICODE: Glyphs = Glyphs {
    ascii: false,
    accepted: "✓",
    refused: "✗",
    unreached: "·",
    cut: "◌",
    bonus: "★",
    root: "●",
    tee: "├─",
    corner: "└─",
    pass: "│ ",
    line: "─",
    heavy: "━",
    vline: "│",
    change: "┆",
    levels: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
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

/// In ASCII.
pub const ASCII: Glyphs = Glyphs {
    ascii: true,
    accepted: "+",
    refused: "x",
    unreached: ".",
    cut: ":",
    bonus: "*",
    root: "o",
    tee: "|-",
    corner: "`-",
    pass: "| ",
    line: "-",
    heavy: "=",
    vline: "|",
    change: ":",
    levels: [".", ".", ":", ":", "i", "i", "#", "#"],
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
    /// The set of that name, `unicode` or `ascii`.
    pub fn by_name(name: &str) -> Option<Glyphs> {
        match name {
            "unicode" => Some(UNICODE),
            "ascii" => Some(ASCII),
            _ => None,
        }
    }

    /// How text from outside is shown.
    pub fn signs(&self) -> Signs {
        Signs { ascii: self.ascii, newline: self.newline, tab: self.tab }
    }

    /// The level glyph for `eighths` of a cell, 1 to 8; a space for 0.
    pub fn level(&self, eighths: usize) -> &'static str {
        eighths.min(8).checked_sub(1).map_or(" ", |i| self.levels[i])
    }
}
