//! Acceptance rate by depth.

use super::{StepRecord, TreeRecord};

/// Acceptance rate of the drafted tokens at each depth, given that the depth was reached.
///
/// A step reaches depth d if d - 1 tokens were accepted and the last of them has a child in the
/// tree. Only then does the target accept or reject at depth d. Depths that were not reached, or
/// have nothing drafted, do not count as rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DepthRates {
    /// Counts (reached, accepted) of depth 1, 2, ...
    counts: Vec<(usize, usize)>,
}

impl DepthRates {
    /// Computes the rates over these steps.
    pub fn from_records<'a>(records: impl IntoIterator<Item = &'a StepRecord>) -> Self {
        let mut rates = Self::default();
        records.into_iter().for_each(|record| rates.add(&record.tree, &record.path));
        rates
    }

    /// Adds a step, given its tree and the accepted path.
    pub fn add(&mut self, tree: &TreeRecord, path: &[usize]) {
        let last = path.last().copied().unwrap_or(0);
        let refused = usize::from(tree.parents.contains(&Some(last)));
        let reached = path.len() + refused;
        if self.counts.len() < reached {
            self.counts.resize(reached, (0, 0));
        }
        for (depth, (seen, taken)) in self.counts[..reached].iter_mut().enumerate() {
            *seen += 1;
            *taken += usize::from(depth < path.len());
        }
    }

    /// Returns the deepest depth that was reached.
    pub fn max_depth(&self) -> usize {
        self.counts.len()
    }

    /// Returns the counts (reached, accepted) at depth `d`, from 1. Both count steps: those that
    /// reached the depth, and those that accepted a token there.
    pub fn counts(&self, d: usize) -> (usize, usize) {
        d.checked_sub(1).and_then(|i| self.counts.get(i)).copied().unwrap_or_default()
    }

    /// Returns the acceptance rate at depth `d`, from 1. `None` if it was never reached.
    pub fn rate(&self, d: usize) -> Option<f64> {
        let (reached, accepted) = self.counts(d);
        (reached > 0).then(|| accepted as f64 / reached as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(parents: &[Option<usize>]) -> TreeRecord {
        TreeRecord { parents: parents.to_vec(), ..TreeRecord::default() }
    }

    #[test]
    fn unreached_depths_do_not_count_as_rejected() {
        // Root with children 1 and 2; 1 has child 3, 3 has child 4.
        let t = tree(&[None, Some(0), Some(0), Some(1), Some(3)]);
        let mut rates = DepthRates::default();
        rates.add(&t, &[]); // rejected at depth 1
        rates.add(&t, &[2]); // accepted a leaf: depth 2 is not reached
        rates.add(&t, &[1]); // rejected at depth 2
        rates.add(&t, &[1, 3, 4]); // all accepted
        rates.add(&tree(&[None]), &[]); // nothing drafted
        assert_eq!(
            (1..=4).map(|d| rates.counts(d)).collect::<Vec<_>>(),
            [(4, 3), (2, 1), (1, 1), (0, 0)]
        );
        assert_eq!(
            (rates.rate(1), rates.rate(2), rates.rate(4), rates.rate(0)),
            (Some(0.75), Some(0.5), None, None)
        );
        assert_eq!(rates.max_depth(), 3);
    }
}
