//! `speclight` without a subcommand: starts the monitor.

use std::process::ExitCode;

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
    use crate::tui::{self, EngineLink, ExitReason};
    use crate::{engine, registry};

    tui::check_terminal()?;
    if options.options.prompts.iter().any(|path| super::prompts::is_stdin(path)) {
        anyhow::bail!(
            "--prompts -: standard input has the keys of the screen; give a file, or use speclight run"
        );
    }
    // Without a config folder there are no user themes; code that needs the folder reports the
    // error.
    let folder = registry::config_folder().ok().map(|config| theme::themes_folder(&config));
    let terminal =
        TerminalAbilities::from_env(options.ascii, folder, |name| std::env::var(name).ok());
    let themes = Theme::all(options.theme.as_deref(), &terminal)?;
    let engine_options =
        options.options.engine(options.once, &mut |line| super::errors::warn(&line))?;

    let (sink, events) = tui::channel();
    let (commands, thread) = engine::spawn(engine_options, sink);
    let look_every = super::options::MONITOR_SEARCH_INTERVAL;
    let _ = commands.send(engine::Command::SearchEvery(look_every));
    Ok(
        match tui::run(
            tui::ScreenOptions { themes },
            look_every,
            EngineLink { commands, events, thread },
        )? {
            ExitReason::Asked => ExitCode::SUCCESS,
            ExitReason::Signal(number) => {
                ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX))
            }
        },
    )
}

/// Reports that this build has no monitor.
///
/// # Errors
/// Always.
#[cfg(not(feature = "tui"))]
pub fn run(_: MonitorOptions) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no monitor (feature \"tui\"); use `speclight run`")
}
