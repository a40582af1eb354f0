//! The screen of `speclight train`. Pure, as the monitor's state is.

use std::path::PathBuf;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::Frame;

use super::{Effect, Msg, Screen};
use crate::theme::Theme;
use crate::train::{Drafted, Figures, News, Report};
use crate::ui;

/// Keys and what they do, as the footer shows them.
pub const TRAINING_KEYS: [(&str, &str); 2] = [("c", "theme"), ("q", "keep a checkpoint and leave")];

/// What is told to the thread that trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    /// The model is loaded.
    Loading,
    /// Texts are written: how many tokens there are, are to be, and come in a second.
    Writing(usize, usize, f64),
    /// The head learns.
    Training,
    /// All steps are made.
    Finished,
}

/// What was measured on the texts held out.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// After so many steps.
    pub step: usize,
    /// Loss and acceptance by depth.
    pub figures: Figures,
    /// What the head is worth when it drafts.
    pub drafted: Option<Drafted>,
}

/// All that the screen shows.
#[derive(Clone, Debug)]
pub struct Training {
    /// Name of the target.
    pub model: String,
    /// Where the head goes.
    pub out: PathBuf,
    /// How far it is.
    pub stage: Stage,
    /// Texts and tokens that are trained on.
    pub corpus: (usize, usize),
    /// The last step.
    pub last: Option<Report>,
    /// The loss of each step of this run, with the number of the step.
    pub losses: Vec<(usize, f64)>,
    /// The measurements of this run.
    pub measured: Vec<Measured>,
    /// When the first step of this run ended, and its number.
    first: Option<(Duration, usize)>,
    /// Time since the start, by the last tick.
    pub now: Duration,
    /// Which of the themes is used.
    pub theme: usize,
    themes: usize,
}

impl Training {
    /// Before anything is loaded, with so many themes.
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

    /// Seconds left by the pace so far, once there is one.
    pub fn left(&self) -> Option<f64> {
        match (self.stage, self.first, &self.last) {
            (Stage::Writing(tokens, of, rate), ..) if rate > 0.0 => Some(of.saturating_sub(tokens) as f64 / rate),
            (Stage::Training, Some((when, first)), Some(last)) if last.step > first => {
                let each = self.now.saturating_sub(when).as_secs_f64() / (last.step - first) as f64;
                Some(each * last.steps.saturating_sub(last.step) as f64)
            }
            _ => None,
        }
    }

    /// The best measurement so far by tokens a step, else by what a chain accepts.
    pub fn best(&self) -> Option<&Measured> {
        let worth = |m: &&Measured| (m.drafted.map_or(0.0, |d| d.greedy_tokens_per_step), m.figures.accepted);
        self.measured.iter().max_by(|a, b| worth(a).partial_cmp(&worth(b)).unwrap_or(std::cmp::Ordering::Equal))
    }

    fn told(&mut self, news: News) -> Option<Effect<Stop>> {
        match news {
            News::Writing { tokens, of, rate } => self.stage = Stage::Writing(tokens, of, rate),
            News::Training { texts, tokens } => (self.stage, self.corpus) = (Stage::Training, (texts, tokens)),
            News::Step(report, drafted) => {
                self.first.get_or_insert((self.now, report.step));
                self.losses.push((report.step, report.loss));
                if let Some(figures) = report.held_out.clone() {
                    self.measured.push(Measured { step: report.step, figures, drafted });
                }
                self.last = Some(*report);
            }
            News::Finished => self.stage = Stage::Finished,
            News::Failed(why) => return Some(Effect::Leave(Some(why))),
        }
        None
    }

    fn pressed(&mut self, key: KeyEvent) -> Option<Effect<Stop>> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => Some(Effect::Leave(None)),
            KeyCode::Char('q') => Some(Effect::Leave(None)),
            KeyCode::Char('c') => {
                self.theme = (self.theme + 1) % self.themes;
                None
            }
            _ => None,
        }
    }
}

impl Screen for Training {
    type News = News;
    type Order = Stop;

    fn update(&mut self, msg: Msg<News>) -> Vec<Effect<Stop>> {
        let effect = match msg {
            Msg::Tick(now) => {
                self.now = now;
                None
            }
            Msg::Key(key) if key.kind != KeyEventKind::Release => self.pressed(key),
            Msg::Engine(news) => self.told(news),
            // The end of a thread that had its last word.
            Msg::EngineGone(None) if self.stage == Stage::Finished => None,
            Msg::EngineGone(why) => {
                let why = why.map_or_else(|| "it gave no reason".to_owned(), |why| why.replace('\n', " "));
                Some(Effect::Leave(Some(format!("training stopped: {why}"))))
            }
            Msg::Key(_) | Msg::Drawn(_) | Msg::Paste(_) => None,
        };
        effect.into_iter().collect()
    }

    fn render(&self, themes: &[Theme], frame: &mut Frame) -> u16 {
        let area = frame.area();
        ui::draw_training(self, &themes[self.theme.min(themes.len() - 1)], area, frame.buffer_mut());
        0
    }

    fn ages(&self) -> bool {
        self.stage != Stage::Finished
    }

    fn quit() -> Stop {
        Stop
    }
}
