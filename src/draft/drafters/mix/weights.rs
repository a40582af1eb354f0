//! Learned weights that combine the members' probabilities of a token.

use std::collections::HashMap;

use crate::draft::calibration::{Calibration, logistic};

/// Maximum number of members of a mix.
pub const MEMBERS: usize = 4;
/// Learning rate of AdaGrad.
const RATE: f64 = 0.15;
/// Initial change in log odds for each member that proposes other tokens instead.
const ABSENT: f64 = -1.5;

/// Proposal of one member for one token after one node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MemberProposal {
    /// No candidate below the node.
    Silent,
    /// Candidates below the node, but not this token.
    Other,
    /// Candidate of probability `q`; `odds` are the log odds of the calibrated `q`.
    Proposed { q: f64, odds: f64 },
}

/// Proposals of all members for one token.
pub type TokenProposals = [MemberProposal; MEMBERS];

/// Logistic mixing of the members' probabilities, with one weight set per proposal pattern.
///
/// The weights are learned by gradient descent on the cross entropy with the target's p. Mixing in
/// the log-odds domain is from Mattern 2012, the step size from AdaGrad (Duchi et al. 2011).
#[derive(Clone, Debug)]
pub struct Weights {
    /// Calibration of each member's q.
    pub calibrations: Vec<Calibration>,
    /// Weight sets by proposal pattern.
    ///
    /// A set has one weight for each member's log odds and one for a constant input. Each comes
    /// with its sum of squared gradients.
    pub weight_sets: HashMap<usize, [(f64, f64); MEMBERS + 1]>,
}

impl Weights {
    fn pattern(proposals: &TokenProposals) -> usize {
        proposals.iter().fold(0, |pattern, proposal| {
            3 * pattern
                + match proposal {
                    MemberProposal::Silent => 0,
                    MemberProposal::Other => 1,
                    MemberProposal::Proposed { .. } => 2,
                }
        })
    }

    /// Inputs of the mixture: log odds of each member and a constant 1.
    fn inputs(proposals: &TokenProposals) -> [f64; MEMBERS + 1] {
        let mut inputs = [1.0; MEMBERS + 1];
        for (input, proposal) in inputs.iter_mut().zip(proposals) {
            *input = if let MemberProposal::Proposed { odds, .. } = proposal { *odds } else { 0.0 };
        }
        inputs
    }

    /// Initial weight set of a pattern. With n members that propose the token, the log odds of each
    /// have weight 1 / sqrt(n). Each member that proposes other tokens lowers the log odds.
    fn initial_set(proposals: &TokenProposals) -> [(f64, f64); MEMBERS + 1] {
        let proposed = proposals
            .iter()
            .filter(|proposal| matches!(proposal, MemberProposal::Proposed { .. }))
            .count();
        let absent =
            proposals.iter().filter(|proposal| matches!(proposal, MemberProposal::Other)).count();
        let mut set = [(1.0 / (proposed.max(1) as f64).sqrt(), 0.0); MEMBERS + 1];
        set[MEMBERS].0 = ABSENT * absent as f64;
        set
    }

    fn weight_set(&self, proposals: &TokenProposals) -> [(f64, f64); MEMBERS + 1] {
        self.weight_sets
            .get(&Self::pattern(proposals))
            .copied()
            .unwrap_or_else(|| Self::initial_set(proposals))
    }

    /// Returns the probability of a token with these proposals.
    pub fn probability(&self, proposals: &TokenProposals) -> f64 {
        logistic(
            self.weight_set(proposals)
                .iter()
                .zip(Self::inputs(proposals))
                .map(|((weight, _), input)| weight * input)
                .sum(),
        )
    }

    /// Updates the weights from a node with target probability `p` and weight `node_weight`.
    pub fn learn(&mut self, proposals: &TokenProposals, node_weight: f64, p: f64) {
        let error = node_weight * (self.probability(proposals) - p);
        let mut set = self.weight_set(proposals);
        for ((weight, squares), input) in set.iter_mut().zip(Self::inputs(proposals)) {
            let gradient = error * input;
            *squares += gradient * gradient;
            if *squares > 0.0 {
                *weight -= RATE * gradient / (1.0 + *squares).sqrt();
            }
        }
        self.weight_sets.insert(Self::pattern(proposals), set);
    }
}
