//! Every key of the monitor in a pseudo-terminal, and the mouse.

use speclight::tui::{COMMANDS, Chord};

use crate::start;

/// Returns what a terminal sends for a key.
fn bytes(chord: &Chord) -> String {
    use crossterm::event::KeyCode::*;
    match chord.code {
        Char(c) if chord.ctrl => char::from(c as u8 & 0x1f).to_string(),
        Char(c) => c.to_string(),
        Enter => "\r".into(),
        Tab => "\t".into(),
        BackTab => "\x1b[Z".into(),
        Esc => "\x1b".into(),
        Left => "\x1b[D".into(),
        Right => "\x1b[C".into(),
        Up => "\x1b[A".into(),
        Down => "\x1b[B".into(),
        Home => "\x1b[H".into(),
        End => "\x1b[F".into(),
        PageUp => "\x1b[5~".into(),
        PageDown => "\x1b[6~".into(),
        other => panic!("no bytes for {other:?}"),
    }
}

#[test]
fn every_key_is_taken_and_the_screen_stays_whole() {
    let mut t = start("run", 120, 40, &[]);
    t.wait("steps", |s| s.contains("bonus") || s.contains("tokens/step"));
    let keys = COMMANDS
        .iter()
        .filter(|command| !["quit", "write"].contains(&command.name))
        .flat_map(|c| c.keys);
    for chord in keys {
        t.send(&bytes(chord));
        // An escape that is followed at once would start a sequence.
        std::thread::sleep(std::time::Duration::from_millis(60));
        t.send("\x1b");
        std::thread::sleep(std::time::Duration::from_millis(60));
        assert!(t.alternate() && t.cursor_hidden(), "{} left the screen", chord.label());
    }
    t.wait("the header", |s| s.contains("SmolLM2-135M-Instruct"));
    t.send("q");
    t.wait_end("left by the person");
    assert!(t.restored(), "{}", t.left_behind());
}

#[test]
fn the_palette_and_the_search_take_text_and_the_mouse_selects() {
    let mut t = start("run", 120, 40, &[]);
    t.wait("steps", |s| s.contains("bonus") || s.contains("tokens/step"));
    t.send(":");
    t.wait("the candidates", |s| s.contains("source of drafted tokens"));
    t.send("temp\t0.5\r");
    t.wait("the temperature", |s| s.contains("T 0.5"));
    t.send("/H>0\r");
    t.wait("a match", |s| s.contains("step "));
    t.wait("the pause", |s| s.contains("resume"));
    // Wheel down and a click into the tree, in the encoding of SGR mode.
    t.send("\x1b[<64;60;20M\x1b[<0;10;25M\x1b[<0;10;25m");
    t.send("\x1b");
    // An escape that is followed at once would start a sequence.
    std::thread::sleep(std::time::Duration::from_millis(60));
    t.send("q");
    t.wait_end("left by the person");
    assert!(t.restored(), "{}", t.left_behind());
    let screen = t.screen();
    for label in ["speclight ", "settings ", "speed ", "reached ", "drafts ", "lost to "] {
        assert!(screen.contains(label), "{label} is not in the summary:\n{screen}");
    }
}
