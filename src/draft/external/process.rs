//! A child process that is asked and answers in lines, and that never outlives the program.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::processes::withhold_tokens;

/// The longest answer in bytes; a process that writes more has no place in the memory.
const LONGEST: u64 = 1 << 20;

/// Lines that wait to be read; further ones wait in the process.
const WAITING: usize = 4;

/// The processes that run. They stand here and not with who asks them, so that whatever ends the program can end them first.
static RUNNING: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Ends all processes of drafters, and waits until they are gone. For the way out, where nobody drops what is still in use.
pub fn end_processes() {
    for child in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        end(child);
    }
}

fn end(mut child: Child) {
    // One that ended by itself needs only to be waited for.
    let _ = child.kill();
    let _ = child.wait();
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Silence {
    /// None came in time.
    Late,
    /// It does not read what it is told.
    Deaf,
    /// It is gone, or writes what is no text.
    Gone,
}

/// A running process. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    id: u32,
    requests: SyncSender<String>,
    answers: Receiver<String>,
}

impl Process {
    /// Starts a program with arguments, without a shell. What it says on standard error is nobody's.
    ///
    /// # Errors
    /// If it can't be started: says why.
    pub fn start(words: &[String]) -> Result<Self, String> {
        let (program, arguments) = words.split_first().ok_or("there is no command")?;
        let mut command = Command::new(program);
        withhold_tokens(&mut command);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|why| format!("{program} can't be started: {why}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let id = child.id();
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(child);
        let (requests, to_write) = mpsc::sync_channel::<String>(1);
        // A process that writes more than it is asked for waits until somebody reads it.
        let (answered, answers) = mpsc::sync_channel(WAITING);
        // Both end with the process, whose pipes then are closed, or with who asks.
        let writer = thread::Builder::new().spawn(move || {
            let Some(mut input) = input else { return };
            for line in to_write {
                if writeln!(input, "{line}").and_then(|()| input.flush()).is_err() {
                    return;
                }
            }
        });
        let reader = thread::Builder::new().spawn(move || {
            let Some(output) = output else { return };
            let mut output = BufReader::new(output);
            loop {
                let mut line = String::new();
                match (&mut output).take(LONGEST).read_line(&mut line) {
                    Ok(read) if read > 0 && answered.send(line).is_ok() => {}
                    _ => return,
                }
            }
        });
        // Dropping the process ends it.
        let process = Self { id, requests, answers };
        writer.and(reader).map_err(|why| format!("no thread can be started for {program}: {why}"))?;
        Ok(process)
    }

    /// Sends a line; says whether it was taken.
    ///
    /// # Errors
    /// [`Silence::Deaf`] while the line before was not read, [`Silence::Gone`] where nobody reads any more.
    pub fn tell(&self, line: String) -> Result<(), Silence> {
        self.requests.try_send(line).map_err(|why| match why {
            mpsc::TrySendError::Full(_) => Silence::Deaf,
            mpsc::TrySendError::Disconnected(_) => Silence::Gone,
        })
    }

    /// The next line that it writes.
    ///
    /// # Errors
    /// If none comes within `limit`, or none will come.
    pub fn hear(&self, limit: Duration) -> Result<String, Silence> {
        self.answers.recv_timeout(limit).map_err(|why| match why {
            RecvTimeoutError::Timeout => Silence::Late,
            RecvTimeoutError::Disconnected => Silence::Gone,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = running.iter().position(|child| child.id() == self.id) {
            end(running.swap_remove(at));
        }
    }
}
