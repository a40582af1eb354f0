//! How busy the machine is with other work, from the kernel's counters and from the spread of pass times.

use std::time::Instant;

use crate::telemetry::MachineLoad;

/// Cores of other programs' work beyond the idle ones, from which on the machine counts as busy.
const BUSY_CORES: f64 = 0.3;
/// Share of time that a hypervisor gave to other guests, from which on it does.
const BUSY_STEAL: f64 = 0.05;
/// Relative spread of pass times, from which on it does.
const BUSY_SPREAD: f64 = 0.3;
/// Seconds between two readings, at least: counters tick in hundredths.
const INTERVAL: f64 = 1.0;

/// Watches the load between readings.
pub(super) struct LoadWatch {
    /// Threads of a pass.
    threads: usize,
    last: Option<(Instant, Counters)>,
}

/// Counters since boot, in ticks over all processors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counters {
    processors: usize,
    total: u64,
    /// Not idle, and not stolen.
    busy: u64,
    stolen: u64,
    /// Of this process and its threads.
    own: u64,
}

impl LoadWatch {
    /// A watch over a program whose passes run on `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self { threads, last: read().map(|counters| (Instant::now(), counters)) }
    }

    /// The load since the last reading, with the `spread` of recent pass times, which is computed only where it is due. None where the
    /// last reading is less than a second ago.
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

/// The load between two readings.
fn load(before: Option<Counters>, now: Option<Counters>, threads: usize, spread: Option<f64>) -> MachineLoad {
    let between = before.zip(now).filter(|(before, now)| now.total > before.total && now.processors > 0);
    let others = between.map(|(before, now)| {
        let ticks = |pick: fn(&Counters) -> u64| pick(&now).saturating_sub(pick(&before)) as f64;
        let share = (ticks(|c| c.busy) - ticks(|c| c.own)).max(0.0) / ticks(|c| c.total);
        (share * now.processors as f64, ticks(|c| c.stolen) / ticks(|c| c.total))
    });
    let idle = now.map_or(0.0, |now| now.processors.saturating_sub(threads) as f64);
    let busy = others.is_some_and(|(cores, stolen)| cores > idle + BUSY_CORES || stolen > BUSY_STEAL)
        || spread.is_some_and(|spread| spread > BUSY_SPREAD);
    MachineLoad { other_cores: others.map(|o| o.0), stolen: others.map(|o| o.1), spread, busy }
}

/// Reads the counters; none where the system has no such files.
fn read() -> Option<Counters> {
    let all = std::fs::read_to_string("/proc/stat").ok()?;
    let own = std::fs::read_to_string("/proc/self/stat").ok()?;
    parse(&all, &own)
}

/// Parses `/proc/stat` and `/proc/self/stat` (man 5 proc).
fn parse(all: &str, own: &str) -> Option<Counters> {
    let ticks: Vec<u64> = all.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map_while(|n| n.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user and nice already.
    let ticks = ticks.get(..8)?;
    let idle = ticks[3].saturating_add(ticks[4]);
    let total = ticks.iter().fold(0u64, |sum, &n| sum.saturating_add(n));
    let processor = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    // The name in parentheses can hold anything; utime and stime are the 12th and 13th field after it.
    let mut after = own.rsplit_once(')')?.1.split_whitespace().skip(11).map_while(|n| n.parse::<u64>().ok());
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

    const STAT: &str =
        "cpu  100 0 50 800 20 5 5 20 7 0\ncpu0 50 0 25 400 10 2 3 10 0 0\ncpu1 50 0 25 400 10 3 2 10 0 0\nintr 1\n";
    const OWN: &str = "42 (a) b (c)) R 1 2 3 4 5 6 7 8 9 10 60 15 0 0 20 0";

    #[test]
    fn counters_are_read_from_the_kernels_files() {
        let counters = parse(STAT, OWN).unwrap();
        assert_eq!(counters, Counters { processors: 2, total: 1000, busy: 160, stolen: 20, own: 75 });
        for (all, own) in [("", OWN), (STAT, ""), ("cpu  1 2 3\n", OWN), (STAT, "42 (a) R 1 2"), ("cpu x\n", OWN), (STAT, ")")] {
            assert_eq!(parse(all, own), None, "{all:?} {own:?}");
        }
    }

    #[test]
    fn other_work_stolen_time_and_spread_make_a_machine_busy() {
        let before = Counters { processors: 2, total: 1000, busy: 100, stolen: 0, own: 50 };
        let after =
            |busy: u64, stolen: u64, own: u64| Counters { processors: 2, total: 2000, busy: 100 + busy, stolen, own: 50 + own };
        let load = |now, threads, spread| load(Some(before), Some(now), threads, spread);
        // Alone on the machine, all of it in use.
        assert!(!load(after(1000, 0, 1000), 2, Some(0.02)).busy);
        // The other core burns; with one thread there is room for it.
        let burns = after(1000, 0, 500);
        assert!(load(burns, 2, None).busy && !load(burns, 1, None).busy);
        assert_eq!(load(burns, 2, None).other_cores, Some(1.0));
        assert!(load(after(500, 100, 500), 2, None).busy);
        assert!(load(after(500, 0, 500), 2, Some(0.5)).busy);
        // Nothing is known of the system: the spread alone.
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
