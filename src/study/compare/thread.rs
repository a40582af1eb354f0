//! Thread that runs two settings for the screen of a comparison.
//!
//! The setting with fewer tokens makes the next step, so that both stay close to each other.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::{self, JoinHandle};

use super::{ComparedStep, EngineSet};
use crate::engine::{EngineOptions, Prompt, RunInfo};

/// Command of the user, applied before the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareCommand {
    /// Pause after the current step.
    Pause,
    /// Resume after a pause.
    Resume,
    /// While paused: make one step of the setting that is behind.
    Step,
    /// Start the prompt that many places further in the list, with wrap-around.
    Turn(isize),
    /// End the thread before the next step.
    Quit,
}

/// Event of the thread.
#[derive(Clone, Debug, PartialEq)]
pub enum CompareEvent {
    /// Loading before the first step: a description, and the fraction done if known.
    Loading(String, Option<f64>),
    /// The model is loaded.
    Ready(Arc<RunInfo>),
    /// A prompt starts under both settings, with its index in the list.
    Began(usize),
    /// Step under the setting of this number.
    Step(usize, Box<ComparedStep>),
    /// Measured speed of plain decoding, in tokens per second.
    Plain(f64),
    /// The thread is paused.
    Paused,
    /// The thread continues after a pause.
    Resumed,
    /// A prompt can't be run, with the reason in one line.
    Refused(String),
    /// The thread failed, with the reason in one line; no event follows.
    Failed(String),
    /// All prompts are finished; another one can still be selected.
    Done,
}

/// Starts the thread, named "engine".
///
/// `sink` is called with every event and returns false to stop. The thread also ends on
/// [`CompareCommand::Quit`] and when the sender of commands is dropped.
///
/// # Panics
/// If the system can't create a thread.
pub fn spawn(
    all: Vec<EngineOptions>,
    look_every: usize,
    sink: impl FnMut(CompareEvent) -> bool + Send + 'static,
) -> (Sender<CompareCommand>, JoinHandle<()>) {
    let (orders, told) = mpsc::channel();
    let mut sink = sink;
    let work = move || {
        let prompts = all.first().map(|options| options.prompts.clone()).unwrap_or_default();
        let mut heard = true;
        let lab = EngineSet::load(&all, look_every, &mut |what, done| {
            heard &= sink(CompareEvent::Loading(what.to_owned(), done))
        });
        if !heard {
            return;
        }
        let failed = match lab {
            Err(error) => Some(error),
            Ok(lab) => drive(lab, &prompts, &told, &mut sink).err(),
        };
        if let Some(error) = failed {
            let format = all.first().map(|options| options.error_format).unwrap_or_default();
            let line = (format.0)(&error).split_whitespace().collect::<Vec<_>>().join(" ");
            sink(CompareEvent::Failed(line));
        }
    };
    let thread =
        thread::Builder::new().name("engine".into()).spawn(work).expect("a thread for the engine");
    (orders, thread)
}

/// Makes steps until the command to quit, or until `sink` or the sender is gone.
fn drive(
    mut lab: EngineSet,
    prompts: &[Prompt],
    orders: &Receiver<CompareCommand>,
    sink: &mut dyn FnMut(CompareEvent) -> bool,
) -> anyhow::Result<()> {
    let (mut paused, mut timed, mut done) = (false, false, false);
    let mut info = lab.info();
    info.prompts = prompts.iter().map(|prompt| prompt.text.clone()).collect();
    let mut present = None;
    let mut heard = sink(CompareEvent::Ready(Arc::new(info)));
    // Next prompt to start, and the direction in which to continue if it can't be run.
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
            Some(CompareCommand::Quit) => return Ok(()),
            Some(CompareCommand::Pause) => {
                paused = true;
                heard &= sink(CompareEvent::Paused);
                continue;
            }
            Some(CompareCommand::Resume) => {
                paused = false;
                heard &= sink(CompareEvent::Resumed);
                continue;
            }
            Some(CompareCommand::Step) => single = paused,
            Some(CompareCommand::Turn(by)) => {
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
                heard &= sink(CompareEvent::Done);
                continue;
            };
            present = Some(at);
            if let Some(why) = lab.refuses(prompt) {
                heard &= sink(CompareEvent::Refused(format!("prompt {}: {why}", prompt.id)));
                // Backward, the search ends at the first prompt.
                wish =
                    if by < 0 { at.checked_sub(1).map(|at| (at, by)) } else { Some((at + 1, by)) };
                continue;
            }
            done = false;
            heard &= sink(CompareEvent::Began(at));
            for lane in 0..2 {
                lab.begin(lane, prompt)?;
            }
            continue;
        }
        if done || (paused && !single) {
            continue;
        }
        // The setting with fewer tokens steps next; the first one on a tie.
        let behind = (0..2).filter_map(|lane| Some((lab.position(lane)?, lane))).min();
        match behind {
            Some((_, lane)) => {
                if let Some(made) = lab.step(lane)? {
                    let due = made.ended || (!timed && made.record.step >= 2);
                    heard &= sink(CompareEvent::Step(lane, Box::new(made)));
                    if due && let Some(plain) = lab.time_plain(lane)? {
                        timed = true;
                        heard &= sink(CompareEvent::Plain(plain));
                    }
                }
            }
            None => wish = Some((present.map_or(0, |at| at + 1), 1)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Pairing, SettingResults, couples, differences, outcomes, takes};
    use super::*;
    use crate::engine::testing::{TableDecoder, engine, settings};
    use crate::telemetry::StepSettings;

    fn prompts(texts: &[&str]) -> Vec<Prompt> {
        texts
            .iter()
            .enumerate()
            .map(|(i, text)| Prompt { id: format!("p{i}"), text: (*text).to_owned() })
            .collect()
    }

    /// Collects all events of two settings over a table model.
    ///
    /// `answer` sees each event; it can send commands, and returns false to stop.
    fn run(
        pair: &[StepSettings; 2],
        look_every: usize,
        texts: &[&str],
        mut answer: impl FnMut(&CompareEvent, &Sender<CompareCommand>) -> bool,
    ) -> Vec<CompareEvent> {
        let table = TableDecoder::new(5, 17).with_capacity(60);
        let engines = pair.iter().map(|settings| engine(&table, &[4], settings.clone())).collect();
        let (orders, told) = mpsc::channel();
        let mut all = Vec::new();
        let mut sink = |news: CompareEvent| {
            let more = all.len() < 5000 && answer(&news, &orders);
            all.push(news);
            more
        };
        drive(EngineSet::of(engines, 24, look_every), &prompts(texts), &told, &mut sink).unwrap();
        assert!(all.len() < 5000, "it does not end");
        all
    }

    #[test]
    fn lanes_are_kept_in_step_and_write_the_same_text() {
        for (a, b, temperature) in [
            ("ngram", "early-exit", 1.0),
            ("oracle", "none", 0.7),
            ("suffix", "mix", 0.0),
            ("model", "ngram", 1.3),
        ] {
            let pair =
                [settings(a, "best-first", 6, temperature), settings(b, "chain", 4, temperature)];
            let (mut sides, mut ahead) =
                ([SettingResults::default(), SettingResults::default()], [0usize; 2]);
            let mut searched = std::collections::HashMap::new();
            run(&pair, 3, &["abcabc", "ba", "ccc"], |news, _| {
                match news {
                    CompareEvent::Began(prompt) => {
                        sides.iter_mut().for_each(|side| side.begin(*prompt));
                        ahead = [0; 2];
                    }
                    CompareEvent::Step(lane, made) => {
                        let other = sides[1 - lane].course().unwrap();
                        assert!(
                            other.complete || ahead[*lane] <= ahead[1 - lane],
                            "the one that is behind makes the step"
                        );
                        if made.search_result.is_some() {
                            let first = *searched
                                .entry(made.record.prompt_id.clone())
                                .or_insert(made.record.step % 3);
                            assert_eq!(
                                made.record.step % 3,
                                first,
                                "one step in three, the same ones in both lanes"
                            );
                        }
                        sides[*lane].add(made);
                        ahead[*lane] += made.record.emitted.len();
                    }
                    CompareEvent::Done => return false,
                    _ => {}
                }
                true
            });
            let (paired, differing) =
                couples(&sides[0].courses, &sides[1].courses, Pairing::Positions);
            assert_eq!((paired.len(), differing), (3, vec![]), "{a} {b}");
            assert!(paired.iter().all(|(a, b)| a.complete
                && b.complete
                && a.tokens == b.tokens
                && a.texts == b.texts));
            // Counts agree with the steps.
            let (d, o) = (differences(&paired, Pairing::Positions).unwrap(), outcomes(&paired));
            let mean = |side: &SettingResults| side.tally.summary(None).accepted_mean;
            assert!(
                (d.accepted.difference.value - (mean(&sides[1]) - mean(&sides[0]))).abs() < 1e-9
            );
            let accepted = |side: &SettingResults| {
                side.courses.iter().flat_map(|c| &c.steps).map(|step| step.accepted).sum::<usize>()
            };
            assert_eq!(o.taken.taken + o.taken.refused + o.taken.bonus, accepted(&sides[0]));
            assert_eq!(o.taken.taken + o.refused.taken + o.bonus.taken, accepted(&sides[1]));
            assert_eq!(takes(&paired, 3).positions, o.taken.refused + o.taken.bonus);
        }
    }

    #[test]
    fn commands_apply_between_steps() {
        let pair =
            [settings("ngram", "best-first", 4, 1.0), settings("suffix", "best-first", 4, 1.0)];
        let (mut single, mut began, mut done) = (0, Vec::new(), 0);
        run(&pair, 0, &["abc", "bca", "cab"], |news, orders| {
            let send = |order| orders.send(order).unwrap();
            match news {
                CompareEvent::Ready(_) => send(CompareCommand::Pause),
                CompareEvent::Paused if began.is_empty() => send(CompareCommand::Step),
                CompareEvent::Began(prompt) => {
                    began.push(*prompt);
                    match began.len() {
                        1 => send(CompareCommand::Step),
                        2 => send(CompareCommand::Turn(-2)),
                        _ => {}
                    }
                }
                // While paused, each step is requested.
                CompareEvent::Step(..) if single < 3 => {
                    single += 1;
                    send(if single < 3 { CompareCommand::Step } else { CompareCommand::Turn(1) });
                }
                CompareEvent::Done => {
                    done += 1;
                    assert_eq!(done, 1);
                    send(CompareCommand::Quit);
                }
                _ => {}
            }
            if began.len() == 3 && single == 3 {
                single = 4;
                send(CompareCommand::Resume);
            }
            true
        });
        // First to second prompt, back by two to the last, and on to the end.
        assert_eq!((began, done), (vec![0, 1, 2], 1));
    }

    #[test]
    fn prompts_that_cannot_run_are_reported_and_skipped() {
        let pair = [settings("ngram", "best-first", 4, 1.0), settings("none", "chain", 1, 0.0)];
        let long = "a".repeat(60);
        let news = run(&pair, 0, &["!", "abc", &long, "!"], |news, _| *news != CompareEvent::Done);
        let brief = |news: &CompareEvent| match news {
            CompareEvent::Refused(why) => {
                Some(why.split(':').next().unwrap_or_default().to_owned())
            }
            CompareEvent::Began(prompt) => Some(format!("began {prompt}")),
            CompareEvent::Done => Some("done".into()),
            _ => None,
        };
        let told: Vec<String> = news.iter().filter_map(brief).collect();
        assert_eq!(told, ["prompt p0", "began 1", "prompt p2", "prompt p3", "done"]);
        let none = run(&pair, 0, &["!"], |news, _| *news != CompareEvent::Done);
        assert_eq!(none.len(), 3);
    }
}
