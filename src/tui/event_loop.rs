//! Event loop: turns input, engine events, time, and signals into messages, and draws.

use std::io::{self, BufWriter, IsTerminal, Write, stdout};
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossterm::event::{
    Event as Input, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton,
    MouseEvent, MouseEventKind,
};
use futures_util::StreamExt;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Position, Rect};
use ratatui::{Frame, Terminal};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant as Moment, sleep_until};

use super::farewell::farewell;
use super::new_file::write_new;
use super::pixels::Pixels;
use super::{Direction, Effect, Mouse, Msg, State, Target, TerminalGuard, update};
use crate::engine::{Command, Event};
use crate::signals::ScreenSignal;
use crate::tui::theme::Theme;
use crate::tui::views;

/// Minimum time between two frames.
const MIN_FRAME_INTERVAL: Duration = Duration::from_millis(33);
/// Maximum delay between a change and its frame.
const MAX_FRAME_DELAY: Duration = Duration::from_millis(120);
/// Maximum number of engine events that wait for the screen.
///
/// Steps of large trees have tens of kilobytes each; frames are at most [`MAX_FRAME_DELAY`] apart.
const QUEUED_EVENTS: usize = 256;
/// Inverse of the fraction of time that drawing may take. The display must not slow down what it
/// measures.
const DRAW_TIME_DIVISOR: u32 = 125;
/// Interval of ticks, and of checks for panics of other threads, when nothing else happens.
const TICK: Duration = Duration::from_millis(250);

/// Screen over an engine, as a pure state machine.
pub trait Screen {
    /// Event type of the engine.
    type Event;
    /// Command type of the engine.
    type Command;

    /// Applies a message; returns the effects to carry out.
    fn update(&mut self, msg: Msg<Self::Event>) -> Vec<Effect<Self::Command>>;

    /// Draws the screen; returns the number of lines that can be scrolled beyond the frame.
    fn render(&self, themes: &[Theme], frame: &mut Frame) -> u16;

    /// Returns whether the passing of time alone changes the picture.
    fn ages(&self) -> bool;

    /// Saves a picture of the screen at this size, and says so in the state.
    fn take_picture(&mut self, _themes: &[Theme], _area: Rect) {}

    /// Returns the command that ends the engine.
    fn quit() -> Self::Command;

    /// Returns the part of a screen of this size at a cell, for the mouse.
    fn target(&self, _themes: &[Theme], _area: Rect, _x: u16, _y: u16) -> Target {
        Target::Nothing
    }

    /// Returns the summary to print after the terminal is restored.
    fn farewell(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Screen for State {
    type Event = Event;
    type Command = Command;

    fn update(&mut self, msg: Msg) -> Vec<Effect> {
        update(self, msg)
    }

    fn render(&self, themes: &[Theme], frame: &mut Frame) -> u16 {
        views::render(self, &themes[self.theme.min(themes.len() - 1)], frame)
    }

    fn ages(&self) -> bool {
        self.notice.is_some()
    }

    fn quit() -> Command {
        Command::Quit
    }

    fn target(&self, themes: &[Theme], area: Rect, x: u16, y: u16) -> Target {
        views::target(self, &themes[self.theme.min(themes.len() - 1)], area, x, y)
    }

    fn farewell(&self) -> Vec<String> {
        farewell(self)
    }
}

/// Display options of a screen.
pub struct ScreenOptions {
    /// Themes that the theme key cycles through, the initial one first ([`Theme::all`]).
    pub themes: Vec<Theme>,
    /// Use of the mouse.
    pub mouse: Mouse,
    /// Pictures in pixels, where the terminal takes them; the screen's state has them, too.
    pub pixels: Option<Arc<Pixels>>,
}

/// Creates the channel for engine events: the sender's callback and the receiver.
///
/// The engine's thread calls the callback with every event; it returns `false` once the receiver is
/// gone. While 256 events wait for the screen, it blocks: an engine that is faster
/// than the screen, or a terminal that stops reading, would fill the memory otherwise.
pub fn channel<N: Send + 'static>() -> (impl FnMut(N) -> bool + Send + 'static, Receiver<N>) {
    let (sender, events) = tokio::sync::mpsc::channel(QUEUED_EVENTS);
    (move |event| sender.blocking_send(event).is_ok(), events)
}

/// Connection to an engine's thread.
pub struct EngineLink<N = Event, O = Command> {
    /// Sender of commands to the engine.
    pub commands: Sender<O>,
    /// Receiver of engine events. The engine's thread holds the sender, so the channel closes when
    /// it ends.
    pub events: Receiver<N>,
    /// Handle of the engine's thread.
    pub thread: JoinHandle<()>,
}

/// End of a screen without an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Reason of the end.
    pub ended: ExitReason,
    /// Summary of the session, to print now that the terminal is restored.
    pub summary: Vec<String>,
}

/// Reason why a screen ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// The user asked to quit.
    Asked,
    /// A signal arrived; holds its number. By convention the exit status is 128 plus that number.
    Signal(i32),
}

/// Checks that standard input and output are a terminal.
///
/// # Errors
/// If either is not, with a message of one line.
pub fn check_terminal() -> Result<()> {
    if !stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!(
            "the screen and its keys need a terminal: use `speclight run`, or `speclight export` for recordings"
        );
    }
    if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        bail!(
            "the screen needs a terminal that can move its cursor, and TERM is dumb: use `speclight run`, or `speclight export` for recordings"
        );
    }
    Ok(())
}

/// Runs the monitor until the user quits, a signal arrives, or the engine fails.
///
/// The terminal is restored in each case, and the engine's thread gets the command to quit.
/// `state` is the initial state; it must agree with the options that the engine was started with.
///
/// # Errors
/// If there is no terminal, it can't be written to, or the engine failed or panicked, with a
/// message of one line.
pub fn run(options: ScreenOptions, state: State, link: EngineLink) -> Result<Exit> {
    show(state, options, link)
}

/// Runs any screen in the same way as [`run`].
///
/// # Errors
/// Those of [`run`].
pub fn show<S: Screen>(
    screen: S,
    options: ScreenOptions,
    link: EngineLink<S::Event, S::Command>,
) -> Result<Exit> {
    check_terminal()?;
    if options.themes.is_empty() {
        bail!("the monitor needs a theme");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the event loop can't start")?;
    let EngineLink { commands, events, thread } = link;
    let result = runtime.block_on(turn(screen, &options, &commands, events));
    // The thread may be in the middle of a pass: it reads this after its step, or ends with the
    // process.
    let _ = commands.send(S::quit());
    drop(commands);
    if thread.is_finished() {
        let _ = thread.join();
    }
    result
}

async fn turn<S: Screen>(
    mut screen: S,
    options: &ScreenOptions,
    commands: &Sender<S::Command>,
    mut events: Receiver<S::Event>,
) -> Result<Exit> {
    let exit = |ended: ExitReason, screen: &S| Ok(Exit { ended, summary: screen.farewell() });
    let mut signals = signals::Signals::new().context("signals can't be watched")?;
    // Themes without color use bold and reverse, which crossterm would drop under NO_COLOR. Colors
    // were already reduced to what the terminal shows when the theme was loaded.
    crossterm::style::force_color_output(true);
    let guard = TerminalGuard::take(options.mouse)
        .context("the terminal can't be switched to the monitor's screen")?;
    let out = BufWriter::with_capacity(1 << 16, stdout());
    // Never dropped: on a terminal that is gone, dropping would write to standard error, which is
    // gone too, and panic. The guard shows the cursor instead.
    let terminal =
        Terminal::new(CrosstermBackend::new(out)).context("the terminal can't be drawn to")?;
    let mut terminal = ManuallyDrop::new(terminal);
    let mut keys = EventStream::new();
    let start = Instant::now();
    let (mut dirty, mut frame_at, mut tick_at) = (true, Moment::now(), Moment::now() + TICK);
    let mut engine_ended = false;
    loop {
        let mut changed = true;
        let msg = tokio::select! {
            biased;
            signal = signals.next() => match signal {
                ScreenSignal::End(signal) => return exit(ExitReason::Signal(signal), &screen),
                signal => {
                    if signal == ScreenSignal::Stop {
                        guard.release();
                        signals::stop();
                    }
                    guard.retake().context("the terminal can't be switched to the monitor's screen")?;
                    // `Terminal::clear` asks the terminal for its cursor, whose answer would be
                    // read as keys.
                    let size = terminal.size().context("the terminal has no size")?;
                    terminal.resize(Rect::from((Position::ORIGIN, size))).context("the terminal can't be drawn to")?;
                    options.pixels.iter().for_each(|pixels| pixels.forget());
                    (dirty, frame_at) = (true, Moment::now());
                    continue;
                }
            },
            () = sleep_until(frame_at), if dirty => {
                let begun = Instant::now();
                let mut beyond = 0;
                options.pixels.iter().for_each(|pixels| pixels.begin(cell_size()));
                let drawn = terminal.draw(|frame| beyond = screen.render(&options.themes, frame));
                drawn.context("the terminal can't be drawn to")?;
                screen.update(Msg::Drawn(beyond));
                let again = match &options.pixels {
                    Some(pixels) => show_pixels(pixels, &mut terminal),
                    None => Ok(false),
                };
                let again = again.context("the terminal can't be drawn to")?;
                Write::flush(terminal.backend_mut()).context("the terminal can't be drawn to")?;
                frame_at = Moment::now() + (begun.elapsed() * DRAW_TIME_DIVISOR).clamp(MIN_FRAME_INTERVAL, MAX_FRAME_DELAY);
                dirty = again;
                continue;
            }
            input = keys.next() => match input {
                // A raw terminal leaves job control to the program.
                Some(Ok(Input::Key(key))) if is_suspend(key) => {
                    signals::suspend();
                    continue;
                }
                Some(Ok(Input::Key(key))) => {
                    // Keys are answered at once, whatever the engine's pace.
                    frame_at = frame_at.min(Moment::now() + MIN_FRAME_INTERVAL / 2);
                    Msg::Key(key)
                }
                Some(Ok(Input::Paste(text))) => Msg::Paste(text),
                Some(Ok(Input::Mouse(mouse))) => match mouse_message(mouse, terminal.size().ok(), &screen, &options.themes) {
                    Some(msg) => {
                        frame_at = frame_at.min(Moment::now() + MIN_FRAME_INTERVAL / 2);
                        msg
                    }
                    None => continue,
                },
                Some(Ok(_)) => {
                    // A new size: ratatui draws all cells again.
                    options.pixels.iter().for_each(|pixels| pixels.forget());
                    dirty = true;
                    continue
                }
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
        let mut waiting = vec![msg, Msg::Tick(start.elapsed())];
        while let Some(msg) = waiting.pop() {
            for effect in screen.update(msg) {
                match effect {
                    // A send fails only if the engine is gone, which the event channel reports.
                    Effect::Engine(command) => drop(commands.send(command)),
                    Effect::Leave(None) => return exit(ExitReason::Asked, &screen),
                    Effect::Leave(Some(why)) => bail!("{why}"),
                    Effect::Write { stem, ending, text } => {
                        waiting.push(Msg::Written(write_new(Path::new("."), stem, ending, &text)))
                    }
                    Effect::Picture => {
                        let area =
                            terminal.size().map(|size| Rect::new(0, 0, size.width, size.height));
                        screen.take_picture(&options.themes, area.unwrap_or_default());
                    }
                    // Carried out by the screen that records.
                    Effect::Record => {}
                }
            }
        }
    }
}

/// Returns the width and height of a cell in pixels, if the terminal says.
fn cell_size() -> Option<(u16, u16)> {
    let size = crossterm::terminal::window_size().ok()?;
    Some((size.width.checked_div(size.columns)?, size.height.checked_div(size.rows)?))
}

/// Shows or removes the picture of the last frame; returns true if all cells must be drawn again.
fn show_pixels<B: ratatui::backend::Backend<Error = io::Error> + Write>(
    pixels: &Pixels,
    terminal: &mut Terminal<B>,
) -> io::Result<bool> {
    let update = pixels.finish();
    for ((x, y), text) in update.writes {
        let out = terminal.backend_mut();
        crossterm::queue!(out, crossterm::cursor::MoveTo(x, y))?;
        out.write_all(text.as_bytes())?;
    }
    if update.redraw {
        let size = terminal.size()?;
        terminal.resize(Rect::from((Position::ORIGIN, size)))?;
    }
    Ok(update.redraw)
}

/// Returns true for Ctrl-Z.
fn is_suspend(key: KeyEvent) -> bool {
    key.code == KeyCode::Char('z')
        && key.modifiers == KeyModifiers::CONTROL
        && key.kind == KeyEventKind::Press
}

/// Returns the message for a mouse event.
///
/// `None` for events without a meaning, such as motion.
fn mouse_message<S: Screen>(
    mouse: MouseEvent,
    size: Option<ratatui::layout::Size>,
    screen: &S,
    themes: &[Theme],
) -> Option<Msg<S::Event>> {
    let area = Rect::from((ratatui::layout::Position::ORIGIN, size?));
    let target = || screen.target(themes, area, mouse.column, mouse.row);
    match mouse.kind {
        MouseEventKind::Down(MouseButton::Left) => Some(Msg::Click(target())),
        MouseEventKind::ScrollUp => Some(Msg::Wheel(Direction::Back, target())),
        MouseEventKind::ScrollDown => Some(Msg::Wheel(Direction::Forward, target())),
        _ => None,
    }
}

#[cfg(unix)]
mod signals {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use crate::signals::{self, ScreenSignal, ScreenSignals};
    pub(super) use crate::signals::{stop, suspend};

    /// Signals that concern the screen, watched until they are dropped.
    pub struct Signals {
        arrived: UnboundedReceiver<ScreenSignal>,
        _watch: ScreenSignals,
    }

    impl Signals {
        pub fn new() -> std::io::Result<Signals> {
            let (sender, arrived) = unbounded_channel();
            let watch = signals::watch_screen(move |signal| {
                let _ = sender.send(signal);
            })?;
            Ok(Signals { arrived, _watch: watch })
        }

        pub async fn next(&mut self) -> ScreenSignal {
            match self.arrived.recv().await {
                Some(signal) => signal,
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(not(unix))]
mod signals {
    use crate::signals::ScreenSignal;

    /// Stand-in where only Ctrl-C can be watched.
    pub struct Signals;

    impl Signals {
        pub fn new() -> std::io::Result<Signals> {
            Ok(Signals)
        }

        pub async fn next(&mut self) -> ScreenSignal {
            match tokio::signal::ctrl_c().await {
                Ok(()) => ScreenSignal::End(2),
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Has no effect without job control.
    pub fn stop() {}

    /// Has no effect without job control.
    pub fn suspend() {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_engine_that_is_faster_than_the_screen_waits_for_it() {
        let (mut sink, mut events) = channel::<usize>();
        let engine = std::thread::spawn(move || (0..10_000).take_while(|&i| sink(i)).count());
        for expected in 0..5000 {
            assert!(events.len() <= QUEUED_EVENTS, "{} events wait", events.len());
            assert_eq!(events.blocking_recv(), Some(expected));
        }
        // The engine ends once the receiver is dropped.
        drop(events);
        let sent = engine.join().unwrap();
        assert!((5000..=5000 + QUEUED_EVENTS).contains(&sent), "{sent}");
    }
}
