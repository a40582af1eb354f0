//! Takes over the terminal and restores it on every way out.

use std::io::{self, Stdout, Write, stdout};
use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
#[cfg(unix)]
use std::time::Duration;

use crossterm::event::{
    DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture,
};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute};

use crate::guarded::is_catching_panic;
use crate::signals::before_end;

/// Use of the mouse by a screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mouse {
    /// Clicks and the wheel go to the screen; the terminal selects text with Shift held.
    #[default]
    Captured,
    /// The mouse is left to the terminal.
    Free,
}

/// Set while the terminal is taken over.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Message of the first panic on a thread other than the screen's.
static PANICKED: Mutex<Option<String>> = Mutex::new(None);

/// Guard that holds the terminal: raw mode, alternate screen, bracketed paste, hidden cursor.
///
/// Dropping it restores the terminal. So does a panic of the thread that created it, before the
/// panic's message is printed. A panic of another thread is stored for [`TerminalGuard::panic`] instead,
/// because a message printed to the alternate screen would be lost.
pub struct TerminalGuard {
    mouse: Mouse,
}

impl TerminalGuard {
    /// Takes over the terminal and installs a panic hook.
    ///
    /// # Errors
    /// If the terminal can't be switched; it is then left as it was.
    pub fn take(mouse: Mouse) -> io::Result<TerminalGuard> {
        hook(thread::current().id());
        before_end(restore_at_once);
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let guard = TerminalGuard { mouse };
        guard.switch()?;
        Ok(guard)
    }

    fn switch(&self) -> io::Result<()> {
        execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, cursor::Hide)?;
        if self.mouse == Mouse::Captured {
            execute!(stdout(), EnableMouseCapture)?;
        }
        Ok(())
    }

    /// Gives the terminal back until [`TerminalGuard::retake`], as before the process stops.
    pub(super) fn release(&self) {
        restore();
    }

    /// Sets up the terminal again after the process was stopped.
    ///
    /// Its present modes do not matter.
    ///
    /// # Errors
    /// If the terminal can't be switched.
    pub(super) fn retake(&self) -> io::Result<()> {
        TAKEN.store(true, Ordering::SeqCst);
        // The library takes a terminal that it has made raw for raw.
        disable_raw_mode()?;
        enable_raw_mode()?;
        self.switch()
    }

    /// Returns the message of the first panic on another thread since the last call.
    pub fn panic(&self) -> Option<String> {
        PANICKED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        restore();
    }
}

/// Restores the terminal, once. Errors are ignored: a terminal that is gone needs no restoring.
fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut out: Stdout = stdout();
        let _ = execute!(
            out,
            DisableMouseCapture,
            DisableBracketedPaste,
            LeaveAlternateScreen,
            cursor::Show
        );
        let _ = disable_raw_mode();
        let _ = out.flush();
    }
}

/// Restores the terminal from another thread than the screen's, which may be blocked on it.
///
/// The modes are restored first, and output that the terminal has not taken is discarded. The
/// sequences are then written past the buffer of standard output, whose lock may be held, and are
/// given up if the terminal doesn't take them in time.
fn restore_at_once() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = disable_raw_mode();
    #[cfg(unix)]
    {
        use rustix::termios::{Action, QueueSelector, tcflow, tcflush};
        let _ = tcflush(rustix::stdio::stdout(), QueueSelector::OFlush);
        let _ = tcflow(rustix::stdio::stdout(), Action::OOn);
        let (done, ended) = std::sync::mpsc::channel();
        let write = move || {
            // Mouse, paste, alternate screen, and cursor.
            let mut rest = &b"\x1b[?1006l\x1b[?1015l\x1b[?1003l\x1b[?1002l\x1b[?1000l\
                              \x1b[?2004l\x1b[?1049l\x1b[?25h"[..];
            while let Ok(written @ 1..) = rustix::io::write(rustix::stdio::stdout(), rest) {
                rest = &rest[written..];
            }
            let _ = done.send(());
        };
        if thread::Builder::new().spawn(write).is_ok() {
            let _ = ended.recv_timeout(Duration::from_millis(200));
        }
    }
}

/// Installs a panic hook that restores the terminal, then calls the previous hook.
fn hook(screen: ThreadId) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if is_catching_panic() {
            return;
        }
        if TAKEN.load(Ordering::SeqCst) && thread::current().id() != screen {
            let said = info.payload().downcast_ref::<&str>().map(|s| (*s).to_owned());
            let said = said
                .or_else(|| info.payload().downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".into());
            let place = info
                .location()
                .map(|l| format!(" at {}:{}", l.file(), l.line()))
                .unwrap_or_default();
            let name = thread::current().name().unwrap_or("a thread without a name").to_owned();
            let message = format!("{name} panicked{place}: {said}");
            PANICKED
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .get_or_insert(message);
        } else {
            restore();
            before(info);
        }
    }));
}
