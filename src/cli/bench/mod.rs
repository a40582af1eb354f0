//! `speclight bench`: what passes cost on this machine, and how that compares with another time or machine.

mod compare;
mod measure;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::errors::{print_lines, warn_of_threads};
use super::lines::Lines;
use super::progress::Bar;
use crate::engine::Shelf;
use crate::model::device::DeviceChoice;
use crate::model::load::Model;
use crate::registry::{Found, Registry, cache_folder};
use crate::theory::cost::Cost;
pub use measure::{bandwidth, steady};
use report::Report;

/// Options of `speclight bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchOptions {
    /// Model to measure: a name that `speclight models` lists, a GGUF file, or a folder with safetensors
    #[arg(long, value_name = "NAME|PATH")]
    pub model: Option<String>,
    /// Device to run on: auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Threads of the CPU path [default: the physical cores]
    #[arg(long, value_name = "N", value_parser = super::options::threads)]
    pub threads: Option<usize>,
    /// Rounds: in each everything is measured once, so that a machine whose speed drifts favours nothing
    #[arg(long, value_name = "N", default_value = "11", value_parser = rounds, allow_negative_numbers = true)]
    pub rounds: usize,
    /// Compare with an earlier result that --json wrote
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// Write the result as one object of JSON; - is standard output
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
}

/// Keeps t(B) for runs with this model, device and threads. Where that is not possible, or the times are implausible, runs measure it
/// themselves: no error.
fn keep_cost(report: &Report, model: &Model, found: &Found) {
    let points = report.between_seconds.iter().map(|(&tokens, &seconds)| (tokens, seconds)).collect();
    let identity = found.sha256().map_or_else(|| model.path().display().to_string(), str::to_owned);
    if let (Ok(cache), Ok(cost)) = (cache_folder(), Cost::new(points))
        && cost.plausible()
    {
        Shelf::new(&cache, &identity, &report.device).keep(&cost);
    }
}

fn rounds(value: &str) -> Result<usize, String> {
    super::options::whole(value, 3, 1000, "medians need a few rounds")
}

/// Measures, and shows what came of it.
///
/// # Errors
/// If the model can't be had, an earlier result can't be read, or the output can't be written.
pub fn run(options: BenchOptions) -> anyhow::Result<ExitCode> {
    // Before the minute that measuring takes: what can't be read or written is known at once.
    let against = options.against.as_deref().map(Report::read).transpose()?;
    let json = options.json.as_deref().map(Lines::open).transpose()?;
    let registry = Registry::load()?;
    let found = registry.find(options.model.as_deref())?;
    let mut bar = Bar::new();
    let path = found.ensure(&mut |progress| bar.show(progress))?;
    drop(bar);
    warn_of_threads(options.threads);
    let model = Model::open(&path, options.device, options.threads)?;
    let report = measure::measure(&model, &found, options.rounds)?;
    keep_cost(&report, &model, &found);
    if !options.json.as_deref().is_some_and(Lines::to_stdout) {
        print_lines(&report.text())?;
        if let Some(earlier) = &against {
            print_lines(&compare::text(earlier, &report))?;
        }
    }
    if let Some(mut json) = json {
        json.write(&report)?;
        json.finish()?;
    }
    Ok(ExitCode::SUCCESS)
}
