//! `speclight run`: decoding without the monitor.
//!
//! Engine events become JSON lines ([`Lines`]), text and a summary ([`Text`]), and a progress bar.

mod text;

use std::io::{self, IsTerminal, Stdout};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use indicatif::ProgressBar;

use super::RunOptions;
use super::errors::warn;
use super::interrupt::Interrupt;
use super::lines::AtomicOutput;
use super::overlap::{NamedFile, check_outputs};
use super::progress::{loading, message, style};
use super::replay::file::{recorder, run_context};
use crate::engine::{self, Command, Event, Recorder, RunInfo};
use crate::sanitize::sanitize_name;
use crate::telemetry::recording::Entry;
use crate::telemetry::{Ending, JsonLine, OracleResultLine, StepRecord, StepSettings, Tally};
use text::{TextOutput, TextStyle};

/// Decodes every prompt and writes the requested outputs.
///
/// The exit status is 1 if a prompt was skipped, 130 after Ctrl-C and 143 after SIGTERM.
///
/// # Errors
/// If the run can't start or continue, or an output can't be written.
pub fn run(options: RunOptions) -> anyhow::Result<ExitCode> {
    let interrupt = Interrupt::watch().context("can't install signal handlers")?;
    let engine_options = options.options.engine(true, &mut |line| warn(&line))?;
    let json = options.json.iter().map(|path| NamedFile::new("--json", path));
    check_outputs(&options.options.inputs(), &json.collect::<Vec<_>>())?;
    // Opened before the model is fetched, so that a file that can't be written is reported at once.
    let json = options.json.as_deref().map(AtomicOutput::open).transpose()?;
    let record = options.record.as_deref();
    let recorder = record.map(|path| recorder(path, &options.options)).transpose()?;
    let text = match &options.json {
        Some(path) if AtomicOutput::is_stdout(path) => None,
        _ => Some(TextOutput::new(
            io::stdout(),
            TextStyle::of(io::stdout().is_terminal(), |name| std::env::var(name).ok()),
        )),
    };
    let bar = ProgressBar::hidden();
    let mut report = RunOutput {
        options,
        interrupt,
        json,
        recorder,
        start: Instant::now(),
        text,
        bar,
        tally: Tally::default(),
        count: 0,
        refused: 0,
        noticed: None,
        error: None,
    };
    // No commands follow, but the engine ends when the last sender is dropped.
    let (commands, orders) = mpsc::channel();
    if let Some(recorder) = &report.recorder {
        recorder.entry(Duration::ZERO, Entry::SearchEvery { steps: report.options.look_every });
    }
    if report.options.look_every > 0 {
        let _ = commands.send(Command::SearchEvery(report.options.look_every));
    }
    engine::drive(engine_options, &orders, &mut |event| report.take(event));
    report.finish()
}

/// Consumer of engine events, with all outputs of the run.
struct RunOutput {
    options: RunOptions,
    interrupt: Interrupt,
    json: Option<AtomicOutput>,
    recorder: Option<Recorder>,
    /// Start of the run, from which recorded times are counted.
    start: Instant,
    text: Option<TextOutput<Stdout>>,
    bar: ProgressBar,
    tally: Tally,
    /// Number of prompts in the run.
    count: usize,
    refused: usize,
    /// Last notice that was printed.
    noticed: Option<String>,
    error: Option<anyhow::Error>,
}

impl RunOutput {
    /// Handles an event; returns false to stop the engine.
    fn take(&mut self, event: Event) -> bool {
        if let Some(recorder) = &self.recorder {
            recorder.event(self.start.elapsed(), &event);
        }
        if let Err(error) = self.told(event) {
            self.error = Some(error);
        }
        self.error.is_none() && self.interrupt.status().is_none()
    }

    fn told(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Loading { what, done } => {
                if let Some(status) = self.interrupt.status() {
                    // A download can't be canceled through the return value of the event handler.
                    drop(self.json.take());
                    if let Some(recorder) = self.recorder.take() {
                        recorder.discard();
                    }
                    self.bar.finish_and_clear();
                    crate::draft::end_processes();
                    std::process::exit(status.into());
                }
                loading(&mut self.bar, &what, done);
            }
            Event::Ready { info, settings } => self.ready(&info, &settings)?,
            Event::Cost(cost) => self.tally.cost(&cost),
            Event::Fluid(fluid) => self.tally.fluid(&fluid),
            Event::Load(load) => self.tally.load(&load),
            Event::OracleSearched { prompt_id, step, result, systematic, curve, .. } => {
                if let Some(curve) = curve.filter(|_| systematic) {
                    self.tally.add_oracle_curve(&prompt_id, step, result.drafter_best, &curve);
                }
                self.tally.add_oracle_result(&prompt_id, step, &result);
                if let Some(json) = &mut self.json {
                    json.write(&JsonLine::OracleSearched(OracleResultLine {
                        prompt_id: &prompt_id,
                        step,
                        result: &result,
                    }))?;
                }
            }
            Event::PlainTimed { seconds, .. } => self.tally.add_plain_timing(seconds),
            Event::PromptStarted { index, id, .. } => {
                let title =
                    format!("prompt {} of {} ({})", index + 1, self.count, sanitize_name(&id));
                message(&self.bar, &title);
                if self.count > 1 {
                    self.write(
                        |text| if text.for_a_person() { text.title(&title) } else { Ok(()) },
                    )?;
                }
            }
            Event::Step(record) => self.step(&record)?,
            Event::PromptEnded { ending } => {
                if ending != Ending::Interrupted {
                    self.tally.end_text();
                }
                self.bar.inc(1);
                self.write(TextOutput::end)?;
            }
            Event::Refused(why) if self.count == 1 => bail!(why),
            Event::Refused(why) => {
                self.refused += 1;
                self.bar.inc(1);
                self.bar.suspend(|| warn(&format!("{why}; skipped")));
            }
            Event::Failed(why) => bail!(why),
            Event::Settings(_) | Event::Paused | Event::Resumed | Event::Finished => {}
        }
        Ok(())
    }

    fn ready(&mut self, info: &RunInfo, settings: &StepSettings) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        self.count = info.prompts.len();
        let options = &self.options.options;
        // No bar if the text streams to the same terminal.
        let alone = io::stderr().is_terminal() && !io::stdout().is_terminal();
        self.bar = if alone && !options.prompts.is_empty() {
            ProgressBar::new(self.count as u64)
                .with_style(style("[{bar:30}] {pos}/{len} {elapsed} {msg}"))
        } else {
            ProgressBar::hidden()
        };
        let context = run_context(options);
        let line = context.run_line(info, settings);
        self.json.as_mut().map_or(Ok(()), |json| json.write(&JsonLine::Run(line)))
    }

    fn step(&mut self, record: &StepRecord) -> anyhow::Result<()> {
        // Do not repeat the same notice.
        if let Some(notice) =
            record.notice.as_ref().filter(|notice| self.noticed.as_ref() != Some(notice))
        {
            self.bar.suspend(|| warn(notice));
            self.noticed = Some(notice.clone());
        }
        self.tally.add(record);
        self.bar.tick();
        if let Some(json) = &mut self.json {
            json.write(&JsonLine::Step(record))?;
        }
        self.write(|text| text.step(record))
    }

    /// Writes text if text output is enabled.
    ///
    /// A broken pipe disables text output if there is a JSON file, which is still completed.
    fn write(
        &mut self,
        write: impl FnOnce(&mut TextOutput<Stdout>) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        match self.text.as_mut().map_or(Ok(()), write) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.json.is_some() => {
                self.text = None;
                Ok(())
            }
            result => result.context("can't write standard output"),
        }
    }

    /// Writes the summary, finishes the file, and returns the exit status.
    fn finish(mut self) -> anyhow::Result<ExitCode> {
        self.bar.finish_and_clear();
        let ended = self.write(TextOutput::end);
        let summary = self.tally.summary(None);
        let recorded = match self.recorder.take() {
            None => Ok(()),
            // There is nothing to replay.
            Some(recorder) if summary.steps == 0 => {
                recorder.discard();
                Ok(())
            }
            // Also after an error: what was recorded until then tells why.
            Some(recorder) => recorder.finish().map(drop),
        };
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        ended?;
        recorded.context("can't write the recording")?;
        let interrupted = self.interrupt.status().map(ExitCode::from);
        if summary.steps == 0 {
            // No step is complete: drop the JSON file without giving it its name.
            return interrupted.ok_or_else(|| {
                anyhow!("no prompt could be run; give prompts shorter than the model's context")
            });
        }
        if let Some(mut json) = self.json.take() {
            json.write(&JsonLine::Summary(Box::new(summary.clone().into())))?;
            json.finish()?;
        }
        self.write(|text| if text.for_a_person() { text.table(&summary) } else { Ok(()) })?;
        Ok(interrupted.unwrap_or(ExitCode::from(u8::from(self.refused > 0))))
    }
}
