//! Measurement without a screen: runs each prompt under all settings before the next prompt.
//!
//! A drifting machine speed then affects all settings alike.

use indicatif::ProgressBar;

use super::options::CompareOptions;
use super::setting::Setting;
use crate::cli::interrupt::Interrupt;
use crate::cli::progress::loading;
use crate::cli::study::progress::StudyProgress;
use crate::engine::{EngineOptions, Prompt, RunInfo};
use crate::study::compare::{EngineSet, SettingResults, generate_same_text};

/// Results of all runs.
pub struct Measurements {
    /// Model and device of the runs.
    pub info: RunInfo,
    /// Results of each setting.
    pub sides: Vec<SettingResults>,
    /// Index in `plains` of plain decoding of the same text, for each setting.
    pub plain_of: Vec<usize>,
    /// Results of plain decoding, one for each distinct text.
    pub plains: Vec<SettingResults>,
    /// Number of prompts that were skipped.
    pub refused: usize,
}

/// Runs all prompts under all settings and with plain decoding.
///
/// Returns `None` if a signal ended the run.
///
/// # Errors
/// If an engine can't be loaded, a run fails, or no prompt could be run.
pub fn measure(
    options: &CompareOptions,
    settings: &[Setting],
    prompts: &[Prompt],
    interrupt: &Interrupt,
) -> anyhow::Result<Option<Measurements>> {
    let mut engines = settings
        .iter()
        .map(|setting| setting.engine(prompts))
        .collect::<anyhow::Result<Vec<EngineOptions>>>()?;
    let mut plain_of = Vec::with_capacity(settings.len());
    for setting in settings {
        let plain = setting.plain().engine(prompts)?;
        let known = engines[settings.len()..]
            .iter()
            .position(|other| generate_same_text(&other.settings, &plain.settings));
        plain_of.push(known.unwrap_or(engines.len() - settings.len()));
        if known.is_none() {
            engines.push(plain);
        }
    }
    let mut bar = ProgressBar::hidden();
    let lab = EngineSet::load(&engines, options.look_every, &mut |what, done| {
        if let Some(status) = interrupt.status() {
            // A download can't be canceled otherwise.
            bar.finish_and_clear();
            crate::draft::end_processes();
            std::process::exit(status.into());
        }
        loading(&mut bar, what, done);
    });
    bar.finish_and_clear();
    let mut lab = lab?;
    let mut sides = vec![SettingResults::default(); engines.len()];
    let mut pace = StudyProgress::new(prompts.len() * engines.len(), 0);
    let (mut refused, mut noticed): (usize, Option<String>) = (0, None);
    for (number, prompt) in prompts.iter().enumerate() {
        if let Some(why) = lab.refuses(prompt) {
            refused += 1;
            pace.say(&format!("prompt {}: {why}; skipped", prompt.id));
            (0..engines.len()).for_each(|_| pace.end(""));
            continue;
        }
        // The order rotates, so that no setting always profits from what is in the machine's
        // caches.
        for turn in 0..engines.len() {
            let lane = (number + turn) % engines.len();
            let what = format!(
                "prompt {}, {}",
                prompt.id,
                settings.get(lane).map_or("plain", |setting| &setting.name)
            );
            pace.begin(&what);
            lab.begin(lane, prompt)?;
            sides[lane].begin(number);
            while let Some(made) = lab.step(lane)? {
                // Repeated notices are shown once.
                if let Some(notice) =
                    made.record.notice.as_ref().filter(|notice| noticed.as_ref() != Some(notice))
                {
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
        anyhow::bail!("no prompt could be run; give prompts shorter than the model's context");
    }
    let plains = sides.split_off(settings.len());
    Ok(Some(Measurements { info: lab.info(), sides, plain_of, plains, refused }))
}
