//! `speclight table`: ceilings and drafters by prompt set, temperature and budget.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;
use sha2::{Digest, Sha256};

use super::outputs::OutputOptions;
use super::progress::StudyProgress;
use super::{PromptSet, Runner, StudyOptions, TextOutcome, text};
use crate::cli::interrupt::Interrupt;
use crate::cli::options::{self, whole};
use crate::cli::overlap::{NamedFile, check_outputs};
use crate::draft::{DrafterKind, ShapeKind, Widths};
use crate::engine::{MAX_BUDGET, RunInfo};
use crate::hex::hex;
use crate::registry::load_hardware;
use crate::sanitize::sanitize_name;
use crate::study::table::published::published;
use crate::study::table::rows::{Table, TableInputs, compute_set_rows};
use crate::study::table::state::{SetSettings, Settings, TableState};
use crate::study::table::text_result::{TextKey, TextResult, TextResultBuilder};
use crate::telemetry::StepSettings;

/// Shapes whose first nodes are the tree of a smaller budget.
///
/// One pass then determines the acceptance at every budget.
const PREFIX_SHAPES: [ShapeKind; 2] = [ShapeKind::Chain, ShapeKind::BestFirst];

/// Options of `speclight table`.
#[derive(Args, Clone, Debug)]
pub struct TableOptions {
    /// Model, drafters and prompts.
    #[command(flatten)]
    pub study: StudyOptions,
    /// Drafters to measure, separated by commas; plain decoding is always included
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "ngram,early-exit",
          value_parser = PossibleValuesParser::new(DrafterKind::names(|kind| *kind != DrafterKind::Auto)), hide_possible_values = true, help_heading = "Drafting")]
    pub drafters: Vec<String>,
    /// Budgets to measure, separated by commas
    ///
    /// A budget is the number of tokens verified per pass, root included.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2,4,8,16,32,64,128", value_parser = budget,
          allow_negative_numbers = true, help_heading = "Drafting")]
    pub budgets: Vec<usize>,
    /// Tree shape: chain or best-first
    #[arg(long, value_name = "NAME", default_value = "best-first", value_parser = options::shape_parser(PREFIX_SHAPES),
          hide_possible_values = true, help_heading = "Drafting")]
    pub shape: ShapeKind,
    /// Temperatures to measure, separated by commas; 0 is greedy
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0,0.6,1", value_parser = options::temperature,
          allow_negative_numbers = true, help_heading = "Sampling")]
    pub temperatures: Vec<f32>,
    /// Prompts of each set that are run at every budget, to measure speed
    ///
    /// The other prompts are run at the largest budget only, from whose steps the acceptance at
    /// smaller budgets is derived. If N is at least the number of prompts, everything is measured
    /// at every budget.
    #[arg(long, value_name = "N", default_value = "1", value_parser = timed, allow_negative_numbers = true,
          help_heading = "Drafting")]
    pub timed: usize,
    /// Interval between oracle searches in drafted texts, in steps; 0 searches none
    ///
    /// Oracle searches are needed for the speed of light. A search takes a few passes, which are
    /// excluded from all figures.
    #[arg(long, value_name = "K", default_value = "16", value_parser = options::look_every, allow_negative_numbers = true,
          help_heading = "Output")]
    pub look_every: usize,
    /// State file that saves finished texts and resumes an interrupted run
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub state: Option<PathBuf>,
    /// Outputs of the table.
    #[command(flatten)]
    pub outputs: OutputOptions,
}

fn budget(value: &str) -> Result<usize, String> {
    whole(value, 1, MAX_BUDGET, "the budget is the number of tokens per verify pass")
}

fn timed(value: &str) -> Result<usize, String> {
    whole(value, 0, usize::MAX, "this is a number of prompts")
}

/// Measures all texts and writes the table.
///
/// The exit status is 1 if a prompt was skipped, and 128 plus the signal number if a signal ended
/// the run.
///
/// # Errors
/// If the model can't be obtained, a file can't be read or written, or no prompt could be run.
pub fn run(options: TableOptions) -> anyhow::Result<ExitCode> {
    let interrupt = Interrupt::watch().context("can't install signal handlers")?;
    let sets = options.study.sets()?;
    let hardware = load_hardware()?;
    let budgets: Vec<usize> =
        options.budgets.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let mut drafters = options.drafters.clone();
    drafters.retain(|name| name != "none");
    if drafters.iter().any(|name| name == "model") && options.study.draft_model.is_none() {
        bail!("the drafter model needs a second model; give --draft-model NAME or PATH");
    }
    let mut files = options.outputs.files();
    files.extend(options.state.iter().map(|path| NamedFile::new("--state", path)));
    check_outputs(&options.study.inputs(), &files)?;
    let outputs = options.outputs.open()?;
    let plain = StepSettings {
        seed: options.study.seed,
        ..StepSettings::new(
            DrafterKind::None,
            options.shape.with_widths(Widths::DEFAULT),
            1,
            options.temperatures.first().copied().unwrap_or_default(),
        )
    };
    let mut runner = options.study.open(&sets, plain.clone(), interrupt)?;
    let settings = settings(&options, &runner.engine.info, &sets, budgets, drafters);
    let state = options
        .state
        .as_deref()
        .map_or_else(|| Ok(TableState::nowhere()), |path| TableState::open(path, &settings))?;
    let look_every = options.look_every;
    let mut work = TableRun {
        runner: &mut runner,
        sets: &sets,
        settings: &settings,
        plain,
        look_every,
        state,
    };
    if !work.run()? {
        let status = work.runner.interrupt.status().unwrap_or(1);
        if options.state.is_some() {
            super::warn("interrupted; the same command resumes from here");
        }
        return Ok(ExitCode::from(status));
    }
    let TableState { pieces, cost, .. } = work.state;
    let roofline = runner.engine.work;
    let given = TableInputs {
        budgets: &settings.budgets,
        drafters: &settings.drafters,
        cost: cost.as_ref(),
        hardware: &hardware,
        work: &roofline,
    };
    let mut rows = Vec::new();
    for (i, set) in sets.iter().enumerate() {
        for (j, &temperature) in settings.temperatures.iter().enumerate() {
            let own: Vec<&TextResult> =
                pieces.iter().filter(|p| (p.key.set, p.key.temperature) == (i, j)).collect();
            rows.extend(compute_set_rows(&set.name, temperature, &own, &given));
        }
    }
    if rows.is_empty() {
        bail!("no prompt could be run; give prompts shorter than the model's context");
    }
    let refused = pieces.iter().any(|p| p.refused.is_some());
    let table = Table {
        kind: "table".into(),
        settings,
        cost,
        work: roofline,
        hardware,
        sets: rows,
        published: published(),
    };
    outputs.write(|| text::text(&table), || text::csv(&table), &table)?;
    Ok(ExitCode::from(u8::from(refused)))
}

fn settings(
    options: &TableOptions,
    info: &RunInfo,
    sets: &[PromptSet],
    budgets: Vec<usize>,
    drafters: Vec<String>,
) -> Settings {
    let set = |set: &PromptSet| {
        let mut hash = Sha256::new();
        for prompt in &set.prompts {
            for text in [&prompt.id, &prompt.text] {
                hash.update((text.len() as u64).to_le_bytes());
                hash.update(text);
            }
        }
        let sha256 = hex(&hash.finalize());
        SetSettings { name: set.name.clone(), prompts: set.prompts.len(), sha256 }
    };
    Settings {
        version: info.version.clone(),
        model: info.model.clone(),
        quantisation: info.quantisation.clone(),
        sha256: info.sha256.clone(),
        device: info.device.clone(),
        draft_model: options.study.draft_model.clone(),
        exit_layers: options.study.exit_layers,
        adapter: options.study.adapter.as_ref().map(|path| path.display().to_string()),
        head: options.study.head.as_ref().map(|path| path.display().to_string()),
        sets: sets.iter().map(set).collect(),
        budgets,
        drafters: distinct(drafters),
        temperatures: distinct(options.temperatures.clone()),
        shape: options.shape.name().to_owned(),
        seed: options.study.seed,
        max_tokens: options.study.max_tokens,
        raw: options.study.raw,
        timed: options.timed,
    }
}

/// Removes duplicates and keeps the order.
fn distinct<T: PartialEq>(all: Vec<T>) -> Vec<T> {
    let mut once = Vec::with_capacity(all.len());
    for one in all {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    once
}

/// Returns all texts of a table in the order in which they are run.
///
/// All drafters run a prompt one after the other, so that times to be compared are measured close
/// together.
fn plan(settings: &Settings) -> Vec<TextKey> {
    let most = settings.budgets.last().copied().unwrap_or(1);
    let mut keys = Vec::new();
    for (set, SetSettings { prompts, .. }) in settings.sets.iter().enumerate() {
        for temperature in 0..settings.temperatures.len() {
            for prompt in 0..*prompts {
                let key = |drafter, budget| TextKey { set, temperature, prompt, drafter, budget };
                keys.push(key(None, 1));
                for drafter in 0..settings.drafters.len() {
                    let wanted = |b: &&usize| **b > 1 && (**b == most || prompt < settings.timed);
                    keys.extend(
                        settings
                            .budgets
                            .iter()
                            .rev()
                            .filter(wanted)
                            .map(|&b| key(Some(drafter), b)),
                    );
                }
            }
        }
    }
    keys
}

/// Measurement of all texts.
struct TableRun<'a> {
    runner: &'a mut Runner,
    sets: &'a [PromptSet],
    settings: &'a Settings,
    plain: StepSettings,
    look_every: usize,
    state: TableState,
}

impl TableRun<'_> {
    /// Runs all texts that are not finished; returns false if a signal ended it.
    fn run(&mut self) -> anyhow::Result<bool> {
        let keys = plan(self.settings);
        let done: BTreeSet<TextKey> = self.state.pieces.iter().map(|p| p.key).collect();
        let mut any = false;
        let mut pace =
            StudyProgress::new(keys.len(), keys.iter().filter(|key| done.contains(key)).count());
        for key in keys.into_iter().filter(|key| !done.contains(key)) {
            let what = self.name(&key);
            pace.begin(&what);
            let Some(piece) = self.text(key)? else { return Ok(false) };
            if let (Some(why), None) = (&piece.refused, key.drafter) {
                pace.say(&format!("{what}: {why}; skipped"));
            }
            let ran = piece.refused.is_none();
            any |= ran;
            self.state.add(piece)?;
            // Measured once, after a text, when contexts have their usual length.
            if ran
                && self.state.cost.is_none()
                && let Some(cost) = self.runner.engine.session.measure_cost()?
            {
                self.state.set_cost(cost)?;
            }
            pace.end(&what);
        }
        // The cost was refined by the passes of all texts.
        if let Some(cost) = self.runner.engine.session.cost().cloned().filter(|_| any) {
            self.state.set_cost(cost)?;
        }
        Ok(true)
    }

    fn name(&self, key: &TextKey) -> String {
        let (set, temperature) = (&self.sets[key.set], self.settings.temperatures[key.temperature]);
        let drafter = key
            .drafter
            .map_or("plain".into(), |d| format!("{} B {}", self.settings.drafters[d], key.budget));
        format!(
            "{} {} at temperature {temperature}, {drafter}",
            sanitize_name(&set.name),
            sanitize_name(&set.prompts[key.prompt].id)
        )
    }

    /// Runs one text; `None` if a signal ended it.
    fn text(&mut self, key: TextKey) -> anyhow::Result<Option<TextResult>> {
        let s = self.settings;
        let settings = StepSettings {
            drafter: key.drafter.map_or(DrafterKind::None, |d| s.drafters[d].as_str().into()),
            budget: key.budget,
            temperature: s.temperatures[key.temperature],
            ..self.plain.clone()
        };
        let budgets = &s.budgets[..s.budgets.partition_point(|&b| b <= key.budget)];
        let mut gather =
            TextResultBuilder::new(key, if key.drafter.is_some() { budgets } else { &[] });
        // Discard the distributions of the previous text.
        drop(self.runner.engine.session.take_pool());
        let prompt = &self.sets[key.set].prompts[key.prompt];
        let look_every = self.look_every;
        let went = self.runner.text(&settings, prompt, &mut |session, _, record| {
            let full = gather.step(&record);
            // Greedy text needs no search: an oracle knows all of it.
            if key.drafter.is_some()
                && settings.temperature > 0.0
                && let Some(search) = session.search_if_due(record.step, look_every)?
                && let Some(curve) = search.curve()
            {
                gather.searched(&curve, search.result().drafter_best);
            }
            if key.drafter.is_none() && (full || session.ending().is_some()) {
                gather.add_distributions(&session.take_pool());
            }
            Ok(())
        })?;
        Ok(match went {
            TextOutcome::Whole => Some(gather.end()),
            TextOutcome::Refused(why) => Some(TextResult::refused(key, why)),
            TextOutcome::Interrupted => None,
        })
    }
}
