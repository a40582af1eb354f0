//! `speclight plot`: figures from the JSON output of `speclight table`.
//!
//! `curves` selects the data of each panel, `draw` renders the panels as SVG or PNG.

mod curves;
pub(crate) mod draw;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::lines::AtomicOutput;
use super::options;
use super::overlap::{NamedFile, check_outputs};
use super::study::{SetRows, Table};

/// Largest number of sets in one picture.
const MAX_SETS: usize = 40;

/// Options of `speclight plot`.
#[derive(Args, Clone, Debug)]
pub struct PlotOptions {
    /// Table file written by `speclight table --json`
    #[arg(value_name = "FILE.json")]
    pub table: PathBuf,
    /// Output picture; the extension selects the format
    #[arg(short, long, value_name = "FILE.svg|FILE.png")]
    pub output: PathBuf,
    /// Name of the only prompt set to draw [default: all]
    #[arg(long, value_name = "NAME")]
    pub set: Option<String>,
    /// Only temperature to draw [default: all]
    #[arg(long, value_name = "T", value_parser = options::temperature, allow_negative_numbers = true)]
    pub temperature: Option<f32>,
}

/// Draws the figures of the selected sets into one picture.
///
/// # Errors
/// If the table can't be read, has no matching set, or the picture can't be written.
pub fn run(options: PlotOptions) -> anyhow::Result<ExitCode> {
    let name = options.table.display();
    let cure = || format!("can't read {name}; give a file written by speclight table --json");
    let ending = options.output.extension().unwrap_or_default().to_ascii_lowercase();
    if ending != "svg" && ending != "png" {
        bail!(
            "{}: unknown picture format; give a file that ends with .svg or .png",
            options.output.display()
        );
    }
    let input = NamedFile::new("the table", &options.table);
    check_outputs(&[input], &[NamedFile::new("--output", &options.output)])?;
    let table: Table = serde_json::from_slice(&std::fs::read(&options.table).with_context(cure)?)
        .with_context(cure)?;
    let wanted = |set: &&SetRows| {
        options.set.as_ref().is_none_or(|name| *name == set.name)
            && options.temperature.is_none_or(|t| t == set.temperature)
    };
    let sets: Vec<&SetRows> = table.sets.iter().filter(wanted).collect();
    if sets.is_empty() {
        let all: Vec<String> =
            table.sets.iter().map(|set| format!("{} at {}", set.name, set.temperature)).collect();
        bail!(
            "{name} has no such set: it has {}",
            if all.is_empty() { "none".into() } else { all.join(", ") }
        );
    }
    if sets.len() > MAX_SETS {
        bail!(
            "{name} has {} sets, but a picture has at most {MAX_SETS}; select with --set or --temperature",
            sets.len()
        );
    }
    let mut to = AtomicOutput::open(&options.output)?;
    let picture = if ending == "svg" { draw::svg(&sets)?.into_bytes() } else { draw::png(&sets)? };
    to.write_bytes(&picture)?;
    to.finish()?;
    Ok(ExitCode::SUCCESS)
}
