//! Cost of passes on this machine, for `speclight bench`.

mod measure;
mod ratios;
mod report;

pub use measure::{bandwidth, measure, steady};
pub use ratios::{MeasurementRatio, ratios};
pub use report::BenchReport;

use crate::engine::CostCache;
use crate::model::load::Model;
use crate::registry::{RegistryModel, cache_folder};
use crate::theory::cost::CostCurve;

/// Stores t(B) in the cache for later runs with this model, device and thread count.
///
/// If that is not possible, or the times are implausible, runs measure t(B) themselves; this is not
/// an error.
pub fn keep_cost(report: &BenchReport, model: &Model, found: &RegistryModel) {
    let points =
        report.between_seconds.iter().map(|(&tokens, &seconds)| (tokens, seconds)).collect();
    let identity = found.sha256().map_or_else(|| model.path().display().to_string(), str::to_owned);
    if let (Ok(cache), Ok(cost)) = (cache_folder(), CostCurve::new(points))
        && cost.is_plausible()
    {
        CostCache::new(&cache, &identity, &report.device).keep(&cost);
    }
}
