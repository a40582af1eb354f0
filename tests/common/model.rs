//! The real model used by tests: SmolLM2-135M-Instruct in Q4_1.

use std::path::PathBuf;

use speclight::registry::Registry;

/// Returns the path of the model: `SPECLIGHT_TEST_MODEL`, or the program's cache, filled on demand.
///
/// # Panics
/// If the model is neither present nor downloadable: a test that needs it must not pass without it.
pub fn path() -> PathBuf {
    if let Some(path) = std::env::var_os("SPECLIGHT_TEST_MODEL").map(PathBuf::from) {
        assert!(
            path.is_file(),
            "SPECLIGHT_TEST_MODEL names {}, where there is no file",
            path.display()
        );
        return path;
    }
    let found = Registry::load()
        .and_then(|list| list.find(Some("SmolLM2-135M-Instruct")))
        .expect("the list of models");
    found
        .ensure(&mut |_| ())
        .unwrap_or_else(|why| panic!("the model that tests run can't be had: {why}"))
}
