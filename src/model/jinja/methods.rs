//! Methods of Python's strings, lists and mappings.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::arguments::Arguments;
use super::filters::view;
use super::format::braces;
use super::size_budget::{Side, SizeBudget};
use super::values::{Tuple, invalid, is_printable, printed};

/// Calls a method of a value.
///
/// # Errors
/// If the value has no such method, or its arguments are invalid.
pub(super) fn method(
    budget: &SizeBudget,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let args = Arguments::new(name, args)?;
    let found = match value.kind() {
        ValueKind::String => text_method(budget, value.as_str().unwrap_or_default(), &args)?,
        ValueKind::Map => map_method(value, &args)?,
        ValueKind::Seq => list_method(value, &args)?,
        _ => None,
    };
    found.ok_or_else(|| Error::from(ErrorKind::UnknownMethod))
}

fn map_method(map: &Value, args: &Arguments) -> Result<Option<Value>, Error> {
    Ok(Some(match args.function {
        "keys" | "values" | "items" => view(map, args.function)?,
        "get" => {
            let key = args.values.first().ok_or_else(|| args.missing("a key"))?;
            let default = args.values.get(1).cloned().or_else(|| args.named("default"));
            match map.get_item(key)? {
                value if value.is_undefined() => default.unwrap_or_else(|| Value::from(())),
                value => value,
            }
        }
        "copy" => map.clone(),
        _ => return Ok(None),
    }))
}

fn list_method(list: &Value, args: &Arguments) -> Result<Option<Value>, Error> {
    let is_item = |item: &Value| Some(item) == args.values.first();
    Ok(Some(match args.function {
        "count" => Value::from(list.try_iter()?.filter(|item| is_item(item)).count()),
        "index" => {
            let at = list.try_iter()?.position(|item| is_item(&item));
            Value::from(at.ok_or_else(|| invalid("the item is not in the list"))?)
        }
        "copy" => list.clone(),
        _ => return Ok(None),
    }))
}

/// Part of a text between two character positions, as Python's slices.
struct Part<'a> {
    text: &'a str,
    /// Characters before the part.
    before: usize,
}

impl<'a> Part<'a> {
    /// Takes the part that the arguments from `at` on give; `None` if it begins after the end.
    fn new(text: &'a str, args: &Arguments, at: usize) -> Result<Option<Self>, Error> {
        let length = text.chars().count() as i64;
        let place = |n: i64| if n < 0 { (n + length).max(0) } else { n };
        let from = args.whole(at, "start")?.map_or(0, place);
        let to = args.whole(at + 1, "end")?.map_or(length, place).min(length);
        if from > length || from > to {
            return Ok(None);
        }
        let offset = |n: i64| text.char_indices().nth(n as usize).map_or(text.len(), |(at, _)| at);
        Ok(Some(Part { text: &text[offset(from)..offset(to)], before: from as usize }))
    }

    /// Characters of the whole text before a byte of the part.
    fn place(&self, byte: usize) -> i64 {
        (self.before + self.text[..byte].chars().count()) as i64
    }
}

/// Calls a method of a string; `None` for one that is not known here.
fn text_method(budget: &SizeBudget, text: &str, args: &Arguments) -> Result<Option<Value>, Error> {
    let list = |parts: &[&str]| parts.iter().map(|part| Value::from(*part)).collect::<Value>();
    let tuple = |parts: [&str; 3]| Tuple::value(parts.map(Value::from).into());
    let all = |is: &dyn Fn(char) -> bool| Value::from(!text.is_empty() && text.chars().all(is));
    let pad = |side: Side| {
        let width = args.whole(0, "")?.ok_or_else(|| args.missing("a width"))?;
        let fill = args.text(1, "")?.and_then(|fill| fill.chars().next()).unwrap_or(' ');
        budget.pad(text, usize::try_from(width).unwrap_or(0), fill, side).map(Value::from)
    };
    let found = |from_end: bool| -> Result<i64, Error> {
        let what = args.required_text(0)?;
        let Some(part) = Part::new(text, args, 1)? else { return Ok(-1) };
        let at = if from_end { part.text.rfind(&*what) } else { part.text.find(&*what) };
        Ok(at.map_or(-1, |at| part.place(at)))
    };
    let stripped = |chars: Option<String>, start: bool, end: bool| {
        let is = |c: char| match &chars {
            Some(chars) => chars.contains(c),
            None => c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c),
        };
        let text = if start { text.trim_start_matches(is) } else { text };
        Value::from(if end { text.trim_end_matches(is) } else { text })
    };
    Ok(Some(match args.function {
        "upper" => text.to_uppercase().into(),
        "lower" => text.to_lowercase().into(),
        "casefold" => text.replace(['ß', 'ẞ'], "ss").to_lowercase().into(),
        "title" => title(text).into(),
        "capitalize" => {
            let mut chars = text.chars();
            let first = chars.next().map(title_case).unwrap_or_default();
            format!("{first}{}", chars.as_str().to_lowercase()).into()
        }
        "swapcase" => {
            let swap = |c: char| -> String {
                match c.is_uppercase() {
                    true => c.to_lowercase().collect(),
                    false => c.to_uppercase().collect(),
                }
            };
            text.chars().map(swap).collect::<String>().into()
        }
        "strip" => stripped(args.text(0, "")?, true, true),
        "lstrip" => stripped(args.text(0, "")?, true, false),
        "rstrip" => stripped(args.text(0, "")?, false, true),
        "removeprefix" => {
            let affix = args.required_text(0)?;
            text.strip_prefix(&*affix).unwrap_or(text).into()
        }
        "removesuffix" => {
            let affix = args.required_text(0)?;
            text.strip_suffix(&*affix).unwrap_or(text).into()
        }
        "replace" => {
            let count = args.whole(2, "count")?;
            budget.replace(text, &args.required_text(0)?, &args.required_text(1)?, count)?.into()
        }
        "find" => found(false)?.into(),
        "rfind" => found(true)?.into(),
        "index" | "rindex" => match found(args.function == "rindex")? {
            -1 => return Err(invalid("substring not found")),
            at => at.into(),
        },
        "count" => {
            let what = args.required_text(0)?;
            let count = |part: Part| match what.is_empty() {
                true => part.text.chars().count() + 1,
                false => part.text.matches(&*what).count(),
            };
            Value::from(Part::new(text, args, 1)?.map_or(0, count))
        }
        "startswith" | "endswith" => {
            let affixes = args.values.first().ok_or_else(|| args.missing("a text"))?;
            let affixes: Vec<Value> = match affixes.kind() {
                ValueKind::String => vec![affixes.clone()],
                _ => affixes.try_iter()?.collect(),
            };
            let part = Part::new(text, args, 1)?;
            let mut holds = false;
            for affix in &affixes {
                let affix = affix.as_str().ok_or_else(|| args.missing("texts"))?;
                holds |= part.as_ref().is_some_and(|part| match args.function {
                    "startswith" => part.text.starts_with(affix),
                    _ => part.text.ends_with(affix),
                });
            }
            holds.into()
        }
        "partition" => {
            let by = args.required_text(0)?;
            match text.split_once(&*by) {
                Some((before, after)) => tuple([before, &by, after]),
                None => tuple([text, "", ""]),
            }
        }
        "rpartition" => {
            let by = args.required_text(0)?;
            match text.rsplit_once(&*by) {
                Some((before, after)) => tuple([before, &by, after]),
                None => tuple(["", "", text]),
            }
        }
        "split" | "rsplit" => {
            let most = args.whole(1, "maxsplit")?.and_then(|n| usize::try_from(n).ok());
            let most = most.unwrap_or(usize::MAX);
            let parts = match (args.text(0, "sep")?, args.function) {
                (Some(by), _) if by.is_empty() => return Err(invalid("empty separator")),
                (Some(by), "split") => {
                    list(&text.splitn(most.saturating_add(1), &*by).collect::<Vec<_>>())
                }
                (Some(by), _) => {
                    let mut parts: Vec<&str> = text.rsplitn(most.saturating_add(1), &*by).collect();
                    parts.reverse();
                    list(&parts)
                }
                (None, name) => list(&words(text, most, name == "rsplit")),
            };
            budget.add(&parts)?;
            parts
        }
        "splitlines" => {
            let keep = args.get(0, "keepends").is_some_and(|keep| keep.is_true());
            list(&lines(text, keep))
        }
        "join" => {
            let items = args.values.first().ok_or_else(|| args.missing("a list"))?;
            let mut out = String::new();
            for (i, item) in items.try_iter()?.enumerate() {
                if i > 0 {
                    out.push_str(text);
                }
                if item.kind() != ValueKind::String {
                    return Err(invalid("join: all items must be texts"));
                }
                printed(&item, false, 0, &mut out)?;
                budget.count(text.len() + item.len().unwrap_or(0))?;
            }
            out.into()
        }
        "format" => braces(budget, text, args.values, &|name| args.named(name))?.into(),
        "center" => pad(Side::Both)?,
        "ljust" => pad(Side::Right)?,
        "rjust" => pad(Side::Left)?,
        "zfill" => {
            let width = args.whole(0, "")?.ok_or_else(|| args.missing("a width"))?;
            let width = usize::try_from(width).unwrap_or(0);
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            let sign = &text[..text.len() - digits.len()];
            let padded = budget.pad(digits, width.saturating_sub(sign.len()), '0', Side::Left)?;
            format!("{sign}{padded}").into()
        }
        "expandtabs" => {
            let size = args.whole(0, "tabsize")?.unwrap_or(8).clamp(0, 1 << 16) as usize;
            budget.count(text.matches('\t').count().saturating_mul(size))?;
            expand_tabs(text, size).into()
        }
        "isalpha" => all(&char::is_alphabetic),
        "isalnum" => all(&char::is_alphanumeric),
        "isdigit" | "isnumeric" => all(&char::is_numeric),
        "isdecimal" => all(&|c| c.is_ascii_digit()),
        "isspace" => all(&char::is_whitespace),
        "isascii" => text.is_ascii().into(),
        "isprintable" => text.chars().all(is_printable).into(),
        "isidentifier" => {
            let first = text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
            (first && text.chars().all(|c| c.is_alphanumeric() || c == '_')).into()
        }
        "islower" => {
            (text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)).into()
        }
        "isupper" => {
            (text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)).into()
        }
        "istitle" => {
            let cased = text.chars().any(|c| c.is_lowercase() || c.is_uppercase());
            (cased && title(text) == text).into()
        }
        _ => return Ok(None),
    }))
}

/// Returns a character in title case.
fn title_case(c: char) -> String {
    match c {
        'Ǆ' | 'ǅ' | 'ǆ' => "ǅ".to_owned(),
        'Ǉ' | 'ǈ' | 'ǉ' => "ǈ".to_owned(),
        'Ǌ' | 'ǋ' | 'ǌ' => "ǋ".to_owned(),
        'Ǳ' | 'ǲ' | 'ǳ' => "ǲ".to_owned(),
        c => {
            // A letter of several capitals, such as the German sharp s, has one in title case.
            let mut upper = c.to_uppercase();
            let first = upper.next().map(String::from).unwrap_or_default();
            first + &upper.flat_map(char::to_lowercase).collect::<String>()
        }
    }
}

/// Implements Python's `str.title`: a word begins after each character without case.
fn title(text: &str) -> String {
    let mut within = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match within {
            true => out.extend(c.to_lowercase()),
            false => out.push_str(&title_case(c)),
        }
        within = c.is_lowercase() || c.is_uppercase();
    }
    out
}

/// Splits a text at white space, at most `most` times, from the start or from the end.
///
/// What is left after `most` splits keeps the space on its outer side.
fn words(text: &str, most: usize, from_end: bool) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), text);
    loop {
        rest = if from_end { rest.trim_end() } else { rest.trim_start() };
        let at = match from_end {
            true => rest.rfind(char::is_whitespace),
            false => rest.find(char::is_whitespace),
        };
        let Some(at) = at.filter(|_| parts.len() < most) else { break };
        let after = at + rest[at..].chars().next().map_or(0, char::len_utf8);
        let (word, others) = match from_end {
            true => (&rest[after..], &rest[..at]),
            false => (&rest[..at], &rest[after..]),
        };
        parts.push(word);
        rest = others;
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    if from_end {
        parts.reverse();
    }
    parts
}

/// Returns the lines of a text, at all line ends that Python knows.
fn lines(text: &str, keep: bool) -> Vec<&str> {
    let is_end = |c: char| "\n\r\u{b}\u{c}\u{1c}\u{1d}\u{1e}\u{85}\u{2028}\u{2029}".contains(c);
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(is_end) {
        let end = match rest[at..].starts_with("\r\n") {
            true => at + 2,
            false => at + rest[at..].chars().next().map_or(0, char::len_utf8),
        };
        parts.push(&rest[..if keep { end } else { at }]);
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    parts
}

fn expand_tabs(text: &str, size: usize) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for c in text.chars() {
        match c {
            '\t' if size == 0 => {}
            '\t' => {
                let spaces = size - column % size;
                out.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            c => {
                out.push(c);
                column += 1;
            }
        }
    }
    out
}
