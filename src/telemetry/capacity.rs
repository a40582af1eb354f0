//! Capacity of the verify passes over many steps (bounds.md, "Capacity of a pass").

use serde::{Deserialize, Serialize};

use super::StepRecord;
use crate::theory::capacity;

/// Means of the capacity of verify passes, in nats. `None` for sampled trees, whose yield it does
/// not bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CapacitySummary {
    /// Mean used fraction of the capacity, H(V) / ln B. Only passes of more than one token count.
    pub mean: Option<f64>,
    /// Fraction of the text's nats that came through the trees. The bonus tokens carry the others.
    /// `None` for deterministic text.
    pub tree_nats_share: Option<f64>,
    /// Upper bound on tokens per step by the capacity of the passes. It is (mean of ln B + mean
    /// nats left to the bonus) / mu. `None` for deterministic text.
    pub ceiling: Option<f64>,
}

/// Accumulator for a [`CapacitySummary`], over deterministic trees.
#[derive(Clone, Copy, Debug, Default)]
pub struct CapacityTally {
    /// Number of passes of more than one token, and the sum of their used fractions.
    passes: usize,
    used_shares: f64,
    tokens: usize,
    steps: usize,
    /// Sum of ln B, in nats.
    capacity: f64,
    /// Sum of H(V), in nats.
    exit: f64,
    /// Sum of h_v over the nodes that the verification walks reached.
    walk: f64,
    /// Sum of the entropies of the emitted positions.
    nats: f64,
}

impl CapacityTally {
    /// Adds the record of a step. Ignored for sampled trees.
    pub fn add(&mut self, record: &StepRecord) {
        if record.settings.samples_trees() {
            return;
        }
        let tree = &record.tree;
        let choice = capacity::choice_entropies(&tree.parents, &tree.p);
        let walk = std::iter::once(&0).chain(&record.path).filter_map(|node| choice.get(*node));
        self.walk += walk.sum::<f64>();
        self.exit += capacity::exit_entropy(&tree.parents, &tree.p);
        self.capacity += (tree.p.len().max(1) as f64).ln();
        self.nats += record.entropy.iter().map(|position| position.sampled.entropy).sum::<f64>();
        self.tokens += record.emitted.len();
        self.steps += 1;
        if let Some(share) = record.used_capacity() {
            self.passes += 1;
            self.used_shares += share;
        }
    }

    /// Computes the means so far.
    ///
    /// The nats left to the bonus tokens are taken as all nats minus H(V). Counting them at the
    /// node where each walk ended would have the same mean and more variance. `ceiling` is
    /// therefore tokens per step plus the mean of (ln B - H(V)) / mu, which is never below the
    /// tokens per step reached.
    pub fn summary(&self) -> CapacitySummary {
        let ratio = |a: f64, b: f64| (b > 0.0).then(|| a / b).filter(|ratio| ratio.is_finite());
        let left = self.nats - self.exit;
        CapacitySummary {
            mean: ratio(self.used_shares, self.passes as f64),
            tree_nats_share: ratio(self.walk, self.nats).map(|share| share.min(1.0)),
            ceiling: ratio(
                (self.capacity + left) * self.tokens as f64,
                self.nats * self.steps as f64,
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::distribution::Moments;
    use crate::telemetry::PositionEntropy;
    use crate::telemetry::testing::{chain, record};
    use crate::verify::Rule;

    fn entropies(all: &[f64]) -> Vec<PositionEntropy> {
        let one = |entropy: &f64| PositionEntropy {
            sampled: Moments { entropy: *entropy, ..Moments::default() },
            ..PositionEntropy::default()
        };
        all.iter().map(one).collect()
    }

    /// Entropy of a choice between two outcomes.
    fn binary(p: f64) -> f64 {
        -p * p.ln() - (1.0 - p) * (1.0 - p).ln()
    }

    /// Outcomes of a chain of two nodes over a binary vocabulary, with their probabilities. Each
    /// node is accepted with `p`, and the bonus token after both is a fair coin.
    fn steps(p: f64) -> Vec<(f64, StepRecord)> {
        let outcomes = [(1.0 - p, 0), (p * (1.0 - p), 1), (p * p, 2)];
        let step = |(weight, accepted): (f64, usize)| {
            let mut record = record(chain(&[p, p]), &[1, 2][..accepted], 3);
            let at_bonus = if accepted == 2 { 2f64.ln() } else { binary(p) };
            record.entropy = entropies(&[vec![binary(p); accepted], vec![at_bonus]].concat());
            record.capacity = record.used_capacity();
            (weight, record)
        };
        outcomes.map(step).to_vec()
    }

    #[test]
    fn mean_nats_split_into_exit_entropy_and_bonus() {
        let p = 0.7;
        let mut walk = 0.0;
        let mut exit = 0.0;
        for (weight, record) in steps(p) {
            let mut tally = CapacityTally::default();
            tally.add(&record);
            walk += weight * tally.walk;
            exit = tally.exit;
            assert!((record.capacity.unwrap() - tally.exit / 3f64.ln()).abs() < 1e-12);
        }
        assert!((walk - exit).abs() < 1e-12 && (exit - (binary(p) * (1.0 + p))).abs() < 1e-12);
    }

    #[test]
    fn the_ceiling_holds_for_what_was_reached() {
        let mut tally = CapacityTally::default();
        let all = steps(0.7);
        // Each outcome as often as it occurs in 100 steps.
        for (weight, record) in &all {
            (0..(weight * 100.0).round() as usize).for_each(|_| tally.add(record));
        }
        let summary = tally.summary();
        let reached = tally.tokens as f64 / tally.steps as f64;
        let mu = tally.nats / tally.tokens as f64;
        assert!(summary.ceiling.unwrap() > reached);
        assert!(
            (summary.ceiling.unwrap() - (reached + (3f64.ln() - tally.exit / 100.0) / mu)).abs()
                < 1e-9
        );
        assert!((summary.mean.unwrap() - binary(0.7) * 1.7 / 3f64.ln()).abs() < 1e-12);
        // Only the bonus token after the second node is not the tree's.
        let bonus = 49.0 * 2f64.ln();
        assert!((summary.tree_nats_share.unwrap() - (1.0 - bonus / tally.nats)).abs() < 1e-9);
    }

    #[test]
    fn sampled_trees_and_bare_roots_have_no_capacity_and_greedy_uses_none() {
        let mut tally = CapacityTally::default();
        let mut sampled = steps(0.5)[0].1.clone();
        sampled.settings.verify = Rule::Rejection;
        assert_eq!(sampled.used_capacity(), None);
        tally.add(&sampled);
        assert_eq!(tally.summary(), CapacitySummary::default());
        let mut bare = record(chain(&[]), &[], 1);
        bare.entropy = entropies(&[1.5]);
        tally.add(&bare);
        assert_eq!(bare.used_capacity(), None);
        let summary = tally.summary();
        assert_eq!(
            (summary.mean, summary.tree_nats_share, summary.ceiling),
            (None, Some(0.0), Some(1.0))
        );
        let mut tally = CapacityTally::default();
        let mut greedy = record(chain(&[1.0, 0.0]), &[1], 3);
        greedy.settings.temperature = 0.0;
        greedy.entropy = entropies(&[0.0, 0.0]);
        tally.add(&greedy);
        assert_eq!(greedy.used_capacity(), Some(0.0));
        assert_eq!(
            tally.summary(),
            CapacitySummary { mean: Some(0.0), tree_nats_share: None, ceiling: None }
        );
    }
}
