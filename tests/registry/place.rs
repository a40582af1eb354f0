//! A person's folders, and the program run in them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The model's name in the lists of these tests.
pub const NAME: &str = "tiny";
/// Its file in the cache.
pub const FILE: &str = "tiny.gguf";

/// A cache and a config folder.
pub struct Place {
    pub folder: TempDir,
}

impl Place {
    /// With a list of one model: its further keys, and its sources.
    pub fn new(keys: &str, sources: &str) -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.folder.path().join("config")).unwrap();
        let list = format!(
            "default = \"{NAME}\"\n[[model]]\nname = \"{NAME}\"\narchitecture = \"llama\"\nfile = \"{FILE}\"\n{keys}\nsources = [{sources}]\n"
        );
        std::fs::write(place.folder.path().join("config/models.toml"), list).unwrap();
        place
    }

    /// With a list of one model of a hub.
    pub fn hub(keys: &str) -> Place {
        Place::new(keys, "{ hub = { repository = \"o/r\", revision = \"main\", file = \"d/tiny.gguf\" } }")
    }

    pub fn command(&self, args: &[&str], env: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_speclight"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_lowercase();
            if ["hf_", "pip_", "speclight_"].iter().any(|begin| text.starts_with(begin)) || text.ends_with("_proxy") {
                command.env_remove(&name);
            }
        }
        command.env("SPECLIGHT_CACHE", self.cache()).env("SPECLIGHT_CONFIG", self.folder.path().join("config"));
        command.env("PIP_CONFIG_FILE", if cfg!(windows) { "nul" } else { "/dev/null" });
        command.envs(env.iter().copied());
        command
    }

    /// Runs `models fetch` of the default model.
    pub fn fetch(&self, env: &[(&str, &str)]) -> Outcome {
        Outcome::of(&self.command(&["models", "fetch"], env).output().unwrap())
    }

    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    pub fn model(&self) -> PathBuf {
        self.cache().join("models").join(NAME).join(FILE)
    }

    /// Names in the model's folder, but for the lock and the note of a checksum.
    pub fn names(&self) -> Vec<String> {
        names(&self.cache().join("models").join(NAME)).into_iter().filter(|name| !name.starts_with('.')).collect()
    }
}

pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What the program said, and its status.
#[derive(Debug)]
pub struct Outcome {
    pub good: bool,
    pub out: String,
    pub err: String,
}

impl Outcome {
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { good: output.status.code() == Some(0), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// The one line that says what went wrong.
    #[track_caller]
    pub fn failure(&self) -> &str {
        assert!(!self.good && self.out.is_empty(), "{self:?}");
        let line = self.err.lines().last().unwrap();
        assert!(line.starts_with("speclight: can't fetch tiny: ") || line.contains("can't be written"), "{self:?}");
        line
    }

    #[track_caller]
    pub fn says(&self, parts: &[&str]) {
        let line = self.failure();
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
    }
}

/// Bytes without a pattern.
pub fn content(length: usize, seed: u8) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ seed).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `bytes` and `sha256` of a list.
pub fn keys(content: &[u8]) -> String {
    format!("bytes = {}\nsha256 = \"{}\"", content.len(), sha256(content))
}
