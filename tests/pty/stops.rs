//! Job control and signals of a screen, in a shell with job control and without one.

use std::time::Duration;

use super::start;
use super::terminal::{Terminal, number};

/// Starts the screen from an interactive shell, as a job.
fn start_in_shell() -> Option<Terminal> {
    let shell = ["/bin/bash", "/usr/bin/bash"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())?;
    let exe = std::env::current_exe().unwrap();
    let env = [
        (super::CHILD, "run"),
        ("TERM", "xterm-256color"),
        ("LANG", "C.UTF-8"),
        ("NO_COLOR", ""),
        ("RUST_BACKTRACE", "0"),
        ("PS1", "PROMPT> "),
        ("HISTFILE", "/dev/null"),
    ];
    let mut t = Terminal::start(shell, &["--norc", "--noprofile", "-i"], &env, 80, 24);
    t.wait("the prompt", |s| s.contains("PROMPT> "));
    t.send(&format!("{} --exact child --ignored --nocapture --test-threads=1\r", exe.display()));
    t.wait("steps", |s| s.contains(", E[X|T]"));
    Some(t)
}

/// Id of the process that runs the screen.
fn job(t: &Terminal) -> String {
    let children = format!("/proc/{0}/task/{0}/children", t.id());
    std::fs::read_to_string(children).unwrap().trim().to_owned()
}

fn kill(signal: &str, id: &str) {
    assert!(
        std::process::Command::new("kill").args(["-s", signal, id]).status().unwrap().success()
    );
}

#[test]
#[cfg(target_os = "linux")]
fn ctrl_z_gives_the_terminal_to_the_shell_and_fg_redraws() {
    let Some(mut t) = start_in_shell() else { return };
    for round in 0..2 {
        t.send("\u{1a}");
        t.wait("the shell", |s| s.contains("Stopped") && s.contains("PROMPT> "));
        assert!(!t.alternate() && !t.cursor_hidden(), "{}", t.left_behind());
        t.send(&format!("echo in-$((40 + {round}))\r"));
        t.wait("the shell's answer", |s| s.contains(&format!("in-{}", 40 + round)));
        t.send("fg\r");
        t.wait("the screen again", |s| s.contains(", E[X|T]") && s.contains("SmolLM2"));
        assert!(t.alternate() && t.cursor_hidden(), "{}", t.left_behind());
        assert!(t.mouse_captured(), "the mouse is captured again");
        let before = t.number("step ");
        t.wait("it goes on", |s| number(s, "step ").is_some_and(|step| step > before));
    }
    // Keys work, and the end restores what was there before the first stop.
    t.send("q");
    t.wait("its end", |s| s.contains("left by the person"));
    assert!(!t.alternate(), "{}", t.left_behind());
}

#[test]
#[cfg(target_os = "linux")]
fn stops_from_outside_are_like_ctrl_z_and_a_kill_meanwhile_ends_it() {
    let Some(mut t) = start_in_shell() else { return };
    for signal in ["TSTP", "STOP"] {
        kill(signal, &job(&t));
        t.wait("the shell", |s| s.contains("Stopped"));
        t.send("clear; stty sane; echo typed\r");
        t.wait("the shell's answer", |s| s.contains("typed"));
        t.send("fg\r");
        t.wait("the screen again", |s| s.contains(", E[X|T]") && s.contains("SmolLM2"));
        t.send(" ");
        t.wait("the pause", |s| s.contains("paused"));
        t.send(" ");
        t.wait("it goes on", |s| !s.contains("paused"));
    }
    t.send("\u{1a}");
    t.wait("the shell", |s| s.contains("Stopped"));
    let id = job(&t);
    kill("TERM", &id);
    t.send("fg\r");
    t.wait("its end", |s| s.contains("left by signal 15"));
    t.wait("the shell", |s| s.trim_end().ends_with("PROMPT>"));
    assert!(!t.alternate(), "{}", t.left_behind());
}

#[test]
fn ctrl_z_without_a_shell_to_go_to_has_no_effect() {
    // The child leads its session, as in `xterm -e`.
    let mut t = start("run", 80, 24, &[]);
    t.wait("steps", |s| s.contains(", E[X|T]"));
    t.send("\u{1a}");
    let before = t.number("step ");
    t.wait("it goes on", |s| number(s, "step ").is_some_and(|step| step > before + 2));
    t.send("q");
    t.wait_end("left by the person");
    assert!(t.restored(), "{}", t.left_behind());
}

#[test]
fn other_fatal_signals_restore_the_terminal() {
    for (name, number) in [("QUIT", 3), ("ABRT", 6), ("USR1", 10), ("ALRM", 14), ("XCPU", 24)] {
        let mut t = start("run", 80, 24, &[]);
        t.wait("steps", |s| s.contains(", E[X|T]"));
        t.signal(name);
        t.wait_end(&format!("left by signal {number}"));
        assert!(t.restored(), "{name}: {}", t.left_behind());
    }
}

#[test]
fn a_terminal_that_takes_no_output_does_not_keep_it_alive() {
    for signals in [&["TERM"][..], &["INT", "INT"], &["HUP"]] {
        let mut t = start("run", 200, 60, &[]);
        t.wait("steps", |s| s.contains("tokens/step"));
        t.stop_reading();
        // Long enough to fill the terminal's buffer.
        std::thread::sleep(Duration::from_secs(3));
        for signal in signals {
            t.signal(signal);
            std::thread::sleep(Duration::from_millis(50));
        }
        t.wait_exit();
        t.go_on_reading();
        assert!(t.raw_mode_is_off(), "{signals:?}: {}", t.left_behind());
    }
}
