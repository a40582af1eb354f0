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
                    self.key(&keys[i], out)?;
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
                match number(value) {
                    Some(Number::Real(x)) if x.is_finite() => write_float(x, out),
                    Some(Number::Real(x)) if x.is_nan() => out.push_str("NaN"),
                    Some(Number::Real(x)) => {
                        out.push_str(if x < 0.0 { "-Infinity" } else { "Infinity" });
                    }
                    _ => out.push_str(&value.to_string()),
                }
                Ok(())
            }
        }
    }

    /// Writes the key of an object; keys that are no text are quoted.
    fn key(&self, key: &Value, out: &mut String) -> Result<(), Error> {
        let mut text = String::new();
        match key.as_str() {
            Some(key) => text.push_str(key),
            None => self.write(key, DEEPEST, &mut text)?,
        }
        self.text(&text, out);
        Ok(())
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
/// The operators `*`, `/`, `//`, `%` and `**` become filters that compute as Python does, and the
/// left operands of `~`, `+` and filters pass through the filter `_grown`, which counts their size.
///
/// Counting bounds memory: a template that doubles a text in each of a few dozen steps would
/// exhaust it, and minijinja has no other hook for the results of operators. As filters bind more
/// tightly than operators, all operators of one precedence must be rewritten.
fn rewrite_expressions(tag: &str) -> String {
    let mut out = String::with_capacity(tag.len());
    let mut at = 2;
    out.push_str(&tag[..2]);
    while at < tag.len() {
        let rest = &tag[at..];
        let c = rest.chars().next().unwrap_or(' ');
        if c == '"' || c == '\'' {
            let end = string_end(rest);
            out.push_str(&rest[..end]);
            at += end;
            continue;
        }
        let done = out.trim_end().len();
        let operand = ends_operand(&out[2..done]);
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
                    // Several values to format are given as a tuple in parentheses.
                    let several = filter == "_mod"
                        && argument.starts_with('(')
                        && bracket_end(argument) == length
                        && has_comma(&argument[1..length - 1]);
                    let argument = if several { &argument[1..length - 1] } else { argument };
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

/// Returns the filter that computes the operator at the start of a text, and its length.
fn operator(text: &str) -> (&'static str, usize) {
    [("**", "_pow"), ("//", "_floordiv"), ("*", "_times"), ("/", "_div")]
        .into_iter()
        .find(|(sign, _)| text.starts_with(sign))
        .map_or(("_mod", 1), |(sign, filter)| (filter, sign.len()))
}

/// Offset just after the operand that starts a text, with a sign in front; 0 if there is none.
fn signed_end(text: &str) -> usize {
    let unsigned = text.trim_start_matches(['-', '+', ' ']);
    match operand_end(unsigned) {
        0 => 0,
        length => text.len() - unsigned.len() + length,
    }
}

/// Offset just after the powers that start a text, such as `a ** b`; 0 if there are none.
fn power_end(text: &str) -> usize {
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
    let own = |of: fn(&SizeBudget, &Value, &Value) -> Result<Value, Error>| {
        let grown = grown.clone();
        move |value: &Value, by: &Value| of(&grown, value, by)
    };
    env.add_filter("_times", own(SizeBudget::times));
    env.add_filter("_div", own(|_, a, b| arithmetic(Operator::Divide, a, b)));
    env.add_filter("_floordiv", own(|_, a, b| arithmetic(Operator::FloorDivide, a, b)));
    env.add_filter("_pow", own(|_, a, b| arithmetic(Operator::Power, a, b)));
    let (passed, replaced, formatted, modulo, indented, centered, sliced, batched, own) = (
        grown.clone(),
        grown.clone(),
        grown.clone(),
        grown.clone(),
        grown.clone(),
        grown.clone(),
        grown.clone(),
        grown.clone(),
        grown.clone(),
    );
    env.add_filter("_grown", move |value: Value| passed.add(&value).map(|()| value));
    env.add_filter("_mod", move |state: &State, value: &Value, values: Rest<Value>| {
        match (value.as_str(), values.first()) {
            (None, Some(by)) => arithmetic(Operator::Modulo, value, by),
            (form, _) => {
                modulo.form(form.unwrap_or_default())?;
                values.iter().try_for_each(|value| modulo.add(value))?;
                minijinja::filters::format(state, value, values)
            }
        }
    });
    env.add_filter(
        "indent",
        move |text: &str,
              width: Option<Value>,
              first: Option<bool>,
              blank: Option<bool>,
              options: Kwargs| { indented.indent(text, width, [first, blank], options) },
    );
    env.add_filter("replace", move |text: &str, from: &str, to: &str, count: Option<i64>| {
        replaced.replace(text, from, to, count)
    });
    env.add_filter("format", move |state: &State, form: &Value, values: Rest<Value>| {
        formatted.form(form.as_str().unwrap_or_default())?;
        values.iter().try_for_each(|value| formatted.add(value))?;
        minijinja::filters::format(state, form, values)
    });
    env.add_filter(
        "slice",
        move |state: &State, items: Value, count: usize, fill: Option<Value>| {
            sliced.count(count)?;
            minijinja::filters::slice(state, items, count, fill)
        },
    );
    env.add_filter(
        "batch",
        move |state: &State, items: Value, count: usize, fill: Option<Value>| {
            batched.count(count)?;
            minijinja::filters::batch(state, items, count, fill)
        },
    );
    env.add_filter("center", move |text: &str, width: Option<usize>| {
        centered.pad(text, width.unwrap_or(80), ' ', Side::Both)
    });
    env.set_unknown_method_callback(move |state, value, name, args| {
        own.add(value)?;
        args.iter().try_for_each(|value| own.add(value))?;
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
    env.add_filter("int", to_int);
    env.add_filter("float", to_float);
    env.add_filter("round", round);
    env.add_filter("sum", sum);
    env.add_filter("truncate", truncate);
    // None has no items, and texts and mappings are sequences.
    env.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    env.add_test("sequence", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined
        )
    });
    env.add_test("number", |value: &Value| number(value).is_some());
}

/// Operator on two numbers.
#[derive(Clone, Copy)]
enum Operator {
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

/// Number as in Python; true and false are 1 and 0.
#[derive(Clone, Copy)]
enum Number {
    Whole(i128),
    Real(f64),
}

impl Number {
    fn real(self) -> f64 {
        match self {
            Number::Whole(n) => n as f64,
            Number::Real(x) => x,
        }
    }
}

/// Returns the number that a value is; `None` for other values and for too large numbers.
fn number(value: &Value) -> Option<Number> {
    match value.kind() {
        ValueKind::Bool => Some(Number::Whole(value.is_true().into())),
        ValueKind::Number if value.is_integer() => {
            i128::try_from(value.clone()).ok().map(Number::Whole)
        }
        ValueKind::Number => f64::try_from(value.clone()).ok().map(Number::Real),
        _ => None,
    }
}

/// Computes `a` and `b` as Python does: `/` gives a float, `//` and `%` round down.
fn arithmetic(operator: Operator, a: &Value, b: &Value) -> Result<Value, Error> {
    let error = |what: &str| Error::new(ErrorKind::InvalidOperation, what.to_owned());
    let (Some(a), Some(b)) = (number(a), number(b)) else {
        return Err(error("only numbers can be multiplied and divided, and text by numbers"));
    };
    if b.real() == 0.0 && !matches!(operator, Operator::Multiply | Operator::Power) {
        return Err(error("division by zero"));
    }
    if let (Number::Whole(a), Number::Whole(b)) = (a, b) {
        let down = |rest: i128| rest != 0 && (rest < 0) != (b < 0);
        let whole = match operator {
            Operator::Multiply => Some(a.checked_mul(b)),
            Operator::FloorDivide => Some(a.checked_div(b).map(|q| q - i128::from(down(a % b)))),
            Operator::Modulo => {
                Some(a.checked_rem(b).map(|rest| if down(rest) { rest + b } else { rest }))
            }
            Operator::Power if b >= 0 => Some(u32::try_from(b).ok().and_then(|b| a.checked_pow(b))),
            Operator::Divide | Operator::Power => None,
        };
        if let Some(result) = whole {
            return result.map(Value::from).ok_or_else(|| error("a number is too large"));
        }
    }
    let (a, b) = (a.real(), b.real());
    Ok(Value::from(match operator {
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::FloorDivide => (a / b).floor(),
        Operator::Modulo => {
            let rest = a % b;
            if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
        }
        Operator::Power => a.powf(b),
    }))
}

/// Implements Jinja's `int` filter: what is no number gives the default.
fn to_int(value: &Value, default: Option<Value>) -> Value {
    let whole = |x: f64| x.is_finite().then_some(x.trunc() as i128);
    let found = match (value.as_str().map(str::trim), number(value)) {
        (Some(text), _) => text.parse().ok().or_else(|| text.parse().ok().and_then(whole)),
        (_, Some(Number::Whole(n))) => Some(n),
        (_, Some(Number::Real(x))) => whole(x),
        _ => None,
    };
    found.map(Value::from).or(default).unwrap_or_else(|| Value::from(0))
}

/// Implements Jinja's `float` filter: what is no number gives the default.
fn to_float(value: &Value, default: Option<Value>) -> Value {
    let found = match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None => number(value).map(Number::real),
    };
    found.map(Value::from).or(default).unwrap_or_else(|| Value::from(0.0))
}

/// Implements Jinja's `round` filter, which rounds halves to even numbers.
fn round(value: &Value, precision: Option<i32>, options: Kwargs) -> Result<Value, Error> {
    let precision = options.get::<Option<i32>>("precision")?.or(precision).unwrap_or(0);
    let method = options.get::<Option<&str>>("method")?.unwrap_or("common");
    options.assert_all_used()?;
    let precision = precision.clamp(0, 30);
    let scale = 10f64.powi(precision);
    match (number(value), method) {
        (None, _) => Err(Error::new(ErrorKind::InvalidOperation, "only numbers can be rounded")),
        (Some(Number::Whole(_)), "common") => Ok(value.clone()),
        (Some(x), "ceil") => Ok(Value::from((x.real() * scale).ceil() / scale)),
        (Some(x), "floor") => Ok(Value::from((x.real() * scale).floor() / scale)),
        (Some(x), _) => {
            let text = format!("{:.*}", precision as usize, x.real());
            Ok(Value::from(text.parse().unwrap_or(x.real())))
        }
    }
}

/// Implements Jinja's `sum` filter, over the items or an attribute of each.
fn sum(items: &Value, attribute: Option<String>, options: Kwargs) -> Result<Value, Error> {
    let attribute = options.get::<Option<String>>("attribute")?.or(attribute);
    let start = options.get::<Option<Value>>("start")?.unwrap_or_else(|| Value::from(0));
    options.assert_all_used()?;
    let error = || Error::new(ErrorKind::InvalidOperation, "only numbers can be summed");
    let mut sum = number(&start).ok_or_else(error)?;
    for item in items.try_iter()? {
        let value = match &attribute {
            Some(path) => attribute_of(item, path)?,
            None => item,
        };
        sum = match (sum, number(&value).ok_or_else(error)?) {
            (Number::Whole(a), Number::Whole(b)) => {
                Number::Whole(a.checked_add(b).ok_or_else(error)?)
            }
            (a, b) => Number::Real(a.real() + b.real()),
        };
    }
    Ok(match sum {
        Number::Whole(n) => n.into(),
        Number::Real(x) => x.into(),
    })
}

/// Returns the attribute of a value at a path such as `a.b`.
fn attribute_of(mut value: Value, path: &str) -> Result<Value, Error> {
    for part in path.split('.') {
        value = value.get_attr(part)?;
    }
    Ok(value)
}

/// Implements Jinja's `truncate` filter.
fn truncate(
    text: &str,
    length: Option<usize>,
    kill: Option<bool>,
    end: Option<String>,
    options: Kwargs,
) -> Result<String, Error> {
    let length = options.get::<Option<usize>>("length")?.or(length).unwrap_or(255);
    let kill = options.get::<Option<bool>>("killwords")?.or(kill).unwrap_or(false);
    let end = options.get::<Option<String>>("end")?.or(end).unwrap_or_else(|| "...".into());
    let leeway = options.get::<Option<usize>>("leeway")?.unwrap_or(5);
    options.assert_all_used()?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    let kept = if kill { &kept } else { kept.rsplit_once(' ').map_or(&*kept, |(kept, _)| kept) };
    Ok(format!("{kept}{end}"))
}

/// Side of a text that is padded.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
    Both,
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

    /// Adds the size of a value: bytes of a string, or items of a collection and their sizes.
    ///
    /// Items count as often as they occur, since a list that holds another one twice, and so on,
    /// prints a text that doubles with each level.
    fn add(&self, value: &Value) -> Result<(), Error> {
        self.add_nested(value, 0)
    }

    fn add_nested(&self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(Error::new(ErrorKind::InvalidOperation, "a value is nested too deeply"));
        }
        if let Some(text) = value.as_str() {
            return self.count(text.len());
        }
        if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map) {
            return self.count(value.len().unwrap_or(0));
        }
        for item in value.try_iter()? {
            self.count(1)?;
            if value.kind() == ValueKind::Map {
                self.add_nested(&value.get_item(&item)?, depth + 1)?;
            }
            self.add_nested(&item, depth + 1)?;
        }
        Ok(())
    }

    /// Computes `value * by` as Python does.
    fn times(&self, value: &Value, by: &Value) -> Result<Value, Error> {
        let (value, by) = if by.as_str().is_some() || by.kind() == ValueKind::Seq {
            (by, value)
        } else {
            (value, by)
        };
        let count = || match number(by) {
            Some(Number::Whole(n)) => Ok(usize::try_from(n.max(0)).unwrap_or(usize::MAX)),
            _ => Err(Error::new(
                ErrorKind::InvalidOperation,
                "text and lists can only be multiplied by whole numbers",
            )),
        };
        if let Some(text) = value.as_str() {
            let count = count()?;
            self.count(text.len().saturating_mul(count))?;
            return Ok(text.repeat(if text.is_empty() { 0 } else { count }).into());
        }
        if value.kind() == ValueKind::Seq {
            let items: Vec<Value> = value.try_iter()?.collect();
            let count = if items.is_empty() { 0 } else { count()? };
            self.count(items.len().saturating_mul(count))?;
            return Ok(std::iter::repeat_n(items, count).flatten().collect());
        }
        arithmetic(Operator::Multiply, value, by)
    }

    /// Replaces the first `count` occurrences, or all if there is no count or a negative one.
    fn replace(
        &self,
        text: &str,
        from: &str,
        to: &str,
        count: Option<i64>,
    ) -> Result<String, Error> {
        let most = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
        let found = if from.is_empty() { text.len() + 1 } else { text.matches(from).count() };
        self.count(text.len().saturating_add(found.min(most).saturating_mul(to.len())))?;
        Ok(text.replacen(from, to, most))
    }

    /// Pads a text to `width` characters.
    fn pad(&self, text: &str, width: usize, fill: char, side: Side) -> Result<String, Error> {
        let missing = width.saturating_sub(text.chars().count());
        self.count(text.len().saturating_add(missing.saturating_mul(fill.len_utf8())))?;
        let left = match side {
            Side::Left => missing,
            Side::Right => 0,
            // As Python's `str.center`.
            Side::Both => missing / 2 + (missing & width & 1),
        };
        let fill = |n: usize| std::iter::repeat_n(fill, n);
        Ok(fill(left).chain(text.chars()).chain(fill(missing - left)).collect())
    }

    /// Implements Jinja's `indent` filter.
    fn indent(
        &self,
        text: &str,
        width: Option<Value>,
        [first, blank]: [Option<bool>; 2],
        options: Kwargs,
    ) -> Result<String, Error> {
        let width = options.get::<Option<Value>>("width")?.or(width);
        let first = options.get::<Option<bool>>("first")?.or(first);
        let blank = options.get::<Option<bool>>("blank")?.or(blank);
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
    if let (Some(text), "replace", [from, to, more @ ..]) = (value.as_str(), name, args)
        && let (Some(from), Some(to)) = (from.as_str(), to.as_str())
    {
        let count = more.first().and_then(|count| i64::try_from(count.clone()).ok());
        return grown.replace(text, from, to, count).map(Value::from);
    }
    if let Some(text) = value.as_str()
        && let Some(result) = text_method(grown, text, name, args)
    {
        return result;
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

/// Implements methods of Python's strings; `None` for one that is not known here.
fn text_method(
    grown: &SizeBudget,
    text: &str,
    name: &str,
    args: &[Value],
) -> Option<Result<Value, Error>> {
    let word = |at: usize| args.get(at).and_then(|value| value.as_str());
    let number = |at: usize| args.get(at).and_then(|n| i64::try_from(n.clone()).ok());
    // Positions count characters.
    let place = |at: Option<usize>| {
        at.map(|at| Value::from(text[..at].chars().count()))
            .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "substring not found"))
    };
    let pad = |side: Side, fill: char| {
        let width = usize::try_from(number(0)?).unwrap_or(0);
        Some(grown.pad(text, width, fill, side).map(Value::from))
    };
    let list = |parts: &[&str]| parts.iter().map(|part| Value::from(*part)).collect::<Value>();
    let fill = word(1).and_then(|fill| fill.chars().next()).unwrap_or(' ');
    Some(match (name, word(0)) {
        ("index", Some(part)) => place(text.find(part)),
        ("rindex", Some(part)) => place(text.rfind(part)),
        ("partition", Some(part)) => Ok(match text.split_once(part) {
            Some((before, after)) => list(&[before, part, after]),
            None => list(&[text, "", ""]),
        }),
        ("rpartition", Some(part)) => Ok(match text.rsplit_once(part) {
            Some((before, after)) => list(&[before, part, after]),
            None => list(&["", "", text]),
        }),
        ("rsplit", Some(part)) if !part.is_empty() => {
            let most = number(1).and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
            let mut parts: Vec<&str> = text.rsplitn(most.saturating_add(1), part).collect();
            parts.reverse();
            Ok(list(&parts))
        }
        ("rsplit", None) if number(1).is_none() => {
            Ok(list(&text.split_whitespace().collect::<Vec<_>>()))
        }
        ("casefold", None) => Ok(Value::from(text.to_lowercase())),
        ("swapcase", None) => {
            let swap = |c: char| -> String {
                if c.is_uppercase() {
                    c.to_lowercase().collect()
                } else {
                    c.to_uppercase().collect()
                }
            };
            Ok(Value::from(text.chars().map(swap).collect::<String>()))
        }
        ("isdecimal", None) => {
            Ok(Value::from(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())))
        }
        ("center", None) => return pad(Side::Both, fill),
        ("ljust", None) => return pad(Side::Right, fill),
        ("rjust", None) => return pad(Side::Left, fill),
        ("zfill", None) => match text.strip_prefix(['-', '+']) {
            Some(digits) => {
                let width = usize::try_from(number(0)?).unwrap_or(0).saturating_sub(1);
                let padded = grown.pad(digits, width, '0', Side::Left);
                padded.map(|padded| Value::from(format!("{}{padded}", &text[..1])))
            }
            None => return pad(Side::Left, '0'),
        },
        _ => return None,
    })
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
            Some(path) => printed(&attribute_of(item, path)?, false, 0, &mut text)?,
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
        _ => match number(value) {
            Some(Number::Real(x)) => write_float(x, out),
            _ => out.push_str(&value.to_string()),
        },
    }
    Ok(())
}

/// Writes a float as Python's `repr` does.
fn write_float(x: f64, out: &mut String) {
    let scientific = format!("{x:e}");
    match scientific.split_once('e') {
        Some((digits, exponent)) if !(-4..16).contains(&exponent.parse().unwrap_or(0)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            out.push_str(&format!("{digits}e{sign}{exponent:0>2}"));
        }
        Some(_) => {
            let plain = x.to_string();
            out.push_str(&plain);
            out.push_str(if plain.contains('.') { "" } else { ".0" });
        }
        // NaN or an infinity.
        None => out.push_str(&scientific.to_lowercase()),
    }
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
            ("{{ a / b * -c // d % e }}", "{{ a|_div(b)|_times(-c)|_floordiv(d)|_mod(e) }}"),
            ("{{ 2 * a ** b ** -1 }}", "{{ 2|_times(a|_pow(b)|_pow(-1)) }}"),
            ("{{ f(*a, **b) }}", "{{ f(*a, **b) }}"),
            ("{{ a | upper|trim }}", "{{ a|_grown | upper|_grown|trim }}"),
            ("{{ '%s' % x }}", "{{ '%s'|_mod(x) }}"),
            (
                "{{ '%s: %s' % (m.role, m['content']) }}",
                "{{ '%s: %s'|_mod(m.role, m['content']) }}",
            ),
            ("{{ \"%d\"%(loop.index) ~ 'x' }}", "{{ \"%d\"|_mod((loop.index))|_grown ~ 'x' }}"),
            ("{{ '%s' % ('%d' % 3) }}", "{{ '%s'|_mod(('%d'|_mod(3))) }}"),
            (
                "{% if loop.index0 % 2 == 0 and x == 'a' %}",
                "{% if loop.index0|_mod(2) == 0 and x == 'a' %}",
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
            // Arithmetic: one precedence from left to right, powers first, rounding down.
            ("10 / 4 * 2", "5.0"),
            ("7 // 2 * 3", "9"),
            ("7 % 4 * 2", "6"),
            ("2 ** 3 * 2", "16"),
            ("2 * 3 ** 2", "18"),
            ("2 * -3 + 1", "-5"),
            ("-7 // 2", "-4"),
            ("-7 % 3", "2"),
            ("7 % -3", "-2"),
            ("2 ** -1", "0.5"),
            ("10 / 5", "2.0"),
            ("7.5 // 2", "3.0"),
            ("3 * 1.0", "3.0"),
            ("true * 3", "3"),
            ("'a' * -1 ~ 'b'", "b"),
            ("1e20", "1e+20"),
            ("1e-7", "1e-07"),
            ("123456.75", "123456.75"),
            ("[1e16, 0.0001] | tojson", "[1e+16, 0.0001]"),
            ("{1: 2, 1.5: none} | tojson", "{\"1\": 2, \"1.5\": null}"),
            // A format in a variable, or computed.
            ("('%s' ~ 'x') % 3", "3x"),
            ("(messages | map(attribute='role') | first ~ '-%s') % 'b'", "user-b"),
            // Tests that differ in minijinja.
            ("tools is iterable", "False"),
            ("messages is iterable and 'a' is iterable", "True"),
            ("'a' is sequence", "True"),
            ("tools is sequence", "False"),
            ("true is number", "True"),
            // Filters.
            ("'x' | int", "0"),
            ("'x' | int(5)", "5"),
            ("'3.7' | int", "3"),
            ("none | int", "0"),
            ("'x' | float", "0.0"),
            ("2.5 | round", "2.0"),
            ("3.14159 | round(2)", "3.14"),
            ("3.2 | round(method='ceil')", "4.0"),
            ("3 | round", "3"),
            ("'foo' | replace('o', '0', 1)", "f0o"),
            ("'a\nb' | indent(2, true)", "  a\n  b"),
            ("'hello' | center(11) ~ '|'", "   hello   |"),
            ("'hello world foo bar' | truncate(11)", "hello..."),
            ("'hello world foo' | truncate(11)", "hello world foo"),
            ("'abcdefghij' | truncate(5, true, '', leeway=0)", "abcde"),
            ("[{'a': 1}, {'a': 2.5}] | sum('a')", "3.5"),
            ("[1, 2] | sum(start=3)", "6"),
            // Methods.
            ("'a,b,c'.rsplit(',', 1)", "['a,b', 'c']"),
            ("'a b  c'.rsplit()", "['a', 'b', 'c']"),
            ("'a-b-c'.partition('-')[2]", "b-c"),
            ("'a-b-c'.rpartition('-')[0]", "a-b"),
            ("'éab'.index('b')", "2"),
            ("'aBc'.swapcase()", "AbC"),
            ("'ABC'.casefold()", "abc"),
            ("'a'.center(4, '*') ~ 'a'.ljust(2, '.') ~ 'a'.rjust(3)", "*a**a.  a"),
            ("'7'.zfill(3) ~ '-7'.zfill(4)", "007-007"),
            ("'12'.isdecimal()", "True"),
            ("'aaa'.replace('a', 'b', 2)", "bba"),
        ] {
            assert_eq!(
                render(&format!("{{{{ {expression} }}}}"), "A 'b' \"c\" d").unwrap(),
                want,
                "{expression}"
            );
        }
    }
}
