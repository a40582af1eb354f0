//! The program itself, with the real model, in a pseudo-terminal.

use super::model;
use super::terminal::{Terminal, number};

fn start(args: &[&str], env: &[(&str, &str)]) -> (Terminal, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (cache, config) = (folder.path().join("cache"), folder.path().join("config"));
    let path = model::path();
    let mut all = vec!["--model", path.to_str().unwrap(), "--device", "cpu"];
    // `train` has no `--device`: heads are trained on the CPU path only.
    all.truncate(if args.first() == Some(&"train") { 2 } else { 4 });
    let at = usize::from(
        args.first().is_some_and(|first| ["run", "compare", "table", "train"].contains(first)),
    );
    if at == 0 {
        all.extend(["--pace", "full"]);
    }
    all.splice(0..0, args[..at].iter().copied());
    all.extend(&args[at..]);
    let mut vars = vec![
        ("TERM", "xterm-256color"),
        ("LANG", "C.UTF-8"),
        ("COLORTERM", ""),
        ("NO_COLOR", ""),
        ("RUST_BACKTRACE", "0"),
        ("SPECLIGHT_CACHE", cache.to_str().unwrap()),
        ("SPECLIGHT_CONFIG", config.to_str().unwrap()),
    ];
    vars.extend(env);
    (Terminal::start(env!("CARGO_BIN_EXE_speclight"), &all, &vars, 80, 24), folder)
}

#[test]
fn a_session_from_start_to_quit() {
    let prompt = ["--prompt", "Count from one to a hundred, in words.", "--max-tokens", "200"];
    let (mut t, _folder) =
        start(&[&prompt[..], &["--drafter", "ngram", "--temperature", "0"]].concat(), &[]);
    t.wait("the loading", |s| s.contains("loading SmolLM2-135M-Instruct") || s.contains("live"));
    assert!(
        t.alternate() && t.bracketed_paste() && t.cursor_hidden(),
        "the terminal is taken over"
    );
    t.wait("the header", |s| {
        s.contains("SmolLM2-135M-Instruct") && s.contains("live") && s.contains("ngram")
    });
    t.wait("the first text", |s| {
        s.contains("Count from one") && number(s, "step ").is_some_and(|step| step > 2)
    });
    t.send(" ");
    t.wait("the pause", |s| s.contains("paused") && s.contains("resume"));
    let before = t.number("step ");
    t.send(".");
    t.wait("one step more", |s| number(s, "step ") == Some(before + 1));
    t.send("d.");
    t.wait("the next drafter", |s| {
        s.contains("early-exit · best-first") && number(s, "step ") == Some(before + 2)
    });
    t.send("T.");
    t.wait("the temperature", |s| s.contains("T 0.2") && number(s, "step ") == Some(before + 3));
    t.resize(120, 40);
    t.wait("more room", |s| s.contains(" entropy "));
    t.resize(80, 24);
    t.wait("room again", |s| s.contains("paused"));
    t.send(" ");
    t.wait("it goes on", |s| number(s, "step ").is_some_and(|step| step > before + 3));
    t.send("q");
    assert_eq!(t.status(), 0);
    t.wait("the summary", |s| s.contains("lost to") && s.contains("tokens per step"));
    assert!(t.restored(), "{}", t.left_behind());
}

#[test]
fn a_signal_ends_it_with_its_status() {
    let (mut t, _folder) = start(&["--prompt", "Hi"], &[]);
    t.wait("steps", |s| number(s, "step ").is_some());
    t.wait("the usual drafter", |s| s.contains("auto · best-first · B auto, up to 64"));
    t.signal("TERM");
    assert_eq!(t.status(), 128 + 15);
    t.wait("the summary", |s| s.contains("lost to"));
    assert!(t.restored(), "{}", t.left_behind());
}

#[test]
fn what_can_be_known_before_is_said_before_the_screen() {
    let cases: [(&[&str], &str); 4] = [
        (&["--theme", "nosuch"], "theme nosuch: not found"),
        (&["--prompts", "no/such.jsonl"], "no/such.jsonl"),
        (&["--draft-model", "no/such.gguf", "--drafter", "model"], "no/such.gguf"),
        (&["--budget", "0"], "1 to 256"),
    ];
    for (args, words) in cases {
        let (mut t, _folder) = start(args, &[]);
        assert!(t.status() > 0);
        t.wait("the line", |s| s.contains("speclight: ") && s.replace('\n', "").contains(words));
        assert!(!t.alternate() && t.restored(), "{}", t.left_behind());
    }
}

#[test]
fn a_theme_that_is_wrong_is_named_by_file_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    for (content, words) in [
        ("name = \"mine\"\nglyphs = \"round\"\n", ":2: glyphs: "),
        (
            "name = \"mine\"\ninherits = \"dark\"\n[roles]\nvalue = { fg = \"reddish\" }\n",
            ":4: roles.value: unknown color `reddish`",
        ),
        ("name = \"mine\"\n[roles]\nvalue = \n", ":3: not TOML"),
        ("color = 1\n", ":1: unknown key `color`"),
    ] {
        std::fs::write(&file, content).unwrap();
        let (mut t, _folder) = start(&["--theme", file.to_str().unwrap()], &[]);
        assert!(t.status() > 0);
        t.wait("the line", |s| {
            s.replace('\n', "").contains(&format!("speclight: theme {}{words}", file.display()))
        });
        assert!(!t.alternate() && t.restored(), "{}", t.left_behind());
    }
}

#[test]
fn what_fails_while_it_loads_is_said_after_the_screen() {
    let (mut t, _folder) = start(&["--exit-layers", "99"], &[]);
    assert_eq!(t.status(), 1);
    t.wait("the line", |s| s.contains("speclight: early-exit after 99 layers"));
    assert!(t.restored(), "{}", t.left_behind());
}

#[test]
fn run_marks_the_text_on_a_terminal_and_sums_up() {
    let args =
        ["run", "--prompt", "Say again: one two three one two three one two", "--max-tokens", "24"];
    let (mut t, _folder) = start(&args, &[]);
    assert_eq!(t.status(), 0);
    t.wait("the table", |s| {
        s.contains("tokens          24 in") && s.contains("colors") && s.contains("plain decoding")
    });
    // The bonus token is yellow, the first drafted token green.
    assert!(t.has_color(3) && t.has_color(2), "{}", t.screen());
    let (mut t, _folder) = start(&args, &[("NO_COLOR", "1")]);
    assert_eq!(t.status(), 0);
    t.wait("the table", |s| s.contains("tokens          24 in") && !s.contains("colors"));
    assert!(!t.has_color_and_bold().0, "no cell has a color");
}

#[test]
fn two_settings_side_by_side_from_start_to_quit() {
    let two = [
        "compare",
        "--prompt",
        "Say again: one two three one two three one two",
        "--setting",
        "drafter=ngram",
    ];
    let more = [
        "--setting",
        "name=other,drafter=early-exit,budget=4",
        "--temperature",
        "0.5",
        "--look-every",
        "0",
    ];
    let (mut t, _folder) = start(&[&two[..], &more].concat(), &[]);
    t.wait("both lanes", |s| {
        s.contains("ngram, best-first, B 16") && s.contains("early-exit") && s.contains("other - A")
    });
    assert!(
        t.alternate() && t.bracketed_paste() && t.cursor_hidden(),
        "the terminal is taken over"
    );
    t.wait("steps", |s| number(s, "step ").is_some_and(|step| step > 2) && s.contains("same text"));
    t.send(" ");
    t.wait("the pause", |s| s.contains("paused") && s.contains("resume"));
    let both = |s: &str| {
        s.match_indices("step ")
            .filter_map(|(at, _)| number(&s[at..], "step "))
            .take(2)
            .sum::<usize>()
    };
    let before = both(&t.screen());
    t.send(".");
    t.wait("one step of one lane", |s| both(s) == before + 1);
    for (width, height) in [(120, 40), (40, 12), (20, 5), (80, 24)] {
        t.resize(width, height);
        let words = if width < 40 { "too small" } else { "tokens/step" };
        t.wait("the other size", |s| s.contains(words));
    }
    t.send("q");
    assert_eq!(t.status(), 0);
    t.wait("the old screen", |s| !s.contains("SmolLM2"));
    assert!(t.restored(), "{}", t.left_behind());
}

#[test]
fn a_comparison_gives_the_terminal_back_when_it_is_ended() {
    let args =
        ["compare", "--prompt", "Hi", "--setting", "drafter=ngram", "--setting", "drafter=suffix"];
    for (how, status) in [("TERM", 128 + 15), ("INT", 128 + 2), ("Ctrl-C", 0)] {
        let (mut t, _folder) = start(&args, &[]);
        t.wait("steps", |s| number(s, "step ").is_some());
        if how == "Ctrl-C" {
            t.send("\x03")
        } else {
            t.signal(how)
        }
        assert_eq!(t.status(), status, "{how}");
        t.wait("the old screen", |s| !s.contains("SmolLM2"));
        assert!(t.restored(), "{how}: {}", t.left_behind());
    }
    // Loading errors are reported after the screen is closed.
    let (mut t, _folder) = start(&[&args[..], &["--exit-layers", "99"]].concat(), &[]);
    assert_eq!(t.status(), 1);
    t.wait("the line", |s| s.contains("speclight: early-exit after 99 layers"));
    assert!(t.restored(), "{}", t.left_behind());
}

#[test]
fn training_is_watched_and_keeps_a_checkpoint_when_it_is_left() {
    let work = tempfile::tempdir().unwrap();
    let path = |name: &str| work.path().join(name).to_str().unwrap().to_owned();
    let asks: String =
        (0..12).map(|i| format!("{{\"prompt\": \"What is {i} + {i}?\"}}\n")).collect();
    std::fs::write(path("asks.jsonl"), asks).unwrap();
    let (prompts, folder, out) = (path("asks.jsonl"), path("work"), path("head.gguf"));
    let files = ["train", "--prompts", &prompts, "--folder", &folder, "--out", &out];
    let sizes = [
        "--threads",
        "2",
        "--max-tokens",
        "8",
        "--vocabulary",
        "512",
        "--steps",
        "1000",
        "--every",
        "2",
        "--batch",
        "2",
    ];
    let (mut t, _folder) = start(&[&files[..], &sizes].concat(), &[]);
    t.wait("a measurement", |s| {
        s.contains("a head for") && s.contains("held out step") && s.contains("tokens/step")
    });
    assert!(t.alternate() && t.cursor_hidden(), "the terminal is taken over");
    for (width, height) in [(120, 40), (40, 12), (20, 5), (80, 24)] {
        t.resize(width, height);
        let words = if width < 40 { "too small" } else { "of 1000 steps" };
        t.wait("the other size", |s| s.contains(words));
    }
    t.send("q");
    assert_eq!(t.status(), 0);
    t.wait("the old screen", |s| !s.contains("a head for"));
    assert!(t.restored(), "{}", t.left_behind());
    for name in ["work/checkpoint.safetensors", "head.gguf"] {
        assert!(work.path().join(name).is_file(), "{name}");
    }
}

#[test]
fn ids_and_names_reach_a_terminal_as_words_or_escaped() {
    let files = tempfile::tempdir().unwrap();
    let foreign = "\u{1b}]52;c;cHduZWQ=\u{7}\u{9b}2J\u{7f}\u{202e}\u{200b}";
    let prompts = files.path().join(format!("set{foreign}.jsonl"));
    let line = |text: &str| {
        serde_json::json!({ "question_id": format!("id{foreign}"), "prompt": text }).to_string()
            + "\n"
    };
    std::fs::write(&prompts, line("Hi") + &line("Ho")).unwrap();
    let prompts = prompts.to_str().unwrap();
    let fixed = ["--max-tokens", "3", "--prompts", prompts];
    let cases: [&[&str]; 4] = [
        &["run", "--json", "-"],
        &["run", "--drafter", "ngram"],
        &["table", "--drafters", "ngram", "--budgets", "2", "--temperatures", "0"],
        &["compare", "--plain", "--setting", "drafter=none", "--setting", "drafter=ngram"],
    ];
    for args in cases {
        let (mut t, _folder) = start(&[args, &fixed[..]].concat(), &[("NO_COLOR", "1")]);
        assert_eq!(t.status(), 0, "{args:?}: {}", t.screen());
        t.wait("its end", |s| !s.is_empty());
        std::thread::sleep(std::time::Duration::from_millis(200));
        let raw = t.raw();
        assert!(raw.contains("id"), "{args:?}: {raw}");
        for bad in ["\u{1b}]", "\u{7}", "\u{9b}", "\u{7f}", "\u{202e}", "\u{200b}"] {
            assert!(!raw.contains(bad), "{args:?}: {bad:?} in {raw:?}");
        }
        if args.contains(&"-") {
            assert!(raw.contains("\\u009b2J\\u007f\\u202e\\u200b"), "{raw:?}");
        }
    }
}
