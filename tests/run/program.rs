//! The program in a folder of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::model;

/// Runs the program with the real model.
pub struct Program {
    folder: TempDir,
    model: PathBuf,
}

/// Exit status and output of a run.
pub struct RunOutput {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl RunOutput {
    /// Runs a command to completion.
    pub fn run_to_end(command: &mut Command) -> RunOutput {
        let out = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        RunOutput {
            status: out.status.code().unwrap_or(-1),
            out: text(out.stdout),
            err: text(out.stderr),
        }
    }
}

impl Program {
    pub fn new() -> Program {
        Program { folder: tempfile::tempdir().unwrap(), model: model::path() }
    }

    /// Returns a path in the folder of the test's files.
    pub fn path(&self, name: &str) -> String {
        let files = self.folder.path().join("files");
        std::fs::create_dir_all(&files).unwrap();
        files.join(name).to_str().unwrap().to_owned()
    }

    /// Returns the names of the test's files.
    pub fn names(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.path("")).unwrap();
        let mut names: Vec<String> =
            all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Writes a file of prompts with ids p0, p1, ...; returns its path.
    ///
    /// The file is not among the test's files.
    pub fn prompts(&self, texts: &[&str]) -> String {
        let line = |(i, text)| {
            serde_json::json!({ "question_id": format!("p{i}"), "turns": [text] }).to_string()
                + "\n"
        };
        let path = self.folder.path().join("prompts.jsonl");
        std::fs::write(&path, texts.iter().enumerate().map(line).collect::<String>()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes the user's models.toml; returns its path.
    pub fn models_toml(&self, content: &str) -> String {
        let folder = self.folder.path().join("config");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("models.toml");
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Path of the cache folder, which does not exist yet.
    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Builds a `speclight run` command with the real model, without starting it.
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

    /// Runs `speclight run` to completion.
    pub fn run(&self, args: &[&str]) -> RunOutput {
        RunOutput::run_to_end(&mut self.command(args))
    }
}

/// Parses the JSON lines of a run.
pub fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the concatenated step texts of one prompt.
pub fn texts(lines: &[Value], id: &str) -> String {
    let steps = lines.iter().filter(|line| line["type"] == "step" && line["prompt_id"] == id);
    steps
        .flat_map(|step| step["emitted_text"].as_array().unwrap())
        .map(|text| text.as_str().unwrap())
        .collect()
}

/// Returns a line without measured times.
pub fn without_times(mut line: Value) -> Value {
    let object = line.as_object_mut().unwrap();
    for key in [
        "time",
        "tokens_per_second",
        "autoregressive_tokens_per_second",
        "speed_up",
        "pass_seconds",
        "speed_of_light",
    ] {
        object.remove(key);
    }
    line
}

pub fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
