//! Parsing of colors, and their reduction to what a terminal can show.

use ratatui::style::Color;

/// Color depth of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColorDepth {
    /// No colors; bold, underline, and reverse remain.
    None,
    /// The 16 ANSI colors.
    Ansi16,
    /// Palette of 256 indexed colors.
    Indexed,
    /// True color: 24-bit RGB.
    True,
}

impl ColorDepth {
    /// Detects the depth: a non-empty `NO_COLOR` wins, then `COLORTERM`, then `TERM`.
    pub fn from_env(var: impl Fn(&str) -> Option<String>) -> ColorDepth {
        let set = |name: &str| var(name).filter(|v| !v.is_empty());
        let term = set("TERM").unwrap_or_default();
        if set("NO_COLOR").is_some() || term == "dumb" {
            return ColorDepth::None;
        }
        match set("COLORTERM").as_deref() {
            Some("truecolor" | "24bit") => ColorDepth::True,
            _ if term.contains("direct") || term.contains("kitty") || term.contains("ghostty") => {
                ColorDepth::True
            }
            _ if term.contains("256") => ColorDepth::Indexed,
            _ if cfg!(windows) && term.is_empty() => ColorDepth::True,
            _ => ColorDepth::Ansi16,
        }
    }

    /// Returns the depth in words, for example "24-bit colors".
    pub fn describe(self) -> &'static str {
        match self {
            ColorDepth::None => "no colors",
            ColorDepth::Ansi16 => "16 colors",
            ColorDepth::Indexed => "256 colors",
            ColorDepth::True => "24-bit colors",
        }
    }
}

const NAMES: [&str; 16] = [
    "black",
    "red",
    "green",
    "yellow",
    "blue",
    "magenta",
    "cyan",
    "white",
    "bright-black",
    "bright-red",
    "bright-green",
    "bright-yellow",
    "bright-blue",
    "bright-magenta",
    "bright-cyan",
    "bright-white",
];

/// Parses a color: `#rrggbb`, an ANSI name, a number from 0 to 255, or `default`.
pub fn parse(text: &str) -> Option<Color> {
    if let Some(hex) = text.strip_prefix('#') {
        let value = u32::from_str_radix(hex, 16)
            .ok()
            .filter(|_| hex.len() == 6 && !hex.starts_with('+'))?;
        return Some(Color::Rgb((value >> 16) as u8, (value >> 8) as u8, value as u8));
    }
    if text == "default" {
        return Some(Color::Reset);
    }
    if let Some(i) = NAMES.iter().position(|&n| n == text) {
        return Some(Color::Indexed(i as u8));
    }
    text.parse::<u8>().ok().map(Color::Indexed)
}

/// Returns the nearest color that a terminal of this depth shows.
pub fn fit(color: Color, depth: ColorDepth) -> Color {
    match (depth, color) {
        (_, Color::Reset) | (ColorDepth::None, _) => Color::Reset,
        (ColorDepth::True, c) => c,
        (ColorDepth::Indexed, Color::Rgb(r, g, b)) => Color::Indexed(nearest((r, g, b), 16..=255)),
        (ColorDepth::Indexed, c) => c,
        (ColorDepth::Ansi16, Color::Rgb(r, g, b)) => {
            Color::Indexed(nearest((r, g, b), ansi_candidates((r, g, b))))
        }
        (ColorDepth::Ansi16, Color::Indexed(i)) if i > 15 => {
            Color::Indexed(nearest(rgb(i), ansi_candidates(rgb(i))))
        }
        (ColorDepth::Ansi16, c) => c,
    }
}

fn nearest(color: (u8, u8, u8), among: impl IntoIterator<Item = u8>) -> u8 {
    among.into_iter().min_by_key(|&i| distance(color, rgb(i))).unwrap_or(7)
}

/// Returns the ANSI colors that may stand for a color.
///
/// A color with a hue maps only to ones with a hue: a soft color is often nearest to a gray, but
/// colors must stay distinguishable.
fn ansi_candidates((r, g, b): (u8, u8, u8)) -> impl Iterator<Item = u8> {
    const HUE: u8 = 48;
    let hue = r.max(g).max(b) - r.min(g).min(b) >= HUE;
    (0..16).filter(move |i| !hue || ![0, 7, 8, 15].contains(i))
}

/// Squared RGB distance, weighted for human vision (the "redmean" approximation).
fn distance(a: (u8, u8, u8), b: (u8, u8, u8)) -> i64 {
    let mean = (i64::from(a.0) + i64::from(b.0)) / 2;
    let d = |x: u8, y: u8| i64::from(x) - i64::from(y);
    let (r, g, bl) = (d(a.0, b.0), d(a.1, b.1), d(a.2, b.2));
    (512 + mean) * r * r + 1024 * g * g + (767 - mean) * bl * bl
}

/// Returns the usual red, green, and blue of an indexed color.
pub fn rgb(index: u8) -> (u8, u8, u8) {
    const ANSI: [(u8, u8, u8); 16] = [
        (0, 0, 0),
        (205, 0, 0),
        (0, 205, 0),
        (205, 205, 0),
        (0, 0, 238),
        (205, 0, 205),
        (0, 205, 205),
        (229, 229, 229),
        (127, 127, 127),
        (255, 85, 85),
        (85, 255, 85),
        (255, 255, 85),
        (92, 92, 255),
        (255, 85, 255),
        (85, 255, 255),
        (255, 255, 255),
    ];
    match index {
        0..=15 => ANSI[usize::from(index)],
        16..=231 => {
            let i = index - 16;
            let level = |x: u8| if x == 0 { 0 } else { 55 + 40 * x };
            (level(i / 36), level(i / 6 % 6), level(i % 6))
        }
        _ => {
            let grey = 8 + 10 * (index - 232);
            (grey, grey, grey)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn colors_as_written() {
        assert_eq!(parse("#10ff00"), Some(Color::Rgb(16, 255, 0)));
        assert_eq!(parse("bright-blue"), Some(Color::Indexed(12)));
        assert_eq!(parse("200"), Some(Color::Indexed(200)));
        assert_eq!(parse("default"), Some(Color::Reset));
        for bad in ["#12345", "#1234567", "#+12345", "reddish", "256", "-1", ""] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn fitted_colors_are_the_nearest_supported() {
        assert_eq!(fit(Color::Rgb(255, 0, 0), ColorDepth::Indexed), Color::Indexed(196));
        assert_eq!(fit(Color::Rgb(0x5f, 0x87, 0xaf), ColorDepth::Indexed), Color::Indexed(67));
        assert_eq!(fit(Color::Rgb(250, 250, 250), ColorDepth::Ansi16), Color::Indexed(15));
        assert_eq!(fit(Color::Indexed(232), ColorDepth::Ansi16), Color::Indexed(0));
        assert_eq!(fit(Color::Rgb(0x7f, 0x8b, 0x9d), ColorDepth::Ansi16), Color::Indexed(8));
        assert_ne!(
            fit(Color::Rgb(0xb9, 0x9a, 0xed), ColorDepth::Ansi16),
            Color::Indexed(7),
            "a soft violet is not gray"
        );
        assert_eq!(fit(Color::Rgb(1, 2, 3), ColorDepth::None), Color::Reset);
        for i in 0..=255u8 {
            let (r, g, b) = rgb(i);
            if let Color::Indexed(j) = fit(Color::Rgb(r, g, b), ColorDepth::Indexed) {
                assert!(i < 16 || rgb(j) == (r, g, b), "color {i} became {j}");
            }
        }
    }

    #[test]
    fn environment_variables_set_the_color_depth() {
        let depth = |pairs: &[(&str, &str)]| {
            ColorDepth::from_env(|name| pairs.iter().find(|p| p.0 == name).map(|p| p.1.to_owned()))
        };
        assert_eq!(depth(&[("TERM", "xterm-256color")]), ColorDepth::Indexed);
        assert_eq!(
            depth(&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")]),
            ColorDepth::True
        );
        assert_eq!(depth(&[("TERM", "xterm")]), ColorDepth::Ansi16);
        assert_eq!(depth(&[("TERM", "dumb"), ("COLORTERM", "truecolor")]), ColorDepth::None);
        assert_eq!(depth(&[("TERM", "xterm-256color"), ("NO_COLOR", "1")]), ColorDepth::None);
        assert_eq!(depth(&[("TERM", "xterm-256color"), ("NO_COLOR", "")]), ColorDepth::Indexed);
    }
}
