//! Fit of the time of a stage, drafting or overhead, as a line over depth or tokens.
//!
//! Online linear regression with exponential forgetting. The times of verify passes have a fit of
//! their own: `theory::pass_times`.

/// Least-squares line through the times y of a stage at sizes x, with decaying weights.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StageTimeFit {
    /// Sum of the weights of all points.
    weight: f64,
    /// Weighted mean of x.
    mean_x: f64,
    /// Weighted mean of y.
    mean_y: f64,
    /// Weighted sum of squared deviations of x from its mean.
    sum_xx: f64,
    /// Weighted sum of products of the deviations of x and y from their means.
    sum_xy: f64,
}

impl StageTimeFit {
    /// Factor by which the weight of every point decays with each new one.
    const KEEP: f64 = 0.98;

    /// Returns the line's value at `x`, or 0 before the first point.
    ///
    /// While all points share one x, the line is taken to pass through the origin.
    pub fn value_at(&self, x: f64) -> f64 {
        match self.sum_xx > 1e-6 * self.weight {
            true => self.mean_y + self.sum_xy / self.sum_xx * (x - self.mean_x),
            false if self.mean_x > 0.0 => self.mean_y * x / self.mean_x,
            false => 0.0,
        }
    }

    /// Splits the line into a constant part and a slope, both nonnegative.
    ///
    /// While all points share one x, the constant part is 0.
    pub fn intercept_and_slope(&self) -> (f64, f64) {
        if self.mean_x <= 0.0 {
            return (0.0, 0.0);
        }
        let whole = self.mean_y / self.mean_x;
        let slope = if self.sum_xx > 1e-6 * self.weight {
            (self.sum_xy / self.sum_xx).clamp(0.0, whole.max(0.0))
        } else {
            whole
        };
        (self.mean_y - slope * self.mean_x, slope)
    }

    /// Adds a point, clamping `y` to twice the expected value.
    ///
    /// The clamp keeps a single delayed measurement from dominating the fit.
    pub fn add(&mut self, x: f64, y: f64) {
        let y = if self.weight > 0.0 { y.min(2.0 * self.value_at(x).max(self.mean_y)) } else { y };
        let kept = self.weight * Self::KEEP;
        self.weight = kept + 1.0;
        let (dx, dy) = (x - self.mean_x, y - self.mean_y);
        (self.mean_x, self.mean_y) =
            (self.mean_x + dx / self.weight, self.mean_y + dy / self.weight);
        self.sum_xx = self.sum_xx * Self::KEEP + dx * (x - self.mean_x);
        self.sum_xy = self.sum_xy * Self::KEEP + dx * (y - self.mean_y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_its_points_and_follows_newer_ones() {
        let mut line = StageTimeFit::default();
        assert_eq!(line.value_at(3.0), 0.0);
        line.add(2.0, 0.5);
        assert_eq!((line.value_at(2.0), line.value_at(4.0)), (0.5, 1.0));
        (0..9).for_each(|i| line.add(f64::from(1 + i % 3), 0.3 + 0.1 * f64::from(1 + i % 3)));
        assert!((line.value_at(5.0) - 0.8).abs() < 1e-1, "{}", line.value_at(5.0));
        // A single outlier of an hour must not matter; a lasting change must.
        line.add(1.0, 3600.0);
        assert!(line.value_at(1.0) < 1.0);
        (0..400).for_each(|i| line.add(f64::from(1 + i % 2), f64::from(1 + i % 2)));
        assert!((line.value_at(3.0) - 3.0).abs() < 1e-2, "{}", line.value_at(3.0));
    }

    #[test]
    fn intercept_and_slope_are_nonnegative() {
        let mut line = StageTimeFit::default();
        assert_eq!(line.intercept_and_slope(), (0.0, 0.0));
        line.add(2.0, 0.5);
        assert_eq!(line.intercept_and_slope(), (0.0, 0.25));
        (0..400).for_each(|i| line.add(f64::from(1 + i % 3), 0.3 + 0.1 * f64::from(1 + i % 3)));
        let (step, node) = line.intercept_and_slope();
        assert!((step - 0.3).abs() < 1e-2 && (node - 0.1).abs() < 1e-2, "{step} and {node}");
        // A falling line, or one with a negative intercept, still yields nonnegative parts that
        // reproduce the mean.
        for slope in [-0.1, 4.0] {
            let mut line = StageTimeFit::default();
            (0..400)
                .for_each(|i| line.add(f64::from(2 + i % 3), 5.0 + slope * f64::from(i % 3 - 1)));
            let (step, node) = line.intercept_and_slope();
            assert!(
                step >= -1e-9 && node >= 0.0 && (step + node * 3.0 - 5.0).abs() < 0.3,
                "{step} and {node}"
            );
        }
    }
}
