//! Prompts: read from JSON lines files or text files, or built in.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::engine::Prompt;
use crate::train::PromptTask;

/// Failure to read prompts.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The prompt file can't be read.
    #[error(
        "can't read prompts: {}: {source}; give a file with one JSON object per line",
        shown(file)
    )]
    Unreadable {
        /// Path of the file.
        file: PathBuf,
        /// Error of the system, or a line that is too long.
        source: io::Error,
    },
    /// The text file can't be read.
    #[error("can't read text: {}: {source}; give a UTF-8 text file", shown(file))]
    UnreadableText {
        /// Path of the file.
        file: PathBuf,
        /// Error of the system, or a text that is too long.
        source: io::Error,
    },
    /// The text file has no text.
    #[error("{} has no text; give a UTF-8 text file", shown(file))]
    NoText {
        /// Path of the file.
        file: PathBuf,
    },
    /// The prompt file has no valid line.
    #[error(
        "{} has no prompt; give one JSON object per line, with \"prompt\" or \"turns\"",
        shown(file)
    )]
    NoPrompt {
        /// Path of the file.
        file: PathBuf,
    },
}

/// Returns the default prompts.
///
/// They are of several kinds, since predictability differs between kinds of text.
pub fn built_in() -> Vec<Prompt> {
    include_str!("prompts.txt")
        .split("\n---\n")
        .enumerate()
        .map(|(number, text)| Prompt { id: number.to_string(), text: text.trim().into() })
        .collect()
}

/// Line of a prompt file; unknown fields are ignored.
#[derive(Deserialize)]
struct PromptLine {
    question_id: Option<Id>,
    prompt: Option<String>,
    turns: Option<Vec<String>>,
    then: Option<String>,
    begun: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(serde_json::Number),
    Text(String),
}

/// Longest line of a prompt file, in bytes.
///
/// Bounds the memory used for input that never ends a line, such as a device.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Longest text to train on, in bytes.
const MAX_TEXT_BYTES: u64 = 1 << 30;

/// UTF-8 byte order mark, which some editors write at the start of a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Number of invalid lines per file that are reported individually.
const MAX_REPORTED_LINES: usize = 20;

/// Returns true if a path stands for standard input.
pub(super) fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Opens a file to read, or standard input for "-".
fn open(path: &Path) -> io::Result<Box<dyn io::Read>> {
    Ok(if is_stdin(path) { Box::new(io::stdin()) } else { Box::new(File::open(path)?) })
}

/// Name of a file in messages.
fn shown(path: &Path) -> String {
    if is_stdin(path) { "standard input".into() } else { path.display().to_string() }
}

/// Reads prompt files in order until there are `limit` prompts.
///
/// An invalid line is skipped and reported to `warn`; blank lines are ignored.
///
/// # Errors
/// If a file can't be read or has no valid line.
pub fn read_files(
    files: &[PathBuf],
    limit: Option<usize>,
    warn: &mut dyn FnMut(String),
) -> Result<Vec<Prompt>, PromptError> {
    let mut prompts = Vec::new();
    for file in files {
        read_file(file, limit.unwrap_or(usize::MAX), &mut prompts, warn)?;
    }
    Ok(unique(prompts, warn))
}

/// Makes prompt ids unique.
///
/// An id keys the random numbers of a text and identifies its records. The first prompt with an id
/// keeps it, so that its text stays the same under the same seed. Later ones get file name and line
/// number appended, which depend neither on `--limit` nor on the folder. Warns once for all of
/// them.
fn unique(prompts: Vec<Read>, warn: &mut dyn FnMut(String)) -> Vec<Prompt> {
    let mut taken: HashSet<String> = HashSet::new();
    let (mut repeated, mut first) = (0, None);
    let mut all = Vec::with_capacity(prompts.len());
    for Read { mut prompt, place, .. } in prompts {
        if taken.contains(&prompt.id) {
            let mut id = format!("{}@{place}", prompt.id);
            while taken.contains(&id) {
                id.push('+');
            }
            repeated += 1;
            first.get_or_insert_with(|| format!("{:?} at {place}", prompt.id));
            prompt.id = id;
        }
        taken.insert(prompt.id.clone());
        all.push(prompt);
    }
    if let Some(first) = first {
        let many = if repeated == 1 {
            "1 prompt repeats".to_owned()
        } else {
            format!("{repeated} prompts repeat")
        };
        warn(format!(
            "{many} a question_id (first {first}); file and line are appended to each such id, for its own random numbers"
        ));
    }
    all
}

/// Reads the prompts of a file for training, with their optional `begun` and `then`.
///
/// # Errors
/// As [`read_files`].
pub(crate) fn read_asks(
    file: &Path,
    warn: &mut dyn FnMut(String),
) -> Result<Vec<PromptTask>, PromptError> {
    let mut prompts = Vec::new();
    read_file(file, usize::MAX, &mut prompts, warn)?;
    let ask = |read: Read| PromptTask {
        text: read.prompt.text,
        answer_start: read.begun,
        follow_up: read.then,
        is_given_text: false,
    };
    Ok(prompts.into_iter().map(ask).collect())
}

/// Approximate size of a piece of text, in bytes.
const PIECE_BYTES: usize = 2000;

/// Reads a text to train on, in pieces of about [`PIECE_BYTES`] bytes.
///
/// Whole paragraphs are joined while they fit; longer ones are split between words.
///
/// # Errors
/// If the file can't be read, or has no text.
pub(crate) fn read_text(file: &Path) -> Result<Vec<PromptTask>, PromptError> {
    let mut text = String::new();
    let read = open(file).and_then(|open| open.take(MAX_TEXT_BYTES + 1).read_to_string(&mut text));
    let unread = |source| PromptError::UnreadableText { file: file.into(), source };
    if read.map_err(unread)? as u64 > MAX_TEXT_BYTES {
        let why = format!("it has more than {MAX_TEXT_BYTES} bytes");
        return Err(unread(io::Error::new(io::ErrorKind::InvalidData, why)));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n");
    let mut pieces: Vec<String> = Vec::new();
    for part in text.split_inclusive("\n\n").flat_map(parts) {
        match pieces.last_mut() {
            Some(piece) if piece.len() + part.len() <= PIECE_BYTES => piece.push_str(part),
            _ => pieces.push(part.to_owned()),
        }
    }
    let ask = |text: &String| PromptTask {
        text: text.trim().into(),
        answer_start: None,
        follow_up: None,
        is_given_text: true,
    };
    let asks: Vec<PromptTask> = pieces.iter().map(ask).filter(|ask| !ask.text.is_empty()).collect();
    if asks.is_empty() { Err(PromptError::NoText { file: file.into() }) } else { Ok(asks) }
}

/// Splits a paragraph into parts of at most [`PIECE_BYTES`] bytes, between words if possible.
fn parts(paragraph: &str) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), paragraph);
    while rest.len() > PIECE_BYTES {
        let most =
            (0..=PIECE_BYTES).rev().find(|&at| rest.is_char_boundary(at)).unwrap_or(PIECE_BYTES);
        let at = rest[..most].rfind(char::is_whitespace).filter(|&at| at > 0).unwrap_or(most);
        parts.push(&rest[..at]);
        rest = &rest[at..];
    }
    parts.push(rest);
    parts
}

/// Prompt read from one line of a file.
struct Read {
    prompt: Prompt,
    /// File name and line number, such as `p.jsonl:3`.
    place: String,
    then: Option<String>,
    begun: Option<String>,
}

fn read_file(
    file: &Path,
    limit: usize,
    prompts: &mut Vec<Read>,
    warn: &mut dyn FnMut(String),
) -> Result<(), PromptError> {
    let unreadable = |source| PromptError::Unreadable { file: file.into(), source };
    let mut reader = BufReader::new(open(file).map_err(unreadable)?);
    let mut bytes = Vec::new();
    let before = prompts.len();
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let name = if is_stdin(file) { "stdin".into() } else { name };
    let mut bad = 0;
    for number in 1.. {
        if prompts.len() >= limit {
            break;
        }
        bytes.clear();
        if (&mut reader)
            .take(MAX_LINE_BYTES + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(unreadable)?
            == 0
        {
            break;
        }
        if bytes.len() as u64 > MAX_LINE_BYTES {
            let why = format!("line {number} has more than {MAX_LINE_BYTES} bytes");
            return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        if number == 1 && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        match read_line(&bytes, prompts.len(), || format!("{name}:{number}")) {
            Ok(prompt) => prompts.push(prompt),
            Err(why) => {
                bad += 1;
                if bad <= MAX_REPORTED_LINES {
                    warn(format!("{}:{number}: {why}; skipped", shown(file)));
                }
            }
        }
    }
    if bad > MAX_REPORTED_LINES {
        warn(format!("{}: {} more invalid lines; skipped", shown(file), bad - MAX_REPORTED_LINES));
    }
    if prompts.len() == before && prompts.len() < limit {
        Err(PromptError::NoPrompt { file: file.into() })
    } else {
        Ok(())
    }
}

fn read_line(bytes: &[u8], number: usize, place: impl Fn() -> String) -> Result<Read, String> {
    // serde_json reports "at line 1 column c" within the given line: only the column is meaningful.
    let line: PromptLine = serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
        format!("not a prompt as JSON: {what} at column {}", error.column())
    })?;
    let text = match (line.turns, line.prompt) {
        (Some(turns), _) => turns.into_iter().next().ok_or("\"turns\" is empty")?,
        (None, Some(prompt)) => prompt,
        (None, None) => return Err("neither \"prompt\" nor \"turns\"".into()),
    };
    if text.trim().is_empty() {
        return Err("the prompt is empty".into());
    }
    let id = match line.question_id {
        Some(Id::Number(id)) => id.to_string(),
        Some(Id::Text(id)) => id,
        None => number.to_string(),
    };
    Ok(Read { prompt: Prompt { id, text }, place: place(), then: line.then, begun: line.begun })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_pieces_contain_the_whole_text() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("text.txt");
        let words = "one two three four ".repeat(300);
        let text = format!("A title\r\n\r\n{words}\n\n{}\n\nshort\n\n\n\nlast\n", "é".repeat(3000));
        std::fs::write(&file, &text).unwrap();
        let asks = read_text(&file).unwrap();
        assert!(
            asks.iter().all(|ask| ask.is_given_text
                && ask.text.len() <= PIECE_BYTES
                && !ask.text.is_empty())
        );
        assert!(asks.len() >= (words.len() + 6000) / PIECE_BYTES, "{}", asks.len());
        let letters = |text: &str| text.split_whitespace().collect::<String>();
        assert_eq!(
            letters(&asks.iter().map(|ask| format!("{} ", ask.text)).collect::<String>()),
            letters(&text)
        );
        // Words stay whole, and short paragraphs are joined.
        assert!(
            asks[1].text.split(' ').all(|word| ["one", "two", "three", "four"].contains(&word)),
            "{}",
            asks[1].text
        );
        assert!(asks.last().unwrap().text.ends_with("short\n\n\n\nlast"), "{:?}", asks.last());

        std::fs::write(&file, " \n\n ").unwrap();
        assert!(read_text(&file).unwrap_err().to_string().contains("has no text"));
        std::fs::write(&file, b"a \xff b").unwrap();
        let said = read_text(&file).unwrap_err().to_string();
        assert!(said.contains("UTF-8") && said.lines().count() == 1, "{said}");
    }

    fn read(
        content: &[u8],
        limit: Option<usize>,
    ) -> (Result<Vec<Prompt>, PromptError>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.jsonl");
        std::fs::write(&file, content).unwrap();
        let mut said = Vec::new();
        let prompts = read_files(&[file], limit, &mut |line| said.push(line));
        (prompts, said)
    }

    fn pairs(prompts: &[Prompt]) -> Vec<(&str, &str)> {
        prompts.iter().map(|p| (p.id.as_str(), p.text.as_str())).collect()
    }

    #[test]
    fn ids_and_texts_of_every_kind_of_line() {
        let content = br#"{"question_id": 81, "turns": ["first", "second"], "category": "x"}
{"prompt": "plain"}

{"question_id": "abc", "prompt": "ignored", "turns": ["wins"]}
{"question_id": null, "prompt": "last"}"#;
        let (prompts, said) = read(content, None);
        assert_eq!(
            pairs(&prompts.unwrap()),
            [("81", "first"), ("1", "plain"), ("abc", "wins"), ("3", "last")]
        );
        assert!(said.is_empty(), "{said:?}");
    }

    #[test]
    fn repeated_ids_get_random_numbers_of_their_own_and_are_reported_once() {
        let content = br#"{"question_id": 81, "prompt": "a"}
{"question_id": "2", "prompt": "b"}
{"prompt": "its number is 2"}
{"question_id": 81, "prompt": "a"}
{"question_id": 81, "prompt": "c"}
{"question_id": "81@p.jsonl:6", "prompt": "d"}
{"question_id": 81, "prompt": "e"}"#;
        let (prompts, said) = read(content, None);
        let prompts = prompts.unwrap();
        let ids: Vec<&str> = prompts.iter().map(|p| p.id.as_str()).collect();
        assert_eq!(
            ids,
            [
                "81",
                "2",
                "2@p.jsonl:3",
                "81@p.jsonl:4",
                "81@p.jsonl:5",
                "81@p.jsonl:6",
                "81@p.jsonl:7"
            ]
        );
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("4 prompts repeat a question_id (first \"2\" at p.jsonl:3)"),
            "{said:?}"
        );
        let draws = |id: &str| crate::verify::TextRandom::new(0, id).uniform(5);
        assert!(draws(ids[3]) != draws("81") && draws(ids[3]) != draws(ids[4]));
        // A limit changes no id; reading the same file twice yields distinct prompts.
        let (first, said) = read(content, Some(4));
        assert_eq!((&first.unwrap()[..], said.len()), (&prompts[..4], 1));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.jsonl");
        std::fs::write(
            &file,
            b"{\"prompt\": \"a\", \"question_id\": 1}\n{\"prompt\": \"b\", \"question_id\": 1}",
        )
        .unwrap();
        let twice = read_files(&[file.clone(), file], None, &mut |_| ()).unwrap();
        let ids: Vec<&str> = twice.iter().map(|p| p.id.as_str()).collect();
        assert_eq!(ids, ["1", "1@p.jsonl:2", "1@p.jsonl:1", "1@p.jsonl:2+"]);
    }

    #[test]
    fn bad_lines_are_named_by_number_and_the_rest_goes_on() {
        let content =
            b"{\"prompt\": \"a\"}\n{\"prompt\": \n[]\n{\"turns\": []}\n{}\n{\"prompt\": \"  \"}\n\
                        {\"prompt\": 3}\n\xff\xfe\n{\"prompt\": \"b\"}\n";
        let (prompts, said) = read(content, None);
        assert_eq!(pairs(&prompts.unwrap()), [("0", "a"), ("1", "b")]);
        let numbers: Vec<&str> = said.iter().map(|line| line.split(':').nth(1).unwrap()).collect();
        assert_eq!(numbers, ["2", "3", "4", "5", "6", "7", "8"], "{said:#?}");
        assert!(said.iter().all(|line| !line.contains('\n')));
    }

    #[test]
    fn first_bad_lines_are_reported_and_the_rest_counted() {
        let (prompts, said) =
            read(format!("{}{{\"prompt\": \"a\"}}\n", "no\n".repeat(300)).as_bytes(), None);
        assert_eq!((prompts.unwrap().len(), said.len()), (1, MAX_REPORTED_LINES + 1));
        assert!(
            said[MAX_REPORTED_LINES].contains("280 more invalid lines"),
            "{}",
            said[MAX_REPORTED_LINES]
        );
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        for content in [
            "\u{feff}{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n",
            "\u{feff}\r\n{\"prompt\": \"a\"}\r\n{\"prompt\": \"b\"}",
        ] {
            let (prompts, said) = read(content.as_bytes(), None);
            assert_eq!((pairs(&prompts.unwrap()), said.len()), (vec![("0", "a"), ("1", "b")], 0));
        }
    }

    #[test]
    fn a_limit_stops_the_reading() {
        let (prompts, said) =
            read(b"{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\nnot json\n", Some(2));
        assert_eq!(prompts.unwrap().len(), 2);
        assert!(said.is_empty());
    }

    #[test]
    fn a_file_without_prompts_is_an_error() {
        for content in [&b""[..], b"\n\n", b"no\n"] {
            assert!(matches!(read(content, None).0, Err(PromptError::NoPrompt { .. })));
        }
        let missing = read_files(&["no/such/file".into()], None, &mut |_| ());
        assert!(matches!(missing, Err(PromptError::Unreadable { .. })));
    }

    #[test]
    fn the_built_in_prompts_are_whole() {
        let prompts = built_in();
        assert!(prompts.len() >= 6);
        for (number, prompt) in prompts.iter().enumerate() {
            assert_eq!(prompt.id, number.to_string());
            assert!(!prompt.text.trim().is_empty() && !prompt.text.contains("---"), "{prompt:?}");
        }
    }
}
