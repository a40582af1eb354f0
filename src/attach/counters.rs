//! Counters of an engine in one definition, and their differences.
//!
//! Engines use the same words for different numbers (shared by their documentation, see
//! docs/attach.md). Here `accepted` counts drafted tokens that were accepted, the bonus token not
//! among them; a *drafted step* is a verify pass of one request with at least one drafted token;
//! `steps` counts all decode steps of all requests, with a draft or without.

/// Cumulative counters at one moment; `None` where the engine reports none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    /// Verify passes with at least one drafted token, counted for each request.
    pub drafted_steps: Option<f64>,
    /// Drafted tokens, accepted or rejected.
    pub drafted: Option<f64>,
    /// Accepted drafted tokens, bonus tokens excluded.
    pub accepted: Option<f64>,
    /// Steps that accepted more than d drafted tokens, by d.
    pub accepted_by_depth: Vec<f64>,
    /// Steps that drafted more than d tokens, by d.
    pub drafted_by_depth: Vec<f64>,
    /// Decode steps of single requests.
    pub steps: Option<f64>,
    /// Tokens emitted by these steps.
    pub step_tokens: Option<f64>,
    /// Seconds of these steps.
    pub step_seconds: Option<f64>,
    /// Tokens generated, the first ones of requests included.
    pub tokens: Option<f64>,
    /// Requests in progress now.
    pub running: Option<f64>,
    /// Engine's own mean over its last window, by its own definition.
    pub own: Option<OwnWindow>,
    /// B, where it shows in the counters.
    pub budget: Option<usize>,
}

/// Window means that an engine reports ready-made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OwnWindow {
    /// Tokens per step, the bonus token included.
    pub tokens_per_step: f64,
    /// Accepted over drafted tokens.
    pub rate: Option<f64>,
}

/// Differences of counters over an interval, as figures; `None` where not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Seconds of the interval.
    pub seconds: f64,
    /// Drafted steps in the interval.
    pub drafted_steps: Option<f64>,
    /// Drafted tokens in the interval, accepted or rejected.
    pub drafted: Option<f64>,
    /// Accepted drafted tokens in the interval, bonus tokens excluded.
    pub accepted: Option<f64>,
    /// Accepted drafted tokens per drafted step.
    pub accepted_mean: Option<f64>,
    /// Drafted tokens per drafted step.
    pub drafted_mean: Option<f64>,
    /// Acceptance rate at each depth, given that it was reached.
    pub acceptance_by_depth: Vec<f64>,
    /// True if these rates are lower bounds, since drafted tokens by depth are not known.
    pub depth_is_lower_bound: bool,
    /// Decode steps in the interval, with a draft or without.
    pub steps: Option<f64>,
    /// Tokens per step, over all steps.
    pub tokens_per_step: Option<f64>,
    /// Share of steps without a draft.
    pub undrafted_share: Option<f64>,
    /// Mean seconds of a step.
    pub step_seconds: Option<f64>,
    /// Tokens per second of the whole server.
    pub tokens_per_second: Option<f64>,
    /// Requests in progress at the end.
    pub running: Option<f64>,
    /// Engine's own window mean.
    pub own: Option<OwnWindow>,
    /// B: tokens of a verify pass, the root included.
    pub budget: Option<usize>,
}

impl Counters {
    /// Returns `true` if a counter fell, as after a restart of the server.
    pub fn fell_below(&self, earlier: &Counters) -> bool {
        let pairs = [
            (self.drafted_steps, earlier.drafted_steps),
            (self.drafted, earlier.drafted),
            (self.accepted, earlier.accepted),
            (self.steps, earlier.steps),
            (self.tokens, earlier.tokens),
        ];
        let fell = |(now, before): (Option<f64>, Option<f64>)| match (now, before) {
            (Some(now), Some(before)) => now < before,
            // A counter that was above 0 and is gone.
            (None, Some(before)) => before > 0.0,
            _ => false,
        };
        pairs.into_iter().any(fell)
            || self
                .accepted_by_depth
                .iter()
                .zip(&earlier.accepted_by_depth)
                .any(|(now, before)| now < before)
    }

    /// Figures of the interval of `seconds` that began at `earlier`. Negative differences count as
    /// not known.
    pub fn since(&self, earlier: &Counters, seconds: f64) -> Window {
        let delta = |now: Option<f64>, before: Option<f64>| {
            // A counter that appears begins at 0.
            Some(now? - before.unwrap_or(0.0)).filter(|delta| delta.is_finite() && *delta >= 0.0)
        };
        let ratio = |a: Option<f64>, b: Option<f64>| Some(a? / b.filter(|b| *b > 0.0)?);
        let (drafted_steps, drafted) = (
            delta(self.drafted_steps, earlier.drafted_steps),
            delta(self.drafted, earlier.drafted),
        );
        let accepted = delta(self.accepted, earlier.accepted);
        let (steps, step_tokens) =
            (delta(self.steps, earlier.steps), delta(self.step_tokens, earlier.step_tokens));
        let by_depth = |now: &[f64], before: &[f64]| -> Vec<f64> {
            now.iter()
                .enumerate()
                .map(|(d, now)| (now - before.get(d).unwrap_or(&0.0)).max(0.0))
                .collect()
        };
        let reached = by_depth(&self.accepted_by_depth, &earlier.accepted_by_depth);
        let offered = by_depth(&self.drafted_by_depth, &earlier.drafted_by_depth);
        let acceptance_by_depth = conditional(&reached, &offered, drafted_steps);
        Window {
            seconds,
            drafted_steps,
            drafted,
            accepted,
            accepted_mean: ratio(accepted, drafted_steps),
            drafted_mean: ratio(drafted, drafted_steps),
            depth_is_lower_bound: offered.is_empty() && !acceptance_by_depth.is_empty(),
            acceptance_by_depth,
            steps,
            tokens_per_step: ratio(step_tokens, steps),
            undrafted_share: ratio(drafted_steps, steps).map(|drafted| (1.0 - drafted).max(0.0)),
            step_seconds: ratio(delta(self.step_seconds, earlier.step_seconds), steps),
            tokens_per_second: delta(self.tokens, earlier.tokens)
                .filter(|_| seconds > 0.0)
                .map(|tokens| tokens / seconds),
            running: self.running,
            own: self.own,
            budget: self.budget,
        }
    }
}

/// Acceptance rate at each depth given that it was reached.
///
/// Ends at the last depth that was reached.
///
/// With the numbers of steps that drafted so deep (`offered`) it is exact. Without them a step that
/// drafted no further counts as a rejection, and the rate is a lower bound.
fn conditional(accepted: &[f64], offered: &[f64], drafted_steps: Option<f64>) -> Vec<f64> {
    let mut rates = Vec::new();
    let mut before = drafted_steps.unwrap_or(0.0);
    for (depth, &here) in accepted.iter().enumerate() {
        // Steps that drafted token d and accepted all before it: at most those that drafted it.
        let tried = offered.get(depth).map_or(before, |offered| before.min(*offered));
        if tried <= 0.0 {
            break;
        }
        rates.push((here / tried).min(1.0));
        before = here;
    }
    rates
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn counters(steps: f64, drafted: f64, depth: &[f64]) -> Counters {
        Counters {
            drafted_steps: Some(steps),
            drafted: Some(drafted),
            accepted: Some(depth.iter().sum()),
            accepted_by_depth: depth.to_vec(),
            ..Counters::default()
        }
    }

    #[test]
    fn differences_become_figures() {
        let window = counters(110.0, 440.0, &[80.0, 45.0, 0.0, 0.0])
            .since(&counters(10.0, 40.0, &[0.0, 5.0, 0.0, 0.0]), 5.0);
        assert_eq!((window.drafted_steps, window.accepted_mean), (Some(100.0), Some(1.2)));
        assert_eq!(window.drafted_mean, Some(4.0));
        assert_eq!(window.acceptance_by_depth, [0.8, 0.5, 0.0]);
        assert!(window.depth_is_lower_bound && window.tokens_per_step.is_none());
    }

    #[test]
    fn drafted_tokens_by_depth_make_rates_exact() {
        let mut now = counters(100.0, 150.0, &[60.0, 20.0]);
        now.drafted_by_depth = vec![100.0, 40.0];
        let window = now.since(&counters(0.0, 0.0, &[]), 1.0);
        assert_eq!(window.acceptance_by_depth, [0.6, 0.5]);
        assert!(!window.depth_is_lower_bound);
    }

    #[test]
    fn counters_that_fall_or_vanish_mean_a_restart() {
        let before = counters(10.0, 40.0, &[5.0]);
        assert!(counters(3.0, 9.0, &[1.0]).fell_below(&before));
        assert!(Counters::default().fell_below(&before));
        assert!(!counters(10.0, 40.0, &[5.0]).fell_below(&before));
        assert!(!before.fell_below(&Counters::default()), "counters appear with the first draft");
        let nothing = before.since(&before, 0.0);
        assert_eq!((nothing.accepted_mean, nothing.tokens_per_second), (None, None));
    }
}
