//! `speclight compare`: settings beside each other on the same prompts.

mod hard;
mod measure;
mod report;
#[cfg(feature = "tui")]
mod screen;
mod setting;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::errors::{warn, warn_of_threads};
use super::interrupt::Interrupt;
use super::lines::Lines;
use super::options::{self, Options, whole};
use super::study::OutputOptions;
use crate::verify::Rule;
use setting::Setting;

/// Options of `speclight compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareOptions {
    /// What is the same for all settings, and what holds where a setting says nothing else.
    #[command(flatten)]
    pub options: Options,
    /// A setting to compare, two or more of them: what differs from the ordinary options, as drafter=eagle,head=FILE.gguf,budget=8.
    /// Keys: name (else A, B, ...), drafter, shape, fixed, budget, temperature, top-p, top-k, seed, head, mix, exit-layers, adapter,
    /// draft-model, external, external-timeout, remember (yes or no)
    #[arg(long = "setting", value_name = "KEY=VALUE,..", help_heading = "Comparison")]
    pub settings: Vec<String>,
    /// Look after each K-th step of a text for the best tree of its budget with the model itself: it splits what was lost into
    /// context, knowledge and shape. It takes some passes each time, which no figure counts; 0 never looks
    #[arg(long, value_name = "K", default_value = "16", value_parser = options::look_every, allow_negative_numbers = true,
          help_heading = "Comparison")]
    pub look_every: usize,
    /// Examples of each kind in text and JSON
    #[arg(long, value_name = "N", default_value = "5", value_parser = count, allow_negative_numbers = true,
          help_heading = "Comparison")]
    pub examples: usize,
    /// Write prompts to train on, for `speclight train --prompts`: the contexts with the largest knowledge loss among the steps that
    /// were looked at, of all settings; with --look-every 1 all steps are
    #[arg(long, value_name = "FILE.jsonl", help_heading = "Output")]
    pub hard: Option<PathBuf>,
    /// How many of them, at most
    #[arg(long, value_name = "N", default_value = "100", value_parser = count, allow_negative_numbers = true,
          requires = "hard", help_heading = "Output")]
    pub hard_count: usize,
    /// Where the table goes.
    #[command(flatten)]
    pub outputs: OutputOptions,
    /// Write the table where the screen would come: on a terminal, with two settings and no file asked for
    #[arg(long, help_heading = "Output")]
    pub plain: bool,
    /// Colours of the screen: dark, light, mono, or a theme file [default: dark, or mono where NO_COLOR is set]
    #[arg(long, value_name = "NAME|PATH", help_heading = "Screen")]
    pub theme: Option<String>,
    /// Draw the screen with ASCII characters alone
    #[arg(long, help_heading = "Screen")]
    pub ascii: bool,
}

fn count(value: &str) -> Result<usize, String> {
    whole(value, 0, usize::MAX, "this is a count")
}

impl CompareOptions {
    /// The settings in turn.
    fn settings(&self) -> anyhow::Result<Vec<Setting>> {
        let read = |(number, text): (usize, &String)| Setting::parse(text, number, &self.options).map_err(anyhow::Error::msg);
        let all = self.settings.iter().enumerate().map(read).collect::<anyhow::Result<Vec<Setting>>>()?;
        if all.len() < 2 {
            bail!(
                "{} to compare: give --setting KEY=VALUE,.. twice or more, as --setting drafter=ngram --setting drafter=suffix",
                match all.len() {
                    0 => "there is nothing",
                    _ => "one setting is too few",
                }
            );
        }
        if self.options.verify != Rule::Match {
            let rule = self.options.verify.name();
            bail!(
                "--verify {rule}: steps are paired by their text, and that of trees that are drawn depends on the draft: give match"
            );
        }
        if let Some(twice) = all.iter().enumerate().find(|(i, s)| all[..*i].iter().any(|other| other.name == s.name)) {
            bail!("two settings are called {:?}: give name=... other names", twice.1.name);
        }
        Ok(all)
    }

    /// Whether the screen is wanted: nothing was asked for that a table or a file holds.
    #[cfg(feature = "tui")]
    fn screen(&self, settings: &[Setting]) -> bool {
        let o = &self.outputs;
        let asked = self.plain || [&o.text, &o.csv, &o.json, &self.hard].into_iter().any(Option::is_some);
        !asked && settings.len() == 2 && crate::app::check_terminal().is_ok()
    }
}

/// Compares, and writes or shows what was found. The exit status is 1 where a prompt was refused or texts that must be the same were
/// not, and says the signal where one ended it.
///
/// # Errors
/// If a setting is wrong, the model can't be had, a file can't be read or written, or no prompt could be run.
pub fn run(options: CompareOptions) -> anyhow::Result<ExitCode> {
    let settings = options.settings()?;
    warn_of_threads(options.options.threads);
    if options.hard.is_some() && options.look_every == 0 {
        bail!("--hard goes by what the looks find, and --look-every 0 never looks: give 1 or more");
    }
    #[cfg(feature = "tui")]
    if options.screen(&settings) {
        return screen::run(&options, &settings);
    }
    let interrupt = Interrupt::watch().context("signals can't be watched")?;
    let prompts = options.options.prompts(&mut |line| warn(&line))?;
    // Opened before anything is loaded: what can't be written is said at once.
    let outputs = options.outputs.open()?;
    let hard = options.hard.as_deref().map(Lines::open).transpose()?;
    let Some(measured) = measure::measure(&options, &settings, &prompts, &interrupt)? else {
        return Ok(ExitCode::from(interrupt.status().unwrap_or(1)));
    };
    let report = report::report(&options, &settings, &prompts, &measured);
    for pair in &report.pairs {
        for id in &pair.differing {
            warn(&format!(
                "prompt {id}: the texts of {} and {} differ; it is left out of what is paired by position",
                pair.a, pair.b
            ));
        }
    }
    if let Some(mut to) = hard {
        for line in hard::lines(&options, &settings, &prompts, &measured.sides) {
            to.write(&line)?;
        }
        to.finish()?;
    }
    outputs.write(|| text::text(&report), || text::csv(&report), &report)?;
    let differing = report.pairs.iter().any(|pair| !pair.differing.is_empty());
    Ok(ExitCode::from(u8::from(differing || measured.refused > 0)))
}
