//! The signals that end `run` between two steps.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Watches for Ctrl-C and for SIGTERM. The first one is for the program to notice; the second ends it at once.
pub struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Watches from now on, as long as the program runs.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn watch() -> io::Result<Self> {
        let (which, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds `again` false and sets it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
            flag::register(signal, Arc::clone(&again))?;
            flag::register_usize(signal, Arc::clone(&which), signal as usize)?;
        }
        Ok(Self(which))
    }

    /// The exit status that by custom says which signal came, if one did: 128 and its number.
    pub fn status(&self) -> Option<u8> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(128 + signal as u8),
        }
    }
}
