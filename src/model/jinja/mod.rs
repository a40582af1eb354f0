//! Makes minijinja behave as Python's Jinja2, which chat templates are written for.
//!
//! Two parts: the source is rewritten before it is parsed, for syntax that minijinja lacks, and
//! filters and methods are replaced where their output differs. The replacements also bound the
//! size of the values that a hostile template can build.

mod arguments;
mod filters;
mod format;
mod json;
mod methods;
mod rewrite;
mod size_budget;
mod values;

pub(super) use rewrite::rewrite_template;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use minijinja::value::{Kwargs, Object, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use size_budget::{Side, SizeBudget};
use values::{Operator, Tuple, arithmetic, number};

/// Sets up output, filters and methods as in transformers' Jinja environment.
///
/// The values that a run outputs or builds may have `most` bytes in total, including those of
/// captured blocks.
pub(super) fn configure_environment(env: &mut Environment, most: usize) {
    let budget = Arc::new(SizeBudget::new(most));
    add_operators(env, &budget);
    add_text_filters(env, &budget);
    add_list_filters(env, &budget);
    let shared = budget.clone();
    env.set_unknown_method_callback(move |_, value, name, args| {
        shared.add(value)?;
        args.iter().try_for_each(|value| shared.add(value))?;
        methods::method(&shared, value, name, args)
    });
    env.set_formatter(move |out, state, value| {
        budget.add(value)?;
        if value.is_safe() || value.kind() == ValueKind::String || value.is_undefined() {
            return minijinja::escape_formatter(out, state, value);
        }
        std::fmt::Write::write_str(out, &values::text_of(value)?)
            .map_err(|e| Error::new(ErrorKind::WriteFailure, e.to_string()))
    });
    env.add_function("dict", filters::dict);
    env.add_function("cycler", |items: Rest<Value>| match items.is_empty() {
        true => Err(Error::new(ErrorKind::MissingArgument, "cycler needs items")),
        false => Ok(Value::from_object(Cycler { items: items.0, at: AtomicUsize::new(0) })),
    });
    env.add_function("joiner", |by: Option<String>| {
        let by = by.unwrap_or_else(|| ", ".to_owned());
        Value::from_object(Joiner { by, used: AtomicBool::new(false) })
    });
    // None has no items, and texts and mappings are sequences.
    env.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    env.add_test("sequence", |value: &Value| {
        matches!(
            value.kind(),
            ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Undefined
        )
    });
    env.add_test("number", |value: &Value| number(value).is_some());
    env.add_test("callable", |value: &Value| {
        value.kind() == ValueKind::Plain || value.downcast_object_ref::<Joiner>().is_some()
    });
}

/// Adds the filters that [`rewrite`] puts in place of operators and tuples.
fn add_operators(env: &mut Environment, budget: &Arc<SizeBudget>) {
    let shared = budget.clone();
    env.add_filter("_times", move |a: &Value, b: &Value| shared.times(a, b));
    env.add_filter("_div", |a: &Value, b: &Value| arithmetic(Operator::Divide, a, b));
    env.add_filter("_floordiv", |a: &Value, b: &Value| arithmetic(Operator::FloorDivide, a, b));
    env.add_filter("_pow", |a: &Value, b: &Value| arithmetic(Operator::Power, a, b));
    let shared = budget.clone();
    env.add_filter("_grown", move |value: Value| shared.add(&value).map(|()| value));
    let shared = budget.clone();
    env.add_filter("_mod", move |value: &Value, by: &Value| match value.as_str() {
        Some(form) => format::percent(&shared, form, by).map(Value::from),
        None => arithmetic(Operator::Modulo, value, by),
    });
    let shared = budget.clone();
    env.add_function("_tuple", move |items: Rest<Value>| {
        shared.count(items.len())?;
        Ok(Tuple::value(items.0))
    });
}

fn add_text_filters(env: &mut Environment, budget: &Arc<SizeBudget>) {
    let shared = budget.clone();
    env.add_filter(
        "indent",
        move |text: &str,
              width: Option<Value>,
              first: Option<bool>,
              blank: Option<bool>,
              options: Kwargs| { shared.indent(text, width, [first, blank], options) },
    );
    let shared = budget.clone();
    env.add_filter("replace", move |text: &str, from: &str, to: &str, count: Option<i64>| {
        shared.replace(text, from, to, count)
    });
    let shared = budget.clone();
    env.add_filter("format", move |form: &str, values: Rest<Value>| {
        let by = match values.0.split_last() {
            Some((last, [])) if last.is_kwargs() => last.clone(),
            _ => Tuple::value(values.0),
        };
        format::percent(&shared, form, &by)
    });
    let shared = budget.clone();
    env.add_filter("center", move |text: &str, width: Option<usize>| {
        shared.pad(text, width.unwrap_or(80), ' ', Side::Both)
    });
    let shared = budget.clone();
    env.add_filter("urlencode", move |value: &Value| filters::url_encode(&shared, value));
    env.add_filter("tojson", json::to_json);
    env.add_filter("string", values::text_of);
    env.add_filter("wordcount", |text: &str| {
        text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty()).count()
    });
    env.add_filter("escape", filters::escape);
    env.add_filter("e", filters::escape);
    env.add_filter("forceescape", filters::force_escape);
    env.add_filter("striptags", filters::strip_tags);
    env.add_filter("xmlattr", filters::xml_attributes);
    env.add_filter("filesizeformat", filters::file_size);
    env.add_filter("wordwrap", filters::word_wrap);
    env.add_filter("title", filters::title);
    env.add_filter("truncate", filters::truncate);
    env.add_filter("pprint", values::repr);
    env.add_filter("int", filters::to_int);
    env.add_filter("float", filters::to_float);
    env.add_filter("round", filters::round);
}

fn add_list_filters(env: &mut Environment, budget: &Arc<SizeBudget>) {
    type Chunks = fn(&State, Value, usize, Option<Value>) -> Result<Value, Error>;
    let chunks: [(&str, Chunks); 2] =
        [("slice", minijinja::filters::slice), ("batch", minijinja::filters::batch)];
    for (name, filter) in chunks {
        let shared = budget.clone();
        env.add_filter(
            name,
            move |state: &State, items: Value, count: usize, fill: Option<Value>| {
                shared.count(count)?;
                filter(state, items, count, fill)
            },
        );
    }
    env.add_filter("join", filters::join);
    env.add_filter("sum", filters::sum);
    env.add_filter("length", filters::length);
    env.add_filter("count", filters::length);
    env.add_filter("items", filters::items);
    env.add_filter("dictsort", filters::sorted_items);
    env.add_filter("groupby", |items: Value, attribute: Option<&str>, options: Kwargs| {
        filters::grouped(&minijinja::filters::groupby(items, attribute, options)?)
    });
}

/// Object that gives its items in turn.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

impl Object for Cycler {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = self.at.load(Ordering::Relaxed) % self.items.len();
        (key.as_str() == Some("current")).then(|| self.items[at].clone())
    }

    fn call_method(
        self: &Arc<Self>,
        _: &State,
        name: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        match (name, args) {
            ("next", []) => {
                let at = self.at.fetch_add(1, Ordering::Relaxed) % self.items.len();
                Ok(self.items[at].clone())
            }
            ("reset", []) => {
                self.at.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// Function that gives nothing at its first call, and a separator afterwards.
#[derive(Debug)]
struct Joiner {
    by: String,
    used: AtomicBool,
}

impl Object for Joiner {
    fn call(self: &Arc<Self>, _: &State, _: &[Value]) -> Result<Value, Error> {
        let used = self.used.swap(true, Ordering::Relaxed);
        Ok(Value::from(if used { &*self.by } else { "" }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::chat::tests::render;

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
                "{{ '%s: %s'|_mod(_tuple(m.role, m['content'])) }}",
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

    /// Against Jinja2's own results (tests/fixtures/jinja/expected.py).
    #[test]
    fn templates_are_rendered_as_jinja2_does() {
        let message = "A 'b' \"c\" d <x> é\nline two  \n";
        let lines = include_str!("../../../tests/fixtures/jinja/expected.jsonl");
        let mut wrong = Vec::new();
        for line in lines.lines() {
            let (template, want): (String, Option<String>) = serde_json::from_str(line).unwrap();
            let found = render(&template, message);
            if found.as_ref().ok() != want.as_ref() {
                wrong.push(format!("{template}\n  gives {found:?}\n  not {want:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(lines.lines().count() > 600);
    }

    #[test]
    fn expressions_are_rendered_as_python_does() {
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
