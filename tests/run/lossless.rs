//! The drafter changes how many tokens a step yields, never which.

use super::program::{Program, lines, texts};

/// Every drafter and shape, with budgets from the smallest that drafts to a large one.
///
/// `cargo bench --bench lossless` covers all combinations, over files of prompts.
const SETTINGS: [(&str, &str, &str); 12] = [
    ("ngram", "chain", "8"),
    ("ngram", "best-first", "64"),
    ("suffix", "best-first", "16"),
    ("early-exit", "chain", "2"),
    ("early-exit", "best-first", "12"),
    ("suffix", "static", "16"),
    ("eagle", "chain", "4"),
    ("eagle", "best-first", "16"),
    ("eagle", "fixed", "24"),
    ("mix", "best-first", "16"),
    ("model", "chain", "5"),
    ("oracle", "best-first", "32"),
];

/// Path of the shipped head. Needed because the model is given as a path, which has no associated
/// head.
pub const HEAD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/heads/SmolLM2-135M-Instruct.gguf");
/// Path of the shipped adapter.
pub const ADAPTER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/heads/SmolLM2-135M-Instruct.adapter.gguf");

fn same_whoever_drafts(sampling: &[&str]) {
    let program = Program::new();
    let file =
        program.prompts(&["Say the colors of the rainbow twice.", "def add(a, b):\n    return"]);
    let second = super::model::path();
    let run = |drafter: &str, shape: &str, budget: &str| {
        let mut args = vec![
            "--prompts",
            &file,
            "--max-tokens",
            "20",
            "--json",
            "-",
            "--drafter",
            drafter,
            "--shape",
            shape,
        ];
        args.extend(["--budget", budget]);
        args.extend(sampling);
        if drafter == "model" {
            args.extend(["--draft-model", second.to_str().unwrap()]);
        }
        if ["eagle", "mix"].contains(&drafter) {
            args.extend(["--head", HEAD]);
        }
        // The other early-exit setting uses the model's own head.
        if (drafter, shape) == ("early-exit", "best-first") {
            args.extend(["--adapter", ADAPTER]);
        }
        let out = program.run(&args);
        assert_eq!(out.status, 0, "{}", out.err);
        let lines = lines(&out.out);
        (texts(&lines, "p0"), texts(&lines, "p1"), lines.last().unwrap()["steps"].as_u64().unwrap())
    };
    let plain = run("none", "chain", "2");
    let mut fewest = plain.2;
    for (drafter, shape, budget) in SETTINGS {
        let (first, second, steps) = run(drafter, shape, budget);
        assert_eq!((&first, &second), (&plain.0, &plain.1), "{drafter} {shape} {budget}");
        assert!(steps <= plain.2);
        fewest = fewest.min(steps);
    }
    assert!(fewest < plain.2, "something was accepted");
}

#[test]
fn greedy_text_is_that_of_plain_decoding() {
    same_whoever_drafts(&[]);
}

#[test]
fn sampled_text_is_that_of_plain_decoding() {
    same_whoever_drafts(&["--temperature", "0.8", "--top-p", "0.95", "--seed", "5"]);
}
