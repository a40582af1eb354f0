//! `speclight export`: pictures, animations, pages, and tables of a recording.

#[cfg(feature = "tui")]
mod page;
mod parquet;
mod rows;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[cfg(feature = "tui")]
use anyhow::Context;
use anyhow::bail;
use clap::Args;

use super::errors::warn;
use super::lines::AtomicOutput;
use super::replay::file::{end_words, opened};
use crate::engine::{Event, EventReader, Recorded};
use crate::telemetry::recording::RecordingEnd;
use crate::telemetry::{OracleResult, StepRecord};
use rows::Rows;

/// Number of bytes of text that are written together.
const CHUNK: usize = 1 << 16;

/// Options of `speclight export`.
#[derive(Args, Clone, Debug)]
pub struct ExportOptions {
    /// Recording made with --record or the R key
    #[arg(value_name = "RECORDING")]
    pub recording: PathBuf,
    /// Output file: .svg, .png, .cast, .gif, .html, .csv or .parquet
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// Size of the screen in columns and rows
    #[arg(long, value_name = "WxH", default_value = "120x40", value_parser = size)]
    pub size: (u16, u16),
    /// Number of steps after which the picture is taken, or the animation starts [default: all for pictures, none for
    /// animations]
    #[arg(long, value_name = "STEP")]
    pub at: Option<usize>,
    /// Color theme: name or file [default: dark]
    #[arg(long, value_name = "NAME|PATH")]
    pub theme: Option<String>,
    /// Draw with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
    /// Pixels per pixel of the smallest font, from 1 to 4 [default: 2 for .png, 1 for .gif]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    pub scale: Option<u8>,
    /// Speed of .cast and .gif in steps per second, or full [default: as recorded]
    #[arg(long, value_name = "N|full", value_parser = super::replay::options::pace, allow_negative_numbers = true)]
    pub pace: Option<super::replay::options::PaceOption>,
    /// Rows of .csv and .parquet: steps or nodes
    #[arg(long, value_enum, default_value = "steps")]
    pub rows: Rows,
}

/// Parses the size of a screen.
fn size(text: &str) -> Result<(u16, u16), String> {
    let side = |text: &str| text.parse().ok().filter(|side| (1..=500).contains(side));
    let parsed =
        text.split_once('x').and_then(|(width, height)| Some((side(width)?, side(height)?)));
    parsed.ok_or_else(|| "give columns and rows from 1 to 500, such as 120x40".to_owned())
}

/// Format of the output, by the ending of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Svg,
    Png,
    Cast,
    Gif,
    Html,
    Csv,
    Parquet,
}

impl Format {
    fn of(path: &Path) -> anyhow::Result<Format> {
        let ending = path
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default()
            .to_ascii_lowercase();
        Ok(match ending.as_str() {
            "svg" => Format::Svg,
            "png" => Format::Png,
            "cast" => Format::Cast,
            "gif" => Format::Gif,
            "html" | "htm" => Format::Html,
            "csv" => Format::Csv,
            "parquet" => Format::Parquet,
            _ => bail!(
                "can't tell the format of {}: end its name in .svg, .png, .cast, .gif, .html, .csv or .parquet",
                path.display()
            ),
        })
    }
}

/// Writes the output.
///
/// A recording that is cut or damaged is exported up to there, with a warning; the exit status is
/// then 1.
///
/// # Errors
/// If the recording can't be read or holds no step, or the output can't be written.
pub fn run(options: ExportOptions) -> anyhow::Result<ExitCode> {
    let format = Format::of(&options.out)?;
    let mut events = opened(&options.recording)?;
    // Opened before the work, so that a file that can't be written is reported at once.
    let mut out = AtomicOutput::open(&options.out)?;
    match format {
        Format::Csv => csv(&mut events, options.rows, &mut out)?,
        Format::Parquet => parquet(&mut events, options.rows, &mut out)?,
        #[cfg(feature = "tui")]
        _ => out.write_bytes(&drawn(&mut events, &options, format)?)?,
        #[cfg(not(feature = "tui"))]
        _ => bail!("this build has no screen to draw (feature \"tui\"); export .csv or .parquet"),
    }
    out.finish()?;
    // A picture may be taken before the end is read. No damage is known then.
    let end = events.end().cloned().unwrap_or(RecordingEnd::Whole);
    if let Some(words) = end_words(&end) {
        warn(&format!("{}: {words}; exported up to there", options.recording.display()));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Steps of a recording, with times and last results of oracle searches.
///
/// A search is reported after its step, so that a step waits for the next one.
fn each_step(
    events: impl Iterator<Item = (Duration, Recorded)>,
    mut row: impl FnMut(usize, Duration, &StepRecord, Option<&OracleResult>) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let mut waiting: Option<(Duration, std::sync::Arc<StepRecord>, Option<OracleResult>)> = None;
    let mut count = 0;
    for (at, recorded) in events {
        match recorded {
            Recorded::Event(Event::Step(record)) => {
                if let Some((at, record, result)) = waiting.replace((at, record, None)) {
                    row(count, at, &record, result.as_ref())?;
                    count += 1;
                }
            }
            Recorded::Event(Event::OracleSearched { prompt_id, step, result: found, .. }) => {
                if let Some((_, record, result)) = &mut waiting
                    && record.step == step
                    && record.prompt_id == prompt_id
                {
                    *result = Some(found);
                }
            }
            _ => {}
        }
    }
    if let Some((at, record, result)) = waiting {
        row(count, at, &record, result.as_ref())?;
        count += 1;
    }
    Ok(count)
}

fn csv<R: std::io::Read>(
    events: &mut EventReader<R>,
    rows: Rows,
    out: &mut AtomicOutput,
) -> anyhow::Result<()> {
    let mut text = rows::csv_header(rows.columns());
    each_step(events, |number, at, record, result| {
        rows.of(number, at, record, result)
            .iter()
            .for_each(|row| text.push_str(&rows::csv_row(row)));
        if text.len() >= CHUNK {
            out.write_text(&std::mem::take(&mut text))?;
        }
        Ok(())
    })?;
    out.write_text(&text)
}

fn parquet<R: std::io::Read>(
    events: &mut EventReader<R>,
    rows: Rows,
    out: &mut AtomicOutput,
) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    let mut writer = parquet::Parquet::new(&mut bytes, rows.columns())?;
    each_step(events, |number, at, record, result| {
        rows.of(number, at, record, result).into_iter().try_for_each(|row| writer.row(row))
    })?;
    writer.finish()?;
    out.write_bytes(&bytes)
}

/// Returns the bytes of a picture, animation, or page.
#[cfg(feature = "tui")]
fn drawn<R: std::io::Read>(
    events: &mut EventReader<R>,
    options: &ExportOptions,
    format: Format,
) -> anyhow::Result<Vec<u8>> {
    use crate::registry;
    use crate::tui::export::{Cast, Gif, Painter};
    use crate::tui::theme::{self, ColorDepth, TerminalAbilities, Theme};
    use crate::tui::{Film, Picture};

    let folder = registry::config_folder().ok().map(|config| theme::themes_folder(&config));
    let terminal = TerminalAbilities { depth: ColorDepth::True, ascii: options.ascii, folder };
    let theme = Theme::load(options.theme.as_deref().unwrap_or("dark"), &terminal)?;
    let pace = options
        .pace
        .map_or(crate::tui::PlayPace::Recorded, super::replay::options::PaceOption::pace);
    let film = Film { theme: &theme, size: options.size, pace, skip: options.at.unwrap_or(0) };
    let painter = |scale: u8| {
        Painter::new(options.scale.unwrap_or(scale).into()).context("the bundled font is invalid")
    };
    let mut out = Vec::new();
    match format {
        Format::Svg => out = Picture::Svg.encode(&final_screen(events, &film, options)?, &theme)?,
        Format::Png => {
            out = painter(2)?.paint(&final_screen(events, &film, options)?, &theme).png()?
        }
        Format::Html => out = page::page(events, &film, options.at)?.into_bytes(),
        Format::Gif => {
            let mut painter = painter(1)?;
            let first = painter.paint(&film.screen(&crate::tui::State::new(1)), &theme);
            let mut gif = Gif::new(&mut out, first.width, first.height)?;
            film.play(events, |at, buffer| gif.frame(at, painter.paint(buffer, &theme)))?;
            gif.finish()?;
        }
        Format::Cast => {
            let first = film.screen(&crate::tui::State::new(1));
            let mut cast = Cast::new(&mut out, &first, "speclight")?;
            let end = film.play(events, |at, buffer| cast.frame(at, buffer))?;
            cast.finish(end)?;
        }
        Format::Csv | Format::Parquet => {}
    }
    Ok(out)
}

/// Returns the screen after the requested step, or the last one.
#[cfg(feature = "tui")]
fn final_screen<R: std::io::Read>(
    events: &mut EventReader<R>,
    film: &crate::tui::Film,
    options: &ExportOptions,
) -> anyhow::Result<crate::tui::FilmFrame> {
    let mut state = crate::tui::state_at(events, options.at);
    if state.history.newest().is_none() {
        bail!("{}: it holds no step", options.recording.display());
    }
    // It names keys, which a picture has not.
    if state.phase == crate::tui::Phase::Finished {
        state.notice = None;
    }
    Ok(film.screen(&state))
}
