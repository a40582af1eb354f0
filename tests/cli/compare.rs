//! `speclight compare` with the real model.

use serde_json::Value;
use tempfile::TempDir;

use super::{model, run};

/// Creates a folder with a file of three prompts.
fn home() -> (TempDir, String) {
    let home = tempfile::tempdir().unwrap();
    let prompts = home.path().join("three.jsonl");
    let lines =
        ["Count: one, two, three, one, two, three, one, two", "Name a color.", "What is light?"]
            .iter()
            .enumerate()
            .map(|(i, text)| {
                serde_json::json!({ "question_id": format!("p{i}"), "prompt": text }).to_string()
                    + "\n"
            });
    std::fs::write(&prompts, lines.collect::<String>()).unwrap();
    let prompts = prompts.to_str().unwrap().to_owned();
    (home, prompts)
}

/// Runs the command and drops progress lines, which slow machines print, from standard error.
fn compare(home: &TempDir, prompts: &str, args: &[&str]) -> (i32, String, String) {
    let path = model::path();
    let fixed = [
        "compare",
        "--model",
        path.to_str().unwrap(),
        "--device",
        "cpu",
        "--threads",
        "2",
        "--prompts",
        prompts,
    ];
    let (status, out, said) = run(home, &[&fixed[..], args].concat());
    let said = said.split_inclusive('\n').filter(|line| !line.contains(" texts, ")).collect();
    (status, out, said)
}

fn read(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Removes all measured times.
fn timeless(value: &mut Value) {
    match value {
        Value::Object(map) => {
            let clock = |key: &str| {
                key.ends_with("seconds")
                    || key.contains("per_second")
                    || key.starts_with("speed")
                    || key == "time"
            };
            map.retain(|key, _| !clock(key));
            map.values_mut().for_each(timeless);
        }
        Value::Array(list) => list.iter_mut().for_each(timeless),
        _ => {}
    }
}

fn schema() -> jsonschema::Validator {
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let run =
        jsonschema::Resource::from_contents(parse(include_str!("../../schema/run.schema.json")))
            .unwrap();
    (jsonschema::options().with_resource("json-schema:///run.schema.json", run))
        .build(&parse(include_str!("../../schema/compare.schema.json")))
        .unwrap()
}

#[test]
fn the_same_text_is_paired_by_position_and_other_texts_by_prompt() {
    let (home, prompts) = home();
    let file = home.path().join("out.json");
    let args = [
        "--max-tokens",
        "20",
        "--look-every",
        "4",
        "--temperature",
        "0.8",
        "--budget",
        "8",
        "--setting",
        "drafter=ngram",
        "--setting",
        "name=exit,drafter=early-exit",
        "--setting",
        "drafter=early-exit,temperature=0",
        "--json",
    ];
    let to_file = [&args[..], &[file.to_str().unwrap(), "--csv", "-"]].concat();
    let (status, csv, said) = compare(&home, &prompts, &to_file);
    assert_eq!((status, said.as_str()), (0, ""));
    let report = read(&file);
    let schema = schema();
    assert!(schema.is_valid(&report), "{}: {report}", schema.validate(&report).unwrap_err());
    // Removing or renaming any property makes the report invalid.
    for place in [
        "",
        "/settings/0",
        "/settings/0/summary",
        "/pairs/0",
        "/pairs/0/contexts",
        "/pairs/0/taken_by_b",
        "/texts/0/of/0",
    ] {
        let keys: Vec<String> =
            report.pointer(place).unwrap().as_object().unwrap().keys().cloned().collect();
        for key in keys {
            let mut spoiled = report.clone();
            let object = spoiled.pointer_mut(place).unwrap().as_object_mut().unwrap();
            let value = object.remove(&key).unwrap();
            assert!(!schema.is_valid(&spoiled), "{place} without {key}");
            let object = spoiled.pointer_mut(place).unwrap().as_object_mut().unwrap();
            object.insert(key.clone(), value);
            object.insert(format!("{key}_"), Value::Null);
            assert!(!schema.is_valid(&spoiled), "{place} with {key}_");
        }
    }

    let names: Vec<&str> = report["settings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["A", "exit", "C"]);
    let pairs = report["pairs"].as_array().unwrap();
    let by: Vec<&str> = pairs.iter().map(|p| p["paired_by"].as_str().unwrap()).collect();
    assert_eq!(by, ["positions", "prompts", "prompts"]);
    assert!(pairs[1]["outcomes"].is_null() && pairs[1]["differences"].is_object());

    // The counts are consistent with each other and with the steps.
    let pair = &pairs[0];
    assert_eq!(pair["differing"], serde_json::json!([]));
    let count = |value: &Value| value.as_u64().unwrap();
    let outcomes = &pair["outcomes"];
    let row = |name: &str| ["taken", "refused", "bonus"].map(|key| count(&outcomes[name][key]));
    let rows = [row("taken"), row("refused"), row("bonus")];
    assert_eq!(rows.concat().iter().sum::<u64>(), count(&outcomes["positions"]));
    let sum = |setting: usize, key: &str| -> u64 {
        report["texts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| count(&text["of"][setting][key]))
            .sum()
    };
    assert_eq!(
        (sum(0, "tokens"), sum(1, "tokens")),
        (count(&outcomes["positions"]), count(&outcomes["positions"]))
    );
    assert_eq!(rows[0].iter().sum::<u64>(), sum(0, "accepted"));
    assert_eq!(rows.iter().map(|row| row[0]).sum::<u64>(), sum(1, "accepted"));
    for (side, taken) in
        [("taken_by_a", rows[0][1] + rows[0][2]), ("taken_by_b", rows[1][0] + rows[2][0])]
    {
        let takes = &pair[side];
        let causes: u64 = takes["misses"]["causes"].as_object().unwrap().values().map(count).sum();
        assert_eq!(
            (count(&takes["positions"]), causes + count(&takes["not_drafted"])),
            (taken, taken),
            "{side}"
        );
    }
    let difference = |key: &str| pair["differences"][key]["difference"]["value"].as_f64().unwrap();
    let mean =
        |setting: usize, key: &str| report["settings"][setting]["summary"][key].as_f64().unwrap();
    assert!(
        (difference("accepted") - (mean(1, "accepted_mean") - mean(0, "accepted_mean"))).abs()
            < 1e-9
    );
    assert!((difference("tokens_per_step") - difference("accepted")).abs() < 1e-9);
    assert_eq!(
        report["settings"][0]["summary"]["text_sha256"],
        report["settings"][1]["summary"]["text_sha256"]
    );
    for setting in report["settings"].as_array().unwrap() {
        let losses: f64 = setting["summary"]["losses"]
            .as_object()
            .unwrap()
            .values()
            .filter_map(Value::as_f64)
            .sum();
        assert!(
            (losses - (7.0 - setting["summary"]["accepted_mean"].as_f64().unwrap())).abs() < 1e-9
        );
        assert!(setting["summary"]["oracle"]["looks"].as_u64().unwrap() > 0);
        assert!(setting["summary"]["autoregressive_tokens_per_second"].as_f64().unwrap() > 0.0);
    }

    // One row per number, with the same number of cells in each.
    let rows: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["setting", "against", "quantity", "value", "low", "high"]);
    assert!(rows.iter().all(|row| row.len() == 6));
    assert!(rows.iter().any(|row| row[..3] == ["exit", "A", "accepted_difference"]));
    assert!(rows.iter().any(|row| row[..3] == ["C", "", "loss_luck"]));

    // The same seed gives the same numbers, except for times.
    let (mut first, again) = (report, home.path().join("again.json"));
    let (status, ..) = compare(&home, &prompts, &[&args[..], &[again.to_str().unwrap()]].concat());
    let mut second = read(&again);
    timeless(&mut first);
    timeless(&mut second);
    assert_eq!((status, second), (0, first));
}

#[test]
fn the_table_says_what_it_paired_and_hard_prompts_can_be_read() {
    let (home, prompts) = home();
    let hard = home.path().join("hard.jsonl");
    let args = [
        "--max-tokens",
        "24",
        "--look-every",
        "1",
        "--temperature",
        "0.8",
        "--hard-count",
        "3",
        "--hard",
        hard.to_str().unwrap(),
        "--setting",
        "drafter=ngram",
        "--setting",
        "drafter=suffix,temperature=1",
        "--setting",
        "drafter=suffix",
    ];
    let (status, out, said) = compare(&home, &prompts, &args);
    assert_eq!((status, said.as_str()), (0, ""));
    for words in [
        "A: ngram, best-first, B 16, T 0.8, seed 0\n",
        "C against A: 3 prompts with the same text",
        "B against A: sampling parameters or seeds differ",
        "- knowledge loss",
        "plain tokens/s",
        "too early for an interval",
        "Accepted by A, missed by C",
        "Same contexts: ",
    ] {
        assert!(out.contains(words), "{words}:\n{out}");
    }
    let lines: Vec<Value> = std::fs::read_to_string(&hard)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert!(!lines.is_empty() && lines.len() <= 3, "{lines:?}");
    let losses: Vec<f64> =
        lines.iter().map(|line| line["knowledge_loss"].as_f64().unwrap()).collect();
    assert!(
        losses.is_sorted_by(|a, b| a >= b) && losses.iter().all(|loss| *loss > 0.0),
        "{losses:?}"
    );
    assert!(lines.iter().all(|line| line["question_id"].as_str().unwrap().starts_with('p')));
    // `compare` takes them like any other prompts.
    let (status, _, said) = compare(
        &home,
        hard.to_str().unwrap(),
        &["--max-tokens", "1", "--setting", "", "--setting", "budget=2"],
    );
    assert_eq!((status, said.as_str()), (0, ""));
}

#[test]
fn what_is_wrong_is_said_in_one_line_before_anything_is_loaded() {
    let (home, prompts) = home();
    let two = ["--setting", "drafter=ngram", "--setting", "drafter=suffix"];
    let cases: [(&[&str], &str); 10] = [
        (&[], "there is nothing to compare; give --setting"),
        (&["--setting", "drafter=ngram"], "one setting is too few"),
        (
            &["--setting", "budget=2", "--setting", "budget=4", "--verify", "rejection"],
            "which depends on the draft",
        ),
        (
            &["--setting", "budget=2", "--setting", "budget=4", "--verify", "block"],
            "--verify block: steps are paired",
        ),
        (
            &["--setting", "drafter=ngram", "--setting", "drafter=eagel"],
            "--setting \"drafter=eagel\": ",
        ),
        (&["--setting", "name=x", "--setting", "name=x"], "two settings have the name \"x\""),
        (
            &[&two[..], &["--hard", "h.jsonl", "--look-every", "0"]].concat(),
            "--look-every 0 disables them",
        ),
        (&[&two[..], &["--csv", "-", "--json", "-"]].concat(), "--text, --csv and --json"),
        (&[&two[..], &["--json", "no/such/out.json"]].concat(), "no/such/out.json"),
        (&["--setting", "", "--setting", "drafter=eagle,head=no/such.gguf"], "no/such.gguf"),
    ];
    for (args, words) in cases {
        let (status, out, said) = compare(&home, &prompts, args);
        assert_eq!((status, out.as_str(), said.lines().count()), (1, "", 1), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let (status, _, said) = compare(&home, "no/such.jsonl", &two);
    assert!(status == 1 && said.contains("no/such.jsonl"), "{said}");
    // Prompts that are too long are skipped, and no file is written if none remains.
    let long = home.path().join("long.jsonl");
    std::fs::write(&long, serde_json::json!({ "prompt": "word ".repeat(9000) }).to_string())
        .unwrap();
    let file = home.path().join("out.json");
    let (status, _, said) = compare(
        &home,
        long.to_str().unwrap(),
        &[&two[..], &["--json", file.to_str().unwrap()]].concat(),
    );
    assert!(
        status == 1 && said.contains("skipped") && said.contains("no prompt could be run"),
        "{said}"
    );
    assert!(!file.exists() && !home.path().join("out.json.part").exists());
}
