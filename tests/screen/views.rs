//! Snapshots of the views, of the forms of the tree, and of the panes that explain misses.

use insta::assert_snapshot;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
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
        let (mut ascii, mut mono) = (String::new(), String::new());
        for (width, height) in SIZES {
            let buffer = drawn(&state, &theme("mono", true), width, height);
            ascii.push_str(&format!("== {width}x{height}\n{}", text(&buffer)));
            let buffer = drawn(&state, &theme("mono", false), width, height);
            mono.push_str(&format!("== {width}x{height}\n{}", attributes(&buffer)));
        }
        assert!(ascii.is_ascii());
        assert_snapshot!(format!("{}_ascii", view.name()), ascii);
        assert_snapshot!(format!("{}_mono", view.name()), mono);
    }
}

/// Returns the text of a screen without color, with its attributes as `{bold:text}`.
///
/// Blanks show only whether they are reversed or underlined.
fn attributes(buffer: &Buffer) -> String {
    const NAMES: [(Modifier, &str); 5] = [
        (Modifier::BOLD, "bold"),
        (Modifier::DIM, "dim"),
        (Modifier::ITALIC, "italic"),
        (Modifier::UNDERLINED, "under"),
        (Modifier::REVERSED, "rev"),
    ];
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let (mut line, mut open, mut x) = (String::new(), Modifier::empty(), 0);
        while x < buffer.area.width {
            let cell = &buffer[(x, y)];
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset), "{x}, {y}");
            let blank = Modifier::REVERSED | Modifier::UNDERLINED;
            let shown = if cell.symbol() == " " { cell.modifier & blank } else { cell.modifier };
            // A blank between two words does not end their attributes.
            let within = cell.symbol() == " "
                && x + 1 < buffer.area.width
                && buffer[(x + 1, y)].symbol() != " "
                && buffer[(x + 1, y)].modifier == open;
            let shown = if within { open } else { shown };
            if shown != open {
                line.push_str(if open.is_empty() { "" } else { "}" });
                let names = NAMES.iter().filter(|(one, _)| shown.contains(*one));
                let names: Vec<&str> = names.map(|(_, name)| *name).collect();
                if !names.is_empty() {
                    line.push_str(&format!("{{{}:", names.join("+")));
                }
                open = shown;
            }
            line.push_str(cell.symbol());
            x += unicode_width::UnicodeWidthStr::width(cell.symbol()).max(1) as u16;
        }
        line.push_str(if open.is_empty() { "" } else { "}" });
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[test]
fn the_accepted_path_and_the_bonus_token_are_always_visible() {
    let greedy = settings("early-exit", 16, 0.0);
    let sampled = StepSettings {
        verify: Rule::Rejection,
        shape: "fixed".parse().unwrap(),
        ..settings("early-exit", 8, 1.0)
    };
    let mut long = 0;
    for settings in [settings("early-exit", 16, 1.0), greedy, sampled] {
        let mut state = running(&settings, 90);
        press(&mut state, &["space"]);
        update(&mut state, Msg::Engine(speclight::engine::Event::Paused));
        for _ in 0..80 {
            press(&mut state, &["Left"]);
            let accepted = state.step().unwrap().record.accepted;
            long += usize::from(accepted >= 4);
            for (width, height) in [(40, 12), (80, 24), (120, 40), (200, 60)] {
                for view in [View::Watch, View::Tree] {
                    (state.view, state.focus) = (view, Pane::Tree);
                    let area = ratatui::layout::Rect::new(0, 0, width, height);
                    let places = speclight::tui::views::places(area, &state);
                    let (_, rect) = places.panes.iter().find(|(p, _)| *p == Pane::Tree).unwrap();
                    let all = text(&drawn(&state, &theme("dark", false), width, height));
                    let rows = all.lines().skip(rect.y.into()).take(rect.height.into());
                    let cut = |line: &str| -> String {
                        line.chars().skip(rect.x.into()).take(rect.width.into()).collect()
                    };
                    let pane: String = rows.map(|line| cut(line) + "\n").collect();
                    assert!(pane.contains('★'), "{width}x{height}\n{pane}");
                    // At 40 columns a long path is cut on the left.
                    let path = pane.matches('✓').count();
                    assert!(path >= accepted || width == 40, "{accepted} accepted\n{pane}");
                }
            }
        }
    }
    assert!(long > 20, "{long} long paths");
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
