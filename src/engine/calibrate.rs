//! The speed of plain decoding, measured.

use std::time::{Duration, Instant};

use super::session::{Session, SessionError};
use crate::dist::Law;
use crate::model::{Node, Parent, Pass};

/// Passes timed, at most.
const PASSES: usize = 9;
/// Passes timed, at least.
const FEWEST: usize = 3;
/// No pass is begun after this time.
const LIMIT: Duration = Duration::from_millis(300);

impl Session {
    /// Tokens a second of plain decoding after the present text: the median of a few passes over one token, each with
    /// the draw from its law, as a step without a drafter makes them. Leaves no trace in the cache or the text. None
    /// before the first text, or when the context is full.
    ///
    /// # Errors
    /// If a forward fails.
    pub fn calibrate(&mut self) -> Result<Option<f64>, SessionError> {
        let Some(&token) = self.tokens().last() else { return Ok(None) };
        if self.target.len() >= self.target.capacity() {
            return Ok(None);
        }
        let mut seconds = Vec::with_capacity(PASSES);
        let began = Instant::now();
        // The first pass only wakes caches and threads.
        for pass in 0..=PASSES {
            if pass > FEWEST && began.elapsed() > LIMIT {
                break;
            }
            let start = Instant::now();
            self.target.append(&[Node { token, parent: Parent::Context }], Pass::FULL)?;
            let law = Law::new(self.target.logits(0), &self.warp).map(|law| {
                std::hint::black_box((law.sample(0.5), law.moments()));
            });
            self.target.discard();
            law?;
            if pass > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
        seconds.sort_by(f64::total_cmp);
        Ok(Some(1.0 / seconds[seconds.len() / 2].max(1e-9)))
    }
}
