//! Snapshot of the speed of light for the screen, on a scale that rarely moves.
//!
//! [`LightBar`] holds the figures of one evaluation and decides when the next is due.

use std::time::Duration;

use super::history::Averages;
use crate::telemetry::SpeedOfLight;
use crate::theory::cost::CostCurve;

/// Minimum time between two evaluations, unless many steps are new.
const MIN_INTERVAL: Duration = Duration::from_millis(500);
/// Number of new steps that triggers an early evaluation. It grows to 1/20 of the steps so far.
const MIN_NEW_STEPS: usize = 8;
/// Minimum number of searched steps to show the ceiling. With fewer, each search would move it by
/// about a tenth. Deterministic text needs no search.
const FEWEST_SEARCHED: usize = 8;
/// Length of a new scale relative to the speed of light. Above 1, so that a small rise does not
/// move it.
const HEADROOM: f64 = 1.02;
/// Fraction of the scale below which the speed of light counts as short.
const SHRINK_BELOW: f64 = 0.9;
/// Consecutive short evaluations after which the scale shrinks.
const SHRINK_AFTER: u32 = 4;

/// Unit of the gauge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GaugeUnit {
    /// Tokens per second, against the speed of light of this machine.
    #[default]
    PerSecond,
    /// Tokens per step, against the bounds at one budget.
    PerStep,
}

/// Figures of the bar, all from one evaluation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LightBar {
    /// Ceiling, fraction reached, and losses, in tokens per second.
    pub figures: SpeedOfLight,
    /// Ceiling in tokens per second; `None` until enough steps were searched.
    pub known: Option<f64>,
    /// Tokens per second over the steps at these settings; `None` before the first.
    pub reached: Option<f64>,
    /// Tokens per second if drafting took no time.
    pub free: Option<f64>,
    /// Tokens per second at the right end of the bar.
    pub top: f64,
    /// Number of steps that the figures cover.
    pub steps: usize,
    /// Time of the evaluation, since the program started.
    at: Duration,
    /// Number of consecutive evaluations below [`SHRINK_BELOW`] of the scale.
    short: u32,
}

/// Inputs of an evaluation other than the steps.
pub struct EvaluationInputs<'a> {
    /// Time since the program started.
    pub now: Duration,
    /// Tokens per second of plain decoding.
    pub plain: Option<f64>,
    /// Measured cost of verify passes.
    pub cost: Option<&'a CostCurve>,
    /// Set if a perfect drafter has every token accepted: greedy text or sampled trees.
    pub deterministic: bool,
    /// Fluid bound for 0, 1, 2, ... drafted nodes; empty where it does not apply.
    pub fluid: &'a [f64],
}

impl LightBar {
    /// Returns whether enough steps or time have passed for another evaluation.
    pub fn due(&self, averages: &Averages, now: Duration) -> bool {
        let new = averages.steps.saturating_sub(self.steps);
        averages.steps < self.steps
            || (new > 0
                && (now >= self.at + MIN_INTERVAL || new >= MIN_NEW_STEPS.max(self.steps / 20)))
            || (averages.steps > 0 && self.steps == 0)
    }

    /// Evaluates the figures over all steps at the present settings.
    pub fn evaluate(&mut self, averages: &Averages, around: &EvaluationInputs) {
        if averages.steps < self.steps {
            // Fewer steps than before: settings changed and the averages started over.
            *self = LightBar::default();
        }
        let known_before = self.known.is_some();
        self.figures = averages.light.summary(around.cost, around.fluid);
        self.reached = averages.tokens_per_second();
        let time = &averages.time;
        let undrafted = time.verify + time.other;
        self.free =
            (averages.tokens > 0 && undrafted > 0.0).then(|| averages.tokens as f64 / undrafted);
        (self.steps, self.at) = (averages.steps, around.now);
        let sound = |x: &f64| x.is_finite() && *x > 0.0;
        let enough = around.deterministic || self.figures.searched_steps >= FEWEST_SEARCHED;
        let light = self.figures.tokens_per_second.filter(|c| enough && sound(c));
        self.known = light;
        let provisional = || {
            let twice = [around.plain, self.reached]
                .into_iter()
                .flatten()
                .filter(sound)
                .map(|v| 2.0 * v)
                .reduce(f64::max);
            self.figures.iid_tokens_per_second.filter(sound).or(twice)
        };
        if known_before != light.is_some() {
            self.top = 0.0;
        }
        if let Some(end) = light.or_else(provisional) {
            self.rescale(end);
        }
    }

    /// Lengthens the scale at once if `end` lies beyond it; shortens it after [`SHRINK_AFTER`] calls.
    fn rescale(&mut self, end: f64) {
        self.short = if end < SHRINK_BELOW * self.top { self.short + 1 } else { 0 };
        if end > self.top || self.short >= SHRINK_AFTER {
            (self.top, self.short) = (HEADROOM * end, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_grows_at_once_and_shrinks_late() {
        let mut light = LightBar::default();
        light.rescale(100.0);
        assert_eq!(light.top, 102.0);
        for end in [102.0, 94.0, 101.0, 92.0, 99.0] {
            light.rescale(end);
            assert_eq!(light.top, 102.0, "{end}");
        }
        light.rescale(200.0);
        assert_eq!(light.top, 204.0);
        // A short dip leaves the scale alone; a lasting one shrinks it.
        for end in [100.0, 100.0, 100.0, 190.0, 100.0, 100.0, 100.0] {
            light.rescale(end);
            assert_eq!(light.top, 204.0);
        }
        light.rescale(100.0);
        assert_eq!(light.top, 102.0);
    }
}
