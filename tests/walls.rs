//! Module boundaries (ARCHITECTURE.md): which parts of `src` may use which names.
//!
//! Checked on the source text.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Restricted names, and the only parts of `src` that may use them.
const RESTRICTED_NAMES: &[(&str, &[&str])] = &[
    ("tokio", &["tui/event_loop.rs"]),
    ("ratatui", &["tui/"]),
    // `doctor` asks the terminal for its size.
    ("crossterm", &["cli/machine.rs", "tui/"]),
    ("candle_core", &["engine/", "model/", "train/"]),
    ("candle_nn", &["model/", "train/"]),
    ("tokenizers", &["model/"]),
    ("model::", &["cli/", "draft/", "engine/", "fuzzing/", "model/", "study/bench/", "train/"]),
    ("unsafe", &["model/cpu/"]),
];

/// Names that write to standard streams or progress bars, with the files allowed.
///
/// Those parts pass untrusted text through `sanitize`.
const OUTPUT_NAMES: &[(&str, &[&str])] = &[
    // For clap's help and version.
    ("print", &["main.rs"]),
    // Reports of tests.
    ("println", &["fuzzing/"]),
    ("eprint", &[]),
    ("eprintln", &[]),
    ("dbg", &[]),
    ("set_message", &["cli/progress.rs"]),
    (
        "stderr",
        &[
            "cli/errors.rs",
            "cli/progress.rs",
            "cli/run/mod.rs",
            "cli/study/progress.rs",
            "draft/drafters/external/",
            "registry/pypi.rs",
        ],
    ),
    (
        "stdout",
        &[
            "tui/event_loop.rs",
            "tui/terminal.rs",
            "cli/errors.rs",
            "cli/lines.rs",
            "cli/machine.rs",
            "cli/run/mod.rs",
            "cli/train/mod.rs",
            "draft/drafters/external/",
            // Of a child process.
            "model/cpu/features.rs",
            "registry/",
        ],
    ),
];

/// Returns the restricted names used by the code of a file, with line numbers.
///
/// `path` is relative to `src`.
fn breaches(path: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        // Words of Content-Security-Policy and of style sheets.
        let line = &line.replace("unsafe-inline", "").replace("@media print", "");
        let line = &line.replace("print-color-adjust", "");
        for (name, rooms) in RESTRICTED_NAMES.iter().chain(OUTPUT_NAMES) {
            if names(line, name) && !rooms.iter().any(|room| path.starts_with(room)) {
                found.push(format!("{path}:{}: {name}", number + 1));
            }
        }
    }
    found
}

/// Returns `true` if a line contains `name` as a whole word.
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

/// Returns the path of each source file relative to `src`, and its text.
fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let read = |file: &PathBuf| {
        let path = file.strip_prefix(&src).unwrap().to_str().unwrap().replace('\\', "/");
        (path, fs::read_to_string(file).unwrap())
    };
    all.iter().map(read).collect()
}

#[test]
fn modules_use_only_allowed_names() {
    let mut found = Vec::new();
    let mut used = vec![0; RESTRICTED_NAMES.len()];
    for (path, code) in sources() {
        found.extend(breaches(&path, &code));
        for (count, (name, _)) in used.iter_mut().zip(RESTRICTED_NAMES) {
            *count += code.lines().filter(|line| names(line, name)).count();
        }
    }
    assert_eq!(found, Vec::<String>::new(), "ARCHITECTURE.md has the boundaries");
    // A restriction on a name that no file uses would be useless; this also fails if the scan reads
    // no files.
    let idle: Vec<&str> = RESTRICTED_NAMES
        .iter()
        .zip(used)
        .filter(|(_, count)| *count == 0)
        .map(|(wall, _)| wall.0)
        .collect();
    assert_eq!(idle, Vec::<&str>::new(), "names that no file uses");
}

#[test]
fn violations_are_detected() {
    for (path, code) in [
        ("engine/driver.rs", "use tokio::sync::mpsc;"),
        ("tui/update.rs", "    tokio::spawn(later())"),
        ("telemetry/record.rs", "fn draw(frame: &mut ratatui::Frame) {}"),
        ("registry/mod.rs", "use {std::io, crossterm as terminal};"),
        ("cli/run/mod.rs", "use crossterm::style;"),
        ("distribution.rs", "use candle_core::Tensor;"),
        ("tree.rs", "use crate::model::Node; // a node"),
        ("theory/pool.rs", "let x: super::super::model::Logits;"),
        ("tui/views/panes/tree.rs", "use crate::{tui::State, model::Model};"),
        ("tui/svg.rs", "use tokenizers::Tokenizer;"),
        ("model/gguf.rs", "unsafe { read() }"),
        ("cli/doctor.rs", "println!(\"{name}\");"),
        ("engine/driver.rs", "eprintln!(\"{name}\");"),
        ("cli/study/progress.rs", "bar.set_message(name);"),
        ("cli/models.rs", "writeln!(std::io::stdout(), \"{name}\")"),
    ] {
        assert_eq!(breaches(path, &format!("\n{code}\n")).len(), 1, "{path}: {code}");
    }
    for (path, code) in [
        ("engine/driver.rs", "// tokio is the monitor's"),
        ("engine/driver.rs", "/// As ratatui does."),
        ("engine/driver.rs", "let tokio_like = untokio;"),
        ("tui/views/panes/chrome.rs", "info.model.is_empty()"),
        ("tui/views/panes/chrome.rs", "submodel::draw()"),
        ("tui/event_loop.rs", "use tokio::time::sleep_until;"),
        ("model/cpu/pool.rs", "unsafe { work() }"),
    ] {
        assert_eq!(breaches(path, code), Vec::<String>::new(), "{path}: {code}");
    }
}

/// Parts of `src` that may name an option such as `--budget`: the command line, and those that
/// call another program, or tell how a server has to be started.
const OPTION_NAMES_ALLOWED: &[&str] = &[
    "main.rs",
    "cli/",
    "attach/llama.rs",
    "attach/sglang.rs",
    "attach/vllm.rs",
    // llama-gguf-split
    "model/config.rs",
    // pip
    "registry/pypi.rs",
];

/// Returns the options that a line of code names; comments of whole lines are skipped.
fn option_names(line: &str) -> Vec<&str> {
    if line.trim_start().starts_with("//") {
        return Vec::new();
    }
    let words = line.split(|c: char| !c.is_alphanumeric() && c != '-');
    let option = |word: &&str| {
        word.strip_prefix("--").is_some_and(|name| name.starts_with(|c: char| c.is_alphabetic()))
    };
    words.filter(option).collect()
}

#[test]
fn only_the_command_line_names_its_options() {
    let mut found = Vec::new();
    for (path, code) in sources() {
        if OPTION_NAMES_ALLOWED.iter().any(|part| path.starts_with(part)) {
            continue;
        }
        for (number, line) in code.lines().enumerate() {
            found.extend(
                option_names(line).iter().map(|name| format!("{path}:{}: {name}", number + 1)),
            );
        }
    }
    assert_eq!(found, Vec::<String>::new(), "src/cli/errors.rs adds the fix to an error");
}

#[test]
fn options_in_texts_are_detected() {
    assert_eq!(option_names("bail!(\"the device failed: give --device cpu\");"), ["--device"]);
    // A text of several lines.
    assert_eq!(option_names("     or give another --state\");"), ["--state"]);
    assert_eq!(option_names("a -- b, --, a--b, ---, -x"), Vec::<&str>::new());
    assert_eq!(option_names("    /// Lines of `run --json`."), Vec::<&str>::new());
}

/// Words of no meaning outside of this program, or with a standard term to use instead.
const PRIVATE_WORDS: &[&str] = &[
    "anew",
    "asked for",
    "law",
    "laws",
    "looked at",
    "nobody",
    "put out",
    "refusal",
    "refusals",
    "thrift",
    "thrifty",
    "told",
    "warp",
    "wish",
    "wished",
    "wishes",
    "worth",
];

/// Minimum length of a doc comment, in words: a shorter one repeats the name.
const MIN_DOC_WORDS: usize = 4;

/// Returns the words of `PRIVATE_WORDS` in a text; code in backticks is skipped.
fn private_words(text: &str) -> Vec<&'static str> {
    let prose: String = text.split('`').step_by(2).collect::<Vec<_>>().join(" ").to_lowercase();
    PRIVATE_WORDS.iter().copied().filter(|word| names(&prose, word)).collect()
}

/// Returns the doc comments of a file, each as one line, with the number of its first line.
fn docs(code: &str) -> Vec<(usize, String)> {
    let mut all: Vec<(usize, String)> = Vec::new();
    let mut last = None;
    for (number, line) in code.lines().enumerate() {
        let line = line.trim();
        let kind = ["///", "//!"].into_iter().find(|kind| line.starts_with(kind));
        if let Some(kind) = kind {
            let text = line[kind.len()..].trim();
            match all.last_mut().filter(|_| last == Some(kind)) {
                Some((_, doc)) => *doc = format!("{doc} {text}"),
                None => all.push((number + 1, text.to_owned())),
            }
        }
        last = kind;
    }
    all
}

/// Returns the string literals of a line, without raw strings.
fn literals(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (&mut open, c) {
            (Some(text), '\\') => text.extend(chars.next()),
            (Some(_), '"') => found.extend(open.take()),
            (Some(text), c) => text.push(c),
            (None, '"') => open = Some(String::new()),
            (None, '/') if chars.as_str().starts_with('/') => break,
            (None, _) => {}
        }
    }
    found
}

#[test]
fn docs_help_and_screen_use_standard_terms() {
    let mut found = Vec::new();
    for (path, code) in sources() {
        for (number, doc) in docs(&code) {
            for word in private_words(&doc) {
                found.push(format!("{path}:{number}: `{word}` in a doc comment"));
            }
            if doc.split_whitespace().count() < MIN_DOC_WORDS {
                found.push(format!("{path}:{number}: doc comment of three words or fewer"));
            }
        }
        // Help texts and messages of the command line, and labels of the screen.
        if path.starts_with("cli/") || path.starts_with("tui/") {
            for (number, line) in code.lines().enumerate() {
                for text in literals(line).iter().filter(|text| text.contains(' ')) {
                    for word in private_words(text) {
                        found.push(format!("{path}:{}: `{word}` in a string", number + 1));
                    }
                }
            }
        }
    }
    assert_eq!(found, Vec::<String>::new(), "docs/glossary.md has the terms");
}

/// Files for readers outside of `docs`.
const PAGES: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "heads/README.md"];

#[test]
fn pages_use_standard_terms() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let mut found = Vec::new();
    for page in PAGES.iter().map(|page| root.join(page)).chain(pages) {
        for (number, line) in fs::read_to_string(&page).unwrap().lines().enumerate() {
            for word in private_words(line) {
                found.push(format!("{}:{}: `{word}`", page.display(), number + 1));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new(), "docs/glossary.md has the terms");
}

#[test]
fn private_words_and_short_docs_are_detected() {
    assert_eq!(private_words("The law of `law(node)`, as it was told"), ["law", "told"]);
    assert_eq!(private_words("flaws, worthless `worth`"), Vec::<&str>::new());
    let code = "//! Module.\n\n/// Its name.\n/// And more.\nfn f() {} // no doc\n/// x\n";
    let expected = [(1, "Module."), (3, "Its name. And more."), (6, "x")];
    assert_eq!(docs(code), expected.map(|(number, doc)| (number, doc.to_owned())));
    assert_eq!(literals(r#"f("a \" b", 'c') // "d""#), ["a \" b"]);
}
