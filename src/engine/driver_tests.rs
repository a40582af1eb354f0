//! Tests of the driver loop: replies to every command in every phase.
//!
//! The sink sends the commands in reply to events. Since commands are read between steps, each test
//! is deterministic and none has to wait.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, mpsc};

use proptest::prelude::*;

use super::driver::drive_with;
use super::load::Engine;
use super::testing::{LAYERS, TableDecoder};
use super::{Command, EngineOptions, ErrorFormat, Event, Prompt, RunInfo, Session, Vocabulary};
use crate::distribution::{Sampling, TokenDist};
use crate::draft::{Drafter, EarlyExit, Ngram, NoDraft, Oracle};
use crate::telemetry::{Ending, OracleResult, OracleSearchState, StepSettings};
use crate::tree::TokenId;

const VOCAB: usize = 5;
const CONTEXT: usize = 40;

fn settings() -> StepSettings {
    StepSettings { seed: 3, ..StepSettings::new("ngram", crate::draft::Shape::BestFirst, 4, 1.0) }
}

fn options(prompts: &[&str]) -> EngineOptions {
    let prompts = prompts
        .iter()
        .enumerate()
        .map(|(i, text)| Prompt { id: format!("p{i}"), text: (*text).to_owned() });
    EngineOptions {
        model: "table".into(),
        draft_model: None,
        device: "cpu".into(),
        threads: None,
        fixed: crate::draft::Widths::DEFAULT,
        external: None,
        mix: None,
        remember: false,
        exit_layers: None,
        adapter: None,
        head: None,
        settings: settings(),
        prompts: prompts.collect(),
        max_tokens: 12,
        raw: true,
        once: false,
        start_paused: false,
        error_format: ErrorFormat::default(),
    }
}

fn table() -> TableDecoder {
    TableDecoder::new(VOCAB, 17).with_capacity(CONTEXT)
}

/// Encodes one token per letter; "!" can't be encoded.
fn tokens(text: &str) -> Result<Vec<TokenId>, String> {
    if text == "!" {
        Err("no template\nfor it".into())
    } else {
        Ok(text.bytes().map(|b| u32::from(b - b'a')).collect())
    }
}

fn engine(table: &TableDecoder, settings: StepSettings) -> Result<Engine, String> {
    let drafters: Vec<Box<dyn Drafter>> = vec![
        Box::new(NoDraft),
        Box::new(Ngram::default()),
        Box::new(EarlyExit::new(1, LAYERS).unwrap()),
        Box::new(Oracle::default()),
    ];
    let bytes = (0..VOCAB).map(|t| vec![b'a' + t as u8].into()).collect();
    let vocabulary = Arc::new(Vocabulary::new(bytes, Vec::new()));
    let session = Session::new(Box::new(table.clone()), drafters, vocabulary, settings)
        .map_err(|e| e.to_string())?;
    Ok(Engine {
        session,
        tokens: Box::new(tokens),
        info: RunInfo::default(),
        cost_cache: None,
        work: Default::default(),
    })
}

/// Runs the driver until it ends, and returns all events.
///
/// `answer` receives every event with its number. It can send commands, and returns false to stop
/// listening.
fn run(
    options: &EngineOptions,
    table: &TableDecoder,
    mut answer: impl FnMut(usize, &Event, &mpsc::Sender<Command>) -> bool,
) -> Vec<Event> {
    let (commands, orders) = mpsc::channel();
    let mut events = Vec::new();
    let settings = options.settings.clone();
    let mut sink = |event: Event| {
        let more = events.len() < 5000 && answer(events.len(), &event, &commands);
        events.push(event);
        more
    };
    drive_with(options.clone(), &orders, &mut sink, |_, tell| {
        tell("reading", Some(0.5));
        engine(table, settings)
    });
    assert!(events.len() < 5000, "it does not end");
    events
}

/// Runs the driver, sending the n-th entry of `script` after the n-th `when` event.
///
/// Sends Quit after the last entry.
fn scripted(
    options: &EngineOptions,
    when: impl Fn(&Event) -> bool,
    script: impl IntoIterator<Item = Vec<Command>>,
) -> Vec<Event> {
    let mut script = script.into_iter();
    run(options, &table(), |_, event, commands| {
        if when(event) {
            for command in script.next().unwrap_or_else(|| vec![Command::Quit]) {
                commands.send(command).unwrap();
            }
        }
        true
    })
}

/// Summarizes events in one word each, and consecutive steps as their number.
///
/// Measurements are omitted.
fn words(events: &[Event]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut steps = 0;
    for event in events {
        let word = match event {
            Event::Step(_) => {
                steps += 1;
                continue;
            }
            Event::PlainTimed { .. }
            | Event::Load(_)
            | Event::Cost(_)
            | Event::OracleSearched { .. }
            | Event::Fluid(_) => continue,
            Event::Loading { what, .. } => what.clone(),
            Event::Ready { .. } => "ready".into(),
            Event::PromptStarted { index, id, .. } => format!("start {index} {id}"),
            Event::PromptEnded { ending } => format!("{ending:?}"),
            Event::Settings(s) => format!("set {}", s.budget),
            Event::Paused => "paused".into(),
            Event::Resumed => "resumed".into(),
            Event::Refused(_) => "refused".into(),
            Event::Failed(_) => "failed".into(),
            Event::Finished => "finished".into(),
        };
        if steps > 0 {
            words.push(std::mem::take(&mut steps).to_string());
        }
        words.push(word);
    }
    if steps > 0 {
        words.push(steps.to_string());
    }
    words
}

fn is_step(event: &Event) -> bool {
    matches!(event, Event::Step(_))
}

fn refusals(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|e| if let Event::Refused(why) = e { Some(why.as_str()) } else { None })
        .collect()
}

/// Returns the generated text of each started prompt.
fn texts(events: &[Event]) -> Vec<String> {
    let mut texts = Vec::new();
    for event in events {
        match event {
            Event::PromptStarted { .. } => texts.push(String::new()),
            Event::Step(record) => {
                texts.last_mut().unwrap().extend(record.emitted_text.iter().cloned())
            }
            _ => {}
        }
    }
    texts
}

/// Returns the text of plain decoding, without the engine.
fn plain(id: &str, prompt: &str, length: usize) -> String {
    let draws = crate::verify::TextRandom::new(3, id);
    let mut all = tokens(prompt).unwrap();
    for _ in 0..length {
        let token = TokenDist::new(&table().row(&all, LAYERS), &Sampling::PLAIN)
            .unwrap()
            .sample(draws.uniform(all.len()));
        all.push(token);
    }
    all[prompt.len()..].iter().map(|&t| char::from(b'a' + t as u8)).collect()
}

#[test]
fn once_runs_every_prompt_and_finishes() {
    let options = EngineOptions { once: true, ..options(&["abc", "ca", "bbbb"]) };
    let events = run(&options, &table(), |_, _, _| true);
    let words = words(&events);
    assert_eq!(words[..3], ["reading", "ready", "start 0 p0"]);
    let starts: Vec<&String> = words.iter().filter(|w| w.starts_with("start")).collect();
    assert_eq!(starts, ["start 0 p0", "start 1 p1", "start 2 p2"]);
    assert_eq!(words.iter().filter(|w| *w == "Length").count(), 3);
    assert_eq!(events.last(), Some(&Event::Finished));
    assert_eq!(
        texts(&events),
        [plain("p0", "abc", 12), plain("p1", "ca", 12), plain("p2", "bbbb", 12)]
    );
    let Event::Ready { info, settings: first } = &events[1] else { panic!("{:?}", events[1]) };
    assert_eq!((info.prompts.len(), first), (3, &settings()));
}

#[test]
fn plain_decoding_is_timed_after_the_first_steps() {
    let options = EngineOptions { once: true, ..options(&["abc", "ca"]) };
    let events = run(&options, &table(), |_, _, _| true);
    let at = events.iter().position(|e| matches!(e, Event::PlainTimed { .. })).unwrap();
    assert!(events[..at].iter().filter(|e| is_step(e)).count() >= 3);
    let times =
        |events: &[Event]| events.iter().filter(|e| matches!(e, Event::PlainTimed { .. })).count();
    assert!(times(&events) >= 3, "{}", times(&events));
    // Even a short text is followed by enough measurements for a median.
    let short = EngineOptions { max_tokens: 1, ..options };
    let events = run(&short, &table(), |_, _, _| true);
    assert_eq!(
        (words(&events)[2..5].join(" "), times(&events) >= 3),
        ("start 0 p0 1 Length".into(), true)
    );
    // Steps without a draft already measure plain decoding.
    let plain =
        EngineOptions { settings: StepSettings { drafter: "none".into(), ..settings() }, ..short };
    assert_eq!(times(&run(&plain, &table(), |_, _, _| true)), 0);
    // A pause precedes the first measurement.
    let events = scripted(&self::options(&["abc"]), is_step, [vec![Command::Pause, Command::Step]]);
    assert_eq!(times(&events), 0, "a step that is waited for comes first");
    let events = run(&self::options(&["abc"]), &table(), |_, event, commands| {
        match event {
            Event::Step(_) => commands.send(Command::Pause).unwrap(),
            Event::PlainTimed { .. } => commands.send(Command::Quit).unwrap(),
            _ => {}
        }
        true
    });
    assert_eq!((words(&events)[2..].join(" "), times(&events)), ("start 0 p0 1 paused".into(), 1));
}

#[test]
fn the_list_begins_again_after_its_end() {
    let ended = |e: &Event| matches!(e, Event::PromptEnded { .. });
    let events = scripted(&options(&["abc", "ca"]), ended, [vec![], vec![], vec![], vec![]]);
    let starts: Vec<String> =
        words(&events).into_iter().filter(|w| w.starts_with("start")).collect();
    assert_eq!(starts, ["start 0 p0", "start 1 p1", "start 0 p0", "start 1 p1", "start 0 p0"]);
    // Sampled texts use the next seed and so differ.
    let sampled = texts(&events);
    assert_ne!((&sampled[0], &sampled[1]), (&sampled[2], &sampled[3]));
    let seeds: Vec<u64> = events
        .iter()
        .filter_map(|e| if let Event::Settings(s) = e { Some(s.seed) } else { None })
        .collect();
    assert_eq!(seeds, [settings().seed + 1, settings().seed + 2]);
    // Greedy texts are identical, and their steps are marked as repeated.
    let greedy = EngineOptions {
        settings: StepSettings { temperature: 0.0, ..settings() },
        ..options(&["abc", "ca"])
    };
    let events = scripted(&greedy, ended, [vec![], vec![], vec![], vec![]]);
    let texts = texts(&events);
    assert_eq!((&texts[0], &texts[1]), (&texts[2], &texts[3]));
    let (mut ends, mut repeated) = (0, Vec::new());
    for event in &events {
        ends += usize::from(ended(event));
        if let Event::Step(record) = event {
            repeated.push((ends >= 2, record.repeated));
        }
    }
    assert!(repeated.iter().all(|(again, repeated)| again == repeated), "{repeated:?}");
}

#[test]
fn pause_step_and_resume() {
    use Command::{Pause, Quit, Resume, Step};
    let script = [vec![], vec![Pause, Step, Step, Resume], vec![], vec![], vec![Quit]];
    let options = EngineOptions {
        settings: StepSettings { drafter: "none".into(), ..settings() },
        ..options(&["abc"])
    };
    let events = scripted(&options, is_step, script);
    assert_eq!(words(&events)[2..], ["start 0 p0", "2", "paused", "2", "resumed", "1"]);
    // A pause while paused is confirmed again. A single step while running is ignored.
    let (mut steps, mut pauses) = (0, 0);
    let events = run(&options, &table(), |_, event, commands| {
        steps += usize::from(is_step(event));
        pauses += usize::from(*event == Event::Paused);
        match event {
            Event::Step(_) if steps == 1 => commands.send(Step).unwrap(),
            Event::Step(_) => [Pause, Pause].into_iter().for_each(|c| commands.send(c).unwrap()),
            Event::Paused if pauses == 2 => commands.send(Quit).unwrap(),
            _ => {}
        }
        true
    });
    assert_eq!(words(&events)[2..], ["start 0 p0", "2", "paused", "paused"]);
}

#[test]
fn while_paused_a_step_after_the_end_begins_the_next_prompt() {
    let options = EngineOptions { max_tokens: 1, ..options(&["abc", "ca"]) };
    let events = scripted(&options, is_step, [vec![Command::Pause, Command::Step]]);
    assert_eq!(
        words(&events)[2..],
        ["start 0 p0", "1", "Length", "paused", "start 1 p1", "1", "Length"]
    );
}

#[test]
fn it_can_wait_before_the_first_step() {
    let options = EngineOptions { start_paused: true, ..options(&["abc"]) };
    let paused = |e: &Event| *e == Event::Paused;
    let events = scripted(&options, paused, [vec![Command::Step, Command::Quit]]);
    assert_eq!(words(&events), ["reading", "ready", "start 0 p0", "paused", "1"]);
}

#[test]
fn commands_sent_while_it_loads_come_before_the_first_step() {
    let loading = |e: &Event| matches!(e, Event::Loading { .. });
    let wish = StepSettings { budget: 9, ..settings() };
    let script = [vec![
        Command::Settings(wish.clone()),
        Command::Prompt(1),
        Command::Pause,
        Command::Step,
        Command::Quit,
    ]];
    let events = scripted(&options(&["abc", "ca"]), loading, script);
    assert_eq!(
        words(&events)[2..],
        ["start 0 p0", "set 9", "Interrupted", "start 1 p1", "paused", "1"]
    );
    let events = scripted(&options(&["abc"]), loading, [vec![Command::Quit]]);
    assert_eq!(words(&events), ["reading", "ready", "start 0 p0"]);
}

#[test]
fn settings_apply_from_the_next_step_and_rejected_ones_change_nothing() {
    let wish = |change: fn(&mut StepSettings)| {
        let mut wish = settings();
        change(&mut wish);
        Command::Settings(wish)
    };
    let script = [
        vec![
            wish(|s| s.budget = 7),
            wish(|s| (s.budget, s.temperature, s.drafter) = (9, 0.0, "oracle".into())),
        ],
        vec![wish(|s| s.budget = 0)],
        vec![wish(|s| s.temperature = f32::NAN)],
        vec![wish(|s| s.drafter = "model".into())],
        vec![wish(|s| s.drafter = "magic".into())],
        vec![],
    ];
    let options = EngineOptions {
        max_tokens: 30,
        settings: StepSettings { budget: 1, ..settings() },
        ..options(&["abc"])
    };
    let events = scripted(&options, is_step, script);
    let held: Vec<(usize, f32, &str)> = (events.iter())
        .filter_map(|e| if let Event::Step(r) = e { Some(&r.settings) } else { None })
        .map(|s| (s.budget, s.temperature, s.drafter.name()))
        .collect();
    assert_eq!(held[0], (1, 1.0, "ngram"));
    assert!(held.len() > 4 && held[1..].iter().all(|h| *h == (9, 0.0, "oracle")), "{held:?}");
    assert_eq!(words(&events)[2..6], ["start 0 p0", "1", "set 7", "set 9"]);
    let said = refusals(&events);
    let want = ["budget 0", "temperature NaN", "needs a second model", "no drafter \"magic\""];
    assert_eq!(said.len(), want.len());
    assert!(said.iter().zip(want).all(|(said, want)| said.contains(want)), "{said:?}");
}

#[test]
fn prompts_by_number_by_text_and_again() {
    use Command::{Prompt, RestartPrompt, Text};
    let script = [
        vec![Prompt(1)],
        vec![Text("dda".into())],
        vec![RestartPrompt],
        vec![Prompt(7)],
        vec![],
        vec![],
    ];
    let events = scripted(&options(&["abc", "ca"]), is_step, script);
    let want = "start 0 p0 1 Interrupted start 1 p1 1 Interrupted start 2 2 1 Interrupted start 2 2 1 refused";
    assert!(words(&events)[2..].join(" ").starts_with(want), "{:?}", words(&events));
    assert_eq!(refusals(&events), ["there is no prompt 7: the list has 3, from 0"]);
    let started = events.iter().find_map(|e| match e {
        Event::PromptStarted { index: 2, prompt, tokens, .. } => Some((prompt.as_str(), *tokens)),
        _ => None,
    });
    assert_eq!(started, Some(("dda", 3)));
    assert!(plain("2", "dda", 12).starts_with(&texts(&events)[3]));
}

#[test]
fn the_list_restarts_after_an_added_prompt() {
    let options = EngineOptions { max_tokens: 1, ..options(&["abc", "ca"]) };
    let events =
        scripted(&options, is_step, [vec![Command::Text("dda".into())], vec![], vec![], vec![]]);
    let starts: Vec<String> =
        words(&events).into_iter().filter(|w| w.starts_with("start")).collect();
    assert_eq!(starts, ["start 0 p0", "start 2 2", "start 0 p0", "start 1 p1", "start 2 2"]);
}

#[test]
fn a_rejected_prompt_keeps_the_current_text() {
    use Command::Text;
    let long = "a".repeat(CONTEXT);
    let script = [
        vec![Text(long)],
        vec![Text(String::new())],
        vec![Text("!".into())],
        vec![Text("dda".into())],
    ];
    let events = scripted(&EngineOptions { max_tokens: 30, ..options(&["abc"]) }, is_step, script);
    let want = "start 0 p0 1 refused 1 refused 1 refused 1 Interrupted start 1 1 1";
    assert!(words(&events)[2..].join(" ").starts_with(want), "{:?}", words(&events));
    let said = refusals(&events);
    assert!(said[0].contains("has 40 tokens") && said[0].contains("holds 40"), "{said:?}");
    assert!(said[1].contains("empty") && said[2] == "prompt 1: no template for it", "{said:?}");
    let steps: Vec<usize> = events
        .iter()
        .filter_map(|e| if let Event::Step(r) = e { Some(r.step) } else { None })
        .collect();
    assert_eq!(steps[..5], [0, 1, 2, 3, 0]);
}

fn search_results(events: &[Event]) -> Vec<(&str, usize, OracleResult)> {
    (events.iter())
        .filter_map(|e| {
            if let Event::OracleSearched { prompt_id, step, result, .. } = e {
                Some((&**prompt_id, *step, *result))
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn one_step_in_k_is_searched_right_after_it() {
    let loading = |e: &Event| matches!(e, Event::Loading { .. });
    let options = EngineOptions { once: true, ..options(&["abc", "ca"]) };
    let (mut asked, mut counts) = (false, Vec::new());
    for every in [0, 1, 3] {
        let events = run(&options, &table(), |_, event, commands| {
            if loading(event) && !std::mem::replace(&mut asked, true) {
                commands.send(Command::SearchEvery(every)).unwrap();
            }
            true
        });
        asked = false;
        assert_eq!(
            texts(&events),
            [plain("p0", "abc", 12), plain("p1", "ca", 12)],
            "a search changes no text"
        );
        let mut first = std::collections::HashMap::new();
        for (at, event) in events.iter().enumerate() {
            let Event::Step(record) = event else { continue };
            let searched = events.get(at + 1).filter(|e| matches!(e, Event::OracleSearched { .. }));
            let expected = match every {
                0 => false,
                1 => true,
                // The seed determines the first searched step.
                _ => {
                    record.step % every
                        == *first.entry(record.prompt_id.clone()).or_insert_with(|| {
                            let steps = events[at..].iter().filter_map(|e| {
                                if let Event::OracleSearched { prompt_id, step, .. } = e {
                                    Some((prompt_id, step))
                                } else {
                                    None
                                }
                            });
                            steps
                                .into_iter()
                                .find(|l| *l.0 == record.prompt_id)
                                .map_or(usize::MAX, |l| l.1 % every)
                        })
                }
            };
            assert_eq!(searched.is_some(), expected);
            if let Some(Event::OracleSearched { prompt_id, step, result, .. }) = searched {
                assert_eq!((prompt_id, step), (&record.prompt_id, &record.step));
                assert!(result.converged(), "{result:?}");
                assert!(result.oracle_upper >= record.expected_accepted - 1e-9);
            }
        }
        counts.push(search_results(&events).len());
    }
    assert!(counts[0] == 0 && counts[1] > counts[2] && counts[2] >= 2, "{counts:?}");
}

#[test]
fn a_paused_search_runs_until_converged_or_another_command() {
    use Command::{Pause, Quit, Resume, SearchOracle};
    let settings = StepSettings { budget: 40, ..settings() };
    let options = EngineOptions { settings, max_tokens: 30, ..options(&["abc"]) };
    let (mut steps, roomy) = (0, TableDecoder::new(VOCAB, 17));
    let events = run(&options, &roomy, |_, event, commands| {
        steps += usize::from(is_step(event));
        match event {
            Event::Step(_) if steps == 3 => {
                [Pause, SearchOracle(1)].into_iter().for_each(|c| commands.send(c).unwrap())
            }
            // After the first pass of the search on step 1, another search interrupts it.
            Event::OracleSearched { step: 1, result, .. }
                if result.passes == 1 && result.state == OracleSearchState::Refining =>
            {
                commands.send(SearchOracle(0)).unwrap()
            }
            // Neither a change of the search interval nor the same request again interrupts it.
            Event::OracleSearched { step: 0, result, .. } if result.passes == 2 => {
                [SearchOracle(0), Command::SearchEvery(0)]
                    .into_iter()
                    .for_each(|c| commands.send(c).unwrap());
            }
            Event::OracleSearched { step: 0, result, .. }
                if result.state != OracleSearchState::Refining =>
            {
                [SearchOracle(7), Resume, SearchOracle(0)]
                    .into_iter()
                    .for_each(|c| commands.send(c).unwrap());
            }
            Event::Step(_) if steps == 6 => commands.send(Quit).unwrap(),
            _ => {}
        }
        true
    });
    let search_results = search_results(&events);
    let of = |step: usize| {
        search_results.iter().filter(move |l| l.1 == step).map(|l| l.2).collect::<Vec<_>>()
    };
    let (first, second) = (of(1), of(0));
    let told = |result: &crate::telemetry::OracleResult| (result.state, result.passes);
    assert_eq!(
        first.iter().map(told).collect::<Vec<_>>(),
        [(OracleSearchState::Refining, 1), (OracleSearchState::BrokenOff, 1)]
    );
    assert!(second.len() > 2 && second.last().is_some_and(|l| l.converged()), "{second:?}");
    assert!(
        second.iter().map(|l| l.passes).eq(1..=second.len()),
        "each pass is told once: {second:?}"
    );
    assert!(
        second
            .windows(2)
            .all(|w| w[0].oracle_upper >= w[1].oracle_upper
                && w[0].oracle_lower <= w[1].oracle_lower)
    );
    assert_eq!(
        refusals(&events),
        [
            "the present text has no step 7 to look at",
            "a step is looked at while it waits: pause first"
        ]
    );
    assert!(plain("p0", "abc", 30).starts_with(&texts(&events)[0]));
}

#[test]
fn an_ended_search_runs_again_on_request() {
    use Command::{Pause, Quit, SearchOracle};
    // The context has no room for so many nodes after the text.
    let options =
        EngineOptions { settings: StepSettings { budget: 200, ..settings() }, ..options(&["abc"]) };
    let mut ends = 0;
    let events = run(&options, &table(), |_, event, commands| {
        match event {
            Event::Step(record) if record.step == 0 => {
                [Pause, SearchOracle(0)].into_iter().for_each(|c| commands.send(c).unwrap())
            }
            Event::OracleSearched { result, .. } if result.state != OracleSearchState::Refining => {
                ends += 1;
                commands.send(if ends == 1 { SearchOracle(0) } else { Quit }).unwrap();
            }
            _ => {}
        }
        true
    });
    let search_results: Vec<_> = search_results(&events)
        .into_iter()
        .map(|l| l.2)
        .filter(|l| l.state != OracleSearchState::Refining)
        .collect();
    assert_eq!(
        search_results.iter().map(|l| l.state).collect::<Vec<_>>(),
        [OracleSearchState::Ended; 2]
    );
    assert_eq!(search_results[0], search_results[1], "there is still no room");
}

#[test]
fn a_prompt_that_cannot_be_run_is_passed_over() {
    let long = "b".repeat(CONTEXT + 2);
    let list = ["abc", &long, "", "ca"];
    let events =
        run(&EngineOptions { once: true, max_tokens: 1, ..options(&list) }, &table(), |_, _, _| {
            true
        });
    let want = "start 0 p0 1 Length refused refused start 3 p3 1 Length finished";
    assert_eq!(words(&events)[2..].join(" "), want);
    assert!(
        refusals(&events)[0]
            .starts_with("prompt p1: the prompt has 42 tokens, and the context holds 40")
    );
}

#[test]
fn where_no_prompt_can_be_run_it_waits() {
    let long = "b".repeat(CONTEXT);
    let paused = |e: &Event| *e == Event::Paused;
    let script =
        [vec![Command::Resume], vec![Command::Text("abc".into()), Command::Step, Command::Quit]];
    let events = scripted(&options(&[&long, ""]), paused, script);
    let want = "reading ready refused refused paused resumed refused refused paused start 2 2 1";
    assert_eq!(words(&events).join(" "), want);
    // With `once` set the run ends instead of waiting.
    let events =
        run(&EngineOptions { once: true, ..options(&[&long, ""]) }, &table(), |_, _, _| true);
    assert_eq!(words(&events)[2..], ["refused", "refused", "finished"]);
    // The same holds without any prompt.
    let events = run(&EngineOptions { once: true, ..options(&[]) }, &table(), |_, _, _| true);
    assert_eq!(words(&events)[2..], ["finished"]);
    let events = scripted(&options(&[]), paused, [vec![Command::RestartPrompt, Command::Step]]);
    assert_eq!(words(&events)[2..], ["paused", "refused", "paused"]);
}

#[test]
fn a_failure_is_the_last_event_in_one_line() {
    // Pass 1 reads the prompt; each step of plain decoding is one more pass.
    let none = EngineOptions {
        settings: StepSettings { drafter: "none".into(), ..settings() },
        ..options(&["abc"])
    };
    for (at, steps) in [(1, 0), (2, 0), (4, 2), (5, 3)] {
        let events = run(&none, &table().failing(at), |_, _, _| true);
        assert_eq!(events.iter().filter(|e| is_step(e)).count(), steps);
        let want = Event::Failed("the device failed: it was lost at some place".into());
        assert_eq!(events.last(), Some(&want), "at pass {at}");
    }
    // A drafter that runs the target fails as well.
    let oracle = EngineOptions {
        settings: StepSettings { drafter: "oracle".into(), ..settings() },
        ..options(&["abc"])
    };
    let events = run(&oracle, &table().failing(2), |_, _, _| true);
    let Some(Event::Failed(why)) = events.last() else { panic!("{events:?}") };
    assert!(why.starts_with("the drafter oracle failed: "), "{why}");
    // Loading can fail, too.
    let bad =
        EngineOptions { settings: StepSettings { budget: 0, ..settings() }, ..options(&["abc"]) };
    let events = run(&bad, &table(), |_, _, _| true);
    assert_eq!(words(&events), ["reading", "failed"]);
}

#[test]
fn the_driver_ends_when_either_channel_closes() {
    for end in 0..12 {
        let events = run(&options(&["abc"]), &table(), |number, _, _| number < end);
        assert_eq!(events.len(), end + 1);
    }
    for paused in [false, true] {
        let (commands, orders) = mpsc::channel();
        let (mut commands, mut steps) = (Some(commands), 0);
        let mut sink = |event: Event| {
            steps += usize::from(is_step(&event));
            if matches!(event, Event::PromptStarted { .. }) {
                commands.take();
            }
            true
        };
        let options = EngineOptions { start_paused: paused, ..options(&["abc"]) };
        drive_with(options, &orders, &mut sink, |options, _| {
            engine(&table(), options.settings.clone())
        });
        assert_eq!(steps, 0);
    }
}

#[test]
fn the_engine_thread_is_named_and_reports_a_missing_model() {
    let (told, events) = mpsc::channel();
    let bad = EngineOptions { model: "no/such/model.gguf".into(), ..options(&["abc"]) };
    let (commands, thread) = super::spawn(bad, move |event| told.send(event).is_ok());
    assert_eq!(thread.thread().name(), Some("engine"));
    thread.join().unwrap();
    let events: Vec<Event> = events.iter().collect();
    let Some(Event::Failed(why)) = events.last() else { panic!("{events:?}") };
    assert!(why.contains("no/such/model.gguf") && !why.contains('\n'), "{why}");
    assert!(commands.send(Command::Quit).is_err());
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        Just(Command::Pause),
        Just(Command::Resume),
        Just(Command::Step),
        (0usize..8, 0usize..5).prop_map(|(budget, drafter)| {
            let drafter = ["none", "ngram", "early-exit", "oracle", "model"][drafter].into();
            Command::Settings(StepSettings { budget, drafter, ..settings() })
        }),
        (0usize..5).prop_map(Command::Prompt),
        "[a-e]{0,44}".prop_map(Command::Text),
        Just(Command::RestartPrompt),
        (0usize..3).prop_map(Command::SearchEvery),
        (0usize..4).prop_map(Command::SearchOracle),
    ]
}

proptest! {
    /// Any sequence of commands gives consistent events and prefixes of plain decoding.
    #[test]
    fn any_commands_at_any_time(
        script in prop::collection::vec(prop::collection::vec(command(), 0..3), 1..40),
        list in prop::collection::vec("[a-e]{0,42}", 0..4), once in any::<bool>(), start_paused in any::<bool>(),
    ) {
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        let options = EngineOptions { once, start_paused, ..options(&list) };
        let (mut script, mut steps_asked) = (script.into_iter(), 0);
        let events = run(&options, &table(), |_, _, commands| {
            // Every reply ends with Resume, so that the driver never waits for a command that isn't
            // sent.
            for command in script.next().map_or(vec![Command::Quit], |mut c| { c.push(Command::Resume); c }) {
                steps_asked += usize::from(command == Command::Step);
                commands.send(command).unwrap();
            }
            true
        });
        let (mut writing, mut paused, mut next, mut steps_paused) = (None, false, 0, 0);
        for (i, event) in events.iter().enumerate() {
            prop_assert_eq!(i == 1, matches!(event, Event::Ready { .. }));
            match event {
                Event::PromptStarted { id, prompt, .. } => {
                    prop_assert!(writing.is_none());
                    writing = Some((id.clone(), prompt.clone(), String::new()));
                    next = 0;
                }
                Event::Step(record) => {
                    let (id, _, text) = writing.as_mut().expect("a text");
                    prop_assert_eq!((&record.prompt_id, record.step), (&*id, next));
                    next += 1;
                    steps_paused += usize::from(paused);
                    text.extend(record.emitted_text.iter().cloned());
                }
                Event::PromptEnded { ending } => {
                    let (id, prompt, text) = writing.take().expect("a text");
                    let length = 12.min(CONTEXT - prompt.len());
                    let want = plain(&id, &prompt, length);
                    prop_assert!(want.starts_with(&text));
                    prop_assert_eq!(*ending == Ending::Interrupted, text.len() < length);
                }
                Event::Paused => paused = true,
                Event::Resumed => paused = false,
                Event::Finished => prop_assert!(once && i + 1 == events.len()),
                Event::Failed(why) => prop_assert!(false, "{}", why),
                _ => {}
            }
        }
        prop_assert!(steps_paused <= steps_asked);
    }
}
