//! Screen of a live run: the monitor's state, with recordings and pictures beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::Rect;

use super::{Effect, GeneratedText, Msg, Picture, Screen, State, Step, Target, save_picture};
use crate::engine::{Command, Event, Pace, Recorder, RunContext, RunInfo};
use crate::telemetry::recording::Entry;
use crate::tui::theme::Theme;

/// Maximum number of recordings in one folder that the key makes.
const MAX_RECORDINGS: u32 = 9999;

/// Screen of a live run.
pub struct Monitor {
    state: State,
    recorder: Option<Recorder>,
    /// Folder of pictures and of recordings that the key starts.
    folder: PathBuf,
    context: RunContext,
    picture: Picture,
    /// Time of the message that is applied.
    at: Duration,
}

impl Monitor {
    /// Returns the screen over an initial state.
    ///
    /// With a `recorder`, the run is recorded from its first event; `context` is for recordings
    /// that the key starts.
    pub fn new(
        state: State,
        recorder: Option<Recorder>,
        context: RunContext,
        picture: Picture,
    ) -> Monitor {
        let state = State { recording: recorder.is_some(), ..state };
        if let Some(recorder) = &recorder {
            recorder.entry(Duration::ZERO, Entry::SearchEvery { steps: state.look_every });
            recorder.entry(Duration::ZERO, pace_entry(&state));
        }
        Monitor {
            state,
            recorder,
            folder: PathBuf::from("."),
            context,
            picture,
            at: Duration::ZERO,
        }
    }

    /// Returns the state shown.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Starts or ends a recording, as requested with the key.
    fn toggle_recording(&mut self) {
        let said = match self.recorder.take() {
            Some(recorder) => finish_message(recorder),
            None => match start_recorder(&self.folder, &self.context) {
                Ok((recorder, path)) => {
                    prologue(&self.state, self.at, &recorder);
                    self.recorder = Some(recorder);
                    format!("recording to {}.part: R ends it", path.display())
                }
                Err(error) => format!("can't record: {error}"),
            },
        };
        self.state.recording = self.recorder.is_some();
        self.state.say(said);
    }
}

fn finish_message(recorder: Recorder) -> String {
    match recorder.finish() {
        Ok(path) => format!("recorded: speclight replay {}", path.display()),
        Err(error) => format!("the recording is not complete: {error}"),
    }
}

/// Starts a recording as `speclight-NNNN.rec` in `folder`, with the first number that is free.
fn start_recorder(folder: &Path, context: &RunContext) -> std::io::Result<(Recorder, PathBuf)> {
    let path = (1..=MAX_RECORDINGS)
        .map(|number| folder.join(format!("speclight-{number:04}.rec")))
        // A kill leaves FILE.part, which can be replayed.
        .find(|path| !path.exists() && !path.with_extension("rec.part").exists());
    let path = path.ok_or_else(|| {
        std::io::Error::other(format!("{MAX_RECORDINGS} recordings are there already"))
    })?;
    Ok((Recorder::start(&path, context.clone())?, path))
}

/// Records the kept steps, so that a replay can begin in mid-run.
fn prologue(state: &State, at: Duration, recorder: &Recorder) {
    recorder.entry(at, Entry::SearchEvery { steps: state.look_every });
    let Some(settings) = &state.settings else { return };
    let info = RunInfo { prompts: state.prompts.clone(), ..RunInfo::clone(&state.info) };
    recorder.event(at, &Event::Ready { info: Arc::new(info), settings: settings.clone() });
    for event in kept_events(state) {
        recorder.event(at, &event);
    }
    // After the kept texts, which a slow start would count again.
    recorder.entry(at, pace_entry(state));
}

/// Returns the entry that holds the pace of a state.
fn pace_entry(state: &State) -> Entry {
    let steps_per_second = match state.pace {
        Pace::PerSecond(steps) => Some(steps),
        Pace::Full => None,
    };
    Entry::Pace { steps_per_second, slow_start: state.slow_start }
}

/// Returns events that lead to the present state, from the kept steps.
fn kept_events(state: &State) -> Vec<Event> {
    let mut events = Vec::new();
    events.extend(state.cost.clone().map(Event::Cost));
    events.extend(
        state.plain.map(|plain| Event::PlainTimed {
            plain_tokens_per_second: plain,
            seconds: 1.0 / plain,
        }),
    );
    let history = &state.history;
    let mut steps: Vec<&Step> = history.steps_back_from(None).collect();
    steps.reverse();
    let begin = |text: &GeneratedText| Event::PromptStarted {
        index: text.index,
        id: text.id.clone(),
        prompt: text.prompt.clone(),
        tokens: text.tokens,
        prefill_seconds: text.prefill_seconds,
    };
    let mut present = None;
    let mut next_text = |number: usize, events: &mut Vec<Event>| {
        if present == Some(number) {
            return;
        }
        let ended =
            present.and_then(|before| history.text_by_number(before)).and_then(|text| text.ending);
        events.extend(ended.map(|ending| Event::PromptEnded { ending }));
        events.extend(history.text_by_number(number).map(begin));
        present = Some(number);
    };
    for step in steps {
        next_text(step.text, &mut events);
        events.push(Event::Step(Arc::clone(&step.record)));
        events.extend(step.search_result.map(|result| Event::OracleSearched {
            prompt_id: step.record.prompt_id.clone(),
            step: step.record.step,
            result,
            systematic: step.searched,
            curve: step.curve.clone(),
            tree: step.oracle.clone(),
        }));
    }
    if let Some(text) = history.text() {
        next_text(text.number, &mut events);
        events.extend(text.ending.map(|ending| Event::PromptEnded { ending }));
    }
    events.extend(state.fluid.clone().map(Event::Fluid));
    events.extend(state.load.map(Event::Load));
    if state.motion.still() {
        events.push(Event::Paused);
    }
    events
}

impl Screen for Monitor {
    type Event = Event;
    type Command = Command;

    fn update(&mut self, msg: Msg) -> Vec<Effect> {
        match &msg {
            Msg::Tick(now) => self.at = *now,
            Msg::Engine(event) => {
                if let Some(recorder) = &self.recorder {
                    recorder.event(self.at, event);
                }
            }
            _ => {}
        }
        let pace = (self.state.pace, self.state.slow_start);
        let mut effects = super::update(&mut self.state, msg);
        if effects.contains(&Effect::Record) {
            effects.retain(|effect| *effect != Effect::Record);
            self.toggle_recording();
        }
        if let Some(recorder) = &self.recorder {
            if pace != (self.state.pace, self.state.slow_start) {
                recorder.entry(self.at, pace_entry(&self.state));
            }
            for effect in &effects {
                if let Effect::Engine(Command::SearchEvery(steps)) = effect {
                    recorder.entry(self.at, Entry::SearchEvery { steps: *steps });
                }
            }
            if let Some(failure) = recorder.failure() {
                self.state.say(format!("the recording ended early: {failure}"));
                self.recorder = None;
                self.state.recording = false;
            }
        }
        effects
    }

    fn render(&self, themes: &[Theme], frame: &mut Frame) -> u16 {
        self.state.render(themes, frame)
    }

    fn ages(&self) -> bool {
        self.state.ages()
    }

    fn quit() -> Command {
        Command::Quit
    }

    fn target(&self, themes: &[Theme], area: Rect, x: u16, y: u16) -> Target {
        self.state.target(themes, area, x, y)
    }

    fn farewell(&self) -> Vec<String> {
        self.state.farewell()
    }

    fn take_picture(&mut self, themes: &[Theme], area: Rect) {
        let theme = &themes[self.state.theme.min(themes.len() - 1)];
        let said = save_picture(&self.state, theme, area, self.picture, &self.folder);
        self.state.say(said);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::EventReader;
    use crate::telemetry::testing::{chain, record};
    use crate::telemetry::{Ending, OracleResult, OracleSearchState, StepSettings};
    use crate::tui::apply;
    use crossterm::event::{KeyCode, KeyEvent};

    fn run() -> Vec<Event> {
        let step = |number: usize, prompt: &str| {
            let mut record = record(chain(&[0.5, 0.25]), &[1], 3);
            (record.step, record.prompt_id) = (number, prompt.to_owned());
            record.time.verify = 0.01;
            Event::Step(Arc::new(record))
        };
        let begin = |index: usize, id: &str| Event::PromptStarted {
            index,
            id: id.to_owned(),
            prompt: format!("prompt {id}"),
            tokens: 3,
            prefill_seconds: 0.1,
        };
        let result = OracleResult {
            oracle_lower: 1.0,
            oracle_upper: 1.0,
            oracle_floor: 0.1,
            passes: 3,
            drafter_best: Some(0.75),
            state: OracleSearchState::Converged,
        };
        let searched = Event::OracleSearched {
            prompt_id: "b".into(),
            step: 0,
            result,
            systematic: true,
            curve: None,
            tree: None,
        };
        vec![
            Event::Ready {
                info: Arc::new(RunInfo { model: "m".into(), ..RunInfo::default() }),
                settings: StepSettings::new("ngram", crate::draft::Shape::Chain, 3, 1.0),
            },
            begin(0, "a"),
            step(0, "a"),
            step(1, "a"),
            Event::PromptEnded { ending: Ending::Stop },
            begin(1, "b"),
            step(0, "b"),
            searched,
        ]
    }

    #[test]
    fn a_recording_started_with_the_key_holds_the_kept_steps() {
        let folder = tempfile::tempdir().unwrap();
        let mut monitor =
            Monitor::new(State::new(1), None, RunContext::default(), Picture::default());
        monitor.folder = folder.path().to_owned();
        let key = |c| Msg::Key(KeyEvent::from(KeyCode::Char(c)));
        for event in run() {
            monitor.update(Msg::Engine(event));
        }
        assert!(monitor.update(key('R')).is_empty());
        assert!(monitor.state.recording, "{:?}", monitor.state.notice);
        monitor.update(Msg::Engine(Event::Paused));
        monitor.update(key('R'));
        assert!(!monitor.state.recording);
        let said = monitor.state.notice.clone().unwrap().text;
        assert!(said.starts_with("recorded: speclight replay "), "{said}");
        let mut replayed = State::new(1);
        let mut events = EventReader::open(&folder.path().join("speclight-0001.rec")).unwrap();
        events.by_ref().for_each(|(at, recorded)| apply(&mut replayed, at, recorded));
        let steps =
            |state: &State| -> Vec<Step> { state.history.steps_back_from(None).cloned().collect() };
        assert_eq!(steps(&replayed), steps(&monitor.state));
        assert_eq!(replayed.history.text(), monitor.state.history.text());
        assert_eq!(replayed.history.averages.steps, 3);
        assert_eq!(
            (replayed.motion, &replayed.prompts),
            (monitor.state.motion, &monitor.state.prompts)
        );
    }

    #[test]
    fn a_picture_is_saved_under_a_free_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("speclight-0001.svg"), "older").unwrap();
        let mut monitor = Monitor::new(State::new(1), None, RunContext::default(), Picture::Svg);
        monitor.folder = folder.path().to_owned();
        let terminal = crate::tui::theme::TerminalAbilities {
            depth: crate::tui::theme::ColorDepth::True,
            ascii: false,
            folder: None,
        };
        let themes = [Theme::load("dark", &terminal).unwrap()];
        monitor.take_picture(&themes, Rect::new(0, 0, 80, 24));
        let said = monitor.state.notice.clone().unwrap().text;
        assert!(said.contains("speclight-0002.svg"), "{said}");
        let picture = std::fs::read_to_string(folder.path().join("speclight-0002.svg")).unwrap();
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        monitor.folder = folder.path().join("no/such");
        monitor.take_picture(&themes, Rect::new(0, 0, 80, 24));
        let said = monitor.state.notice.clone().unwrap().text;
        assert!(said.starts_with("the picture can't be saved: "), "{said}");
    }
}
