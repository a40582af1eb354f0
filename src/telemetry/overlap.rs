//! Sampled drafting against the drafter's best token, and the ceiling of the rule: records and their means.

use serde::{Deserialize, Serialize};

use super::StepRecord;

/// One node that the walk came through, where the drafter proposed something: its distribution q beside the target's p.
///
/// Where children are sampled, q is the distribution that they are sampled from, known in full. Elsewhere q is known for the proposed
/// tokens alone: `overlap` is then a lower bound, and `overlap_max` an upper one wherever the rest of q's mass lies, also if q
/// were made to add up to 1 over what is proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overlap {
    /// The node.
    pub node: usize,
    /// p(argmax q): the acceptance of the drafter's best token under sample-and-match.
    pub p_argmax: f64,
    /// The sum of min(p, q) over the tokens whose q is known: the acceptance of one sampled token.
    pub overlap: f64,
    /// Upper bound on the sum over all tokens.
    pub overlap_max: f64,
    /// Mass of q that is known.
    pub covered: f64,
}

impl Overlap {
    /// Of pairs (p, q) of the tokens that were proposed, the drafter's best first. None without any.
    pub fn of(node: usize, tokens: &[(f64, f64)]) -> Option<Overlap> {
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

/// The largest probability with which any lossless rule accepts one of the tokens that were sampled below the root
/// (`theory::transport`), beside what this step's rule made of its own draft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleCeiling {
    /// Tokens that were drafted below the root.
    pub drafts: usize,
    /// The ceiling, as a mean over what could have been sampled there.
    pub ceiling: f64,
    /// P(accepted >= 1 | T): of the draft that was sampled. Its mean over drafts is at most the ceiling.
    pub accepted: f64,
}

/// Means over nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OverlapMean {
    /// Nodes.
    pub nodes: usize,
    /// Mean of p(argmax q).
    pub p_argmax_mean: f64,
    /// Mean of the sum of min(p, q) over the tokens whose q is known.
    pub overlap_mean: f64,
    /// Mean of the upper bound.
    pub overlap_max_mean: f64,
    /// Mean of the mass of q that is known.
    pub covered_mean: f64,
}

/// Means over steps that drafted something below the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleCeilingMean {
    /// Steps.
    pub steps: usize,
    /// Mean of the ceiling.
    pub ceiling_mean: f64,
    /// Mean of P(accepted >= 1 | T).
    pub accepted_mean: f64,
}

/// Sums of both, step by step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overlaps {
    overlap: OverlapMean,
    rule: RuleCeilingMean,
}

impl Overlaps {
    /// Adds a step.
    pub fn add(&mut self, record: &StepRecord) {
        for one in &record.overlap {
            self.overlap.nodes += 1;
            self.overlap.p_argmax_mean += one.p_argmax;
            self.overlap.overlap_mean += one.overlap;
            self.overlap.overlap_max_mean += one.overlap_max;
            self.overlap.covered_mean += one.covered;
        }
        if let Some(rule) = record.rule_ceiling {
            self.rule.steps += 1;
            self.rule.ceiling_mean += rule.ceiling;
            self.rule.accepted_mean += rule.accepted;
        }
    }

    /// Means over the nodes so far; None before the first.
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

    /// Means over the steps so far whose rule has a ceiling; None before the first.
    pub fn rule(&self) -> Option<RuleCeilingMean> {
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
    use crate::telemetry::testing::{chain, record};

    fn normalized(weights: &[f64]) -> Vec<f64> {
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| w / sum).collect()
    }

    proptest! {
        /// Of tokens in falling order of q some are proposed: the bounds hold for q as it is, and for q cut to any more of the tokens
        /// and made to add up to 1.
        #[test]
        fn the_bounds_hold_wherever_the_rest_of_q_lies(
            weights in prop::collection::vec((0.0f64..1.0, 0.001f64..1.0), 2..9), proposed in any::<prop::sample::Index>()
        ) {
            let p = normalized(&weights.iter().map(|w| w.0 + 1e-9).collect::<Vec<_>>());
            let mut tokens: Vec<(f64, f64)> = p.into_iter().zip(normalized(&weights.iter().map(|w| w.1).collect::<Vec<_>>())).collect();
            tokens.sort_by(|a, b| b.1.total_cmp(&a.1));
            let known = 1 + proposed.index(tokens.len());
            let found = Overlap::of(3, &tokens[..known]).unwrap();
            prop_assert_eq!((found.node, found.p_argmax), (3, tokens[0].0));
            let sum = |upto: usize| -> f64 {
                let mass: f64 = tokens[..upto].iter().map(|(_, q)| q).sum();
                tokens[..upto].iter().map(|(p, q)| p.min(q / mass)).sum()
            };
            for upto in known..=tokens.len() {
                prop_assert!(found.overlap <= sum(upto) + 1e-9 && sum(upto) <= found.overlap_max + 1e-9, "{:?} {}", found, sum(upto));
            }
            let all = Overlap::of(0, &tokens).unwrap();
            prop_assert!((all.overlap - all.overlap_max).abs() < 1e-9 && (all.covered - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn means_count_nodes_and_steps() {
        let mut all = Overlaps::default();
        assert_eq!((all.mean(), all.rule(), Overlap::of(0, &[])), (None, None, None));
        let mut step = record(chain(&[0.5]), &[1], 4);
        step.overlap = [(0, 0.75), (1, 0.25)].map(|(node, p)| Overlap::of(node, &[(p, 0.5)]).unwrap()).to_vec();
        step.rule_ceiling = Some(RuleCeiling { drafts: 1, ceiling: 0.5, accepted: 0.25 });
        all.add(&step);
        all.add(&record(chain(&[]), &[], 4));
        let mean = all.mean().unwrap();
        assert_eq!((mean.nodes, mean.p_argmax_mean, mean.overlap_mean, mean.covered_mean), (2, 0.5, 0.375, 0.5));
        assert_eq!(all.rule(), Some(RuleCeilingMean { steps: 1, ceiling_mean: 0.5, accepted_mean: 0.25 }));
    }
}
