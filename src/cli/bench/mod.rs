//! `speclight bench`: cost of passes on this machine, and comparison with an earlier result.

pub(crate) mod compare;
mod measure;
pub(crate) mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::errors::{print_lines, warn_if_too_many_threads};
use super::lines::AtomicOutput;
use super::overlap::{NamedFile, check_outputs};
use super::progress::DownloadBar;
use crate::engine::CostCache;
use crate::model::device::DeviceChoice;
use crate::model::load::Model;
use crate::registry::{Registry, RegistryModel, cache_folder};
use crate::theory::cost::CostCurve;
pub use measure::{bandwidth, steady};
use report::BenchReport;

/// Options of `speclight bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchOptions {
    /// Model to measure: name from `speclight models`, GGUF file, or safetensors folder
    ///
    /// `speclight models` marks the default model.
    #[arg(long, value_name = "NAME|PATH")]
    pub model: Option<String>,
    /// Compute device: auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
    /// Number of CPU threads [default: the number of physical cores]
    #[arg(long, value_name = "N", value_parser = super::options::threads)]
    pub threads: Option<usize>,
    /// Number of measurement rounds, 3 to 1000
    ///
    /// Each round measures everything once, so that a drifting machine speed affects all
    /// measurements alike.
    #[arg(long, value_name = "N", default_value = "11", value_parser = rounds, allow_negative_numbers = true)]
    pub rounds: usize,
    /// Earlier result to compare with, written by --json
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// JSON output of the result, as one object; - is standard output
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
}

/// Stores t(B) in the cache for later runs with this model, device and thread count.
///
/// If that is not possible, or the times are implausible, runs measure t(B) themselves; this is not
/// an error.
fn keep_cost(report: &BenchReport, model: &Model, found: &RegistryModel) {
    let points =
        report.between_seconds.iter().map(|(&tokens, &seconds)| (tokens, seconds)).collect();
    let identity = found.sha256().map_or_else(|| model.path().display().to_string(), str::to_owned);
    if let (Ok(cache), Ok(cost)) = (cache_folder(), CostCurve::new(points))
        && cost.is_plausible()
    {
        CostCache::new(&cache, &identity, &report.device).keep(&cost);
    }
}

fn rounds(value: &str) -> Result<usize, String> {
    super::options::whole(value, 3, 1000, "the number of rounds is out of range")
}

/// Measures the model, prints the result, and writes the JSON output.
///
/// # Errors
/// If the model can't be obtained, an earlier result can't be read, or an output can't be written.
pub fn run(options: BenchOptions) -> anyhow::Result<ExitCode> {
    let mut inputs: Vec<NamedFile> =
        options.against.iter().map(|path| NamedFile::new("--against", path)).collect();
    inputs.extend(NamedFile::model("--model", options.model.as_deref()));
    inputs.extend(NamedFile::lists());
    let json = options.json.iter().map(|path| NamedFile::new("--json", path));
    check_outputs(&inputs, &json.collect::<Vec<_>>())?;
    // Measuring takes about a minute: report unreadable or unwritable files before it.
    let against = options.against.as_deref().map(BenchReport::read).transpose()?;
    let json = options.json.as_deref().map(AtomicOutput::open).transpose()?;
    let registry = Registry::load()?;
    let found = registry.find(options.model.as_deref())?;
    let mut bar = DownloadBar::new();
    let path = found.ensure(&mut |progress| bar.show(progress))?;
    drop(bar);
    warn_if_too_many_threads(options.threads);
    let model = Model::open(&path, options.device, options.threads)?;
    let report = measure::measure(&model, &found, options.rounds)?;
    keep_cost(&report, &model, &found);
    if !options.json.as_deref().is_some_and(AtomicOutput::is_stdout) {
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
