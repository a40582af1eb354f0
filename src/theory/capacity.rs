//! Capacity of one verify pass in nats, for any text (bounds.md, "Capacity of a pass").
//!
//! Under sample-and-match with a deterministic tree, let V be the node at which the walk leaves the
//! tree: the root or any other node, B of them. Then H(V) <= ln B, and by the chain rule along the
//! walk H(V) is the sum over nodes v of pi(v) h_v, where pi(v) is the probability that the walk
//! reaches v and h_v the entropy of the choice at v among its children and none of them.
//!
//! Trees are given as lists with one entry per node, the root first, parents before children:
//! `parents`, whose root entry is ignored, and `accept`, the acceptance probability of each node
//! given that its parent is reached. A parent that does not come before its child counts as the
//! root.

/// Returns the entropy in nats of the choice at each node.
///
/// The choice is one of its children, or none.
pub fn choice_entropies(parents: &[Option<usize>], accept: &[f64]) -> Vec<f64> {
    let (mut entropy, mut none) = (vec![0.0; accept.len()], vec![1.0; accept.len()]);
    for (i, accept) in accept.iter().enumerate().skip(1) {
        let parent = parent_of(parents, i);
        entropy[parent] += surprise(*accept);
        none[parent] -= accept;
    }
    entropy.iter().zip(&none).map(|(entropy, none)| (entropy + surprise(*none)).max(0.0)).collect()
}

/// Returns H(V), the entropy in nats of the node where the walk leaves the tree.
pub fn exit_entropy(parents: &[Option<usize>], accept: &[f64]) -> f64 {
    let mut reached = vec![1.0; accept.len()];
    for i in 1..accept.len() {
        reached[i] = accept[i].clamp(0.0, 1.0) * reached[parent_of(parents, i)];
    }
    reached.iter().zip(choice_entropies(parents, accept)).map(|(pi, h)| pi * h).sum::<f64>() + 0.0
}

/// Returns the used fraction of the pass's capacity, H(V) / ln B, in 0..=1.
///
/// Returns `None` for B = 1, whose capacity is 0, and if a probability is not finite.
pub fn used_share(parents: &[Option<usize>], accept: &[f64]) -> Option<f64> {
    let capacity = (accept.len() as f64).ln();
    let share = exit_entropy(parents, accept) / capacity;
    (capacity > 0.0 && share.is_finite()).then(|| share.min(1.0))
}

fn parent_of(parents: &[Option<usize>], i: usize) -> usize {
    parents.get(i).copied().flatten().filter(|parent| *parent < i).unwrap_or(0)
}

/// Returns -p ln p; 0 for p = 0 and where rounding leaves 0..=1.
fn surprise(p: f64) -> f64 {
    if p > 0.0 && p < 1.0 { -p * p.ln() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// H(V) by definition, from the probability of leaving at each node.
    fn by_definition(parents: &[Option<usize>], accept: &[f64]) -> (Vec<f64>, f64) {
        let mut exit = vec![1.0; accept.len()];
        let mut reached = vec![1.0; accept.len()];
        for i in 1..accept.len() {
            let parent = parents[i].unwrap();
            reached[i] = reached[parent] * accept[i];
            exit[i] = reached[i];
            exit[parent] -= reached[i];
        }
        let entropy = exit.iter().map(|p| surprise(*p)).sum();
        (exit, entropy)
    }

    #[test]
    fn a_uniform_exit_uses_all_of_the_capacity() {
        // A chain that is left at each of its four nodes with probability 1/4.
        let chain = [None, Some(0), Some(1), Some(2)];
        let accept = [1.0, 3.0 / 4.0, 2.0 / 3.0, 1.0 / 2.0];
        assert!((used_share(&chain, &accept).unwrap() - 1.0).abs() < 1e-12);
        // Four equally likely children and no other outcome: one exit fewer than nodes.
        let star = [None, Some(0), Some(0), Some(0), Some(0)];
        assert!((exit_entropy(&star, &[1.0, 0.25, 0.25, 0.25, 0.25]) - 4f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn certain_walks_use_none_and_a_bare_root_has_none() {
        let chain = [None, Some(0), Some(1)];
        assert_eq!(used_share(&chain, &[1.0, 1.0, 1.0]), Some(0.0));
        assert_eq!(used_share(&chain, &[1.0, 1.0, 0.0]), Some(0.0));
        assert_eq!((used_share(&[None], &[1.0]), used_share(&[], &[])), (None, None));
        // Records read from a file can be anything.
        assert_eq!(used_share(&[None, Some(7)], &[1.0, f64::NAN]), None);
        assert!(used_share(&[], &[1.0, 0.5]).unwrap() <= 1.0);
    }

    #[test]
    fn every_tree_of_a_small_vocabulary_obeys_the_identity() {
        // Binary alphabet, three levels: each of the 14 nodes is in the tree or not.
        let p = |path: usize| {
            if path.is_multiple_of(2) {
                0.7 - 0.01 * path as f64
            } else {
                0.3 + 0.01 * (path - 1) as f64
            }
        };
        let mut trees = 0;
        for subset in 0u32..1 << 14 {
            let (mut parents, mut accept, mut place) = (vec![None], vec![1.0], vec![None; 15]);
            place[0] = Some(0);
            for node in 0..14usize {
                // Nodes 0 and 1 hang under the root, 2 and 3 under node 0, and so on.
                if subset >> node & 1 == 0 {
                    continue;
                }
                let Some(parent) = place[node / 2] else { continue };
                place[node + 1] = Some(parents.len());
                parents.push(Some(parent));
                accept.push(p(node));
            }
            let (exit, entropy) = by_definition(&parents, &accept);
            let found = exit_entropy(&parents, &accept);
            assert!((found - entropy).abs() < 1e-9 && found <= (accept.len() as f64).ln() + 1e-9);
            assert!((exit.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            trees += 1;
        }
        assert_eq!(trees, 1 << 14);
    }

    prop_compose! {
        /// Random tree; with `full` the probabilities of a node's children add up to 1.
        fn tree()(nodes in prop::collection::vec((any::<prop::sample::Index>(), 0.0f64..1.0), 0..40), full in any::<bool>())
            -> (Vec<Option<usize>>, Vec<f64>) {
            let (mut parents, mut accept) = (vec![None], vec![1.0]);
            for (i, (parent, weight)) in nodes.iter().enumerate() {
                parents.push(Some(parent.index(i + 1)));
                accept.push(*weight);
            }
            for parent in 0..parents.len() {
                let children: Vec<usize> = (1..parents.len()).filter(|i| parents[*i] == Some(parent)).collect();
                let sum: f64 = children.iter().map(|i| accept[*i]).sum::<f64>() + if full { 0.0 } else { 0.3 };
                children.iter().for_each(|i| accept[*i] /= sum.max(1e-300));
            }
            (parents, accept)
        }
    }

    proptest! {
        #[test]
        fn random_trees_obey_the_identity((parents, accept) in tree()) {
            let (_, entropy) = by_definition(&parents, &accept);
            let found = exit_entropy(&parents, &accept);
            prop_assert!((found - entropy).abs() < 1e-9, "{found} and {entropy}");
            prop_assert!(found <= (accept.len() as f64).ln() + 1e-9);
            if let Some(share) = used_share(&parents, &accept) {
                prop_assert!((0.0..=1.0).contains(&share));
            }
        }
    }
}
