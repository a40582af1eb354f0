//! The rule in numbers: the drafter's best token against a sampled one, and the ceiling of sampled drafts.

use crate::app::State;
use crate::telemetry::OverlapMean;
use crate::ui::number::two;

/// Means since the settings last changed, a row each. Empty where the drafter proposed nothing, and when greedy.
pub fn rows(state: &State) -> Vec<String> {
    let overlaps = &state.history.averages.overlaps;
    let node = overlaps.mean().map(|mean| format!("argmax {}, sampled {}", two(mean.p_argmax_mean), range(&mean)));
    let rule =
        (overlaps.rule()).map(|rule| format!("first token {} of at most {}", two(rule.accepted_mean), two(rule.ceiling_mean)));
    node.into_iter().chain(rule).collect()
}

/// The same in one line, the longest form first.
pub fn line(state: &State) -> Option<Vec<String>> {
    let mut rows = rows(state);
    let all = rows.join("; ");
    rows.insert(0, all);
    rows.dedup();
    (rows.len() > 1 || !rows[0].is_empty()).then_some(rows)
}

/// The sum of min(p, q) as a number or, where q is known in part, as its bounds.
fn range(mean: &OverlapMean) -> String {
    let (low, high) = (two(mean.overlap_mean), two(mean.overlap_max_mean));
    if low == high { low } else { format!("{low} to {high}") }
}
