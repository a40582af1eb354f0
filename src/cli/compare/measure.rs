//! The measuring without a screen: each prompt under all settings in turn, so that what drifts on the machine is shared.

use indicatif::ProgressBar;

use super::{CompareOptions, Setting};
use crate::cli::interrupt::Interrupt;
use crate::cli::progress::loading;
use crate::cli::study::pace::Pace;
use crate::compare::{Lab, Side, same_text};
use crate::engine::{EngineOptions, Prompt, RunInfo};

/// What was measured.
pub struct Measured {
    /// What runs.
    pub info: RunInfo,
    /// One for each setting.
    pub sides: Vec<Side>,
    /// Plain decoding of the texts of each setting: its place in `plains`.
    pub plain_of: Vec<usize>,
    /// Plain decoding, one for each kind of text.
    pub plains: Vec<Side>,
    /// Prompts that could not be run.
    pub refused: usize,
}

/// Runs all prompts under all settings and plainly. None where a signal came.
///
/// # Errors
/// If an engine can't be had, fails, or no prompt could be run.
pub fn measure(
    options: &CompareOptions,
    settings: &[Setting],
    prompts: &[Prompt],
    interrupt: &Interrupt,
) -> anyhow::Result<Option<Measured>> {
    let mut engines = settings.iter().map(|setting| setting.engine(prompts)).collect::<anyhow::Result<Vec<EngineOptions>>>()?;
    let mut plain_of = Vec::with_capacity(settings.len());
    for setting in settings {
        let plain = setting.plain().engine(prompts)?;
        let known = engines[settings.len()..].iter().position(|other| same_text(&other.settings, &plain.settings));
        plain_of.push(known.unwrap_or(engines.len() - settings.len()));
        if known.is_none() {
            engines.push(plain);
        }
    }
    let mut bar = ProgressBar::hidden();
    let lab = Lab::load(&engines, options.look_every, &mut |what, done| {
        if let Some(status) = interrupt.status() {
            // A download does not ask whether it is still wanted.
            bar.finish_and_clear();
            crate::draft::end_processes();
            std::process::exit(status.into());
        }
        loading(&mut bar, what, done);
    });
    bar.finish_and_clear();
    let mut lab = lab?;
    let mut sides = vec![Side::default(); engines.len()];
    let mut pace = Pace::new(prompts.len() * engines.len(), 0);
    let (mut refused, mut noticed): (usize, Option<String>) = (0, None);
    for (number, prompt) in prompts.iter().enumerate() {
        if let Some(why) = lab.refuses(prompt) {
            refused += 1;
            pace.say(&format!("prompt {}: {why}; it is left out", prompt.id));
            (0..engines.len()).for_each(|_| pace.end(""));
            continue;
        }
        // Each begins in its turn: what comes first in the caches of the machine is no setting's own.
        for turn in 0..engines.len() {
            let lane = (number + turn) % engines.len();
            let what = format!("prompt {}, {}", prompt.id, settings.get(lane).map_or("plain", |setting| &setting.name));
            pace.begin(&what);
            lab.begin(lane, prompt)?;
            sides[lane].begin(number);
            while let Some(made) = lab.step(lane)? {
                // The same line again and again says nothing new.
                if let Some(notice) = made.record.notice.as_ref().filter(|notice| noticed.as_ref() != Some(notice)) {
                    pace.say(notice);
                    noticed = Some(notice.clone());
                }
                sides[lane].add(&made);
                if interrupt.status().is_some() {
                    return Ok(None);
                }
            }
            pace.end(&what);
        }
    }
    drop(pace);
    if let Some(cost) = lab.cost() {
        sides.iter_mut().for_each(|side| side.tally.cost(cost));
    }
    if sides.iter().all(|side| side.courses.is_empty()) {
        anyhow::bail!("no prompt could be run: make them shorter than the context of the model");
    }
    let plains = sides.split_off(settings.len());
    Ok(Some(Measured { info: lab.info(), sides, plain_of, plains, refused }))
}
