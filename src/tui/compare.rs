//! State of the `speclight compare` screen: two lanes over the same prompts, and their differences.
//! Pure, as that of the monitor.

use std::sync::Arc;
use std::time::Duration;

use crossterm::event::KeyCode;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::basic::BasicScreen;
use super::{Effect, Notice, Phase, RunState};
use crate::engine::RunInfo;
use crate::study::compare::Outcomes;
use crate::study::compare::{
    CompareCommand, CompareEvent, ComparedStep, Differences, Pairing, SettingResults, couples,
    differences, generate_same_text, outcomes,
};
use crate::telemetry::{StepRecord, StepSettings, Summary};
use crate::tui::theme::Theme;
use crate::tui::views;

/// Keys of the screen with their footer labels.
pub const COMPARE_KEYS: [(&str, &str); 6] = [
    ("space", "pause"),
    (".", "step"),
    ("n", "next prompt"),
    ("p", "previous prompt"),
    ("c", "theme"),
    ("q", "quit"),
];
/// Steps, of both lanes together, between two updates of the means.
const REFRESH_STEPS: usize = 4;

/// Lane of the screen: one setting and its results.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Name given to the setting.
    pub name: String,
    /// Description of the setting in words.
    pub words: String,
    /// Settings that its steps run under.
    pub settings: StepSettings,
    /// Texts generated so far, with their steps.
    pub side: SettingResults,
    /// Last step in the present text.
    pub last: Option<Arc<StepRecord>>,
    /// Means over all its steps, at most a few steps old.
    pub means: Summary,
}

impl Lane {
    /// Returns a lane without steps.
    pub fn new(name: String, words: String, settings: StepSettings) -> Lane {
        Lane {
            name,
            words,
            settings,
            side: SettingResults::default(),
            last: None,
            means: Summary::default(),
        }
    }
}

/// Complete state of the comparison screen.
#[derive(Clone, Debug)]
pub struct Compare {
    /// Time since the program started, as of the last tick.
    pub now: Duration,
    /// Progress of the engines.
    pub phase: Phase,
    /// Run or pause state, including pending requests.
    pub motion: RunState,
    /// Model, device, and prompts of this run.
    pub info: Arc<RunInfo>,
    /// Index of the present prompt.
    pub prompt: usize,
    /// The two lanes, first setting on the left.
    pub lanes: [Lane; 2],
    /// Unit of pairing: positions if both texts must be equal, else whole prompts.
    pub pairing: Pairing,
    /// Paired differences so far, at most a few steps old.
    pub differences: Option<Differences>,
    /// Outcomes at the common positions so far, at most a few steps old.
    pub outcomes: Outcomes,
    /// Tokens per second of plain decoding, measured on this machine.
    pub plain: Option<f64>,
    /// Message in the footer.
    pub notice: Option<Notice>,
    /// Index of the theme in use.
    pub theme: usize,
    themes: usize,
    /// Steps since the means were last updated.
    stale: usize,
}

impl Compare {
    /// Returns the initial state, with `themes` themes to choose from.
    pub fn new(lanes: [Lane; 2], themes: usize) -> Compare {
        let same = generate_same_text(&lanes[0].settings, &lanes[1].settings);
        Compare {
            now: Duration::ZERO,
            phase: Phase::Loading("starting".to_owned(), None),
            motion: RunState::Live,
            info: Arc::default(),
            prompt: 0,
            lanes,
            pairing: if same { Pairing::Positions } else { Pairing::Prompts },
            differences: None,
            outcomes: Outcomes::default(),
            plain: None,
            notice: None,
            theme: 0,
            themes: themes.max(1),
            stale: 0,
        }
    }

    fn say(&mut self, text: String) {
        let until = self.now + Duration::from_millis(2500 + 40 * text.len().min(150) as u64);
        self.notice = Some(Notice { text, until });
    }

    fn step(&mut self, lane: usize, made: &ComparedStep) {
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        lane.side.add(made);
        lane.last = Some(Arc::clone(&made.record));
        if let Some(notice) = &made.record.notice {
            let line = format!("{}: {notice}", lane.name);
            self.say(line);
        }
        self.stale += 1;
        if self.stale >= REFRESH_STEPS || made.ended || self.motion.still() {
            self.refresh();
        }
    }

    /// Recomputes means, differences, and outcomes.
    fn refresh(&mut self) {
        self.stale = 0;
        let plain = self.plain;
        self.lanes.iter_mut().for_each(|lane| lane.means = lane.side.tally.summary(plain));
        let [a, b] = &self.lanes;
        let (paired, differing) = couples(&a.side.courses, &b.side.courses, self.pairing);
        self.differences = differences(&paired, self.pairing);
        self.outcomes = outcomes(&paired);
        if let Some(prompt) = differing.last() {
            let line = format!(
                "prompt {}: excluded, its texts differ although they should be equal",
                prompt + 1
            );
            self.say(line);
        }
    }
}

impl BasicScreen for Compare {
    type Event = CompareEvent;
    type Command = CompareCommand;
    const STOPPED: &str = "the engine stopped";

    fn tick(&mut self, now: Duration) {
        self.now = now;
        self.notice = self.notice.take().filter(|notice| notice.until > now);
    }

    fn key(&mut self, code: KeyCode) -> Option<Effect<CompareCommand>> {
        self.notice = None;
        let still = self.motion.still();
        let command = match code {
            KeyCode::Char(' ') if still => CompareCommand::Resume,
            KeyCode::Char('.') if still => CompareCommand::Step,
            // The first press pauses.
            KeyCode::Char(' ' | '.') => CompareCommand::Pause,
            KeyCode::Char('n') => CompareCommand::Turn(1),
            KeyCode::Char('p') => CompareCommand::Turn(-1),
            _ => return None,
        };
        match command {
            CompareCommand::Resume => self.motion = RunState::Resuming,
            CompareCommand::Pause => self.motion = RunState::Pausing,
            _ => {}
        }
        Some(Effect::Engine(command))
    }

    fn handle_event(&mut self, event: CompareEvent) -> Option<Effect<CompareCommand>> {
        match event {
            CompareEvent::Loading(what, done) => self.phase = Phase::Loading(what, done),
            CompareEvent::Ready(info) => (self.info, self.phase) = (info, Phase::Running),
            CompareEvent::Began(prompt) => {
                (self.prompt, self.phase) = (prompt, Phase::Running);
                for lane in &mut self.lanes {
                    lane.side.begin(prompt);
                    lane.last = None;
                }
            }
            CompareEvent::Step(lane, made) => self.step(lane, &made),
            CompareEvent::Plain(plain) => {
                self.plain = Some(plain).filter(|plain| plain.is_finite() && *plain > 0.0);
                self.refresh();
            }
            CompareEvent::Paused => self.motion = RunState::Paused,
            CompareEvent::Resumed => self.motion = RunState::Live,
            CompareEvent::Refused(why) => self.say(why),
            CompareEvent::Failed(why) => return Some(Effect::Leave(Some(why))),
            CompareEvent::Done => {
                self.phase = Phase::Finished;
                self.refresh();
                self.say(
                    "all prompts are done: n restarts at the first, p at the previous one, q quits"
                        .into(),
                );
            }
        }
        None
    }

    fn theme(&mut self) -> (&mut usize, usize) {
        (&mut self.theme, self.themes)
    }

    fn draw(&self, themes: &[Theme], area: Rect, buffer: &mut Buffer) {
        views::draw_compare(self, &themes[self.theme.min(themes.len() - 1)], area, buffer);
    }

    fn ages(&self) -> bool {
        self.notice.is_some()
    }

    fn quit() -> CompareCommand {
        CompareCommand::Quit
    }
}
