//! State transitions: what each key and event changes, and which commands go to the engine.

use std::time::Duration;

use speclight::engine::{Command, Event};
use speclight::telemetry::{Ending, OracleResult, OracleSearchState, StepSettings};
use speclight::tui::{
    COMMANDS, Chord, Effect, Keymap, Msg, Overlay, Pane, Phase, RunState, State, update,
};
use speclight::verify::Rule;

use crate::script::{Script, settings};
use crate::{key_of, press, running};

fn told(state: &mut State, event: Event) -> Vec<Effect> {
    update(state, Msg::Engine(event))
}

fn wish(change: impl FnOnce(&mut StepSettings)) -> Vec<Effect> {
    let mut wished = settings("ngram", 16, 1.0);
    change(&mut wished);
    vec![Effect::Engine(Command::Settings(wished))]
}

#[test]
fn settings_keys_ask_the_engine() {
    let cases: Vec<(&[&str], Vec<Effect>)> = vec![
        (&["d"], wish(|s| s.drafter = "early-exit".into())),
        (&["D"], wish(|s| s.drafter = "none".into())),
        (&["s"], wish(|s| s.shape = speclight::draft::Shape::Chain)),
        (&["+"], wish(|s| s.budget = 24)),
        (&["="], wish(|s| s.budget = 24)),
        (&["-"], wish(|s| s.budget = 12)),
        (&["T"], wish(|s| s.temperature = 1.2)),
        (&["t"], wish(|s| s.temperature = 0.8)),
        (&["g"], wish(|s| s.seed = 2)),
    ];
    for (keys, effects) in cases {
        let mut state = running(&settings("ngram", 16, 1.0), 3);
        assert_eq!(press(&mut state, keys), effects, "{keys:?}");
        // The current settings change when the engine confirms them, not before.
        assert_eq!(state.settings, Some(settings("ngram", 16, 1.0)), "{keys:?}");
        assert_eq!(vec![Effect::Engine(Command::Settings(state.wished.clone().unwrap()))], effects);
    }
}

#[test]
fn rings_go_round_and_ends_are_ends() {
    let mut state = running(&settings("none", 1, 0.0), 1);
    press(&mut state, &["D"]);
    assert_eq!(state.wished.as_ref().unwrap().drafter.name(), "early-exit");
    press(&mut state, &["d"]);
    assert_eq!(state.wished.as_ref().unwrap().drafter.name(), "none");
    assert_eq!(press(&mut state, &["-", "t"]), [], "no budget below 1, no temperature below 0");
    for _ in 0..30 {
        press(&mut state, &["+", "T"]);
    }
    let wished = state.wished.clone().unwrap();
    assert!(wished.budget >= 128 && wished.temperature == 2.0, "{wished:?}");
    let seen: Vec<f32> = (0..11)
        .map(|_| {
            press(&mut state, &["t"]);
            state.wished.as_ref().unwrap().temperature
        })
        .collect();
    assert_eq!(
        seen,
        [1.8, 1.6, 1.4, 1.2, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0],
        "no rounding piles up"
    );
}

#[test]
fn an_odd_budget_or_temperature_goes_to_its_neighbor() {
    let mut state = running(&settings("ngram", 17, 0.7), 1);
    press(&mut state, &["+", "T"]);
    assert_eq!(state.wished.as_ref().map(|w| (w.budget, w.temperature)), Some((24, 0.8)));
    let mut state = running(&settings("ngram", 17, 0.7), 1);
    press(&mut state, &["-", "t"]);
    assert_eq!(state.wished.as_ref().map(|w| (w.budget, w.temperature)), Some((16, 0.6)));
}

#[test]
fn settings_requests_are_applied_or_refused() {
    let mut state = running(&settings("ngram", 16, 1.0), 3);
    press(&mut state, &["+", "+"]);
    told(&mut state, Event::Settings(settings("ngram", 24, 1.0)));
    let budgets =
        |s: &State| (s.settings.as_ref().unwrap().budget, s.wished.as_ref().unwrap().budget);
    assert_eq!(budgets(&state), (24, 32), "the second wish is still open");
    told(&mut state, Event::Settings(settings("ngram", 32, 1.0)));
    assert_eq!(budgets(&state), (32, 32));
    press(&mut state, &["+"]);
    told(&mut state, Event::Refused("budget 48: too much".into()));
    assert_eq!(budgets(&state), (32, 32));
    assert_eq!(state.notice.as_ref().unwrap().text, "budget 48: too much");
    // The engine may apply only the last of several requests.
    press(&mut state, &["-", "-"]);
    told(&mut state, Event::Settings(settings("ngram", 16, 1.0)));
    assert_eq!((budgets(&state), state.asked.len()), ((16, 16), 0));
}

#[test]
fn pause_step_and_resume_wait_for_the_engine() {
    let mut state = running(&settings("ngram", 16, 1.0), 3);
    assert_eq!(press(&mut state, &["space"]), [Effect::Engine(Command::Pause)]);
    assert_eq!(state.motion, RunState::Pausing);
    told(&mut state, Event::Paused);
    assert_eq!(state.motion, RunState::Paused);
    assert_eq!(press(&mut state, &["."]), [Effect::Engine(Command::Step)]);
    assert_eq!(press(&mut state, &["space"]), [Effect::Engine(Command::Resume)]);
    assert_eq!(state.motion, RunState::Resuming);
    told(&mut state, Event::Resumed);
    assert_eq!(state.motion, RunState::Live);
    assert_eq!(
        press(&mut state, &["."]),
        [Effect::Engine(Command::Pause), Effect::Engine(Command::Step)]
    );
}

#[test]
fn prompts_walk_and_begin_again() {
    let mut state = running(&settings("ngram", 16, 1.0), 3);
    assert_eq!(press(&mut state, &["n"]), [Effect::Engine(Command::Prompt(1))]);
    assert_eq!(
        press(&mut state, &["p"]),
        [Effect::Engine(Command::Prompt(2))],
        "the list is a ring"
    );
    assert_eq!(press(&mut state, &["r"]), [Effect::Engine(Command::RestartPrompt)]);
    told(&mut state, Event::PromptEnded { ending: Ending::Interrupted });
    told(
        &mut state,
        Event::PromptStarted {
            index: 2,
            id: "2".into(),
            prompt: "Sum it up.".into(),
            tokens: 9,
            prefill_seconds: 0.1,
        },
    );
    assert_eq!((state.prompt, state.history.text().map(|t| t.number)), (2, Some(1)));
    assert_eq!(state.step(), None, "a text without a step shows no tree of another text");
}

#[test]
fn a_prompt_is_written_while_the_run_waits() {
    let mut state = running(&settings("ngram", 16, 1.0), 3);
    let editor = |state: &State| match &state.overlay {
        Overlay::Editor(input) => Some(input.editor.text().to_owned()),
        _ => None,
    };
    assert_eq!(press(&mut state, &["e"]), [Effect::Engine(Command::Pause)]);
    assert_eq!(editor(&state).as_deref(), Some(""), "it starts empty");
    assert_eq!(press(&mut state, &["q", "?"]), [], "letters are text here");
    update(&mut state, Msg::Paste(" and\nmore".into()));
    assert_eq!(
        press(&mut state, &["Enter"]),
        [Effect::Engine(Command::Text("q? and\nmore".into())), Effect::Engine(Command::Resume)]
    );
    assert_eq!((editor(&state), state.motion), (None, RunState::Resuming));
    told(&mut state, Event::Resumed);
    press(&mut state, &["e", "x", "Up"]);
    assert_eq!(editor(&state).as_deref(), Some("q? and\nmore"), "what was sent comes back");
    press(&mut state, &["Down", "Ctrl-U"]);
    assert_eq!(press(&mut state, &["Enter"]), [], "nothing to send");
    assert_eq!(press(&mut state, &["Esc"]), [Effect::Engine(Command::Resume)]);
    assert_eq!(state.overlay, Overlay::None);
    // A run that the user paused stays paused.
    told(&mut state, Event::Resumed);
    press(&mut state, &["space", "e"]);
    assert_eq!(press(&mut state, &["Esc"]), []);
    press(&mut state, &["e"]);
    assert_eq!(press(&mut state, &["Ctrl-C"]).last(), Some(&Effect::Leave(None)));
}

#[test]
fn a_paste_outside_of_the_editor_is_not_keys() {
    let mut state = running(&settings("ngram", 16, 1.0), 3);
    assert_eq!(update(&mut state, Msg::Paste("q".into())), []);
    assert!(state.notice.is_some());
}

#[test]
fn focus_zoom_theme_and_help() {
    let mut state = running(&settings("ngram", 16, 1.0), 3);
    let walked: Vec<Pane> = (0..state.view.panes().len())
        .map(|_| {
            press(&mut state, &["Tab"]);
            state.focus
        })
        .collect();
    assert_eq!(walked[..2], [Pane::Tree, Pane::Entropy]);
    assert_eq!(state.focus, Pane::Text);
    press(&mut state, &["Shift-Tab", "z", "c"]);
    assert_eq!((state.focus, state.zoom, state.theme), (Pane::Steps, true, 1));
    press(&mut state, &["c", "c", "Esc"]);
    assert_eq!((state.theme, state.zoom), (0, false));
    press(&mut state, &["?", "Down", "Down", "Up"]);
    assert_eq!(state.overlay, Overlay::Help(1));
    assert_eq!(press(&mut state, &["q"]), [], "any key leaves the help, and does nothing else");
    assert_eq!(state.overlay, Overlay::None);
}

#[test]
fn older_steps_are_looked_at_when_paused() {
    let mut state = running(&settings("ngram", 16, 1.0), 30);
    assert_eq!(press(&mut state, &["Left"]), [Effect::Engine(Command::Pause)], "it pauses first");
    press(&mut state, &["Left", "Up"]);
    assert_eq!(state.selected, Some(26));
    press(&mut state, &["PgUp", "PgUp", "PgUp"]);
    assert_eq!(state.selected, Some(0), "the oldest is the end");
    press(&mut state, &["Right", "PgDn"]);
    assert_eq!(state.step().map(|s| s.number), Some(11));
    press(&mut state, &["End"]);
    assert_eq!(state.selected, None);
    press(&mut state, &["Left", "space"]);
    assert_eq!(state.selected, None, "going on shows what goes on");
}

#[test]
fn a_step_that_is_shown_while_paused_is_looked_at() {
    let searches = |effects: Vec<Effect>| -> Vec<usize> {
        let search =
            |e| if let Effect::Engine(Command::SearchOracle(step)) = e { Some(step) } else { None };
        effects.into_iter().filter_map(search).collect()
    };
    // The script searches every fourth step: 0, 4, ... 28.
    let mut state = running(&settings("ngram", 16, 1.0), 30);
    assert_eq!(searches(press(&mut state, &["space"])), [] as [usize; 0], "not before it waits");
    assert_eq!(searches(told(&mut state, Event::Paused)), [29]);
    assert_eq!(
        searches(press(&mut state, &["Left", "Left", "Left"])),
        [27, 26],
        "what is known already is not asked for"
    );
    let (oracle_lower, oracle_upper, state_of_it) = (2.0, 3.0, OracleSearchState::Refining);
    let result = OracleResult {
        oracle_lower,
        oracle_upper,
        oracle_floor: 0.1,
        passes: 4,
        drafter_best: None,
        state: state_of_it,
    };
    told(
        &mut state,
        Event::OracleSearched {
            prompt_id: "0".into(),
            step: 26,
            result,
            curve: None,
            tree: None,
            systematic: false,
        },
    );
    assert_eq!(
        state.step().and_then(|s| s.search_result),
        Some(result),
        "it shows while it is refined"
    );
    assert_eq!(searches(press(&mut state, &["Left", "Right"])), [25, 26]);
    assert_eq!(searches(press(&mut state, &["End"])), [29]);
    // A step made while the engine is paused is searched as well.
    let mut script = Script::new(9);
    let step = script.step(&settings("ngram", 16, 1.0));
    assert_eq!(searches(told(&mut state, Event::Step(step))), [0]);
    // An interrupted search is requested again if its step is still shown; an ended one only by
    // key.
    let found = |state: &mut State, step: usize, is: OracleSearchState| {
        searches(told(
            state,
            Event::OracleSearched {
                prompt_id: "0".into(),
                step,
                result: OracleResult { state: is, ..result },
                curve: None,
                tree: None,
                systematic: false,
            },
        ))
    };
    assert_eq!(found(&mut state, 0, OracleSearchState::BrokenOff), [0]);
    assert_eq!(
        found(&mut state, 28, OracleSearchState::BrokenOff),
        [] as [usize; 0],
        "another one is shown"
    );
    assert_eq!(found(&mut state, 0, OracleSearchState::Ended), [] as [usize; 0]);
    assert_eq!(
        searches(press(&mut state, &["Left", "Right"])),
        [29],
        "it ended: no search starts by itself"
    );
    assert_eq!(searches(press(&mut state, &["o"])), [0]);
    assert_eq!(found(&mut state, 0, OracleSearchState::Converged), [] as [usize; 0]);
    assert_eq!(searches(press(&mut state, &["o"])), [] as [usize; 0], "all is known");
    // The engine has no steps of an earlier text.
    told(&mut state, Event::PromptEnded { ending: Ending::Interrupted });
    let id = "1".to_owned();
    told(
        &mut state,
        Event::PromptStarted { index: 1, id, prompt: "x".into(), tokens: 9, prefill_seconds: 0.1 },
    );
    assert_eq!(searches(press(&mut state, &["Left"])), [] as [usize; 0]);
}

#[test]
fn how_often_steps_are_looked_at_goes_round() {
    let mut state = running(&settings("ngram", 16, 1.0), 3);
    let asked: Vec<Effect> = (0..4).flat_map(|_| press(&mut state, &["o"])).collect();
    assert_eq!(asked, [16, 4, 1, 0].map(|every| Effect::Engine(Command::SearchEvery(every))));
    assert!(state.notice.is_some());
}

#[test]
fn a_rule_takes_a_shape_that_it_can_draw() {
    let mut state = running(&settings("ngram", 16, 1.0), 3);
    let now = |state: &State| {
        let wished = state.wished.clone().unwrap();
        (wished.verify, wished.shape)
    };
    press(&mut state, &["v"]);
    // The only other shape of this run is the chain.
    assert_eq!(now(&state), (Rule::Rejection, speclight::draft::Shape::Chain));
    assert!(state.notice.as_ref().unwrap().text.contains("only the bound B - 1 applies"));
    press(&mut state, &["s"]);
    assert_eq!(
        now(&state),
        (Rule::Rejection, speclight::draft::Shape::Chain),
        "best-first is passed over"
    );
    press(&mut state, &["v", "v"]);
    assert_eq!(now(&state), (Rule::Block, "chain".parse().unwrap()));
    press(&mut state, &["s"]);
    assert_eq!(
        now(&state),
        (Rule::Block, "chain".parse().unwrap()),
        "block verification takes chains only"
    );
    press(&mut state, &["v", "s"]);
    assert_eq!(now(&state), (Rule::Match, "best-first".parse().unwrap()));
    let mut greedy = running(&settings("ngram", 16, 0.0), 3);
    press(&mut greedy, &["v"]);
    assert!(greedy.notice.as_ref().unwrap().text.contains("raise T"));
}

#[test]
fn the_panes_of_losses_take_turns() {
    let mut state = running(&settings("ngram", 16, 1.0), 3);
    for pane in
        [Pane::Ladder, Pane::Curve, Pane::Misses, Pane::Calibration, Pane::Text, Pane::Ladder]
    {
        press(&mut state, &["l"]);
        assert_eq!(state.focus, pane);
    }
    press(&mut state, &["m", "Down"]);
    assert_eq!(state.overlay, Overlay::Marks(1));
    press(&mut state, &["m"]);
    assert_eq!(state.overlay, Overlay::None);
}

#[test]
fn before_the_model_is_there_settings_wait() {
    let mut state = State::new(1);
    assert_eq!(press(&mut state, &["+", "T", "n", "Left", "z", "Tab", "d"]), []);
    assert!(state.notice.is_some());
    told(&mut state, Event::Loading { what: "fetching".into(), done: Some(0.5) });
    assert_eq!(state.phase, Phase::Loading("fetching".into(), Some(0.5)));
}

#[test]
fn after_the_last_prompt_a_wish_is_answered_with_words() {
    let wishes = COMMANDS.iter().filter(|c| c.engine).flat_map(|c| c.keys);
    for chord in wishes {
        let mut state = running(&settings("ngram", 16, 1.0), 30);
        told(&mut state, Event::Finished);
        state.notice = None;
        let before = (state.wished.clone(), state.motion, state.overlay.clone());
        assert_eq!(press(&mut state, &[&chord.label()]), [], "{chord:?}");
        assert!(state.notice.as_ref().unwrap().text.contains("all prompts are done"), "{chord:?}");
        assert_eq!(
            (state.wished.clone(), state.motion, state.overlay.clone()),
            before,
            "{chord:?}"
        );
    }
    let mut state = running(&settings("ngram", 16, 1.0), 30);
    press(&mut state, &["e", "x"]);
    told(&mut state, Event::Finished);
    assert_eq!(press(&mut state, &["Enter"]), [], "nor is a prompt sent to nobody");
    press(&mut state, &["Left"]);
    assert_eq!(state.selected, Some(28), "what was is still there to look at");
    assert_eq!(press(&mut state, &["q"]).last(), Some(&Effect::Leave(None)));
}

#[test]
fn nothing_is_scrolled_beyond_its_end() {
    let theme = crate::theme("dark", false);
    let mut state = running(&settings("ngram", 16, 1.0), 200);
    let mut shown = |keys: &[&str], times| {
        (0..times).for_each(|_| drop(press(&mut state, keys)));
        let area = ratatui::layout::Rect::new(0, 0, 80, 24);
        let mut buffer = ratatui::buffer::Buffer::empty(area);
        let beyond = speclight::tui::views::draw(&state, &theme, area, &mut buffer);
        update(&mut state, Msg::Drawn(beyond));
        crate::text(&crate::drawn(&state, &theme, 80, 24))
    };
    for open in ["z", "?"] {
        shown(&[open], 1);
        let (up, down) = if open == "z" { ("Up", "Down") } else { ("Down", "Up") };
        let end = shown(&[up], 500);
        assert_ne!(shown(&[down], 1), end, "the first key back moves");
        assert_eq!(shown(&[up], 1), end);
    }
}

#[test]
fn notices_go_with_time() {
    let mut state = State::new(1);
    update(&mut state, Msg::Tick(Duration::from_secs(5)));
    told(&mut state, Event::Refused("no".into()));
    update(&mut state, Msg::Tick(Duration::from_secs(6)));
    assert!(state.notice.is_some());
    update(&mut state, Msg::Tick(Duration::from_secs(60)));
    assert_eq!(state.notice, None);
}

#[test]
fn the_end_of_the_engine_ends_the_monitor_with_a_reason() {
    let mut state = running(&settings("ngram", 16, 1.0), 3);
    assert_eq!(
        told(&mut state, Event::Failed("the weights are damaged".into())),
        [Effect::Leave(Some("the weights are damaged".into()))]
    );
    let gone = update(&mut state, Msg::EngineGone(Some("engine panicked at x.rs:1: boom".into())));
    assert_eq!(
        gone,
        [Effect::Leave(Some("the engine stopped: engine panicked at x.rs:1: boom".into()))]
    );
    told(&mut state, Event::Finished);
    assert_eq!(
        update(&mut state, Msg::EngineGone(None)),
        [],
        "after the last word its end is no failure"
    );
}

#[test]
fn calibration_takes_sensible_speeds_alone() {
    let mut state = running(&settings("ngram", 16, 1.0), 1);
    let before = state.plain.unwrap();
    // Between the old and the new time; values that are not times leave the figure unchanged.
    for told_speed in [12.5, f64::NAN, 0.0] {
        told(
            &mut state,
            Event::PlainTimed { plain_tokens_per_second: told_speed, seconds: 1.0 / told_speed },
        );
        assert!(
            state.plain.is_some_and(|plain| 12.5 < plain && plain < before),
            "{:?}",
            state.plain
        );
    }
}

#[test]
fn quit_tells_the_engine_and_leaves() {
    for key in ["q", "Ctrl-C"] {
        let mut state = running(&settings("ngram", 16, 1.0), 3);
        assert_eq!(press(&mut state, &[key]), [Effect::Engine(Command::Quit), Effect::Leave(None)]);
    }
}

#[test]
fn every_key_has_one_command_and_every_command_a_key() {
    let mut seen: Vec<Chord> = Vec::new();
    for command in COMMANDS {
        assert!(!command.keys.is_empty() && !command.doc.is_empty(), "{}", command.name);
        for chord in command.keys {
            assert!(!seen.contains(chord), "{chord:?} has two commands");
            seen.push(*chord);
        }
    }
    let keys = Keymap::default();
    assert!(keys.command(&key_of("y")).is_none());
    let control = crossterm::event::KeyEvent::new(
        crossterm::event::KeyCode::Char('d'),
        crossterm::event::KeyModifiers::CONTROL,
    );
    assert!(keys.command(&control).is_none(), "Control makes another key of it");
}

#[test]
fn a_selected_step_that_is_forgotten_is_not_another_one() {
    let mut state = running(&settings("ngram", 4, 1.0), 10);
    press(&mut state, &["space", "PgUp"]);
    assert_eq!(state.selected, Some(0));
    let mut script = Script::new(9);
    let record = script.step(&settings("ngram", 4, 1.0));
    for _ in 0..5000 {
        told(&mut state, Event::Step(record.clone()));
    }
    assert_eq!(state.selected, None);
}

#[test]
fn keys_page_equals_the_command_table() {
    let page = include_str!("../../docs/keys.md");
    let rows: Vec<String> = COMMANDS
        .iter()
        .map(|command| {
            let keys: Vec<String> =
                command.keys.iter().map(|key| format!("`{}`", key.label())).collect();
            format!("| {} | {} |\n", keys.join(" "), command.doc)
        })
        .collect();
    assert!(
        page.contains(&format!("\n{}\n", rows.concat())),
        "its table should be:\n{}",
        rows.concat()
    );
}

#[test]
fn the_scale_of_the_bar_stands_still_while_the_light_does() {
    let mut state = running(&settings("early-exit", 8, 1.0), 200);
    let (top, light) = (state.light.top, state.light.figures.tokens_per_second.unwrap());
    assert!(top >= light && top <= 1.3 * light, "{top} for {light}");
    let mut script = Script::new(11);
    let mut moved = 0;
    for _ in 0..200 {
        let record = script.step(&settings("early-exit", 8, 1.0));
        let searched = script.search_event(&record);
        let before = state.light.top;
        told(&mut state, Event::Step(record));
        searched.map(|event| told(&mut state, event));
        moved += usize::from(state.light.top != before);
    }
    assert!(moved <= 2, "moved {moved} times");
    // The parts and the reached value add up to the speed of light, all from the same moment.
    let figures = &state.light.figures;
    let l = figures.ladder;
    let parts = [l.budget, l.knowledge, l.shape, l.drafting, l.overhead, l.luck]
        .into_iter()
        .flatten()
        .sum::<f64>();
    let light = figures.tokens_per_second.unwrap();
    assert!((parts + state.light.reached.unwrap() - light).abs() < 1e-6 * light);
    // Other settings have another speed of light.
    told(&mut state, Event::Step(script.step(&settings("early-exit", 4, 1.0))));
    assert_eq!((state.light.steps, state.light.figures.searched_steps), (1, 0));
}

#[test]
fn only_systematic_searches_count_in_the_light() {
    let mut state = running(&settings("early-exit", 8, 1.0), 8);
    let before = state.light.figures.searched_steps;
    let mut script = Script::new(12);
    let record = script.step(&settings("early-exit", 8, 1.0));
    let Some(Event::OracleSearched { prompt_id, step, result, curve, .. }) =
        script.search_event(&record)
    else {
        panic!()
    };
    told(&mut state, Event::Step(record.clone()));
    told(
        &mut state,
        Event::OracleSearched {
            prompt_id: prompt_id.clone(),
            step,
            result,
            curve: curve.clone(),
            tree: None,
            systematic: false,
        },
    );
    told(&mut state, Event::Paused);
    assert_eq!(state.light.figures.searched_steps, before);
    assert!(state.history.newest().unwrap().curve.is_some());
    told(&mut state, Event::Step(record));
    for _ in 0..2 {
        told(
            &mut state,
            Event::OracleSearched {
                prompt_id: prompt_id.clone(),
                step,
                result,
                curve: curve.clone(),
                tree: None,
                systematic: true,
            },
        );
    }
    told(&mut state, Event::Paused);
    assert_eq!(state.light.figures.searched_steps, before + 1, "once");
}
