//! Summary of a session in six lines, printed after the terminal is restored.

use super::State;
use super::runs::describe;
use crate::theory::intervals::Estimate;

/// Formats an estimate with `digits` decimals and its interval, if known.
fn range(found: &Estimate, digits: usize, factor: f64, unit: &str) -> String {
    let show = |x: f64| format!("{:.digits$}", x * factor);
    let ends = found
        .interval
        .filter(|ends| ends.low.is_finite() && ends.high.is_finite() && ends.low < ends.high);
    let ends = ends.map_or_else(String::new, |ends| {
        format!(" ({} to {}{unit})", show(ends.low), show(ends.high))
    });
    format!("{}{unit}{ends}", show(found.value))
}

/// Returns the lines of the summary; none before the first step.
pub fn farewell(state: &State) -> Vec<String> {
    let total = state.history.totals();
    let Some(run) = state.present_run().filter(|_| total.steps > 0) else { return Vec::new() };
    let many =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let info = &state.info;
    let model = [&info.model, &info.quantisation, &info.device].map(String::as_str).join(" ");
    let counts =
        [many(total.texts, "text"), many(total.steps, "step"), many(total.tokens, "token")]
            .join(", ");
    let earlier = match state.runs.past().len() {
        0 => String::new(),
        more => format!(" (after {})", many(more, "other run")),
    };
    let speed = match (&run.tokens_per_second, &run.speed_up) {
        (Some(rate), Some(factor)) => {
            format!("{:.0} tok/s, {} times plain decoding", rate.value, range(factor, 2, 1.0, ""))
        }
        (Some(rate), None) => format!("{:.0} tok/s; plain decoding was not timed", rate.value),
        (None, _) => "not measured".to_owned(),
    };
    let light = match (&run.of_light, state.light.known) {
        (Some(share), Some(light)) => {
            format!("{} of the speed of light, {light:.0} tok/s", range(share, 0, 100.0, "%"))
        }
        _ => "speed of light not known yet: it takes some oracle searches".to_owned(),
    };
    let averages = &state.history.averages;
    let accepted = averages.accepted_mean().unwrap_or(0.0);
    let drafted = averages.nodes as f64 / averages.steps.max(1) as f64;
    let per_step = format!(
        "{} tokens per step; {accepted:.2} of {drafted:.1} drafted tokens accepted",
        range(&run.tokens_per_step, 2, 1.0, "")
    );
    let mut losses: Vec<(&str, f64)> = state
        .light
        .figures
        .ladder
        .parts()
        .into_iter()
        .filter_map(|(name, loss)| Some((name, loss.filter(|x| x.is_finite())?)))
        .collect();
    losses.sort_by(|a, b| b.1.total_cmp(&a.1));
    let largest: Vec<String> = losses
        .iter()
        .filter(|loss| loss.1 >= 0.5)
        .take(3)
        .map(|(name, loss)| format!("{name} {loss:.0}"))
        .collect();
    let lost = match largest.as_slice() {
        _ if state.light.known.is_none() => "not known yet".to_owned(),
        [] => "nothing that was measured".to_owned(),
        some => format!("{} tok/s", some.join(", ")),
    };
    [
        ("speclight", format!("{model}: {counts}")),
        ("settings", format!("{}{earlier}", describe(&run.settings))),
        ("speed", speed),
        ("reached", light),
        ("drafts", per_step),
        ("lost to", lost),
    ]
    .map(|(label, text)| format!("{label:<10} {text}"))
    .to_vec()
}
