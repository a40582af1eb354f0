//! `speclight import`: files that engines write.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use clap::Args;

use super::attach::text;
use super::errors::{add_attach_fix, print_lines};
use super::lines::AtomicOutput;
use crate::attach::import::Imported;
use crate::attach::lines::{AttachLine, AttachRunLine};

/// Options of `speclight import`.
#[derive(Args, Clone, Debug)]
pub struct ImportOptions {
    /// Files of one engine: responses, exports, request metrics, iteration statistics or logs
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Write lines of JSON for the files, each step and the summary; - is standard output
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub json: Option<PathBuf>,
}

/// Reads the files and writes the requested outputs.
///
/// # Errors
/// If a file can't be read, or has nothing to import.
pub fn run(options: &ImportOptions) -> anyhow::Result<ExitCode> {
    let json = options.json.as_deref().map(AtomicOutput::open).transpose()?;
    let mut imported = Imported::default();
    for path in &options.files {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| {
            anyhow!("{name}: can't be read: {error}; give a file that can be read")
        })?;
        imported.read(&name, BufReader::new(file)).map_err(add_attach_fix)?;
    }
    let summary = imported.summary();
    if let Some(mut json) = json {
        json.write(&AttachLine::Run(AttachRunLine {
            engine: imported.engine().map_or("unknown", |engine| engine.name()),
            version: None,
            model: imported.model(),
            mode: "import",
            speclight: env!("CARGO_PKG_VERSION"),
            method: None,
            temperature: None,
            top_p: None,
            top: None,
            outside: None,
        }))?;
        for step in imported.steps() {
            json.write(&AttachLine::Step(step.into()))?;
        }
        json.write(&AttachLine::Summary(Box::new((&summary).into())))?;
        json.finish()?;
    }
    if !options.json.as_deref().is_some_and(AtomicOutput::is_stdout) {
        print_lines(&text::table(
            &summary,
            imported.engine(),
            text::Source::Files,
            text::ShownBrackets::All,
        ))
        .context("can't write standard output")?;
    }
    Ok(ExitCode::SUCCESS)
}
