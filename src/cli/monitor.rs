//! `speclight` without a subcommand: starts the monitor.

use std::process::ExitCode;
#[cfg(feature = "tui")]
use std::sync::Arc;
#[cfg(feature = "tui")]
use std::sync::atomic::{AtomicBool, Ordering};

use super::MonitorOptions;

/// Runs the monitor until the user quits or a signal arrives.
///
/// The exit status is 0 after quitting and 128 plus the signal number after a signal. Everything
/// that can be checked without loading a model is checked before the terminal is changed.
///
/// # Errors
/// If the monitor can't start, or the engine fails.
#[cfg(feature = "tui")]
pub fn run(options: MonitorOptions) -> anyhow::Result<ExitCode> {
    use crate::tui::theme::{self, TerminalAbilities, Theme};
    use crate::tui::{self, EngineLink, ExitReason, Monitor, Mouse, Pixels, State};
    use crate::{engine, registry};

    tui::check_terminal()?;
    if options.options.prompts.iter().any(|path| super::prompts::is_stdin(path)) {
        anyhow::bail!(
            "--prompts -: standard input has the keys of the screen; give a file, or use speclight run"
        );
    }
    // Without a config folder there are no user files; code that needs the folder reports the
    // error.
    let folder = registry::config_folder().ok();
    let (config, presets) = super::config::read(folder.as_deref())?;
    let options = super::config::with_defaults(options, &config.options)?;
    let terminal = TerminalAbilities::from_env(
        options.ascii,
        folder.map(|config| theme::themes_folder(&config)),
        |name| std::env::var(name).ok(),
    );
    let themes = Theme::all(options.theme.as_deref(), &terminal)?;
    let engine_options =
        options.options.engine(options.once, &mut |line| super::errors::warn(&line))?;

    // Before the model is fetched, so that a file that can't be written is reported at once.
    let recorder = options.record.as_deref();
    let recorder =
        recorder.map(|path| super::replay::file::recorder(path, &options.options)).transpose()?;
    let (mut sink, events) = tui::channel();
    let loaded = Arc::new(AtomicBool::new(false));
    let ready = Arc::clone(&loaded);
    let (commands, thread) = engine::spawn(engine_options, move |event| {
        ready.fetch_or(matches!(event, engine::Event::Ready { .. }), Ordering::Relaxed);
        sink(event)
    });
    let look_every = super::options::MONITOR_SEARCH_INTERVAL;
    let _ = commands.send(engine::Command::SearchEvery(look_every));
    let pace = options.pace.unwrap_or_default();
    let _ = commands.send(engine::Command::Pace(pace));
    let slow_start = options.pace.is_none().then_some(0);
    let (keys, presets) = (Arc::new(config.keys), Arc::new(presets));
    let pixels = options.pixels.protocol(|name| std::env::var(name).ok()).map(Pixels::new);
    let state = State {
        look_every,
        pace,
        slow_start,
        keys,
        presets,
        pixels: pixels.clone(),
        ..State::new(themes.len())
    };
    let context = super::replay::file::run_context(&options.options);
    let monitor = Monitor::new(state, recorder, context, options.picture);
    let mouse = if options.no_mouse { Mouse::Free } else { Mouse::Captured };
    let screen = tui::ScreenOptions { themes, mouse, pixels };
    let link = EngineLink { commands, events, thread };
    let exit = tui::show(monitor, screen, link).map_err(|error| {
        if loaded.load(Ordering::Relaxed) {
            error
        } else {
            // A first start without a network is where a model is missing.
            anyhow::anyhow!("{error:#}; `speclight demo` shows a recorded run without a model")
        }
    })?;
    for line in &exit.summary {
        // A terminal that is gone needs no summary.
        let _ = super::errors::print_line(line);
    }
    Ok(match exit.ended {
        ExitReason::Asked => ExitCode::SUCCESS,
        ExitReason::Signal(number) => ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX)),
    })
}

/// Reports that this build has no monitor.
///
/// # Errors
/// Always.
#[cfg(not(feature = "tui"))]
pub fn run(_: MonitorOptions) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no monitor (feature \"tui\"); use `speclight run`")
}
