//! Where the time of passes goes.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::pool::Worker;

/// A part of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Rows of the embedding, or what a drafting head has in its place.
    Input,
    /// Norms, and rounding what they give to bytes.
    Norms,
    /// Queries, keys and values.
    Projections,
    /// Keys rotated, and they and values put into the cache.
    Rotation,
    /// Attention: queries rotated, results rounded.
    Attention,
    /// Attention's output layer.
    Output,
    /// Gate and up, and their product rounded.
    Feed,
    /// Down.
    Down,
    /// The output layer over the vocabulary.
    Head,
    /// One thread waits for the others.
    Waiting,
}

impl Stage {
    /// All, in the order of a pass.
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

    /// Its name.
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

/// Nanoseconds of all threads by stage.
#[derive(Debug, Default)]
pub struct Stages([AtomicU64; Stage::ALL.len()]);

impl Stages {
    /// Seconds that a thread spent in each stage, in the mean of `threads`.
    pub fn seconds(&self, threads: usize) -> [(Stage, f64); Stage::ALL.len()] {
        let of = |stage: Stage| Duration::from_nanos(self.0[stage as usize].load(Ordering::Relaxed)).as_secs_f64();
        Stage::ALL.map(|stage| (stage, of(stage) / threads as f64))
    }
}

/// One thread's clock within a pass, if anybody wants to know.
pub struct Clock<'a> {
    stages: Option<&'a Stages>,
    last: Cell<Option<Instant>>,
}

impl<'a> Clock<'a> {
    /// A clock that begins now.
    pub fn start(stages: Option<&'a Stages>) -> Self {
        Clock { stages, last: Cell::new(stages.map(|_| Instant::now())) }
    }

    /// What passed since the last call was this stage.
    pub fn lap(&self, stage: Stage) {
        let (Some(stages), Some(last)) = (self.stages, self.last.get()) else { return };
        let now = Instant::now();
        stages.0[stage as usize].fetch_add((now - last).as_nanos() as u64, Ordering::Relaxed);
        self.last.set(Some(now));
    }

    /// Ends a stage and waits for the other threads.
    pub fn meet(&self, stage: Stage, worker: &Worker) {
        self.lap(stage);
        worker.meet();
        self.lap(Stage::Waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_go_to_their_stages_and_an_idle_clock_to_none() {
        let stages = Stages::default();
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
