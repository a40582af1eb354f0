//! Screens of a comparison, without a terminal.

use std::sync::Arc;
use std::time::Duration;

use insta::assert_snapshot;
use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use speclight::study::compare::{CompareCommand, CompareEvent, ComparedStep};
use speclight::telemetry::{
    FluidBound, Miss, MissCause, OracleResult, OracleSearchState, StepRecord, StepSettings,
    TokenClass, TreeRecord,
};
use speclight::tui::theme::Theme;
use speclight::tui::{COMPARE_KEYS, Compare, Effect, Lane, Msg, Phase, RunState, Screen};

use crate::script::{self, Script, settings};
use crate::{key_of, text, theme};

fn drawn(state: &Compare, theme: &Theme, width: u16, height: u16) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    speclight::tui::views::draw_compare(state, theme, area, &mut buffer);
    buffer
}

fn screen(state: &Compare, width: u16, height: u16) -> String {
    text(&drawn(state, &theme("dark", false), width, height))
}

fn press(state: &mut Compare, keys: &[&str]) -> Vec<Effect<CompareCommand>> {
    keys.iter().flat_map(|key| state.update(Msg::Key(key_of(key)))).collect()
}

fn lanes(a: &StepSettings, b: &StepSettings) -> [Lane; 2] {
    let lane = |name: &str, s: &StepSettings| {
        Lane::new(
            name.into(),
            format!("{}, {}, B {}, T {}", s.drafter, s.shape, s.budget, s.temperature),
            s.clone(),
        )
    };
    [lane("A", a), lane("better", b)]
}

/// Builds a step that emits `tokens`, all but the last of them drafted.
fn step(
    template: &StepRecord,
    number: usize,
    at: usize,
    tokens: &[(u32, String)],
    settings: &StepSettings,
) -> ComparedStep {
    let accepted = tokens.len() - 1;
    let mut tree = TreeRecord {
        tokens: vec![0],
        text: vec![String::new()],
        parents: vec![None],
        depth: vec![0],
        p: vec![1.0],
        accept: Vec::new(),
        p_plain: vec![1.0],
        q: vec![1.0],
        calibrated: vec![1.0],
        origin: vec![None],
        members: vec![settings.drafter.name().to_owned()],
        rank: vec![0],
        cut: Vec::new(),
    };
    // One node more than was accepted, which is rejected; in odd steps it is a child of the root.
    for i in 0..=accepted {
        let drafted = tokens.get(i).filter(|_| i < accepted);
        tree.tokens.push(drafted.map_or(u32::MAX, |t| t.0));
        tree.text.push(drafted.map_or_else(|| " wrong".to_owned(), |t| t.1.clone()));
        tree.parents.push(Some(if i == accepted && number % 2 == 1 { 0 } else { i }));
        tree.depth.push(i + 1);
        tree.p.push(0.6);
        tree.p_plain.push(0.6);
        tree.q.push(0.5);
        tree.calibrated.push(0.5);
        tree.origin.push(Some(0));
        tree.rank.push(0);
    }
    let (token, word) = tokens[accepted].clone();
    let cause = MissCause::ALL[number % 4];
    let miss = Miss {
        depth: accepted + 1,
        token,
        class: TokenClass::from_text(&word),
        text: word.clone(),
        p: 0.4,
        p_plain: Some(0.4),
        pi: 0.1,
        rank: 1,
        q: None,
        draft_rank: None,
        asked: true,
        outside_vocabulary: Some(false),
        target_best: Vec::new(),
        draft_best: Vec::new(),
        cause,
    };
    let mut record = template.clone();
    record.prompt_id = "0".into();
    (record.step, record.position, record.settings) = (number, 30 + at, settings.clone());
    record.expected_accepted = tree.path_products()[1..].iter().sum();
    (record.tree, record.path, record.accepted) = (tree, (1..=accepted).collect(), accepted);
    (record.bonus, record.bonus_text) = (token, word);
    record.emitted = tokens.iter().map(|t| t.0).collect();
    record.emitted_text = tokens.iter().map(|t| t.1.clone()).collect();
    record.entropy = vec![template.entropy[0]; tokens.len()];
    record.miss = Some(miss);
    record.time.verify = 0.02 + 0.001 * (number % 3) as f64;
    let result = OracleResult {
        oracle_lower: 3.0,
        oracle_upper: 3.0,
        oracle_floor: 0.05,
        passes: 4,
        drafter_best: Some(record.expected_accepted + 0.2),
        state: OracleSearchState::Converged,
    };
    let result = number.is_multiple_of(4).then_some(result);
    ComparedStep {
        record: Arc::new(record),
        search_result: result,
        curve: None,
        fluid: None::<Arc<FluidBound>>,
        ended: false,
    }
}

/// Returns a comparison after `prompts` texts of `length` tokens.
///
/// The lane that is behind takes the next step.
fn running(a: &StepSettings, b: &StepSettings, prompts: usize, length: usize) -> Compare {
    let mut state = Compare::new(lanes(a, b), 3);
    let mut info = script::info();
    info.prompts.truncate(prompts.max(1));
    while info.prompts.len() < prompts {
        info.prompts.push("Another prompt.".into());
    }
    state.update(Msg::Engine(CompareEvent::Ready(Arc::new(info))));
    let mut script = Script::new(11);
    for prompt in 0..prompts {
        state.update(Msg::Engine(CompareEvent::Began(prompt)));
        let template = script.step(a);
        let mut words: Vec<(u32, String)> = Vec::new();
        while words.len() < length + 12 {
            let record = script.step(a);
            words.extend(record.emitted.iter().copied().zip(record.emitted_text.iter().cloned()));
        }
        let (mut at, mut number) = ([0usize; 2], [0usize; 2]);
        while at.iter().any(|at| *at < length) {
            let lane = usize::from(at[1] < at[0]);
            // The second lane sometimes accepts one token more.
            let draw = (script.draw() * 4.0) as usize
                + if lane == 1 { (script.draw() * 3.0) as usize } else { 0 };
            let tokens = &words[at[lane]..at[lane] + draw + 1];
            let mut made =
                step(&template, number[lane], at[lane], tokens, if lane == 0 { a } else { b });
            at[lane] += draw + 1;
            number[lane] += 1;
            made.ended = prompt + 1 < prompts && at[lane] >= length + 12;
            state.update(Msg::Engine(CompareEvent::Step(lane, Box::new(made))));
        }
        state.update(Msg::Engine(CompareEvent::Plain(33.1)));
    }
    state
}

#[test]
fn two_lanes_at_all_sizes() {
    let state = running(&settings("ngram", 8, 1.0), &settings("eagle", 8, 1.0), 14, 100);
    assert!(state.differences.unwrap().accepted.difference.interval.is_some());
    for (width, height) in [(40, 12), (80, 24), (120, 40), (200, 60)] {
        assert_snapshot!(format!("compare_{width}x{height}"), screen(&state, width, height));
    }
    let ascii = drawn(&state, &theme("mono", true), 80, 24);
    assert!(text(&ascii).is_ascii());
    assert_snapshot!("compare_ascii_80x24", text(&ascii));
}

#[test]
fn early_and_with_texts_that_differ() {
    assert_snapshot!(
        "compare_early_80x24",
        screen(&running(&settings("ngram", 8, 1.0), &settings("eagle", 8, 1.0), 1, 12), 80, 24)
    );
    let other = running(&settings("ngram", 8, 1.0), &settings("ngram", 8, 0.0), 6, 40);
    assert_snapshot!("compare_texts_differ_80x24", screen(&other, 80, 24));
    let mut state = Compare::new(lanes(&settings("ngram", 8, 1.0), &settings("none", 1, 1.0)), 3);
    state.update(Msg::Engine(CompareEvent::Loading(
        "loading SmolLM2-135M-Instruct".into(),
        Some(0.4),
    )));
    assert_snapshot!("compare_loading_80x24", screen(&state, 80, 24));
}

#[test]
fn each_token_has_the_color_of_where_it_came_from() {
    use speclight::tui::theme::Role;
    let state = running(&settings("ngram", 8, 1.0), &settings("eagle", 8, 1.0), 1, 40);
    let theme = theme("dark", false);
    let buffer = drawn(&state, &theme, 120, 40);
    for role in [Role::Accepted1, Role::Accepted2, Role::TokenBonus, Role::TokenPrompt] {
        let style = theme.style(role);
        let cells = (0..40u16).flat_map(|y| (0..120u16).map(move |x| (x, y)));
        assert!(cells.clone().any(|at| buffer[at].style().fg == style.fg), "{role:?}");
    }
}

#[test]
fn every_key_of_the_footer_does_something() {
    let mut state = running(&settings("ngram", 8, 1.0), &settings("eagle", 8, 1.0), 1, 20);
    for (key, _) in COMPARE_KEYS {
        let before = (state.motion, state.theme);
        let effects = press(&mut state, &[key]);
        assert!(!effects.is_empty() || before != (state.motion, state.theme), "{key}");
    }
    let mut state = Compare::new(lanes(&settings("ngram", 8, 1.0), &settings("eagle", 8, 1.0)), 3);
    let order = |order| vec![Effect::Engine(order)];
    assert_eq!(press(&mut state, &["space"]), order(CompareCommand::Pause));
    state.update(Msg::Engine(CompareEvent::Paused));
    assert_eq!(press(&mut state, &["."]), order(CompareCommand::Step));
    assert_eq!(press(&mut state, &["space"]), order(CompareCommand::Resume));
    state.update(Msg::Engine(CompareEvent::Resumed));
    assert_eq!(
        (press(&mut state, &["."]), state.motion),
        (order(CompareCommand::Pause), RunState::Pausing)
    );
    assert_eq!(
        (press(&mut state, &["n"]), press(&mut state, &["p"])),
        (order(CompareCommand::Turn(1)), order(CompareCommand::Turn(-1)))
    );
    press(&mut state, &["c", "c", "c"]);
    assert_eq!(state.theme, 0);
    assert_eq!(press(&mut state, &["Ctrl-C"]), [Effect::Leave(None)]);
    assert_eq!(press(&mut state, &["q"]), [Effect::Leave(None)]);
}

#[test]
fn the_end_and_failures_are_told() {
    let mut state = running(&settings("ngram", 8, 1.0), &settings("eagle", 8, 1.0), 2, 20);
    assert_eq!(
        state.update(Msg::Engine(CompareEvent::Failed("no more".into()))),
        [Effect::Leave(Some("no more".into()))]
    );
    let gone = state.update(Msg::EngineGone(Some("it\nfell".into())));
    assert_eq!(gone, [Effect::Leave(Some("the engine stopped: it fell".into()))]);
    state.update(Msg::Engine(CompareEvent::Refused("prompt 3: too long".into())));
    assert!(screen(&state, 80, 24).contains("prompt 3: too long") && state.ages());
    state.update(Msg::Tick(Duration::from_secs(60)));
    assert!(!screen(&state, 80, 24).contains("prompt 3: too long") && !state.ages());
    state.update(Msg::Engine(CompareEvent::Done));
    assert_eq!(state.phase, Phase::Finished);
    assert!(screen(&state, 80, 24).contains("finished"));
    // A prompt that runs again is counted once.
    let positions = state.outcomes.positions;
    state.update(Msg::Engine(CompareEvent::Began(1)));
    state.update(Msg::Engine(CompareEvent::Done));
    assert!(state.outcomes.positions < positions);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_size_and_any_news_can_be_drawn(
        width in 1u16..220, height in 1u16..70, length in 1usize..60, prompts in 1usize..4, ascii in any::<bool>(), greedy in any::<bool>(),
        lane in 0usize..5,
    ) {
        let (a, b) = (settings("ngram", 8, 1.0), settings("eagle", 8, if greedy { 0.0 } else { 1.0 }));
        let mut state = running(&a, &b, prompts, length);
        // Events that no engine sends must do no harm.
        let made = step(&Script::new(3).step(&a), 7, 0, &[(1, "\u{1b}[2J日".to_owned())], &a);
        state.update(Msg::Engine(CompareEvent::Step(lane, Box::new(made))));
        state.update(Msg::Engine(CompareEvent::Began(99)));
        let buffer = drawn(&state, &theme("mono", ascii), width, height);
        let escapes = text(&buffer).contains('\u{1b}');
        prop_assert!(!escapes);
        prop_assert!(!ascii || text(&buffer).is_ascii());
    }
}
