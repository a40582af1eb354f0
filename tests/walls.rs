//! The walls between the rooms (src/lib.rs, ARCHITECTURE.md): who may name what, checked on the source as it is written.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// A name, and the only parts of `src` that may name it.
const WALLS: &[(&str, &[&str])] = &[
    ("tokio", &["app/run.rs"]),
    ("ratatui", &["app/", "export/", "theme/", "ui/"]),
    // `doctor` asks the terminal for its size.
    ("crossterm", &["app/", "cli/machine.rs", "theme/", "ui/"]),
    ("candle_core", &["engine/", "model/", "train/"]),
    ("candle_nn", &["model/", "train/"]),
    ("tokenizers", &["model/"]),
    ("model::", &["cli/", "draft/", "engine/", "model/", "train/"]),
    ("unsafe", &["model/kernels/"]),
];

/// Ways to standard output, standard error and progress bars, and the only parts of `src` that may take them: foreign text
/// goes through `clean` there.
const GATES: &[(&str, &[&str])] = &[
    // Help and version, by clap.
    ("print", &["main.rs"]),
    ("println", &[]),
    ("eprint", &[]),
    ("eprintln", &[]),
    ("dbg", &[]),
    ("set_message", &["cli/progress.rs"]),
    (
        "stderr",
        &["cli/errors.rs", "cli/progress.rs", "cli/run/mod.rs", "cli/study/pace.rs", "draft/external/", "registry/pypi.rs"],
    ),
    (
        "stdout",
        &[
            "app/run.rs",
            "app/terminal.rs",
            "cli/completions.rs",
            "cli/errors.rs",
            "cli/lines.rs",
            "cli/machine.rs",
            "cli/man.rs",
            "cli/run/mod.rs",
            "cli/train/mod.rs",
            "draft/external/",
            "registry/",
        ],
    ),
];

/// The names that the code of the file `path` (below `src`) may not hold, with the number of the line.
fn breaches(path: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        for (name, rooms) in WALLS.iter().chain(GATES) {
            if names(line, name) && !rooms.iter().any(|room| path.starts_with(room)) {
                found.push(format!("{path}:{}: {name}", number + 1));
            }
        }
    }
    found
}

/// Whether a line holds this name as a whole word.
fn names(line: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        !before.ends_with(word) && (name.ends_with(':') || !after.starts_with(word))
    })
}

fn files(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push(path);
        }
    }
}

#[test]
fn every_room_names_only_what_it_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut found = Vec::new();
    let mut used = vec![0; WALLS.len()];
    for file in &all {
        let path = file.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
        let code = fs::read_to_string(file).unwrap();
        found.extend(breaches(&path, &code));
        for (count, (name, _)) in used.iter_mut().zip(WALLS) {
            *count += code.lines().filter(|line| names(line, name)).count();
        }
    }
    assert_eq!(found, Vec::<String>::new(), "src/lib.rs says which room may name what");
    // A wall around a name that nobody uses would guard nothing: the scan would pass if it saw no file.
    let idle: Vec<&str> = WALLS.iter().zip(used).filter(|(_, count)| *count == 0).map(|(wall, _)| wall.0).collect();
    assert_eq!(idle, Vec::<&str>::new(), "names that no file uses");
}

#[test]
fn a_breach_is_seen() {
    for (path, code) in [
        ("engine/thread.rs", "use tokio::sync::mpsc;"),
        ("app/update.rs", "    tokio::spawn(later())"),
        ("telemetry/record.rs", "fn draw(frame: &mut ratatui::Frame) {}"),
        ("registry/mod.rs", "use {std::io, crossterm as terminal};"),
        ("cli/run/mod.rs", "use crossterm::style;"),
        ("dist.rs", "use candle_core::Tensor;"),
        ("tree.rs", "use crate::model::Node; // a node"),
        ("theory/pool.rs", "let x: super::super::model::Logits;"),
        ("ui/views/tree.rs", "use crate::{app::State, model::Model};"),
        ("export/svg.rs", "use tokenizers::Tokenizer;"),
        ("model/gguf.rs", "unsafe { read() }"),
        ("cli/doctor.rs", "println!(\"{name}\");"),
        ("engine/thread.rs", "eprintln!(\"{name}\");"),
        ("cli/study/pace.rs", "bar.set_message(name);"),
        ("cli/models.rs", "writeln!(std::io::stdout(), \"{name}\")"),
    ] {
        assert_eq!(breaches(path, &format!("\n{code}\n")).len(), 1, "{path}: {code}");
    }
    for (path, code) in [
        ("engine/thread.rs", "// tokio is the monitor's"),
        ("engine/thread.rs", "/// As ratatui does."),
        ("engine/thread.rs", "let tokio_like = untokio;"),
        ("ui/views/chrome.rs", "info.model.is_empty()"),
        ("ui/views/chrome.rs", "submodel::draw()"),
        ("app/run.rs", "use tokio::time::sleep_until;"),
        ("model/kernels/pool.rs", "unsafe { work() }"),
    ] {
        assert_eq!(breaches(path, code), Vec::<String>::new(), "{path}: {code}");
    }
}
