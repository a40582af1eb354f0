//! `speclight bench`: cost of passes on this machine, and comparison with an earlier result.

pub(crate) mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::ProgressBar;

use super::errors::{print_lines, warn_if_too_many_threads};
use super::lines::AtomicOutput;
use super::overlap::{NamedFile, check_outputs};
use super::progress::DownloadBar;
use crate::model::device::DeviceChoice;
use crate::model::load::Model;
use crate::registry::Registry;
use crate::study::bench::{BenchReport, keep_cost, measure};

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

fn rounds(value: &str) -> Result<usize, String> {
    super::options::whole(value, 3, 1000, "the number of rounds is out of range")
}

/// Reads a result that `--json` wrote.
///
/// # Errors
/// If the file can't be read or is not a result of `speclight bench`.
pub(crate) fn read_report(path: &Path) -> anyhow::Result<BenchReport> {
    let cure =
        || format!("can't read {}; give a file written by speclight bench --json", path.display());
    let report: BenchReport =
        serde_json::from_slice(&std::fs::read(path).with_context(cure)?).with_context(cure)?;
    if report.kind != "bench" {
        bail!(
            "{} is of type {:?}; give a file written by speclight bench --json",
            path.display(),
            report.kind
        );
    }
    Ok(report)
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
    let against = options.against.as_deref().map(read_report).transpose()?;
    let json = options.json.as_deref().map(AtomicOutput::open).transpose()?;
    let registry = Registry::load()?;
    let found = registry.find(options.model.as_deref())?;
    let mut bar = DownloadBar::new();
    let path = found.ensure(&mut |progress| bar.show(progress))?;
    drop(bar);
    warn_if_too_many_threads(options.threads);
    let model = Model::open(&path, options.device, options.threads)?;
    let bar = ProgressBar::new(options.rounds as u64);
    let report = measure(&model, &found, options.rounds, &mut || bar.inc(1))?;
    bar.finish_and_clear();
    keep_cost(&report, &model, &found);
    if !options.json.as_deref().is_some_and(AtomicOutput::is_stdout) {
        print_lines(&text::report(&report))?;
        if let Some(earlier) = &against {
            print_lines(&text::comparison(earlier, &report))?;
        }
    }
    if let Some(mut json) = json {
        json.write(&report)?;
        json.finish()?;
    }
    Ok(ExitCode::SUCCESS)
}
