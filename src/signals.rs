//! Signals that end or stop the program, and the cleanup before it ends.
//!
//! One thread receives them. The first SIGINT, SIGTERM or SIGHUP asks the program to end; the
//! second ends it at once, also when it is blocked on a terminal or pipe that is not read. Other
//! fatal signals clean up, then have their default effect; a screen ends as after SIGTERM. Signals
//! that were ignored when the program started, as by `nohup` or for a background job of a script,
//! stay ignored.

use std::sync::{Mutex, PoisonError};

#[cfg(all(unix, feature = "tui"))]
pub(crate) use unix::{ScreenSignals, stop, suspend, watch_screen};
#[cfg(unix)]
pub(crate) use unix::{first, prepare, watch};

/// Signal that concerns the owner of the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "tui"), allow(dead_code))]
pub(crate) enum ScreenSignal {
    /// Asks the program to end; holds the number.
    End(i32),
    /// Asks the program to stop, as Ctrl-Z in a shell.
    Stop,
    /// Follows a stop; the terminal's modes and contents may have changed.
    Continue,
}

/// Work to be done before the process ends, in the order of registration.
static CLEANUPS: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// Registers work to be done before a signal ends the process; once for each function.
///
/// It runs on another thread at any time. It must not wait for locks that are held for long.
pub(crate) fn before_end(cleanup: fn()) {
    let mut all = CLEANUPS.lock().unwrap_or_else(PoisonError::into_inner);
    if !all.iter().any(|known| std::ptr::fn_addr_eq(*known, cleanup)) {
        all.push(cleanup);
    }
}

/// Does the work registered by [`before_end`].
#[cfg_attr(not(unix), allow(dead_code))]
fn clean_up() {
    let all = CLEANUPS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    all.into_iter().for_each(|cleanup| cleanup());
}

#[cfg(unix)]
mod unix {
    use std::io::{self, Read};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::time::{Duration, Instant};

    use signal_hook::consts::*;
    use signal_hook::{flag, low_level};

    use super::{ScreenSignal, clean_up};

    /// Signals that ask the program to end.
    const ASKING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

    /// Other signals that end a process by default, as far as they can be handled.
    const FATAL: [i32; 10] =
        [SIGQUIT, SIGABRT, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGXCPU, SIGSYS, SIGTRAP];

    /// Fatal signals that only Linux has: SIGSTKFLT, SIGIO, SIGPWR, and the real-time ones.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const MORE_FATAL: [std::ops::RangeInclusive<i32>; 3] = [16..=16, 29..=30, 34..=64];
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const MORE_FATAL: [std::ops::RangeInclusive<i32>; 0] = [];

    /// Time that a screen has to end after a signal.
    ///
    /// It needs milliseconds, unless it is blocked on a terminal that takes no output.
    const GRACE: Duration = Duration::from_secs(2);

    /// Number of the first signal that asked the program to end; 0 before that.
    static FIRST: AtomicUsize = AtomicUsize::new(0);
    static STATE: Mutex<State> = Mutex::new(State { wake: None, screen: None });

    /// Callback for signals that the terminal screen handles.
    type Listener = Box<dyn Fn(ScreenSignal) + Send>;

    struct State {
        /// Socket that wakes the signal thread, and the flags it reads; `None` until it runs.
        wake: Option<(UnixStream, Arc<Flags>)>,
        screen: Option<Listener>,
    }

    /// Flags set by the signal handlers, indexed by signal number.
    type Flags = [AtomicFlag; 65];

    /// Flag that a signal handler sets.
    type AtomicFlag = Arc<AtomicBool>;

    fn state() -> MutexGuard<'static, State> {
        STATE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the signals that were ignored when the program started, as a bit set.
    ///
    /// `None` if the system doesn't report it.
    fn ignored() -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    }

    /// Turns the signal for exceeded file sizes into an error.
    pub(crate) fn prepare() {
        // Without a handler, SIGXFSZ ends the process and leaves partial files behind.
        let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    }

    /// Returns the number of the first signal that asked the program to end.
    pub(crate) fn first() -> Option<i32> {
        match FIRST.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(signal as i32),
        }
    }

    /// Watches the signals that end the program, until the process ends.
    ///
    /// # Errors
    /// If the system refuses a handler or a thread.
    pub(crate) fn watch() -> io::Result<()> {
        let mut state = state();
        if state.wake.is_some() {
            return Ok(());
        }
        let (wake, woken) = UnixStream::pair()?;
        let flags: Arc<Flags> = Arc::new(std::array::from_fn(|_| AtomicFlag::default()));
        let ignored = ignored();
        let is_ignored = |signal: i32| ignored.is_some_and(|mask| mask >> (signal - 1) & 1 == 1);
        for signal in ASKING.into_iter().filter(|signal| !is_ignored(*signal)) {
            // Where the system doesn't tell, a process under `nohup` must survive SIGHUP.
            if signal != SIGHUP || ignored.is_some() {
                register(signal, &wake, &flags)?;
            }
        }
        for signal in FATAL.into_iter().filter(|signal| !is_ignored(*signal)) {
            register(signal, &wake, &flags)?;
        }
        for signal in MORE_FATAL.into_iter().flatten().filter(|signal| !is_ignored(*signal)) {
            // The C library keeps some of them to itself.
            let _ = register(signal, &wake, &flags);
        }
        let seen = Arc::clone(&flags);
        std::thread::Builder::new().name("signals".into()).spawn(move || serve(woken, &seen))?;
        state.wake = Some((wake, flags));
        Ok(())
    }

    fn register(signal: i32, wake: &UnixStream, flags: &Flags) -> io::Result<()> {
        // In this order: the flag is set before the thread wakes.
        flag::register(signal, Arc::clone(&flags[signal as usize]))?;
        low_level::pipe::register(signal, wake.try_clone()?)?;
        Ok(())
    }

    /// Watches all signals that concern a screen, until the guard is dropped.
    ///
    /// `listener` is called from another thread.
    ///
    /// # Errors
    /// Those of [`watch`].
    #[cfg(feature = "tui")]
    pub(crate) fn watch_screen(
        listener: impl Fn(ScreenSignal) + Send + 'static,
    ) -> io::Result<ScreenSignals> {
        watch()?;
        let mut state = state();
        static STOPS: AtomicBool = AtomicBool::new(false);
        if let Some((wake, flags)) = &state.wake
            && !STOPS.swap(true, Ordering::SeqCst)
        {
            for signal in [SIGTSTP, SIGCONT, SIGHUP] {
                // A screen has no use for a terminal that is gone, whatever was ignored.
                if signal != SIGHUP || ignored().is_none() {
                    register(signal, wake, flags)?;
                }
            }
        }
        state.screen = Some(Box::new(listener));
        Ok(ScreenSignals { _private: () })
    }

    /// Guard of a screen that receives signals.
    #[cfg(feature = "tui")]
    pub(crate) struct ScreenSignals {
        _private: (),
    }

    #[cfg(feature = "tui")]
    impl Drop for ScreenSignals {
        fn drop(&mut self) {
            state().screen = None;
        }
    }

    /// Stops the process, as SIGTSTP does by default; returns once it continues.
    #[cfg(feature = "tui")]
    pub(crate) fn stop() {
        let _ = low_level::emulate_default_handler(SIGTSTP);
    }

    /// Sends SIGTSTP to the job of this process.
    ///
    /// Ctrl-Z does the same in a terminal that is not in raw mode.
    ///
    /// Without a shell that could continue the job, nothing happens.
    #[cfg(feature = "tui")]
    pub(crate) fn suspend() {
        use rustix::process::{self, Signal};
        let own = (process::getsid(None), process::getpgid(None));
        let (Ok(session), Ok(group)) = own else { return };
        let Some(parent) = process::getppid() else { return };
        let leads = session == process::getpid();
        let elsewhere = process::getsid(Some(parent)) != Ok(session);
        // A script that leads the session and waits for this process is no shell with jobs.
        let script = parent == session && process::getpgid(Some(parent)) == Ok(group);
        if !(leads || elsewhere || script) {
            let _ = process::kill_current_process_group(Signal::TSTP);
        }
    }

    /// Main loop of the thread.
    fn serve(mut woken: UnixStream, flags: &Flags) {
        let mut deadline: Option<(Instant, i32)> = None;
        loop {
            let left = deadline.map(|(at, _)| {
                at.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
            });
            // Failing, the thread waits for the next signal without a limit.
            let _ = woken.set_read_timeout(left);
            match woken.read(&mut [0; 64]) {
                Ok(0) => return,
                Err(e)
                    if ![
                        io::ErrorKind::WouldBlock,
                        io::ErrorKind::TimedOut,
                        io::ErrorKind::Interrupted,
                    ]
                    .contains(&e.kind()) =>
                {
                    return;
                }
                _ => {}
            }
            let arrived: Vec<i32> = (1..flags.len())
                .filter(|i| flags[*i].swap(false, Ordering::SeqCst))
                .map(|i| i as i32)
                .collect();
            // Where both have arrived, the process has continued last: the system drops a pending
            // stop.
            let continued = arrived.contains(&SIGCONT);
            for signal in arrived.into_iter().filter(|signal| *signal != SIGTSTP || !continued) {
                match signal {
                    SIGTSTP => tell(ScreenSignal::Stop),
                    SIGCONT => tell(ScreenSignal::Continue),
                    signal if ASKING.contains(&signal) || state().screen.is_some() => {
                        if FIRST
                            .compare_exchange(
                                0,
                                signal as usize,
                                Ordering::SeqCst,
                                Ordering::SeqCst,
                            )
                            .is_err()
                        {
                            end(signal);
                        }
                        if state().screen.is_some() {
                            deadline = Some((Instant::now() + GRACE, signal));
                        }
                        tell(ScreenSignal::End(signal));
                    }
                    signal => {
                        clean_up();
                        let _ = low_level::emulate_default_handler(signal);
                        low_level::exit(128 + signal);
                    }
                }
            }
            if let Some((at, signal)) = deadline
                && Instant::now() >= at
            {
                deadline = None;
                if state().screen.is_some() {
                    end(signal);
                }
            }
        }
    }

    fn tell(signal: ScreenSignal) {
        if let Some(listener) = &state().screen {
            listener(signal);
        }
    }

    /// Ends the process without waiting for its other threads.
    fn end(signal: i32) -> ! {
        clean_up();
        low_level::exit(128 + signal)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn each_cleanup_is_registered_once() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        fn count() {
            CALLS.fetch_add(1, Ordering::SeqCst);
        }
        before_end(count);
        before_end(count);
        clean_up();
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
    }
}
