//! The monitor in a pseudo-terminal: its screen, and the state of the terminal afterward.
//!
//! The child process is this test binary again, running only [`child`]: the real loop, guard,
//! signals and screen, over a fake engine. In [`real`] it is the program itself with the real
//! model.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod attach;
#[path = "../common/engine.rs"]
mod engine;
mod hostile;
mod keys;
#[path = "../common/model.rs"]
mod model;
mod real;
mod replay;
#[path = "../common/script.rs"]
mod script;
mod stops;
#[allow(dead_code)]
#[path = "../attach/stub.rs"]
mod stub;
mod terminal;
#[path = "../common/tiny_gguf.rs"]
mod tiny_gguf;

use std::time::Duration;

use speclight::tui::theme::{TerminalAbilities as Abilities, Theme};
use speclight::tui::{self, ExitReason, Mouse, ScreenOptions, State, TerminalGuard};
use terminal::Terminal;

/// Environment variable that tells the child what to do.
const CHILD: &str = "SPECLIGHT_TEST_CHILD";

/// Entry point of the child processes that tests start; not a test itself.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let Ok(what) = std::env::var(CHILD) else { return };
    if what == "panic-screen" {
        let _guard = TerminalGuard::take(Mouse::Captured).unwrap();
        panic!("the screen fell over");
    }
    let themes =
        Theme::all(None, &Abilities::from_env(false, None, |name| std::env::var(name).ok()))
            .unwrap();
    let panic_at = (what == "panic-engine").then_some(5);
    let link = engine::start(Duration::from_millis(20), panic_at);
    let state = State::new(themes.len());
    let exit =
        tui::run(ScreenOptions { themes, mouse: Mouse::Captured, pixels: None }, state, link);
    for line in exit.iter().flat_map(|exit| &exit.summary) {
        println!("{line}");
    }
    match exit.map(|exit| exit.ended) {
        Ok(ExitReason::Asked) => println!("left by the person"),
        Ok(ExitReason::Signal(number)) => println!("left by signal {number}"),
        Err(error) => println!("failed: {error:#}"),
    }
}

fn start(what: &str, width: u16, height: u16, env: &[(&str, &str)]) -> Terminal {
    let exe = std::env::current_exe().unwrap();
    let args = ["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"];
    let mut all = vec![
        (CHILD, what),
        ("TERM", "xterm-256color"),
        ("LANG", "C.UTF-8"),
        ("COLORTERM", "truecolor"),
        ("NO_COLOR", ""),
        ("RUST_BACKTRACE", "0"),
    ];
    all.extend(env);
    Terminal::start(exe.to_str().unwrap(), &args, &all, width, height)
}

/// Starts the program itself, with an empty cache and config folder below `home`.
fn start_program(args: &[&str], home: &tempfile::TempDir, width: u16, height: u16) -> Terminal {
    let (cache, config) = (home.path().join("cache"), home.path().join("config"));
    let vars = [
        ("TERM", "xterm-256color"),
        ("LANG", "C.UTF-8"),
        ("COLORTERM", "truecolor"),
        ("NO_COLOR", ""),
        ("RUST_BACKTRACE", "0"),
        ("SPECLIGHT_CACHE", cache.to_str().unwrap()),
        ("SPECLIGHT_CONFIG", config.to_str().unwrap()),
    ];
    Terminal::start(env!("CARGO_BIN_EXE_speclight"), args, &vars, width, height)
}

#[test]
fn a_session_from_start_to_quit() {
    let mut t = start("run", 80, 24, &[]);
    t.wait("the header", |s| s.contains("SmolLM2-135M-Instruct") && s.contains("live"));
    assert!(
        t.alternate() && t.bracketed_paste() && t.cursor_hidden(),
        "the terminal is taken over"
    );
    t.wait("steps", |s| s.contains(", E[X|T]"));
    t.send(" ");
    t.wait("the pause", |s| s.contains("paused") && s.contains("resume"));
    let before = t.number("step ");
    t.send(".");
    t.wait("one step more", |s| terminal::number(s, "step ") == Some(before + 1));
    t.send("D");
    t.wait("the drafter before", |s| s.contains("none · best-first"));
    t.send("DD");
    t.wait("the refusal", |s| s.contains("not today"));
    t.resize(120, 40);
    t.wait("more room", |s| s.contains("what would help"));
    t.resize(20, 5);
    t.wait("too little room", |s| s.contains("too small"));
    t.resize(80, 24);
    t.wait("room again", |s| s.contains("paused"));
    t.send("e\x15\x1b[200~Hello q\nthere\x1b[201~");
    t.wait("the paste", |s| s.contains("Hello q"));
    t.send("\r");
    t.wait("the prompt", |s| s.contains("there↵") && !s.contains("Enter sends"));
    t.send("q");
    t.wait_end("left by the person");
    assert!(t.restored(), "{}", t.left_behind());
}

#[test]
fn signals_end_it_and_restore_the_terminal() {
    for (name, number) in [("TERM", 15), ("HUP", 1), ("INT", 2)] {
        let mut t = start("run", 80, 24, &[]);
        t.wait("steps", |s| s.contains(", E[X|T]"));
        t.signal(name);
        t.wait_end(&format!("left by signal {number}"));
        assert!(t.restored(), "{name}: {}", t.left_behind());
    }
}

#[test]
fn a_panic_of_the_engine_is_told_after_the_terminal_is_restored() {
    let mut t = start("panic-engine", 80, 24, &[]);
    t.wait_end("failed: ");
    assert!(t.restored(), "{}", t.left_behind());
    let screen = t.screen();
    assert!(
        screen.contains("engine panicked at") && screen.contains("made to fail at step 5"),
        "{screen}"
    );
}

#[test]
fn a_panic_of_the_screen_restores_the_terminal_first() {
    let mut t = start("panic-screen", 80, 24, &[]);
    t.wait_end("the screen fell over");
    assert!(t.restored(), "{}", t.left_behind());
}

#[test]
fn without_color_there_is_none_and_weight_remains() {
    let mut t = start("run", 80, 24, &[("NO_COLOR", "1")]);
    t.wait("steps", |s| s.contains(", E[X|T]"));
    let (colored, bold) = t.has_color_and_bold();
    assert!(!colored, "no cell has a color");
    assert!(bold, "bold is still there");
    t.send("q");
    t.wait_end("left by the person");
    assert!(t.restored(), "{}", t.left_behind());
}
