//! Progress and remaining time of a study, on standard error.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::cli::errors::warn;
use crate::cli::progress::{self, style};

/// Interval between two lines if standard error is not a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// Progress display over a number of texts.
pub struct StudyProgress {
    /// `None` if standard error is not a terminal.
    bar: Option<ProgressBar>,
    total: usize,
    /// Texts that were already finished at the start.
    before: usize,
    done: usize,
    began: Instant,
    said: Instant,
}

impl StudyProgress {
    /// Creates a display for `total` texts, of which `before` are already finished.
    pub fn new(total: usize, before: usize) -> Self {
        let now = Instant::now();
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64)
                .with_style(style("[{bar:24}] {pos}/{len} texts, {msg}"));
            bar.set_position(before as u64);
            bar
        });
        Self { bar, total, before, done: before, began: now, said: now }
    }

    /// Shows that the text named `what` starts.
    pub fn begin(&self, what: &str) {
        if let Some(bar) = &self.bar {
            progress::message(bar, &format!("{}{what}", self.left()));
            bar.tick();
        }
    }

    /// Counts one more finished text.
    pub fn end(&mut self, what: &str) {
        self.done += 1;
        match &self.bar {
            Some(bar) => bar.set_position(self.done as u64),
            None if self.said.elapsed() >= LINE_INTERVAL => {
                self.said = Instant::now();
                warn(&format!("{} of {} texts, {}{what}", self.done, self.total, self.left()));
            }
            None => {}
        }
    }

    /// Prints a line without disturbing the bar.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| warn(line)),
            None => warn(line),
        }
    }

    fn left(&self) -> String {
        let left = time_left(
            self.began.elapsed(),
            self.done - self.before,
            self.total - self.done.min(self.total),
        );
        left.map_or(String::new(), |left| format!("about {} left, ", progress::time(left)))
    }
}

impl Drop for StudyProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Estimates the time for `left` texts from the time of `done` texts.
///
/// `None` before the first text is finished.
fn time_left(elapsed: Duration, done: usize, left: usize) -> Option<Duration> {
    (done > 0).then(|| elapsed.mul_f64(left as f64 / done as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_scales_with_finished_texts() {
        let seconds = Duration::from_secs;
        assert_eq!(time_left(seconds(10), 0, 5), None);
        assert_eq!(time_left(seconds(10), 2, 5), Some(seconds(25)));
    }
}
