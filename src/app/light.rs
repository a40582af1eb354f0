//! Speed of light as the screen shows it: figures of one moment, on a scale that rarely moves.

use std::time::Duration;

use super::history::Averages;
use crate::telemetry::SpeedOfLight;
use crate::theory::cost::Cost;

/// Least time between two evaluations.
const EVERY: Duration = Duration::from_millis(500);
/// Least number of new steps for an evaluation before that time; more as the run goes on.
const STEPS: usize = 8;
/// Searched steps below which the ceiling is not shown: it would move by a tenth with each one. Deterministic text needs no search.
const FEWEST_SEARCHED: usize = 8;
/// Room that the scale has above the speed of light when it is set, so that a small rise does not move it.
const HEADROOM: f64 = 1.02;
/// The scale shrinks where the light fills less of it than this ...
const SHORT: f64 = 0.9;
/// ... for so many evaluations in a row.
const PATIENCE: u32 = 4;

/// Unit of the gauge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GaugeUnit {
    /// Tokens per second, against the speed of light of this machine.
    #[default]
    PerSecond,
    /// Tokens per step, against the theorem's ceilings at one budget.
    PerStep,
}

/// Figures of the bar, all of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Light {
    /// The ceiling, the share reached and the losses.
    pub figures: SpeedOfLight,
    /// The ceiling in tokens per second, once enough steps were searched.
    pub known: Option<f64>,
    /// Tokens per second reached over the steps at these settings. None before the first.
    pub reached: Option<f64>,
    /// Tokens per second if drafting took no time.
    pub free: Option<f64>,
    /// Tokens per second at the right end of the bar.
    pub top: f64,
    /// Steps that the figures are of.
    pub steps: usize,
    /// When they were evaluated.
    at: Duration,
    /// Evaluations in a row at which the scale was far too long.
    short: u32,
}

/// What an evaluation needs besides the steps.
pub struct Surroundings<'a> {
    /// Time since the start.
    pub now: Duration,
    /// Tokens per second of plain decoding.
    pub plain: Option<f64>,
    /// Cost of passes.
    pub cost: Option<&'a Cost>,
    /// Whether a perfect drafter has every token accepted: greedy, or with sampled trees.
    pub deterministic: bool,
    /// Fluid bound by P = 0, 1, 2, ...; empty where it does not hold.
    pub fluid: &'a [f64],
}

impl Light {
    /// Whether there is enough new to evaluate again.
    pub fn due(&self, averages: &Averages, now: Duration) -> bool {
        let new = averages.steps.saturating_sub(self.steps);
        averages.steps < self.steps
            || (new > 0 && (now >= self.at + EVERY || new >= STEPS.max(self.steps / 20)))
            || (averages.steps > 0 && self.steps == 0)
    }

    /// Evaluates the figures of all steps at the present settings.
    pub fn evaluate(&mut self, averages: &Averages, around: &Surroundings) {
        if averages.steps < self.steps {
            // Other settings: another light.
            *self = Light::default();
        }
        let known_before = self.known.is_some();
        self.figures = averages.light.summary(around.cost, around.fluid);
        self.reached = averages.tokens_per_second();
        let time = &averages.time;
        let undrafted = time.verify + time.other;
        self.free = (averages.tokens > 0 && undrafted > 0.0).then(|| averages.tokens as f64 / undrafted);
        (self.steps, self.at) = (averages.steps, around.now);
        let sound = |x: &f64| x.is_finite() && *x > 0.0;
        let enough = around.deterministic || self.figures.searched_steps >= FEWEST_SEARCHED;
        let light = self.figures.tokens_per_second.filter(|c| enough && sound(c));
        self.known = light;
        let provisional = || {
            let twice = [around.plain, self.reached].into_iter().flatten().filter(sound).map(|v| 2.0 * v).reduce(f64::max);
            self.figures.iid_tokens_per_second.filter(sound).or(twice)
        };
        if known_before != light.is_some() {
            self.top = 0.0;
        }
        if let Some(end) = light.or_else(provisional) {
            self.rescale(end);
        }
    }

    /// Grows the scale at once where `end` lies beyond it, and shrinks it late.
    fn rescale(&mut self, end: f64) {
        self.short = if end < SHORT * self.top { self.short + 1 } else { 0 };
        if end > self.top || self.short >= PATIENCE {
            (self.top, self.short) = (HEADROOM * end, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_grows_at_once_and_shrinks_late() {
        let mut light = Light::default();
        light.rescale(100.0);
        assert_eq!(light.top, 102.0);
        for end in [102.0, 94.0, 101.0, 92.0, 99.0] {
            light.rescale(end);
            assert_eq!(light.top, 102.0, "{end}");
        }
        light.rescale(200.0);
        assert_eq!(light.top, 204.0);
        // A short dip does not move it, a lasting one does.
        for end in [100.0, 100.0, 100.0, 190.0, 100.0, 100.0, 100.0] {
            light.rescale(end);
            assert_eq!(light.top, 204.0);
        }
        light.rescale(100.0);
        assert_eq!(light.top, 102.0);
    }
}
