//! Makes minijinja behave as Python's Jinja2, which chat templates are written for.
//!
//! Two parts: the source is rewritten before it is parsed, for syntax that minijinja lacks, and
//! filters and methods are replaced where their output differs. The replacements also bound the
//! size of the values that a hostile template can build.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

/// Rewrites template syntax that minijinja does not support.
///
/// `{% generation %}` and its end, with which transformers marks text that a model is trained on,
/// become blocks without effect. In all other tags, expressions are rewritten by
/// [`rewrite_expressions`].
pub(super) fn rewrite_template(source: &str) -> String {
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
            // Everything up to the end tag is literal text.
            let end = ["{% endraw", "{%- endraw", "{%endraw", "{%-endraw"]
                .iter()
                .filter_map(|raw| tag.find(raw))
                .min()
                .unwrap_or(tag.len());
            out.push_str(&tag[..end]);
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
fn tag_end(tag: &str, close: &str) -> Option<usize> {
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

/// Jinja's `tojson` filter as in transformers.
///
/// Equals Python's `json.dumps` without escapes for HTML, and by default without escapes for
/// non-ASCII characters.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent = options.get::<Option<Value>>("indent")?.filter(|indent| !indent.is_none());
    let indent = indent.map(|indent| match indent.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(usize::try_from(indent).unwrap_or(0).min(64)),
    });
    let ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    options.assert_all_used()?;
    let [item, key] = match separators.as_deref() {
        Some([item, key]) => [item.clone(), key.clone()],
        _ => [if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()],
    };
    let form = JsonOptions { indent, item, key, ascii, sort };
    let mut out = String::new();
    form.write(value, 0, &mut out)?;
    Ok(Value::from_safe_string(out))
}

/// Options of the JSON output.
struct JsonOptions {
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sort: bool,
}

/// Deepest nesting of values that is written.
const DEEPEST: usize = 100;

impl JsonOptions {
    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: nested too deeply"));
        }
        match value.kind() {
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort {
                    keys.sort();
                }
                self.items(['{', '}'], keys.len(), depth, out, |i, out| {
                    self.text(&keys[i].to_string(), out);
                    out.push_str(&self.key);
                    self.write(&value.get_item(&keys[i])?, depth + 1, out)
                })
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.items(['[', ']'], items.len(), depth, out, |i, out| {
                    self.write(&items[i], depth + 1, out)
                })
            }
            ValueKind::String => {
                self.text(value.as_str().unwrap_or_default(), out);
                Ok(())
            }
            ValueKind::None => {
                out.push_str("null");
                Ok(())
            }
            ValueKind::Bool => {
                out.push_str(if value.is_true() { "true" } else { "false" });
                Ok(())
            }
            ValueKind::Undefined => Err(Error::new(
                ErrorKind::InvalidOperation,
                "tojson: an undefined value is not JSON serializable",
            )),
            _ => {
                out.push_str(&value.to_string());
                Ok(())
            }
        }
    }

    fn items(
        &self,
        [open, close]: [char; 2],
        count: usize,
        depth: usize,
        out: &mut String,
        mut item: impl FnMut(usize, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |depth: usize, out: &mut String| {
            if let Some(indent) = &self.indent {
                out.push('\n');
                out.push_str(&indent.repeat(depth));
            }
        };
        out.push(open);
        for i in 0..count {
            if i > 0 {
                out.push_str(&self.item);
            }
            line(depth + 1, out);
            item(i, out)?;
        }
        if count > 0 {
            line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    /// Writes a quoted string, escaped as Python does.
    fn text(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && c > '~') => {
                    out.extend(
                        c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")),
                    );
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// Rewrites the expressions of one tag.
///
/// `'...' % x` becomes `'...'|format(x)`, `a * b` becomes `a|_times(b)`, and the left operands of
/// `~`, `+` and filters pass through the filter `_grown`, which counts their size.
///
/// Counting bounds memory: a template that doubles a text in each of a few dozen steps would
/// exhaust it, and minijinja has no other hook for the results of operators.
fn rewrite_expressions(tag: &str) -> String {
    let mut out = String::with_capacity(tag.len());
    let mut at = 2;
    out.push_str(&tag[..2]);
    while at < tag.len() {
        let rest = &tag[at..];
        let c = rest.chars().next().unwrap_or(' ');
        if c != '"' && c != '\'' {
            let done = out.trim_end().len();
            let operand = ends_operand(&out[2..done]);
            let next = rest[c.len_utf8()..].chars().next();
            match c {
                '~' | '|' if operand => out.insert_str(done, "|_grown"),
                '+' if operand && !rest[1..].trim_start().starts_with(['%', '}']) => {
                    out.insert_str(done, "|_grown")
                }
                '*' if operand && next != Some('*') && !out.ends_with('*') => {
                    let right = rest[1..].trim_start();
                    let length = operand_end(right);
                    if length > 0 {
                        out.truncate(done);
                        out.push_str(&format!(
                            "|_times({})",
                            &rewrite_expressions(&format!("{{{{{}", &right[..length]))[2..]
                        ));
                        at = tag.len() - right.len() + length;
                        continue;
                    }
                }
                _ => {}
            }
            out.push(c);
            at += c.len_utf8();
            continue;
        }
        let end = string_end(rest);
        out.push_str(&rest[..end]);
        at += end;
        let after = tag[at..].trim_start();
        let Some(right) = after.strip_prefix('%').filter(|right| !right.starts_with('}')) else {
            continue;
        };
        let operand = right.trim_start();
        let length = operand_end(operand);
        if length == 0 {
            continue;
        }
        let (operand, from) = (&operand[..length], tag.len() - operand.len());
        // Several values are given as a tuple in parentheses.
        let several = operand.starts_with('(')
            && bracket_end(operand) == length
            && has_comma(&operand[1..length - 1]);
        let arguments = if several { &operand[1..length - 1] } else { operand };
        out.push_str("|format(");
        // The arguments may contain format expressions too.
        out.push_str(&rewrite_expressions(&format!("{{{{{arguments}"))[2..]);
        out.push(')');
        at = from + length;
    }
    out
}

/// Returns true if a text ends with an operand.
///
/// A `+` that follows is then binary.
fn ends_operand(text: &str) -> bool {
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
fn string_end(text: &str) -> usize {
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
fn bracket_end(text: &str) -> usize {
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
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        at += match c {
            ',' => return true,
            '(' | '[' | '{' => bracket_end(&text[at..]),
            '"' | '\'' => string_end(&text[at..]),
            c => c.len_utf8(),
        };
    }
    false
}

/// Offset just after the operand that starts a text.
///
/// An operand is a name, number, string or bracketed expression, with the attributes, subscripts,
/// calls and filters that follow it.
fn operand_end(text: &str) -> usize {
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

/// Sets up output, filters and methods as in transformers' Jinja environment.
///
/// The values that a run outputs or builds may have `most` bytes in total, including those of
/// captured blocks.
pub(super) fn configure_environment(env: &mut Environment, most: usize) {
    let grown = Arc::new(SizeBudget { bytes: AtomicUsize::new(0), most });
    let (own, passed, times, replaced, formatted, indented) =
        (grown.clone(), grown.clone(), grown.clone(), grown.clone(), grown.clone(), grown.clone());
    env.add_filter("_grown", move |value: Value| passed.add(&value).map(|()| value));
    env.add_filter("indent", move |text: &str, width: Option<Value>, options: Kwargs| {
        indented.indent(text, width, options)
    });
    env.add_filter("_times", move |value: &Value, by: &Value| times.times(value, by));
    env.add_filter("replace", move |text: &str, from: &str, to: &str| {
        replaced.replace(text, from, to)
    });
    env.add_filter("format", move |state: &State, form: &Value, values: Rest<Value>| {
        formatted.form(form.as_str().unwrap_or_default())?;
        minijinja::filters::format(state, form, values)
    });
    env.set_unknown_method_callback(move |state, value, name, args| {
        own.add(value)?;
        method(&own, state, value, name, args)
    });
    env.set_formatter(move |out, state, value| {
        grown.add(value)?;
        if value.is_safe() || value.kind() == ValueKind::String || value.is_undefined() {
            return minijinja::escape_formatter(out, state, value);
        }
        let mut text = String::new();
        printed(value, false, 0, &mut text)?;
        std::fmt::Write::write_str(out, &text)
            .map_err(|e| Error::new(ErrorKind::WriteFailure, e.to_string()))
    });
    env.add_filter("tojson", to_json);
    env.add_filter("string", |value: &Value| -> Result<String, Error> {
        let mut text = String::new();
        printed(value, false, 0, &mut text)?;
        Ok(text)
    });
    env.add_filter("wordcount", |text: &str| {
        text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty()).count()
    });
    env.add_filter("join", join);
}

/// Bytes and items used so far by operators, filters and methods, and their limit.
#[derive(Debug)]
struct SizeBudget {
    bytes: AtomicUsize,
    most: usize,
}

impl SizeBudget {
    fn count(&self, bytes: usize) -> Result<(), Error> {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > self.most {
            return Err(Error::new(ErrorKind::InvalidOperation, "it writes too long a text"));
        }
        Ok(())
    }

    /// Adds the size of a value: bytes of a string, or items of a collection.
    fn add(&self, value: &Value) -> Result<(), Error> {
        self.count(value.as_str().map_or_else(|| value.len().unwrap_or(0), str::len))
    }

    /// Computes `value * by` as Python does.
    fn times(&self, value: &Value, by: &Value) -> Result<Value, Error> {
        let numbers =
            |value: &Value| (i64::try_from(value.clone()).ok(), f64::try_from(value.clone()).ok());
        let (value, by) = if by.as_str().is_some() || by.kind() == ValueKind::Seq {
            (by, value)
        } else {
            (value, by)
        };
        let count = usize::try_from(i64::try_from(by.clone()).unwrap_or(0)).unwrap_or(0);
        if let Some(text) = value.as_str() {
            self.count(text.len().saturating_mul(count))?;
            return Ok(text.repeat(count).into());
        }
        if value.kind() == ValueKind::Seq {
            self.count(value.len().unwrap_or(0).saturating_mul(count))?;
            let items: Vec<Value> = value.try_iter()?.collect();
            return Ok(std::iter::repeat_n(items, count).flatten().collect());
        }
        match (numbers(value), numbers(by)) {
            ((Some(a), _), (Some(b), _)) => Ok(a.saturating_mul(b).into()),
            ((_, Some(a)), (_, Some(b))) => Ok((a * b).into()),
            _ => Err(Error::new(
                ErrorKind::InvalidOperation,
                "only numbers can be multiplied, and text by numbers",
            )),
        }
    }

    fn replace(&self, text: &str, from: &str, to: &str) -> Result<String, Error> {
        let found = if from.is_empty() { text.len() + 1 } else { text.matches(from).count() };
        self.count(text.len().saturating_add(found.saturating_mul(to.len())))?;
        Ok(text.replace(from, to))
    }

    /// Implements Jinja's `indent` filter.
    fn indent(&self, text: &str, width: Option<Value>, options: Kwargs) -> Result<String, Error> {
        let width = options.get::<Option<Value>>("width")?.or(width);
        let (first, blank) =
            (options.get::<Option<bool>>("first")?, options.get::<Option<bool>>("blank")?);
        options.assert_all_used()?;
        let lines = text.split('\n').count();
        let indent = match width {
            None => "    ".to_owned(),
            Some(width) => match width.as_str() {
                Some(text) => text.to_owned(),
                None => {
                    let width = usize::try_from(width)?;
                    self.count(width.saturating_mul(lines))?;
                    " ".repeat(width)
                }
            },
        };
        self.count(text.len().saturating_add(indent.len().saturating_mul(lines)))?;
        let mut out = String::new();
        for (i, line) in text.split('\n').enumerate() {
            out.push_str(if i > 0 { "\n" } else { "" });
            let wanted =
                if i == 0 { first == Some(true) } else { blank == Some(true) || !line.is_empty() };
            out.push_str(if wanted { &indent } else { "" });
            out.push_str(line);
        }
        Ok(out)
    }

    /// Rejects format strings with very large widths.
    fn form(&self, form: &str) -> Result<(), Error> {
        let widest = form.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
        self.count(if widest > 4 { usize::MAX } else { form.len() })
    }
}

/// Implements methods of Python's values that minijinja and its contrib crate lack.
fn method(
    grown: &SizeBudget,
    state: &State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let (Some(text), "replace", [from, to]) = (value.as_str(), name, args)
        && let (Some(from), Some(to)) = (from.as_str(), to.as_str())
    {
        return grown.replace(text, from, to).map(Value::from);
    }
    if let (Some(form), "format") = (value.as_str(), name) {
        grown.form(form)?;
    }
    if let (Some(text), [affix]) = (value.as_str(), args)
        && let Some(affix) = affix.as_str()
    {
        match name {
            "removeprefix" => return Ok(text.strip_prefix(affix).unwrap_or(text).into()),
            "removesuffix" => return Ok(text.strip_suffix(affix).unwrap_or(text).into()),
            _ => {}
        }
    }
    pycompat::unknown_method_callback(state, value, name, args)
}

/// Implements Jinja's `join` filter, over the items or an attribute of each.
fn join(items: &Value, joiner: Option<&str>, options: Kwargs) -> Result<String, Error> {
    let joiner = options.get::<Option<&str>>("d")?.or(joiner).unwrap_or_default();
    let attribute = options.get::<Option<String>>("attribute")?;
    options.assert_all_used()?;
    let mut text = String::new();
    for (i, item) in items.try_iter()?.enumerate() {
        if i > 0 {
            text.push_str(joiner);
        }
        match &attribute {
            Some(path) => {
                let mut value = item;
                for part in path.split('.') {
                    value = value.get_attr(part)?;
                }
                printed(&value, false, 0, &mut text)?;
            }
            None => printed(&item, false, 0, &mut text)?,
        }
    }
    Ok(text)
}

/// Writes a value as Python's `str` does, or as `repr` if `quoted`.
fn printed(value: &Value, quoted: bool, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value is nested too deeply"));
    }
    match value.kind() {
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Undefined => {}
        ValueKind::String if quoted => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq => {
            out.push('[');
            for (i, item) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                printed(&item, true, depth + 1, out)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                printed(&key, true, depth + 1, out)?;
                out.push_str(": ");
                printed(&value.get_item(&key)?, true, depth + 1, out)?;
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

/// Writes a string as Python's `repr` does.
fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote || c == '\\' => out.extend(['\\', c]),
            c if c.is_control() && u32::from(c) < 0x100 => {
                out.push_str(&format!("\\x{:02x}", u32::from(c)))
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::chat::tests::render;
    use super::*;

    #[test]
    fn generation_blocks_have_no_effect() {
        let template = "{# {% generation %} #}a {%- generation %} {{ '{% generation %}' }}{% endgeneration -%} b\
                        {% raw %}{% generation %}{% endraw %}";
        assert_eq!(render(template, "Hi").unwrap(), "a {% generation %}b{% generation %}");
        assert_eq!(
            rewrite_template("{% if x %}{{ y }}{% unfinished"),
            "{% if x %}{{ y }}{% unfinished"
        );
    }

    #[test]
    fn expressions_are_rewritten_as_filters() {
        for (tag, want) in [
            ("{{ a ~ b + 'c' }}", "{{ a|_grown ~ b|_grown + 'c' }}"),
            ("{%+ if -x * (y + 1) == +2 +%}", "{%+ if -x|_times((y|_grown + 1)) == +2 +%}"),
            ("{{ a | upper|trim }}", "{{ a|_grown | upper|_grown|trim }}"),
            ("{{ '%s' % x }}", "{{ '%s'|format(x) }}"),
            (
                "{{ '%s: %s' % (m.role, m['content']) }}",
                "{{ '%s: %s'|format(m.role, m['content']) }}",
            ),
            ("{{ \"%d\"%(loop.index) ~ 'x' }}", "{{ \"%d\"|format((loop.index))|_grown ~ 'x' }}"),
            ("{{ '%s' % ('%d' % 3) }}", "{{ '%s'|format(('%d'|format(3))) }}"),
            (
                "{% if loop.index0 % 2 == 0 and x == 'a' %}",
                "{% if loop.index0 % 2 == 0 and x == 'a' %}",
            ),
            ("{%- if x == 'a' -%}", "{%- if x == 'a' -%}"),
            ("{{ 'a % b' }}", "{{ 'a % b' }}"),
        ] {
            assert_eq!(rewrite_template(tag), want);
        }
    }

    #[test]
    fn templates_are_rendered_as_python_does() {
        // Expected values computed with Jinja2.
        for (expression, want) in [
            ("'%s: %s' % (messages[0].role, messages[0].content)", "user: A 'b' \"c\" d"),
            ("'%05.1f|%3d|%-3s|%%' % (2.25, 7, 'x')", "002.2|  7|x  |%"),
            ("messages[0].content.removeprefix('A ')", "'b' \"c\" d"),
            ("messages[0].content.removesuffix(' d')", "A 'b' \"c\""),
            ("messages[0].content | wordcount", "4"),
            ("messages | join(', ', attribute='role')", "user"),
            ("[1, 2] | join('-')", "1-2"),
            ("'a\\n\\nb' | indent(2)", "a\n\n  b"),
            ("'a\\nb' | indent(width='>', first=true)", ">a\n>b"),
            ("(2 * 3 + 1) ~ 'x' * 2", "7xx"),
            ("[1] * 2 + [3]", "[1, 1, 3]"),
            ("['a', \"b'\", 1, 1.5, true, none]", "['a', \"b'\", 1, 1.5, True, None]"),
            ("{'a': [1], 'b': 'c'}", "{'a': [1], 'b': 'c'}"),
            ("true", "True"),
            ("none", "None"),
            ("(1 == 1) | string", "True"),
            ("missing", ""),
        ] {
            assert_eq!(
                render(&format!("{{{{ {expression} }}}}"), "A 'b' \"c\" d").unwrap(),
                want,
                "{expression}"
            );
        }
    }
}
