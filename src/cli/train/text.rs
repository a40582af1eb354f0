//! Progress of a training as lines of text.

use crate::train::{DraftPerformance, HeldOutMetrics, TrainReport};

/// Formats the figures on held-out texts after a step.
pub(super) fn held_out(
    report: &TrainReport,
    figures: &HeldOutMetrics,
    drafted: &DraftPerformance,
) -> String {
    let list = |all: &[f64], digits: usize| {
        all.iter().map(|x| format!("{x:.digits$}")).collect::<Vec<_>>().join(" ")
    };
    format!(
        "step {}, {} tokens, {:.0} s, held out: loss by depth {}, acceptance by depth {}, chain of {} accepts {:.3}; B = 16: greedy {:.2} tokens per step, at temperature 1 {:.2} accepted of fluid bound {}, {} of the speed of light",
        report.step,
        report.tokens,
        report.seconds,
        list(&figures.loss, 3),
        list(&figures.acceptance, 3),
        figures.acceptance.len(),
        figures.accepted,
        drafted.greedy_tokens_per_step,
        drafted.expected_accepted,
        drafted.fluid.map_or("-".to_owned(), |fluid| format!("{fluid:.2}")),
        drafted.speed_of_light.reached().map_or("-".to_owned(), |share| match share.interval {
            Some(i) => format!("{:.2} ({:.2} to {:.2})", share.value, i.low, i.high),
            None => format!("{:.2}", share.value),
        }),
    )
}
