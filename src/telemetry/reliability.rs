//! Reliability of the drafter's probabilities: predicted q against the target's p.

use serde::{Deserialize, Serialize};

use super::{StepRecord, TreeRecord};

/// Number of bins of q, each 0.1 wide.
pub const BINS: usize = 10;

/// Nodes in one bin of q.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Number of nodes in the bin.
    pub nodes: usize,
    /// Sum of the weights: the probabilities that the nodes' parents are reached.
    pub weight: f64,
    /// Weighted mean of q; 0 without nodes.
    pub q: f64,
    /// Weighted mean of the target's p; 0 without nodes.
    pub p: f64,
}

/// Reliability diagram: the target's mean p by bins of the predicted q.
///
/// Each node is weighted by the probability that its parent is reached, since contexts that the
/// text never reaches do not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reliability {
    /// Sums of q and p instead of means.
    sums: [Bin; BINS],
}

impl Reliability {
    /// Adds a node with its predicted q, the target's p, and its weight.
    pub fn add(&mut self, q: f64, p: f64, weight: f64) {
        let bin = &mut self.sums[((q * BINS as f64).max(0.0) as usize).min(BINS - 1)];
        bin.nodes += 1;
        bin.weight += weight;
        bin.q += weight * q;
        bin.p += weight * p;
    }

    /// Returns the bins in order of rising q.
    pub fn bins(&self) -> [Bin; BINS] {
        self.sums.map(|bin| match bin.weight > 0.0 {
            true => Bin { q: bin.q / bin.weight, p: bin.p / bin.weight, ..bin },
            false => Bin { nodes: bin.nodes, ..Bin::default() },
        })
    }

    /// Returns the number of nodes in all bins.
    pub fn nodes(&self) -> usize {
        self.sums.iter().map(|bin| bin.nodes).sum()
    }

    /// Returns the expected calibration error (Naeini et al. 2015). It is the weighted mean of
    /// |mean q - mean p| over the bins. `None` while the total weight is 0.
    pub fn calibration_error(&self) -> Option<f64> {
        let weight: f64 = self.sums.iter().map(|bin| bin.weight).sum();
        (weight > 0.0)
            .then(|| self.sums.iter().map(|bin| (bin.q - bin.p).abs()).sum::<f64>() / weight)
    }
}

/// Reliability of the drafter's q, before and after calibration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CalibrationTally {
    /// Reliability of the drafter's own q.
    pub raw: Reliability,
    /// Reliability of the q calibrated on earlier steps only.
    pub calibrated: Reliability,
}

impl CalibrationTally {
    /// Adds the nodes of one step.
    pub fn add(&mut self, record: &StepRecord) {
        let TreeRecord { parents, q, calibrated, p, .. } = &record.tree;
        let reached = record.tree.path_products();
        for (i, &p) in p.iter().enumerate().skip(1) {
            // Records from a file can be invalid.
            let weight = parents
                .get(i)
                .copied()
                .flatten()
                .filter(|&parent| parent < i)
                .map_or(1.0, |parent| reached[parent]);
            if let Some(&q) = q.get(i) {
                self.raw.add(q, p, weight);
            }
            if let Some(&q) = calibrated.get(i) {
                self.calibrated.add(q, p, weight);
            }
        }
    }

    /// Returns the errors and bins for a summary.
    pub fn summary(&self) -> CalibrationSummary {
        CalibrationSummary {
            error: self.calibrated.calibration_error(),
            error_raw: self.raw.calibration_error(),
            bins: self.calibrated.bins().to_vec(),
            bins_raw: self.raw.bins().to_vec(),
        }
    }
}

/// Calibration errors and reliability diagrams of the drafter's probabilities.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CalibrationSummary {
    /// Expected calibration error of the calibrated q. `None` if nothing was drafted.
    pub error: Option<f64>,
    /// Expected calibration error of the drafter's own q.
    pub error_raw: Option<f64>,
    /// Bins of the calibrated q, each 0.1 wide, from 0 up.
    pub bins: Vec<Bin>,
    /// Bins of the drafter's own q.
    pub bins_raw: Vec<Bin>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::{record, tree};

    #[test]
    fn the_error_by_hand() {
        let mut told = Reliability::default();
        assert_eq!(told.calibration_error(), None);
        // Bin 2: q 0.25, p 0.5 and 0.1, weights 1 and 3: means 0.25 and 0.2. Bin 9: q 1, p 0.8.
        told.add(0.25, 0.5, 1.0);
        told.add(0.25, 0.1, 3.0);
        told.add(1.0, 0.8, 1.0);
        let (low, high) = (told.bins()[2], told.bins()[9]);
        assert!(
            (low.q - 0.25).abs() < 1e-12
                && (low.p - 0.2).abs() < 1e-12
                && (low.weight, low.nodes) == (4.0, 2)
        );
        assert!((high.p - 0.8).abs() < 1e-12);
        let want = (4.0 * 0.05 + 0.2) / 5.0;
        assert!((told.calibration_error().unwrap_or(1.0) - want).abs() < 1e-12);
        assert_eq!((told.nodes(), told.bins()[5]), (3, Bin::default()));
    }

    #[test]
    fn nodes_are_weighted_by_parent_reach_probability() {
        let mut record = record(tree(&[(0, 0.5), (1, 0.25), (0, 0.125)]), &[1], 4);
        record.tree.q = vec![1.0, 0.55, 0.95, 0.15];
        record.tree.calibrated = record.tree.p.clone();
        let mut told = CalibrationTally::default();
        told.add(&record);
        let weights: Vec<f64> =
            told.raw.bins().iter().map(|bin| bin.weight).filter(|weight| *weight > 0.0).collect();
        assert_eq!(weights, [1.0, 1.0, 0.5]);
        assert_eq!(told.summary().error, Some(0.0));
        // Records from a file can be inconsistent.
        record.tree.q.truncate(2);
        record.tree.parents = vec![Some(7); 4];
        told.add(&record);
    }
}
