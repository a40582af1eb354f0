//! Fake engine thread that obeys the monitor's commands with synthetic steps.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use speclight::engine::{Command, Event};
use speclight::telemetry::{Ending, StepRecord};
use speclight::tui::{EngineLink, channel};

use super::script::{Script, info, settings};

/// Starts the thread, with one step every `pace`; it panics before step `panic_at`.
pub fn start(pace: Duration, panic_at: Option<usize>) -> EngineLink {
    let (commands, orders) = mpsc::channel();
    let (mut sink, events) = channel();
    let work = move || {
        let mut script = Script::new(7);
        let mut held = settings("ngram", 16, 1.0);
        let (mut paused, mut steps, mut prompt) = (false, 0, 0);
        let mut last: Option<Arc<StepRecord>> = None;
        for event in script.events(&held, 0) {
            sink(event);
        }
        loop {
            let order = if paused {
                orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                orders.recv_timeout(pace)
            };
            let mut step = matches!(order, Err(RecvTimeoutError::Timeout));
            match order {
                Ok(Command::Pause) => {
                    paused = true;
                    sink(Event::Paused);
                }
                Ok(Command::Resume) => {
                    paused = false;
                    sink(Event::Resumed);
                }
                Ok(Command::Step) => step = true,
                Ok(Command::Settings(wish)) if wish.drafter.name() == "early-exit" => {
                    sink(Event::Refused(format!("drafter {}: not today", wish.drafter)));
                }
                Ok(Command::Settings(wish)) => {
                    held = wish;
                    sink(Event::Settings(held.clone()));
                }
                Ok(order @ (Command::Prompt(_) | Command::Text(_) | Command::RestartPrompt)) => {
                    let mut text = info().prompts[prompt].clone();
                    match order {
                        Command::Prompt(index) => {
                            (prompt, text) = (index, info().prompts[index].clone())
                        }
                        Command::Text(own) => text = own,
                        _ => {}
                    }
                    sink(Event::PromptEnded { ending: Ending::Interrupted });
                    let id = prompt.to_string();
                    sink(Event::PromptStarted {
                        index: prompt,
                        id,
                        prompt: text,
                        tokens: 9,
                        prefill_seconds: 0.1,
                    });
                }
                Ok(Command::SearchEvery(_) | Command::Pace(_)) => {}
                // Only the last step can be searched.
                Ok(Command::SearchOracle(step)) => {
                    if let Some(event) = last
                        .as_ref()
                        .filter(|r| r.step == step)
                        .and_then(|r| script.search_event(r))
                    {
                        sink(event);
                    }
                }
                Ok(Command::Quit) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if step {
                steps += 1;
                assert!(Some(steps) != panic_at, "made to fail at step {steps}");
                let record = script.step(&held);
                sink(Event::Step(Arc::clone(&record)));
                last = Some(record);
            }
        }
    };
    let thread = thread::Builder::new().name("engine".into()).spawn(work).expect("a thread");
    EngineLink { commands, events, thread }
}
