//! Threads that work through the phases of a forward together.

use std::any::Any;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Turns that a thread spins in a barrier before it lets others run: somebody else may have its partner's core.
const SPINS: usize = 1_000;
/// Turns that a thread without work spins before it sleeps: longer than drafting takes between two passes, and short
/// enough that an engine that waits costs nothing.
const IDLE: usize = 40_000;
/// Round trips of a line of memory between two cores that are timed, after as many that are not.
const TRIPS: usize = 4;
/// A round trip that takes longer is one between cores that share no cache: 370 ns were measured there, and 60 where they share one.
const FAR: Duration = Duration::from_nanos(150);

/// A fixed number of threads, the caller's own being the first. They sleep when there is no work.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<State>,
    helpers: Vec<JoinHandle<()>>,
    /// One job at a time, whoever brings it.
    turn: Mutex<()>,
}

/// What the threads of a pool share.
#[derive(Debug, Default)]
struct State {
    /// Jobs posted so far; each is begun by all threads.
    posted: AtomicUsize,
    /// Helpers that are done with the present job.
    done: AtomicUsize,
    job: Mutex<Option<Job>>,
    /// Arrivals at barriers within the present job.
    arrived: AtomicUsize,
    /// A thread panicked within the present job: nobody waits for it.
    broken: AtomicBool,
    /// What it said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    quit: AtomicBool,
    /// What two threads throw to each other to see how far apart they are.
    ball: Ball,
    far: AtomicBool,
}

/// Alone in its lines of memory.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Ball(AtomicUsize);

/// A job, as long as it lasts.
#[derive(Clone, Copy)]
struct Job(&'static (dyn Fn(&Worker) + Sync));

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

/// One thread's view of a job.
pub struct Worker<'a> {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
    rounds: std::cell::Cell<usize>,
    state: &'a State,
}

impl Worker<'_> {
    /// Waits until all threads are here. What each wrote before is then seen by all.
    ///
    /// # Panics
    /// If another thread panicked.
    pub fn meet(&self) {
        if self.count == 1 {
            return;
        }
        let rounds = self.rounds.get() + self.count;
        self.rounds.set(rounds);
        self.state.arrived.fetch_add(1, Ordering::AcqRel);
        self.wait(|| self.state.arrived.load(Ordering::Acquire) >= rounds);
    }

    fn wait(&self, done: impl Fn() -> bool) {
        let mut turns = 0;
        while !done() {
            assert!(!self.state.broken.load(Ordering::Relaxed), "another thread of the forward panicked");
            turns += 1;
            if turns < SPINS { spin_loop() } else { thread::yield_now() }
        }
    }

    /// Looks how far apart the first two threads are, for [`Pool::far`]: two microseconds at most. Once a job, by all of its threads:
    /// where threads run on machines that are no machines, they move.
    pub fn look(&self) {
        if self.index > 1 || self.count < 2 {
            return;
        }
        let ball = &self.state.ball.0;
        let mut start = Instant::now();
        for trip in 0..2 * TRIPS {
            if self.index == 0 {
                if trip == TRIPS {
                    start = Instant::now();
                }
                ball.store(2 * trip + 1, Ordering::Release);
                self.wait(|| ball.load(Ordering::Acquire) == 2 * trip + 2);
            } else {
                self.wait(|| ball.load(Ordering::Acquire) == 2 * trip + 1);
                ball.store(2 * trip + 2, Ordering::Release);
            }
        }
        if self.index == 0 {
            self.state.far.store(start.elapsed() > FAR * TRIPS as u32, Ordering::Relaxed);
        }
    }

    /// This thread's share of `n` equal things: neighbours, since they lie one after the other in memory.
    pub fn share(&self, n: usize) -> std::ops::Range<usize> {
        n * self.index / self.count..n * (self.index + 1) / self.count
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool of `threads` (at least 1) that all who ask for as many share: two models of one run never work at once, and
    /// threads beyond the cores would only stand in each other's way.
    pub fn shared(threads: usize) -> Arc<Pool> {
        static POOLS: Mutex<Vec<Weak<Pool>>> = Mutex::new(Vec::new());
        let mut pools = lock(&POOLS);
        pools.retain(|pool| pool.strong_count() > 0);
        if let Some(pool) = pools.iter().filter_map(Weak::upgrade).find(|pool| pool.threads() == threads.max(1)) {
            return pool;
        }
        let pool = Arc::new(Pool::new(threads));
        pools.push(Arc::downgrade(&pool));
        pool
    }

    fn new(threads: usize) -> Pool {
        let shared = Arc::new(State::default());
        let count = threads.max(1);
        let mut helpers = Vec::new();
        for index in 1..count {
            let state = Arc::clone(&shared);
            let helper = thread::Builder::new().name(format!("forward-{index}")).spawn(move || help(&state, index, count));
            match helper {
                Ok(helper) => helpers.push(helper),
                // A system that grants no more threads gets by with fewer, but a job counts on a fixed number.
                Err(_) => {
                    drop(Pool { shared, helpers, turn: Mutex::new(()) });
                    return Pool::new(index);
                }
            }
        }
        Pool { shared, helpers, turn: Mutex::new(()) }
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Whether the first two threads' cores share no cache, as it was when a job looked last.
    pub fn far(&self) -> bool {
        self.shared.far.load(Ordering::Relaxed)
    }

    /// Runs `job` on all threads, and returns when all are done.
    ///
    /// # Panics
    /// If one of them does.
    #[allow(unsafe_code)]
    pub fn run(&self, job: &(dyn Fn(&Worker) + Sync)) {
        let _turn = lock(&self.turn);
        let state = &*self.shared;
        state.arrived.store(0, Ordering::Relaxed);
        state.done.store(0, Ordering::Relaxed);
        state.broken.store(false, Ordering::Relaxed);
        state.ball.0.store(0, Ordering::Relaxed);
        // SAFETY: this function returns only when every helper is done with the job (it waits for their count below, in
        // the case of a panic too), so that the reference does not outlive what it points to.
        let job = Job(unsafe { std::mem::transmute::<&(dyn Fn(&Worker) + Sync), &'static (dyn Fn(&Worker) + Sync)>(job) });
        *lock(&state.job) = Some(job);
        state.posted.fetch_add(1, Ordering::AcqRel);
        self.helpers.iter().for_each(|helper| helper.thread().unpark());
        work(state, job, 0, self.threads());
        let mut turns = 0;
        while state.done.load(Ordering::Acquire) < self.helpers.len() {
            turns += 1;
            if turns < SPINS { spin_loop() } else { thread::yield_now() }
        }
        *lock(&state.job) = None;
        if let Some(panic) = lock(&state.panic).take() {
            resume_unwind(panic);
        }
    }
}

/// One thread's part of a job. A panic is kept for the caller.
fn work(state: &State, job: Job, index: usize, count: usize) {
    let worker = Worker { index, count, rounds: Default::default(), state };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (job.0)(&worker))) {
        // The first one tells why; the others only found it broken.
        if !state.broken.swap(true, Ordering::AcqRel) {
            *lock(&state.panic) = Some(panic);
        }
    }
}

/// The life of a helper.
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
        state.done.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Pool {
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
    fn all_threads_meet_and_share_without_gaps() {
        for threads in [1, 2, 3, 5] {
            let pool = Pool::new(threads);
            for _ in 0..20 {
                let (sum, phase): (AtomicU64, Vec<AtomicU64>) = (0.into(), (0..8).map(|_| 0.into()).collect());
                pool.run(&|w| {
                    for (i, phase) in phase.iter().enumerate() {
                        phase.fetch_add(1, Ordering::Relaxed);
                        w.meet();
                        assert_eq!(phase.load(Ordering::Relaxed), threads as u64, "phase {i} was left before all were there");
                    }
                    // All may look, whatever they find.
                    w.look();
                    for i in w.share(101) {
                        sum.fetch_add(i as u64, Ordering::Relaxed);
                    }
                });
                assert_eq!(sum.into_inner(), 5050);
            }
        }
    }

    #[test]
    fn a_panic_of_any_thread_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3);
        for bad in 0..3 {
            let run = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|w| {
                    w.meet();
                    assert!(w.index != bad, "thread {bad} fell");
                    w.meet();
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
    fn a_pool_of_a_size_is_one() {
        let (a, b, c) = (Pool::shared(4), Pool::shared(4), Pool::shared(7));
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c));
        assert_eq!((a.threads(), c.threads()), (4, 7));
    }
}
