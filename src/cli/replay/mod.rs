//! `speclight replay` and `speclight demo`: the screen of a recorded run.

pub mod file;
pub mod options;

pub use options::{DemoOptions, ReplayOptions};

use std::process::ExitCode;

#[cfg(feature = "tui")]
use file::opened;
#[cfg(feature = "tui")]
use options::{PaceOption, ReplayDisplay};

#[cfg(feature = "tui")]
use crate::engine::EventReader;

/// Recording that ships with the program.
///
/// `cargo run --release --example demo` makes it.
#[cfg(feature = "tui")]
pub const DEMO: &[u8] = include_bytes!("../demo.rec");

/// Pace of the demo in steps per second.
#[cfg(feature = "tui")]
const DEMO_PACE: f64 = 4.0;

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

/// Replays a recording until the user quits.
///
/// # Errors
/// If there is no terminal, or the recording can't be read.
#[cfg(feature = "tui")]
pub fn run(options: ReplayOptions) -> anyhow::Result<ExitCode> {
    use std::fs::File;
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

    use crate::cli::config;
    use crate::registry;
    use crate::telemetry::recording::scan;
    use crate::tui::theme::{self, TerminalAbilities, Theme};
    use crate::tui::{self, Ahead, ExitReason, Mouse, Pixels, Replay, State};

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
    let choice = display.pixels.unwrap_or(defaults.pixels);
    let pixels = choice.protocol(|name| std::env::var(name).ok()).map(Pixels::new);
    let state = State { keys, presets, pixels: pixels.clone(), ..State::new(themes.len()) };
    let replay = Replay::new(name, length, pace, state, ahead.clone(), picture);
    let (sink, events) = tui::channel();
    let source = Box::new(move || EventReader::new(open()?));
    let (commands, thread) = tui::play(source, pace, display.at, ahead, sink)?;
    let link = tui::EngineLink { commands, events, thread };
    let free = display.no_mouse || defaults.no_mouse;
    let mouse = if free { Mouse::Free } else { Mouse::Captured };
    let screen = tui::ScreenOptions { themes, mouse, pixels };
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
    use crate::telemetry::recording::RecordingEnd;

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
