//! Cache of measured pass costs across runs.
//!
//! One small JSON file per model, device and thread count. A file that is missing, damaged or too
//! old only means that the cost is measured again.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::cache_file::{replace, seconds_since_1970 as now};
use crate::hex::hex;
use crate::theory::cost::CostCurve;

/// Cache file for the pass cost of one model on one device.
#[derive(Clone, Debug)]
pub(crate) struct CostCache {
    file: PathBuf,
    key: String,
}

/// Content of a cache file.
///
/// Holds the whole key, so that a collision of hashed file names is detected.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    key: String,
    seconds: CostCurve,
    /// Time of measurement, in seconds since 1970.
    measured: u64,
}

/// Age in seconds beyond which a cached cost is measured again: a week.
///
/// Machines change over time.
const MOST_AGE: u64 = 7 * 24 * 3600;

impl CostCache {
    /// Locates the cache file for a model and a device in the cache folder `cache`.
    ///
    /// `device` includes the thread count. The version of the program is part of the key, since
    /// other versions have other kernels and so other costs.
    pub fn new(cache: &Path, model: &str, device: &str) -> Self {
        let key = format!("{model}, {device}, speclight {}", env!("CARGO_PKG_VERSION"));
        let hash = hex(&Sha256::digest(&key)[..8]);
        Self { file: cache.join("costs").join(format!("{hash}.json")), key }
    }

    /// Reads the cached cost.
    ///
    /// Returns `None` if the file is missing, damaged, implausible or older than [`MOST_AGE`].
    pub fn read(&self) -> Option<CostCurve> {
        let kept: Kept = serde_json::from_slice(&std::fs::read(&self.file).ok()?).ok()?;
        let age = now().saturating_sub(kept.measured);
        let usable = kept.key == self.key
            && age <= MOST_AGE
            && kept.measured <= now()
            && kept.seconds.is_plausible();
        usable.then_some(kept.seconds)
    }

    /// Writes a cost to the cache. Errors are ignored: the next run measures again.
    pub fn keep(&self, seconds: &CostCurve) {
        let kept = Kept { key: self.key.clone(), seconds: seconds.clone(), measured: now() };
        let _ = replace(&self.file, &kept);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cached_cost_is_found_only_for_its_model_and_device() {
        let folder = tempfile::tempdir().unwrap();
        let cache = |model, device| CostCache::new(folder.path(), model, device);
        let cost = CostCurve::new(vec![(1, 0.5), (2, 0.75)]).unwrap();
        assert_eq!(cache("a", "cpu").read(), None);
        cache("a", "cpu").keep(&cost);
        assert_eq!(cache("a", "cpu").read(), Some(cost.clone()));
        assert_eq!((cache("b", "cpu").read(), cache("a", "cuda:0").read()), (None, None));
        let cache = cache("a", "cpu");
        let key = &cache.key;
        let written = |seconds: &str, measured: u64| {
            format!("{{\"key\":{key:?},\"seconds\":{seconds},\"measured\":{measured}}}")
        };
        std::fs::write(&cache.file, written("[[1,0.5],[2,0.75]]", now() - 60)).unwrap();
        assert_eq!(cache.read(), Some(cost.clone()));
        let damages = [
            String::new(),
            "{}".into(),
            "{\"key\":\"else\",\"seconds\":[[1,1.0],[2,1.0]],\"measured\":0}".into(),
            "{\"key\":1}".into(),
            // Without a time, too old, and from the future.
            format!("{{\"key\":{key:?},\"seconds\":[[1,0.5],[2,0.75]]}}"),
            written("[[1,0.5],[2,0.75]]", now() - 2 * MOST_AGE),
            written("[[1,0.5],[2,0.75]]", now() + 3600),
            // Measured under load: t(4) = 53 t(1).
            written("[[1,0.002],[4,0.106]]", now()),
        ];
        for damage in damages {
            std::fs::write(&cache.file, &damage).unwrap();
            assert_eq!(cache.read(), None, "{damage}");
        }
        cache.keep(&cost);
        assert_eq!(cache.read(), Some(cost.clone()));
        // An unwritable folder is no error, and no partial file remains.
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        CostCache::new(&file, "a", "cpu").keep(&cost);
        assert_eq!(std::fs::read_dir(folder.path().join("costs")).unwrap().count(), 1);
    }
}
