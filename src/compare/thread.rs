//! The loop behind the screen: two settings in step, the one that is behind first.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};

use super::{Lab, Made};
use crate::clean::causes;
use crate::engine::{EngineOptions, Prompt, RunInfo};

/// A wish of the person, applied before the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Stop after the present step and wait.
    Pause,
    /// Go on.
    Resume,
    /// While paused: one step of the one that is behind.
    Step,
    /// Begin the prompt so many further on in the list.
    Turn(isize),
    /// End the thread.
    Quit,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Something takes a while before the first step: what, and the share done where known.
    Loading(String, Option<f64>),
    /// The model is there.
    Ready(Arc<RunInfo>),
    /// A prompt begins under all settings: its number in the list.
    Began(usize),
    /// A step was made under the setting of this number.
    Step(usize, Box<Made>),
    /// Plain decoding was timed: tokens a second.
    Plain(f64),
    /// It waits.
    Paused,
    /// It goes on.
    Resumed,
    /// A prompt can't be run: why, in one line.
    Refused(String),
    /// It can't go on: why, in one line. The last news.
    Failed(String),
    /// All prompts are done; one that is wished is still run.
    Done,
}

/// Starts the thread, named "engine"; `sink` is called with all news and says whether anybody still listens. It ends when told to
/// and when nobody listens or commands any more.
///
/// # Panics
/// If the system has no thread to give.
pub fn spawn(
    all: Vec<EngineOptions>,
    look_every: usize,
    sink: impl FnMut(News) -> bool + Send + 'static,
) -> (Sender<Order>, JoinHandle<()>) {
    let (orders, told) = mpsc::channel();
    let mut sink = sink;
    let work = move || {
        let prompts = all.first().map(|options| options.prompts.clone()).unwrap_or_default();
        let mut heard = true;
        let lab = Lab::load(&all, look_every, &mut |what, done| heard &= sink(News::Loading(what.to_owned(), done)));
        if !heard {
            return;
        }
        let failed = match lab {
            Err(error) => Some(error),
            Ok(lab) => drive(lab, &prompts, &told, &mut sink).err(),
        };
        if let Some(error) = failed {
            let line = causes(&error).split_whitespace().collect::<Vec<_>>().join(" ");
            sink(News::Failed(line));
        }
    };
    let thread = thread::Builder::new().name("engine".into()).spawn(work).expect("a thread for the engine");
    (orders, thread)
}

/// Makes steps until it is told to quit, or nobody is there.
fn drive(
    mut lab: Lab,
    prompts: &[Prompt],
    orders: &Receiver<Order>,
    sink: &mut dyn FnMut(News) -> bool,
) -> anyhow::Result<()> {
    let (mut paused, mut timed, mut done) = (false, false, false);
    let mut info = lab.info();
    info.prompts = prompts.iter().map(|prompt| prompt.text.clone()).collect();
    let mut present = None;
    let mut heard = sink(News::Ready(Arc::new(info)));
    // The prompt that is to begin next, and in which direction to look on where it is refused.
    let mut wish = Some((0, 1));
    while heard {
        let order = match orders.try_recv() {
            Ok(order) => Some(order),
            Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) if (paused || done) && wish.is_none() => match orders.recv() {
                Ok(order) => Some(order),
                Err(_) => return Ok(()),
            },
            Err(TryRecvError::Empty) => None,
        };
        let mut single = false;
        match order {
            Some(Order::Quit) => return Ok(()),
            Some(Order::Pause) => {
                paused = true;
                heard &= sink(News::Paused);
                continue;
            }
            Some(Order::Resume) => {
                paused = false;
                heard &= sink(News::Resumed);
                continue;
            }
            Some(Order::Step) => single = paused,
            Some(Order::Turn(by)) => {
                let many = prompts.len() as isize;
                let from = present.map_or(0, |at: usize| at as isize);
                if many > 0 {
                    wish = Some(((from + by).rem_euclid(many) as usize, by.signum()));
                }
            }
            None => {}
        }
        if let Some((at, by)) = wish.take() {
            let Some(prompt) = prompts.get(at) else {
                done = true;
                heard &= sink(News::Done);
                continue;
            };
            present = Some(at);
            if let Some(why) = lab.refuses(prompt) {
                heard &= sink(News::Refused(format!("prompt {}: {why}", prompt.id)));
                // Backwards it stops at the first one.
                wish = if by < 0 { at.checked_sub(1).map(|at| (at, by)) } else { Some((at + 1, by)) };
                continue;
            }
            done = false;
            heard &= sink(News::Began(at));
            for lane in 0..2 {
                lab.begin(lane, prompt)?;
            }
            continue;
        }
        if done || (paused && !single) {
            continue;
        }
        // The one that is behind; where both are at the same place the first.
        let behind = (0..2).filter_map(|lane| Some((lab.position(lane)?, lane))).min();
        match behind {
            Some((_, lane)) => {
                if let Some(made) = lab.step(lane)? {
                    let due = made.ended || (!timed && made.record.step >= 2);
                    heard &= sink(News::Step(lane, Box::new(made)));
                    if due && let Some(plain) = lab.calibrate(lane)? {
                        timed = true;
                        heard &= sink(News::Plain(plain));
                    }
                }
            }
            None => wish = Some((present.map_or(0, |at| at + 1), 1)),
        }
    }
    Ok(())
}
