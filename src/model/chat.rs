//! Chat templates: what a model was trained to see around a person's words.

use std::path::PathBuf;
use std::time::SystemTime;

use minijinja::{Environment, Error, ErrorKind, context};

use super::load::{LoadError, json_file};
use super::weights::Weights;

/// A template in the Jinja language, as GGUF metadata and tokenizer_config.json hold it.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    source: String,
}

impl ChatTemplate {
    /// The template that came with `weights`: `tokenizer.chat_template` of a GGUF file's metadata, or
    /// chat_template.jinja or tokenizer_config.json of a folder. None if there is none.
    ///
    /// # Errors
    /// If it is something else than a template, or a file can't be read.
    pub fn open(weights: &Weights) -> Result<Option<ChatTemplate>, LoadError> {
        if let Some(metadata) = weights.metadata() {
            let source = metadata.string("tokenizer.chat_template")?;
            return Ok(source.map(|source| Self::new(metadata.path().to_owned(), source)));
        }
        let path = weights.path().join("chat_template.jinja");
        match std::fs::read_to_string(&path) {
            Ok(source) => return Ok(Some(Self::new(path, &source))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(LoadError::file(&path, format!("can't be opened: {e}"), None, "allow reading it")),
        }
        let path = weights.path().join("tokenizer_config.json");
        let Some(config) = json_file(&path)? else { return Ok(None) };
        // Some models have several, for tools and the like, and call the plain one "default".
        let several = config["chat_template"].as_array().into_iter().flatten();
        let plain = several.filter(|one| one["name"] == "default").find_map(|one| one["template"].as_str());
        Ok(config["chat_template"].as_str().or(plain).map(|source| Self::new(path, source)))
    }

    pub(super) fn new(path: PathBuf, source: &str) -> Self {
        Self { path, source: source.to_owned() }
    }

    /// The text for one message of a person, up to where the model is to answer. What the template adds of its own (a
    /// system prompt, say) stays.
    ///
    /// # Errors
    /// If the template is broken, or refuses the message.
    pub fn render(&self, message: &str, [bos_token, eos_token]: [&str; 2]) -> Result<String, LoadError> {
        let mut env = Environment::new();
        env.set_trim_blocks(true);
        env.set_lstrip_blocks(true);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_function("raise_exception", |what: String| Err::<String, _>(Error::new(ErrorKind::InvalidOperation, what)));
        env.add_function("strftime_now", |format: String| strftime(&format, SystemTime::now()));
        let messages = [context! { role => "user", content => message }];
        let values = context! { messages, bos_token, eos_token, add_generation_prompt => true };
        env.render_named_str("chat template", &self.source, values).map_err(|e| {
            let what = format!("the chat template fails: {e}");
            LoadError::file(&self.path, what, None, "give --raw to go without it, or take another model")
        })
    }
}

/// The date and time at `now` (UTC), as C's strftime formats them for the directives that templates use; others stay
/// as they are written.
fn strftime(format: &str, now: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[(days % 7) as usize]);
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('Y') => out += &year.to_string(),
            Some('y') => out += &format!("{:02}", year % 100),
            Some('m') => out += &format!("{month:02}"),
            Some('B') => out += month_name,
            Some('b') => out += &month_name[..3],
            Some('d') => out += &format!("{day:02}"),
            Some('A') => out += day_name,
            Some('a') => out += &day_name[..3],
            Some('H') => out += &format!("{:02}", second / 3600),
            Some('M') => out += &format!("{:02}", second / 60 % 60),
            Some('S') => out += &format!("{:02}", second % 60),
            Some('F') => out += &format!("{year}-{month:02}-{day:02}"),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01. Years are counted from March, so that the
/// leap day is their last; 400 of them have 146097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // from March
    let (year, day) = (era * 400 + year, day - (153 * month + 2) / 5 + 1);
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds, format| strftime(format, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0, "%A %d %B %Y %H:%M:%S"), "Thursday 01 January 1970 00:00:00");
        assert_eq!(at(951_782_400, "%F %a"), "2000-02-29 Tue");
        assert_eq!(at(951_868_800, "%d %b %y"), "01 Mar 00");
        assert_eq!(at(1_735_689_599, "%Y-%m-%d %H:%M:%S"), "2024-12-31 23:59:59");
        assert_eq!(at(4_107_542_400, "%F"), "2100-03-01");
        assert_eq!(at(0, "100%% %q %"), "100% %q %");
    }

    fn render(source: &str, message: &str) -> Result<String, String> {
        let template = ChatTemplate::new("m.gguf".into(), source);
        template.render(message, ["<s>", "</s>"]).map_err(|e| e.to_string())
    }

    #[test]
    fn templates_have_what_they_expect() {
        let llama_3 = "{{- bos_token }}
            {%- if strftime_now is defined and tools is not defined %}
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
        // Python's methods, blocks on lines of their own, loops that are left.
        let python = "{% for message in messages %}\n    {% if loop.first %}\n{{ message.content.strip().split(' ')[-1] }}\n    \
                      {% endif %}\n{% break %}\n{% endfor %}\n{{ eos_token }}";
        assert_eq!(render(python, " one two ").unwrap(), "two\n</s>");
    }

    #[test]
    fn broken_templates_are_one_line() {
        for (source, said) in [
            ("\n{% if %}", "syntax error"),
            ("{{ messages[0].content.frobnicate() }}", "frobnicate"),
            ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ] {
            let line = render(source, "Hi").unwrap_err();
            assert!(line.starts_with("m.gguf: the chat template fails: ") && line.contains(said), "{line}");
            assert!(
                line.ends_with(": give --raw to go without it, or take another model") && line.lines().count() == 1,
                "{line}"
            );
        }
    }
}
