//! Memory use of the real program.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use speclight::model::format::weights::Weights;

/// Returns the current and the peak resident memory of a process, in bytes.
fn resident(pid: u32) -> [f64; 2] {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    ["VmRSS:", "VmHWM:"].map(|name| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
    })
}

/// Checks that weights are held once, packed, without a copy in floats.
///
/// While decoding, the program holds at most 1.6 times the size of the file, in addition to the
/// cache. Measured: 1.22 times, also at its peak.
#[test]
fn the_program_holds_its_weights_once() {
    let path = super::common::path();
    let file = std::fs::metadata(&path).unwrap().len() as f64;
    let prompt = "Write a long story about a lighthouse and its keeper.";
    let mut command = Command::new(env!("CARGO_BIN_EXE_speclight"));
    command
        .args([
            "run",
            "--json",
            "-",
            "--device",
            "cpu",
            "--max-tokens",
            "1000",
            "--prompt",
            prompt,
            "--model",
        ])
        .arg(&path);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let steps = 50;
    let last = lines.by_ref().nth(steps).unwrap().unwrap();
    let [now, most] = resident(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    let step: serde_json::Value = serde_json::from_str(&last).unwrap();
    // The program may have continued since, but not by this much.
    let positions = step["position"].as_u64().unwrap() as f64 + 500.0;
    let weights = Weights::open(&path).unwrap();
    let c = weights.config();
    // Keys and values have half precision.
    let cache = positions * (c.layers * c.kv_heads * c.head_dim * 2 * 2) as f64;
    for (held, when) in [(now, "now"), (most, "at its most")] {
        assert!(
            held <= 1.6 * file + cache,
            "{:.2} times the file beside the cache, {when}",
            (held - cache) / file
        );
    }
}
