//! Overlap of the drafter's and the target's distributions, and ceilings of verification rules.
//! They compare sampled drafting with the drafter's best token. [`OverlapTally`] adds up the means
//! over steps.

use serde::{Deserialize, Serialize};

/// Overlap of p and q at one node of the verification walk with candidates.
///
/// If children are sampled, q is the distribution they are sampled from and is fully known.
/// Otherwise q is known for the candidates only. `overlap` is then a lower bound, and `overlap_max`
/// an upper bound for any placement of q's remaining mass, including q normalized over the
/// candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overlap {
    /// Node of the step's tree; 0 is the root.
    pub node: usize,
    /// p(argmax q): acceptance probability of the drafter's best token under sample-and-match.
    pub p_argmax: f64,
    /// Sum of min(p, q) over tokens with known q: acceptance probability of one sampled token.
    pub overlap: f64,
    /// Upper bound on the sum of min(p, q) over all tokens.
    pub overlap_max: f64,
    /// Known probability mass of q.
    pub covered: f64,
}

impl Overlap {
    /// Computes the overlap from pairs (p, q) of the candidates, the drafter's best first. `None`
    /// without candidates.
    pub fn from_candidates(node: usize, tokens: &[(f64, f64)]) -> Option<Overlap> {
        let &(p_argmax, _) = tokens.first()?;
        let covered = tokens.iter().map(|(_, q)| q).sum::<f64>();
        let known = tokens.iter().map(|(p, _)| p).sum::<f64>();
        let overlap = tokens.iter().map(|(p, q)| p.min(*q)).sum::<f64>();
        let scaled: f64 = tokens.iter().map(|(p, q)| p.min(q / covered.min(1.0))).sum();
        let rest = (1.0 - covered).min(1.0 - known).max(0.0);
        Some(Overlap {
            node,
            p_argmax,
            overlap: overlap.min(1.0),
            overlap_max: (scaled + rest).max(overlap).min(1.0),
            covered: covered.min(1.0),
        })
    }
}

/// Upper bound on the acceptance at depth 1 under any lossless rule.
///
/// The bound is on the probability that one of the tokens sampled below the root is accepted
/// (`theory::transport`). The acceptance of the step's own rule and draft is given for comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleCeiling {
    /// Number of tokens drafted below the root.
    pub drafts: usize,
    /// Upper bound, as a mean over the tokens that could have been sampled.
    pub ceiling: f64,
    /// P(accepted >= 1 | T) of the draft that was sampled. Its mean over drafts is at most the
    /// ceiling.
    pub accepted: f64,
}

/// Means of [`Overlap`] over nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OverlapMean {
    /// Number of nodes added.
    pub nodes: usize,
    /// Mean of p(argmax q).
    pub p_argmax_mean: f64,
    /// Mean of the sum of min(p, q) over tokens with known q.
    pub overlap_mean: f64,
    /// Mean of the upper bound on the overlap.
    pub overlap_max_mean: f64,
    /// Mean of q's known mass.
    pub covered_mean: f64,
}

/// Means of [`RuleCeiling`] over steps that drafted something below the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleCeilingMean {
    /// Number of steps with a ceiling.
    pub steps: usize,
    /// Mean upper bound on the acceptance at depth 1.
    pub ceiling_mean: f64,
    /// Mean of P(accepted >= 1 | T).
    pub accepted_mean: f64,
}

/// Accumulator for [`OverlapMean`] and [`RuleCeilingMean`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OverlapTally {
    overlap: OverlapMean,
    rule: RuleCeilingMean,
}

impl OverlapTally {
    /// Adds the overlap and the rule's ceiling of a step.
    pub fn add(&mut self, overlap: &[Overlap], rule_ceiling: Option<RuleCeiling>) {
        for one in overlap {
            self.overlap.nodes += 1;
            self.overlap.p_argmax_mean += one.p_argmax;
            self.overlap.overlap_mean += one.overlap;
            self.overlap.overlap_max_mean += one.overlap_max;
            self.overlap.covered_mean += one.covered;
        }
        if let Some(rule) = rule_ceiling {
            self.rule.steps += 1;
            self.rule.ceiling_mean += rule.ceiling;
            self.rule.accepted_mean += rule.accepted;
        }
    }

    /// Returns the means over the nodes so far; `None` before the first.
    pub fn mean(&self) -> Option<OverlapMean> {
        let n = self.overlap.nodes as f64;
        (self.overlap.nodes > 0).then(|| OverlapMean {
            nodes: self.overlap.nodes,
            p_argmax_mean: self.overlap.p_argmax_mean / n,
            overlap_mean: self.overlap.overlap_mean / n,
            overlap_max_mean: self.overlap.overlap_max_mean / n,
            covered_mean: self.overlap.covered_mean / n,
        })
    }

    /// Returns the means over the steps whose rule has a ceiling; `None` before the first.
    pub fn rule_ceiling(&self) -> Option<RuleCeilingMean> {
        let n = self.rule.steps as f64;
        (self.rule.steps > 0).then(|| RuleCeilingMean {
            steps: self.rule.steps,
            ceiling_mean: self.rule.ceiling_mean / n,
            accepted_mean: self.rule.accepted_mean / n,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn normalized(weights: &[f64]) -> Vec<f64> {
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| w / sum).collect()
    }

    proptest! {
        /// Checks the bounds when some tokens are proposed, in falling order of q.
        ///
        /// The bounds must hold for q itself, and for q truncated to any larger number of tokens
        /// and normalized.
        #[test]
        fn the_bounds_hold_wherever_the_rest_of_q_lies(
            weights in prop::collection::vec((0.0f64..1.0, 0.001f64..1.0), 2..9), proposed in any::<prop::sample::Index>()
        ) {
            let p = normalized(&weights.iter().map(|w| w.0 + 1e-9).collect::<Vec<_>>());
            let mut tokens: Vec<(f64, f64)> = p.into_iter().zip(normalized(&weights.iter().map(|w| w.1).collect::<Vec<_>>())).collect();
            tokens.sort_by(|a, b| b.1.total_cmp(&a.1));
            let known = 1 + proposed.index(tokens.len());
            let found = Overlap::from_candidates(3, &tokens[..known]).unwrap();
            prop_assert_eq!((found.node, found.p_argmax), (3, tokens[0].0));
            let sum = |upto: usize| -> f64 {
                let mass: f64 = tokens[..upto].iter().map(|(_, q)| q).sum();
                tokens[..upto].iter().map(|(p, q)| p.min(q / mass)).sum()
            };
            for upto in known..=tokens.len() {
                prop_assert!(found.overlap <= sum(upto) + 1e-9 && sum(upto) <= found.overlap_max + 1e-9, "{:?} {}", found, sum(upto));
            }
            let all = Overlap::from_candidates(0, &tokens).unwrap();
            prop_assert!((all.overlap - all.overlap_max).abs() < 1e-9 && (all.covered - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn means_count_nodes_and_steps() {
        let mut all = OverlapTally::default();
        assert_eq!(
            (all.mean(), all.rule_ceiling(), Overlap::from_candidates(0, &[])),
            (None, None, None)
        );
        let overlap = [(0, 0.75), (1, 0.25)]
            .map(|(node, p)| Overlap::from_candidates(node, &[(p, 0.5)]).unwrap());
        let ceiling = Some(RuleCeiling { drafts: 1, ceiling: 0.5, accepted: 0.25 });
        all.add(&overlap, ceiling);
        all.add(&[], None);
        let mean = all.mean().unwrap();
        assert_eq!(
            (mean.nodes, mean.p_argmax_mean, mean.overlap_mean, mean.covered_mean),
            (2, 0.5, 0.375, 0.5)
        );
        assert_eq!(
            all.rule_ceiling(),
            Some(RuleCeilingMean { steps: 1, ceiling_mean: 0.5, accepted_mean: 0.25 })
        );
    }
}
