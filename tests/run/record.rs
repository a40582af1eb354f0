//! `speclight run --record`: the recording holds what `--json` writes.

use serde_json::Value;

use super::program::{Program, lines};

#[test]
fn a_recording_holds_the_lines_of_json() {
    let program = Program::new();
    let file = program.prompts(&["What is light?", "Count: one, two, three, one, two"]);
    let record = program.path("run.rec");
    let args = ["--prompts", &file, "--max-tokens", "24", "--drafter", "ngram", "--json", "-"];
    let more = ["--temperature", "0.8", "--look-every", "3", "--record", &record];
    let out = program.run(&[&args[..], &more].concat());
    assert_eq!((out.status, out.err.as_str()), (0, ""));
    assert_eq!(program.names(), ["run.rec"]);
    let text = zstd::decode_all(std::fs::File::open(&record).unwrap()).unwrap();
    let recorded = lines(&String::from_utf8(text).unwrap());
    let of = |lines: &[Value], kind: &str| -> Vec<Value> {
        lines.iter().filter(|line| line["type"] == kind).cloned().collect()
    };
    let json = lines(&out.out);
    for kind in ["run", "step", "look"] {
        assert_eq!(of(&recorded, kind), of(&json, kind), "{kind}");
    }
    assert!(of(&json, "step").len() > 10 && !of(&json, "look").is_empty());
    assert_eq!(recorded.last().unwrap()["type"], "end");
    // The same run without a recording has the same tokens.
    let without = program.run(&[&args[..], &more[..4]].concat());
    let tokens = |lines: &[Value]| -> Vec<Value> {
        of(lines, "step").into_iter().map(|step| step["emitted"].clone()).collect()
    };
    assert_eq!(tokens(&lines(&without.out)), tokens(&json));
}

#[test]
fn a_recording_that_cannot_be_written_is_said_before_the_model_is_loaded() {
    let program = Program::new();
    let out = program.run(&["--prompt", "Hi", "--record", &program.path("none/run.rec")]);
    assert!(out.status != 0 && out.err.lines().count() == 1, "{}", out.err);
    assert!(out.err.contains("can't record to") && !out.err.contains("loading"), "{}", out.err);
}
