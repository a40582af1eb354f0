//! The real model that tests run: SmolLM2-135M-Instruct in Q4_1.

use std::path::PathBuf;

use etcetera::BaseStrategy;

/// Where the model lies: `SPECLIGHT_TEST_MODEL`, or the cache that `speclight models fetch` fills.
///
/// # Panics
/// If it is not there: a test that needs it must not pass without it.
pub fn path() -> PathBuf {
    let named = std::env::var_os("SPECLIGHT_TEST_MODEL").map(PathBuf::from);
    let path = named.unwrap_or_else(|| {
        let cache = std::env::var_os("SPECLIGHT_CACHE").map(PathBuf::from);
        let cache = cache.or_else(|| Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("speclight")));
        cache.expect("a cache folder").join("models/SmolLM2-135M-Instruct.Q4_1.gguf")
    });
    assert!(path.is_file(), "{} is missing: cargo run --release -- models fetch", path.display());
    path
}
