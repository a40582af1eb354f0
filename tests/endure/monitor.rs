//! The monitor in a terminal that changes, is closed, or gets signals.

use std::io::Read;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};

use super::kills::Moments;
use super::terminal::Terminal;
use super::work::{Home, PATIENCE, model};

fn arguments(model: &str) -> [&str; 9] {
    ["--model", model, "--prompt", "hello", "--max-tokens", "1000000", "--threads", "1", "--raw"]
}

fn environment(home: &Home) -> Vec<(&'static str, String)> {
    let at = |name: &str| home.path(name).to_str().unwrap().to_owned();
    vec![
        ("SPECLIGHT_CACHE", at("cache")),
        ("SPECLIGHT_CONFIG", at("config")),
        ("TERM", "xterm-256color".into()),
        ("LANG", "C.UTF-8".into()),
        ("RUST_BACKTRACE", "0".into()),
    ]
}

fn start(home: &Home, width: u16, height: u16) -> Terminal {
    let (model, env) = (model(), environment(home));
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let terminal =
        Terminal::start(env!("CARGO_BIN_EXE_speclight"), &arguments(&model), &env, width, height);
    terminal.wait("the screen", |screen| screen.contains("step") || screen.contains("tok"));
    terminal
}

/// Waits until the last output has restored the terminal.
fn restored(terminal: &Terminal, what: &str) {
    let start = Instant::now();
    while !terminal.restored() {
        assert!(start.elapsed() < PATIENCE, "{what}: {}", terminal.left_behind());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_storm_of_sizes_and_keys_ends_with_the_terminal_restored() {
    let rounds = std::env::var("SPECLIGHT_STORMS").map_or(1, |rounds| rounds.parse().unwrap());
    let mut moments = Moments::new();
    for _ in 0..rounds {
        let home = Home::new();
        let mut terminal = start(&home, 100, 30);
        let mut below = |most: u16| (f64::from(most) * moments.next()) as u16;
        for _ in 0..200 {
            terminal.resize(1 + below(300), 1 + below(100));
            if below(4) == 0 {
                terminal.send(["?", "\t", "p", " ", "t", "\u{1b}"][usize::from(below(6))]);
            }
            if below(8) == 0 {
                terminal.signal("WINCH");
            }
            std::thread::sleep(Duration::from_millis(u64::from(below(6))));
        }
        terminal.resize(100, 30);
        // Keys may have opened anything, in which q is a letter: a signal ends it all the same.
        terminal.signal("TERM");
        assert_eq!(terminal.status(), 143, "{}", terminal.screen());
        restored(&terminal, "a storm");
    }
}

#[test]
fn signals_end_the_monitor_with_the_terminal_restored() {
    for (name, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let home = Home::new();
        let mut terminal = start(&home, 100, 30);
        terminal.signal(name);
        assert_eq!(terminal.status(), status, "{name}: {}", terminal.screen());
        restored(&terminal, name);
        assert!(!terminal.raw().contains("internal error"), "{name}: {}", terminal.screen());
    }
}

#[test]
fn a_terminal_that_closes_ends_the_monitor_without_an_abort() {
    let home = Home::new();
    for bytes in [0usize, 1000, 20_000] {
        let size = PtySize { rows: 30, cols: 100, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_speclight"));
        command.args(arguments(&model()));
        environment(&home).iter().for_each(|(name, value)| command.env(name, value));
        let mut child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let mut buffer = vec![0; 512];
        let mut seen = 0;
        while seen < bytes {
            seen += reader.read(&mut buffer).unwrap();
        }
        drop((reader, pair.master));
        let (ended, end) = mpsc::channel();
        let mut killer = child.clone_killer();
        std::thread::spawn(move || ended.send(child.wait()));
        let Ok(status) = end.recv_timeout(PATIENCE) else {
            let _ = killer.kill();
            panic!("it goes on without a terminal, after {seen} bytes");
        };
        // SIGABRT would be a panic in a panic.
        let status = status.unwrap();
        assert!(!format!("{status:?}").contains("Abort"), "after {seen} bytes: {status:?}");
    }
}
