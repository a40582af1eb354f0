//! A model whose vocabulary attacks the terminal, against the bytes that reach it.

use super::start_program;
use super::terminal::number;
use super::tiny_gguf::{Gguf, Value};

/// Tokens that the model writes most of the time, each with what a leak of it would show.
///
/// Escape sequences of all kinds (CSI, OSC, DCS, APC, PM, SOS, RIS), C0 and C1 controls, and
/// characters that are invisible or reverse the text.
const ATTACKS: [&str; 24] = [
    "\u{1b}]52;c;cHduZWQ=\u{7}",
    "\u{1b}]0;owned\u{1b}\\",
    "\u{1b}]8;;http://x.example\u{1b}\\",
    "\u{1b}Pq#0~\u{1b}\\",
    "\u{1b}_Ga=T\u{1b}\\",
    "\u{1b}^x\u{1b}\\",
    "\u{1b}Xx\u{1b}\\",
    "\u{1b}c",
    "\u{1b}[5i",
    "\u{1b}[21t",
    "\u{1b}[6n",
    "\u{1b}[?1003h",
    "\u{1b}#8",
    "\u{9b}2J",
    "\u{9d}52;c;cHduZWQ=\u{9c}",
    "\u{85}\u{8d}",
    "\u{7f}\u{8}\u{8}",
    "\u{e}\u{5}\u{c}",
    "\r\u{b}",
    "\u{202e}evil\u{202c}",
    "\u{2066}\u{2069}\u{200f}\u{61c}",
    "\u{200b}\u{200c}\u{2060}\u{feff}",
    "\u{e0041}\u{e0042}",
    "\u{2028}\u{2029}",
];

/// Final bytes of the CSI sequences that the screen itself uses.
const OWN_CSI: &str = "mHJKhlAG";

/// Private modes that the screen switches.
const OWN_MODES: [&str; 4] = ["?1049", "?2004", "?25", "?2026"];

/// Sequences that switch the mouse on and off, which are the screen's own as a whole only.
const OWN_MOUSE: [&str; 2] = [
    "\u{1b}[?1000h\u{1b}[?1002h\u{1b}[?1003h\u{1b}[?1015h\u{1b}[?1006h",
    "\u{1b}[?1006l\u{1b}[?1015l\u{1b}[?1003l\u{1b}[?1002l\u{1b}[?1000l",
];

/// Returns what reached the terminal although only a program may send it, or none should.
fn leaks(raw: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(raw).replace(OWN_MOUSE[0], "").replace(OWN_MOUSE[1], "");
    let mut found = Vec::new();
    if std::str::from_utf8(raw).is_err() {
        found.push("bytes that are no UTF-8".to_owned());
    }
    let chars: Vec<char> = text.chars().collect();
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        i += 1;
        if c == '\u{1b}' {
            let begin = i;
            if chars.get(i) != Some(&'[') {
                found.push(format!("ESC {:?}", chars.get(i)));
                continue;
            }
            i += 1;
            while i < chars.len() && !('\u{40}'..='\u{7e}').contains(&chars[i]) {
                i += 1;
            }
            let parameters: String = chars[begin + 1..i.min(chars.len())].iter().collect();
            let end = chars.get(i).copied().unwrap_or('\0');
            i += 1;
            let known = OWN_CSI.contains(end)
                && (!"hl".contains(end) || OWN_MODES.contains(&parameters.as_str()));
            if !known {
                found.push(format!("CSI {parameters:?} {end:?}"));
            }
            continue;
        }
        let code = u32::from(c);
        let hidden = [0x61c, 0x2060, 0xfeff].contains(&code)
            || [0x200b..=0x200f, 0x2028..=0x202e, 0x2066..=0x2069, 0xe0000..=0xe007f]
                .iter()
                .any(|range| range.contains(&code));
        if hidden || (c.is_control() && !"\r\n\t".contains(c)) {
            found.push(format!("{c:?}"));
        }
    }
    found
}

/// Writes a model that writes [`ATTACKS`], under a name that is an attack, too.
fn model(folder: &tempfile::TempDir) -> String {
    let words: Vec<&[u8]> = ATTACKS.iter().map(|attack| attack.as_bytes()).collect();
    let mut file = Gguf::byte_pairs(&words, true);
    file.set("general.name", Value::String(ATTACKS.concat()));
    file.set(
        "tokenizer.chat_template",
        Value::String("{{ messages[0].content }}\u{1b}]52;c;cHduZWQ=\u{7}".into()),
    );
    let path = folder.path().join("hostile.gguf");
    std::fs::write(&path, file.bytes()).unwrap();
    path.to_str().unwrap().to_owned()
}

const SETTINGS: [&str; 8] =
    ["--device", "cpu", "--threads", "1", "--temperature", "1", "--max-tokens", "400"];

#[test]
fn the_detector_finds_each_attack() {
    for attack in ATTACKS.iter().filter(|attack| **attack != "\r\u{b}") {
        assert!(!leaks(attack.as_bytes()).is_empty(), "{attack:?}");
    }
    assert_eq!(
        leaks("\u{1b}[1;31mred\u{1b}[0m\r\n\u{1b}[?1049h\u{1b}[2Jé".as_bytes()),
        Vec::<String>::new()
    );
}

#[test]
fn a_hostile_model_writes_its_text_escaped() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(&folder);
    for (drafter, json) in [("none", None), ("ngram", None), ("none", Some("-"))] {
        let mut args = vec!["run", "--model", &path, "--prompt", "hi", "--drafter", drafter];
        args.extend(SETTINGS);
        args.extend(json.into_iter().flat_map(|to| ["--json", to]));
        let mut t = start_program(&args, &folder, 100, 30);
        assert_eq!(t.status(), 0, "{args:?}: {}", t.screen());
        t.settle();
        let raw = t.raw_bytes();
        let text = String::from_utf8_lossy(&raw).into_owned();
        // The attacks came, as text.
        let written = ATTACKS.iter().filter(|attack| attack.contains("52;c;")).count();
        assert!(written == 2 && text.contains("52;c;cHduZWQ="), "{args:?}: {text}");
        assert_eq!(leaks(&raw), Vec::<String>::new(), "{args:?}");
    }
}

#[test]
fn a_hostile_model_shows_its_text_escaped_on_the_screens() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(&folder);
    let monitor = ["--model", &path, "--prompt", "hi", "--drafter", "ngram", "--budget", "8"];
    let compare = [
        "compare",
        "--model",
        &path,
        "--prompt",
        "hi",
        "--setting",
        "drafter=none",
        "--setting",
        "drafter=ngram",
    ];
    for args in [&monitor[..], &compare[..]] {
        let args = [args, &SETTINGS[..]].concat();
        let mut t = start_program(&args, &folder, 100, 30);
        t.wait("steps", |s| number(s, "step ").is_some_and(|step| step > 60));
        t.wait("the text", |s| s.contains("52;c;") || s.contains("owned") || s.contains("evil"));
        // All panes and the help.
        for key in ["\t", "\t", "\t", "\t", " ", "?", "?", "\u{1b}[C", "\u{1b}[D", "z"] {
            t.send(key);
            std::thread::sleep(std::time::Duration::from_millis(60));
        }
        t.resize(80, 24);
        t.wait("the other size", |s| !s.trim().is_empty());
        t.send("q");
        assert_eq!(t.status(), 0, "{}", t.screen());
        t.settle();
        assert!(t.restored(), "{}", t.left_behind());
        assert_eq!(leaks(&t.raw_bytes()), Vec::<String>::new(), "{args:?}");
    }
}
