//! Files of the config folder: `config.toml` and `presets.toml`.

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
        found => {
            found.with_context(|| format!("{shown}: can't be read: check its permissions"))?.len()
        }
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
            if value == "true" { format!("--{name}") } else { format!("--{name}={value}") }.into();
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

/// Returns the options that the monitor has with these defaults and an empty command line.
///
/// # Errors
/// Those of [`with_defaults`].
pub fn monitor_options(defaults: &[OptionDefault]) -> anyhow::Result<MonitorOptions> {
    with_defaults(Cli::parse_args(["speclight"])?.monitor, defaults)
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
        let found =
            with_defaults(parse(&["--budget", "4", "--prompt", "Hi"]), &defaults(text)).unwrap();
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
        assert!(said.contains("config.toml: can't be read: give a text file in UTF-8"), "{said}");
    }
}
