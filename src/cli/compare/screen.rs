//! Screen of a comparison, with two settings side by side.

use std::process::ExitCode;

use super::options::CompareOptions;
use super::setting::Setting;
use crate::cli::errors::warn;
use crate::engine::EngineOptions;
use crate::registry;
use crate::study::compare;
use crate::tui::theme::{self, TerminalAbilities, Theme};
use crate::tui::{self, Compare, EngineLink, ExitReason, Lane};

/// Shows two settings until the user quits or a signal arrives.
///
/// Everything that can be checked without loading a model is checked before the terminal is
/// changed.
///
/// # Errors
/// If the screen can't start, or an engine fails.
pub fn run(options: &CompareOptions, settings: &[Setting]) -> anyhow::Result<ExitCode> {
    let folder = registry::config_folder().ok().map(|config| theme::themes_folder(&config));
    let terminal =
        TerminalAbilities::from_env(options.ascii, folder, |name| std::env::var(name).ok());
    let themes = Theme::all(options.theme.as_deref(), &terminal)?;
    let prompts = options.options.prompts(&mut |line| warn(&line))?;
    let engines = settings
        .iter()
        .map(|setting| setting.engine(&prompts))
        .collect::<anyhow::Result<Vec<EngineOptions>>>()?;
    let lane = |setting: &Setting| {
        Lane::new(setting.name.clone(), setting.words(), setting.options.settings())
    };
    let [a, b] = settings else { anyhow::bail!("the screen shows two settings") };
    let screen = Compare::new([lane(a), lane(b)], themes.len());

    let (sink, events) = tui::channel();
    let (commands, thread) = compare::spawn(engines, options.look_every, sink);
    Ok(
        match tui::show(
            screen,
            tui::ScreenOptions { themes, mouse: tui::Mouse::Free, pixels: None },
            EngineLink { commands, events, thread },
        )?
        .ended
        {
            ExitReason::Asked => ExitCode::SUCCESS,
            ExitReason::Signal(number) => {
                ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX))
            }
        },
    )
}
