//! Sanitizing of untrusted text (model output, prompts, file names) for display.
//!
//! Characters that a terminal would interpret, and those without a glyph, become visible signs.
//! There is one set of functions per output: the screen draws with [`for_each_piece`] and [`visible_line()`]; text on
//! standard output, standard error and progress bars goes through [`sanitize_line`], [`sanitize_name`] and
//! [`sanitize_lines`]; JSON for a terminal goes through [`sanitize_json`]. All share one list of characters,
//! `hidden`.

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar;

/// Replacement signs for white space and characters without a glyph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    /// Restricts output to ASCII; all other characters are escaped.
    pub ascii: bool,
    /// Sign shown for a line break.
    pub newline: &'static str,
    /// Sign shown for a tab.
    pub tab: &'static str,
}

/// Kind of a piece of text, as passed to the callback of [`for_each_piece`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceKind {
    /// Printable character with its combining marks.
    Plain,
    /// Space, shown as it is.
    Space,
    /// Line break, shown as [`Signs::newline`].
    Newline,
    /// Replacement for a tab or for a character that can't be shown.
    Sign,
}

/// Maximum number of combining marks on one character; more would overlap the lines around it.
const MARKS: usize = 3;

/// Calls `f` with each piece of `text`: its symbol, width in cells and kind.
///
/// The width is at least 1.
pub fn for_each_piece(text: &str, signs: &Signs, mut f: impl FnMut(&str, usize, PieceKind)) {
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        for i in 0..text.len() {
            let symbol = &text[i..=i];
            f(symbol, 1, if symbol == " " { PieceKind::Space } else { PieceKind::Plain });
        }
        return;
    }
    // Holds a character until all its combining marks have been read.
    let (mut waiting, mut width, mut marks) = (String::new(), 0, 0);
    for c in text.chars() {
        let zero = c.width() == Some(0);
        if zero && !waiting.is_empty() && marks < MARKS && !is_hidden(c) && !signs.ascii {
            waiting.push(c);
            marks += 1;
            continue;
        }
        if !waiting.is_empty() {
            f(&waiting, width, PieceKind::Plain);
            waiting.clear();
        }
        match c {
            ' ' => f(" ", 1, PieceKind::Space),
            '\n' => f(signs.newline, 1, PieceKind::Newline),
            '\t' => f(signs.tab, 1, PieceKind::Sign),
            c if zero || is_hidden(c) || (signs.ascii && !c.is_ascii()) => {
                emit_sign(c, signs, &mut f)
            }
            c => {
                waiting.push(c);
                (width, marks) = (c.width().unwrap_or(1).max(1), 0);
            }
        }
    }
    if !waiting.is_empty() {
        f(&waiting, width, PieceKind::Plain);
    }
}

/// Returns the text as one line with every character visible.
pub fn visible_line(text: &str, signs: &Signs) -> String {
    let mut out = String::with_capacity(text.len());
    for_each_piece(text, signs, |symbol, _, _| out.push_str(symbol));
    out
}

fn emit_sign(c: char, signs: &Signs, f: &mut impl FnMut(&str, usize, PieceKind)) {
    let code = u32::from(c);
    if code < 0x20 && !signs.ascii {
        // Unicode's control pictures.
        let picture = char::from_u32(0x2400 + code).unwrap_or('?');
        f(picture.encode_utf8(&mut [0; 4]), 1, PieceKind::Sign);
    } else if code < 0x20 {
        for b in [b'^', b'@' + code as u8] {
            f(char::from(b).encode_utf8(&mut [0; 4]), 1, PieceKind::Sign);
        }
    } else {
        // One cell at a time, so that a long sign can be wrapped or truncated anywhere.
        for digit in format!("<{code:02x}>").bytes() {
            f(char::from(digit).encode_utf8(&mut [0; 4]), 1, PieceKind::Sign);
        }
    }
}

/// Maximum length of a displayed name or word, in characters; longer ones lose their middle.
pub const LONGEST_NAME: usize = 240;
/// Maximum length of a displayed line, in characters.
const LONGEST_LINE: usize = 2000;
/// Marks the place where text was cut out.
const CUT: char = '…';

/// Formats text as one line for a terminal, escaping hidden characters as `\u{1b}`.
///
/// White space becomes single spaces. Words of more than [`LONGEST_NAME`] characters and lines of
/// more than 2000 lose their middle.
pub fn sanitize_line(text: &str) -> String {
    // Bounds the work for huge inputs: a character takes at most four bytes.
    let (head, tail) = ends(text, 4 * LONGEST_LINE);
    let bounded = if tail.is_empty() {
        Cow::Borrowed(head)
    } else {
        Cow::Owned(format!("{head}{CUT}{tail}"))
    };
    let mut line = String::with_capacity(bounded.len());
    for part in bounded.split_whitespace() {
        push_word(part, &mut line);
    }
    without_middle(line, LONGEST_LINE)
}

/// Formats a name as [`sanitize_line`] does, with at most [`LONGEST_NAME`] characters.
pub fn sanitize_name(text: &str) -> String {
    without_middle(sanitize_line(text), LONGEST_NAME)
}

/// Escapes multi-line text for a terminal, keeping its line breaks and spaces.
///
/// All other characters that a terminal would interpret or not show are escaped.
pub fn sanitize_lines(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && (is_hidden(c) || c.width() == Some(0))) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut marks = 0;
    text.chars()
        .for_each(|c| if c == '\n' { out.push(c) } else { push_safe(c, &mut marks, &mut out) });
    Cow::Owned(out)
}

/// Escapes hidden characters in JSON as `\uXXXX`, which leaves its value unchanged.
///
/// ASCII control characters are escaped by JSON itself.
pub fn sanitize_json(text: &str) -> Cow<'_, str> {
    let escaped = |c: char| c >= '\u{7f}' && is_hidden(c);
    if !text.chars().any(escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if escaped(c) {
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Returns true if a spreadsheet would take the text for a formula.
///
/// Leading white space and hidden characters are skipped.
pub fn is_spreadsheet_formula(text: &str) -> bool {
    let begin = text.trim_start_matches(|c: char| c.is_whitespace() || is_hidden(c));
    begin.starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
}

/// Returns the first and last `most` bytes of a longer text, cut at character boundaries.
///
/// A text of at most 2 `most` bytes is returned whole, with an empty second part.
fn ends(text: &str, most: usize) -> (&str, &str) {
    if text.len() <= 2 * most {
        return (text, "");
    }
    let first = (0..=most).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let last = (text.len() - most..=text.len())
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(text.len());
    (&text[..first], &text[last..])
}

fn push_word(word: &str, line: &mut String) {
    let (head, tail) = ends(word, 4 * LONGEST_NAME);
    let (mut safe, mut marks) = (String::with_capacity(head.len()), 0);
    head.chars().chain(tail.chars()).for_each(|c| push_safe(c, &mut marks, &mut safe));
    if !line.is_empty() {
        line.push(' ');
    }
    line.push_str(&without_middle(safe, LONGEST_NAME));
}

/// Appends a character, escaped if it is hidden or a combining mark too many.
///
/// A mark without a base character is escaped too. `marks` counts the marks on the current base.
fn push_safe(c: char, marks: &mut usize, out: &mut String) {
    let zero = c.width() == Some(0);
    let alone = zero && out.chars().next_back().is_none_or(char::is_whitespace);
    if is_hidden(c) || alone || (zero && *marks >= MARKS) {
        out.extend(c.escape_unicode());
    } else {
        *marks = if zero { *marks + 1 } else { 0 };
        out.push(c);
    }
}

/// Shortens a text to at most `most` characters by cutting out its middle.
///
/// Two thirds of the limit are kept from the start, the rest from the end.
fn without_middle(text: String, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text;
    }
    let head = 2 * most / 3;
    let tail = most - head - 1;
    text.chars().take(head).chain([CUT]).chain(text.chars().skip(count - tail)).collect()
}

/// Formats an error with its causes, skipping those already contained in the message.
///
/// Many errors repeat their cause in a message of their own.
pub fn format_error_chain(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !said.contains(&cause) {
            said.push_str(if said.is_empty() { "" } else { ": " });
            said.push_str(&cause);
        }
    }
    said
}

/// Returns true if a terminal would interpret or hide this character, or join its neighbors.
///
/// These are controls, bidirectional and other format characters, fillers, tags, variation
/// selectors, skin tones, odd spaces and private use.
pub(crate) fn is_hidden(c: char) -> bool {
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
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const UNICODE: Signs = Signs { ascii: false, newline: "↵", tab: "⇥" };
    const ASCII: Signs = Signs { ascii: true, newline: "$", tab: ">" };

    #[test]
    fn characters_without_a_glyph_get_a_sign() {
        assert_eq!(visible_line("\u{1b}[31mred\u{7}", &UNICODE), "␛[31mred␇");
        assert_eq!(visible_line("a\u{202e}b\u{200b}c", &UNICODE), "a<202e>b<200b>c");
        assert_eq!(visible_line("\u{9b}2J", &UNICODE), "<9b>2J");
        assert_eq!(visible_line("x\ty\nz", &UNICODE), "x⇥y↵z");
        assert_eq!(
            visible_line("e\u{301}\u{301}\u{301}\u{301}", &UNICODE),
            "e\u{301}\u{301}\u{301}<301>"
        );
        assert_eq!(visible_line("\u{301}", &UNICODE), "<301>");
        assert_eq!(visible_line("日本é", &UNICODE), "日本é");
        assert_eq!(visible_line("日é\u{1b}\n", &ASCII), "<65e5><e9>^[$");
    }

    #[test]
    fn repeated_causes_are_printed_once() {
        let inner = || anyhow::Error::new(std::io::Error::other("no luck"));
        assert_eq!(format_error_chain(&inner()), "no luck");
        assert_eq!(format_error_chain(&inner().context("can't write x")), "can't write x: no luck");
        assert_eq!(
            format_error_chain(&inner().context("x: no luck: try again").context("y")),
            "y: x: no luck: try again"
        );
    }

    /// Characters that terminals interpret, reorder text by, or show nothing for.
    const FOREIGN: [char; 26] = [
        '\u{0}',
        '\u{7}',
        '\u{8}',
        '\r',
        '\u{1b}',
        '\u{7f}',
        '\u{85}',
        '\u{90}',
        '\u{9b}',
        '\u{9d}',
        '\u{61c}',
        '\u{200b}',
        '\u{200d}',
        '\u{200e}',
        '\u{200f}',
        '\u{2028}',
        '\u{2029}',
        '\u{202a}',
        '\u{202e}',
        '\u{2060}',
        '\u{2066}',
        '\u{2069}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{e0001}',
        '\u{e007f}',
    ];

    #[test]
    fn words_escape_every_foreign_character_and_stay_one_line() {
        for c in FOREIGN {
            let said = sanitize_line(&format!("a{c}b\nc"));
            assert!(
                !said.chars().any(is_hidden) && said.starts_with('a') && said.ends_with("b c"),
                "{c:?}: {said:?}"
            );
            assert!(!sanitize_lines(&format!("a{c}b")).chars().any(is_hidden), "{c:?}");
        }
        assert_eq!(sanitize_line("a\u{1b}[31m  b\u{202e}\n"), "a\\u{1b}[31m b\\u{202e}");
        assert_eq!(
            sanitize_line("e\u{301}\u{301}\u{301}\u{301} \u{301}日本"),
            "e\u{301}\u{301}\u{301}\\u{301} \\u{301}日本"
        );
        assert_eq!(sanitize_lines("a  b\n\tc\r\n"), "a  b\n\\u{9}c\\u{d}\n");
    }

    #[test]
    fn long_words_names_and_lines_lose_their_middle() {
        let said = sanitize_line(&format!("no model `{}`: take one", "x".repeat(1_000_000)));
        assert!(
            said.starts_with("no model `xxx")
                && said.ends_with("x`: take one")
                && said.contains('…'),
            "{said}"
        );
        assert!(said.chars().count() < LONGEST_NAME + 30, "{said}");
        let said = sanitize_line(&"a ".repeat(1_000_000));
        assert!(said.chars().count() == LONGEST_LINE && said.contains('…') && said.ends_with('a'));
        assert!(sanitize_name(&"é".repeat(5000)).chars().count() == LONGEST_NAME);
        assert!(sanitize_name(&"a b".repeat(5000)).chars().count() == LONGEST_NAME);
        assert!(
            sanitize_line(&format!("e{}", "\u{301}".repeat(100_000))).chars().count()
                <= LONGEST_NAME
        );
        assert_eq!(sanitize_name("short"), "short");
    }

    #[test]
    fn json_for_a_terminal_keeps_its_value() {
        for c in FOREIGN.into_iter().chain(['é', '\u{10ffff}', '"', '\\']) {
            let value = format!("a{c}b");
            let shown = sanitize_json(&serde_json::to_string(&value).unwrap()).into_owned();
            assert!(!shown.chars().any(is_hidden), "{shown:?}");
            assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), value);
        }
        assert_eq!(sanitize_json("\"\u{e0001}\""), "\"\\udb40\\udc01\"");
    }

    #[test]
    fn formulas_are_found() {
        for text in ["=1+1", "+x", "-x", "@x", " =1", "\t=1", "\u{feff}=1", "＝1"] {
            assert!(is_spreadsheet_formula(text), "{text:?}");
        }
        for text in ["", "a=1", "1-2", "ngram"] {
            assert!(!is_spreadsheet_formula(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn words_are_safe_and_cleaning_twice_changes_nothing(text in any::<String>()) {
            let once = sanitize_line(&text);
            assert!(!once.chars().any(is_hidden));
            assert_eq!(sanitize_line(&once), once);
            let once = sanitize_lines(&text).into_owned();
            assert!(!once.chars().any(|c| c != '\n' && is_hidden(c)));
            assert_eq!(sanitize_lines(&once), once);
        }

        #[test]
        fn pieces_hold_no_control_characters_and_match_their_widths(text in any::<String>(), ascii in any::<bool>()) {
            let signs = if ascii { ASCII } else { UNICODE };
            for_each_piece(&text, &signs, |symbol, width, _| {
                assert!(!symbol.chars().any(is_hidden), "{symbol:?}");
                assert!(width >= 1 && symbol.chars().filter_map(UnicodeWidthChar::width).sum::<usize>() == width, "{symbol:?}");
                assert!(!ascii || symbol.is_ascii());
            });
        }
    }
}
