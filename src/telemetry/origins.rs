//! Counts of proposed and accepted nodes by drafter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::StepRecord;

/// Node counts of one drafter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCounts {
    /// Number of its nodes that were verified.
    pub proposed: usize,
    /// Number of its nodes that were accepted.
    pub accepted: usize,
}

/// Node counts by the name of the drafter that proposed the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Origins(BTreeMap<String, NodeCounts>);

impl Origins {
    /// Adds the nodes of one step.
    pub fn add(&mut self, record: &StepRecord) {
        let tree = &record.tree;
        for name in &tree.members {
            if !self.0.contains_key(name) {
                self.0.insert(name.clone(), NodeCounts::default());
            }
        }
        for (i, origin) in tree.origin.iter().enumerate().skip(1) {
            let name = origin.and_then(|member| tree.members.get(member));
            if let Some(counts) = name.and_then(|name| self.0.get_mut(name)) {
                counts.proposed += 1;
                counts.accepted += usize::from(record.path.contains(&i));
            }
        }
    }

    /// Returns the drafters by name, with their node counts.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, NodeCounts)> {
        self.0.iter().map(|(name, counts)| (name.as_str(), *counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::{chain, record};

    #[test]
    fn nodes_count_for_their_drafter() {
        let mut step = record(chain(&[0.5, 0.5, 0.5]), &[1, 2], 4);
        step.tree.members = ["a", "b", "c"].map(String::from).to_vec();
        step.tree.origin = vec![None, Some(1), Some(0), Some(1)];
        let mut origins = Origins::default();
        origins.add(&step);
        // Records from a file can be inconsistent.
        step.tree.origin = vec![None, Some(9)];
        origins.add(&step);
        let counted: Vec<(&str, usize, usize)> =
            origins.iter().map(|(name, n)| (name, n.proposed, n.accepted)).collect();
        assert_eq!(counted, [("a", 1, 1), ("b", 2, 1), ("c", 0, 0)]);
    }
}
