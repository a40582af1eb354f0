//! Effects of settings on each other: which rules verify a shape, and which settings do nothing.

use crate::draft::Shape;
use crate::telemetry::StepSettings;
use crate::verify::Rule;

/// Returns whether a rule can verify trees of this shape.
pub fn allowed(shape: &str, rule: Rule) -> bool {
    Shape::named(shape).is_some_and(|shape| shape.allows(rule))
}

/// Returns the reason why changing this setting has no effect, if there is one.
pub fn no_effect(settings: &StepSettings, name: &str) -> Option<&'static str> {
    let greedy = settings.warp().greedy();
    match name {
        "verify" if greedy && settings.verify != Rule::Match => {
            Some("no effect while greedy: raise the temperature")
        }
        "top-p" | "top-k" | "seed" if settings.temperature == 0.0 => {
            Some("no effect while greedy: raise the temperature")
        }
        "shape" | "budget" | "verify" if settings.drafter == "none" => {
            Some("no effect without drafting: choose a drafter")
        }
        "budget" if settings.automatic() => {
            Some("an upper limit only: each step's budget is automatic")
        }
        _ => None,
    }
}
