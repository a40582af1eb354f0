//! Output files of `table` and `compare`, and formatting of their numbers.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use crate::cli::errors::{is_broken_pipe, print_lines};
use crate::cli::lines::AtomicOutput;
use crate::cli::overlap::NamedFile;
use crate::sanitize::sanitize_lines;

/// Output files for results.
#[derive(Args, Clone, Debug)]
pub struct OutputOptions {
    /// Text output; - is standard output, the default without other outputs
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub text: Option<PathBuf>,
    /// CSV output; - is standard output
    ///
    /// Names that a spreadsheet would run as a formula are prefixed with an apostrophe.
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub csv: Option<PathBuf>,
    /// JSON output, as one object; - is standard output
    #[arg(long, value_name = "FILE|-", help_heading = "Output")]
    pub json: Option<PathBuf>,
}

/// Opened outputs, so that files that can't be written are reported before the work starts.
pub struct Outputs {
    text: Option<AtomicOutput>,
    csv: Option<AtomicOutput>,
    json: Option<AtomicOutput>,
}

impl OutputOptions {
    /// Returns the output files.
    pub fn files(&self) -> Vec<NamedFile> {
        let named = [("--text", &self.text), ("--csv", &self.csv), ("--json", &self.json)];
        named
            .into_iter()
            .filter_map(|(option, path)| Some(NamedFile::new(option, path.as_ref()?)))
            .collect()
    }

    /// Opens the outputs, with space reserved in files.
    ///
    /// # Errors
    /// If a file can't be written, or two outputs go to standard output.
    pub fn open(&self) -> anyhow::Result<Outputs> {
        let given = [&self.text, &self.csv, &self.json];
        if given.into_iter().flatten().filter(|path| AtomicOutput::is_stdout(path)).count() > 1 {
            bail!(
                "only one of --text, --csv and --json can go to standard output; give files for the others"
            );
        }
        let open = |path: &Option<PathBuf>| -> anyhow::Result<Option<AtomicOutput>> {
            let Some(path) = path else { return Ok(None) };
            let mut to = AtomicOutput::open(path)?;
            to.reserve(RESERVED)?;
            Ok(Some(to))
        };
        let none = given.iter().all(|path| path.is_none());
        let text = if none { Some(AtomicOutput::open(Path::new("-"))?) } else { open(&self.text)? };
        Ok(Outputs { text, csv: open(&self.csv)?, json: open(&self.json)? })
    }
}

impl Outputs {
    /// Writes the requested outputs; each text is made only if needed.
    ///
    /// If one can't be written, the others still are, and the text goes to standard output, so that
    /// the work is not lost.
    ///
    /// # Errors
    /// If an output can't be written; an existing file is then unchanged.
    pub fn write(
        self,
        text: impl Fn() -> String,
        csv: impl FnOnce() -> String,
        json: &impl Serialize,
    ) -> anyhow::Result<()> {
        let to_json = self.json.map_or(Ok(()), |mut to| to.write(json).and_then(|()| to.finish()));
        let to_csv =
            self.csv.map_or(Ok(()), |mut to| to.write_text(&csv()).and_then(|()| to.finish()));
        let sanitized = || sanitize_lines(&text()).into_owned();
        let to_text = self
            .text
            .map_or(Ok(()), |mut to| to.write_text(&sanitized()).and_then(|()| to.finish()));
        let all = to_json.and(to_csv).and(to_text);
        if let Err(error) = &all
            && !is_broken_pipe(error)
        {
            print_lines(&text())?;
        }
        all
    }
}

/// Space reserved for an output file, in bytes; results are seldom larger.
const RESERVED: u64 = 1 << 20;

/// Formats a number with full precision; empty if unknown or not finite.
pub fn number(value: Option<f64>) -> String {
    value.filter(|x| x.is_finite()).map_or(String::new(), |x| x.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_are_empty() {
        assert_eq!(
            (number(Some(0.1)), number(Some(f64::NAN)), number(None)),
            ("0.1".into(), String::new(), String::new())
        );
    }

    #[test]
    fn files_are_whole_or_not_there_and_standard_output_takes_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Some(folder.path().join(name));
        let options = OutputOptions { text: at("t"), csv: at("c"), json: at("j") };
        drop(options.open().unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        options.open().unwrap().write(|| "text".into(), || "a,b\n".into(), &[1, 2]).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(
            (read("t"), read("c"), read("j")),
            ("text".into(), "a,b\n".into(), "[1,2]\n".into())
        );
        let two = OutputOptions { text: Some("-".into()), csv: Some("-".into()), json: None };
        assert!(two.open().err().unwrap().to_string().contains("--text, --csv and --json"));
    }
}
