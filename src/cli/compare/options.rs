//! Options of `speclight compare`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::setting::Setting;
use crate::cli::options::{self, DecodeOptions, whole};
#[cfg(feature = "tui")]
use crate::cli::prompts::is_stdin;
use crate::cli::study::OutputOptions;
use crate::verify::Rule;

/// Options of `speclight compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareOptions {
    /// Options common to all settings, unless a setting overrides them.
    #[command(flatten)]
    pub options: DecodeOptions,
    /// Setting to compare, as KEY=VALUE pairs; give two or more
    ///
    /// A setting overrides the ordinary options, for example drafter=eagle,head=FILE.gguf,budget=8.
    /// Keys: name (default A, B, ...), drafter, shape, fixed, budget, temperature, top-p, top-k,
    /// seed, head, mix, exit-layers, adapter, draft-model, external, external-timeout, remember
    /// (yes or no).
    #[arg(long = "setting", value_name = "KEY=VALUE,..", help_heading = "Comparison")]
    pub settings: Vec<String>,
    /// Interval between oracle searches, in steps; 0 searches none
    ///
    /// After one step in K, the target itself is used to find the best tree of the step's budget,
    /// which splits the loss into context, knowledge and shape. A search takes some passes, which
    /// are excluded from all figures.
    #[arg(long, value_name = "K", default_value = "16", value_parser = options::look_every, allow_negative_numbers = true,
          help_heading = "Comparison")]
    pub look_every: usize,
    /// Number of examples of each kind in text and JSON
    #[arg(long, value_name = "N", default_value = "5", value_parser = count, allow_negative_numbers = true,
          help_heading = "Comparison")]
    pub examples: usize,
    /// Output of hard contexts, as prompts for `speclight train --prompts`
    ///
    /// These are the contexts with the largest knowledge loss among the searched steps of all
    /// settings; --look-every 1 searches all steps.
    #[arg(long, value_name = "FILE.jsonl", help_heading = "Output")]
    pub hard: Option<PathBuf>,
    /// Maximum number of prompts written by --hard
    #[arg(long, value_name = "N", default_value = "100", value_parser = count, allow_negative_numbers = true,
          requires = "hard", help_heading = "Output")]
    pub hard_count: usize,
    /// Outputs of the table.
    #[command(flatten)]
    pub outputs: OutputOptions,
    /// Write the table even where the screen would be shown
    ///
    /// The screen is shown on a terminal, for two settings and without an output file.
    #[arg(long, help_heading = "Output")]
    pub plain: bool,
    /// Color theme: dark, light, safe-dark, safe-light (both for color-blind readers), contrast, mono
    /// or a file [default: dark; mono under NO_COLOR]
    #[arg(long, value_name = "NAME|PATH", help_heading = "Screen")]
    pub theme: Option<String>,
    /// Draw the screen with ASCII characters only
    #[arg(long, help_heading = "Screen")]
    pub ascii: bool,
}

fn count(value: &str) -> Result<usize, String> {
    whole(value, 0, usize::MAX, "the value is a count")
}

impl CompareOptions {
    /// Parses and checks the settings.
    pub(super) fn settings(&self) -> anyhow::Result<Vec<Setting>> {
        let read = |(number, text): (usize, &String)| {
            Setting::parse(text, number, &self.options).map_err(anyhow::Error::msg)
        };
        let all =
            self.settings.iter().enumerate().map(read).collect::<anyhow::Result<Vec<Setting>>>()?;
        if all.len() < 2 {
            bail!(
                "{} to compare; give --setting twice or more, such as --setting drafter=ngram --setting drafter=suffix",
                match all.len() {
                    0 => "there is nothing",
                    _ => "one setting is too few",
                }
            );
        }
        if self.options.verify != Rule::Match {
            let rule = self.options.verify.name();
            bail!(
                "--verify {rule}: steps are paired by text, which depends on the draft for sampled trees; give match"
            );
        }
        if let Some(twice) =
            all.iter().enumerate().find(|(i, s)| all[..*i].iter().any(|other| other.name == s.name))
        {
            bail!(
                "two settings have the name {:?}; give different names by name=...",
                twice.1.name
            );
        }
        Ok(all)
    }

    /// Returns true if the screen is shown instead of a table.
    ///
    /// This needs a terminal, two settings, and no request for other output.
    #[cfg(feature = "tui")]
    pub(super) fn screen(&self, settings: &[Setting]) -> bool {
        let o = &self.outputs;
        let asked =
            self.plain || [&o.text, &o.csv, &o.json, &self.hard].into_iter().any(Option::is_some);
        // Keys come from standard input, prompts then can't.
        let asked = asked || self.options.prompts.iter().any(|path| is_stdin(path));
        !asked && settings.len() == 2 && crate::tui::check_terminal().is_ok()
    }
}
