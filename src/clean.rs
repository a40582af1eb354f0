//! Text from outside (the model, prompts, file names) made safe to show: what a terminal would obey, and what has no
//! picture, is shown as a sign of its own.
//!
//! Three ways out of the program, and one function for each: the screen draws with [`each`] and [`line()`]; lines of words on
//! standard output, standard error and progress bars go through [`words`], [`name`] and [`lines`]; JSON for a terminal goes
//! through [`json`]. All of them share one list of characters, `hidden`.

use std::borrow::Cow;

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

/// Longest name or word shown, in characters; what is longer loses its middle.
pub const LONGEST_NAME: usize = 240;
/// Longest line shown, in characters.
const LONGEST_LINE: usize = 2000;
/// Stands for what was cut out.
const CUT: char = '…';

/// One line of words for a terminal: white space becomes single spaces, and hidden characters are escaped as `\u{1b}`.
///
/// Words of more than [`LONGEST_NAME`] characters and lines of more than 2000 lose their middle.
pub fn words(text: &str) -> String {
    // A byte becomes at most one character, so that what is cut here would be cut below too.
    let (head, tail) = ends(text, 4 * LONGEST_LINE);
    let bounded = if tail.is_empty() { Cow::Borrowed(head) } else { Cow::Owned(format!("{head}{CUT}{tail}")) };
    let mut line = String::with_capacity(bounded.len());
    for part in bounded.split_whitespace() {
        push_word(part, &mut line);
    }
    without_middle(line, LONGEST_LINE)
}

/// A name as [`words`] shows it, of at most [`LONGEST_NAME`] characters.
pub fn name(text: &str) -> String {
    without_middle(words(text), LONGEST_NAME)
}

/// Lines of words for a terminal: all but line breaks and spaces that a terminal would obey or not show is escaped.
pub fn lines(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && (hidden(c) || c.width() == Some(0))) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut marks = 0;
    text.chars().for_each(|c| if c == '\n' { out.push(c) } else { push_safe(c, &mut marks, &mut out) });
    Cow::Owned(out)
}

/// JSON for a terminal: hidden characters beyond ASCII controls, which JSON escapes anyway, as `\uXXXX`. The value stays.
pub fn json(text: &str) -> Cow<'_, str> {
    let escaped = |c: char| c >= '\u{7f}' && hidden(c);
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

/// Whether a text begins, after white space and hidden characters, with what a spreadsheet takes for a formula.
pub fn begins_formula(text: &str) -> bool {
    let begin = text.trim_start_matches(|c: char| c.is_whitespace() || hidden(c));
    begin.starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
}

/// First and last `most` bytes of a longer text, at boundaries of characters; all of a shorter one, and nothing.
fn ends(text: &str, most: usize) -> (&str, &str) {
    if text.len() <= 2 * most {
        return (text, "");
    }
    let first = (0..=most).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let last = (text.len() - most..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
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

/// Adds a character, escaped if it is hidden, or a mark that its place has no room for; `marks` counts those there.
fn push_safe(c: char, marks: &mut usize, out: &mut String) {
    let zero = c.width() == Some(0);
    let alone = zero && out.chars().next_back().is_none_or(char::is_whitespace);
    if hidden(c) || alone || (zero && *marks >= MARKS) {
        out.extend(c.escape_unicode());
    } else {
        *marks = if zero { *marks + 1 } else { 0 };
        out.push(c);
    }
}

/// A text of at most `most` characters: of a longer one two thirds of that from its begin, and the rest from its end.
fn without_middle(text: String, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text;
    }
    let head = 2 * most / 3;
    let tail = most - head - 1;
    text.chars().take(head).chain([CUT]).chain(text.chars().skip(count - tail)).collect()
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
    #![allow(clippy::unwrap_used)]
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

    /// Characters that terminals obey, reorder by, or show nothing for.
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
            let said = words(&format!("a{c}b\nc"));
            assert!(!said.chars().any(hidden) && said.starts_with('a') && said.ends_with("b c"), "{c:?}: {said:?}");
            assert!(!lines(&format!("a{c}b")).chars().any(hidden), "{c:?}");
        }
        assert_eq!(words("a\u{1b}[31m  b\u{202e}\n"), "a\\u{1b}[31m b\\u{202e}");
        assert_eq!(words("e\u{301}\u{301}\u{301}\u{301} \u{301}日本"), "e\u{301}\u{301}\u{301}\\u{301} \\u{301}日本");
        assert_eq!(lines("a  b\n\tc\r\n"), "a  b\n\\u{9}c\\u{d}\n");
    }

    #[test]
    fn long_words_names_and_lines_lose_their_middle() {
        let said = words(&format!("no model `{}`: take one", "x".repeat(1_000_000)));
        assert!(said.starts_with("no model `xxx") && said.ends_with("x`: take one") && said.contains('…'), "{said}");
        assert!(said.chars().count() < LONGEST_NAME + 30, "{said}");
        let said = words(&"a ".repeat(1_000_000));
        assert!(said.chars().count() == LONGEST_LINE && said.contains('…') && said.ends_with('a'));
        assert!(name(&"é".repeat(5000)).chars().count() == LONGEST_NAME);
        assert!(name(&"a b".repeat(5000)).chars().count() == LONGEST_NAME);
        assert!(words(&format!("e{}", "\u{301}".repeat(100_000))).chars().count() <= LONGEST_NAME);
        assert_eq!(name("short"), "short");
    }

    #[test]
    fn json_for_a_terminal_keeps_its_value() {
        for c in FOREIGN.into_iter().chain(['é', '\u{10ffff}', '"', '\\']) {
            let value = format!("a{c}b");
            let shown = json(&serde_json::to_string(&value).unwrap()).into_owned();
            assert!(!shown.chars().any(hidden), "{shown:?}");
            assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), value);
        }
        assert_eq!(json("\"\u{e0001}\""), "\"\\udb40\\udc01\"");
    }

    #[test]
    fn formulas_are_found() {
        for text in ["=1+1", "+x", "-x", "@x", " =1", "\t=1", "\u{feff}=1", "＝1"] {
            assert!(begins_formula(text), "{text:?}");
        }
        for text in ["", "a=1", "1-2", "ngram"] {
            assert!(!begins_formula(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn words_are_safe_and_cleaning_twice_changes_nothing(text in any::<String>()) {
            let once = words(&text);
            assert!(!once.chars().any(hidden));
            assert_eq!(words(&once), once);
            let once = lines(&text).into_owned();
            assert!(!once.chars().any(|c| c != '\n' && hidden(c)));
            assert_eq!(lines(&once), once);
        }

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
