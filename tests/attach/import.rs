//! `speclight import`, the real program.

use super::{lines, run, steps, sum};

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/attach/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn files_give_the_same_lines_as_a_probe() {
    let out =
        run(&["import", &fixture("vllm-detailed.jsonl"), &fixture("aiperf.jsonl"), "--json", "-"]);
    assert_eq!((out.status, out.err.as_str()), (0, ""));
    let lines = lines(&out.out);
    assert_eq!(
        (lines[0]["engine"].as_str(), lines[0]["mode"].as_str()),
        (Some("vllm"), Some("import"))
    );
    let steps = steps(&lines);
    assert_eq!((steps.len(), sum(&steps, "accepted"), sum(&steps, "drafted")), (10, 14.0, 28.0));
    let summary = lines.last().unwrap();
    assert_eq!(
        (summary["accepted_mean"].as_f64(), summary["budget"].as_u64()),
        (Some(1.4), Some(4))
    );
    assert!(summary["mu"].is_null() && summary["speed_of_light"].is_null());
}

#[test]
fn every_fixture_is_read_as_text_too() {
    let files = [
        "llama-trace.log",
        "trtllm-iterations.jsonl",
        "trtllm-requests.jsonl",
        "sglang-requests.jsonl",
        "sglang.log",
        "vllm.log",
    ];
    for file in files {
        let out = run(&["import", &fixture(file)]);
        assert_eq!((out.status, out.err.as_str()), (0, ""), "{file}");
        assert!(
            out.out.contains("accepted per drafted step") && !out.out.contains("NaN"),
            "{file}: {}",
            out.out
        );
    }
}

#[test]
fn what_cannot_be_imported_is_told_in_one_line() {
    for args in [
        vec![fixture("README.md")],
        vec!["/no/such/file".to_owned()],
        vec![fixture("vllm.log"), fixture("sglang.log")],
    ] {
        let args: Vec<&str> =
            std::iter::once("import").chain(args.iter().map(String::as_str)).collect();
        let out = run(&args);
        assert!(
            out.status == 1 && out.err.lines().count() == 1 && out.out.is_empty(),
            "{args:?}: {}",
            out.err
        );
    }
}
