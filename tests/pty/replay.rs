//! `speclight replay` and `speclight demo` in a pseudo-terminal; no model is there.

use super::start_program;
use super::terminal::number;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/demo.rec");

#[test]
fn the_demo_plays_pauses_and_takes_keys() {
    let folder = tempfile::tempdir().unwrap();
    let mut t = start_program(&["demo", "--pace", "16"], &folder, 120, 40);
    t.wait("the header", |s| s.contains("SmolLM2-135M-Instruct"));
    t.wait("a caption", |s| s.contains("A 135M Llama on a CPU"));
    t.wait("steps", |s| number(s, "step ").is_some_and(|step| step > 3));
    t.send(" ");
    t.wait("the pause", |s| s.contains("paused"));
    let before = t.number("step ");
    t.send(".");
    t.wait("one step more", |s| number(s, "step ") == Some(before + 1));
    for key in ["2", "3", "4", "5", "6", "7", "1", "i", "z", "z", "?"] {
        t.send(key);
    }
    t.wait("the help", |s| s.contains("keys"));
    t.send("x");
    t.send("d");
    t.wait("the reason", |s| s.contains("this is a recording"));
    t.send("q");
    assert_eq!(t.status(), 0);
    t.settle();
    assert!(t.restored(), "{}", t.left_behind());
}

#[test]
fn a_cut_recording_plays_to_its_last_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(DEMO).unwrap();
    let path = folder.path().join("cut.rec");
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let mut t =
        start_program(&["replay", path.to_str().unwrap(), "--pace", "full"], &folder, 120, 40);
    t.wait("the end", |s| s.contains("the recording was cut here"));
    t.send("q");
    assert_eq!(t.status(), 0);
    t.settle();
    assert!(t.restored(), "{}", t.left_behind());
}

#[test]
fn config_toml_sets_keys_theme_mouse_and_pace_of_a_replay() {
    let folder = tempfile::tempdir().unwrap();
    let mut t = start_program(&["replay", DEMO], &folder, 120, 40);
    t.wait("steps", |s| s.contains("as recorded"));
    assert!(t.mouse_captured());
    t.send("q");
    assert_eq!(t.status(), 0);
    let config = folder.path().join("config");
    std::fs::create_dir_all(&config).unwrap();
    let text = "theme = \"mono\"\nascii = true\nno-mouse = true\npace = 8\n[keys]\nquit = \"F2\"\n";
    std::fs::write(config.join("config.toml"), text).unwrap();
    for command in [&["replay", DEMO][..], &["demo"]] {
        let mut t = start_program(command, &folder, 120, 40);
        t.wait("steps", |s| s.contains("| 8 steps/s") && number(s, "step ").is_some());
        assert!(!t.mouse_captured() && t.screen().is_ascii());
        assert!(!t.has_color_and_bold().0, "the theme mono");
        t.send("q");
        t.send("\x1bOQ");
        assert_eq!(t.status(), 0);
        t.settle();
        assert!(t.restored(), "{}", t.left_behind());
    }
    let mut t = start_program(&["demo", "--pace", "16", "--theme", "dark"], &folder, 120, 40);
    t.wait("the command line wins", |s| s.contains("| 16 steps/s"));
    assert!(t.has_color_and_bold().0);
    t.send("\x1bOQ");
    assert_eq!(t.status(), 0);
    std::fs::write(config.join("config.toml"), "\n[keys]\nleave-now = \"F2\"\n").unwrap();
    let mut t = start_program(&["demo"], &folder, 120, 40);
    t.wait_end("config.toml:3: keys.leave-now: unknown command leave-now");
    assert_ne!(t.status(), 0);
}

#[test]
fn a_paused_tree_is_drawn_in_pixels_where_the_terminal_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    for (choice, begin, removed) in [
        ("kitty", "\x1b_Ga=T,f=100,", "\x1b_Ga=d,d=I,"),
        ("iterm2", "\x1b]1337;File=inline=1;", ""),
        ("sixel", "\x1bP0;1;0q\"1;1;", ""),
        ("auto", "", ""),
    ] {
        let args = ["demo", "--pace", "16", "--pixels", choice];
        let mut t = start_program(&args, &folder, 120, 40);
        t.wait("steps", |s| number(s, "step ").is_some_and(|step| step > 3));
        t.send("2");
        t.send(" ");
        t.wait("the pause", |s| s.contains("paused"));
        t.settle();
        let raw = t.raw();
        if begin.is_empty() {
            assert!(
                !raw.contains("\x1b_G") && !raw.contains("1337;File") && !raw.contains("\x1bP0;")
            );
        } else {
            assert!(raw.contains(begin), "{choice}");
        }
        // The help covers the tree: the picture goes.
        let before = raw.matches(begin).count();
        t.send("?");
        t.wait("the help", |s| s.contains("keys"));
        t.settle();
        assert!(t.raw().contains(removed), "{choice}");
        t.send("?");
        t.settle();
        assert!(begin.is_empty() || t.raw().matches(begin).count() > before, "{choice}");
        t.send("q");
        assert_eq!(t.status(), 0);
        t.settle();
        assert!(t.restored(), "{choice}: {}", t.left_behind());
    }
}

#[test]
fn keys_that_arrive_with_a_resize_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut t = start_program(&["demo", "--pace", "16"], &folder, 120, 40);
    t.wait("steps", |s| number(s, "step ").is_some_and(|step| step > 3));
    t.send(" ");
    t.wait("the pause", |s| s.contains("paused"));
    let before = t.number("step ");
    for i in 1..=40 {
        t.resize(120 - (i % 2) as u16, 40);
        t.send(".");
        t.wait("one step more", |s| number(s, "step ") == Some(before + i));
    }
    t.send("q");
    assert_eq!(t.status(), 0);
}
