//! Pseudo-terminal that runs a program and tracks its screen.
#![allow(dead_code)]

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// Timeout for busy machines; a passing test never waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Terminal {
    master: Box<dyn MasterPty + Send>,
    writer: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    screen: Arc<Mutex<vt100::Parser>>,
    raw: Arc<Mutex<Vec<u8>>>,
    /// Set while the terminal takes no output.
    stopped: Arc<AtomicBool>,
    reader: Option<thread::JoinHandle<()>>,
    cooked: String,
}

/// Returns the size of a terminal whose cells have 8 by 16 pixels.
fn size(width: u16, height: u16) -> PtySize {
    PtySize { rows: height, cols: width, pixel_width: 8 * width, pixel_height: 16 * height }
}

impl Terminal {
    pub fn start(
        program: &str,
        args: &[&str],
        env: &[(&str, &str)],
        width: u16,
        height: u16,
    ) -> Terminal {
        let size = size(width, height);
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(program);
        command.args(args);
        env.iter().for_each(|(name, value)| command.env(name, value));
        let cooked = modes(pair.master.as_ref());
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(height, width, 0)));
        let shown = Arc::clone(&screen);
        let raw = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let waits = Arc::clone(&stopped);
        let kept = Arc::clone(&raw);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                while waits.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(5));
                }
                let Ok(n @ 1..) = reader.read(&mut buffer) else { break };
                shown.lock().unwrap().process(&buffer[..n]);
                kept.lock().unwrap().extend_from_slice(&buffer[..n]);
            }
        });
        let writer = pair.master.take_writer().unwrap();
        let reader = Some(reader);
        Terminal { master: pair.master, writer, child, screen, raw, stopped, reader, cooked }
    }

    pub fn send(&mut self, keys: &str) {
        self.writer.write_all(keys.as_bytes()).unwrap();
        self.writer.flush().unwrap();
    }

    pub fn resize(&mut self, width: u16, height: u16) {
        self.screen.lock().unwrap().screen_mut().set_size(height, width);
        self.master.resize(size(width, height)).unwrap();
    }

    pub fn signal(&mut self, name: &str) {
        let pid = self.child.process_id().unwrap().to_string();
        assert!(
            std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success()
        );
    }

    pub fn screen(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Returns everything that was written to the terminal.
    pub fn raw(&self) -> String {
        String::from_utf8_lossy(&self.raw.lock().unwrap()).into_owned()
    }

    /// Returns everything that was written to the terminal, as bytes.
    pub fn raw_bytes(&self) -> Vec<u8> {
        self.raw.lock().unwrap().clone()
    }

    /// Waits until no output comes any more.
    pub fn settle(&self) {
        let mut before = usize::MAX;
        loop {
            let now = self.raw.lock().unwrap().len();
            if now == before {
                return;
            }
            before = now;
            thread::sleep(Duration::from_millis(150));
        }
    }

    /// Returns the id of the program's process.
    pub fn id(&self) -> u32 {
        self.child.process_id().unwrap()
    }

    /// Takes no more output, as a terminal that hangs.
    pub fn stop_reading(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    pub fn go_on_reading(&self) {
        self.stopped.store(false, Ordering::SeqCst);
    }

    /// Waits until the program has ended, whatever is on the screen.
    pub fn wait_exit(&mut self) {
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < PATIENCE, "it did not end");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns `true` if the terminal has the modes that it had before the program.
    pub fn raw_mode_is_off(&self) -> bool {
        modes(self.master.as_ref()) == self.cooked
    }

    /// Waits until `holds` returns true for the screen.
    pub fn wait(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !holds(&self.screen()) {
            assert!(start.elapsed() < PATIENCE, "{what} did not come:\n{}", self.screen());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the program has ended and the screen holds `words`.
    pub fn wait_end(&mut self, words: &str) {
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < PATIENCE, "it did not end:\n{}", self.screen());
            thread::sleep(Duration::from_millis(10));
        }
        // The last output of the program may still be in transit.
        self.wait(words, |s| s.contains(words));
    }

    /// Returns the exit status, once the program has ended.
    pub fn status(&mut self) -> u32 {
        self.child.wait().unwrap().exit_code()
    }

    /// Returns `true` if any text on the screen has this one of the 16 colors.
    pub fn has_color(&self, color: u8) -> bool {
        let parser = self.screen.lock().unwrap();
        let (rows, cols) = parser.screen().size();
        let mut cells = (0..rows).flat_map(|y| (0..cols).map(move |x| (y, x)));
        cells.any(|(y, x)| {
            parser
                .screen()
                .cell(y, x)
                .is_some_and(|cell| cell.fgcolor() == vt100::Color::Idx(color))
        })
    }

    /// Returns the number after a word on the screen.
    pub fn number(&self, word: &str) -> usize {
        number(&self.screen(), word)
            .unwrap_or_else(|| panic!("no number after {word:?}:\n{}", self.screen()))
    }

    pub fn alternate(&self) -> bool {
        self.screen.lock().unwrap().screen().alternate_screen()
    }

    pub fn bracketed_paste(&self) -> bool {
        self.screen.lock().unwrap().screen().bracketed_paste()
    }

    pub fn mouse_captured(&self) -> bool {
        let parser = self.screen.lock().unwrap();
        parser.screen().mouse_protocol_mode() != vt100::MouseProtocolMode::None
    }

    pub fn cursor_hidden(&self) -> bool {
        self.screen.lock().unwrap().screen().hide_cursor()
    }

    /// Returns whether any cell is colored, and whether any is bold.
    pub fn has_color_and_bold(&self) -> (bool, bool) {
        let parser = self.screen.lock().unwrap();
        let (rows, cols) = parser.screen().size();
        let cells = (0..rows).flat_map(|y| (0..cols).map(move |x| (y, x)));
        cells.filter_map(|(y, x)| parser.screen().cell(y, x)).fold(
            (false, false),
            |(color, bold), cell| {
                let plain = cell.fgcolor() == vt100::Color::Default
                    && cell.bgcolor() == vt100::Color::Default;
                (color || !plain, bold || cell.bold())
            },
        )
    }

    /// Returns `true` if the terminal is as it was before the program.
    pub fn restored(&self) -> bool {
        !self.alternate()
            && !self.mouse_captured()
            && !self.bracketed_paste()
            && !self.cursor_hidden()
            && modes(self.master.as_ref()) == self.cooked
    }

    /// Describes the differences from the initial state, for messages.
    pub fn left_behind(&self) -> String {
        format!(
            "alternate screen {}, bracketed paste {}, cursor hidden {}, modes {:?} for {:?}",
            self.alternate(),
            self.bracketed_paste(),
            self.cursor_hidden(),
            modes(self.master.as_ref()),
            self.cooked
        )
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The reader thread ends with the terminal. It is not joined, since another child may keep
        // the terminal open.
        drop(self.reader.take());
    }
}

/// Returns the first number after a word.
pub fn number(screen: &str, word: &str) -> Option<usize> {
    screen.match_indices(word).find_map(|(i, _)| {
        let digits: String =
            screen[i + word.len()..].chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    })
}

/// Returns the modes of a terminal (raw or not) as comparable text.
fn modes(master: &dyn MasterPty) -> String {
    format!("{:?}", master.get_termios().map(|t| (t.input_flags, t.output_flags, t.local_flags)))
}
