//! Acceptance at smaller budgets and depths than those verified, from the same steps.
//!
//! Nodes of a tree are in the order in which the shape adds them: by falling path probability under
//! the drafter, or down the chain, with parents before children. The first b - 1 drafted nodes are
//! therefore the tree of budget b, except for the order of equal path probabilities.

use super::StepRecord;
use crate::draft::Shape;

/// Accepted length of one step by budget or depth, actual and expected.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AcceptanceCurve {
    /// Drafted tokens accepted within each budget or depth.
    pub accepted: Vec<usize>,
    /// E\[X | T\] of the tree that is cut to each budget or depth.
    pub expected: Vec<f64>,
}

impl AcceptanceCurve {
    /// Computes the values for budgets 1 to B of the settings. Entry 0 is B = 1, the root alone.
    /// Beyond the size of the tree, the values are constant.
    pub fn budgets(record: &StepRecord) -> AcceptanceCurve {
        let most = record.settings.budget.max(record.tree.parents.len()).max(1);
        Self::by(record, most, |node| node)
    }

    /// Computes the values for depths 0 to that of the deepest node.
    pub fn depths(record: &StepRecord) -> AcceptanceCurve {
        let deepest =
            record.tree.depth.iter().copied().max().unwrap_or(0).min(record.tree.depth.len());
        Self::by(record, deepest + 1, |node| record.tree.depth.get(node).copied().unwrap_or(0))
    }

    /// Cumulative sums over the nodes of `class` at most 0, 1, ... `len` - 1.
    fn by(record: &StepRecord, len: usize, class: impl Fn(usize) -> usize) -> AcceptanceCurve {
        let (mut accepted, mut expected) = (vec![0; len], vec![0.0; len]);
        for &node in &record.path {
            accepted[class(node).min(len - 1)] += 1;
        }
        for (node, pi) in record.tree.path_products().into_iter().enumerate().skip(1) {
            expected[class(node).min(len - 1)] += pi;
        }
        for i in 1..len {
            accepted[i] += accepted[i - 1];
            expected[i] += expected[i - 1];
        }
        AcceptanceCurve { accepted, expected }
    }
}

/// Mean acceptance over steps for every budget up to the settings' B. Accepted tokens and
/// E\[X | T\] are kept for each budget. A step with another B resets the curve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BudgetCurve {
    steps: usize,
    accepted: Vec<f64>,
    expected: Vec<f64>,
}

impl BudgetCurve {
    /// Returns `true` if smaller budgets' trees are prefixes of this step's tree. For sampled trees
    /// this only holds for chains. Block verification decides over the whole chain, but
    /// P(accepted >= i) is the same for every chain of at least i tokens, so the means are still
    /// correct.
    pub fn applies_to(record: &StepRecord) -> bool {
        !record.settings.samples_trees() || record.settings.shape == Shape::Chain
    }

    /// Adds a step, unless its tree says nothing about smaller budgets. See [`Self::applies_to`].
    pub fn add(&mut self, record: &StepRecord) {
        if !Self::applies_to(record) {
            return;
        }
        let within = AcceptanceCurve::budgets(record);
        if within.expected.len() != self.expected.len() {
            let zeros = vec![0.0; within.expected.len()];
            *self = BudgetCurve { steps: 0, accepted: zeros.clone(), expected: zeros };
        }
        self.steps += 1;
        for ((sum, &accepted), (mean, expected)) in self
            .accepted
            .iter_mut()
            .zip(&within.accepted)
            .zip(self.expected.iter_mut().zip(&within.expected))
        {
            *sum += accepted as f64;
            *mean += expected;
        }
    }

    /// Returns the number of steps added since the last reset.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Returns B, the largest budget of the curve; 0 before the first step.
    pub fn budget(&self) -> usize {
        self.expected.len()
    }

    /// Returns the mean number of accepted drafted tokens at budget `b`. `None` outside of 1 to B.
    pub fn accepted(&self, b: usize) -> Option<f64> {
        self.accepted.get(b.checked_sub(1)?).map(|sum| sum / self.steps as f64)
    }

    /// Returns the mean of E\[X | T\] at budget `b`. `None` outside of 1 to B.
    pub fn expected(&self, b: usize) -> Option<f64> {
        self.expected.get(b.checked_sub(1)?).map(|sum| sum / self.steps as f64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::testing::{record, tree};

    #[test]
    fn by_hand() {
        // Root with children 1 (0.5) and 3 (0.25); 1 has child 2 (0.5). Nodes 1 and 2 are accepted,
        // B = 6.
        let record = record(tree(&[(0, 0.5), (1, 0.5), (0, 0.25)]), &[1, 2], 6);
        let budgets = AcceptanceCurve::budgets(&record);
        assert_eq!(budgets.accepted, [0, 1, 2, 2, 2, 2]);
        assert_eq!(budgets.expected, [0.0, 0.5, 0.75, 1.0, 1.0, 1.0]);
        let depths = AcceptanceCurve::depths(&record);
        assert_eq!((depths.accepted, depths.expected), (vec![0, 1, 2], vec![0.0, 0.75, 1.0]));
        // Nothing drafted.
        let record = self::record(tree(&[]), &[], 1);
        assert_eq!(
            AcceptanceCurve::budgets(&record),
            AcceptanceCurve { accepted: vec![0], expected: vec![0.0] }
        );
        assert_eq!(
            AcceptanceCurve::depths(&record),
            AcceptanceCurve { accepted: vec![0], expected: vec![0.0] }
        );
    }

    #[test]
    fn another_budget_resets_the_curve() {
        let mut curve = BudgetCurve::default();
        assert_eq!((curve.accepted(1), curve.expected(0)), (None, None));
        curve.add(&record(tree(&[(0, 0.5)]), &[1], 4));
        curve.add(&record(tree(&[(0, 0.25)]), &[], 8));
        assert_eq!(
            (curve.steps(), curve.budget(), curve.accepted(8), curve.expected(8)),
            (1, 8, Some(0.0), Some(0.25))
        );
        assert_eq!(curve.expected(9), None);
    }

    prop_compose! {
        fn step()(nodes in prop::collection::vec((any::<prop::sample::Index>(), 0.0f64..1.0), 0..12), deep in any::<prop::sample::Index>())
            -> StepRecord {
            let nodes: Vec<(usize, f64)> = nodes.iter().enumerate().map(|(i, (at, p))| (at.index(i + 1), *p)).collect();
            let tree = tree(&nodes);
            // The path to some node.
            let (mut path, mut at) = (Vec::new(), Some(deep.index(tree.p.len())));
            while let Some(node) = at.filter(|&node| node > 0) {
                path.push(node);
                at = tree.parents[node];
            }
            path.reverse();
            record(tree, &path, 14)
        }
    }

    proptest! {
        #[test]
        fn curve_is_monotone_and_ends_at_the_means(steps in prop::collection::vec(step(), 1..12)) {
            let mut curve = BudgetCurve::default();
            steps.iter().for_each(|step| curve.add(step));
            let n = steps.len() as f64;
            let accepted = steps.iter().map(|s| s.accepted as f64).sum::<f64>() / n;
            let expected = steps.iter().map(|s| s.expected_accepted).sum::<f64>() / n;
            prop_assert_eq!(curve.budget(), 14);
            prop_assert!((curve.accepted(14).unwrap() - accepted).abs() < 1e-12);
            prop_assert!((curve.expected(14).unwrap() - expected).abs() < 1e-12);
            prop_assert_eq!((curve.accepted(1), curve.expected(1)), (Some(0.0), Some(0.0)));
            for b in 2..=14 {
                prop_assert!(curve.accepted(b).unwrap() >= curve.accepted(b - 1).unwrap());
                prop_assert!(curve.expected(b).unwrap() >= curve.expected(b - 1).unwrap());
            }
            for step in &steps {
                let depths = AcceptanceCurve::depths(step);
                prop_assert_eq!(*depths.accepted.last().unwrap(), step.accepted);
                prop_assert!((depths.expected.last().unwrap() - step.expected_accepted).abs() < 1e-12);
                for (d, &accepted) in depths.accepted.iter().enumerate() {
                    prop_assert_eq!(accepted, step.accepted.min(d));
                }
            }
        }
    }
}
