//! Chat templates: the text that a model expects around a user's message.
//!
//! Templates come with the model and are untrusted. They run in a thread of their own, with limits
//! on source length, output length, instructions and stack.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use jiff::Zoned;
use minijinja::{Environment, Error, ErrorKind, Value, context};

use super::error::{LoadError, json_file};
use super::format::weights::Weights;
use super::jinja;
use super::strftime::strftime;
use crate::guarded::catch_panic;

/// A chat template in the Jinja language, from GGUF metadata or a model folder.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    source: String,
}

impl ChatTemplate {
    /// Reads the chat template that comes with `weights`; `None` if there is none.
    ///
    /// In a GGUF file it is the metadata key `tokenizer.chat_template`. In a folder it is
    /// chat_template.jinja, or a key of tokenizer_config.json.
    ///
    /// # Errors
    /// If a file can't be read or parsed. A metadata value of the wrong type fails in
    /// [`render`](Self::render) instead.
    pub fn open(weights: &Weights) -> Result<Option<ChatTemplate>, LoadError> {
        if let Some(metadata) = weights.metadata() {
            let path = metadata.path().to_owned();
            return Ok(match metadata.string("tokenizer.chat_template") {
                Ok(source) => source.map(|source| Self::new(path, source)),
                // Fails on use, not on load: raw prompts need no template.
                Err(_) => Some(Self::new(
                    path,
                    "{{ raise_exception('tokenizer.chat_template is no string') }}",
                )),
            });
        }
        let path = weights.path().join("chat_template.jinja");
        match std::fs::read_to_string(&path) {
            Ok(source) => return Ok(Some(Self::new(path, &source))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => {
                return Err(LoadError::file(
                    &path,
                    format!("can't be opened: {e}"),
                    None,
                    "allow reading it",
                ));
            }
        }
        let path = weights.path().join("tokenizer_config.json");
        let Some(config) = json_file(&path)? else { return Ok(None) };
        // Some models have several templates, for tools and the like; the plain one is "default".
        let several = config["chat_template"].as_array().into_iter().flatten();
        let plain =
            several.filter(|one| one["name"] == "default").find_map(|one| one["template"].as_str());
        Ok(config["chat_template"].as_str().or(plain).map(|source| Self::new(path, source)))
    }

    /// Normalizes line endings to `\n`, as Jinja2 does when it reads a template.
    pub(crate) fn new(path: PathBuf, source: &str) -> Self {
        let source = source
            .strip_prefix('\u{feff}')
            .unwrap_or(source)
            .replace("\r\n", "\n")
            .replace('\r', "\n");
        Self { path, source: jinja::rewrite_template(&source) }
    }

    /// Renders the prompt for one user message, up to where the model answers.
    ///
    /// `names` are the spellings of the BOS and EOS tokens. Text that the template adds on its own,
    /// such as a system prompt, is kept.
    ///
    /// # Errors
    /// If the template is invalid, rejects the message, or exceeds a limit.
    pub fn render(&self, message: &str, names: [&str; 2]) -> Result<String, LoadError> {
        // Templates are untrusted: none may hang, exhaust memory or abort the process.
        let outcome = if self.source.len() > LONGEST_SOURCE {
            let bytes = self.source.len();
            Err(Failure::Template(format!("it has {bytes} bytes, more than {LONGEST_SOURCE}")))
        } else if self.source.matches("not ").count() > MOST_NEGATIONS {
            Err(Failure::Template(format!("it has more than {MOST_NEGATIONS} negations")))
        } else {
            self.render_in_thread(message, names)
        };
        outcome.map_err(|failure| match failure {
            Failure::Template(why) => LoadError::Template { path: self.path.clone(), why },
            Failure::Thread(error) => LoadError::file(
                &self.path,
                format!("no thread can be started for the chat template: {error}"),
                None,
                "end other programs, or allow this one more threads and 512 MiB more of address \
                 space",
            ),
        })
    }

    /// Renders in a thread of its own, for at most [`LONGEST_TIME`].
    ///
    /// Its stack suffices for the deepest nesting. One that takes longer continues to run, since no
    /// thread can be ended from outside.
    fn render_in_thread(&self, message: &str, names: [&str; 2]) -> Result<String, Failure> {
        let (sender, receiver) = mpsc::channel();
        let (template, message, names) =
            (self.clone(), message.to_owned(), names.map(str::to_owned));
        let work = move || {
            let [bos, eos] = &names;
            let outcome =
                catch_panic(|| template.rendered(&message, [bos, eos]).map_err(|e| e.to_string()));
            let _ = sender.send(outcome.and_then(|text| text));
        };
        let thread = std::thread::Builder::new()
            .name("template".into())
            .stack_size(STACK)
            .spawn(work)
            .map_err(Failure::Thread)?;
        let Ok(outcome) = receiver.recv_timeout(LONGEST_TIME) else {
            let why = format!("it takes more than {} s", LONGEST_TIME.as_secs());
            return Err(Failure::Template(why));
        };
        // Frees the stack, for which the next prompt may find no address space otherwise.
        let _ = thread.join();
        outcome.map_err(Failure::Template)
    }

    fn rendered(&self, message: &str, [bos_token, eos_token]: [&str; 2]) -> Result<String, Error> {
        let mut env = Environment::new();
        env.set_trim_blocks(true);
        env.set_lstrip_blocks(true);
        env.set_fuel(Some(FUEL));
        // Values are counted whenever a filter takes them, and templates look at the message often.
        jinja::configure_environment(&mut env, LONGEST_TEXT + 64 * message.len());
        env.add_function("raise_exception", |what: String| {
            Err::<String, _>(Error::new(ErrorKind::InvalidOperation, what))
        });
        env.add_function("strftime_now", |format: String| strftime(&format, &Zoned::now()));
        let messages = [context! { role => "user", content => message }];
        // As in transformers, absent parts of a chat are defined as none.
        let (tools, documents) = (Value::from(()), Value::from(()));
        let values = context! { messages, tools, documents, bos_token, eos_token, add_generation_prompt => true };
        let mut text =
            BoundedBuffer { text: Vec::new(), most: LONGEST_TEXT + 8 * message.len(), full: false };
        let template = env.template_from_named_str("chat template", &self.source)?;
        let outcome = template.render_captured_to(values, &mut text);
        if text.full {
            return Err(Error::new(ErrorKind::WriteFailure, "it writes too long a text"));
        }
        outcome?;
        String::from_utf8(text.text)
            .map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))
    }
}

/// Longest template source, in bytes; known models have up to 30,000.
const LONGEST_SOURCE: usize = 128 << 10;
/// Longest output of a template besides the message, in bytes.
const LONGEST_TEXT: usize = 4 << 20;
/// Instructions that a template may execute; known models need a few thousand.
const FUEL: u64 = 2_000_000;
/// Stack size in bytes, enough for the deepest nesting in a source of [`LONGEST_SOURCE`] bytes.
const STACK: usize = 512 << 20;

/// Longest time of a template; known models need milliseconds.
///
/// Comparisons of large values take time that neither instructions nor sizes bound.
const LONGEST_TIME: Duration = Duration::from_secs(20);
/// Maximum number of negations in a source.
///
/// The parser takes quadratic time over a chain of them.
const MOST_NEGATIONS: usize = 4000;

/// Reason why a template gave no text.
enum Failure {
    /// The template is invalid, exceeds a limit, or rejects the message.
    Template(String),
    /// The system refuses the thread that the template runs in.
    Thread(io::Error),
}

/// Byte buffer of bounded length.
struct BoundedBuffer {
    text: Vec<u8>,
    most: usize,
    /// True once a write exceeded the bound.
    full: bool,
}

impl Write for BoundedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.most {
            self.full = true;
            return Err(io::Error::other("too long"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    pub(in crate::model) fn render(source: &str, message: &str) -> Result<String, String> {
        let template = ChatTemplate::new("m.gguf".into(), source);
        template.render(message, ["<s>", "</s>"]).map_err(|e| e.to_string())
    }

    #[test]
    fn templates_find_functions_and_values_of_transformers() {
        let llama_3 = "{{- bos_token }}
            {%- if strftime_now is defined and tools is none %}
                {%- set date = strftime_now('%Y') %}
            {%- endif %}
            {%- for message in messages %}
                {%- if message.role != 'user' %}{{ raise_exception('no') }}{% endif %}
                {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
            {%- endfor %}
            {%- if add_generation_prompt and date|int > 2000 %}
                {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
            {%- endif %}";
        let text = render(llama_3, " Hi {{ 1 }} <b>\n").unwrap();
        let wanted = "<s><|start_header_id|>user<|end_header_id|>\n\nHi {{ 1 }} <b><|eot_id|>\
                      <|start_header_id|>assistant<|end_header_id|>\n\n";
        assert_eq!(text, wanted);
        // Python methods, blocks on lines of their own, and `break`.
        let python = "{% for message in messages %}\n    {% if loop.first %}\n{{ message.content.strip().split(' ')[-1] }}\n    \
                      {% endif %}\n{% break %}\n{% endfor %}\n{{ eos_token }}";
        assert_eq!(render(python, " one two ").unwrap(), "two\n</s>");
    }

    #[test]
    fn absent_tools_and_documents_are_defined_as_none() {
        for (test, want) in [
            ("tools is none", "y"),
            ("tools is not none", ""),
            ("tools is defined and tools is not none", ""),
            ("tools is defined", "y"),
            ("not tools", "y"),
            ("documents is none", "y"),
            ("documents is not none", ""),
            ("enable_thinking is defined", ""),
        ] {
            assert_eq!(
                render(&format!("{{% if {test} %}}y{{% endif %}}"), "Hi").unwrap(),
                want,
                "{test}"
            );
        }
    }

    #[test]
    fn tojson_equals_python() {
        // Expected values computed with Python's json.dumps(value, ensure_ascii=False).
        for (expression, want) in [
            ("messages[0]['content'] | tojson", r#""A <b> & 'c' \"d\" é\u001f\n""#),
            (
                "messages | tojson",
                r#"[{"role": "user", "content": "A <b> & 'c' \"d\" é\u001f\n"}]"#,
            ),
            (
                "{'a': [1, 2.5, none, true], 'b': {}, 'c': []} | tojson",
                r#"{"a": [1, 2.5, null, true], "b": {}, "c": []}"#,
            ),
            ("{'a': [1, {}]} | tojson(indent=2)", "{\n  \"a\": [\n    1,\n    {}\n  ]\n}"),
            ("'é€😀' | tojson(ensure_ascii=true)", r#""\u00e9\u20ac\ud83d\ude00""#),
            (
                "{'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':'))",
                r#"{"a":2,"b":1}"#,
            ),
        ] {
            assert_eq!(
                render(&format!("{{{{ {expression} }}}}"), "A <b> & 'c' \"d\" é\u{1f}\n").unwrap(),
                want,
                "{expression}"
            );
        }
    }

    #[test]
    fn line_ends_of_a_template_are_those_of_jinja() {
        let template =
            "{% for m in messages %}\r\n<{{ m.role }}>\r\n{{ m.content }}\r{% endfor %}\r\nend\r\n";
        assert_eq!(render(template, "a\r\nb").unwrap(), "<user>\na\r\nb\nend");
    }

    #[test]
    fn hostile_templates_fail_with_one_line() {
        let raw = "x".repeat(60_000);
        for (source, said) in [
            ("{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}".to_owned(), "fuel"),
            (format!("{{% for a in range(10000) %}}{raw}{{% endfor %}}"), "too long a text"),
            (
                "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}"
                    .to_owned(),
                "too long a text",
            ),
            ("{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}".to_owned(), "too long a text"),
            (format!("{{% set x = 'a' %}}{}", "{% set x = x + x %}".repeat(60)), "too long a text"),
            (format!("{{% set x = 'a' %}}{}", "{% set x = x|replace('a', 'aa') %}".repeat(60)), "too long a text"),
            (format!("{{% set x = 'a' %}}{}", "{% set x = x.replace('a', 'aa') %}".repeat(60)), "too long a text"),
            (format!("{{% set x = [1] %}}{}", "{% set x = x + x %}".repeat(60)), "too long a text"),
            (format!("{{% set x = '&&' %}}{}", "{% set x = (x ~ x)|urlencode %}".repeat(60)), "too long a text"),
            (format!("{{% set x = '<' %}}{}", "{% set x = (x ~ x)|forceescape %}".repeat(60)), "too long a text"),
            ("{% set x = '\t' * 1000000 %}{{ x.expandtabs(60000) }}".to_owned(), "too long a text"),
            ("{% set x = ' ' * 1000000 %}{{ x.join(['a'] * 1000) }}".to_owned(), "too long a text"),
            ("{{ '{:>{w}}'.format('x', w=10 ** 12) }}".to_owned(), "wider than"),
            ("{{ '%*d' % (10 ** 12, 1) }}".to_owned(), "wider than"),
            ("{% for i in range(10000) %}{% set x = '%9999s' % 'a' %}{% endfor %}".to_owned(), "too long a text"),
            ("{{ 'a' * 1000000000000 }}".to_owned(), "too long a text"),
            ("{{ 1000000000000 * 'a' }}".to_owned(), "too long a text"),
            ("{{ '%999999999d' % 1 }}".to_owned(), "wider than"),
            ("{{ 'a'.ljust(1000000000) }}".to_owned(), "too long a text"),
            ("{{ 'a' | center(1000000000) }}".to_owned(), "too long a text"),
            ("{{ [1] | slice(1000000000) | list }}".to_owned(), "too long a text"),
            ("{{ [1] | batch(1000000000, 'x') | list }}".to_owned(), "too long a text"),
            ("{{ 9 ** 999 }}".to_owned(), "too large"),
            (format!("{{{{ {}x }}}}", "not ".repeat(25_000)), "negations"),
            ("x".repeat(LONGEST_SOURCE + 1), "bytes, more than"),
        ] {
            let line = render(&source, "Hi").unwrap_err();
            assert!(line.contains(said) && line.lines().count() == 1, "{said}: {line}");
        }
        // Nested lists, each of which holds the next one twice.
        for expression in
            ["ns.l", "ns.l|string", "ns.l|tojson", "ns.l ~ 'a'", "'%s' % ns.l", "ns.l|join"]
        {
            let doubled = format!(
                "{{% set ns = namespace(l=[1]) %}}{{% for i in range(50) %}}\
                 {{% set ns.l = [ns.l, ns.l] %}}{{% endfor %}}{{{{ {expression} }}}}"
            );
            let line = render(&doubled, "Hi").unwrap_err();
            assert!(line.contains("too long a text") && line.lines().count() == 1, "{line}");
        }
        // Deep nesting is valid and may render or fail, but it must not overflow the stack.
        let _ = render(&format!("{{{{ {}1 }}}}", "-".repeat(30_000)), "Hi");
        let _ = render(&format!("{{{{ messages{} }}}}", ".a".repeat(30_000)), "Hi");
        let _ = render(&format!("{{{{ {}1{} }}}}", "(".repeat(30_000), ")".repeat(30_000)), "Hi");
    }

    #[test]
    fn invalid_templates_fail_with_one_line() {
        for (source, said) in [
            ("\n{% if %}", "syntax error"),
            ("{{ messages[0].content.frobnicate() }}", "frobnicate"),
            ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ] {
            let line = render(source, "Hi").unwrap_err();
            assert!(
                line.starts_with("m.gguf: the chat template fails: ") && line.contains(said),
                "{line}"
            );
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
