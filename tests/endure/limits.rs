//! Work without disk space, write access, memory or threads.

use std::path::Path;
use std::process::Command;

use super::work::{Home, WORK, model};

/// Files that work leaves in a home without being finished, to be taken up by the next run.
const TAKEN_UP: [&str; 3] = ["state", "work", "cache"];

/// Asserts that no result is under its final name.
#[track_caller]
fn no_result(home: &Home, what: &str) {
    let names = std::fs::read_dir(home.path("out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let results: Vec<String> = names.filter(|name| !TAKEN_UP.contains(&name.as_str())).collect();
    // A head is written at each checkpoint, and whole; a recording ends with the failure.
    let whole = |name: &String| name == "head.gguf" || name == "run.rec";
    assert!(results.iter().all(whole), "{what}: {results:?}");
}

#[test]
fn a_full_disk_is_one_line_and_the_next_run_finishes() {
    for work in WORK {
        // The limit of a file's size stands in for the disk's: writes fail at another place each time.
        for blocks in [0, 1, 4, 16, 40] {
            let home = Home::new();
            let args = work.args();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let outcome =
                Home::run(&mut home.shell(&format!("trap '' XFSZ; ulimit -f {blocks}"), &args, ""));
            let what = format!("{} with files of {blocks} KiB", work.name);
            if outcome.status.success() {
                assert!((work.check)(&home), "{what}: it claims to be finished");
            } else {
                outcome.fails_with_a_line(&what);
                (work.check)(&home);
                no_result(&home, &format!("{what}: {outcome:?}"));
            }
            work.finish(&home);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn folders_that_cannot_be_written_are_one_line() {
    let (home, model) = (Home::new(), model());
    let begin = ["--threads", "1", "--model", &model];
    // The superuser may write to any folder of a disk, and to none here.
    for place in ["/sys", "/proc/1", "/dev/null"] {
        let at = |name: &str| format!("{place}/{name}");
        let (out, folder) = (at("out.jsonl"), at("work"));
        let table = [
            "table",
            "--prompts",
            "../prompts.jsonl",
            "--max-tokens",
            "4",
            "--budgets",
            "1,2",
            "--drafters",
            "ngram",
        ];
        let train = [
            "train",
            "--prompts",
            "../prompts.jsonl",
            "--tokens",
            "4000",
            "--batch",
            "2",
            "--max-tokens",
            "12",
            "--vocabulary",
            "64",
            "--steps",
            "1",
        ];
        let cases: [Vec<&str>; 6] = [
            [&["run", "--prompt", "hi", "--json", &out][..], &begin].concat(),
            [&table[..], &["--json", &out], &begin].concat(),
            [&table[..], &["--state", &out], &begin].concat(),
            [&train[..], &["--folder", &folder, "--out", "head.gguf"], &begin].concat(),
            [&train[..], &["--folder", "work", "--out", &out], &begin].concat(),
            vec!["models", "fetch"],
        ];
        for args in cases {
            let outcome = Home::run(home.command(&args).env("SPECLIGHT_CACHE", place));
            let what = format!("{args:?}");
            outcome.fails_with_a_line(&what);
            assert!(outcome.err.contains(place), "{what}: {outcome:?}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn little_memory_is_success_or_failure_without_a_result() {
    for work in WORK {
        for megabytes in [96, 128, 192, 256, 384, 640, 1024] {
            let home = Home::new();
            let args = work.args();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let outcome =
                Home::run(&mut home.shell(&format!("ulimit -v {}", megabytes << 10), &args, ""));
            let what = format!("{} in {megabytes} MB", work.name);
            outcome.is_no_bug(&what);
            if outcome.status.success() {
                assert!((work.check)(&home), "{what}: it claims to be finished");
            } else {
                // An allocation that the program does not check ends it by SIGABRT, with the line of Rust's runtime.
                let mut lines = outcome.lines();
                lines.retain(|line| !line.is_empty());
                let told = |line: &&str| {
                    line.starts_with("speclight: ") || line.starts_with("memory allocation of ")
                };
                assert!(!lines.is_empty() && lines.iter().all(told), "{what}: {outcome:?}");
                (work.check)(&home);
                no_result(&home, &format!("{what}: {outcome:?}"));
            }
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn no_thread_is_success_or_one_line() {
    // The limit does not bind the superuser: the program runs as somebody who owns nothing else.
    let user = ["--reuid=65533", "--regid=65533", "--clear-groups"];
    let able = Command::new("setpriv")
        .args(user)
        .arg("true")
        .status()
        .is_ok_and(|status| status.success());
    if !able || !others_may_read(Path::new(env!("CARGO_BIN_EXE_speclight"))) {
        println!("skipped: it takes the superuser, setpriv, and a program that others may run");
        return;
    }
    for work in WORK {
        for threads in [1, 2, 3, 4, 6] {
            let home = Home::new();
            let args = work.args();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let shell = home.shell(&format!("ulimit -u {threads}"), &args, "");
            let open = "chmod -R a+rwX \"$1\"; shift; exec setpriv --reuid=65533 --regid=65533 --clear-groups \"$@\"";
            let mut command = Command::new("bash");
            command
                .args(["-c", open, "bash"])
                .arg(home.path(""))
                .arg(shell.get_program())
                .args(shell.get_args());
            for (name, value) in shell.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
            command.current_dir(home.path("out")).stdin(std::process::Stdio::null());
            let outcome = Home::run(&mut command);
            let what = format!("{} with {threads} threads", work.name);
            outcome.is_no_bug(&what);
            if outcome.status.success() {
                assert!((work.check)(&home), "{what}: it claims to be finished");
            } else {
                let lines = outcome.lines();
                assert!(
                    !lines.is_empty() && lines.iter().all(|line| line.starts_with("speclight: ")),
                    "{what}: {outcome:?}"
                );
                no_result(&home, &format!("{what}: {outcome:?}"));
            }
        }
    }
}

/// Returns true if other users may read a file and enter the folders above it.
fn others_may_read(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.ancestors().filter(|path| !path.as_os_str().is_empty()).all(|path| {
        let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        mode & if path.is_dir() { 0o001 } else { 0o004 } != 0
    })
}
