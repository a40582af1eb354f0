//! Handling of Ctrl-C and SIGTERM.
#![cfg(unix)]

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::program::{Program, lines};

/// Timeout for busy machines; a passing test never waits that long.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_signal_ends_it_after_a_step_with_what_is_complete() {
    for (name, status) in [("INT", 130), ("TERM", 143)] {
        let program = Program::new();
        let (file, part) = (program.path("out.jsonl"), program.path("out.jsonl.part"));
        let args = ["--prompt", "Write a long story.", "--max-tokens", "4000", "--json", &file];
        let child = program.command(&args).spawn().unwrap();
        // The file can be read while it grows.
        let start = Instant::now();
        while std::fs::read_to_string(&part).map_or(0, |text| text.lines().count()) < 4 {
            assert!(start.elapsed() < PATIENCE, "no steps came");
            thread::sleep(Duration::from_millis(20));
        }
        assert!(
            Command::new("kill")
                .args(["-s", name, &child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        let out = child.wait_with_output().unwrap();
        assert_eq!((out.status.code(), out.stderr.as_slice()), (Some(status), &b""[..]), "{name}");
        let lines = lines(&std::fs::read_to_string(&file).unwrap());
        let summary = lines.last().unwrap();
        assert_eq!(
            (&summary["type"], &summary["steps"]),
            (&"summary".into(), &(lines.len() - 2).into())
        );
        assert_eq!(program.names(), ["out.jsonl"]);
    }
}
