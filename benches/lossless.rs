//! Compares greedy output with plain decoding, token for token.
//!
//! Covers every drafter, every shape, and small and large budgets, over all prompts of the given
//! files.
//!
//! `cargo bench --bench lossless -- FILE.jsonl|FOLDER...` prints a table and exits with status 1 at
//! the first difference. A full run takes hours; `--drafters`, `--shapes`, `--budgets` and
//! `--limit` select a part of it.

mod prompts;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use speclight::cli::one_line;
use speclight::draft::{
    Drafter, DrafterKind, Eagle, EarlyExit, Mix, ModelDrafter, Ngram, NoDraft, Oracle, Shape,
    Suffix,
};
use speclight::engine::{MAX_BUDGET, Prompt, Session, Vocabulary};
use speclight::model::device::DeviceChoice;
use speclight::model::tokenizer::same_vocabulary;
use speclight::model::{Head, HeadForm, Model};
use speclight::registry::Registry;
use speclight::telemetry::{StepSettings, Tally};
use speclight::tree::TokenId;

/// Compares greedy output under every drafter, shape and budget with plain decoding
#[derive(Parser)]
#[command(name = "lossless")]
struct Options {
    /// Files of prompts (one JSON object per line), or folders of *.jsonl files
    #[arg(required = true, value_name = "FILE.jsonl|FOLDER")]
    prompts: Vec<PathBuf>,
    /// Maximum output of a prompt, in tokens
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_tokens: usize,
    /// Maximum number of prompts from each file [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Drafters to compare [default: all that the model has]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    drafters: Vec<String>,
    /// Shapes to compare [default: all]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    shapes: Vec<Shape>,
    /// Budgets to compare, in tokens of a verify pass
    #[arg(long, value_name = "B,..", value_delimiter = ',', value_parser = budget, default_value = "2,3,4,8,16,32,64")]
    budgets: Vec<usize>,
    /// Model: a name listed by `speclight models`, or a path [default: the default model]
    #[arg(long, value_name = "NAME|PATH")]
    model: Option<String>,
    /// Draft model with the same vocabulary, for the drafter `model`
    #[arg(long, value_name = "NAME|PATH")]
    draft_model: Option<String>,
    /// Number of threads [default: physical cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn budget(value: &str) -> Result<usize, String> {
    // A budget of 1 drafts nothing, which is plain decoding itself.
    let drafts = value.parse().ok().filter(|budget| (2..=MAX_BUDGET).contains(budget));
    drafts.ok_or_else(|| {
        format!("a budget counts the tokens of a verify pass: give 2 to {MAX_BUDGET}")
    })
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lossless: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// Settings, and their totals over all prompts.
struct Row {
    settings: StepSettings,
    tally: Tally,
}

fn settings(drafter: &str, shape: Shape, budget: usize) -> StepSettings {
    StepSettings::new(drafter, shape, budget, 0.0)
}

fn run(options: &Options) -> anyhow::Result<()> {
    let prompts =
        prompts::read(&options.prompts, options.limit, &mut |line| eprintln!("lossless: {line}"))?;
    let (model, sha256) = open(options.model.as_deref(), options)?;
    let tokens: Vec<Vec<TokenId>> = prompts
        .iter()
        .map(|(_, prompt)| model.prompt_tokens(&prompt.text, false))
        .collect::<Result<_, _>>()?;
    let longest = tokens.iter().map(Vec::len).max().unwrap_or(0);
    let largest = options.budgets.iter().copied().max().unwrap_or(0);
    let capacity = longest.saturating_add(options.max_tokens).saturating_add(largest);
    let mut session = session(&model, sha256.as_deref(), capacity, options)?;
    let has: Vec<&str> =
        session.drafters().map(|info| info.kind.name()).filter(|name| *name != "none").collect();
    let drafters = if options.drafters.is_empty() {
        has.iter().map(|name| (*name).to_owned()).collect()
    } else {
        options.drafters.clone()
    };
    if let Some(name) = drafters.iter().find(|name| !has.contains(&name.as_str())) {
        bail!("--drafters {name}: give some of {}", has.join(", "));
    }
    let shapes = if options.shapes.is_empty() { &Shape::ALL } else { &options.shapes[..] };
    let mut plain = Row { settings: settings("none", Shape::Chain, 1), tally: Tally::default() };
    let mut rows = Vec::new();
    for drafter in &drafters {
        for &shape in shapes {
            let row = |&budget: &usize| Row {
                settings: settings(drafter, shape, budget),
                tally: Tally::default(),
            };
            rows.extend(options.budgets.iter().map(row));
        }
    }
    println!(
        "{} on {}, {} prompts, greedy, up to {} tokens each",
        model.path().display(),
        model.device_name(),
        prompts.len(),
        options.max_tokens
    );
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new((prompts.len() * rows.len()) as u64)
    } else {
        ProgressBar::hidden()
    };
    bar.set_style(ProgressStyle::with_template("[{bar:30}] {pos}/{len} {elapsed} {msg}")?);
    for ((file, prompt), tokens) in prompts.iter().zip(&tokens) {
        bar.set_message(format!("{}, prompt {}", file.display(), prompt.id));
        let want = decode(&mut session, &mut plain, prompt, tokens, options.max_tokens)?;
        for row in &mut rows {
            let got = decode(&mut session, row, prompt, tokens, options.max_tokens)?;
            if let Some(at) = (0..want.len().max(got.len())).find(|&at| want.get(at) != got.get(at))
            {
                let word = |token: Option<&TokenId>| match token {
                    Some(&token) => {
                        format!(
                            "{token} {:?}",
                            String::from_utf8_lossy(
                                &model.tokenizer().token_bytes()[token as usize]
                            )
                        )
                    }
                    None => "nothing".to_owned(),
                };
                let StepSettings { drafter, shape, budget, .. } = &row.settings;
                bar.finish_and_clear();
                bail!(
                    "{}, prompt {}: {drafter}, {shape}, budget {budget}: token {at} of the output is {}, of plain decoding {}",
                    file.display(),
                    prompt.id,
                    word(got.get(at)),
                    word(want.get(at))
                );
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    println!(
        "{:<10} {:<10} {:>6} {:>8} {:>8} {:>12}  text",
        "drafter", "shape", "budget", "tokens", "steps", "tokens/step"
    );
    for row in std::iter::once(&plain).chain(&rows) {
        let (sum, StepSettings { drafter, shape, budget, .. }) =
            (row.tally.summary(None), &row.settings);
        let text = if *drafter == DrafterKind::None { "the measure" } else { "the same" };
        println!(
            "{drafter:<10} {shape:<10} {budget:>6} {:>8} {:>8} {:>12.2}  {text}",
            sum.tokens, sum.steps, sum.tokens_per_step
        );
    }
    println!("no difference in {} comparisons", prompts.len() * rows.len());
    Ok(())
}

/// Decodes a prompt under the settings of `row` and adds every step to its tally.
fn decode(
    session: &mut Session,
    row: &mut Row,
    prompt: &Prompt,
    tokens: &[TokenId],
    most: usize,
) -> anyhow::Result<Vec<TokenId>> {
    session.set(row.settings.clone())?;
    session.start(&prompt.id, tokens, most).with_context(|| format!("prompt {}", prompt.id))?;
    while let Some(record) = session.step()? {
        row.tally.add(&record);
    }
    Ok(session.tokens()[tokens.len()..].to_vec())
}

/// Opens a model; also returns the SHA-256 of its file if the registry lists one.
fn open(name: Option<&str>, options: &Options) -> anyhow::Result<(Model, Option<String>)> {
    let registry = Registry::load()?;
    let found = registry.find(name)?;
    let path = found.ensure(&mut |_| ())?;
    Ok((Model::open(&path, DeviceChoice::Cpu, options.threads)?, found.sha256().map(str::to_owned)))
}

fn session(
    model: &Model,
    sha256: Option<&str>,
    capacity: usize,
    options: &Options,
) -> anyhow::Result<Session> {
    let layers = model.config().layers;
    let mut drafters: Vec<Box<dyn Drafter>> =
        vec![Box::new(NoDraft), Box::new(Ngram::default()), Box::new(Suffix::default())];
    let adapter = Head::load_built_in(sha256, HeadForm::Adapter, model)?;
    drafters.extend(
        EarlyExit::default_exit(adapter.as_ref(), layers)?
            .map(|exit| Box::new(exit) as Box<dyn Drafter>),
    );
    if let Some(name) = &options.draft_model {
        let (second, _) = open(Some(name), options)?;
        same_vocabulary(model.tokenizer(), second.tokenizer())
            .map_err(anyhow::Error::msg)
            .context("--draft-model")?;
        drafters.push(Box::new(ModelDrafter::new(
            second.decoder(capacity)?,
            name,
            model.config().vocab,
        )));
    }
    let mut target = model.decoder(capacity)?;
    if let Some(head) = Head::load_built_in(sha256, HeadForm::Eagle, model)? {
        target.keep_hidden(&head.info().source_layers);
        let eagle = || Box::new(Eagle::new(&head, capacity));
        drafters.push(eagle());
        drafters.push(Box::new(Mix::new("mix", vec![Box::new(Suffix::default()), eagle()])?));
    }
    drafters.push(Box::new(Oracle::default()));
    let tokenizer = model.tokenizer();
    let vocabulary =
        Arc::new(Vocabulary::new(tokenizer.token_bytes(), tokenizer.stop_tokens().to_vec()));
    Ok(Session::new(target, drafters, vocabulary, settings("none", Shape::Chain, 1))?)
}
