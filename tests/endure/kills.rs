//! `kill -9` at random moments of work that writes files.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::work::{Home, WORK, Work};

/// Numbers of one seed.
pub struct Moments(u64);

impl Moments {
    /// Creates the moments of a seed from the environment, 0 by default.
    pub fn new() -> Moments {
        Moments(std::env::var("SPECLIGHT_SEED").map_or(0, |seed| seed.parse().unwrap()))
    }

    /// Returns a number from 0 to 1 (SplitMix64).
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Returns the number of kills for each kind of work.
fn kills() -> usize {
    std::env::var("SPECLIGHT_KILLS").map_or(4, |kills| kills.parse().unwrap())
}

/// Returns the kinds of work that the environment names, by default all.
fn selected() -> Vec<Work> {
    let names = std::env::var("SPECLIGHT_WORK").ok();
    let is_selected =
        |work: &Work| names.as_ref().is_none_or(|names| names.split(',').any(|n| n == work.name));
    let selected: Vec<Work> = WORK.into_iter().filter(is_selected).collect();
    assert!(!selected.is_empty(), "SPECLIGHT_WORK={names:?} names no kind of work");
    selected
}

/// Runs the work undisturbed; returns its time and result.
pub fn undisturbed(work: &Work) -> (Duration, Value) {
    let home = Home::new();
    let start = Instant::now();
    let result = work.finish(&home);
    (start.elapsed(), result)
}

#[test]
fn a_kill_leaves_no_damaged_file_and_the_next_run_gives_the_same_result() {
    let mut moments = Moments::new();
    for work in selected() {
        let (time, expected) = undisturbed(&work);
        let (mut home, mut killed, mut midway, mut finished) = (Home::new(), 0, 0, 0);
        while killed < kills() {
            let mut child = work.command(&home).spawn().unwrap();
            thread::sleep(time.mul_f64(1.1 * moments.next()));
            // A run that ended before is no kill; the next one starts in a new home.
            let ended = child.try_wait().unwrap().is_some();
            child.kill().unwrap();
            child.wait().unwrap();
            killed += usize::from(!ended);
            midway += usize::from(!ended && !home.unfinished().is_empty());
            let whole = (work.check)(&home);
            // Some homes are killed in several times before the work is finished.
            if whole || moments.next() < 0.5 {
                let result = work.finish(&home);
                assert_eq!(result, expected, "{}: the result after a kill differs", work.name);
                finished += 1;
                home = Home::new();
            }
        }
        println!(
            "{}: {killed} kills of seed {}, {midway} while a file was written, {finished} times resumed or started over",
            work.name,
            std::env::var("SPECLIGHT_SEED").unwrap_or_default(),
        );
    }
}
