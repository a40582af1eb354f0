//! Rewrites template syntax that minijinja lacks, before a template is parsed.

use std::collections::BTreeSet;

/// Rewrites template syntax that minijinja does not support.
///
/// `{% generation %}` and its end, with which transformers marks text that a model is trained on,
/// become blocks without effect. In all other tags, expressions are rewritten by
/// [`rewrite_expressions`].
pub(crate) fn rewrite_template(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = ["{%", "{{", "{#"].iter().filter_map(|begin| rest.find(begin)).min() {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        if tag.starts_with("{#") {
            let end = tag.find("#}").map_or(tag.len(), |end| end + 2);
            out.push_str(&tag[..end]);
            rest = &tag[end..];
            continue;
        }
        let close = if tag.starts_with("{{") { "}}" } else { "%}" };
        let Some(end) = tag_end(tag, close) else {
            rest = tag;
            break;
        };
        if close == "}}" {
            out.push_str(&rewrite_expressions(&tag[..end]));
            rest = &tag[end..];
            continue;
        }
        let inner = tag[2..end - 2].trim_matches(['-', '+']);
        let name = inner.trim();
        if name == "raw" {
            // Everything up to the end tag is literal text. Unlike minijinja, Jinja keeps a line end
            // after the first tag.
            let begin = end;
            let end = ["{% endraw", "{%- endraw", "{%endraw", "{%-endraw"]
                .iter()
                .filter_map(|raw| tag.find(raw))
                .min()
                .unwrap_or(tag.len());
            out.push_str(&tag[..begin]);
            if tag[begin..].starts_with('\n') && !tag[..begin].ends_with("-%}") {
                out.push('\n');
            }
            out.push_str(&tag[begin..end]);
            rest = &tag[end..];
            continue;
        }
        match name {
            "generation" => out.push_str(&tag[..end].replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&tag[..end].replacen("endgeneration", "endif", 1)),
            _ => out.push_str(&rewrite_expressions(&tag[..end])),
        }
        rest = &tag[end..];
    }
    out + rest
}

/// Offset just after `close`, in a text that starts with a tag.
///
/// Ignores `close` inside strings and inside nested braces.
pub(super) fn tag_end(tag: &str, close: &str) -> Option<usize> {
    let (mut quote, mut escaped, mut open) = (None, false, 0usize);
    for (at, c) in tag.char_indices().skip(2) {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(ended), c) if c == ended => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, _) if open == 0 && tag[at..].starts_with(close) => return Some(at + 2),
            (None, '{') => open += 1,
            (None, '}') => open = open.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Rewrites the expressions of one tag.
///
/// The operators `*`, `/`, `//`, `%` and `**` become filters that compute as Python does, and the
/// left operands of `~`, `+` and filters pass through the filter `_grown`, which counts their size.
///
/// Counting bounds memory: a template that doubles a text in each of a few dozen steps would
/// exhaust it, and minijinja has no other hook for the results of operators. As filters bind more
/// tightly than operators, all operators of one precedence must be rewritten.
pub(super) fn rewrite_expressions(tag: &str) -> String {
    let mut out = String::with_capacity(tag.len());
    let tuples = tuple_brackets(tag);
    let (mut at, tuple) = targets_end(tag);
    out.push_str(&tag[..at]);
    if let Some(value) = tuple {
        // The value of `set t = 1, 2` is a tuple without parentheses.
        out.push_str(" _tuple(");
        out.push_str(rewrite_expressions(&format!("{{{{{}", &tag[at..value])).split_at(2).1);
        out.push(')');
        at = value;
    }
    while at < tag.len() {
        let rest = &tag[at..];
        let c = rest.chars().next().unwrap_or(' ');
        if c == '"' || c == '\'' {
            let end = string_end(rest);
            rewrite_literal(&rest[..end], &mut out);
            at += end;
            continue;
        }
        let done = out.trim_end().len();
        let operand = ends_operand(&out[2..done]);
        if c == '(' && !operand && tuples.contains(&at) {
            let word = out.ends_with(|c: char| c.is_alphanumeric());
            out.push_str(if word { " _tuple" } else { "_tuple" });
        }
        match c {
            '~' | '|' if operand => out.insert_str(done, "|_grown"),
            '+' if operand && !rest[1..].trim_start().starts_with(['%', '}']) => {
                out.insert_str(done, "|_grown")
            }
            '*' | '/' | '%' if operand && !rest.starts_with("%}") => {
                let (filter, sign) = operator(rest);
                let right = rest[sign..].trim_start();
                let length = if filter == "_pow" { signed_end(right) } else { power_end(right) };
                if length > 0 {
                    let argument = &right[..length];
                    out.truncate(done);
                    out.push_str(&format!(
                        "|{filter}({})",
                        &rewrite_expressions(&format!("{{{{{argument}"))[2..]
                    ));
                    at = tag.len() - right.len() + length;
                    continue;
                }
            }
            _ => {}
        }
        out.push(c);
        at += c.len_utf8();
    }
    out
}

/// Offset where the expressions of a tag begin: after the variables of `for` and `set`.
///
/// The second part is the end of a tuple without parentheses that begins there.
fn targets_end(tag: &str) -> (usize, Option<usize>) {
    let inner = tag[2..].trim_start_matches(['-', '+']).trim_start();
    let begin = tag.len() - inner.len();
    let word = inner.find(|c: char| !c.is_alphanumeric()).unwrap_or(inner.len());
    let end = match &inner[..word] {
        "for" => outside_brackets(inner, |rest| rest.starts_with(" in ")).map(|at| at + 4),
        "set" => outside_brackets(inner, |rest| rest.starts_with('=')).map(|at| at + 1),
        _ => return (2, None),
    };
    let Some(end) = end else { return (2, None) };
    if &inner[..word] == "for" {
        return (begin + end, None);
    }
    let value = &inner[end..];
    let close = value.rfind("%}").unwrap_or(value.len());
    let value = value[..close].trim_end().trim_end_matches(['-', '+']).trim_end();
    // With several variables, minijinja takes the values one by one.
    let several = has_comma(&inner[..end]);
    let tuple = (!several && has_comma(value)).then_some(begin + end + value.len());
    (begin + end, tuple)
}

/// Offsets of the parentheses that hold a comma, or nothing: tuples, unless they are calls.
fn tuple_brackets(text: &str) -> BTreeSet<usize> {
    let (mut found, mut open, mut at) = (BTreeSet::new(), Vec::<Bracket>::new(), 0);
    while let Some(c) = text[at..].chars().next() {
        match c {
            '(' | '[' | '{' => open.push(Bracket { at, comma: false }),
            ')' | ']' | '}' => {
                if let Some(bracket) = open.pop()
                    && c == ')'
                    && (bracket.comma || text[bracket.at + 1..at].trim().is_empty())
                {
                    found.insert(bracket.at);
                }
            }
            ',' => open.iter_mut().next_back().into_iter().for_each(|b| b.comma = true),
            '"' | '\'' => {
                at += string_end(&text[at..]);
                continue;
            }
            _ => {}
        }
        at += c.len_utf8();
    }
    found
}

/// Bracket that is not closed yet.
struct Bracket {
    at: usize,
    /// Set once a comma was found directly inside.
    comma: bool,
}

/// Offset of the first place outside all brackets and strings where `found` holds for the rest.
fn outside_brackets(text: &str, found: impl Fn(&str) -> bool) -> Option<usize> {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if found(&text[at..]) {
            return Some(at);
        }
        at += match c {
            '(' | '[' | '{' => bracket_end(&text[at..]),
            '"' | '\'' => string_end(&text[at..]),
            c => c.len_utf8(),
        };
    }
    None
}

/// Rewrites a string literal whose escapes are Python's: minijinja knows only those of JSON.
fn rewrite_literal(literal: &str, out: &mut String) {
    let Some(quote) = literal.chars().next().filter(|_| literal.contains('\\')) else {
        out.push_str(literal);
        return;
    };
    let body = literal[1..].strip_suffix(quote).unwrap_or(&literal[1..]);
    let (text, ended) = (unescape(body), body.len() + 2 == literal.len());
    out.push(quote);
    for c in text.chars() {
        if c == quote || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.extend(ended.then_some(quote));
}

/// Returns the text of a Python string literal without its quotes.
///
/// Unknown escapes stay as they are, as in Python, and so do names (`\\N{...}`) and halves of
/// surrogate pairs.
fn unescape(body: &str) -> String {
    let mut out = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(c) = rest.chars().next() else {
            out.push('\\');
            break;
        };
        let number = |most: usize, radix: u32, from: usize| {
            let digits = rest[from..].bytes().take(most);
            let count = digits.take_while(|b| char::from(*b).is_digit(radix)).count();
            let number = u32::from_str_radix(&rest[from..from + count], radix).ok()?;
            Some((char::from_u32(number)?, from + count)).filter(|_| radix == 8 || count == most)
        };
        let known = match c {
            '\n' => None,
            'a' => Some(('\u{7}', 1)),
            'b' => Some(('\u{8}', 1)),
            'f' => Some(('\u{c}', 1)),
            'n' => Some(('\n', 1)),
            'r' => Some(('\r', 1)),
            't' => Some(('\t', 1)),
            'v' => Some(('\u{b}', 1)),
            '\\' | '\'' | '"' => Some((c, 1)),
            'x' => number(2, 16, 1),
            'u' => number(4, 16, 1),
            'U' => number(8, 16, 1),
            '0'..='7' => number(3, 8, 0),
            _ => None,
        };
        match known {
            Some((c, length)) => {
                out.push(c);
                rest = &rest[length..];
            }
            // A line that ends in a backslash goes on in the next one.
            None if c == '\n' => rest = &rest[1..],
            None => {
                out.push('\\');
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out + rest
}

/// Returns the filter for the operator that a text starts with.
///
/// Also returns the length of the operator.
pub(super) fn operator(text: &str) -> (&'static str, usize) {
    [("**", "_pow"), ("//", "_floordiv"), ("*", "_times"), ("/", "_div")]
        .into_iter()
        .find(|(sign, _)| text.starts_with(sign))
        .map_or(("_mod", 1), |(sign, filter)| (filter, sign.len()))
}

/// Returns the end of the signed operand that a text starts with.
///
/// 0 if there is none.
pub(super) fn signed_end(text: &str) -> usize {
    let unsigned = text.trim_start_matches(['-', '+', ' ']);
    match operand_end(unsigned) {
        0 => 0,
        length => text.len() - unsigned.len() + length,
    }
}

/// Returns the end of the powers, such as `a ** b`, that a text starts with.
///
/// 0 if there are none.
pub(super) fn power_end(text: &str) -> usize {
    let mut at = signed_end(text);
    while at > 0 {
        let Some(right) = text[at..].trim_start().strip_prefix("**") else { break };
        let right = right.trim_start();
        match signed_end(right) {
            0 => break,
            length => at = text.len() - right.len() + length,
        }
    }
    at
}

/// Returns true if a text ends with an operand.
///
/// A `+` that follows is then binary.
pub(super) fn ends_operand(text: &str) -> bool {
    const WORDS: [&str; 13] = [
        "if",
        "elif",
        "else",
        "and",
        "or",
        "not",
        "in",
        "is",
        "set",
        "do",
        "return",
        "filter",
        "recursive",
    ];
    let word = text.len() - text.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_').len();
    match text.chars().next_back() {
        Some(')' | ']' | '}' | '"' | '\'') => true,
        Some(_) if word > 0 => !WORDS.contains(&&text[text.len() - word..]),
        _ => false,
    }
}

/// Offset just after the string literal that starts a text, quotes included.
pub(super) fn string_end(text: &str) -> usize {
    let quote = text.chars().next();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if Some(c) == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Offset just after the bracket that closes the one at the start of a text.
pub(super) fn bracket_end(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(c) = text[at..].chars().next() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            '"' | '\'' => {
                at += string_end(&text[at..]);
                continue;
            }
            _ => {}
        }
        at += c.len_utf8();
    }
    text.len()
}

/// Returns true if a comma occurs outside all brackets and strings.
fn has_comma(text: &str) -> bool {
    outside_brackets(text, |rest| rest.starts_with(',')).is_some()
}

/// Offset just after the operand that starts a text.
///
/// An operand is a name, number, string or bracketed expression, with the attributes, subscripts,
/// calls and filters that follow it.
pub(super) fn operand_end(text: &str) -> usize {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let words = |text: &str| text.find(|c| !word(c)).unwrap_or(text.len());
    let mut at = match text.chars().next() {
        Some('(' | '[' | '{') => bracket_end(text),
        Some('"' | '\'') => string_end(text),
        Some(c) if word(c) => words(text),
        _ => return 0,
    };
    loop {
        let rest = &text[at..];
        let more = match rest.chars().next() {
            Some('(' | '[') => bracket_end(rest),
            Some('.') => 1 + words(&rest[1..]),
            _ => {
                let filter = rest.trim_start();
                let name = filter.strip_prefix('|').map(str::trim_start);
                match name.map(|name| (name, words(name))) {
                    Some((name, length)) if length > 0 => text.len() - at - name.len() + length,
                    _ => return at,
                }
            }
        };
        at += more.max(1);
    }
}
