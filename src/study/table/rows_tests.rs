//! Tests of the rows of synthetic texts.
#![allow(clippy::unwrap_used)]

use serde_json::Value;

use super::published::published;
use super::rows::{AcceptanceSource, SetRows, Table, TableInputs, compute_set_rows};
use super::state::{SetSettings, Settings};
use super::text_result::{STRETCH_TOKENS, Stretch, TextKey, TextResult, TextResultBuilder};
use crate::telemetry::testing::{invalid_variants, record, tree};
use crate::telemetry::{Ceilings, SpeedOfLight, StageTimes};
use crate::theory::cost::CostCurve;
use crate::theory::intervals::Estimate;
use crate::theory::pool::SurprisalPool;
use crate::theory::speed::{Hardware, ModelWork};

/// Distribution over three tokens with probability `p` of the first.
fn law(p: f64) -> [f64; 3] {
    [p, 0.6 * (1.0 - p), 0.4 * (1.0 - p)]
}

/// Texts of 6 prompts, by plain decoding and by one drafter at budget 4.
///
/// The first prompt is drafted at budget 2, too. In a step at budget 4 there are two nodes of p 0.5
/// and 0.25 below the root, of which the first is accepted in every third step.
fn pieces() -> Vec<TextResult> {
    let mut all = Vec::new();
    for prompt in 0..6 {
        let key = |drafter, budget| TextKey { set: 0, temperature: 0, prompt, drafter, budget };
        let mut pool = SurprisalPool::new();
        let mut stretch = |i: usize| {
            let mut distributions = SurprisalPool::with_grid(16);
            for j in 0..STRETCH_TOKENS {
                let law = law(0.6 + 0.01 * ((7 * i + j + prompt) % 20) as f64);
                distributions.add_probabilities(&law);
                pool.add_probabilities(&law);
            }
            Stretch {
                steps: STRETCH_TOKENS,
                distributions: Some(distributions),
                ..Stretch::default()
            }
        };
        let stretches: Vec<Stretch> = (0..4).map(&mut stretch).collect();
        let time = StageTimes { draft: 0.0, verify: 4.0, other: 0.0 };
        let plain = TextResultBuilder::new(key(None, 1), &[]).end();
        all.push(TextResult {
            tokens: 4 * STRETCH_TOKENS,
            time,
            stretches,
            distributions: Some(pool),
            ..plain
        });
        for budget in [4, 2] {
            if budget == 2 && prompt > 0 {
                continue;
            }
            let (key, budgets) = (key(Some(0), budget), [1, 2, 4]);
            let mut gather =
                TextResultBuilder::new(key, if budget == 4 { &budgets } else { &budgets[..2] });
            let nodes: &[(usize, f64)] =
                if budget == 4 { &[(0, 0.5), (0, 0.25)] } else { &[(0, 0.5)] };
            let (mut tokens, mut step) = (0, prompt);
            while tokens < 4 * STRETCH_TOKENS {
                let hit = step % 3 == 0 && tokens + 1 < 4 * STRETCH_TOKENS;
                let mut record = record(tree(nodes), if hit { &[1] } else { &[] }, budget);
                record.time.verify = 0.04;
                gather.step(&record);
                if step % 5 == 0 {
                    gather.searched(
                        &crate::theory::light::OracleCurve::from_path_probabilities(
                            [0.6, 0.3, 0.2],
                            0.0,
                        ),
                        Some(0.8),
                    );
                }
                tokens += record.emitted.len();
                step += 1;
            }
            // The text is that of plain decoding.
            all.push(TextResult { sha256: all[all.len() - 1].sha256.clone(), ..gather.end() });
        }
    }
    all
}

fn machines() -> Vec<Hardware> {
    vec![Hardware { name: "large".into(), bandwidth: 1e12, flops: 1e14, memory: Some(1.0) }]
}

/// Rows of these texts.
pub fn rows() -> SetRows {
    let (pieces, hardware, drafters) = (pieces(), machines(), ["ngram".to_owned()]);
    let cost = CostCurve::new(vec![(1, 1.0), (2, 1.25), (4, 2.0)]).unwrap();
    let work = ModelWork { bytes: 1e9, flops_per_token: 1e9 };
    let given = TableInputs {
        budgets: &[1, 2, 4],
        drafters: &drafters,
        cost: Some(&cost),
        hardware: &hardware,
        work: &work,
    };
    let all: Vec<&TextResult> = pieces.iter().collect();
    compute_set_rows("set", 1.0, &all, &given).unwrap()
}

#[test]
fn rows_equal_values_computed_by_hand() {
    let rows = rows();
    assert_eq!((rows.texts, rows.refused, rows.positions), (6, 0, 6 * 4 * STRETCH_TOKENS));
    // 768 tokens in 24 seconds.
    assert_eq!(rows.plain_tokens_per_second, Some(32.0));
    assert_eq!(
        rows.ceilings.iter().map(|c| (c.budget, c.batch)).collect::<Vec<_>>(),
        [(1, 0.0), (2, 1.0), (4, 3.0)]
    );
    for c in &rows.ceilings {
        assert_eq!(
            Ceilings::for_budget(rows.mu.value, rows.mu2.value, c.budget, None).published,
            c.published
        );
        if c.budget > 1 {
            let i = c.fluid.interval.unwrap();
            assert!(
                i.low < c.fluid.value && c.fluid.value < i.high && c.fluid.value <= c.batch,
                "{c:?}"
            );
        }
    }
    let by = |budget: usize| rows.drafters.iter().find(|row| row.budget == budget).unwrap();
    assert_eq!(
        (rows.drafters.len(), by(2).from, by(4).from),
        (2, AcceptanceSource::Largest, AcceptanceSource::Run)
    );
    // E[X | T] is the same in each step, and both rows have the same steps.
    assert_eq!((by(2).expected.value, by(4).expected.value, by(2).steps), (0.5, 0.75, by(4).steps));
    assert!((by(4).accepted.value - 1.0 / 3.0).abs() < 0.01);
    assert_eq!(by(4).accepted.value, by(2).accepted.value);
    assert_eq!(by(4).tokens_per_step.value, 1.0 + by(4).accepted.value);
    assert_eq!(by(4).share.unwrap().value, 0.75 / rows.ceilings[2].fluid.value);
    // Every context allows 1.6 tokens in 1.25 seconds.
    let light = by(4).timed.unwrap().speed_of_light;
    assert!(
        (light.tokens_per_second.unwrap() - 1.28).abs() < 1e-12 && light.best_budget == Some(2)
    );
    let share = by(4).timed.unwrap().tokens_per_second / 1.28;
    assert!(
        (light.share.unwrap() / share - 1.0).abs() < 1e-12 && light.searched_steps > 50,
        "{light:?}"
    );
    // Six texts at budget 4, one at 2; each step takes 0.04 s.
    let (two, four) = (by(2).timed.unwrap(), by(4).timed.unwrap());
    assert_eq!((two.texts, four.texts, four.plain_tokens_per_second), (1, 6, 32.0));
    assert!((four.tokens_per_second - by(4).tokens_per_step.value / 0.04).abs() < 1e-9);
    assert_eq!(four.speed_up, four.tokens_per_second / 32.0);
    // The texts differ by a step or two of 96; a single text has no interval.
    let interval = four.speed_up().interval.unwrap();
    assert!(interval.low < four.speed_up && four.speed_up < interval.high);
    assert!(interval.high - interval.low < 0.05 * four.speed_up, "{interval:?}");
    assert_eq!((two.speed_up().interval, two.speed_up_low, two.speed_up_high), (None, None, None));
    assert!(rows.drafters.iter().all(|row| row.differing_texts == 0));
    // Machines: one as measured, one as a roofline that reads 1e9 bytes in 1 ms and computes a
    // token in 10 us.
    let (here, large) = (&rows.machines[0], &rows.machines[1]);
    assert_eq!((here.measured, large.measured, large.holds), (true, false, Some(false)));
    for (i, c) in rows.ceilings.iter().enumerate() {
        let seconds = [1.0, 1.25, 2.0][i];
        assert_eq!(here.speed_up[i], (1.0 + c.fluid.value) / seconds);
        assert!((large.speed_up[i] - (1.0 + c.fluid.value)).abs() < 1e-12);
    }
    assert_eq!(large.best.unwrap().budget, 100);
}

#[test]
fn a_slower_machine_during_some_prompts_leaves_the_speed_up_and_its_interval() {
    let (mut pieces, drafters) = (pieces(), ["ngram".to_owned()]);
    let timed = |pieces: &[TextResult]| {
        let work = ModelWork::default();
        let given = TableInputs {
            budgets: &[1, 2, 4],
            drafters: &drafters,
            cost: None,
            hardware: &[],
            work: &work,
        };
        let all: Vec<&TextResult> = pieces.iter().collect();
        let rows = compute_set_rows("set", 1.0, &all, &given).unwrap();
        rows.drafters.iter().find(|row| row.budget == 4).unwrap().timed.unwrap()
    };
    // Each drafted text takes half as long as its plain text.
    for piece in &mut pieces {
        let plain = if piece.key.drafter.is_none() { 4.0 } else { 2.0 };
        piece.time = StageTimes { verify: plain, ..StageTimes::default() };
    }
    let quiet = timed(&pieces);
    assert!((quiet.speed_up - 2.0).abs() < 1e-12);
    for piece in pieces.iter_mut().filter(|piece| piece.key.prompt < 3) {
        piece.time.verify *= 3.0;
    }
    let busy = timed(&pieces);
    assert!((busy.speed_up - 2.0).abs() < 1e-12, "{busy:?}");
    assert!(busy.speed_up_high.unwrap() - busy.speed_up_low.unwrap() < 1e-9, "{busy:?}");
}

#[test]
fn a_refused_prompt_and_a_drafter_that_is_not_done_have_no_part() {
    let (mut pieces, hardware, drafters) = (pieces(), machines(), ["ngram".to_owned()]);
    let given = TableInputs {
        budgets: &[1, 2, 4],
        drafters: &drafters,
        cost: None,
        hardware: &hardware,
        work: &ModelWork::default(),
    };
    pieces
        .iter_mut()
        .filter(|p| p.key.prompt == 5)
        .for_each(|p| *p = TextResult::refused(p.key, "long".into()));
    let all: Vec<&TextResult> = pieces.iter().collect();
    let some = compute_set_rows("set", 1.0, &all, &given).unwrap();
    assert_eq!((some.texts, some.refused, some.drafters.len(), some.machines.len()), (5, 1, 2, 1));
    let all: Vec<&TextResult> =
        pieces.iter().filter(|p| p.key.drafter.is_none() || p.key.prompt != 3).collect();
    assert!(compute_set_rows("set", 1.0, &all, &given).unwrap().drafters.is_empty());
    assert!(compute_set_rows("set", 1.0, &[], &given).is_none());
}

#[test]
fn below_four_texts_there_is_no_interval() {
    let (pieces, drafters) = (pieces(), ["ngram".to_owned()]);
    let given = TableInputs {
        budgets: &[1, 2, 4],
        drafters: &drafters,
        cost: None,
        hardware: &[],
        work: &ModelWork::default(),
    };
    let all: Vec<&TextResult> = pieces.iter().filter(|p| p.key.prompt < 3).collect();
    let rows = compute_set_rows("set", 1.0, &all, &given).unwrap();
    assert_eq!((rows.mu.interval, rows.drafters[0].expected.interval), (None, None));
    assert!(rows.mu.value > 0.0);
}

#[test]
fn intervals_depend_on_whole_texts_and_not_on_where_stretches_lie_in_them() {
    let (mut pieces, drafters) = (pieces(), ["ngram".to_owned()]);
    let given = TableInputs {
        budgets: &[1, 2, 4],
        drafters: &drafters,
        cost: None,
        hardware: &[],
        work: &ModelWork::default(),
    };
    let want = rows();
    pieces.iter_mut().for_each(|piece| piece.stretches.reverse());
    let rows = compute_set_rows("set", 1.0, &pieces.iter().collect::<Vec<_>>(), &given).unwrap();
    let near = |a: Estimate, b: Estimate| {
        let (a, b) = (a.interval.unwrap(), b.interval.unwrap());
        (a.low - b.low).abs() < 1e-9 && (a.high - b.high).abs() < 1e-9
    };
    let row = |rows: &SetRows| rows.drafters.iter().find(|row| row.budget == 4).unwrap().clone();
    assert!(
        near(rows.mu, want.mu) && near(row(&rows).accepted, row(&want).accepted),
        "{:?} for {:?}",
        rows.mu,
        want.mu
    );
    assert!(near(row(&rows).share.unwrap(), row(&want).share.unwrap()));
}

#[test]
fn the_schema_takes_a_table_and_nothing_that_differs() {
    let schema: Value =
        serde_json::from_str(include_str!("../../../schema/table.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let sha256 = "0".repeat(64);
    let settings = Settings {
        version: "0.1.0".into(),
        model: "made up".into(),
        quantisation: "F32".into(),
        sha256: Some(sha256.clone()),
        device: "cpu".into(),
        draft_model: None,
        exit_layers: Some(3),
        adapter: None,
        head: None,
        sets: vec![SetSettings { name: "set".into(), prompts: 6, sha256 }],
        budgets: vec![1, 2, 4],
        drafters: vec!["ngram".into()],
        temperatures: vec![0.0, 1.0],
        shape: "best-first".into(),
        seed: u64::MAX,
        max_tokens: 256,
        raw: false,
        timed: 1,
    };
    let cost = CostCurve::new(vec![(1, 0.01), (8, 0.02)]).unwrap();
    let (hardware, work) = (machines(), ModelWork { bytes: 1e8, flops_per_token: 2e8 });
    let sets = vec![SetRows { temperature: 0.0, ..rows() }, rows()];
    let whole = Table {
        kind: "table".into(),
        settings,
        cost: Some(cost),
        work,
        hardware,
        sets,
        published: published(),
    };
    // Unknown values are null: in the settings, and where nothing was measured.
    let mut bare = whole.clone();
    (bare.cost, bare.settings.sha256, bare.settings.exit_layers, bare.hardware[0].memory) =
        (None, None, None, None);
    let set = bare.sets.last_mut().unwrap();
    (set.plain_tokens_per_second, set.mu.interval) = (None, None);
    for row in &mut set.drafters {
        (row.timed, row.share) = (None, None);
    }
    for row in &mut set.machines {
        (row.best, row.holds) = (None, None);
    }
    let mut spoiled = 0;
    for table in [whole, bare] {
        let table = serde_json::to_value(table).unwrap();
        assert!(schema.is_valid(&table), "{}", schema.validate(&table).unwrap_err());
        for (how, wrong) in invalid_variants(&table) {
            assert!(!schema.is_valid(&wrong), "{how} passes");
            spoiled += 1;
        }
    }
    assert!(spoiled > 400, "{spoiled}");
}

#[test]
fn texts_whose_steps_are_not_kept_have_no_speed_of_light() {
    let (mut pieces, drafters) = (pieces(), ["ngram".to_owned()]);
    let cost = CostCurve::new(vec![(1, 1.0), (4, 2.0)]).unwrap();
    let given = TableInputs {
        budgets: &[4],
        drafters: &drafters,
        cost: Some(&cost),
        hardware: &[],
        work: &ModelWork::default(),
    };
    // As in a state written by an earlier version.
    pieces.iter_mut().for_each(|piece| piece.light.clear());
    let all: Vec<&TextResult> = pieces.iter().collect();
    let timed = compute_set_rows("set", 1.0, &all, &given).unwrap().drafters[0].timed.unwrap();
    assert_eq!(timed.speed_of_light, SpeedOfLight::default());
    assert!(timed.tokens_per_second > 0.0);
}
