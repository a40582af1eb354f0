//! State of the monitor: everything that its screen shows.

use std::sync::Arc;
use std::time::Duration;

use super::light::EvaluationInputs;
use super::{Editor, GaugeUnit, History, LightBar, Step};
use crate::engine::RunInfo;
use crate::telemetry::{FluidBound, MachineLoad, OracleSearchState, StepSettings};
use crate::theory::cost::CostCurve;

/// Part of the screen that can be focused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// Generated text, each token colored by its origin.
    Text,
    /// Token tree of the step shown.
    Tree,
    /// Entropy by generated token, in nats.
    Entropy,
    /// Accepted length by step and by depth.
    Accepted,
    /// Tokens per second and time by stage.
    Speed,
    /// Ruler of accepted tokens against the ceilings.
    Gauge,
    /// Losses from B - 1 down to the accepted length.
    Ladder,
    /// Accepted length for every smaller budget, beside the ceilings.
    Curve,
    /// Rejections and their causes.
    Misses,
    /// Reliability diagram of the drafter's probabilities.
    Calibration,
    /// Table of the most recent steps.
    Steps,
}

impl Pane {
    /// All panes, in Tab order.
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
    /// Panes that explain losses, in the order in which one key cycles through them.
    pub const LOSSES: [Pane; 4] = [Pane::Ladder, Pane::Curve, Pane::Misses, Pane::Calibration];

    /// Returns the pane's name on the screen.
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

/// Progress of the engine.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Slow operation in progress: its description, and the fraction done if known.
    Loading(String, Option<f64>),
    /// Generating steps of a prompt.
    Running,
    /// All prompts are finished.
    Finished,
}

/// Run or pause state of the engine.
///
/// A requested change shows at once; the engine's confirmation settles it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Generating step after step.
    Live,
    /// Pause requested, not yet confirmed.
    Pausing,
    /// Paused, as confirmed by the engine.
    Paused,
    /// Resume requested, not yet confirmed.
    Resuming,
}

impl RunState {
    /// Returns whether the user wants the engine paused.
    pub fn still(self) -> bool {
        matches!(self, RunState::Pausing | RunState::Paused)
    }
}

/// Layer drawn over the panes.
#[derive(Clone, Debug, PartialEq)]
pub enum Overlay {
    /// No overlay; the panes are visible.
    None,
    /// Help, with the number of lines scrolled down.
    Help(u16),
    /// Definitions of the marks, with the number of lines scrolled down.
    Marks(u16),
    /// Editor for a prompt.
    Editor(Editor),
}

/// Message of one line, shown for a few seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Text of the message.
    pub text: String,
    /// Time at which it disappears, since the program started.
    pub until: Duration,
}

/// Complete state of the monitor.
#[derive(Clone, Debug)]
pub struct State {
    /// Time since the program started, as of the last tick.
    pub now: Duration,
    /// Progress of the engine.
    pub phase: Phase,
    /// Run or pause state, including pending requests.
    pub motion: RunState,
    /// Model, device, drafters, and prompts of this run.
    pub info: Arc<RunInfo>,
    /// Settings in force, as the engine reports them.
    pub settings: Option<StepSettings>,
    /// Settings that the user requested.
    pub wished: Option<StepSettings>,
    /// Requested settings that the engine has not confirmed yet, oldest first.
    pub asked: Vec<StepSettings>,
    /// Tokens per second of plain decoding, measured on this machine.
    pub plain: Option<f64>,
    /// Load from other processes, as of the last reading.
    pub load: Option<MachineLoad>,
    /// Measured cost of verify passes, if known.
    pub cost: Option<CostCurve>,
    /// Fluid bound for every P, as last reported by the engine.
    pub fluid: Option<Arc<FluidBound>>,
    /// Interval of oracle searches, in steps; 0 disables them.
    pub look_every: usize,
    /// Index of the present prompt in `prompts`.
    pub prompt: usize,
    /// All prompts, including those typed here.
    pub prompts: Vec<String>,
    /// Steps so far, with their averages.
    pub history: History,
    /// Speed of light, as the bar shows it.
    pub light: LightBar,
    /// Unit of the gauge.
    pub unit: GaugeUnit,
    /// Pane that has the focus.
    pub focus: Pane,
    /// Fills the screen with the focused pane.
    pub zoom: bool,
    /// Layer drawn over the panes.
    pub overlay: Overlay,
    /// Number of the selected step; `None` follows the newest.
    pub selected: Option<usize>,
    /// Lines that the text is scrolled back.
    pub scroll: u16,
    /// Message in the footer.
    pub notice: Option<Notice>,
    /// Index of the theme in use.
    pub theme: usize,
    /// Number of themes to choose from.
    pub themes: usize,
}

impl State {
    /// Returns whether the newest step's tree was sampled from the drafter.
    pub fn drawn(&self) -> bool {
        self.history.newest().is_some_and(|step| step.record.settings.samples_trees())
    }

    /// Returns the fluid bound if it applies to the newest step: not to sampled trees.
    pub fn bound(&self) -> Option<&FluidBound> {
        self.fluid.as_deref().filter(|_| !self.drawn())
    }

    /// Returns the initial state, with `themes` themes to choose from.
    pub fn new(themes: usize) -> State {
        State {
            now: Duration::ZERO,
            phase: Phase::Loading("starting".to_owned(), None),
            motion: RunState::Live,
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
            light: LightBar::default(),
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

    /// Returns the step shown: the selected one, else the newest of the present text.
    pub fn step(&self) -> Option<&Step> {
        match self.selected {
            Some(number) => self.history.get(number),
            None => self
                .history
                .newest()
                .filter(|s| self.history.text().is_none_or(|t| t.number == s.text)),
        }
    }

    /// Returns the step that the paused engine should search, by its number within the prompt.
    ///
    /// That is the step shown, if it belongs to the present text and its bounds have not converged.
    /// A search that ended before its bounds agreed is extended only with `again`: another search
    /// of the same length would rarely find more.
    pub fn step_to_search(&self, again: bool) -> Option<usize> {
        let step = self
            .step()
            .filter(|_| self.motion == RunState::Paused && self.phase == Phase::Running)?;
        let present = self.history.text().is_some_and(|t| t.number == step.text);
        let more = match step.look.map(|look| look.state) {
            None | Some(OracleSearchState::Refining | OracleSearchState::BrokenOff) => true,
            Some(OracleSearchState::Ended) => again,
            Some(OracleSearchState::Converged) => false,
        };
        (present && more).then_some(step.record.step)
    }

    /// Evaluates the speed of light if it is due, or always with `now`.
    pub(super) fn evaluate_light(&mut self, now: bool) {
        if now || self.light.due(&self.history.averages, self.now) {
            let mut light = std::mem::take(&mut self.light);
            let fluid = self.bound().map_or(&[][..], |fluid| &fluid.curve);
            let newest = self.history.newest().map(|step| &step.record.settings);
            let deterministic =
                newest.is_some_and(|settings| settings.samples_trees() || settings.warp().greedy());
            let (now, plain, cost) = (self.now, self.plain, self.cost.as_ref());
            let around = EvaluationInputs { now, plain, cost, deterministic, fluid };
            light.evaluate(&self.history.averages, &around);
            self.light = light;
        }
    }

    /// Shows a message in the footer. It stays for 2.5 s plus 40 ms per byte, at most 8.5 s.
    pub fn say(&mut self, text: impl Into<String>) {
        let text = text.into();
        let until = self.now + Duration::from_millis(2500 + 40 * text.len().min(150) as u64);
        self.notice = Some(Notice { text, until });
    }
}
