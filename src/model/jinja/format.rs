//! Python's two ways to format text: `'%s' % x` and `'{}'.format(x)`.

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::size_budget::SizeBudget;
use super::values::{Number, Tuple, invalid, number, repr, text_of, write_float};

/// Largest width or precision that a format may have.
const WIDEST: usize = 9999;

/// Form of one value: `[[fill]align][sign][#][0][width][grouping][.precision][kind]`.
#[derive(Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    /// `+` or a space for numbers that are not negative.
    sign: Option<char>,
    alternate: bool,
    width: usize,
    /// Character between groups of three digits.
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

impl Spec {
    /// Pads a text with its sign or prefix `head`, which stays in front of zeros.
    fn pad(&self, head: &str, body: &str, numeric: bool) -> String {
        let fill = self.fill.unwrap_or(' ');
        let missing = self.width.saturating_sub(head.chars().count() + body.chars().count());
        let padding = |n: usize| std::iter::repeat_n(fill, n).collect::<String>();
        match self.align.unwrap_or(if numeric { '>' } else { '<' }) {
            '<' => format!("{head}{body}{}", padding(missing)),
            '^' => {
                format!("{}{head}{body}{}", padding(missing / 2), padding(missing - missing / 2))
            }
            '=' => format!("{head}{}{body}", padding(missing)),
            _ => format!("{}{head}{body}", padding(missing)),
        }
    }

    /// Pads a text, which the precision cuts.
    fn pad_text(&self, text: &str) -> String {
        match self.precision {
            Some(most) => self.pad("", &text.chars().take(most).collect::<String>(), false),
            None => self.pad("", text, false),
        }
    }

    fn sign(&self, negative: bool) -> String {
        if negative { "-".into() } else { self.sign.map(String::from).unwrap_or_default() }
    }

    fn group(&self, digits: &str, each: usize) -> String {
        let Some(separator) = self.grouping else { return digits.to_owned() };
        let mut out = String::new();
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(each) {
                out.push(separator);
            }
            out.push(digit);
        }
        out
    }

    fn whole(&self, n: i128, kind: char) -> String {
        let size = n.unsigned_abs();
        let (prefix, digits, each) = match kind {
            'x' => ("0x", format!("{size:x}"), 4),
            'X' => ("0X", format!("{size:X}"), 4),
            'o' => ("0o", format!("{size:o}"), 4),
            'b' => ("0b", format!("{size:b}"), 4),
            _ => ("", size.to_string(), 3),
        };
        let least = self.precision.unwrap_or(0);
        let zeros = "0".repeat(least.saturating_sub(digits.len()));
        let head = format!("{}{}", self.sign(n < 0), if self.alternate { prefix } else { "" });
        self.pad(&head, &self.group(&format!("{zeros}{digits}"), each), true)
    }

    fn real(&self, x: f64, kind: char) -> String {
        let size = x.abs();
        let body = if !size.is_finite() {
            if size.is_nan() { "nan" } else { "inf" }.to_owned()
        } else {
            let precision = self.precision.unwrap_or(6);
            match kind.to_ascii_lowercase() {
                'e' => exponential(size, precision),
                'g' => self.general(size, precision.max(1)),
                '%' => format!("{:.precision$}%", 100.0 * size),
                _ => format!("{size:.precision$}"),
            }
        };
        let (whole, rest) = body.split_at(body.find(['.', 'e', '%']).unwrap_or(body.len()));
        let mut body = format!("{}{rest}", self.group(whole, 3));
        if kind.is_ascii_uppercase() {
            body.make_ascii_uppercase();
        }
        self.pad(&self.sign(x.is_sign_negative() && !x.is_nan()), &body, true)
    }

    /// Python's `g`: the shorter of both notations at this number of significant digits.
    fn general(&self, size: f64, digits: usize) -> String {
        let scientific = exponential(size, digits - 1);
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let trimmed = |text: &str| match text.contains('.') && !self.alternate {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text.to_owned(),
        };
        if (-4..digits as i32).contains(&exponent) {
            let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
            return trimmed(&format!("{size:.decimals$}"));
        }
        let tail = &scientific[mantissa.len()..];
        format!("{}{tail}", trimmed(mantissa))
    }
}

/// Writes a number as `1.5e+03`.
fn exponential(size: f64, precision: usize) -> String {
    let text = format!("{size:.precision$e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Returns the width or precision at the start of a text, and what follows; `None` without digits.
fn digits(text: &str) -> Result<(Option<usize>, &str), Error> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    match end {
        0 => Ok((None, text)),
        _ => match text[..end].parse().ok().filter(|&n: &usize| n <= WIDEST) {
            Some(n) => Ok((Some(n), &text[end..])),
            None => Err(invalid(format!("a format is wider than {WIDEST}"))),
        },
    }
}

/// Formats `form % value`.
///
/// # Errors
/// If the form is invalid, or does not fit the values.
pub(super) fn percent(budget: &SizeBudget, form: &str, value: &Value) -> Result<String, Error> {
    let items = value
        .downcast_object_ref::<Tuple>()
        .filter(|tuple| tuple.is_tuple())
        .map(|tuple| tuple.items().to_vec());
    let is_collection = items.is_none() && matches!(value.kind(), ValueKind::Map | ValueKind::Seq);
    let mut values = items.unwrap_or_else(|| vec![value.clone()]).into_iter();
    let mut named = false;
    let (mut out, mut rest) = (String::new(), form);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let mut key = None;
        if let Some(inner) = rest.strip_prefix('(') {
            let end = inner.find(')').ok_or_else(|| invalid("incomplete format key"))?;
            (key, rest) = (Some(&inner[..end]), &inner[end + 1..]);
        }
        let mut spec = Spec { align: Some('>'), ..Spec::default() };
        let mut zeros = false;
        while let Some(flag) = rest.chars().next().filter(|flag| "-+ #0".contains(*flag)) {
            match flag {
                '-' => spec.align = Some('<'),
                '#' => spec.alternate = true,
                '0' => zeros = true,
                _ if spec.sign == Some('+') => {}
                sign => spec.sign = Some(sign),
            }
            rest = &rest[1..];
        }
        let mut next =
            || values.next().ok_or_else(|| invalid("not enough arguments for format string"));
        let mut size = |rest: &mut &str| -> Result<Option<i64>, Error> {
            if let Some(after) = rest.strip_prefix('*') {
                *rest = after;
                let size = i64::try_from(next()?).map_err(|_| invalid("* wants int"))?;
                return match size.unsigned_abs() as usize <= WIDEST {
                    true => Ok(Some(size)),
                    false => Err(invalid(format!("a format is wider than {WIDEST}"))),
                };
            }
            let (size, after) = digits(rest)?;
            *rest = after;
            Ok(size.map(|size| size as i64))
        };
        if let Some(width) = size(&mut rest)? {
            spec.width = width.unsigned_abs() as usize;
            spec.align = if width < 0 { Some('<') } else { spec.align };
        }
        if let Some(mut after) = rest.strip_prefix('.') {
            spec.precision = Some(size(&mut after)?.unwrap_or(0).max(0) as usize);
            rest = after;
        }
        rest = rest.trim_start_matches(['h', 'l', 'L']);
        let kind = rest.chars().next().ok_or_else(|| invalid("incomplete format"))?;
        rest = &rest[kind.len_utf8()..];
        if kind == '%' {
            out.push('%');
            continue;
        }
        let item = match key {
            Some(key) => {
                named = true;
                let item = value.get_item(&Value::from(key))?;
                if item.is_undefined() {
                    return Err(invalid(format!("a format names {key:?}, which is missing")));
                }
                item
            }
            None => next()?,
        };
        if zeros && spec.align == Some('>') && kind != 's' && kind != 'r' && kind != 'a' {
            (spec.fill, spec.align) = (Some('0'), Some('='));
        }
        budget.add(&item)?;
        budget.count(spec.width + spec.precision.unwrap_or(0))?;
        let wants = |what: &str| invalid(format!("%{kind} format: {what} is required"));
        let text = match kind {
            's' => spec.pad_text(&text_of(&item)?),
            'r' | 'a' => spec.pad_text(&repr(&item)?),
            'c' => match (item.as_str(), number(&item)) {
                (Some(text), _) if text.chars().count() == 1 => spec.pad("", text, true),
                (None, Some(Number::Whole(n))) => {
                    let c = u32::try_from(n).ok().and_then(char::from_u32);
                    let c = c.ok_or_else(|| wants("a character"))?;
                    spec.pad("", &c.to_string(), true)
                }
                _ => return Err(wants("a character")),
            },
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' => match number(&item) {
                Some(Number::Whole(n)) => spec.whole(n, kind),
                Some(Number::Real(x)) if "diu".contains(kind) && x.is_finite() => {
                    spec.whole(x.trunc() as i128, kind)
                }
                _ => return Err(wants("a number")),
            },
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => match number(&item) {
                Some(x) => spec.real(x.real(), kind),
                None => return Err(wants("a number")),
            },
            _ => return Err(invalid(format!("unsupported format character {kind:?}"))),
        };
        out.push_str(&text);
    }
    if !named && !is_collection && values.next().is_some() {
        return Err(invalid("not all arguments converted during string formatting"));
    }
    out.push_str(rest);
    budget.count(out.len())?;
    Ok(out)
}

/// Formats `form.format(*values, **named)`.
///
/// # Errors
/// If the form is invalid, or does not fit the values.
pub(super) fn braces(
    budget: &SizeBudget,
    form: &str,
    values: &[Value],
    named: &dyn Fn(&str) -> Option<Value>,
) -> Result<String, Error> {
    let mut fields = Fields { budget, values, named, next: 0 };
    let out = fields.format(form, 0)?;
    budget.count(out.len())?;
    Ok(out)
}

/// Replacement fields of one call of `format`.
struct Fields<'a> {
    budget: &'a SizeBudget,
    values: &'a [Value],
    named: &'a dyn Fn(&str) -> Option<Value>,
    /// Number of fields without a name so far.
    next: usize,
}

impl Fields<'_> {
    fn format(&mut self, form: &str, depth: usize) -> Result<String, Error> {
        if depth > 2 {
            return Err(invalid("format fields are nested too deeply"));
        }
        let (mut out, mut rest) = (String::new(), form);
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            let brace = &rest[at..at + 1];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                out.push_str(brace);
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(invalid("single '}' in a format"));
            }
            let end = field_end(rest).ok_or_else(|| invalid("a format lacks its '}'"))?;
            out.push_str(&self.field(&rest[..end], depth)?);
            rest = &rest[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    /// Formats one field: `name!conversion:spec`.
    fn field(&mut self, field: &str, depth: usize) -> Result<String, Error> {
        let (name, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) =
            name.split_once('!').map_or((name, None), |(name, by)| (name, Some(by)));
        let value = self.value(name)?;
        self.budget.add(&value)?;
        let spec = self.format(spec, depth + 1)?;
        let value = match conversion {
            None => value,
            Some("s") => text_of(&value)?.into(),
            Some("r" | "a") => repr(&value)?.into(),
            Some(other) => return Err(invalid(format!("unknown conversion {other:?}"))),
        };
        let text = formatted(&value, &spec)?;
        self.budget.count(text.len())?;
        Ok(text)
    }

    /// Finds the value of a name such as `0.role` or `m[key]`.
    fn value(&mut self, name: &str) -> Result<Value, Error> {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut path) = name.split_at(end);
        let missing = || invalid(format!("a format names {first:?}, which is missing"));
        let mut value = match first.parse::<usize>() {
            Ok(at) => self.values.get(at).cloned().ok_or_else(missing)?,
            Err(_) if first.is_empty() => {
                self.next += 1;
                self.values.get(self.next - 1).cloned().ok_or_else(missing)?
            }
            Err(_) => (self.named)(first).ok_or_else(missing)?,
        };
        while !path.is_empty() {
            let (key, rest) = if let Some(inner) = path.strip_prefix('[') {
                inner.split_once(']').ok_or_else(missing)?
            } else {
                let inner = path.strip_prefix('.').ok_or_else(missing)?;
                inner.split_at(inner.find(['.', '[']).unwrap_or(inner.len()))
            };
            path = rest;
            let by_index = key.parse::<usize>().ok().map(Value::from);
            value = match by_index.filter(|_| value.kind() != ValueKind::Map) {
                Some(at) => value.get_item(&at)?,
                None => value.get_item(&Value::from(key))?,
            };
            if value.is_undefined() {
                return Err(missing());
            }
        }
        Ok(value)
    }
}

/// Offset of the brace that closes a field, whose text comes after its opening brace.
fn field_end(text: &str) -> Option<usize> {
    let mut open = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

/// Formats a value as Python's `format(value, spec)`.
fn formatted(value: &Value, spec: &str) -> Result<String, Error> {
    let is_align = |c: char| "<>^=".contains(c);
    let (mut parsed, mut rest) = (Spec::default(), spec);
    let mut chars = rest.chars();
    match (chars.next(), chars.next()) {
        (Some(fill), Some(align)) if is_align(align) => {
            (parsed.fill, parsed.align) = (Some(fill), Some(align));
            rest = chars.as_str();
        }
        (Some(align), _) if is_align(align) => {
            parsed.align = Some(align);
            rest = &rest[1..];
        }
        _ => {}
    }
    if let Some(sign) = rest.chars().next().filter(|sign| "+- ".contains(*sign)) {
        parsed.sign = Some(sign).filter(|&sign| sign != '-');
        rest = &rest[1..];
    }
    if let Some(after) = rest.strip_prefix('#') {
        (parsed.alternate, rest) = (true, after);
    }
    let zeros = rest.starts_with('0');
    let (width, after) = digits(rest)?;
    (parsed.width, rest) = (width.unwrap_or(0), after);
    if let Some(separator) = rest.chars().next().filter(|c| ",_".contains(*c)) {
        (parsed.grouping, rest) = (Some(separator), &rest[1..]);
    }
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = digits(after)?;
        parsed.precision = Some(precision.ok_or_else(|| invalid("a format lacks its precision"))?);
        rest = after;
    }
    parsed.kind = rest.chars().next();
    if rest.chars().count() > 1 {
        return Err(invalid(format!("invalid format specifier {spec:?}")));
    }
    let numeric = match value.kind() {
        // In Python, a format makes numbers of true and false.
        ValueKind::Bool if spec.is_empty() => None,
        _ => number(value),
    };
    if zeros && numeric.is_some() && parsed.align.is_none() {
        (parsed.fill, parsed.align) = (parsed.fill.or(Some('0')), Some('='));
    }
    let unknown = |kind: char| invalid(format!("unknown format code {kind:?} for this value"));
    match (numeric, parsed.kind) {
        (Some(Number::Whole(n)), None | Some('n')) => Ok(parsed.whole(n, 'd')),
        (Some(Number::Whole(_)), _)
            if parsed.precision.is_some() && "dxXob".contains(parsed.kind.unwrap_or(' ')) =>
        {
            Err(invalid("precision not allowed in integer format specifier"))
        }
        (Some(Number::Whole(n)), Some(kind @ ('d' | 'x' | 'X' | 'o' | 'b'))) => {
            Ok(parsed.whole(n, kind))
        }
        (Some(Number::Whole(n)), Some('c')) => {
            let c = u32::try_from(n).ok().and_then(char::from_u32).ok_or_else(|| unknown('c'))?;
            Ok(parsed.pad("", &c.to_string(), false))
        }
        (Some(x), Some(kind @ ('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%'))) => {
            Ok(parsed.real(x.real(), kind))
        }
        (Some(Number::Real(x)), None) => match parsed.precision {
            Some(_) => Ok(parsed.real(x, 'g')),
            None => {
                let mut body = String::new();
                write_float(x.abs(), &mut body);
                let (whole, rest) = body.split_at(body.find(['.', 'e']).unwrap_or(body.len()));
                let body = format!("{}{rest}", parsed.group(whole, 3));
                Ok(parsed.pad(&parsed.sign(x.is_sign_negative() && !x.is_nan()), &body, true))
            }
        },
        (Some(_), Some(kind)) => Err(unknown(kind)),
        (None, None | Some('s')) => Ok(parsed.pad_text(&text_of(value)?)),
        (None, Some(kind)) => Err(unknown(kind)),
    }
}
