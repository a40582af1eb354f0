//! Child process that reads requests and writes answers in lines. All processes are registered in a
//! static list, so that they never outlive the program.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::processes::withhold_tokens;
use crate::signals::before_end;

/// Maximum length of an answer in bytes, which bounds the memory it can take.
const LONGEST: u64 = 1 << 20;

/// Maximum number of answers that wait to be read. Further ones stay in the process's pipe.
const WAITING: usize = 4;

/// All running processes. The list is static so that any exit path can end them first.
static RUNNING: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// Ends all drafter processes and waits for them to exit. Meant for exit paths on which drafters
/// are not dropped.
pub fn end_processes() {
    for child in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        end(child);
    }
}

/// Ends a process and all others in its group.
fn end(mut child: Child) {
    // Before `wait`: until then, no other process can get the number of the group.
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    // If the process has already exited, only `wait` is needed.
    let _ = child.kill();
    let _ = child.wait();
}

/// Reason for a missing answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// No answer arrived in time.
    TimedOut,
    /// Process does not read its requests.
    NotReading,
    /// Process wrote a line that is not UTF-8 text.
    NotText,
    /// Process has ended by itself.
    Exited,
}

/// Running process, ended on drop.
#[derive(Debug)]
pub struct Process {
    id: u32,
    requests: SyncSender<String>,
    answers: Receiver<Result<String, NoAnswer>>,
}

impl Process {
    /// Starts a program with arguments, without a shell. Its standard error is discarded.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(words: &[String]) -> Result<Self, String> {
        let (program, arguments) = words.split_first().ok_or("there is no command")?;
        let mut command = Command::new(program);
        withhold_tokens(&mut command);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A group of its own: what a shell has started ends with it, and Ctrl-C in the terminal
        // reaches this program alone.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        before_end(end_processes);
        let mut child =
            command.spawn().map_err(|why| format!("{program} can't be started: {why}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let id = child.id();
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(child);
        let (requests, to_write) = mpsc::sync_channel::<String>(1);
        // The bound makes a process that writes too much block on its pipe.
        let (answered, answers) = mpsc::sync_channel(WAITING);
        // Both threads end when the process ends and closes its pipes, or when `Process` is
        // dropped.
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
                let mut line = Vec::new();
                match (&mut output).take(LONGEST).read_until(b'\n', &mut line) {
                    Ok(1..) => {}
                    _ => return,
                }
                let line = String::from_utf8(line).map_err(|_| NoAnswer::NotText);
                if answered.send(line).is_err() {
                    return;
                }
            }
        });
        // If a thread can't be started, dropping this value ends the process.
        let process = Self { id, requests, answers };
        writer
            .and(reader)
            .map_err(|why| format!("no thread can be started for {program}: {why}"))?;
        Ok(process)
    }

    /// Sends a line without waiting.
    ///
    /// # Errors
    /// [`NoAnswer::NotReading`] if the previous line was not read yet, [`NoAnswer::Exited`] if the process
    /// has ended.
    pub fn send_line(&self, line: String) -> Result<(), NoAnswer> {
        self.requests.try_send(line).map_err(|why| match why {
            mpsc::TrySendError::Full(_) => NoAnswer::NotReading,
            mpsc::TrySendError::Disconnected(_) => NoAnswer::Exited,
        })
    }

    /// Waits for the next line from the process.
    ///
    /// # Errors
    /// If no line of text arrives within `limit`, or the process has ended.
    pub fn receive_line(&self, limit: Duration) -> Result<String, NoAnswer> {
        self.answers.recv_timeout(limit).map_err(|why| match why {
            RecvTimeoutError::Timeout => NoAnswer::TimedOut,
            RecvTimeoutError::Disconnected => NoAnswer::Exited,
        })?
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
