//! Passes made only to be timed: plain decoding, and t(B) at sizes that steps don't visit.

use std::time::{Duration, Instant};

use super::seen::observe;
use super::session::{Session, SessionError};
use crate::draft::Draft;
use crate::model::{ForwardError, Node, Parent, Pass};
use crate::theory::cost::Cost;
use crate::theory::pass_times::{PassTimes, SIZES, median};

/// Times of plain decoding that one figure is made of.
const PLAIN_TIMES: usize = 5;
/// Steps in a row of which the last ones count, fewer where they take longer than this, but two at least: passes over many tokens leave a
/// CPU slower for some time.
const SETTLE: (usize, Duration) = (12, Duration::from_millis(25));
/// Steps at the end of the row that count, by their median.
const COUNTED: usize = 4;
/// Time limit of the first measurement of t(B).
const CURVE_LIMIT: Duration = Duration::from_millis(900);
/// Rounds over all sizes of that measurement: fewest, and most.
const CURVE_ROUNDS: (usize, usize) = (5, 12);
/// Uncertainty of each size's time at which that measurement ends.
const CURVE_ERROR: f64 = 0.03;

impl Session {
    /// Measures t(B), the seconds of one verify pass over B tokens with the logits of all, for B = 1, 2, 4, ... 128 after the present
    /// text. Passes go round the sizes, so that each follows one of another size, as passes of steps do; a few rounds, fewer where
    /// passes take long. Sizes that would take the whole beyond about a second are left out. Leaves no trace in the cache or the
    /// text. None before the first text, where the context has no room for two tokens, and where the times are implausible.
    ///
    /// # Errors
    /// If a forward fails.
    pub fn measure_cost(&mut self) -> Result<Option<Cost>, SessionError> {
        if self.tokens().is_empty() {
            return Ok(None);
        }
        let room = self.target.capacity() - self.target.len();
        let began = Instant::now();
        let mut sizes: Vec<usize> = Vec::new();
        // The first round wakes caches and makes room; it is not counted, and it tells which sizes are affordable.
        for size in (0..SIZES).map(|i| 1usize << i).take_while(|&size| size <= room) {
            let took = self.time_pass(size)?;
            sizes.push(size);
            // The next size may take twice as long, at least twice; all sizes below it take about as long together.
            if began.elapsed() + Duration::from_secs_f64(8.0 * took) > CURVE_LIMIT {
                break;
            }
        }
        let mut passes: Vec<(usize, f64)> = Vec::new();
        let mut times = None;
        for round in 1..=CURVE_ROUNDS.1 {
            for &size in &sizes {
                passes.push((size, self.time_pass(size)?));
            }
            times = PassTimes::measured(&passes);
            let settled = round >= CURVE_ROUNDS.0 && times.as_ref().is_some_and(|times| times.settled(CURVE_ERROR));
            if settled || began.elapsed() > CURVE_LIMIT {
                break;
            }
        }
        let times = times.filter(|times| times.cost().plausible());
        let cost = times.as_ref().map(|times| times.cost().clone());
        if let Some(times) = times {
            self.set_times(times);
        }
        Ok(cost)
    }

    /// Seconds of one pass over a chain of `size` tokens after the present text, which leaves no trace.
    fn time_pass(&mut self, size: usize) -> Result<f64, ForwardError> {
        let token = self.tokens().last().copied().unwrap_or_default();
        let node = |i: usize| Node { token, parent: i.checked_sub(1).map_or(Parent::Context, Parent::Slot) };
        let nodes: Vec<Node> = (0..size).map(node).collect();
        let start = Instant::now();
        let ran = self.target.append(&nodes, Pass::FULL);
        let took = start.elapsed().as_secs_f64();
        self.target.discard();
        ran.map(|()| took)
    }

    /// Seconds that the next [`Session::probe`] is expected to take. None where t(B) was never measured.
    pub(super) fn probe_seconds(&mut self) -> Option<f64> {
        let room = self.target.capacity() - self.target.len();
        let times = self.times()?;
        Some(times.cost().seconds(times.next_probe(room)))
    }

    /// Whether t(B) is known well enough for probes to be rare.
    pub(super) fn probes_settled(&mut self) -> bool {
        self.times().is_none_or(|times| times.settled(CURVE_ERROR))
    }

    /// Times one pass of the size that was timed least, between two steps, for the fit of t(B). Returns the seconds that it took; none
    /// where t(B) was never measured or the context is full.
    ///
    /// # Errors
    /// If a forward fails.
    pub(super) fn probe(&mut self) -> Result<Option<f64>, SessionError> {
        let room = self.target.capacity() - self.target.len();
        let Some(times) = self.times().filter(|_| room > 0) else { return Ok(None) };
        let size = times.next_probe(room);
        let took = self.time_pass(size)?;
        if let Some(times) = self.times() {
            times.add_probe(size, took);
        }
        Ok(Some(took))
    }

    /// Seconds of a step of plain decoding after the present text: the pass over one token, the draw from its distribution and what its
    /// record needs; the median of the last ones of a row. The first ones find caches and clocks as a verify pass over many tokens left
    /// them, which plain decoding never does (on a Xeon with a tile unit it takes 20 ms, and the first one half as long again). Leaves no trace in the cache, the text or the ceilings. None before the first text, or when the context is
    /// full.
    ///
    /// # Errors
    /// If a forward fails.
    pub fn time_plain(&mut self) -> Result<Option<f64>, SessionError> {
        let Some(&token) = self.tokens().last().filter(|_| self.target.len() < self.target.capacity()) else { return Ok(None) };
        let Some((draws, position)) = self.draws() else { return Ok(None) };
        let draft = Draft::nothing(token);
        let (began, mut took) = (Instant::now(), Vec::with_capacity(SETTLE.0));
        for step in 0..SETTLE.0 {
            if step > 1 && began.elapsed() >= SETTLE.1 {
                break;
            }
            let start = Instant::now();
            self.target.append(&[Node { token, parent: Parent::Context }], Pass::FULL)?;
            let seen = observe(&*self.target, self.warp, &draft, &draws, position, &mut self.timing).map(std::hint::black_box);
            took.push(start.elapsed().as_secs_f64());
            self.target.discard();
            seen?;
        }
        let from = took.len().saturating_sub(COUNTED.min(took.len().div_ceil(2)));
        Ok(median(&mut took[from..]))
    }

    /// Tokens a second of plain decoding after the present text: the median of a few steps ([`Self::time_plain`]).
    ///
    /// # Errors
    /// If a forward fails.
    pub fn calibrate(&mut self) -> Result<Option<f64>, SessionError> {
        let mut seconds = Vec::with_capacity(PLAIN_TIMES);
        while seconds.len() < PLAIN_TIMES {
            let Some(took) = self.time_plain()? else { return Ok(None) };
            seconds.push(took);
        }
        Ok(median(&mut seconds).map(|seconds| 1.0 / seconds.max(1e-9)))
    }
}
