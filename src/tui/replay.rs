//! Screen of a replay: the monitor's state and views, fed by a recording.
//!
//! The state goes through the same [`update`] as in a live run, at the recorded times, so that each
//! frame is the one of the live run. One line below it shows the time, and one more a caption.

use std::path::Path;
use std::time::Duration;

use crossterm::event::KeyEventKind;
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::player::{Ahead, PlayCommand, PlayPace, Played};
use super::{
    Effect, Msg, Notice, Overlay, Phase, Picture, RunState, Screen, State, Target, save_picture,
    update,
};
use crate::engine::{Command, Event, Pace, Recorded};
use crate::sanitize::sanitize_line;
use crate::telemetry::recording::{RecordingEnd, Scan};
use crate::tui::theme::{Role, Theme};
use crate::tui::views::{draw, draw_status_line};

/// Paces that the keys step through.
const PACES: [PlayPace; 7] = [
    PlayPace::Steps(1.0),
    PlayPace::Steps(2.0),
    PlayPace::Steps(4.0),
    PlayPace::Steps(8.0),
    PlayPace::Steps(16.0),
    PlayPace::Recorded,
    PlayPace::Full,
];
/// Minimum time for which a message of the replay itself is shown.
///
/// Independent of the recorded time.
const MESSAGE_TIME: Duration = Duration::from_secs(6);
/// Number of lines that the monitor's screen must keep.
const MIN_ROWS: u16 = 12;

/// Applies the content of a recording to the monitor's state, at its recorded time.
///
/// A run that failed leaves the screen as it was, with its reason in the footer. Effects have no
/// engine to go to, and are dropped.
pub fn apply(state: &mut State, at: Duration, recorded: Recorded) {
    drop(update(state, Msg::Tick(at)));
    match recorded {
        Recorded::Event(Event::Failed(why)) => {
            state.say(format!("the recorded run failed here: {why}"))
        }
        Recorded::Event(event) => drop(update(state, Msg::Engine(event))),
        Recorded::SearchEvery(steps) => state.look_every = steps,
        Recorded::Pace { pace, slow_start } => (state.pace, state.slow_start) = (pace, slow_start),
        Recorded::Caption(_) => {}
    }
}

/// Screen of a replay.
pub struct Replay {
    state: State,
    /// Name of the recording, as shown.
    name: String,
    /// Length of the recording.
    scan: Scan,
    pace: PlayPace,
    ahead: Ahead,
    /// Time since the program started, which differs from the recorded time.
    clock: Duration,
    /// Recorded time of the last event.
    at: Duration,
    caption: String,
    /// Set once a caption was shown, which reserves its line.
    captions: bool,
    ended: bool,
    /// Message of the replay itself, with the time of `clock` at which it disappears.
    message: Option<(Notice, Duration)>,
    picture: Picture,
}

impl Replay {
    /// Returns the screen over an initial state, which holds themes and keys.
    pub fn new(
        name: &str,
        scan: Scan,
        pace: PlayPace,
        state: State,
        ahead: Ahead,
        picture: Picture,
    ) -> Replay {
        Replay {
            state,
            name: sanitize_line(name),
            scan,
            pace,
            ahead,
            clock: Duration::ZERO,
            at: Duration::ZERO,
            caption: String::new(),
            captions: false,
            ended: false,
            message: None,
            picture,
        }
    }

    /// Returns the monitor's state as of the last event.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Returns the label of a command's key, or else its palette line.
    fn key(&self, id: &str) -> String {
        self.state.keys.label(id).unwrap_or_else(|| format!(":{id}"))
    }

    /// Shows a message for some seconds of this replay, not of the recording.
    fn say(&mut self, text: impl Into<String>) {
        self.state.say(text);
        self.hold();
    }

    /// Keeps the present notice for its time.
    fn hold(&mut self) {
        self.message = self.state.notice.clone().map(|notice| (notice, self.clock + MESSAGE_TIME));
    }

    fn played(&mut self, played: Played) {
        self.ahead.shown();
        match played {
            Played::Recorded(at, Recorded::Caption(text)) => {
                self.at = self.at.max(at);
                self.caption = sanitize_line(&text);
                self.captions = true;
            }
            Played::Recorded(at, recorded) => {
                self.at = self.at.max(at);
                apply(&mut self.state, self.at, recorded);
            }
            Played::Ended(end) => {
                self.ended = true;
                if self.state.phase != Phase::Finished {
                    drop(update(&mut self.state, Msg::Engine(Event::Paused)));
                }
                let (again, quit) = (self.key("again"), self.key("quit"));
                let over =
                    format!("the arrow keys select steps, {again} starts again, {quit} quits");
                self.say(match end {
                    RecordingEnd::Whole => format!("end of the recording: {over}"),
                    RecordingEnd::Cut => {
                        format!("the recording was cut here, as by a kill: {over}")
                    }
                    RecordingEnd::Damaged(line, why) => {
                        format!("the recording is damaged at line {line}: {why}; {over}")
                    }
                });
            }
            Played::Restarted => {
                let old = std::mem::replace(&mut self.state, State::new(1));
                self.state = State {
                    theme: old.theme,
                    themes: old.themes,
                    keys: old.keys,
                    presets: old.presets,
                    recalls: old.recalls,
                    focus: old.focus,
                    zoom: old.zoom,
                    unit: old.unit,
                    view: old.view,
                    tree_form: old.tree_form,
                    oracle_tree: old.oracle_tree,
                    ..State::new(1)
                };
                (self.at, self.ended, self.message) = (Duration::ZERO, false, None);
                self.caption.clear();
            }
        }
    }

    /// Carries out an effect of a key.
    ///
    /// Shows a message if a replay can't do that.
    fn carry_out(&mut self, effect: Effect, out: &mut Vec<Effect<PlayCommand>>) {
        let again = self.key("again");
        let refused = match effect {
            Effect::Leave(why) => return out.push(Effect::Leave(why)),
            Effect::Picture => return out.push(Effect::Picture),
            Effect::Record => "this is a recording already".to_owned(),
            Effect::Engine(Command::Quit) => return out.push(Effect::Engine(PlayCommand::Quit)),
            // The search that the monitor requests on its own while paused.
            Effect::Engine(Command::SearchOracle(_)) => return,
            Effect::Engine(Command::RestartPrompt) => {
                return out.push(Effect::Engine(PlayCommand::Restart));
            }
            Effect::Engine(
                Command::Pause | Command::Resume | Command::Step | Command::Prompt(_),
            ) if self.ended => {
                self.state.motion = RunState::Paused;
                format!("the recording is over: {again} starts it again")
            }
            Effect::Engine(Command::Pause) => return out.push(Effect::Engine(PlayCommand::Pause)),
            Effect::Engine(Command::Resume) => {
                return out.push(Effect::Engine(PlayCommand::Resume));
            }
            Effect::Engine(Command::Step) => return out.push(Effect::Engine(PlayCommand::Step)),
            Effect::Engine(Command::Prompt(index))
                if index == (self.state.prompt + 1) % self.state.prompts.len().max(1) =>
            {
                return out.push(Effect::Engine(PlayCommand::NextPrompt));
            }
            Effect::Engine(Command::Prompt(_)) => {
                format!("this is a recording, which goes forward only: {again} starts it again")
            }
            Effect::Write { stem, ending, text } => {
                return out.push(Effect::Write { stem, ending, text });
            }
            Effect::Engine(Command::Pace(pace)) => {
                self.pace = match pace {
                    Pace::PerSecond(steps) => PlayPace::Steps(f64::from(steps)),
                    Pace::Full => PlayPace::Full,
                };
                return out.push(Effect::Engine(PlayCommand::Pace(self.pace)));
            }
            Effect::Engine(Command::SearchEvery(_)) => {
                "this is a recording: it holds the searches that were made".to_owned()
            }
            Effect::Engine(Command::Settings(_) | Command::Text(_)) => {
                "this is a recording: settings and prompts need a model, as in the monitor"
                    .to_owned()
            }
        };
        // Resets what the key has changed for an engine that is not there.
        drop(update(&mut self.state, Msg::Engine(Event::Refused(refused))));
        self.hold();
    }

    fn pressed(&mut self, msg: Msg) -> Vec<Effect<PlayCommand>> {
        let mut out = Vec::new();
        if let Msg::Key(key) = &msg
            && self.state.overlay == Overlay::None
            && key.kind != KeyEventKind::Release
            && let Some(command @ ("slower" | "faster")) = self.state.keys.command(key)
        {
            let present = PACES.iter().position(|pace| *pace == self.pace).unwrap_or(5);
            let next = if command == "slower" {
                present.saturating_sub(1)
            } else {
                (present + 1).min(PACES.len() - 1)
            };
            self.pace = PACES[next];
            self.say(format!("pace: {}", pace_name(self.pace)));
            return vec![Effect::Engine(PlayCommand::Pace(self.pace))];
        }
        let (look_every, motion) = (self.state.look_every, self.state.motion);
        let pace = (self.state.pace, self.state.slow_start);
        let effects = update(&mut self.state, msg);
        if matches!(self.state.overlay, Overlay::Editor(_)) {
            // The run would wait for the prompt.
            (self.state.overlay, self.state.motion) = (Overlay::None, motion);
            self.state.waits_for_prompt = false;
            self.say("this is a recording: prompts need a model, as in the monitor");
            return out;
        }
        for effect in effects {
            self.carry_out(effect, &mut out);
        }
        // Those of the recorded run, which keys don't change.
        self.state.look_every = look_every;
        (self.state.pace, self.state.slow_start) = pace;
        out
    }

    /// Returns the number of lines below the monitor's screen.
    fn rows_below(&self, height: u16) -> u16 {
        (1 + u16::from(self.captions)).min(height.saturating_sub(MIN_ROWS))
    }

    /// Draws the lines below the monitor's screen.
    fn draw_below(&self, theme: &Theme, area: Rect, buffer: &mut Buffer) {
        let [mut y, bottom] = [area.top(), area.bottom()];
        if self.captions && bottom - y > 1 {
            draw_status_line(
                &[(&self.caption, Role::Notice)],
                theme,
                Rect { y, height: 1, ..area },
                buffer,
            );
            y += 1;
        }
        if y < bottom {
            let time = format!("{} of {}", minutes(self.at), minutes(self.scan.length));
            let steps = format!(
                "step {} of {}",
                self.state.history.newest().map_or(0, |s| s.number + 1),
                self.scan.steps
            );
            let pace = if self.ended { "ended".to_owned() } else { pace_name(self.pace) };
            let keys = format!("{} {} pace", self.key("slower"), self.key("faster"));
            let parts = [
                (format!("replay {}", self.name), Role::Header),
                (time, Role::Value),
                (steps, Role::Base),
                (pace, Role::Base),
                (keys, Role::Label),
            ];
            let parts: Vec<(&str, Role)> =
                parts.iter().map(|(text, role)| (text.as_str(), *role)).collect();
            draw_status_line(&parts, theme, Rect { y, height: 1, ..area }, buffer);
        }
    }
}

impl Screen for Replay {
    type Event = Played;
    type Command = PlayCommand;

    fn update(&mut self, msg: Msg<Played>) -> Vec<Effect<PlayCommand>> {
        let mut out = Vec::new();
        match msg {
            Msg::Tick(now) => self.clock = now,
            Msg::Engine(played) => self.played(played),
            Msg::EngineGone(why) => {
                if !self.ended {
                    let why =
                        why.unwrap_or_else(|| "the recording can no longer be read".to_owned());
                    out.push(Effect::Leave(Some(format!("the replay stopped: {why}"))));
                }
            }
            Msg::Key(key) => out = self.pressed(Msg::Key(key)),
            Msg::Paste(text) => out = self.pressed(Msg::Paste(text)),
            Msg::Click(target) => out = self.pressed(Msg::Click(target)),
            Msg::Wheel(direction, target) => out = self.pressed(Msg::Wheel(direction, target)),
            Msg::Written(done) => {
                drop(update(&mut self.state, Msg::Written(done)));
                self.hold();
            }
            Msg::Drawn(beyond) => drop(update(&mut self.state, Msg::Drawn(beyond))),
        }
        // Recorded time ends messages of the recording; those of the replay have their own.
        match &self.message {
            Some((_, until)) if *until <= self.clock => {
                self.state.notice = None;
                self.message = None;
            }
            Some((notice, _)) if self.state.notice.is_none() => {
                self.state.notice = Some(notice.clone())
            }
            _ => {}
        }
        out
    }

    fn render(&self, themes: &[Theme], frame: &mut Frame) -> u16 {
        let theme = &themes[self.state.theme.min(themes.len() - 1)];
        let area = frame.area();
        let below = self.rows_below(area.height);
        let above = Rect { height: area.height - below, ..area };
        let beyond = draw(&self.state, theme, above, frame.buffer_mut());
        self.draw_below(
            theme,
            Rect { y: area.y + above.height, height: below, ..area },
            frame.buffer_mut(),
        );
        beyond
    }

    fn ages(&self) -> bool {
        self.state.notice.is_some()
    }

    fn quit() -> PlayCommand {
        PlayCommand::Quit
    }

    fn target(&self, themes: &[Theme], area: Rect, x: u16, y: u16) -> Target {
        let above = Rect { height: area.height - self.rows_below(area.height), ..area };
        self.state.target(themes, above, x, y)
    }

    fn take_picture(&mut self, themes: &[Theme], area: Rect) {
        let theme = &themes[self.state.theme.min(themes.len() - 1)];
        let said = save_picture(&self.state, theme, area, self.picture, Path::new("."));
        self.say(said);
    }
}

/// Formats a pace in words.
fn pace_name(pace: PlayPace) -> String {
    match pace {
        PlayPace::Recorded => "as recorded".to_owned(),
        PlayPace::Steps(rate) => format!("{rate} steps/s"),
        PlayPace::Full => "full pace".to_owned(),
    }
}

/// Formats a time as minutes and seconds.
fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
