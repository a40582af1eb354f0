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
    use crate::tui::{self, EngineLink, ExitReason, Monitor, Mouse, State};
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
    let (config, presets) = config::read(folder.as_deref())?;
    let options = config::with_defaults(options, &config.options)?;
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
        recorder.map(|path| super::replay::recorder(path, &options.options)).transpose()?;
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
    let state = State { look_every, pace, slow_start, keys, presets, ..State::new(themes.len()) };
    let context = super::replay::run_context(&options.options);
    let monitor = Monitor::new(state, recorder, context, options.picture);
    let mouse = if options.no_mouse { Mouse::Free } else { Mouse::Captured };
    let screen = tui::ScreenOptions { themes, mouse };
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

/// Files of the config folder: `config.toml` and `presets.toml`.
#[cfg(feature = "tui")]
mod config {
    use std::ffi::OsString;
    use std::io;
    use std::path::Path;

    use anyhow::Context;
    use clap::error::ErrorKind;

    use crate::cli::{Cli, MonitorOptions, format_usage_error};
    use crate::tui::{Config, OptionDefault, Preset, parse_presets};

    /// Maximum size of a configuration file in bytes.
    const MAX_BYTES: u64 = 1 << 20;

    /// Reads both files; a missing one counts as empty.
    ///
    /// # Errors
    /// If a file can't be read or is invalid, with its name and line.
    pub fn read(folder: Option<&Path>) -> anyhow::Result<(Config, Vec<Preset>)> {
        let (name, text) = file(folder, "config.toml")?;
        let config = Config::parse(&name, &text)?;
        let (name, text) = file(folder, "presets.toml")?;
        Ok((config, parse_presets(&name, &text)?))
    }

    fn file(folder: Option<&Path>, name: &str) -> anyhow::Result<(String, String)> {
        let Some(path) = folder.map(|folder| folder.join(name)) else {
            return Ok((name.to_owned(), String::new()));
        };
        let shown = path.display().to_string();
        let size = match path.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((shown, String::new()));
            }
            found => found
                .with_context(|| format!("{shown}: can't be read: check its permissions"))?
                .len(),
        };
        anyhow::ensure!(
            size <= MAX_BYTES,
            "{shown}: {size} bytes is too long: give at most {MAX_BYTES}"
        );
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{shown}: can't be read: give a text file in UTF-8"))?;
        Ok((shown, text))
    }

    /// Applies the defaults that the command line leaves open.
    ///
    /// # Errors
    /// If a default is no option of the monitor or has an invalid value, with file and line.
    pub fn with_defaults(
        options: MonitorOptions,
        defaults: &[OptionDefault],
    ) -> anyhow::Result<MonitorOptions> {
        let given = options.given.clone();
        let mut args = given.args.clone();
        let mut parsed = options;
        for default in defaults {
            let OptionDefault { name, value, place } = default;
            if given.ids.iter().any(|id| id.replace('_', "-") == *name) || value == "false" {
                continue;
            }
            let more: OsString =
                if value == "true" { format!("--{name}") } else { format!("--{name}={value}") }
                    .into();
            let tried: Vec<OsString> = args.iter().cloned().chain([more]).collect();
            match Cli::parse_args(&tried) {
                Ok(cli) => (args, parsed) = (tried, cli.monitor),
                // The command line wins over a default that excludes it.
                Err(error) if error.kind() == ErrorKind::ArgumentConflict => {}
                Err(error) if error.use_stderr() => {
                    anyhow::bail!("{place}: {name}: {}", format_usage_error(&error))
                }
                Err(_) => anyhow::bail!("{place}: {name}: not an option of the monitor: remove it"),
            }
        }
        Ok(parsed)
    }

    #[cfg(test)]
    mod tests {
        #![allow(clippy::unwrap_used)]
        use super::*;

        fn defaults(text: &str) -> Vec<OptionDefault> {
            Config::parse("config.toml", text).unwrap().options
        }

        fn parse(args: &[&str]) -> MonitorOptions {
            Cli::parse_args([&["speclight"], args].concat()).unwrap().monitor
        }

        #[test]
        fn the_command_line_wins_over_the_file_and_the_file_over_built_in_defaults() {
            let text = "temperature = 0.3\nbudget = 8\nascii = true\nonce = false\npace = \"full\"\nprompts = \"my.jsonl\"\n";
            let found = with_defaults(parse(&["--budget", "4", "--prompt", "Hi"]), &defaults(text))
                .unwrap();
            let settings = found.options.settings();
            assert_eq!(
                (settings.temperature, settings.budget, found.ascii, found.once),
                (0.3, 4, true, false)
            );
            assert_eq!(found.pace, Some(crate::engine::Pace::Full));
            assert!(found.options.prompts.is_empty(), "--prompt excludes the prompts of the file");
            assert_eq!(with_defaults(parse(&[]), &[]).unwrap().options.settings().temperature, 0.7);
        }

        #[test]
        fn a_bad_default_is_named_with_file_and_line() {
            for (text, words) in [
                ("\nbugdet = 3", "config.toml:2: bugdet: unexpected argument '--bugdet'"),
                ("budget = 0", "config.toml:1: budget: invalid value '0'"),
                ("temperature = -1", "config.toml:1: temperature: invalid value '-1'"),
                ("help = true", "config.toml:1: help: not an option"),
                ("json = \"x\"", "config.toml:1: json: unexpected argument"),
                ("ascii = 3", "config.toml:1: ascii: unexpected value '3'"),
            ] {
                let said = with_defaults(parse(&[]), &defaults(text)).unwrap_err().to_string();
                assert!(said.starts_with(words) && !said.contains('\n'), "{text}: {said}");
            }
        }

        #[test]
        fn missing_files_are_empty_and_unreadable_ones_are_named() {
            let folder = tempfile::tempdir().unwrap();
            assert_eq!(read(Some(folder.path())).unwrap(), (Config::default(), Vec::new()));
            assert_eq!(read(None).unwrap(), (Config::default(), Vec::new()));
            std::fs::write(folder.path().join("presets.toml"), b"[a]\nbudget = 8\n").unwrap();
            assert_eq!(read(Some(folder.path())).unwrap().1.len(), 1);
            std::fs::write(folder.path().join("config.toml"), b"\xff\xfe").unwrap();
            let said = format!("{:#}", read(Some(folder.path())).unwrap_err());
            assert!(
                said.contains("config.toml: can't be read: give a text file in UTF-8"),
                "{said}"
            );
        }
    }
}
