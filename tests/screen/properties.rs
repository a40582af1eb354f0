//! Properties of every screen.

use std::sync::Arc;

use proptest::prelude::*;
use speclight::engine::Event;
use speclight::telemetry::{
    BudgetChoice, BudgetReason, Ceilings, CutNode, EntropyClassBound, FluidBound, Interval,
    OracleResult, OracleSearchState, OracleTree, ReachedIntervals, StepRecord, TreeRecord,
};
use speclight::tui::views::target;
use speclight::tui::{Direction, Msg, Pane, State, TreeForm, View, update};
use unicode_width::UnicodeWidthStr;

use crate::script::{Script, settings};
use crate::{drawn, key_of, running, text, theme};

const SEARCH_STATES: &[OracleSearchState] = &[
    OracleSearchState::Refining,
    OracleSearchState::Converged,
    OracleSearchState::Ended,
    OracleSearchState::BrokenOff,
];
const KEYS: &[&str] = &[
    "space",
    ".",
    "d",
    "D",
    "s",
    "+",
    "-",
    "t",
    "T",
    "g",
    "n",
    "p",
    "e",
    "r",
    "Tab",
    "z",
    "c",
    "?",
    "Left",
    "Right",
    "Up",
    "Down",
    "PgUp",
    "End",
    "Esc",
    "Enter",
    "x",
    "l",
    "m",
    "o",
    "b",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "/",
    "N",
    "G",
    ":",
    "<",
    ">",
    "w",
    "Home",
    "Shift-Tab",
    "Backspace",
    "3",
    "H",
    "u",
];

fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        Just("\u{1b}[2J\u{1b}]0;title\u{7}".to_owned()),
        Just("\u{202e}gnp.exe\u{2066}".to_owned()),
        Just("\u{9b}31m\u{90}\u{9c}".to_owned()),
        Just("e\u{301}\u{302}\u{303}\u{304}\u{305}".to_owned()),
        Just("👩\u{200d}👩\u{200d}👧🇩🇪👍🏽".to_owned()),
    ]
}

/// Replaces every text of a record by hostile ones.
fn poison(record: &StepRecord, texts: &[String]) -> StepRecord {
    let pick = |i: usize| texts[i % texts.len()].clone();
    let mut record = record.clone();
    record.tree.text = (0..record.tree.text.len()).map(pick).collect();
    record.emitted_text = (0..record.emitted_text.len()).map(pick).collect();
    record.bonus_text = pick(1);
    record.tree.cut =
        (0..3).map(|i| CutNode { parent: i, token: 7, text: pick(i), q: 0.5 }).collect();
    if let Some(miss) = &mut record.miss {
        miss.text = pick(2);
        let lists = miss.target_best.iter_mut().chain(&mut miss.draft_best);
        lists.enumerate().for_each(|(i, best)| best.text = pick(i));
    }
    record
}

/// Checks that every symbol on the screen is printable and no wide one is cut.
fn check(state: &State, width: u16, height: u16, ascii: bool) -> Result<(), TestCaseError> {
    let buffer = drawn(state, &theme(if ascii { "mono" } else { "dark" }, ascii), width, height);
    for y in 0..height {
        for x in 0..width {
            let symbol = buffer[(x, y)].symbol();
            let bad = symbol.chars().any(|c| {
                c.is_control() || matches!(u32::from(c), 0x200b..=0x200f | 0x2028..=0x202f | 0x2060..=0x206f | 0xfe00..=0xfe0f | 0xfeff | 0xe0000..=0xe0fff)
            });
            prop_assert!(
                !bad && (!ascii || symbol.is_ascii()),
                "{:?} at {},{} of {}x{}",
                symbol,
                x,
                y,
                width,
                height
            );
            prop_assert!(
                usize::from(x) + symbol.width() <= usize::from(width),
                "{:?} is cut at {},{}",
                symbol,
                x,
                y
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn no_state_at_no_size_panics_and_no_text_is_obeyed(
        seed in any::<u64>(), steps in 0usize..40, budget in 1usize..70, greedy in any::<bool>(), chain in any::<bool>(),
        keys in prop::collection::vec(prop::sample::select(KEYS), 0..12), texts in prop::collection::vec(hostile(), 1..6),
        sizes in prop::collection::vec((1u16..300, 1u16..100), 3), ascii in any::<bool>(),
    ) {
        let mut state = State::new(3);
        let mut s = settings(if budget % 5 == 0 { "none" } else { "early-exit" }, budget, if greedy { 0.0 } else { 0.9 });
        if chain {
            s.shape = speclight::draft::Shape::Chain;
        }
        for event in Script::new(seed).events(&s, steps) {
            let event = match event {
                Event::Step(record) => Event::Step(Arc::new(poison(&record, &texts))),
                Event::OracleSearched { prompt_id, step, result, curve, tree, systematic } => {
                    let tree = tree.map(|tree| {
                        let mut tree = (*tree).clone();
                        tree.text.iter_mut().zip(texts.iter().cycle()).for_each(|(own, text)| own.clone_from(text));
                        Arc::new(tree)
                    });
                    Event::OracleSearched { prompt_id, step, result, curve, tree, systematic }
                }
                Event::Ready { info, settings } => {
                    let mut info = (*info).clone();
                    info.model.clone_from(&texts[0]);
                    info.prompts = texts.clone();
                    Event::Ready { info: Arc::new(info), settings }
                }
                Event::PromptStarted { index, id, tokens, prefill_seconds, .. } => {
                    Event::PromptStarted { index, id, prompt: texts.concat(), tokens, prefill_seconds }
                }
                other => other,
            };
            update(&mut state, Msg::Engine(event));
        }
        for key in keys {
            update(&mut state, Msg::Key(key_of(key)));
            update(&mut state, Msg::Paste(texts[0].clone()));
        }
        update(&mut state, Msg::Engine(Event::Refused(texts.concat())));
        for (width, height) in sizes {
            check(&state, width, height, ascii)?;
            let area = ratatui::layout::Rect::new(0, 0, width, height);
            for (x, y) in [(0, 0), (width / 2, height / 2), (width - 1, height - 1), (width / 3, height.saturating_sub(2))] {
                let over = target(&state, &theme("dark", false), area, x, y);
                update(&mut state, Msg::Click(over));
                update(&mut state, Msg::Wheel(Direction::Back, over));
            }
            check(&state, width, height, ascii)?;
        }
    }

    #[test]
    fn records_that_make_no_sense_do_not_panic(
        parents in prop::collection::vec(prop::option::of(0usize..9), 0..9), path in prop::collection::vec(0usize..12, 0..5),
        accepted in 0usize..200, p in prop::collection::vec(prop::num::f64::ANY, 0..9), expected in prop::num::f64::ANY, budget in 0usize..300,
        cut in prop::collection::vec((any::<usize>(), 0usize..20), 0..9),
    ) {
        let mut state = running(&settings("ngram", 4, 1.0), 2);
        let mut record = (*Script::new(1).step(&settings("ngram", 4, 1.0))).clone();
        record.tree = TreeRecord { tokens: vec![0; parents.len()], parents, p: p.clone(), p_plain: p.clone(), q: p, ..TreeRecord::default() };
        let node = |(any, near): (usize, usize)| CutNode { parent: if any % 5 == 0 { any } else { near }, q: expected, ..CutNode::default() };
        record.tree.cut = cut.into_iter().map(node).collect();
        record.overlap.iter_mut().for_each(|o| (o.p_argmax, o.overlap) = (expected, -expected));
        (record.path, record.accepted, record.expected_accepted) = (path, accepted, expected);
        record.settings.budget = budget;
        record.ceilings.renewal = Some(expected);
        record.time.draft = expected;
        record.entropy.iter_mut().for_each(|e| e.sampled.entropy = expected);
        for _ in 0..3 {
            update(&mut state, Msg::Engine(Event::Step(Arc::new(record.clone()))));
        }
        let result = OracleResult {
            oracle_lower: expected, oracle_upper: expected, oracle_floor: expected, passes: 1, drafter_best: Some(expected),
            state: OracleSearchState::Converged,
        };
        let numbers = record.tree.p.clone();
        let tree = OracleTree {
            tokens: (0..accepted as u32).collect(), text: Vec::new(), parents: record.path.clone(), p: numbers,
        };
        let (prompt_id, step) = (record.prompt_id.clone(), record.step);
        let searched = Event::OracleSearched { prompt_id, step, result, curve: None, tree: Some(Arc::new(tree)), systematic: true };
        update(&mut state, Msg::Engine(searched));
        for view in View::ALL {
            for (form, oracle) in [(TreeForm::Icicle, false), (TreeForm::Graph, false), (TreeForm::Table, false), (TreeForm::Icicle, true)] {
                (state.view, state.tree_form, state.oracle_tree) = (view, form, oracle);
                for (width, height) in [(40, 12), (80, 24), (120, 40), (200, 60)] {
                    check(&state, width, height, false)?;
                }
            }
        }
    }

    #[test]
    fn ceilings_looks_and_misses_that_make_no_sense_do_not_panic(
        numbers in prop::collection::vec(prop_oneof![prop::num::f64::ANY, -3.0f64..40.0], 16), depth in any::<usize>(),
        rank in any::<usize>(), budget in 0usize..300, steps in 1usize..40, keys in prop::collection::vec(prop::sample::select(KEYS), 0..6),
        auto in any::<bool>(), searched in prop::sample::select(SEARCH_STATES), texts in prop::collection::vec(hostile(), 1..4), ascii in any::<bool>(),
    ) {
        let n = |i: usize| numbers[i % numbers.len()];
        let mut state = running(&settings("ngram", 8, 1.0), 30);
        let between = |i: usize| Some(Interval { low: n(i), high: n(i + 1) });
        for step in 0..steps {
            let mut record = (*Script::new(step as u64).step(&settings("ngram", 8, 1.0))).clone();
            record.step = 100 + step;
            (record.settings.budget, record.settings.auto) = (budget, auto);
            record.expected_accepted = n(step);
            (record.mu, record.mu2) = (n(1), n(2));
            record.ceilings = Ceilings {
                batch: n(3), published: Some(n(4)), renewal: Some(n(5)), renewal_tuned: Some(n(6)), fluid: Some(n(7)), fluid_floor: Some(n(8)), fluid_at_mean: Some(n(7)),
            };
            record.reached = Some(ReachedIntervals {
                steps: rank, expected: between(9), fluid: between(11), share: between(13), expected_mean: Some(n(2)), share_mean: Some(n(12)),
            });
            record.choice = Some(BudgetChoice {
                drafted: rank, kept: depth % 500, expected: n(0), tokens_per_second: n(1), plain_tokens_per_second: n(2), reason: BudgetReason::Cut,
            });
            if let Some(miss) = &mut record.miss {
                (miss.depth, miss.rank, miss.p, miss.pi, miss.q, miss.draft_rank) = (depth, rank, n(4), n(5), Some(n(6)), Some(rank));
                miss.text.clone_from(&texts[step % texts.len()]);
            }
            let result = OracleResult {
                oracle_lower: n(8), oracle_upper: n(9), oracle_floor: n(10), passes: rank, drafter_best: Some(n(11)), state: searched,
            };
            let searched = Event::OracleSearched { prompt_id: record.prompt_id.clone(), step: record.step, result, curve: None, tree: None, systematic: rank % 2 == 0 };
            update(&mut state, Msg::Engine(Event::Step(Arc::new(record))));
            update(&mut state, Msg::Engine(searched));
        }
        let kinds = (0..3).map(|i| EntropyClassBound { entropy_from: n(i), share: n(i + 1), mu: n(i + 2), fluid: Some(n(i + 3)) }).collect();
        let fluid = FluidBound { positions: rank, curve: numbers.clone(), kinds };
        update(&mut state, Msg::Engine(Event::Fluid(Arc::new(fluid))));
        for selected in [false, true] {
            if selected {
                update(&mut state, Msg::Key(key_of("space")));
                update(&mut state, Msg::Engine(Event::Paused));
                update(&mut state, Msg::Key(key_of("Left")));
            }
            for pane in Pane::ALL {
                state.focus = pane;
                for (width, height) in [(40, 12), (40, 50), (80, 24), (120, 40), (200, 60)] {
                    check(&state, width, height, ascii)?;
                }
                state.zoom = true;
                check(&state, 90, 33, ascii)?;
                state.zoom = false;
            }
        }
        for key in keys {
            update(&mut state, Msg::Key(key_of(key)));
        }
        check(&state, 80, 24, ascii)?;
    }

    #[test]
    fn the_same_state_is_the_same_screen(seed in any::<u64>()) {
        let mut state = State::new(1);
        for event in Script::new(seed).events(&settings("ngram", 16, 1.0), 10) {
            update(&mut state, Msg::Engine(event));
        }
        prop_assert_eq!(drawn(&state, &theme("dark", false), 100, 30), drawn(&state, &theme("dark", false), 100, 30));
    }
}

#[test]
fn all_of_it_is_on_a_screen_of_80_by_24() {
    for (budget, temperature) in [(2, 1.0), (4, 0.0), (16, 1.0), (16, 0.0), (64, 0.6), (128, 1.0)] {
        let mut state = running(&settings("early-exit", budget, temperature), 50);
        let view = |state: &State| text(&drawn(state, &theme("dark", false), 80, 24));
        let mut screen = view(&state);
        crate::press(&mut state, &["4"]);
        for _ in 0..16 {
            screen += &view(&state);
            crate::press(&mut state, &["Tab"]);
        }
        for name in [
            "SmolLM2-135M-Instruct",
            "Q4_1",
            "cpu",
            "early-exit",
            "best-first",
            " text ",
            " tree ",
            " entropy ",
            " accepted ",
            " speed ",
            "of the speed of light",
            "light ",
            "μ",
            "% steps",
            "% accept",
            "by step",
            "now",
            "mean",
            "plain decoding",
            "draft",
            "verify",
            "other",
            "quit",
        ] {
            assert!(
                screen.contains(name),
                "{name} is not on the screen at budget {budget}, temperature {temperature}:\n{screen}"
            );
        }
        assert!(screen.contains('★') || screen.contains("more levels below"), "{screen}");
        let greedy = temperature == 0.0;
        let mut state = running(&settings("early-exit", budget, temperature), 50);
        crate::press(&mut state, &["u"]);
        let per_step = text(&drawn(&state, &theme("dark", false), 80, 24));
        assert!(per_step.contains(" gauge ") && per_step.contains("E[X|T]"), "{per_step}");
        assert_eq!(per_step.contains("greedy: ceiling B"), greedy, "{per_step}");
        assert!(screen.contains(&format!("B {budget}")));
    }
}

#[test]
fn a_stopped_step_tells_fates_apart_without_color() {
    // Glyphs alone must tell accepted, rejected, unreached and bonus tokens apart.
    let screen = |steps| {
        text(&drawn(
            &running(&settings("early-exit", 16, 1.0), steps),
            &theme("mono", false),
            120,
            40,
        ))
    };
    let all = |screen: &String| {
        ["│✓ ", "│✗ ", "│· ", "│★ ", "● "].iter().all(|glyph| screen.contains(glyph))
    };
    assert!((60..80).map(screen).any(|screen| all(&screen)), "no step of them shows all fates");
}

#[test]
fn a_token_without_text_is_shown_by_its_name() {
    let mut state = running(&settings("ngram", 4, 1.0), 2);
    let mut record = (*Script::new(1).step(&settings("none", 1, 1.0))).clone();
    record.bonus_text = "<|im_end|>".into();
    *record.emitted_text.last_mut().unwrap() = String::new();
    update(&mut state, Msg::Engine(Event::Step(Arc::new(record))));
    state.focus = Pane::Steps;
    let shown = |state: &State| {
        text(&drawn(state, &theme("dark", false), 120, 40)).matches("<|im_end").count()
    };
    assert_eq!(
        shown(&state),
        2,
        "in the tree and in the table of steps, and not in the text:\n{}",
        text(&drawn(&state, &theme("dark", false), 120, 40))
    );
}

#[test]
fn what_an_automatic_budget_chose_is_said() {
    let reasons = [
        (BudgetReason::Whole, "auto: all 12: 90.5 tok/s, plain 60.0"),
        (BudgetReason::Cut, "auto: verifies 9 of 12: 90.5 tok/s, plain 60.0"),
        (BudgetReason::NotWorth, "auto: none of 12 verified, too slow"),
        (BudgetReason::NothingDrafted, "auto: nothing drafted"),
        (BudgetReason::Resting, "auto: back-off, drafting was slower"),
    ];
    for (reason, words) in reasons {
        let mut state = running(&settings("ngram", 64, 1.0), 2);
        let mut record = (*Script::new(1).step(&settings("ngram", 64, 1.0))).clone();
        let (tokens_per_second, plain_tokens_per_second) = (90.5, 60.0);
        let kept = if reason == BudgetReason::Cut { 9 } else { 12 };
        record.choice = Some(BudgetChoice {
            drafted: 12,
            kept,
            expected: 1.5,
            tokens_per_second,
            plain_tokens_per_second,
            reason,
        });
        update(&mut state, Msg::Engine(Event::Step(Arc::new(record))));
        crate::press(&mut state, &["4"]);
        let screen = text(&drawn(&state, &theme("dark", false), 120, 40));
        assert!(screen.contains(words), "{screen}");
    }
}
