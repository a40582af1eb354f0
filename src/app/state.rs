//! Everything that the screen shows.

use std::sync::Arc;
use std::time::Duration;

use super::light::Surroundings;
use super::{Editor, GaugeUnit, History, Light, Step};
use crate::engine::RunInfo;
use crate::telemetry::{Fluid, LookState, MachineLoad, StepSettings};
use crate::theory::cost::Cost;

/// A part of the screen that can have the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// The text.
    Text,
    /// The tree of the step.
    Tree,
    /// Entropy by token.
    Entropy,
    /// Accepted length by step.
    Accepted,
    /// Tokens a second.
    Speed,
    /// The ceilings.
    Gauge,
    /// Where the way from B - 1 down to what was accepted was lost.
    Ladder,
    /// What every budget would have accepted, beside the ceilings.
    Curve,
    /// Refusals and their causes.
    Misses,
    /// Whether the drafter's probabilities are what they say.
    Calibration,
    /// A table of the last steps.
    Steps,
}

impl Pane {
    /// All of them, in the order of Tab.
    pub const ALL: [Pane; 11] = [
        Pane::Text,
        Pane::Tree,
        Pane::Entropy,
        Pane::Accepted,
        Pane::Speed,
        Pane::Gauge,
        Pane::Ladder,
        Pane::Curve,
        Pane::Misses,
        Pane::Calibration,
        Pane::Steps,
    ];
    /// Those that say why more was not accepted: one key walks through them.
    pub const LOSSES: [Pane; 4] = [Pane::Ladder, Pane::Curve, Pane::Misses, Pane::Calibration];

    /// Its name on the screen.
    pub fn name(self) -> &'static str {
        match self {
            Pane::Text => "text",
            Pane::Tree => "tree",
            Pane::Entropy => "entropy",
            Pane::Accepted => "accepted",
            Pane::Speed => "speed",
            Pane::Gauge => "gauge",
            Pane::Ladder => "ladder",
            Pane::Curve => "curve",
            Pane::Misses => "misses",
            Pane::Calibration => "calibration",
            Pane::Steps => "steps",
        }
    }
}

/// How far the engine is.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Something takes a while: what, and the share done where known.
    Loading(String, Option<f64>),
    /// Steps come.
    Running,
    /// All prompts are done.
    Finished,
}

/// Whether steps come by themselves. A wish shows at once, and the engine's word settles it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    /// They do.
    Live,
    /// Asked to wait.
    Pausing,
    /// They don't.
    Paused,
    /// Asked to go on.
    Resuming,
}

impl Motion {
    /// Whether the person wants it to stand still.
    pub fn still(self) -> bool {
        matches!(self, Motion::Pausing | Motion::Paused)
    }
}

/// What lies over the panes.
#[derive(Clone, Debug, PartialEq)]
pub enum Overlay {
    /// Nothing.
    None,
    /// Help, scrolled down by so many lines.
    Help(u16),
    /// The definitions of the marks, scrolled down likewise.
    Marks(u16),
    /// A prompt being written.
    Editor(Editor),
}

/// A message in one line, for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// The line.
    pub text: String,
    /// When it goes, as time since the start.
    pub until: Duration,
}

/// The whole state of the monitor.
#[derive(Clone, Debug)]
pub struct State {
    /// Time since the start, by the last tick.
    pub now: Duration,
    /// How far the engine is.
    pub phase: Phase,
    /// Whether steps come.
    pub motion: Motion,
    /// What runs.
    pub info: Arc<RunInfo>,
    /// The settings that hold, as the engine says.
    pub settings: Option<StepSettings>,
    /// The settings that the person asked for.
    pub wished: Option<StepSettings>,
    /// Wishes that the engine has not answered yet, the oldest first.
    pub asked: Vec<StepSettings>,
    /// Tokens a second with nothing drafted, measured.
    pub plain: Option<f64>,
    /// Other work on this machine, as of the last reading.
    pub load: Option<MachineLoad>,
    /// What verify passes cost, where it is known.
    pub cost: Option<Cost>,
    /// The fluid bound at length, as it was told last.
    pub fluid: Option<Arc<Fluid>>,
    /// Which steps are looked at off the timed path: each one whose number is a multiple of this; 0 for none.
    pub look_every: usize,
    /// Index of the present prompt in the list.
    pub prompt: usize,
    /// All prompts, those written here included.
    pub prompts: Vec<String>,
    /// The steps so far.
    pub history: History,
    /// Speed of light, as the bar shows it.
    pub light: Light,
    /// Unit of the gauge.
    pub unit: GaugeUnit,
    /// The pane that has the keys.
    pub focus: Pane,
    /// Whether that pane fills the screen.
    pub zoom: bool,
    /// What lies over the panes.
    pub overlay: Overlay,
    /// The number of the step that is looked at; none for the newest.
    pub selected: Option<usize>,
    /// Lines scrolled back in the text.
    pub scroll: u16,
    /// A line for the person.
    pub notice: Option<Notice>,
    /// Which of the themes is used.
    pub theme: usize,
    /// How many themes there are.
    pub themes: usize,
}

impl State {
    /// Whether the tree of the newest step was drawn.
    pub fn drawn(&self) -> bool {
        self.history.newest().is_some_and(|step| step.record.settings.drawn())
    }

    /// The fluid bound at length, where it holds for the newest step: not for a tree that was drawn.
    pub fn bound(&self) -> Option<&Fluid> {
        self.fluid.as_deref().filter(|_| !self.drawn())
    }

    /// The state at the start, with so many themes to choose from.
    pub fn new(themes: usize) -> State {
        State {
            now: Duration::ZERO,
            phase: Phase::Loading("starting".to_owned(), None),
            motion: Motion::Live,
            info: Arc::default(),
            settings: None,
            wished: None,
            asked: Vec::new(),
            plain: None,
            load: None,
            cost: None,
            fluid: None,
            look_every: 0,
            prompt: 0,
            prompts: Vec::new(),
            history: History::default(),
            light: Light::default(),
            unit: GaugeUnit::default(),
            focus: Pane::Text,
            zoom: false,
            overlay: Overlay::None,
            selected: None,
            scroll: 0,
            notice: None,
            theme: 0,
            themes: themes.max(1),
        }
    }

    /// The step that is looked at: the selected one, else the newest of the present text.
    pub fn step(&self) -> Option<&Step> {
        match self.selected {
            Some(number) => self.history.get(number),
            None => self.history.newest().filter(|s| self.history.text().is_none_or(|t| t.number == s.text)),
        }
    }

    /// The step that the engine is to look at while it waits: the one that is shown, by its number within the prompt, where it is
    /// of the present text and more may be found out about it. Where a look ended before its bounds agreed, another as long would
    /// seldom be worth it: only the person asks for that (`again`).
    pub fn to_look_at(&self, again: bool) -> Option<usize> {
        let step = self.step().filter(|_| self.motion == Motion::Paused && self.phase == Phase::Running)?;
        let present = self.history.text().is_some_and(|t| t.number == step.text);
        let more = match step.look.map(|look| look.state) {
            None | Some(LookState::Refining | LookState::BrokenOff) => true,
            Some(LookState::Ended) => again,
            Some(LookState::Converged) => false,
        };
        (present && more).then_some(step.record.step)
    }

    /// Evaluates the speed of light where it is due; with `now` in any case.
    pub(super) fn evaluate_light(&mut self, now: bool) {
        if now || self.light.due(&self.history.averages, self.now) {
            let mut light = std::mem::take(&mut self.light);
            let fluid = self.bound().map_or(&[][..], |fluid| &fluid.curve);
            let newest = self.history.newest().map(|step| &step.record.settings);
            let deterministic = newest.is_some_and(|settings| settings.drawn() || settings.warp().greedy());
            let (now, plain, cost) = (self.now, self.plain, self.cost.as_ref());
            let around = Surroundings { now, plain, cost, deterministic, fluid };
            light.evaluate(&self.history.averages, &around);
            self.light = light;
        }
    }

    /// Shows a line for a few seconds, longer where there is more to read.
    pub fn say(&mut self, text: impl Into<String>) {
        let text = text.into();
        let until = self.now + Duration::from_millis(2500 + 40 * text.len().min(150) as u64);
        self.notice = Some(Notice { text, until });
    }
}
