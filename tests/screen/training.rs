//! Screen of a training run, without a terminal.

use std::time::Duration;

use insta::assert_snapshot;
use proptest::prelude::*;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use speclight::telemetry::SpeedOfLight;
use speclight::train::{DraftPerformance, HeldOutMetrics, TrainEvent, TrainReport};
use speclight::tui::theme::Theme;
use speclight::tui::{Effect, Msg, Screen, Stage, Training};

use crate::{key_of, text, theme};

fn drawn(state: &Training, theme: &Theme, width: u16, height: u16) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    speclight::tui::views::draw_training(state, theme, area, &mut buffer);
    buffer
}

fn screen(state: &Training, width: u16, height: u16) -> String {
    text(&drawn(state, &theme("dark", false), width, height))
}

/// Builds step `step` of `steps`, with a falling loss that is evaluated every hundred steps.
fn step(step: usize, steps: usize) -> TrainEvent {
    let done = step as f64 / steps as f64;
    let loss = 2.0 + 4.0 * (-4.0 * done).exp();
    let held_out = step.is_multiple_of(100).then(|| HeldOutMetrics {
        loss: (0..4).map(|d| loss + 0.2 + 0.15 * f64::from(d)).collect(),
        acceptance: (0..4)
            .map(|d| 0.55 * done.sqrt() - 0.02 * f64::from(d))
            .map(|x| x.max(0.0))
            .collect(),
        accepted: 1.2 * done.sqrt(),
    });
    let drafted = held_out.as_ref().map(|_| DraftPerformance {
        greedy_tokens_per_step: 1.5 + 1.5 * done,
        expected_accepted: 0.3 + 0.6 * done,
        fluid: Some(1.7),
        speed_of_light: SpeedOfLight { share: Some(0.2 + 0.3 * done), ..SpeedOfLight::default() },
    });
    let report = TrainReport {
        step,
        steps,
        loss,
        rate: 7e-4 * (1.0 - done),
        norm: 3.25,
        tokens: 1000 * step,
        seconds: step as f64 * 1.5,
        held_out,
    };
    TrainEvent::Step(Box::new(report), drafted.map(Box::new))
}

fn training(to: usize, steps: usize) -> Training {
    let mut state = Training::new("SmolLM2-135M-Instruct".into(), "my-head.gguf".into(), 3);
    state.update(Msg::Engine(TrainEvent::Training { texts: 2120, tokens: 600_000 }));
    for i in 1..=to {
        state.update(Msg::Tick(Duration::from_millis(1500 * i as u64)));
        state.update(Msg::Engine(step(i, steps)));
    }
    state
}

#[test]
fn training_at_every_size() {
    let state = training(640, 1000);
    for (width, height) in [(40, 12), (80, 24), (120, 40), (200, 60)] {
        assert_snapshot!(format!("training_{width}x{height}"), screen(&state, width, height));
    }
    let ascii = text(&drawn(&state, &theme("mono", true), 80, 24));
    assert!(ascii.is_ascii());
    assert_snapshot!("training_ascii_80x24", ascii);
}

#[test]
fn it_says_how_far_it_is() {
    let mut state = Training::new("model".into(), "head.gguf".into(), 3);
    assert!(screen(&state, 80, 24).contains("loading") && state.left().is_none());
    state.update(Msg::Engine(TrainEvent::Writing { tokens: 1000, of: 4000, rate: 50.0 }));
    let shown = screen(&state, 80, 24);
    assert!(
        shown.contains("writing texts")
            && shown.contains("1000 of 4000 tokens, 25%")
            && shown.contains("1 min 00 s left"),
        "{shown}"
    );
    let mut state = training(200, 1000);
    let shown = screen(&state, 120, 40);
    // 800 steps at 1.5 seconds each.
    assert!(shown.contains("200 of 1000 steps, 20%, 20 min 00 s left"), "{shown}");
    assert!(
        shown.contains("held out step 200")
            && shown.contains("1.80 tokens/step")
            && shown.contains("25% of fluid"),
        "{shown}"
    );
    state.update(Msg::Engine(TrainEvent::Finished));
    assert!(screen(&state, 80, 24).contains("finished") && !state.ages());
    assert_eq!(state.update(Msg::EngineGone(None)), [], "the person may look as long as they like");
    assert_eq!(state.update(Msg::Key(key_of("q"))), [Effect::Leave(None)]);
}

#[test]
fn what_ends_it_is_told_in_one_line() {
    let mut state = training(3, 10);
    assert_eq!(
        state.update(Msg::Engine(TrainEvent::Failed("no room".into()))),
        [Effect::Leave(Some("no room".into()))]
    );
    let gone = state.update(Msg::EngineGone(Some("it\nfell".into())));
    assert_eq!(gone, [Effect::Leave(Some("training stopped: it fell".into()))]);
    assert_eq!(state.stage, Stage::Training);
    let before = state.theme;
    assert_eq!(state.update(Msg::Key(key_of("c"))), []);
    assert_ne!(state.theme, before);
    assert_eq!(state.update(Msg::Key(key_of("Ctrl-C"))), [Effect::Leave(None)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_size_and_any_numbers_can_be_drawn(
        width in 1u16..220, height in 1u16..70, steps in 1usize..300, ascii in any::<bool>(),
        loss in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), 0.0f64..1e12], depths in 0usize..9
    ) {
        let mut state = training(steps, steps);
        let figures = HeldOutMetrics { loss: vec![loss; depths], acceptance: vec![loss; depths], accepted: loss };
        let drafted = DraftPerformance { greedy_tokens_per_step: loss, expected_accepted: loss, fluid: Some(loss), speed_of_light: SpeedOfLight { share: Some(loss), ..SpeedOfLight::default() } };
        let report = TrainReport { step: 0, steps: 0, loss, rate: loss, norm: loss, tokens: 0, seconds: loss, held_out: Some(figures) };
        state.update(Msg::Engine(TrainEvent::Step(Box::new(report), Some(Box::new(drafted)))));
        let shown = text(&drawn(&state, &theme("mono", ascii), width, height));
        prop_assert!(!ascii || shown.is_ascii());
    }
}
