//! Parsing of a `--setting`, which overrides the ordinary options.

use std::fmt::Display;

use crate::cli::options::{self, Budget, DecodeOptions};
use crate::draft::{DrafterKind, ShapeKind, Widths};
use crate::engine::{EngineOptions, Prompt};

/// Keys of a setting.
const SETTING_KEYS: &str = "name, drafter, shape, fixed, budget, temperature, top-p, top-k, seed, head, mix, exit-layers, adapter, \
                    draft-model, \
                    external, external-timeout, remember";

/// Setting to compare, with all its options.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Name of the setting; A, B, ... by default.
    pub name: String,
    /// Ordinary options with the overrides of the setting.
    pub options: DecodeOptions,
}

impl Setting {
    /// Parses `key=value,key=value,...`; `number` counts the settings from 0.
    ///
    /// A part without `=` belongs to the value before it, as in `mix=suffix,eagle`.
    ///
    /// # Errors
    /// Returns one line that names the setting, the problem and the fix.
    pub fn parse(text: &str, number: usize, ordinary: &DecodeOptions) -> Result<Setting, String> {
        Self::read(text, number, ordinary).map_err(|why| format!("--setting {text:?}: {why}"))
    }

    fn read(text: &str, number: usize, ordinary: &DecodeOptions) -> Result<Setting, String> {
        let letter = u8::try_from(number)
            .ok()
            .filter(|number| *number < 26)
            .map(|number| char::from(b'A' + number));
        let name = letter.map_or_else(|| (number + 1).to_string(), String::from);
        let mut setting = Setting { name, options: ordinary.clone() };
        let mut parts: Vec<(&str, String)> = Vec::new();
        for part in text.split(',') {
            match (part.split_once('='), parts.last_mut()) {
                (Some((key, value)), _) => parts.push((key.trim(), value.trim().to_owned())),
                (None, Some((_, value))) => *value += &format!(",{}", part.trim()),
                (None, None) if part.trim().is_empty() => {}
                (None, None) => {
                    return Err(format!(
                        "give key=value,..., such as drafter=ngram,budget=16; keys are {SETTING_KEYS}"
                    ));
                }
            }
        }
        for (i, (key, value)) in parts.iter().enumerate() {
            if parts[..i].iter().any(|(other, _)| other == key) {
                return Err(format!("{key} is given twice"));
            }
            setting.set(key, value)?;
        }
        let says = |key: &str| parts.iter().any(|(said, _)| *said == key);
        if says("fixed") && !says("shape") {
            setting.options.shape = None;
        }
        if says("exit-layers") && says("adapter") {
            return Err("exit-layers and adapter exclude each other; give one of them".into());
        }
        let o = &setting.options;
        match o.drafter {
            DrafterKind::Model if o.draft_model.is_none() => {
                Err("the drafter model needs draft-model=NAME or PATH".into())
            }
            DrafterKind::External if o.external.is_none() => {
                Err("the drafter external needs external=COMMAND".into())
            }
            _ => Ok(setting),
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let o = &mut self.options;
        match key {
            "name" if value.is_empty() => return Err("the name is empty; give one".into()),
            "name" => self.name = value.to_owned(),
            "drafter" => o.drafter = one_of(value, &DrafterKind::names(|_| true))?.into(),
            "shape" => {
                let name = one_of(value, &ShapeKind::ALL.map(ShapeKind::name))?;
                o.shape = ShapeKind::from_name(&name);
            }
            "fixed" => o.fixed = Some(value.parse::<Widths>().map_err(said)?),
            "budget" => o.budget = Some(options::budget(value)?),
            "temperature" => o.temperature = options::temperature(value)?,
            "top-p" => o.top_p = options::top_p(value)?,
            "top-k" => o.top_k = Some(options::top_k(value)?),
            "seed" => {
                o.seed =
                    value.parse().map_err(|_| "the seed is a whole number from 0".to_owned())?
            }
            "head" => o.head = Some(value.into()),
            "mix" => o.mix = Some(options::mix(value)?),
            "exit-layers" => {
                (o.exit_layers, o.adapter) = (Some(options::exit_layers(value)?), None)
            }
            "adapter" => (o.adapter, o.exit_layers) = (Some(value.into()), None),
            "draft-model" => o.draft_model = Some(value.to_owned()),
            "external" => o.external = Some(value.to_owned()),
            "external-timeout" => o.external_timeout = options::timeout(value)?,
            "remember" => o.remember = one_of(value, &["yes", "no"])? == "yes",
            _ => return Err(format!("unknown key {key:?}; keys are {SETTING_KEYS}")),
        }
        Ok(())
    }

    /// Returns the setting for plain decoding of the same text.
    pub fn plain(&self) -> Setting {
        let drafter = DrafterKind::None;
        let budget = Some(Budget { most: 1, auto: false });
        Setting {
            name: self.name.clone(),
            options: DecodeOptions {
                drafter,
                budget,
                head: None,
                adapter: None,
                mix: None,
                ..self.options.clone()
            },
        }
    }

    /// Returns true if the setting uses `drafter`, alone or in a mix.
    fn uses(&self, drafter: DrafterKind) -> bool {
        let o = &self.options;
        o.drafter == drafter
            || (o.drafter == DrafterKind::Mix
                && o.mix.iter().flat_map(|mix| &mix.0).any(|member| *member == drafter))
    }

    /// Returns the options of the setting's engine, without models that it does not use.
    ///
    /// # Errors
    /// If a model is unknown.
    pub fn engine(&self, prompts: &[Prompt]) -> anyhow::Result<EngineOptions> {
        let mut options = self.options.clone();
        options.draft_model = options.draft_model.filter(|_| self.uses(DrafterKind::Model));
        options.external = options.external.filter(|_| self.uses(DrafterKind::External));
        options.engine_options_for(prompts.to_vec(), true)
    }

    /// Describes drafter, shape, budget and sampling in one line.
    pub fn words(&self) -> String {
        let (o, s) = (&self.options, self.options.settings());
        let mut words = vec![s.drafter.name().to_owned()];
        let file = |path: &std::path::Path| {
            path.file_name()
                .map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into())
        };
        if self.uses(DrafterKind::Eagle) {
            words.extend(o.head.as_deref().map(|head| format!("head {}", file(head))));
        }
        if s.drafter == DrafterKind::Mix {
            words.extend(o.mix.as_ref().map(|mix| {
                let names: Vec<&str> = mix.0.iter().map(DrafterKind::name).collect();
                format!("members {}", names.join(","))
            }));
        }
        if self.uses(DrafterKind::EarlyExit) {
            words.extend(o.exit_layers.map(|layers| format!("{layers} layers")));
            words.extend(o.adapter.as_deref().map(|adapter| format!("adapter {}", file(adapter))));
        }
        if self.uses(DrafterKind::Model) {
            words.extend(o.draft_model.clone());
        }
        if s.drafter != DrafterKind::None {
            words.push(s.shape.name());
            words.push(if s.auto {
                format!("B auto, up to {}", s.budget)
            } else {
                format!("B {}", s.budget)
            });
        }
        if s.sampling().greedy() {
            words.push("greedy".into());
        } else {
            words.push(format!("T {}", s.temperature));
            words.extend((s.top_p < 1.0).then(|| format!("top-p {}", s.top_p)));
            words.extend(s.top_k.map(|k| format!("top-k {k}")));
            words.push(format!("seed {}", s.seed));
        }
        words.join(", ")
    }
}

/// Returns the value if it is one of `all`.
fn one_of(value: &str, all: &[&str]) -> Result<String, String> {
    if all.contains(&value) {
        Ok(value.to_owned())
    } else {
        Err(format!("{value:?} is not one of {}", all.join(", ")))
    }
}

fn said(error: impl Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;
    use proptest::prelude::*;

    use super::*;
    use crate::cli::Cli;

    fn ordinary() -> DecodeOptions {
        Cli::try_parse_from(["speclight", "--drafter", "suffix", "--temperature", "0.5"])
            .unwrap()
            .monitor
            .options
    }

    fn parse(text: &str) -> Result<Setting, String> {
        Setting::parse(text, 1, &ordinary())
    }

    #[test]
    fn missing_keys_default_to_the_ordinary_options() {
        let setting = parse("").unwrap();
        assert_eq!(
            (setting.name.as_str(), setting.options.settings()),
            ("B", ordinary().settings())
        );
        let setting =
            parse("name=mine, drafter=mix,mix=suffix,eagle,budget=auto,top-k=5,head=a,b.gguf")
                .unwrap();
        let o = &setting.options;
        assert_eq!(
            (setting.name.as_str(), o.drafter.name(), o.temperature, o.top_k),
            ("mine", "mix", 0.5, Some(5))
        );
        assert!(
            o.budget.unwrap().auto
                && o.mix.as_ref().unwrap().0 == [DrafterKind::Suffix, DrafterKind::Eagle]
        );
        assert_eq!(o.head.as_ref().unwrap().to_str(), Some("a,b.gguf"));
        assert_eq!(
            setting.words(),
            "mix, head a,b.gguf, members suffix,eagle, best-first, B auto, up to 64, T 0.5, top-k 5, seed 0"
        );
        let fixed = parse("fixed=4,2,1,temperature=0").unwrap();
        assert_eq!(fixed.options.settings().shape.name(), "fixed 4,2,1");
        assert_eq!(fixed.words(), "suffix, fixed 4,2,1, B 16, greedy");
        assert_eq!(fixed.plain().options.settings().drafter, DrafterKind::None);
        assert_eq!(Setting::parse("", 25, &ordinary()).unwrap().name, "Z");
        assert_eq!(Setting::parse("", 26, &ordinary()).unwrap().name, "27");
    }

    #[test]
    fn errors_name_the_setting() {
        for (text, words) in [
            ("ngram", "give key=value"),
            ("drafter=eagel", "not one of none, ngram"),
            ("drafter=model", "draft-model=NAME"),
            ("drafter=external", "external=COMMAND"),
            ("budget=0", "1 to 256"),
            ("budget=4,budget=5", "given twice"),
            ("color=red", "unknown key \"color\""),
            ("temperature=hot", "positive number"),
            ("name=", "empty"),
            ("seed=-1", "from 0"),
            ("shape=star", "not one of chain"),
            ("fixed=0", "as 4,2,2"),
            ("remember=perhaps", "not one of yes, no"),
        ] {
            let line = parse(text).unwrap_err();
            assert!(
                line.starts_with(&format!("--setting {text:?}: ")) && line.contains(words),
                "{line}"
            );
        }
    }

    #[test]
    fn unused_drafters_are_not_loaded() {
        let both = parse("draft-model=x,external=cat").unwrap();
        assert!(
            !both.uses(DrafterKind::Model)
                && !both.uses(DrafterKind::External)
                && both.uses(DrafterKind::Suffix)
        );
        assert!(
            parse("drafter=mix,mix=suffix,model,draft-model=x").unwrap().uses(DrafterKind::Model)
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_in_one_line(text in ".{0,40}") {
            if let Err(line) = parse(&text) {
                prop_assert!(line.starts_with("--setting") && !line.contains('\n'));
            }
        }
    }
}
