//! Checks the order of the gauge's marks at every step, on real text.
//!
//! The oracle must be at or above the drafter's best tree at B, and that at or above E[X|T].
//! Accepted tokens must match E[X|T] up to sampling error, and the oracle drafter must reach its
//! own ceiling.
//!
//! `cargo bench --bench marks -- FILE.jsonl|FOLDER...` prints a row for each drafter and shape, and
//! exits with status 1 if a mark is out of order. `--every 0` searches no step: the sampling error
//! alone is quick to compute.

#[path = "../tests/common/marks.rs"]
mod marks;
mod prompts;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Parser;
use speclight::cli::one_line;
use speclight::draft::{Shape, Widths};
use speclight::engine::{EngineOptions, ErrorFormat, Prompt};
use speclight::registry::Registry;
use speclight::telemetry::StepSettings;

use marks::Marks;

/// Largest accepted deviation of the mean from 0, in half-widths of its 95% interval.
///
/// Three standard errors: beyond that there is a fault, not sampling error.
const MAX_SAMPLING_ERROR: f64 = 3.0 / 1.96;

/// Checks the order of the gauge's marks at every step
#[derive(Parser)]
#[command(name = "marks")]
struct Options {
    /// Files of prompts (one JSON object per line), or folders of *.jsonl files
    #[arg(required = true, value_name = "FILE.jsonl|FOLDER")]
    prompts: Vec<PathBuf>,
    /// Maximum number of prompts from each file [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Maximum output of a prompt, in tokens
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_tokens: usize,
    /// Drafters to run
    #[arg(
        long,
        value_name = "NAME,..",
        value_delimiter = ',',
        default_value = "ngram,suffix,early-exit,eagle,mix,oracle"
    )]
    drafters: Vec<String>,
    /// Shapes to run
    #[arg(
        long,
        value_name = "NAME,..",
        value_delimiter = ',',
        default_value = "best-first,chain,fixed,static"
    )]
    shapes: Vec<Shape>,
    /// Budget B: tokens of a verify pass
    #[arg(long, value_name = "B", default_value_t = 16)]
    budget: usize,
    /// Sampling temperature
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f32,
    /// Interval of the oracle search, in steps of a text; 0 to search no step
    #[arg(long, value_name = "K", default_value_t = 1)]
    every: usize,
    /// Model: a name listed by `speclight models`, or a path [default: the default model]
    #[arg(long, value_name = "NAME|PATH")]
    model: Option<String>,
    /// Number of threads [default: physical cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("marks: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let read =
        prompts::read(&options.prompts, options.limit, &mut |line| eprintln!("marks: {line}"))?;
    let prompts: Vec<Prompt> = read.into_iter().map(|(_, prompt)| prompt).collect();
    let Options { budget, temperature, max_tokens, threads, .. } = *options;
    println!(
        "{} prompts, up to {max_tokens} tokens each, B {budget}, temperature {temperature}",
        prompts.len()
    );
    println!(
        "{:<10} {:<10} {:>6} {:>8} {:>5} {:>10} {:>7} {:>19} {:>15} {:>14}",
        "drafter",
        "shape",
        "steps",
        "searched",
        "open",
        "exceptions",
        "E[X|T]",
        "accepted - E[X|T]",
        "of context",
        "of fluid"
    );
    let (mut exceptions, mut outside) = (0, 0);
    for (drafter, shape) in options
        .drafters
        .iter()
        .flat_map(|drafter| options.shapes.iter().map(move |shape| (drafter, shape)))
    {
        let settings = StepSettings::new(drafter.as_str(), *shape, budget, temperature);
        let engine = EngineOptions {
            model: options.model.clone().unwrap_or(Registry::load()?.default_name().to_owned()),
            draft_model: None,
            device: "cpu".into(),
            threads,
            fixed: Widths::DEFAULT,
            external: None,
            mix: None,
            remember: false,
            exit_layers: None,
            adapter: None,
            head: None,
            settings,
            prompts: prompts.clone(),
            max_tokens,
            raw: false,
            once: true,
            start_paused: false,
            error_format: ErrorFormat::default(),
        };
        let marks = Marks::measure(engine, options.every).map_err(anyhow::Error::msg)?;
        let ((error, half), (least, most)) = (marks.sampling_error(), marks.ceiling_fraction());
        let context = if marks.searches > 0 {
            format!("{:.1} to {:.1}%", 100.0 * least, 100.0 * most)
        } else {
            "-".into()
        };
        let fluid = marks
            .fluid
            .map_or("-".into(), |fluid| format!("{:.1}%", 100.0 * marks.expected() / fluid));
        println!(
            "{drafter:<10} {shape:<10} {:>6} {:>8} {:>5} {:>10} {:>7.3} {:>19} {context:>15} {fluid:>14}",
            marks.steps,
            marks.searches,
            marks.unconverged,
            marks.exceptions.len(),
            marks.expected(),
            format!("{error:+.4} ± {half:.4}"),
        );
        marks.exceptions.iter().take(3).for_each(|line| println!("  {line}"));
        exceptions += marks.exceptions.len();
        outside += usize::from(error.abs() > MAX_SAMPLING_ERROR * half);
        // An oracle that drafts its own tree reaches all that the context allows.
        if drafter == "oracle"
            && *shape == Shape::BestFirst
            && marks.searches > 0
            && !(least <= 1.0 + 1e-9 && most >= 1.0 - 1e-9)
        {
            bail!("the oracle drafter reaches {least} to {most} of the oracle's own ceiling");
        }
    }
    if exceptions + outside > 0 {
        bail!(
            "{exceptions} steps have marks out of order, and {outside} rows are outside the sampling error"
        );
    }
    println!("no mark is out of order");
    Ok(())
}
