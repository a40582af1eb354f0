//! Filter `tojson` as in transformers.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::values::{DEEPEST, Number, number, write_float};

/// Jinja's `tojson` filter as in transformers.
///
/// Equals Python's `json.dumps` without escapes for HTML, and by default without escapes for
/// non-ASCII characters.
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
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
pub(super) struct JsonOptions {
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sort: bool,
}

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
