//! Subcommands about models and the machine, run as the real program.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Stdio};

use tempfile::TempDir;

const OWN: &str = "[[model]]\nname = \"mine\"\narchitecture = \"llama\"\nfile = \"mine.gguf\"\nsources = [{ path = \"mine.gguf\" }]\n";

/// Runs the program and returns its status, standard output and standard error.
fn run(home: &TempDir, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_speclight"));
    command.args(args).stdin(Stdio::null());
    command
        .env("SPECLIGHT_CACHE", home.path().join("cache"))
        .env("SPECLIGHT_CONFIG", home.path().join("config"));
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Creates a home folder with this `models.toml`.
fn home(own: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("config")).unwrap();
    std::fs::write(home.path().join("config/models.toml"), own).unwrap();
    home
}

#[test]
fn the_list_is_aligned_and_says_what_is_here() {
    let home = home(OWN);
    std::fs::write(home.path().join("config/mine.gguf"), [0; 2048]).unwrap();
    let (status, list, said) = run(&home, &["models"]);
    assert_eq!((status, said.as_str()), (0, ""));
    let lines: Vec<&str> = list.lines().collect();
    let column = lines[0].find("STATE").unwrap();
    assert_eq!(lines.len(), 8);
    for line in &lines[1..] {
        let state = line[column..].split(' ').next().unwrap();
        assert_eq!(state, if line.starts_with("mine") { "present" } else { "absent" }, "{line}");
    }
    assert!(
        lines[1].starts_with("SmolLM2-135M-Instruct ")
            && lines[1].contains("98.4 MB")
            && lines[1].contains("default")
    );
    assert!(lines[7].contains("2.0 kB") && !list.contains('\u{1b}'));
    assert_eq!(run(&home, &["models", "list"]).1, list);
    assert!(!home.path().join("cache").exists(), "looking makes nothing");
}

#[test]
fn verify_tells_right_from_wrong() {
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let home = home(&OWN.replace("sources", &format!("sha256 = \"{sum}\"\nsources")));
    let file = home.path().join("config/mine.gguf");
    let (status, _, said) = run(&home, &["models", "verify"]);
    assert_eq!(
        (status, said.as_str()),
        (1, "speclight: no model is present: run speclight models fetch\n")
    );
    let (status, _, said) = run(&home, &["models", "verify", "MINE"]);
    assert_eq!(
        (status, said.as_str()),
        (1, "speclight: mine is absent: run speclight models fetch mine\n")
    );
    std::fs::write(&file, "abc").unwrap();
    let (status, out, _) = run(&home, &["models", "verify"]);
    assert_eq!((status, out), (0, format!("mine  ok        sha256 {sum}\n")));
    let (status, out, _) = run(&home, &["models", "verify", file.to_str().unwrap()]);
    assert!(status == 0 && out.starts_with(&format!("mine  unknown   sha256 {sum}")), "{out}");
    std::fs::write(&file, "abd").unwrap();
    let (status, out, _) = run(&home, &["models", "verify", "mine"]);
    assert!(
        status == 1 && out.starts_with("mine  mismatch  it has the sha256 ") && out.contains(sum),
        "{out}"
    );
}

#[test]
fn names_and_lists_that_are_wrong_are_one_line() {
    let (status, out, said) = run(&home(OWN), &["models", "fetch", "magic"]);
    assert_eq!((status, out.as_str(), said.lines().count()), (1, "", 1));
    assert!(
        said.starts_with("speclight: no model `magic`: take one of SmolLM2-135M-Instruct, "),
        "{said}"
    );
    let home = home(&OWN.replace("\"llama\"", "\"qwen2\""));
    let (status, _, said) = run(&home, &["models"]);
    let list = home.path().join("config/models.toml");
    assert_eq!((status, said.lines().count()), (1, 1));
    assert!(
        said.starts_with(&format!("speclight: {}:3: `architecture`: \"qwen2\"", list.display())),
        "{said}"
    );
    let (status, out, _) = run(&home, &["doctor"]);
    assert!(
        status == 1 && out.lines().any(|line| line.starts_with("fail  model ") && line.contains(":3: `architecture`")),
        "{out}"
    );
}

#[test]
fn the_doctor_names_what_keeps_the_program_from_running() {
    let home = home(&format!("default = \"mine\"\n{OWN}"));
    std::fs::write(home.path().join("config/mine.gguf"), "abc").unwrap();
    let (status, out, said) = run(&home, &["doctor"]);
    assert_eq!((status, said.as_str()), (0, ""), "{out}");
    let names: Vec<&str> = out.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(
        names,
        ["terminal", "cpu", "kernel", "threads", "device", "model", "cache", "config", "pip"]
    );
    assert!(out.contains("ok    model     mine is present"), "{out}");
    // A model file that exists needs no cache; a missing one does.
    std::fs::write(home.path().join("cache"), "no folder").unwrap();
    let (status, out, _) = run(&home, &["doctor"]);
    assert!(
        status == 0 && out.contains("\nwarn  cache ") && out.contains("set SPECLIGHT_CACHE"),
        "{out}"
    );
    std::fs::remove_file(home.path().join("config/models.toml")).unwrap();
    let (status, out, _) = run(&home, &["doctor"]);
    assert!(
        status == 1 && out.contains("\nfail  cache ") && out.contains("\nfail  model "),
        "{out}"
    );
}

#[test]
fn completions_and_the_manual_come_from_the_definition() {
    let home = home("");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (status, out, _) = run(&home, &["completions", shell]);
        assert!(status == 0 && out.contains("draft-model") && out.contains("doctor"), "{shell}");
    }
    let (status, _, said) = run(&home, &["completions", "tcsh"]);
    assert!(status == 2 && said.contains("bash") && said.lines().count() == 1, "{said}");
    let (status, out, _) = run(&home, &["man"]);
    assert!(
        status == 0
            && out.contains(".TH speclight 1")
            && out.contains(".SH \"SPECLIGHT MODELS FETCH\"")
    );
}

mod compare;
#[cfg(feature = "tui")]
mod export;
mod foreign;
#[path = "../common/model.rs"]
mod model;
mod table;

#[test]
fn a_bench_has_the_fields_that_others_rely_on_and_compares_with_itself() {
    let home = tempfile::tempdir().unwrap();
    let (file, path) = (home.path().join("bench.json"), model::path());
    let args = ["bench", "--model", path.to_str().unwrap(), "--rounds", "3", "--threads", "2"];
    let (status, out, said) =
        run(&home, &[&args[..], &["--json", file.to_str().unwrap()]].concat());
    assert_eq!((status, said.as_str()), (0, ""));
    assert!(out.contains("t(B) ms") && out.contains("memory-bound limit"), "{out}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!((&report["type"], &report["threads"]), (&"bench".into(), &2.into()));
    assert_eq!(report["rounded"], serde_json::json!([]));
    assert!(report["kernel"].as_str().is_some_and(|kernel| out.contains(kernel)));
    let number =
        |value: &serde_json::Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {report}"));
    for batch in ["1", "2", "4", "8", "16", "32", "64", "128"] {
        assert!(number(&report["t_seconds"][batch]) > 0.0);
        assert_eq!(report["samples"][&format!("t_seconds.{batch}")].as_array().unwrap().len(), 3);
    }
    for name in ["decode_tokens_per_second", "bandwidth_bytes_per_second", "weight_bytes_per_token"]
    {
        assert!(number(&report[name]) > 0.0);
    }
    assert!(number(&report["prefill_seconds"]["256"]) > 0.0);
    for tokens in ["1", "4", "16"] {
        let stages = report["stage_seconds"][tokens].as_object().unwrap();
        assert!(
            stages.len() == 10
                && ["attention", "gate and up", "vocabulary"]
                    .iter()
                    .all(|stage| number(&stages[*stage]) > 0.0)
        );
    }
    assert!(out.contains("by stage") && out.contains("ms of t(16)"), "{out}");
    // Incomparable settings are rejected before anything is measured.
    let own = home.path().join("own.json");
    std::fs::write(&own, "{\"type\":\"run\"}").unwrap();
    let (status, _, said) =
        run(&home, &[&args[..], &["--against", own.to_str().unwrap()]].concat());
    assert!(
        status == 1
            && said.contains("own.json")
            && said.contains("bench --json")
            && said.lines().count() == 1,
        "{said}"
    );
}
