//! Kinds of work that write files, with what must hold for the files at any moment.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};
use speclight::model::HeadForm;
use speclight::model::format::weights::Weights;
use tempfile::TempDir;

use super::server::{Response, Server};

/// Timeout for busy machines; a passing test never waits that long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// First words of lines about a download's progress.
const PROGRESS: [&str; 3] =
    ["speclight: downloading ", "speclight: checking", "speclight: waiting for another"];

/// Length of the file that `models fetch` downloads, in bytes.
const DOWNLOAD: usize = 3 << 20;

/// Folder of one user, with a tiny model, prompts and a hub.
pub struct Home {
    folder: TempDir,
    hub: Server,
}

/// Exit status and standard error of a run.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub err: String,
}

impl Home {
    pub fn new() -> Home {
        let content = download();
        let sum: String =
            Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        let hub = Server::start(move |request, _| Response::file(request, &content, "\"1\""));
        let home = Home { folder: tempfile::tempdir().unwrap(), hub };
        std::fs::create_dir(home.path("config")).unwrap();
        let list = format!(
            "default = \"m\"\n[[model]]\nname = \"m\"\narchitecture = \"llama\"\nfile = \"m.gguf\"\nbytes = {DOWNLOAD}\n\
             sha256 = \"{sum}\"\nsources = [{{ hub = {{ repository = \"o/r\", revision = \"main\", file = \"m.gguf\" }} }}]\n"
        );
        std::fs::write(home.path("config/models.toml"), list).unwrap();
        let prompts = ["hello world", "a b c", "hello hello", "words"]
            .map(|text| format!("{{\"prompt\": \"{text}\"}}\n"));
        std::fs::write(home.path("prompts.jsonl"), prompts.concat()).unwrap();
        std::fs::create_dir(home.path("out")).unwrap();
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Builds a command of the program in this home.
    pub fn command(&self, args: &[&str]) -> Command {
        self.prepared(Command::new(env!("CARGO_BIN_EXE_speclight")), args)
    }

    /// Builds a command that runs the program in a shell, after `first`.
    ///
    /// `then` follows the program's arguments, such as a redirection.
    pub fn shell(&self, first: &str, args: &[&str], then: &str) -> Command {
        let mut shell = Command::new("bash");
        shell.args([
            "-c",
            &format!("{first}; exec \"$0\" \"$@\" {then}"),
            env!("CARGO_BIN_EXE_speclight"),
        ]);
        self.prepared(shell, args)
    }

    fn prepared(&self, mut command: Command, args: &[&str]) -> Command {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_lowercase();
            if ["hf_", "speclight_"].iter().any(|begin| text.starts_with(begin))
                || text.ends_with("_proxy")
            {
                command.env_remove(&name);
            }
        }
        command.args(args).current_dir(self.path("out")).env("RUST_BACKTRACE", "0");
        command
            .env("SPECLIGHT_CACHE", self.path("cache"))
            .env("SPECLIGHT_CONFIG", self.path("config"));
        command.env("HF_ENDPOINT", &self.hub.address);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub fn run(command: &mut Command) -> Outcome {
        let out = command.output().unwrap();
        Outcome { status: out.status, err: String::from_utf8_lossy(&out.stderr).into_owned() }
    }

    /// Returns the files below the home whose names are those of unfinished ones.
    pub fn unfinished(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else if name.contains(".part") || name.contains(".tmp") {
                    found.push(entry.path());
                }
            }
        }
        found
    }
}

impl Outcome {
    /// Waits for a child that should end soon.
    pub fn of(mut child: Child) -> Outcome {
        let start = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > PATIENCE {
                let _ = child.kill();
                panic!("it did not end");
            }
            thread::sleep(Duration::from_millis(2));
        }
        let out = child.wait_with_output().unwrap();
        Outcome { status: out.status, err: String::from_utf8_lossy(&out.stderr).into_owned() }
    }

    /// Lines of standard error, without those of a download's progress.
    pub fn lines(&self) -> Vec<&str> {
        let progress = |line: &&str| PROGRESS.iter().any(|begin| line.starts_with(begin));
        self.err.lines().filter(|line| !progress(line)).collect()
    }

    /// Asserts failure with one line that names the program.
    #[track_caller]
    pub fn fails_with_a_line(&self, what: &str) {
        assert!(!self.status.success(), "{what}: it succeeded");
        assert!(self.status.code().is_some(), "{what}: {self:?}");
        let lines = self.lines();
        assert!(lines.len() == 1 && lines[0].starts_with("speclight: "), "{what}: {self:?}");
        self.is_no_bug(what);
    }

    /// Asserts that nothing was reported as a bug of the program.
    #[track_caller]
    pub fn is_no_bug(&self, what: &str) {
        for sign in ["panicked", "internal error", "backtrace"] {
            assert!(!self.err.contains(sign), "{what}: {self:?}");
        }
    }
}

/// Content of the file that `models fetch` downloads.
fn download() -> Vec<u8> {
    (0..DOWNLOAD as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Path of the tiny model.
pub fn model() -> String {
    format!("{}/fuzz/corpus/gguf/ok-bytes", env!("CARGO_MANIFEST_DIR"))
}

/// Kind of work that can be interrupted.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub name: &'static str,
    /// Arguments besides those of the model.
    args: &'static str,
    needs_model: bool,
    /// Checks the files of a home, at any moment; returns true if the work is finished.
    pub check: fn(&Home) -> bool,
    /// Result that does not depend on times, for comparison with an undisturbed run.
    pub result: fn(&Home) -> Value,
}

/// All kinds of work.
pub const WORK: [Work; 5] = [
    Work {
        name: "fetch",
        args: "models fetch",
        needs_model: false,
        check: fetched,
        result: |_| Value::Null,
    },
    Work {
        name: "run",
        args: "run --prompts ../prompts.jsonl --max-tokens 300 --drafter ngram --seed 3 --temperature 0.8 --json run.jsonl",
        needs_model: true,
        check: ran,
        result: tokens,
    },
    Work {
        name: "record",
        args: "run --prompts ../prompts.jsonl --max-tokens 300 --drafter ngram --seed 3 --temperature 0.8 --record run.rec",
        needs_model: true,
        check: recorded,
        result: recorded_tokens,
    },
    Work {
        name: "table",
        args: "table --prompts ../prompts.jsonl --max-tokens 40 --temperatures 0,1 --drafters ngram,suffix --budgets 1,2,4 \
               --state state --json table.json",
        needs_model: true,
        check: tabled,
        result: rows,
    },
    Work {
        name: "train",
        args: "train --prompts ../prompts.jsonl --tokens 4000 --max-tokens 12 --vocabulary 64 --steps 24 --every 4 --batch 2 \
               --depths 2 --folder work --out head.gguf --json train.jsonl",
        needs_model: true,
        check: trained,
        result: head,
    },
];

impl Work {
    /// Returns the arguments of the program.
    pub fn args(&self) -> Vec<String> {
        let mut args: Vec<String> = self.args.split_whitespace().map(str::to_owned).collect();
        if self.needs_model {
            args.extend(["--threads", "1", "--device", "cpu", "--model"].map(str::to_owned));
            args.push(model());
        }
        args
    }

    /// Builds the command.
    pub fn command(&self, home: &Home) -> Command {
        let args = self.args();
        home.command(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Runs the work to its end, checks the files, and returns the result.
    #[track_caller]
    pub fn finish(&self, home: &Home) -> Value {
        let outcome = Home::run(&mut self.command(home));
        assert!(outcome.status.success(), "{}: {outcome:?}", self.name);
        assert!((self.check)(home), "{}: it is not finished", self.name);
        assert_eq!(home.unfinished(), Vec::<PathBuf>::new(), "{}: left behind", self.name);
        (self.result)(home)
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    std::fs::read(path).ok()
}

fn lines(home: &Home, name: &str) -> Option<Vec<Value>> {
    let text = String::from_utf8(read(&home.path(name))?).unwrap();
    assert!(text.ends_with('\n'), "{name} ends within a line");
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn fetched(home: &Home) -> bool {
    read(&home.path("cache/models/m/m.gguf")).is_some_and(|content| {
        assert!(content == download(), "a file under the final name that is not the listed one");
        true
    })
}

fn ran(home: &Home) -> bool {
    lines(home, "out/run.jsonl").is_some_and(|lines| {
        let summary = lines.last().unwrap();
        assert!(summary["type"] == "summary" && summary["steps"] == lines.len() - 2, "{summary}");
        true
    })
}

/// Emitted tokens of all prompts.
fn tokens(home: &Home) -> Value {
    emitted(&lines(home, "out/run.jsonl").unwrap())
}

fn emitted(lines: &[Value]) -> Value {
    lines
        .iter()
        .filter(|line| line["type"] == "step")
        .flat_map(|line| line["emitted"].as_array().unwrap().clone())
        .collect()
}

/// Lines of the recording, which must be whole under its final name.
fn recording(home: &Home) -> Option<Vec<Value>> {
    let bytes = read(&home.path("out/run.rec"))?;
    let text = zstd::decode_all(&bytes[..]).expect("a recording that zstd can't read");
    let lines = String::from_utf8(text).unwrap();
    Some(lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn recorded(home: &Home) -> bool {
    recording(home).is_some_and(|lines| {
        assert_eq!(lines.last().unwrap()["type"], "end");
        true
    })
}

/// Emitted tokens of all prompts, from the recording.
fn recorded_tokens(home: &Home) -> Value {
    emitted(&recording(home).unwrap())
}

fn tabled(home: &Home) -> bool {
    read(&home.path("out/table.json")).is_some_and(|table| {
        let table: Value = serde_json::from_slice(&table).unwrap();
        assert_eq!(table["type"], "table");
        true
    })
}

/// Figures of the table without those of times.
fn rows(home: &Home) -> Value {
    let table: Value =
        serde_json::from_slice(&read(&home.path("out/table.json")).unwrap()).unwrap();
    let figures = ["drafter", "budget", "from", "steps", "accepted", "differing_texts"];
    let rows = table["sets"].as_array().unwrap().iter().flat_map(|set| {
        let row = |row: &Value| {
            let mut all = vec![set["temperature"].clone()];
            all.extend(figures.map(|figure| row[figure].clone()));
            Value::Array(all)
        };
        set["drafters"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    });
    rows.collect()
}

fn trained(home: &Home) -> bool {
    let path = home.path("out/head.gguf");
    if path.exists() {
        Weights::open_head(&path, HeadForm::Eagle)
            .unwrap_or_else(|error| panic!("a head under its final name: {error}"));
    }
    lines(home, "out/train.jsonl").is_some()
}

/// Checksum of the trained head's weights; its description has the time that training took.
fn head(home: &Home) -> Value {
    let weights = Weights::open_head(&home.path("out/head.gguf"), HeadForm::Eagle).unwrap();
    let (mut sum, mut bytes) = (Sha256::new(), Vec::new());
    for tensor in weights.tensors() {
        bytes.clear();
        weights.read_rows(&tensor.name, 0..tensor.rows, &mut bytes).unwrap();
        sum.update(&tensor.name);
        sum.update(&bytes);
    }
    sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}
