//! Static trees: best on average, by the acceptance rate of each child rank. The optimization is
//! that of Sequoia (Chen et al. 2024, section 3.1).

use super::kind::Shape;
use super::sampled;
use crate::draft::draft_tree::{Cut, Draft};
use crate::draft::request::Limits;
use crate::tree::TokenId;

/// Maximum number of children of a node.
const RANKS: usize = 16;
/// Prior acceptance rate of the best child, and the ratio between neighboring ranks.
const PRIOR_FIRST_RATE: f64 = 0.6;
const PRIOR_RATE_RATIO: f64 = 0.4;
/// Weight of the prior, in nodes.
const PRIOR: f64 = 10.0;
/// Decay factor per step for older observations, since texts change.
const KEEP: f64 = 0.995;

/// Topology of a tree: the children of each node, by rank. The root is node 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    children: Vec<Vec<usize>>,
}

impl Plan {
    /// Returns the child of `node` with this rank.
    pub fn child(&self, node: usize, rank: usize) -> Option<usize> {
        self.children.get(node)?.get(rank).copied()
    }

    /// Finds the best tree of at most `drafted` nodes below the root.
    ///
    /// The child of rank k of any node is accepted with probability `acceptance[k]`. The best tree
    /// has the largest sum, over its nodes, of the products of these probabilities along their
    /// paths.
    ///
    /// Let F(n) be the largest sum of a tree of at most n nodes, its own root included, and G(m, k)
    /// that of at most m nodes in the subtrees of children from rank k up. Then
    ///
    /// ```text
    /// F(n) = 1 + G(n - 1, 0)
    /// G(m, k) = max(0, max over s of p_k F(s) + G(m - s, k + 1)).
    /// ```
    ///
    /// This is Sequoia's dynamic program without its bound on the depth. Takes O(n^2 K) time.
    pub fn best(drafted: usize, acceptance: &[f64]) -> Plan {
        let ranks = acceptance.len();
        // `value_of[m][k]` is G(m, k), `size[m][k]` the s that maximizes it, and `tree[n]` is F(n).
        let mut value_of = vec![vec![0.0; ranks + 1]; drafted + 1];
        let mut size = vec![vec![0usize; ranks + 1]; drafted + 1];
        let mut tree = vec![0.0; drafted + 2];
        tree[1] = 1.0;
        for m in 1..=drafted {
            tree[m] = 1.0 + value_of[m - 1][0];
            for k in 0..ranks {
                for s in 1..=m {
                    let sum = acceptance[k] * tree[s] + value_of[m - s][k + 1];
                    if sum > value_of[m][k] {
                        (value_of[m][k], size[m][k]) = (sum, s);
                    }
                }
            }
        }
        let mut plan = Plan { children: vec![Vec::new()] };
        // Nodes to expand, with the number of nodes left for their descendants.
        let mut open = vec![(0, drafted)];
        while let Some((node, mut remaining)) = open.pop() {
            let mut rank = 0;
            while let Some(own) = size[remaining].get(rank).copied().filter(|&own| own > 0) {
                rank += 1;
                let child = plan.children.len();
                plan.children.push(Vec::new());
                plan.children[node].push(child);
                open.push((child, own - 1));
                remaining -= own;
            }
        }
        plan
    }
}

/// Budgets for which yields are estimated.
const BUDGETS: [usize; 12] = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128];

/// Expected yield of a tree of some budget, before its tokens are sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct YieldEstimate {
    /// Budget B: tokens of the verify pass, root included.
    pub budget: usize,
    /// Expected number of accepted drafted tokens.
    pub expected: f64,
    /// Maximum depth of the tree.
    pub depth: usize,
}

/// Acceptance rate by child rank, learned from verified trees, and the best tree for it.
#[derive(Clone, Debug)]
pub struct Planner {
    /// Sums of weights and of accepted weights, by rank.
    rates: [(f64, f64); RANKS],
    steps: usize,
    /// Cached topology, its number of drafted nodes, and the step count that invalidates it.
    plan: Plan,
    drafted: usize,
    due: usize,
    /// Cached yield estimates, their shape and largest budget, and the step count that invalidates
    /// them.
    yield_estimates: Vec<YieldEstimate>,
    estimated_for: Option<(Shape, usize)>,
    yield_estimates_due: usize,
}

impl Default for Planner {
    fn default() -> Self {
        Self {
            rates: [(0.0, 0.0); RANKS],
            steps: 0,
            plan: Plan::default(),
            drafted: 0,
            due: 0,
            yield_estimates: Vec::new(),
            estimated_for: None,
            yield_estimates_due: 0,
        }
    }
}

impl Planner {
    /// Returns the estimated acceptance rate of each rank.
    pub fn acceptance(&self) -> [f64; RANKS] {
        let mut prior = PRIOR_FIRST_RATE / PRIOR_RATE_RATIO;
        self.rates.map(|(weight, accepted)| {
            prior *= PRIOR_RATE_RATIO;
            (accepted + PRIOR * prior) / (weight + PRIOR)
        })
    }

    /// Returns the best topology of `drafted` nodes for [`Shape::Static`].
    ///
    /// For other shapes the result is unspecified. Recomputed after the number of steps has grown
    /// by an eighth, which takes a millisecond at the largest budget.
    pub fn plan(&mut self, shape: Shape, drafted: usize) -> &Plan {
        if shape == Shape::Static && (self.drafted != drafted || self.steps >= self.due) {
            self.plan = Plan::best(drafted, &self.acceptance());
            (self.drafted, self.due) = (drafted, self.steps + self.steps / 8 + 1);
        }
        &self.plan
    }

    /// Returns the expected yields of trees of this shape with budgets up to `most`.
    ///
    /// Empty for shapes whose topology is not known in advance. Recomputed as often as
    /// [`Self::plan`].
    pub fn yield_estimates(&mut self, shape: Shape, most: usize) -> &[YieldEstimate] {
        if self.estimated_for != Some((shape, most)) || self.steps >= self.yield_estimates_due {
            let acceptance = self.acceptance();
            let estimate = |budget: usize| {
                let plan = if shape == Shape::Static {
                    Plan::best(budget - 1, &acceptance)
                } else {
                    Plan::default()
                };
                let limits = Limits { budget, depth: budget };
                let (expected, depth) =
                    sampled::expected_yield(limits, topology(shape, limits, &plan)?, &acceptance);
                Some(YieldEstimate { budget, expected, depth })
            };
            let budgets = BUDGETS
                .into_iter()
                .filter(|budget| *budget < most)
                .chain([most])
                .filter(|budget| *budget > 1);
            self.yield_estimates = budgets.filter_map(estimate).collect();
            (self.estimated_for, self.yield_estimates_due) =
                (Some((shape, most)), self.steps + self.steps / 8 + 1);
        }
        &self.yield_estimates
    }

    /// Updates the acceptance rates from a verified tree.
    ///
    /// `p` is the target's probability of each node, `path` the accepted nodes, and `bonus` the
    /// bonus token. A child in the tree counts with its `p`, weighted by the probability that its
    /// parent is reached. A cut candidate counts if its parent was reached, as accepted if its
    /// token came next.
    pub fn learn(&mut self, draft: &Draft, p: &[f64], path: &[usize], bonus: TokenId) {
        self.age();
        let tree = &draft.tree;
        let reached = tree.path_products(|i| p.get(i).copied().unwrap_or(0.0));
        let mut ranks = vec![0usize; tree.len()];
        for i in tree.nodes() {
            let parent = tree.parent(i).unwrap_or(0);
            if let Some((weight, accepted)) = self.rates.get_mut(ranks[parent]) {
                *weight += reached[parent];
                *accepted += reached[i];
            }
            ranks[parent] += 1;
        }
        let mut at = 0;
        for depth in 0..=path.len() {
            let came = path.get(depth).map_or(bonus, |&node| tree.token(node));
            let mut left_out: Vec<&Cut> = draft.cut.iter().filter(|cut| cut.parent == at).collect();
            left_out.sort_by(|a, b| {
                b.candidate
                    .q
                    .total_cmp(&a.candidate.q)
                    .then(a.candidate.token.cmp(&b.candidate.token))
            });
            for ((weight, accepted), cut) in self.rates.iter_mut().skip(ranks[at]).zip(left_out) {
                *weight += 1.0;
                *accepted += if cut.candidate.token == came { 1.0 } else { 0.0 };
            }
            at = path.get(depth).copied().unwrap_or(at);
        }
    }

    /// Updates the acceptance rates from a sampled tree.
    ///
    /// `nodes` are those below which candidates were requested, each with its reach probability and
    /// the acceptance probabilities of its children in order, plus one for a further child.
    pub fn learn_sampled(&mut self, nodes: impl Iterator<Item = (f64, Vec<f64>)>) {
        self.age();
        for (reach, acceptances) in nodes {
            for ((weight, accepted), acceptance) in self.rates.iter_mut().zip(acceptances) {
                *weight += reach;
                *accepted += reach * acceptance;
            }
        }
    }

    /// Counts a step and decays older observations.
    fn age(&mut self) {
        self.steps += 1;
        self.rates.iter_mut().for_each(|(weight, accepted)| {
            (*weight, *accepted) = (*weight * KEEP, *accepted * KEEP)
        });
    }
}

/// Topology as a function from (parent's position, child's rank) to the child's position. The
/// root has position 0. `None` if the topology depends on the drafter's probabilities.
pub(super) fn topology(
    shape: Shape,
    limits: Limits,
    plan: &Plan,
) -> Option<impl Fn(usize, usize) -> Option<usize> + '_> {
    let drafted = limits.budget.saturating_sub(1);
    shape.can_be_sampled().then_some(move |at: usize, rank: usize| match shape {
        Shape::Fixed(widths) => (rank < widths.width_at(at, drafted)).then_some(at + 1),
        Shape::Static => plan.child(at, rank),
        _ => (rank == 0).then_some(at + 1),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::draft::Candidate;

    /// Sum, over the nodes of a plan below `node`, of the products along their paths.
    fn value(plan: &Plan, node: usize, acceptance: &[f64]) -> f64 {
        let below = plan.children[node].iter().zip(acceptance);
        below.map(|(&child, p)| p * (1.0 + value(plan, child, acceptance))).sum()
    }

    /// Best value of any tree of at most `nodes` nodes, by exhaustive search.
    fn brute(nodes: usize, rank: usize, acceptance: &[f64]) -> f64 {
        let Some(p) = acceptance.get(rank) else { return 0.0 };
        (1..=nodes)
            .map(|own| {
                p * (1.0 + brute(own - 1, 0, acceptance)) + brute(nodes - own, rank + 1, acceptance)
            })
            .fold(0.0, f64::max)
    }

    proptest! {
        #[test]
        fn plan_matches_exhaustive_search(acceptance in prop::collection::vec(0.0f64..1.0, 1..5), drafted in 0usize..9) {
            let plan = Plan::best(drafted, &acceptance);
            prop_assert!(plan.children.len() <= drafted + 1);
            prop_assert!((value(&plan, 0, &acceptance) - brute(drafted, 0, &acceptance)).abs() < 1e-12);
        }

        #[test]
        fn plan_stays_within_large_budgets(acceptance in prop::collection::vec(0.0f64..=1.0, 1..17), drafted in 0usize..256) {
            let plan = Plan::best(drafted, &acceptance);
            prop_assert!(plan.children.len() <= drafted + 1);
            // If even a chain gains more than rounding errors hide, the whole budget is used.
            prop_assert!(acceptance[0] < 0.9 || plan.children.len() == drafted + 1, "{} nodes", plan.children.len());
        }
    }

    #[test]
    fn plan_is_a_chain_or_flat_at_extreme_rates() {
        // A first child that is always accepted makes a chain; equal children make a tree of depth
        // 1.
        let chain = Plan::best(5, &[1.0, 0.5]);
        assert!((0..5).all(|node| chain.children[node].len() == 1));
        assert_eq!(Plan::best(4, &[0.1; 4]).children[0].len(), 4);
        assert_eq!(Plan::best(0, &[0.5]), Plan { children: vec![Vec::new()] });
    }

    #[test]
    fn acceptance_rates_are_learned_by_rank() {
        let mut planner = Planner::default();
        let prior = planner.acceptance();
        assert!(
            (prior[0] - 0.6).abs() < 1e-12
                && (prior[1] - 0.24).abs() < 1e-12
                && prior.iter().sum::<f64>() < 1.0
        );
        let mut draft = Draft::root_only(0);
        draft.tree.push(0, 1, 0.5);
        draft.cut = vec![
            Cut { parent: 0, candidate: Candidate { token: 3, q: 0.1 } },
            Cut { parent: 0, candidate: Candidate { token: 2, q: 0.2 } },
        ];
        for _ in 0..2000 {
            planner.learn(&draft, &[1.0, 0.25], &[], 3);
        }
        let learned = planner.acceptance();
        assert!(
            (learned[0] - 0.25).abs() < 0.02 && learned[1] < 0.02 && learned[2] > 0.9,
            "{learned:?}"
        );
        assert_eq!(learned[3], prior[3]);
        assert_eq!(planner.plan(Shape::Static, 3), &Plan::best(3, &learned));
        // Sampled trees: acceptance probabilities per child.
        (0..2000).for_each(|_| {
            planner.learn_sampled([(1.0, vec![0.5, 0.25]), (0.5, vec![0.75])].into_iter())
        });
        let sampled = planner.acceptance();
        assert!(
            (sampled[0] - 0.875 / 1.5).abs() < 0.02 && (sampled[1] - 0.25).abs() < 0.02,
            "{sampled:?}"
        );
        let yield_estimates = planner.yield_estimates(Shape::Static, 20).to_vec();
        assert_eq!(
            yield_estimates.iter().map(|p| p.budget).collect::<Vec<_>>(),
            [2, 3, 4, 6, 8, 12, 16, 20]
        );
        for YieldEstimate { budget, expected, .. } in yield_estimates {
            assert!(
                (expected - value(&Plan::best(budget - 1, &sampled), 0, &sampled)).abs() < 1e-9,
                "{budget}: {expected}"
            );
        }
        let chain = planner.yield_estimates(Shape::Chain, 3)[1];
        assert_eq!((chain.budget, chain.depth), (3, 2));
        assert!((chain.expected - sampled[0] - sampled[0] * sampled[0]).abs() < 1e-9);
        assert_eq!(planner.yield_estimates(Shape::BestFirst, 9), []);
    }
}
