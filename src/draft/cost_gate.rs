//! Cost gate: a pass of a drafter's own model must pay for itself.
//!
//! The automatic budget sets a [`CostModel`] before each step. With it, [`CostGate`] decides if the
//! next pass saves more time than it takes.

/// Cost model that drafting must pay for in the next step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostModel {
    /// Seconds that one more accepted token saves.
    pub seconds_per_token: f64,
    /// Seconds that one more node adds to the target's pass.
    pub seconds_per_node: f64,
    /// Set during back-off, in which no member of a mix runs a model.
    pub back_off: bool,
}

impl CostModel {
    /// Cost model under which every pass pays. Used when the caller has already decided the size of
    /// the draft.
    pub const ALWAYS_PAYS: CostModel =
        CostModel { seconds_per_token: f64::MAX, seconds_per_node: 0.0, back_off: false };
}

/// Weight of the newest value in the moving averages.
const NEW: f64 = 0.1;
/// Interval at which a rejected pass is run all the same. Its time and yield may have changed.
const EXPLORATION_INTERVAL: usize = 32;

/// Running estimate of the cost and yield of one drafter's passes.
#[derive(Clone, Debug, Default)]
pub(super) struct CostGate {
    /// Moving average of the seconds of a pass.
    seconds: Option<f64>,
    /// Moving average of the best child's probability, given that its parent is reached.
    best_child: Option<f64>,
    /// Number of passes rejected in a row.
    rejected: usize,
}

impl CostGate {
    /// Expected savings in seconds from proposing below a node with reach probability `reach`.
    fn gain(&self, model: &CostModel, reach: f64) -> f64 {
        reach * self.best_child.unwrap_or(1.0) * model.seconds_per_token - model.seconds_per_node
    }

    /// Returns `true` if a node pays for its place in a pass that runs anyway.
    pub fn node_pays(&self, model: &CostModel, reach: f64) -> bool {
        self.gain(model, reach) > 0.0
    }

    /// Returns `true` if a pass over nodes with these reach probabilities pays for itself.
    pub fn pass_pays(&mut self, model: &CostModel, reached: impl Iterator<Item = f64>) -> bool {
        let Some(seconds) = self.seconds else { return true };
        let gain: f64 = reached.map(|reach| self.gain(model, reach).max(0.0)).sum();
        if gain >= seconds {
            self.rejected = 0;
            return true;
        }
        self.rejected += 1;
        self.rejected.is_multiple_of(EXPLORATION_INTERVAL)
    }

    /// Updates the estimates with the seconds of a pass and its nodes. `children` has, for each
    /// node, its reach probability and the probability of its best child.
    pub fn learn(&mut self, seconds: f64, children: impl Iterator<Item = (f64, f64)>) {
        let (mut reached, mut below) = (0.0, 0.0);
        for (reach, best) in children {
            (reached, below) = (reached + reach, below + reach * best);
        }
        update_moving_average(&mut self.seconds, seconds);
        if reached > 0.0 {
            update_moving_average(&mut self.best_child, below / reached);
        }
    }
}

/// Updates an exponential moving average, clamping outliers to twice the mean.
pub(crate) fn update_moving_average(mean: &mut Option<f64>, new: f64) {
    match mean {
        Some(mean) => *mean += NEW * (new.min(2.0 * *mean) - *mean),
        None => *mean = Some(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_run_only_if_they_save_more_than_they_take() {
        let mut gate = CostGate::default();
        gate.learn(3.0, [(1.0, 0.5), (0.5, 0.5)].into_iter());
        let model = CostModel { seconds_per_token: 10.0, seconds_per_node: 1.0, back_off: false };
        let mut pays = |reached: &[f64]| gate.pass_pays(&model, reached.iter().copied());
        // 0.8 * 0.5 * 10 - 1 = 3. The second node's gain would be negative and counts as 0.
        assert!(pays(&[0.8, 0.1]) && !pays(&[0.79, 0.1]));
        // Two nodes together.
        assert!(pays(&[0.5, 0.5]));
        let made = (0..10 * EXPLORATION_INTERVAL).filter(|_| pays(&[0.1])).count();
        assert_eq!(made, 10);
        assert!(gate.node_pays(&model, 0.21) && !gate.node_pays(&model, 0.2));
    }

    #[test]
    fn gate_adapts_to_pass_time_and_yield() {
        let mut gate = CostGate::default();
        let model = CostModel { seconds_per_token: 1.0, seconds_per_node: 0.0, back_off: false };
        assert!(gate.pass_pays(&model, [0.0].into_iter()), "nothing is known yet");
        gate.learn(0.5, [(1.0, 1.0)].into_iter());
        assert!(gate.pass_pays(&model, [0.6].into_iter()));
        (0..60).for_each(|_| gate.learn(0.5, [(1.0, 0.25)].into_iter()));
        assert!(!gate.pass_pays(&model, [0.6].into_iter()));
        (0..60).for_each(|_| gate.learn(0.1, std::iter::empty()));
        assert!(gate.pass_pays(&model, [0.6].into_iter()));
        // An outlier: one pass that took an hour.
        gate.learn(3600.0, std::iter::empty());
        assert!(gate.pass_pays(&model, [0.6].into_iter()));
    }
}
