//! Threads that work through the phases of a forward together.

use std::any::Any;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Turns that a thread spins in a barrier before it lets others run: somebody else may have its partner's core.
const SPINS: usize = 1_000;
/// Time in a barrier after which a thread sleeps until the others arrive. On a quiet machine they do so earlier. On a busy one a thread
/// that goes on to spin or to yield keeps a core from the very thread it waits for, and loses its own turn to other programs.
const PATIENCE: Duration = Duration::from_micros(100);
/// A shorter job says nothing about how busy the machine is.
const TELLING: Duration = Duration::from_millis(1);
/// Upper bound on the jobs in a row that the calling thread does alone before all threads are tried again.
const MOST_ALONE: usize = 64;
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
    turn: Mutex<Turn>,
    /// Whether jobs are done by one thread while the machine is too busy for several.
    adaptive: bool,
}

/// What is known of how busy the machine is.
#[derive(Debug, Default)]
struct Turn {
    /// Jobs of all threads in a row in which they mostly waited for each other.
    waiting: u32,
    /// Jobs left that the calling thread does alone.
    alone: usize,
}

impl Turn {
    /// Threads for the next job, of `all`.
    fn threads(&mut self, all: usize) -> usize {
        if self.alone == 0 {
            return all;
        }
        self.alone -= 1;
        1
    }

    /// Takes note of a job of `threads` threads: `waited` is the sum of what they waited in barriers.
    ///
    /// Where other programs have the cores, a thread of the pool that lost its core holds up all others at every barrier, and one thread
    /// alone is many times faster. Two such jobs in a row are followed by one alone, the next ones by 2, 4, ...
    fn took(&mut self, threads: usize, elapsed: Duration, waited: Duration) {
        if threads == 1 || elapsed < TELLING {
            return;
        }
        if 2 * waited < elapsed * (threads as u32 - 1) {
            self.waiting = 0;
            return;
        }
        self.waiting += 1;
        if self.waiting >= 2 {
            self.alone = 1usize.checked_shl(self.waiting - 2).unwrap_or(MOST_ALONE).clamp(1, MOST_ALONE);
        }
    }
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
    /// Where threads sleep that waited in vain for long.
    bed: Bed,
    /// What two threads throw to each other to see how far apart they are.
    ball: Ball,
    far: AtomicBool,
}

/// Alone in its lines of memory.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Ball(AtomicUsize);

/// Threads that sleep until a condition holds, which others make true and then [`Bed::wake`].
///
/// In lines of memory of its own: on a quiet machine it is only read.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Bed {
    sleepers: AtomicUsize,
    /// Nanoseconds that threads waited in the present job, without the first turns.
    waited: AtomicUsize,
    gate: Mutex<()>,
    bell: Condvar,
}

impl Bed {
    /// Waits until `done`: spins, yields, then sleeps.
    fn wait(&self, done: impl Fn() -> bool) {
        for _ in 0..SPINS {
            if done() {
                return;
            }
            spin_loop();
        }
        let since = Instant::now();
        while since.elapsed() < PATIENCE && !done() {
            thread::yield_now();
        }
        if !done() {
            self.sleep(&done);
        }
        self.waited.fetch_add(since.elapsed().as_nanos() as usize, Ordering::Relaxed);
    }

    fn sleep(&self, done: &impl Fn() -> bool) {
        let mut gate = lock(&self.gate);
        // Announced before the last look: who makes the condition true after that look sees the sleeper and wakes it.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        while !done() {
            gate = self.bell.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes who sleeps, after a condition became true by a sequentially consistent write: either this sees the sleeper, or the
    /// sleeper's last look, behind its fence, sees that write. (A fence here as well would cost each barrier of a pass its time.)
    fn wake(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // The sleeper holds the gate from its last look until it sleeps.
            drop(lock(&self.gate));
            self.bell.notify_all();
        }
    }
}

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
        self.state.arrived.fetch_add(1, Ordering::SeqCst);
        self.state.bed.wake();
        self.wait(|| self.state.arrived.load(Ordering::Acquire) >= rounds);
    }

    fn wait(&self, done: impl Fn() -> bool) {
        let broken = || self.state.broken.load(Ordering::Relaxed);
        self.state.bed.wait(|| done() || broken());
        assert!(!broken() || done(), "another thread of the forward panicked");
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
                ball.store(2 * trip + 1, Ordering::SeqCst);
                self.state.bed.wake();
                self.wait(|| ball.load(Ordering::Acquire) == 2 * trip + 2);
            } else {
                self.wait(|| ball.load(Ordering::Acquire) == 2 * trip + 1);
                ball.store(2 * trip + 2, Ordering::SeqCst);
                self.state.bed.wake();
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
        let mut pool = Pool::new(threads);
        pool.adaptive = true;
        let pool = Arc::new(pool);
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
                    drop(Pool { shared, helpers, turn: Mutex::default(), adaptive: false });
                    return Pool::new(index);
                }
            }
        }
        Pool { shared, helpers, turn: Mutex::default(), adaptive: false }
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Whether the first two threads' cores share no cache, as it was when a job looked last.
    pub fn far(&self) -> bool {
        self.shared.far.load(Ordering::Relaxed)
    }

    /// Runs `job` on all threads, and returns when all are done. While the machine is busy the calling thread may be the only one.
    ///
    /// # Panics
    /// If one of them does.
    #[allow(unsafe_code)]
    pub fn run(&self, job: &(dyn Fn(&Worker) + Sync)) {
        let mut turn = lock(&self.turn);
        let (state, began) = (&*self.shared, Instant::now());
        let threads = turn.threads(self.threads());
        state.arrived.store(0, Ordering::Relaxed);
        state.done.store(0, Ordering::Relaxed);
        state.broken.store(false, Ordering::Relaxed);
        state.ball.0.store(0, Ordering::Relaxed);
        state.bed.waited.store(0, Ordering::Relaxed);
        // SAFETY: this function returns only when every helper is done with the job (it waits for their count below, in
        // the case of a panic too), so that the reference does not outlive what it points to.
        let job = Job(unsafe { std::mem::transmute::<&(dyn Fn(&Worker) + Sync), &'static (dyn Fn(&Worker) + Sync)>(job) });
        if threads == 1 {
            work(state, job, 0, 1);
        } else {
            *lock(&state.job) = Some(job);
            state.posted.fetch_add(1, Ordering::AcqRel);
            self.helpers.iter().for_each(|helper| helper.thread().unpark());
            work(state, job, 0, threads);
            state.bed.wait(|| state.done.load(Ordering::Acquire) == self.helpers.len());
            *lock(&state.job) = None;
            if self.adaptive {
                turn.took(threads, began.elapsed(), Duration::from_nanos(state.bed.waited.load(Ordering::Relaxed) as u64));
            }
        }
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
        if !state.broken.swap(true, Ordering::SeqCst) {
            *lock(&state.panic) = Some(panic);
        }
        state.bed.wake();
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
        state.done.fetch_add(1, Ordering::SeqCst);
        state.bed.wake();
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
    fn a_busy_machine_gets_one_thread_for_ever_longer_and_a_quiet_one_all() {
        let (long, all) = (20 * TELLING, 4);
        let mut turn = Turn::default();
        // What a job of all threads finds, and how many of one thread follow it.
        let mut alone_after = |waited: Duration, elapsed: Duration| {
            assert_eq!(turn.threads(all), all);
            turn.took(all, elapsed, waited);
            let mut alone = 0;
            while turn.alone > 0 {
                assert_eq!(turn.threads(all), 1);
                turn.took(1, long, Duration::ZERO);
                alone += 1;
            }
            alone
        };
        let (busy, quiet) = (2 * long, long);
        let busy_ones: Vec<usize> = (0..12).map(|_| alone_after(busy, long)).collect();
        assert_eq!(busy_ones, [0, 1, 2, 4, 8, 16, 32, 64, 64, 64, 64, 64]);
        assert_eq!(alone_after(quiet, long), 0);
        assert_eq!([alone_after(busy, long), alone_after(busy, TELLING / 2), alone_after(quiet, long)], [0; 3]);
        assert_eq!([alone_after(busy, long), alone_after(busy, long)], [0, 1], "anew");
    }

    #[test]
    fn threads_that_wait_long_sleep_and_wake() {
        let pool = Pool::new(3);
        let (late, seen) = (AtomicUsize::new(0), AtomicUsize::new(0));
        for round in 0..6 {
            pool.run(&|w| {
                for phase in 0..3 {
                    // A thread that is late by far more than the others wait awake, in turn; and all at the end of the job.
                    if w.index == (round + phase) % 3 {
                        thread::sleep(20 * PATIENCE);
                        late.fetch_add(1, Ordering::Relaxed);
                    }
                    w.meet();
                    assert_eq!(late.load(Ordering::Relaxed), 3 * round + phase + 1);
                    w.meet();
                }
                if w.index == 1 {
                    thread::sleep(20 * PATIENCE);
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert_eq!(seen.load(Ordering::Relaxed), round + 1);
        }
        assert_eq!(pool.shared.bed.sleepers.load(Ordering::Relaxed), 0);
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
