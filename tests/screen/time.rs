//! Pace, moves through the kept steps, search, palette, mouse, and the scoreboard of runs.

use ratatui::layout::Rect;
use speclight::engine::{Command, Event, Pace};
use speclight::telemetry::StepSettings;
use speclight::tui::views::target;
use speclight::tui::{
    COMMANDS, Direction, Effect, Keymap, Msg, Overlay, Pane, Phase, Query, RunState, State, Target,
    parse_presets, update,
};

use crate::script::{Script, settings};
use crate::{drawn, key_of, press, running, text, theme};

fn told(state: &mut State, event: Event) -> Vec<Effect> {
    update(state, Msg::Engine(event))
}

/// Returns a state that has loaded its models, without steps.
fn ready() -> State {
    State { phase: Phase::Running, ..State::new(1) }
}

/// Adds `steps` steps under these settings to a state.
fn more(state: &mut State, script: &mut Script, settings: &StepSettings, steps: usize) {
    for _ in 0..steps {
        told(state, Event::Step(script.step(settings)));
    }
}

/// Starts a text of this prompt.
fn begin(state: &mut State, index: usize) -> Vec<Effect> {
    let prompt = format!("prompt {index}");
    let id = index.to_string();
    told(state, Event::PromptStarted { index, id, prompt, tokens: 9, prefill_seconds: 0.1 })
}

/// Types a line and presses Enter.
fn enter(state: &mut State, line: &str) -> Vec<Effect> {
    let mut effects: Vec<Effect> = Vec::new();
    for c in line.chars() {
        let key = crossterm::event::KeyCode::Char(c);
        effects.extend(update(state, Msg::Key(key.into())));
    }
    effects.extend(press(state, &["Enter"]));
    effects
}

fn paused(steps: usize) -> State {
    let mut state = running(&settings("ngram", 16, 1.0), steps);
    press(&mut state, &["space"]);
    told(&mut state, Event::Paused);
    state
}

fn selected(state: &State) -> usize {
    state.selected.unwrap_or_else(|| state.history.newest().unwrap().number)
}

fn notice(state: &State) -> &str {
    state.notice.as_ref().map_or("", |notice| &notice.text)
}

#[test]
fn pace_keys_ask_the_engine_and_stop_at_the_ends() {
    let mut state = running(&settings("ngram", 16, 1.0), 3);
    let paces: Vec<Effect> = (0..6).flat_map(|_| press(&mut state, &["<"])).collect();
    let slower =
        [16, 8, 4, 2, 1].map(|steps| Effect::Engine(Command::Pace(Pace::PerSecond(steps))));
    assert_eq!(paces, slower);
    assert!(notice(&state).contains("slowest"));
    assert!(text(&drawn(&state, &theme("dark", false), 80, 24)).contains("1 step/s"));
    for _ in 0..6 {
        press(&mut state, &[">"]);
    }
    assert_eq!(state.pace, Pace::Full);
}

#[test]
fn the_first_texts_run_slowly_and_a_pace_key_ends_that() {
    let start = || State { slow_start: Some(0), ..State::new(1) };
    let pace = |pace| vec![Effect::Engine(Command::Pace(pace))];
    let mut state = start();
    assert_eq!(begin(&mut state, 0), pace(Pace::PerSecond(4)));
    assert!(notice(&state).contains("slow start, 4 steps/s"), "{}", notice(&state));
    assert_eq!(begin(&mut state, 1), pace(Pace::PerSecond(16)));
    assert_eq!(begin(&mut state, 2), pace(Pace::Full));
    assert_eq!(begin(&mut state, 3), []);
    let mut state = start();
    begin(&mut state, 0);
    assert_eq!(press(&mut state, &["<"]), pace(Pace::PerSecond(2)));
    assert_eq!(begin(&mut state, 1), [], "the user's pace stays");
}

#[test]
fn misses_are_one_key_away_in_both_directions() {
    let mut state = paused(60);
    let misses: Vec<usize> = state
        .history
        .steps_from(0)
        .filter(|step| step.record.miss.is_some() && step.number < 59)
        .map(|step| step.number)
        .collect();
    assert!(misses.len() > 5);
    for &miss in misses.iter().rev() {
        press(&mut state, &["["]);
        assert_eq!(selected(&state), miss);
    }
    press(&mut state, &["["]);
    assert_eq!((selected(&state), notice(&state)), (misses[0], "no miss before this step"));
    for &miss in &misses[1..] {
        press(&mut state, &["]"]);
        assert_eq!(selected(&state), miss);
    }
}

#[test]
fn moves_pause_a_running_engine_once() {
    for keys in ["[", "}", "Home", "Left", "PgUp", "("] {
        let mut state = running(&settings("ngram", 16, 1.0), 40);
        assert_eq!(press(&mut state, &[keys]), [Effect::Engine(Command::Pause)], "{keys}");
        assert_eq!(state.motion, RunState::Pausing);
        assert!(state.selected.is_some(), "{keys}");
        assert_eq!(press(&mut state, &[keys]), [], "{keys}");
    }
}

#[test]
fn the_largest_losses_come_in_order() {
    let mut state = paused(80);
    let mut losses: Vec<f64> = state.history.steps_from(0).filter_map(|step| step.loss()).collect();
    losses.sort_by(|a, b| b.total_cmp(a));
    let loss = |state: &State| state.history.get(selected(state)).unwrap().loss().unwrap();
    for want in &losses[..6] {
        press(&mut state, &["}"]);
        assert_eq!(loss(&state), *want);
    }
    press(&mut state, &["{"]);
    assert_eq!(loss(&state), losses[4]);
    // After another move the walk starts over.
    press(&mut state, &["Home", "}"]);
    assert_eq!(loss(&state), losses[0]);
}

#[test]
fn texts_and_ends_are_one_key_away() {
    let mut state = ready();
    let (mut script, s) = (Script::new(3), settings("ngram", 8, 1.0));
    for index in 0..3 {
        begin(&mut state, index);
        more(&mut state, &mut script, &s, 10);
    }
    told(&mut state, Event::Paused);
    let walked: Vec<usize> = ["(", "(", "(", "(", ")", ")", ")"]
        .into_iter()
        .map(|key| {
            press(&mut state, &[key]);
            selected(&state)
        })
        .collect();
    assert_eq!(walked, [20, 10, 0, 0, 10, 20, 20]);
    press(&mut state, &["Home"]);
    assert_eq!(selected(&state), 0);
    press(&mut state, &["End"]);
    assert_eq!(state.selected, None);
}

#[test]
fn a_number_goes_to_that_step_of_the_text_shown() {
    let mut state = paused(40);
    let step = state.history.get(17).unwrap().record.step;
    press(&mut state, &["G"]);
    enter(&mut state, &step.to_string());
    assert_eq!((selected(&state), state.overlay.clone()), (17, Overlay::None));
    press(&mut state, &[":"]);
    enter(&mut state, &(step + 1).to_string());
    assert_eq!(selected(&state), 18, "the palette takes a number, too");
    press(&mut state, &["G"]);
    enter(&mut state, "99999");
    assert!(notice(&state).contains("step 99999 is not in this text"), "{}", notice(&state));
    press(&mut state, &["G"]);
    enter(&mut state, "x");
    assert!(notice(&state).contains("give the number of a step"));
}

#[test]
fn a_search_repeats_both_ways_and_continues_at_the_end() {
    let mut state = paused(60);
    let query = Query::parse("depth>1").unwrap();
    let found: Vec<usize> = state
        .history
        .steps_from(0)
        .filter(|step| query.matches(step) && step.number < 59)
        .map(|step| step.number)
        .collect();
    assert!(found.len() > 2);
    press(&mut state, &["/"]);
    enter(&mut state, "depth>1");
    let last = found.len() - 1;
    assert_eq!(selected(&state), found[last]);
    press(&mut state, &["n"]);
    assert_eq!(selected(&state), found[last - 1]);
    press(&mut state, &["N"]);
    assert_eq!(selected(&state), found[last]);
    for _ in 0..found.len() - 1 {
        press(&mut state, &["n"]);
    }
    assert_eq!(selected(&state), found[0]);
    press(&mut state, &["n"]);
    assert!(selected(&state) >= found[last] && notice(&state).contains("continued"));
    // Esc ends the search: n is the next prompt again.
    press(&mut state, &["Esc", "Esc"]);
    assert_eq!(press(&mut state, &["n"]), [Effect::Engine(Command::Prompt(1))]);
    press(&mut state, &["/"]);
    enter(&mut state, "deep>3");
    assert!(notice(&state).contains("unknown field deep"));
    press(&mut state, &["/", "Up"]);
    enter(&mut state, "");
    assert!(notice(&state).contains("unknown field deep"), "Up recalls the last line");
}

#[test]
fn the_palette_changes_settings_or_says_why_not() {
    let state = || running(&settings("ngram", 16, 1.0), 3);
    let wish = |change: fn(&mut StepSettings)| {
        let mut wished = settings("ngram", 16, 1.0);
        change(&mut wished);
        vec![Effect::Engine(Command::Settings(wished))]
    };
    let cases: [(&str, Vec<Effect>); 10] = [
        ("temperature 0.5", wish(|s| s.temperature = 0.5)),
        ("top-p 0.9", wish(|s| s.top_p = 0.9)),
        ("top-k 20", wish(|s| s.top_k = Some(20))),
        ("drafter early-exit", wish(|s| s.drafter = "early-exit".into())),
        ("budget 8", wish(|s| s.budget = 8)),
        ("budget auto", wish(|s| (s.auto, s.budget) = (true, 64))),
        (
            "verify rejection",
            wish(|s| {
                (s.verify, s.shape) =
                    (speclight::verify::Rule::Rejection, speclight::draft::Shape::Chain)
            }),
        ),
        ("seed 7", wish(|s| s.seed = 7)),
        ("pace 2", vec![Effect::Engine(Command::Pace(Pace::PerSecond(2)))]),
        ("prompt 2", vec![Effect::Engine(Command::Prompt(1))]),
    ];
    for (line, effects) in cases {
        let mut state = state();
        press(&mut state, &[":"]);
        assert_eq!(enter(&mut state, line), effects, "{line}");
        assert_eq!(state.overlay, Overlay::None);
    }
    for (line, words) in [
        ("temperature hot", "temperature hot: give a number"),
        ("temperature -1", "temperature -1"),
        ("top-p 2", "top-p 2"),
        ("budget 0", "budget 0"),
        ("drafter magic", "not available in this run: give one of none, ngram, early-exit"),
        ("shape star", "no shape"),
        ("verify maybe", "give one of match"),
        ("model x", "fixed while a run lasts"),
        ("head x.gguf", "fixed while a run lasts"),
        ("temperature", "give a value"),
        ("nonsense", "unknown command"),
        ("prompt 99", "give a prompt from 1 to 3"),
        ("preset x", "there are no presets"),
        ("temperature 1", "no change"),
    ] {
        let mut state = state();
        press(&mut state, &[":"]);
        assert_eq!(enter(&mut state, line), [], "{line}");
        assert!(notice(&state).contains(words), "{line}: {}", notice(&state));
    }
    let mut state = state();
    press(&mut state, &[":"]);
    enter(&mut state, "help");
    assert_eq!(state.overlay, Overlay::Help(0), "commands run by name");
}

#[test]
fn tab_completes_names_and_values() {
    let mut state = running(&settings("ngram", 16, 1.0), 3);
    let line = |state: &State| match &state.overlay {
        Overlay::Line(input) => input.recalling.editor.text().to_owned(),
        _ => panic!("the palette is closed"),
    };
    press(&mut state, &[":", "t", "e", "m", "p", "e", "Tab"]);
    assert_eq!(line(&state), "temperature ");
    press(&mut state, &["Tab", "Tab"]);
    assert_eq!(line(&state), "temperature 0.5");
    press(&mut state, &["Shift-Tab"]);
    assert_eq!(line(&state), "temperature 0");
    let screen = text(&drawn(&state, &theme("dark", false), 80, 24));
    assert!(screen.contains(":temperature 0"), "{screen}");
    press(&mut state, &["Esc"]);
    assert_eq!(state.overlay, Overlay::None);
}

#[test]
fn presets_set_all_their_settings_at_once() {
    let mut state = running(&settings("ngram", 16, 1.0), 3);
    let presets = parse_presets("p", "[small]\ndrafter = \"early-exit\"\nbudget = 4\n").unwrap();
    state.presets = std::sync::Arc::new(presets);
    press(&mut state, &[":"]);
    let wished = StepSettings { drafter: "early-exit".into(), ..settings("ngram", 4, 1.0) };
    assert_eq!(enter(&mut state, "preset small"), [Effect::Engine(Command::Settings(wished))]);
}

#[test]
fn drafting_is_switched_off_and_back_on() {
    let mut state = running(&settings("early-exit", 16, 1.0), 3);
    press(&mut state, &["x"]);
    assert_eq!(state.wished.as_ref().unwrap().drafter.name(), "none");
    press(&mut state, &["x"]);
    assert_eq!(state.wished.as_ref().unwrap().drafter.name(), "early-exit");
    let mut plain = running(&settings("none", 16, 1.0), 3);
    press(&mut plain, &["x"]);
    assert_eq!(
        plain.wished.as_ref().unwrap().drafter.name(),
        "ngram",
        "the best drafter of the run"
    );
}

#[test]
fn a_change_without_effect_is_said() {
    let mut greedy = running(&settings("ngram", 16, 0.0), 3);
    press(&mut greedy, &["g"]);
    assert!(notice(&greedy).contains("no effect while greedy"), "{}", notice(&greedy));
    press(&mut greedy, &["v"]);
    assert!(notice(&greedy).contains("no effect when greedy"));
    let mut plain = running(&settings("none", 16, 1.0), 3);
    press(&mut plain, &["+"]);
    assert!(notice(&plain).contains("no effect without drafting"));
    let mut auto = running(&StepSettings { auto: true, ..settings("ngram", 16, 1.0) }, 3);
    press(&mut auto, &["+"]);
    assert!(notice(&auto).contains("an upper limit only"));
}

#[test]
fn a_fixed_budget_takes_the_size_that_was_verified() {
    let mut state = running(&StepSettings { auto: true, ..settings("ngram", 64, 1.0) }, 30);
    press(&mut state, &["b"]);
    let wished = state.wished.clone().unwrap();
    assert!(!wished.auto && (2..=64).contains(&wished.budget), "{wished:?}");
    press(&mut state, &["b"]);
    let wished = state.wished.clone().unwrap();
    assert_eq!((wished.auto, wished.budget), (true, 64));
}

#[test]
fn runs_survive_a_change_of_settings_and_are_compared_on_the_same_text() {
    let mut state = ready();
    let (mut a, mut b) = (Script::new(3), Script::new(3));
    // Texts of different temperatures differ, so that whole prompts are compared.
    let (small, large) = (settings("ngram", 4, 1.0), settings("ngram", 16, 0.6));
    begin(&mut state, 0);
    more(&mut state, &mut a, &small, 20);
    told(&mut state, Event::PromptEnded { ending: speclight::telemetry::Ending::Interrupted });
    begin(&mut state, 0);
    more(&mut state, &mut b, &large, 20);
    let runs = state.all_runs();
    assert_eq!(runs.iter().map(|run| run.settings.budget).collect::<Vec<_>>(), [4, 16]);
    assert_eq!(runs.iter().map(|run| run.steps).collect::<Vec<_>>(), [20, 20]);
    assert_eq!((runs[0].span, runs[1].span), ((0, 19), (20, 39)));
    let tokens: usize = state.history.steps_from(0).take(20).map(|s| s.record.emitted.len()).sum();
    assert_eq!(runs[0].tokens_per_step.value, tokens as f64 / 20.0);
    state.focus = Pane::Runs;
    press(&mut state, &["Up", "Up", "Enter", "Down", "Enter"]);
    assert_eq!(state.runs.marked, [1, 2]);
    let effects = press(&mut state, &["w"]);
    let [Effect::Write { text: table, ending: "csv", .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{table}");
    let screen = text(&drawn(&state, &theme("dark", false), 120, 40));
    assert!(screen.contains(" runs ") && screen.contains("ngram best-first B 4"), "{screen}");
    assert!(screen.contains("2 against 1"), "{screen}");
    update(&mut state, Msg::Written(Ok("speclight-runs.csv".into())));
    assert!(notice(&state).contains("speclight-runs.csv"));
}

#[test]
fn a_few_steps_between_two_changes_are_no_run() {
    let mut state = ready();
    let mut script = Script::new(3);
    begin(&mut state, 0);
    for budget in [4, 8, 16] {
        more(&mut state, &mut script, &settings("ngram", budget, 1.0), 3);
    }
    assert_eq!(state.all_runs().len(), 1, "only the present one");
}

#[test]
fn a_race_takes_each_lane_at_its_own_pace() {
    let mut state = ready();
    begin(&mut state, 0);
    let (mut a, mut b) = (Script::new(3), Script::new(3));
    more(&mut state, &mut a, &settings("none", 1, 1.0), 40);
    (state.focus, state.zoom) = (Pane::Race, true);
    let screen = text(&drawn(&state, &theme("dark", false), 120, 40));
    assert!(screen.contains("x switches drafting"), "plain decoding alone races nothing: {screen}");
    begin(&mut state, 0);
    more(&mut state, &mut b, &settings("ngram", 16, 1.0), 10);
    let screen = text(&drawn(&state, &theme("dark", false), 120, 40));
    assert!(screen.contains("ngram best-first B 16") && screen.contains("none T 1.0"), "{screen}");
    assert!(screen.contains(" of ") && screen.contains("tok/s"), "{screen}");
}

#[test]
fn the_timeline_shows_prompts_changes_and_the_cursor() {
    let mut state = ready();
    let mut script = Script::new(3);
    begin(&mut state, 0);
    more(&mut state, &mut script, &settings("ngram", 16, 1.0), 30);
    begin(&mut state, 1);
    more(&mut state, &mut script, &settings("ngram", 16, 0.6), 30);
    press(&mut state, &["Home", "PgDn"]);
    for (width, height) in [(80, 24), (120, 40), (200, 60)] {
        let screen = text(&drawn(&state, &theme("dark", false), width, height));
        assert!(screen.contains("prompt 1"), "{screen}");
        assert!(screen.contains("T 0.6"), "{screen}");
        assert!(screen.contains("▲ step "), "{screen}");
    }
}

#[test]
fn clicks_go_where_they_point() {
    let mut state = paused(40);
    let theme = theme("dark", false);
    let area = Rect::new(0, 0, 120, 40);
    let mut steps = std::collections::BTreeSet::new();
    let mut panes = Vec::new();
    for y in 0..40 {
        for x in 0..120 {
            match target(&state, &theme, area, x, y) {
                Target::Step(number, pane) => {
                    steps.insert(number);
                    panes.push(pane);
                }
                Target::Pane(pane) => panes.push(Some(pane)),
                _ => {}
            }
        }
    }
    assert!(steps.contains(&0) && steps.contains(&39) && steps.len() >= 39, "{steps:?}");
    assert!([Some(Pane::Text), Some(Pane::Tree), None].iter().all(|pane| panes.contains(pane)));
    update(&mut state, Msg::Click(Target::Step(7, Some(Pane::Text))));
    assert_eq!((selected(&state), state.focus), (7, Pane::Text));
    update(&mut state, Msg::Click(Target::Pane(Pane::Tree)));
    assert_eq!(state.focus, Pane::Tree);
    update(&mut state, Msg::Wheel(Direction::Back, Target::Pane(Pane::Tree)));
    assert_eq!(selected(&state), 6);
    press(&mut state, &["?"]);
    update(&mut state, Msg::Wheel(Direction::Forward, Target::Nothing));
    assert_eq!(state.overlay, Overlay::Help(3));
    update(&mut state, Msg::Click(Target::Nothing));
    assert_eq!(state.overlay, Overlay::None);
}

#[test]
fn a_token_that_is_clicked_belongs_to_the_step_that_emitted_it() {
    let mut state = paused(30);
    state.zoom = true;
    let theme = theme("dark", false);
    let area = Rect::new(0, 0, 80, 24);
    let mut seen: Vec<usize> = Vec::new();
    for y in 0..24 {
        for x in 0..80 {
            if let Target::Step(number, Some(Pane::Text)) = target(&state, &theme, area, x, y) {
                seen.push(number);
            }
        }
    }
    assert!(!seen.is_empty() && seen.is_sorted(), "steps follow the text: {seen:?}");
    assert_eq!(seen.last(), Some(&29));
}

#[test]
fn rebound_keys_work_and_show_in_footer_and_help() {
    let mut state = running(&settings("ngram", 16, 1.0), 3);
    let config =
        speclight::tui::Config::parse("c", "[keys]\npause = \"F2\"\nquit = \"Z\"\n").unwrap();
    state.keys = std::sync::Arc::new(config.keys);
    assert_eq!(press(&mut state, &["space"]), [], "the old key is free");
    let key = crossterm::event::KeyCode::F(2);
    assert_eq!(update(&mut state, Msg::Key(key.into())), [Effect::Engine(Command::Pause)]);
    let footer = text(&drawn(&state, &theme("dark", false), 120, 40));
    assert!(footer.contains("F2 resume") && footer.contains("Z quit"), "{footer}");
    press(&mut state, &["?"]);
    let help = text(&drawn(&state, &theme("dark", false), 120, 60));
    assert!(help.contains("F2"), "{help}");
    assert_eq!(press(&mut state, &["Esc", "q"]), []);
    assert_eq!(press(&mut state, &["Ctrl-C"]).last(), Some(&Effect::Leave(None)));
}

#[test]
fn the_summary_has_six_lines_and_none_before_the_first_step() {
    use speclight::tui::Screen;
    assert_eq!(Screen::farewell(&State::new(1)), [] as [&str; 0]);
    for steps in [1, 5, 200] {
        let lines = Screen::farewell(&running(&settings("early-exit", 8, 1.0), steps));
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert!(lines.iter().all(|line| !line.contains('\n') && line.len() < 160), "{lines:?}");
    }
    let lines = Screen::farewell(&running(&settings("early-exit", 8, 1.0), 200));
    assert!(
        lines[0].contains("200 steps") && lines[3].contains("of the speed of light"),
        "{lines:?}"
    );
}

#[test]
fn every_command_runs_in_every_overlay_without_panic() {
    let keys = Keymap::default();
    for command in COMMANDS {
        for open in ["?", "m", "e", "/", ":", "G", "Left"] {
            let mut state = running(&settings("ngram", 16, 1.0), 3);
            press(&mut state, &[open]);
            for chord in keys.keys(&command.id()) {
                update(&mut state, Msg::Key(key_of(&chord.label())));
            }
            drawn(&state, &theme("dark", false), 80, 24);
        }
    }
}
