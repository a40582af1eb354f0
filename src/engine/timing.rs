//! Passes made only to be timed: plain decoding, and t(B) at unvisited sizes.
//!
//! None of them leaves a trace in the cache or the text.

use std::time::{Duration, Instant};

use super::error::SessionError;
use super::outcome::evaluate_pass;
use super::session::Session;
use crate::draft::Draft;
use crate::model::{ForwardError, Node, Parent, Pass};
use crate::theory::cost::CostCurve;
use crate::theory::pass_times::{PassTimes, SIZES, median};

/// Number of measurements of plain decoding whose median is one result.
const PLAIN_TIMES: usize = 5;
/// Maximum number of consecutive steps per measurement, and its time limit.
///
/// At least two steps are made whatever the limit. The first ones let a CPU settle, which passes
/// over many tokens leave slower for some time.
const SETTLE: (usize, Duration) = (12, Duration::from_millis(25));
/// Steps at the end of a measurement that count, by their median.
const COUNTED: usize = 4;
/// Warm-up after a wait takes min(first, wait / second).
///
/// The time goes to rehearsed steps. Measured on a virtual machine: after 250 ms of sleep, passes
/// take 3 times as long, and need 50 to 100 ms of work to be as fast as in a row.
const WARM_UP: (Duration, u32) = (Duration::from_millis(100), 2);
/// Time limit of the first measurement of t(B).
const CURVE_LIMIT: Duration = Duration::from_millis(900);
/// Minimum and maximum number of rounds over all sizes in that measurement.
const CURVE_ROUNDS: (usize, usize) = (5, 12);
/// Relative uncertainty of each size's time at which that measurement ends.
const CURVE_ERROR: f64 = 0.03;

impl Session {
    /// Measures t(B), the seconds of one verify pass over B tokens, after the current text.
    ///
    /// B is 1, 2, 4, ... 128, and logits are computed for all tokens. Each round visits all sizes
    /// in turn, so that each pass follows one of another size, as the passes of steps do. There are
    /// a few rounds, fewer if passes are slow. Sizes that would make the whole take longer than
    /// about a second are left out. Leaves no trace in the cache or the text. Returns `None` before
    /// the first text, if the context has no room for two tokens, and if the times are implausible.
    ///
    /// # Errors
    /// If a forward fails.
    pub fn measure_cost(&mut self) -> Result<Option<CostCurve>, SessionError> {
        if self.tokens().is_empty() {
            return Ok(None);
        }
        let room = self.target.capacity() - self.target.len();
        let began = Instant::now();
        let mut sizes: Vec<usize> = Vec::new();
        // The first round warms caches and allocates memory. It isn't counted, but shows which
        // sizes are affordable.
        for size in (0..SIZES).map(|i| 1usize << i).take_while(|&size| size <= room) {
            let took = self.time_pass(size)?;
            sizes.push(size);
            // The next size may take twice as long and runs at least twice. All smaller sizes
            // together take about as long.
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
            times = PassTimes::from_probes(&passes);
            let settled = round >= CURVE_ROUNDS.0
                && times.as_ref().is_some_and(|times| times.settled(CURVE_ERROR));
            if settled || began.elapsed() > CURVE_LIMIT {
                break;
            }
        }
        let times = times.filter(|times| times.cost().is_plausible());
        let cost = times.as_ref().map(|times| times.cost().clone());
        if let Some(times) = times {
            self.set_times(times);
        }
        Ok(cost)
    }

    /// Times one pass over a chain of `size` tokens after the current text, in seconds.
    ///
    /// Leaves no trace.
    fn time_pass(&mut self, size: usize) -> Result<f64, ForwardError> {
        let token = self.tokens().last().copied().unwrap_or_default();
        let node = |i: usize| Node {
            token,
            parent: i.checked_sub(1).map_or(Parent::Context, Parent::Slot),
        };
        let nodes: Vec<Node> = (0..size).map(node).collect();
        let start = Instant::now();
        let ran = self.target.append(&nodes, Pass::FULL);
        let took = start.elapsed().as_secs_f64();
        self.target.discard();
        ran.map(|()| took)
    }

    /// Returns the part of a wait in which [`Session::warm_up`] should run.
    pub(super) fn warm_up_time(wait: Duration) -> Duration {
        WARM_UP.0.min(wait / WARM_UP.1)
    }

    /// Rehearses steps for this time, since a CPU that slept makes the next step slower.
    ///
    /// Its clock is low and its caches are cold then. Leaves no trace in the cache or the text.
    ///
    /// # Errors
    /// If a forward or the drafter fails.
    pub(super) fn warm_up(&mut self, time: Duration) -> Result<(), SessionError> {
        let began = Instant::now();
        while !self.tokens().is_empty() && self.ending().is_none() && began.elapsed() < time {
            self.rehearse()?;
        }
        Ok(())
    }

    /// Returns the seconds that the next [`Session::probe`] is expected to take.
    ///
    /// `None` if t(B) was never measured.
    pub(super) fn probe_seconds(&mut self) -> Option<f64> {
        let room = self.target.capacity() - self.target.len();
        let times = self.times()?;
        Some(times.cost().seconds(times.next_probe(room)))
    }

    /// Returns true if t(B) is known well enough that probes can be rare.
    pub(super) fn probes_settled(&mut self) -> bool {
        self.times().is_none_or(|times| times.settled(CURVE_ERROR))
    }

    /// Times one pass of the least probed size between two steps, to refine t(B).
    ///
    /// Returns the seconds that it took, or `None` if t(B) was never measured or the context is
    /// full.
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

    /// Returns the seconds per step of plain decoding after the current text.
    ///
    /// A step is the pass over one token, sampling from its distribution, and the statistics for
    /// its record. The result is the median of the last steps of a row. The first ones find caches
    /// and clocks as a verify pass over many tokens left them, which plain decoding never does. (On
    /// a Xeon with a tile unit, settling takes 20 ms, and the first step takes half as long again.)
    /// Leaves no trace in the cache, the text or the ceilings. Returns `None` before the first
    /// text, or if the context is full.
    ///
    /// # Errors
    /// If a forward fails.
    pub fn time_plain(&mut self) -> Result<Option<f64>, SessionError> {
        let Some(&token) =
            self.tokens().last().filter(|_| self.target.len() < self.target.capacity())
        else {
            return Ok(None);
        };
        let Some((draws, position)) = self.random() else { return Ok(None) };
        let draft = Draft::root_only(token);
        let (began, mut took) = (Instant::now(), Vec::with_capacity(SETTLE.0));
        for step in 0..SETTLE.0 {
            if step > 1 && began.elapsed() >= SETTLE.1 {
                break;
            }
            let start = Instant::now();
            self.target.append(&[Node { token, parent: Parent::Context }], Pass::FULL)?;
            let outcome = evaluate_pass(
                &*self.target,
                self.settings().sampling(),
                &draft,
                &draws,
                position,
                &mut self.timing,
            )
            .map(std::hint::black_box);
            took.push(start.elapsed().as_secs_f64());
            self.target.discard();
            outcome?;
        }
        let from = took.len().saturating_sub(COUNTED.min(took.len().div_ceil(2)));
        Ok(median(&mut took[from..]))
    }

    /// Returns the tokens per second of plain decoding after the current text.
    ///
    /// The result is the median of a few measurements ([`Self::time_plain`]).
    ///
    /// # Errors
    /// If a forward fails.
    pub fn measure_plain_rate(&mut self) -> Result<Option<f64>, SessionError> {
        let mut seconds = Vec::with_capacity(PLAIN_TIMES);
        while seconds.len() < PLAIN_TIMES {
            let Some(took) = self.time_plain()? else { return Ok(None) };
            seconds.push(took);
        }
        Ok(median(&mut seconds).map(|seconds| 1.0 / seconds.max(1e-9)))
    }
}
