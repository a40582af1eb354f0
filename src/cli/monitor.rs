//! `speclight` without a subcommand: the monitor.

use std::process::ExitCode;

use super::MonitorOptions;

/// Runs the monitor until the person leaves it or a signal comes (exit status 128 and its number). All that can be found
/// wrong without loading a model is found before the terminal is touched.
///
/// # Errors
/// Whatever keeps it from starting, or the engine from going on.
#[cfg(feature = "tui")]
pub fn run(options: MonitorOptions) -> anyhow::Result<ExitCode> {
    use crate::app::{self, Ended, Link};
    use crate::theme::{self, Terminal, Theme};
    use crate::{engine, registry};

    app::check_terminal()?;
    // Without a place for settings there are no themes of the person's own; what else needs the place says so.
    let folder = registry::config_folder().ok().map(|config| theme::folder_in(&config));
    let terminal = Terminal::from_env(options.ascii, folder, |name| std::env::var(name).ok());
    let themes = Theme::all(options.theme.as_deref(), &terminal)?;
    let engine_options = options.options.engine(options.once, &mut |line| super::errors::warn(&line))?;

    let (sink, events) = app::channel();
    let (commands, thread) = engine::spawn(engine_options, sink);
    let look_every = super::options::MONITOR_LOOK_EVERY;
    let _ = commands.send(engine::Command::LookEvery(look_every));
    Ok(match app::run(app::Options { themes }, look_every, Link { commands, events, thread })? {
        Ended::Asked => ExitCode::SUCCESS,
        Ended::Signal(number) => ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX)),
    })
}

/// Says that this build has no monitor.
///
/// # Errors
/// Always.
#[cfg(not(feature = "tui"))]
pub fn run(_: MonitorOptions) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the monitor is not in this build (feature \"tui\"): use `speclight run`")
}
