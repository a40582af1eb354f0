//! `speclight run`: the real program on the real model.
#![allow(clippy::unwrap_used)]

#[path = "../common/marks.rs"]
mod marks;
#[path = "../common/model.rs"]
mod model;
mod program;

mod errors;
mod lossless;
mod order;
mod record;
mod signals;
mod train;

use serde_json::Value;

use program::{Program, lines, texts, without_times};

#[test]
fn the_lines_are_as_the_schema_says() {
    let schema: Value = serde_json::from_str(include_str!("../../schema/run.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let program = Program::new();
    let file =
        program.prompts(&["What is light?", "Count: one, two, three, one, two, three, one, two"]);
    for extra in [
        &["--drafter", "ngram"][..],
        &["--drafter", "early-exit", "--temperature", "0.8", "--top-p", "0.9"],
    ] {
        let mut args = vec!["--prompts", &file, "--max-tokens", "12", "--json", "-"];
        args.extend(extra);
        let out = program.run(&args);
        assert_eq!((out.status, out.err.as_str()), (0, ""));
        let lines = lines(&out.out);
        for line in &lines {
            assert!(schema.is_valid(line), "{}: {line}", schema.validate(line).unwrap_err());
        }
        // Removing or renaming any property makes the line invalid.
        let controls = [
            ("run", "device"),
            ("step", "expected_accepted"),
            ("summary", "autoregressive_tokens_per_second"),
        ];
        for (kind, key) in controls {
            let mut line = lines.iter().find(|line| line["type"] == kind).unwrap().clone();
            let value = line.as_object_mut().unwrap().remove(key).unwrap();
            assert!(!schema.is_valid(&line), "{kind} without {key}");
            line.as_object_mut().unwrap().insert(format!("{key}_"), value);
            assert!(!schema.is_valid(&line), "{kind} with {key}_");
        }
        let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert!(
            kinds[0] == "run" && kinds[1..kinds.len() - 1].iter().all(|k| *k == "step"),
            "{kinds:?}"
        );
        let summary = lines.last().unwrap();
        assert_eq!(summary["type"], "summary");
        let steps = &lines[1..lines.len() - 1];
        assert_eq!(summary["steps"], steps.len());
        let tokens: usize =
            steps.iter().map(|step| step["emitted"].as_array().unwrap().len()).sum();
        assert_eq!(summary["tokens"], tokens);
        assert!(summary["autoregressive_tokens_per_second"].as_f64().unwrap() > 0.0);
        assert_eq!(summary["ceilings"]["batch"], 15.0);
        assert_eq!(
            summary["ceilings"]["published"].is_null(),
            extra.len() == 2,
            "greedy: not known"
        );
        let ids: Vec<&str> = steps.iter().map(|step| step["prompt_id"].as_str().unwrap()).collect();
        assert!(ids.contains(&"p0") && ids.contains(&"p1") && ids.is_sorted(), "{ids:?}");
        // A pipe gets the text of the steps, and the summary's hash covers that text.
        let at = args.len() - extra.len() - 2;
        args.drain(at..at + 2);
        let piped = program.run(&args);
        let (first, second) = (texts(&lines, "p0"), texts(&lines, "p1"));
        let ended =
            |text: &str| if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
        assert_eq!(piped.out, ended(&first) + &ended(&second));
        assert_eq!(summary["text_sha256"], program::sha256(&format!("{first}{second}")));
    }
}

#[test]
fn oracle_searches_split_losses_and_change_no_step() {
    let schema: Value = serde_json::from_str(include_str!("../../schema/run.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let program = Program::new();
    for (drafter, shape, temperature) in [
        ("early-exit", "chain", "1"),
        ("ngram", "best-first", "0.7"),
        ("oracle", "best-first", "0"),
    ] {
        let run = |look_every: &str| {
            let args = [
                "--prompt",
                "Count: one, two, three, one, two",
                "--max-tokens",
                "14",
                "--json",
                "-",
                "--budget",
                "8",
            ];
            let more = [
                "--drafter",
                drafter,
                "--shape",
                shape,
                "--temperature",
                temperature,
                "--look-every",
                look_every,
            ];
            let out = program.run(&[&args[..], &more].concat());
            assert_eq!(out.status, 0, "{}", out.err);
            lines(&out.out)
        };
        let looked = run("2");
        let (mut looks, mut step, mut first) = (0, None, None);
        for line in &looked {
            assert!(schema.is_valid(line), "{}: {line}", schema.validate(line).unwrap_err());
            if line["type"] == "step" {
                step = Some(line);
            }
            if line["type"] == "look" {
                let (number, step) = (|key: &str| line[key].as_f64().unwrap(), step.unwrap());
                let (expected, best) =
                    (step["expected_accepted"].as_f64().unwrap(), number("drafter_best"));
                assert_eq!(line["step"], step["step"]);
                // Every other step; the seed decides between even and odd ones.
                let parity = step["step"].as_u64().unwrap() % 2;
                assert!(parity == *first.get_or_insert(parity) && line["state"] == "converged");
                let (lower, upper) = (number("oracle_lower"), number("oracle_upper"));
                assert!(
                    upper >= best.max(expected) - 1e-9
                        && lower <= upper
                        && upper - lower <= 0.01 * upper,
                    "{line}"
                );
                assert!(shape == "chain" || best == expected, "{line}: {expected}");
                assert!(
                    drafter != "oracle" || (upper - expected).abs() < 1e-9,
                    "the oracle drafts its own tree"
                );
                looks += 1;
            }
        }
        let summary = looked.last().unwrap();
        assert!(looks > 0 && summary["oracle"]["looks"] == looks, "{looks}: {}", summary["oracle"]);
        let losses: f64 =
            summary["losses"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
        assert!((losses - (7.0 - summary["accepted_mean"].as_f64().unwrap())).abs() < 1e-9);
        let steps = |lines: Vec<Value>| {
            lines.into_iter().filter(|l| l["type"] == "step").map(without_times).collect::<Vec<_>>()
        };
        assert_eq!(steps(looked), steps(run("0")), "{drafter}");
    }
}

#[test]
fn a_seed_gives_the_same_bytes_but_for_the_times() {
    let program = Program::new();
    let run = |seed: &str, more: &[&str]| {
        let args = [
            "--prompt",
            "Tell me about stars.",
            "--max-tokens",
            "16",
            "--temperature",
            "1",
            "--seed",
            seed,
            "--json",
            "-",
        ];
        let out = program.run(&[&args[..], more].concat());
        assert_eq!(out.status, 0, "{}", out.err);
        lines(&out.out).into_iter().map(without_times).collect::<Vec<Value>>()
    };
    for more in [
        &["--drafter", "eagle"][..],
        &["--drafter", "eagle", "--budget", "6", "--verify", "rejection"],
    ] {
        let first = run("7", more);
        assert_eq!(run("7", more), first);
        assert_ne!(texts(&run("8", more), "0"), texts(&first, "0"));
    }
    // The default model's file is recognized by its digest, so its shipped head drafts. The size of
    // automatic drafts depends on times, but the text does not.
    assert_eq!(texts(&run("7", &[]), "0"), texts(&run("7", &["--drafter", "none"]), "0"));
}

#[test]
fn output_files_are_renamed_when_complete() {
    let program = Program::new();
    let file = program.path("out.jsonl");
    let out = program.run(&["--prompt", "Hi", "--max-tokens", "3", "--raw", "--json", &file]);
    assert_eq!(out.status, 0, "{}", out.err);
    let lines = lines(&std::fs::read_to_string(&file).unwrap());
    assert_eq!(lines.last().unwrap()["type"], "summary");
    assert_eq!(
        out.out.trim_end_matches('\n'),
        texts(&lines, "0").trim_end_matches('\n'),
        "the text comes besides"
    );
    assert_eq!(program.names(), ["out.jsonl"]);
}
