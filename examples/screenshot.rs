//! Draws the monitor's screen as SVG.
//!
//! The steps come from the records of a run (`speclight run --json FILE`), or are synthetic if no
//! file is given:
//!
//! `cargo run --release --example screenshot -- --size 120x40 run.jsonl > screen.svg`

#[path = "../tests/common/script.rs"]
mod script;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use crossterm::event::KeyCode;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use speclight::engine::{Event, RunInfo};
use speclight::telemetry::{OracleResult, StepRecord};
use speclight::tui::theme::{ColorDepth, TerminalAbilities, Theme};
use speclight::tui::{Msg, State, update};

#[derive(Parser)]
struct Options {
    /// Size of the screen in columns and rows.
    #[arg(long, default_value = "120x40", value_parser = size)]
    size: (u16, u16),
    /// Theme, by name or path.
    #[arg(long, default_value = "dark")]
    theme: String,
    /// Draw in ASCII.
    #[arg(long)]
    ascii: bool,
    /// Keys to press before the screen is drawn: letters, < for Left, > for Tab.
    #[arg(long, default_value = "")]
    keys: String,
    /// Budget of synthetic steps.
    #[arg(long, default_value_t = 16)]
    budget: usize,
    /// Temperature of synthetic steps.
    #[arg(long, default_value_t = 1.0)]
    temperature: f32,
    /// Maximum number of steps to show.
    #[arg(long, default_value_t = 70)]
    steps: usize,
    /// Prompt texts of the run, in order [default: the built-in prompts].
    #[arg(long)]
    prompt: Vec<String>,
    /// Records of a run.
    file: Option<PathBuf>,
}

fn size(text: &str) -> Result<(u16, u16), String> {
    let parsed = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    parsed.ok_or_else(|| "write it as 120x40".to_owned())
}

fn main() -> Result<()> {
    let options = Options::parse();
    let theme = Theme::load(
        &options.theme,
        &TerminalAbilities { depth: ColorDepth::True, ascii: options.ascii, folder: None },
    )?;
    let events = match &options.file {
        Some(_) => recorded(&options)?,
        None => {
            let settings = script::settings("early-exit", options.budget, options.temperature);
            script::Script::new(7).events(&settings, options.steps)
        }
    };
    let mut state = State::new(1);
    events.into_iter().for_each(|event| drop(update(&mut state, Msg::Engine(event))));
    for c in options.keys.chars() {
        let code = match c {
            '<' => KeyCode::Left,
            '>' => KeyCode::Tab,
            c => KeyCode::Char(c),
        };
        update(&mut state, Msg::Key(code.into()));
    }
    let area = Rect::new(0, 0, options.size.0, options.size.1);
    let mut buffer = Buffer::empty(area);
    speclight::tui::views::draw(&state, &theme, area, &mut buffer);
    println!("{}", speclight::tui::svg(&buffer, &theme));
    Ok(())
}

/// Returns the events that a monitor would have received during the recorded run.
fn recorded(options: &Options) -> Result<Vec<Event>> {
    let path = options.file.as_deref().unwrap_or(std::path::Path::new("-"));
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("{} can't be read", path.display()))?;
    let lines: Vec<serde_json::Value> =
        text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of = |kind: &str| lines.iter().filter(|l| l["type"] == *kind).cloned().collect::<Vec<_>>();
    let word = |name: &str| {
        of("run").first().and_then(|l| l[name].as_str()).unwrap_or_default().to_owned()
    };
    // Results of oracle searches (`--look-every`), by prompt and step.
    let looks = of("look").into_iter().map(|line| {
        let key = (line["prompt_id"].clone(), line["step"].clone());
        Ok((key, serde_json::from_value::<OracleResult>(line)?))
    });
    let looks: Vec<((serde_json::Value, serde_json::Value), OracleResult)> =
        looks.collect::<Result<_>>()?;
    let records =
        of("step").into_iter().take(options.steps).map(serde_json::from_value::<StepRecord>);
    let records: Vec<StepRecord> =
        records.collect::<Result<_, _>>().context("a step is not as this version writes it")?;
    let mut prompts = options.prompt.clone();
    if prompts.is_empty() {
        prompts = speclight::cli::built_in().into_iter().map(|prompt| prompt.text).collect();
    }
    let first = records.first().context("the file holds no step")?;
    let info = RunInfo {
        model: word("model"),
        quantisation: word("quantisation"),
        device: word("device"),
        prompts: prompts.clone(),
        ..RunInfo::default()
    };
    let mut events = vec![Event::Ready { info: Arc::new(info), settings: first.settings.clone() }];
    if let Some(plain) =
        of("summary").first().and_then(|l| l["autoregressive_tokens_per_second"].as_f64())
    {
        events.push(Event::Calibrated { plain_tokens_per_second: plain, seconds: 1.0 / plain });
    }
    let mut ids: Vec<String> = Vec::new();
    for record in records {
        if ids.last() != Some(&record.prompt_id) {
            let (index, id) = (ids.len(), record.prompt_id.clone());
            let prompt = prompts.get(index).cloned().unwrap_or_default();
            ids.push(id.clone());
            events.push(Event::PromptStarted {
                index,
                id,
                prompt,
                tokens: record.position,
                prefill_seconds: 0.0,
            });
        }
        let (prompt_id, step) = (record.prompt_id.clone(), record.step);
        events.push(Event::Step(Arc::new(record)));
        if let Some((_, look)) =
            looks.iter().find(|((id, number), _)| *id == prompt_id.as_str() && *number == step)
        {
            events.push(Event::Looked {
                prompt_id,
                step,
                look: *look,
                curve: None,
                tree: None,
                systematic: true,
            });
        }
    }
    Ok(events)
}
