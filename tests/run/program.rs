//! The program in a folder of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::model;

/// Starts the program with the real model.
pub struct Program {
    folder: TempDir,
    model: PathBuf,
}

/// What a run put out.
pub struct Out {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Out {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Out {
        let out = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Out { status: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) }
    }
}

impl Program {
    pub fn new() -> Program {
        Program { folder: tempfile::tempdir().unwrap(), model: model::path() }
    }

    /// A path in the folder of the test's files.
    pub fn path(&self, name: &str) -> String {
        let files = self.folder.path().join("files");
        std::fs::create_dir_all(&files).unwrap();
        files.join(name).to_str().unwrap().to_owned()
    }

    /// The names of the test's files.
    pub fn names(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.path("")).unwrap();
        let mut names: Vec<String> = all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A file of prompts with the ids p0, p1, ...; outside the test's files.
    pub fn prompts(&self, texts: &[&str]) -> String {
        let line = |(i, text)| serde_json::json!({ "question_id": format!("p{i}"), "turns": [text] }).to_string() + "\n";
        let path = self.folder.path().join("prompts.jsonl");
        std::fs::write(&path, texts.iter().enumerate().map(line).collect::<String>()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes the person's own models.toml; its path.
    pub fn models_toml(&self, content: &str) -> String {
        let folder = self.folder.path().join("config");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("models.toml");
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The folder of the cache, which nothing has made yet.
    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// `speclight run` with the real model, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_speclight"));
        command.arg("run");
        if !args.contains(&"--device") {
            command.args(["--device", "cpu"]);
        }
        if !args.contains(&"--model") {
            command.arg("--model").arg(&self.model);
        }
        command.args(args).env("RUST_BACKTRACE", "0");
        command.env("SPECLIGHT_CACHE", self.cache());
        command.env("SPECLIGHT_CONFIG", self.folder.path().join("config"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Out {
        Out::of(&mut self.command(args))
    }
}

/// The lines of a run.
pub fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The text of the steps of one prompt.
pub fn texts(lines: &[Value], id: &str) -> String {
    let steps = lines.iter().filter(|line| line["type"] == "step" && line["prompt_id"] == id);
    steps.flat_map(|step| step["emitted_text"].as_array().unwrap()).map(|text| text.as_str().unwrap()).collect()
}

/// A line without what is measured by the clock.
pub fn without_times(mut line: Value) -> Value {
    let object = line.as_object_mut().unwrap();
    for key in ["time", "tokens_per_second", "autoregressive_tokens_per_second", "speed_up", "pass_seconds", "speed_of_light"] {
        object.remove(key);
    }
    line
}

pub fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
