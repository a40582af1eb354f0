//! Thread pool that runs the phases of a forward pass.
//!
//! All threads of a [`ThreadPool`] run the same job and meet at barriers between its phases. While
//! other programs occupy the cores, the pool backs off to a single thread.

use std::any::Any;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Number of spins in a barrier before a thread yields.
///
/// Another thread may need its core.
const SPINS: usize = 1_000;
/// Time in a barrier after which a thread sleeps until the others arrive.
///
/// On an idle machine they arrive earlier. On a busy one, a thread that continues to spin or yield
/// keeps a core from the very thread that it waits for, and loses its own time slice to other
/// programs.
const YIELD_TIME: Duration = Duration::from_micros(100);
/// Minimum duration of a job from which the machine's load can be judged.
const MIN_JUDGED_JOB: Duration = Duration::from_millis(1);
/// Upper bound on back-off, in consecutive jobs run by the calling thread alone.
const MAX_BACKOFF_JOBS: usize = 64;
/// Number of spins of an idle thread before it sleeps.
///
/// Longer than drafting takes between two passes, and short enough that an idle engine costs
/// nothing.
const IDLE: usize = 40_000;
/// Number of timed round trips of a cache line, after as many untimed ones.
const TRIPS: usize = 4;
/// Round-trip time above which two cores share no cache.
///
/// Measured: 370 ns between such cores, and 60 ns between cores that share one.
const FAR_ROUND_TRIP: Duration = Duration::from_nanos(150);

/// Fixed number of threads, the caller's own included.
///
/// The other threads sleep when there is no work.
#[derive(Debug)]
pub struct ThreadPool {
    shared: Arc<State>,
    helpers: Vec<JoinHandle<()>>,
    /// Held by the caller whose job runs; one job runs at a time.
    backoff: Mutex<Backoff>,
    /// Set if jobs run on one thread while the machine is too busy for several.
    adaptive: bool,
}

/// Load of the machine, estimated from past jobs.
#[derive(Debug, Default)]
struct Backoff {
    /// Number of consecutive jobs on all threads in which they mostly waited for each other.
    waiting: u32,
    /// Number of jobs left to run on the calling thread alone.
    alone: usize,
}

impl Backoff {
    /// Returns the thread count of the next job: `all` or 1.
    fn threads(&mut self, all: usize) -> usize {
        if self.alone == 0 {
            return all;
        }
        self.alone -= 1;
        1
    }

    /// Records a job on `threads` threads.
    ///
    /// `waited` is the total time that they waited in barriers.
    ///
    /// If other programs occupy the cores, a thread that lost its core delays all others at every
    /// barrier, and a single thread is many times faster. After two such jobs in a row one job runs
    /// on a single thread, then 2, 4, ...
    fn took(&mut self, threads: usize, elapsed: Duration, waited: Duration) {
        if threads == 1 || elapsed < MIN_JUDGED_JOB {
            return;
        }
        if 2 * waited < elapsed * (threads as u32 - 1) {
            self.waiting = 0;
            return;
        }
        self.waiting += 1;
        if self.waiting >= 2 {
            self.alone = 1usize
                .checked_shl(self.waiting - 2)
                .unwrap_or(MAX_BACKOFF_JOBS)
                .clamp(1, MAX_BACKOFF_JOBS);
        }
    }
}

/// State shared by the threads of a pool.
#[derive(Debug, Default)]
struct State {
    /// Number of jobs posted so far; all threads run each of them.
    posted: AtomicUsize,
    /// Number of helpers that have finished the current job.
    done: AtomicUsize,
    job: Mutex<Option<Job>>,
    /// Number of arrivals at barriers within the current job.
    arrived: AtomicUsize,
    /// Set if a thread panicked in the current job, so that none waits for it.
    broken: AtomicBool,
    /// Payload of the first panic.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    quit: AtomicBool,
    /// Sleeping threads that have waited longer than [`YIELD_TIME`].
    sleep_queue: SleepQueue,
    /// Cache line exchanged by two threads to measure the distance between their cores.
    ping_pong: PingPong,
    far: AtomicBool,
}

/// Counter on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct PingPong(AtomicUsize);

/// Threads that sleep until a condition holds; whoever makes it true calls [`SleepQueue::wake`].
///
/// It has cache lines of its own, which are only read on an idle machine.
#[derive(Debug, Default)]
#[repr(align(128))]
struct SleepQueue {
    sleepers: AtomicUsize,
    /// Nanoseconds that threads waited in the current job, without the initial spins.
    waited: AtomicUsize,
    mutex: Mutex<()>,
    wakeup: Condvar,
}

impl SleepQueue {
    /// Waits until `done` returns `true`: spins, yields, then sleeps.
    fn wait(&self, done: impl Fn() -> bool) {
        for _ in 0..SPINS {
            if done() {
                return;
            }
            spin_loop();
        }
        let since = Instant::now();
        while since.elapsed() < YIELD_TIME && !done() {
            thread::yield_now();
        }
        if !done() {
            self.sleep(&done);
        }
        self.waited.fetch_add(since.elapsed().as_nanos() as usize, Ordering::Relaxed);
    }

    fn sleep(&self, done: &impl Fn() -> bool) {
        let mut guard = lock(&self.mutex);
        // Announced before the last check: a thread that makes the condition true after that check
        // sees the sleeper and wakes it.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        while !done() {
            guard = self.wakeup.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes the sleeping threads, after a sequentially consistent write that made the condition
    /// true.
    ///
    /// Either this load sees the sleeper, or the sleeper's last check, after its fence, sees that
    /// write. Another fence here would slow down every barrier of a pass.
    fn wake(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // The sleeper holds the lock from its last check until it sleeps.
            drop(lock(&self.mutex));
            self.wakeup.notify_all();
        }
    }
}

/// Job with its lifetime erased, valid while it runs.
#[derive(Clone, Copy)]
struct Job(&'static (dyn Fn(&Worker) + Sync));

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

/// One thread's view of a job.
pub struct Worker<'a> {
    /// Thread index, from 0.
    pub index: usize,
    /// Number of threads in the job.
    pub count: usize,
    rounds: std::cell::Cell<usize>,
    state: &'a State,
}

impl Worker<'_> {
    /// Waits until all threads arrive.
    ///
    /// Each then sees the writes of the others before the barrier.
    ///
    /// # Panics
    /// If another thread panicked.
    pub fn barrier(&self) {
        if self.count == 1 {
            return;
        }
        let rounds = self.rounds.get() + self.count;
        self.rounds.set(rounds);
        self.state.arrived.fetch_add(1, Ordering::SeqCst);
        self.state.sleep_queue.wake();
        self.wait(|| self.state.arrived.load(Ordering::Acquire) >= rounds);
    }

    fn wait(&self, done: impl Fn() -> bool) {
        let broken = || self.state.broken.load(Ordering::Relaxed);
        self.state.sleep_queue.wait(|| done() || broken());
        assert!(!broken() || done(), "another thread of the forward panicked");
    }

    /// Measures the distance between the first two threads for [`ThreadPool::cores_are_far`], in at
    /// most two microseconds.
    ///
    /// All threads of a job must call it, at most once a job. It is repeated because the threads
    /// move between cores on virtual machines.
    pub fn measure_distance(&self) {
        if self.index > 1 || self.count < 2 {
            return;
        }
        let counter = &self.state.ping_pong.0;
        let mut start = Instant::now();
        for trip in 0..2 * TRIPS {
            if self.index == 0 {
                if trip == TRIPS {
                    start = Instant::now();
                }
                counter.store(2 * trip + 1, Ordering::SeqCst);
                self.state.sleep_queue.wake();
                self.wait(|| counter.load(Ordering::Acquire) == 2 * trip + 2);
            } else {
                self.wait(|| counter.load(Ordering::Acquire) == 2 * trip + 1);
                counter.store(2 * trip + 2, Ordering::SeqCst);
                self.state.sleep_queue.wake();
            }
        }
        if self.index == 0 {
            self.state
                .far
                .store(start.elapsed() > FAR_ROUND_TRIP * TRIPS as u32, Ordering::Relaxed);
        }
    }

    /// Returns this thread's range of `n` items of equal cost.
    ///
    /// The ranges of all threads cover `0..n` in order, and their lengths differ by at most 1.
    pub fn items(&self, n: usize) -> std::ops::Range<usize> {
        n * self.index / self.count..n * (self.index + 1) / self.count
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ThreadPool {
    /// Returns the pool of `threads` threads (at least 1), shared by all callers.
    ///
    /// Two models of one run never work at the same time, and threads in excess of the cores would
    /// only delay each other.
    pub fn shared(threads: usize) -> Arc<ThreadPool> {
        static POOLS: Mutex<Vec<Weak<ThreadPool>>> = Mutex::new(Vec::new());
        let mut pools = lock(&POOLS);
        pools.retain(|pool| pool.strong_count() > 0);
        if let Some(pool) =
            pools.iter().filter_map(Weak::upgrade).find(|pool| pool.threads() == threads.max(1))
        {
            return pool;
        }
        let mut pool = ThreadPool::new(threads);
        pool.adaptive = true;
        let pool = Arc::new(pool);
        pools.push(Arc::downgrade(&pool));
        pool
    }

    fn new(threads: usize) -> ThreadPool {
        let shared = Arc::new(State::default());
        let count = threads.max(1);
        let mut helpers = Vec::new();
        for index in 1..count {
            let state = Arc::clone(&shared);
            let helper = thread::Builder::new()
                .name(format!("forward-{index}"))
                .spawn(move || help(&state, index, count));
            match helper {
                Ok(helper) => helpers.push(helper),
                // If the system grants no more threads, fewer suffice, but a job relies on a fixed
                // number.
                Err(_) => {
                    drop(ThreadPool {
                        shared,
                        helpers,
                        backoff: Mutex::default(),
                        adaptive: false,
                    });
                    return ThreadPool::new(index);
                }
            }
        }
        ThreadPool { shared, helpers, backoff: Mutex::default(), adaptive: false }
    }

    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Returns `true` if the first two threads' cores shared no cache when last measured.
    pub fn cores_are_far(&self) -> bool {
        self.shared.far.load(Ordering::Relaxed)
    }

    /// Runs `job` on all threads and returns when all have finished.
    ///
    /// While the machine is busy, the calling thread may be the only one.
    ///
    /// # Panics
    /// If one of the threads panics.
    #[allow(unsafe_code)]
    pub fn run(&self, job: &(dyn Fn(&Worker) + Sync)) {
        let mut backoff = lock(&self.backoff);
        let (state, began) = (&*self.shared, Instant::now());
        let threads = backoff.threads(self.threads());
        state.arrived.store(0, Ordering::Relaxed);
        state.done.store(0, Ordering::Relaxed);
        state.broken.store(false, Ordering::Relaxed);
        state.ping_pong.0.store(0, Ordering::Relaxed);
        state.sleep_queue.waited.store(0, Ordering::Relaxed);
        // SAFETY: this function returns only when every helper has finished the job (it waits for
        // their count below, also after a panic), so the reference does not outlive its referent.
        let job = Job(unsafe {
            std::mem::transmute::<&(dyn Fn(&Worker) + Sync), &'static (dyn Fn(&Worker) + Sync)>(job)
        });
        if threads == 1 {
            work(state, job, 0, 1);
        } else {
            *lock(&state.job) = Some(job);
            state.posted.fetch_add(1, Ordering::AcqRel);
            self.helpers.iter().for_each(|helper| helper.thread().unpark());
            work(state, job, 0, threads);
            state.sleep_queue.wait(|| state.done.load(Ordering::Acquire) == self.helpers.len());
            *lock(&state.job) = None;
            if self.adaptive {
                backoff.took(
                    threads,
                    began.elapsed(),
                    Duration::from_nanos(state.sleep_queue.waited.load(Ordering::Relaxed) as u64),
                );
            }
        }
        if let Some(panic) = lock(&state.panic).take() {
            resume_unwind(panic);
        }
    }
}

/// Runs one thread's part of a job and keeps a panic for the caller.
fn work(state: &State, job: Job, index: usize, count: usize) {
    let worker = Worker { index, count, rounds: Default::default(), state };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (job.0)(&worker))) {
        // The first panic has the cause; later ones only report that the job is broken.
        if !state.broken.swap(true, Ordering::SeqCst) {
            *lock(&state.panic) = Some(panic);
        }
        state.sleep_queue.wake();
    }
}

/// Main loop of a helper thread.
fn help(state: &State, index: usize, count: usize) {
    for number in 1.. {
        let mut turns = 0;
        while state.posted.load(Ordering::Acquire) < number {
            if state.quit.load(Ordering::Acquire) {
                return;
            }
            turns += 1;
            if turns < IDLE { spin_loop() } else { thread::park() }
        }
        let job = *lock(&state.job);
        if let Some(job) = job {
            work(state, job, index, count);
        }
        state.done.fetch_add(1, Ordering::SeqCst);
        state.sleep_queue.wake();
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::Release);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            let _ = helper.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn barriers_wait_for_all_and_items_are_split_without_gaps() {
        for threads in [1, 2, 3, 5] {
            let pool = ThreadPool::new(threads);
            for _ in 0..20 {
                let (sum, phase): (AtomicU64, Vec<AtomicU64>) =
                    (0.into(), (0..8).map(|_| 0.into()).collect());
                pool.run(&|w| {
                    for (i, phase) in phase.iter().enumerate() {
                        phase.fetch_add(1, Ordering::Relaxed);
                        w.barrier();
                        assert_eq!(
                            phase.load(Ordering::Relaxed),
                            threads as u64,
                            "phase {i} was left before all were there"
                        );
                    }
                    // All threads may call this, whatever the result.
                    w.measure_distance();
                    for i in w.items(101) {
                        sum.fetch_add(i as u64, Ordering::Relaxed);
                    }
                });
                assert_eq!(sum.into_inner(), 5050);
            }
        }
    }

    #[test]
    fn slow_jobs_back_off_exponentially_and_a_fast_one_resets() {
        let (long, all) = (20 * MIN_JUDGED_JOB, 4);
        let mut backoff = Backoff::default();
        // Runs a job on all threads and counts the single-threaded jobs that follow.
        let mut alone_after = |waited: Duration, elapsed: Duration| {
            assert_eq!(backoff.threads(all), all);
            backoff.took(all, elapsed, waited);
            let mut alone = 0;
            while backoff.alone > 0 {
                assert_eq!(backoff.threads(all), 1);
                backoff.took(1, long, Duration::ZERO);
                alone += 1;
            }
            alone
        };
        let (busy, quiet) = (2 * long, long);
        let busy_ones: Vec<usize> = (0..12).map(|_| alone_after(busy, long)).collect();
        assert_eq!(busy_ones, [0, 1, 2, 4, 8, 16, 32, 64, 64, 64, 64, 64]);
        assert_eq!(alone_after(quiet, long), 0);
        assert_eq!(
            [
                alone_after(busy, long),
                alone_after(busy, MIN_JUDGED_JOB / 2),
                alone_after(quiet, long)
            ],
            [0; 3]
        );
        assert_eq!([alone_after(busy, long), alone_after(busy, long)], [0, 1], "anew");
    }

    #[test]
    fn threads_that_wait_long_sleep_and_wake() {
        let pool = ThreadPool::new(3);
        let (late, seen) = (AtomicUsize::new(0), AtomicUsize::new(0));
        for round in 0..6 {
            pool.run(&|w| {
                for phase in 0..3 {
                    // One thread in turn is so late that the others fall asleep, at each barrier
                    // and at the end of the job.
                    if w.index == (round + phase) % 3 {
                        thread::sleep(20 * YIELD_TIME);
                        late.fetch_add(1, Ordering::Relaxed);
                    }
                    w.barrier();
                    assert_eq!(late.load(Ordering::Relaxed), 3 * round + phase + 1);
                    w.barrier();
                }
                if w.index == 1 {
                    thread::sleep(20 * YIELD_TIME);
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert_eq!(seen.load(Ordering::Relaxed), round + 1);
        }
        assert_eq!(pool.shared.sleep_queue.sleepers.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_panic_of_any_thread_reaches_the_caller_and_the_pool_lives_on() {
        let pool = ThreadPool::new(3);
        for bad in 0..3 {
            let run = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|w| {
                    w.barrier();
                    assert!(w.index != bad, "thread {bad} fell");
                    w.barrier();
                });
            }));
            let said = run.unwrap_err();
            assert_eq!(said.downcast_ref::<String>().unwrap(), &format!("thread {bad} fell"));
            let count = AtomicUsize::new(0);
            pool.run(&|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), 3);
        }
    }

    #[test]
    fn pools_of_the_same_size_are_shared() {
        let (a, b, c) = (ThreadPool::shared(4), ThreadPool::shared(4), ThreadPool::shared(7));
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c));
        assert_eq!((a.threads(), c.threads()), (4, 7));
    }
}
