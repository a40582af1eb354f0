//! Decoding options shared by the monitor, `run` and `compare`, and the parsers of their values.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::errors::{add_fix, warn_if_too_many_threads};
use super::overlap::NamedFile;
use super::prompts::{self, PromptError};
use crate::draft::{DrafterKind, MEMBERS, Shape, ShapeKind, Widths};
use crate::engine::{AUTO_BUDGET, EngineOptions, ErrorFormat, MAX_BUDGET, Pace, Prompt};
use crate::model::device::DeviceChoice;
use crate::registry::Registry;
use crate::telemetry::StepSettings;
use crate::verify::Rule;

/// Model, drafting, sampling and prompts of a run.
#[derive(Args, Clone, Debug)]
pub struct DecodeOptions {
    /// Target model: name from `speclight models`, GGUF file, or safetensors folder
    ///
    /// `speclight models` marks the default model.
    #[arg(long, value_name = "NAME|PATH", help_heading = "Model")]
    pub model: Option<String>,
    /// Compute device: auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto", value_parser = device, help_heading = "Model")]
    pub device: String,
    /// Number of CPU threads [default: the number of physical cores]
    #[arg(long, value_name = "N", value_parser = threads, help_heading = "Model")]
    pub threads: Option<usize>,
    /// Drafter: none, ngram, suffix, early-exit, eagle, model, external, mix, auto or oracle
    /// [default: auto]
    ///
    /// none: plain decoding. ngram: looks up repeated n-grams in prompt and output. suffix: looks
    /// up repeats of any length, weighted by how often similar contexts were right. early-exit: the
    /// target's own first layers, read by a small trained adapter. eagle: a small trained head over
    /// the target's hidden states. model: a second model (--draft-model). external: a separate
    /// process (--external). mix: several drafters merged in one tree (--mix). auto: suffix and
    /// eagle merged, each used only where it is expected to raise tokens per second; the budget
    /// defaults to auto. oracle: the target itself, to show drafts with perfect knowledge.
    #[arg(long, value_name = "NAME", default_value = "auto", hide_default_value = true, value_parser = drafter_parser(),
          hide_possible_values = true, help_heading = "Drafting")]
    pub drafter: DrafterKind,
    /// Second model with the same vocabulary, for --drafter model
    #[arg(
        long,
        value_name = "NAME|PATH",
        required_if_eq("drafter", "model"),
        help_heading = "Drafting"
    )]
    pub draft_model: Option<String>,
    /// Command that starts the drafting process, for --drafter external
    ///
    /// The process receives the text and answers with a token tree, both as JSON lines.
    #[arg(
        long,
        value_name = "COMMAND",
        required_if_eq("drafter", "external"),
        help_heading = "Drafting"
    )]
    pub external: Option<String>,
    /// Time limit for an answer of the --external process, in seconds
    ///
    /// A step whose answer is late is made without a draft.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = timeout, allow_negative_numbers = true,
          help_heading = "Drafting")]
    pub external_timeout: f64,
    /// Drafters merged by --drafter mix, two to four [default: suffix,eagle; without a head
    /// suffix,early-exit]
    ///
    /// Candidates are weighted by how well each drafter has predicted the text so far.
    #[arg(long, value_name = "NAME,NAME", value_parser = mix, help_heading = "Drafting")]
    pub mix: Option<Members>,
    /// Let the suffix drafter search earlier texts of the run, too
    ///
    /// Earlier texts change what is drafted, never the generated text.
    #[arg(long, help_heading = "Drafting")]
    pub remember: bool,
    /// Target layers run by the early-exit drafter [default: a third if there is no adapter]
    ///
    /// The drafter then reads the hidden state after K layers with the target's own output head,
    /// without an adapter.
    #[arg(long, value_name = "K", value_parser = exit_layers, allow_negative_numbers = true, conflicts_with = "adapter",
          help_heading = "Drafting")]
    pub exit_layers: Option<usize>,
    /// Adapter file for --drafter early-exit [default: the bundled one for the default model]
    ///
    /// `speclight train --form adapter` makes adapters.
    #[arg(long, value_name = "FILE.gguf", help_heading = "Drafting")]
    pub adapter: Option<PathBuf>,
    /// Head file for --drafter eagle [default: the bundled one for the default model]
    ///
    /// `speclight train` makes heads.
    #[arg(long, value_name = "FILE.gguf", help_heading = "Drafting")]
    pub head: Option<PathBuf>,
    /// Tree shape: chain, fixed, best-first or static [default: best-first]
    ///
    /// chain: the most probable token at each depth. fixed: a fixed number of children per node at
    /// each depth (--fixed). best-first: expands the most probable node until the budget is full.
    /// static: the tree that was best on average so far, by how often children of each rank were
    /// accepted.
    ///
    /// The default is fixed with --fixed, static with --verify rejection or greedy-first, and chain
    /// with --verify block.
    #[arg(long, value_name = "NAME", value_parser = shape_parser(ShapeKind::ALL),
          hide_possible_values = true, help_heading = "Drafting")]
    pub shape: Option<ShapeKind>,
    /// Children per node at each depth for --shape fixed [default: derived from the budget]
    ///
    /// Numbers separated by commas, from the root down, such as 4,2,2,1,1.
    #[arg(long, value_name = "K,K,..", value_parser = clap::value_parser!(Widths), help_heading = "Drafting")]
    pub fixed: Option<Widths>,
    /// Verification rule at temperatures above 0: match, rejection, greedy-first or block
    ///
    /// match: children are the drafter's best tokens; the child that equals the token sampled from
    /// the target is accepted. rejection: children are sampled from the drafter's distribution
    /// without replacement and accepted by recursive rejection. greedy-first: as rejection, but all
    /// children except the last are the drafter's best tokens. block: a chain sampled from the
    /// drafter's distribution, accepted by block verification.
    ///
    /// All rules are lossless. With all rules but match, trees are sampled: the text then depends
    /// on the draft, and the theorem's ceilings do not apply and are not shown.
    #[arg(long, value_name = "RULE", default_value = "match", value_parser = rule, hide_possible_values = true,
          help_heading = "Drafting")]
    pub verify: Rule,
    /// Budget: tokens verified per pass, or auto [default: auto with --drafter auto, else 16]
    ///
    /// The budget B is from 1 to 256 and counts the root (the pending token), so that B - 1 tokens
    /// are drafted. auto chooses, for each step, the number up to 64 that is expected to give the
    /// most tokens per second on this machine. What is drafted then depends on measured times; the
    /// generated text does not.
    #[arg(long, value_name = "B|auto", value_parser = budget, allow_negative_numbers = true, help_heading = "Drafting")]
    pub budget: Option<Budget>,
    /// Sampling temperature; 0 is greedy [default: 0; in the monitor 0.7]
    ///
    /// Applied first, then --top-k, then --top-p, as in transformers and vLLM; llama.cpp applies
    /// the temperature last by default.
    #[arg(long, value_name = "T", default_value = "0", hide_default_value = true, value_parser = temperature, allow_negative_numbers = true,
          help_heading = "Sampling")]
    pub temperature: f32,
    /// Probability mass kept by top-p sampling, above 0 to 1; 1 keeps all tokens
    ///
    /// Keeps the smallest set of tokens that together have this probability, after --temperature
    /// and --top-k.
    #[arg(long, value_name = "P", default_value = "1", value_parser = top_p, allow_negative_numbers = true,
          help_heading = "Sampling")]
    pub top_p: f32,
    /// Number of most probable tokens kept by top-k sampling [default: all]
    ///
    /// Applied after --temperature and before --top-p.
    #[arg(long, value_name = "K", value_parser = top_k, allow_negative_numbers = true, help_heading = "Sampling")]
    pub top_k: Option<usize>,
    /// Seed of all random numbers
    ///
    /// With --verify match, the same seed gives the same text with every drafter.
    #[arg(long, value_name = "N", default_value = "0", help_heading = "Sampling")]
    pub seed: u64,
    /// Prompt text to decode [default: the built-in prompts]
    #[arg(long, value_name = "TEXT", conflicts_with = "prompts", value_parser = parse_prompt, allow_hyphen_values = true,
          help_heading = "Prompts")]
    pub prompt: Option<String>,
    /// Prompt files with one JSON object per line; may be given several times
    ///
    /// Each object has "prompt" (text) or "turns" (list, of which the first is used), and
    /// optionally "question_id", which together with the seed determines the random numbers of the
    /// text. - is standard input.
    #[arg(long, value_name = "FILE.jsonl", num_args = 1.., help_heading = "Prompts")]
    pub prompts: Vec<PathBuf>,
    /// Maximum number of prompts to run, from the first on [default: all]
    #[arg(long, value_name = "N", value_parser = limit, allow_negative_numbers = true, help_heading = "Prompts")]
    pub limit: Option<usize>,
    /// Maximum number of output tokens per prompt
    #[arg(long, value_name = "N", default_value = "256", value_parser = max_tokens, allow_negative_numbers = true,
          help_heading = "Prompts")]
    pub max_tokens: usize,
    /// Give prompts to the model without its chat template
    #[arg(long, help_heading = "Prompts")]
    pub raw: bool,
}

/// Options of the monitor, which runs without a subcommand.
#[derive(Args, Clone, Debug)]
pub struct MonitorOptions {
    /// Model, drafting, sampling and prompts.
    #[command(flatten)]
    pub options: DecodeOptions,
    /// Stop after the last prompt, instead of starting over
    #[arg(long, help_heading = "Screen")]
    pub once: bool,
    /// Color theme: dark, light, safe-dark, safe-light (both for color-blind readers), contrast, mono
    /// or a file [default: dark; mono under NO_COLOR]
    #[arg(long, value_name = "NAME|PATH", help_heading = "Screen")]
    pub theme: Option<String>,
    /// Draw with ASCII characters only
    #[arg(long, help_heading = "Screen")]
    pub ascii: bool,
    /// Maximum pace in steps per second, 1 to 1000, or full
    /// [default: 4 for the first prompt, 16 for the second, then full]
    ///
    /// The engine waits between steps. Measured speeds leave the waits out.
    #[arg(long, value_name = "N|full", value_parser = clap::value_parser!(Pace), allow_negative_numbers = true, help_heading = "Screen")]
    pub pace: Option<Pace>,
    /// Leave the mouse to the terminal
    #[arg(long, help_heading = "Screen")]
    pub no_mouse: bool,
    /// Protocol for the tree in pixels while paused: auto, off, kitty, iterm2 or sixel
    ///
    /// auto goes by the name of the terminal: kitty, Ghostty, iTerm2, WezTerm, foot and mlterm.
    /// Inside tmux and screen it is off.
    #[cfg(feature = "tui")]
    #[arg(
        long,
        value_name = "PROTOCOL",
        value_enum,
        default_value = "auto",
        hide_possible_values = true,
        help_heading = "Screen"
    )]
    pub pixels: crate::tui::PixelChoice,
    /// Record the run to a file, for `speclight replay` and `speclight export`
    ///
    /// Written as FILE.part, which can be replayed at any time, and renamed at the end. The key R
    /// starts a recording later.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub record: Option<PathBuf>,
    /// Format of pictures taken with the key S: svg or png
    #[cfg(feature = "tui")]
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value = "svg",
        hide_possible_values = true,
        help_heading = "Screen"
    )]
    pub picture: crate::tui::Picture,
    /// Arguments of the program, and the names of those given, for defaults of the config folder.
    #[arg(skip)]
    pub(super) given: Given,
}

/// Command line as given, which defaults of the config folder must not replace.
#[derive(Clone, Debug, Default)]
#[cfg_attr(not(feature = "tui"), expect(dead_code))]
pub(super) struct Given {
    /// All arguments, the program's name first.
    pub args: Vec<OsString>,
    /// Ids of the options that have a value from the command line.
    pub ids: Vec<String>,
}

/// Options of `speclight run`.
#[derive(Args, Clone, Debug)]
pub struct RunOptions {
    /// Model, drafting, sampling and prompts.
    #[command(flatten)]
    pub options: DecodeOptions,
    /// JSON lines output for run, steps and summary; - is standard output
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub json: Option<PathBuf>,
    /// Record the run to a file, for `speclight replay` and `speclight export`
    ///
    /// Written as FILE.part, which can be replayed at any time, and renamed at the end.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub record: Option<PathBuf>,
    /// Interval between oracle searches, in steps; 0 searches none
    ///
    /// After one step in K, the target itself is used to find the best tree of the step's budget,
    /// which splits the loss into context, knowledge and shape. A search takes some passes, which
    /// are excluded from all figures.
    #[arg(long, value_name = "K", default_value = "0", value_parser = look_every, allow_negative_numbers = true,
          help_heading = "Output")]
    pub look_every: usize,
}

/// Number of tokens verified per pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Tokens per pass, root included; an upper bound if `auto` is set.
    pub most: usize,
    /// Choose the number at each step for the most expected tokens per second.
    pub auto: bool,
}

impl Budget {
    const AUTO: Budget = Budget { most: AUTO_BUDGET, auto: true };
}

/// Default budget in tokens, for all drafters but `auto`.
const DEFAULT_BUDGET: usize = 16;

/// Default temperature of the monitor.
///
/// Sampled text shows effects that greedy text hides, and `auto` gives a speed-up on it.
const MONITOR_TEMPERATURE: f32 = 0.7;
/// Initial interval between oracle searches in the monitor, in steps.
#[cfg(feature = "tui")]
pub const MONITOR_SEARCH_INTERVAL: usize = 16;

/// Drafters that a mix merges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members(pub Vec<DrafterKind>);

impl DecodeOptions {
    /// Returns the tree shape of the first step; the default depends on the verification rule.
    fn shape(&self) -> Shape {
        let fixed = Shape::Fixed(self.fixed.unwrap_or(Widths::DEFAULT));
        let chosen = self.shape;
        let usual = match self.verify {
            _ if self.fixed.is_some() => fixed,
            Rule::Match => Shape::BestFirst,
            Rule::Rejection | Rule::GreedyFirst => Shape::Static,
            Rule::Block => Shape::Chain,
        };
        chosen.map_or(usual, |kind| kind.with_widths(self.fixed.unwrap_or(Widths::DEFAULT)))
    }

    /// Returns the settings of the first step.
    pub fn settings(&self) -> StepSettings {
        let usual = if self.drafter == DrafterKind::Auto {
            Budget::AUTO
        } else {
            Budget { most: DEFAULT_BUDGET, auto: false }
        };
        let budget = self.budget.unwrap_or(usual);
        StepSettings {
            drafter: self.drafter.clone(),
            shape: self.shape(),
            budget: budget.most,
            auto: budget.auto,
            verify: self.verify,
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            seed: self.seed,
        }
    }

    /// Reads the prompts to decode, at most `limit`.
    ///
    /// These are the given prompt, those of the files, or the built-in ones. Each invalid line of a
    /// file is skipped and reported to `warn` in one line that names it.
    ///
    /// # Errors
    /// If a file can't be read or has no valid line.
    pub fn prompts(&self, warn: &mut dyn FnMut(String)) -> Result<Vec<Prompt>, PromptError> {
        let mut all = match &self.prompt {
            Some(text) => vec![Prompt { id: "0".into(), text: text.clone() }],
            None if self.prompts.is_empty() => prompts::built_in(),
            None => prompts::read_files(&self.prompts, self.limit, warn)?,
        };
        all.truncate(self.limit.unwrap_or(usize::MAX));
        Ok(all)
    }

    /// Returns the files that a run reads.
    pub(super) fn inputs(&self) -> Vec<NamedFile> {
        let mut all: Vec<NamedFile> = NamedFile::all("--prompts", &self.prompts).collect();
        all.extend(NamedFile::model("--model", self.model.as_deref()));
        if let Some(draft) = &self.draft_model {
            all.extend(NamedFile::model("--draft-model", Some(draft)));
        }
        all.extend(self.head.iter().map(|path| NamedFile::new("--head", path)));
        all.extend(self.adapter.iter().map(|path| NamedFile::new("--adapter", path)));
        all.extend(NamedFile::lists());
        all
    }

    /// Applies the monitor's defaults to options that are not `given` on the command line.
    pub fn apply_monitor_defaults(&mut self, given: impl Fn(&str) -> bool) {
        if !given("temperature") {
            self.temperature = MONITOR_TEMPERATURE;
        }
    }

    /// Returns the options of the engine, with the prompts read.
    ///
    /// With `once`, the engine ends after the last prompt. Invalid lines are reported to `warn`, as
    /// by [`Self::prompts`].
    ///
    /// # Errors
    /// If there are no prompts, the list of models is invalid, or a model is neither in the list
    /// nor an existing path. All of this is checked before anything is fetched or loaded.
    pub fn engine(
        &self,
        once: bool,
        warn: &mut dyn FnMut(String),
    ) -> anyhow::Result<EngineOptions> {
        let prompts = self.prompts(warn)?;
        warn_if_too_many_threads(self.threads);
        self.engine_options_for(prompts, once)
    }

    /// Returns the options of the engine for prompts that were already read.
    ///
    /// # Errors
    /// As [`Self::engine`], except for the prompts.
    pub fn engine_options_for(
        &self,
        prompts: Vec<Prompt>,
        once: bool,
    ) -> anyhow::Result<EngineOptions> {
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
            fixed: self.fixed.unwrap_or(Widths::DEFAULT),
            external: self
                .external
                .clone()
                .map(|command| (command, Duration::from_secs_f64(self.external_timeout))),
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
            error_format: ErrorFormat(add_fix),
        })
    }
}

/// Returns a parser of the name of a built-in drafter.
fn drafter_parser() -> impl TypedValueParser<Value = DrafterKind> {
    PossibleValuesParser::new(DrafterKind::names(|_| true)).map(DrafterKind::from)
}

/// Returns a parser of the names of these shapes.
pub(super) fn shape_parser<const N: usize>(
    kinds: [ShapeKind; N],
) -> impl TypedValueParser<Value = ShapeKind> {
    PossibleValuesParser::new(kinds.map(ShapeKind::name))
        .try_map(|name| ShapeKind::from_name(&name).ok_or("there is no such shape"))
}

/// Parses a whole number from `least` to `most`; an error starts with `what`.
pub(super) fn whole(value: &str, least: usize, most: usize, what: &str) -> Result<usize, String> {
    match value.parse::<usize>() {
        Ok(n) if (least..=most).contains(&n) => Ok(n),
        _ if most == usize::MAX => Err(format!("{what}; give a whole number from {least}")),
        _ => Err(format!("{what}; give a whole number from {least} to {most}")),
    }
}

pub(super) fn budget(value: &str) -> Result<Budget, String> {
    if value == "auto" {
        return Ok(Budget::AUTO);
    }
    let most = whole(value, 1, MAX_BUDGET, "the budget is the number of tokens per verify pass")
        .map_err(|why| format!("{why}, or auto"))?;
    Ok(Budget { most, auto: false })
}

fn rule(value: &str) -> Result<Rule, String> {
    Rule::from_name(value)
        .ok_or_else(|| format!("give one of {}", Rule::ALL.map(Rule::name).join(", ")))
}

pub(super) fn mix(value: &str) -> Result<Members, String> {
    let kinds: Vec<DrafterKind> =
        value.split(',').map(|name| DrafterKind::from(name.trim())).collect();
    let twice = kinds.iter().enumerate().any(|(i, kind)| kinds[..i].contains(kind));
    let mixable = kinds.iter().all(DrafterKind::can_be_mixed);
    if !mixable || twice || !(2..=MEMBERS).contains(&kinds.len()) {
        return Err(format!(
            "give two to {MEMBERS} different drafters of {}, such as suffix,early-exit",
            DrafterKind::names(DrafterKind::can_be_mixed).join(", ")
        ));
    }
    Ok(Members(kinds))
}

pub(super) fn timeout(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("the time limit is a number of seconds above 0 and at most 3600".into()),
    }
}

pub(super) fn device(value: &str) -> Result<String, String> {
    value.parse::<DeviceChoice>().map(|choice| choice.to_string())
}

pub(super) fn exit_layers(value: &str) -> Result<usize, String> {
    whole(value, 1, usize::MAX, "the early exit needs at least one layer")
}

pub(super) fn threads(value: &str) -> Result<usize, String> {
    whole(value, 1, 1024, "the number of threads is out of range")
}

pub(super) fn top_k(value: &str) -> Result<usize, String> {
    whole(value, 1, usize::MAX, "top-k is the number of tokens to keep")
}

pub(super) fn look_every(value: &str) -> Result<usize, String> {
    whole(value, 0, usize::MAX, "the interval between oracle searches is a number of steps")
}

pub(super) fn limit(value: &str) -> Result<usize, String> {
    whole(value, 1, usize::MAX, "the limit is a number of prompts")
}

pub(super) fn max_tokens(value: &str) -> Result<usize, String> {
    whole(value, 1, usize::MAX, "the output has at least one token")
}

pub(super) fn temperature(value: &str) -> Result<f32, String> {
    match value.parse::<f32>() {
        Ok(t) if t.is_finite() && t >= 0.0 => Ok(t + 0.0), // -0 becomes 0
        _ => Err("the temperature is 0 (greedy) or a positive number, such as 0.8".into()),
    }
}

pub(super) fn top_p(value: &str) -> Result<f32, String> {
    match value.parse::<f32>() {
        Ok(p) if p > 0.0 && p <= 1.0 => Ok(p),
        _ => Err("top-p is a probability above 0 and at most 1, such as 0.95".into()),
    }
}

fn parse_prompt(value: &str) -> Result<String, String> {
    if value.trim().is_empty() {
        Err("the prompt is empty; give some text".into())
    } else {
        Ok(value.into())
    }
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
    fn help_lists_every_drafter_and_shape() {
        let mut command = <Cli as clap::CommandFactory>::command();
        command.build();
        let help = |name: &str| {
            let option = command.get_arguments().find(|option| option.get_id() == name).unwrap();
            option.get_long_help().or(option.get_help()).unwrap().to_string()
        };
        let drafters = help("drafter").replace(['\n', '\r'], " ");
        let names = DrafterKind::names(|_| true);
        let (last, others) = names.split_last().unwrap();
        assert!(drafters.starts_with(&format!("Drafter: {} or {last} ", others.join(", "))));
        assert!(names.iter().all(|name| drafters.contains(&format!(" {name}: "))), "{drafters}");
        let shapes = help("shape").replace(['\n', '\r'], " ");
        let names = ShapeKind::ALL.map(ShapeKind::name);
        let (last, others) = names.split_last().unwrap();
        assert!(shapes.starts_with(&format!("Tree shape: {} or {last} ", others.join(", "))));
        assert!(names.iter().all(|name| shapes.contains(&format!("{name}: "))), "{shapes}");
    }

    #[test]
    fn defaults() {
        let options = monitor(&[]).unwrap().options;
        let settings = StepSettings {
            drafter: "auto".into(),
            shape: Shape::BestFirst,
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
        let shape = |args: &[&str]| monitor(args).unwrap().options.settings().shape.name();
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
        assert_eq!((settings.drafter.name(), settings.budget, settings.seed), ("oracle", 64, 7));
        assert_eq!((settings.temperature, settings.top_p, settings.top_k), (0.7, 0.9, Some(40)));
        assert_eq!(run.options.prompts.len(), 2);
        assert_eq!((run.json, run.look_every), (Some(PathBuf::from("-")), 8));
    }

    #[test]
    fn values_out_of_range_are_rejected_with_the_range() {
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
            let line = crate::cli::format_usage_error(&monitor(&[option, value]).unwrap_err());
            assert!(line.contains(option) && line.contains(cure), "{option} {value}: {line}");
        }
        assert!(monitor(&["--budget", "256", "--top-p", "1", "--temperature", "-0"]).is_ok());
    }

    #[test]
    fn a_prompt_and_a_file_exclude_each_other() {
        assert!(monitor(&["--prompt", "a", "--prompts", "b"]).is_err());
        assert_eq!(
            monitor(&["--prompt", "-5 + 3 = ?"]).unwrap().options.prompt.unwrap(),
            "-5 + 3 = ?"
        );
    }
}
