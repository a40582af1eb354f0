//! The loop: input, engine, time and signals become messages; effects are done; the screen is drawn.

use std::io::{BufWriter, IsTerminal, Write, stdout};
use std::mem::ManuallyDrop;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossterm::event::{Event as Input, EventStream};
use futures_util::StreamExt;
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant as Moment, sleep_until};

use super::{Effect, Guard, Msg, State, update};
use crate::engine::{Command, Event};
use crate::theme::Theme;
use crate::ui;

/// The shortest time between two frames.
const SHORTEST: Duration = Duration::from_millis(33);
/// The longest time that a change waits for its frame.
const LONGEST: Duration = Duration::from_millis(120);
/// Drawing takes at most one part in so many of the time: the display must not tax what it measures.
const SHARE: u32 = 125;
/// How often time is told, and other threads are looked after, when nothing else happens.
const TICK: Duration = Duration::from_millis(250);

/// What is shown over an engine: pure but for what it holds.
pub trait Screen {
    /// What the engine tells.
    type News;
    /// What the engine is told.
    type Order;

    /// Takes a message in; says what must be done.
    fn update(&mut self, msg: Msg<Self::News>) -> Vec<Effect<Self::Order>>;

    /// Draws it; says how many lines what can be scrolled in it goes beyond the frame.
    fn render(&self, themes: &[Theme], frame: &mut Frame) -> u16;

    /// Whether time alone changes what is shown now.
    fn ages(&self) -> bool;

    /// What ends the engine.
    fn quit() -> Self::Order;
}

impl Screen for State {
    type News = Event;
    type Order = Command;

    fn update(&mut self, msg: Msg) -> Vec<Effect> {
        update(self, msg)
    }

    fn render(&self, themes: &[Theme], frame: &mut Frame) -> u16 {
        ui::render(self, &themes[self.theme.min(themes.len() - 1)], frame)
    }

    fn ages(&self) -> bool {
        self.notice.is_some()
    }

    fn quit() -> Command {
        Command::Quit
    }
}

/// How the monitor looks.
pub struct Options {
    /// What the key for themes walks through, the first to begin with ([`Theme::all`]).
    pub themes: Vec<Theme>,
}

/// The line from the engine: what its thread calls with every event (false once nobody listens), and where they
/// arrive.
pub fn channel<N: Send + 'static>() -> (impl FnMut(N) -> bool + Send + 'static, UnboundedReceiver<N>) {
    let (sender, events) = tokio::sync::mpsc::unbounded_channel();
    (move |event| sender.send(event).is_ok(), events)
}

/// Both ends of the line to the engine.
pub struct Link<N = Event, O = Command> {
    /// Where commands go.
    pub commands: Sender<O>,
    /// Where events come from. The engine's thread holds the sender, so that the channel closes when it ends.
    pub events: UnboundedReceiver<N>,
    /// The engine's thread.
    pub thread: JoinHandle<()>,
}

/// Why the monitor ended, where nothing failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The person left.
    Asked,
    /// A signal came: its number. By custom the exit status is 128 more.
    Signal(i32),
}

/// Whether there is a terminal for the monitor.
///
/// # Errors
/// If there is none: in one line.
pub fn check_terminal() -> Result<()> {
    if !stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("the monitor needs a terminal for its screen and keys: run `speclight run` where there is none");
    }
    Ok(())
}

/// Shows the monitor until the person leaves, a signal comes or the engine fails. The terminal is restored in each
/// case, and the engine's thread is told to quit. One in `look_every` steps has its oracle tree searched, as the engine was told; 0 for
/// none.
///
/// # Errors
/// If there is no terminal, it can't be written to, or the engine failed or panicked: in one line.
pub fn run(options: Options, look_every: usize, link: Link) -> Result<Ended> {
    let state = State { look_every, ..State::new(options.themes.len()) };
    show(state, options, link)
}

/// As [`run`], any screen.
///
/// # Errors
/// As [`run`].
pub fn show<S: Screen>(screen: S, options: Options, link: Link<S::News, S::Order>) -> Result<Ended> {
    check_terminal()?;
    if options.themes.is_empty() {
        bail!("the monitor needs a theme");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the event loop can't start")?;
    let Link { commands, events, thread } = link;
    let result = runtime.block_on(turn(screen, &options.themes, &commands, events));
    // The thread may be deep in a pass; it hears of this after its step, or ends with the process.
    let _ = commands.send(S::quit());
    drop(commands);
    if thread.is_finished() {
        let _ = thread.join();
    }
    result
}

async fn turn<S: Screen>(
    mut screen: S,
    themes: &[Theme],
    commands: &Sender<S::Order>,
    mut events: UnboundedReceiver<S::News>,
) -> Result<Ended> {
    let mut signals = signals::Signals::new().context("signals can't be watched")?;
    // Colourless themes carry bold and reverse, which crossterm would wipe under NO_COLOR; what colours there are was
    // decided when the theme was made.
    crossterm::style::force_color_output(true);
    let guard = Guard::take().context("the terminal can't be switched to the monitor's screen")?;
    let out = BufWriter::with_capacity(1 << 16, stdout());
    // Never dropped: on a terminal that is gone that would write to standard error, which is gone too, and panic. The guard
    // shows the cursor.
    let terminal = Terminal::new(CrosstermBackend::new(out)).context("the terminal can't be drawn to")?;
    let mut terminal = ManuallyDrop::new(terminal);
    let mut keys = EventStream::new();
    let start = Instant::now();
    let (mut dirty, mut frame_at, mut tick_at) = (true, Moment::now(), Moment::now() + TICK);
    let mut engine_ended = false;
    loop {
        let mut changed = true;
        let msg = tokio::select! {
            biased;
            signal = signals.next() => return Ok(Ended::Signal(signal)),
            () = sleep_until(frame_at), if dirty => {
                let begun = Instant::now();
                let mut beyond = 0;
                let drawn = terminal.draw(|frame| beyond = screen.render(themes, frame));
                drawn.context("the terminal can't be drawn to")?;
                screen.update(Msg::Drawn(beyond));
                terminal.backend_mut().flush().context("the terminal can't be drawn to")?;
                frame_at = Moment::now() + (begun.elapsed() * SHARE).clamp(SHORTEST, LONGEST);
                dirty = false;
                continue;
            }
            input = keys.next() => match input {
                Some(Ok(Input::Key(key))) => {
                    // A key is answered at once, whatever the engine's pace.
                    frame_at = frame_at.min(Moment::now() + SHORTEST / 2);
                    Msg::Key(key)
                }
                Some(Ok(Input::Paste(text))) => Msg::Paste(text),
                Some(Ok(_)) => { dirty = true; continue }
                Some(Err(e)) => bail!("the terminal can't be read: {e}"),
                None => bail!("the terminal is gone"),
            },
            event = events.recv(), if !engine_ended => match event {
                Some(event) => Msg::Engine(event),
                None => { engine_ended = true; Msg::EngineGone(guard.panic()) }
            },
            () = sleep_until(tick_at) => {
                tick_at = Moment::now() + TICK;
                changed = screen.ages();
                Msg::Tick(start.elapsed())
            }
        };
        if let Some(said) = guard.panic() {
            bail!("{said}");
        }
        dirty |= changed;
        for msg in [Msg::Tick(start.elapsed()), msg] {
            for effect in screen.update(msg) {
                match effect {
                    // An engine that is gone hears nothing; its end is told by the other channel.
                    Effect::Engine(command) => drop(commands.send(command)),
                    Effect::Leave(None) => return Ok(Ended::Asked),
                    Effect::Leave(Some(why)) => bail!("{why}"),
                }
            }
        }
    }
}

#[cfg(unix)]
mod signals {
    use tokio::signal::unix::{Signal, SignalKind, signal};

    /// The signals that end the monitor.
    pub struct Signals([(i32, Signal); 3]);

    impl Signals {
        pub fn new() -> std::io::Result<Signals> {
            let watch = |kind: SignalKind| Ok::<_, std::io::Error>((kind.as_raw_value(), signal(kind)?));
            Ok(Signals([watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?, watch(SignalKind::hangup())?]))
        }

        pub async fn next(&mut self) -> i32 {
            let [(term, a), (int, b), (hup, c)] = &mut self.0;
            tokio::select! {
                _ = a.recv() => *term,
                _ = b.recv() => *int,
                _ = c.recv() => *hup,
            }
        }
    }
}

#[cfg(not(unix))]
mod signals {
    /// The signals that end the monitor.
    pub struct Signals;

    impl Signals {
        pub fn new() -> std::io::Result<Signals> {
            Ok(Signals)
        }

        pub async fn next(&mut self) -> i32 {
            match tokio::signal::ctrl_c().await {
                Ok(()) => 2,
                Err(_) => std::future::pending().await,
            }
        }
    }
}
