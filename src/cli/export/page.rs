//! Content of the HTML page, from a recording.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Event, EventReader, Recorded, RunInfo};
use crate::telemetry::recording::RecordingEnd;
use crate::telemetry::{StepRecord, StepSettings, Tally};
use crate::tui::export::{MissRow, Page, html, svg};
use crate::tui::{Film, Phase, State, apply};

use crate::cli::replay::file::end_words;

/// Number of misses in the page's table.
const MISSES: usize = 40;
/// Length of the text shown before a missed token, in characters.
const BEFORE: usize = 60;

/// Contents of a page, collected event by event.
#[derive(Default)]
struct Collected {
    info: Arc<RunInfo>,
    settings: Option<StepSettings>,
    tally: Tally,
    tokens: Vec<f64>,
    speeds: Vec<f64>,
    misses: VecDeque<MissRow>,
    text: String,
    steps: usize,
    length: Duration,
}

impl Collected {
    fn take(&mut self, at: Duration, event: &Event) {
        self.length = self.length.max(at);
        match event {
            Event::Ready { info, .. } => self.info = Arc::clone(info),
            Event::Cost(cost) => self.tally.cost(cost),
            Event::Fluid(fluid) => self.tally.fluid(fluid),
            Event::Load(load) => self.tally.load(load),
            Event::PlainTimed { seconds, .. } => self.tally.add_plain_timing(*seconds),
            Event::PromptStarted { .. } => self.text.clear(),
            Event::PromptEnded { .. } => self.tally.end_text(),
            Event::OracleSearched { prompt_id, step, result, systematic, curve, .. } => {
                if let Some(curve) = curve.as_ref().filter(|_| *systematic) {
                    self.tally.add_oracle_curve(prompt_id, *step, result.drafter_best, curve);
                }
                self.tally.add_oracle_result(prompt_id, *step, result);
            }
            Event::Step(record) => self.step(record),
            _ => {}
        }
    }

    fn step(&mut self, record: &StepRecord) {
        let same = |settings: &StepSettings| {
            StepSettings { seed: 0, ..settings.clone() }
                == StepSettings { seed: 0, ..record.settings.clone() }
        };
        if self.settings.as_ref().is_some_and(|settings| !same(settings)) {
            // Means over different settings mean nothing: the page is about the last ones.
            self.tally = Tally::default();
            self.tokens.clear();
            self.speeds.clear();
            self.misses.clear();
        }
        self.settings = Some(record.settings.clone());
        self.tally.add(record);
        let (tokens, seconds) = (record.emitted.len() as f64, record.time.total());
        self.tokens.push(tokens);
        self.speeds.push(if seconds > 0.0 { tokens / seconds } else { 0.0 });
        if let Some(miss) = &record.miss {
            let accepted: String =
                record.emitted_text.iter().take(record.accepted).map(String::as_str).collect();
            let before = format!("{}{accepted}", self.text);
            let skip = before.chars().count().saturating_sub(BEFORE);
            self.misses.push_front(MissRow {
                step: self.steps,
                before: before.chars().skip(skip).collect(),
                token: miss.text.clone(),
                cause: miss.cause.name().to_owned(),
                depth: miss.depth,
                p: miss.p,
                q: miss.q,
                rank: miss.rank,
            });
            self.misses.truncate(MISSES);
        }
        record.emitted_text.iter().for_each(|text| self.text.push_str(text));
        // Only the end of the text is shown.
        let skip = self.text.chars().count().saturating_sub(2 * BEFORE);
        if skip > 0 {
            self.text = self.text.chars().skip(skip).collect();
        }
        self.steps += 1;
    }

    /// Returns the facts about the run: label and value.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let info = &self.info;
        let mut facts = vec![
            ("model", format!("{} {}", info.model, info.quantisation)),
            ("device", info.device.clone()),
            ("made with", format!("speclight {}", info.version)),
            ("length", format!("{:.1} s", self.length.as_secs_f64())),
        ];
        if let Some(settings) = &self.settings {
            let budget = if settings.automatic() {
                format!("auto, up to {}", settings.budget)
            } else {
                settings.budget.to_string()
            };
            let sampling = if settings.temperature == 0.0 {
                "greedy".to_owned()
            } else {
                format!("temperature {}", settings.temperature)
            };
            facts.push((
                "drafting",
                format!(
                    "{}, {}, budget {budget}, verify {}",
                    settings.drafter,
                    settings.shape,
                    settings.verify.name()
                ),
            ));
            facts.push(("sampling", format!("{sampling}, seed {}", settings.seed)));
        }
        facts
    }
}

/// Returns the page about a recording, up to the step `at` if one is given.
///
/// # Errors
/// If the recording holds no step.
pub fn page<R: Read>(
    events: &mut EventReader<R>,
    film: &Film,
    at: Option<usize>,
) -> anyhow::Result<String> {
    let (mut state, mut collected) = (State::new(1), Collected::default());
    for (time, recorded) in events.by_ref() {
        if let Recorded::Event(event) = &recorded {
            if at.is_some_and(|at| collected.steps >= at) && matches!(event, Event::Step(_)) {
                break;
            }
            collected.take(time, event);
        }
        apply(&mut state, time, recorded);
    }
    if collected.steps == 0 {
        anyhow::bail!("the recording holds no step");
    }
    let incomplete = events.end().and_then(|end: &RecordingEnd| end_words(end));
    let misses: Vec<MissRow> = collected.misses.iter().cloned().collect();
    let summary = collected.tally.summary(None);
    if state.phase == Phase::Finished {
        state.notice = None;
    }
    let screen = svg(&film.screen(&state), film.theme);
    let content = Page {
        title: &collected.info.model,
        facts: collected.facts(),
        screen: &screen,
        summary: &summary,
        tokens: &collected.tokens,
        speeds: &collected.speeds,
        misses: &misses,
        incomplete,
    };
    Ok(html(&content, film.theme))
}
