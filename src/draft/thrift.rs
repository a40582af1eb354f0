//! Whether a pass of a drafter's own model is worth its time.

/// What drafting is to pay for itself by: the automatic budget tells it before each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worth {
    /// Seconds that one more accepted token saves.
    pub token: f64,
    /// Seconds that one more node costs the target's pass.
    pub node: f64,
    /// Whether members of a mix that run a model are left out altogether.
    pub rest: bool,
}

impl Worth {
    /// Passes are made whatever they take: whoever asked has settled already what is drafted.
    pub const SETTLED: Worth = Worth { token: f64::MAX, node: 0.0, rest: false };
}

/// Weight of the newest pass in running means.
const NEW: f64 = 0.1;
/// A pass that did not seem to pay is made all the same once in so many times: what it costs and brings may have changed.
const LOOK: usize = 32;

/// What passes of one drafter were worth, and whether the next one is. Without a [`Worth`] every pass is made, and no clock is read.
#[derive(Clone, Debug, Default)]
pub(super) struct Thrift {
    worth: Option<Worth>,
    /// Mean seconds of a pass.
    seconds: Option<f64>,
    /// The probability of the best child of a node, given that the node is reached.
    share: Option<f64>,
    refused: usize,
}

impl Thrift {
    /// What drafting is to pay for itself by from now on; none says that it need not.
    pub fn set(&mut self, worth: Option<Worth>) {
        self.worth = worth;
    }

    /// Whether no pass is to be made at all.
    pub fn rests(&self) -> bool {
        self.worth.is_some_and(|worth| worth.rest)
    }

    /// Whether passes are to pay for themselves.
    pub fn on(&self) -> bool {
        self.worth.is_some()
    }

    /// What asking about a node is expected to save, in seconds, if it is reached with probability `reach`. None where nothing is to
    /// be saved.
    fn gain(&self, reach: f64) -> f64 {
        self.worth.map_or(f64::INFINITY, |worth| reach * self.share.unwrap_or(1.0) * worth.token - worth.node)
    }

    /// Whether a node that is reached with this probability is worth a place in a pass that is made.
    pub fn worthwhile(&self, reach: f64) -> bool {
        self.gain(reach) > 0.0
    }

    /// Whether a pass over nodes that are reached with these probabilities pays for itself.
    pub fn pays(&mut self, reached: impl Iterator<Item = f64>) -> bool {
        let Some(seconds) = self.seconds.filter(|_| self.on()) else { return true };
        let gain: f64 = reached.map(|reach| self.gain(reach).max(0.0)).sum();
        if gain >= seconds {
            self.refused = 0;
            return true;
        }
        self.refused += 1;
        self.refused.is_multiple_of(LOOK)
    }

    /// Learns from a pass: the seconds that it took, and for each of its nodes the probability that it is reached and that of its
    /// best child.
    pub fn learn(&mut self, seconds: f64, children: impl Iterator<Item = (f64, f64)>) {
        let (mut reached, mut below) = (0.0, 0.0);
        for (reach, best) in children {
            (reached, below) = (reached + reach, below + reach * best);
        }
        follow(&mut self.seconds, seconds);
        if reached > 0.0 {
            follow(&mut self.share, below / reached);
        }
    }
}

/// A running mean of times goes on with one more: one that was held up counts for no more than twice as long.
pub(crate) fn follow(mean: &mut Option<f64>, new: f64) {
    match mean {
        Some(mean) => *mean += NEW * (new.min(2.0 * *mean) - *mean),
        None => *mean = Some(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_made_where_what_it_may_save_is_more_than_it_takes() {
        let mut thrift = Thrift::default();
        thrift.learn(3.0, [(1.0, 0.5), (0.5, 0.5)].into_iter());
        // Whoever need not save asks about everything.
        assert!(thrift.pays([1e-9].into_iter()) && thrift.worthwhile(0.0) && !thrift.on());
        thrift.set(Some(Worth { token: 10.0, node: 1.0, rest: false }));
        // 0.8 * 0.5 * 10 - 1 = 3; the second node would save nothing, and takes nothing away either.
        assert!(thrift.pays([0.8, 0.1].into_iter()) && !thrift.pays([0.79, 0.1].into_iter()));
        assert!(thrift.worthwhile(0.21) && !thrift.worthwhile(0.2));
        // Two together.
        assert!(thrift.pays([0.5, 0.5].into_iter()));
        let made = (0..10 * LOOK).filter(|_| thrift.pays([0.1].into_iter())).count();
        assert_eq!(made, 10);
    }

    #[test]
    fn it_follows_what_passes_take_and_bring() {
        let mut thrift = Thrift::default();
        thrift.set(Some(Worth { token: 1.0, node: 0.0, rest: false }));
        assert!(thrift.pays([0.0].into_iter()), "nothing is known yet");
        thrift.learn(0.5, [(1.0, 1.0)].into_iter());
        assert!(thrift.pays([0.6].into_iter()));
        (0..60).for_each(|_| thrift.learn(0.5, [(1.0, 0.25)].into_iter()));
        assert!(!thrift.pays([0.6].into_iter()));
        (0..60).for_each(|_| thrift.learn(0.1, std::iter::empty()));
        assert!(thrift.pays([0.6].into_iter()));
        // One that was held up for an hour.
        thrift.learn(3600.0, std::iter::empty());
        assert!(thrift.pays([0.6].into_iter()));
    }
}
