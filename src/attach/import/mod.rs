//! Files that engines write: responses, request metrics, iteration statistics and logs.
//!
//! Each line is read on its own, as JSON or as a line of a log; a file that is one JSON document is
//! read whole. What has no figures of speculation is skipped, and a file without any is an error.

mod body;
mod log;

use std::io::{BufRead, Read};

use serde_json::Value;

use super::counters::OwnWindow;
use super::{AttachError, Counters, Identity, ServerKind, Step, Summary, Tally};
use body::Found;
use log::{Logged, Means};

/// Bytes of a line, and of a document over several lines, at most.
const LONGEST_LINE: usize = 64 << 20;
const LONGEST_DOCUMENT: usize = 512 << 20;

/// Figures of one file or several.
#[derive(Clone, Debug)]
pub struct Imported {
    engine: Option<ServerKind>,
    model: Option<String>,
    tally: Tally,
    means: Means,
    /// Totals by request of a log, used where it has no lines by step.
    by_request: Counters,
    texts: usize,
}

impl Default for Imported {
    fn default() -> Self {
        let tally = Tally::new(&Identity::default(), 1.0);
        Self {
            engine: None,
            model: None,
            tally,
            means: Means::default(),
            by_request: Counters::default(),
            texts: 0,
        }
    }
}

impl Imported {
    /// Engine that wrote the files.
    pub fn engine(&self) -> Option<ServerKind> {
        self.engine
    }

    /// Model, where a file names it.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Steps in their order, where files list them.
    pub fn steps(&self) -> &[Step] {
        self.tally.steps()
    }

    /// Reads a file; `name` is for errors.
    ///
    /// # Errors
    /// If it can't be read, has nothing to import, or is of another engine than the files before
    /// it.
    pub fn read(&mut self, name: &str, mut reader: impl BufRead) -> Result<(), AttachError> {
        let wrong = |why: String| AttachError::File { file: name.to_owned(), why };
        let mut found_any = false;
        let mut number = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            number += 1;
            let read = (&mut reader).take(LONGEST_LINE as u64 + 1).read_until(b'\n', &mut line);
            let read = read.map_err(|error| wrong(format!("can't be read: {error}")))?;
            if read == 0 {
                break;
            }
            if read > LONGEST_LINE {
                return Err(wrong(format!("line {number} is longer than {LONGEST_LINE} bytes")));
            }
            let text = line.trim_ascii();
            if !text.starts_with(b"{") && !text.starts_with(b"[") {
                found_any |= self.log_line(name, &String::from_utf8_lossy(text))?;
                continue;
            }
            match serde_json::from_slice::<Value>(text) {
                Ok(value) => found_any |= self.document(name, &value)?,
                // The begin of a document over several lines, or a line of a log that begins with a
                // bracket.
                Err(error) if error.is_eof() && number == 1 => {
                    let mut whole = std::mem::take(&mut line);
                    let read =
                        (&mut reader).take(LONGEST_DOCUMENT as u64 + 1).read_to_end(&mut whole);
                    read.map_err(|error| wrong(format!("can't be read: {error}")))?;
                    if whole.len() > LONGEST_DOCUMENT {
                        return Err(wrong(format!(
                            "the document is larger than {LONGEST_DOCUMENT} bytes"
                        )));
                    }
                    let value = serde_json::from_slice(&whole)
                        .map_err(|error| wrong(format!("no JSON: {error}")))?;
                    found_any |= self.document(name, &value)?;
                    break;
                }
                Err(_) => found_any |= self.log_line(name, &String::from_utf8_lossy(text))?,
            }
        }
        if found_any {
            Ok(())
        } else {
            Err(wrong("no figures of speculative decoding in it".to_owned()))
        }
    }

    fn document(&mut self, name: &str, value: &Value) -> Result<bool, AttachError> {
        match value {
            // A list of records: each by itself.
            Value::Array(list) => {
                let mut any = false;
                for value in list {
                    any |= self.document(name, value)?;
                }
                Ok(any)
            }
            value => match body::find(value, &format!("{}", self.texts)) {
                Some((engine, found)) => self.add(name, engine, found).map(|()| true),
                None => Ok(false),
            },
        }
    }

    fn log_line(&mut self, name: &str, line: &str) -> Result<bool, AttachError> {
        let (engine, logged) = match log::read(line, self.tally.steps()) {
            Some(found) => found,
            None => return Ok(false),
        };
        let mut found = Found::default();
        match logged {
            Logged::Step(step) => found.steps.push(step),
            Logged::Request(totals) => add(&mut self.by_request, &totals),
            Logged::Totals(totals) => found.totals = Some(totals),
            Logged::Mean(mean) => self.means.add(mean),
        }
        self.add(name, engine, found).map(|()| true)
    }

    fn add(&mut self, name: &str, engine: ServerKind, found: Found) -> Result<(), AttachError> {
        match self.engine {
            Some(before) if before != engine => {
                let why = format!(
                    "it is of {}, and what was read before is of {}",
                    engine.name(),
                    before.name()
                );
                return Err(AttachError::File { file: name.to_owned(), why });
            }
            _ => self.engine = Some(engine),
        }
        self.model = found.model.or(self.model.take());
        self.texts += usize::from(found.text);
        for step in found.steps {
            self.tally.take(&super::Event::Step(step));
        }
        if let Some(totals) = found.totals {
            self.tally.add_totals(&totals);
        }
        Ok(())
    }

    /// Figures over all that was read.
    pub fn summary(&self) -> Summary {
        let mut tally = self.tally.clone();
        // A log with lines by step repeats them in its sums by request.
        if tally.steps().is_empty() {
            tally.add_totals(&self.by_request);
        }
        if let Some(own) = self.means.own() {
            tally.add_totals(&Counters { own: Some(own), ..Counters::default() });
        }
        let mut summary = tally.summary();
        summary.texts = self.texts;
        let own = summary.own_tokens_per_step.filter(|_| summary.accepted.is_none());
        if let Some(own) = own {
            // These engines' window means count drafted steps alone.
            summary.accepted_per_drafted_step = Some((own - 1.0).max(0.0));
            summary.accepted_mean = summary.accepted_per_drafted_step;
        }
        summary
    }
}

fn add(sums: &mut Counters, more: &Counters) {
    let sum = |a: Option<f64>, b: Option<f64>| b.map(|b| a.unwrap_or(0.0) + b).or(a);
    sums.drafted_steps = sum(sums.drafted_steps, more.drafted_steps);
    sums.drafted = sum(sums.drafted, more.drafted);
    sums.accepted = sum(sums.accepted, more.accepted);
}

impl Means {
    fn own(&self) -> Option<OwnWindow> {
        (self.weight > 0.0).then(|| OwnWindow {
            tokens_per_step: self.tokens_per_step / self.weight,
            rate: (self.rates > 0.0).then(|| self.rate / self.rates),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Imported, AttachError> {
        let mut imported = Imported::default();
        imported.read("file", text.as_bytes()).map(|()| imported)
    }

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../../tests/fixtures/attach/", $name))
        };
    }

    fn lengths(imported: &Imported) -> Vec<(usize, usize)> {
        imported
            .steps()
            .iter()
            .map(|step| (step.accepted.unwrap(), step.drafted.unwrap()))
            .collect()
    }

    #[test]
    fn vllm_responses_at_detailed_have_every_drafted_step() {
        for file in [fixture!("vllm-detailed.jsonl"), fixture!("aiperf.jsonl")] {
            let found = read(file).unwrap();
            assert_eq!(found.engine(), Some(ServerKind::Vllm));
            assert_eq!(lengths(&found), [(2, 3), (0, 3), (3, 3), (1, 3), (1, 2)]);
            let summary = found.summary();
            assert_eq!(
                (summary.texts, summary.budget, summary.drafted_steps),
                (2, Some(4), Some(5.0))
            );
            assert_eq!((summary.accepted, summary.accepted_mean), (Some(7.0), Some(1.4)));
            assert!(found.steps().iter().all(|step| step.exact));
        }
        assert_eq!(
            read(fixture!("vllm-detailed.jsonl")).unwrap().model(),
            Some("meta-llama/Llama-3.1-8B-Instruct")
        );
    }

    #[test]
    fn a_trace_of_llama_server_has_every_drafted_step() {
        let found = read(fixture!("llama-trace.log")).unwrap();
        assert_eq!(lengths(&found), [(3, 7), (0, 7), (7, 7)]);
        let summary = found.summary();
        assert_eq!(
            (summary.accepted, summary.drafted),
            (Some(10.0), Some(21.0)),
            "sums by request are not added to steps"
        );
        let without: String = fixture!("llama-trace.log")
            .lines()
            .filter(|line| !line.contains("draft tokens"))
            .map(|l| format!("{l}\n"))
            .collect();
        let summary = read(&without).unwrap().summary();
        assert_eq!(
            (summary.accepted, summary.drafted, summary.drafted_steps),
            (Some(10.0), Some(21.0), Some(3.0))
        );
    }

    #[test]
    fn iteration_statistics_are_steps_where_one_request_ran() {
        for text in [fixture!("trtllm-iterations.jsonl").to_owned(), {
            let lines: Vec<&str> = fixture!("trtllm-iterations.jsonl").lines().collect();
            format!("[\n{}\n]", lines.join(",\n"))
        }] {
            let found = read(&text).unwrap();
            assert_eq!(
                (found.engine(), lengths(&found)),
                (Some(ServerKind::TensorRtLlm), vec![(2, 3), (0, 3)])
            );
            let summary = found.summary();
            // Four requests in one iteration: a sum, no steps.
            assert_eq!(
                (summary.drafted_steps, summary.accepted, summary.drafted),
                (Some(6.0), Some(7.0), Some(18.0))
            );
            assert_eq!(found.steps()[0].seconds, Some(0.0125));
        }
        let summary = read(fixture!("trtllm-requests.jsonl")).unwrap().summary();
        assert_eq!(
            (summary.accepted, summary.drafted, summary.accepted_mean),
            (Some(30.0), Some(50.0), None)
        );
    }

    #[test]
    fn request_metrics_of_sglang_are_read_in_all_spellings() {
        let found = read(fixture!("sglang-requests.jsonl")).unwrap();
        let summary = found.summary();
        assert_eq!((found.engine(), summary.texts), (Some(ServerKind::Sglang), 3));
        assert_eq!(
            (summary.steps, summary.accepted, summary.drafted),
            (Some(60.0), Some(90.0), Some(180.0))
        );
        assert_eq!(summary.accepted_mean, Some(1.5));
    }

    #[test]
    fn logs_give_window_means() {
        let summary = read(fixture!("vllm.log")).unwrap().summary();
        assert_eq!((summary.accepted, summary.drafted), (Some(1000.0), Some(2100.0)));
        assert!(
            (summary.drafted_steps.unwrap() - 700.0).abs() < 3.0 && summary.budget == Some(4),
            "{summary:?}"
        );
        let found = read(fixture!("sglang.log")).unwrap();
        assert_eq!(found.engine(), Some(ServerKind::Sglang));
        let summary = found.summary();
        // Weighted by running requests: (2.75 + 3 * 2.35) / 4.
        assert!((summary.tokens_per_step.unwrap() - 2.45).abs() < 1e-9, "{summary:?}");
        assert!((summary.accepted_mean.unwrap() - 1.45).abs() < 1e-9 && summary.steps.is_none());
    }

    #[test]
    fn files_without_figures_and_of_two_engines_are_refused() {
        for text in ["", "hello\n", "{}\n", "[]", "{\"choices\": [", "\u{1b}[31m\n", "[1, 2"] {
            let said = read(text).unwrap_err().to_string();
            assert!(said.starts_with("file: ") && !said.contains('\n'), "{said}");
        }
        let mut imported = read(fixture!("vllm.log")).unwrap();
        let said =
            imported.read("other", fixture!("sglang.log").as_bytes()).unwrap_err().to_string();
        assert!(said.contains("other: it is of sglang"), "{said}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Imported::default().read("x", &bytes[..]);
        }

        #[test]
        fn no_numbers_panic(accepted in prop::collection::vec(any::<i64>(), 0..4), drafted in prop::collection::vec(any::<u64>(), 0..4), n in any::<f64>()) {
            let value = serde_json::json!({ "per_step_accepted": accepted, "per_step_drafted": drafted, "num_spec_steps": n,
                "acceptance_histogram": drafted, "num_draft_tokens": n, "num_accepted_draft_tokens": n });
            if let Ok(found) = read(&value.to_string()) {
                let _ = found.summary();
            }
            let line = format!("accepted {n:3}/{n:2} draft tokens\nSpecDecoding metrics: Mean acceptance length: {n}, Accepted: {n} tokens, Drafted: {n} tokens");
            if let Ok(found) = read(&line) {
                let _ = found.summary();
            }
        }
    }
}
