//! `speclight compare`: settings on the same prompts, as a table or on a screen.
//!
//! `setting` parses a `--setting`, `measure` runs the prompts, `report` computes the results,
//! `text` and `hard` format them, and `screen` shows two settings side by side.

mod hard;
mod measure;
mod options;
mod report;
#[cfg(feature = "tui")]
mod screen;
mod setting;
mod text;

pub use options::CompareOptions;

use std::process::ExitCode;

use anyhow::{Context, bail};

use super::errors::{warn, warn_if_too_many_threads};
use super::interrupt::Interrupt;
use super::lines::AtomicOutput;
use super::overlap::{NamedFile, check_outputs};

/// Compares the settings and writes or shows the result.
///
/// The exit status is 1 if a prompt was skipped or texts differ that must be equal, and 128 plus
/// the signal number if a signal ended the run.
///
/// # Errors
/// If a setting is invalid, the model can't be obtained, a file can't be read or written, or no
/// prompt could be run.
pub fn run(options: CompareOptions) -> anyhow::Result<ExitCode> {
    let settings = options.settings()?;
    warn_if_too_many_threads(options.options.threads);
    if options.hard.is_some() && options.look_every == 0 {
        bail!("--hard needs oracle searches, and --look-every 0 disables them; give 1 or more");
    }
    #[cfg(feature = "tui")]
    if options.screen(&settings) {
        return screen::run(&options, &settings);
    }
    let interrupt = Interrupt::watch().context("can't install signal handlers")?;
    let prompts = options.options.prompts(&mut |line| warn(&line))?;
    let mut files = options.outputs.files();
    files.extend(options.hard.iter().map(|path| NamedFile::new("--hard", path)));
    check_outputs(&options.options.inputs(), &files)?;
    // Opened before anything is loaded, so that files that can't be written are reported at once.
    let outputs = options.outputs.open()?;
    let hard = options.hard.as_deref().map(AtomicOutput::open).transpose()?;
    let Some(measured) = measure::measure(&options, &settings, &prompts, &interrupt)? else {
        return Ok(ExitCode::from(interrupt.status().unwrap_or(1)));
    };
    let report = report::report(&options, &settings, &prompts, &measured);
    for pair in &report.pairs {
        for id in &pair.differing {
            warn(&format!(
                "prompt {id}: the texts of {} and {} differ; excluded from pairing by position",
                pair.a, pair.b
            ));
        }
    }
    let hard = hard.map_or(Ok(()), |mut to| {
        hard::lines(&options, &settings, &prompts, &measured.sides)
            .into_iter()
            .try_for_each(|line| to.write(&line))
            .and_then(|()| to.finish())
    });
    outputs.write(|| text::text(&report), || text::csv(&report), &report)?;
    hard?;
    let differing = report.pairs.iter().any(|pair| !pair.differing.is_empty());
    Ok(ExitCode::from(u8::from(differing || measured.refused > 0)))
}
