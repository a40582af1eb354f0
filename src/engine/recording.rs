//! Recording of events, and events from recordings.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Event, Pace};
use crate::telemetry::recording::{
    Entry, LIVE_LEVEL, OracleEntry, Reader, RecordingEnd, RecordingError, TimedEntry, Writer,
};
use crate::telemetry::{JsonLine, RunInfo, RunLine, StepSettings};

/// Number of entries that wait for the recorder's thread before the sender does.
const WAITING: usize = 4096;

/// Returns the lines of a recording that hold this event.
///
/// An oracle search takes two: its details, then its result as `speclight run --json` writes it.
pub fn entries(event: Event) -> impl Iterator<Item = Entry> {
    let mut details = None;
    let entry = match event {
        Event::Loading { what, done } => Entry::Loading { what, done },
        Event::Ready { info, settings } => Entry::Ready { info, settings },
        Event::PlainTimed { plain_tokens_per_second, seconds } => {
            Entry::PlainTimed { plain_tokens_per_second, seconds }
        }
        Event::Cost(points) => Entry::Cost { points },
        Event::Load(load) => Entry::Load(load),
        Event::PromptStarted { index, id, prompt, tokens, prefill_seconds } => {
            Entry::PromptStarted { index, id, prompt, tokens, prefill_seconds }
        }
        Event::Step(record) => Entry::Step(record),
        Event::OracleSearched { prompt_id, step, result, systematic, curve, tree } => {
            details = Some(Entry::Search { systematic, curve, tree });
            Entry::OracleSearched(OracleEntry { prompt_id, step, result })
        }
        Event::Fluid(fluid) => Entry::Fluid(fluid),
        Event::PromptEnded { ending } => Entry::PromptEnded { ending },
        Event::Settings(settings) => Entry::Settings { settings },
        Event::Paused => Entry::Paused,
        Event::Resumed => Entry::Resumed,
        Event::Refused(reason) => Entry::Refused { reason },
        Event::Failed(reason) => Entry::Failed { reason },
        Event::Finished => Entry::Finished,
    };
    details.into_iter().chain([entry])
}

/// Content of a recording, in the engine's terms.
#[derive(Clone, Debug, PartialEq)]
pub enum Recorded {
    /// Event of the engine.
    Event(Event),
    /// Text shown beside the screen; empty for none.
    Caption(String),
    /// Interval of oracle searches that the user chose, in steps; 0 for none.
    SearchEvery(usize),
    /// Pace of the run.
    Pace {
        /// Maximum number of steps per second.
        pace: Pace,
        /// Number of texts begun while the first ones run slowly; `None` once that is over.
        slow_start: Option<usize>,
    },
}

/// Reader of a recording as events with their times.
pub struct EventReader<R: Read> {
    entries: Reader<R>,
    /// Details of the search whose result comes next.
    search: Option<Entry>,
}

impl EventReader<File> {
    /// Opens a recording.
    ///
    /// # Errors
    /// Those of [`Reader::open`].
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        Ok(EventReader { entries: Reader::open(path)?, search: None })
    }
}

impl<R: Read> EventReader<R> {
    /// Reads the header of a recording.
    ///
    /// # Errors
    /// Those of [`Reader::new`].
    pub fn new(input: R) -> Result<Self, RecordingError> {
        Ok(EventReader { entries: Reader::new(input)?, search: None })
    }

    /// Returns how the recording ends, once [`Iterator::next`] has returned `None`.
    pub fn end(&self) -> Option<&RecordingEnd> {
        self.entries.end()
    }
}

impl<R: Read> Iterator for EventReader<R> {
    type Item = (Duration, Recorded);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let TimedEntry { at, entry } = self.entries.next()?;
            let search = self.search.take();
            let event = match entry {
                Entry::Loading { what, done } => Event::Loading { what, done },
                Entry::Ready { info, settings } => Event::Ready { info, settings },
                Entry::PlainTimed { plain_tokens_per_second, seconds } => {
                    Event::PlainTimed { plain_tokens_per_second, seconds }
                }
                Entry::Cost { points } => Event::Cost(points),
                Entry::Load(load) => Event::Load(load),
                Entry::PromptStarted { index, id, prompt, tokens, prefill_seconds } => {
                    Event::PromptStarted { index, id, prompt, tokens, prefill_seconds }
                }
                Entry::Step(record) => Event::Step(record),
                Entry::Search { .. } => {
                    self.search = Some(entry);
                    continue;
                }
                Entry::OracleSearched(OracleEntry { prompt_id, step, result }) => {
                    let (systematic, curve, tree) = match search {
                        Some(Entry::Search { systematic, curve, tree }) => {
                            (systematic, curve, tree)
                        }
                        _ => (false, None, None),
                    };
                    Event::OracleSearched { prompt_id, step, result, systematic, curve, tree }
                }
                Entry::Fluid(fluid) => Event::Fluid(fluid),
                Entry::PromptEnded { ending } => Event::PromptEnded { ending },
                Entry::Settings { settings } => Event::Settings(settings),
                Entry::Paused => Event::Paused,
                Entry::Resumed => Event::Resumed,
                Entry::Refused { reason } => Event::Refused(reason),
                Entry::Failed { reason } => Event::Failed(reason),
                Entry::Finished => Event::Finished,
                Entry::Caption { text } => return Some((at, Recorded::Caption(text))),
                Entry::SearchEvery { steps } => return Some((at, Recorded::SearchEvery(steps))),
                Entry::Pace { steps_per_second, slow_start } => {
                    let pace = steps_per_second.map_or(Pace::Full, Pace::PerSecond);
                    return Some((at, Recorded::Pace { pace, slow_start }));
                }
                Entry::Recording(_) | Entry::At { .. } | Entry::End | Entry::Other => continue,
            };
            return Some((at, Recorded::Event(event)));
        }
    }
}

/// Facts about a run that no event holds, for the line of type `run`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunContext {
    /// Name of the draft model, if there is one.
    pub draft_model: Option<String>,
    /// Maximum number of output tokens per prompt.
    pub max_tokens: usize,
    /// True if prompts are run without the chat template.
    pub raw: bool,
}

impl RunContext {
    /// Returns the line of type `run`.
    pub fn run_line<'a>(&'a self, info: &'a RunInfo, settings: &'a StepSettings) -> RunLine<'a> {
        RunLine {
            version: &info.version,
            model: &info.model,
            quantisation: &info.quantisation,
            sha256: info.sha256.as_deref(),
            device: &info.device,
            draft_model: self.draft_model.as_deref(),
            context: info.context,
            cache_bytes: info.cache_bytes,
            max_tokens: self.max_tokens,
            raw: self.raw,
            prompts: info.prompts.len(),
            settings,
        }
    }
}

/// Message to the recorder's thread.
enum Line {
    Entry(Duration, Entry),
    /// Line of type `run`, as `speclight run --json` writes it.
    Run(Vec<u8>),
    /// End without a file.
    Discard,
}

/// Recorder on a thread of its own.
///
/// Neither the engine nor the screen waits for the disk.
///
/// A recorder that is dropped finishes its file first, and reports no failure of that.
pub struct Recorder {
    /// Taken once the recording ends, as is `thread`.
    entries: Option<SyncSender<Line>>,
    thread: Option<JoinHandle<io::Result<PathBuf>>>,
    failure: Arc<Mutex<Option<String>>>,
    context: RunContext,
}

impl Recorder {
    /// Creates `FILE.part` beside `path` and starts the thread.
    ///
    /// # Errors
    /// If the file can't be created, or a thread can't be started.
    pub fn start(path: &Path, context: RunContext) -> io::Result<Recorder> {
        let writer = Writer::create(path, LIVE_LEVEL)?;
        let (entries, received) = mpsc::sync_channel(WAITING);
        let failure = Arc::new(Mutex::new(None));
        let failed = Arc::clone(&failure);
        let thread = thread::Builder::new().name("recorder".into()).spawn(move || {
            let written = record(writer, &received);
            if let Err(error) = &written {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
            written
        })?;
        Ok(Recorder { entries: Some(entries), thread: Some(thread), failure, context })
    }

    /// Records an event that was received at this time.
    pub fn event(&self, at: Duration, event: &Event) {
        if let Event::Ready { info, settings } = event {
            let line = self.context.run_line(info, settings);
            // Plain data is always serializable.
            if let Ok(line) = serde_json::to_vec(&JsonLine::Run(line)) {
                self.send(Line::Run(line));
            }
        }
        entries(event.clone()).for_each(|entry| self.entry(at, entry));
    }

    /// Records any other entry.
    pub fn entry(&self, at: Duration, entry: Entry) {
        self.send(Line::Entry(at, entry));
    }

    fn send(&self, line: Line) {
        // The thread is gone only after an error, which `failure` and `finish` report.
        if let Some(entries) = &self.entries {
            drop(entries.send(line));
        }
    }

    /// Returns why the recording ended early, if it did.
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes the waiting entries and renames the file. Returns that name.
    ///
    /// # Errors
    /// If the file could not be written at any time; nothing is left of it then.
    pub fn finish(mut self) -> io::Result<PathBuf> {
        self.end().unwrap_or_else(|| Err(io::Error::other("it ended before")))
    }

    /// Ends the recording and removes its file.
    pub fn discard(mut self) {
        self.send(Line::Discard);
        drop(self.end());
    }

    /// Ends the thread, unless that was done before, and returns its result.
    fn end(&mut self) -> Option<io::Result<PathBuf>> {
        drop(self.entries.take());
        let thread = self.thread.take()?;
        Some(thread.join().unwrap_or_else(|_| Err(io::Error::other("the recorder panicked"))))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        drop(self.end());
    }
}

fn record(mut writer: Writer, lines: &Receiver<Line>) -> io::Result<PathBuf> {
    for line in lines {
        match line {
            Line::Entry(at, entry) => writer.write(at, &entry)?,
            Line::Run(line) => writer.json(&line)?,
            Line::Discard => return Err(io::Error::other("it was discarded")),
        }
    }
    writer.finish()
}
