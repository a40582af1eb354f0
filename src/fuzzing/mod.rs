//! Fuzz targets for every file and answer that the program parses.
//!
//! A target is a function in `targets` and a line in the list below; its corpus is the folder of the
//! same name in `fuzz/corpus`. Corpus files whose names start with `ok` must be accepted, so that a
//! corpus that no longer reaches past the first check is noticed.
//!
//! The tests run a few thousand inputs per target. They are functions of corpus, seed and index,
//! so that a failure is reproduced by its numbers. `scripts/fuzz` runs more of them.

mod hub;
mod mutate;
mod targets;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use mutate::Mutator;

/// Parser under test, from input and scratch folder to acceptance.
///
/// It panics if the parser breaks a promise, such as that of an error in one line.
type Parser = fn(&[u8], &Path) -> bool;

/// Parser with the inputs that it is tried with.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// Name of the target and of its corpus folder.
    name: &'static str,
    /// Number of inputs that the tests run.
    inputs: u64,
    run: Parser,
}

macro_rules! targets {
    ($($(#[$meta:meta])* $name:ident: $inputs:literal,)*) => {
        /// Returns the targets in order of their names.
        fn targets() -> Vec<Target> {
            vec![$($(#[$meta])* Target { name: stringify!($name), inputs: $inputs, run: targets::$name },)*]
        }

        mod never_panics {
            $($(#[$meta])* #[test] fn $name() { super::run_from_env(stringify!($name)) })*
        }
    };
}

targets! {
    bench_report: 1000,
    chat_template: 1000,
    config_json: 2000,
    external_answer: 4000,
    gguf: 2000,
    hardware_toml: 4000,
    head: 2000,
    hub_answer: 2000,
    import: 4000,
    kept_probe: 4000,
    models_toml: 4000,
    pass_costs: 4000,
    plot_table: 500,
    prompts: 4000,
    #[cfg(feature = "tui")]
    recording: 1000,
    safetensors: 2000,
    sanitize: 4000,
    server_metrics: 4000,
    table_state: 4000,
    #[cfg(feature = "tui")]
    theme: 4000,
    tokenizer_json: 1000,
    training_checkpoint: 1000,
    training_corpus: 4000,
}

impl Target {
    /// Runs one input.
    ///
    /// # Panics
    /// If the parser panics, or breaks a promise.
    fn run(&self, input: &[u8], scratch: &Path) -> bool {
        (self.run)(input, scratch)
    }

    fn corpus_folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(self.name)
    }

    /// Reads the corpus, sorted by name.
    fn corpus(&self) -> std::io::Result<Vec<(String, Vec<u8>)>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.corpus_folder())? {
            let entry = entry?;
            all.push((
                entry.file_name().to_string_lossy().into_owned(),
                std::fs::read(entry.path())?,
            ));
        }
        all.sort();
        Ok(all)
    }
}

thread_local! {
    /// True while an input runs on this thread.
    static RUNS: Cell<bool> = const { Cell::new(false) };
    /// Message and place of the thread's last panic.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Installs a hook that records panics of inputs and prints those of other threads.
fn record_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if crate::guarded::is_catching_panic() {
                return;
            }
            if RUNS.get() {
                PANIC.set(info.to_string().replace('\n', " "));
            } else {
                previous(info);
            }
        }));
    });
}

/// Runs an input; the error is the panic's message and place.
fn caught(target: &Target, input: &[u8], scratch: &Path) -> Result<bool, String> {
    RUNS.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| target.run(input, scratch)));
    RUNS.set(false);
    outcome.map_err(|_: Box<dyn Any + Send>| PANIC.take())
}

/// Result of a run.
#[derive(Debug, Default)]
struct Report {
    accepted: u64,
    /// Longest time of an input, and its index.
    slowest: (Duration, u64),
    /// Index of the first input of each distinct panic.
    panics: BTreeMap<String, u64>,
}

fn run(
    target: &Target,
    mutator: &Mutator,
    seed: u64,
    inputs: Range<u64>,
    scratch: &Path,
    position: Option<&Path>,
) -> Report {
    let mut report = Report::default();
    let mut input = Vec::new();
    let mut position = position
        .map(|path| std::fs::File::create(path).expect("SPECLIGHT_FUZZ_OUT is a writable folder"));
    for index in inputs {
        if let Some(position) = &mut position {
            // Written first, so that after an abort the index of its input is known.
            let _ = position
                .rewind()
                .and_then(|()| position.write_all(format!("{index:020}").as_bytes()));
        }
        mutator.input(seed, index, &mut input);
        let start = Instant::now();
        match caught(target, &input, scratch) {
            Ok(accepted) => report.accepted += u64::from(accepted),
            Err(panic) => drop(report.panics.entry(panic).or_insert(index)),
        }
        report.slowest = report.slowest.max((start.elapsed(), index));
    }
    report
}

/// Runs a target as the environment says, by default with few inputs.
///
/// `SPECLIGHT_FUZZ_SEED` and `SPECLIGHT_FUZZ_INPUTS` (a count, or `FIRST..END`) select the inputs.
/// Those that fail are written to the folder `SPECLIGHT_FUZZ_OUT`, if it is set.
fn run_from_env(name: &str) {
    let target =
        targets().into_iter().find(|target| target.name == name).expect("a target of the list");
    let var = |name: &str| std::env::var(name).ok();
    let number = |text: &str| {
        text.trim().parse::<u64>().unwrap_or_else(|_| panic!("{text:?} is no number of inputs"))
    };
    let seed = var("SPECLIGHT_FUZZ_SEED").map_or(0, |text| number(&text));
    let inputs = match var("SPECLIGHT_FUZZ_INPUTS") {
        None => 0..target.inputs,
        Some(text) => match text.split_once("..") {
            Some((first, end)) => number(first)..number(end),
            None => 0..number(&text),
        },
    };
    let out = var("SPECLIGHT_FUZZ_OUT").map(PathBuf::from);
    record_panics();
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let corpus =
        target.corpus().unwrap_or_else(|e| panic!("{}: {e}", target.corpus_folder().display()));
    for (file, bytes) in &corpus {
        let accepted = caught(&target, bytes, scratch.path())
            .unwrap_or_else(|panic| panic!("{name}/{file}: {panic}"));
        assert!(accepted || !file.starts_with("ok"), "{name}/{file} is not accepted");
    }
    let mutator = Mutator::new(corpus.into_iter().map(|(_, bytes)| bytes).collect());
    let position = out.as_ref().map(|out| out.join(format!("{name}.{seed}.position")));
    let start = Instant::now();
    let report = run(&target, &mutator, seed, inputs.clone(), scratch.path(), position.as_deref());
    if let Some(position) = position {
        let _ = std::fs::remove_file(position);
    }
    let mut lines = Vec::new();
    for (panic, index) in &report.panics {
        let mut input = Vec::new();
        mutator.input(seed, *index, &mut input);
        let saved = out.as_ref().map(|out| out.join(format!("{name}.{seed}.{index}")));
        if let Some(saved) = &saved {
            std::fs::write(saved, &input).expect("SPECLIGHT_FUZZ_OUT is a writable folder");
        }
        lines.push(format!("{name}: seed {seed}, input {index} ({} bytes): {panic}", input.len()));
    }
    println!(
        "fuzz {name}: {} inputs of seed {seed}, {} accepted, {:.1} s, slowest {:.3} s (input {})",
        inputs.end - inputs.start,
        report.accepted,
        start.elapsed().as_secs_f64(),
        report.slowest.0.as_secs_f64(),
        report.slowest.1
    );
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn panics_are_found_and_named_with_their_first_input() {
        fn parser(input: &[u8], _: &Path) -> bool {
            assert!(input.first() != Some(&b'x'), "begins with x");
            input == b"right"
        }
        record_panics();
        let target = Target { name: "none", inputs: 0, run: parser };
        let mutator = Mutator::new(vec![b"right".to_vec(), b"x".to_vec()]);
        let report = run(&target, &mutator, 1, 0..500, Path::new(""), None);
        assert!(report.panics.len() == 1 && report.accepted > 0, "{report:?}");
        let (panic, &index) = report.panics.iter().next().unwrap();
        assert!(panic.contains("begins with x") && panic.contains("fuzzing/mod.rs"), "{panic}");
        let mut input = Vec::new();
        mutator.input(1, index, &mut input);
        assert_eq!(input[0], b'x');
        let before = run(&target, &mutator, 1, 0..index, Path::new(""), None);
        assert!(before.panics.is_empty(), "the first one is named");
    }

    #[test]
    fn each_target_has_a_corpus_with_accepted_files_and_each_corpus_a_target() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        let names: Vec<&str> = targets().iter().map(|target| target.name).collect();
        assert!(
            names.iter().all(|name| found.iter().any(|found| found == name)),
            "{names:?}, and folders {found:?}"
        );
        assert!(!cfg!(feature = "tui") || found == names, "{names:?}, and folders {found:?}");
        for target in targets() {
            assert!(
                target.corpus().unwrap().iter().any(|(name, _)| name.starts_with("ok")),
                "{}",
                target.name
            );
        }
    }
}
