//! State of the monitor: everything that its screen shows.

use std::sync::Arc;
use std::time::Duration;

use super::light::EvaluationInputs;
use super::pixels::Pixels;
use super::runs::{RunScore, Runs};
use super::{
    GaugeUnit, History, Keymap, LightBar, LineInput, LineRecalls, Preset, Query, Recall, Recalling,
    Step,
};
use crate::draft::DrafterKind;
use crate::engine::{Pace, RunInfo};
use crate::telemetry::{
    Advice, AdviceStep, FluidBound, MachineLoad, MeasuredSpeeds, OracleSearchState, StepSettings,
    predicted_gains,
};
use crate::theory::cost::CostCurve;

/// Notice shown once the engine has finished.
pub(super) const ALL_DONE: &str = "all prompts are done: the arrow keys select steps, q quits";

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
    /// Missed token of the step shown, with the best tokens of target and drafter.
    Miss,
    /// Misses per token of each kind, and over time.
    Rates,
    /// Predicted gains of other settings.
    Advice,
    /// Reliability diagram of the drafter's probabilities.
    Calibration,
    /// Table of the most recent steps.
    Steps,
    /// Text against the same text under other settings.
    Race,
    /// Scoreboard of the runs of this session.
    Runs,
}

impl Pane {
    /// All panes, in Tab order.
    pub const ALL: [Pane; 16] = [
        Pane::Text,
        Pane::Tree,
        Pane::Entropy,
        Pane::Accepted,
        Pane::Speed,
        Pane::Gauge,
        Pane::Ladder,
        Pane::Curve,
        Pane::Misses,
        Pane::Miss,
        Pane::Rates,
        Pane::Advice,
        Pane::Calibration,
        Pane::Steps,
        Pane::Race,
        Pane::Runs,
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
            Pane::Miss => "this miss",
            Pane::Rates => "base rates",
            Pane::Advice => "what would help",
            Pane::Calibration => "calibration",
            Pane::Steps => "steps",
            Pane::Race => "race",
            Pane::Runs => "runs",
        }
    }
}

/// Arrangement of panes, selected by a number key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Text, tree, and the most important figures.
    #[default]
    Watch,
    /// Token tree and its miss.
    Tree,
    /// Ladder, budget curve, and predicted gains.
    Losses,
    /// Speed, acceptance, and entropy.
    Speed,
    /// Misses: of the step shown, by cause, and per token of each kind.
    Misses,
    /// Text against the same text under other settings.
    Race,
    /// Scoreboard of the runs of this session.
    Runs,
}

impl View {
    /// All views, in the order of their keys from 1.
    pub const ALL: [View; 7] =
        [View::Watch, View::Tree, View::Losses, View::Speed, View::Misses, View::Race, View::Runs];

    /// Returns the view's name on the screen.
    pub fn name(self) -> &'static str {
        match self {
            View::Watch => "watch",
            View::Tree => "tree",
            View::Losses => "losses",
            View::Speed => "speed",
            View::Misses => "misses",
            View::Race => "race",
            View::Runs => "runs",
        }
    }
}

/// Form in which a token tree is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TreeForm {
    /// Row per depth; the width of a node is its path probability.
    #[default]
    Icicle,
    /// Left to right, with lines weighted by p.
    Graph,
    /// Row per node, with p, q, and ranks.
    Table,
}

impl TreeForm {
    /// Returns the next form in the order of the key.
    pub fn next(self) -> TreeForm {
        match self {
            TreeForm::Icicle => TreeForm::Graph,
            TreeForm::Graph => TreeForm::Table,
            TreeForm::Table => TreeForm::Icicle,
        }
    }

    /// Returns the form's name on the screen.
    pub fn name(self) -> &'static str {
        match self {
            TreeForm::Icicle => "icicle",
            TreeForm::Graph => "graph",
            TreeForm::Table => "table",
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
    Editor(Recalling),
    /// Command palette, search, or step number at the bottom.
    Line(LineInput),
}

/// Message of one line, shown for a few seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Text of the message.
    pub text: String,
    /// Time at which it disappears, since the program started.
    pub until: Duration,
}

/// Position of the walk through the steps with the largest losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossRank {
    /// Rank of the selected step, 0 for the largest loss.
    pub(super) rank: usize,
    /// Number of the step that had this rank.
    pub(super) step: usize,
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
    /// Predicted gains of other settings.
    pub advice: Advice,
    /// Unit of the gauge.
    pub unit: GaugeUnit,
    /// Arrangement of the panes.
    pub view: View,
    /// Form of the tree pane.
    pub tree_form: TreeForm,
    /// Shows the oracle's tree in place of the drafter's.
    pub oracle_tree: bool,
    /// Pane that has the focus.
    pub focus: Pane,
    /// Fills the screen with the focused pane.
    pub zoom: bool,
    /// Layer drawn over the panes.
    pub overlay: Overlay,
    /// Pictures in pixels, where the terminal takes them.
    pub pixels: Option<Arc<Pixels>>,
    /// Number of the selected step; `None` follows the newest.
    pub selected: Option<usize>,
    /// Lines that the text is scrolled back.
    pub scroll: u16,
    /// Requested pace of the engine.
    pub pace: Pace,
    /// Number of texts begun during the slow start; `None` after it.
    pub slow_start: Option<usize>,
    /// Search that the repeat keys continue.
    pub query: Option<Query>,
    /// Position of the walk through the largest losses.
    pub loss_rank: Option<LossRank>,
    /// Row of the cursor in the list of missed tokens.
    pub miss_cursor: usize,
    /// Past runs and the cursor in their pane.
    pub runs: Runs,
    /// Drafter in use before drafting was switched off.
    pub last_drafter: Option<DrafterKind>,
    /// Set while the engine waits for the prompt editor to close.
    pub waits_for_prompt: bool,
    /// Prompts sent from the editor.
    pub sent_prompts: Recall,
    /// Lines entered at the bottom.
    pub recalls: LineRecalls,
    /// Key bindings of all commands.
    pub keys: Arc<Keymap>,
    /// Presets that the palette offers.
    pub presets: Arc<Vec<Preset>>,
    /// Set while the run is recorded.
    pub recording: bool,
    /// Message in the footer.
    pub notice: Option<Notice>,
    /// Index of the theme in use.
    pub theme: usize,
    /// Number of themes to choose from.
    pub themes: usize,
}

impl State {
    /// Returns whether the newest step's tree was sampled from the drafter.
    pub fn samples_trees(&self) -> bool {
        self.history.newest().is_some_and(|step| step.record.settings.samples_trees())
    }

    /// Returns the fluid bound if it applies to the newest step: not to sampled trees.
    pub fn bound(&self) -> Option<&FluidBound> {
        self.fluid.as_deref().filter(|_| !self.samples_trees())
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
            advice: Advice::default(),
            unit: GaugeUnit::default(),
            view: View::default(),
            tree_form: TreeForm::default(),
            oracle_tree: false,
            focus: Pane::Text,
            zoom: false,
            overlay: Overlay::None,
            pixels: None,
            selected: None,
            scroll: 0,
            pace: Pace::Full,
            slow_start: None,
            query: None,
            loss_rank: None,
            miss_cursor: 0,
            runs: Runs::default(),
            last_drafter: None,
            waits_for_prompt: false,
            sent_prompts: Recall::default(),
            recalls: LineRecalls::default(),
            keys: Arc::default(),
            presets: Arc::default(),
            recording: false,
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

    /// Returns the figures of the steps at the present settings; `None` before the first.
    pub fn present_run(&self) -> Option<RunScore> {
        let newest = self.history.newest()?;
        let first =
            newest.number + 1 - self.history.averages.all_steps().clamp(1, newest.number + 1);
        let reached = newest.record.reached.as_ref();
        let number = self.runs.next_number();
        RunScore::new(
            number,
            &newest.record.settings,
            (first, newest.number),
            &self.history.averages,
            reached,
            &self.light,
        )
    }

    /// Returns all runs, the present one last.
    pub fn all_runs(&self) -> Vec<RunScore> {
        self.runs.past().iter().cloned().chain(self.present_run()).collect()
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
        let more = match step.search_result.map(|result| result.state) {
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
            let deterministic = newest
                .is_some_and(|settings| settings.samples_trees() || settings.sampling().greedy());
            let (now, plain, cost) = (self.now, self.plain, self.cost.as_ref());
            let around = EvaluationInputs { now, plain, cost, deterministic, fluid };
            light.evaluate(&self.history.averages, &around);
            self.light = light;
            self.predict_gains();
        }
    }

    /// Predicts the gains of other settings from the steps at the present ones.
    fn predict_gains(&mut self) {
        let steps = self.history.steps_back_from(None).take(self.history.averages.all_steps());
        let steps = steps.map(|step| AdviceStep {
            record: &step.record,
            search_result: step.search_result.as_ref().filter(|_| step.searched()),
        });
        let speeds = MeasuredSpeeds {
            reached: self.light.reached,
            plain: self.plain,
            light: self.light.known,
        };
        let gains = predicted_gains(steps, self.cost.as_ref(), speeds);
        self.advice.update(gains);
    }

    /// Shows a message in the footer. It stays for 2.5 s plus 40 ms per byte, at most 8.5 s.
    pub fn say(&mut self, text: impl Into<String>) {
        let text = text.into();
        let until = self.now + Duration::from_millis(2500 + 40 * text.len().min(150) as u64);
        self.notice = Some(Notice { text, until });
    }
}
