//! Arguments of filters and methods.

use minijinja::value::Kwargs;
use minijinja::{Error, Value};

use super::values::{Number, invalid, number};

/// Arguments of a call: by position, and by name.
pub(super) struct Arguments<'a> {
    pub(super) function: &'a str,
    pub(super) values: &'a [Value],
    named: Option<Kwargs>,
}

impl<'a> Arguments<'a> {
    /// Separates the arguments by name, which come last.
    pub(super) fn new(function: &'a str, args: &'a [Value]) -> Result<Self, Error> {
        Ok(match args.split_last() {
            Some((last, values)) if last.is_kwargs() => {
                Arguments { function, values, named: Some(Kwargs::try_from(last.clone())?) }
            }
            _ => Arguments { function, values: args, named: None },
        })
    }

    /// Returns an argument by name.
    pub(super) fn named(&self, name: &str) -> Option<Value> {
        self.named.as_ref().filter(|named| named.has(name)).and_then(|named| named.get(name).ok())
    }

    /// Returns an argument, by position or by name; `None` if it is absent or none.
    pub(super) fn get(&self, at: usize, name: &str) -> Option<Value> {
        let value = self.values.get(at).cloned().or_else(|| self.named(name));
        value.filter(|value| !value.is_none() && !value.is_undefined())
    }

    /// Error for an argument that is absent, or of another type.
    pub(super) fn missing(&self, what: &str) -> Error {
        invalid(format!("{} needs {what}", self.function))
    }

    /// Returns an argument that must be a text.
    pub(super) fn text(&self, at: usize, name: &str) -> Result<Option<String>, Error> {
        self.get(at, name)
            .map(|value| value.as_str().map(str::to_owned).ok_or_else(|| self.missing("a text")))
            .transpose()
    }

    /// Returns an argument that must be there, and a text.
    pub(super) fn required_text(&self, at: usize) -> Result<String, Error> {
        self.text(at, "")?.ok_or_else(|| self.missing("a text"))
    }

    /// Returns an argument that must be a whole number.
    pub(super) fn whole(&self, at: usize, name: &str) -> Result<Option<i64>, Error> {
        let whole = |value: Value| match number(&value) {
            Some(Number::Whole(n)) => Ok(n.clamp(i64::MIN.into(), i64::MAX.into()) as i64),
            _ => Err(self.missing("a whole number")),
        };
        self.get(at, name).map(whole).transpose()
    }

    /// Returns an argument that must be a whole number; 0 for a negative one.
    pub(super) fn size(&self, at: usize, name: &str) -> Result<Option<usize>, Error> {
        Ok(self.whole(at, name)?.map(|n| usize::try_from(n).unwrap_or(0)))
    }

    /// Returns the truth of an argument.
    pub(super) fn flag(&self, at: usize, name: &str) -> Option<bool> {
        self.get(at, name).map(|flag| flag.is_true())
    }
}
