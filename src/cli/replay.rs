//! `speclight replay` and `speclight demo`: the screen of a recorded run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;

use super::options::DecodeOptions;
use crate::engine::{EventReader, Recorder, RunContext};
use crate::telemetry::recording::RecordingEnd;

/// Recording that ships with the program.
///
/// `cargo run --release --example demo` makes it.
#[cfg(feature = "tui")]
pub const DEMO: &[u8] = include_bytes!("demo.rec");

/// Pace of the demo in steps per second.
#[cfg(feature = "tui")]
const DEMO_PACE: f64 = 4.0;

/// Display options of replays.
#[derive(Args, Clone, Debug)]
pub struct ReplayDisplay {
    /// Speed in steps per second, or full [default: that of config.toml, else as recorded; 4 for the
    /// demo]
    #[arg(long, value_name = "N|full", value_parser = pace, allow_negative_numbers = true)]
    pub pace: Option<PaceOption>,
    /// Number of steps to skip: those before are played at once
    #[arg(long, value_name = "STEP", default_value = "0")]
    pub at: usize,
    /// Color theme: dark, light, safe-dark, safe-light (both for color-blind readers), contrast, mono
    /// or a file [default: dark; mono under NO_COLOR]
    #[arg(long, value_name = "NAME|PATH")]
    pub theme: Option<String>,
    /// Draw with ASCII characters only
    #[arg(long)]
    pub ascii: bool,
    /// Leave the mouse to the terminal
    #[arg(long)]
    pub no_mouse: bool,
    /// Format of pictures taken with the key S: svg or png [default: svg]
    #[cfg(feature = "tui")]
    #[arg(long, value_name = "FORMAT", value_enum, hide_possible_values = true)]
    pub picture: Option<crate::tui::Picture>,
}

/// Options of `speclight replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayOptions {
    /// Recording made with --record or the R key
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Pace, first step, theme, glyphs, mouse, and pictures.
    #[command(flatten)]
    pub display: ReplayDisplay,
}

/// Options of `speclight demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoOptions {
    /// Pace, first step, theme, glyphs, mouse, and pictures.
    #[command(flatten)]
    pub display: ReplayDisplay,
}

/// Speed given on the command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PaceOption {
    /// Number of steps per second.
    Steps(f64),
    /// As fast as the screen takes it.
    Full,
}

impl PaceOption {
    /// Returns the pace of the player.
    #[cfg(feature = "tui")]
    pub fn pace(self) -> crate::tui::PlayPace {
        match self {
            PaceOption::Steps(rate) => crate::tui::PlayPace::Steps(rate),
            PaceOption::Full => crate::tui::PlayPace::Full,
        }
    }
}

/// Returns the pace of a replay for the monitor's default in `config.toml`.
///
/// A run at full speed shows as it was recorded.
#[cfg(feature = "tui")]
fn default_pace(pace: crate::engine::Pace) -> crate::tui::PlayPace {
    match pace {
        crate::engine::Pace::PerSecond(steps) => crate::tui::PlayPace::Steps(f64::from(steps)),
        crate::engine::Pace::Full => crate::tui::PlayPace::Recorded,
    }
}

/// Parses a pace in steps per second, or full.
pub fn pace(text: &str) -> Result<PaceOption, String> {
    if text == "full" {
        return Ok(PaceOption::Full);
    }
    let rate = text.parse::<f64>().ok().filter(|rate| (0.01..=10_000.0).contains(rate));
    rate.map(PaceOption::Steps)
        .ok_or_else(|| "give steps per second from 0.01 to 10000, or full".to_owned())
}

/// Opens a recording.
///
/// # Errors
/// If it can't be read, with a line that names it and the fix.
pub fn opened(path: &Path) -> anyhow::Result<EventReader<File>> {
    EventReader::open(path).map_err(|error| {
        anyhow!(
            "can't read the recording {}: {error}; give a file made with --record or the R key",
            path.display()
        )
    })
}

/// Returns the facts about a run that no event holds.
pub fn run_context(options: &DecodeOptions) -> RunContext {
    RunContext {
        draft_model: options.draft_model.clone(),
        max_tokens: options.max_tokens,
        raw: options.raw,
    }
}

/// Starts a recording.
///
/// # Errors
/// If the file can't be written, with a line that names it and the fix.
pub fn recorder(path: &Path, options: &DecodeOptions) -> anyhow::Result<Recorder> {
    Recorder::start(path, run_context(options)).map_err(|error| {
        anyhow!("can't record to {}: {error}; give a file in a writable folder", path.display())
    })
}

/// Returns what is wrong with the end of a recording, in words; nothing if it is whole.
pub fn end_words(end: &RecordingEnd) -> Option<String> {
    match end {
        RecordingEnd::Whole => None,
        RecordingEnd::Cut => Some("the recording is cut, as by a kill".to_owned()),
        RecordingEnd::Damaged(line, problem) => {
            Some(format!("the recording is damaged at line {line}: {problem}"))
        }
    }
}

/// Replays a recording until the user quits.
///
/// # Errors
/// If there is no terminal, or the recording can't be read.
#[cfg(feature = "tui")]
pub fn run(options: ReplayOptions) -> anyhow::Result<ExitCode> {
    use std::io::Read;

    let path = options.file;
    // Reports a file that can't be read before the terminal is changed.
    drop(opened(&path)?);
    let name = path
        .file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    let at = path.clone();
    let open = move || File::open(&at).map(|file| Box::new(file) as Box<dyn Read + Send>);
    screen(&name, open, crate::tui::PlayPace::Recorded, &options.display)
}

/// Replays the recording that ships with the program.
///
/// # Errors
/// If there is no terminal.
#[cfg(feature = "tui")]
pub fn demo(options: DemoOptions) -> anyhow::Result<ExitCode> {
    use std::io::Read;

    // Captions can be read at this pace; the recorded run makes some hundred steps per second.
    let pace = crate::tui::PlayPace::Steps(DEMO_PACE);
    screen("demo", || Ok(Box::new(DEMO) as Box<dyn Read + Send>), pace, &options.display)
}

#[cfg(feature = "tui")]
fn screen(
    name: &str,
    open: impl Fn() -> std::io::Result<Box<dyn std::io::Read + Send>> + Send + 'static,
    pace: crate::tui::PlayPace,
    display: &ReplayDisplay,
) -> anyhow::Result<ExitCode> {
    use std::sync::Arc;

    use super::config;
    use crate::registry;
    use crate::telemetry::recording::scan;
    use crate::tui::theme::{self, TerminalAbilities, Theme};
    use crate::tui::{self, Ahead, ExitReason, Mouse, Replay, State};

    tui::check_terminal()?;
    let folder = registry::config_folder().ok();
    let (config, presets) = config::read(folder.as_deref())?;
    let defaults = config::monitor_options(&config.options)?;
    let ascii = display.ascii || defaults.ascii;
    let terminal = TerminalAbilities::from_env(
        ascii,
        folder.map(|config| theme::themes_folder(&config)),
        |name| std::env::var(name).ok(),
    );
    let theme = display.theme.as_deref().or(defaults.theme.as_deref());
    let themes = Theme::all(theme, &terminal)?;
    let length = scan(open()?)?;
    let given = display.pace.map(PaceOption::pace);
    let pace = given.or_else(|| defaults.pace.map(default_pace)).unwrap_or(pace);
    let picture = display.picture.unwrap_or(defaults.picture);
    let ahead = Ahead::default();
    let (keys, presets) = (Arc::new(config.keys), Arc::new(presets));
    let state = State { keys, presets, ..State::new(themes.len()) };
    let replay = Replay::new(name, length, pace, state, ahead.clone(), picture);
    let (sink, events) = tui::channel();
    let source = Box::new(move || EventReader::new(open()?));
    let (commands, thread) = tui::play(source, pace, display.at, ahead, sink)?;
    let link = tui::EngineLink { commands, events, thread };
    let free = display.no_mouse || defaults.no_mouse;
    let mouse = if free { Mouse::Free } else { Mouse::Captured };
    let screen = tui::ScreenOptions { themes, mouse };
    Ok(match tui::show(replay, screen, link)?.ended {
        ExitReason::Asked => ExitCode::SUCCESS,
        ExitReason::Signal(number) => ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX)),
    })
}

/// Reports that this build has no screen.
///
/// # Errors
/// Always.
#[cfg(not(feature = "tui"))]
pub fn run(_: ReplayOptions) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no screen (feature \"tui\"); use `speclight export`")
}

/// Reports that this build has no screen.
///
/// # Errors
/// Always.
#[cfg(not(feature = "tui"))]
pub fn demo(_: DemoOptions) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no screen (feature \"tui\"); use `speclight export`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_are_numbers_or_full() {
        assert_eq!((pace("full"), pace("2.5")), (Ok(PaceOption::Full), Ok(PaceOption::Steps(2.5))));
        for bad in ["", "0", "-1", "NaN", "inf", "fast", "1e9"] {
            assert!(pace(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_demo_is_small_and_whole() {
        assert!(DEMO.len() < 300_000, "{}", DEMO.len());
        let mut events = EventReader::new(DEMO).ok().into_iter().flatten().count();
        assert!(events > 100, "{events}");
        events = 0;
        let mut reader = EventReader::new(DEMO).ok();
        if let Some(reader) = &mut reader {
            events += reader.by_ref().count();
        }
        assert!(events > 100);
        assert_eq!(reader.and_then(|reader| reader.end().cloned()), Some(RecordingEnd::Whole));
    }
}
