//! Python's numbers, tuples and texts of values.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// Deepest nesting of values that is written.
pub(super) const DEEPEST: usize = 100;

/// Python's sequences that are no lists, which print differently.
#[derive(Debug)]
pub(super) struct Tuple {
    kind: TupleKind,
    items: Vec<Value>,
}

/// Kind of a [`Tuple`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TupleKind {
    /// Tuple such as `(1, 2)`.
    Plain,
    /// Tuple whose items have these names, too; it prints without them.
    Named(&'static [&'static str]),
    /// View of a mapping, named by its type.
    View(&'static str),
}

impl Tuple {
    /// Returns a value that holds a tuple.
    pub(super) fn value(items: Vec<Value>) -> Value {
        Self::of_kind(TupleKind::Plain, items)
    }

    /// Returns a value that holds a sequence of this kind.
    pub(super) fn of_kind(kind: TupleKind, items: Vec<Value>) -> Value {
        Value::from_object(Tuple { kind, items })
    }

    /// Returns the items in order.
    pub(super) fn items(&self) -> &[Value] {
        &self.items
    }

    /// Returns true unless this is a view of a mapping.
    pub(super) fn is_tuple(&self) -> bool {
        !matches!(self.kind, TupleKind::View(_))
    }
}

impl Object for Tuple {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        if let (TupleKind::Named(names), Some(key)) = (self.kind, key.as_str()) {
            return self.items.get(names.iter().position(|name| *name == key)?).cloned();
        }
        let at = i64::try_from(key.clone()).ok()?;
        let at = if at < 0 { at + self.items.len() as i64 } else { at };
        self.items.get(usize::try_from(at).ok()?).cloned()
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.items.len())
    }
}

/// Error for an operation that Python refuses, too.
pub(super) fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.into())
}

/// Operator on two numbers.
#[derive(Clone, Copy)]
pub(super) enum Operator {
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

/// Number as in Python; true and false are 1 and 0.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Whole(i128),
    Real(f64),
}

impl Number {
    pub(super) fn real(self) -> f64 {
        match self {
            Number::Whole(n) => n as f64,
            Number::Real(x) => x,
        }
    }
}

/// Returns a value as a number.
///
/// `None` for other values and for numbers that are too large.
pub(super) fn number(value: &Value) -> Option<Number> {
    match value.kind() {
        ValueKind::Bool => Some(Number::Whole(value.is_true().into())),
        ValueKind::Number if value.is_integer() => {
            i128::try_from(value.clone()).ok().map(Number::Whole)
        }
        ValueKind::Number => f64::try_from(value.clone()).ok().map(Number::Real),
        _ => None,
    }
}

/// Applies a binary operator to `a` and `b` as Python does.
///
/// `/` gives a float; `//` and `%` round down.
pub(super) fn arithmetic(operator: Operator, a: &Value, b: &Value) -> Result<Value, Error> {
    let (Some(a), Some(b)) = (number(a), number(b)) else {
        return Err(invalid("only numbers can be multiplied and divided, and text by numbers"));
    };
    if b.real() == 0.0 && !matches!(operator, Operator::Multiply | Operator::Power) {
        return Err(invalid("division by zero"));
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
            return result.map(Value::from).ok_or_else(|| invalid("a number is too large"));
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

/// Writes a value as Python's `str` does, or as `repr` if `quoted`.
pub(super) fn printed(
    value: &Value,
    quoted: bool,
    depth: usize,
    out: &mut String,
) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(invalid("a value is nested too deeply"));
    }
    match value.kind() {
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Undefined => {}
        ValueKind::String if quoted => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Seq => {
            let tuple = value.downcast_object_ref::<Tuple>();
            let (name, [open, close]) = match tuple.map(|tuple| tuple.kind) {
                Some(TupleKind::View(name)) => (name, ["([", "])"]),
                Some(_) if value.len() == Some(1) => ("", ["(", ",)"]),
                Some(_) => ("", ["(", ")"]),
                None => ("", ["[", "]"]),
            };
            out.extend([name, open]);
            for (i, item) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                printed(&item, true, depth + 1, out)?;
            }
            out.push_str(close);
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

/// Returns the text of a value as Python's `str` does.
pub(super) fn text_of(value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    printed(value, false, 0, &mut text)?;
    Ok(text)
}

/// Returns the text of a value in code, as Python's `repr` does.
pub(super) fn repr(value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    printed(value, true, 0, &mut text)?;
    Ok(text)
}

/// Writes a float as Python's `repr` does.
pub(super) fn write_float(x: f64, out: &mut String) {
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

/// Returns true for a character that Python's `repr` writes as it is.
///
/// Others are control, format, private-use and unassigned characters, and separators but the space.
pub(super) fn is_printable(c: char) -> bool {
    // The tables of `escape_debug` are the same; it also escapes marks, but only at the start.
    if c.is_ascii() {
        !c.is_ascii_control()
    } else {
        !format!("a{c}").escape_debug().any(|c| c == '\\')
    }
}

/// Writes a string as Python's `repr` does.
pub(super) fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote || c == '\\' => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => out.push_str(&match u32::from(c) {
                c @ 0..0x100 => format!("\\x{c:02x}"),
                c @ 0x100..0x10000 => format!("\\u{c:04x}"),
                c => format!("\\U{c:08x}"),
            }),
        }
    }
    out.push(quote);
}
