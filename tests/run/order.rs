//! Order of the gauge's marks, on the built-in prompts.
//!
//! `cargo bench --bench marks` checks every step over files of prompts.

use std::path::PathBuf;

use speclight::cli::built_in;
use speclight::draft::{Shape, Widths};
use speclight::engine::{EngineOptions, ErrorFormat};
use speclight::telemetry::StepSettings;

use super::lossless::HEAD;
use crate::marks::Marks;

fn run(drafter: &str, shape: Shape, every: usize) -> Marks {
    let settings = StepSettings { seed: 3, ..StepSettings::new(drafter, shape, 12, 1.0) };
    let options = EngineOptions {
        model: super::model::path().display().to_string(),
        draft_model: None,
        device: "cpu".into(),
        threads: None,
        fixed: Widths::DEFAULT,
        external: None,
        mix: None,
        remember: false,
        exit_layers: None,
        adapter: None,
        head: Some(PathBuf::from(HEAD)),
        settings,
        prompts: built_in(),
        max_tokens: 12,
        raw: false,
        once: true,
        start_paused: false,
        error_format: ErrorFormat::default(),
    };
    Marks::measure(options, every).unwrap()
}

#[test]
fn the_marks_are_in_order() {
    for (drafter, shape) in [
        ("ngram", Shape::BestFirst),
        ("suffix", Shape::Chain),
        ("early-exit", Shape::Static),
        ("eagle", Shape::Chain),
    ] {
        let marks = run(drafter, shape, 3);
        assert!(
            marks.searches >= 12 && 6 * marks.searches > marks.steps,
            "{drafter}: {} looks at {} steps",
            marks.searches,
            marks.steps
        );
        assert_eq!((&marks.exceptions, marks.unconverged), (&vec![], 0), "{drafter}, {shape}");
        let (luck, half) = marks.sampling_error();
        assert!(luck.abs() < 2.0 * half, "{drafter}, {shape}: {luck} ± {half}");
    }
}

#[test]
fn the_oracle_drafter_is_at_its_own_ceiling() {
    let marks = run("oracle", Shape::BestFirst, 1);
    let (least, most) = marks.ceiling_fraction();
    assert!(marks.exceptions.is_empty() && marks.searches > 20, "{:?}", marks.exceptions);
    assert!(
        (0.99..=1.0 + 1e-9).contains(&least) && (1.0 - 1e-9..=1.01).contains(&most),
        "{least} to {most}"
    );
    // Negative control: another drafter reaches less than the ceiling.
    let other = run("ngram", Shape::BestFirst, 3);
    assert!(
        other.ceiling_fraction().1 < 0.99 && other.expected() < marks.expected(),
        "{:?}",
        other.ceiling_fraction()
    );
}
