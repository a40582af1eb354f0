//! The screen over a server without a terminal.

use std::time::Duration;

use insta::assert_snapshot;
use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use speclight::attach::earlier::EarlierProbe;
use speclight::attach::estimate::{ChainMark, Drawn, Estimates, Position, Scored};
use speclight::attach::{Event, Identity, OmittedSampling, ServerKind, Step, Tally, Window};
use speclight::theory::intervals::{Estimate, Interval};
use speclight::tui::theme::Theme;
use speclight::tui::{Attached, Effect, Msg, Screen};

use crate::{key_of, text, theme};

fn drawn(state: &Attached, theme: &Theme, width: u16, height: u16) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    speclight::tui::views::draw_attached(state, theme, area, &mut buffer);
    buffer
}

fn screen(state: &Attached, width: u16, height: u16) -> String {
    text(&drawn(state, &theme("dark", false), width, height))
}

fn identity() -> Identity {
    Identity { vocabulary: Some(1000), budget: Some(4), ..Identity::default() }
}

/// A probe of so many texts, each of 20 steps.
fn probed(texts: usize, temperature: f64) -> Attached {
    let tally = Tally::new(&identity(), temperature);
    let plan = Some("will send at most 48 requests, for at most 640 tokens".to_owned());
    let server =
        "llama-server at http://127.0.0.1:8080, model SmolLM2-135M-Instruct, B 4".to_owned();
    let mut state = Attached::new(server, plan, 16, tally, 3);
    for index in 0..texts {
        state.update(Msg::Tick(Duration::from_secs(index as u64)));
        state.update(Msg::Engine(Event::TextStarted { id: index.to_string(), index }));
        for step in 0..20 {
            let accepted = (step * 7 + index) % 4;
            let step = Step {
                prompt_id: index.to_string(),
                step,
                start: 1,
                accepted: Some(accepted),
                drafted: Some(3),
                emitted: accepted + 1,
                seconds: Some(0.02),
                exact: step != 13,
            };
            state.update(Msg::Engine(Event::Step(step)));
        }
        let position = |i: usize| {
            Position::new(
                [0.6, 0.2],
                Some(Drawn { surprisal: 5.0, in_top: !(i + index).is_multiple_of(5) }),
            )
        };
        let chain = |i: usize| ChainMark { reached: i % 4, at_drafted: i % 4, accepted: i % 3 };
        let scored = Scored {
            positions: (0..30).map(position).collect(),
            chains: (0..20).map(chain).collect(),
        };
        state.update(Msg::Engine(Event::Scored(Box::new(scored))));
        state.update(Msg::Engine(Event::TextEnded { tokens: 50 }));
    }
    state
}

/// Figures of an earlier probe, of 4,000 tokens.
fn earlier() -> EarlierProbe {
    let estimate = |value: f64| {
        let interval = Some(Interval { low: 0.9 * value, high: 1.2 * value });
        Some(Estimate { value, interval })
    };
    EarlierProbe {
        ended: 1_790_000_000,
        tokens: 4000,
        texts: 16,
        temperature: 1.0,
        top_p: 1.0,
        budget: Some(4),
        estimates: Estimates {
            positions: 1000,
            mu: estimate(1.5),
            mu2: estimate(6.1),
            renewal_tuned: estimate(2.6),
            fluid: estimate(1.9),
            chain: estimate(1.7),
            ..Estimates::default()
        },
    }
}

fn watched(readings: usize, earlier: Option<EarlierProbe>) -> Attached {
    let server = "vllm at http://gpu:8000, version 0.32.0, model llama, B 4".to_owned();
    let tally = Tally::new(&identity(), 1.0).beside(earlier);
    let mut state = Attached::new(server, None, 0, tally, 3).for_engine(ServerKind::Vllm);
    for i in 0..readings {
        let window = Window {
            seconds: 2.0,
            drafted_steps: Some(100.0),
            drafted: Some(300.0),
            accepted: Some(140.0 + i as f64),
            accepted_mean: Some(1.4 + 0.01 * i as f64),
            drafted_mean: Some(3.0),
            acceptance_by_depth: vec![0.7, 0.6, 0.66],
            depth_is_lower_bound: true,
            tokens_per_second: Some(240.0),
            running: Some(2.0),
            budget: Some(4),
            ..Window::default()
        };
        state.update(Msg::Engine(Event::Interval(Box::new(window.clone()))));
        state.update(Msg::Engine(Event::Window(Box::new(window))));
    }
    state
}

#[test]
fn servers_at_every_size() {
    let probe = probed(8, 1.0);
    for (width, height) in [(40, 12), (80, 24), (120, 40)] {
        assert_snapshot!(format!("attach_probe_{width}x{height}"), screen(&probe, width, height));
    }
    assert_snapshot!("attach_watch_120x40", screen(&watched(5, None), 120, 40));
    let ascii = text(&drawn(&probe, &theme("mono", true), 100, 30));
    assert!(ascii.is_ascii());
}

#[test]
fn what_cannot_be_known_is_said() {
    let early = screen(&probed(0, 1.0), 120, 40);
    assert!(
        early.contains("probing")
            && early.contains("will send at most 48 requests")
            && early.contains("no step yet")
    );
    assert!(early.contains("not from outside"));
    let watch = screen(&watched(0, None), 120, 40);
    assert!(watch.contains("watching") && watch.contains("reads counters only"), "{watch}");
    let greedy = screen(&probed(8, 0.0), 120, 40);
    assert!(greedy.contains("greedy: reference T 1"), "{greedy}");
}

#[test]
fn an_earlier_probe_stands_apart() {
    let state = watched(5, Some(earlier()));
    for (width, height) in [(80, 24), (120, 40)] {
        let shown = screen(&state, width, height);
        // The date is in local time.
        let shown = shown.replace(&earlier().local_date(), "2026-09-21 14:13");
        assert_snapshot!(format!("attach_earlier_{width}x{height}"), shown);
    }
    let small = screen(&state, 40, 12);
    assert!(small.contains("accepted"), "{small}");
}

#[test]
fn brackets_take_the_place_of_estimates() {
    let mut state = probed(8, 1.0);
    let before = screen(&state, 80, 24);
    assert!(before.contains("estimated, 240 positions") && !before.contains(" to "), "{before}");
    state.update(Msg::Key(key_of("b")));
    let after = screen(&state, 80, 24);
    assert!(after.contains("brackets: hold without an estimate") && after.contains(" to "));
    // Distributions of other sampling parameters have no estimate at all.
    let omitted = OmittedSampling { temperature: 0.7, top_p: 0.95 };
    let tally = Tally::new(&identity(), 0.7).omitting(omitted, &identity());
    let mut state = Attached::new("vllm".into(), Some("plan".into()), 1, tally, 1);
    let positions = vec![Position::new([0.5, 0.2], None); 9];
    state.update(Msg::Engine(Event::Scored(Box::new(Scored { positions, chains: Vec::new() }))));
    state.update(Msg::Engine(Event::TextEnded { tokens: 9 }));
    let only = screen(&state, 80, 24);
    assert!(only.contains("brackets: hold without an estimate"), "{only}");
}

#[test]
fn every_term_of_the_screen_is_explained() {
    let mut state = probed(8, 1.0);
    state.update(Msg::Key(key_of("?")));
    for (width, height) in [(80, 24), (120, 40)] {
        let shown = screen(&state, width, height);
        for term in ["mu, mu2", "fluid", "oracle chain", "v/c", "bracket", "at least"] {
            assert!(shown.contains(term), "{term}: {shown}");
        }
    }
    state.update(Msg::Key(key_of("Esc")));
    assert!(!screen(&state, 80, 24).contains("? or Esc closes"));
}

#[test]
fn keys_leave_and_errors_end_in_one_line() {
    let mut state = probed(1, 1.0);
    state.update(Msg::Engine(Event::Notice("counters fell\u{1b}[31m".into())));
    assert!(screen(&state, 120, 40).contains("counters fell␛[31m"));
    assert_eq!(state.update(Msg::Key(key_of("c"))), []);
    assert_eq!(state.theme, 1);
    assert_eq!(state.update(Msg::Key(key_of("q"))), [Effect::Leave(None)]);
    assert_eq!(state.update(Msg::Key(key_of("Ctrl-C"))), [Effect::Leave(None)]);
    assert_eq!(
        state.update(Msg::Engine(Event::Failed("gone".into()))),
        [Effect::Leave(Some("gone".into()))]
    );
    assert!(state.ages());
    state.update(Msg::Engine(Event::Finished));
    assert!(!state.ages() && screen(&state, 80, 24).contains("finished"));
    assert_eq!(state.update(Msg::EngineGone(None)), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_size_and_any_numbers_can_be_drawn(
        width in 1u16..220, height in 1u16..70, texts in 0usize..6, ascii in any::<bool>(),
        number in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), -1e12f64..1e12], depths in 0usize..90
    ) {
        let mut state = probed(texts, 1.0);
        let some = Some(number);
        let window = Window {
            seconds: number, accepted_mean: some, acceptance_by_depth: vec![number; depths], tokens_per_step: some, step_seconds: some,
            tokens_per_second: some, undrafted_share: some, running: some, budget: Some(depths + 1), ..Window::default()
        };
        if depths % 2 == 1 {
            state.plan = None;
        }
        state.update(Msg::Engine(Event::Interval(Box::new(window.clone()))));
        state.update(Msg::Engine(Event::Window(Box::new(window))));
        let shown = text(&drawn(&state, &theme("mono", ascii), width, height));
        prop_assert!(!ascii || shown.is_ascii());
    }
}
