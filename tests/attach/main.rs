//! `speclight attach` and `speclight import`: the real program on a real llama.cpp server, on stubs
//! of other engines, and on hostile servers.
#![allow(clippy::unwrap_used)]

mod hostile;
mod import;
#[path = "../common/model.rs"]
mod model;
mod real;
mod streams;
mod stub;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// Output of the program.
pub(crate) struct Out {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Folder in which the program keeps probes: one for all tests of a run, empty at its start.
fn cache() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("attach-cache");
        let _ = std::fs::remove_dir_all(&folder);
        folder
    })
}

/// `speclight` with these arguments and no key in its environment.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_speclight"));
    command
        .args(args)
        .env("RUST_BACKTRACE", "0")
        .env("SPECLIGHT_CACHE", cache())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for name in ["OPENAI_API_KEY", "LLAMA_API_KEY", "VLLM_API_KEY", "SGLANG_API_KEY"] {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end.
pub(crate) fn run(args: &[&str]) -> Out {
    ended(&mut command(args))
}

pub(crate) fn ended(command: &mut Command) -> Out {
    let out = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Out { status: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) }
}

/// Lines of JSON, each valid by the schema.
pub(crate) fn lines(text: &str) -> Vec<Value> {
    let schema: Value =
        serde_json::from_str(include_str!("../../schema/attach.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in &lines {
        assert!(schema.is_valid(line), "{}: {line}", schema.validate(line).unwrap_err());
    }
    assert_eq!(
        (&lines[0]["type"], &lines.last().unwrap()["type"]),
        (&Value::from("run"), &Value::from("summary"))
    );
    lines
}

/// Steps among lines.
pub(crate) fn steps(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| line["type"] == "step").collect()
}

/// Sum of a field over steps.
pub(crate) fn sum(steps: &[&Value], name: &str) -> f64 {
    steps.iter().map(|step| step[name].as_f64().unwrap()).sum()
}
