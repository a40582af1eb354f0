//! Tests of the format: round trip, cut and hostile files, schema.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::draft::Shape;
use crate::telemetry::testing::{chain, invalid_variants, miss, record, tree};
use crate::telemetry::{
    BudgetChoice, BudgetReason, CutNode, EntropyClassBound, MissCause, OracleSearchState,
    OracleTree, Overlap, PositionEntropy, RuleCeiling,
};

/// Returns one entry of each type that is an event, with all optional fields set.
fn all() -> Vec<Entry> {
    let settings =
        StepSettings { top_k: Some(5), ..StepSettings::new("ngram", Shape::Chain, 4, 0.7) };
    let info = RunInfo {
        version: "0.1.0".into(),
        model: "m \u{1b}[31m".into(),
        quantisation: "Q4_1".into(),
        sha256: Some("0".repeat(64)),
        device: "cpu".into(),
        context: 2048,
        cache_bytes: 94_371_840,
        vocabulary: 49152,
        drafters: vec!["none".into(), "ngram".into()],
        drafter_costs: vec!["free".into(), "free".into()],
        shapes: vec![Shape::Chain],
        prompts: vec!["Why?\nBecause.".into()],
    };
    let mut step = record(tree(&[(0, 0.5), (1, 0.1 + 0.2), (0, 1.0 / 3.0)]), &[1, 2], 4);
    step.settings = settings.clone();
    step.tree.accept = step.tree.p.clone();
    step.tree.cut = vec![CutNode { parent: 4, token: 9, text: "x".into(), q: 0.1 }; 2];
    step.tree.cut[0].parent = 3;
    step.choice = Some(BudgetChoice {
        drafted: 5,
        kept: 3,
        expected: 1.5,
        tokens_per_second: 90.0,
        plain_tokens_per_second: 50.0,
        reason: BudgetReason::Cut,
    });
    step.overlap =
        vec![Overlap { node: 0, p_argmax: 0.5, overlap: 0.4, overlap_max: 0.6, covered: 0.9 }];
    step.rule_ceiling = Some(RuleCeiling { drafts: 2, ceiling: 0.9, accepted: 0.8 });
    step.miss = Some(miss(7, 3, MissCause::Ranking));
    step.entropy =
        vec![PositionEntropy { p: 0.5, p_plain: Some(0.4), ..PositionEntropy::default() }; 3];
    step.notice = Some("the drafter is late".into());
    let result = OracleResult {
        oracle_lower: 1.2,
        oracle_upper: 1.3,
        oracle_floor: 0.01,
        passes: 9,
        drafter_best: Some(1.1),
        state: OracleSearchState::BrokenOff,
    };
    let kinds =
        vec![EntropyClassBound { entropy_from: 0.5, share: 1.0, mu: 1.0, fluid: Some(2.0) }];
    let load = MachineLoad { other_cores: Some(0.5), stolen: None, spread: Some(0.1), busy: true };
    let tree = OracleTree {
        tokens: vec![1, 2],
        text: vec!["a".into(), " b".into()],
        parents: vec![0, 0],
        p: vec![1.0, 0.5],
    };
    let curve = OracleCurve::from_path_probabilities([0.5, 0.25], 0.125);
    vec![
        Entry::SearchEvery { steps: 16 },
        Entry::Loading { what: "loading".into(), done: Some(0.5) },
        Entry::Ready { info: Arc::new(info), settings: settings.clone() },
        Entry::PlainTimed { plain_tokens_per_second: 50.0, seconds: 0.02 },
        Entry::Cost { points: CostCurve::new(vec![(1, 0.02), (8, 0.025)]).unwrap() },
        Entry::Load(load),
        Entry::PromptStarted {
            index: 0,
            id: "0".into(),
            prompt: "Why?".into(),
            tokens: 5,
            prefill_seconds: 0.25,
        },
        Entry::Pace { steps_per_second: Some(4), slow_start: Some(1) },
        Entry::Caption { text: "look".into() },
        Entry::Step(Arc::new(step)),
        Entry::Search {
            systematic: true,
            curve: Some(Arc::new(curve)),
            tree: Some(Arc::new(tree)),
        },
        Entry::OracleSearched(OracleEntry { prompt_id: "0".into(), step: 0, result }),
        Entry::Fluid(Arc::new(FluidBound { positions: 3, curve: vec![0.0, 0.5], kinds })),
        Entry::PromptEnded { ending: Ending::Length },
        Entry::Settings { settings },
        Entry::Paused,
        Entry::Resumed,
        Entry::Refused { reason: "no".into() },
        Entry::Failed { reason: "broken".into() },
        Entry::Finished,
    ]
}

fn time(i: usize) -> Duration {
    // Entries 3 and 4 happen at the same time.
    Duration::from_nanos(123_456_789 * (i - usize::from(i > 3)) as u64)
}

fn written(folder: &Path, entries: &[Entry]) -> Vec<u8> {
    let path = folder.join("run.rec");
    let mut writer = Writer::create(&path, LIVE_LEVEL).unwrap();
    entries.iter().enumerate().for_each(|(i, entry)| writer.write(time(i), entry).unwrap());
    assert_eq!(writer.finish().unwrap(), path.canonicalize().unwrap());
    std::fs::read(path).unwrap()
}

fn compressed(lines: &str) -> Vec<u8> {
    zstd::stream::encode_all(lines.as_bytes(), 1).unwrap()
}

fn header() -> String {
    json!({ "type": "recording", "version": VERSION, "program": "0" }).to_string() + "\n"
}

/// Reads lines behind a header; returns the number of entries and the end.
fn read(lines: &str) -> (usize, RecordingEnd) {
    let bytes = compressed(&(header() + lines));
    let mut reader = Reader::new(&bytes[..]).unwrap();
    (reader.by_ref().count(), reader.end().unwrap().clone())
}

#[test]
fn every_entry_comes_back_with_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = written(folder.path(), &all());
    let mut reader = Reader::new(&bytes[..]).unwrap();
    assert_eq!((reader.header().version, reader.end()), (VERSION, None));
    let read: Vec<TimedEntry> = reader.by_ref().collect();
    let want: Vec<TimedEntry> =
        all().into_iter().enumerate().map(|(i, entry)| TimedEntry { at: time(i), entry }).collect();
    assert_eq!(read, want);
    assert_eq!(reader.end(), Some(&RecordingEnd::Whole));
    assert_eq!(scan(&bytes[..]).unwrap(), Scan { length: time(want.len() - 1), steps: 1 });
    assert!(!folder.path().join("run.rec.part").exists());
}

#[test]
fn lines_match_the_schemas_and_their_variants_do_not() {
    let schema = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let recording = schema(include_str!("../../../schema/recording.schema.json"));
    let run = schema(include_str!("../../../schema/run.schema.json"));
    let own = jsonschema::validator_for(&recording).unwrap();
    let shared = jsonschema::validator_for(&run).unwrap();
    let mut entries = all();
    entries.push(Entry::Recording(Header { version: 1, program: "0.1.0".into() }));
    entries.push(Entry::At { seconds: 0.5 });
    entries.push(Entry::End);
    for entry in &entries {
        let line = serde_json::to_value(entry).unwrap();
        // Steps and searches are those of `speclight run --json`.
        let schema = match entry {
            Entry::Step(_) | Entry::OracleSearched(_) => &shared,
            _ => &own,
        };
        assert!(schema.is_valid(&line), "{}: {line}", schema.validate(&line).unwrap_err());
        if !matches!(entry, Entry::Step(_)) {
            for (how, wrong) in invalid_variants(&line) {
                assert!(!schema.is_valid(&wrong), "{how} passes: {wrong}");
            }
        }
    }
}

#[test]
fn a_cut_recording_reads_to_its_last_whole_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.rec");
    let mut writer = Writer::create(&path, LIVE_LEVEL).unwrap();
    // Entries a second apart are flushed one by one.
    let count = 40;
    for i in 0..count {
        let record = StepRecord { step: i, ..record(chain(&[0.5]), &[], 2) };
        writer.write(Duration::from_secs(i as u64), &Entry::Step(Arc::new(record))).unwrap();
    }
    // As after a kill: nothing ends the stream.
    let part = folder.path().join("long.rec.part");
    let cut = std::fs::read(&part).unwrap();
    let mut reader = Reader::new(&cut[..]).unwrap();
    assert_eq!((reader.by_ref().count(), reader.end()), (count, Some(&RecordingEnd::Cut)));
    writer.finish().unwrap();
    let whole = std::fs::read(&path).unwrap();
    let mut before = 0;
    for length in 0..whole.len() {
        let Ok(mut reader) = Reader::new(&whole[..length]) else { continue };
        let steps: Vec<usize> = reader
            .by_ref()
            .map(|timed| if let Entry::Step(record) = timed.entry { record.step } else { 99 })
            .collect();
        assert_eq!(steps, (0..steps.len()).collect::<Vec<_>>());
        assert!(steps.len() >= before && reader.end() == Some(&RecordingEnd::Cut), "{length}");
        before = steps.len();
    }
    assert_eq!(before, count);
}

#[test]
fn other_files_are_rejected_with_the_reason() {
    let said = |bytes: &[u8]| Reader::new(bytes).err().unwrap().to_string();
    let no = "it is not a recording of speclight";
    let files = [
        Vec::new(),
        header().into_bytes(),
        compressed(""),
        compressed("{}\n"),
        compressed("{\"type\":\"end\"}\n"),
        compressed(&"x".repeat(1 << 20)),
        compressed(&header())[..9].to_vec(),
    ];
    for bytes in &files {
        assert_eq!(said(bytes), no);
    }
    let newer = "{\"type\":\"recording\",\"version\":2,\"program\":\"9\"}\n";
    assert!(said(&compressed(newer)).contains("version 2"));
}

#[test]
fn hostile_lines_end_a_recording_where_they_stand() {
    let damaged = |lines: &str, problem: &str| {
        let (count, end) =
            read(&format!("{{\"type\":\"paused\"}}\n{lines}\n{{\"type\":\"end\"}}\n"));
        let RecordingEnd::Damaged(3, said) = &end else { panic!("{problem}: {end:?}") };
        assert!(count == 1 && said.contains(problem), "{problem}: {said}");
    };
    damaged("{\"type\":\"at\",\"seconds\":-1}", "time is out of range");
    damaged("{\"type\":\"at\",\"seconds\":1e300}", "time is out of range");
    damaged("{\"type\":\"at\",\"seconds\":1e999}", "out of range");
    damaged("nonsense", "expected");
    damaged("{\"type\":\"cost\",\"points\":[[2,1.0]]}", "rising");
    damaged("{\"type\":\"search_every\",\"steps\":-1}", "invalid value");
    let line = json!({ "type": "caption", "text": "x".repeat(5000) }).to_string();
    damaged(&line, "caption is too long");
    let line = json!({ "type": "refused", "reason": "x".repeat(2 << 20) }).to_string();
    damaged(&line, "longer than");
    // A line that decompresses to much more than any line may hold.
    let (count, end) = read(&"x".repeat(80 << 20));
    assert!(
        count == 0 && matches!(&end, RecordingEnd::Damaged(2, said) if said.contains("longer")),
        "{end:?}"
    );
    // Unknown types are of newer versions, and time never goes back.
    let lines = "{\"type\":\"at\",\"seconds\":5}\n{\"type\":\"news\",\"x\":1}\n{\"type\":\"at\",\"seconds\":1}\n\
                 {\"type\":\"paused\"}\n{\"type\":\"end\"}\n{\"type\":\"paused\"}\n";
    assert_eq!(read(lines), (1, RecordingEnd::Whole));
    let bytes = compressed(&(header() + lines));
    assert_eq!(Reader::new(&bytes[..]).unwrap().next().unwrap().at, Duration::from_secs(5));
}

#[test]
fn steps_that_would_break_a_view_are_rejected() {
    let step = all().into_iter().find(|entry| matches!(entry, Entry::Step(_))).unwrap();
    let good = serde_json::to_value(&step).unwrap();
    assert_eq!(read(&format!("{good}\n{{\"type\":\"end\"}}\n")), (1, RecordingEnd::Whole));
    for (pointer, wrong) in [
        ("/accepted", json!(3)),
        ("/path/0", json!(3)),
        ("/path/1", json!(17)),
        ("/settings/budget", json!(0)),
        ("/settings/budget", json!(1_000_000_000)),
        ("/tree/parents/2", json!(2)),
        ("/tree/parents/2", json!(null)),
        ("/tree/parents/0", json!(0)),
        ("/tree/depth/1", json!(1_000_000_000)),
        ("/tree/p", json!([])),
        ("/tree/p/1", json!(1e300)),
        ("/tree/q/1", json!(-0.5)),
        ("/tree/origin/1", json!(9)),
        ("/tree/rank/1", json!(u64::MAX)),
        ("/tree/cut/0/parent", json!(4)),
        ("/tree/tokens", json!([])),
        ("/tree/text/0", json!("x".repeat(5000))),
        ("/emitted", json!([1, 2, 3, 4])),
        ("/emitted_text", json!(["a"])),
        ("/entropy/0/entropy", json!(-1.0)),
        ("/overlap/0/node", json!(4)),
        ("/miss/depth", json!(0)),
        ("/miss/depth", json!(u64::MAX)),
        ("/time/verify", json!(-1.0)),
        ("/time/verify", json!(1e100)),
        ("/ceilings/batch", json!(-1.0)),
        ("/choice/kept", json!(u64::MAX)),
        ("/position", json!(u64::MAX)),
    ] {
        let mut line = good.clone();
        *line.pointer_mut(pointer).unwrap() = wrong.clone();
        let (count, end) = read(&format!("{line}\n{{\"type\":\"end\"}}\n"));
        assert!(
            count == 0 && matches!(end, RecordingEnd::Damaged(2, _)),
            "{pointer} {wrong}: {end:?}"
        );
    }
}

#[test]
fn changed_bytes_are_detected() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = written(folder.path(), &all());
    let mut seen = 0;
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut bytes = bytes.clone();
            bytes[at] ^= bit;
            let Ok(mut reader) = Reader::new(&bytes[..]) else {
                seen += 1;
                continue;
            };
            let count = reader.by_ref().count();
            assert!(count <= all().len());
            seen += usize::from(reader.end() != Some(&RecordingEnd::Whole));
        }
    }
    // All but a few bits of the frame's header are covered by its checksum.
    assert!(seen > 2 * bytes.len() * 9 / 10, "{seen} of {}", 2 * bytes.len());
}

#[test]
fn a_recording_takes_its_name_at_the_end_and_is_locked_until_then() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.rec");
    std::fs::write(&path, "older").unwrap();
    let mut writer = Writer::create(&path, LIVE_LEVEL).unwrap();
    writer.write(Duration::ZERO, &Entry::Paused).unwrap();
    let second = Writer::create(&path, LIVE_LEVEL).err().unwrap();
    assert!(second.to_string().contains("another process"), "{second}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "older");
    writer.finish().unwrap();
    assert_eq!(Reader::open(&path).unwrap().count(), 1);
    assert!(Writer::create(folder.path(), LIVE_LEVEL).is_err());
    assert!(Writer::create(&folder.path().join("no/such/a.rec"), LIVE_LEVEL).is_err());
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"garbage").unwrap();
    assert_eq!(Reader::open(&path).unwrap().count(), 1);
}
