//! Bad inputs, one a row: the exact line, the exit status, and nothing left behind.
//!
//! Each case runs the real program on files made for it. `expected.txt` has the status and the line
//! of each; after a change of wording, `SPECLIGHT_REVIEW=1` writes the new lines to
//! `expected.txt.new`, which is to be read before it replaces the old one.
#![allow(clippy::unwrap_used)]

mod files;
mod models;
mod other;
mod settings;
#[path = "../common/tiny_gguf.rs"]
mod tiny_gguf;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Input that the program must refuse.
pub struct Case {
    name: String,
    /// Files by name, relative to the folder of the case; a name that ends in `/` is a folder.
    files: Vec<(String, Vec<u8>)>,
    /// Arguments; `DIR` stands for the folder of the case.
    args: Vec<String>,
    status: i32,
}

/// Status and line of each case by its name; `DIR` stands for the folder of the case.
const EXPECTED: &str = include_str!("expected.txt");

/// Returns the expected status and line of a case.
fn expected(name: &str) -> Option<&'static str> {
    let mut lines = EXPECTED.lines();
    lines.by_ref().find(|line| *line == name)?;
    lines.next().map(|line| line.trim_start())
}

impl Case {
    fn new(name: &str, args: &str, status: i32) -> Case {
        let args = args.split(' ').filter(|arg| !arg.is_empty()).map(String::from).collect();
        let plain = |c: char| {
            if matches!(c, ' '..='~') { c.to_string() } else { c.escape_unicode().to_string() }
        };
        let name = name.chars().map(plain).collect();
        Case { name, files: Vec::new(), args, status }
    }

    /// Adds a file.
    fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Case {
        self.files.push((name.into(), content.as_ref().to_vec()));
        self
    }

    /// Adds an argument, which may hold spaces.
    fn arg(mut self, arg: &str) -> Case {
        self.args.push(arg.into());
        self
    }
}

/// Returns all files below a folder, with their contents.
fn contents(folder: &Path, below: &str, all: &mut BTreeMap<String, Option<Vec<u8>>>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = format!("{below}{}", entry.file_name().unwrap().to_str().unwrap());
        if entry.is_dir() {
            contents(&entry, &format!("{name}/"), all);
            all.insert(format!("{name}/"), None);
        } else {
            all.insert(name, Some(fs::read(&entry).unwrap()));
        }
    }
}

/// Runs a case; returns its status and line, and the reasons why it fails.
fn check(case: &Case) -> (String, Vec<String>) {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("files");
    fs::create_dir(&folder).unwrap();
    for (name, content) in &case.files {
        let path = folder.join(name);
        fs::create_dir_all(if name.ends_with('/') { &path } else { path.parent().unwrap() })
            .unwrap();
        if !name.ends_with('/') {
            fs::write(path, content).unwrap();
        }
    }
    let mut before = BTreeMap::new();
    contents(home.path(), "", &mut before);
    let here = folder.to_str().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_speclight"));
    command
        .args(case.args.iter().map(|arg| arg.replace("DIR", here)))
        .current_dir(&folder)
        .stdin(Stdio::null());
    command
        .env("SPECLIGHT_CACHE", folder.join("cache"))
        .env("SPECLIGHT_CONFIG", folder.join("config"));
    command.env("HOME", home.path()).env_remove("RUST_BACKTRACE").env_remove("SPECLIGHT_MODEL");
    let out = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap().replace(here, "DIR");
    let (printed, said) = (text(out.stdout), text(out.stderr));
    let mut wrong = Vec::new();
    let mut expect = |what: &str, holds: bool, seen: &str| {
        if !holds {
            wrong.push(format!("{}: {what}: {seen}", case.name));
        }
    };
    expect("status", out.status.code() == Some(case.status), &format!("{:?}", out.status));
    expect("standard output", printed.is_empty(), &printed);
    expect("panic", !said.contains("panicked") && !said.contains("internal error"), &said);
    let line =
        said.strip_prefix("speclight: ").and_then(|line| line.strip_suffix('\n')).unwrap_or(&said);
    expect("one line", !line.contains('\n'), line);
    let seen = format!("{} {line}", case.status);
    expect("line", expected(&case.name) == Some(&seen), line);
    let mut after = BTreeMap::new();
    contents(home.path(), "", &mut after);
    let changed = after
        .iter()
        .filter(|(name, content)| before.get(*name) != Some(content))
        .map(|(name, _)| name.as_str());
    let changed: Vec<&str> = changed
        .chain(before.keys().filter(|name| !after.contains_key(*name)).map(String::as_str))
        .collect();
    expect("files left behind or changed", changed.is_empty(), &format!("{changed:?}"));
    (seen, wrong)
}

#[track_caller]
fn check_all(cases: &[Case]) {
    let (mut lines, mut all) = (String::new(), Vec::new());
    for case in cases {
        let (seen, wrong) = check(case);
        lines += &format!("{}\n    {seen}\n", case.name);
        all.extend(wrong);
    }
    if std::env::var_os("SPECLIGHT_REVIEW").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_inputs/expected.txt.new");
        let file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        std::io::Write::write_all(&mut &file, lines.as_bytes()).unwrap();
    }
    assert!(all.is_empty(), "{} of {} cases:\n{}", all.len(), cases.len(), all.join("\n"));
}

#[test]
fn bad_gguf_files_are_refused_in_one_line() {
    check_all(&models::cases());
}

#[test]
fn bad_model_folders_are_refused_in_one_line() {
    check_all(&files::cases());
}

#[test]
fn bad_lists_prompts_heads_and_results_are_refused_in_one_line() {
    check_all(&other::cases());
}

#[test]
fn bad_options_are_refused_in_one_line() {
    check_all(&settings::cases());
}

#[test]
fn the_table_has_at_least_80_distinct_inputs() {
    let all = [models::cases(), files::cases(), other::cases(), settings::cases()];
    let names: Vec<&str> = all.iter().flatten().map(|case| case.name.as_str()).collect();
    let distinct: std::collections::BTreeSet<&str> = names.iter().copied().collect();
    assert!(
        names.len() >= 80 && distinct.len() == names.len(),
        "{} cases, {} names",
        names.len(),
        distinct.len()
    );
    // No line of a case that is gone.
    assert_eq!(EXPECTED.lines().count(), 2 * names.len());
}
