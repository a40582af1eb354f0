//! Untrusted text printed by the real program: names, ids and file contents.
//!
//! No control sequence in it may reach a terminal.

use super::{home, run};

/// Untrusted text that sets the clipboard, reverses text and hides characters.
///
/// Contains OSC 52, C1, DEL, bidirectional and zero-width characters, and tags.
const FOREIGN: &str = "a\u{1b}]52;c;cHduZWQ=\u{7}\u{9b}2J\u{7f}\u{202e}\u{2066}\u{200b}\u{200f}\u{61c}\u{feff}\u{e0041}z";

/// Asserts that there are no control or invisible characters except the program's own line breaks.
#[track_caller]
fn safe(what: &str, text: &str) {
    let bad = |c: char| {
        let code = u32::from(c);
        (c.is_control() && c != '\n')
            || [0x61c, 0x2060, 0xfeff].contains(&code)
            || [
                0x200b..=0x200f,
                0x2028..=0x202e,
                0x2066..=0x2069,
                0xfe00..=0xfe0f,
                0xe0000..=0xe007f,
            ]
            .iter()
            .any(|r| r.contains(&code))
    };
    if let Some(c) = text.chars().find(|c| bad(*c)) {
        panic!("{what}: {c:?} in {text:?}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() < 3000),
        "{what}: a line of {} bytes",
        text.len()
    );
}

#[test]
fn no_command_writes_foreign_characters_to_a_terminal() {
    let home = home("");
    let folder = home.path().join("files");
    std::fs::create_dir(&folder).unwrap();
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let odd = at(FOREIGN);
    std::fs::write(&odd, "abc").unwrap();
    let long = "x".repeat(100_000);
    std::fs::write(
        at("bad.jsonl"),
        format!("{{\"prompt\": 1, \"{FOREIGN}\": 2}}\n{{\"question_id\": \"{long}\", \"prompt\": {{}}}}\n"),
    )
    .unwrap();
    std::fs::write(at("t.json"), format!("{{\"type\": \"table\", \"{FOREIGN}\": {{}}}}")).unwrap();
    std::fs::write(at("bench.json"), serde_json::json!({ "type": FOREIGN }).to_string()).unwrap();
    std::fs::create_dir(folder.join("model")).unwrap();
    std::fs::write(
        folder.join("model/config.json"),
        serde_json::json!({ "architectures": [FOREIGN] }).to_string(),
    )
    .unwrap();
    let (bad, table, bench, model) = (at("bad.jsonl"), at("t.json"), at("bench.json"), at("model"));
    let cases: [&[&str]; 21] = [
        &["models", "verify", &odd],
        &["models", "fetch", &odd],
        &["models", "fetch", FOREIGN],
        &["models", "fetch", &long],
        &["run", "--model", FOREIGN, "--prompt", "hi"],
        &["run", "--model", &odd, "--prompt", "hi"],
        &["run", "--model", &model, "--prompt", "hi"],
        &["run", "--prompts", &odd],
        &["run", "--prompts", &bad],
        &["run", "--prompt", "hi", "--json", "no\u{1b}]52;such/\u{202e}"],
        &["run", "--drafter", FOREIGN],
        &["run", "--head", &odd, "--model", &odd, "--prompt", "hi"],
        &["bench", "--against", &bench],
        &["bench", "--model", FOREIGN],
        &["table", "--prompts", &bad],
        &["table", "--model", &odd],
        &["compare", "--setting", FOREIGN, "--setting", "drafter=none"],
        &[
            "compare",
            "--setting",
            "drafter=none",
            "--setting",
            &format!("name={FOREIGN},drafter=\u{1b}]52;"),
        ],
        &["plot", &table, "-o", "a.svg"],
        &["plot", &odd, "-o", FOREIGN],
        &["train", "--prompts", &odd, "--folder", &odd, "--out", &odd],
    ];
    for args in cases {
        let (status, out, err) = run(&home, args);
        assert!(!(out.is_empty() && err.is_empty()), "{args:?} said nothing, status {status}");
        safe(&format!("{args:?}"), &out);
        safe(&format!("{args:?}"), &err);
    }
    // A custom list whose notes and paths are untrusted, and the user's folders.
    let own = super::OWN
        .replace("sources", &format!("notes = {:?}\nsources", "n\u{202e}\u{200b}m"))
        .replace("path = \"mine", &format!("path = \"{}", "\u{202e}m"));
    std::fs::write(home.path().join("config/models.toml"), format!("default = \"mine\"\n{own}"))
        .unwrap();
    for args in
        [&["models"][..], &["doctor"], &["models", "fetch", "mine"], &["models", "verify", "mine"]]
    {
        let (_, out, err) = run(&home, args);
        safe(&format!("{args:?}"), &(out + &err));
    }
}

#[test]
fn names_are_cut_where_they_are_too_long_to_read() {
    let home = home("");
    let (status, _, err) = run(&home, &["models", "fetch", &"x".repeat(100_000)]);
    assert!(status == 1 && err.contains('…') && err.len() < 2000, "{} bytes", err.len());
    assert!(
        err.starts_with("speclight: no model `xxx")
            && err.contains("take one of SmolLM2-135M-Instruct"),
        "{err}"
    );
}
