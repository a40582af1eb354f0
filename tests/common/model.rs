//! The real model that tests run: SmolLM2-135M-Instruct in Q4_1.

use std::path::PathBuf;

use speclight::registry::Registry;

/// Where the model lies: `SPECLIGHT_TEST_MODEL`, or the cache that `speclight models fetch` fills.
///
/// # Panics
/// If it is not there: a test that needs it must not pass without it.
pub fn path() -> PathBuf {
    let named = std::env::var_os("SPECLIGHT_TEST_MODEL").map(PathBuf::from);
    let listed = || Registry::load().and_then(|list| list.find(Some("SmolLM2-135M-Instruct"))).map(|found| found.path());
    let path = named.filter(|path| path.is_file()).or_else(|| listed().ok().flatten());
    path.expect("the model that tests run is not here: cargo run --release -- models fetch, or set SPECLIGHT_TEST_MODEL")
}
