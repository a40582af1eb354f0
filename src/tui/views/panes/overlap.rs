//! Acceptance of argmax against sampled drafts, and the ceiling of the verification rule.

use crate::telemetry::OverlapMean;
use crate::tui::State;
use crate::tui::views::number::two;

/// Returns the means since the settings last changed, one row each. Empty if greedy or if the
/// drafter proposed nothing.
pub fn rows(state: &State) -> Vec<String> {
    let overlaps = &state.history.averages.overlaps;
    let node = overlaps
        .mean()
        .map(|mean| format!("argmax {}, sampled {}", two(mean.p_argmax_mean), range(&mean)));
    let rule = (overlaps.rule_ceiling()).map(|rule| {
        format!("first token {} of at most {}", two(rule.accepted_mean), two(rule.ceiling_mean))
    });
    node.into_iter().chain(rule).collect()
}

/// Returns the same in one line, longest form first.
pub fn line(state: &State) -> Option<Vec<String>> {
    let mut rows = rows(state);
    let all = rows.join("; ");
    rows.insert(0, all);
    rows.dedup();
    (rows.len() > 1 || !rows[0].is_empty()).then_some(rows)
}

/// Formats the sum of min(p, q), or its bounds where q is partly known.
fn range(mean: &OverlapMean) -> String {
    let (low, high) = (two(mean.overlap_mean), two(mean.overlap_max_mean));
    if low == high { low } else { format!("{low} to {high}") }
}
