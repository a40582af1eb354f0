//! Watching a server: readings of its counters as differences since the first one and since the
//! last.

use std::time::{Duration, Instant};

use super::{AttachError, Counters, Event, Http, Server, Window};

/// Readings that may fail in a row before a server counts as gone.
const MOST_FAILURES: usize = 5;
/// Drafted steps of a window from which on its acceptance is judged.
const ENOUGH_STEPS: f64 = 20.0;
/// Accepted tokens per drafted step below which drafts count as useless.
const NEXT_TO_NOTHING: f64 = 0.05;

/// Readings of one server.
#[derive(Debug, Default)]
pub struct Watch {
    first: Option<(Counters, f64)>,
    last: Option<(Counters, f64)>,
    /// Readings that failed in a row.
    failures: usize,
    collapsed: bool,
}

/// Outcome of one reading.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Since the last reading; `None` for the first one and after a restart.
    pub window: Option<Window>,
    /// Since the first reading.
    pub total: Option<Window>,
    /// Something the user should know.
    pub notice: Option<String>,
}

impl Watch {
    /// Takes counters in that were read `seconds` after the start.
    pub fn add(&mut self, now: Counters, seconds: f64) -> Reading {
        self.failures = 0;
        let mut reading = Reading::default();
        if let Some((last, at)) = self.last.take() {
            if now.fell_below(&last) {
                reading.notice =
                    Some("counters fell: the server was restarted; figures start anew".to_owned());
                self.first = None;
                self.collapsed = false;
            } else {
                let window = now.since(&last, seconds - at);
                reading.notice = self.collapse(&window);
                reading.window = Some(window);
            }
        }
        let (first, at) = self.first.get_or_insert_with(|| (now.clone(), seconds));
        reading.total = Some(now.since(first, seconds - *at));
        self.last = Some((now, seconds));
        reading
    }

    /// Notice when acceptance falls to nothing, once until it recovers.
    fn collapse(&mut self, window: &Window) -> Option<String> {
        let (Some(mean), Some(steps)) = (window.accepted_mean, window.drafted_steps) else {
            return None;
        };
        if steps < ENOUGH_STEPS {
            return None;
        }
        let was = std::mem::replace(&mut self.collapsed, mean < NEXT_TO_NOTHING);
        (self.collapsed && !was).then(|| {
            format!("acceptance fell to {mean:.2} tokens per drafted step: drafts cost time and give nothing; is the drafter the right one?")
        })
    }

    /// Takes a failed reading in.
    ///
    /// # Errors
    /// The same error where it won't pass, or came too often in a row.
    pub fn failed(&mut self, error: AttachError) -> Result<Option<String>, AttachError> {
        self.failures += 1;
        if !error.is_transient() || self.failures >= MOST_FAILURES {
            return Err(error);
        }
        Ok((self.failures == 1).then(|| format!("{error}; trying again")))
    }
}

/// Reads the counters every `every` until `sink` says false, or for `most` seconds.
///
/// # Errors
/// If the first reading fails, or too many in a row.
pub fn run(
    server: &mut dyn Server,
    http: &Http,
    every: Duration,
    most: Option<Duration>,
    sink: &mut dyn FnMut(Event) -> bool,
) -> Result<(), AttachError> {
    let (began, mut watch) = (Instant::now(), Watch::default());
    let mut next = Duration::ZERO;
    let emit = |reading: Reading, sink: &mut dyn FnMut(Event) -> bool| {
        if let Some(notice) = reading.notice {
            sink(Event::Notice(notice));
        }
        reading.window.is_none_or(|window| sink(Event::Interval(Box::new(window))))
            && reading.total.is_none_or(|total| sink(Event::Window(Box::new(total))))
    };
    let mut ended = false;
    loop {
        match server.scrape(http) {
            Ok(counters) => {
                if !emit(watch.add(counters, began.elapsed().as_secs_f64()), sink) {
                    return Ok(());
                }
            }
            Err(error) if watch.last.is_none() => return Err(error),
            Err(error) => {
                if let Some(notice) = watch.failed(error)? {
                    sink(Event::Notice(notice));
                }
            }
        }
        if ended {
            sink(Event::Finished);
            return Ok(());
        }
        next = (next + every).max(began.elapsed());
        if let Some(most) = most.filter(|most| next >= *most) {
            next = most;
            ended = true;
        }
        while began.elapsed() < next {
            if !sink(Event::Progress) {
                return Ok(());
            }
            std::thread::sleep(
                (next.saturating_sub(began.elapsed())).min(Duration::from_millis(50)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn counters(steps: f64, accepted: f64) -> Counters {
        Counters {
            drafted_steps: Some(steps),
            drafted: Some(3.0 * steps),
            accepted: Some(accepted),
            ..Counters::default()
        }
    }

    #[test]
    fn differences_since_the_first_and_the_last_reading() {
        let mut watch = Watch::default();
        assert!(watch.add(counters(100.0, 150.0), 0.0).window.is_none());
        watch.add(counters(200.0, 250.0), 5.0);
        let found = watch.add(counters(300.0, 450.0), 10.0);
        let (window, total) = (found.window.unwrap(), found.total.unwrap());
        assert_eq!((window.accepted_mean, window.seconds), (Some(2.0), 5.0));
        assert_eq!((total.accepted_mean, total.seconds), (Some(1.5), 10.0));
    }

    #[test]
    fn a_restart_starts_anew() {
        let mut watch = Watch::default();
        watch.add(counters(100.0, 150.0), 0.0);
        let found = watch.add(counters(3.0, 1.0), 5.0);
        assert!(found.window.is_none() && found.notice.unwrap().contains("restarted"));
        let found = watch.add(counters(13.0, 21.0), 10.0);
        assert_eq!((found.total.unwrap().accepted_mean, found.notice), (Some(2.0), None));
    }

    #[test]
    fn acceptance_that_falls_to_nothing_is_called_out_once() {
        let mut watch = Watch::default();
        let notices: Vec<bool> = [
            (0.0, 0.0),
            (50.0, 100.0),
            (100.0, 101.0),
            (150.0, 102.0),
            (200.0, 202.0),
            (250.0, 202.0),
        ]
        .iter()
        .enumerate()
        .map(|(i, &(steps, accepted))| {
            watch.add(counters(steps, accepted), i as f64).notice.is_some()
        })
        .collect();
        assert_eq!(notices, [false, false, true, false, false, true]);
    }

    #[test]
    fn transient_failures_are_reported_once() {
        let gone = || AttachError::Unreachable { at: "x".into(), why: "y".into() };
        let mut watch = Watch::default();
        assert!(watch.failed(gone()).unwrap().is_some());
        assert!((0..3).all(|_| watch.failed(gone()).unwrap().is_none()));
        assert!(watch.failed(gone()).is_err());
        let key = AttachError::Unauthorized { at: "x".into(), status: 401, with_key: true };
        assert!(Watch::default().failed(key).is_err());
    }
}
