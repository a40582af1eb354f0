//! A user's folders, and the program run in them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Name of the model in the lists of these tests.
pub const NAME: &str = "tiny";
/// File name of the model in the cache.
pub const FILE: &str = "tiny.gguf";

/// Cache and config folder of one user.
pub struct UserFolders {
    pub folder: TempDir,
}

impl UserFolders {
    /// Creates the folders with a list of one model with these keys and sources.
    pub fn new(keys: &str, sources: &str) -> UserFolders {
        let place = UserFolders { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.folder.path().join("config")).unwrap();
        let list = format!(
            "default = \"{NAME}\"\n[[model]]\nname = \"{NAME}\"\narchitecture = \"llama\"\nfile = \"{FILE}\"\n{keys}\nsources = [{sources}]\n"
        );
        std::fs::write(place.folder.path().join("config/models.toml"), list).unwrap();
        place
    }

    /// Creates the folders with a list of one model from a hub.
    pub fn hub(keys: &str) -> UserFolders {
        UserFolders::new(
            keys,
            "{ hub = { repository = \"o/r\", revision = \"main\", file = \"d/tiny.gguf\" } }",
        )
    }

    pub fn command(&self, args: &[&str], env: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_speclight"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_lowercase();
            if ["hf_", "pip_", "speclight_"].iter().any(|begin| text.starts_with(begin))
                || text.ends_with("_proxy")
            {
                command.env_remove(&name);
            }
        }
        command
            .env("SPECLIGHT_CACHE", self.cache())
            .env("SPECLIGHT_CONFIG", self.folder.path().join("config"));
        command.env("PIP_CONFIG_FILE", if cfg!(windows) { "nul" } else { "/dev/null" });
        command.envs(env.iter().copied());
        command
    }

    /// Runs `models fetch` for the default model.
    pub fn fetch(&self, env: &[(&str, &str)]) -> Outcome {
        Outcome::from_output(&self.command(&["models", "fetch"], env).output().unwrap())
    }

    pub fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    pub fn model(&self) -> PathBuf {
        self.cache().join("models").join(NAME).join(FILE)
    }

    /// Returns the names in the model's folder, except the lock and the stored checksum.
    pub fn names(&self) -> Vec<String> {
        names(&self.cache().join("models").join(NAME))
            .into_iter()
            .filter(|name| !name.starts_with('.'))
            .collect()
    }
}

pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Exit status and output of the program.
#[derive(Debug)]
pub struct Outcome {
    pub good: bool,
    pub out: String,
    pub err: String,
}

impl Outcome {
    pub fn from_output(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            good: output.status.code() == Some(0),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Returns the single line that reports the error.
    #[track_caller]
    pub fn failure(&self) -> &str {
        assert!(!self.good && self.out.is_empty(), "{self:?}");
        let line = self.err.lines().last().unwrap();
        assert!(
            line.starts_with("speclight: can't fetch tiny: ") || line.contains("can't be written"),
            "{self:?}"
        );
        line
    }

    #[track_caller]
    pub fn says(&self, parts: &[&str]) {
        let line = self.failure();
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
    }
}

/// Returns pseudorandom bytes.
pub fn content(length: usize, seed: u8) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ seed).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns `bytes` and `sha256` of a list entry.
pub fn keys(content: &[u8]) -> String {
    format!("bytes = {}\nsha256 = \"{}\"", content.len(), sha256(content))
}
