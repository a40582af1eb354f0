//! Snapshots of the views, of the forms of the tree, and of the panes that explain misses.

use insta::assert_snapshot;
use speclight::telemetry::StepSettings;
use speclight::tui::{Msg, Pane, State, TreeForm, View, update};
use speclight::verify::Rule;

use crate::script::settings;
use crate::snapshots::styles;
use crate::{drawn, press, running, text, theme};

const SIZES: [(u16, u16); 4] = [(40, 12), (80, 24), (120, 40), (200, 60)];

fn screen(state: &State, (width, height): (u16, u16)) -> String {
    text(&drawn(state, &theme("dark", false), width, height))
}

/// State with a paused step that was searched, so that its oracle tree is known.
fn searched(settings: &StepSettings) -> State {
    let mut state = running(settings, 121);
    press(&mut state, &["space"]);
    update(&mut state, Msg::Engine(speclight::engine::Event::Paused));
    while state.step().is_none_or(|step| step.oracle.is_none() || step.record.accepted == 0) {
        press(&mut state, &["Left"]);
    }
    state
}

#[test]
fn each_view_at_all_sizes() {
    for view in View::ALL {
        let mut state = searched(&settings("early-exit", 16, 1.0));
        let key = View::ALL.iter().position(|v| *v == view).unwrap() + 1;
        press(&mut state, &[&key.to_string()]);
        assert_eq!(state.view, view);
        for size in SIZES {
            let name = format!("{}_{}x{}", view.name(), size.0, size.1);
            assert_snapshot!(name, screen(&state, size));
        }
        let ascii = text(&drawn(&state, &theme("mono", true), 120, 40));
        assert!(ascii.is_ascii());
        assert_snapshot!(format!("{}_ascii_120x40", view.name()), ascii);
    }
}

#[test]
fn each_form_of_the_tree_at_all_sizes() {
    for form in [TreeForm::Icicle, TreeForm::Graph, TreeForm::Table] {
        let mut state = searched(&settings("early-exit", 16, 1.0));
        (state.focus, state.zoom, state.tree_form) = (Pane::Tree, true, form);
        for oracle in [false, true] {
            state.oracle_tree = oracle;
            let whose = if oracle { "oracle" } else { "drafter" };
            let mut all = String::new();
            for size in SIZES {
                all.push_str(&format!("== {}x{}\n{}", size.0, size.1, screen(&state, size)));
            }
            let ascii = text(&drawn(&state, &theme("mono", true), 80, 24));
            all.push_str(&format!("== ASCII 80x24\n{ascii}"));
            assert_snapshot!(format!("tree_{}_{whose}", form.name()), all);
        }
        state.oracle_tree = false;
        let colors = styles(&drawn(&state, &theme("dark", false), 80, 24));
        assert_snapshot!(format!("tree_{}_colors", form.name()), colors);
        let mono = styles(&drawn(&state, &theme("mono", false), 80, 24));
        assert_snapshot!(format!("tree_{}_mono", form.name()), mono);
    }
}

#[test]
fn each_pane_on_misses_at_all_sizes() {
    for pane in [Pane::Miss, Pane::Rates, Pane::Advice] {
        let mut state = searched(&settings("early-exit", 16, 1.0));
        (state.focus, state.zoom) = (pane, true);
        let mut all = String::new();
        for size in SIZES {
            all.push_str(&format!("== {}x{}\n{}", size.0, size.1, screen(&state, size)));
        }
        let ascii = text(&drawn(&state, &theme("mono", true), 80, 24));
        all.push_str(&format!("== ASCII 80x24\n{ascii}"));
        assert_snapshot!(format!("pane_{}", pane.name().replace(' ', "_")), all);
    }
}

#[test]
fn trees_without_an_oracle_say_why() {
    let greedy = settings("early-exit", 8, 0.0);
    let sampled = StepSettings {
        verify: Rule::Rejection,
        shape: "fixed".parse().unwrap(),
        ..settings("early-exit", 8, 1.0)
    };
    for (name, settings) in [("greedy", greedy), ("sampled", sampled)] {
        let mut state = running(&settings, 40);
        press(&mut state, &["2"]);
        let mut all = String::new();
        for keys in [&[][..], &["i"], &["O"], &["i", "i"]] {
            press(&mut state, keys);
            all.push_str(&format!("== {keys:?}\n{}", screen(&state, (80, 24))));
        }
        assert_snapshot!(format!("tree_{name}_80x24"), all);
    }
}

#[test]
fn a_pane_without_a_place_takes_one_while_it_has_the_focus() {
    for view in View::ALL {
        for pane in Pane::ALL {
            for (width, height) in SIZES {
                let mut state = running(&settings("early-exit", 8, 1.0), 20);
                (state.view, state.focus) = (view, pane);
                let area = ratatui::layout::Rect::new(0, 0, width, height);
                let places = speclight::tui::views::places(area, &state);
                let shown = places.panes.iter().any(|(own, _)| *own == pane);
                // The bar is the gauge in tokens per second.
                assert!(shown || pane == Pane::Gauge, "{view:?} {pane:?} at {width}x{height}");
                for (i, (a, one)) in places.panes.iter().enumerate() {
                    for (b, other) in &places.panes[i + 1..] {
                        assert!(
                            !one.intersects(*other),
                            "{a:?} and {b:?} overlap at {width}x{height}"
                        );
                        assert_ne!(a, b);
                    }
                }
            }
        }
    }
}

#[test]
fn tab_moves_through_the_panes_of_the_view() {
    for view in View::ALL {
        let mut state = running(&settings("early-exit", 8, 1.0), 5);
        let key = View::ALL.iter().position(|v| *v == view).unwrap() + 1;
        press(&mut state, &[&key.to_string()]);
        let panes = view.panes();
        let mut seen = Vec::new();
        for _ in 0..panes.len() {
            seen.push(state.focus);
            press(&mut state, &["Tab"]);
        }
        assert_eq!(state.focus, seen[0], "back at the first");
        assert!(panes.iter().all(|pane| seen.contains(pane)), "{seen:?}");
    }
}
