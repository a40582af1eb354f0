//! Progress on standard error, and formatting of sizes and times.
//!
//! Downloads get a bar on a terminal, and otherwise one line for each step that starts.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::errors::warn;
use crate::registry::Progress;
use crate::sanitize::sanitize_line;

const BYTES: &str =
    "{msg} [{bar:24}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}";
const NO_TOTAL: &str = "{msg} {decimal_bytes} {decimal_bytes_per_sec}";
const NO_BYTES: &str = "{spinner} {msg}";

/// Progress display that is cleared when dropped.
pub struct DownloadBar {
    /// `None` if standard error is not a terminal.
    bar: Option<ProgressBar>,
    what: String,
}

impl DownloadBar {
    /// Creates a bar that shows nothing yet.
    pub fn new() -> Self {
        Self { bar: io::stderr().is_terminal().then(ProgressBar::no_length), what: String::new() }
    }

    /// Updates the display; a new `what` starts a new bar or line.
    pub fn show(&mut self, progress: &Progress) {
        let what = sanitize_line(&progress.what);
        let begins = self.what != what;
        if begins {
            self.what = what;
        }
        let Some(bar) = &self.bar else {
            if begins {
                warn(&self.what);
            }
            return;
        };
        if begins {
            let template = match (progress.total, progress.bytes) {
                (Some(_), _) => BYTES,
                (None, 0) => NO_BYTES,
                (None, _) => NO_TOTAL,
            };
            bar.set_style(style(template));
            message(bar, &self.what);
            bar.reset();
            // Keeps the spinner moving during work that reports no progress.
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        match progress.total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
        bar.set_position(progress.bytes);
    }
}

impl Drop for DownloadBar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Shows the progress of loading a model, if standard error is a terminal.
///
/// `done` is a fraction from 0 to 1, `None` if not known.
pub fn loading(bar: &mut ProgressBar, what: &str, done: Option<f64>) {
    if bar.is_hidden() && io::stderr().is_terminal() {
        *bar = ProgressBar::new(1000);
    }
    let template = if done.is_some() { "{msg} [{bar:30}] {percent}%" } else { "{msg} ..." };
    bar.set_style(style(template));
    message(bar, what);
    bar.set_position(done.map_or(0, |done| (done.clamp(0.0, 1.0) * 1000.0) as u64));
    bar.tick();
}

/// Sets the message of a bar, with control characters escaped.
pub fn message(bar: &ProgressBar, text: &str) {
    bar.set_message(sanitize_line(text));
}

/// Returns the style for an indicatif template.
pub fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// Formats a number of bytes with decimal units, such as 98.4 MB.
pub fn size(bytes: u64) -> String {
    match bytes as f64 {
        b if bytes >= 1_000_000_000 => format!("{:.2} GB", b / 1e9),
        b if bytes >= 1_000_000 => format!("{:.1} MB", b / 1e6),
        b if bytes >= 1_000 => format!("{:.1} kB", b / 1e3),
        _ => format!("{bytes} bytes"),
    }
}

/// Formats a time in seconds, minutes or hours, such as 89 s or 2.0 h.
pub fn time(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s @ 60..5400 => format!("{} min", (s + 30) / 60),
        s => format!("{:.1} h", s as f64 / 3600.0),
    }
}

/// Returns a one-line status message; hidden if standard error is not a terminal.
pub fn status() -> ProgressBar {
    let bar =
        if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    bar.with_style(style("{msg}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        let said = [59, 89, 90, 5399, 7200].map(|s| time(Duration::from_secs(s)));
        assert_eq!(said, ["59 s", "1 min", "2 min", "90 min", "2.0 h"]);
    }

    #[test]
    fn sizes_are_readable() {
        let said = [0, 999, 1_500, 98_362_432, 2_019_377_696].map(size);
        assert_eq!(said, ["0 bytes", "999 bytes", "1.5 kB", "98.4 MB", "2.02 GB"]);
    }
}
