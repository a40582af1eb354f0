//! The terminal is taken over, and given back on every way out.

use std::io::{self, Stdout, Write, stdout};
use std::panic;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};

use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute};

use crate::guarded::is_guarded;

/// Whether the terminal is taken over now.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// What a thread other than the screen's said when it panicked.
static PANICKED: Mutex<Option<String>> = Mutex::new(None);

/// Holds the terminal: raw mode, alternate screen, bracketed paste, hidden cursor. Dropping it gives all of it back,
/// and so does a panic of the thread that made it, before the panic's message is printed. A panic of another thread
/// is kept for [`Guard::panic`], so that its message is not lost on a screen that goes away.
pub struct Guard {
    _private: (),
}

impl Guard {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// If the terminal can't be switched; it is then as it was.
    pub fn take() -> io::Result<Guard> {
        hook(thread::current().id());
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let guard = Guard { _private: () };
        execute!(stdout(), EnterAlternateScreen, EnableBracketedPaste, cursor::Hide)?;
        Ok(guard)
    }

    /// What another thread said when it panicked since the terminal was taken, once.
    pub fn panic(&self) -> Option<String> {
        PANICKED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back, once. What fails is passed over: a terminal that is gone needs nothing.
fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut out: Stdout = stdout();
        let _ = execute!(out, DisableBracketedPaste, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
        let _ = out.flush();
    }
}

/// Puts our hook before the one that is there.
fn hook(screen: ThreadId) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if is_guarded() {
            return;
        }
        if TAKEN.load(Ordering::SeqCst) && thread::current().id() != screen {
            let said = info.payload().downcast_ref::<&str>().map(|s| (*s).to_owned());
            let said = said.or_else(|| info.payload().downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into());
            let place = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
            let name = thread::current().name().unwrap_or("a thread without a name").to_owned();
            let message = format!("{name} panicked{place}: {said}");
            PANICKED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(message);
        } else {
            restore();
            before(info);
        }
    }));
}
