//! How far something is, on standard error. Downloads: a bar on a terminal, else one line for each thing that begins.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::errors::warn;
use crate::clean::words;
use crate::registry::Progress;

const BYTES: &str = "{msg} [{bar:24}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}";
const NO_TOTAL: &str = "{msg} {decimal_bytes} {decimal_bytes_per_sec}";
const NO_BYTES: &str = "{spinner} {msg}";

/// Shows progress until it is dropped.
pub struct Bar {
    /// None where standard error is no terminal.
    bar: Option<ProgressBar>,
    what: String,
}

impl Bar {
    /// Shows nothing yet.
    pub fn new() -> Self {
        Self { bar: io::stderr().is_terminal().then(ProgressBar::no_length), what: String::new() }
    }

    /// Shows how far it is.
    pub fn show(&mut self, progress: &Progress) {
        let what = words(&progress.what);
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
            // The spinner turns while the program waits for something that reports nothing.
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        match progress.total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
        bar.set_position(progress.bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How far the loading of a model is, on a terminal.
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

/// Sets the words beside a bar, which may hold foreign text.
pub fn message(bar: &ProgressBar, text: &str) {
    bar.set_message(words(text));
}

/// A style of bars by its template.
pub fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// A size in bytes as a person reads it: 98.4 MB.
pub fn size(bytes: u64) -> String {
    match bytes as f64 {
        b if bytes >= 1_000_000_000 => format!("{:.2} GB", b / 1e9),
        b if bytes >= 1_000_000 => format!("{:.1} MB", b / 1e6),
        b if bytes >= 1_000 => format!("{:.1} kB", b / 1e3),
        _ => format!("{bytes} bytes"),
    }
}

/// A time as a person says it.
pub fn time(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s @ 60..5400 => format!("{} min", (s + 30) / 60),
        s => format!("{:.1} h", s as f64 / 3600.0),
    }
}

/// A line of words that changes, on a terminal.
pub fn status() -> ProgressBar {
    let bar = if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
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
