//! Runs Python processes that never execute code from the current folder.
//!
//! `python3 -m pip` and `python3 -c` put the current folder first on `sys.path`. Started in a
//! cloned repository, they would run its `pip/`, `json.py` or `sitecustomize.py`. So Python gets an
//! empty working folder of its own, `PYTHONSAFEPATH` (Python 3.11 and later), and no relative entry
//! in any variable that it takes code from. `-I` would be stricter, but it also ignores the user's
//! site packages and `PYTHONPATH`, where pip may be installed.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::processes::withhold_tokens;

/// Names of the interpreter, in order of preference.
const NAMES: [&str; 2] = ["python3", "python"];

/// Environment variables that list folders with programs or modules to run.
const CODE: [&str; 5] =
    ["PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONPYCACHEPREFIX"];

/// Environment variables that make Python run a file or wait for input after the program.
const INTERACTIVE: [&str; 2] = ["PYTHONSTARTUP", "PYTHONINSPECT"];

/// Environment variables with paths of data, which the user may have given as relative paths.
const DATA: [&str; 15] = [
    "HOME",
    "NETRC",
    "PIP_CACHE_DIR",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_CONFIG_FILE",
    "PIP_CONSTRAINT",
    "PIP_FIND_LINKS",
    "PIP_LOG",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
];

/// Finds the interpreters on the `PATH`, as absolute paths; skips its relative entries.
pub(super) fn interpreters() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let named = |name| {
        let name = format!("{name}{}", env::consts::EXE_SUFFIX);
        env::split_paths(&path)
            .filter(|folder| folder.is_absolute())
            .map(move |folder| folder.join(&name))
            .find(|p| runs(p))
    };
    NAMES.into_iter().filter_map(named).collect()
}

#[cfg(unix)]
fn runs(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Accepts the Windows store's aliases, reparse points that only `symlink_metadata` can read.
#[cfg(not(unix))]
fn runs(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| !found.is_dir())
}

/// Prepares a process of `python` that runs in the empty folder `empty`.
pub(super) fn command(python: &Path, empty: &Path) -> Command {
    let mut command = Command::new(python);
    command.current_dir(empty).env("PWD", empty).env("PYTHONSAFEPATH", "1").stdin(Stdio::null());
    withhold_tokens(&mut command);
    for name in INTERACTIVE {
        command.env_remove(name);
    }
    for name in CODE {
        let Some(value) = env::var_os(name) else { continue };
        match absolute_entries(&value) {
            Some(kept) => command.env(name, kept),
            None => command.env_remove(name),
        };
    }
    // Without a current folder, relative paths have no meaning.
    if let Ok(here) = env::current_dir() {
        for name in DATA {
            if let Some(value) = env::var_os(name).and_then(|value| made_absolute(&value, &here)) {
                command.env(name, value);
            }
        }
    }
    command
}

/// Keeps the absolute entries of a list of folders; `None` if there are none.
fn absolute_entries(list: &OsStr) -> Option<OsString> {
    let kept: Vec<PathBuf> = env::split_paths(list).filter(|entry| entry.is_absolute()).collect();
    env::join_paths(kept).ok().filter(|list| !list.is_empty())
}

/// Makes absolute the words of a value that name something in `here`.
///
/// `None` if nothing has to change.
fn made_absolute(value: &OsStr, here: &Path) -> Option<OsString> {
    let relative = |word: &OsStr| {
        let path = Path::new(word);
        let device = word.eq_ignore_ascii_case("nul");
        (!word.is_empty() && !device && !path.is_absolute() && here.join(path).exists())
            .then(|| here.join(path))
    };
    if let Some(path) = relative(value) {
        return Some(path.into());
    }
    // pip allows several words in one variable.
    let words: Vec<&str> = value.to_str()?.split_whitespace().collect();
    let made: Vec<Option<PathBuf>> = words.iter().map(|word| relative(OsStr::new(word))).collect();
    made.iter().any(Option::is_some).then(|| {
        let word = |(word, path): (&&str, Option<PathBuf>)| {
            path.map_or_else(|| (*word).into(), PathBuf::into_os_string)
        };
        words.iter().zip(made).map(word).collect::<Vec<OsString>>().join(OsStr::new(" "))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    #[cfg(unix)]
    fn relative_and_empty_entries_are_dropped() {
        let kept =
            |list: &str| absolute_entries(OsStr::new(list)).map(|list| list.into_string().unwrap());
        assert_eq!(kept(".:/a::b:/c:").unwrap(), "/a:/c");
        assert_eq!(kept("/a b").unwrap(), "/a b");
        for none in ["", ".", ":", "lib64", "../x:y"] {
            assert_eq!(kept(none), None, "{none}");
        }
    }

    #[test]
    fn data_of_the_current_folder_is_still_found() {
        let here = tempfile::tempdir().unwrap();
        std::fs::create_dir(here.path().join("wheels")).unwrap();
        let made = |value: &str| {
            made_absolute(OsStr::new(value), here.path()).map(|value| value.into_string().unwrap())
        };
        let wheels = here.path().join("wheels").to_str().unwrap().to_owned();
        assert_eq!(made("wheels").unwrap(), wheels);
        assert_eq!(
            made("https://x.example/a wheels").unwrap(),
            format!("https://x.example/a {wheels}")
        );
        for same in ["", "/dev/null", "https://x.example/", "other", "nul"] {
            assert_eq!(made(same), None, "{same}");
        }
    }
}
