//! Recorded steps and their statistics.

use std::sync::Arc;

use speclight::telemetry::StepSettings;
use speclight::tui::History;

use crate::script::{Script, settings};

#[test]
fn figures_are_those_of_the_steps() {
    let mut history = History::default();
    let mut script = Script::new(3);
    history.begin(0, "a".into(), "p".into(), 3, 0.1);
    let records: Vec<Arc<_>> = (0..200).map(|_| script.step(&settings("ngram", 16, 1.0))).collect();
    records.iter().for_each(|r| history.push(r.clone()));
    let n = records.len() as f64;
    let accepted = records.iter().map(|r| r.accepted as f64).sum::<f64>() / n;
    let expected = records.iter().map(|r| r.expected_accepted).sum::<f64>() / n;
    assert!((history.averages.accepted_mean().unwrap() - accepted).abs() < 1e-12);
    assert!((history.averages.expected_mean().unwrap() - expected).abs() < 1e-12);
    let mu = records.iter().flat_map(|r| &r.entropy).map(|e| e.sampled.entropy).sum::<f64>();
    let positions = records.iter().map(|r| r.entropy.len()).sum::<usize>() as f64;
    assert!((history.entropy.mean().unwrap() - mu / positions).abs() < 1e-12);
    assert_eq!(history.averages.lengths.iter().sum::<usize>(), 200);
}

#[test]
fn a_change_of_settings_starts_the_figures_afresh_and_is_marked() {
    let mut history = History::default();
    let mut script = Script::new(4);
    history.begin(0, "a".into(), "p".into(), 3, 0.1);
    (0..10).for_each(|_| history.push(script.step(&settings("ngram", 16, 1.0))));
    (0..5).for_each(|_| history.push(script.step(&settings("ngram", 8, 1.0))));
    assert_eq!(history.averages.steps, 5);
    assert!(history.get(10).unwrap().changed && !history.get(11).unwrap().changed);
    let positions: usize = (0..15).map(|i| history.get(i).unwrap().record.entropy.len()).sum();
    assert_eq!(history.entropy.len(), positions, "the budget does not change the law");
    history.push(script.step(&settings("ngram", 8, 0.0)));
    assert_eq!(history.entropy.len(), history.get(15).unwrap().record.entropy.len());
    let seed = StepSettings { seed: 9, ..settings("ngram", 8, 0.0) };
    history.push(script.step(&seed));
    assert!(
        !history.get(16).unwrap().changed,
        "another seed is another draw, not another condition"
    );
}

#[test]
fn the_oldest_go_and_numbers_stay() {
    let mut history = History::default();
    let mut script = Script::new(5);
    let record = script.step(&settings("ngram", 4, 1.0));
    for text in 0..3 {
        history.begin(text as usize, text.to_string(), "p".into(), 3, 0.1);
        (0..2000).for_each(|_| history.push(record.clone()));
    }
    assert_eq!(history.oldest().unwrap().number, 6000 - 4096);
    assert!(history.get(0).is_none() && history.get(6000).is_none());
    assert_eq!(history.get(5999).unwrap().number, 5999);
    assert_eq!(history.steps_of_text(2).count(), 2000);
    assert!(history.text_by_number(2).is_some());
    assert_eq!(history.steps_back_from(Some(5000)).next().unwrap().number, 5000);
    assert_eq!(history.averages.steps, 6000);
}
