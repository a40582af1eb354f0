//! The screen of `speclight attach`. Pure, as the monitor's state is: a function of the events of a
//! server.

use std::collections::VecDeque;
use std::time::Duration;

use crossterm::event::KeyCode;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::basic::BasicScreen;
use super::{Effect, Stop};
use crate::attach::{Event, ServerKind, Step, Summary, Tally, Window};
use crate::tui::theme::Theme;
use crate::tui::views;

/// Keys and their meaning, as the footer shows them.
pub const ATTACH_KEYS: [(&str, &str); 4] =
    [("b", "brackets"), ("c", "theme"), ("?", "terms"), ("q", "quit")];
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
    /// True if brackets are shown in place of estimates.
    pub brackets: bool,
    /// True if the terms are explained in place of the panes.
    pub help: bool,
    /// Engine of the server, where known.
    pub engine: Option<ServerKind>,
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
            brackets: false,
            help: false,
            engine: None,
            theme: 0,
            themes: themes.max(1),
            tally,
            unseen: 0,
        }
    }

    /// Adds the acceptance figure that the engine itself reports.
    pub fn for_engine(mut self, engine: ServerKind) -> Attached {
        self.engine = Some(engine);
        self
    }

    /// Adds a notice in the footer.
    pub fn with_notice(mut self, notice: Option<String>) -> Attached {
        self.notice = notice.or(self.notice);
        self
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
}

impl BasicScreen for Attached {
    type Event = Event;
    type Command = Stop;
    const STOPPED: &str = "reading the server stopped";

    fn tick(&mut self, now: Duration) {
        self.now = now;
    }

    fn key(&mut self, code: KeyCode) -> Option<Effect<Stop>> {
        match code {
            KeyCode::Char('b') => self.brackets = !self.brackets,
            KeyCode::Char('?') => self.help = !self.help,
            KeyCode::Esc => self.help = false,
            _ => {}
        }
        None
    }

    fn handle_event(&mut self, event: Event) -> Option<Effect<Stop>> {
        self.take(event)
    }

    fn finished(&self) -> bool {
        self.finished
    }

    fn theme(&mut self) -> (&mut usize, usize) {
        (&mut self.theme, self.themes)
    }

    fn draw(&self, themes: &[Theme], area: Rect, buffer: &mut Buffer) {
        views::draw_attached(self, &themes[self.theme.min(themes.len() - 1)], area, buffer);
    }

    fn ages(&self) -> bool {
        !self.finished
    }

    fn quit() -> Stop {
        Stop
    }
}
