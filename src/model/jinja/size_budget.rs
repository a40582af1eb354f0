//! Bound on the values that a template builds.

use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, Value};

use super::values::{DEEPEST, Number, Operator, arithmetic, invalid, number};

/// Side of a text that is padded.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Left,
    Right,
    Both,
}

/// Bytes and items used so far by operators, filters and methods, and their limit.
#[derive(Debug)]
pub(super) struct SizeBudget {
    bytes: AtomicUsize,
    most: usize,
}

impl SizeBudget {
    /// Creates a budget of `most` bytes and items.
    pub(super) fn new(most: usize) -> Self {
        SizeBudget { bytes: AtomicUsize::new(0), most }
    }

    pub(super) fn count(&self, bytes: usize) -> Result<(), Error> {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > self.most {
            return Err(invalid("it writes too long a text"));
        }
        Ok(())
    }

    /// Adds the size of a value.
    ///
    /// That is the bytes of a string, or the items of a collection and their sizes.
    ///
    /// Items count as often as they occur, since a list that holds another one twice, and so on,
    /// prints a text that doubles with each level.
    pub(super) fn add(&self, value: &Value) -> Result<(), Error> {
        self.add_nested(value, 0)
    }

    fn add_nested(&self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST {
            return Err(invalid("a value is nested too deeply"));
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
    pub(super) fn times(&self, value: &Value, by: &Value) -> Result<Value, Error> {
        let (value, by) = if by.as_str().is_some() || by.kind() == ValueKind::Seq {
            (by, value)
        } else {
            (value, by)
        };
        let count = || match number(by) {
            Some(Number::Whole(n)) => Ok(usize::try_from(n.max(0)).unwrap_or(usize::MAX)),
            _ => Err(invalid("text and lists can only be multiplied by whole numbers")),
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

    /// Replaces the first `count` occurrences.
    ///
    /// Replaces all if there is no count, or a negative one.
    pub(super) fn replace(
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
    pub(super) fn pad(
        &self,
        text: &str,
        width: usize,
        fill: char,
        side: Side,
    ) -> Result<String, Error> {
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
    pub(super) fn indent(
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
}
