//! `speclight doctor`: checks of this machine, with a fix for each problem.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::errors::print_lines;
use super::finding::{Finding, Grade};
use super::progress::size;
use super::{machine, table};
use crate::model::device::{DeviceChoice, default_threads};
use crate::model::load::formats_to_round;
use crate::registry::{self, ChecksumResult, Registry, RegistryError, RegistryModel};

/// Writes the report; the exit status is 1 if a finding is `Fail`.
///
/// # Errors
/// If the report can't be written.
pub fn run() -> anyhow::Result<ExitCode> {
    let mut findings = machine::findings();
    findings.push(Finding::ok("threads", format!("{} (change with --threads)", default_threads())));
    findings.push(devices());
    let pip = registry::pip_version();
    let loaded = Registry::load();
    let default = loaded.as_ref().map_err(RegistryError::to_string).and_then(|registry| {
        let found = registry.find(None).map_err(|e| e.to_string())?;
        Ok((found.verify(&mut |_| ()).map_err(|e| e.to_string())?, found))
    });
    let cache = registry::cache_folder().map(|folder| (writable(&folder), folder));
    let brings = pip.is_some() && cache.as_ref().is_ok_and(|(writable, _)| writable.is_ok());
    findings.push(match &default {
        Ok((check, found)) => model(check, found, brings),
        Err(why) => Finding::fail("model", why),
    });
    let present = default.is_ok_and(|(_, found)| found.is_present());
    findings.push(folder("cache", cache, present, "SPECLIGHT_CACHE"));
    let config = registry::config_folder().map(|folder| (writable(&folder), folder));
    findings.push(folder("config", config, true, "SPECLIGHT_CONFIG"));
    findings.push(match pip {
        Some(version) => Finding::ok("pip", version),
        None => Finding::warn("pip", "not found, so models on PyPI can't be fetched: install Python 3 with pip (python3-pip)"),
    });

    let word = |grade| match grade {
        Grade::Ok => "ok",
        Grade::Warn => "warn",
        Grade::Fail => "fail",
    };
    let rows: Vec<_> =
        findings.iter().map(|f| [word(f.grade).into(), f.what.into(), f.said.clone()]).collect();
    print_lines(&table::lines(&rows))?;
    let fails = findings.iter().any(|f| f.grade == Grade::Fail);
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn devices() -> Finding {
    let mut built = vec!["cpu"];
    built.extend(cfg!(feature = "cuda").then_some("cuda"));
    built.extend(cfg!(feature = "metal").then_some("metal"));
    let chosen = match DeviceChoice::Auto.open() {
        Ok(device) if device.is_cuda() => "cuda",
        Ok(device) if device.is_metal() => "metal",
        _ => "cpu",
    };
    let said = format!("{chosen} (this build has {})", built.join(", "));
    if chosen == "cpu" && built.len() > 1 {
        return Finding::warn(
            "device",
            format!("{said}; no GPU can be opened: check its driver, or use --device cpu"),
        );
    }
    Finding::ok("device", said)
}

/// Finding about the default model; `brings` means a missing model can be fetched.
fn model(check: &ChecksumResult, found: &RegistryModel, brings: bool) -> Finding {
    let name = found.name();
    let bytes = found.bytes().map(|bytes| format!(", {}", size(bytes))).unwrap_or_default();
    match check {
        ChecksumResult::Right { .. } => Finding::ok(
            "model",
            format!("{name} is present{bytes}, checksum matches{}", rounding(found)),
        ),
        ChecksumResult::NoChecksum { .. } => {
            Finding::ok("model", format!("{name} is present; the list has no checksum for it"))
        }
        ChecksumResult::Differing { what } => {
            let said = format!("{name} is damaged: it {what}: run speclight models fetch {name}");
            if found.is_present() {
                Finding::fail("model", said)
            } else {
                Finding::warn("model", said)
            }
        }
        ChecksumResult::Absent if found.is_present() => {
            Finding::ok("model", format!("{name} is present, as a folder"))
        }
        ChecksumResult::Absent if brings => Finding::warn(
            "model",
            format!(
                "{name} is absent{bytes}, and fetched on the first start: run speclight models fetch to fetch it now"
            ),
        ),
        ChecksumResult::Absent => Finding::fail(
            "model",
            format!(
                "{name} is absent{bytes} and can't be fetched: see the lines below, or give a path to --model"
            ),
        ),
    }
}

/// Describes the rounding of weights by the kernels, as the end of a line.
fn rounding(found: &RegistryModel) -> String {
    let formats = found.path().and_then(|path| formats_to_round(&path).ok());
    match formats.as_deref() {
        None => String::new(),
        Some([]) => "; the kernels use its weights unchanged".into(),
        Some(formats) => format!("; the kernels round its {} weights to Q8_0", formats.join(", ")),
    }
}

/// Finding about a user folder; `spare` means the program can run without writing to it.
fn folder(
    what: &'static str,
    place: Result<(io::Result<()>, PathBuf), RegistryError>,
    spare: bool,
    variable: &str,
) -> Finding {
    let grade = if spare { Finding::warn } else { Finding::fail };
    match place {
        Ok((Ok(()), folder)) if folder.exists() => Finding::ok(what, folder.display().to_string()),
        Ok((Ok(()), folder)) => {
            Finding::ok(what, format!("{} (not created yet)", folder.display()))
        }
        Ok((Err(e), folder)) => grade(
            what,
            format!(
                "{}: can't be written: {e}: set {variable} to a writable folder",
                folder.display()
            ),
        ),
        Err(e) => Finding::fail(what, e.to_string()),
    }
}

/// Checks that a file can be created in `folder` or its nearest existing ancestor.
fn writable(folder: &Path) -> io::Result<()> {
    let mut at = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    while let Err(e) = std::fs::symlink_metadata(at) {
        if e.kind() != io::ErrorKind::NotFound {
            return Err(e);
        }
        at = match at.parent() {
            Some(above) if above.as_os_str().is_empty() => Path::new("."),
            Some(above) => above,
            None => return Err(e),
        };
    }
    let probe = at.join(format!(".speclight-{}", std::process::id()));
    std::fs::File::create_new(&probe)?;
    std::fs::remove_file(probe)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn folders_are_tried_and_left_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        writable(folder.path()).unwrap();
        writable(&folder.path().join("a/b/c")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(writable(&file).is_err());
        assert!(writable(&file.join("below")).is_err());
    }
}
