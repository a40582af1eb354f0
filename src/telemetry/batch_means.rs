//! The interval of a mean over correlated values, in constant memory.

use crate::theory::bootstrap::student_975;

/// Batches kept; when all are full, neighbours are joined and a batch holds twice as many values.
const MOST: usize = 64;
/// Below this many full batches there is no interval worth showing.
const FEWEST: usize = 8;
/// Values of a batch, at least.
const LEAST: usize = 16;

/// Batch means: values that follow each other are averaged in batches, and the spread of the batches' means gives
/// the error of the whole mean. Correlation between neighbouring positions then widens the interval as it should,
/// where 1/sqrt(n) over single positions would not (bounds.md, "Statistics").
#[derive(Clone, Debug, PartialEq)]
pub struct BatchMeans {
    size: usize,
    sums: Vec<f64>,
    part: (f64, usize),
    total: (f64, usize),
}

impl Default for BatchMeans {
    fn default() -> Self {
        Self { size: 1, sums: Vec::new(), part: (0.0, 0), total: (0.0, 0) }
    }
}

impl BatchMeans {
    /// Adds the next value.
    pub fn push(&mut self, value: f64) {
        self.total = (self.total.0 + value, self.total.1 + 1);
        self.part = (self.part.0 + value, self.part.1 + 1);
        if self.part.1 == self.size {
            self.sums.push(self.part.0);
            self.part = (0.0, 0);
        }
        if self.sums.len() == MOST {
            self.sums = self.sums.chunks(2).map(|pair| pair.iter().sum()).collect();
            self.size *= 2;
        }
    }

    /// Values so far.
    pub fn len(&self) -> usize {
        self.total.1
    }

    /// Whether there is no value yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The mean over all values.
    pub fn mean(&self) -> Option<f64> {
        (self.total.1 > 0).then(|| self.total.0 / self.total.1 as f64)
    }

    /// Half the width of the 95% interval of the mean: Student's t over the full batches. None while it is too early
    /// (fewer than eight batches of at least [`LEAST`] values: shorter ones are too like their neighbours).
    pub fn half_width(&self) -> Option<f64> {
        // Small batches would still be correlated with their neighbours: join them while enough remain.
        let (mut sums, mut size) = (self.sums.clone(), self.size);
        while sums.len() >= 4 * FEWEST || (size < LEAST && sums.len() >= 2 * FEWEST) {
            sums = sums.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect();
            size *= 2;
        }
        let k = sums.len();
        if k < FEWEST || size < LEAST {
            return None;
        }
        let means: Vec<f64> = sums.iter().map(|s| s / size as f64).collect();
        let mean = means.iter().sum::<f64>() / k as f64;
        let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (k - 1) as f64;
        Some(student_975((k - 1) as f64) * (variance / k as f64).sqrt())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A small generator of uniform numbers (SplitMix64), so that the test owns its draws.
    struct Draws(u64);

    impl Draws {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
        }

        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
        }
    }

    #[test]
    fn students_t_is_the_table() {
        for (freedom, t) in
            [(4.0, 2.7764), (5.0, 2.5706), (7.0, 2.3646), (10.0, 2.2281), (15.0, 2.1314), (31.0, 2.0395), (60.0, 2.0003)]
        {
            assert!((student_975(freedom) - t).abs() < 1e-3, "{freedom}: {}", student_975(freedom));
        }
    }

    #[test]
    fn the_mean_is_over_all_and_early_there_is_no_interval() {
        let mut b = BatchMeans::default();
        assert_eq!((b.mean(), b.half_width(), b.is_empty()), (None, None, true));
        for i in 0..127 {
            b.push(f64::from(i));
        }
        assert_eq!((b.mean(), b.half_width(), b.len()), (Some(63.0), None, 127));
        (127..1000).for_each(|i| b.push(f64::from(i)));
        assert_eq!(b.mean(), Some(499.5));
        assert!(b.half_width().unwrap() > 100.0, "a trend is correlation, and the interval must be wide");
    }

    #[test]
    fn intervals_cover_the_truth_where_neighbours_are_correlated() {
        // 4,000 runs: their own error is 0.35%. The entropies of neighbouring positions correlate by 0.1 to 0.3.
        let runs = 4000;
        for (values, correlation) in [(128, 0.0), (200, 0.3), (500, 0.6), (2000, 0.6)] {
            let mut covered = 0;
            for run in 0..runs {
                let mut draws = Draws(run * 0x1_0000 + values);
                let (mut b, mut x) = (BatchMeans::default(), draws.normal());
                for _ in 0..values {
                    x = correlation * x + (1.0 - correlation * correlation).sqrt() * draws.normal();
                    b.push(3.0 + x);
                }
                covered += usize::from((b.mean().unwrap() - 3.0).abs() <= b.half_width().unwrap());
            }
            let share = covered as f64 / runs as f64;
            assert!((0.93..=0.97).contains(&share), "{values} values, correlation {correlation}: {share}");
        }
    }
}
