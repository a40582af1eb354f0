//! Configuration files of the monitor: `config.toml` (defaults and keys) and `presets.toml`.
//!
//! Both are parsed here and read by the command line. An invalid file is rejected with one line that
//! names file, line, and key.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keymap::{Chord, Keymap};
use super::palette;
use super::preset::Preset;

/// Reason why a configuration file can't be used, in one line: place, problem, fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct ConfigError {
    /// File and line of the problem.
    pub place: String,
    /// Description of the problem and its fix.
    pub what: String,
}

/// Default of an option, as `config.toml` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionDefault {
    /// Long name of the option.
    pub name: String,
    /// Value as text; `true` for a switch that is on.
    pub value: String,
    /// File and line, for messages.
    pub place: String,
}

/// Contents of the file `config.toml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Defaults of options, in the order of the file.
    pub options: Vec<OptionDefault>,
    /// Key bindings of all commands.
    pub keys: Keymap,
}

/// File being parsed, for messages.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, at: usize) -> String {
        format!(
            "{}:{}",
            self.file,
            self.text.bytes().take(at).filter(|&byte| byte == b'\n').count() + 1
        )
    }

    fn error(&self, at: usize, what: impl Into<String>) -> ConfigError {
        ConfigError { place: self.place(at), what: what.into() }
    }

    fn table(&self) -> Result<DeTable<'_>, ConfigError> {
        let wrong = |error: toml::de::Error| {
            let what = error.message().lines().collect::<Vec<_>>().join(" ");
            self.error(error.span().map_or(0, |span| span.start), format!("not TOML: {what}"))
        };
        DeTable::parse(self.text).map(Spanned::into_inner).map_err(wrong)
    }

    /// Returns a value as the text that the command line would take.
    fn scalar(&self, key: &str, value: &Spanned<DeValue>) -> Result<String, ConfigError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(number) => Ok(number.to_string()),
            DeValue::Float(number) => Ok(number.to_string()),
            DeValue::Boolean(on) => Ok(on.to_string()),
            _ => Err(self.error(
                value.span().start,
                format!("{key}: expected a text, a number, or true or false"),
            )),
        }
    }
}

/// Entries of a table in the order of the file.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t str, usize, &'t Spanned<DeValue<'i>>)> {
    let mut all: Vec<_> = table
        .iter()
        .map(|(key, value)| (key.get_ref().as_ref(), key.span().start, value))
        .collect();
    all.sort_by_key(|entry| entry.1);
    all
}

impl Config {
    /// Parses the text of `config.toml`; `file` is its name in messages.
    ///
    /// Names and values of options are checked by the command line, which knows them.
    ///
    /// # Errors
    /// If it is not TOML, or a key or command is unknown, with file and line.
    pub fn parse(file: &str, text: &str) -> Result<Config, ConfigError> {
        let source = Source { file, text };
        let table = source.table()?;
        let mut config = Config::default();
        for (name, at, value) in in_order(&table) {
            match (name, value.get_ref()) {
                ("keys", DeValue::Table(keys)) => bind(&source, keys, &mut config.keys)?,
                ("keys", _) => return Err(source.error(at, "keys: expected a table [keys]")),
                _ => {
                    let value = source.scalar(name, value)?;
                    config.options.push(OptionDefault {
                        name: name.to_owned(),
                        value,
                        place: source.place(at),
                    });
                }
            }
        }
        Ok(config)
    }
}

/// Applies the table `[keys]`: a command's name, and one key or a list of keys.
fn bind(source: &Source, table: &DeTable, keymap: &mut Keymap) -> Result<(), ConfigError> {
    let mut bound: Vec<(Chord, &str)> = Vec::new();
    for (name, at, value) in in_order(table) {
        let wrong = |what: String| source.error(at, format!("keys.{name}: {what}"));
        let texts: Vec<&str> = match value.get_ref() {
            DeValue::String(one) => vec![one],
            DeValue::Array(list) => {
                let text = |item: &Spanned<DeValue>| item.get_ref().as_str().map(str::len);
                if list.iter().any(|item| text(item).is_none()) {
                    return Err(wrong("expected keys in quotes".into()));
                }
                list.iter().filter_map(|item| item.get_ref().as_str()).collect()
            }
            _ => return Err(wrong("expected a key in quotes, or a list of them".into())),
        };
        let mut chords = Vec::new();
        for text in texts {
            let chord = Chord::parse(text).map_err(wrong)?;
            if let Some((_, other)) = bound.iter().find(|(key, _)| *key == chord) {
                return Err(wrong(format!("{text} is bound to {other} already: give another key")));
            }
            bound.push((chord, name));
            chords.push(chord);
        }
        keymap.bind(name, &chords).map_err(wrong)?;
    }
    Ok(())
}

/// Parses the text of `presets.toml`: a table of settings for each preset.
///
/// # Errors
/// If it is not TOML, or a setting is unknown or fixed during a run, with file and line.
pub fn parse_presets(file: &str, text: &str) -> Result<Vec<Preset>, ConfigError> {
    let source = Source { file, text };
    let table = source.table()?;
    let mut presets = Vec::new();
    for (name, at, value) in in_order(&table) {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(source.error(at, format!("{name}: expected a table of settings [{name}]")));
        };
        let mut settings = Vec::new();
        for (setting, at, value) in in_order(table) {
            if !palette::step_settings().any(|known| known == setting) {
                let known: Vec<&str> = palette::step_settings().collect();
                return Err(source.error(
                    at,
                    format!("{name}.{setting}: not a setting: use {}", known.join(", ")),
                ));
            }
            settings.push((setting.to_owned(), source.scalar(setting, value)?));
        }
        presets.push(Preset { name: name.to_owned(), settings });
    }
    Ok(presets)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::tui::COMMANDS;

    #[test]
    fn options_keep_their_order_and_place() {
        let text = "# mine\ntemperature = 0.7\ntheme = \"light\"\nascii = true\nbudget = 8\n";
        let config = Config::parse("config.toml", text).unwrap();
        let seen: Vec<(&str, &str, &str)> = config
            .options
            .iter()
            .map(|o| (o.name.as_str(), o.value.as_str(), o.place.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                ("temperature", "0.7", "config.toml:2"),
                ("theme", "light", "config.toml:3"),
                ("ascii", "true", "config.toml:4"),
                ("budget", "8", "config.toml:5")
            ]
        );
        assert_eq!(config.keys, Keymap::default());
    }

    #[test]
    fn keys_are_rebound_one_or_many() {
        let config =
            Config::parse("c", "[keys]\npause = \"F2\"\nquit = [\"q\", \"Ctrl-Q\"]\nhelp = []\n")
                .unwrap();
        let labels = |id: &str| {
            let entry = COMMANDS.iter().find(|command| command.id() == id).unwrap();
            config.keys.keys(&entry.id()).iter().map(Chord::label).collect::<Vec<_>>()
        };
        assert_eq!(labels("pause"), ["F2"]);
        assert_eq!(labels("quit"), ["q", "Ctrl-Q"]);
        assert_eq!(labels("help"), [] as [&str; 0]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, words) in [
            ("temperature = ", 1, "not TOML"),
            (
                "\n\n[keys]\npaus = \"x\"",
                4,
                "keys.paus: unknown command paus: the nearest is pause",
            ),
            ("[keys]\npause = \"Hyper-x\"", 2, "keys.pause: unknown key \"Hyper-x\""),
            ("[keys]\npause = 3", 2, "keys.pause: expected a key in quotes"),
            ("[keys]\npause = [\"x\", 3]", 2, "keys.pause: expected keys in quotes"),
            ("[keys]\npause = \"x\"\nstep = \"x\"", 3, "keys.step: x is bound to pause already"),
            ("[keys]\npause = \"Ctrl-C\"", 2, "keys.pause: Ctrl-C always quits"),
            ("keys = 1", 1, "keys: expected a table"),
            ("a = 1\nprompts = [\"x\"]", 2, "prompts: expected a text"),
        ] {
            let said = Config::parse("config.toml", text).unwrap_err().to_string();
            assert!(said.starts_with(&format!("config.toml:{line}: {words}")), "{text:?}: {said}");
            assert!(!said.contains('\n'));
        }
    }

    #[test]
    fn presets_hold_settings_that_can_change() {
        let presets = parse_presets(
            "p",
            "[code]\ndrafter = \"eagle\"\nbudget = 8\n[slow]\ntemperature = 0\n",
        )
        .unwrap();
        assert_eq!(presets[0].name, "code");
        assert_eq!(
            presets[0].settings,
            [("drafter".into(), "eagle".into()), ("budget".to_owned(), "8".to_owned())]
        );
        assert_eq!(presets[1].settings, [("temperature".to_owned(), "0".to_owned())]);
        let said = parse_presets("p", "[a]\n\nmodel = \"x\"").unwrap_err().to_string();
        assert!(said.starts_with("p:3: a.model: not a setting: use drafter"), "{said}");
        assert!(
            parse_presets("p", "a = 1")
                .unwrap_err()
                .to_string()
                .starts_with("p:1: a: expected a table")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_rejected_in_one_line(text in "([a-z]{1,6} ?= ?[0-9\"a-z]{0,4}\n|\\[[a-z]{0,5}\\]\n|.{0,9}){0,5}") {
            if let Err(error) = Config::parse("c", &text) {
                prop_assert!(!error.to_string().contains('\n'));
            }
            if let Err(error) = parse_presets("p", &text) {
                prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }
}
