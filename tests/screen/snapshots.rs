//! Snapshots of the screens.

use std::sync::Arc;

use insta::assert_snapshot;
use ratatui::buffer::Buffer;
use ratatui::style::Style;
use speclight::engine::Event;
use speclight::telemetry::{CutNode, Ending, StepSettings};
use speclight::tui::{Msg, State, update};
use speclight::verify::Rule;

use crate::script::{Script, settings};
use crate::{drawn, press, running, text, theme};

fn screen(state: &State, width: u16, height: u16) -> String {
    text(&drawn(state, &theme("dark", false), width, height))
}

/// Formats the styles of a buffer as letters in order of appearance, with a key.
pub fn styles(buffer: &Buffer) -> String {
    let mut known: Vec<Style> = Vec::new();
    let mut out = String::new();
    for y in 0..buffer.area.height {
        for x in 0..buffer.area.width {
            let style = buffer[(x, y)].style();
            let i = known.iter().position(|s| *s == style).unwrap_or_else(|| {
                known.push(style);
                known.len() - 1
            });
            out.push(char::from(
                b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[i.min(51)],
            ));
        }
        out.push('\n');
    }
    for (i, s) in known.iter().enumerate() {
        let letter = char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[i.min(51)]);
        out.push_str(&format!("{letter}: {:?} on {:?} {:?}\n", s.fg, s.bg, s.add_modifier));
    }
    out
}

#[test]
fn sampled_at_all_sizes() {
    let state = running(&settings("early-exit", 16, 1.0), 70);
    for (width, height) in [(40, 12), (40, 50), (80, 24), (120, 40), (200, 60)] {
        assert_snapshot!(format!("sampled_{width}x{height}"), screen(&state, width, height));
    }
}

#[test]
fn colors() {
    let state = running(&settings("early-exit", 16, 1.0), 70);
    assert_snapshot!("colors_80x24", styles(&drawn(&state, &theme("dark", false), 80, 24)));
}

#[test]
fn monochrome_in_ascii() {
    let state = running(&settings("early-exit", 16, 1.0), 70);
    let buffer = drawn(&state, &theme("mono", true), 80, 24);
    assert!(text(&buffer).is_ascii());
    assert_snapshot!("mono_ascii_80x24", text(&buffer));
    assert_snapshot!("mono_ascii_styles_80x24", styles(&buffer));
}

#[test]
fn greedy() {
    assert_snapshot!("greedy_80x24", screen(&running(&settings("early-exit", 8, 0.0), 40), 80, 24));
}

#[test]
fn plain_decoding() {
    assert_snapshot!("plain_80x24", screen(&running(&settings("none", 1, 1.0), 40), 80, 24));
}

#[test]
fn sampled_trees_report_only_the_batch_ceiling() {
    let settings = StepSettings {
        verify: Rule::Rejection,
        shape: speclight::draft::Shape::Chain,
        ..settings("early-exit", 8, 1.0)
    };
    let mut state = running(&settings, 40);
    for (width, height) in [(40, 12), (80, 24), (120, 40)] {
        assert_snapshot!(format!("drawn_{width}x{height}"), screen(&state, width, height));
    }
    press(&mut state, &["l"]);
    assert_snapshot!("drawn_ladder_80x24", screen(&state, 80, 24));
}

#[test]
fn sampled_trees_have_the_ceiling_of_the_rule() {
    let settings = StepSettings {
        verify: Rule::Rejection,
        shape: "fixed".parse().unwrap(),
        ..settings("early-exit", 8, 1.0)
    };
    let mut state = running(&settings, 40);
    press(&mut state, &["l", "l"]);
    for (width, height) in [(40, 12), (80, 24), (120, 40)] {
        assert_snapshot!(format!("drawn_curve_{width}x{height}"), screen(&state, width, height));
    }
    press(&mut state, &["l", "z"]);
    assert_snapshot!("drawn_misses_80x24", screen(&state, 80, 24));
}

#[test]
fn nodes_that_the_budget_cut_are_shown_dimmed() {
    let settings = StepSettings { auto: true, ..settings("early-exit", 8, 1.0) };
    let mut state = running(&settings, 5);
    let mut record = (*Script::new(3).step(&settings)).clone();
    let nodes = record.tree.tokens.len();
    let cut = [(0, " oak"), (2, " leaf"), (nodes, " tree"), (nodes + 2, "s")];
    record.tree.cut = (7..)
        .zip(cut)
        .map(|(token, (parent, text))| CutNode { parent, token, text: text.into(), q: 0.25 })
        .collect();
    update(&mut state, Msg::Engine(Event::Step(Arc::new(record))));
    for (width, height) in [(80, 24), (120, 40)] {
        assert_snapshot!(format!("cut_{width}x{height}"), screen(&state, width, height));
    }
    let buffer = drawn(&state, &theme("mono", true), 120, 40);
    assert_snapshot!("cut_ascii_120x40", text(&buffer));
}

#[test]
fn greedy_misses_show_the_models_own_p() {
    let mut state = running(&settings("early-exit", 8, 0.0), 40);
    press(&mut state, &["l", "l", "l"]);
    assert_snapshot!("greedy_misses_80x24", screen(&state, 80, 24));
}

#[test]
fn a_large_budget_breaks_the_ruler() {
    assert_snapshot!(
        "budget_96_120x40",
        screen(&running(&settings("early-exit", 96, 0.8), 60), 120, 40)
    );
}

#[test]
fn losses_in_turn() {
    let mut state = running(&settings("early-exit", 16, 1.0), 120);
    for pane in ["ladder", "curve", "misses", "calibration"] {
        press(&mut state, &["l"]);
        for (width, height) in [(40, 12), (80, 24)] {
            assert_snapshot!(format!("{pane}_{width}x{height}"), screen(&state, width, height));
        }
        let buffer = drawn(&state, &theme("mono", true), 80, 24);
        assert_snapshot!(format!("{pane}_ascii_80x24"), text(&buffer));
    }
    for (width, height) in [(120, 40), (200, 60)] {
        assert_snapshot!(format!("calibration_{width}x{height}"), screen(&state, width, height));
    }
    state.focus = speclight::tui::Pane::Misses;
    assert_snapshot!("misses_120x40", screen(&state, 120, 40));
}

#[test]
fn the_automatic_budget() {
    let auto = speclight::telemetry::StepSettings { auto: true, ..settings("early-exit", 64, 1.0) };
    let mut state = running(&auto, 60);
    assert_snapshot!("auto_200x60", screen(&state, 200, 60));
    state.focus = speclight::tui::Pane::Speed;
    press(&mut state, &["z"]);
    assert_snapshot!("auto_speed_80x24", screen(&state, 80, 24));
}

#[test]
fn an_older_step() {
    let mut state = running(&settings("early-exit", 16, 1.0), 70);
    press(&mut state, &["space"]);
    update(&mut state, Msg::Engine(Event::Paused));
    press(&mut state, &["Left", "Left", "Left", "Left", "Left"]);
    assert_snapshot!("older_step_120x40", screen(&state, 120, 40));
    assert_snapshot!("older_step_200x60", screen(&state, 200, 60));
}

#[test]
fn changed_settings_are_marked() {
    let mut state = running(&settings("early-exit", 16, 1.0), 30);
    let mut script = Script::new(8);
    press(&mut state, &["-"]);
    assert_snapshot!("wished_80x24", screen(&state, 80, 24));
    update(&mut state, Msg::Engine(Event::Settings(settings("early-exit", 12, 1.0))));
    for _ in 0..9 {
        let step = script.step(&settings("early-exit", 12, 1.0));
        update(&mut state, Msg::Engine(Event::Step(step)));
    }
    assert_snapshot!("changed_80x24", screen(&state, 80, 24));
}

#[test]
fn the_end_of_a_text() {
    let mut state = running(&settings("early-exit", 16, 1.0), 20);
    update(&mut state, Msg::Engine(Event::PromptEnded { ending: Ending::Length }));
    update(&mut state, Msg::Engine(Event::Finished));
    assert_snapshot!("finished_80x24", screen(&state, 80, 24));
}

#[test]
fn before_the_first_step() {
    let mut state = State::new(3);
    assert_snapshot!("starting_80x24", screen(&state, 80, 24));
    let loading = Event::Loading {
        what: "fetching SmolLM2-135M-Instruct from PyPI".into(),
        done: Some(0.37),
    };
    update(&mut state, Msg::Engine(loading));
    assert_snapshot!("loading_40x12", screen(&state, 40, 12));
    assert_snapshot!("loading_80x24", screen(&state, 80, 24));
    assert_snapshot!("ready_80x24", screen(&running(&settings("ngram", 16, 1.0), 0), 80, 24));
}

#[test]
fn overlays() {
    let mut state = running(&settings("early-exit", 16, 1.0), 20);
    press(&mut state, &["?"]);
    assert_snapshot!("help_80x24", screen(&state, 80, 24));
    assert_snapshot!("help_120x40", screen(&state, 120, 40));
    press(&mut state, &["PgDn", "PgDn", "PgDn", "PgDn", "PgDn", "PgDn", "PgDn"]);
    assert_snapshot!("help_end_80x24", screen(&state, 80, 24));
    press(&mut state, &["q", "m"]);
    assert_snapshot!("marks_80x24", screen(&state, 80, 24));
    assert_snapshot!("marks_120x40", screen(&state, 120, 40));
    press(&mut state, &["q", "e"]);
    assert_snapshot!("editor_80x24", screen(&state, 80, 24));
    update(&mut state, Msg::Paste("\u{1b}[2J two\nlines".into()));
    assert_snapshot!("editor_pasted_40x12", screen(&state, 40, 12));
}

#[test]
fn each_pane_zoomed() {
    let mut state = running(&settings("early-exit", 16, 1.0), 70);
    press(&mut state, &["z"]);
    let mut all = String::new();
    for pane in speclight::tui::Pane::ALL {
        state.focus = pane;
        all.push_str(&format!("== {}\n{}", pane.name(), screen(&state, 72, 16)));
    }
    assert_snapshot!("zoomed_72x16", all);
}

#[test]
fn a_notice_takes_the_footer() {
    let mut state = running(&settings("ngram", 16, 1.0), 20);
    update(
        &mut state,
        Msg::Engine(Event::Refused("drafter \"model\": give --draft-model NAME to use it".into())),
    );
    assert_snapshot!(screen(&state, 80, 24).lines().last().unwrap_or_default(), @r#" drafter "model": give --draft-model NAME to use it"#);
}

#[test]
fn too_small() {
    let state = running(&settings("ngram", 16, 1.0), 20);
    assert_snapshot!("too_small_30x5", screen(&state, 30, 5));
}

/// Rows of the speed-of-light bar in every mode.
#[test]
fn the_bar_in_every_mode() {
    let auto = StepSettings { auto: true, ..settings("early-exit", 64, 1.0) };
    let rejection = StepSettings {
        verify: Rule::Rejection,
        shape: speclight::draft::Shape::Chain,
        ..settings("early-exit", 8, 1.0)
    };
    let modes = [
        ("fixed", settings("early-exit", 8, 1.0), 70),
        ("automatic", auto, 70),
        ("greedy", settings("early-exit", 8, 0.0), 70),
        ("drawn", rejection, 70),
        ("nothing drafted", settings("none", 1, 1.0), 70),
        ("too early", settings("early-exit", 8, 1.0), 9),
        ("before the first step", settings("early-exit", 8, 1.0), 0),
    ];
    let rows = |state: &State, width: u16, height: u16| {
        let all = text(&drawn(state, &theme("dark", false), width, height));
        let light =
            speclight::tui::views::places(ratatui::layout::Rect::new(0, 0, width, height), state)
                .light
                .unwrap();
        all.lines().skip(light.y.into()).take(light.height.into()).collect::<Vec<_>>().join("\n")
    };
    let mut all = String::new();
    for (name, settings, steps) in &modes {
        let mut state = running(settings, *steps);
        for (width, height) in [(40, 12), (80, 24), (120, 40), (200, 60)] {
            all.push_str(&format!(
                "== {name}, {width}x{height}\n{}\n",
                rows(&state, width, height)
            ));
        }
        if *name == "fixed" {
            press(&mut state, &["space"]);
            update(&mut state, Msg::Engine(Event::Paused));
            for of in ["that was searched", "that was not searched"] {
                press(&mut state, &["Left"]);
                for (width, height) in [(40, 12), (80, 24), (120, 40)] {
                    all.push_str(&format!(
                        "== an older step {of}, {width}x{height}\n{}\n",
                        rows(&state, width, height)
                    ));
                }
            }
        }
    }
    assert_snapshot!("bar_modes", all);
}

#[test]
fn the_bar_in_ascii_and_in_tokens_per_step() {
    let mut state = running(&settings("early-exit", 8, 1.0), 70);
    for (width, height) in [(40, 12), (80, 24), (120, 40)] {
        let buffer = drawn(&state, &theme("mono", true), width, height);
        assert!(text(&buffer).is_ascii());
        assert_snapshot!(format!("bar_ascii_{width}x{height}"), text(&buffer));
    }
    press(&mut state, &["u"]);
    for (width, height) in [(40, 12), (80, 24), (120, 40), (200, 60)] {
        assert_snapshot!(format!("per_step_{width}x{height}"), screen(&state, width, height));
    }
    // At temperature 0 there is no fluid bound to compare with, at any size.
    let mut greedy = running(&settings("early-exit", 64, 0.0), 60);
    for keys in [&[][..], &["u"]] {
        press(&mut greedy, keys);
        for (width, height) in [(40, 12), (80, 24), (120, 40), (200, 60)] {
            let screen = screen(&greedy, width, height);
            assert!(!screen.contains("of fluid") && !screen.contains("of the fluid"), "{screen}");
        }
    }
}
