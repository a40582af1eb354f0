//! Effects of settings on each other: which rules verify a shape, and which settings do nothing.

use crate::draft::DrafterKind;
use crate::telemetry::StepSettings;
use crate::verify::Rule;

/// Returns the reason why changing this setting has no effect, if there is one.
pub fn no_effect(settings: &StepSettings, name: &str) -> Option<&'static str> {
    let greedy = settings.sampling().greedy();
    match name {
        "verify" if greedy && settings.verify != Rule::Match => {
            Some("no effect while greedy: raise the temperature")
        }
        "top-p" | "top-k" | "seed" if settings.temperature == 0.0 => {
            Some("no effect while greedy: raise the temperature")
        }
        "shape" | "budget" | "verify" if settings.drafter == DrafterKind::None => {
            Some("no effect without drafting: choose a drafter")
        }
        "budget" if settings.automatic() => {
            Some("an upper limit only: each step's budget is automatic")
        }
        _ => None,
    }
}
