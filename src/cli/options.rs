//! The options that the monitor and `run` share, and the checks on their values.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::errors::warn_of_threads;
use super::prompts::{self, PromptError};
use crate::draft::{DRAFTERS, MEMBERS, Shape, Widths};
use crate::engine::{AUTO_BUDGET, EngineOptions, MAX_BUDGET, Prompt};
use crate::model::device::DeviceChoice;
use crate::registry::Registry;
use crate::telemetry::StepSettings;
use crate::verify::Rule;

/// Names of those that can be members of a mix.
pub const MIXABLE: [&str; 6] = ["ngram", "suffix", "early-exit", "eagle", "model", "external"];
/// Names of the shapes.
pub const SHAPES: [&str; 4] = ["chain", "fixed", "best-first", "static"];

/// What to decode, with what, and how.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Model to run: a name that `speclight models` lists, a GGUF file, or a folder with safetensors
    #[arg(long, value_name = "NAME|PATH", help_heading = "Model")]
    pub model: Option<String>,
    /// Device to run on: auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto", value_parser = device, help_heading = "Model")]
    pub device: String,
    /// Threads of the CPU path [default: the physical cores]
    #[arg(long, value_name = "N", value_parser = threads, help_heading = "Model")]
    pub threads: Option<usize>,
    /// Who drafts: none (plain decoding), ngram (looks up repeats in prompt and output), suffix (the same at any length,
    /// trusted as far as it was right), early-exit (the model's own first layers, read by a small trained adapter), eagle (a small trained head over the model's
    /// hidden states), model (a second model, --draft-model), external (a process, --external), mix (several of them in one
    /// tree, --mix), auto (suffix and eagle mixed, each asked only where that promises more tokens a second; with --budget auto),
    /// oracle (the model itself: what perfect knowledge draws) [default: auto]
    #[arg(long, value_name = "NAME", default_value = "auto", hide_default_value = true, value_parser = PossibleValuesParser::new(DRAFTERS),
          hide_possible_values = true, help_heading = "Drafting")]
    pub drafter: String,
    /// Second model, with the same vocabulary, for --drafter model
    #[arg(long, value_name = "NAME|PATH", required_if_eq("drafter", "model"), help_heading = "Drafting")]
    pub draft_model: Option<String>,
    /// Command of a process that drafts, for --drafter external: it is told the text and answers with a tree in lines of JSON
    #[arg(long, value_name = "COMMAND", required_if_eq("drafter", "external"), help_heading = "Drafting")]
    pub external: Option<String>,
    /// Seconds that it has for an answer; a later one costs the step its draft
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = timeout, allow_negative_numbers = true,
          help_heading = "Drafting")]
    pub external_timeout: f64,
    /// Drafters that the mix drafter merges, by what each was worth so far [default: suffix,eagle, or
    /// suffix,early-exit where there is no head]
    #[arg(long, value_name = "NAME,NAME", value_parser = mix, help_heading = "Drafting")]
    pub mix: Option<Members>,
    /// Let the suffix drafter look into the earlier texts of the run, too: they change what is drafted, never what comes out
    #[arg(long, help_heading = "Drafting")]
    pub remember: bool,
    /// Let the early-exit drafter run K layers and read the model's own head, without an adapter [default: a third of them, where
    /// there is no adapter]
    #[arg(long, value_name = "K", value_parser = exit_layers, allow_negative_numbers = true, conflicts_with = "adapter",
          help_heading = "Drafting")]
    pub exit_layers: Option<usize>,
    /// File of an adapter, made by `speclight train --form adapter`, for --drafter early-exit [default: the one that comes with the
    /// program, for the default model]
    #[arg(long, value_name = "FILE.gguf", help_heading = "Drafting")]
    pub adapter: Option<PathBuf>,
    /// File of a drafting head, made by `speclight train`, for --drafter eagle [default: the one that comes with the program, for
    /// the default model]
    #[arg(long, value_name = "FILE.gguf", help_heading = "Drafting")]
    pub head: Option<PathBuf>,
    /// Shape of the draft: chain, fixed (so many children at each depth, --fixed), best-first (grows the likeliest node until
    /// the budget is full), static (the form that was best so far) [default: best-first, fixed with --fixed, static where
    /// children are drawn, chain with --verify block]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(SHAPES),
          hide_possible_values = true, help_heading = "Drafting")]
    pub shape: Option<String>,
    /// Children of each node of the fixed shape, by depth, as 4,2,2,1,1 [default: what suits the budget]
    #[arg(long, value_name = "K,K,..", value_parser = clap::value_parser!(Widths), help_heading = "Drafting")]
    pub fixed: Option<Widths>,
    /// How children are taken and accepted, at a temperature above 0: match (the drafter's best; the one that the model draws is
    /// accepted), rejection (drawn from the drafter's law without replacement, accepted by recursive rejection), greedy-first (the best
    /// but for the last, which is drawn), block (a chain drawn from the drafter's law, accepted by block verification). All are lossless; trees that are drawn lie outside of the theorem: its ceilings are not
    /// shown for them, and the text depends on the draft
    #[arg(long, value_name = "RULE", default_value = "match", value_parser = rule, hide_possible_values = true,
          help_heading = "Drafting")]
    pub verify: Rule,
    /// Tokens that one pass of the model verifies, the pending token included; auto takes at each step the number, up to
    /// 64, that promises the most tokens a second on this machine: what is drafted then depends on times, what comes out does not
    /// [default: auto with --drafter auto, else 16]
    #[arg(long, value_name = "B|auto", value_parser = budget, allow_negative_numbers = true, help_heading = "Drafting")]
    pub budget: Option<Budget>,
    /// Temperature; 0 is greedy. Applied first, then --top-k, then --top-p (as in transformers and vLLM; llama.cpp applies the temperature
    /// last by default) [default: 0; in the monitor 0.7]
    #[arg(long, value_name = "T", default_value = "0", hide_default_value = true, value_parser = temperature, allow_negative_numbers = true,
          help_heading = "Sampling")]
    pub temperature: f32,
    /// Sample from the smallest set of tokens with this probability together, after --temperature and --top-k; 1 keeps all
    #[arg(long, value_name = "P", default_value = "1", value_parser = top_p, allow_negative_numbers = true,
          help_heading = "Sampling")]
    pub top_p: f32,
    /// Sample from the K likeliest tokens, before --top-p [default: all]
    #[arg(long, value_name = "K", value_parser = top_k, allow_negative_numbers = true, help_heading = "Sampling")]
    pub top_k: Option<usize>,
    /// Seed of every random draw; the same seed gives the same text, whoever drafts
    #[arg(long, value_name = "N", default_value = "0", help_heading = "Sampling")]
    pub seed: u64,
    /// Prompt to decode [default: the built-in prompts]
    #[arg(long, value_name = "TEXT", conflicts_with = "prompts", value_parser = prompt_text, allow_hyphen_values = true,
          help_heading = "Prompts")]
    pub prompt: Option<String>,
    /// File of prompts, one JSON object a line: "prompt" (text) or "turns" (list; the first is used), and "question_id"
    /// where wanted (with the seed it fixes the random numbers of the text); may be given several times
    #[arg(long, value_name = "FILE.jsonl", num_args = 1.., help_heading = "Prompts")]
    pub prompts: Vec<PathBuf>,
    /// Take the first N prompts [default: all]
    #[arg(long, value_name = "N", value_parser = limit, allow_negative_numbers = true, help_heading = "Prompts")]
    pub limit: Option<usize>,
    /// Longest output of a prompt, in tokens
    #[arg(long, value_name = "N", default_value = "256", value_parser = max_tokens, allow_negative_numbers = true,
          help_heading = "Prompts")]
    pub max_tokens: usize,
    /// Give prompts to the model as they are, without its chat template
    #[arg(long, help_heading = "Prompts")]
    pub raw: bool,
}

/// Options of the monitor.
#[derive(Args, Clone, Debug)]
pub struct MonitorOptions {
    /// What to decode.
    #[command(flatten)]
    pub options: Options,
    /// Stop after the last prompt instead of beginning again with the first
    #[arg(long, help_heading = "Screen")]
    pub once: bool,
    /// Colours: dark, light, mono, or a theme file [default: dark, or mono where NO_COLOR is set]
    #[arg(long, value_name = "NAME|PATH", help_heading = "Screen")]
    pub theme: Option<String>,
    /// Draw with ASCII characters alone
    #[arg(long, help_heading = "Screen")]
    pub ascii: bool,
}

/// Options of `speclight run`.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// What to decode.
    #[command(flatten)]
    pub options: Options,
    /// Write one line of JSON for the run, for each step and for the summary; - is standard output
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// After each K-th step of a prompt look for the best tree of its budget with the model itself: it splits what was lost
    /// into context, knowledge and shape, and takes some passes each time, which no figure counts; 0 never looks
    #[arg(long, value_name = "K", default_value = "0", value_parser = look_every, allow_negative_numbers = true,
          help_heading = "Output")]
    pub look_every: usize,
}

/// How many tokens a pass verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// That many, or the most of them.
    pub most: usize,
    /// Whether each step takes as many as promise the most tokens a second.
    pub auto: bool,
}

impl Budget {
    const AUTO: Budget = Budget { most: AUTO_BUDGET, auto: true };
}

/// The budget where nobody says otherwise.
const USUAL_BUDGET: usize = 16;

/// Temperature of the monitor where nobody says otherwise: sampled text shows what greedy text hides, and `auto` pays on it.
const MONITOR_TEMPERATURE: f32 = 0.7;
/// One in how many steps has its oracle tree searched in the monitor, to begin with.
#[cfg(feature = "tui")]
pub const MONITOR_LOOK_EVERY: usize = 16;

/// The members of a mix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members(pub Vec<String>);

impl Options {
    /// The shape of the first step.
    fn shape(&self) -> Shape {
        let fixed = Shape::Fixed(self.fixed.unwrap_or(Widths::USUAL));
        let asked = self.shape.as_deref().and_then(Shape::named);
        let usual = match self.verify {
            _ if self.fixed.is_some() => fixed,
            Rule::Match => Shape::BestFirst,
            Rule::Rejection | Rule::GreedyFirst => Shape::Static,
            Rule::Block => Shape::Chain,
        };
        asked.map_or(usual, |shape| shape.with(self.fixed.unwrap_or(Widths::USUAL)))
    }

    /// The settings of the first step.
    pub fn settings(&self) -> StepSettings {
        let usual = if self.drafter == "auto" { Budget::AUTO } else { Budget { most: USUAL_BUDGET, auto: false } };
        let budget = self.budget.unwrap_or(usual);
        StepSettings {
            drafter: self.drafter.clone(),
            shape: self.shape().name(),
            budget: budget.most,
            auto: budget.auto,
            verify: self.verify,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            seed: self.seed,
        }
    }

    /// The prompts to decode: the one given, those of the files, or the built-in ones; at most `limit`. A bad line of a
    /// file is told to `warn`, in one line that names it, and the rest goes on.
    ///
    /// # Errors
    /// If a file can't be read or has no good line.
    pub fn prompts(&self, warn: &mut dyn FnMut(String)) -> Result<Vec<Prompt>, PromptError> {
        let mut all = match &self.prompt {
            Some(text) => vec![Prompt { id: "0".into(), text: text.clone() }],
            None if self.prompts.is_empty() => prompts::built_in(),
            None => prompts::read_files(&self.prompts, self.limit, warn)?,
        };
        all.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(all)
    }

    /// Takes the monitor's defaults for options that are not `given` on the command line.
    pub fn monitor_defaults(&mut self, given: impl Fn(&str) -> bool) {
        if !given("temperature") {
            self.temperature = MONITOR_TEMPERATURE;
        }
    }

    /// What the engine is started with; with `once` it ends after the last prompt. Bad lines are told to `warn`, as by
    /// [`Options::prompts`].
    ///
    /// # Errors
    /// If there are no prompts, the list of models is bad, or a model is neither in it nor a path that is there. All
    /// this is found before anything is fetched or loaded.
    pub fn engine(&self, once: bool, warn: &mut dyn FnMut(String)) -> anyhow::Result<EngineOptions> {
        let prompts = self.prompts(warn)?;
        warn_of_threads(self.threads);
        self.engine_for(prompts, once)
    }

    /// As [`Options::engine`], for prompts that were read.
    ///
    /// # Errors
    /// As [`Options::engine`], the prompts apart.
    pub fn engine_for(&self, prompts: Vec<Prompt>, once: bool) -> anyhow::Result<EngineOptions> {
        let registry = Registry::load()?;
        registry.find(self.model.as_deref())?;
        if let Some(draft) = &self.draft_model {
            registry.find(Some(draft))?;
        }
        Ok(EngineOptions {
            model: self.model.clone().unwrap_or_else(|| registry.default_name().to_owned()),
            draft_model: self.draft_model.clone(),
            device: self.device.clone(),
            threads: self.threads,
            fixed: self.fixed.unwrap_or(Widths::USUAL),
            external: self.external.clone().map(|command| (command, Duration::from_secs_f64(self.external_timeout))),
            mix: self.mix.as_ref().map(|members| members.0.clone()),
            remember: self.remember,
            exit_layers: self.exit_layers,
            adapter: self.adapter.clone(),
            head: self.head.clone(),
            settings: self.settings(),
            prompts,
            max_tokens: self.max_tokens,
            raw: self.raw,
            once,
            start_paused: false,
        })
    }
}

/// A whole number between two others, or what to give instead.
pub(super) fn whole(value: &str, least: usize, most: usize, what: &str) -> Result<usize, String> {
    match value.parse::<usize>() {
        Ok(n) if (least..=most).contains(&n) => Ok(n),
        _ if most == usize::MAX => Err(format!("{what}: give a whole number from {least}")),
        _ => Err(format!("{what}: give a whole number from {least} to {most}")),
    }
}

pub(super) fn budget(value: &str) -> Result<Budget, String> {
    if value == "auto" {
        return Ok(Budget::AUTO);
    }
    let most = whole(value, 1, MAX_BUDGET, "the budget counts the tokens of one verify pass")
        .map_err(|why| format!("{why}, or auto"))?;
    Ok(Budget { most, auto: false })
}

fn rule(value: &str) -> Result<Rule, String> {
    Rule::named(value).ok_or_else(|| format!("give one of {}", Rule::ALL.map(Rule::name).join(", ")))
}

pub(super) fn mix(value: &str) -> Result<Members, String> {
    let names: Vec<String> = value.split(',').map(|name| name.trim().to_owned()).collect();
    let known = names.iter().all(|name| MIXABLE.contains(&name.as_str()));
    let twice = names.iter().enumerate().any(|(i, name)| names[..i].contains(name));
    if !known || twice || !(2..=MEMBERS).contains(&names.len()) {
        return Err(format!("the mix takes two to {MEMBERS} different ones of {}, as suffix,early-exit", MIXABLE.join(", ")));
    }
    Ok(Members(names))
}

pub(super) fn timeout(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("the time limit is a number of seconds above 0, up to 3600".into()),
    }
}

pub(super) fn device(value: &str) -> Result<String, String> {
    value.parse::<DeviceChoice>().map(|choice| choice.to_string())
}

pub(super) fn exit_layers(value: &str) -> Result<usize, String> {
    whole(value, 1, usize::MAX, "the early exit comes after at least one layer")
}

pub(super) fn threads(value: &str) -> Result<usize, String> {
    whole(value, 1, 1024, "the number of threads")
}

pub(super) fn top_k(value: &str) -> Result<usize, String> {
    whole(value, 1, usize::MAX, "top-k counts the tokens to keep")
}

pub(super) fn look_every(value: &str) -> Result<usize, String> {
    whole(value, 0, usize::MAX, "each K-th step is looked at")
}

pub(super) fn limit(value: &str) -> Result<usize, String> {
    whole(value, 1, usize::MAX, "the limit counts prompts")
}

pub(super) fn max_tokens(value: &str) -> Result<usize, String> {
    whole(value, 1, usize::MAX, "the output has at least one token")
}

pub(super) fn temperature(value: &str) -> Result<f32, String> {
    match value.parse::<f32>() {
        Ok(t) if t.is_finite() && t >= 0.0 => Ok(t + 0.0), // -0 becomes 0
        _ => Err("the temperature is 0 (greedy) or a positive number, as 0.8".into()),
    }
}

pub(super) fn top_p(value: &str) -> Result<f32, String> {
    match value.parse::<f32>() {
        Ok(p) if p > 0.0 && p <= 1.0 => Ok(p),
        _ => Err("top-p is a probability above 0 and at most 1, as 0.95".into()),
    }
}

fn prompt_text(value: &str) -> Result<String, String> {
    if value.trim().is_empty() { Err("the prompt is empty: write some text".into()) } else { Ok(value.into()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn monitor(args: &[&str]) -> Result<MonitorOptions, clap::Error> {
        Cli::try_parse_from([&["speclight"], args].concat()).map(|cli| cli.monitor)
    }

    #[test]
    fn defaults() {
        let options = monitor(&[]).unwrap().options;
        let settings = StepSettings {
            drafter: "auto".into(),
            shape: "best-first".into(),
            budget: 64,
            auto: true,
            verify: Rule::Match,
            temperature: 0.0,
            top_p: 1.0,
            top_k: None,
            seed: 0,
        };
        assert_eq!(options.settings(), settings);
        assert_eq!((options.max_tokens, options.limit, options.raw), (256, None, false));
        assert_eq!(options.device, "auto");
    }

    #[test]
    fn widths_are_those_of_the_fixed_shape() {
        let shape = |args: &[&str]| monitor(args).unwrap().options.settings().shape;
        assert_eq!(shape(&["--shape", "fixed"]), "fixed");
        assert_eq!(shape(&["--fixed", "4,2,1"]), "fixed 4,2,1");
        assert_eq!(shape(&["--fixed", "4,2,1", "--shape", "fixed"]), "fixed 4,2,1");
        assert_eq!(shape(&["--fixed", "4,2,1", "--shape", "static"]), "static");
        assert_eq!(shape(&["--verify", "rejection"]), "static");
        assert_eq!(shape(&["--verify", "block"]), "chain");
        assert_eq!(shape(&["--verify", "greedy-first", "--fixed", "2,2"]), "fixed 2,2");
    }

    #[test]
    fn run_takes_the_same_options() {
        let args = "speclight run --drafter oracle --budget 64 --temperature 0.7 --top-p 0.9 --top-k 40 --seed 7 \
                    --prompts a.jsonl --prompts b.jsonl --limit 3 --raw --json - --look-every 8";
        let cli = Cli::try_parse_from(args.split_whitespace()).unwrap();
        let Some(Command::Run(run)) = cli.command else { panic!("not run") };
        let settings = run.options.settings();
        assert_eq!((settings.drafter.as_str(), settings.budget, settings.seed), ("oracle", 64, 7));
        assert_eq!((settings.temperature, settings.top_p, settings.top_k), (0.7, 0.9, Some(40)));
        assert_eq!(run.options.prompts.len(), 2);
        assert_eq!((run.json, run.look_every), (Some(PathBuf::from("-")), 8));
    }

    #[test]
    fn values_outside_their_range_are_refused_and_the_range_is_said() {
        let cases = [
            ("--budget", "0", "1 to 256"),
            ("--budget", "1000000000", "1 to 256"),
            ("--budget", "99999999999999999999999999", "1 to 256"),
            ("--budget", "-3", "1 to 256"),
            ("--budget", "many", "1 to 256"),
            ("--temperature", "NaN", "positive number"),
            ("--temperature", "-0.5", "positive number"),
            ("--temperature", "inf", "positive number"),
            ("--temperature", "1e39", "positive number"),
            ("--top-p", "0", "at most 1"),
            ("--top-p", "1.01", "at most 1"),
            ("--top-p", "nan", "at most 1"),
            ("--top-k", "0", "from 1"),
            ("--limit", "0", "from 1"),
            ("--max-tokens", "0", "at least one token"),
            ("--threads", "0", "1 to 1024"),
            ("--exit-layers", "0", "at least one layer"),
            ("--fixed", "4,0", "as 4,2,2,1,1"),
            ("--external-timeout", "0", "above 0"),
            ("--verify", "guess", "match, rejection, greedy-first, block"),
            ("--mix", "suffix", "two to 4 different"),
            ("--mix", "suffix,suffix", "two to 4 different"),
            ("--mix", "suffix,oracle", "two to 4 different"),
            ("--device", "gpu", "give auto, cpu"),
            ("--prompt", " \n", "empty"),
        ];
        for (option, value, cure) in cases {
            let line = crate::cli::usage_line(&monitor(&[option, value]).unwrap_err());
            assert!(line.contains(option) && line.contains(cure), "{option} {value}: {line}");
        }
        assert!(monitor(&["--budget", "256", "--top-p", "1", "--temperature", "-0"]).is_ok());
    }

    #[test]
    fn a_prompt_and_a_file_exclude_each_other() {
        assert!(monitor(&["--prompt", "a", "--prompts", "b"]).is_err());
        assert_eq!(monitor(&["--prompt", "-5 + 3 = ?"]).unwrap().options.prompt.unwrap(), "-5 + 3 = ?");
    }
}
