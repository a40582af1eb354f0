//! Time to draw a frame at common sizes.
//!
//! Covers a full redraw (every cell new) and the next step.
//!
//! Target: less than 4 ms for a full redraw at 200x60.
#![allow(clippy::unwrap_used)]

#[path = "../tests/common/script.rs"]
mod script;

use std::io;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use speclight::engine::Event;
use speclight::tui::theme::{ColorDepth, TerminalAbilities as Abilities, Theme};
use speclight::tui::{Msg, State, update};

fn screens(c: &mut Criterion) {
    let theme =
        Theme::load("dark", &Abilities { depth: ColorDepth::True, ascii: false, folder: None })
            .unwrap();
    let settings = script::settings("early-exit", 64, 1.0);
    let mut script = script::Script::new(7);
    let mut state = State::new(1);
    // A long text, as after minutes of a demo.
    for event in script.events(&settings, 500) {
        update(&mut state, Msg::Engine(event));
    }
    let mut next = state.clone();
    update(&mut next, Msg::Engine(Event::Step(script.step(&settings))));
    for (width, height) in [(80, 24), (120, 40), (200, 60)] {
        let area = Rect::new(0, 0, width, height);
        let terminal = || {
            let options = TerminalOptions { viewport: Viewport::Fixed(area) };
            Terminal::with_options(CrosstermBackend::new(io::sink()), options).unwrap()
        };
        c.bench_function(&format!("full redraw {width}x{height}"), |b| {
            let draw = |mut t: Terminal<_>| {
                t.draw(|frame| _ = speclight::tui::views::render(&state, &theme, frame)).unwrap();
                t
            };
            b.iter_batched(terminal, draw, BatchSize::SmallInput);
        });
        c.bench_function(&format!("next step {width}x{height}"), |b| {
            let mut t = terminal();
            let mut turn = false;
            b.iter(|| {
                turn = !turn;
                let state = if turn { &state } else { &next };
                t.draw(|frame| _ = speclight::tui::views::render(state, &theme, frame)).unwrap();
            });
        });
    }
    c.bench_function("update by a step", |b| {
        let record = script.step(&settings);
        b.iter(|| update(&mut state, Msg::Engine(Event::Step(record.clone()))));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).warm_up_time(std::time::Duration::from_millis(500)).measurement_time(std::time::Duration::from_secs(2));
    targets = screens
}
criterion_main!(benches);
