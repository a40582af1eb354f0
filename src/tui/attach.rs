//! The screen of `speclight attach`. Pure, as the monitor's state is: a function of the events of a
//! server.

use std::collections::VecDeque;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::Frame;

use super::{Effect, Msg, Screen, Stop};
use crate::attach::{Event, Step, Summary, Tally, Window};
use crate::tui::theme::Theme;
use crate::tui::views;

/// Keys and their meaning, as the footer shows them.
pub const ATTACH_KEYS: [(&str, &str); 2] = [("c", "theme"), ("q", "stop and leave")];
/// Steps that the pane of steps keeps.
const KEPT_STEPS: usize = 512;
/// Readings that the pane of readings keeps.
const KEPT_WINDOWS: usize = 512;
/// Steps between two times that cheap means are computed again.
const FRESH: usize = 8;

/// State of the screen over a server.
#[derive(Clone, Debug)]
pub struct Attached {
    /// Engine, model and address in one line.
    pub server: String,
    /// Requests that a probe sends, in one line; `None` where nothing is sent.
    pub plan: Option<String>,
    /// Requests of the plan.
    pub requests: usize,
    /// Figures over all that was seen, as of the last text or reading.
    pub summary: Summary,
    /// Most recent steps, oldest first, at most `KEPT_STEPS`.
    pub steps: VecDeque<Step>,
    /// Most recent readings, oldest first, at most `KEPT_WINDOWS`.
    pub windows: VecDeque<Window>,
    /// Most recent notice, shown in the footer.
    pub notice: Option<String>,
    /// True if all that was planned is done.
    pub finished: bool,
    /// Time since the start, by the last tick.
    pub now: Duration,
    /// Index of the theme in use.
    pub theme: usize,
    themes: usize,
    tally: Tally,
    unseen: usize,
}

impl Attached {
    /// Screen before the first event.
    pub fn new(
        server: String,
        plan: Option<String>,
        requests: usize,
        tally: Tally,
        themes: usize,
    ) -> Attached {
        Attached {
            server,
            plan,
            requests,
            summary: tally.summary(),
            steps: VecDeque::new(),
            windows: VecDeque::new(),
            notice: None,
            finished: false,
            now: Duration::ZERO,
            theme: 0,
            themes: themes.max(1),
            tally,
            unseen: 0,
        }
    }

    fn take(&mut self, event: Event) -> Option<Effect<Stop>> {
        self.tally.take(&event);
        let mut fresh = false;
        match event {
            Event::Step(step) => {
                if self.steps.len() == KEPT_STEPS {
                    self.steps.pop_front();
                }
                self.steps.push_back(step);
                self.unseen += 1;
                // Without distributions a summary is cheap; with them their intervals are made once
                // a text.
                fresh = self.unseen >= FRESH
                    && self.summary.estimates.is_none()
                    && self.summary.reference.is_none();
            }
            Event::Interval(window) => {
                if self.windows.len() == KEPT_WINDOWS {
                    self.windows.pop_front();
                }
                self.windows.push_back(*window);
            }
            Event::Window(_) | Event::TextEnded { .. } => fresh = true,
            Event::Notice(notice) => self.notice = Some(notice),
            Event::Finished => (self.finished, fresh) = (true, true),
            Event::Failed(why) => return Some(Effect::Leave(Some(why))),
            Event::TextStarted { .. } | Event::Scored(_) | Event::Budget(_) | Event::Progress => {}
        }
        if fresh {
            (self.summary, self.unseen) = (self.tally.summary(), 0);
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

impl Screen for Attached {
    type News = Event;
    type Order = Stop;

    fn update(&mut self, msg: Msg<Event>) -> Vec<Effect<Stop>> {
        let effect = match msg {
            Msg::Tick(now) => {
                self.now = now;
                None
            }
            Msg::Key(key) if key.kind != KeyEventKind::Release => self.pressed(key),
            Msg::Engine(event) => self.take(event),
            Msg::EngineGone(None) if self.finished => None,
            Msg::EngineGone(why) => {
                let why = why
                    .map_or_else(|| "it gave no reason".to_owned(), |why| why.replace('\n', " "));
                Some(Effect::Leave(Some(format!("reading the server stopped: {why}"))))
            }
            Msg::Key(_)
            | Msg::Drawn(_)
            | Msg::Paste(_)
            | Msg::Click(_)
            | Msg::Wheel(..)
            | Msg::Written(_) => None,
        };
        effect.into_iter().collect()
    }

    fn render(&self, themes: &[Theme], frame: &mut Frame) -> u16 {
        let area = frame.area();
        views::draw_attached(
            self,
            &themes[self.theme.min(themes.len() - 1)],
            area,
            frame.buffer_mut(),
        );
        0
    }

    fn ages(&self) -> bool {
        !self.finished
    }

    fn quit() -> Stop {
        Stop
    }
}
