//! Reader of recordings. Files can be cut, damaged, or hostile: all sizes are bounded.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::check::check;
use super::{Entry, Header, VERSION};

/// Maximum length of a line in bytes. The longest lines hold the texts of all prompts.
const MAX_LINE: u64 = 64 << 20;
/// Maximum length of a line of any type but `ready` and `prompt_started`, in bytes.
const MAX_RECORD: usize = 1 << 20;
/// Maximum size of a decompressed recording in bytes.
const MAX_BYTES: u64 = 16 << 30;
/// Maximum size of all prompts together in bytes, since they are kept.
const MAX_PROMPTS: usize = 64 << 20;
/// Binary logarithm of the largest window that the decompressor allocates: 16 MiB.
const MAX_WINDOW_LOG: u32 = 24;
/// Maximum length of a first line in bytes.
const MAX_HEADER: u64 = 4096;

/// Error for a file that is no recording which this version can read.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// File can't be opened or read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// First line is not that of a recording.
    #[error("it is not a recording of speclight")]
    NotARecording,
    /// Format is newer than this program.
    #[error(
        "its format has version {0}, and this program reads version {VERSION}: update speclight"
    )]
    Newer(u32),
}

/// Completeness of a recording, known once all entries were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordingEnd {
    /// Last line is there.
    Whole,
    /// Recording ends early, as after a kill; all entries before the cut were read.
    Cut,
    /// Something in it is invalid: the line, from 1, and the problem. All entries before it were
    /// read.
    Damaged(usize, String),
}

/// Entry with the time at which it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedEntry {
    /// Time since the recorded program started.
    pub at: Duration,
    /// Entry of the recording; never one of time, header, or end.
    pub entry: Entry,
}

/// Lines of a recording, decompressed one by one.
struct Lines<R: Read> {
    input: BufReader<zstd::stream::read::Decoder<'static, BufReader<R>>>,
    line: Vec<u8>,
    number: usize,
    bytes: u64,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> io::Result<Lines<R>> {
        let mut decoder = zstd::stream::read::Decoder::new(input)?;
        decoder.window_log_max(MAX_WINDOW_LOG)?;
        Ok(Lines {
            input: BufReader::with_capacity(1 << 16, decoder),
            line: Vec::new(),
            number: 0,
            bytes: 0,
        })
    }

    /// Returns the next whole line of at most `most` bytes, or how the recording ends.
    fn next(&mut self, most: u64) -> Result<&[u8], RecordingEnd> {
        self.line.clear();
        self.number += 1;
        let damaged = |problem: String| Err(RecordingEnd::Damaged(self.number, problem));
        match self.input.by_ref().take(most + 1).read_until(b'\n', &mut self.line) {
            Ok(_) if self.line.last() == Some(&b'\n') => {}
            Ok(_) if self.line.len() as u64 > most => {
                return damaged(format!("it is longer than {most} bytes"));
            }
            Ok(_) => return Err(RecordingEnd::Cut),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(RecordingEnd::Cut);
            }
            Err(error) => return damaged(error.to_string()),
        }
        self.bytes += self.line.len() as u64;
        if self.bytes > MAX_BYTES {
            return damaged(format!("the recording is larger than {} GiB", MAX_BYTES >> 30));
        }
        // Otherwise the memory of one long line would be held until the end.
        self.line.shrink_to(self.line.len().max(MAX_RECORD));
        Ok(&self.line)
    }

    /// Returns how the recording ends behind its last line, where the checksum is.
    fn after_end(&mut self) -> RecordingEnd {
        match self.input.fill_buf() {
            Ok(_) => RecordingEnd::Whole,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => RecordingEnd::Cut,
            Err(error) => RecordingEnd::Damaged(self.number, error.to_string()),
        }
    }

    /// Reads and checks the header line.
    fn header(&mut self) -> Result<Header, RecordingError> {
        let line = self.next(MAX_HEADER).map_err(|_| RecordingError::NotARecording)?;
        match serde_json::from_slice(line) {
            Ok(Entry::Recording(header)) if header.version <= VERSION => Ok(header),
            Ok(Entry::Recording(header)) => Err(RecordingError::Newer(header.version)),
            _ => Err(RecordingError::NotARecording),
        }
    }
}

/// Reader of a recording, entry by entry.
pub struct Reader<R: Read> {
    lines: Lines<R>,
    header: Header,
    at: Duration,
    prompts: usize,
    end: Option<RecordingEnd>,
}

impl Reader<File> {
    /// Opens a recording and reads its header.
    ///
    /// # Errors
    /// If the file can't be read, or is no recording that this version can read.
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        Reader::new(File::open(path)?)
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header of a recording.
    ///
    /// # Errors
    /// If the input can't be read, or is no recording that this version can read.
    pub fn new(input: R) -> Result<Self, RecordingError> {
        let mut lines = Lines::new(input)?;
        let header = lines.header()?;
        Ok(Reader { lines, header, at: Duration::ZERO, prompts: 0, end: None })
    }

    /// Returns the header of this recording.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns how the recording ends, once [`Iterator::next`] has returned `None`.
    pub fn end(&self) -> Option<&RecordingEnd> {
        self.end.as_ref()
    }

    /// Reads lines up to the next entry.
    fn entry(&mut self) -> Result<TimedEntry, RecordingEnd> {
        loop {
            let line = self.lines.next(MAX_LINE)?;
            let (length, parsed) = (line.len(), serde_json::from_slice::<Entry>(line));
            let number = self.lines.number;
            let damaged = |problem: String| RecordingEnd::Damaged(number, problem);
            let entry = parsed.map_err(|error| damaged(error.to_string()))?;
            check(&entry).map_err(|problem| damaged(problem.to_owned()))?;
            match &entry {
                Entry::Ready { .. } | Entry::PromptStarted { .. } => self.prompts += length,
                _ if length > MAX_RECORD => {
                    return Err(damaged(format!("it is longer than {MAX_RECORD} bytes")));
                }
                _ => {}
            }
            if self.prompts > MAX_PROMPTS {
                return Err(damaged(format!(
                    "the prompts are larger than {} MiB",
                    MAX_PROMPTS >> 20
                )));
            }
            match entry {
                // Time never goes back, whatever the file says.
                Entry::At { seconds } => {
                    self.at = self.at.max(Duration::try_from_secs_f64(seconds).unwrap_or(self.at))
                }
                Entry::End => return Err(self.lines.after_end()),
                Entry::Recording(_) | Entry::Other => {}
                entry => return Ok(TimedEntry { at: self.at, entry }),
            }
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = TimedEntry;

    fn next(&mut self) -> Option<TimedEntry> {
        if self.end.is_some() {
            return None;
        }
        self.entry().map_err(|end| self.end = Some(end)).ok()
    }
}

/// Length of a recording, from its lines of time and steps alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Time of the last entry, since the recorded program started.
    pub length: Duration,
    /// Number of steps in the recording.
    pub steps: usize,
}

/// Reads through a recording for its length, without checking the entries.
///
/// # Errors
/// Those of [`Reader::new`].
pub fn scan(input: impl Read) -> Result<Scan, RecordingError> {
    /// Line of which only the time is read.
    #[derive(Deserialize)]
    struct Brief {
        seconds: f64,
    }
    let mut lines = Lines::new(input)?;
    lines.header()?;
    let mut scan = Scan::default();
    while let Ok(line) = lines.next(MAX_LINE) {
        if line.starts_with(b"{\"type\":\"step\"") {
            scan.steps += 1;
        } else if line.starts_with(b"{\"type\":\"at\"")
            && let Ok(Brief { seconds }) = serde_json::from_slice(line)
        {
            scan.length =
                scan.length.max(Duration::try_from_secs_f64(seconds.min(1e9)).unwrap_or_default());
        }
    }
    Ok(scan)
}
