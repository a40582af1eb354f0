//! Whether the drafter's probabilities are what they say: predicted against what the target gave.

use serde::{Deserialize, Serialize};

use super::{StepRecord, TreeRecord};

/// Classes of q, each a tenth wide.
pub const BINS: usize = 10;

/// The nodes of one class of q.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// How many nodes.
    pub nodes: usize,
    /// What they weigh: the probabilities that their parents were reached, summed up.
    pub weight: f64,
    /// Their mean q, by weight; 0 of none.
    pub q: f64,
    /// The mean of the target's p of them, by weight; 0 of none.
    pub p: f64,
}

/// A reliability diagram: the target's mean p by classes of the q that was told beforehand.
///
/// A node weighs as much as its parent was likely to be reached: of contexts that the text does not come to, nobody needs to know.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reliability {
    /// With sums of q and p instead of means.
    sums: [Bin; BINS],
}

impl Reliability {
    /// One node: the q that was told, the target's p, and what it weighs.
    pub fn add(&mut self, q: f64, p: f64, weight: f64) {
        let bin = &mut self.sums[((q * BINS as f64).max(0.0) as usize).min(BINS - 1)];
        bin.nodes += 1;
        bin.weight += weight;
        bin.q += weight * q;
        bin.p += weight * p;
    }

    /// The classes, from q = 0 up.
    pub fn bins(&self) -> [Bin; BINS] {
        self.sums.map(|bin| match bin.weight > 0.0 {
            true => Bin { q: bin.q / bin.weight, p: bin.p / bin.weight, ..bin },
            false => Bin { nodes: bin.nodes, ..Bin::default() },
        })
    }

    /// Nodes in all.
    pub fn nodes(&self) -> usize {
        self.sums.iter().map(|bin| bin.nodes).sum()
    }

    /// The expected calibration error: the mean of |mean q - mean p| over the classes, by weight (Naeini et al. 2015). None while
    /// nothing weighs anything.
    pub fn error(&self) -> Option<f64> {
        let weight: f64 = self.sums.iter().map(|bin| bin.weight).sum();
        (weight > 0.0).then(|| self.sums.iter().map(|bin| (bin.q - bin.p).abs()).sum::<f64>() / weight)
    }
}

/// The same of the drafter's own word and of what was made of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Told {
    /// The drafter's q.
    pub raw: Reliability,
    /// Its q as calibrated by the steps before: each was told before its p was known.
    pub calibrated: Reliability,
}

impl Told {
    /// The nodes of one step.
    pub fn add(&mut self, record: &StepRecord) {
        let TreeRecord { parents, q, calibrated, p, .. } = &record.tree;
        let reached = record.tree.path_products();
        for (i, &p) in p.iter().enumerate().skip(1) {
            // A record from a file can be anything.
            let weight = parents.get(i).copied().flatten().filter(|&parent| parent < i).map_or(1.0, |parent| reached[parent]);
            if let Some(&q) = q.get(i) {
                self.raw.add(q, p, weight);
            }
            if let Some(&q) = calibrated.get(i) {
                self.calibrated.add(q, p, weight);
            }
        }
    }

    /// As the summary has it.
    pub fn summary(&self) -> CalibrationSummary {
        CalibrationSummary {
            error: self.calibrated.error(),
            error_raw: self.raw.error(),
            bins: self.calibrated.bins().to_vec(),
            bins_raw: self.raw.bins().to_vec(),
        }
    }
}

/// How well p was told beforehand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CalibrationSummary {
    /// Expected calibration error of the calibrated q. None where nothing was drafted.
    pub error: Option<f64>,
    /// The same of the drafter's own q.
    pub error_raw: Option<f64>,
    /// By classes of calibrated q, a tenth wide, from 0 up.
    pub bins: Vec<Bin>,
    /// By classes of the drafter's own q.
    pub bins_raw: Vec<Bin>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::{record, tree};

    #[test]
    fn the_error_by_hand() {
        let mut told = Reliability::default();
        assert_eq!(told.error(), None);
        // Class 2: q 0.25, p 0.5 and 0.1, weights 1 and 3: means 0.25 and 0.2. Class 9: q 1, p 0.8.
        told.add(0.25, 0.5, 1.0);
        told.add(0.25, 0.1, 3.0);
        told.add(1.0, 0.8, 1.0);
        let (low, high) = (told.bins()[2], told.bins()[9]);
        assert!((low.q - 0.25).abs() < 1e-12 && (low.p - 0.2).abs() < 1e-12 && (low.weight, low.nodes) == (4.0, 2));
        assert!((high.p - 0.8).abs() < 1e-12);
        let want = (4.0 * 0.05 + 0.2) / 5.0;
        assert!((told.error().unwrap_or(1.0) - want).abs() < 1e-12);
        assert_eq!((told.nodes(), told.bins()[5]), (3, Bin::default()));
    }

    #[test]
    fn nodes_weigh_as_much_as_their_parents_are_reached() {
        let mut record = record(tree(&[(0, 0.5), (1, 0.25), (0, 0.125)]), &[1], 4);
        record.tree.q = vec![1.0, 0.55, 0.95, 0.15];
        record.tree.calibrated = record.tree.p.clone();
        let mut told = Told::default();
        told.add(&record);
        let weights: Vec<f64> = told.raw.bins().iter().map(|bin| bin.weight).filter(|weight| *weight > 0.0).collect();
        assert_eq!(weights, [1.0, 1.0, 0.5]);
        assert_eq!(told.summary().error, Some(0.0));
        // What a file says need not fit together.
        record.tree.q.truncate(2);
        record.tree.parents = vec![Some(7); 4];
        told.add(&record);
    }
}
