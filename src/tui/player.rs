//! Player of a recording: a thread that takes the engine's place and sends its events again.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::engine::{Event, EventReader, Recorded};
use crate::telemetry::recording::{RecordingEnd, RecordingError};

/// Maximum time between two events at the recorded pace. Longer waits are cut to it.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Number of events that may wait for the screen before the player does.
const MAX_AHEAD: usize = 256;
/// Time to wait for the screen.
const BREATH: Duration = Duration::from_millis(2);

/// Speed of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PlayPace {
    /// As recorded, with long waits cut short.
    Recorded,
    /// Number of steps per second.
    Steps(f64),
    /// As fast as the screen takes it.
    Full,
}

impl PlayPace {
    /// Returns the wait between two events, recorded at `before` and `at`.
    pub fn wait(self, before: Duration, at: Duration, next: &Recorded) -> Duration {
        match self {
            PlayPace::Recorded => at.saturating_sub(before).min(MAX_WAIT),
            PlayPace::Steps(rate) if matches!(next, Recorded::Event(Event::Step(_))) => {
                Duration::try_from_secs_f64(1.0 / rate).unwrap_or(MAX_WAIT)
            }
            PlayPace::Steps(_) | PlayPace::Full => Duration::ZERO,
        }
    }
}

/// Message from the player to the screen.
#[derive(Clone, Debug, PartialEq)]
pub enum Played {
    /// Content of the recording, and the time at which it happened.
    Recorded(Duration, Recorded),
    /// End of the recording, and how complete it is.
    Ended(RecordingEnd),
    /// Recording starts again from its first event.
    Restarted,
}

/// Request to the player.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PlayCommand {
    /// Stops before the next event.
    Pause,
    /// Continues after a pause; while the recorded run waits, skips the wait.
    Resume,
    /// Plays one step while paused.
    Step,
    /// Plays to the start of the next prompt at full pace.
    NextPrompt,
    /// Changes the pace from the next event on.
    Pace(PlayPace),
    /// Starts over from the first event.
    Restart,
    /// Ends the thread of the player.
    Quit,
}

/// Number of events sent and not yet shown.
///
/// The screen's channel has no bound of its own, and a recording can be larger than memory.
#[derive(Clone, Debug, Default)]
pub struct Ahead(Arc<AtomicUsize>);

impl Ahead {
    /// Counts a message as sent.
    fn sent(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a message as shown.
    pub fn shown(&self) {
        let _ =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    }

    fn full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= MAX_AHEAD
    }
}

/// Opens the recording at its start, for the first pass and for each restart.
pub type Source = Box<dyn Fn() -> Result<EventReader<Box<dyn Read + Send>>, RecordingError> + Send>;

/// Starts the player on a thread of its own.
///
/// Events up to the step numbered `at`, from 0 in the recording, are sent at full pace. `sink`
/// returns false once the receiver is gone.
///
/// # Errors
/// If the recording can't be read, or a thread can't be started.
pub fn play(
    source: Source,
    pace: PlayPace,
    at: usize,
    ahead: Ahead,
    sink: impl FnMut(Played) -> bool + Send + 'static,
) -> Result<(Sender<PlayCommand>, JoinHandle<()>), RecordingError> {
    let (commands, orders) = mpsc::channel();
    let events = source()?;
    let player = Player {
        source,
        events,
        next: None,
        orders,
        sink,
        ahead,
        pace,
        paused: false,
        skip: if at > 0 { Skip::Steps(at) } else { Skip::Nothing },
        before: Duration::ZERO,
        due: Instant::now(),
    };
    let thread = thread::Builder::new().name("player".into()).spawn(move || drop(player.run()))?;
    Ok((commands, thread))
}

/// Events that are played at full pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skip {
    /// No events are skipped.
    Nothing,
    /// Events up to this number of steps.
    Steps(usize),
    /// Events before the next prompt.
    Prompt,
    /// Events up to the end of the recorded pause.
    Pause,
}

struct Player<F> {
    source: Source,
    events: EventReader<Box<dyn Read + Send>>,
    next: Option<(Duration, Recorded)>,
    orders: Receiver<PlayCommand>,
    sink: F,
    ahead: Ahead,
    pace: PlayPace,
    paused: bool,
    skip: Skip,
    /// Recorded time of the last event.
    before: Duration,
    /// Time at which the next event is due at the present pace.
    due: Instant,
}

/// End of the thread: the screen is gone, or the user quits.
struct Gone;

impl<F: FnMut(Played) -> bool> Player<F> {
    fn run(mut self) -> Result<(), Gone> {
        loop {
            if self.next.is_none() {
                self.next = self.events.next();
                let Some((at, event)) = &self.next else {
                    self.over()?;
                    continue;
                };
                if self.skip == Skip::Nothing {
                    self.due += self.pace.wait(self.before, *at, event);
                }
            }
            if let Some(order) = self.order()? {
                self.obey(order)?;
            } else {
                self.emit()?;
            }
        }
    }

    /// Returns the next request, or nothing once the next event is due.
    fn order(&mut self) -> Result<Option<PlayCommand>, Gone> {
        if self.paused && self.skip == Skip::Nothing {
            return self.orders.recv().map(Some).map_err(|_| Gone);
        }
        loop {
            let left = self.due.saturating_duration_since(Instant::now());
            let left = if self.ahead.full() { left.max(BREATH) } else { left };
            match self.orders.recv_timeout(left) {
                Ok(order) => return Ok(Some(order)),
                Err(RecvTimeoutError::Disconnected) => return Err(Gone),
                Err(RecvTimeoutError::Timeout) if self.ahead.full() => {}
                Err(RecvTimeoutError::Timeout) => {
                    // An event that is late does not make those after it early.
                    self.due = self.due.max(Instant::now().checked_sub(BREATH).unwrap_or(self.due));
                    return Ok(None);
                }
            }
        }
    }

    fn obey(&mut self, order: PlayCommand) -> Result<(), Gone> {
        match order {
            PlayCommand::Pause => {
                self.paused = true;
                self.tell_now(Event::Paused)
            }
            PlayCommand::Resume if self.paused => {
                (self.paused, self.due) = (false, Instant::now());
                self.tell_now(Event::Resumed)
            }
            PlayCommand::Resume => {
                (self.skip, self.due) = (Skip::Pause, Instant::now());
                Ok(())
            }
            PlayCommand::Step => {
                self.paused = true;
                self.step()
            }
            PlayCommand::NextPrompt => {
                // The present event may be the start of a prompt that was not shown yet.
                (self.skip, self.due) = (Skip::Prompt, Instant::now());
                Ok(())
            }
            PlayCommand::Pace(pace) => {
                (self.pace, self.due) = (pace, Instant::now());
                Ok(())
            }
            PlayCommand::Restart => self.restart(),
            PlayCommand::Quit => Err(Gone),
        }
    }

    fn restart(&mut self) -> Result<(), Gone> {
        // A file that was there a moment ago and is gone now ends the replay.
        self.events = (self.source)().map_err(|_| Gone)?;
        (self.next, self.before, self.due) = (None, Duration::ZERO, Instant::now());
        (self.paused, self.skip) = (false, Skip::Nothing);
        self.send(Played::Restarted)
    }

    /// Sends the next event.
    fn emit(&mut self) -> Result<(), Gone> {
        let Some((at, recorded)) = self.next.take() else { return Ok(()) };
        self.before = at;
        if let Recorded::Event(event) = &recorded {
            self.skip = match (self.skip, event) {
                (Skip::Steps(1), Event::Step(_)) => Skip::Nothing,
                (Skip::Steps(left), Event::Step(_)) => Skip::Steps(left - 1),
                (Skip::Prompt, Event::PromptStarted { .. })
                | (Skip::Pause, Event::Resumed | Event::Step(_)) => Skip::Nothing,
                (skip, _) => skip,
            };
            // While the user pauses, pauses of the recorded run mean nothing.
            if self.paused && matches!(event, Event::Paused | Event::Resumed) {
                return Ok(());
            }
        }
        self.send(Played::Recorded(at, recorded))
    }

    /// Plays one step and the events that belong to it.
    fn step(&mut self) -> Result<(), Gone> {
        let mut stepped = false;
        loop {
            if self.next.is_none() {
                self.next = self.events.next();
            }
            match &self.next {
                None => return Ok(()),
                Some((_, Recorded::Event(Event::Step(_) | Event::PromptStarted { .. })))
                    if stepped =>
                {
                    self.due = Instant::now();
                    return Ok(());
                }
                Some((_, recorded)) => {
                    stepped |= matches!(recorded, Recorded::Event(Event::Step(_)))
                }
            }
            self.emit()?;
        }
    }

    /// Reports the end and waits for a request that still means something.
    fn over(&mut self) -> Result<(), Gone> {
        let end = self.events.end().cloned().unwrap_or(RecordingEnd::Whole);
        (self.skip, self.paused) = (Skip::Nothing, false);
        self.send(Played::Ended(end))?;
        loop {
            match self.orders.recv().map_err(|_| Gone)? {
                PlayCommand::Restart => return self.restart(),
                PlayCommand::Quit => return Err(Gone),
                PlayCommand::Pace(pace) => self.pace = pace,
                PlayCommand::Pause
                | PlayCommand::Resume
                | PlayCommand::Step
                | PlayCommand::NextPrompt => {}
            }
        }
    }

    fn tell_now(&mut self, event: Event) -> Result<(), Gone> {
        self.send(Played::Recorded(self.before, Recorded::Event(event)))
    }

    fn send(&mut self, played: Played) -> Result<(), Gone> {
        self.ahead.sent();
        if (self.sink)(played) { Ok(()) } else { Err(Gone) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::telemetry::recording::{Entry, LIVE_LEVEL, Writer};
    use crate::telemetry::testing::{chain, record};

    /// Returns a recording of two texts with three steps each, one second apart.
    fn recording(end: bool) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let mut writer = Writer::create(&path, LIVE_LEVEL).unwrap();
        let mut at = Duration::ZERO;
        for index in 0..2 {
            let (id, prompt) = (index.to_string(), "p".to_owned());
            let begin = Entry::PromptStarted { index, id, prompt, tokens: 1, prefill_seconds: 0.0 };
            writer.write(at, &begin).unwrap();
            for step in 0..3 {
                at += Duration::from_secs(1);
                let record = crate::telemetry::StepRecord { step, ..record(chain(&[0.5]), &[], 2) };
                writer.write(at, &Entry::Step(Arc::new(record))).unwrap();
            }
            if index == 0 {
                writer.write(at, &Entry::Paused).unwrap();
                writer.write(at + Duration::from_secs(3600), &Entry::Resumed).unwrap();
                at += Duration::from_secs(3600);
            }
        }
        let part = folder.path().join("r.part");
        if end {
            std::fs::read(writer.finish().unwrap()).unwrap()
        } else {
            // As after a kill.
            let bytes = std::fs::read(part).unwrap();
            drop(writer);
            bytes
        }
    }

    fn started(pace: PlayPace, at: usize) -> (Sender<PlayCommand>, Receiver<Played>) {
        let bytes = recording(true);
        let source: Source = Box::new(move || {
            EventReader::new(Box::new(std::io::Cursor::new(bytes.clone())) as Box<dyn Read + Send>)
        });
        let (sent, played) = mpsc::channel();
        let sink = move |message| sent.send(message).is_ok();
        let (commands, _) = play(source, pace, at, Ahead::default(), sink).unwrap();
        (commands, played)
    }

    /// Returns a letter for each message up to `last`.
    fn letters(played: &Receiver<Played>, last: char) -> String {
        let mut all = String::new();
        while !all.ends_with(last) {
            all.push(match played.recv().unwrap() {
                Played::Recorded(_, Recorded::Event(Event::Step(_))) => 's',
                Played::Recorded(_, Recorded::Event(Event::PromptStarted { .. })) => 'p',
                Played::Recorded(_, Recorded::Event(Event::Paused)) => '(',
                Played::Recorded(_, Recorded::Event(Event::Resumed)) => ')',
                Played::Recorded(..) => '?',
                Played::Ended(RecordingEnd::Whole) => '.',
                Played::Ended(_) => '!',
                Played::Restarted => 'r',
            });
        }
        all
    }

    #[test]
    fn full_pace_plays_all_events_in_order_and_restart_plays_them_again() {
        let (commands, played) = started(PlayPace::Full, 0);
        assert_eq!(letters(&played, '.'), "psss()psss.");
        commands.send(PlayCommand::Step).unwrap();
        commands.send(PlayCommand::Restart).unwrap();
        assert_eq!(letters(&played, '.'), "rpsss()psss.");
    }

    #[test]
    fn a_paused_player_steps_and_skips_to_the_next_prompt() {
        // The first event is due at once, and the next one never.
        let (commands, played) = started(PlayPace::Steps(1e-9), 0);
        assert_eq!(letters(&played, 'p'), "p");
        commands.send(PlayCommand::Pause).unwrap();
        assert_eq!(letters(&played, '('), "(");
        commands.send(PlayCommand::Step).unwrap();
        assert_eq!(letters(&played, 's'), "s");
        commands.send(PlayCommand::Step).unwrap();
        commands.send(PlayCommand::NextPrompt).unwrap();
        assert_eq!(letters(&played, 'p'), "ssp");
        commands.send(PlayCommand::Resume).unwrap();
        commands.send(PlayCommand::Pace(PlayPace::Full)).unwrap();
        assert_eq!(letters(&played, '.'), ")sss.");
    }

    #[test]
    fn steps_before_the_start_are_played_at_once() {
        let (commands, played) = started(PlayPace::Steps(1e-9), 4);
        assert_eq!(letters(&played, 'p'), "p");
        assert_eq!(letters(&played, 'p'), "sss()p");
        assert_eq!(letters(&played, 's'), "s");
        commands.send(PlayCommand::Quit).unwrap();
        assert!(played.recv().is_err());
    }

    #[test]
    fn paces_tell_the_time_between_events() {
        let step = Recorded::Event(Event::Step(Arc::new(record(chain(&[]), &[], 2))));
        let other = Recorded::Event(Event::Paused);
        let [one, two, late] = [1, 2, 3600].map(Duration::from_secs);
        assert_eq!(PlayPace::Recorded.wait(one, two, &other), one);
        assert_eq!(PlayPace::Recorded.wait(one, late, &step), MAX_WAIT);
        assert_eq!(PlayPace::Recorded.wait(two, one, &step), Duration::ZERO);
        assert_eq!(PlayPace::Steps(4.0).wait(one, late, &step), Duration::from_millis(250));
        assert_eq!(PlayPace::Steps(4.0).wait(one, late, &other), Duration::ZERO);
        assert_eq!(PlayPace::Full.wait(one, late, &step), Duration::ZERO);
    }

    #[test]
    fn a_recording_without_its_end_is_reported_as_cut() {
        let bytes = recording(false);
        let mut events = EventReader::new(&bytes[..]).unwrap();
        let count = events.by_ref().count();
        assert_eq!((count, events.end()), (10, Some(&RecordingEnd::Cut)));
    }
}
