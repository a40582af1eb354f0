//! Back-off of an automatic budget: drafting that doesn't pay is skipped for some steps.
//!
//! Each back-off in a row is twice as long as the one before, up to a maximum.

/// Length of the first back-off, in steps.
const FIRST: usize = 8;

/// State of back-off: the steps left in it, its length, and the steps drafted since.
#[derive(Clone, Debug)]
pub(super) struct BackOff {
    /// Remaining steps of the current back-off.
    remaining: usize,
    /// Length of the back-off that began last.
    length: usize,
    /// Length of the next back-off for lack of speed.
    next: usize,
    /// Upper bound on a back-off, in steps.
    max: usize,
    /// Drafted steps since the last back-off for lack of speed.
    trials: usize,
}

impl BackOff {
    /// Creates a state that is not in back-off. No back-off will be longer than `max` steps.
    pub fn new(max: usize) -> Self {
        BackOff { remaining: 0, length: 0, next: FIRST, max, trials: 0 }
    }

    /// Returns `true` during back-off.
    pub fn is_active(&self) -> bool {
        self.remaining > 0
    }

    /// Returns the number of steps drafted since the last back-off that reset it.
    pub fn trials(&self) -> usize {
        self.trials
    }

    /// Counts a step. Returns its index within the back-off, or `None` for a drafted step.
    pub fn count_step(&mut self) -> Option<usize> {
        if self.remaining == 0 {
            self.trials += 1;
            return None;
        }
        let index = self.length - self.remaining;
        self.remaining -= 1;
        Some(index)
    }

    /// Starts a back-off because drafting doesn't pay. The next one in a row is twice as long.
    pub fn start(&mut self) {
        self.start_with_length(self.next);
        self.next = (self.length * 2).min(self.max);
        self.trials = 0;
    }

    /// Starts a back-off of the first length, to measure steps without drafting.
    pub fn start_measurement(&mut self) {
        self.start_with_length(FIRST);
    }

    /// Makes the next back-off as short as the first one, since drafting pays.
    pub fn reset_length(&mut self) {
        self.next = FIRST;
    }

    /// Resets the count of drafted steps.
    pub fn reset_trials(&mut self) {
        self.trials = 0;
    }

    fn start_with_length(&mut self, length: usize) {
        (self.remaining, self.length) = (length, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the steps of the current back-off.
    fn steps(back_off: &mut BackOff) -> usize {
        let mut steps = 0;
        while let Some(index) = back_off.count_step() {
            assert_eq!(index, steps);
            steps += 1;
        }
        steps
    }

    #[test]
    fn back_offs_in_a_row_double_up_to_the_maximum() {
        let mut back_off = BackOff::new(32);
        assert!(!back_off.is_active() && back_off.count_step().is_none());
        let lengths = [0; 5].map(|_| {
            back_off.start();
            assert_eq!(back_off.trials(), 0);
            // The last call of `steps` counts a drafted step.
            let steps = steps(&mut back_off);
            assert_eq!((back_off.trials(), back_off.is_active()), (1, false));
            steps
        });
        assert_eq!(lengths, [8, 16, 32, 32, 32]);
        back_off.start_measurement();
        assert_eq!((steps(&mut back_off), back_off.trials()), (8, 2), "trials go on");
        back_off.reset_length();
        back_off.start();
        assert_eq!(steps(&mut back_off), 8);
    }
}
