//! Acceptance by depth.

use super::{StepRecord, TreeRecord};

/// How often the drafted tokens at a depth were accepted, given that the depth was reached.
///
/// Depth d is reached in a step if the accepted path came to depth d - 1 and something was drafted right below it: only
/// then did the target say yes or no there. What was never reached, or never drafted, is not counted as refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PositionRates {
    /// (reached, accepted) of depth 1, 2, ...
    counts: Vec<(usize, usize)>,
}

impl PositionRates {
    /// The rates over these steps.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a StepRecord>) -> Self {
        let mut rates = Self::default();
        records.into_iter().for_each(|record| rates.add(&record.tree, &record.path));
        rates
    }

    /// One more step: its tree and the accepted path.
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

    /// The deepest depth that was reached.
    pub fn max_depth(&self) -> usize {
        self.counts.len()
    }

    /// Steps that reached depth `d` (from 1), and those of them in which a token there was accepted.
    pub fn counts(&self, d: usize) -> (usize, usize) {
        d.checked_sub(1).and_then(|i| self.counts.get(i)).copied().unwrap_or_default()
    }

    /// Accepted over reached at depth `d` (from 1); none where it was never reached.
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
    fn what_was_not_reached_is_not_refused() {
        // Root with children 1 and 2; 1 has child 3, 3 has child 4.
        let t = tree(&[None, Some(0), Some(0), Some(1), Some(3)]);
        let mut rates = PositionRates::default();
        rates.add(&t, &[]); // refused at depth 1
        rates.add(&t, &[2]); // accepted a leaf: depth 2 is not tested
        rates.add(&t, &[1]); // refused at depth 2
        rates.add(&t, &[1, 3, 4]); // all of it
        rates.add(&tree(&[None]), &[]); // nothing drafted
        assert_eq!((1..=4).map(|d| rates.counts(d)).collect::<Vec<_>>(), [(4, 3), (2, 1), (1, 1), (0, 0)]);
        assert_eq!((rates.rate(1), rates.rate(2), rates.rate(4), rates.rate(0)), (Some(0.75), Some(0.5), None, None));
        assert_eq!(rates.max_depth(), 3);
    }
}
