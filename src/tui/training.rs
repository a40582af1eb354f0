//! State of the `speclight train` screen. Pure, as that of the monitor.

use std::path::PathBuf;
use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::Effect;
use super::basic::BasicScreen;
use crate::train::{DraftPerformance, HeldOutMetrics, TrainEvent, TrainReport};
use crate::tui::theme::Theme;
use crate::tui::views;

/// Keys of the screen with their footer labels.
pub const TRAINING_KEYS: [(&str, &str); 2] = [("c", "theme"), ("q", "save checkpoint and quit")];

/// Command that makes the training thread save a checkpoint and stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop;

/// Stage of a training run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// Loading the target model.
    Loading,
    /// Generating training texts: tokens so far, tokens wanted, tokens per second.
    Writing(usize, usize, f64),
    /// Training the drafting head.
    Training,
    /// All steps are done.
    Finished,
}

/// Measurement on the held-out texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// Number of steps trained before it.
    pub step: usize,
    /// Loss and acceptance by depth.
    pub figures: HeldOutMetrics,
    /// Result of drafting with the head, if it was measured.
    pub drafted: Option<DraftPerformance>,
}

/// Complete state of the training screen.
#[derive(Clone, Debug)]
pub struct Training {
    /// Name of the target model.
    pub model: String,
    /// Path of the head file to write.
    pub out: PathBuf,
    /// Stage that the run is in.
    pub stage: Stage,
    /// Number of texts and of their tokens in the training set.
    pub corpus: (usize, usize),
    /// Report of the last step.
    pub last: Option<TrainReport>,
    /// Loss of each step of this run, with the step's number.
    pub losses: Vec<(usize, f64)>,
    /// Measurements of this run, oldest first.
    pub measured: Vec<Measurement>,
    /// Time at which the first step of this run ended, and its number.
    first: Option<(Duration, usize)>,
    /// Time since the program started, as of the last tick.
    pub now: Duration,
    /// Index of the theme in use.
    pub theme: usize,
    themes: usize,
}

impl Training {
    /// Returns the initial state, with `themes` themes to choose from.
    pub fn new(model: String, out: PathBuf, themes: usize) -> Training {
        Training {
            model,
            out,
            stage: Stage::Loading,
            corpus: (0, 0),
            last: None,
            losses: Vec::new(),
            measured: Vec::new(),
            first: None,
            now: Duration::ZERO,
            theme: 0,
            themes: themes.max(1),
        }
    }

    /// Returns the remaining seconds at the pace so far; `None` before there is one.
    pub fn left(&self) -> Option<f64> {
        match (self.stage, self.first, &self.last) {
            (Stage::Writing(tokens, of, rate), ..) if rate > 0.0 => {
                Some(of.saturating_sub(tokens) as f64 / rate)
            }
            (Stage::Training, Some((when, first)), Some(last)) if last.step > first => {
                let each = self.now.saturating_sub(when).as_secs_f64() / (last.step - first) as f64;
                Some(each * last.steps.saturating_sub(last.step) as f64)
            }
            _ => None,
        }
    }

    /// Returns the best measurement by greedy tokens per step, then by a chain's accepted length.
    pub fn best(&self) -> Option<&Measurement> {
        let worth = |m: &&Measurement| {
            (m.drafted.map_or(0.0, |d| d.greedy_tokens_per_step), m.figures.accepted)
        };
        self.measured
            .iter()
            .max_by(|a, b| worth(a).partial_cmp(&worth(b)).unwrap_or(std::cmp::Ordering::Equal))
    }
}

impl BasicScreen for Training {
    type Event = TrainEvent;
    type Command = Stop;
    const STOPPED: &str = "training stopped";

    fn tick(&mut self, now: Duration) {
        self.now = now;
    }

    fn handle_event(&mut self, event: TrainEvent) -> Option<Effect<Stop>> {
        match event {
            TrainEvent::Writing { tokens, of, rate } => {
                self.stage = Stage::Writing(tokens, of, rate)
            }
            TrainEvent::Training { texts, tokens } => {
                (self.stage, self.corpus) = (Stage::Training, (texts, tokens))
            }
            TrainEvent::Step(report, drafted) => {
                self.first.get_or_insert((self.now, report.step));
                self.losses.push((report.step, report.loss));
                if let Some(figures) = report.held_out.clone() {
                    self.measured.push(Measurement {
                        step: report.step,
                        figures,
                        drafted: drafted.map(|drafted| *drafted),
                    });
                }
                self.last = Some(*report);
            }
            TrainEvent::Finished => self.stage = Stage::Finished,
            TrainEvent::Failed(why) => return Some(Effect::Leave(Some(why))),
        }
        None
    }

    fn finished(&self) -> bool {
        self.stage == Stage::Finished
    }

    fn theme(&mut self) -> (&mut usize, usize) {
        (&mut self.theme, self.themes)
    }

    fn draw(&self, themes: &[Theme], area: Rect, buffer: &mut Buffer) {
        views::draw_training(self, &themes[self.theme.min(themes.len() - 1)], area, buffer);
    }

    fn ages(&self) -> bool {
        self.stage != Stage::Finished
    }

    fn quit() -> Stop {
        Stop
    }
}
