//! Runs the fuzz target that the environment variable `TARGET` names under libFuzzer.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use speclight::fuzzing::{self, Target};
use tempfile::TempDir;

static SETUP: LazyLock<(Target, TempDir)> = LazyLock::new(|| {
    // libFuzzer's own hook aborts at panics that the program catches, too.
    fuzzing::abort_at_panics();
    let name = std::env::var("TARGET").expect("TARGET names a fuzz target");
    let target = fuzzing::targets().into_iter().find(|target| target.name == name);
    (target.expect("TARGET is in the list of src/fuzzing"), tempfile::tempdir().expect("a scratch folder"))
});

fuzz_target!(|input: &[u8]| {
    let (target, scratch) = &*SETUP;
    target.run(input, scratch.path());
});
