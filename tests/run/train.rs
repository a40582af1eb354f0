//! `speclight train`, from the first text to a head that drafts.
#![cfg(unix)]

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::program::{Program, RunOutput, lines};

/// Timeout for busy machines; a passing test never waits that long.
const PATIENCE: Duration = Duration::from_secs(300);

/// Builds a command for a short training run in its own folder.
///
/// Its JSON goes to `NAME.jsonl`.
fn train(program: &Program, name: &str) -> Command {
    let prompts = program.path("asks.jsonl");
    let ask = |i: usize| match i {
        0 => r#"{"prompt": "Name a color.", "then": "Why {}?"}"#.to_owned() + "\n",
        1 => r#"{"prompt": "What is 1 + 1?", "begun": "The answer is"}"#.to_owned() + "\n",
        _ => format!("{{\"prompt\": \"What is {i} + {i}?\"}}\n"),
    };
    std::fs::write(&prompts, (0..12).map(ask).collect::<String>()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_speclight"));
    command.args([
        "train",
        "--threads",
        "2",
        "--tokens",
        "100000",
        "--max-tokens",
        "8",
        "--vocabulary",
        "512",
    ]);
    command.args([
        "--steps",
        "4",
        "--every",
        "2",
        "--batch",
        "2",
        "--depths",
        "2",
        "--prompts",
        &prompts,
    ]);
    command.args([
        "--folder",
        &program.path(name),
        "--out",
        &program.path(&format!("{name}.gguf")),
    ]);
    command.args(["--json", &program.path(&format!("{name}.jsonl"))]);
    command.env("SPECLIGHT_CACHE", program.cache()).env("RUST_BACKTRACE", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.arg("--model").arg(super::model::path());
    command
}

fn losses(lines: &[Value]) -> Vec<(u64, f64)> {
    let steps = lines.iter().filter(|line| line["type"] == "step");
    steps.map(|line| (line["step"].as_u64().unwrap(), line["loss"].as_f64().unwrap())).collect()
}

/// Waits until a file has this many lines.
fn wait(path: &str, count: usize, child: &mut Child) {
    let start = Instant::now();
    while std::fs::read_to_string(path).map_or(0, |text| text.lines().count()) < count {
        assert!(child.try_wait().unwrap().is_none(), "it ended before");
        assert!(start.elapsed() < PATIENCE, "no steps came");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn interrupted_training_resumes_with_the_same_results() {
    let program = Program::new();
    let whole = RunOutput::run_to_end(&mut train(&program, "whole"));
    assert_eq!((whole.status, whole.err.as_str()), (0, ""));
    assert_eq!(whole.out.lines().count(), 2, "a line a measurement: {}", whole.out);
    let of = |name: &str| lines(&std::fs::read_to_string(program.path(name)).unwrap());
    let all = of("whole.jsonl");
    assert_eq!(
        (&all[0]["type"], &all[0]["texts"]),
        (&"train".into(), &13.into()),
        "each prompt, and the one that follows"
    );
    let want = losses(&all);
    assert_eq!(want.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let measured: Vec<&Value> = all.iter().filter(|line| !line["held_out"].is_null()).collect();
    assert_eq!(measured.len(), 2);
    let (acceptance, tokens) =
        (&measured[1]["held_out"]["acceptance"], &measured[1]["drafted"]["greedy_tokens_per_step"]);
    assert!(
        acceptance.as_array().unwrap().iter().all(|a| (0.0..=1.0).contains(&a.as_f64().unwrap()))
    );
    assert!(tokens.as_f64().unwrap() >= 1.0);

    // Interrupted after the first steps: the files are complete, and the resumed run gives the same
    // results.
    let mut child = train(&program, "parts").spawn().unwrap();
    wait(&program.path("parts.jsonl.part"), 2, &mut child);
    assert!(
        Command::new("kill")
            .args(["-s", "INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(130), "{}", String::from_utf8_lossy(&out.stderr));
    let first = losses(&of("parts.jsonl"));
    assert!(!first.is_empty() && first.len() < 4, "{first:?}");
    let again = RunOutput::run_to_end(&mut train(&program, "parts"));
    assert_eq!((again.status, again.err.as_str()), (0, ""));
    let both: Vec<_> = first.into_iter().chain(losses(&of("parts.jsonl"))).collect();
    assert_eq!(both, want);

    let head = program.path("parts.gguf");
    let out = program.run(&[
        "--prompt",
        "Name a color.",
        "--max-tokens",
        "6",
        "--drafter",
        "eagle",
        "--head",
        &head,
    ]);
    assert_eq!(out.status, 0, "{}", out.err);

    // An adapter from the same texts, at the same path.
    let (adapter, kept) = (program.path("parts.gguf"), program.path("head.gguf"));
    std::fs::rename(head, &kept).unwrap();
    let head = kept;
    let out = RunOutput::run_to_end(train(&program, "parts").args(["--form", "adapter"]));
    assert_eq!((out.status, out.err.as_str()), (0, ""));
    let measured = of("parts.jsonl");
    let last = measured.last().unwrap();
    assert_eq!(last["held_out"]["loss"].as_array().unwrap().len(), 1, "one depth is all: {last}");
    assert!(last["drafted"]["greedy_tokens_per_step"].as_f64().unwrap() >= 1.0);
    let begin = ["--prompt", "Name a color.", "--max-tokens", "6", "--drafter"];
    let out = program.run(&[&begin[..], &["early-exit", "--adapter", &adapter]].concat());
    assert_eq!(out.status, 0, "{}", out.err);
    for (drafter, option, file) in
        [("early-exit", "--adapter", &head), ("eagle", "--head", &adapter)]
    {
        let out = program.run(&[&begin[..], &[drafter, option, file]].concat());
        assert_eq!((out.status, out.err.lines().count()), (1, 1), "{}", out.err);
        assert!(out.err.contains("speclight-"), "{}", out.err);
    }

    // Other prompts need another corpus, and so does an answer with another beginning.
    let asks = std::fs::read_to_string(program.path("asks.jsonl")).unwrap();
    for prompts in ["{\"prompt\": \"Other\"}\n".to_owned(), asks.replace("The answer is", "It is")]
    {
        let mut other = train(&program, "parts");
        std::fs::write(program.path("asks.jsonl"), prompts).unwrap();
        let out = RunOutput::run_to_end(&mut other);
        assert_eq!(out.status, 1);
        assert!(out.err.contains("other prompts") && out.err.lines().count() == 1, "{}", out.err);
    }
}
