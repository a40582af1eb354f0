//! Time of passes by stage.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::pool::Worker;

/// Stage of a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Embedding rows, or the input stage of a drafting head.
    Input,
    /// Norms, and quantization of their results.
    Norms,
    /// Query, key and value projections.
    Projections,
    /// Rotation of keys, and storage of keys and values in the cache.
    Rotation,
    /// Attention, with rotation of queries and quantization of results.
    Attention,
    /// Output projection of attention.
    Output,
    /// Gate and up projections, and quantization of their product.
    Feed,
    /// Down projection of the feed-forward layer.
    Down,
    /// Output projection to the vocabulary.
    Head,
    /// Waiting for the other threads.
    Waiting,
}

impl Stage {
    /// All stages, in the order of a pass.
    pub const ALL: [Stage; 10] = [
        Stage::Input,
        Stage::Norms,
        Stage::Projections,
        Stage::Rotation,
        Stage::Attention,
        Stage::Output,
        Stage::Feed,
        Stage::Down,
        Stage::Head,
        Stage::Waiting,
    ];

    /// Returns the display name of the stage.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Input => "embedding",
            Stage::Norms => "norms",
            Stage::Projections => "projections",
            Stage::Rotation => "rotation",
            Stage::Attention => "attention",
            Stage::Output => "output",
            Stage::Feed => "gate and up",
            Stage::Down => "down",
            Stage::Head => "vocabulary",
            Stage::Waiting => "waiting",
        }
    }
}

/// Nanoseconds by stage, summed over all threads.
#[derive(Debug, Default)]
pub struct StageNanos([AtomicU64; Stage::ALL.len()]);

impl StageNanos {
    /// Returns the seconds spent in each stage, averaged over `threads` threads.
    pub fn seconds(&self, threads: usize) -> [(Stage, f64); Stage::ALL.len()] {
        let of = |stage: Stage| {
            Duration::from_nanos(self.0[stage as usize].load(Ordering::Relaxed)).as_secs_f64()
        };
        Stage::ALL.map(|stage| (stage, of(stage) / threads as f64))
    }
}

/// Clock of one thread within a pass; does nothing if times are not measured.
pub struct Clock<'a> {
    stages: Option<&'a StageNanos>,
    last: Cell<Option<Instant>>,
}

impl<'a> Clock<'a> {
    /// Starts a clock that adds to `stages`.
    pub fn start(stages: Option<&'a StageNanos>) -> Self {
        Clock { stages, last: Cell::new(stages.map(|_| Instant::now())) }
    }

    /// Attributes the time since the last call to `stage`.
    pub fn lap(&self, stage: Stage) {
        let (Some(stages), Some(last)) = (self.stages, self.last.get()) else { return };
        let now = Instant::now();
        stages.0[stage as usize].fetch_add((now - last).as_nanos() as u64, Ordering::Relaxed);
        self.last.set(Some(now));
    }

    /// Ends a stage and waits for the other threads.
    pub fn barrier(&self, stage: Stage, worker: &Worker) {
        self.lap(stage);
        worker.barrier();
        self.lap(Stage::Waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_go_to_their_stages_and_an_idle_clock_to_none() {
        let stages = StageNanos::default();
        let clock = Clock::start(Some(&stages));
        clock.lap(Stage::Down);
        std::thread::sleep(Duration::from_millis(2));
        clock.lap(Stage::Attention);
        let seconds = stages.seconds(2);
        let of = |stage: Stage| seconds[stage as usize].1;
        assert!(of(Stage::Attention) >= 0.001 && of(Stage::Attention) > of(Stage::Down));
        assert_eq!((of(Stage::Waiting), of(Stage::Head)), (0.0, 0.0));
        assert!(Stage::ALL.iter().zip(seconds).all(|(stage, (named, _))| *stage == named));
        let idle = Clock::start(None);
        idle.lap(Stage::Head);
        assert!(idle.last.get().is_none());
    }
}
