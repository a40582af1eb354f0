//! The speed of plain decoding, measured.

use std::time::{Duration, Instant};

use super::seen::observe;
use super::session::{Session, SessionError};
use crate::draft::Draft;
use crate::model::{Node, Parent, Pass};
use crate::theory::cost::Cost;

/// Steps timed, at most.
const PASSES: usize = 5;
/// Steps in a row of which the last one counts, fewer where they take longer than this, but two at least: passes over many tokens leave a
/// CPU slower for some time.
const SETTLE: (usize, Duration) = (12, Duration::from_millis(25));
/// Steps timed, at least.
const FEWEST: usize = 3;
/// After this time fewer are enough.
const LIMIT: Duration = Duration::from_millis(300);
/// The same for the curve of costs, all of its points together.
const CURVE_LIMIT: Duration = Duration::from_millis(900);
/// Times that a pass of the curve is timed, at most.
const CURVE_PASSES: usize = 5;

impl Session {
    /// t(B), the seconds of one verify pass over B tokens with the logits of all, for B = 1, 2, 4 and so on to 128, after the
    /// present text: for each the quickest of a few passes over a chain, fewer where they take long. Points that would take
    /// the whole beyond about a second are left out. Leaves no trace in the cache or the text. None before the first text,
    /// or where the context has no room for two tokens.
    ///
    /// # Errors
    /// If a forward fails.
    pub fn measure_cost(&mut self) -> Result<Option<Cost>, SessionError> {
        let Some(&token) = self.tokens().last() else { return Ok(None) };
        let room = self.target.capacity() - self.target.len();
        let began = Instant::now();
        let mut points: Vec<(usize, f64)> = Vec::new();
        for batch in (0..8).map(|i| 1usize << i).take_while(|&batch| batch <= room) {
            let expected = points.last().map_or(0.0, |&(_, t)| 2.0 * t);
            let left = CURVE_LIMIT.saturating_sub(began.elapsed()).as_secs_f64();
            // One pass wakes caches and makes room; at least one more is timed.
            if 2.0 * expected > left {
                break;
            }
            let passes = if expected > 0.0 { ((left / 4.0 / expected) as usize).clamp(1, CURVE_PASSES) } else { CURVE_PASSES };
            let node = |i: usize| Node { token, parent: i.checked_sub(1).map_or(Parent::Context, Parent::Slot) };
            let nodes: Vec<Node> = (0..batch).map(node).collect();
            let mut seconds = Vec::with_capacity(passes);
            for pass in 0..=passes {
                let start = Instant::now();
                self.target.append(&nodes, Pass::FULL)?;
                let took = start.elapsed().as_secs_f64();
                self.target.discard();
                if pass > 0 {
                    seconds.push(took);
                }
            }
            // The quickest: others on this machine can only make a pass slower.
            points.push((batch, seconds.into_iter().fold(f64::MAX, f64::min).max(1e-9)));
        }
        Ok(Cost::new(points).ok().filter(|cost| cost.points().len() > 1))
    }

    /// Seconds of a step of plain decoding after the present text: the pass over one token, the draw from its law and what its record
    /// needs, after some in a row. The first ones find caches and clocks as a verify pass over many tokens left them, which plain
    /// decoding never does (on a Xeon with a tile unit it takes 20 ms, and the first one half as long again). Leaves no trace in the cache, the text or the ceilings. None before the first text, or when the context is
    /// full.
    ///
    /// # Errors
    /// If a forward fails.
    pub fn time_plain(&mut self) -> Result<Option<f64>, SessionError> {
        let Some(&token) = self.tokens().last().filter(|_| self.target.len() < self.target.capacity()) else { return Ok(None) };
        let Some((draws, position)) = self.draws() else { return Ok(None) };
        let draft = Draft::nothing(token);
        let (began, mut took) = (Instant::now(), 0.0);
        for step in 0..SETTLE.0 {
            if step > 1 && began.elapsed() >= SETTLE.1 {
                break;
            }
            let start = Instant::now();
            self.target.append(&[Node { token, parent: Parent::Context }], Pass::FULL)?;
            let seen = observe(&*self.target, self.warp, &draft, &draws, position, &mut self.timing).map(std::hint::black_box);
            took = start.elapsed().as_secs_f64();
            self.target.discard();
            seen?;
        }
        Ok(Some(took))
    }

    /// Tokens a second of plain decoding after the present text: the median of a few steps ([`Self::time_plain`]).
    ///
    /// # Errors
    /// If a forward fails.
    pub fn calibrate(&mut self) -> Result<Option<f64>, SessionError> {
        let mut seconds = Vec::with_capacity(PASSES);
        while !enough(&seconds) {
            let Some(took) = self.time_plain()? else { return Ok(None) };
            seconds.push(took);
        }
        Ok(Some(tokens_per_second(&mut seconds)))
    }
}

/// Whether so many passes are enough; fewer where they take long.
pub(super) fn enough(seconds: &[f64]) -> bool {
    seconds.len() >= PASSES || (seconds.len() >= FEWEST && seconds.iter().sum::<f64>() > LIMIT.as_secs_f64())
}

/// By the median of the seconds that passes took; not empty.
pub(super) fn tokens_per_second(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    1.0 / seconds[seconds.len() / 2].max(1e-9)
}
