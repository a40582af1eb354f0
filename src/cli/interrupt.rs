//! Handling of the signals that end a command between two steps.

use std::io;

/// Prepares the process for signals; to be called first.
pub fn prepare_signals() {
    #[cfg(unix)]
    crate::signals::prepare();
}

/// Watcher for Ctrl-C (SIGINT), SIGTERM and SIGHUP.
///
/// The first signal sets a flag that the program polls; the second ends the process at once.
#[cfg(unix)]
pub struct Interrupt(());

#[cfg(unix)]
impl Interrupt {
    /// Installs the signal handlers, which stay until the process ends.
    ///
    /// # Errors
    /// If the system refuses to install a handler.
    pub fn watch() -> io::Result<Self> {
        crate::signals::watch()?;
        Ok(Self(()))
    }

    /// Returns 128 plus the number of the received signal; `None` before any signal.
    pub fn status(&self) -> Option<u8> {
        crate::signals::first().map(|signal| 128 + signal as u8)
    }
}

/// Watcher for Ctrl-C.
///
/// The first one sets a flag that the program polls; the second ends the process at once.
#[cfg(not(unix))]
pub struct Interrupt(std::sync::Arc<std::sync::atomic::AtomicUsize>);

#[cfg(not(unix))]
impl Interrupt {
    /// Installs the signal handlers, which stay until the process ends.
    ///
    /// # Errors
    /// If the system refuses to install a handler.
    pub fn watch() -> io::Result<Self> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        use signal_hook::flag;
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, AtomicUsize};
        let (which, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for signal in [SIGINT, SIGTERM] {
            // Order matters: the first signal finds `again` false and sets it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
            flag::register(signal, Arc::clone(&again))?;
            flag::register_usize(signal, Arc::clone(&which), signal as usize)?;
        }
        Ok(Self(which))
    }

    /// Returns 128 plus the number of the received signal; `None` before any signal.
    pub fn status(&self) -> Option<u8> {
        match self.0.load(std::sync::atomic::Ordering::SeqCst) {
            0 => None,
            signal => Some(128 + signal as u8),
        }
    }
}
