//! Measurements over sets of prompts, for `speclight table`.
//!
//! A run collects a [`piece::Piece`] per text, kept in a [`state::State`]; [`rows`] computes the
//! table from them, and [`text`] and [`outputs`] write it.

pub mod outputs;
pub mod progress;
pub mod table;
pub mod text;

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;

pub use crate::study::table::rows::{CeilingRow, SetRows, Table};
#[cfg(test)]
pub use crate::study::table::rows_tests::rows as rows_for_tests;
pub use outputs::OutputOptions;

use super::errors::{add_fix, warn, warn_if_too_many_threads};
use super::interrupt::Interrupt;
use super::overlap::NamedFile;
use super::progress::loading;
use super::{options, prompts};
use crate::draft::Widths;
use crate::engine::{Engine, EngineOptions, ErrorFormat, Prompt, Session, load};
use crate::registry::Registry;
use crate::telemetry::{StepRecord, StepSettings};

/// Model, drafters and prompts of a study.
#[derive(Args, Clone, Debug)]
pub struct StudyOptions {
    /// Target model: name from `speclight models`, GGUF file, or safetensors folder
    ///
    /// `speclight models` marks the default model.
    #[arg(long, value_name = "NAME|PATH", help_heading = "Model")]
    pub model: Option<String>,
    /// Compute device: auto, cpu, cuda, cuda:N or metal
    #[arg(long, default_value = "auto", value_parser = options::device, help_heading = "Model")]
    pub device: String,
    /// Number of CPU threads [default: the number of physical cores]
    #[arg(long, value_name = "N", value_parser = options::threads, help_heading = "Model")]
    pub threads: Option<usize>,
    /// Second model with the same vocabulary, for the drafter model
    #[arg(long, value_name = "NAME|PATH", help_heading = "Drafting")]
    pub draft_model: Option<String>,
    /// Target layers run by the early-exit drafter [default: a third if there is no adapter]
    ///
    /// The drafter then reads the hidden state after K layers with the target's own output head,
    /// without an adapter.
    #[arg(long, value_name = "K", value_parser = options::exit_layers, allow_negative_numbers = true, conflicts_with = "adapter",
          help_heading = "Drafting")]
    pub exit_layers: Option<usize>,
    /// Adapter file for the early-exit drafter [default: the bundled one for the default model]
    #[arg(long, value_name = "FILE.gguf", help_heading = "Drafting")]
    pub adapter: Option<PathBuf>,
    /// Head file for the eagle drafter [default: the bundled one for the default model]
    #[arg(long, value_name = "FILE.gguf", help_heading = "Drafting")]
    pub head: Option<PathBuf>,
    /// Seed of all random numbers
    ///
    /// The same seed gives the same texts with every drafter.
    #[arg(long, value_name = "N", default_value = "0", help_heading = "Sampling")]
    pub seed: u64,
    /// Prompt files, as for `speclight run`; each is a set [default: the built-in prompts]
    #[arg(long, value_name = "FILE.jsonl", num_args = 1.., help_heading = "Prompts")]
    pub prompts: Vec<PathBuf>,
    /// Maximum number of prompts per file, from the first on [default: all]
    #[arg(long, value_name = "N", value_parser = options::limit, allow_negative_numbers = true, help_heading = "Prompts")]
    pub limit: Option<usize>,
    /// Maximum number of output tokens per prompt
    #[arg(long, value_name = "N", default_value = "256", value_parser = options::max_tokens, allow_negative_numbers = true,
          help_heading = "Prompts")]
    pub max_tokens: usize,
    /// Give prompts to the model without its chat template
    #[arg(long, help_heading = "Prompts")]
    pub raw: bool,
}

/// Prompt set, read from one file.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptSet {
    /// Name of the set: the file name without its extension.
    pub name: String,
    /// Prompts of the set, in file order.
    pub prompts: Vec<Prompt>,
}

impl StudyOptions {
    /// Returns the files that a study reads.
    pub(super) fn inputs(&self) -> Vec<NamedFile> {
        let mut all: Vec<NamedFile> = NamedFile::all("--prompts", &self.prompts).collect();
        all.extend(NamedFile::model("--model", self.model.as_deref()));
        if let Some(draft) = &self.draft_model {
            all.extend(NamedFile::model("--draft-model", Some(draft)));
        }
        all.extend(self.head.iter().map(|path| NamedFile::new("--head", path)));
        all.extend(self.adapter.iter().map(|path| NamedFile::new("--adapter", path)));
        all.extend(NamedFile::lists());
        all
    }

    /// Reads the prompt sets, one per file.
    ///
    /// # Errors
    /// If a file can't be read or has no valid line.
    pub fn sets(&self) -> anyhow::Result<Vec<PromptSet>> {
        if self.prompts.is_empty() {
            let mut prompts = prompts::built_in();
            prompts.truncate(self.limit.unwrap_or(usize::MAX));
            return Ok(vec![PromptSet { name: "built-in".into(), prompts }]);
        }
        let stem = |path: &Path| match path.file_stem() {
            _ if prompts::is_stdin(path) => "stdin".to_owned(),
            stem => stem.unwrap_or_default().to_string_lossy().into_owned(),
        };
        let read = |file: &PathBuf| {
            let prompts =
                prompts::read_files(std::slice::from_ref(file), self.limit, &mut |line| {
                    warn(&line)
                })?;
            // Files with the same name are named by their path.
            let alone = self.prompts.iter().filter(|other| stem(other) == stem(file)).count() == 1;
            Ok(PromptSet {
                name: if alone { stem(file) } else { file.display().to_string() },
                prompts,
            })
        };
        self.prompts.iter().map(read).collect()
    }

    /// Loads the models.
    ///
    /// `interrupt` can end the process during a download, which can't be canceled otherwise.
    ///
    /// # Errors
    /// If the model can't be obtained or loaded, the draft model does not fit, or `settings` are
    /// out of range.
    pub fn open(
        &self,
        sets: &[PromptSet],
        settings: StepSettings,
        interrupt: Interrupt,
    ) -> anyhow::Result<Runner> {
        let registry = Registry::load()?;
        warn_if_too_many_threads(self.threads);
        let engine_options = EngineOptions {
            model: self.model.clone().unwrap_or_else(|| registry.default_name().to_owned()),
            draft_model: self.draft_model.clone(),
            device: self.device.clone(),
            threads: self.threads,
            external: None,
            fixed: Widths::DEFAULT,
            mix: None,
            remember: false,
            exit_layers: self.exit_layers,
            adapter: self.adapter.clone(),
            head: self.head.clone(),
            settings,
            prompts: sets.iter().flat_map(|set| set.prompts.clone()).collect(),
            max_tokens: self.max_tokens,
            raw: self.raw,
            once: true,
            start_paused: false,
            error_format: ErrorFormat(add_fix),
        };
        let mut bar = ProgressBar::hidden();
        let engine = load(&engine_options, &mut |what, done| {
            if let Some(status) = interrupt.status() {
                bar.finish_and_clear();
                std::process::exit(status.into());
            }
            loading(&mut bar, what, done);
        });
        bar.finish_and_clear();
        Ok(Runner { engine: engine?, interrupt, max_tokens: self.max_tokens })
    }
}

/// Outcome of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextOutcome {
    /// The text is complete.
    Whole,
    /// The prompt can't be run, with the reason.
    Refused(String),
    /// A signal ended the run.
    Interrupted,
}

/// Engine that runs one text after the other.
pub struct Runner {
    /// Engine with the target and its drafters.
    pub(super) engine: Engine,
    /// Watcher for the signals that end the run.
    pub(super) interrupt: Interrupt,
    max_tokens: usize,
}

impl Runner {
    /// Runs one prompt under `settings`.
    ///
    /// `step` is called after each step with the session, the number of prompt tokens and the
    /// record.
    ///
    /// # Errors
    /// If the settings are not possible, a forward pass or a drafter fails, or `step` returns an
    /// error.
    pub fn text(
        &mut self,
        settings: &StepSettings,
        prompt: &Prompt,
        step: &mut dyn FnMut(&mut Session, usize, StepRecord) -> anyhow::Result<()>,
    ) -> anyhow::Result<TextOutcome> {
        let session = &mut self.engine.session;
        session.set(settings.clone())?;
        let tokens = match (self.engine.tokens)(&prompt.text) {
            Ok(tokens) => tokens,
            Err(why) => return Ok(TextOutcome::Refused(why)),
        };
        if let Err(why) = session.check_prompt_length(tokens.len()) {
            return Ok(TextOutcome::Refused(why.to_string()));
        }
        session.start(&prompt.id, &tokens, self.max_tokens)?;
        while let Some(record) = session.step()? {
            step(session, tokens.len(), record)?;
            if self.interrupt.status().is_some() {
                return Ok(TextOutcome::Interrupted);
            }
        }
        Ok(TextOutcome::Whole)
    }
}
