//! Load of the machine from other processes, since it distorts measured times.
//!
//! It is read from the counters in /proc, where the system has them, and from the spread of pass
//! times.

use std::time::Instant;

use crate::telemetry::MachineLoad;

/// CPU work of other programs, in cores beyond the idle ones, that counts as busy.
const BUSY_CORES: f64 = 0.3;
/// Fraction of time stolen by a hypervisor that counts as busy.
const BUSY_STEAL: f64 = 0.05;
/// Relative spread of pass times that counts as busy.
const BUSY_SPREAD: f64 = 0.3;
/// Minimum seconds between two readings, since counters tick in hundredths.
const INTERVAL: f64 = 1.0;

/// Measures the load between consecutive readings.
pub(super) struct LoadWatch {
    /// Number of threads that a pass runs on.
    threads: usize,
    last: Option<(Instant, Counters)>,
}

/// CPU counters since boot, in ticks summed over all processors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counters {
    processors: usize,
    total: u64,
    /// Ticks neither idle nor stolen.
    busy: u64,
    stolen: u64,
    /// Ticks of this process and its threads.
    own: u64,
}

impl LoadWatch {
    /// Creates a watch for a program whose passes run on `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self { threads, last: read().map(|counters| (Instant::now(), counters)) }
    }

    /// Returns the load since the last reading, or `None` within a second of it.
    ///
    /// `spread` computes the relative spread of recent pass times; it is called only if a reading
    /// is due.
    pub fn read(&mut self, spread: impl FnOnce() -> Option<f64>) -> Option<MachineLoad> {
        if self.last.is_some_and(|(when, _)| when.elapsed().as_secs_f64() < INTERVAL) {
            return None;
        }
        let now = read();
        let before = self.last.map(|last| last.1);
        self.last = now.map(|counters| (Instant::now(), counters));
        Some(load(before, now, self.threads, spread()))
    }
}

/// Computes the load between two readings.
fn load(
    before: Option<Counters>,
    now: Option<Counters>,
    threads: usize,
    spread: Option<f64>,
) -> MachineLoad {
    let between =
        before.zip(now).filter(|(before, now)| now.total > before.total && now.processors > 0);
    let others = between.map(|(before, now)| {
        let ticks = |pick: fn(&Counters) -> u64| pick(&now).saturating_sub(pick(&before)) as f64;
        let share = (ticks(|c| c.busy) - ticks(|c| c.own)).max(0.0) / ticks(|c| c.total);
        (share * now.processors as f64, ticks(|c| c.stolen) / ticks(|c| c.total))
    });
    let idle = now.map_or(0.0, |now| now.processors.saturating_sub(threads) as f64);
    let busy = others
        .is_some_and(|(cores, stolen)| cores > idle + BUSY_CORES || stolen > BUSY_STEAL)
        || spread.is_some_and(|spread| spread > BUSY_SPREAD);
    MachineLoad { other_cores: others.map(|o| o.0), stolen: others.map(|o| o.1), spread, busy }
}

/// Reads the counters, or returns `None` if the system has no such files.
fn read() -> Option<Counters> {
    let all = std::fs::read_to_string("/proc/stat").ok()?;
    let own = std::fs::read_to_string("/proc/self/stat").ok()?;
    parse(&all, &own)
}

/// Parses `/proc/stat` and `/proc/self/stat` (man 5 proc).
fn parse(all: &str, own: &str) -> Option<Counters> {
    let ticks: Vec<u64> = all
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace()
        .map_while(|n| n.parse().ok())
        .collect();
    // Fields: user, nice, system, idle, iowait, irq, softirq, steal. Guest time is already part of
    // user and nice.
    let ticks = ticks.get(..8)?;
    let idle = ticks[3].saturating_add(ticks[4]);
    let total = ticks.iter().fold(0u64, |sum, &n| sum.saturating_add(n));
    let processor = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    // The process name in parentheses can hold any character. utime and stime are the 12th and 13th
    // fields after it.
    let mut after =
        own.rsplit_once(')')?.1.split_whitespace().skip(11).map_while(|n| n.parse::<u64>().ok());
    Some(Counters {
        processors: all.lines().filter(processor).count(),
        total,
        busy: total.saturating_sub(idle).saturating_sub(ticks[7]),
        stolen: ticks[7],
        own: after.next()?.saturating_add(after.next()?),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const STAT: &str = "cpu  100 0 50 800 20 5 5 20 7 0\ncpu0 50 0 25 400 10 2 3 10 0 0\ncpu1 50 0 25 400 10 3 2 10 0 0\nintr 1\n";
    const OWN: &str = "42 (a) b (c)) R 1 2 3 4 5 6 7 8 9 10 60 15 0 0 20 0";

    #[test]
    fn counters_are_read_from_the_kernels_files() {
        let counters = parse(STAT, OWN).unwrap();
        assert_eq!(
            counters,
            Counters { processors: 2, total: 1000, busy: 160, stolen: 20, own: 75 }
        );
        for (all, own) in [
            ("", OWN),
            (STAT, ""),
            ("cpu  1 2 3\n", OWN),
            (STAT, "42 (a) R 1 2"),
            ("cpu x\n", OWN),
            (STAT, ")"),
        ] {
            assert_eq!(parse(all, own), None, "{all:?} {own:?}");
        }
    }

    #[test]
    fn other_work_stolen_time_and_spread_make_a_machine_busy() {
        let before = Counters { processors: 2, total: 1000, busy: 100, stolen: 0, own: 50 };
        let after = |busy: u64, stolen: u64, own: u64| Counters {
            processors: 2,
            total: 2000,
            busy: 100 + busy,
            stolen,
            own: 50 + own,
        };
        let load = |now, threads, spread| load(Some(before), Some(now), threads, spread);
        // No other process runs, though all cores are in use.
        assert!(!load(after(1000, 0, 1000), 2, Some(0.02)).busy);
        // Another process keeps the second core busy. A single thread still has a core of its own.
        let burns = after(1000, 0, 500);
        assert!(load(burns, 2, None).busy && !load(burns, 1, None).busy);
        assert_eq!(load(burns, 2, None).other_cores, Some(1.0));
        assert!(load(after(500, 100, 500), 2, None).busy);
        assert!(load(after(500, 0, 500), 2, Some(0.5)).busy);
        // Without counters only the spread decides.
        let unknown = super::load(None, None, 2, Some(0.1));
        assert_eq!((unknown.other_cores, unknown.busy), (None, false));
    }

    #[test]
    fn readings_are_a_second_apart() {
        let mut watch = LoadWatch { threads: 1, last: Some((Instant::now(), Counters::default())) };
        assert_eq!(watch.read(|| None), None);
        watch.last = None;
        assert!(watch.read(|| None).is_some());
    }
}
