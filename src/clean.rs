//! Text from outside (the model, prompts, file names) made safe to draw: what a terminal would obey, and what has no
//! picture, is shown as a sign of its own.

use unicode_width::UnicodeWidthChar;

/// How white space and what has no picture are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    /// Whether only ASCII may be shown; what lies outside it is then escaped.
    pub ascii: bool,
    /// For a line break.
    pub newline: &'static str,
    /// For a tab.
    pub tab: &'static str,
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A character with a picture, with its combining marks.
    Plain,
    /// A space.
    Space,
    /// A line break, shown as a sign.
    Newline,
    /// A sign for something that has no picture.
    Sign,
}

/// Marks that may sit on one character; more would run over the lines around it.
const MARKS: usize = 3;

/// Calls `f` with each piece of `text`: its symbol, its width in cells (at least 1) and its kind.
pub fn each(text: &str, signs: &Signs, mut f: impl FnMut(&str, usize, Kind)) {
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        for i in 0..text.len() {
            let symbol = &text[i..=i];
            f(symbol, 1, if symbol == " " { Kind::Space } else { Kind::Plain });
        }
        return;
    }
    // A character waits here for the marks that belong to it.
    let (mut waiting, mut width, mut marks) = (String::new(), 0, 0);
    for c in text.chars() {
        let zero = c.width() == Some(0);
        if zero && !waiting.is_empty() && marks < MARKS && !hidden(c) && !signs.ascii {
            waiting.push(c);
            marks += 1;
            continue;
        }
        if !waiting.is_empty() {
            f(&waiting, width, Kind::Plain);
            waiting.clear();
        }
        match c {
            ' ' => f(" ", 1, Kind::Space),
            '\n' => f(signs.newline, 1, Kind::Newline),
            '\t' => f(signs.tab, 1, Kind::Sign),
            c if zero || hidden(c) || (signs.ascii && !c.is_ascii()) => sign(c, signs, &mut f),
            c => {
                waiting.push(c);
                (width, marks) = (c.width().unwrap_or(1).max(1), 0);
            }
        }
    }
    if !waiting.is_empty() {
        f(&waiting, width, Kind::Plain);
    }
}

/// The text with all of it made visible, in one line.
pub fn line(text: &str, signs: &Signs) -> String {
    let mut out = String::with_capacity(text.len());
    each(text, signs, |symbol, _, _| out.push_str(symbol));
    out
}

fn sign(c: char, signs: &Signs, f: &mut impl FnMut(&str, usize, Kind)) {
    let code = u32::from(c);
    if code < 0x20 && !signs.ascii {
        // The control pictures of Unicode.
        let picture = char::from_u32(0x2400 + code).unwrap_or('?');
        f(picture.encode_utf8(&mut [0; 4]), 1, Kind::Sign);
    } else if code < 0x20 {
        for b in [b'^', b'@' + code as u8] {
            f(char::from(b).encode_utf8(&mut [0; 4]), 1, Kind::Sign);
        }
    } else {
        // One cell at a time, so that a long sign can be broken or cut anywhere.
        for digit in format!("<{code:02x}>").bytes() {
            f(char::from(digit).encode_utf8(&mut [0; 4]), 1, Kind::Sign);
        }
    }
}

/// An error with its causes, each told once: many name their cause in a line of their own.
pub fn causes(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !said.contains(&cause) {
            said.push_str(if said.is_empty() { "" } else { ": " });
            said.push_str(&cause);
        }
    }
    said
}

/// Whether a terminal would obey this character, join others by it, or show nothing for it: controls, bidirectional
/// and other format characters, fillers, tags, variation selectors, skin tones, odd spaces, private use.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0xA0 | 0xAD | 0x34F | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x890..=0x891 | 0x8E2 | 0x115F..=0x1160 | 0x1680
            | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x2000..=0x200F | 0x2028..=0x202F | 0x205F..=0x206F | 0x2800 | 0x3000
            | 0x3164 | 0xE000..=0xF8FF | 0xFDD0..=0xFDEF | 0xFE00..=0xFE0F | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB
            | 0xFFFE..=0xFFFF | 0x110BD | 0x110CD | 0x13430..=0x1343F | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A
            | 0x1F3FB..=0x1F3FF | 0xE0000..=0x10FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNICODE: Signs = Signs { ascii: false, newline: "↵", tab: "⇥" };
    const ASCII: Signs = Signs { ascii: true, newline: "$", tab: ">" };

    #[test]
    fn what_has_no_picture_gets_a_sign() {
        assert_eq!(line("\u{1b}[31mred\u{7}", &UNICODE), "␛[31mred␇");
        assert_eq!(line("a\u{202e}b\u{200b}c", &UNICODE), "a<202e>b<200b>c");
        assert_eq!(line("\u{9b}2J", &UNICODE), "<9b>2J");
        assert_eq!(line("x\ty\nz", &UNICODE), "x⇥y↵z");
        assert_eq!(line("e\u{301}\u{301}\u{301}\u{301}", &UNICODE), "e\u{301}\u{301}\u{301}<301>");
        assert_eq!(line("\u{301}", &UNICODE), "<301>");
        assert_eq!(line("日本é", &UNICODE), "日本é");
        assert_eq!(line("日é\u{1b}\n", &ASCII), "<65e5><e9>^[$");
    }

    #[test]
    fn a_cause_is_told_once() {
        let inner = || anyhow::Error::new(std::io::Error::other("no luck"));
        assert_eq!(causes(&inner()), "no luck");
        assert_eq!(causes(&inner().context("can't write x")), "can't write x: no luck");
        assert_eq!(causes(&inner().context("x: no luck: try again").context("y")), "y: x: no luck: try again");
    }

    proptest! {
        #[test]
        fn nothing_is_obeyed_and_widths_are_right(text in any::<String>(), ascii in any::<bool>()) {
            let signs = if ascii { ASCII } else { UNICODE };
            each(&text, &signs, |symbol, width, _| {
                assert!(!symbol.chars().any(hidden), "{symbol:?}");
                assert!(width >= 1 && symbol.chars().filter_map(UnicodeWidthChar::width).sum::<usize>() == width, "{symbol:?}");
                assert!(!ascii || symbol.is_ascii());
            });
        }
    }
}
