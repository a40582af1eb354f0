//! `speclight plot`: figures from the JSON of `speclight table`.

mod curves;
mod draw;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::lines::Lines;
use super::options;
use super::study::{SetRows, Table};

/// Sets that fit into one picture.
const MOST: usize = 40;

/// Options of `speclight plot`.
#[derive(Args, Clone, Debug)]
pub struct PlotOptions {
    /// The JSON that `speclight table --json` wrote
    #[arg(value_name = "FILE.json")]
    pub table: PathBuf,
    /// The picture: its ending says which kind
    #[arg(short, long, value_name = "FILE.svg|FILE.png")]
    pub output: PathBuf,
    /// Draw this set alone [default: all]
    #[arg(long, value_name = "NAME")]
    pub set: Option<String>,
    /// Draw this temperature alone [default: all]
    #[arg(long, value_name = "T", value_parser = options::temperature, allow_negative_numbers = true)]
    pub temperature: Option<f32>,
}

/// Draws the picture.
///
/// # Errors
/// If the table can't be read, it has nothing of what was asked for, or the picture can't be written.
pub fn run(options: PlotOptions) -> anyhow::Result<ExitCode> {
    let name = options.table.display();
    let cure = || format!("can't read {name}: give a file that speclight table --json wrote");
    let ending = options.output.extension().unwrap_or_default().to_ascii_lowercase();
    if ending != "svg" && ending != "png" {
        bail!("{}: give a file that ends with .svg or .png", options.output.display());
    }
    let table: Table = serde_json::from_slice(&std::fs::read(&options.table).with_context(cure)?).with_context(cure)?;
    let wanted = |set: &&SetRows| {
        options.set.as_ref().is_none_or(|name| *name == set.name) && options.temperature.is_none_or(|t| t == set.temperature)
    };
    let sets: Vec<&SetRows> = table.sets.iter().filter(wanted).collect();
    if sets.is_empty() {
        let all: Vec<String> = table.sets.iter().map(|set| format!("{} at {}", set.name, set.temperature)).collect();
        bail!("{name} has no such set: it has {}", if all.is_empty() { "none".into() } else { all.join(", ") });
    }
    if sets.len() > MOST {
        bail!("{name} has {} sets, and a picture has room for {MOST}: choose by --set or --temperature", sets.len());
    }
    let mut to = Lines::open(&options.output)?;
    let picture = if ending == "svg" { draw::svg(&sets)?.into_bytes() } else { draw::png(&sets)? };
    to.write_bytes(&picture)?;
    to.finish()?;
    Ok(ExitCode::SUCCESS)
}
