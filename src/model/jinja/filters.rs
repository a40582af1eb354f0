//! Filters of Jinja2 that minijinja lacks or implements differently.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, State, Value};

use super::arguments::Arguments;
use super::size_budget::SizeBudget;
use super::values::{Number, Tuple, TupleKind, invalid, number, printed, text_of};

/// Implements Jinja's `int` filter; other values give the default.
pub(super) fn to_int(
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    options: Kwargs,
) -> Result<Value, Error> {
    let default = options.get::<Option<Value>>("default")?.or(default);
    let base = options.get::<Option<u32>>("base")?.or(base).unwrap_or(10);
    options.assert_all_used()?;
    let whole = |x: f64| x.is_finite().then_some(x.trunc() as i128);
    let found = match (value.as_str().map(str::trim), number(value)) {
        (Some(text), _) => parse_int(text, base).or_else(|| text.parse().ok().and_then(whole)),
        (_, Some(Number::Whole(n))) => Some(n),
        (_, Some(Number::Real(x))) => whole(x),
        _ => None,
    };
    Ok(found.map(Value::from).or(default).unwrap_or_else(|| Value::from(0)))
}

/// Parses a whole number as Python's `int(text, base)`.
fn parse_int(text: &str, base: u32) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let prefix = [("0x", 16), ("0o", 8), ("0b", 2)];
    let prefixed =
        prefix.iter().find(|(sign, of)| lower.starts_with(sign) && [0, *of].contains(&base));
    let (digits, base) = match prefixed {
        Some((_, of)) => (&lower[2..], *of),
        None => (&*lower, if base == 0 { 10 } else { base }),
    };
    if !(2..=36).contains(&base) || digits.starts_with(['-', '+']) {
        return None;
    }
    // Single underscores may stand between digits.
    let plain = digits.replace('_', "");
    if digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    i128::from_str_radix(&plain, base).ok().map(|n| if negative { -n } else { n })
}

/// Implements Jinja's `float` filter; other values give the default.
pub(super) fn to_float(value: &Value, default: Option<Value>) -> Value {
    let found = match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None => number(value).map(Number::real),
    };
    found.map(Value::from).or(default).unwrap_or_else(|| Value::from(0.0))
}

/// Implements Jinja's `round` filter, which rounds halves to even numbers.
pub(super) fn round(
    value: &Value,
    precision: Option<i32>,
    method: Option<&str>,
    options: Kwargs,
) -> Result<Value, Error> {
    let precision = options.get::<Option<i32>>("precision")?.or(precision).unwrap_or(0);
    let method = options.get::<Option<&str>>("method")?.or(method).unwrap_or("common");
    options.assert_all_used()?;
    let precision = precision.clamp(0, 30);
    let scale = 10f64.powi(precision);
    match (number(value), method) {
        (None, _) => Err(invalid("only numbers can be rounded")),
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
pub(super) fn sum(
    items: &Value,
    attribute: Option<String>,
    options: Kwargs,
) -> Result<Value, Error> {
    let attribute = options.get::<Option<String>>("attribute")?.or(attribute);
    let start = options.get::<Option<Value>>("start")?.unwrap_or_else(|| Value::from(0));
    options.assert_all_used()?;
    let mut items = items.try_iter()?.map(|item| match &attribute {
        Some(path) => attribute_of(item, path),
        None => Ok(item),
    });
    if start.kind() == ValueKind::Seq {
        let mut all: Vec<Value> = start.try_iter()?.collect();
        for item in items {
            all.extend(item?.try_iter()?);
        }
        return Ok(all.into());
    }
    let error = || invalid("only numbers and lists can be summed");
    let first = number(&start).ok_or_else(error)?;
    let sum = items.try_fold(first, |sum, item| {
        Ok::<_, Error>(match (sum, number(&item?).ok_or_else(error)?) {
            (Number::Whole(a), Number::Whole(b)) => {
                Number::Whole(a.checked_add(b).ok_or_else(error)?)
            }
            (a, b) => Number::Real(a.real() + b.real()),
        })
    })?;
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
pub(super) fn truncate(text: &str, args: Rest<Value>) -> Result<String, Error> {
    let args = Arguments::new("truncate", &args)?;
    let length = args.size(0, "length")?.unwrap_or(255);
    let kill = args.flag(1, "killwords").unwrap_or(false);
    let end = args.text(2, "end")?.unwrap_or_else(|| "...".into());
    let leeway = args.size(3, "leeway")?.unwrap_or(5);
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text.to_owned());
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    let kept = if kill { &kept } else { kept.rsplit_once(' ').map_or(&*kept, |(kept, _)| kept) };
    Ok(format!("{kept}{end}"))
}

/// Implements Jinja's `join` filter, over the items or an attribute of each.
pub(super) fn join(items: &Value, joiner: Option<&str>, options: Kwargs) -> Result<String, Error> {
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

/// Implements Jinja's `length` filter; an undefined value has none.
pub(super) fn length(value: &Value) -> Result<usize, Error> {
    match value.as_str() {
        Some(text) => Ok(text.chars().count()),
        None if value.is_undefined() => Ok(0),
        None => value.len().ok_or_else(|| invalid("the value has no length")),
    }
}

/// Implements Jinja's `escape` filter, with the entities of MarkupSafe.
pub(super) fn escape(value: &Value) -> Result<Value, Error> {
    match value.is_safe() {
        true => Ok(value.clone()),
        false => force_escape(value),
    }
}

/// Implements Jinja's `forceescape` filter.
pub(super) fn force_escape(value: &Value) -> Result<Value, Error> {
    Ok(Value::from_safe_string(escaped(&text_of(value)?)))
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            c => out.push(c),
        }
    }
    out
}

/// Implements Jinja's `striptags` filter: removes tags and comments, and joins white space.
pub(super) fn strip_tags(value: &Value) -> Result<String, Error> {
    let mut text = text_of(value)?;
    for (open, close) in [("<!--", "-->"), ("<", ">")] {
        let (mut out, mut rest) = (String::new(), &*text);
        while let Some(from) = rest.find(open) {
            let Some(to) = rest[from..].find(close) else { break };
            out.push_str(&rest[..from]);
            rest = &rest[from + to + close.len()..];
        }
        text = out + rest;
    }
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Percent-encodes a text, but for `safe` characters.
fn percent_encode(text: &str, safe: &str, out: &mut String) {
    for byte in text.bytes() {
        match char::from(byte) {
            c if c.is_ascii_alphanumeric() || "_.-~".contains(c) || safe.contains(c) => out.push(c),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// Implements Jinja's `urlencode` filter: of a text, or of the pairs of a mapping.
pub(super) fn url_encode(budget: &SizeBudget, value: &Value) -> Result<String, Error> {
    budget.add(value)?;
    let mut out = String::new();
    match value.kind() {
        ValueKind::Map | ValueKind::Seq => {
            let pairs = pairs_of_any(value)?;
            for (i, [key, value]) in pairs.iter().enumerate() {
                out.push_str(if i > 0 { "&" } else { "" });
                for (part, end) in [(key, "="), (value, "")] {
                    let mut text = String::new();
                    percent_encode(&text_of(part)?, "", &mut text);
                    out.push_str(&text.replace("%20", "+"));
                    out.push_str(end);
                }
            }
        }
        _ => percent_encode(&text_of(value)?, "/", &mut out),
    }
    budget.count(out.len())?;
    Ok(out)
}

/// Implements Jinja's `xmlattr` filter, without items that are none or undefined.
pub(super) fn xml_attributes(value: &Value, space: Option<bool>) -> Result<String, Error> {
    let mut out = String::new();
    for [key, value] in pairs_of(value)? {
        if value.is_none() || value.is_undefined() {
            continue;
        }
        let key = text_of(&key)?;
        if key.contains(|c: char| c.is_whitespace() || "/>=".contains(c)) {
            return Err(invalid("xmlattr: a key has a character that is not allowed"));
        }
        out.push_str(if out.is_empty() && space == Some(false) { "" } else { " " });
        out.push_str(&format!("{}=\"{}\"", escaped(&key), escaped(&text_of(&value)?)));
    }
    Ok(out)
}

/// Implements Jinja's `filesizeformat` filter.
pub(super) fn file_size(value: &Value, binary: Option<bool>) -> Result<String, Error> {
    let bytes = match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None => number(value).map(Number::real),
    };
    let bytes: f64 = bytes.ok_or_else(|| invalid("filesizeformat: only numbers are sizes"))?;
    let (base, units) = match binary == Some(true) {
        true => (1024.0, ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"]),
        false => (1000.0, ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"]),
    };
    if bytes == 1.0 {
        return Ok("1 Byte".to_owned());
    }
    if bytes < base {
        return Ok(format!("{} Bytes", bytes.trunc()));
    }
    let power = (1..units.len()).find(|&i| bytes < base.powi(i as i32 + 1)).unwrap_or(units.len());
    Ok(format!("{:.1} {}", bytes / base.powi(power as i32), units[power - 1]))
}

/// Implements Jinja's `wordwrap` filter, which wraps as Python's `textwrap`.
pub(super) fn word_wrap(text: &str, args: Rest<Value>) -> Result<String, Error> {
    let args = Arguments::new("wordwrap", &args)?;
    let width = args.size(0, "width")?.unwrap_or(79).max(1);
    let split = args.flag(1, "break_long_words").unwrap_or(true);
    let end = args.text(2, "wrapstring")?.unwrap_or_else(|| "\n".into());
    let hyphens = args.flag(3, "break_on_hyphens").unwrap_or(true);
    let mut lines = Vec::new();
    for line in text.lines() {
        wrap_line(line, width, split, hyphens, &mut lines);
    }
    Ok(lines.join(&end))
}

/// Wraps one line, whose inner white space stays but at the ends of lines.
fn wrap_line(line: &str, width: usize, split: bool, hyphens: bool, lines: &mut Vec<String>) {
    let mut chunks: Vec<&str> = Vec::new();
    let (mut from, mut before) = (0, None::<char>);
    for (at, c) in line.char_indices() {
        let next = line[at + c.len_utf8()..].chars().next();
        let edge = before.is_some_and(|b| b.is_whitespace() != c.is_whitespace());
        let hyphen = hyphens
            && before == Some('-')
            && c.is_alphabetic()
            && line[from..at].trim_end_matches('-').ends_with(char::is_alphabetic)
            && next.is_some_and(char::is_alphabetic);
        if edge || hyphen {
            chunks.push(&line[from..at]);
            from = at;
        }
        before = Some(c);
    }
    chunks.push(&line[from..]);
    let (first, mut now, mut size) = (lines.len(), String::new(), 0);
    let mut chunks = chunks
        .into_iter()
        .filter(|chunk| !chunk.is_empty())
        .collect::<std::collections::VecDeque<_>>();
    while let Some(chunk) = chunks.pop_front() {
        let length = chunk.chars().take(width + 1).count();
        if now.is_empty() && chunk.trim().is_empty() && lines.len() > first {
            continue;
        }
        if size + length <= width {
            now.push_str(chunk);
            size += length;
            continue;
        }
        if length > width && split && size < width {
            let cut = chunk.char_indices().nth(width - size).map_or(chunk.len(), |(at, _)| at);
            now.push_str(&chunk[..cut]);
            chunks.push_front(&chunk[cut..]);
        } else if length > width && now.is_empty() {
            now.push_str(chunk);
        } else {
            chunks.push_front(chunk);
        }
        lines.push(now.trim_end().to_owned());
        (now, size) = (String::new(), 0);
    }
    if !now.trim_end().is_empty() || lines.len() == first {
        lines.push(now.trim_end().to_owned());
    }
}

/// Implements Jinja's `title` filter: words begin after white space, hyphens and brackets.
pub(super) fn title(value: &Value) -> Result<String, Error> {
    let mut begins = true;
    let mut out = String::new();
    for c in text_of(value)?.chars() {
        match begins {
            true => out.extend(c.to_uppercase()),
            false => out.extend(c.to_lowercase()),
        }
        begins = c.is_whitespace() || "-({[<".contains(c);
    }
    Ok(out)
}

/// Returns the keys and values of a mapping, in order.
fn pairs_of(map: &Value) -> Result<Vec<[Value; 2]>, Error> {
    if map.kind() != ValueKind::Map {
        return Err(invalid("only mappings have items"));
    }
    map.try_iter()?.map(|key| Ok([key.clone(), map.get_item(&key)?])).collect()
}

/// Returns the pairs of a mapping, or those that a sequence of pairs holds.
fn pairs_of_any(value: &Value) -> Result<Vec<[Value; 2]>, Error> {
    if value.kind() == ValueKind::Map {
        return pairs_of(value);
    }
    value
        .try_iter()?
        .map(|pair| Ok([pair.get_item(&0.into())?, pair.get_item(&1.into())?]))
        .collect()
}

/// Returns the pairs of a mapping as tuples.
fn tuples(pairs: Vec<[Value; 2]>) -> Vec<Value> {
    pairs.into_iter().map(|pair| Tuple::value(pair.into())).collect()
}

/// Implements Jinja's `items` filter; an undefined value has none.
pub(super) fn items(map: &Value) -> Result<Value, Error> {
    match map.is_undefined() {
        true => Ok(Value::from(Vec::<Value>::new())),
        false => Ok(tuples(pairs_of(map)?).into()),
    }
}

/// Implements the methods `keys`, `values` and `items` of mappings.
pub(super) fn view(map: &Value, name: &str) -> Result<Value, Error> {
    let pairs = pairs_of(map)?;
    let (kind, items) = match name {
        "keys" => ("dict_keys", pairs.into_iter().map(|[key, _]| key).collect()),
        "values" => ("dict_values", pairs.into_iter().map(|[_, value]| value).collect()),
        _ => ("dict_items", tuples(pairs)),
    };
    Ok(Tuple::of_kind(TupleKind::View(kind), items))
}

/// Implements Jinja's `dictsort` filter.
pub(super) fn sorted_items(state: &State, map: &Value, args: Rest<Value>) -> Result<Value, Error> {
    let args = Arguments::new("dictsort", &args)?;
    let case = args.flag(0, "case_sensitive").unwrap_or(false);
    let by = args.text(1, "by")?.unwrap_or_else(|| "key".into());
    let reverse = args.flag(2, "reverse").unwrap_or(false);
    let place = match &*by {
        "key" => "0",
        "value" => "1",
        _ => return Err(invalid("dictsort sorts by 'key' or 'value'")),
    };
    let arguments = [
        Value::from(tuples(pairs_of(map)?)),
        Value::from(Kwargs::from_iter([
            ("attribute", Value::from(place)),
            ("case_sensitive", Value::from(case)),
            ("reverse", Value::from(reverse)),
        ])),
    ];
    state.apply_filter("sort", &arguments)
}

/// Turns the groups of minijinja's `groupby` filter into tuples with the names of Jinja's.
pub(super) fn grouped(groups: &Value) -> Result<Value, Error> {
    let named = TupleKind::Named(&["grouper", "list"]);
    let group = |group: Value| {
        let parts = group.try_iter()?.map(|part| match part.kind() {
            ValueKind::Seq | ValueKind::Iterable => Ok(part.try_iter()?.collect::<Value>()),
            _ => Ok(part),
        });
        Ok(Tuple::of_kind(named, parts.collect::<Result<_, Error>>()?))
    };
    groups.try_iter()?.map(group).collect::<Result<Vec<Value>, Error>>().map(Value::from)
}

/// Implements the function `dict`: from a mapping or pairs, and names.
pub(super) fn dict(from: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let mut all: Vec<(Value, Value)> = Vec::new();
    if let Some(from) = from.filter(|from| !from.is_undefined()) {
        all.extend(pairs_of_any(&from)?.into_iter().map(|[key, value]| (key, value)));
    }
    for name in named.args() {
        all.push((name.into(), named.get(name)?));
    }
    Ok(all.into_iter().collect())
}
